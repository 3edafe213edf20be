//! What an image says of a container besides its processes, and what of a container cannot be in one.

use super::file_worker::FileWorker;
use super::files::Files;
use super::processes::ProcessInfo;
use crate::cgroup::{Freezer, frozen_dir};
use crate::criu::{Criu, External};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::host;
use crate::image::{Description, NewImage, StreamKind, hex_digest};
use crate::link::SandboxLink;
use crate::plan::{Extras, writable_tmpfs};
use crate::seccomp;
use crate::spec::{Origin, ValidSpec};
use crate::state::{Record, Status};
use crate::sys::StatusText;
use procfs::FromBufRead;
use procfs::process::MountInfos;
use rustix::fs::FileType;
use rustix::thread::CapabilitySet;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a paused process may take to come out of vfork(2), and how long it runs at a time.
const VFORK_LIMIT: Duration = Duration::from_secs(2);
const MOMENT: Duration = Duration::from_millis(1);
/// The null device (kernel documentation, devices.txt).
const NULL: (u32, u32) = (1, 3);
/// The majors of the terminals of a devpts.
const TERMINALS: std::ops::RangeInclusive<u32> = 136..=143;

/// What was learnt of a container before it is written down.
pub(super) struct ImageFacts {
    /// Everything that its configuration makes again: the network, PID 1 and every mount.
    pub(super) external: Vec<External>,
    /// The cgroup that is frozen, if the container is paused.
    pub(super) frozen_by: Option<PathBuf>,
    init_pid: i32,
    streams: [StreamKind; 3],
    filter: Option<String>,
    /// Whether it has overlays.
    scratch: bool,
    /// Where it has a tmpfs that it can write to.
    tmpfs: Vec<PathBuf>,
}

/// Fails for a caller that may not look into a container as CRIU has to.
pub(super) fn check_caller() -> Result<()> {
    let capabilities = rustix::thread::capabilities(None).os(|| "capget()")?;
    if capabilities.effective.contains(CapabilitySet::SYS_ADMIN) && !host::in_user_namespace() {
        return Ok(());
    }
    let problem =
        "only root of the host may read the seccomp filter of a process, which belongs into an image";
    Err(Error::unsupported("checkpoint", problem).hint("every user can restore one"))
}

impl ImageFacts {
    /// Fails for what cannot be in an image.
    pub(super) fn of(record: &Record, live: &SandboxLink, phase: Status) -> Result<Self> {
        let spec = ValidSpec::new(&record.spec.parse()?, Some(&record.bundle), Origin::Record)?;
        let filter = spec.seccomp.as_ref().map(seccomp::compile).transpose()?;
        if filter.as_ref().is_some_and(|filter| filter.notify) {
            return Err(refused("its seccomp filter asks an agent, whose connection does not travel"));
        }
        let extras: Extras = serde_json::from_value(record.extras.clone())
            .map_err(|error| Error::new(ErrorKind::Stale, "record", format!("extras: {error}")))?;
        let init = live.init_pid();
        let mounts = mounts_of(init)?;
        let facts = Self {
            init_pid: pid_inside(init)?,
            external: Vec::new(),
            frozen_by: (phase == Status::Paused).then(|| frozen_dir(&record.cgroups)).flatten(),
            streams: [StreamKind::Closed, StreamKind::Closed, StreamKind::Closed],
            filter: filter.map(|filter| hex_digest(&filter.bytes())),
            scratch: extras.scratch.is_some(),
            tmpfs: writable_tmpfs(&spec, &extras),
        };
        if phase == Status::Paused && facts.frozen_by.is_none() {
            return Err(refused("no frozen cgroup of it was found").hint("resume it first"));
        }
        let tree = facts.check_tree(live)?;
        if let Some(dir) = &facts.frozen_by {
            leave_vforks(&tree, dir)?;
        }
        Ok(Self {
            external: external(init, facts.init_pid, &mounts)?,
            streams: streams(init, &tree, &mounts, spec.process.terminal)?,
            ..facts
        })
    }

    /// Fails if a process of the container is none that init or its descendants have started: it would not be in the image.
    /// Returns the pids on the host.
    pub(super) fn check_tree(&self, live: &SandboxLink) -> Result<Vec<i32>> {
        let all = super::processes::list(live)?;
        let tree = descendants(&all, self.init_pid);
        let outside: Vec<_> = all.iter().filter(|process| !tree.contains(&process.pid)).collect();
        if outside.is_empty() {
            return Ok(all.iter().filter_map(|process| process.host_pid).collect());
        }
        let names: Vec<_> =
            outside.iter().map(|process| format!("{} ({})", process.pid, process.name)).collect();
        let problem = format!("not among the processes below its first one are {}", names.join(", "));
        Err(refused(problem).hint("a process of exec or an orphan cannot be in an image: end it first"))
    }

    pub(super) fn describe(&self, record: &Record, criu: &Criu) -> Description {
        Description {
            container: record.id.clone(),
            criu: criu.version().to_string(),
            init_pid: self.init_pid,
            streams: self.streams.clone(),
            external: External::options(&self.external),
            filter: self.filter.clone(),
        }
    }

    /// Writes what the container has in its scratch, and in each tmpfs.
    pub(super) fn write_layers(&self, live: &SandboxLink, image: &mut NewImage) -> Result<()> {
        if !self.scratch && self.tmpfs.is_empty() {
            return Ok(());
        }
        let files = Files::of(FileWorker::start(live)?);
        if self.scratch {
            files.export_layer(u64::MAX, image.layer(None)?)?;
        }
        for at in &self.tmpfs {
            files.export_mount(at, u64::MAX, &mut image.layer(Some(at.clone()))?)?;
        }
        Ok(())
    }
}

fn refused(problem: impl std::fmt::Display) -> Error {
    Error::unsupported("checkpoint", problem)
}

/// `first` and what it and its descendants have started, as far as that is among `all`.
fn descendants(all: &[ProcessInfo], first: i32) -> BTreeSet<i32> {
    let mut tree = BTreeSet::from([first]);
    loop {
        let before = tree.len();
        let children = all.iter().filter(|process| tree.contains(&process.ppid));
        let children: Vec<_> = children.map(|process| process.pid).collect();
        tree.extend(children);
        if tree.len() == before {
            return tree;
        }
    }
}

/// Lets the processes of a frozen cgroup run for a moment, until none of them waits for a child to execute its program
/// (vfork(2)): CRIU stops the child, and would wait for the parent for ever.
fn leave_vforks(tree: &[i32], dir: &Path) -> Result<()> {
    let freezer = Freezer::of(dir)?;
    let deadline = Instant::now() + VFORK_LIMIT;
    while tree.iter().any(|pid| is_in_vfork(*pid)) {
        if Instant::now() > deadline {
            let problem =
                "a process waits for its child to execute a program (vfork(2)), and the child does not";
            return Err(Error::new(ErrorKind::Os(libc::EBUSY), "checkpoint", problem).hint("resume it first"));
        }
        freezer.thaw()?;
        #[expect(clippy::disallowed_methods, reason = "how long the others run is a time, not an event")]
        std::thread::sleep(MOMENT);
        freezer.freeze_within(VFORK_LIMIT)?;
    }
    Ok(())
}

/// Whether a thread of the process is in vfork(2), or in a clone(2) or clone3(2) that waits likewise.
fn is_in_vfork(pid: i32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("syscall")).ok()).any(|call| {
        let mut words = call.split_ascii_whitespace();
        let number = words.next().and_then(|number| number.parse().ok());
        let first = words.next().and_then(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
        let waits = |flags: u64| flags & libc::CLONE_VFORK as u64 != 0;
        match (number, first) {
            #[cfg(target_arch = "x86_64")]
            (Some(libc::SYS_vfork), _) => true,
            (Some(libc::SYS_clone), Some(flags)) => waits(flags),
            // Its first argument is the address of a structure, which begins with the flags.
            (Some(libc::SYS_clone3), Some(address)) => {
                let mut flags = [0; 8];
                let memory = File::open(format!("/proc/{pid}/mem"));
                let read = memory.and_then(|memory| memory.read_exact_at(&mut flags, address));
                read.is_ok() && waits(u64::from_ne_bytes(flags))
            }
            _ => false,
        }
    })
}

/// The pid that a process has in its own pid namespace.
fn pid_inside(pid: i32) -> Result<i32> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).os(|| format!("read({path:?})"))?;
    let inside = StatusText(&status).pids().next_back();
    inside.ok_or_else(|| refused("this kernel does not show its pid inside (NSpid)"))
}

fn mounts_of(pid: i32) -> Result<MountInfos> {
    let path = format!("/proc/{pid}/mountinfo");
    let file = File::open(&path).os(|| format!("open({path:?})"))?;
    MountInfos::from_buf_read(BufReader::new(file)).map_err(|error| refused(format!("{path}: {error}")))
}

fn external(init: i32, init_inside: i32, mounts: &MountInfos) -> Result<Vec<External>> {
    let inode = |name: &str| {
        let path = format!("/proc/{init}/ns/{name}");
        rustix::fs::stat(&path).os(|| format!("stat({path:?})")).map(|stat| stat.st_ino)
    };
    let mut external = vec![External::Network(inode("net")?)];
    // Without a reaper init is PID 1, and the pid namespace goes with it.
    if init_inside != 1 {
        external.push(External::Pids(inode("pid")?));
    }
    for mount in mounts.0.iter().filter(|mount| mount.mount_point != Path::new("/")) {
        let path = mount.mount_point.to_str();
        let path = path.ok_or_else(|| refused(format!("{:?} is no UTF-8", mount.mount_point)))?;
        external.push(External::Mount(path.to_owned()));
    }
    Ok(external)
}

/// What the standard streams of init are. Fails for a file of the host.
fn streams(init: i32, tree: &[i32], mounts: &MountInfos, terminal: bool) -> Result<[StreamKind; 3]> {
    let mut kinds = [StreamKind::Closed, StreamKind::Closed, StreamKind::Closed];
    for (number, kind) in kinds.iter_mut().enumerate() {
        let Some(open) = OpenFile::of(init, &number.to_string()) else { continue };
        *kind = if open.device == Some(NULL) {
            StreamKind::Null
        } else if terminal && open.device.is_some_and(|(major, _)| TERMINALS.contains(&major)) {
            StreamKind::Terminal
        } else if open.link.starts_with("pipe:[") && !tree.iter().any(|pid| open.has_other_end(*pid)) {
            StreamKind::Pipe { key: open.link }
        } else if open.is_of_a_mount && !mounts.0.iter().any(|mount| mount.mnt_id == open.mount) {
            let name = ["standard input", "standard output", "standard error"][number];
            let problem = format!("its {name} is {}, a file outside the container", open.link);
            return Err(refused(problem).hint("a pipe, a terminal and the null device can be in an image"));
        } else {
            StreamKind::Inside
        };
    }
    Ok(kinds)
}

/// A descriptor of a process (proc_pid_fd(5), proc_pid_fdinfo(5)).
struct OpenFile {
    /// Where it leads, as the kernel words it.
    link: String,
    /// Major and minor of a device.
    device: Option<(u32, u32)>,
    /// Whether it is a file that has a name on a mount.
    is_of_a_mount: bool,
    mount: i32,
    /// `O_RDONLY`, `O_WRONLY`, or `O_RDWR`.
    access: i32,
}

impl OpenFile {
    /// `None` if it is closed.
    fn of(pid: i32, number: &str) -> Option<Self> {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
        let link = link.to_string_lossy().into_owned();
        let stat = rustix::fs::stat(format!("/proc/{pid}/fd/{number}")).ok()?;
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
        let (kind, info) = (FileType::from_raw_mode(stat.st_mode), StatusText(&info));
        let flags = info.line("flags").and_then(|flags| i32::from_str_radix(flags, 8).ok());
        let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        Some(Self {
            device: (kind == FileType::CharacterDevice).then_some(device),
            is_of_a_mount: link.starts_with('/') && !link.starts_with("/memfd:"),
            mount: info.line("mnt_id").and_then(|id| id.parse().ok()).unwrap_or(-1),
            access: flags.unwrap_or_default() & libc::O_ACCMODE,
            link,
        })
    }

    /// Whether the process holds the other end of this pipe.
    fn has_other_end(&self, pid: i32) -> bool {
        let numbers = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().into_string().ok());
        numbers.filter_map(|number| Self::of(pid, &number)).any(|other| {
            other.link == self.link && (other.access != self.access || other.access == libc::O_RDWR)
        })
    }
}
