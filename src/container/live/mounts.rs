//! Mounts into a container that exists, and their end.
//!
//! The gofer that made the container's mounts has given up all it could make another with. So this one gets a gofer of
//! its own, made and ended here: it opens the source, hands the detached mount to the sandbox, and is gone.

use crate::container::builder::default_spec::{bind_mount, tmpfs_mount};
use crate::container::handle::Handle;
use crate::container::{Alive, Container, Phase};
use crate::error::{Error, ErrorKind, Result};
use crate::helper::entry::{GOFER, reexec};
use crate::helper::spawn::{Start, seal_plan, spawn};
use crate::helper::{Child, Donations};
use crate::host;
use crate::host::Needs;
use crate::link::{SandboxLink, user_namespace_of};
use crate::plan::{Extras, GoferFacts, GoferPlan, HotMountPlan};
use crate::process::Channel;
use crate::process::donation::NamedFd;
use crate::spec::{self, Origin};
use crate::wire::boot::{GoferReport, GoferStart};
use crate::wire::control::{MountReply, Operation};
use oci_spec::runtime::Mount;
use rustix::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one mount may take. A source on a network file system is slow; nothing else comes near.
const MOUNT_LIMIT: Duration = Duration::from_secs(60);

impl<P: Phase + ?Sized> Container<P> {
    /// Mounts a bind or a tmpfs into the container while it exists, with every option that `mounts` of a configuration
    /// knows for them (OCI config.md, "Mounts").
    ///
    /// The mount point is resolved inside the container's root, symbolic links included, and made if it is missing. What
    /// is mounted is part of nothing that is recorded: it goes with the container, or with
    /// [`unmount`](Self::unmount).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] or [`ErrorKind::Unsupported`] naming the field of `mount`: a destination that is
    /// relative, contains `..`, is `/` or `/dev`, a source that is missing, an unknown type or option;
    /// [`ErrorKind::Ended`] if the container has ended; or the errno of the call that failed.
    pub fn mount(&self, mount: Mount) -> Result<()>
    where
        P: Alive,
    {
        add(&self.core, self.phase.live(), &mount)
    }

    /// Shows the host's `source`, a directory with all below it or a file, read-only at `destination`.
    ///
    /// # Errors
    /// As [`mount`](Self::mount).
    pub fn mount_bind_ro(&self, source: impl AsRef<Path>, destination: impl AsRef<Path>) -> Result<()>
    where
        P: Alive,
    {
        self.mount(bind_mount(source.as_ref(), destination.as_ref(), false))
    }

    /// Shows the host's `source`, a directory with all below it or a file, at `destination`, to be written to.
    ///
    /// # Errors
    /// As [`mount`](Self::mount).
    pub fn mount_bind_rw(&self, source: impl AsRef<Path>, destination: impl AsRef<Path>) -> Result<()>
    where
        P: Alive,
    {
        self.mount(bind_mount(source.as_ref(), destination.as_ref(), true))
    }

    /// Mounts an empty file system in memory, of at most `size` bytes, at `destination`.
    ///
    /// # Errors
    /// As [`mount`](Self::mount).
    pub fn mount_tmpfs(&self, destination: impl AsRef<Path>, size: u64) -> Result<()>
    where
        P: Alive,
    {
        self.mount(tmpfs_mount(destination.as_ref(), size))
    }

    /// Takes away what one of the methods above mounted at `destination`, by whichever value of the container that was.
    /// Whoever has files in it open keeps them until they are closed (umount2(2), `MNT_DETACH`).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if what is there is nothing that was mounted this way.
    pub fn unmount(&self, destination: impl AsRef<Path>) -> Result<()>
    where
        P: Alive,
    {
        remove(self.phase.live(), destination.as_ref())
    }
}

fn add(core: &Handle, live: &SandboxLink, mount: &Mount) -> Result<()> {
    let mount = spec::Mount::further(mount)?;
    let configured = core.configured()?;
    let extras: Extras = serde_json::from_value(core.record.extras.clone())
        .map_err(|error| Error::new(ErrorKind::Stale, "record", format!("extras: {error}")))?;
    let plan = HotMountPlan::new(&mount, &configured.valid, &extras, &host::probe(Needs::default())?)?;
    let deadline = Instant::now() + MOUNT_LIMIT;
    let gofer = plan.gofer.as_ref().map(|plan| Gofer::start(core, plan, deadline)).transpose()?;
    let step = seal_plan(&plan.step)?;
    let mut fds = vec![("step", step.as_fd())];
    fds.extend(gofer.as_ref().map(|gofer| ("gofer", gofer.mounts.as_fd())));
    ask(live, Operation::Mount, &fds, deadline)
}

fn remove(live: &SandboxLink, destination: &Path) -> Result<()> {
    let destination = spec::Mount::check_destination(Origin::HotMount, "mount", destination)?;
    let operation = Operation::Unmount { destination: destination.as_path().into() };
    ask(live, operation, &[], Instant::now() + MOUNT_LIMIT)
}

fn ask(live: &SandboxLink, operation: Operation, fds: &[NamedFd<'_>], deadline: Instant) -> Result<()> {
    let channel = live.connect(operation, fds)?;
    match channel.receive::<MountReply>(Some(deadline)).map_err(Error::gone_means_ended)?.message {
        MountReply::Done => Ok(()),
        MountReply::Failed(failure) => Err(failure.into()),
    }
}

/// A gofer that has made its mount, and ends with this value.
struct Gofer {
    process: Child,
    /// Where the mount can be received.
    mounts: Channel,
}

impl Gofer {
    fn start(core: &Handle, plan: &GoferPlan, deadline: Instant) -> Result<Self> {
        let (boot, its_boot) = Channel::pair()?;
        let (mounts, its_mounts) = Channel::pair()?;
        let namespace = match core.record.sandbox {
            Some(sandbox) if plan.join_user_namespace => {
                Some(user_namespace_of(sandbox, &core.record.boot_id)?)
            }
            _ => None,
        };
        let plan = seal_plan(&plan.resolve(GoferFacts::default()))?;
        let mut donations = Donations::default();
        donations.give("boot", &its_boot);
        donations.give("plan", &plan);
        donations.give("init", &its_mounts);
        let process = spawn(reexec()?, &Start { name: GOFER, namespaces: 0, cgroup: None }, &donations)?;
        let gofer = Self { process, mounts };
        drop((its_boot, its_mounts));
        let namespace: Vec<_> =
            namespace.iter().map(|namespace| ("user-namespace", namespace.as_fd())).collect();
        boot.send(&GoferStart {}, &namespace)?;
        match boot.receive::<GoferReport>(Some(deadline)).map_err(|error| error.during("gofer"))?.message {
            GoferReport::Failed(failure) => Err(failure.into()),
            GoferReport::Ready => Ok(gofer),
        }
    }
}

impl Drop for Gofer {
    fn drop(&mut self) {
        self.process.destroy();
    }
}
