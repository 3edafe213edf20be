//! The runtimes: the one under test, and those that it is compared with.

use crate::kit::example;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A runtime's executable.
pub(crate) struct Runtime {
    path: PathBuf,
    /// `ours`, or that of its file.
    pub(crate) name: String,
}

/// The mount that crun 1.8 takes for a sign of cgroup v2 alone.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

impl Runtime {
    /// What `RUNTIME` names, or the example `oci`; or why there is none.
    pub(crate) fn under_test() -> Result<Self, String> {
        let path = example::runtime()?;
        Ok(if example::is_ours() { Self { path, name: "ours".into() } } else { Self::at(path) })
    }

    /// The control of this name, if it is installed.
    pub(crate) fn control(name: &str) -> Option<Self> {
        let directories = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
        let paths = directories.map(|directory| Path::new(directory).join(name));
        paths.into_iter().find(|path| path.is_file()).map(Self::at)
    }

    fn at(path: PathBuf) -> Self {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        Self { path, name }
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.name == "ours"
    }

    /// Whether it is to see no cgroup v2: crun 1.8 uses it as soon as it is mounted, though the controllers are on v1.
    fn is_without_unified(&self) -> bool {
        self.name == "crun" && Path::new(UNIFIED).exists()
    }

    /// A call of it.
    pub(crate) fn command(&self) -> Command {
        if !self.is_without_unified() {
            return Command::new(&self.path);
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]).arg(format!("umount {UNIFIED} && exec \"$@\"")).arg("sh");
        command.arg(&self.path);
        command
    }

    /// A call of it in a mount namespace that is new, and whose name it writes to the file `namespace` before.
    pub(crate) fn command_in_new_mounts(&self) -> Command {
        let before = if self.is_without_unified() { format!("umount {UNIFIED};") } else { String::new() };
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]);
        command.arg(format!("{before} readlink /proc/self/ns/mnt >namespace; exec \"$@\"")).arg("sh");
        command.arg(&self.path);
        command
    }
}
