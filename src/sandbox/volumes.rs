//! The pod's volumes: file systems in memory that its containers share, kept as detached mounts.

use super::init::file_systems::new_fs;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::plan::PodVolume;
use crate::spec::MountAttrs;
use crate::sys;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

/// The most volumes of one pod.
const MAX_VOLUMES: usize = 256;

/// The volumes made so far.
#[derive(Default)]
pub(super) struct Volumes(Vec<Volume>);

struct Volume {
    name: String,
    /// A detached mount. This descriptor keeps the file system, and so does every container with a copy.
    mount: OwnedFd,
}

impl Volumes {
    /// Another mount of each volume that a container asks for, in that order. Makes the volumes that do not exist yet, in the
    /// pod's user namespace, which is this process's.
    pub(super) fn copies(&mut self, asked: &[PodVolume]) -> Result<Vec<OwnedFd>> {
        let before = self.0.len();
        let copies: Result<Vec<_>> = asked.iter().map(|volume| self.copy(volume)).collect();
        if copies.is_err() {
            self.0.truncate(before);
        }
        copies
    }

    fn copy(&mut self, asked: &PodVolume) -> Result<OwnedFd> {
        let known = self.0.iter().position(|volume| volume.name == asked.name);
        let index = match known {
            Some(index) => index,
            None => {
                self.0.push(Volume { name: asked.name.clone(), mount: self.make(asked)? });
                self.0.len() - 1
            }
        };
        match sys::clone_tree(self.0[index].mount.as_fd(), false) {
            // KERNEL(6.15): before, only attached mounts can be copied.
            Err(Errno::INVAL) => {
                let release = rustix::system::uname().release().to_string_lossy().into_owned();
                let why = format!("Linux {release} cannot copy a mount that is attached nowhere");
                Err(Error::unsupported("pod_volume", why).hint("needs Linux 6.15"))
            }
            copy => copy.os(|| format!("open_tree(volume {:?}, OPEN_TREE_CLONE)", asked.name)),
        }
    }

    fn make(&self, asked: &PodVolume) -> Result<OwnedFd> {
        if self.0.len() >= MAX_VOLUMES {
            let problem = format!("the pod has {MAX_VOLUMES} volumes, which is the most");
            return Err(Error::new(ErrorKind::InvalidInput, "pod_volume", problem));
        }
        let size = asked.size.map(|size| format!("size={size}"));
        let options: Vec<_> = std::iter::once("mode=1777".to_owned()).chain(size).collect();
        new_fs("tmpfs", &options, MountAttrs::NOSUID | MountAttrs::NODEV)
            .map_err(|error| error.during(format!("pod_volume {:?}", asked.name)))
    }
}
