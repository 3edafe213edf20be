//! `linux.resources`: limits, as numbers the cgroup drivers can write.

mod block_io;
mod cpu;
mod hugepages;
mod memory;
mod network;
mod rdma;
mod unified;

#[cfg(test)]
pub use block_io::DeviceWeight;
pub use block_io::{BlockIo, DeviceNumber, Throttle};
pub use cpu::CpuLimits;
pub use hugepages::HugepageLimit;
pub use memory::MemoryLimits;
pub use network::{InterfacePriority, NetworkClass};
pub use rdma::RdmaLimit;
pub use unified::UnifiedValue;

use super::device_rules::{DeviceRule, device_rules};
use super::field::Field;
use crate::error::Result;
use oci_spec::runtime;
use serde::{Deserialize, Serialize};

/// `linux.resources`, validated. A field that is `None` was not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// `memory`.
    pub memory: MemoryLimits,
    /// `cpu`.
    pub cpu: CpuLimits,
    /// `pids.limit`: the most tasks; `None` where absent or not positive ("unlimited").
    pub pids_limit: Option<u64>,
    /// `blockIO`.
    pub block_io: BlockIo,
    /// `hugepageLimits`, in the order given.
    pub hugepages: Vec<HugepageLimit>,
    /// `network`.
    pub network: NetworkClass,
    /// `rdma`, sorted by device.
    pub rdma: Vec<RdmaLimit>,
    /// `unified`, sorted by file.
    pub unified: Vec<UnifiedValue>,
    /// `devices`: which device numbers may be used, in the order given; later rules win.
    pub devices: Vec<DeviceRule>,
}

impl Resources {
    /// Whether no limit was asked for, so that no cgroup is needed.
    ///
    /// Device rules do not count: they name no amount of anything, and which of them need a cgroup is up to the plan.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { memory, cpu, pids_limit, block_io, hugepages, network, rdma, unified, devices: _ } = self;
        *memory == MemoryLimits::default()
            && *cpu == CpuLimits::default()
            && pids_limit.is_none()
            && *block_io == BlockIo::default()
            && hugepages.is_empty()
            && *network == NetworkClass::default()
            && rdma.is_empty()
            && unified.is_empty()
    }

    /// Checks `linux.resources`.
    pub(super) fn new(linux: &Field<'_>, resources: Option<&runtime::LinuxResources>) -> Result<Self> {
        let Some(resources) = resources else {
            return Ok(Self::default());
        };
        let field = linux.key("resources");
        Ok(Self {
            memory: MemoryLimits::new(&field.key("memory"), resources.memory().as_ref())?,
            cpu: CpuLimits::new(&field.key("cpu"), resources.cpu().as_ref())?,
            pids_limit: pids_limit(&field.key("pids"), resources.pids().as_ref())?,
            block_io: BlockIo::new(&field.key("blockIO"), resources.block_io().as_ref())?,
            hugepages: hugepages::limits(
                &field.key("hugepageLimits"),
                resources.hugepage_limits().as_deref(),
            )?,
            network: NetworkClass::new(&field.key("network"), resources.network().as_ref())?,
            rdma: rdma::limits(&field.key("rdma"), resources.rdma().as_ref())?,
            unified: unified::values(&field.key("unified"), resources.unified().as_ref())?,
            devices: device_rules(&field.key("devices"), resources.devices().as_deref().unwrap_or_default())?,
        })
    }
}

/// The most tasks a 64-bit kernel can have, and the highest limit it takes (`PID_MAX_LIMIT`).
const MAX_PIDS: u64 = 1 << 22;

fn pids_limit(field: &Field<'_>, pids: Option<&runtime::LinuxPids>) -> Result<Option<u64>> {
    match pids.map(runtime::LinuxPids::limit) {
        None | Some(-1 | 0) => Ok(None),
        Some(limit) => match u64::try_from(limit) {
            Ok(limit) if limit <= MAX_PIDS => Ok(Some(limit)),
            Ok(limit) => {
                let error = field.key("limit").error(format_args!("{limit} is above {MAX_PIDS}"));
                Err(error.hint("-1 is unlimited"))
            }
            Err(_) => {
                let error = field.key("limit").error(format_args!("{limit} is below -1"));
                Err(error.hint("-1 is unlimited"))
            }
        },
    }
}
