//! The probe: reads the facts about this host and this caller that planning needs, and changes nothing.

use super::cgroups::{CgroupLayout, CgroupType, DelegationPoint, UnifiedHierarchy, V1Hierarchy, below};
use super::facts::{Host, IdRange, SecurityModules, ServiceManager, SystemDir};
use super::id_region::IdRegion;
use super::machine::Machine;
use crate::error::{OsContext, Result};
use crate::spec::IdMaps;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// The facts that one plan depends on. The probe leaves out the others, because each costs system calls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs<'a> {
    /// The configuration has limits, a cgroup path or a cgroup mount.
    pub(crate) cgroups: bool,
    /// The container gets a cgroup to freeze it in, where the caller can make one.
    pub(crate) freezer: bool,
    /// How to find the service manager, if the configuration wants a scope: this module has no D-Bus client.
    pub(crate) service_manager: Option<fn() -> ServiceManager>,
    /// `linux.cgroupsPath`, if it is a path.
    pub(crate) cgroups_path: Option<&'a Path>,
    /// The configuration has labels of a security module.
    pub(crate) labels: bool,
    /// The rootfs consists of the host's own directories.
    pub(crate) system_dirs: bool,
    /// The container has these directories, and a network that it did not get new.
    pub(crate) resolver: bool,
}

/// The directories that make up an operating system (hier(7)), without those for data of users and services. Those of Nix
/// and Guix, to which links in the others lead, without their daemons' sockets: a build that a daemon makes has a network.
const SYSTEM_DIRS: [&str; 12] = [
    "usr",
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "etc",
    "opt",
    "nix/store",
    "nix/var/nix/profiles",
    "gnu/store",
];

/// The most links that the kernel follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The directories that may contain newuidmap(1) and newgidmap(1).
const PROGRAM_DIRS: [&str; 3] = ["/usr/bin", "/bin", "/usr/local/bin"];

/// Reads the facts about the caller, and those that `needs` lists.
///
/// # Errors
/// As [`Caller::probe`] and [`Caller::host`].
pub(crate) fn probe(needs: Needs<'_>) -> Result<Host> {
    Caller::probe()?.host(needs)
}

/// The facts about the caller alone. A description without id mappings takes them from here, and only the complete
/// configuration says what else of the host a plan needs: [`Caller::host`] then adds that, and reads nothing twice.
#[derive(Debug)]
pub(crate) struct Caller(Host);

impl Caller {
    /// Reads who the caller is, and which ids it may map.
    ///
    /// # Errors
    /// The errno of capget(2).
    pub(crate) fn probe() -> Result<Self> {
        #[cfg(test)]
        count::CALLER.with(|looks| looks.set(looks.get() + 1));
        let euid = rustix::process::geteuid().as_raw();
        let egid = rustix::process::getegid().as_raw();
        let effective = rustix::thread::capabilities(None).os(|| "capget()")?.effective;
        let privileged =
            effective.contains(CapabilitySet::SYS_ADMIN | CapabilitySet::SETUID | CapabilitySet::SETGID);
        let in_user_namespace = in_user_namespace();
        let containers = |map: &str, own| match in_user_namespace {
            true => IdRange::in_map(&read_bounded(Path::new(map)).unwrap_or_default(), own),
            false => IdRange::FOR_CONTAINERS,
        };
        let (subuids, subgids) = if privileged { (None, None) } else { subordinate_ids(euid) };
        Ok(Self(Host {
            euid,
            egid,
            privileged,
            in_user_namespace,
            container_uids: containers("/proc/self/uid_map", euid),
            container_gids: containers("/proc/self/gid_map", egid),
            subuids,
            subgids,
            cgroups: CgroupLayout::default(),
            service_manager: ServiceManager::NotAsked,
            lsms: SecurityModules::default(),
            system_dirs: Vec::new(),
            resolver: None,
        }))
    }

    /// As [`Host::default_id_maps`].
    pub(crate) fn default_id_maps(&self) -> IdMaps {
        self.0.default_id_maps()
    }

    /// Where the ids of this caller's containers come from, if each gets a range of its own; `None` for a caller that has
    /// no ids to divide, or that is in a user namespace, which has few.
    pub(crate) fn id_region(&self) -> Option<IdRegion> {
        let has_ids = self.0.privileged && !self.0.in_user_namespace;
        // A host without subordinate ids need not have the files.
        let text = |file: &str| read_bounded(Path::new(file)).unwrap_or_default();
        has_ids.then(|| IdRegion::of(&text("/etc/subuid"), &text("/etc/subgid")))
    }

    /// Reads the facts that `needs` lists.
    ///
    /// # Errors
    /// An errno if the cgroup layout cannot be read and the container needs more than a freezer.
    pub(crate) fn host(self, needs: Needs<'_>) -> Result<Host> {
        #[cfg(test)]
        count::HOST.with(|looks| looks.set(looks.get() + 1));
        let cgroups = match (needs.cgroups, needs.freezer) {
            (true, _) => cgroups_for(needs.cgroups_path)?,
            // The freezer is optional: a container without limits also runs where `/proc` cannot be read.
            (false, true) => freezer_for(needs.cgroups_path).unwrap_or_default(),
            (false, false) => CgroupLayout::default(),
        };
        Ok(Host {
            cgroups,
            service_manager: needs.service_manager.map_or(ServiceManager::NotAsked, |find| find()),
            lsms: security_modules(needs.labels),
            system_dirs: if needs.system_dirs { system_dirs(Path::new("/")) } else { Vec::new() },
            resolver: if needs.resolver { resolver(Path::new("/")) } else { None },
            ..self.0
        })
    }
}

/// How often this thread has looked, for tests of what looks once.
#[cfg(test)]
pub(crate) mod count {
    use std::cell::Cell;

    thread_local! {
        pub(super) static CALLER: Cell<u32> = const { Cell::new(0) };
        pub(super) static HOST: Cell<u32> = const { Cell::new(0) };
    }

    /// Looks at the caller and at the host since the last call.
    pub(crate) fn take() -> (u32, u32) {
        (CALLER.take(), HOST.take())
    }
}

/// Whether this process is in a user namespace other than the host's.
pub(crate) fn in_user_namespace() -> bool {
    !crate::sys::is_in_initial_user_namespace()
}

/// The enabled security modules, read only if the configuration has labels. The files read are in sysfs and procfs,
/// because securityfs need not be mounted.
pub(crate) fn security_modules(has_labels: bool) -> SecurityModules {
    if !has_labels {
        return SecurityModules::default();
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    SecurityModules {
        apparmor: read("/sys/module/apparmor/parameters/enabled").starts_with('Y'),
        selinux: read("/proc/filesystems").lines().any(|line| line.ends_with("selinuxfs")),
    }
}

/// Reads the mounted hierarchies and the caller's cgroups in them, but not what the caller may do there.
///
/// # Errors
/// An errno if `/proc` cannot be read. A host without cgroups is not an error.
pub(crate) fn cgroup_layout() -> Result<CgroupLayout> {
    let mountinfo = read_bounded(Path::new("/proc/self/mountinfo"))?;
    let membership = read_bounded(Path::new("/proc/self/cgroup"))?;
    Ok(CgroupLayout::parse(&mountinfo, &membership))
}

/// Reads the layout, and checks in every hierarchy whether the caller may make a cgroup at `cgroups_path`, or without
/// one at the default location.
///
/// # Errors
/// As [`cgroup_layout`].
pub(crate) fn cgroups_for(cgroups_path: Option<&Path>) -> Result<CgroupLayout> {
    let mut layout = cgroup_layout()?;
    layout.v1.iter_mut().for_each(|hierarchy| check_v1(hierarchy, cgroups_path));
    if let Some(unified) = &mut layout.unified {
        check_unified(unified, cgroups_path);
    }
    Ok(layout)
}

/// As [`cgroups_for`], but checks only the hierarchy that the container is frozen in.
fn freezer_for(cgroups_path: Option<&Path>) -> Result<CgroupLayout> {
    let mut layout = cgroup_layout()?;
    let freezer = layout.v1.iter_mut().find(|hierarchy| hierarchy.has("freezer"));
    match (freezer, &mut layout.unified) {
        (Some(freezer), _) => check_v1(freezer, cgroups_path),
        (None, Some(unified)) => check_unified(unified, cgroups_path),
        (None, None) => {}
    }
    Ok(layout)
}

fn check_v1(hierarchy: &mut V1Hierarchy, cgroups_path: Option<&Path>) {
    let leaf = match cgroups_path {
        Some(path) if path.is_absolute() => below(&hierarchy.mountpoint, path),
        path => below(&hierarchy.own_dir(), path.unwrap_or(Path::new(""))),
    };
    hierarchy.writable = may_make(&leaf);
}

fn check_unified(unified: &mut UnifiedHierarchy, cgroups_path: Option<&Path>) {
    let inner = cgroups_path.unwrap_or(Path::new(""));
    unified.points = unified.point_dirs().map(|dir| delegation_point(dir, inner)).collect();
}

/// Reads the facts about the cgroup `dir`, for a container's cgroup at `inner` below it. A list that cannot be read is
/// empty.
fn delegation_point(dir: PathBuf, inner: &Path) -> DelegationPoint {
    let read = |file: &str| read_bounded(&dir.join(file));
    let words = |file| {
        let text = read(file).unwrap_or_default();
        text.split_ascii_whitespace().map(str::to_owned).collect()
    };
    let kind = match read("cgroup.type") {
        // "exists on non-root cgroups" - kernel: admin-guide/cgroup-v2.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => CgroupType::Root,
        Ok(kind) if kind.trim_end() == "domain" => CgroupType::Domain,
        _ => CgroupType::Threaded,
    };
    DelegationPoint {
        kind,
        controllers: words("cgroup.controllers"),
        enabled: words("cgroup.subtree_control"),
        populated: kind == CgroupType::Root || has_processes(&dir),
        may_make: may_make(&below(&dir, inner)),
        may_move: may_write(&dir.join("cgroup.procs")),
        may_enable: may_write(&dir.join("cgroup.subtree_control")),
        dir,
    }
}

/// The kernel, the architecture and the processors.
///
/// # Errors
/// The errno of reading `/proc/cpuinfo`.
pub(crate) fn machine() -> Result<Machine> {
    let uname = rustix::system::uname();
    let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
    let cpuinfo = read_bounded(Path::new("/proc/cpuinfo"))?;
    Ok(Machine::new(text(uname.release()), text(uname.machine()), &cpuinfo))
}

/// Whether the cgroup has a process of its own. A list that cannot be read, as in a threaded subtree, counts as one.
fn has_processes(dir: &Path) -> bool {
    let procs = File::open(dir.join("cgroup.procs"));
    // The first bytes answer it, and the list can be long.
    procs.and_then(|mut procs| procs.read(&mut [0; 16])).map_or(true, |read| read > 0)
}

/// Whether the caller may make a directory at `path`: faccessat(2) on the nearest directory that exists.
fn may_make(path: &Path) -> bool {
    let verdict = |dir: &Path| accessat(CWD, dir, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
    path.ancestors().map(verdict).find(|verdict| *verdict != Err(Errno::NOENT)) == Some(Ok(()))
}

fn may_write(file: &Path) -> bool {
    accessat(CWD, file, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

/// The most that the probe reads of one file: the mount table of a host with ten thousand containers is about 10 MiB.
const MAX_PROC_BYTES: u64 = 32 << 20;

const USUAL_PROC_BYTES: usize = 8 << 10;

pub(super) fn read_bounded(path: &Path) -> Result<String> {
    // Room for what most of these files have: the kernel does not say how long they are, and `read_to_end` into an
    // empty buffer begins with 32 bytes.
    let mut text = Vec::with_capacity(USUAL_PROC_BYTES);
    let file = File::open(path).os(|| format!("open({path:?})"))?;
    file.take(MAX_PROC_BYTES).read_to_end(&mut text).os(|| format!("read({path:?})"))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Those that a host with its root at `root` has.
fn system_dirs(root: &Path) -> Vec<SystemDir> {
    SYSTEM_DIRS
        .into_iter()
        .filter_map(|name| {
            let path = root.join(name);
            let metadata = std::fs::symlink_metadata(&path).ok()?;
            let link = metadata.is_symlink().then(|| std::fs::read_link(&path).ok()).flatten();
            let link = link.and_then(|link| link.into_os_string().into_string().ok());
            Some(SystemDir { name: name.to_owned(), link })
        })
        .collect()
}

/// Follows `etc/resolv.conf` below `root` to the first path that is in none of the system directories. `None` if all
/// are, or if there is no file in the end.
fn resolver(root: &Path) -> Option<PathBuf> {
    let link = root.join("etc/resolv.conf");
    let mut at = PathBuf::from("etc/resolv.conf");
    for _ in 0..MAX_LINKS {
        if !SYSTEM_DIRS.iter().any(|dir| at.starts_with(dir)) {
            return std::fs::metadata(link).is_ok().then(|| Path::new("/").join(at));
        }
        let next = std::fs::read_link(root.join(&at)).ok()?;
        at = plain(&at.parent().unwrap_or(Path::new("")).join(next));
    }
    None
}

/// `path` below the root without `.`, and without the names that a `..` takes back.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, component| {
        match component {
            // With an absolute link, `join` has replaced the path, and the root comes first.
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            Component::RootDir | Component::Prefix(_) | Component::CurDir => {}
        }
        plain
    })
}

/// The caller's subordinate uids and gids, if the programs that map them are installed.
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

/// The first range of a user, listed by name or by number (subuid(5)).
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
#[expect(clippy::disallowed_methods, reason = "tests lay out the root of a host")]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_by_name_or_number() {
        let text = "root:1:2\nalice:100000:65536\n1001:300000:10\nbroken:x:y\n";
        assert_eq!(find_range(text, 7, Some("alice")), Some(IdRange { start: 100_000, count: 65_536 }));
        assert_eq!(find_range(text, 1001, Some("bob")), Some(IdRange { start: 300_000, count: 10 }));
        assert_eq!(find_range(text, 5, Some("broken")), None);
    }

    #[test]
    fn the_stores_of_nix_and_guix_are_shown_and_nothing_else_of_theirs() {
        let root = tempfile::tempdir().unwrap();
        let names = |root: &Path| system_dirs(root).into_iter().map(|dir| dir.name).collect::<Vec<_>>();
        std::fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        assert_eq!(names(root.path()), ["usr"]);
        for dir in ["nix/store", "nix/var/nix/daemon-socket", "nix/var/nix/profiles", "gnu/store"] {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        assert_eq!(names(root.path()), ["usr", "nix/store", "nix/var/nix/profiles", "gnu/store"]);
    }

    #[test]
    fn the_file_of_name_servers_is_found_where_its_links_leave_the_system() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let link = |to: &str| {
            let _ = std::fs::remove_file(path("etc/resolv.conf"));
            std::os::unix::fs::symlink(to, path("etc/resolv.conf")).unwrap();
            resolver(root.path())
        };
        for dir in ["etc/alternatives", "run/resolve"] {
            std::fs::create_dir_all(path(dir)).unwrap();
        }
        std::fs::write(path("etc/own"), "").unwrap();
        assert_eq!(link("own"), None, "it is shown anyway");
        assert_eq!(link("../run/resolve/none"), None, "there is no file");
        std::fs::write(path("run/resolve/stub"), "").unwrap();
        let found = Some(PathBuf::from("/run/resolve/stub"));
        assert_eq!(link("../run/resolve/stub"), found);
        std::os::unix::fs::symlink("../../run/./resolve/stub", path("etc/alternatives/dns")).unwrap();
        assert_eq!(link("alternatives/dns"), found, "through another link");
        std::os::unix::fs::symlink("resolv.conf", path("etc/circle")).unwrap();
        assert_eq!(link("circle"), None);
    }
}
