//! [`Explanation`]: which layers of protection a container has, which it lacks, and why.

use super::host_report::Missing;
use super::typestate::{Container, Phase};
use crate::error::Result;
use crate::spec::{NamespaceSource, ValidSpec};
use std::fmt;

/// A layer between a workload and the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layer {
    /// A user namespace of its own: root inside is no root outside.
    UserNamespace,
    /// The workload's ids on the host are not the caller's.
    OwnIds,
    /// It sees its own mounts.
    MountNamespace,
    /// It sees and signals its own processes.
    PidNamespace,
    /// It has its own network devices.
    NetworkNamespace,
    /// It has its own System V IPC and POSIX message queues.
    IpcNamespace,
    /// It has its own host name.
    UtsNamespace,
    /// It sees its own cgroup as the root of all.
    CgroupNamespace,
    /// It has no capability.
    NoCapabilities,
    /// No program that it executes gains a privilege.
    NoNewPrivileges,
    /// A filter of system calls.
    Seccomp,
    /// It cannot change its root directory.
    ReadOnlyRoot,
    /// Files of `/proc` and `/sys` that tell about the host are covered.
    MaskedPaths,
    /// It cannot use up the host's memory.
    MemoryLimit,
    /// It cannot use up the host's CPU time.
    CpuLimit,
    /// It cannot use up the host's processes.
    PidsLimit,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::UserNamespace => "user namespace",
            Self::OwnIds => "own ids",
            Self::MountNamespace => "mount namespace",
            Self::PidNamespace => "pid namespace",
            Self::NetworkNamespace => "network namespace",
            Self::IpcNamespace => "ipc namespace",
            Self::UtsNamespace => "uts namespace",
            Self::CgroupNamespace => "cgroup namespace",
            Self::NoCapabilities => "no capabilities",
            Self::NoNewPrivileges => "no new privileges",
            Self::Seccomp => "seccomp",
            Self::ReadOnlyRoot => "read-only root",
            Self::MaskedPaths => "masked paths",
            Self::MemoryLimit => "memory limit",
            Self::CpuLimit => "cpu limit",
            Self::PidsLimit => "pids limit",
        })
    }
}

/// Which [`Layer`]s a container has: see [`Container::explain`].
#[derive(Clone, Debug)]
pub struct Explanation {
    layers: Vec<(Layer, Option<Missing>)>,
}

impl Explanation {
    /// Why the container lacks `layer`; `None` if it has it.
    #[must_use]
    pub fn missing(&self, layer: Layer) -> Option<&Missing> {
        self.layers.iter().find(|(looked_at, _)| *looked_at == layer)?.1.as_ref()
    }

    /// Every layer, with why the container lacks it.
    pub fn iter(&self) -> impl Iterator<Item = (Layer, Option<&Missing>)> {
        self.layers.iter().map(|(layer, missing)| (*layer, missing.as_ref()))
    }
}

/// One line for each layer: `LAYER: holds`, or `LAYER: missing: CAUSE (REMEDY)`.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(layer, missing)| match missing {
            None => writeln!(f, "{layer}: holds"),
            Some(missing) => writeln!(f, "{layer}: missing: {missing}"),
        })
    }
}

impl<P: Phase> Container<P> {
    /// Says which layers of protection this container has, from its configuration and from what the host could give.
    /// Changes nothing, and works before [`create`](Self::create) as well as later.
    ///
    /// ```no_run
    /// use cofferdam::ContainerBuilder;
    ///
    /// # fn main() -> cofferdam::Result<()> {
    /// print!("{}", ContainerBuilder::new().host_network().args(["true"]).build()?.explain()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Stale`](crate::ErrorKind::Stale) if the recorded configuration is damaged.
    pub fn explain(&self) -> Result<Explanation> {
        let configured = self.core.configured()?;
        Ok(explain(&configured.valid, &self.core.record.unapplied_limits))
    }
}

fn explain(spec: &ValidSpec, unapplied: &[String]) -> Explanation {
    let namespaces = &spec.namespaces;
    let process = &spec.process;
    let capabilities = process.capabilities.bounding | process.capabilities.permitted;
    let resources = &spec.resources;
    let limits_processes = process.rlimits.iter().any(|limit| limit.is_of_processes())
        && namespaces.user != NamespaceSource::Inherit;
    let layers = vec![
        (Layer::UserNamespace, namespace(&namespaces.user, "without_user_namespace")),
        (Layer::OwnIds, own_ids(spec)),
        (Layer::MountNamespace, namespace(&namespaces.mount, "")),
        (Layer::PidNamespace, namespace(&namespaces.pid, "")),
        (Layer::NetworkNamespace, namespace(&namespaces.network, "host_network")),
        (Layer::IpcNamespace, namespace(&namespaces.ipc, "")),
        (Layer::UtsNamespace, namespace(&namespaces.uts, "")),
        (Layer::CgroupNamespace, namespace(&namespaces.cgroup, "")),
        (
            Layer::NoCapabilities,
            given_up(capabilities.is_empty(), "the workload has capabilities", "ask for no capability"),
        ),
        (
            Layer::NoNewPrivileges,
            given_up(
                process.no_new_privileges,
                "a set-user-ID program gains privileges",
                "leave process.noNewPrivileges on",
            ),
        ),
        (
            Layer::Seccomp,
            given_up(
                spec.seccomp.is_some(),
                "no filter of system calls was asked for",
                "leave linux.seccomp as it is",
            ),
        ),
        (
            Layer::ReadOnlyRoot,
            given_up(
                spec.root_readonly,
                "the root directory is writable",
                "make it read-only, with a scratch or tmpfs where the workload writes",
            ),
        ),
        (
            Layer::MaskedPaths,
            given_up(
                !spec.masked_paths.is_empty(),
                "no path is masked",
                "list linux.maskedPaths as the builder does",
            ),
        ),
        (
            Layer::MemoryLimit,
            limit(resources.memory.limit.is_some_and(|limit| limit > 0), "memory", "memory_limit", unapplied),
        ),
        (
            Layer::CpuLimit,
            limit(resources.cpu.quota.is_some_and(|quota| quota > 0), "cpu", "cpu_limit", unapplied),
        ),
        (
            Layer::PidsLimit,
            match limits_processes {
                true => None,
                false => limit(resources.pids_limit.is_some(), "pids", "pids_limit", unapplied),
            },
        ),
    ];
    Explanation { layers }
}

/// What is missing if the namespace is not the container's own. `method` is the builder's method that gives it up, or
/// empty if there is none.
fn namespace(source: &NamespaceSource, method: &str) -> Option<Missing> {
    match source {
        NamespaceSource::New => None,
        NamespaceSource::Path(path) => Some(Missing::new(
            format!("it is shared with what else is in {path:?}"),
            "list the namespace without a path",
        )),
        NamespaceSource::Inherit if method.is_empty() => {
            Some(Missing::new("it is the caller's", "list the namespace in linux.namespaces"))
        }
        NamespaceSource::Inherit => {
            Some(Missing::new("it is the caller's", format!("leave {method}() out, or list the namespace")))
        }
    }
}

fn own_ids(spec: &ValidSpec) -> Option<Missing> {
    if spec.namespaces.user == NamespaceSource::Inherit {
        return Some(Missing::new("ids inside are the host's ids", "leave without_user_namespace() out"));
    }
    let caller = rustix::process::geteuid().as_raw();
    let is_mapped = spec.id_maps.uids.iter().any(|map| map.host <= caller && caller - map.host < map.size);
    is_mapped.then(|| {
        Missing::new(
            "the container's root is the caller's own user on the host",
            "bind only what the workload may have, or run as root, whose containers have ids of their own",
        )
    })
}

fn given_up(holds: bool, cause: &str, remedy: &str) -> Option<Missing> {
    (!holds).then(|| Missing::new(cause, remedy))
}

/// What is missing if the limit that `method` sets is not in force. `controller` is a key of `linux.resources`.
fn limit(is_set: bool, controller: &str, method: &str, unapplied: &[String]) -> Option<Missing> {
    let prefix = format!("linux.resources.{controller}.");
    if unapplied.iter().any(|field| field.starts_with(&prefix)) {
        let cause = format!("{method}() could not be obeyed, and best_effort_limits() was called");
        return Some(Missing::new(cause, "have a cgroup delegated to this user"));
    }
    (!is_set).then(|| Missing::new("no limit was asked for", format!("call {method}()")))
}
