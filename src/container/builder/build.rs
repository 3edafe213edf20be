//! The methods that end a description: they make a container in its first phase, run one to its end, or write a bundle.

use super::bundle;
use super::description::ContainerBuilder;
use super::process::set_variables;
use crate::container::create::blueprint::{Blueprint, blueprint};
use crate::container::handle::Handle;
use crate::container::outcome::{Exit, Outcome, Output};
use crate::container::typestate::{Container, Creating, Running};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::host::facts::IdRange;
use crate::host::{self, Caller, Needs};
use crate::id::ContainerId;
use crate::link::find_pod_sandbox;
use crate::process::{Collected, Stdio, collect};
use crate::spec::{Hooks, IdMap};
use crate::state::{IdClaim, RawSpec, Record, StateRoot};
use oci_spec::runtime::LinuxNamespaceType;
use rustix::rand::GetRandomFlags;
use std::path::{Path, PathBuf};

impl ContainerBuilder {
    /// Checks everything that can be checked without changing the host, and plans the rest.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidId`], [`ErrorKind::InvalidInput`] naming the method, [`ErrorKind::InvalidSpec`] naming the
    /// method and the field, [`ErrorKind::Unsupported`] naming what this host or this caller cannot do, or that root's
    /// [host ids](crate::manual::privileges#ids) are used up.
    pub fn build(mut self) -> Result<Container<Creating>> {
        self.check()?;
        let id = match self.id.take() {
            Some(id) => id,
            None => random_id()?,
        };
        if self.template.is_some() {
            set_variables(self.process(), [(CLONE, id.as_str())]);
        }
        let root = match self.state_root.take() {
            Some(root) => root,
            None => StateRoot::open_default()?,
        };
        let caller = Caller::probe()?;
        self.extras.init = self.has_init()?;
        self.find_pod()?;
        match self.extras.pod.clone() {
            Some(pod) if self.default_ids => self.take_ids_of(&find_pod_sandbox(&root, &pod)?)?,
            None if self.default_ids => self.choose_ids(&caller)?,
            _ => {}
        }
        self.set_default_limits();
        self.resolve_bind_maps()?;
        let bundle = self.bundle.clone().unwrap_or_else(|| self.spec_root());
        let sandbox_id = self.extras.pod.clone().unwrap_or_else(|| id.clone());
        let names = self.field_names();
        let blueprint = blueprint(
            root.qualify(&id),
            &self.spec,
            self.extras,
            self.bundle.as_deref(),
            self.origin,
            caller,
        )
        .map_err(|error| names.explain(error))?;
        let mut record = Record::new(id, sandbox_id, bundle, RawSpec::from_spec(&self.spec)?);
        record.oci_version.clone_from(self.spec.version());
        record.hooks = Hooks::from_record(self.spec.hooks().as_ref())?;
        record.extras = serde_json::to_value(&blueprint.extras)
            .map_err(|error| Error::new(ErrorKind::InvalidInput, "record", error.to_string()))?;
        record.unapplied_limits.clone_from(&blueprint.plan.unapplied_limits);
        record.pid_file = self.pid_file;
        let core = Handle::new(root, record, None);
        let Self {
            stdio, extra_fds, console, user_log, zygote, template, replace, keep_files, restored, ..
        } = self;
        if let Some(restored) = &restored {
            restored.check(&stdio, blueprint.plan.sandbox.init.seccomp.as_ref())?;
        }
        Ok(Container::new(
            core,
            Blueprint {
                stdio,
                extra_fds,
                console,
                user_log,
                zygote,
                template,
                replace,
                keep_files,
                restored,
                names,
                ..blueprint
            },
        ))
    }

    /// Builds, creates and starts, as [`std::process::Command::spawn`] does with a process.
    ///
    /// # Errors
    /// As each of these. Nothing of the container is left then, so the error is a plain [`Error`], and not a
    /// [`Failed`](crate::Failed) with the container, as that of a single step.
    pub fn spawn(self) -> Result<Container<Running>> {
        Ok(self.build()?.create()?.start()?)
    }

    /// Builds, creates, starts, waits and deletes.
    ///
    /// A stream that is [piped](Stdio::piped) is `/dev/null`, because the caller gets no end of it: [`input`](Self::input)
    /// says what the workload reads, and [`output`](Self::output) returns what it writes.
    ///
    /// # Errors
    /// As each of these. A container that was made is gone again.
    pub fn run(self) -> Result<Exit> {
        let stopped = self.without_pipes().spawn()?.wait_stopped()?;
        let exit = stopped.exit().clone();
        stopped.delete()?;
        Ok(exit)
    }

    /// As [`run`](Self::run), and returns what the workload writes to its standard output and standard error. It reads
    /// what [`input`](Self::input) or [`stdin`](Self::stdin) say.
    ///
    /// The container is killed if it writes more than [`output_limit`](Self::output_limit) bytes to one of them. That
    /// is no error: the outcome is [`Outcome::TooMuchOutput`], and what was written until then is returned.
    ///
    /// This returns when the container has ended, even if the workload has sent its streams to a process outside,
    /// which holds them open.
    ///
    /// # Errors
    /// As [`run`](Self::run), and the errno of read(2).
    pub fn output(self) -> Result<Output> {
        let limit = self.output_limit;
        let mut created = self.with_piped_output().build()?.create()?;
        let pipes = [created.take_stdout(), created.take_stderr()];
        let running = created.start()?;
        let Collected { stdout, stderr, too_much } = collect(&pipes, limit, running.end_fd())?;
        let stopped = if too_much { running.kill()? } else { running.wait_stopped()? };
        let mut exit = stopped.exit().clone();
        if too_much {
            exit.outcome = Outcome::TooMuchOutput { limit };
        }
        stopped.delete()?;
        Ok(Output { exit, stdout, stderr })
    }

    /// With `/dev/null` for each pipe, for a caller that takes no end of them.
    pub(in crate::container) fn without_pipes(mut self) -> Self {
        self.stdio.iter_mut().for_each(Stdio::unless_piped);
        self
    }

    /// With pipes for what the workload writes, for a caller that reads both and takes no other end.
    pub(in crate::container) fn with_piped_output(mut self) -> Self {
        self.stdio[0].unless_piped();
        self.set_stream(1, Stdio::piped());
        self.set_stream(2, Stdio::piped());
        self
    }

    /// Writes the container as an OCI bundle that any OCI runtime accepts: `directory/config.json`, and a `rootfs`
    /// beside it if the description has no rootfs directory. Makes `directory`, which may exist if it is empty.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] naming the method, [`ErrorKind::InvalidSpec`] naming the field,
    /// [`ErrorKind::AlreadyExists`] for a directory that is not empty.
    pub fn to_bundle(mut self, directory: impl AsRef<Path>) -> Result<()> {
        self.refused.take().map_or(Ok(()), Err)?;
        self.check()?;
        // For any OCI runtime the process of a bundle is PID 1. Write an init only if the caller asked for one.
        self.extras.init = self.init.is_some() && self.has_init()?;
        let host_rootfs = self.extras.host_rootfs;
        let resolver = host_rootfs && !self.has_own(LinuxNamespaceType::Network);
        let host = host::probe(Needs { system_dirs: host_rootfs, resolver, ..Needs::default() })?;
        if self.default_ids {
            let maps = host.default_id_maps();
            self.set_id_mappings(&maps.uids, &maps.gids);
        }
        self.set_default_limits();
        self.resolve_bind_maps()?;
        bundle::write(directory.as_ref(), self.spec, &self.extras, &host)
    }

    /// A copy for a member of a pool: its id begins with this one's, and no other container has it.
    pub(in crate::container) fn for_member(&self) -> Result<Self> {
        let id = match &self.id {
            Some(id) => Some(ContainerId::new(format!("{id}-{}", random_id()?))?),
            None => None,
        };
        Ok(Self { id, ..self.clone() })
    }

    /// The id that [`id`](Self::id) set.
    pub(in crate::container) fn given_id(&self) -> Option<&ContainerId> {
        self.id.as_ref()
    }

    /// Whether the container gets a new namespace of this kind.
    fn has_own(&self, kind: LinuxNamespaceType) -> bool {
        let namespaces = self.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        let mut namespaces = namespaces.into_iter().flatten();
        namespaces.any(|namespace| namespace.typ() == kind && namespace.path().is_none())
    }

    /// Chooses the id mappings: a range that no other container has, where the caller has ids to divide. `create` takes it.
    fn choose_ids(&mut self, caller: &Caller) -> Result<()> {
        let region = caller.id_region().filter(|_| self.has_own(LinuxNamespaceType::User));
        match region.map(|region| IdClaim::choose(&region)).transpose()? {
            Some((uids, gids)) => {
                let map = |range: IdRange| [IdMap { container: 0, host: range.start, size: range.count }];
                self.set_id_mappings(&map(uids), &map(gids));
                self.extras.own_range = true;
            }
            None => {
                let maps = caller.default_id_maps();
                self.set_id_mappings(&maps.uids, &maps.gids);
            }
        }
        Ok(())
    }

    fn spec_root(&self) -> PathBuf {
        match self.spec.root() {
            Some(root) if !self.extras.host_rootfs => root.path().clone(),
            _ => PathBuf::from("/"),
        }
    }
}

/// The variable that has the id of a clone.
const CLONE: &str = "COFFERDAM_CLONE";

/// An id such as `k7m2-q9tw-3hxd`: 60 random bits, so that two are practically never equal. If two are, `create` refuses
/// the second.
fn random_id() -> Result<ContainerId> {
    /// Without the letters that a person confuses with a digit or with each other.
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut bytes = [0; 12];
    let read = rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()).os(|| "getrandom(12 bytes)")?;
    debug_assert_eq!(read, bytes.len(), "up to 256 bytes come at once (getrandom(2))");
    let letter = |byte: &u8| char::from(LETTERS[usize::from(byte % 32)]);
    let groups: Vec<String> = bytes.chunks(4).map(|group| group.iter().map(letter).collect()).collect();
    ContainerId::new(groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::count;

    #[test]
    fn every_container_without_a_name_gets_an_id_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let root = StateRoot::open(root.path()).unwrap();
        let id = || {
            let creating = ContainerBuilder::new().args(["true"]).state_root(root.clone()).build().unwrap();
            creating.id().to_string()
        };
        let ids: std::collections::BTreeSet<String> = (0..100).map(|_| id()).collect();
        assert_eq!(ids.len(), 100);
        assert!(
            ids.iter().all(|id| id.len() == 14 && id.split('-').all(|group| group.len() == 4)),
            "{ids:?}"
        );
    }

    #[test]
    fn build_looks_at_the_host_once() {
        let root = tempfile::tempdir().unwrap();
        let root = StateRoot::open(root.path()).unwrap();
        let new = |id| ContainerBuilder::new().id(id).args(["true"]).state_root(root.clone());
        count::take();
        drop(new("defaults").build().unwrap());
        assert_eq!(count::take(), (1, 1), "with the default ids");
        let caller = Caller::probe().unwrap().default_id_maps();
        count::take();
        drop(new("given").id_mappings(&caller.uids, &caller.gids).build().unwrap());
        assert_eq!(count::take(), (1, 1), "with ids of its own");
        let bundle = tempfile::tempdir().unwrap();
        new("bundle").to_bundle(bundle.path()).unwrap();
        assert_eq!(count::take(), (1, 1), "for a bundle");
    }
}
