//! Facts about the host, as a value: a test states the machine it pretends to be.

use super::cgroups::CgroupLayout;
use crate::error::{Error, Result};
use crate::spec::{IdMap, IdMaps, ValidProcess, ValidSpec};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What planning needs to know about the host and the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Host {
    /// Effective uid of the caller.
    pub(crate) euid: u32,
    /// Effective gid of the caller.
    pub(crate) egid: u32,
    /// Whether the caller may mount and map ids without a user namespace of its own (`CAP_SYS_ADMIN`, `CAP_SETUID` and
    /// `CAP_SETGID`, effective).
    pub(crate) privileged: bool,
    /// Whether the caller is itself in a user namespace: what it may do ends where the host's devices and file systems
    /// begin.
    pub(crate) in_user_namespace: bool,
    /// The uids that a privileged caller gives to a container without mappings of its own.
    pub(crate) container_uids: IdRange,
    /// The gids, as the uids.
    pub(crate) container_gids: IdRange,
    /// The caller's range in `/etc/subuid`, if newuidmap(1) is installed to use it.
    pub(crate) subuids: Option<IdRange>,
    /// The caller's range in `/etc/subgid`, if newgidmap(1) is installed to use it.
    pub(crate) subgids: Option<IdRange>,
    /// The cgroup hierarchies, with what the caller may do in those that the container could use.
    pub(crate) cgroups: CgroupLayout,
    /// The service manager that makes scopes.
    pub(crate) service_manager: ServiceManager,
    /// The security modules that are enabled.
    pub(crate) lsms: SecurityModules,
    /// System directories that exist at the top of the host's root, with what each is.
    pub(crate) system_dirs: Vec<SystemDir>,
    /// Where the link at `/etc/resolv.conf` (resolv.conf(5)) leads out of the system directories: the absolute path of a
    /// file that a service keeps, mostly in `/run`.
    pub(crate) resolver: Option<PathBuf>,
}

/// systemd, as a container with a scope needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServiceManager {
    /// The probe did not look, because the configuration has no scope.
    #[default]
    NotAsked,
    /// This program is built without a D-Bus client.
    NotBuilt,
    /// The manager does not answer.
    Unreachable { why: String },
    /// This manager answers, and its units are below this cgroup.
    Running { manager: Manager, control_group: PathBuf },
}

/// The security modules whose labels a configuration can ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecurityModules {
    pub(crate) apparmor: bool,
    pub(crate) selinux: bool,
}

impl SecurityModules {
    /// Refuses a label of a process if its security module is not enabled.
    pub(crate) fn check_labels(self, process: &ValidProcess) -> Result<()> {
        let ValidProcess { apparmor_profile, selinux_label, .. } = process;
        check_module("process.apparmorProfile", apparmor_profile.as_ref(), self.apparmor, "AppArmor")?;
        check_module("process.selinuxLabel", selinux_label.as_ref(), self.selinux, "SELinux")
    }

    /// Refuses `linux.mountLabel` if SELinux is not enabled.
    pub(crate) fn check_mount_label(self, spec: &ValidSpec) -> Result<()> {
        check_module("linux.mountLabel", spec.mount_label.as_ref(), self.selinux, "SELinux")
    }
}

fn check_module(field: &'static str, label: Option<&String>, enabled: bool, module: &str) -> Result<()> {
    match label {
        Some(_) if !enabled => {
            Err(Error::unsupported(field, format!("{module} is not enabled on this host")))
        }
        _ => Ok(()),
    }
}

/// The list of name servers, which may be a link.
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// One of the host's system directories (`/usr`, `/bin`, ...), which may be a symlink (`/bin` -> `usr/bin`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SystemDir {
    /// Its path, without the slash at the top.
    pub(crate) name: String,
    /// Where it points, if it is a symlink.
    pub(crate) link: Option<String>,
}

/// A range of subordinate ids (subuid(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdRange {
    /// First id.
    pub(crate) start: u32,
    /// How many.
    pub(crate) count: u32,
}

impl IdRange {
    /// The top of the range that systemd reserves for containers (systemd.io, "Users, Groups, UIDs and GIDs"). No login
    /// user of the host has these ids.
    pub(crate) const FOR_CONTAINERS: Self = Self { start: 1_879_048_191 - 65_535, count: 65_536 };

    /// The ids for the containers of a privileged caller whose user namespace has this map (`/proc/self/uid_map`), and
    /// whose own id is `own`: those of the host, if they are mapped; otherwise the most that follow each other without
    /// `own`; otherwise `own`.
    pub(crate) fn in_map(map: &str, own: u32) -> Self {
        let mapped = map.lines().filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse::<u32>);
            let (start, _outside, count) =
                (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
            Some((u64::from(start), u64::from(start) + u64::from(count)))
        });
        let (own_id, usual) = (u64::from(own), Self::FOR_CONTAINERS);
        let (first, end) = (u64::from(usual.start), u64::from(usual.start) + u64::from(usual.count));
        let mut largest = Self { start: own, count: 1 };
        for (start, stop) in mapped {
            if start <= first && end <= stop {
                return usual;
            }
            let parts = match (start..stop).contains(&own_id) {
                true => [(start, own_id), (own_id + 1, stop)],
                false => [(start, stop), (stop, stop)],
            };
            for (start, stop) in parts {
                let count = u32::try_from(stop - start).unwrap_or(u32::MAX).min(usual.count);
                if count > largest.count {
                    largest = Self { start: u32::try_from(start).unwrap_or(own), count };
                }
            }
        }
        largest
    }
}

impl Host {
    /// The id mappings of a container without mappings of its own.
    ///
    /// For a privileged caller: 65536 ids that no user of the host has, or those that its user namespace has. For others:
    /// the caller's own id as 0, followed by its subordinate range, if it has one.
    #[must_use]
    pub(crate) fn default_id_maps(&self) -> IdMaps {
        if self.privileged {
            let map = |range: IdRange| vec![IdMap { container: 0, host: range.start, size: range.count }];
            return IdMaps { uids: map(self.container_uids), gids: map(self.container_gids) };
        }
        let own = |own: u32, range: Option<IdRange>| {
            let first = IdMap { container: 0, host: own, size: 1 };
            let rest = range.map(|range| IdMap { container: 1, host: range.start, size: range.count });
            std::iter::once(first).chain(rest).collect::<Vec<_>>()
        };
        // Both or neither: with a range for one kind only, setgroups(2) and the helpers disagree.
        let (uids, gids) = match (self.subuids, self.subgids) {
            (Some(uids), Some(gids)) => (Some(uids), Some(gids)),
            _ => (None, None),
        };
        IdMaps { uids: own(self.euid, uids), gids: own(self.egid, gids) }
    }

    /// Whether it takes newuidmap(1) and newgidmap(1) to write `maps`: the kernel lets an unprivileged process map only
    /// its own id (user_namespaces(7)).
    #[must_use]
    pub(crate) fn needs_map_helpers(&self, maps: &IdMaps) -> bool {
        let just_own =
            |maps: &[IdMap], own: u32| matches!(maps, [IdMap { host, size: 1, .. }] if *host == own);
        let alone = just_own(&maps.uids, self.euid) && just_own(&maps.gids, self.egid);
        !self.privileged && !alone
    }

    /// Refuses mappings that the caller may not write.
    pub(crate) fn check_id_maps(&self, maps: &IdMaps) -> Result<()> {
        if !self.needs_map_helpers(maps) {
            return Ok(());
        }
        let kinds = [
            ("linux.uidMappings", &maps.uids, self.euid, self.subuids, "/etc/subuid"),
            ("linux.gidMappings", &maps.gids, self.egid, self.subgids, "/etc/subgid"),
        ];
        for (field, maps, own, range, file) in kinds {
            for map in maps {
                let (first, last) = (u64::from(map.host), u64::from(map.host) + u64::from(map.size) - 1);
                let granted = (first == u64::from(own) && map.size == 1)
                    || range.is_some_and(|range| {
                        let end = u64::from(range.start) + u64::from(range.count);
                        first >= u64::from(range.start) && last < end
                    });
                if !granted {
                    let why = format!("the caller may not map host ids {first} to {last}");
                    return Err(Error::unsupported(field, why)
                        .hint(format!("add a range to {file}, with newuidmap and newgidmap installed")));
                }
            }
        }
        Ok(())
    }
}

/// A scope unit of systemd, and the manager that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ScopeUnit {
    /// The unit, `prefix-name.scope`.
    pub name: String,
    /// The manager that has it.
    pub manager: Manager,
}

impl ScopeUnit {
    /// The unit `name` of `manager`.
    #[must_use]
    pub fn new(name: impl Into<String>, manager: Manager) -> Self {
        Self { name: name.into(), manager }
    }
}

/// One of systemd's managers. Closed on purpose: systemd has these two and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// The host's, on the system bus.
    System,
    /// The calling user's, on the user's bus.
    User,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unprivileged(range: Option<IdRange>) -> Host {
        Host {
            euid: 65_534,
            egid: 65_534,
            privileged: false,
            in_user_namespace: false,
            container_uids: IdRange::FOR_CONTAINERS,
            container_gids: IdRange::FOR_CONTAINERS,
            subuids: range,
            subgids: range,
            cgroups: CgroupLayout::default(),
            service_manager: ServiceManager::NotAsked,
            lsms: SecurityModules::default(),
            system_dirs: Vec::new(),
            resolver: None,
        }
    }

    #[test]
    fn without_a_subordinate_range_the_caller_is_the_only_id() {
        let host = unprivileged(None);
        let maps = host.default_id_maps();
        assert_eq!(maps.uids, [IdMap { container: 0, host: 65_534, size: 1 }]);
        assert!(!host.needs_map_helpers(&maps));
        host.check_id_maps(&maps).unwrap();
    }

    #[test]
    fn a_subordinate_range_follows_the_caller() {
        let host = unprivileged(Some(IdRange { start: 100_000, count: 65_536 }));
        let maps = host.default_id_maps();
        assert_eq!(maps.gids[1], IdMap { container: 1, host: 100_000, size: 65_536 });
        assert!(host.needs_map_helpers(&maps));
        host.check_id_maps(&maps).unwrap();
    }

    #[test]
    fn ids_outside_the_range_are_refused_by_name() {
        let host = unprivileged(Some(IdRange { start: 100_000, count: 10 }));
        let maps = IdMaps {
            uids: vec![IdMap { container: 0, host: 100_005, size: 10 }],
            gids: vec![IdMap { container: 0, host: 65_534, size: 1 }],
        };
        assert_eq!(
            host.check_id_maps(&maps).unwrap_err().to_string(),
            "linux.uidMappings: the caller may not map host ids 100005 to 100014 \
             (add a range to /etc/subuid, with newuidmap and newgidmap installed)"
        );
    }

    #[test]
    fn a_privileged_caller_gets_ids_no_user_has() {
        let host = Host { privileged: true, euid: 0, ..unprivileged(None) };
        let maps = host.default_id_maps();
        assert!(maps.uids[0].host > 1_000_000);
        host.check_id_maps(&maps).unwrap();
    }

    #[test]
    fn a_privileged_caller_in_a_user_namespace_gives_ids_that_it_has() {
        let choose = |map| IdRange::in_map(map, 0);
        assert_eq!(choose("         0          0 4294967295\n"), IdRange::FOR_CONTAINERS);
        // As `unshare --map-root-user`, as rootless podman, and as docker's userns-remap.
        assert_eq!(choose("0 1000 1\n"), IdRange { start: 0, count: 1 });
        assert_eq!(choose("0 1000 1\n1 100000 65536\n"), IdRange { start: 1, count: 65_536 });
        assert_eq!(choose("0 100000 65536\n"), IdRange { start: 1, count: 65_535 });
        assert_eq!(choose(""), IdRange { start: 0, count: 1 });
    }
}
