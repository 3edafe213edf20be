//! CRIU, the program that writes processes to files and makes them again: finds it, and speaks to it.
//!
//! [`program`] is where callers begin, and [`dump`] writes processes down. [`worker`] runs `criu swrk`, which serves one connection and ends with it, and
//! [`messages`] are what goes over that connection. What may not live here: what a container is, and which rights its
//! processes get.

mod dump;
mod image;
mod messages;
mod program;
mod worker;

pub(crate) use dump::{After, Dump, External};
pub use program::{Criu, CriuVersion, Unsuitable};
