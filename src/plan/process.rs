//! What one process of the container becomes: init's workload, and each process that is executed beside it.

use crate::error::Result;
use crate::host::facts::SecurityModules;
use crate::spec::{
    self, Capabilities, ConsoleSize, ExecCpuAffinity, IdMap, IdMaps, IoPriority, MemoryPolicy,
    NamespaceSource, NumberSet, Personality, Rlimit, Scheduler, User, ValidSpec,
};
use core::time::Duration;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::path::PathBuf;

/// A process of the workload: its program, and the attributes that it gets before execve(2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessPlan {
    pub(crate) argv: Vec<CString>,
    pub(crate) envp: Vec<CString>,
    #[serde(with = "path_bytes")]
    pub(crate) cwd: PathBuf,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) user: User,
    pub(crate) capabilities: Capabilities,
    pub(crate) no_new_privileges: bool,
    pub(crate) io_priority: Option<IoPriority>,
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    pub(crate) personality: Option<Personality>,
    pub(crate) apparmor_profile: Option<String>,
    pub(crate) selinux_label: Option<String>,
    /// A terminal in place of the standard streams.
    pub(crate) terminal: Option<TerminalPlan>,
}

/// A path as its bytes, because it need not be UTF-8.
mod path_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Vec::deserialize(deserializer).map(|bytes| OsString::from_vec(bytes).into())
    }
}

/// A further process of a running container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExecPlan {
    pub(crate) process: ProcessPlan,
    pub(crate) options: ExecOptions,
    /// The processors that it runs on, before and after it joins the container's cgroups.
    pub(crate) affinity: ExecCpuAffinity,
}

/// What a caller can ask for beyond the `process` object of the OCI configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExecOptions {
    /// Its user, looked up in the container's `/etc/passwd` and `/etc/group`. Decides the ids and groups.
    pub(crate) user: Option<Account>,
    /// Whether it has the groups of its process, and not those that `/etc/group` gives that user.
    pub(crate) keeps_groups: bool,
    /// The ids that this user may have; empty if the configuration does not say.
    pub(crate) id_maps: IdMaps,
    /// Whether the sandbox kills the process when the caller's connection closes.
    pub(crate) attached: bool,
    /// After which time the sandbox kills the process and what it started.
    pub(crate) timeout: Option<Duration>,
}

/// A user of the container's `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Account {
    Name(String),
    /// Of this uid, whether or not the file has a line for it.
    Uid(u32),
}

impl Account {
    /// Reads a name, or a decimal uid. A number never is a name: the image could give it any uid. `None` for what is
    /// neither, or would be either to different programs: `01`, `+1`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.as_bytes() {
            [] | [b'+' | b'-', ..] => None,
            [b'0', _, ..] if is_number => None,
            _ if is_number => text.parse().ok().map(Self::Uid),
            _ => Some(Self::Name(text.to_owned())),
        }
    }
}

/// The terminal of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TerminalPlan {
    /// The size it starts with.
    pub(crate) size: Option<ConsoleSize>,
    /// Whether it passes newlines on as they are written.
    pub(crate) keep_newlines: bool,
}

impl ProcessPlan {
    /// Plans `process` for the container that `spec` describes.
    pub(crate) fn new(process: &spec::ValidProcess, spec: &ValidSpec) -> Self {
        Self {
            argv: process.args.clone(),
            envp: process.env.clone(),
            cwd: process.cwd.clone(),
            rlimits: process.rlimits.clone(),
            user: process.user.clone(),
            capabilities: process.capabilities,
            no_new_privileges: process.no_new_privileges,
            io_priority: process.io_priority,
            scheduler: process.scheduler,
            memory_policy: spec.memory_policy.clone(),
            personality: spec.personality,
            apparmor_profile: process.apparmor_profile.clone(),
            selinux_label: process.selinux_label.clone(),
            terminal: process
                .terminal
                .then_some(TerminalPlan { size: process.console_size, keep_newlines: false }),
        }
    }

    /// The same process for this job.
    pub(crate) fn execute_instead(&mut self, JobPlan { argv, envp, cwd }: JobPlan) {
        (self.argv, self.envp, self.cwd) = (argv, envp, cwd);
    }

    /// The same process as another user, once the sandbox has found that user inside the container.
    pub(crate) fn run_as(self, user: User) -> Self {
        Self { user, ..self }
    }
}

/// What a created container executes in place of its own program. All else about that process stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobPlan {
    argv: Vec<CString>,
    envp: Vec<CString>,
    #[serde(with = "path_bytes")]
    cwd: PathBuf,
}

impl JobPlan {
    /// Plans the job of a validated `process`.
    pub(crate) fn new(process: &spec::ValidProcess) -> Self {
        Self { argv: process.args.clone(), envp: process.env.clone(), cwd: process.cwd.clone() }
    }
}

/// The processors that the container's processes ask for once they are in its cgroups, whatever their caller is
/// restricted to: all, of which the kernel grants those of the cpuset. With the cpuset's own list instead, an update that
/// widens the cpuset would have no effect. `None` if no cpuset is in force: the caller's own restriction holds then.
pub(super) fn processors(spec: &ValidSpec, unapplied_limits: &[String]) -> Option<NumberSet> {
    let in_force = !unapplied_limits.iter().any(|field| field == "linux.resources.cpu.cpus");
    (in_force && spec.resources.cpu.cpus.is_some()).then(NumberSet::every_processor)
}

impl ExecPlan {
    /// Plans `process` in the container that `spec` describes, which runs without the `unapplied_limits`.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) for a label of a security module that the host does not
    /// have.
    pub(crate) fn new(
        process: &spec::ValidProcess,
        spec: &ValidSpec,
        lsms: SecurityModules,
        unapplied_limits: &[String],
        options: ExecOptions,
    ) -> Result<Self> {
        lsms.check_labels(process)?;
        let mut affinity = process.exec_cpu_affinity.clone();
        // "If omitted or empty, container's default CPU affinity, as defined by cpu.cpus property, is used." - OCI
        // config.md, of `final`
        affinity.last = affinity.last.or_else(|| processors(spec, unapplied_limits));
        Ok(Self { process: ProcessPlan::new(process, spec), options, affinity })
    }
}

/// The uid and gid on the host of a process that runs as `user` in the container that `spec` describes; the caller's
/// `own` where the configuration does not say how they are mapped.
pub(crate) fn host_ids_of(user: &User, spec: &ValidSpec, own: (u32, u32)) -> (u32, u32) {
    if spec.namespaces.user == NamespaceSource::Inherit {
        return (user.uid, user.gid);
    }
    let IdMaps { uids, gids } = &spec.id_maps;
    (host_id(uids, user.uid).unwrap_or(own.0), host_id(gids, user.gid).unwrap_or(own.1))
}

/// The host id that `id` of the container is mapped to.
pub(super) fn host_id(maps: &[IdMap], id: u32) -> Option<u32> {
    maps.iter().find_map(|map| {
        let offset = id.checked_sub(map.container)?;
        (offset < map.size).then(|| map.host + offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_uid_and_never_a_name() {
        assert_eq!(Account::parse("1000"), Some(Account::Uid(1000)));
        assert_eq!(Account::parse("0"), Some(Account::Uid(0)));
        for name in ["web", "_apt", "7zip", "0x1"] {
            assert_eq!(Account::parse(name), Some(Account::Name(name.into())));
        }
        for neither in ["", "+1", "-1", "+", "00", "01", "4294967296"] {
            assert_eq!(Account::parse(neither), None, "{neither}");
        }
    }
}
