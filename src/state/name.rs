//! File names: two ids and a suffix, from ids and back.
//!
//! ```text
//! web_sandbox:pod.state                                        both ids as they are, or, if that is no file name,
//! FIRST40~fnv1a128(id)_sandbox:FIRST40~fnv1a128(id).state      the long ones as a head and a digest
//! ```
//!
//! `:` and `~` are no characters of an id, so a name splits in one way only, and a shortened id is never taken for a
//! whole one. Two ids can hardly share a shortened form, and if they do it is harmless: the record holds the whole ids,
//! and a record in another container's file is refused.

use crate::id::ContainerId;
use std::fmt;

/// `NAME_MAX`: the longest file name, in bytes, on every Linux file system that can hold the directory.
const NAME_MAX: usize = 255;
const SEPARATOR: &str = "_sandbox:";
/// How many bytes of an id its shortened form keeps, so that a person still recognises it.
const HEAD_LEN: usize = 40;
const SHORT_LEN: usize = HEAD_LEN + 1 + 32;

/// Which of a container's files a name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileRole {
    State,
    Lock,
    RunDir,
    /// The next `.state`, before it is renamed. One name is enough, because only the holder of the lock saves.
    Temporary,
}

impl FileRole {
    const ALL: [Self; 4] = [Self::State, Self::Lock, Self::RunDir, Self::Temporary];

    fn suffix(self) -> &'static str {
        match self {
            Self::State => ".state",
            Self::Lock => ".lock",
            Self::RunDir => ".run",
            Self::Temporary => ".tmp",
        }
    }
}

const LONGEST_SUFFIX: usize = 6;

/// The part that all file names of one container share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct StateName(String);

impl StateName {
    pub(super) fn new(container: &ContainerId, sandbox: &ContainerId) -> Self {
        let whole = format!("{container}{SEPARATOR}{sandbox}");
        if whole.len() + LONGEST_SUFFIX <= NAME_MAX {
            return Self(whole);
        }
        Self(format!("{}{SEPARATOR}{}", shortened(container), shortened(sandbox)))
    }

    /// Splits a file name; `None` if this crate makes no such name.
    pub(super) fn parse(file_name: &str) -> Option<(Self, FileRole)> {
        let (stem, role) = FileRole::ALL
            .into_iter()
            .find_map(|role| Some((file_name.strip_suffix(role.suffix())?, role)))?;
        let (container, sandbox) = stem.split_once(SEPARATOR)?;
        (is_part(container) && is_part(sandbox)).then(|| (Self(stem.to_owned()), role))
    }

    pub(super) fn file(&self, role: FileRole) -> String {
        format!("{}{}", self.0, role.suffix())
    }

    /// The container's id, whole or shortened.
    pub(super) fn container(&self) -> &str {
        self.0.split_once(SEPARATOR).map_or("", |(container, _)| container)
    }

    /// The container's id, unless it is shortened.
    pub(super) fn whole_container(&self) -> Option<ContainerId> {
        ContainerId::new(self.container()).ok()
    }

    /// Whether this may be a name of `container`, in any sandbox.
    pub(super) fn is_of(&self, container: &ContainerId) -> bool {
        self.container() == container.as_str() || self.container() == shortened(container)
    }

    /// Whether the container's id may begin with `prefix`, as far as the name tells.
    pub(super) fn may_start_with(&self, prefix: &str) -> bool {
        match self.container().split_once('~') {
            Some((head, _)) => head.starts_with(prefix) || prefix.starts_with(head),
            None => self.container().starts_with(prefix),
        }
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The form of an id in a name that would be too long otherwise. An id that is not longer than this form stays as it
/// is.
fn shortened(id: &ContainerId) -> String {
    match id.as_str() {
        id if id.len() <= SHORT_LEN => id.to_owned(),
        id => format!("{}~{:032x}", &id[..HEAD_LEN], fnv1a_128(id.as_bytes())),
    }
}

/// FNV-1a, 128 bit. It need not resist an attacker: the directory belongs to the user alone.
fn fnv1a_128(bytes: &[u8]) -> u128 {
    const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = (1 << 88) + 0x13b;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

fn is_part(part: &str) -> bool {
    let head = match part.split_once('~') {
        Some((head, digest)) if head.len() == HEAD_LEN && digest.len() == SHORT_LEN - HEAD_LEN - 1 => head,
        Some(_) => return false,
        None => part,
    };
    ContainerId::new(head).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_id() -> impl Strategy<Value = ContainerId> {
        "[A-Za-z0-9_+][A-Za-z0-9_+.-]{0,254}".prop_map(|id| ContainerId::new(id).unwrap())
    }

    proptest! {
        #[test]
        fn every_pair_of_ids_has_a_name_that_splits_again(container in any_id(), sandbox in any_id()) {
            let stem = StateName::new(&container, &sandbox);
            prop_assert!(stem.is_of(&container));
            prop_assert!(stem.may_start_with(&container.as_str()[..1]));
            prop_assert!(stem.may_start_with(container.as_str()));
            for role in FileRole::ALL {
                let file = stem.file(role);
                prop_assert!(file.len() <= NAME_MAX);
                prop_assert_eq!(StateName::parse(&file), Some((stem.clone(), role)));
            }
            if let Some(whole) = stem.whole_container() {
                prop_assert_eq!(whole, container);
            }
        }
    }

    #[test]
    fn fnv_agrees_with_its_published_vectors() {
        assert_eq!(fnv1a_128(b""), 0x6c62272e07bb014262b821756295c58d);
        assert_eq!(fnv1a_128(b"a"), 0xd228cb696f1a8caf78912b704e4a8964);
        assert_eq!(fnv1a_128(b"foobar"), 0x343e1662793c64bf6f0d3597ba446f18);
    }

    #[test]
    fn ids_that_look_like_names_do_not_confuse_the_split() {
        let id = |id: &str| ContainerId::new(id).unwrap();
        let stem = StateName::new(&id("a_sandbox"), &id("b.state"));
        assert_eq!(stem.file(FileRole::Lock), "a_sandbox_sandbox:b.state.lock");
        assert_eq!(StateName::parse("a_sandbox_sandbox:b.state.lock"), Some((stem, FileRole::Lock)));
    }

    #[test]
    fn other_files_are_no_names() {
        for name in [
            "",
            ".state",
            "a.state",
            "a_sandbox:.state",
            "_sandbox:a.state",
            "a_sandbox:b",
            "a_sandbox:b:c.run",
        ] {
            assert_eq!(StateName::parse(name), None, "{name}");
        }
        assert_eq!(StateName::parse("a~b_sandbox:c.state"), None);
        assert_eq!(StateName::parse("../x_sandbox:c.state"), None);
    }

    #[test]
    fn ids_that_share_a_head_are_told_apart() {
        let long = |end: &str| ContainerId::new(format!("{}{end}", "x".repeat(254))).unwrap();
        let sandbox = ContainerId::new("s".repeat(255)).unwrap();
        assert_ne!(StateName::new(&long("a"), &sandbox), StateName::new(&long("b"), &sandbox));
        assert!(!StateName::new(&long("a"), &sandbox).is_of(&long("b")));
    }
}
