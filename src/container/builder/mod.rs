//! [`ContainerBuilder`]: a container described in Rust, or read from an OCI bundle.
//!
//! Both are the same thing underneath, an OCI configuration and a few extras it has no field for, and go through the
//! same validation and the same plan. Nothing here touches the host but to look at it. The methods about limits are in
//! [`limits`].

mod bundle;
pub(super) mod default_spec;
mod limits;

pub use limits::IoLimit;

use super::creating::Blueprint;
use super::handle::Handle;
use super::live::pod::PodSandbox;
use super::{Container, Creating, Exit, Output};
use crate::cgroup;
use crate::error::{Error, ErrorKind, Result};
use crate::helper::{ExtraFds, Zygote};
use crate::host;
use crate::host::Needs;
use crate::id::ContainerId;
use crate::plan::{DeviceLimits, Extras, Plan, Scratch};
use crate::process::console::{ConsoleTarget, WindowSize};
use crate::process::{Stdio, UserLog};
use crate::spec::{CgroupsPath, HookKind, IdMap, MountKind, Origin, ValidSpec};
use crate::state::{RawSpec, Record, StateRoot};
use default_spec::{bind_mount, build, default_spec, tmpfs_mount};
use oci_spec::runtime::{
    BoxBuilder, Capabilities, Hook, Linux, LinuxCapabilitiesBuilder, LinuxIdMapping, LinuxIdMappingBuilder,
    LinuxNamespaceType, LinuxSeccomp, Mount, PosixRlimit, Process, RootBuilder, Spec,
};
use rustix::fd::OwnedFd;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Describes a container.
///
/// The default is the hardened end of what the crate can do: user namespace, no capability, no_new_privs, a seccomp
/// allow-list, the host's system directories read-only as the rootfs, no network but loopback, `/tmp` in memory, 1024
/// processes. Every relaxation is a method named after what it gives away.
///
/// ```no_run
/// use cofferdam::{ContainerBuilder, Stdio};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let output = ContainerBuilder::new("hello").args(["sh", "-c", "echo hello from $(hostname)"]).output()?;
/// assert!(output.exit.outcome.success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`, `run` or `output`"]
pub struct ContainerBuilder {
    id: Result<ContainerId>,
    pub(super) spec: Spec,
    pub(super) extras: Extras,
    stdio: [Stdio; 3],
    extra_fds: ExtraFds,
    console: ConsoleTarget,
    origin: Origin,
    bundle: Option<PathBuf>,
    state_root: Option<StateRoot>,
    pid_file: Option<PathBuf>,
    user_log: Option<UserLog>,
    zygote: Option<Zygote>,
    /// Choose the id mappings when the host is known.
    default_ids: bool,
    /// Whose sandbox to run in.
    pub(super) pod: Option<ContainerId>,
    /// Whether what the annotations say of a pod is to be followed.
    pub(super) pod_annotations: bool,
}

/// What a container sees as its root directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rootfs(Source);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Host,
    Directory(PathBuf),
}

impl Rootfs {
    /// The host's own system directories (`/usr`, `/bin`, `/lib`, `/etc`, `/opt` and their like) read-only, without its
    /// password hashes, and nothing of its users, services or devices. Needs no image; the default.
    #[must_use]
    pub fn host() -> Self {
        Self(Source::Host)
    }

    /// This directory: an unpacked image. Read-only unless asked for otherwise.
    #[must_use]
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self(Source::Directory(path.into()))
    }
}

impl ContainerBuilder {
    /// A container called `id`, hardened as described on the type. A bad id is `build`'s error.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: ContainerId::new(id),
            spec: default_spec(),
            extras: Extras { host_rootfs: true, idmap_rootfs: true, ..Extras::default() },
            stdio: Default::default(),
            extra_fds: ExtraFds::default(),
            console: ConsoleTarget::default(),
            origin: Origin::Builder,
            bundle: None,
            state_root: None,
            pid_file: None,
            user_log: None,
            zygote: None,
            default_ids: true,
            pod: None,
            pod_annotations: true,
        }
    }

    /// The container that the OCI bundle in `directory` describes: exactly what its `config.json` says, no hardening
    /// added and none left out. The methods of the builder then change that configuration.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] naming the field, or the file that cannot be read.
    pub fn from_bundle(id: impl Into<String>, directory: impl AsRef<Path>) -> Result<Self> {
        let (bundle, spec) = bundle::load(directory.as_ref())?;
        let extras = bundle::extras_of(&spec)?;
        let mut builder = Self::new(id);
        (builder.spec, builder.extras) = (spec, extras);
        (builder.origin, builder.bundle, builder.default_ids) = (Origin::ConfigJson, Some(bundle), false);
        Ok(builder)
    }

    /// What to see as `/`.
    pub fn rootfs(mut self, rootfs: Rootfs) -> Self {
        self.extras.host_rootfs = rootfs.0 == Source::Host;
        if let Source::Directory(path) = rootfs.0 {
            let readonly = self.spec.root().as_ref().is_none_or(|root| root.readonly().unwrap_or(true));
            let root = build(|| RootBuilder::default().path(path).readonly(readonly).build());
            self.spec.set_root(Some(root));
        }
        self
    }

    /// Let the workload write to its rootfs directory itself.
    pub fn writable_rootfs(mut self) -> Self {
        self.set_root_readonly(false);
        self
    }

    /// A writable layer in memory over the rootfs, thrown away with the container. At most `size` bytes; half of the
    /// host's memory if `None`, which is tmpfs(5)'s own default.
    pub fn scratch(mut self, size: Option<u64>) -> Self {
        self.extras.scratch = Some(Scratch { size });
        self.set_root_readonly(false);
        self
    }

    /// Whether a rootfs directory is shown with its on-disk ids mapped into the container's user namespace, so that
    /// root's files are root's (mount_setattr(2), "ID-mapped mounts"). On by default for privileged callers; off for
    /// file systems that cannot.
    pub fn idmapped_rootfs(mut self, yes: bool) -> Self {
        self.extras.idmap_rootfs = yes;
        self
    }

    /// The program and its arguments. A name without a slash is looked up in the container's `PATH`.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        let args: Vec<String> = args.into_iter().map(Into::into).collect();
        self.process().set_args(Some(args));
        self
    }

    /// Sets one environment variable. The workload gets nothing of the caller's environment.
    pub fn env(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let entry = format!("{}={}", name.as_ref(), value.as_ref());
        let process = self.process();
        let mut env = process.env().clone().unwrap_or_default();
        env.push(entry);
        process.set_env(Some(env));
        self
    }

    /// The working directory inside the container, absolute. Created if it is missing and the root can be written to.
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.process().set_cwd(cwd.into());
        self
    }

    /// Who the workload is, as ids inside the container.
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        let process = self.process();
        let mut user = process.user().clone();
        user.set_uid(uid).set_gid(gid);
        process.set_user(user);
        self
    }

    /// Supplementary groups, as ids inside the container.
    pub fn groups(mut self, gids: impl IntoIterator<Item = u32>) -> Self {
        let process = self.process();
        let mut user = process.user().clone();
        user.set_additional_gids(Some(gids.into_iter().collect()));
        process.set_user(user);
        self
    }

    /// The file mode creation mask; 022 by default.
    pub fn umask(mut self, umask: u32) -> Self {
        let process = self.process();
        let mut user = process.user().clone();
        user.set_umask(Some(umask));
        process.set_user(user);
        self
    }

    /// The host name the container sees.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.spec.set_hostname(Some(name.into()));
        self
    }

    /// Shows the host's `source` at `destination`, read-only.
    pub fn bind_ro(self, source: impl AsRef<Path>, destination: impl AsRef<Path>) -> Self {
        self.mount(bind_mount(source.as_ref(), destination.as_ref(), false))
    }

    /// Shows the host's `source` at `destination`, writable.
    pub fn bind_rw(self, source: impl AsRef<Path>, destination: impl AsRef<Path>) -> Self {
        self.mount(bind_mount(source.as_ref(), destination.as_ref(), true))
    }

    /// An empty directory in memory at `destination`, at most `size` bytes.
    pub fn tmpfs(self, destination: impl AsRef<Path>, size: u64) -> Self {
        self.mount(tmpfs_mount(destination.as_ref(), size))
    }

    /// Any mount of the OCI configuration (OCI config.md, "Mounts"). One for a destination that is there already, like
    /// `/tmp`, takes its place.
    pub fn mount(mut self, mount: Mount) -> Self {
        let mut mounts = self.spec.mounts().clone().unwrap_or_default();
        mounts.retain(|other| other.destination() != mount.destination());
        mounts.push(mount);
        self.spec.set_mounts(Some(mounts));
        self
    }

    /// Standard input of the workload; nothing by default.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[0] = stdio.into();
        self
    }

    /// Standard output of the workload; thrown away by default.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[1] = stdio.into();
        self
    }

    /// Standard error of the workload; thrown away by default.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[2] = stdio.into();
        self
    }

    /// All three standard streams are the caller's.
    pub fn inherit_stdio(mut self) -> Self {
        self.stdio = [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()];
        self
    }

    /// A further descriptor, at this number in the workload: 3 or more.
    pub fn fd(mut self, number: i32, fd: impl Into<OwnedFd>) -> Self {
        self.extra_fds.give(number, fd.into());
        self
    }

    /// The caller's own descriptors 3, 4, ... at the same numbers in the workload, this many. What is not open is
    /// `create`'s error.
    pub fn inherit_fds(mut self, count: u32) -> Self {
        self.extra_fds.inherit(count);
        self
    }

    /// Gives the workload a terminal in place of the three standard streams: `process.terminal`. The caller's end is
    /// taken from the created container (`take_pty`).
    pub fn terminal(mut self) -> Self {
        self.process().set_terminal(Some(true));
        self.console = ConsoleTarget::Caller;
        self
    }

    /// Gives the workload a terminal in place of the three standard streams, and sends the caller's end to whoever
    /// listens on the Unix stream socket `path`: once, when the container is created, as one descriptor with one short
    /// message, as engines expect of `--console-socket`.
    pub fn console_socket(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.process().set_terminal(Some(true));
        self.console = ConsoleTarget::Socket(std::path::absolute(&path).unwrap_or(path));
        self
    }

    /// The size the terminal starts with: `process.consoleSize`. Ignored without a terminal.
    pub fn terminal_size(mut self, size: WindowSize) -> Self {
        let size = build(|| BoxBuilder::default().height(size.rows).width(size.columns).build());
        self.process().set_console_size(Some(size));
        self
    }

    /// Kills the workload if it runs longer than this. The sandbox keeps the time, so it holds also when this program
    /// has ended.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.extras.timeout = Some(limit);
        self
    }

    /// A resource limit of setrlimit(2). One of a type that is there already takes its place.
    pub fn rlimit(mut self, rlimit: PosixRlimit) -> Self {
        let process = self.process();
        let mut rlimits = process.rlimits().clone().unwrap_or_default();
        rlimits.retain(|other| other.typ() != rlimit.typ());
        rlimits.push(rlimit);
        process.set_rlimits(Some(rlimits));
        self
    }

    /// Gives the workload these capabilities in its user namespace: bounding, permitted, effective, inheritable and
    /// ambient. The seccomp allow-list grows by the calls they are for.
    pub fn grant_capabilities(mut self, granted: Capabilities) -> Self {
        let sets = build(|| {
            LinuxCapabilitiesBuilder::default()
                .bounding(granted.clone())
                .effective(granted.clone())
                .inheritable(granted.clone())
                .permitted(granted.clone())
                .ambient(granted.clone())
                .build()
        });
        self.process().set_capabilities(Some(sets));
        let names: Vec<String> = granted.iter().map(ToString::to_string).collect();
        let bits = crate::spec::parse_capability_set(Origin::Builder, "process.capabilities", &names);
        let bits = bits.unwrap_or_default();
        if self.linux().seccomp().is_some() {
            self.linux().set_seccomp(Some(crate::seccomp::default_profile(bits)));
        }
        self
    }

    /// Lets set-user-ID programs and file capabilities raise the workload's privileges inside its namespaces.
    pub fn allow_new_privileges(mut self) -> Self {
        self.process().set_no_new_privileges(Some(false));
        self
    }

    /// Replaces the seccomp allow-list; `None` lets every system call through.
    pub fn seccomp(mut self, profile: Option<LinuxSeccomp>) -> Self {
        self.linux().set_seccomp(profile);
        self
    }

    /// Uses the caller's network instead of an empty one.
    pub fn host_network(mut self) -> Self {
        self.without_namespace(LinuxNamespaceType::Network);
        self
    }

    /// Runs without a user namespace: root inside is root on the host. Only for callers that are root.
    pub fn without_user_namespace(mut self) -> Self {
        self.without_namespace(LinuxNamespaceType::User);
        self.default_ids = false;
        self.linux().set_uid_mappings(None).set_gid_mappings(None);
        self
    }

    /// Which host ids the container's ids are, instead of a range chosen for it.
    pub fn id_mappings(mut self, uids: &[IdMap], gids: &[IdMap]) -> Self {
        self.default_ids = false;
        self.set_id_mappings(uids, gids);
        self
    }

    /// An annotation (OCI config.md, "Annotations").
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let mut annotations = self.spec.annotations().clone().unwrap_or_default();
        annotations.insert(key.into(), value.into());
        self.spec.set_annotations(Some(annotations));
        self
    }

    /// Adds a hook, after those of its kind that are there already (OCI config.md, "POSIX-platform Hooks").
    ///
    /// Hooks are trusted: those of the runtime namespace run with the caller's ids and capabilities. One gets its own
    /// arguments and environment and the container's state on standard input, and nothing else: its working directory
    /// is the bundle (createContainer: the container's root; startContainer: `/`), its standard output is thrown away.
    /// In its state, `pid` is the sandbox, whose mount, net, ipc and uts namespaces are the container's: entering the
    /// mount namespace leads to the container's root, also before the pivot; unless the configuration has no new one, and
    /// the container is created already. A hook without a timeout may take forever.
    pub fn hook(mut self, kind: HookKind, hook: Hook) -> Self {
        let mut hooks = self.spec.hooks().clone().unwrap_or_default();
        let mut list = match kind {
            HookKind::Prestart => hooks.prestart(),
            HookKind::CreateRuntime => hooks.create_runtime(),
            HookKind::CreateContainer => hooks.create_container(),
            HookKind::StartContainer => hooks.start_container(),
            HookKind::Poststart => hooks.poststart(),
            HookKind::Poststop => hooks.poststop(),
        }
        .clone()
        .unwrap_or_default();
        list.push(hook);
        match kind {
            HookKind::Prestart => hooks.set_prestart(Some(list)),
            HookKind::CreateRuntime => hooks.set_create_runtime(Some(list)),
            HookKind::CreateContainer => hooks.set_create_container(Some(list)),
            HookKind::StartContainer => hooks.set_start_container(Some(list)),
            HookKind::Poststart => hooks.set_poststart(Some(list)),
            HookKind::Poststop => hooks.set_poststop(Some(list)),
        };
        self.spec.set_hooks(Some(hooks));
        self
    }

    /// Where the container's record is kept, instead of the caller's own directory.
    pub fn state_root(mut self, root: StateRoot) -> Self {
        self.state_root = Some(root);
        self
    }

    /// Where to write a line when the program starts and one when it ends, for the person who runs it: the time, the
    /// id, and what happened.
    ///
    /// ```text
    /// 2026-01-31T12:00:00.123Z web started
    /// 2026-01-31T12:00:05.004Z web exited with code 3
    /// ```
    ///
    /// The sandbox writes it, so it is complete also when this program has ended. It never waits: lines that nobody
    /// reads, or for which there is no room, are dropped. What cannot be opened is `create`'s error.
    pub fn user_log(mut self, to: impl Into<UserLog>) -> Self {
        self.user_log = Some(to.into());
        self
    }

    /// A file to write the sandbox's pid to, last of all, when the container is created.
    pub fn pid_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.pid_file = Some(path.into());
        self
    }

    /// Forks the container's gofer and sandbox from `zygote` instead of executing this program for each: the same
    /// container, sooner. [`Zygote`] says what has to be the same then and now. In a pod, the zygote of each container
    /// is its own.
    pub fn zygote(mut self, zygote: &Zygote) -> Self {
        self.zygote = Some(zygote.clone());
        self
    }

    /// The OCI configuration as it stands.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Checks everything that can be checked without changing the host, and plans the rest.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidId`], [`ErrorKind::InvalidSpec`] naming the field, [`ErrorKind::Unsupported`] naming what
    /// this host or this caller cannot do.
    pub fn build(mut self) -> Result<Container<Creating>> {
        let id = std::mem::replace(&mut self.id, ContainerId::new("moved"))?;
        let root = match self.state_root.take() {
            Some(root) => root,
            None => StateRoot::open_default()?,
        };
        self.extras.pod = self.find_pod()?;
        match self.extras.pod.clone() {
            Some(pod) if self.default_ids => self.take_ids_of(&PodSandbox::find(&root, &pod)?)?,
            None if self.default_ids => {
                let maps = host::probe(Needs::default())?.default_id_maps();
                self.set_id_mappings(&maps.uids, &maps.gids);
            }
            _ => {}
        }
        let bundle = self.bundle.clone().unwrap_or_else(|| self.spec_root());
        let sandbox_id = self.extras.pod.clone().unwrap_or_else(|| id.clone());
        let blueprint = blueprint(&id, &self.spec, self.extras, self.bundle.as_deref(), self.origin)?;
        let mut record = Record::new(id, sandbox_id, bundle, RawSpec::from_spec(&self.spec)?);
        record.extras = serde_json::to_value(&blueprint.extras)
            .map_err(|error| Error::new(ErrorKind::InvalidInput, "record", error.to_string()))?;
        record.unapplied_limits.clone_from(&blueprint.plan.unapplied_limits);
        record.pid_file = self.pid_file.map(|path| std::path::absolute(&path).unwrap_or(path));
        let core = Handle { root, record: Box::new(record), found: None, tether: None };
        let Self { stdio, extra_fds, console, user_log, zygote, .. } = self;
        Ok(Container::new(core, Blueprint { stdio, extra_fds, console, user_log, zygote, ..blueprint }))
    }

    /// Builds, creates, starts, waits and deletes.
    ///
    /// # Errors
    /// As each of these; whatever was made is gone again.
    pub fn run(self) -> Result<Exit> {
        let stopped = self.build()?.create()?.start()?.wait_stopped()?;
        let exit = stopped.exit().clone();
        stopped.delete()?;
        Ok(exit)
    }

    /// As [`run`](Self::run), and collects what the workload writes.
    ///
    /// # Errors
    /// As [`run`](Self::run), or a pipe that cannot be read.
    pub fn output(mut self) -> Result<Output> {
        self.stdio[1] = Stdio::piped();
        self.stdio[2] = Stdio::piped();
        let mut created = self.build()?.create()?;
        let (stdout, stderr) = (created.take_stdout(), created.take_stderr());
        let running = created.start()?;
        let (stdout, stderr) = read_both(stdout, stderr)?;
        let stopped = running.wait_stopped()?;
        let exit = stopped.exit().clone();
        stopped.delete()?;
        Ok(Output { exit, stdout, stderr })
    }

    /// Writes the container as an OCI bundle that any OCI runtime accepts: `directory/config.json`, and a `rootfs` if
    /// it has none of its own. The directory is made; it may exist if it is empty.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] naming the field, [`ErrorKind::AlreadyExists`] for a directory that is not empty.
    pub fn to_bundle(mut self, directory: impl AsRef<Path>) -> Result<()> {
        let host = host::probe(Needs { system_dirs: true, ..Needs::default() })?;
        if self.default_ids {
            let maps = host.default_id_maps();
            self.set_id_mappings(&maps.uids, &maps.gids);
        }
        let system_dirs = if self.extras.host_rootfs { host.system_dirs } else { Vec::new() };
        bundle::write(directory.as_ref(), self.spec, &self.extras, &system_dirs)
    }

    fn process(&mut self) -> &mut Process {
        if self.spec.process().is_none() {
            self.spec.set_process(default_spec().process().clone());
        }
        self.spec.process_mut().as_mut().expect("set just above if it was missing")
    }

    pub(super) fn linux(&mut self) -> &mut Linux {
        if self.spec.linux().is_none() {
            self.spec.set_linux(Some(Linux::default()));
        }
        self.spec.linux_mut().as_mut().expect("set just above if it was missing")
    }

    pub(super) fn without_namespace(&mut self, kind: LinuxNamespaceType) {
        let linux = self.linux();
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        namespaces.retain(|namespace| namespace.typ() != kind);
        linux.set_namespaces(Some(namespaces));
    }

    fn set_root_readonly(&mut self, readonly: bool) {
        if let Some(root) = self.spec.root_mut() {
            root.set_readonly(Some(readonly));
        }
    }

    fn set_id_mappings(&mut self, uids: &[IdMap], gids: &[IdMap]) {
        let convert = |maps: &[IdMap]| maps.iter().map(oci_mapping).collect::<Vec<_>>();
        self.linux().set_uid_mappings(Some(convert(uids))).set_gid_mappings(Some(convert(gids)));
    }

    fn spec_root(&self) -> PathBuf {
        match self.spec.root() {
            Some(root) if !self.extras.host_rootfs => root.path().clone(),
            _ => PathBuf::from("/"),
        }
    }
}

fn oci_mapping(map: &IdMap) -> LinuxIdMapping {
    build(|| {
        LinuxIdMappingBuilder::default().container_id(map.container).host_id(map.host).size(map.size).build()
    })
}

fn blueprint(
    id: &ContainerId,
    spec: &Spec,
    extras: Extras,
    bundle: Option<&Path>,
    origin: Origin,
) -> Result<Blueprint> {
    // The host's rootfs has no path: any absolute one satisfies the rule that there is one.
    let bundle = if extras.host_rootfs { Some(Path::new("/")) } else { bundle };
    let valid = ValidSpec::new(spec, bundle, origin)?;
    let cgroups = !valid.resources.is_empty()
        || valid.cgroups_path.is_some()
        || DeviceLimits::of(&valid, false).is_some()
        || valid.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Cgroup | MountKind::Cgroup2));
    let needs = Needs {
        cgroups,
        freezer: !extras.without_cgroup,
        service_manager: valid
            .cgroups_path
            .as_ref()
            .and_then(CgroupsPath::scope)
            .map(|_| cgroup::systemd::find as _),
        cgroups_path: valid.cgroups_path.as_ref().and_then(CgroupsPath::path),
        labels: valid.asks_for_labels(),
        system_dirs: extras.host_rootfs,
    };
    let plan = Plan::new(id, &valid, &extras, &host::probe(needs)?)?;
    Ok(Blueprint {
        plan,
        extras,
        stdio: Default::default(),
        extra_fds: ExtraFds::default(),
        console: ConsoleTarget::default(),
        user_log: None,
        zygote: None,
        origin: origin.as_str(),
    })
}

/// The blueprint of a container whose record says that its creation was never finished.
pub(super) fn blueprint_of(record: &Record) -> Result<Blueprint> {
    let extras: Extras = serde_json::from_value(record.extras.clone())
        .map_err(|error| Error::new(ErrorKind::Stale, "record", format!("extras: {error}")))?;
    blueprint(&record.id, &record.spec.parse()?, extras, Some(&record.bundle), Origin::ConfigJson)
}

/// Reads two pipes to their ends at once: a workload that fills one while we read the other must not stall.
fn read_both(stdout: Option<std::fs::File>, stderr: Option<std::fs::File>) -> Result<(Vec<u8>, Vec<u8>)> {
    use crate::error::OsContext;
    let read = |pipe: Option<std::fs::File>| -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match pipe {
            Some(mut pipe) => pipe.read_to_end(&mut bytes).map(|_| bytes),
            None => Ok(bytes),
        }
    };
    let (stdout, stderr) = std::thread::scope(|scope| {
        let stderr = scope.spawn(|| read(stderr));
        let stdout = read(stdout);
        (stdout, stderr.join().unwrap_or_else(|_| Err(std::io::Error::other("the reader panicked"))))
    });
    Ok((stdout.os(|| "read(stdout)")?, stderr.os(|| "read(stderr)")?))
}
