//! The constructor in `.init_array`: where a re-executed image becomes a gofer, a sandbox, a runner of hooks, a
//! stand-in or a zygote and never reaches the program's `main`.
//!
//! A helper is recognised by an exact `argv[0]` and a donation list as `argv[1]`; every other program returns from here
//! after one string comparison.

use super::Received;
use super::exec_proxy::EXEC_PROXY;
use super::zygote;
use super::zygote::ZYGOTE;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// `argv[0]` of the gofer, as `ps` shows it.
pub(crate) const GOFER: &str = "cofferdam-gofer";
/// `argv[0]` of the sandbox, as `ps` shows it.
pub(crate) const SANDBOX: &str = "cofferdam-sandbox";

static LINKED: AtomicBool = AtomicBool::new(false);

/// Whether the constructor ran in this program. Asking also keeps the linker from dropping it: whatever can spawn a
/// helper can be one.
pub(crate) fn constructor_is_linked() -> bool {
    LINKED.load(Ordering::Relaxed)
}

#[ctor::ctor(unsafe)]
fn before_main() {
    LINKED.store(true, Ordering::Relaxed);
    let mut arguments = std::env::args_os();
    let Some(name) = arguments.next() else { return };
    let serve: fn(Received) = match name.to_str() {
        Some(crate::hooks::RUNNER) => crate::hooks::serve,
        Some(EXEC_PROXY) => crate::helper::exec_proxy::serve,
        Some(ZYGOTE) => |donated| zygote::serve(donated, helper_of_a_container),
        Some(name) => match helper_of_a_container(name) {
            Some(serve) => serve,
            None => return,
        },
        None => return,
    };
    let Some(donated) = arguments.next().and_then(|list| Received::from_argument(list.to_str()?)) else {
        return;
    };
    // Unwinding must not cross the C frame that runs constructors. The helpers report their own failures; a panic is a
    // bug that shows as their death.
    let ended = catch_unwind(AssertUnwindSafe(|| serve(donated)));
    crate::sys::exit_now(if ended.is_ok() { 0 } else { 70 });
}

/// What a process does all its life that is called `name`, if each container has one.
fn helper_of_a_container(name: &str) -> Option<fn(Received)> {
    match name {
        GOFER => Some(crate::gofer::serve),
        SANDBOX => Some(crate::sandbox::serve),
        _ => None,
    }
}
