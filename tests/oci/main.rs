//! The OCI runtime specification through the library: bundles, properties of `config.json`, hooks, refused input.

mod bad_input;
mod bundles;
mod hooks;
#[path = "../kit/mod.rs"]
mod kit;
mod properties;
