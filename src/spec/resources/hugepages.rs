//! `linux.resources.hugepageLimits`.

use super::super::field::{Field, shorten};
use crate::error::Result;
use oci_spec::runtime::LinuxHugepageLimit;
use serde::{Deserialize, Serialize};

/// One entry of `linux.resources.hugepageLimits`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepageLimit {
    /// `pageSize` as the kernel writes it: `2MB`.
    pub page_size: String,
    /// `limit` in bytes. 0 means none: whoever names a page size asks for something.
    pub limit: u64,
}

/// Checks `linux.resources.hugepageLimits`.
pub(super) fn limits(field: &Field<'_>, limits: Option<&[LinuxHugepageLimit]>) -> Result<Vec<HugepageLimit>> {
    let limits = limits.unwrap_or_default().iter().enumerate();
    limits.map(|(index, limit)| HugepageLimit::new(&field.index(index), limit)).collect()
}

impl HugepageLimit {
    fn new(field: &Field<'_>, given: &LinuxHugepageLimit) -> Result<Self> {
        let page_size = given.page_size();
        if !is_page_size(page_size) {
            let error = field.key("pageSize").error(format_args!("{:?} is no page size", shorten(page_size)));
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
