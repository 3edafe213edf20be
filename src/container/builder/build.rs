//! What ends a description: a container in its first phase, a container run to its end, or a bundle on disk.

use super::bundle;
use super::description::ContainerBuilder;
use crate::container::create::blueprint::{Blueprint, blueprint};
use crate::container::handle::Handle;
use crate::container::outcome::{Exit, Output};
use crate::container::typestate::{Container, Creating};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{self, Caller, Needs};
use crate::id::ContainerId;
use crate::link::find_pod_sandbox;
use crate::process::Stdio;
use crate::spec::Hooks;
use crate::state::{RawSpec, Record, StateRoot};
use std::io::Read;
use std::path::{Path, PathBuf};

impl ContainerBuilder {
    /// Checks everything that can be checked without changing the host, and plans the rest.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidId`], [`ErrorKind::InvalidInput`] naming the method, [`ErrorKind::InvalidSpec`] naming the
    /// field, [`ErrorKind::Unsupported`] naming what this host or this caller cannot do.
    pub fn build(mut self) -> Result<Container<Creating>> {
        let id = std::mem::replace(&mut self.id, ContainerId::new("moved"))?;
        self.refused.take().map_or(Ok(()), Err)?;
        let root = match self.state_root.take() {
            Some(root) => root,
            None => StateRoot::open_default()?,
        };
        let caller = Caller::probe()?;
        self.extras.pod = self.find_pod()?;
        match self.extras.pod.clone() {
            Some(pod) if self.default_ids => self.take_ids_of(&find_pod_sandbox(&root, &pod)?)?,
            None if self.default_ids => {
                let maps = caller.default_id_maps();
                self.set_id_mappings(&maps.uids, &maps.gids);
            }
            _ => {}
        }
        let bundle = self.bundle.clone().unwrap_or_else(|| self.spec_root());
        let sandbox_id = self.extras.pod.clone().unwrap_or_else(|| id.clone());
        let blueprint = blueprint(&id, &self.spec, self.extras, self.bundle.as_deref(), self.origin, caller)?;
        let mut record = Record::new(id, sandbox_id, bundle, RawSpec::from_spec(&self.spec)?);
        record.oci_version.clone_from(self.spec.version());
        record.hooks = Hooks::from_record(self.spec.hooks().as_ref())?;
        record.extras = serde_json::to_value(&blueprint.extras)
            .map_err(|error| Error::new(ErrorKind::InvalidInput, "record", error.to_string()))?;
        record.unapplied_limits.clone_from(&blueprint.plan.unapplied_limits);
        record.pid_file = self.pid_file.map(|path| std::path::absolute(&path).unwrap_or(path));
        let core = Handle::new(root, record, None);
        let Self { stdio, extra_fds, console, user_log, zygote, .. } = self;
        Ok(Container::new(core, Blueprint { stdio, extra_fds, console, user_log, zygote, ..blueprint }))
    }

    /// Builds, creates, starts, waits and deletes.
    ///
    /// # Errors
    /// As each of these. A container that was made is gone again.
    pub fn run(self) -> Result<Exit> {
        let stopped = self.build()?.create()?.start()?.wait_stopped()?;
        let exit = stopped.exit().clone();
        stopped.delete()?;
        Ok(exit)
    }

    /// As [`run`](Self::run), and returns what the workload writes to its standard output and standard error.
    ///
    /// # Errors
    /// As [`run`](Self::run), and the errno of read(2).
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

    /// Writes the container as an OCI bundle that any OCI runtime accepts: `directory/config.json`, and a `rootfs`
    /// beside it if the description has no rootfs directory. Makes `directory`, which may exist if it is empty.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] naming the method, [`ErrorKind::InvalidSpec`] naming the field,
    /// [`ErrorKind::AlreadyExists`] for a directory that is not empty.
    pub fn to_bundle(mut self, directory: impl AsRef<Path>) -> Result<()> {
        self.refused.take().map_or(Ok(()), Err)?;
        let host = host::probe(Needs { system_dirs: true, ..Needs::default() })?;
        if self.default_ids {
            let maps = host.default_id_maps();
            self.set_id_mappings(&maps.uids, &maps.gids);
        }
        let system_dirs = if self.extras.host_rootfs { host.system_dirs } else { Vec::new() };
        bundle::write(directory.as_ref(), self.spec, &self.extras, &system_dirs)
    }

    fn spec_root(&self) -> PathBuf {
        match self.spec.root() {
            Some(root) if !self.extras.host_rootfs => root.path().clone(),
            _ => PathBuf::from("/"),
        }
    }
}

/// Reads both pipes to their ends at the same time, so that a workload which fills one of them does not stall.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::count;

    #[test]
    fn build_looks_at_the_host_once() {
        let root = tempfile::tempdir().unwrap();
        let root = StateRoot::open(root.path()).unwrap();
        let new = |id| ContainerBuilder::new(id).args(["true"]).state_root(root.clone());
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
