//! `linux.netDevices`: devices of the host's network that move to the container's.

use super::Namespaces;
use super::field::{Field, shorten};
use crate::error::Result;
use oci_spec::runtime::LinuxNetDevice;
use std::collections::{BTreeMap, HashMap};

/// One entry of `linux.netDevices`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetDevice {
    /// Its name in the caller's network namespace: the entry's key.
    pub(crate) host: String,
    /// Its name in the container: `name`, or the same.
    pub(crate) container: String,
}

/// Checks `linux.netDevices`.
pub(super) fn net_devices(
    linux: &Field<'_>,
    devices: Option<&HashMap<String, LinuxNetDevice>>,
    namespaces: &Namespaces,
) -> Result<Vec<NetDevice>> {
    let field = linux.key("netDevices");
    // Sorted first: the same document must give the same error each time.
    let devices: BTreeMap<_, _> = devices.into_iter().flatten().collect();
    if !devices.is_empty() && !namespaces.network.is_listed() {
        let error = field.error("needs a network namespace");
        return Err(error.hint("add {\"type\": \"network\"} to linux.namespaces"));
    }
    let mut checked: Vec<NetDevice> = Vec::with_capacity(devices.len());
    for (host, device) in devices {
        let field = field.key(host);
        check_name(&field, host)?;
        let name = device.name().as_ref().filter(|name| !name.is_empty());
        let container = match name {
            Some(name) => check_name(&field.key("name"), name).map(|()| name)?,
            None => host,
        };
        if let Some(other) = checked.iter().find(|other| other.container == *container) {
            let problem = format!("{container:?} is the name of {:?} already", other.host);
            return Err(field.key("name").error(problem));
        }
        checked.push(NetDevice { host: host.clone(), container: container.clone() });
    }
    Ok(checked)
}

/// The longest name of a network device (`IFNAMSIZ`, without its NUL).
const MAX_NAME: usize = 15;

/// Refuses a name that the kernel refuses: too long, impossible in a path below `/sys`, or read as a pattern (`%`).
fn check_name(field: &Field<'_>, name: &str) -> Result<()> {
    let bad = |c: char| c.is_ascii_whitespace() || "/:%\0".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || matches!(name, "." | "..") || name.contains(bad) {
        let error = field.error(format_args!("{:?} is not the name of a network device", shorten(name)));
        return Err(error.hint("use 1 to 15 bytes without spaces, \"/\", \":\" and \"%\""));
    }
    Ok(())
}
