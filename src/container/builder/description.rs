//! [`ContainerBuilder`]: the description itself, where it starts from, and the methods without a subject of their own.

use super::bundle;
use super::default_spec::{build, default_spec};
use crate::container::create::restore_source::RestoreSource;
use crate::container::handle::{Handle, TemplateMemory, extras_of};
use crate::error::{Error, ErrorKind, Result};
use crate::helper::{ExtraFds, Zygote};
use crate::id::ContainerId;
use crate::plan::{Extras, OfTemplate};
use crate::process::console::ConsoleTarget;
use crate::process::{DEFAULT_OUTPUT_LIMIT, Stdio, UserLog};
use crate::spec::{HookKind, IdMap, Origin};
use crate::state::StateRoot;
use oci_spec::runtime::{
    Hook, Linux, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespaceType, Process, Spec,
};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The methods of the three standard streams.
pub(super) const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];

/// The hint for a limit of 0.
pub(in crate::container) const NO_LIMIT: &str = "to set no limit, leave the call out";

/// Describes a container.
///
/// The default is the hardened end of what the crate can do: user namespace, no capability, no_new_privs, a seccomp
/// allow-list, the host's system directories read-only as the rootfs, no network but loopback, `/tmp` in memory, 1024
/// processes, and [limits](crate::manual::privileges#other-limits-by-default) on what the kernel counts for the caller,
/// too. Every relaxation is a method named after what it gives away.
///
/// A method that adds one value of several ([`env`](Self::env), [`mount`](Self::mount), [`rlimit`](Self::rlimit))
/// replaces the value with the same name, destination or type; a method that takes a list ([`args`](Self::args),
/// [`groups`](Self::groups)) replaces the list. No method fails: what it cannot take is [`build`](Self::build)'s
/// error, which names the method. A configuration is JSON, so arguments, variables and paths have to be UTF-8.
///
/// A path on the host that is relative starts at the caller's current directory at the time of the call, as for
/// [`std::fs`]. What `config.json` of a bundle says is relative to the bundle.
///
/// ```no_run
/// use cofferdam::{ContainerBuilder, Stdio};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let output = ContainerBuilder::new().args(["sh", "-c", "echo hello from $(hostname)"]).output()?;
/// assert!(output.exit.outcome.success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`, `spawn`, `run` or `output`"]
pub struct ContainerBuilder {
    /// Its id, unless `build` makes one.
    pub(super) id: Option<ContainerId>,
    pub(super) spec: Spec,
    pub(super) extras: Extras,
    pub(super) stdio: [Stdio; 3],
    pub(in crate::container) output_limit: u64,
    pub(super) extra_fds: ExtraFds,
    pub(super) console: ConsoleTarget,
    pub(super) origin: Origin,
    pub(super) bundle: Option<PathBuf>,
    pub(super) state_root: Option<StateRoot>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) user_log: Option<UserLog>,
    pub(super) zygote: Option<Zygote>,
    pub(super) replace: bool,
    pub(super) keep_files: bool,
    /// The ids of [`Bind::map`](super::bind::Bind::map), by destination, until the container's own maps are known.
    pub(super) bind_maps: Vec<(PathBuf, Vec<IdMap>)>,
    /// By the destination of a mount, the method that made it.
    pub(super) mount_methods: Vec<(PathBuf, &'static str)>,
    /// The first argument that a method could not take.
    pub(super) refused: Option<Error>,
    /// The methods whose descriptors stayed with the builder that this one is a copy of.
    pub(super) left: BTreeSet<String>,
    /// Whether PID 1 is a reaper, if the caller said so.
    pub(super) init: Option<bool>,
    /// Take the id mappings that suit the caller.
    pub(super) default_ids: bool,
    /// The root container of the pod to run in.
    pub(super) pod: Option<ContainerId>,
    /// Join the pod that the annotations name.
    pub(super) pod_annotations: bool,
    /// The image that it restores, with [`Extras::restore`].
    pub(super) restored: Option<Arc<RestoreSource>>,
    /// What the workload is a copy of.
    pub(super) template: Option<TemplateMemory>,
}

impl ContainerBuilder {
    /// A container hardened as described on the type. [`build`](Self::build) gives it an id that no other container has,
    /// unless [`id`](Self::id) names it.
    pub fn new() -> Self {
        Self {
            id: None,
            spec: default_spec(),
            extras: Extras {
                host_rootfs: true,
                idmap_rootfs: true,
                cgroup_view: true,
                default_limits: true,
                ..Extras::default()
            },
            stdio: Default::default(),
            output_limit: DEFAULT_OUTPUT_LIMIT,
            extra_fds: ExtraFds::default(),
            console: ConsoleTarget::default(),
            origin: Origin::Builder,
            bundle: None,
            state_root: None,
            pid_file: None,
            user_log: None,
            zygote: None,
            replace: false,
            keep_files: false,
            bind_maps: Vec::new(),
            mount_methods: Vec::new(),
            refused: None,
            left: BTreeSet::new(),
            init: None,
            default_ids: true,
            pod: None,
            pod_annotations: false,
            restored: None,
            template: None,
        }
    }

    /// Describes a container as the one of `core` was described, without its id, streams and descriptors.
    pub(in crate::container) fn like(core: &Handle) -> Result<Self> {
        let mut extras = extras_of(&core.record)?;
        // A range of its own is another one for each container.
        let default_ids = std::mem::take(&mut extras.own_range);
        Ok(Self {
            spec: core.record.spec.parse()?,
            bundle: Some(core.record.bundle.clone()),
            state_root: Some(core.root.clone()),
            init: Some(extras.init),
            pod: extras.pod.clone(),
            extras,
            default_ids,
            ..Self::new()
        })
    }

    pub(in crate::container) fn set_template(&mut self, template: TemplateMemory) {
        let program = self.process().args().iter().flatten().next().cloned().unwrap_or_default();
        self.extras.template = Some(OfTemplate { program, archives: template.archives() });
        self.template = Some(template);
    }

    /// The container that the OCI bundle in `directory` describes (OCI bundle.md): exactly what its `config.json` says,
    /// without this builder's hardening. The methods of the builder then change that configuration.
    ///
    /// Annotations have no effect, because engines pass on those of an image:
    /// [`follow_pod_annotations`](Self::follow_pod_annotations) is for an engine that does not.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] naming the field, or the file that cannot be read; [`ErrorKind::InvalidInput`] if the
    /// directory's path is not UTF-8.
    pub fn from_bundle(directory: impl AsRef<Path>) -> Result<Self> {
        let (bundle, spec, extras) = bundle::load(directory.as_ref())?;
        let mut builder = Self::new();
        builder.init = extras.init.then_some(true);
        (builder.spec, builder.extras) = (spec, extras);
        (builder.origin, builder.bundle, builder.default_ids) = (Origin::ConfigJson, Some(bundle), false);
        Ok(builder)
    }

    /// Names the container: the id by which it is loaded, listed and deleted, and by which other programs find it. Two
    /// containers of one [`StateRoot`] cannot have one id at the same time; all programs of one user share the default
    /// state root.
    ///
    /// Without it, each container has an id of its own. A program that may be killed should name its containers: the next
    /// create of an id takes over what a killed program left of it. What such a program left under an id of its own stays,
    /// without processes, until it is found by [`AnyContainer::list`](crate::AnyContainer::list) and deleted.
    ///
    /// A malformed id is `build`'s error.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        match ContainerId::new(id) {
            Ok(id) => self.id = Some(id),
            Err(error) => {
                self.refused.get_or_insert(error);
            }
        }
        self
    }

    /// Lets `create` delete a container that has the same [`id`](Self::id) and has ended. One that lives is refused, as
    /// without this: [`AnyContainer::delete_by_name`](crate::AnyContainer::delete_by_name) ends and deletes it.
    ///
    /// With and without this, `create` deletes a container whose program was killed while the container was attached.
    pub fn replace(mut self) -> Self {
        self.replace = true;
        self
    }

    /// Keeps the container's record in `root` instead of the caller's default directory.
    pub fn state_root(mut self, root: StateRoot) -> Self {
        self.state_root = Some(root);
        self
    }

    /// Writes a pid to the file `path`, as the last step of `create`: of the process that ends with the container and
    /// with its status. That is the sandbox; for a further container of a pod, init.
    pub fn pid_file(mut self, path: impl AsRef<Path>) -> Self {
        self.pid_file = Some(self.host_path("pid_file", path.as_ref()));
        self
    }

    /// Forks the container's gofer and sandbox from `zygote` instead of executing this program for each: the same
    /// container, sooner. [`Zygote`] lists what must not change between the two. In a pod, each container has a zygote
    /// of its own.
    pub fn zygote(mut self, zygote: &Zygote) -> Self {
        self.zygote = Some(zygote.clone());
        self
    }

    /// Sets an annotation (OCI config.md, "Annotations").
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let mut annotations = self.spec.annotations().clone().unwrap_or_default();
        annotations.insert(key.into(), value.into());
        self.spec.set_annotations(Some(annotations));
        self
    }

    /// Adds a hook, after those of its kind that are there already (OCI config.md, "POSIX-platform Hooks").
    ///
    /// Hooks that are programs of the host are trusted: they run with the caller's ids and capabilities. startContainer
    /// hooks are programs of the image, and run as the workload will: with its ids, capabilities, filter, limits and
    /// working directory, and with its environment if they have none of their own.
    ///
    /// A hook gets its own arguments, and the container's state on standard input. The working directory of a hook of the
    /// host is the bundle (createContainer: the container's root). Its standard output is thrown away. In the state, `pid`
    /// is init's, whose namespaces are the container's. Before the pivot, a prestart or createRuntime hook that enters its
    /// mount namespace finds the host's files there, with the container's root at its path on the host; what it mounts
    /// below that path shows in the container ([with exceptions](crate::manual::oci#hooks-and-the-containers-pid)). A hook
    /// without a timeout may run forever.
    pub fn hook(mut self, kind: HookKind, hook: Hook) -> Self {
        self.path("hook", hook.path());
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

    /// Writes a line to `to` when the program starts, and another when it ends, for the person who runs it: the time,
    /// the id, and what happened.
    ///
    /// ```text
    /// 2026-01-31T12:00:00.123Z web started
    /// 2026-01-31T12:00:05.004Z web exited with code 3
    /// ```
    ///
    /// The sandbox writes the lines, so they are complete also when this program has ended. It never waits: it drops a
    /// line that would block, or for which there is no space. A file that cannot be opened is `create`'s error.
    pub fn user_log(mut self, to: impl Into<UserLog>) -> Self {
        self.user_log = Some(to.into());
        self.left.remove("user_log");
        self
    }

    /// The OCI configuration as the methods so far have made it.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Makes `build` fail in the name of `method`, unless an earlier method was refused already.
    pub(super) fn refuse(
        &mut self,
        method: &'static str,
        problem: impl Into<String>,
        hint: impl Into<Option<&'static str>>,
    ) {
        let error = Error::new(ErrorKind::InvalidInput, format!("ContainerBuilder::{method}"), problem);
        let error = match hint.into() {
            Some(hint) => error.hint(hint),
            None => error,
        };
        self.refused.get_or_insert(error);
    }

    /// Refuses a limit of 0 in the name of `method`: where the kernel or OCI reads it as "no limit", the workload would
    /// get more than a program that computed 0 meant to give.
    pub(super) fn refuse_zero(&mut self, method: &'static str, limit: Option<u64>) {
        if limit == Some(0) {
            self.refuse(method, "must not be 0", NO_LIMIT);
        }
    }

    /// The first mistake that no later call has mended.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(method) = self.left.first() {
            let problem = "its descriptor stayed with the builder that this one is a copy of";
            let error = Error::new(ErrorKind::InvalidInput, format!("ContainerBuilder::{method}"), problem);
            self.refused
                .get_or_insert(error.hint("a descriptor belongs to one container: give each its own"));
        }
        if self.template.is_some() && !self.extra_fds.is_empty() {
            let problem = "a clone has no descriptors but its standard streams";
            let error = Error::new(ErrorKind::InvalidInput, "ContainerBuilder::fd", problem);
            self.refused.get_or_insert(error.hint("hand data over in a file or on standard input"));
        }
        if self.template.is_some() && self.restored.is_some() {
            let problem = "a clone has the process of its template, and none of an image";
            let error = Error::new(ErrorKind::InvalidInput, "ContainerBuilder::restore", problem);
            self.refused.get_or_insert(error.hint("restore the image into a container that is no clone"));
        }
        self.refused.take().map_or(Ok(()), Err)
    }

    /// `text` for the configuration; if it is not UTF-8, `build` refuses it in the name of `method`.
    pub(super) fn text(&mut self, method: &'static str, text: &OsStr) -> String {
        match text.to_str() {
            Some(text) => text.to_owned(),
            None => {
                self.refuse(method, format!("{text:?} is not UTF-8"), "an OCI configuration is JSON");
                String::new()
            }
        }
    }

    /// As [`text`](Self::text), for a path.
    pub(super) fn path(&mut self, method: &'static str, path: &Path) -> PathBuf {
        self.text(method, path.as_os_str()).into()
    }

    /// As [`path`](Self::path), for a path on the host: a relative one starts at the caller's current directory, as it
    /// is now.
    pub(super) fn host_path(&mut self, method: &'static str, path: &Path) -> PathBuf {
        let absolute = self.absolute(method, path);
        self.path(method, &absolute)
    }

    /// As [`host_path`](Self::host_path), for a path that no record keeps, so that it may have any bytes.
    pub(super) fn absolute(&mut self, method: &'static str, path: &Path) -> PathBuf {
        match std::path::absolute(path) {
            Ok(absolute) => absolute,
            // Validation says the same of a path that came from a configuration.
            Err(_) if path.as_os_str().is_empty() => path.to_owned(),
            Err(error) => {
                self.refuse(method, format!("{path:?}: {error}"), None);
                path.to_owned()
            }
        }
    }

    pub(super) fn process(&mut self) -> &mut Process {
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

    pub(super) fn set_id_mappings(&mut self, uids: &[IdMap], gids: &[IdMap]) {
        let convert = |maps: &[IdMap]| maps.iter().map(oci_mapping).collect::<Vec<_>>();
        self.linux().set_uid_mappings(Some(convert(uids))).set_gid_mappings(Some(convert(gids)));
    }
}

/// A template for many containers: each copy can be changed and built. The copies of a builder without an
/// [`id`](ContainerBuilder::id) get different ids.
///
/// A descriptor belongs to one container, because containers that share one can talk through its flags and its
/// position. It stays with the builder that was cloned, and `build` of the copy refuses, until the same method
/// ([`stdout`](ContainerBuilder::stdout), [`fd`](ContainerBuilder::fd), [`user_log`](ContainerBuilder::user_log)) has
/// given it another.
impl Clone for ContainerBuilder {
    fn clone(&self) -> Self {
        let mut left = self.left.clone();
        let mut leave = |method: &str| {
            left.insert(method.to_owned());
        };
        let mut stdio: [Stdio; 3] = Default::default();
        for (index, copy) in stdio.iter_mut().enumerate() {
            match self.stdio[index].for_another() {
                Some(stream) => *copy = stream,
                None => leave(STREAMS[index]),
            }
        }
        let (extra_fds, numbers) = self.extra_fds.for_another();
        numbers.into_iter().for_each(|number| leave(&format!("fd({number})")));
        let user_log = self.user_log.as_ref().and_then(|log| {
            let copy = log.for_another();
            if copy.is_none() {
                leave("user_log");
            }
            copy
        });
        Self {
            id: self.id.clone(),
            spec: self.spec.clone(),
            extras: self.extras.clone(),
            stdio,
            output_limit: self.output_limit,
            extra_fds,
            console: self.console.clone(),
            origin: self.origin,
            bundle: self.bundle.clone(),
            state_root: self.state_root.clone(),
            pid_file: self.pid_file.clone(),
            user_log,
            zygote: self.zygote.clone(),
            replace: self.replace,
            keep_files: self.keep_files,
            bind_maps: self.bind_maps.clone(),
            mount_methods: self.mount_methods.clone(),
            refused: self.refused.as_ref().map(Error::again),
            left,
            init: self.init,
            default_ids: self.default_ids,
            pod: self.pod.clone(),
            pod_annotations: self.pod_annotations,
            restored: self.restored.clone(),
            template: self.template.clone(),
        }
    }
}

impl Default for ContainerBuilder {
    fn default() -> Self {
        Self::new()
    }
}

pub(super) fn oci_mapping(map: &IdMap) -> LinuxIdMapping {
    build(|| {
        LinuxIdMappingBuilder::default().container_id(map.container).host_id(map.host).size(map.size).build()
    })
}
