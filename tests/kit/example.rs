//! The examples that tests run as programs.

#[path = "../../examples/built/mod.rs"]
mod built;

use built::Built;
use std::path::PathBuf;

/// The executable of the example `name`, built beside this test; or that it is not, and by which command it would be.
///
/// # Panics
/// If it is older than one of its sources: cargo builds no examples for `cargo test --test NAME`, and what a test found out
/// about yesterday's program would pass for today's.
pub fn example(name: &str) -> Result<PathBuf, String> {
    let test = std::env::current_exe().expect("our path");
    let examples = test.ancestors().nth(2).expect("a test is in the target directory").join("examples");
    let path = examples.join(name);
    let build = format!("cargo build --example {name}");
    match built::state_of(&path) {
        Built::Now => Ok(path),
        Built::Never => Err(format!("the example {name} was not built: {build}")),
        Built::Before(source) => panic!("the example {name} is older than {}: {build}", source.display()),
    }
}

/// The OCI runtime under test: what `RUNTIME` names, or the example `oci`; or why there is none.
pub fn runtime() -> Result<PathBuf, String> {
    match std::env::var_os("RUNTIME").map(PathBuf::from) {
        Some(path) if path.is_file() => Ok(path),
        Some(path) => Err(format!("RUNTIME is {}, which is not a file", path.display())),
        None => example("oci"),
    }
}

/// Whether the runtime under test is ours.
pub fn is_ours() -> bool {
    std::env::var_os("RUNTIME").is_none()
}
