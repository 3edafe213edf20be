//! `hooks`: programs the runtime runs at fixed points of the lifecycle.

use super::field::{Field, Origin};
use crate::error::Result;
use core::time::Duration;
use oci_spec::runtime;
use serde::{Deserialize, Serialize};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The point of the lifecycle a hook runs at (OCI config.md, "POSIX-platform Hooks").
///
/// Closed on purpose: the specification's six, in the order of the lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookKind {
    /// Runs on the host when the root is assembled. Deprecated: the next three replace it.
    Prestart,
    /// Runs on the host when the root is assembled and init has not entered it yet.
    CreateRuntime,
    /// Runs after those: a program of the host, in the container's namespaces.
    CreateContainer,
    /// Runs in the container before the program is executed: a program of the container.
    StartContainer,
    /// Runs on the host after the program was executed.
    Poststart,
    /// Runs on the host after the container was deleted.
    Poststop,
}

impl HookKind {
    /// The key below `hooks`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }
}

/// The six lists of `hooks`, in the order of the lifecycle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
// One field per OCI hook kind.
pub(crate) struct Hooks {
    pub(crate) prestart: Vec<Hook>,
    pub(crate) create_runtime: Vec<Hook>,
    pub(crate) create_container: Vec<Hook>,
    pub(crate) start_container: Vec<Hook>,
    pub(crate) poststart: Vec<Hook>,
    pub(crate) poststop: Vec<Hook>,
}

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hook {
    /// `path`: absolute.
    pub(crate) path: PathBuf,
    /// `args`, `argv[0]` included; the path alone where absent.
    pub(crate) args: Vec<String>,
    /// `env`: the hook's whole environment; `None` where absent.
    pub(crate) env: Option<Vec<String>>,
    /// `timeout`: positive.
    pub(crate) timeout: Option<Duration>,
}

impl Hooks {
    /// Reads the hooks of a record. They were valid when the container was created.
    ///
    /// # Errors
    /// As [`ValidSpec::new`](super::ValidSpec::new).
    pub(crate) fn from_record(hooks: Option<&runtime::Hooks>) -> Result<Self> {
        Self::new(&Field::document(Origin::ConfigJson), hooks)
    }

    /// Checks `hooks`.
    pub(super) fn new(document: &Field<'_>, hooks: Option<&runtime::Hooks>) -> Result<Self> {
        let Some(hooks) = hooks else {
            return Ok(Self::default());
        };
        let field = document.key("hooks");
        let list = |kind: HookKind, hooks: &Option<Vec<runtime::Hook>>| -> Result<Vec<Hook>> {
            let field = field.key(kind.key());
            let hooks = hooks.as_deref().unwrap_or_default();
            hooks.iter().enumerate().map(|(index, hook)| Hook::new(&field.index(index), hook)).collect()
        };
        Ok(Self {
            prestart: list(HookKind::Prestart, hooks.prestart())?,
            create_runtime: list(HookKind::CreateRuntime, hooks.create_runtime())?,
            create_container: list(HookKind::CreateContainer, hooks.create_container())?,
            start_container: list(HookKind::StartContainer, hooks.start_container())?,
            poststart: list(HookKind::Poststart, hooks.poststart())?,
            poststop: list(HookKind::Poststop, hooks.poststop())?,
        })
    }
}

impl Hook {
    /// `path`, for execve(2).
    pub(crate) fn c_path(&self) -> CString {
        c_string(self.path.as_os_str())
    }

    /// `args`, for execve(2).
    pub(crate) fn argv(&self) -> Vec<CString> {
        self.args.iter().map(|arg| c_string(OsStr::new(arg))).collect()
    }

    /// `env`, for execve(2).
    pub(crate) fn envp(&self) -> Option<Vec<CString>> {
        let variables =
            |env: &Vec<String>| env.iter().map(|variable| c_string(OsStr::new(variable))).collect();
        self.env.as_ref().map(variables)
    }

    fn new(field: &Field<'_>, hook: &runtime::Hook) -> Result<Self> {
        // "This specification extends the IEEE standard in that `path` MUST be absolute." - OCI config.md
        let path = field.key("path").absolute(hook.path())?;
        let (args_field, env_field) = (field.key("args"), field.key("env"));
        let mut args = hook.args().clone().unwrap_or_default();
        for (index, arg) in args.iter().enumerate() {
            args_field.index(index).c_string(arg)?;
        }
        if args.is_empty() {
            args.push(path.to_string_lossy().into_owned());
        }
        let env = hook.env().clone();
        for (index, variable) in env.iter().flatten().enumerate() {
            env_field.index(index).variable(variable.as_bytes())?;
        }
        // "If set, `timeout` MUST be greater than zero." - OCI config.md
        let timeout = match hook.timeout() {
            None => None,
            Some(seconds) => match u64::try_from(seconds) {
                Ok(seconds @ 1..) => Some(Duration::from_secs(seconds)),
                _ => {
                    let error = field.key("timeout").error(format_args!("{seconds} is not positive"));
                    return Err(error.hint("give whole seconds, or leave it out"));
                }
            },
        };
        Ok(Self { path, args, env, timeout })
    }
}

fn c_string(text: &OsStr) -> CString {
    CString::new(text.as_bytes()).expect("validation refused NUL")
}
