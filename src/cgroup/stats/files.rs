//! Reading control files for statistics: an absent file is not an error.

use crate::cgroup::dir::CgroupDir;
use crate::error::{Error, Result};

/// The control files of one directory.
pub(super) struct Files<'a>(pub(super) &'a CgroupDir);

impl Files<'_> {
    /// The text of `file`; `None` where the kernel has none for this cgroup.
    pub(super) fn text(&self, file: &str) -> Result<Option<String>> {
        match self.0.read(file) {
            Err(error) if is_absent(&error) => Ok(None),
            text => text.map(Some),
        }
    }

    /// The number in `file`.
    pub(super) fn number(&self, file: &str) -> Result<Option<u64>> {
        Ok(self.text(file)?.and_then(|text| text.trim().parse().ok()))
    }

    /// The sizes of huge pages that have a file `hugetlb.SIZE.SUFFIX`, sorted.
    pub(super) fn huge_page_sizes(&self, suffix: &str) -> Result<Vec<String>> {
        let files = self.0.files()?;
        let size = |file: &String| Some(file.strip_prefix("hugetlb.")?.strip_suffix(suffix)?.to_owned());
        // The reservations (`hugetlb.2MB.rsvd.current`) are no size of their own.
        let mut sizes: Vec<String> =
            files.iter().filter_map(size).filter(|size| !size.contains('.')).collect();
        sizes.sort();
        Ok(sizes)
    }
}

/// Not there: the file, the whole cgroup, or the accounting behind it (`EOPNOTSUPP` with `psi=0`).
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP))
}

/// The value of `key` in lines of `key value`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?.trim().parse().ok()
}

/// A limit. `max` and everything else that is not a number mean none.
pub(super) fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}
