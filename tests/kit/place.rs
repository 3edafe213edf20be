//! A place of a test's own, for tests that run as processes of their own or make hundreds of containers: its witness is
//! asked when the test wants to know, and looks only for what this place's containers leave.

use super::witness::find_directories;
use super::write_busybox_rootfs;
use cofferdam::{Container, ContainerBuilder, Created, Rootfs, StateRoot};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of one test: a state root, a rootfs, and ids that no other test uses.
pub struct Place {
    dir: tempfile::TempDir,
    serial: u32,
}

impl Place {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir =
            tempfile::Builder::new().prefix("cofferdam-test-").tempdir().expect("a temporary directory");
        write_busybox_rootfs(&dir.path().join("rootfs"));
        Self { dir, serial: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    pub fn state(&self) -> StateRoot {
        StateRoot::open(self.dir.path().join("state")).expect("a state root")
    }

    /// An id with this process's pid, which tells what it names from what other processes make.
    pub fn id(&self, name: &str) -> String {
        format!("{name}-{}-{}", std::process::id(), self.serial)
    }

    /// A hardened container on the rootfs.
    pub fn builder(&self, id: &str) -> ContainerBuilder {
        ContainerBuilder::new()
            .id(id)
            .rootfs(Rootfs::directory(self.rootfs()))
            .state_root(self.state())
            .args(["true"])
    }

    /// A container that waits to sleep.
    pub fn created(&self, id: &str) -> Container<Created> {
        self.builder(id).args(["sleep", "1000"]).build().expect("a plan").create().expect("created")
    }

    /// Everything on the host that has to do with this place and does not belong to a host without containers.
    pub fn leftovers(&self) -> Vec<String> {
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
    pub fn mounts(&self) -> Vec<String> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let here = self.dir.path().to_str().expect("a temporary directory in UTF-8");
        table.lines().filter(|line| line.contains(here)).map(|line| format!("mount: {line}")).collect()
    }

    /// Cgroups named after an id of this place, in every hierarchy.
    pub fn cgroups(&self) -> Vec<String> {
        let mark = self.id("");
        // The name of the state root may follow.
        let is_ours = |name: &str| name.ends_with(&mark) || name.contains(&format!("{mark}-"));
        let mut found = BTreeSet::new();
        find_directories(Path::new("/sys/fs/cgroup"), &is_ours, &mut found);
        found.into_iter().map(|path| format!("cgroup: {path}")).collect()
    }
}

/// The names in a directory, sorted; none if there is no such directory.
pub fn names_in(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The children of this process, zombies included.
pub fn children() -> Vec<i32> {
    let mut pids = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").expect("the threads of this process").flatten() {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        pids.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    pids
}

/// A process as a person would want to see it in a failed test.
pub fn describe(pid: i32) -> String {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let state = read("status").lines().find(|line| line.starts_with("State:")).unwrap_or_default().to_owned();
    format!("{pid} {:?} {state}", read("cmdline").replace('\0', " "))
}
