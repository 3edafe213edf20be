//! What engines leave on the host while they run, and must not leave at their end: processes, records, cgroups.

use crate::kit::{await_end, witness};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};
use std::path::{Path, PathBuf};

/// The processes that an engine leaves: monitors and shims end a moment after what they watch. When this value is dropped,
/// it waits until each has ended by itself, and collects it.
pub(crate) struct Orphans(());

impl Orphans {
    /// Makes every process whose parent ends a child of this one, so that none is lost from sight.
    pub(crate) fn inherit() -> Self {
        rustix::process::set_child_subreaper(Pid::from_raw(1)).expect("prctl(PR_SET_CHILD_SUBREAPER)");
        Self(())
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        loop {
            let left = witness::descendants(std::process::id());
            let Some(process) = left.iter().find(|process| process.parent == std::process::id()) else {
                return;
            };
            let pid = Pid::from_raw(process.pid.cast_signed()).expect("a pid");
            if std::thread::panicking() {
                // The test has failed already, and what it left does not end by itself.
                if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
                    let _ = pidfd_send_signal(pidfd, Signal::KILL);
                }
            }
            await_end(pid.as_raw_nonzero().get());
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// Where a runtime records the containers of one engine. At the end of this value none may be there.
pub(crate) struct Records(pub(crate) PathBuf);

impl Drop for Records {
    fn drop(&mut self) {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let left: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        assert!(left.is_empty() || std::thread::panicking(), "records are left in {:?}: {left:?}", self.0);
    }
}

/// A directory in every cgroup hierarchy for the containers of one engine. At the end of this value nothing may be in it.
pub(crate) struct Cgroups(String);

impl Cgroups {
    /// The engine makes it.
    pub(crate) fn new(name: String) -> Self {
        Self(name)
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    fn places(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        let places = hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(&self.0));
        places.filter(|place| place.is_dir()).collect()
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for place in self.places() {
            // What monitors had for themselves stays empty; what a container had makes this fail.
            let _ = std::fs::remove_dir(place.join("conmon"));
            let removed = std::fs::remove_dir(&place);
            assert!(removed.is_ok() || std::thread::panicking(), "{}: {removed:?}", place.display());
        }
    }
}
