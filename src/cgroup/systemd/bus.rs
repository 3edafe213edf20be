//! One conversation on a bus, from the connection to its end.
//!
//! What lives here: finding the bus, and the thread that a conversation takes. What may not: anything about units.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::host::facts::Manager;
use nix::sys::signal::SigSet;
use std::env;
use std::str::FromStr;
use std::time::Duration;
use zbus::address::Transport;
use zbus::{Address, Connection, connection};

/// How long a conversation may take, all in all. systemd answers in milliseconds, unless it is being reloaded.
const CONVERSATION_LIMIT: Duration = Duration::from_secs(30);

/// Connects to the bus of `manager` and runs `talk` there. Connection and thread end with it.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if there is no such bus, [`ErrorKind::TimedOut`], or the error of `talk`.
pub(super) fn converse<T, F>(manager: Manager, talk: F) -> Result<T>
where
    T: Send,
    F: AsyncFnOnce(&Connection) -> Result<T> + Send,
{
    let address = address(manager)?;
    let conversation = move || {
        // The caller's signals are for the caller's threads. Blocking them all cannot fail.
        let _ = SigSet::all().thread_block();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .os(|| "start the D-Bus conversation")?;
        let limited = runtime.block_on(async {
            tokio::time::timeout(CONVERSATION_LIMIT, async {
                let connection = connect(address).await?;
                talk(&connection).await
            })
            .await
        });
        limited.unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut, "systemd", "did not answer in time")))
    };
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("cofferdam-dbus".into()).spawn_scoped(scope, conversation);
        let thread = thread.os(|| "clone(CLONE_THREAD)")?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

async fn connect(address: Address) -> Result<Connection> {
    let unreachable = |error: zbus::Error, address: &str| {
        Error::unsupported("D-Bus", format!("{address}: {error}")).because(error)
    };
    let shown = address.to_string();
    let built = match connection::Builder::address(address) {
        Ok(builder) => builder.build().await,
        Err(error) => Err(error),
    };
    built.map_err(|error| unreachable(error, &shown))
}

/// The bus's address (D-Bus specification, "Well-known Message Bus Instances").
fn address(manager: Manager) -> Result<Address> {
    let (variable, usual) = match manager {
        Manager::System => {
            ("DBUS_SYSTEM_BUS_ADDRESS", Some("unix:path=/var/run/dbus/system_bus_socket".into()))
        }
        Manager::User => {
            let directory = env::var("XDG_RUNTIME_DIR").ok().filter(|directory| !directory.is_empty());
            ("DBUS_SESSION_BUS_ADDRESS", directory.map(|directory| format!("unix:path={directory}/bus")))
        }
    };
    let given = env::var(variable).ok().filter(|given| !given.is_empty());
    let Some(text) = given.or(usual) else {
        let why = format!("neither {variable} nor XDG_RUNTIME_DIR is set");
        return Err(Error::unsupported("D-Bus", why));
    };
    // systemd uses none of the other transports, of which one executes a program and one goes over the network.
    let mut parsed = text.split(';').filter_map(|one| Address::from_str(one).ok());
    parsed
        .find(|address| matches!(address.transport(), Transport::Unix(_)))
        .ok_or_else(|| Error::unsupported("D-Bus", format!("{text:?} names no Unix socket")))
}
