//! The constructor in `.init_array`: where a process that executes this program again becomes a helper, and never
//! reaches the program's `main`.
//!
//! It recognises a helper by an exact `argv[0]` and a donation list as `argv[1]`; in every other program it returns
//! after a few string comparisons. It is the top of all helpers: it names the function that each of them runs, so a
//! helper cannot import it. What starts a helper therefore takes a [`Reexec`], and the caller's side gets one here.

use super::program::Helper;
use super::spawn::Reexec;
use super::zygote::{ZYGOTE, serve as serve_zygote};
use super::{Received, exec_proxy, image};
use crate::error::{Error, Result};
use crate::{gofer, hooks, sandbox, sys};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// `argv[0]` of the gofer, as `ps` shows it.
pub(crate) const GOFER: &str = "cofferdam-gofer";
/// `argv[0]` of the sandbox, as `ps` shows it.
pub(crate) const SANDBOX: &str = "cofferdam-sandbox";

/// `argv[0]` of the file worker of a container that has ended, as `ps` shows it.
pub(crate) const FILES: &str = "cofferdam-files";

/// The exit code of a helper that panicked: `EX_SOFTWARE` of sysexits.h.
const PANICKED: i32 = 70;

static CONSTRUCTOR_RAN: AtomicBool = AtomicBool::new(false);

/// Proof that the image can be executed as a helper. The call also refers to the constructor, so that the linker keeps it
/// in every program that can start a helper.
pub(crate) fn reexec() -> Result<Reexec> {
    if image::is_installed() || is_this_program() {
        return Ok(Reexec::proven());
    }
    let why = "this crate is not part of the main executable";
    let remedy = "link the crate into the main executable, or install a helpers::Helper";
    Err(Error::unsupported("re-execution", why).hint(remedy))
}

/// Whether this program becomes a helper when it is executed: its constructors include that of this crate. Those of a
/// library that was loaded later ran too, but do not run in time.
fn is_this_program() -> bool {
    CONSTRUCTOR_RAN.load(Ordering::Relaxed)
        && sys::is_in_main_executable((before_main as fn()) as *const std::ffi::c_void)
}

#[ctor::ctor(unsafe)]
fn before_main() {
    CONSTRUCTOR_RAN.store(true, Ordering::Relaxed);
    sys::keep_note();
    serve_if_helper();
}

impl Helper {
    /// The life of `cofferdam-helper`. Returns only if the process was not started as a helper.
    #[doc(hidden)]
    pub fn main() -> ExitCode {
        serve_if_helper();
        ExitCode::from(2)
    }
}

/// If this process was started as a helper, it becomes that and does not return.
fn serve_if_helper() {
    let mut arguments = arguments();
    let Some(name) = arguments.next() else { return };
    let serve: fn(Received) = match name.to_str() {
        Some(hooks::RUNNER) => hooks::serve,
        Some(exec_proxy::EXEC_PROXY) => exec_proxy::serve,
        Some(FILES) => sandbox::files::serve_remains,
        Some(ZYGOTE) => |donated| serve_zygote(donated, helper_of_a_container),
        Some(name) => match helper_of_a_container(name) {
            Some(serve) => serve,
            None => return,
        },
        None => return,
    };
    let Some(donated) = arguments.next().and_then(|list| Received::from_argument(list.to_str()?)) else {
        return;
    };
    // A panic must not unwind across the C frame that runs constructors. Helpers report their failures themselves; a
    // panic is a bug, and the caller sees the helper die.
    let ended = catch_unwind(AssertUnwindSafe(|| serve(donated)));
    sys::exit_now(if ended.is_ok() { 0 } else { PANICKED });
}

#[cfg(not(target_env = "musl"))]
fn arguments() -> std::env::ArgsOs {
    std::env::args_os()
}

/// musl passes no arguments to constructors, and std learns them later.
#[cfg(target_env = "musl")]
fn arguments() -> std::vec::IntoIter<std::ffi::OsString> {
    use std::os::unix::ffi::OsStringExt;
    let arguments = sys::arguments_at_start().unwrap_or_else(|| {
        let line = std::fs::read("/proc/self/cmdline").unwrap_or_default();
        line.split(|byte| *byte == 0).map(|argument| OsStringExt::from_vec(argument.to_vec())).collect()
    });
    arguments.into_iter()
}

/// What a helper called `name` runs, for the two helpers that each container has.
fn helper_of_a_container(name: &str) -> Option<fn(Received)> {
    match name {
        GOFER => Some(gofer::serve),
        SANDBOX => Some(sandbox::serve),
        _ => None,
    }
}
