//! A shared library that runs containers, for a program that is not written in Rust and does not know this crate.
//!
//! ```text
//! cargo build --bin cofferdam-helper --example extension
//! python3 -c 'import ctypes, sys
//! library = ctypes.CDLL("target/debug/examples/libextension.so")
//! sys.exit(library.extension_run(b"target/debug/cofferdam-helper", b"/tmp/state", b"echo inside; exit 3"))'
//! ```
//!
//! The processes beside a workload cannot execute such a program once more, because it would not become a helper. They
//! execute `cofferdam-helper` (`cofferdam::helpers::Helper`).

#![expect(unsafe_code, reason = "the boundary to C")]
#![expect(clippy::print_stderr, reason = "a program for the terminal")]

use cofferdam::helpers::Helper;
use cofferdam::{ContainerBuilder, Result, StateRoot};
use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What `extension_run` returns if there was no container.
const NO_CONTAINER: c_int = -1;

/// Runs `script` in a shell in a container and returns its exit code. `helper` is the path of `cofferdam-helper`, and
/// `state` that of the directory for the container's record. Prints an error on stderr and returns -1. The first call
/// decides about the helper of all.
///
/// # Safety
/// All three must be pointers to C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn extension_run(
    helper: *const c_char,
    state: *const c_char,
    script: *const c_char,
) -> c_int {
    // SAFETY: the caller passes pointers to C strings, which live as long as this call.
    let [helper, state, script] = [helper, state, script].map(|text| unsafe { CStr::from_ptr(text) });
    run(of_bytes(helper).as_ref(), of_bytes(state).as_ref(), of_bytes(script)).unwrap_or_else(|error| {
        eprintln!("extension: {error}");
        NO_CONTAINER
    })
}

fn of_bytes(text: &CStr) -> &OsStr {
    OsStr::from_bytes(text.to_bytes())
}

fn run(helper: &Path, state: &Path, script: &OsStr) -> Result<c_int> {
    static HELPER: std::sync::OnceLock<Result<()>> = std::sync::OnceLock::new();
    let installed = HELPER.get_or_init(|| Helper::at(helper)?.install());
    if let Err(error) = installed {
        eprintln!("extension: {error}");
        return Ok(NO_CONTAINER);
    }
    let script = script.to_string_lossy();
    let exit = ContainerBuilder::new()
        .id(format!("extension-{}", std::process::id()))
        .state_root(StateRoot::open(state)?)
        .args(["sh", "-c", &script])
        .inherit_stdio()
        .run()?;
    Ok(exit.outcome.shell_code())
}
