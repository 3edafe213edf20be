//! `linux.resources.memory`.

use super::super::field::Field;
use crate::error::Result;
use oci_spec::runtime;
use serde::{Deserialize, Serialize};

/// `linux.resources.memory`. Bytes; -1 means unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimits {
    /// `limit`.
    pub limit: Option<i64>,
    /// `reservation`.
    pub reservation: Option<i64>,
    /// `swap`: memory plus swap together; not below `limit`.
    pub swap: Option<i64>,
    /// `swappiness`, 0 to 100: how readily memory is swapped out.
    pub swappiness: Option<u64>,
    /// `disableOOMKiller`: who needs memory that is not there waits for it.
    pub disable_oom_killer: bool,
}

/// One page: no process can start in less, and the kernel rounds down to pages.
const MIN_MEMORY: i64 = 4096;

/// "The values are from 0 to 100" - OCI config-linux.md.
const MAX_SWAPPINESS: u64 = 100;

impl MemoryLimits {
    pub(super) fn new(field: &Field<'_>, memory: Option<&runtime::LinuxMemory>) -> Result<Self> {
        // `kernel` and `kernelTCP` are "NOT RECOMMENDED" (OCI config-linux.md) and `useHierarchy` has been always on since
        // Linux 5.11: ignored. A new cgroup uses no memory, so `checkBeforeUpdate` has nothing to find.
        let Some(memory) = memory else {
            return Ok(Self::default());
        };
        warn_of_ignored(field, memory);
        let swappiness = match memory.swappiness() {
            // -1, as engines that keep it as a signed number write "not set".
            None | Some(u64::MAX) => None,
            Some(swappiness @ ..=MAX_SWAPPINESS) => Some(swappiness),
            Some(swappiness) => {
                let problem = format!("{swappiness} is not between 0 and {MAX_SWAPPINESS}");
                return Err(field.key("swappiness").error(problem));
            }
        };
        let amount = |name: &str, bytes: Option<i64>| match bytes {
            None | Some(0) => Ok(None),
            Some(bytes @ (-1 | MIN_MEMORY..)) => Ok(Some(bytes)),
            Some(bytes) if bytes < 0 => Err(field.key(name).error(format_args!("{bytes} is below -1"))),
            Some(bytes) => {
                let error = field.key(name).error(format_args!("{bytes} is below {MIN_MEMORY}"));
                Err(error.hint("the unit is bytes"))
            }
        };
        let limit = amount("limit", memory.limit())?;
        let swap = amount("swap", memory.swap())?;
        match (limit, swap) {
            (None, Some(1..)) => {
                return Err(field.key("swap").error("needs a memory limit").hint("set memory.limit, too"));
            }
            (Some(limit), Some(swap @ 1..)) if limit == -1 || swap < limit => {
                let error = field.key("swap").error(format_args!("{swap} is below limit, {limit}"));
                return Err(error.hint("swap counts memory and swap together"));
            }
            _ => {}
        }
        Ok(Self {
            limit,
            reservation: amount("reservation", memory.reservation())?,
            swap,
            swappiness,
            disable_oom_killer: memory.disable_oom_killer() == Some(true),
        })
    }
}

/// Says which limits are passed over: who set one may count on it.
fn warn_of_ignored(field: &Field<'_>, memory: &runtime::LinuxMemory) {
    for (name, bytes) in [("kernel", memory.kernel()), ("kernelTCP", memory.kernel_tcp())] {
        // 0 and -1 ask for nothing.
        if bytes.is_some_and(|bytes| bytes > 0) {
            tracing::warn!(field = %field.key(name), "ignored, as recommended by the specification");
        }
    }
}
