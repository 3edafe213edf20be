//! The host as a witness: a place of a test's own on it, and what is there that should not be.

use cofferdam::{ContainerBuilder, Rootfs, StateRoot};
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Programs that the rootfs offers, all of them one static busybox.
const APPLETS: [&str; 6] = ["sh", "true", "sleep", "cat", "echo", "kill"];

/// Prints `skipped: REASON` past the harness's capturing of output, in one write, so that its own lines do not come
/// between.
pub(crate) fn note_skip(reason: &str) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = std::io::stderr().write_all(format!("skipped: {reason} [{name}]\n").as_bytes());
}

/// A directory of one test: a state root, a rootfs, and ids nobody else uses.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    serial: u32,
}

impl Place {
    /// `None`, with the reason on stderr, where there is no static busybox to make a rootfs of.
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Some(busybox) =
            ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists())
        else {
            note_skip("no busybox to make a rootfs of");
            return None;
        };
        let dir =
            tempfile::Builder::new().prefix("cofferdam-test-").tempdir().expect("a temporary directory");
        let rootfs = dir.path().join("rootfs");
        for name in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
            std::fs::create_dir_all(rootfs.join(name)).expect("a directory of the rootfs");
        }
        std::fs::copy(busybox, rootfs.join("bin/busybox")).expect("busybox in the rootfs");
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet)).expect("an applet of the rootfs");
        }
        Some(Self { dir, serial: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    pub(crate) fn state(&self) -> StateRoot {
        StateRoot::open(self.dir.path().join("state")).expect("a state root")
    }

    /// An id that contains this process's pid, so that what it names can be told from everybody else's.
    pub(crate) fn id(&self, name: &str) -> String {
        format!("{name}-{}-{}", std::process::id(), self.serial)
    }

    /// A hardened container on the rootfs.
    pub(crate) fn builder(&self, id: &str) -> ContainerBuilder {
        ContainerBuilder::new(id)
            .rootfs(Rootfs::directory(self.rootfs()))
            .state_root(self.state())
            .args(["true"])
    }

    /// Everything on the host that has to do with this place and does not belong to a host without containers.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        found.extend(
            names_in(&self.dir.path().join("state")).into_iter().map(|name| format!("state: {name}")),
        );
        found.extend(self.mounts());
        found.extend(self.cgroups());
        found.extend(children().into_iter().map(|pid| format!("process: {}", describe(pid))));
        found
    }

    /// Mounts in this mount namespace that show or cover something of this place.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let here = self.dir.path().to_str().expect("a temporary directory in UTF-8");
        table.lines().filter(|line| line.contains(here)).map(|line| format!("mount: {line}")).collect()
    }

    /// Cgroups named after an id of this place, in every hierarchy.
    pub(crate) fn cgroups(&self) -> Vec<String> {
        let mark = self.id("");
        let mut found = Vec::new();
        let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let path = entry.path();
                if path.to_string_lossy().ends_with(&mark) {
                    found.push(format!("cgroup: {}", path.display()));
                }
                todo.push(path);
            }
        }
        found
    }
}

/// The names in a directory, sorted; none if there is no such directory.
pub(crate) fn names_in(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The children of this process, zombies included.
pub(crate) fn children() -> Vec<i32> {
    let mut pids = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").expect("the threads of this process").flatten() {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        pids.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    pids
}

/// A process as a person would want to see it in a failed test.
pub(crate) fn describe(pid: i32) -> String {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let state = read("status").lines().find(|line| line.starts_with("State:")).unwrap_or_default().to_owned();
    format!("{pid} {:?} {state}", read("cmdline").replace('\0', " "))
}
