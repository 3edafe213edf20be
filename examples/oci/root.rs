//! The directory with the records of containers, and whose it is.

use super::failure::Failure;
use super::{Options, Verb};
use cofferdam::StateRoot;
use nix::unistd::{Gid, Uid, User, setgroups, setresgid, setresuid};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl Options {
    /// Opens the directory with the records. Root may name that of another user, as a batch system does with the jobs of
    /// its users. This process then becomes that user first: a record names processes to signal, cgroups to remove and
    /// hooks to run, and its owner may have written anything into it.
    pub(crate) fn open_root(&self, verb: &Verb) -> Result<StateRoot, Failure> {
        let Some(root) = &self.root else { return Ok(StateRoot::open_default()?) };
        if let (true, false, Some(owner)) = (Uid::effective().is_root(), verb.creates(), owner_of(root)) {
            become_user(owner).map_err(|error| format!("state directory {root:?}: uid {owner}: {error}"))?;
        }
        Ok(StateRoot::open(root)?)
    }
}

/// The owner of a directory, if that is not root.
fn owner_of(path: &Path) -> Option<Uid> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    (metadata.is_dir() && metadata.uid() != 0).then(|| metadata.uid().into())
}

fn become_user(uid: Uid) -> nix::Result<()> {
    let gid = User::from_uid(uid)?.map_or(Gid::from_raw(uid.as_raw()), |user| user.gid);
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}
