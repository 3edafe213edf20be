//! `linux.resources.memory` and `linux.resources.hugepageLimits`.

use super::super::field::{Field, shorten};
use crate::error::Result;
use oci_spec::runtime::{LinuxHugepageLimit, LinuxMemory};
use serde::{Deserialize, Serialize};

/// `linux.resources.memory`. Bytes; -1 means unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryLimits {
    /// `limit`.
    pub(crate) limit: Option<i64>,
    /// `reservation`.
    pub(crate) reservation: Option<i64>,
    /// `swap`: memory plus swap together; not below `limit`.
    pub(crate) swap: Option<i64>,
    /// `swappiness`, 0 to 100: how readily memory is swapped out.
    pub(crate) swappiness: Option<u64>,
    /// `disableOOMKiller`: a process that reaches the limit waits for memory instead of being killed.
    pub(crate) disable_oom_killer: bool,
}

/// One page: no process can start in less, and the kernel rounds down to pages.
const MIN_MEMORY: i64 = 4096;

/// "The values are from 0 to 100" - OCI config-linux.md.
const MAX_SWAPPINESS: u64 = 100;

impl MemoryLimits {
    pub(super) fn new(field: &Field<'_>, memory: Option<&LinuxMemory>) -> Result<Self> {
        // `kernel` and `kernelTCP` are "NOT RECOMMENDED" (OCI config-linux.md) and `useHierarchy` is always on since
        // Linux 5.11: we ignore them. A new cgroup uses no memory, so `checkBeforeUpdate` has nothing to find.
        let Some(memory) = memory else {
            return Ok(Self::default());
        };
        warn_of_ignored(field, memory);
        let swappiness = match memory.swappiness() {
            // Engines that keep it as a signed number write -1 for "not set".
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

/// Warns about limits without effect, because the user may rely on them.
fn warn_of_ignored(field: &Field<'_>, memory: &LinuxMemory) {
    for (name, bytes) in [("kernel", memory.kernel()), ("kernelTCP", memory.kernel_tcp())] {
        // 0 and -1 ask for nothing.
        if bytes.is_some_and(|bytes| bytes > 0) {
            field.key(name).warn("is ignored, as recommended by the specification");
        }
    }
}

/// One entry of `linux.resources.hugepageLimits`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HugepageLimit {
    /// `pageSize` as the kernel writes it: `2MB`.
    pub(crate) page_size: String,
    /// `limit` in bytes. 0 allows no page of this size: an entry that names a page size is never absent.
    pub(crate) limit: u64,
}

/// Checks `linux.resources.hugepageLimits`.
pub(super) fn hugepage_limits(
    field: &Field<'_>,
    limits: Option<&[LinuxHugepageLimit]>,
) -> Result<Vec<HugepageLimit>> {
    let limits = limits.unwrap_or_default().iter().enumerate();
    limits.map(|(index, limit)| HugepageLimit::new(&field.index(index), limit)).collect()
}

impl HugepageLimit {
    fn new(field: &Field<'_>, given: &LinuxHugepageLimit) -> Result<Self> {
        let page_size = given.page_size();
        if !is_page_size(page_size) {
            let error =
                field.key("pageSize").error(format_args!("{:?} is not a page size", shorten(page_size)));
            return Err(error.hint("write it as in 64KB, 2MB or 1GB"));
        }
        match u64::try_from(given.limit()) {
            Ok(limit) => Ok(Self { page_size: page_size.clone(), limit }),
            Err(_) => {
                let error = field.key("limit").error(format_args!("{} is below 0", given.limit()));
                Err(error.hint("the unit is bytes"))
            }
        }
    }
}

/// "`<size><unit-prefix>B`" (OCI config-linux.md), as the kernel names its files: a power of two below 1024 in the
/// largest unit that fits.
fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    let digits = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let size: Option<u32> =
        digits.filter(|digits| !digits.starts_with('0')).and_then(|digits| digits.parse().ok());
    size.is_some_and(|size| size.is_power_of_two() && size < 1024)
}

#[cfg(test)]
mod tests {
    use super::is_page_size;

    #[test]
    fn a_page_size_is_written_as_the_kernel_writes_it() {
        for good in ["64KB", "2MB", "512MB", "1GB", "16GB"] {
            assert!(is_page_size(good), "{good}");
        }
        for bad in
            ["", "MB", "0MB", "02MB", "3MB", "2048KB", "2mb", "2M", "+2MB", "2MB.rsvd", "../2MB", "-2MB"]
        {
            assert!(!is_page_size(bad), "{bad}");
        }
    }
}
