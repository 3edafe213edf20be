//! The examples as programs: as a user runs them, as engines call `oci`, and held against the specification with runc as
//! the control.
//!
//! They test what was built in the `examples` directory beside this executable: `cargo build --examples` first, or plain
//! `cargo test`, which builds them.

mod cli;
mod conformance;
mod examples;
mod extension;
#[path = "../kit/mod.rs"]
mod kit;
