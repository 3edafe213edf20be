//! `hooks`: programs the runtime runs at fixed points of the lifecycle.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The six lists of `hooks`, in the order of the lifecycle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "one field per OCI hook kind")]
pub struct Hooks {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// `path`: absolute.
    pub path: PathBuf,
    /// `args`, `argv[0]` included; the path alone where absent.
    pub args: Vec<String>,
    /// `env`: the hook's whole environment.
    pub env: Vec<String>,
    /// `timeout`: positive.
    pub timeout: Option<Duration>,
}
