//! `linux.resources.rdma`.

use super::super::field::Field;
use crate::error::Result;
use oci_spec::runtime::LinuxRdma;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// One entry of `linux.resources.rdma`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaLimit {
    /// The name of the device.
    pub device: String,
    /// `hcaHandles`: the most handles that can be open.
    pub hca_handles: Option<u32>,
    /// `hcaObjects`: the most objects there can be.
    pub hca_objects: Option<u32>,
}

/// `IB_DEVICE_NAME_MAX` (rdma/ib_verbs.h), without the NUL byte.
const MAX_DEVICE_NAME: usize = 63;

/// Checks `linux.resources.rdma`. An entry without a limit asks for nothing.
pub(super) fn limits(field: &Field<'_>, rdma: Option<&HashMap<String, LinuxRdma>>) -> Result<Vec<RdmaLimit>> {
    let mut limits = Vec::new();
    let sorted: BTreeMap<&String, &LinuxRdma> = rdma.into_iter().flatten().collect();
    for (device, given) in sorted {
        let plain = |c: char| !(c == '/' || c.is_whitespace() || c.is_control());
        if !(1..=MAX_DEVICE_NAME).contains(&device.len()) || !device.chars().all(plain) {
            return Err(field.key(device).error("is no name of a device"));
        }
        let (hca_handles, hca_objects) = (given.hca_handles(), given.hca_objects());
        if hca_handles.is_some() || hca_objects.is_some() {
            limits.push(RdmaLimit { device: device.clone(), hca_handles, hca_objects });
        }
    }
    Ok(limits)
}
