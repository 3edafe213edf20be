//! `linux.sysctl`: kernel parameters, only those that belong to a namespace of the container.

use super::Namespaces;
use super::field::Field;
use crate::error::Result;
use std::collections::{BTreeMap, HashMap};

/// Checks `linux.sysctl`.
///
/// A parameter that is not namespaced would change the host, so it is refused by name.
pub(super) fn sysctl(
    linux: &Field<'_>,
    parameters: Option<&HashMap<String, String>>,
    namespaces: &Namespaces,
) -> Result<BTreeMap<String, String>> {
    let field = linux.key("sysctl");
    // Sorted first: the same document must give the same error each time.
    let parameters: BTreeMap<_, _> = parameters.into_iter().flatten().collect();
    for (name, value) in &parameters {
        let field = field.key(name);
        check_name(&field, name)?;
        if value.contains(['\n', '\0']) {
            return Err(field.error("has a value with a newline or a NUL byte"));
        }
        check_namespace(&field, name, namespaces)?;
    }
    Ok(parameters.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// The name becomes a path below `/proc/sys`, so it must not contain a separator or an empty part.
fn check_name(field: &Field<'_>, name: &str) -> Result<()> {
    if let Some(bad) = name.chars().find(|c| !c.is_ascii_graphic() || "/\\".contains(*c)) {
        let error = field.error(format_args!("has {bad:?} in its name"));
        return Err(if bad == '/' { error.hint("separate the parts with dots") } else { error });
    }
    if name.split('.').any(str::is_empty) {
        return Err(field.error("has an empty part in its name"));
    }
    Ok(())
}

fn check_namespace(field: &Field<'_>, name: &str, namespaces: &Namespaces) -> Result<()> {
    let (kind, source) = match name {
        "kernel.msgmax"
        | "kernel.msgmnb"
        | "kernel.msgmni"
        | "kernel.sem"
        | "kernel.shmall"
        | "kernel.shmmax"
        | "kernel.shmmni"
        | "kernel.shm_rmid_forced" => ("ipc", &namespaces.ipc),
        "kernel.domainname" => ("uts", &namespaces.uts),
        "kernel.hostname" => {
            return Err(field.error("is not set this way").hint("use the property hostname"));
        }
        _ if name.starts_with("fs.mqueue.") => ("ipc", &namespaces.ipc),
        _ if name.starts_with("net.") => ("network", &namespaces.network),
        _ => return Err(field.error("is not namespaced").hint("it would change the host")),
    };
    if source.is_listed() {
        return Ok(());
    }
    let error = field.error(format_args!("needs its own {kind} namespace"));
    Err(error.hint(format!("add {{\"type\": \"{kind}\"}} to linux.namespaces")))
}
