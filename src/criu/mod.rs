//! CRIU, the program that writes processes to files and makes them again: finds it, and speaks to it.
//!
//! [`program`] is where callers begin, [`dump`] writes processes down, and [`restore`] is what the one says that makes them
//! again. [`contents`] reads what matters of CRIU's files, [`files`] finds those of the program. [`worker`] runs
//! `criu swrk`, which serves one connection and ends with it, and [`messages`] are what goes over that connection. What may
//! not live here: what a container is, and which rights its processes get.

mod contents;
mod dump;
mod files;
mod image;
mod messages;
mod program;
pub(crate) mod restore;
mod worker;

pub(crate) use contents::Contents;
pub(crate) use dump::{After, Dump, External};
#[cfg(any(test, fuzzing))]
pub(crate) use image::{namespaces_of, with_own_namespaces};
pub use program::{Criu, CriuVersion, Unsuitable};
