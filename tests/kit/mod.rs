//! What every integration test stands on: a [`Stage`] with a state root and a rootfs of its own, the [`Witness`] that
//! nothing of the host changed, and programs that play a caller of their own.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    unreachable_pub,
    reason = "each test file uses its own part of this"
)]
#![allow(clippy::disallowed_methods, reason = "tests make and remove plain files of their own")]

pub mod bundle;
pub mod caller;
pub mod criu;
pub mod example;
pub mod inside;
pub mod keys;
pub mod lanes;
pub mod limits;
pub mod place;
pub mod process;
pub mod unshared;
pub mod witness;

use cofferdam::{Container, ContainerBuilder, Rootfs, Running, StateRoot};
pub use process::in_own_process;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use witness::Witness;

/// Ends a test that cannot run here, saying why where the test harness does not hide it.
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::kit::note_skip(&format!($($reason)*));
        return;
    }};
}
pub(crate) use skip;

/// Prints `skipped: REASON` past the harness's capturing of output.
pub fn note_skip(reason: &str) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    // In one write, so that the harness's own lines do not come between.
    let _ = std::io::stderr().write_all(format!("skipped: {reason} [{name}]\n").as_bytes());
}

/// The names busybox is installed under in [`Stage::busybox`].
const APPLETS: &str = "sh cat echo id ls sleep true false head tail tr wc grep env pwd hostname mount umount touch mkdir \
                       rm ln readlink stat sed awk kill ps dd test seq cut sort chmod unshare sync find";

/// The stage of this thread's test, which runs in a process of its own: elsewhere this waits for that process and
/// returns from the test.
macro_rules! stage {
    () => {
        match $crate::kit::Stage::in_own_process() {
            Some(stage) => stage,
            None => return,
        }
    };
}
pub(crate) use stage;

/// One test's own world: a state root, a directory, and ids that no other test uses. When the test has passed, its end
/// asserts that the host is as it was.
pub struct Stage {
    id_prefix: String,
    root: StateRoot,
    before: Witness,
    dir: TempDir,
}

impl Stage {
    /// The stage if this process is the test's own; see [`stage!`].
    pub fn in_own_process() -> Option<Self> {
        in_own_process().then(Self::here)
    }

    /// A stage for a process that runs nothing else.
    pub fn here() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = StateRoot::open(dir.path().join("state")).expect("a state root");
        let id_prefix = format!("it-{}-", std::process::id());
        let before = Witness::look(&id_prefix, dir.path());
        Self { id_prefix, root, before, dir }
    }

    /// An id no other process uses.
    pub fn id(&self, name: &str) -> String {
        format!("{}{name}", self.id_prefix)
    }

    /// This test's state root.
    pub fn root(&self) -> &StateRoot {
        &self.root
    }

    /// This test's directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A container on the host's own directories.
    pub fn container(&self, name: &str) -> ContainerBuilder {
        ContainerBuilder::new().id(self.id(name)).state_root(self.root.clone())
    }

    /// A container on the host's own directories that runs `script`.
    pub fn shell(&self, name: &str, script: &str) -> ContainerBuilder {
        self.container(name).args(["sh", "-c", script])
    }

    /// A container on a directory of its own that runs `script` in busybox's shell.
    pub fn busybox_shell(&self, name: &str, script: &str) -> ContainerBuilder {
        self.shell(name, script).rootfs(Rootfs::directory(self.busybox()))
    }

    /// A root directory with busybox in it and nothing else.
    pub fn busybox(&self) -> PathBuf {
        let rootfs = self.dir.path().join("rootfs");
        if !rootfs.exists() {
            write_busybox_rootfs(&rootfs);
        }
        rootfs
    }

    /// A directory that every user may write to, those of a container too.
    pub fn open_directory(&self, name: &str) -> PathBuf {
        self.directory(name, 0o777)
    }

    /// A directory that every user may read, and only this one may change: what is below may be a state directory.
    pub fn readable_directory(&self, name: &str) -> PathBuf {
        self.directory(name, 0o755)
    }

    fn directory(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir(&path).expect("a directory");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("its mode");
        path
    }

    /// What is left now of what was not there when the test began; empty if nothing is.
    pub fn changes(&self) -> Vec<String> {
        self.before.changes(&Witness::look(&self.id_prefix, self.path()))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let changes = self.changes();
            assert!(changes.is_empty(), "the test left the host changed:\n{}", changes.join("\n"));
        }
    }
}

/// Writes a root directory for busybox.
pub fn write_busybox_rootfs(rootfs: &Path) {
    for name in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        std::fs::create_dir_all(rootfs.join(name)).expect("a directory of the rootfs");
    }
    std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("busybox, statically linked, in /bin");
    for applet in APPLETS.split_whitespace() {
        symlink("busybox", rootfs.join("bin").join(applet)).expect("an applet");
    }
}

/// Every process below this one, zombies too, as text.
pub fn descendants_of_this_process() -> Vec<String> {
    witness::descendants(std::process::id()).iter().map(ToString::to_string).collect()
}

/// Writes a file that may be executed.
pub fn write_script(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a script");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("an executable script");
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this user may limit `controller` of a container: root where a hierarchy has it, another where a subtree of
/// cgroup v2 was delegated together with it.
pub fn may_limit(controller: &str) -> bool {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    if is_root() {
        let table = read(Path::new("/proc/cgroups"));
        // It has the names of v1.
        let controller = if controller == "io" { "blkio" } else { controller };
        return table
            .lines()
            .any(|line| line.split('\t').next() == Some(controller) && line.ends_with("\t1"));
    }
    let membership = read(Path::new("/proc/self/cgroup"));
    let own = membership.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let top = Path::new("/sys/fs/cgroup");
    // A container goes below the nearest cgroup above its caller's that can give it the controller.
    let above = top.join(own).ancestors().skip(1).map(Path::to_path_buf).collect::<Vec<_>>();
    above.iter().take_while(|dir| dir.starts_with(top)).any(|dir| {
        let has = read(&dir.join("cgroup.controllers")).split_whitespace().any(|name| name == controller);
        let enables =
            read(&dir.join("cgroup.subtree_control")).split_whitespace().any(|name| name == controller);
        let writable = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok();
        has && writable && (enables || read(&dir.join("cgroup.procs")).is_empty())
    })
}

/// Whether this user may limit memory, processes and processors of a container.
pub fn may_limit_all() -> bool {
    ["memory", "pids", "cpu"].into_iter().all(may_limit)
}

/// Whether `program` is on the search path.
pub fn is_installed(program: &str) -> bool {
    find(program).is_some()
}

/// The file of `program` on the search path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&path).map(|dir| dir.join(program));
    files.find(|file| file.is_file())
}

/// Builds a container, creates it and starts it.
pub fn start(builder: ContainerBuilder) -> Container<Running> {
    builder.build().unwrap().create().unwrap().start().unwrap()
}

/// What a passing run wrote, as text without the last newline.
pub fn stdout_of(builder: ContainerBuilder) -> String {
    let output = builder.output().expect("the container runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    assert!(output.exit.outcome.success(), "{:?}: {}", output.exit.outcome, text(&output.stderr));
    text(&output.stdout)
}

/// One `Name:` line of `/proc/PID/status`.
pub fn status_line(pid: &str, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status file");
    line_of(&status, name)
}

/// One `Name:` line of a status file's text.
pub fn line_of(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Waits until the process has ended, which it has to within a bound no healthy run comes near.
pub fn await_end(pid: i32) {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let Ok(pidfd) = pidfd_open(Pid::from_raw(pid).expect("a pid"), PidfdFlags::empty()) else { return };
    assert!(is_readable_within(&pidfd, Duration::from_secs(10)), "process {pid} is still there");
}

/// Whether `fd` becomes readable in time.
pub fn is_readable_within(fd: &impl std::os::fd::AsFd, limit: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return ready.expect("poll") > 0,
        }
    }
}
