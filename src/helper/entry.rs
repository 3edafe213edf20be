//! The constructor in `.init_array`: where a process that executes this program again becomes a helper, and never
//! reaches the program's `main`.
//!
//! It recognises a helper by an exact `argv[0]` and a donation list as `argv[1]`; in every other program it returns
//! after a few string comparisons. It is the top of all helpers: it names the function that each of them runs, so a
//! helper cannot import it. What starts a helper therefore takes a [`Reexec`], and the caller's side gets one here.

use super::spawn::Reexec;
use super::zygote::{ZYGOTE, serve as serve_zygote};
use super::{Received, exec_proxy};
use crate::error::{Error, Result};
use crate::{gofer, hooks, sandbox};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// `argv[0]` of the gofer, as `ps` shows it.
pub(crate) const GOFER: &str = "cofferdam-gofer";
/// `argv[0]` of the sandbox, as `ps` shows it.
pub(crate) const SANDBOX: &str = "cofferdam-sandbox";

/// The exit code of a helper that panicked: `EX_SOFTWARE` of sysexits.h.
const PANICKED: i32 = 70;

static CONSTRUCTOR_RAN: AtomicBool = AtomicBool::new(false);

/// Proof that this program can be executed as a helper. The call also refers to the constructor, so that the linker
/// keeps it in every program that can start a helper.
pub(crate) fn reexec() -> Result<Reexec> {
    if CONSTRUCTOR_RAN.load(Ordering::Relaxed) {
        return Ok(Reexec::constructor_ran());
    }
    let why = "the constructor of this crate did not run in this program";
    Err(Error::unsupported("re-execution", why).hint("link the crate into the main executable"))
}

#[ctor::ctor(unsafe)]
fn before_main() {
    CONSTRUCTOR_RAN.store(true, Ordering::Relaxed);
    let mut arguments = std::env::args_os();
    let Some(name) = arguments.next() else { return };
    let serve: fn(Received) = match name.to_str() {
        Some(hooks::RUNNER) => hooks::serve,
        Some(exec_proxy::EXEC_PROXY) => exec_proxy::serve,
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
    crate::sys::exit_now(if ended.is_ok() { 0 } else { PANICKED });
}

/// What a helper called `name` runs, for the two helpers that each container has.
fn helper_of_a_container(name: &str) -> Option<fn(Received)> {
    match name {
        GOFER => Some(gofer::serve),
        SANDBOX => Some(sandbox::serve),
        _ => None,
    }
}
