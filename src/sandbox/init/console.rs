//! The workload's end of a terminal: a pseudoterminal of the container's own devpts.
//!
//! The process that will be the workload makes it, init or an executed one, inside the container's mount namespace. So the
//! kernel names the terminal as the container sees it, and the host's `/dev/pts` is not involved. The caller's end is in
//! `crate::process::console`.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::plan::TerminalPlan;
use crate::sandbox::resolve::{self, TargetKind};
use crate::sys;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Uid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use std::path::Path;

/// The multiplexer below the root: that of *this* devpts, wherever `/dev/ptmx` may lead.
const DEVPTS: &str = "dev/pts";
const MULTIPLEXER: &str = "ptmx";
/// `DEVPTS_SUPER_MAGIC` (statfs(2)).
const DEVPTS_MAGIC: u64 = 0x1cd1;
/// The multiplexer's device number (Linux admin-guide/devices.txt).
const MULTIPLEXER_DEVICE: (u32, u32) = (5, 2);

/// Both ends of a new terminal.
pub(in crate::sandbox) struct Console {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Console {
    /// Makes a terminal of the devpts in this process's root, which is the container's, and makes it this process's own. For
    /// `init`, also mounts it at `/dev/console`. Returns the master.
    pub(in crate::sandbox) fn of_this_process(
        plan: &TerminalPlan,
        owner: u32,
        init: bool,
    ) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty()).os(|| "open(\"/\", O_PATH)")?;
        let console = Self::open(root.as_fd(), plan, owner)?;
        if init {
            console.show_as_dev_console(root.as_fd())?;
        }
        console.become_ours()
    }

    /// Makes a terminal of the devpts below `root`. A running workload may have changed that, so this opens nothing but the
    /// kernel's own multiplexer.
    fn open(root: BorrowedFd<'_>, plan: &TerminalPlan, owner: u32) -> Result<Self> {
        let directory = resolve::open(root, Path::new(DEVPTS)).os(|| "openat2(rootfs, \"dev/pts\")")?;
        let kind = rustix::fs::fstatfs(&directory).os(|| "fstatfs(\"/dev/pts\")")?.f_type;
        if kind as u64 != DEVPTS_MAGIC {
            return Err(no_devpts("/dev/pts is not a devpts"));
        }
        // No process can make a file in a devpts, and this crosses no mount: it is the kernel's own node.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = rustix::fs::openat2(&directory, MULTIPLEXER, flags, Mode::empty(), resolve)
            .os(|| "openat2(\"/dev/pts\", \"ptmx\")")?;
        let stat = rustix::fs::fstat(&master).os(|| "fstat(ptmx)")?;
        let (major, minor) = MULTIPLEXER_DEVICE;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
            || stat.st_rdev != rustix::fs::makedev(major, minor)
        {
            return Err(no_devpts("/dev/pts/ptmx is not the multiplexer"));
        }
        unlockpt(&master).os(|| "ioctl(ptmx, TIOCSPTLCK, 0)")?;
        // Through the master, not by a name that could lead elsewhere (TIOCGPTPEER, ioctl_tty(2)).
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).os(|| "ioctl(ptmx, TIOCGPTPEER)")?;
        // Keep the group that the mount sets: usually that of write(1).
        let stat = rustix::fs::fstat(&slave).os(|| "fstat(pty)")?;
        if stat.st_uid != owner {
            rustix::fs::fchown(&slave, Some(Uid::from_raw(owner)), None)
                .os(|| format!("fchown(pty, {owner})"))?;
        }
        if let Some(size) = plan.size {
            let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
            tcsetwinsize(&master, size).os(|| "ioctl(ptmx, TIOCSWINSZ)")?;
        }
        if plan.keep_newlines {
            let mut modes = tcgetattr(&slave).os(|| "tcgetattr(pty)")?;
            modes.output_modes -= OutputModes::ONLCR;
            tcsetattr(&slave, OptionalActions::Now, &modes).os(|| "tcsetattr(pty)")?;
        }
        Ok(Self { master, slave })
    }

    /// "/dev/console is set up if terminal is enabled in the config by bind mounting the pseudoterminal pty to
    /// /dev/console" - OCI config-linux.md, "Default Devices".
    fn show_as_dev_console(&self, root: BorrowedFd<'_>) -> Result<()> {
        let target = resolve::ensure(root, Path::new("dev/console"), TargetKind::File)?;
        let mount = sys::clone_tree(self.slave.as_fd(), false).os(|| "open_tree(pty, OPEN_TREE_CLONE)")?;
        sys::attach(mount.as_fd(), target.as_fd()).os(|| "move_mount(\"/dev/console\")")
    }

    /// Makes it the controlling terminal of this process, which leads a session without one, and its standard streams.
    /// Returns the master, for the caller alone: any other copy would keep the line from hanging up.
    fn become_ours(self) -> Result<OwnedFd> {
        let Self { master, slave } = self;
        rustix::process::ioctl_tiocsctty(&slave).os(|| "ioctl(pty, TIOCSCTTY)")?;
        rustix::stdio::dup2_stdin(&slave).os(|| "dup2(pty, 0)")?;
        rustix::stdio::dup2_stdout(&slave).os(|| "dup2(pty, 1)")?;
        rustix::stdio::dup2_stderr(&slave).os(|| "dup2(pty, 2)")?;
        Ok(master)
    }
}

fn no_devpts(problem: &str) -> Error {
    let kind = ErrorKind::Unsupported { feature: "process.terminal".into() };
    Error::new(kind, "process.terminal", problem).hint("mount a devpts there")
}
