//! The methods of [`ContainerBuilder`] about what the container sees as `/`, and what is mounted there.

use super::default_spec::{bind_mount, build, tmpfs_mount};
use super::description::ContainerBuilder;
use crate::plan::Scratch;
use oci_spec::runtime::{Mount, RootBuilder};
use std::path::{Path, PathBuf};

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

    fn set_root_readonly(&mut self, readonly: bool) {
        if let Some(root) = self.spec.root_mut() {
            root.set_readonly(Some(readonly));
        }
    }
}
