//! `linux.resources.network` and `linux.resources.rdma`: the classes of packets, and the RDMA devices.

use super::super::field::{Field, shorten};
use crate::error::Result;
use oci_spec::runtime::{LinuxInterfacePriority, LinuxNetwork, LinuxRdma};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// `linux.resources.network`: how the kernel marks the container's packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkClass {
    /// `classID`; 0 was read as absent.
    pub(crate) class_id: Option<u32>,
    /// `priorities`, in the order given.
    pub(crate) priorities: Vec<InterfacePriority>,
}

/// One entry of `linux.resources.network.priorities`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InterfacePriority {
    /// `name` of the interface.
    pub(crate) interface: String,
    /// `priority`.
    pub(crate) priority: u32,
}

/// `IFNAMSIZ` (linux/if.h), without the NUL byte.
const MAX_INTERFACE_NAME: usize = 15;

impl NetworkClass {
    pub(super) fn new(field: &Field<'_>, network: Option<&LinuxNetwork>) -> Result<Self> {
        let Some(network) = network else {
            return Ok(Self::default());
        };
        let list = field.key("priorities");
        let priorities = network.priorities().iter().flatten().enumerate();
        Ok(Self {
            class_id: network.class_id().filter(|class| *class != 0),
            priorities: priorities
                .map(|(index, priority)| InterfacePriority::new(&list.index(index), priority))
                .collect::<Result<_>>()?,
        })
    }
}

impl InterfacePriority {
    fn new(field: &Field<'_>, given: &LinuxInterfacePriority) -> Result<Self> {
        let name = given.name();
        // The rule of `dev_valid_name` in the kernel.
        let plain = |c: char| !(c == '/' || c == ':' || c.is_whitespace() || c.is_control());
        let good = (1..=MAX_INTERFACE_NAME).contains(&name.len()) && name.chars().all(plain);
        if !good || name == "." || name == ".." {
            let problem = format!("{:?} is not the name of an interface", shorten(name));
            return Err(field.key("name").error(problem));
        }
        Ok(Self { interface: name.clone(), priority: given.priority() })
    }
}

/// One entry of `linux.resources.rdma`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RdmaLimit {
    /// The name of the device.
    pub(crate) device: String,
    /// `hcaHandles`: the most handles that can be open.
    pub(crate) hca_handles: Option<u32>,
    /// `hcaObjects`: the most objects there can be.
    pub(crate) hca_objects: Option<u32>,
}

/// `IB_DEVICE_NAME_MAX` (rdma/ib_verbs.h), without the NUL byte.
const MAX_RDMA_DEVICE_NAME: usize = 63;

/// Checks `linux.resources.rdma`. An entry without a limit asks for nothing.
pub(super) fn rdma_limits(
    field: &Field<'_>,
    rdma: Option<&HashMap<String, LinuxRdma>>,
) -> Result<Vec<RdmaLimit>> {
    let mut limits = Vec::new();
    let sorted: BTreeMap<&String, &LinuxRdma> = rdma.into_iter().flatten().collect();
    for (device, given) in sorted {
        let plain = |c: char| !(c == '/' || c.is_whitespace() || c.is_control());
        if !(1..=MAX_RDMA_DEVICE_NAME).contains(&device.len()) || !device.chars().all(plain) {
            return Err(field.key(device).error("is not the name of a device"));
        }
        let (hca_handles, hca_objects) = (given.hca_handles(), given.hca_objects());
        if hca_handles.is_some() || hca_objects.is_some() {
            limits.push(RdmaLimit { device: device.clone(), hca_handles, hca_objects });
        }
    }
    Ok(limits)
}
