//! `process`: what runs, as whom, with which powers.

use bitflags::bitflags;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::path::PathBuf;

/// `process`, validated.
#[derive(Clone, Debug)]
pub struct Process {
    /// `process.terminal`.
    pub terminal: bool,
    /// `process.args`: at least one, the first not empty, none with a NUL.
    pub args: Vec<CString>,
    /// `process.env`: each `NAME=value`, last duplicate wins, first-seen order kept.
    pub env: Vec<CString>,
    /// `process.cwd`: absolute.
    pub cwd: PathBuf,
    /// `process.user`.
    pub user: User,
    /// `process.capabilities`; all sets empty where the field is absent.
    pub capabilities: Capabilities,
    /// `process.rlimits`: no duplicates, soft at most hard.
    pub rlimits: Vec<Rlimit>,
    /// `process.noNewPrivileges`.
    pub no_new_privileges: bool,
    /// `process.oomScoreAdj`: -1000 to 1000.
    pub oom_score_adj: Option<i32>,
}

/// `process.user`: ids as seen inside the container's user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// `uid`.
    pub uid: u32,
    /// `gid`.
    pub gid: u32,
    /// `additionalGids`.
    pub additional_gids: Vec<u32>,
    /// `umask`, at most `0o777`.
    pub umask: Option<u32>,
}

/// The five capability sets, read off `process.capabilities`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// `bounding`.
    pub bounding: CapSet,
    /// `effective`: within `permitted`.
    pub effective: CapSet,
    /// `inheritable`.
    pub inheritable: CapSet,
    /// `permitted`.
    pub permitted: CapSet,
    /// `ambient`: within `permitted` and `inheritable`.
    pub ambient: CapSet,
}

bitflags! {
    /// A set of Linux capabilities as the kernel's bit mask: bit `n` is capability number `n` (capabilities(7)).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct CapSet: u64 {
        /// `CAP_SYS_ADMIN`, the one the mount and seccomp code asks about.
        const SYS_ADMIN = 1 << 21;
        /// Every other capability, those of future kernels included.
        const _ = !0;
    }
}

/// One entry of `process.rlimits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// The `RLIMIT_*` number (getrlimit(2)).
    pub resource: u32,
    /// The soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// The hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}
