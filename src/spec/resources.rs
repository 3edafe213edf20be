//! `linux.resources`: limits, as numbers the cgroup drivers can write.

mod block_io;
mod cpu;
mod memory;
mod network;

pub use block_io::DeviceNumber;
#[cfg(test)]
pub(crate) use block_io::DeviceWeight;
pub(crate) use block_io::{BlockIo, Throttle};
pub(crate) use cpu::CpuLimits;
pub(crate) use memory::{HugepageLimit, MemoryLimits};
pub(crate) use network::{InterfacePriority, NetworkClass, RdmaLimit};

use super::device_rules::{DeviceRule, device_rules};
use super::field::{Field, shorten};
use crate::error::Result;
use oci_spec::runtime;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// `linux.resources`, validated. `None` means that the configuration does not set the field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resources {
    /// `memory`.
    pub(crate) memory: MemoryLimits,
    /// `cpu`.
    pub(crate) cpu: CpuLimits,
    /// `pids.limit`: the most tasks; `None` where absent or not positive ("unlimited").
    pub(crate) pids_limit: Option<u64>,
    /// `blockIO`.
    pub(crate) block_io: BlockIo,
    /// `hugepageLimits`, in the order given.
    pub(crate) hugepages: Vec<HugepageLimit>,
    /// `network`.
    pub(crate) network: NetworkClass,
    /// `rdma`, sorted by device.
    pub(crate) rdma: Vec<RdmaLimit>,
    /// `unified`, sorted by file.
    pub(crate) unified: Vec<UnifiedValue>,
    /// `devices`: which device numbers may be used, in the order given; later rules win.
    pub(crate) devices: Vec<DeviceRule>,
}

impl Resources {
    /// Whether the configuration sets no limit, so that no cgroup is needed.
    ///
    /// Device rules do not count: they limit no amount, and the plan decides which of them need a cgroup.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
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
            hugepages: memory::hugepage_limits(
                &field.key("hugepageLimits"),
                resources.hugepage_limits().as_deref(),
            )?,
            network: NetworkClass::new(&field.key("network"), resources.network().as_ref())?,
            rdma: network::rdma_limits(&field.key("rdma"), resources.rdma().as_ref())?,
            unified: unified_values(&field.key("unified"), resources.unified().as_ref())?,
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

/// One entry of `linux.resources.unified`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnifiedValue {
    /// The control file: `controller.something`, a single component of a path.
    pub(crate) file: String,
    /// The text to write into it, unchanged.
    pub(crate) value: String,
}

/// The longest name of a file.
const MAX_FILE_NAME: usize = 255;
/// The most that the kernel takes in one write: less than a page (`kernfs_fop_write_iter`).
const MAX_VALUE: usize = 4095;

impl UnifiedValue {
    /// The controller whose file it is.
    #[must_use]
    pub(crate) fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }

    fn new(field: &Field<'_>, file: &str, value: &str) -> Result<Self> {
        let word = |word: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            !word.is_empty() && word.bytes().all(plain)
        };
        if file.len() > MAX_FILE_NAME || !file.contains('.') || !file.split('.').all(word) {
            return Err(field.error("is not a control file").hint("write it as in memory.high"));
        }
        if file.starts_with("cgroup.") {
            // These files move, freeze, kill and delegate processes, or count the directories, one of which is ours.
            return Err(field.unsupported("belongs to no controller"));
        }
        if value.is_empty() {
            return Err(field.error("is empty"));
        }
        if value.len() > MAX_VALUE || value.contains('\0') {
            return Err(field.error(format_args!("{:?} is not a value of a control file", shorten(value))));
        }
        Ok(Self { file: file.to_owned(), value: value.to_owned() })
    }
}

/// Checks `linux.resources.unified`.
fn unified_values(field: &Field<'_>, unified: Option<&HashMap<String, String>>) -> Result<Vec<UnifiedValue>> {
    let sorted: BTreeMap<&String, &String> = unified.into_iter().flatten().collect();
    sorted.into_iter().map(|(file, value)| UnifiedValue::new(&field.key(file), file, value)).collect()
}
