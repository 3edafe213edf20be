//! The design, for users: how the crate works, what it promises, and why it is as it is. [`house`] is for readers of
//! its code.
//!
//! These modules have text and no code. The reference is at the types themselves; start with
//! [`ContainerBuilder`](crate::ContainerBuilder) and [`Container`](crate::Container).

pub mod checkpoint;
pub mod crash_safety;
pub mod engines;
pub mod figures;
pub mod house;
pub mod lifecycle;
pub mod oci;
pub mod privileges;
pub mod processes;
pub mod promises;
pub mod templates;

/// The README, so that `cargo test` compiles its examples.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
