//! [`Bind`]: a path of the host that a container sees, and the methods of [`ContainerBuilder`] that take one.

use super::default_spec::bind_mount;
use super::description::{ContainerBuilder, oci_mapping};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{IdMap, MAP_OWNER, MAP_OWNER_BUT_ROOT};
use oci_spec::runtime::Mount;
use std::path::{Path, PathBuf};

/// A path of the host, a file or a directory with all mounts below it, that a container sees at another place.
///
/// It is writable, unless [`read_only`](Self::read_only) is called. Device files in it do not open, and set-user-ID
/// programs raise nothing. There are four ways to show the owners of its files:
///
/// * **The owner of the source as the container's user**, the default of a writable bind. Files of the owner belong
///   inside to the user of the container's process, and what this user makes belongs on the host to the owner. All other
///   ids stay as they are. The crate makes an id-mapped mount for this (mount_setattr(2)), which takes a privileged caller
///   and a file system that can be mapped.
///
///   If the container has an id for the owner, the source is shown as it is, and so are an unprivileged caller's own
///   files, which belong to root inside. The host's root is never mapped: `create` shows a source of root as it is if
///   everyone may write there, and otherwise refuses it. Group 0 is never mapped either; what the user makes then has
///   the user's own group.
/// * **The same for every owner**, by [`map_owner`](Self::map_owner).
/// * **A mapping that the caller chooses**, by [`map`](Self::map).
/// * **The ids on the disk**, by [`keep_ids`](Self::keep_ids), and the default of a bind that is read-only.
///
/// The files of root's containers have [ids of their own on disk](crate::manual::privileges#ids), whatever range of host ids
/// each container has. Every bind but that of `map` shows them as the container's ids, where the file system can be mapped.
///
/// ```no_run
/// use cofferdam::ContainerBuilder;
/// use cofferdam::builder::Bind;
///
/// # fn main() -> cofferdam::Result<()> {
/// let builder = ContainerBuilder::new()
///     .bind_rw("/home/ann/project", "/project") // what is built belongs to ann
///     .bind(Bind::new("/var/cache/packages", "/cache").read_only());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a bind does nothing until it is given to `ContainerBuilder::bind`"]
pub struct Bind {
    source: PathBuf,
    destination: PathBuf,
    writable: bool,
    ids: Option<Ids>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ids {
    Owner,
    Map(Vec<IdMap>),
    Keep,
}

impl Bind {
    /// Shows the host's `source` at `destination`, writable. A relative source is relative to the caller's current
    /// directory.
    pub fn new(source: impl AsRef<Path>, destination: impl AsRef<Path>) -> Self {
        let (source, destination) = (source.as_ref(), destination.as_ref().to_owned());
        // Without a current directory the path stays relative, and the method that takes this value says why.
        let source = std::path::absolute(source).unwrap_or_else(|_| source.to_owned());
        Self { source, destination, writable: true, ids: None }
    }

    /// The container cannot write to it, nor to a mount below it.
    pub fn read_only(mut self) -> Self {
        self.writable = false;
        self
    }

    /// Shows the owner of the source as the container's user, whatever the owner is. For a source of the host's root this
    /// lets the workload make files of the host's root, set-user-ID programs included.
    ///
    /// `create` fails with [`ErrorKind::Unsupported`] where the ids cannot be mapped: for an unprivileged caller, unless
    /// the container's user is the owner on the host, and on a file system without id-mapped mounts.
    pub fn map_owner(mut self) -> Self {
        self.ids = Some(Ids::Owner);
        self
    }

    /// Shows the files with these uids and gids: what belongs to `host` on the disk belongs to `container` inside. Files
    /// with other ids belong to the overflow ids, and the container cannot make any (mount_setattr(2)). For privileged
    /// callers.
    pub fn map(mut self, ids: impl IntoIterator<Item = IdMap>) -> Self {
        self.ids = Some(Ids::Map(ids.into_iter().collect()));
        self
    }

    /// Shows the files with the ids that they have on the disk.
    pub fn keep_ids(mut self) -> Self {
        self.ids = Some(Ids::Keep);
        self
    }

    /// As a mount of the OCI configuration, without [`map`](Self::map).
    pub(in crate::container) fn to_mount(&self) -> Mount {
        let ids = match &self.ids {
            None if self.writable => Some(MAP_OWNER_BUT_ROOT),
            Some(Ids::Owner) => Some(MAP_OWNER),
            Some(Ids::Map(_)) => Some("ridmap"),
            _ => None,
        };
        bind_mount(&self.source, &self.destination, self.writable, ids)
    }
}

impl ContainerBuilder {
    /// Shows the host's `source` at `destination`, read-only, with all mounts below it: `bind` of
    /// [`Bind::new`]`(..).read_only()`.
    pub fn bind_ro(self, source: impl AsRef<Path>, destination: impl AsRef<Path>) -> Self {
        self.add_bind("bind_ro", Bind::new(source, destination).read_only())
    }

    /// Shows the host's `source` at `destination`, writable, with all mounts below it: `bind` of [`Bind::new`]. The
    /// container's user can write what the owner of the source can, unless that is the host's root: see [`Bind`].
    pub fn bind_rw(self, source: impl AsRef<Path>, destination: impl AsRef<Path>) -> Self {
        self.add_bind("bind_rw", Bind::new(source, destination))
    }

    /// Shows a path of the host. It replaces a mount for the same destination.
    pub fn bind(self, bind: Bind) -> Self {
        self.add_bind("bind", bind)
    }

    fn add_bind(mut self, method: &'static str, bind: Bind) -> Self {
        let (source, destination) =
            (self.host_path(method, &bind.source), self.path(method, &bind.destination));
        let bind = Bind { source, destination, ..bind };
        self = self.mount(bind.to_mount());
        self.name_mount(&bind.destination, method);
        if let Some(Ids::Map(ids)) = bind.ids {
            self.bind_maps.push((bind.destination, ids));
        }
        self
    }

    /// Turns the ids of [`Bind::map`], which are ids of the container, into those of an OCI mount, which are the host's. Call
    /// it when the container's own maps are known.
    pub(super) fn resolve_bind_maps(&mut self) -> Result<()> {
        for (destination, ids) in std::mem::take(&mut self.bind_maps) {
            let uids = self.on_host(&ids, |linux| linux.uid_mappings().clone())?;
            let gids = self.on_host(&ids, |linux| linux.gid_mappings().clone())?;
            let mounts = self.spec.mounts_mut().iter_mut().flatten();
            for mount in mounts.filter(|mount| *mount.destination() == destination) {
                mount.set_uid_mappings(Some(uids.iter().map(oci_mapping).collect()));
                mount.set_gid_mappings(Some(gids.iter().map(oci_mapping).collect()));
            }
        }
        Ok(())
    }

    /// The mappings of a mount for `ids`: from ids on the disk to the ids of the host as which the mount shows them.
    fn on_host(
        &self,
        ids: &[IdMap],
        maps: impl Fn(&oci_spec::runtime::Linux) -> Option<Vec<oci_spec::runtime::LinuxIdMapping>>,
    ) -> Result<Vec<IdMap>> {
        // Without a user namespace, an id inside is the host's.
        let maps = self.spec.linux().as_ref().and_then(maps).unwrap_or_default();
        let find = |id: &IdMap| {
            if maps.is_empty() {
                return Some(id.container);
            }
            maps.iter().find_map(|map| {
                let offset = id.container.checked_sub(map.container_id())?;
                let fits = u64::from(offset) + u64::from(id.size) <= u64::from(map.size());
                fits.then(|| map.host_id() + offset)
            })
        };
        let convert = |id: &IdMap| match find(id) {
            Some(host) => Ok(IdMap { container: id.host, host, size: id.size }),
            None => {
                let problem = format!("{} ids from {} on are not mapped together", id.size, id.container);
                let error = Error::new(ErrorKind::InvalidInput, "Bind::map", problem);
                Err(error.hint("each entry needs to be within one of the container's id mappings"))
            }
        };
        ids.iter().map(convert).collect()
    }
}
