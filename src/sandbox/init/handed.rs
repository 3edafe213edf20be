//! What the gofer hands to init: the mounts of the plan's list, and the layers of overlays.

use crate::error::{Error, ErrorKind, Result};
use crate::helper::Received;
use crate::plan::RestorePlan;
use crate::process::Channel;
use crate::sandbox::resolve::TargetKind;
use crate::wire::init::{MountBatch, MountBatchItem, lower_name, mount_name, restore_name, upper_name};
use rustix::fd::OwnedFd;

/// Everything, each until it is taken.
pub(super) struct Handed {
    /// In the order of the plan's list.
    mounts: Vec<HandedMount>,
    /// The upper and the lower layer of each overlay of the tree.
    pub(super) layers: Vec<[OwnedFd; 2]>,
}

enum HandedMount {
    Mount(OwnedFd, TargetKind),
    Absent,
    Taken,
}

impl Handed {
    pub(super) fn is_absent(&self, index: usize) -> bool {
        matches!(self.mounts.get(index), Some(HandedMount::Absent))
    }

    pub(super) fn take(&mut self, index: usize) -> Result<(OwnedFd, TargetKind)> {
        match self.mounts.get_mut(index).map(|handed| std::mem::replace(handed, HandedMount::Taken)) {
            Some(HandedMount::Mount(mount, kind)) => Ok((mount, kind)),
            _ => Err(misbehaved(&format!("{} of the plan is missing", mount_name(index)))),
        }
    }

    /// Takes the mounts that are for CRIU, with the names under which the sandbox gets them.
    pub(super) fn take_for_criu(&mut self, plan: &RestorePlan) -> Result<Vec<(String, OwnedFd)>> {
        plan.mounts().map(|index| Ok((restore_name(index), self.take(index)?.0))).collect()
    }
}

/// Receives everything that the gofer hands over.
pub(super) fn receive(gofer: &Channel) -> Result<Handed> {
    let mut mounts = Vec::new();
    let mut fds = Received::default();
    loop {
        let batch = gofer.receive::<MountBatch>(None)?;
        fds.extend(batch.fds);
        for item in batch.message.items {
            let name = mount_name(mounts.len());
            mounts.push(match item {
                MountBatchItem::Directory => HandedMount::Mount(fds.take(&name)?, TargetKind::Directory),
                MountBatchItem::File => HandedMount::Mount(fds.take(&name)?, TargetKind::File),
                MountBatchItem::Absent => HandedMount::Absent,
            });
        }
        if batch.message.last {
            break;
        }
    }
    let mut layers = Vec::new();
    while let Some(upper) = fds.take_optional(&upper_name(layers.len())) {
        let lower = fds.take(&lower_name(layers.len()))?;
        layers.push([upper, lower]);
    }
    fds.finish()?;
    Ok(Handed { mounts, layers })
}

pub(super) fn misbehaved(problem: &str) -> Error {
    Error::new(ErrorKind::PeerMisbehaved, "receive mounts from the gofer", problem)
}
