//! A network of a test's own: daemons can listen on the ports that their documentation names, although other tests, and
//! other copies of this suite, run at the same time.

use crate::engine::succeed;
use nix::sched::{CloneFlags, unshare};
use std::process::Command;

/// An address for a network that leads nowhere. With none but loopback addresses, getaddrinfo(3) finds none to listen on
/// (`AI_ADDRCONFIG`).
const ADDRESS: &str = "192.0.2.1/32";

/// Gives this thread a network of its own, with whatever it starts from now on. It has a loopback device.
pub(crate) fn isolate() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("unshare(CLONE_NEWNET): {error}"))?;
    for words in [["link", "set", "lo", "up"].as_slice(), &["address", "add", ADDRESS, "dev", "lo"]] {
        succeed(Command::new("ip").args(words));
    }
    Ok(())
}
