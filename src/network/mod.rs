//! Network devices, moved from one network namespace to another with what makes them of use: their addresses and that
//! they are up.
//!
//! ```text
//!   caller                                     sandbox
//!     |<------- Network (a routing socket) ------|  opened in the container's network namespace
//!     |-- the host's socket:      RTM_SETLINK    |  move, rename, up: one step of the kernel's
//!     |-- the container's socket: RTM_NEWADDR    |
//! ```
//!
//! Only the caller has rights in the namespace where the devices are, and it stays there: a socket belongs to the
//! namespace it was opened in, whoever has it. What may not live here: devices that are made, and any setting of a
//! device that it did not have before.

mod route;

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::spec::NetDevice;
use crate::sys;
use route::{Address, Link, Route};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// A network namespace, by a routing socket that was opened in it.
#[derive(Debug)]
pub(crate) struct Network(Route);

impl Network {
    /// The one this thread is in.
    pub(crate) fn of_this_thread() -> Result<Self> {
        Route::open().map(Self)
    }

    /// The namespace itself, which is for those who rule in it (`CAP_NET_ADMIN`).
    fn namespace(&self) -> Result<OwnedFd> {
        sys::network_namespace_of(self.as_fd()).os(|| "ioctl(SIOCGSKNS)").map_err(hint_at_privilege)
    }

    /// Whether no device has this name.
    fn is_free(&self, name: &str) -> Result<bool> {
        self.0.find(name).map(|link| link.is_none())
    }
}

impl AsFd for Network {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A socket that was opened elsewhere.
impl From<OwnedFd> for Network {
    fn from(socket: OwnedFd) -> Self {
        Self(socket.into())
    }
}

/// Devices of the host that are in a container, which may still come to nothing.
#[derive(Debug)]
pub(crate) struct Moved {
    host: Network,
    container: Network,
    /// The host's namespace. It is open before there is something to come back: nothing may be short then.
    home: OwnedFd,
    devices: Vec<Device>,
}

/// A device that was to be moved, as it was.
#[derive(Debug)]
struct Device {
    names: NetDevice,
    /// Its number where it was.
    index: i32,
    was_up: bool,
    addresses: Vec<Address>,
    /// Whether it may also have its old name in the container: the kernel renames after it has moved, unless the name
    /// is another's there.
    may_keep_name: bool,
}

impl Moved {
    /// Moves `devices` from where this thread is to `container`. On failure none has moved.
    pub(crate) fn to(container: Network, devices: &[NetDevice]) -> Result<Self> {
        let host = Network::of_this_thread()?;
        let there = container.namespace()?;
        let home = host.namespace()?;
        let mut moved = Self { host, container, home, devices: Vec::with_capacity(devices.len()) };
        for device in devices {
            if let Err(error) = moved.add(device, there.as_fd()) {
                let error = error.during(field(device));
                return Err(match moved.undo() {
                    Ok(()) => error,
                    Err(left) => error.hint(format!("left in the container: {left}")),
                });
            }
        }
        Ok(moved)
    }

    /// "The runtime MUST set the network device state to `up`" and keep its permanent addresses of global scope - OCI
    /// config-linux.md. Without them it would be there and of no use.
    fn add(&mut self, names: &NetDevice, container: BorrowedFd<'_>) -> Result<()> {
        let Link { index, up: was_up } = self.host.0.link(&names.host)?;
        let addresses = self.host.0.addresses(index)?;
        // The kernel moves first and renames then: a name that is taken would be found out too late.
        if !self.container.is_free(&names.container)? {
            return Err(Errno::EXIST).os(|| format!("RTM_SETLINK({index}, {:?})", names.container));
        }
        let may_keep_name = self.container.is_free(&names.host)?;
        // Before it moves: a request that failed may have been followed half-way.
        self.devices.push(Device { names: names.clone(), index, was_up, addresses, may_keep_name });
        self.host.0.move_link(index, container, &names.container, true).map_err(hint_at_privilege)?;
        let added = self.devices.last().map_or(&[][..], |device| &device.addresses);
        // Its number may be another's there.
        let Link { index, .. } = self.container.0.link(&names.container)?;
        added.iter().try_for_each(|address| self.container.0.add_address(index, address))
    }

    /// Moves them back, as they were. Every one is tried, and every failure reported.
    pub(crate) fn undo(self) -> Result<()> {
        let failed = |device| self.bring_back(device).err().map(|error| error.during(field(&device.names)));
        let left: Vec<_> =
            self.devices.iter().rev().filter_map(failed).map(|error| error.to_string()).collect();
        match left.is_empty() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Incomplete, "move network devices back", left.join("; "))),
        }
    }

    fn bring_back(&self, device: &Device) -> Result<()> {
        let Device { names, index, was_up, addresses, may_keep_name } = device;
        // Where it is decides, and not what was answered.
        if self.host.0.link(&names.host).is_ok_and(|link| link.index == *index) {
            return Ok(());
        }
        let there = match self.container.0.link(&names.container) {
            Err(_) if *may_keep_name => self.container.0.link(&names.host)?,
            there => there?,
        };
        let moved = self.container.0.move_link(there.index, self.home.as_fd(), &names.host, *was_up);
        // It is back also where only the last part failed, that it is up.
        let restored = self.host.0.link(&names.host).and_then(|Link { index, .. }| {
            addresses.iter().try_for_each(|address| self.host.0.add_address(index, address))
        });
        moved.and(restored)
    }
}

fn field(device: &NetDevice) -> String {
    format!("linux.netDevices.{}", device.host)
}

fn hint_at_privilege(error: Error) -> Error {
    match error.raw_os_error() == Some(Errno::PERM.raw_os_error()) {
        true => error.hint("it takes CAP_NET_ADMIN in the network namespace the device is in"),
        false => error,
    }
}
