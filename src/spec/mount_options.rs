//! `mounts[].options`: the words of mount(8) and of the specification, parsed.
//!
//! What lives here: the table of words and the syntax of file system parameters. What may not: destinations, sources
//! and types, which are in [`super::mounts`].

use super::field::{Field, shorten};
use crate::error::{Error, Result};
use bitflags::bitflags;
use serde::{Deserialize, Serialize};

bitflags! {
    /// Mount attributes, with the values of `MOUNT_ATTR_*` (mount_setattr(2)).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(transparent)]
    pub(crate) struct MountAttrs: u64 {
        /// `ro`.
        const RDONLY = 0x1;
        /// `nosuid`.
        const NOSUID = 0x2;
        /// `nodev`.
        const NODEV = 0x4;
        /// `noexec`.
        const NOEXEC = 0x8;
        /// `noatime`.
        const NOATIME = 0x10;
        /// `strictatime`.
        const STRICTATIME = 0x20;
        /// `nodiratime`.
        const NODIRATIME = 0x80;
        /// `nosymfollow`.
        const NOSYMFOLLOW = 0x0020_0000;
    }
}

/// How mount events cross a mount (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
// The eight words of mount(8).
pub(crate) enum Propagation {
    Private,
    RPrivate,
    Slave,
    RSlave,
    Shared,
    RShared,
    Unbindable,
    RUnbindable,
}

/// What the options of one mount ask for. Of words that contradict each other the last one wins, as for mount(8).
#[derive(Default)]
pub(super) struct Options {
    pub(super) set: MountAttrs,
    pub(super) clear: MountAttrs,
    pub(super) set_recursive: MountAttrs,
    pub(super) clear_recursive: MountAttrs,
    pub(super) propagation: Option<Propagation>,
    /// `bind` (false) or `rbind` (true).
    pub(super) bind: Option<bool>,
    /// Index of the word `tmpcopyup`.
    pub(super) tmpcopyup: Option<usize>,
    /// Index of `idmap` (false) or `ridmap` (true).
    pub(super) idmap: Option<(usize, bool)>,
    /// Index of [`MAP_OWNER`] (true) or [`MAP_OWNER_BUT_ROOT`] (false).
    pub(super) map_owner: Option<(usize, bool)>,
    /// Flags for a superblock.
    pub(super) superblock: Vec<String>,
    /// Words that are not in the table, with their index: parameters of the file system, or mistakes.
    pub(super) parameters: Vec<(usize, String)>,
}

/// The bind shows the owner of its source as the container's user. For others than this crate a comment (mount(8)).
pub(crate) const MAP_OWNER: &str = "x-cofferdam.map-owner";
/// As [`MAP_OWNER`], but not if the host's root is the owner, nor if the container has an id for the owner.
pub(crate) const MAP_OWNER_BUT_ROOT: &str = "x-cofferdam.map-owner-but-root";

impl Options {
    /// Reads the options at `field`.
    pub(super) fn new(field: &Field<'_>, words: &[String]) -> Result<Self> {
        let mut options = Self::default();
        for (index, word) in words.iter().enumerate() {
            let field = field.index(index);
            field.c_string(word)?;
            match WORDS.iter().find(|(known, _)| known == word) {
                Some((_, effect)) => options.apply(&field, index, word, *effect)?,
                None if word == MAP_OWNER || word == MAP_OWNER_BUT_ROOT => {
                    options.map_owner = Some((index, word == MAP_OWNER));
                }
                // mount(8): "x-*: comments"; they are for programs in user space.
                None if word.starts_with("x-") => {}
                None => options.parameters.push((index, word.clone())),
            }
        }
        Ok(options)
    }

    fn apply(&mut self, field: &Field<'_>, index: usize, word: &str, effect: Effect) -> Result<()> {
        match effect {
            Effect::Set(attrs) => put(&mut self.set, &mut self.clear, attrs),
            Effect::Clear(attrs) => take(&mut self.set, &mut self.clear, attrs),
            Effect::SetTree(attrs) => put(&mut self.set_recursive, &mut self.clear_recursive, attrs),
            Effect::ClearTree(attrs) => take(&mut self.set_recursive, &mut self.clear_recursive, attrs),
            Effect::DefaultAtime => self.set -= ATIME,
            Effect::Propagate(propagation) => self.propagation = Some(propagation),
            Effect::Bind { recursive } => self.bind = Some(recursive),
            Effect::CopyUp => self.tmpcopyup = Some(index),
            Effect::IdMap { recursive } => self.idmap = Some((index, recursive)),
            Effect::Superblock => self.superblock.push(word.to_owned()),
            Effect::Nothing => {}
            Effect::Remount => {
                let error = field.unsupported("remount is not supported");
                return Err(error.hint("give the options to the entry that makes the mount"));
            }
        }
        Ok(())
    }
}

fn put(set: &mut MountAttrs, clear: &mut MountAttrs, attrs: MountAttrs) {
    if ATIME.intersects(attrs) {
        // In the kernel the access time modes are one field, not flags: a new mode replaces the old one.
        *set -= ATIME;
        *clear -= ATIME;
    }
    *set |= attrs;
    *clear -= attrs;
}

fn take(set: &mut MountAttrs, clear: &mut MountAttrs, attrs: MountAttrs) {
    *set -= attrs;
    *clear |= attrs;
}

const ATIME: MountAttrs = MountAttrs::NOATIME.union(MountAttrs::STRICTATIME);

/// What one word does.
#[derive(Clone, Copy)]
enum Effect {
    Set(MountAttrs),
    Clear(MountAttrs),
    SetTree(MountAttrs),
    ClearTree(MountAttrs),
    /// Back to the kernel's default.
    DefaultAtime,
    Propagate(Propagation),
    Bind {
        recursive: bool,
    },
    CopyUp,
    IdMap {
        recursive: bool,
    },
    /// A flag of the superblock. Only a file system that is mounted for the container has a superblock of its own.
    Superblock,
    /// No effect: for mount(8) itself, or about writing to a disk. A bind keeps its superblock (mount(2)), and
    /// everything else we mount is in memory.
    Nothing,
    /// Refused: it would change an earlier mount, but every entry makes a mount of its own. No engine writes it.
    Remount,
}

/// The table of OCI config.md, "Linux mount options", and the words of mount(8) that engines pass along.
const WORDS: &[(&str, Effect)] = &[
    ("ro", Effect::Set(MountAttrs::RDONLY)),
    ("rw", Effect::Clear(MountAttrs::RDONLY)),
    ("nosuid", Effect::Set(MountAttrs::NOSUID)),
    ("suid", Effect::Clear(MountAttrs::NOSUID)),
    ("nodev", Effect::Set(MountAttrs::NODEV)),
    ("dev", Effect::Clear(MountAttrs::NODEV)),
    ("noexec", Effect::Set(MountAttrs::NOEXEC)),
    ("exec", Effect::Clear(MountAttrs::NOEXEC)),
    ("noatime", Effect::Set(MountAttrs::NOATIME)),
    ("atime", Effect::Clear(MountAttrs::NOATIME)),
    ("strictatime", Effect::Set(MountAttrs::STRICTATIME)),
    ("nostrictatime", Effect::Clear(MountAttrs::STRICTATIME)),
    ("nodiratime", Effect::Set(MountAttrs::NODIRATIME)),
    ("diratime", Effect::Clear(MountAttrs::NODIRATIME)),
    ("nosymfollow", Effect::Set(MountAttrs::NOSYMFOLLOW)),
    ("symfollow", Effect::Clear(MountAttrs::NOSYMFOLLOW)),
    ("relatime", Effect::DefaultAtime),
    ("norelatime", Effect::Nothing),
    ("rro", Effect::SetTree(MountAttrs::RDONLY)),
    ("rrw", Effect::ClearTree(MountAttrs::RDONLY)),
    ("rnosuid", Effect::SetTree(MountAttrs::NOSUID)),
    ("rsuid", Effect::ClearTree(MountAttrs::NOSUID)),
    ("rnodev", Effect::SetTree(MountAttrs::NODEV)),
    ("rdev", Effect::ClearTree(MountAttrs::NODEV)),
    ("rnoexec", Effect::SetTree(MountAttrs::NOEXEC)),
    ("rexec", Effect::ClearTree(MountAttrs::NOEXEC)),
    ("rnoatime", Effect::SetTree(MountAttrs::NOATIME)),
    ("ratime", Effect::ClearTree(MountAttrs::NOATIME)),
    ("rstrictatime", Effect::SetTree(MountAttrs::STRICTATIME)),
    ("rnostrictatime", Effect::ClearTree(MountAttrs::STRICTATIME)),
    ("rnodiratime", Effect::SetTree(MountAttrs::NODIRATIME)),
    ("rdiratime", Effect::ClearTree(MountAttrs::NODIRATIME)),
    ("rnosymfollow", Effect::SetTree(MountAttrs::NOSYMFOLLOW)),
    ("rsymfollow", Effect::ClearTree(MountAttrs::NOSYMFOLLOW)),
    ("rrelatime", Effect::ClearTree(ATIME)),
    ("rnorelatime", Effect::Nothing),
    ("private", Effect::Propagate(Propagation::Private)),
    ("rprivate", Effect::Propagate(Propagation::RPrivate)),
    ("slave", Effect::Propagate(Propagation::Slave)),
    ("rslave", Effect::Propagate(Propagation::RSlave)),
    ("shared", Effect::Propagate(Propagation::Shared)),
    ("rshared", Effect::Propagate(Propagation::RShared)),
    ("unbindable", Effect::Propagate(Propagation::Unbindable)),
    ("runbindable", Effect::Propagate(Propagation::RUnbindable)),
    ("bind", Effect::Bind { recursive: false }),
    ("rbind", Effect::Bind { recursive: true }),
    ("tmpcopyup", Effect::CopyUp),
    ("idmap", Effect::IdMap { recursive: false }),
    ("ridmap", Effect::IdMap { recursive: true }),
    ("remount", Effect::Remount),
    ("defaults", Effect::Nothing),
    ("async", Effect::Nothing),
    ("sync", Effect::Superblock),
    ("dirsync", Effect::Superblock),
    ("lazytime", Effect::Superblock),
    ("nolazytime", Effect::Nothing),
    ("iversion", Effect::Nothing),
    ("noiversion", Effect::Nothing),
    ("mand", Effect::Superblock),
    ("nomand", Effect::Nothing),
    ("acl", Effect::Nothing),
    ("noacl", Effect::Nothing),
    ("silent", Effect::Nothing),
    ("loud", Effect::Nothing),
    ("auto", Effect::Nothing),
    ("noauto", Effect::Nothing),
    ("nofail", Effect::Nothing),
    ("_netdev", Effect::Nothing),
    ("user", Effect::Nothing),
    ("nouser", Effect::Nothing),
    ("users", Effect::Nothing),
    ("group", Effect::Nothing),
    ("owner", Effect::Nothing),
];

/// Every mount option that is supported for all file systems, as OCI features.md lists them.
pub fn mount_options() -> impl Iterator<Item = &'static str> {
    let supported = WORDS.iter().filter(|(_, effect)| !matches!(effect, Effect::Remount));
    supported.map(|(word, _)| *word)
}

/// The syntax of a file system parameter.
#[derive(Clone, Copy)]
pub(super) enum Parameter {
    /// No value.
    Flag,
    /// A decimal number.
    Number,
    /// An octal number of at most `0o7777`.
    Mode,
    /// A decimal number with an optional suffix of `k`, `m`, `g`, `t`, `p`, `e` or `%`.
    Size,
    /// Any text that is not empty.
    Word,
}

/// tmpfs(5).
pub(super) const TMPFS: &[(&str, Parameter)] = &[
    ("size", Parameter::Size),
    ("nr_blocks", Parameter::Size),
    ("nr_inodes", Parameter::Size),
    ("mode", Parameter::Mode),
    ("uid", Parameter::Number),
    ("gid", Parameter::Number),
    ("huge", Parameter::Word),
    ("mpol", Parameter::Word),
    ("inode32", Parameter::Flag),
    ("inode64", Parameter::Flag),
    ("noswap", Parameter::Flag),
];

/// proc(5).
pub(super) const PROC: &[(&str, Parameter)] =
    &[("hidepid", Parameter::Word), ("gid", Parameter::Number), ("subset", Parameter::Word)];

/// Documentation/filesystems/devpts.rst of the kernel, and mount(8).
pub(super) const DEVPTS: &[(&str, Parameter)] = &[
    ("newinstance", Parameter::Flag),
    ("uid", Parameter::Number),
    ("gid", Parameter::Number),
    ("mode", Parameter::Mode),
    ("ptmxmode", Parameter::Mode),
    ("max", Parameter::Number),
];

/// The parameters for a file system that knows `table`.
pub(super) fn parameters(
    field: &Field<'_>,
    words: Vec<(usize, String)>,
    table: &[(&str, Parameter)],
) -> Result<Vec<String>> {
    let check = |(index, word): (usize, String)| {
        let field = field.index(index);
        let (name, value) =
            word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        let Some((_, parameter)) = table.iter().find(|(known, _)| *known == name) else {
            return Err(unknown(&field, &word));
        };
        match parameter.accepts(value) {
            true => Ok(word),
            false => Err(field.error(format_args!("{:?} has a bad value", shorten(&word)))),
        }
    };
    words.into_iter().map(check).collect()
}

/// Passes over parameters of file systems among the words for a bind, because the kernel ignores them there (mount(2)),
/// and runtimes that call mount(2) pass them on. Any other word is a mistake: `r0` must not make a writable bind.
pub(super) fn refuse_mistakes(field: &Field<'_>, words: &[(usize, String)]) -> Result<()> {
    let flags = [TMPFS, DEVPTS, PROC].into_iter().flatten();
    let flags: Vec<_> =
        flags.filter(|(_, kind)| matches!(kind, Parameter::Flag)).map(|(name, _)| *name).collect();
    for (index, word) in words {
        let name = word.split_once('=').map(|(name, _)| name).filter(|name| !name.is_empty());
        let field = field.index(*index);
        if name.is_none() && !flags.contains(&word.as_str()) {
            return Err(unknown(&field, word));
        }
        // Without the value, which may be a password.
        field.warn(format_args!("{:?} has no effect on a bind", shorten(name.unwrap_or(word))));
    }
    Ok(())
}

impl Parameter {
    fn accepts(self, value: Option<&str>) -> bool {
        match (self, value) {
            (Self::Flag, value) => value.is_none(),
            (_, None) => false,
            (Self::Number, Some(value)) => digits(value) && value.parse::<u32>().is_ok(),
            (Self::Mode, Some(value)) => {
                digits(value) && u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777)
            }
            (Self::Size, Some(value)) => {
                let suffixes = ['k', 'K', 'm', 'M', 'g', 'G', 't', 'T', 'p', 'P', 'e', 'E', '%'];
                let number = value.strip_suffix(suffixes).unwrap_or(value);
                digits(number) && number.parse::<u64>().is_ok()
            }
            (Self::Word, Some(value)) => !value.is_empty(),
        }
    }
}

/// Stricter than `from_str`, which allows a leading `+`. The kernel does not.
fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn unknown(field: &Field<'_>, word: &str) -> Error {
    let error = field.error(format_args!("unknown option {:?}", shorten(word)));
    if word.contains(',') { error.hint("write one option per string") } else { error }
}
