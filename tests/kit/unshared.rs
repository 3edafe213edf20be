//! Namespaces of others.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program of the host's that holds namespaces of its own until this is dropped.
pub struct Unshared(Child);

impl Unshared {
    /// By unshare(1) with these options.
    pub fn new(options: &[&str]) -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(options).args(["--fork", "sh", "-c", "echo; read line"]);
        let mut child = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare(1)");
        let line = std::io::Read::read(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        assert_eq!(line, 1, "it has begun");
        Self(child)
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// A file of the namespace.
    pub fn path(&self, file: &str) -> PathBuf {
        let file = if file == "pid" { "pid_for_children" } else { file };
        Path::new("/proc").join(self.pid().to_string()).join("ns").join(file)
    }
}

impl Drop for Unshared {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
