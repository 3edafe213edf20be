//! The host's cgroup hierarchies as a value, parsed from `/proc/self/mountinfo` and `/proc/self/cgroup`.
//!
//! What lives here: the value, its pure parser, and [`CgroupLayout::probe`], which only reads. What may not: anything
//! that depends on a container.

use super::delegation::DelegationPoint;
use crate::error::{OsContext, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// The cgroup hierarchies the caller can see, and where it sits in each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CgroupLayout {
    /// Mounted v1 hierarchies with at least one controller, in the order of `/proc/self/cgroup`.
    pub(crate) v1: Vec<V1Hierarchy>,
    /// The unified hierarchy, where it is mounted.
    pub(crate) unified: Option<UnifiedHierarchy>,
}

/// One mounted v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct V1Hierarchy {
    /// Its controllers: several where they are mounted together, as `cpu,cpuacct` often is.
    pub(crate) controllers: Vec<String>,
    /// Where it is mounted.
    pub(crate) mountpoint: PathBuf,
    /// The caller's cgroup as seen below the mount point, starting with `/`. It is `/` too when the mount shows another
    /// part of the hierarchy than the caller's.
    pub(crate) own: PathBuf,
    /// Whether the caller may make the asked-for cgroup there, where that was looked at.
    pub(crate) writable: bool,
}

/// The mounted v2 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnifiedHierarchy {
    /// Where it is mounted.
    pub(crate) mountpoint: PathBuf,
    /// The caller's cgroup as seen below the mount point, as in [`V1Hierarchy::own`].
    pub(crate) own: PathBuf,
    /// Whether no process may be moved over the border of its mover's cgroup namespace (`nsdelegate`, kernel:
    /// admin-guide/cgroup-v2, "Mounting").
    pub(crate) bound_by_namespaces: bool,
    /// The caller's cgroup and those above it, up to the mount point, where they were looked at. The mount ends at the
    /// root of the caller's cgroup namespace, so this never leads above it.
    pub(crate) sites: Vec<DelegationPoint>,
}

impl CgroupLayout {
    /// Reads the layout of the calling process, and nothing about what it may do there.
    ///
    /// # Errors
    /// An errno where `/proc` cannot be read. A host without cgroups is not an error.
    pub(crate) fn read() -> Result<Self> {
        let mountinfo = read_bounded(Path::new("/proc/self/mountinfo"))?;
        let membership = read_bounded(Path::new("/proc/self/cgroup"))?;
        Ok(Self::parse(&mountinfo, &membership))
    }

    /// Reads the layout, and in every hierarchy whether the caller may make a cgroup at `cgroups_path`, or at the default
    /// place without one.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn probe(cgroups_path: Option<&Path>) -> Result<Self> {
        let mut layout = Self::read()?;
        for hierarchy in &mut layout.v1 {
            hierarchy.probe(cgroups_path);
        }
        if let Some(unified) = &mut layout.unified {
            unified.probe(cgroups_path);
        }
        Ok(layout)
    }

    /// As [`probe`](Self::probe), but looks only at the hierarchy that a container is frozen in.
    pub(crate) fn probe_to_freeze(cgroups_path: Option<&Path>) -> Result<Self> {
        let mut layout = Self::read()?;
        let freezer = layout.v1.iter_mut().find(|hierarchy| hierarchy.has("freezer"));
        match (freezer, &mut layout.unified) {
            (Some(freezer), _) => freezer.probe(cgroups_path),
            (None, Some(unified)) => unified.probe(cgroups_path),
            (None, None) => {}
        }
        Ok(layout)
    }

    /// Parses the texts of `/proc/self/mountinfo` (proc_pid_mountinfo(5)) and `/proc/self/cgroup` (cgroups(7)). Lines
    /// that are not about cgroups, or not understood, are passed over: the kernel may add fields.
    pub(crate) fn parse(mountinfo: &str, membership: &str) -> Self {
        let mounts: Vec<CgroupMount<'_>> = mountinfo.lines().filter_map(CgroupMount::parse).collect();
        let mut layout = Self::default();
        for member in membership.lines().filter_map(Membership::parse) {
            // A hierarchy can be mounted more than once: the first mount that shows the caller's own cgroup counts.
            let own = |mount: &CgroupMount<'_>| own_below(&mount.root, Path::new(member.path));
            let mut shown = mounts.iter().filter(|mount| mount.shows(&member));
            let Some(mount) = shown.clone().find(|mount| own(mount).is_some()).or(shown.next()) else {
                continue;
            };
            let (mountpoint, own) = (mount.mountpoint.clone(), own(mount).unwrap_or_else(|| "/".into()));
            let controllers = member.controllers().map(str::to_owned).collect::<Vec<_>>();
            if mount.v2 {
                let bound_by_namespaces = mount.has_super_option("nsdelegate");
                let unified = UnifiedHierarchy { mountpoint, own, bound_by_namespaces, sites: Vec::new() };
                layout.unified = Some(unified);
            } else if !controllers.iter().any(|controller| controller.starts_with("name=")) {
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

    /// Checks with faccessat(2) on the nearest directory that exists.
    fn probe(&mut self, cgroups_path: Option<&Path>) {
        let place = match cgroups_path {
            Some(path) if path.is_absolute() => below(&self.mountpoint, path),
            path => below(&self.own_dir(), path.unwrap_or(Path::new(""))),
        };
        self.writable = may_write(&place);
    }
}

impl UnifiedHierarchy {
    /// The caller's cgroup as an absolute path.
    pub(crate) fn own_dir(&self) -> PathBuf {
        below(&self.mountpoint, &self.own)
    }

    /// The directories of [`sites`](Self::sites), whether or not those were looked at.
    pub(crate) fn site_dirs(&self) -> impl Iterator<Item = PathBuf> {
        self.own.ancestors().map(|own| below(&self.mountpoint, own))
    }

    fn probe(&mut self, cgroups_path: Option<&Path>) {
        let inner = cgroups_path.unwrap_or(Path::new(""));
        self.sites = self.site_dirs().map(|dir| DelegationPoint::probe(dir, inner)).collect();
    }
}

/// `mountpoint` joined with `inner`, which starts at the mount's root.
pub(crate) fn below(mountpoint: &Path, inner: &Path) -> PathBuf {
    let names = inner.components().filter(|component| matches!(component, Component::Normal(_)));
    names.fold(mountpoint.to_path_buf(), |path, name| path.join(name))
}

/// Whether the caller may make a directory at `path`, judged by the nearest one that exists.
pub(crate) fn may_write(path: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    use rustix::io::Errno;
    let verdict = |dir: &Path| accessat(CWD, dir, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
    path.ancestors().map(verdict).find(|verdict| *verdict != Err(Errno::NOENT)) == Some(Ok(()))
}

/// Whether the caller may write the file at `path`.
pub(crate) fn may_write_file(path: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

/// A cgroup mount of the mount table.
struct CgroupMount<'a> {
    root: PathBuf,
    mountpoint: PathBuf,
    v2: bool,
    super_options: &'a str,
}

impl<'a> CgroupMount<'a> {
    /// `36 35 98:0 /root /mountpoint options [optional...] - fstype source super-options`
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, mountpoint) = (unescape(mount.next()?), unescape(mount.next()?));
        let mut filesystem = filesystem.split(' ');
        let v2 = match filesystem.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        Some(Self { root, mountpoint, v2, super_options: filesystem.nth(1)? })
    }

    /// Whether this is a mount of the hierarchy `member` is about.
    fn shows(&self, member: &Membership<'_>) -> bool {
        if self.v2 || member.controllers.is_empty() {
            return self.v2 && member.controllers.is_empty();
        }
        member.controllers().all(|controller| self.has_super_option(controller))
    }

    fn has_super_option(&self, name: &str) -> bool {
        self.super_options.split(',').any(|option| option == name)
    }
}

/// A line of `/proc/self/cgroup`: `hierarchy-id:controllers:path`. The unified hierarchy has no controllers there.
struct Membership<'a> {
    controllers: &'a str,
    path: &'a str,
}

impl<'a> Membership<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.splitn(3, ':').skip(1);
        Some(Self { controllers: fields.next()?, path: fields.next()? })
    }

    fn controllers(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.controllers.split(',')
    }
}

/// The caller's cgroup as seen through a mount of the part below `root`. `None` where that mount does not show it: the
/// mount was made in another cgroup namespace (its root then contains `..`) or is of another part.
fn own_below(root: &Path, own: &Path) -> Option<PathBuf> {
    let inner = own.strip_prefix(root).ok()?;
    let plain = inner.components().all(|component| matches!(component, Component::Normal(_)));
    plain.then(|| Path::new("/").join(inner))
}

/// Undoes the octal escapes of space, tab, newline and backslash in the mount table.
fn unescape(field: &str) -> PathBuf {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(field.to_owned(), |text, (from, to)| text.replace(from, to)).into()
}

/// The most read of any file here: a mount table of a host with ten thousand containers is about 10 MiB.
const MAX_PROC_BYTES: u64 = 32 << 20;

pub(crate) fn read_bounded(path: &Path) -> Result<String> {
    let mut text = Vec::new();
    let file = File::open(path).os(|| format!("open({path:?})"))?;
    file.take(MAX_PROC_BYTES).read_to_end(&mut text).os(|| format!("read({path:?})"))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
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
        assert_eq!(unified.site_dirs().skip(1).collect::<Vec<_>>(), above);
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
