//! The examples that tests run as programs.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

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
    let Some(built) = last_change(&path) else {
        return Err(format!("the example {name} was not built: {build}"));
    };
    for source in sources(&path.with_extension("d")) {
        let changed = last_change(&source);
        assert!(changed <= Some(built), "the example {name} is older than {}: {build}", source.display());
    }
    Ok(path)
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

/// What cargo says that a program was built from: `PROGRAM: SOURCE...`, as a rule of make(1). Nothing if it says nothing,
/// as where the program was copied to another machine.
fn sources(rule: &Path) -> Vec<PathBuf> {
    let rule = std::fs::read_to_string(rule).unwrap_or_default();
    let (_, sources) = rule.split_once(": ").unwrap_or_default();
    // A blank in a name has a backslash before it.
    let sources = sources.trim_end().replace("\\ ", "\0");
    sources.split_whitespace().map(|source| PathBuf::from(source.replace('\0', " "))).collect()
}

fn last_change(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}
