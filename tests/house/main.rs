//! The source itself: layers, the tables of the documentation, what must not compile. No container runs here.

#[path = "../kit/mod.rs"]
mod kit;

mod circles;
mod house_manual;
mod layers;
mod oci_manual;
mod public;
mod semantics;
mod typestate;
mod words;
