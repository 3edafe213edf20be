//! [`FieldNames`]: the methods of the builder by the fields that they set, for errors.
//!
//! Validation, plan and helpers work on the OCI configuration, and name its fields: `mounts[7].source`. A program that
//! calls methods never sees that configuration, so its errors name the call: `bind_ro("/data").source`.
//! [`ErrorKind::InvalidSpec`] keeps the field's path.

use super::description::ContainerBuilder;
use crate::error::{Error, ErrorKind};
use crate::spec::Origin;
use std::path::Path;

/// Fields, each with the one method that sets it if the configuration began as the builder's own. The first that matches
/// counts, so a longer field stands before its beginning.
const METHODS: [(&str, &str); 24] = [
    ("annotations", "annotation"),
    ("hooks", "hook"),
    ("hostname", "hostname"),
    ("linux.cgroupsPath", "cgroups_path"),
    ("linux.gidMappings", "id_mappings"),
    ("linux.resources.blockIO", "io_limit"),
    ("linux.resources.cpu.burst", "cpu_burst"),
    ("linux.resources.cpu", "cpu_limit"),
    ("linux.resources.hugepageLimits", "hugepage_limit"),
    ("linux.resources.memory.limit", "memory_limit"),
    ("linux.resources.pids.limit", "pids_limit"),
    ("linux.resources.unified", "unified"),
    ("linux.seccomp", "seccomp"),
    ("linux.uidMappings", "id_mappings"),
    ("process.args", "args"),
    ("process.capabilities", "grant_capabilities"),
    ("process.consoleSize", "terminal_size"),
    ("process.cwd", "cwd"),
    ("process.rlimits", "rlimit"),
    ("process.terminal", "terminal"),
    ("process.user.additionalGids", "groups"),
    ("process.user.umask", "umask"),
    ("process.user", "user"),
    ("root.path", "rootfs"),
];

/// What an error says in place of a field.
#[derive(Clone, Debug, Default)]
pub(in crate::container) struct FieldNames {
    /// Elements of lists, each by its index: `mounts[7]`.
    elements: Vec<(String, String)>,
    /// Whether the configuration began as the builder's own, so that [`METHODS`] applies.
    whole: bool,
}

impl FieldNames {
    /// The same error, with the method in place of the field.
    pub(in crate::container) fn explain(&self, error: Error) -> Error {
        let found = self.elements.iter().find(|(field, _)| error.names_field(field));
        if let Some((field, name)) = found {
            return error.rename_field(field, name);
        }
        // Errors of other kinds, such as a controller that the host lacks, are not about a method's argument.
        let ErrorKind::InvalidSpec { path } = error.kind() else { return error };
        let of_path = |field: &str| {
            path.strip_prefix(field).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        };
        match METHODS.iter().find(|(field, _)| self.whole && of_path(field)) {
            Some((field, name)) => error.rename_field(field, name),
            None => error,
        }
    }
}

impl ContainerBuilder {
    /// Remembers that `method` made the mount for `destination`.
    pub(super) fn name_mount(&mut self, destination: &Path, method: &'static str) {
        self.mount_methods.retain(|(other, _)| other != destination);
        self.mount_methods.push((destination.to_owned(), method));
    }

    /// The names for the configuration as it is now.
    pub(super) fn field_names(&self) -> FieldNames {
        let mut elements = Vec::new();
        for (index, mount) in self.spec.mounts().iter().flatten().enumerate() {
            let destination = mount.destination();
            if let Some((_, method)) = self.mount_methods.iter().find(|(other, _)| other == destination) {
                elements.push((format!("mounts[{index}]"), format!("{method}({destination:?})")));
            }
        }
        if self.extras.user.is_some() {
            elements.extend(["username", "uid", "gid", "additionalGids"].map(|key| {
                let name = if ["username", "uid"].contains(&key) { String::new() } else { format!(".{key}") };
                (format!("process.user.{key}"), format!("user_name{name}"))
            }));
        }
        let whole = self.origin == Origin::Builder;
        if whole {
            let env = self.spec.process().as_ref().and_then(|process| process.env().as_deref());
            for (index, variable) in env.unwrap_or_default().iter().enumerate() {
                // Without the value, which may be a secret.
                let name = variable.split('=').next().unwrap_or_default();
                elements.push((format!("process.env[{index}]"), format!("env({name:?})")));
            }
        }
        FieldNames { elements, whole }
    }
}
