//! What the comparison is given, and what it says.

use serde_json::{Value, json};
use std::fmt::Debug;
use std::path::Path;

/// What is known before anything is looked at.
pub(crate) struct Facts {
    /// The configuration.
    pub(crate) config: Value,
    /// What only the host can know:
    /// * `namespaces`: by the name below `/proc/self/ns`, `{"new": IT}` for another one than the runtime's `IT`, or
    ///   `{"is": IT}` for this one;
    /// * `oomScoreAdj`: the runtime's;
    /// * `apparmor`, `selinux`: whether the kernel has them;
    /// * `binds`: by the destination, the device and the inode of the source;
    /// * `mounts`: what hooks mount.
    pub(crate) host: Value,
    /// Of this process.
    status: String,
    /// Whether the container has a user namespace of its own, where the kernel keeps some things from its root.
    pub(crate) has_user_namespace: bool,
}

impl Facts {
    pub(crate) fn read(directory: &Path) -> Self {
        let document = |name: &str| {
            let path = directory.join(name);
            let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let map = std::fs::read_to_string("/proc/self/uid_map").expect("/proc of the container's own");
        Self {
            config: document("config.json"),
            host: document("host.json"),
            status: std::fs::read_to_string("/proc/self/status").expect("/proc of the container's own"),
            has_user_namespace: map.split_whitespace().ne(["0", "0", "4294967295"]),
        }
    }

    pub(crate) fn process(&self) -> &Value {
        &self.config["process"]
    }

    pub(crate) fn linux(&self) -> &Value {
        &self.config["linux"]
    }

    /// A line of this process's status, its words separated by one blank.
    pub(crate) fn status(&self, name: &str) -> String {
        let line = self.status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// The entries of a list; none if there is no list.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The texts of a list.
pub(crate) fn texts(value: &Value) -> impl Iterator<Item = &str> {
    list(value).filter_map(Value::as_str)
}

/// What the comparison found.
#[derive(Default)]
pub(crate) struct Report {
    subject: &'static str,
    compared: usize,
    faults: Vec<String>,
}

impl Report {
    pub(crate) fn begin(&mut self, subject: &'static str) {
        self.subject = subject;
    }

    /// A fault unless `holds`.
    pub(crate) fn check(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        self.compared += 1;
        if !holds {
            self.faults.push(format!("{}: {}", self.subject, fault()));
        }
    }

    /// A fault unless both are equal.
    pub(crate) fn same<T: PartialEq + Debug>(&mut self, what: &str, expected: &T, found: &T) {
        self.check(expected == found, || format!("{what} is {found:?}, not {expected:?}"));
    }

    /// What goes to the host.
    pub(crate) fn line(&self) -> String {
        format!("{}\n", json!({ "compared": self.compared, "faults": self.faults }))
    }
}
