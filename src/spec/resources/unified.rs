//! `linux.resources.unified`: control files of cgroup v2, by name.

use super::super::field::{Field, shorten};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// One entry of `linux.resources.unified`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnifiedValue {
    /// The control file: `controller.something`, a single component of a path.
    pub file: String,
    /// What is written into it, as it is.
    pub value: String,
}

/// The longest name of a file.
const MAX_FILE: usize = 255;
/// What the kernel takes in one write: less than a page (`kernfs_fop_write_iter`).
const MAX_VALUE: usize = 4095;

impl UnifiedValue {
    /// The controller whose file it is.
    #[must_use]
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }

    fn new(field: &Field<'_>, file: &str, value: &str) -> Result<Self> {
        let word = |word: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            !word.is_empty() && word.bytes().all(plain)
        };
        if file.len() > MAX_FILE || !file.contains('.') || !file.split('.').all(word) {
            return Err(field.error("is no control file").hint("write it as in memory.high"));
        }
        if file.starts_with("cgroup.") {
            // They move, freeze, kill and delegate, or count the directories, one of which is ours.
            return Err(field.unsupported("is the file of no controller"));
        }
        if value.is_empty() {
            return Err(field.error("is empty"));
        }
        if value.len() > MAX_VALUE || value.contains('\0') {
            return Err(field.error(format_args!("{:?} is no value of a control file", shorten(value))));
        }
        Ok(Self { file: file.to_owned(), value: value.to_owned() })
    }
}

/// Checks `linux.resources.unified`.
pub(super) fn values(
    field: &Field<'_>,
    unified: Option<&HashMap<String, String>>,
) -> Result<Vec<UnifiedValue>> {
    let sorted: BTreeMap<&String, &String> = unified.into_iter().flatten().collect();
    sorted.into_iter().map(|(file, value)| UnifiedValue::new(&field.key(file), file, value)).collect()
}
