//! The new process of a restore, from its fork until it executes CRIU.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::Received;
use crate::plan::RestorePlan;
use crate::sandbox::cgroups::ContainerCgroups;
use crate::sandbox::init::become_workload::take_streams;
use crate::sandbox::namespaces::InitNamespaces;
use crate::sandbox::oom_score::OomScore;
use crate::sandbox::{keyring, namespaces};
use crate::sys::{self, Execution};
use crate::wire::init::restore_name;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::thread::CapabilitySet;
use std::ffi::CString;

/// Of the kernel: no file has a path of this length.
const PATH_MAX: usize = 4096;

/// The mounts that CRIU works with.
pub(super) struct Mounts {
    pub(super) images: OwnedFd,
    program: OwnedFd,
    loader: Option<OwnedFd>,
    libraries: Vec<OwnedFd>,
}

impl Mounts {
    pub(super) fn take(plan: &RestorePlan, handles: &mut Received) -> Result<Self> {
        let mut take = |index: usize| handles.take(&restore_name(index));
        Ok(Self {
            images: take(plan.images)?,
            program: take(plan.program)?,
            loader: plan.loader.map(&mut take).transpose()?,
            libraries: plan.libraries.iter().map(|index| take(*index)).collect::<Result<_>>()?,
        })
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.images, &self.program].into_iter().chain(&self.loader).chain(&self.libraries).map(AsFd::as_fd)
    }

    /// The file to execute, and its arguments.
    fn command(&self) -> (CString, Vec<CString>) {
        let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let program = path(&self.program);
        let mut words = vec![program.clone()];
        if let Some(loader) = &self.loader {
            let directories: Vec<_> = self.libraries.iter().map(path).collect();
            words = vec![path(loader), "--library-path".into(), directories.join(":"), program];
        }
        let file = words[0].clone();
        // The container's files are no configuration of CRIU.
        words.extend(["swrk", "0", "--no-default-config"].map(str::to_owned));
        let c_string = |word: String| CString::new(word).expect("numbers and words without NUL");
        (c_string(file), words.into_iter().map(c_string).collect())
    }

    /// Nor are they its programs, when it is in the container's root and would try `sh` or `iptables`.
    fn environment() -> [CString; 1] {
        [format!("PATH=/{}", "-".repeat(2 * PATH_MAX))]
            .map(|variable| CString::new(variable).expect("without NUL"))
    }
}

/// What else the fork of CRIU needs of the container.
pub(in crate::sandbox) struct Place<'a> {
    pub(in crate::sandbox) namespaces: &'a InitNamespaces,
    /// The cgroup namespace, if the sandbox is not in it.
    pub(in crate::sandbox) cgroup_namespace: Option<BorrowedFd<'a>>,
    pub(in crate::sandbox) cgroups: &'a ContainerCgroups,
    pub(in crate::sandbox) null: BorrowedFd<'a>,
    pub(in crate::sandbox) score: &'a OomScore,
    pub(in crate::sandbox) oom_score_adj: Option<i32>,
}

/// What CRIU is executed with.
pub(super) struct Fds<'a> {
    pub(super) mounts: &'a Mounts,
    pub(super) streams: &'a [Option<OwnedFd>; 3],
    pub(super) connection: &'a OwnedFd,
    pub(super) log: &'a OwnedFd,
}

/// In the new process. Returns what went wrong.
pub(super) fn become_criu(
    place: &Place<'_>,
    fds: &Fds<'_>,
    born: bool,
    bounding: u64,
    no_new_privileges: bool,
) -> Error {
    let prepare = || -> Result<()> {
        // Where the sandbox has no pid namespace of its own, the kernel does not end its children with it.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .os(|| "prctl(PR_SET_PDEATHSIG)")?;
        sys::unblock_signals();
        rustix::process::setsid().os(|| "setsid()")?;
        place.cgroups.join(born, None)?;
        namespaces::follow(place.cgroup_namespace, None)?;
        rustix::process::chdir("/").os(|| "chdir(\"/\")")?;
        // Restored processes keep it.
        keyring::leave_callers()?;
        for number in 0..64 {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            if bounding >> number & 1 == 0 {
                match rustix::thread::remove_capability_from_bounding_set(capability) {
                    // Past the last capability that this kernel knows.
                    Err(Errno::INVAL) => break,
                    result => result.os(|| format!("prctl(PR_CAPBSET_DROP, {number})"))?,
                }
            }
        }
        if no_new_privileges {
            rustix::thread::set_no_new_privs(true).os(|| "prctl(PR_SET_NO_NEW_PRIVS)")?;
        }
        let dup = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3).os(|| "fcntl(F_DUPFD_CLOEXEC)");
        let streams = [dup(fds.connection.as_fd())?, dup(place.null)?, dup(fds.log.as_fd())?];
        take_streams(&streams.map(Some))?;
        let kept = fds.mounts.fds().chain(fds.streams.iter().flatten().map(AsFd::as_fd));
        for fd in kept.chain([place.null]) {
            sys::keep_on_exec(fd.as_raw_fd()).os(|| "fcntl(F_SETFD)")?;
        }
        Ok(())
    };
    if let Err(error) = prepare() {
        return error;
    }
    let (file, arguments) = fds.mounts.command();
    let environment = Mounts::environment();
    let (_, errno) = Execution::new(&file, &arguments, &environment).execute();
    Error::new(ErrorKind::Os(errno.raw_os_error()), format!("execve({file:?})"), errno.to_string())
}
