//! The host's cgroup hierarchies as values: which are mounted, where the caller is in each, what it may do there.
//!
//! Pure: [`CgroupLayout::parse`] takes the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`, and `host/probe.rs`
//! adds what only a look at the directories can tell. The plan chooses the hierarchy and the directory of a container.

use procfs::process::MountInfo;
use procfs::{FromBufRead, ProcessCGroup, ProcessCGroups};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// The cgroup hierarchies that the caller can see, and its own cgroup in each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CgroupLayout {
    /// Mounted v1 hierarchies with at least one controller, in the order of `/proc/self/cgroup`.
    pub(crate) v1: Vec<V1Hierarchy>,
    /// The unified (v2) hierarchy, where it is mounted.
    pub(crate) unified: Option<UnifiedHierarchy>,
}

/// One mounted v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct V1Hierarchy {
    /// Its controllers: several where they are mounted together, as `cpu,cpuacct` often is.
    pub(crate) controllers: Vec<String>,
    /// Where it is mounted.
    pub(crate) mountpoint: PathBuf,
    /// The caller's cgroup relative to the mount point, starting with `/`. Also `/` if the mount shows a part of the
    /// hierarchy that does not contain the caller's cgroup.
    pub(crate) own: PathBuf,
    /// Whether the caller may make the container's cgroup there. `false` if the probe did not look.
    pub(crate) writable: bool,
}

/// The mounted v2 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnifiedHierarchy {
    /// Where it is mounted.
    pub(crate) mountpoint: PathBuf,
    /// The caller's cgroup relative to the mount point, as in [`V1Hierarchy::own`].
    pub(crate) own: PathBuf,
    /// Whether the kernel refuses to move a process across the border of the mover's cgroup namespace (`nsdelegate`,
    /// kernel: admin-guide/cgroup-v2, "Mounting").
    pub(crate) bound_by_namespaces: bool,
    /// The caller's cgroup and its ancestors up to the mount point; empty if the probe did not look. The mount ends at
    /// the root of the caller's cgroup namespace, so the list never leads above it.
    pub(crate) points: Vec<DelegationPoint>,
}

/// One cgroup of the unified hierarchy that contains the caller, with the facts that decide whether the container's
/// cgroup can be below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DelegationPoint {
    /// Absolute path.
    pub(crate) dir: PathBuf,
    /// `cgroup.type`.
    pub(crate) kind: CgroupType,
    /// `cgroup.controllers`: what can be enabled for its children.
    pub(crate) controllers: Vec<String>,
    /// `cgroup.subtree_control`: what is enabled for them.
    pub(crate) enabled: Vec<String>,
    /// Whether it has processes of its own, besides those of its children.
    pub(crate) populated: bool,
    /// Whether the caller may make the container's cgroup below it.
    pub(crate) may_make: bool,
    /// Whether the caller may write `cgroup.procs`. The kernel wants this of a process that moves another between two
    /// cgroups below ("Delegation Containment" - kernel: admin-guide/cgroup-v2).
    pub(crate) may_move: bool,
    /// Whether the caller may write `cgroup.subtree_control`.
    pub(crate) may_enable: bool,
}

/// `cgroup.type`, as far as the plan distinguishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CgroupType {
    /// The root of the hierarchy: the only cgroup that may have processes and enable controllers at once. The root of a
    /// cgroup namespace is not one.
    Root,
    /// An ordinary cgroup.
    Domain,
    /// Part of a threaded subtree: an ordinary cgroup below it would be invalid.
    Threaded,
}

impl CgroupLayout {
    /// Parses the texts of `/proc/self/mountinfo` (proc_pid_mountinfo(5)) and `/proc/self/cgroup` (cgroups(7)). Skips
    /// lines that are not about cgroups, and lines with an unknown format: the kernel may add fields.
    pub(crate) fn parse(mountinfo: &str, membership: &str) -> Self {
        let mounts: Vec<CgroupMount> = mountinfo.lines().filter_map(CgroupMount::parse).collect();
        let members =
            membership.lines().filter_map(|line| ProcessCGroups::from_buf_read(line.as_bytes()).ok());
        let mut layout = Self::default();
        for member in members.flatten() {
            // A hierarchy of systemd's or another manager's own, without controllers.
            if member.controllers.iter().any(|controller| controller.starts_with("name=")) {
                continue;
            }
            // A hierarchy can be mounted more than once: take the first mount that shows the caller's own cgroup.
            let own = |mount: &CgroupMount| own_below(&mount.root, Path::new(&member.pathname));
            let mut shown = mounts.iter().filter(|mount| mount.shows(&member));
            let Some(mount) = shown.clone().find(|mount| own(mount).is_some()).or(shown.next()) else {
                continue;
            };
            let (mountpoint, own) = (mount.mountpoint.clone(), own(mount).unwrap_or_else(|| "/".into()));
            if mount.is_v2() {
                let bound_by_namespaces = mount.has_super_option("nsdelegate");
                let unified = UnifiedHierarchy { mountpoint, own, bound_by_namespaces, points: Vec::new() };
                layout.unified = Some(unified);
            } else {
                let controllers = member.controllers;
                layout.v1.push(V1Hierarchy { controllers, mountpoint, own, writable: false });
            }
        }
        layout
    }

    /// The v1 hierarchy that has `controller`.
    pub(crate) fn v1(&self, controller: &str) -> Option<&V1Hierarchy> {
        self.v1.iter().find(|hierarchy| hierarchy.has(controller))
    }
}

impl V1Hierarchy {
    /// The caller's cgroup as an absolute path.
    pub(crate) fn own_dir(&self) -> PathBuf {
        below(&self.mountpoint, &self.own)
    }

    /// Whether it has `controller`.
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|own| own == controller)
    }
}

impl UnifiedHierarchy {
    /// The caller's cgroup as an absolute path.
    pub(crate) fn own_dir(&self) -> PathBuf {
        below(&self.mountpoint, &self.own)
    }

    /// The directories of [`points`](Self::points), also if the probe did not look at them.
    pub(crate) fn point_dirs(&self) -> impl Iterator<Item = PathBuf> {
        self.own.ancestors().map(|own| below(&self.mountpoint, own))
    }
}

impl DelegationPoint {
    /// Whether the caller may make a cgroup here, and start processes of its own in it.
    pub(crate) fn is_open(&self) -> bool {
        self.may_make && self.may_move && self.kind != CgroupType::Threaded
    }

    /// Whether it can enable controllers for its children at all, by the rule against processes in inner cgroups ("No
    /// Internal Process Constraint" - kernel: admin-guide/cgroup-v2).
    pub(crate) fn may_distribute(&self) -> bool {
        !self.populated || self.kind == CgroupType::Root
    }

    /// Why its children cannot have `controller`; `None` if they can.
    pub(crate) fn lacks(&self, controller: &str) -> Option<String> {
        match self.controllers.iter().any(|available| available == controller) {
            true => self.cannot_enable(controller),
            false => Some(format!("cgroup v2 at {:?} without it in cgroup.controllers", self.dir)),
        }
    }

    /// Why it could not enable `controller` even if it had it; `None` if it could.
    pub(crate) fn cannot_enable(&self, controller: &str) -> Option<String> {
        let dir = &self.dir;
        if self.enabled.iter().any(|enabled| enabled == controller) {
            None
        } else if !self.may_distribute() {
            Some(format!("{dir:?} holds processes itself, and so cannot enable it in cgroup.subtree_control"))
        } else if !self.may_enable {
            Some(format!("the caller may not enable it in cgroup.subtree_control of {dir:?}"))
        } else {
            None
        }
    }
}

/// `mountpoint` joined with `inner`, a path that starts at the root of the mount.
pub(crate) fn below(mountpoint: &Path, inner: &Path) -> PathBuf {
    let names = inner.components().filter(|component| matches!(component, Component::Normal(_)));
    names.fold(mountpoint.to_path_buf(), |path, name| path.join(name))
}

/// A line of the mount table that is about a cgroup hierarchy, with its escapes undone.
struct CgroupMount {
    root: PathBuf,
    mountpoint: PathBuf,
    info: MountInfo,
}

impl CgroupMount {
    fn parse(line: &str) -> Option<Self> {
        // Before the parser, which allocates for each option of each mount: a busy host has thousands.
        if !line.contains(" - cgroup") {
            return None;
        }
        let info = MountInfo::from_line(line).ok()?;
        let ours = matches!(info.fs_type.as_str(), "cgroup" | "cgroup2");
        let mountpoint = unescape(&info.mount_point.to_string_lossy());
        ours.then(|| Self { root: unescape(&info.root), mountpoint, info })
    }

    fn is_v2(&self) -> bool {
        self.info.fs_type == "cgroup2"
    }

    /// Whether this mounts the hierarchy of `member`. `/proc/self/cgroup` lists no controllers for the unified one.
    fn shows(&self, member: &ProcessCGroup) -> bool {
        self.is_v2() == member.controllers.is_empty()
            && member.controllers.iter().all(|controller| self.has_super_option(controller))
    }

    fn has_super_option(&self, name: &str) -> bool {
        self.info.super_options.contains_key(name)
    }
}

/// The caller's cgroup as seen through a mount of the part below `root`. `None` if the mount does not show it: the mount
/// shows another part, or was made in another cgroup namespace (then its root contains `..`).
fn own_below(root: &Path, own: &Path) -> Option<PathBuf> {
    let inner = own.strip_prefix(root).ok()?;
    let plain = inner.components().all(|component| matches!(component, Component::Normal(_)));
    plain.then(|| Path::new("/").join(inner))
}

/// Undoes the octal escapes of space, tab, newline and backslash in the mount table, which `procfs` leaves as they are.
fn unescape(field: &str) -> PathBuf {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(field.to_owned(), |text, (from, to)| text.replace(from, to)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v1(controllers: &[&str], mountpoint: &str, own: &str) -> V1Hierarchy {
        let controllers = controllers.iter().map(|&controller| controller.into()).collect();
        V1Hierarchy { controllers, mountpoint: mountpoint.into(), own: own.into(), writable: false }
    }

    #[test]
    fn separate_v1_hierarchies_beside_a_unified_mount_are_hybrid() {
        let mountinfo = "\
23 1 259:0 / / rw,noatime - ext4 /dev/root rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 master:1 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let membership = "9:name=systemd:/\n4:memory:/agent/1b57\n2:cpuacct:/\n1:cpu:/\n0::/\n";
        let layout = CgroupLayout::parse(mountinfo, membership);
        assert!(!layout.v1.is_empty() && layout.unified.is_some());
        assert_eq!(
            layout.v1,
            [
                v1(&["memory"], "/sys/fs/cgroup/memory", "/agent/1b57"),
                v1(&["cpuacct"], "/sys/fs/cgroup/cpuacct", "/"),
                v1(&["cpu"], "/sys/fs/cgroup/cpu", "/"),
            ]
        );
        assert_eq!(layout.v1("memory").unwrap().own_dir(), Path::new("/sys/fs/cgroup/memory/agent/1b57"));
        let unified = layout.unified.unwrap();
        assert_eq!(unified.mountpoint, Path::new("/sys/fs/cgroup/unified"));
        assert!(!unified.bound_by_namespaces);
    }

    #[test]
    fn controllers_mounted_together_are_one_hierarchy() {
        let mountinfo = "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        let layout = CgroupLayout::parse(mountinfo, "3:cpu,cpuacct:/user.slice\n");
        assert!(!layout.v1.is_empty() && layout.unified.is_none());
        assert_eq!(layout.v1, [v1(&["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct", "/user.slice")]);
        assert_eq!(layout.v1("cpu"), layout.v1("cpuacct"));
    }

    #[test]
    fn a_pure_v2_host_has_one_mount_and_the_way_up_from_the_caller() {
        let mountinfo = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let layout = CgroupLayout::parse(mountinfo, "0::/user.slice/session-1.scope\n");
        assert!(layout.v1.is_empty());
        let unified = layout.unified.unwrap();
        assert!(unified.bound_by_namespaces);
        assert_eq!(unified.own_dir(), Path::new("/sys/fs/cgroup/user.slice/session-1.scope"));
        let above = ["/sys/fs/cgroup/user.slice", "/sys/fs/cgroup"].map(PathBuf::from);
        assert_eq!(unified.point_dirs().skip(1).collect::<Vec<_>>(), above);
    }

    #[test]
    fn a_host_without_cgroup_mounts_has_none() {
        let layout = CgroupLayout::parse("23 1 259:0 / / rw - ext4 /dev/root rw\n", "1:cpu:/\n0::/\n");
        assert_eq!(layout, CgroupLayout::default());
        assert!(layout.v1.is_empty() && layout.unified.is_none());
    }

    #[test]
    fn a_mount_of_a_part_of_the_hierarchy_hides_the_part_above() {
        let mountinfo = "9 1 0:2 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let seen = CgroupLayout::parse(mountinfo, "4:memory:/docker/ab/inner\n");
        assert_eq!(seen.v1[0].own, Path::new("/inner"));
        let elsewhere = CgroupLayout::parse(mountinfo, "4:memory:/system\n");
        assert_eq!(elsewhere.v1[0].own, Path::new("/"));
        let other_namespace = CgroupLayout::parse(&mountinfo.replace("/docker/ab", "/../.."), "4:memory:/\n");
        assert_eq!(other_namespace.v1[0].own, Path::new("/"));
    }

    #[test]
    fn of_two_mounts_the_one_that_shows_the_caller_counts() {
        let mountinfo = "\
9 1 0:2 /other /mnt/a\\040b rw - cgroup cgroup rw,memory
10 1 0:2 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
11 1 0:3 /other /mnt/two rw - cgroup2 none rw
12 1 0:3 / /sys/fs/cgroup/unified rw - cgroup2 none rw
";
        let layout = CgroupLayout::parse(mountinfo, "4:memory:/job\n0::/job\n");
        assert_eq!(layout.v1, [v1(&["memory"], "/sys/fs/cgroup/memory", "/job")]);
        let unified = layout.unified.unwrap();
        assert_eq!(unified.mountpoint, Path::new("/sys/fs/cgroup/unified"));
        assert!(!unified.bound_by_namespaces);
        let only_first = CgroupLayout::parse(mountinfo.lines().next().unwrap(), "4:memory:/job\n");
        assert_eq!(only_first.v1[0].mountpoint, Path::new("/mnt/a b"));
    }
}
