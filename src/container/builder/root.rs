//! The methods of [`ContainerBuilder`] about what the container sees as `/`, and what is mounted there besides binds.

use super::default_spec::{build, is_bind, tmpfs_mount};
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
    /// The host's own system directories (`/usr`, `/bin`, `/lib`, `/etc`, `/opt` and their like), read-only and without
    /// the password hashes, and the stores of Nix and Guix. Files of the host's users, services and devices are not there;
    /// only with [`host_network`](ContainerBuilder::host_network) the file that `/etc/resolv.conf` leads to is. This is the
    /// default, and needs no image.
    #[must_use]
    pub fn host() -> Self {
        Self(Source::Host)
    }

    /// The directory at `path`, which holds an unpacked image. It is read-only, unless
    /// [`writable_rootfs`](ContainerBuilder::writable_rootfs) or [`scratch`](ContainerBuilder::scratch) says otherwise.
    #[must_use]
    pub fn directory(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        // Without a current directory the path stays relative, and `ContainerBuilder::rootfs` says why.
        Self(Source::Directory(std::path::absolute(path).unwrap_or_else(|_| path.to_owned())))
    }
}

impl ContainerBuilder {
    /// Shows `rootfs` as `/`.
    pub fn rootfs(mut self, rootfs: Rootfs) -> Self {
        self.extras.host_rootfs = rootfs.0 == Source::Host;
        if let Source::Directory(path) = rootfs.0 {
            let path = self.host_path("rootfs", &path);
            let readonly = self.spec.root().as_ref().is_none_or(|root| root.readonly().unwrap_or(true));
            let root = build(|| RootBuilder::default().path(path).readonly(readonly).build());
            self.spec.set_root(Some(root));
        }
        self
    }

    /// Lets the workload write to the rootfs directory itself.
    pub fn writable_rootfs(mut self) -> Self {
        self.set_root_readonly(false);
        self
    }

    /// Adds a writable layer in memory over the rootfs, which ends with the container. It holds at most `size` bytes;
    /// with `None`, half of the host's memory, which is the default of tmpfs(5). 0 is refused.
    pub fn scratch(mut self, size: Option<u64>) -> Self {
        self.refuse_zero("scratch", size);
        self.extras.scratch = Some(Scratch { size });
        self.set_root_readonly(false);
        self
    }

    /// Whether the ids of the files in a rootfs directory are mapped into the container's user namespace, so that files
    /// of root belong to root inside (mount_setattr(2), "ID-mapped mounts"). On by default. Without effect for callers
    /// without privilege; turn it off for file systems without ID-mapped mounts.
    pub fn idmapped_rootfs(mut self, yes: bool) -> Self {
        self.extras.idmap_rootfs = yes;
        self
    }

    /// The host name that the container sees.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.spec.set_hostname(Some(name.into()));
        self
    }

    /// Mounts an empty directory in memory at `destination`, which holds at most `size` bytes. 0 is refused, because
    /// tmpfs(5) reads it as "no limit".
    pub fn tmpfs(mut self, destination: impl AsRef<Path>, size: u64) -> Self {
        self.refuse_zero("tmpfs", Some(size));
        let destination = self.path("tmpfs", destination.as_ref());
        let mut builder = self.mount(tmpfs_mount(&destination, size));
        builder.name_mount(&destination, "tmpfs");
        builder
    }

    /// Keeps the container's files beyond its end: [`files`](crate::Container::files) then works on a
    /// [`Stopped`](crate::Stopped) container, too, as long as the value lives that created it.
    ///
    /// The value holds two descriptors more, and with them the container's mounts. So a file system in memory stays in
    /// memory, and a file system of the host that is bound stays busy, until the value is dropped or deleted. When this
    /// program ends, they go. A value that another program loads has no files after the end.
    pub fn keep_files(mut self) -> Self {
        self.keep_files = true;
        self
    }

    /// Adds a mount of the OCI configuration (OCI config.md, "Mounts"). It replaces a mount for the same destination,
    /// like the default one for `/tmp`. The source of a bind is relative to the caller's current directory.
    pub fn mount(mut self, mut mount: Mount) -> Self {
        self.path("mount", mount.destination());
        if let Some(source) = mount.source().clone() {
            let source = match is_bind(&mount) {
                true => self.host_path("mount", &source),
                false => self.path("mount", &source),
            };
            mount.set_source(Some(source));
        }
        let mut mounts = self.spec.mounts().clone().unwrap_or_default();
        mounts.retain(|other| other.destination() != mount.destination());
        self.bind_maps.retain(|(destination, _)| destination != mount.destination());
        self.name_mount(mount.destination(), "mount");
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
