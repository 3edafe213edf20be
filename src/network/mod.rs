//! Moving network devices from one network namespace to another, with what makes them usable: their addresses, and that
//! they are up.
//!
//! ```text
//!   caller                                     sandbox
//!     |<------- Network (a routing socket) ------|  opened in the container's network namespace
//!     |-- the host's socket:      RTM_SETLINK    |  move, rename, set up: one request
//!     |-- the container's socket: RTM_NEWADDR    |
//! ```
//!
//! Only the caller has rights in the namespace where the devices are. It need not leave that namespace, because a
//! socket belongs to the namespace in which it was opened, whichever process uses it. What may not live here: making
//! devices, and giving a device a setting that it did not have before.

mod route;

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::spec::NetDevice;
use crate::sys;
use route::{Address, Link, Route};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// A network namespace, through a routing socket that was opened in it.
#[derive(Debug)]
pub(crate) struct Network(Route);

impl Network {
    /// The network namespace of this thread.
    pub(crate) fn of_this_thread() -> Result<Self> {
        Route::open().map(Self)
    }

    /// A descriptor of the namespace itself. It takes `CAP_NET_ADMIN` there.
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

/// From a routing socket that another process opened in the namespace.
impl From<OwnedFd> for Network {
    fn from(socket: OwnedFd) -> Self {
        Self(socket.into())
    }
}

/// Devices of the host that were moved to a container, whose creation may still fail.
#[derive(Debug)]
pub(crate) struct Moved {
    host: Network,
    container: Network,
    /// The host's namespace. Opened before the first device moves, because moving back must not fail for want of a
    /// descriptor.
    home: OwnedFd,
    devices: Vec<MovedDevice>,
}

/// What a device was like before it moved.
#[derive(Debug)]
struct MovedDevice {
    names: NetDevice,
    /// Its number in the host's namespace.
    index: i32,
    was_up: bool,
    addresses: Vec<Address>,
    /// Whether it may have its old name in the container, after a request that failed half-way: the kernel moves a
    /// device first and renames it then. Not so if another device in the container has that name.
    may_keep_name: bool,
}

impl Moved {
    /// Moves `devices` from this thread's namespace to `container`. If one fails, moves all of them back.
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
    /// config-linux.md.
    fn add(&mut self, names: &NetDevice, container: BorrowedFd<'_>) -> Result<()> {
        let Link { index, up: was_up } = self.host.0.link(&names.host)?;
        let addresses = self.host.0.addresses(index)?;
        // Check first: the kernel moves a device and then finds out that its new name is taken.
        if !self.container.is_free(&names.container)? {
            return Err(Errno::EXIST).os(|| format!("RTM_SETLINK({index}, {:?})", names.container));
        }
        let may_keep_name = self.container.is_free(&names.host)?;
        // Remember it before it moves, because a request that fails may have moved it already.
        self.devices.push(MovedDevice { names: names.clone(), index, was_up, addresses, may_keep_name });
        self.host.0.move_link(index, container, &names.container, true).map_err(hint_at_privilege)?;
        let added = self.devices.last().map_or(&[][..], |device| &device.addresses);
        // It may have another number there.
        let Link { index, .. } = self.container.0.link(&names.container)?;
        added.iter().try_for_each(|address| self.container.0.add_address(index, address))
    }

    /// Moves all devices back and restores them. Tries every one, and reports every failure.
    pub(crate) fn undo(self) -> Result<()> {
        let failed = |device| self.bring_back(device).err().map(|error| error.during(field(&device.names)));
        let left: Vec<_> =
            self.devices.iter().rev().filter_map(failed).map(|error| error.to_string()).collect();
        if left.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Incomplete, "move network devices back", left.join("; ")))
    }

    fn bring_back(&self, device: &MovedDevice) -> Result<()> {
        let MovedDevice { names, index, was_up, addresses, may_keep_name } = device;
        // Look where it is: the answer to the request does not say for sure.
        if self.host.0.link(&names.host).is_ok_and(|link| link.index == *index) {
            return Ok(());
        }
        let there = match self.container.0.link(&names.container) {
            Err(_) if *may_keep_name => self.container.0.link(&names.host)?,
            there => there?,
        };
        let moved = self.container.0.move_link(there.index, self.home.as_fd(), &names.host, *was_up);
        // Even if the request failed, it may have moved the device and only failed to set it up.
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
