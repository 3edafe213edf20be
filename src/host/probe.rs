//! The probe: the facts about this host and this caller that planning needs.

use super::CgroupLayout;
use super::{Host, IdRange, SecurityModules, ServiceManager, SystemDir};
use crate::cgroup;
use crate::error::{OsContext, Result};
use rustix::thread::CapabilitySet;
use std::path::Path;

/// What of the host a plan depends on; the rest is not looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs<'a> {
    /// Limits, a cgroup path or a cgroup mount are asked for.
    pub(crate) cgroups: bool,
    /// A place to freeze the container in is wanted, where there is one.
    pub(crate) freezer: bool,
    /// systemd is to make the cgroup.
    pub(crate) scope: bool,
    /// `linux.cgroupsPath`, if it is a path.
    pub(crate) cgroups_path: Option<&'a Path>,
    /// Labels of a security module are asked for.
    pub(crate) labels: bool,
    /// The host's own directories are the rootfs.
    pub(crate) system_dirs: bool,
}

/// The top-level directories that make up an operating system (hier(7)); data of users and services is not among them.
const SYSTEM_DIRS: [&str; 9] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "opt"];

/// Where newuidmap(1) and newgidmap(1) are looked for.
const PROGRAM_DIRS: [&str; 3] = ["/usr/bin", "/bin", "/usr/local/bin"];

/// Looks at the host.
pub(crate) fn probe(needs: Needs<'_>) -> Result<Host> {
    let euid = rustix::process::geteuid().as_raw();
    let egid = rustix::process::getegid().as_raw();
    let effective = rustix::thread::capabilities(None).os(|| "capget()")?.effective;
    let privileged =
        effective.contains(CapabilitySet::SYS_ADMIN | CapabilitySet::SETUID | CapabilitySet::SETGID);
    let (subuids, subgids) = if privileged { (None, None) } else { subordinate_ids(euid) };
    // Without a limit nobody depends on what is there, so what cannot be read is not there.
    let cgroups = match (needs.cgroups, needs.freezer) {
        (true, _) => CgroupLayout::probe(needs.cgroups_path)?,
        (false, true) => CgroupLayout::probe_to_freeze(needs.cgroups_path).unwrap_or_default(),
        (false, false) => CgroupLayout::default(),
    };
    let service_manager = if needs.scope { cgroup::systemd::find() } else { ServiceManager::NotAsked };
    let system_dirs = if needs.system_dirs { system_dirs() } else { Vec::new() };
    Ok(Host {
        euid,
        egid,
        privileged,
        in_user_namespace: in_user_namespace(),
        subuids,
        subgids,
        cgroups,
        service_manager,
        lsms: security_modules(needs.labels),
        system_dirs,
    })
}

/// Whether this process is in a user namespace other than the host's.
pub(crate) fn in_user_namespace() -> bool {
    !crate::sys::is_in_initial_user_namespace()
}

/// The enabled ones, if labels are asked for, by what they leave in the kernel's own file systems: securityfs need not
/// be mounted.
pub(crate) fn security_modules(asked: bool) -> SecurityModules {
    if !asked {
        return SecurityModules::default();
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    SecurityModules {
        apparmor: read("/sys/module/apparmor/parameters/enabled").starts_with('Y'),
        selinux: read("/proc/filesystems").lines().any(|line| line.ends_with("selinuxfs")),
    }
}

fn system_dirs() -> Vec<SystemDir> {
    SYSTEM_DIRS
        .into_iter()
        .filter_map(|name| {
            let path = Path::new("/").join(name);
            let metadata = std::fs::symlink_metadata(&path).ok()?;
            let link = metadata.is_symlink().then(|| std::fs::read_link(&path).ok()).flatten();
            let link = link.and_then(|link| link.into_os_string().into_string().ok());
            Some(SystemDir { name: name.to_owned(), link })
        })
        .collect()
}

/// The caller's ranges, if the programs that apply them are installed.
fn subordinate_ids(uid: u32) -> (Option<IdRange>, Option<IdRange>) {
    let installed = |program: &str| PROGRAM_DIRS.iter().any(|dir| Path::new(dir).join(program).is_file());
    if !(installed("newuidmap") && installed("newgidmap")) {
        return (None, None);
    }
    let name = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
    let range = |file: &str| {
        let text = std::fs::read_to_string(file).ok()?;
        find_range(&text, uid, name.as_deref())
    };
    (range("/etc/subuid"), range("/etc/subgid"))
}

/// The first range of a user, by name or by number (subuid(5)).
fn find_range(text: &str, uid: u32, name: Option<&str>) -> Option<IdRange> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        if Some(owner) != name && owner.parse() != Ok(uid) {
            return None;
        }
        let range = IdRange { start: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? };
        (range.count > 0).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_by_name_or_number() {
        let text = "root:1:2\nalice:100000:65536\n1001:300000:10\nbroken:x:y\n";
        assert_eq!(find_range(text, 7, Some("alice")), Some(IdRange { start: 100_000, count: 65_536 }));
        assert_eq!(find_range(text, 1001, Some("bob")), Some(IdRange { start: 300_000, count: 10 }));
        assert_eq!(find_range(text, 5, Some("broken")), None);
    }
}
