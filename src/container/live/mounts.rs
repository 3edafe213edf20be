//! Mounts into a container that exists, and unmounts.
//!
//! The container's own gofer has given up the privileges that another mount would need. So each mount gets a new gofer,
//! which opens the source, sends the detached mount to the sandbox, and is then killed.

use crate::container::builder::bind::Bind;
use crate::container::builder::default_spec::{is_bind, tmpfs_mount};
use crate::container::handle::Handle;
use crate::container::{Alive, Container, Phase};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::entry::{GOFER, reexec};
use crate::helper::spawn::{Start, seal_plan, spawn};
use crate::helper::{Child, Donations};
use crate::host;
use crate::host::Needs;
use crate::link::{SandboxLink, user_namespace_of};
use crate::plan::{Extras, GoferFacts, GoferPlan, HotMountPlan};
use crate::process::donation::NamedFd;
use crate::process::{Channel, Delivery};
use crate::spec::{self, Origin};
use crate::wire::boot::{GoferReport, GoferStart};
use crate::wire::control::{MountReply, Operation};
use oci_spec::runtime::Mount;
use rustix::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one mount may take: enough for a source on a slow network file system.
const MOUNT_LIMIT: Duration = Duration::from_secs(60);

impl<P: Phase + ?Sized> Container<P> {
    /// Makes a bind mount or a tmpfs in the container while it exists, with every option that `mounts` of a
    /// configuration may have for them (OCI config.md, "Mounts").
    ///
    /// The sandbox resolves the mount point inside the container's root, symbolic links included, and makes it if it is
    /// missing. The mount is not recorded: it lasts until the container ends, or until [`unmount`](Self::unmount). The
    /// source of a bind is relative to the caller's current directory.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] or [`ErrorKind::Unsupported`] naming the field of `mount`: a destination that is
    /// relative, contains `..`, is `/` or `/dev`, a source that is missing, an unknown type or option;
    /// [`ErrorKind::Ended`] if the container has ended; or the errno of the call that failed.
    pub fn mount(&self, mut mount: Mount) -> Result<()>
    where
        P: Alive,
    {
        check_utf8("mount", mount.destination())?;
        mount.source().iter().try_for_each(|source| check_utf8("mount", source))?;
        if is_bind(&mount)
            && let Some(source) = mount.source().clone().filter(|source| !source.as_os_str().is_empty())
        {
            let source = std::path::absolute(&source).os(|| format!("mount.source: {source:?}"))?;
            mount.set_source(Some(source));
        }
        add(&self.core, self.phase.live(), &mount)
    }

    /// Bind-mounts the host's `source`, a file or a directory with all mounts below it, read-only at `destination`.
    ///
    /// # Errors
    /// As [`mount`](Self::mount).
    pub fn mount_bind_ro(&self, source: impl AsRef<Path>, destination: impl AsRef<Path>) -> Result<()>
    where
        P: Alive,
    {
        [source.as_ref(), destination.as_ref()]
            .into_iter()
            .try_for_each(|path| check_utf8("mount_bind_ro", path))?;
        self.mount(Bind::new(source, destination).read_only().to_mount())
    }

    /// Bind-mounts the host's `source`, a file or a directory with all mounts below it, writable at `destination`. The
    /// owner of the source is the container's user, as for [`ContainerBuilder::bind_rw`](crate::ContainerBuilder::bind_rw).
    ///
    /// # Errors
    /// As [`mount`](Self::mount).
    pub fn mount_bind_rw(&self, source: impl AsRef<Path>, destination: impl AsRef<Path>) -> Result<()>
    where
        P: Alive,
    {
        [source.as_ref(), destination.as_ref()]
            .into_iter()
            .try_for_each(|path| check_utf8("mount_bind_rw", path))?;
        self.mount(Bind::new(source, destination).to_mount())
    }

    /// Mounts an empty tmpfs of at most `size` bytes at `destination`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a `size` of 0, which tmpfs(5) reads as "no limit"; else as
    /// [`mount`](Self::mount).
    pub fn mount_tmpfs(&self, destination: impl AsRef<Path>, size: u64) -> Result<()>
    where
        P: Alive,
    {
        if size == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "Container::mount_tmpfs", "must not be 0"));
        }
        check_utf8("mount_tmpfs", destination.as_ref())?;
        self.mount(tmpfs_mount(destination.as_ref(), size))
    }

    /// Unmounts what one of the methods above mounted at `destination`, through this or another value of the container.
    /// Processes that have files in it open keep them until they close them (umount2(2), `MNT_DETACH`).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if these methods mounted nothing there.
    pub fn unmount(&self, destination: impl AsRef<Path>) -> Result<()>
    where
        P: Alive,
    {
        remove(self.phase.live(), destination.as_ref())
    }
}

/// Refuses what a plan, which is JSON, cannot have.
fn check_utf8(method: &str, path: &Path) -> Result<()> {
    match path.to_str() {
        Some(_) => Ok(()),
        None => {
            let step = format!("Container::{method}");
            Err(Error::new(ErrorKind::InvalidInput, step, format!("{path:?} is not UTF-8")))
        }
    }
}

fn add(core: &Handle, live: &SandboxLink, mount: &Mount) -> Result<()> {
    let mount = spec::Mount::further(mount)?;
    let configured = core.configured()?;
    let extras: Extras = serde_json::from_value(core.record.extras.clone())
        .map_err(|error| Error::new(ErrorKind::Stale, "record", format!("extras: {error}")))?;
    let plan = HotMountPlan::new(&mount, &configured.valid, &extras, &host::probe(Needs::default())?)?;
    let deadline = Instant::now() + MOUNT_LIMIT;
    let gofer = plan.gofer.as_ref().map(|plan| Gofer::start(core, plan, deadline)).transpose();
    let gofer = gofer.map_err(|error| live.explain("mount", error))?;
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
    let step = operation.name();
    let channel = live.connect(operation, fds)?;
    let answered = match channel.receive::<MountReply>(Some(deadline)) {
        Ok(Delivery { message: MountReply::Done, .. }) => Ok(()),
        Ok(Delivery { message: MountReply::Failed(failure), .. }) => Err(failure.into()),
        Err(error) => Err(error),
    };
    answered.map_err(|error| live.explain(step, error))
}

/// A gofer that has made its mount. It is killed when this value is dropped.
struct Gofer {
    process: Child,
    /// The end of the connection from which the sandbox receives the mount.
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
        let process = spawn(reexec()?, &Start::of(GOFER), &donations)?;
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
