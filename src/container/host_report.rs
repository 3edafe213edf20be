//! [`HostReport`]: what this host and this caller can do for containers, and what stands in the way.

use crate::criu::Criu;
use crate::error::{Error, OsContext, Result};
use crate::host::{Caller, Needs, Obstacle, namespaces_obstacle};
use crate::id::{ContainerId, QualifiedId};
use crate::plan::cgroup::{self, CgroupPlan};
use crate::spec::{CpuLimits, IdMaps, MemoryLimits, Resources};
use crate::state::StateRoot;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::fmt;
use std::path::Path;

/// The oldest kernel with everything that is always needed.
const OLDEST_KERNEL: (u32, u32) = (5, 14);

/// Something that a container needs of a host, or can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// Linux 5.14 or later. Every container needs it.
    Kernel,
    /// The namespaces of the default container, and mounts in them. Every container of the builder needs them.
    Namespaces,
    /// A directory for records where none is named: [`StateRoot::open_default`](crate::StateRoot::open_default).
    StateRoot,
    /// More ids in a container than the caller's own.
    IdRange,
    /// [`memory_limit`](crate::ContainerBuilder::memory_limit).
    MemoryLimit,
    /// [`cpu_limit`](crate::ContainerBuilder::cpu_limit).
    CpuLimit,
    /// [`pids_limit`](crate::ContainerBuilder::pids_limit). The default limit of 1024 processes needs no cgroup.
    PidsLimit,
    /// [`pause`](crate::Container::pause).
    Pause,
    /// [`scratch`](crate::ContainerBuilder::scratch): overlayfs.
    Scratch,
    /// The second layer, beside seccomp, that keeps the gofer from files.
    Landlock,
    /// `/dev/net/tun`, for programs that give a container a network from user space.
    Tun,
    /// CRIU, for checkpoint and restore: whether it is installed and new enough. [`Criu`](crate::checkpoint::Criu) says
    /// whether it fits the kernel.
    Criu,
}

impl Feature {
    /// All of them, in the order of a report.
    pub const ALL: [Self; 12] = [
        Self::Kernel,
        Self::Namespaces,
        Self::StateRoot,
        Self::IdRange,
        Self::MemoryLimit,
        Self::CpuLimit,
        Self::PidsLimit,
        Self::Pause,
        Self::Scratch,
        Self::Landlock,
        Self::Tun,
        Self::Criu,
    ];

    /// Whether the default container cannot be made without it.
    #[must_use]
    pub fn is_required(self) -> bool {
        matches!(self, Self::Kernel | Self::Namespaces)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kernel => "kernel",
            Self::Namespaces => "namespaces",
            Self::StateRoot => "state root",
            Self::IdRange => "id range",
            Self::MemoryLimit => "memory limit",
            Self::CpuLimit => "cpu limit",
            Self::PidsLimit => "pids limit",
            Self::Pause => "pause",
            Self::Scratch => "scratch",
            Self::Landlock => "landlock",
            Self::Tun => "tun",
            Self::Criu => "criu",
        })
    }
}

/// Why something is not there, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// The fact about the host or the configuration.
    pub cause: String,
    /// What a person can do about it: a command, a file to change, a method to call.
    pub remedy: String,
}

impl Missing {
    pub(super) fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: cause.into(), remedy: remedy.into() }
    }
}

impl From<Obstacle> for Missing {
    fn from(obstacle: Obstacle) -> Self {
        Self { cause: obstacle.cause, remedy: obstacle.remedy }
    }
}

/// One line: `CAUSE (REMEDY)`, as in the errors of this crate.
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " ({})", self.remedy) }
    }
}

/// What this host and this caller can do for containers.
///
/// ```no_run
/// use cofferdam::diagnosis::HostReport;
///
/// let report = HostReport::probe();
/// if !report.can_run() {
///     eprint!("{report}");
/// }
/// ```
#[derive(Clone, Debug)]
pub struct HostReport {
    /// In the order of [`Feature::ALL`].
    missing: Vec<(Feature, Option<Missing>)>,
}

impl HostReport {
    /// Looks at the host: reads files of `/proc` and `/sys`, and makes one process in new namespaces, which ends at once.
    /// Takes about a millisecond, and some more where CRIU is installed, which it asks for its version. It leaves nothing
    /// on the host but the directory of [`Feature::StateRoot`], which it makes if it is missing.
    #[must_use]
    pub fn probe() -> Self {
        let limits = Limits::probe();
        let look = |feature| match feature {
            Feature::Kernel => kernel(&rustix::system::uname().release().to_string_lossy()),
            Feature::Namespaces => namespaces_obstacle().map(Missing::from),
            Feature::StateRoot => StateRoot::open_default().err().as_ref().map(missing),
            Feature::IdRange => Caller::probe()
                .map_or_else(|error| Some(missing(&error)), |caller| id_range(&caller.default_id_maps())),
            Feature::MemoryLimit => {
                let memory = MemoryLimits { limit: Some(1 << 30), ..MemoryLimits::default() };
                limits.refusal(Resources { memory, ..Resources::default() })
            }
            Feature::CpuLimit => {
                let cpu = CpuLimits { quota: Some(100_000), ..CpuLimits::default() };
                limits.refusal(Resources { cpu, ..Resources::default() })
            }
            Feature::PidsLimit => limits.refusal(Resources { pids_limit: Some(64), ..Resources::default() }),
            Feature::Pause => limits.pause(),
            Feature::Scratch => file_system("overlay"),
            Feature::Landlock => landlock(),
            Feature::Tun => device(Path::new("/dev/net/tun")),
            Feature::Criu => Criu::find().err().map(|why| Missing::new(why.to_string(), why.remedy())),
        };
        Self { missing: Feature::ALL.into_iter().map(|feature| (feature, look(feature))).collect() }
    }

    /// Whether the builder's default container can be made.
    #[must_use]
    pub fn can_run(&self) -> bool {
        self.missing.iter().all(|(feature, missing)| missing.is_none() || !feature.is_required())
    }

    /// Why `feature` is not there; `None` if it is.
    #[must_use]
    pub fn missing(&self, feature: Feature) -> Option<&Missing> {
        self.missing.iter().find(|(looked_at, _)| *looked_at == feature)?.1.as_ref()
    }

    /// Every feature, with what is missing for it.
    pub fn iter(&self) -> impl Iterator<Item = (Feature, Option<&Missing>)> {
        self.missing.iter().map(|(feature, missing)| (*feature, missing.as_ref()))
    }
}

/// One line for each feature: `FEATURE: yes`, or `FEATURE: no: CAUSE (REMEDY)`.
impl fmt::Display for HostReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(feature, missing)| match missing {
            None => writeln!(f, "{feature}: yes"),
            Some(missing) => writeln!(f, "{feature}: no: {missing}"),
        })
    }
}

/// What an error says about this host, in the words that `create` and `build` would use.
fn missing(error: &Error) -> Missing {
    Obstacle::of(error).into()
}

/// Whether the kernel with this release, as uname(2) names it, is too old.
fn kernel(release: &str) -> Option<Missing> {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    (version < OLDEST_KERNEL).then(|| {
        let (major, minor) = OLDEST_KERNEL;
        Missing::new(format!("this is Linux {release}"), format!("run Linux {major}.{minor} or later"))
    })
}

/// Whether these maps, which the caller's containers have by default, have no id but the caller's own.
fn id_range(maps: &IdMaps) -> Option<Missing> {
    let ids: u64 = maps.uids.iter().map(|map| u64::from(map.size)).sum();
    (ids == 1).then(|| {
        Missing::new(
            "this user has no range in /etc/subuid and /etc/subgid, or newuidmap and newgidmap are not installed",
            "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, and install uidmap",
        )
    })
}

/// The host's cgroups, for plans with one limit each: a plan that fails says why the limit is missing.
struct Limits(Result<crate::host::cgroups::CgroupLayout>);

impl Limits {
    fn probe() -> Self {
        let needs = Needs { cgroups: true, freezer: true, ..Needs::default() };
        Self(Caller::probe().and_then(|caller| caller.host(needs)).map(|host| host.cgroups))
    }

    fn plan(&self, resources: &Resources) -> Result<CgroupPlan, Missing> {
        let id = ContainerId::new("probe").expect("a valid id");
        let layout = self.0.as_ref().map_err(missing)?;
        cgroup::plan(resources, None, QualifiedId { id: &id, root: 0 }, layout, true)
            .map_err(|error| missing(&error))
    }

    fn refusal(&self, resources: Resources) -> Option<Missing> {
        self.plan(&resources).err()
    }

    fn pause(&self) -> Option<Missing> {
        match self.plan(&Resources::default()) {
            Ok(plan) if plan.leaves().is_empty() => Some(Missing::new(
                "this user may make no cgroup to freeze a container in",
                "start this program where a cgroup is delegated to the user: systemd-run --user --scope",
            )),
            Ok(_) => None,
            Err(missing) => Some(missing),
        }
    }
}

/// Whether the kernel knows the file system. One that is a module is in the list only once it was loaded.
fn file_system(name: &str) -> Option<Missing> {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let is_known = known.lines().any(|line| line.split_whitespace().last() == Some(name));
    (!is_known)
        .then(|| Missing::new(format!("the kernel has no {name} file system"), format!("modprobe {name}")))
}

fn landlock() -> Option<Missing> {
    (!crate::sys::has_landlock()).then(|| {
        Missing::new(
            "the kernel runs without Landlock",
            "boot with lsm=landlock,... (CONFIG_SECURITY_LANDLOCK)",
        )
    })
}

fn device(path: &Path) -> Option<Missing> {
    let access = accessat(CWD, path, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS);
    let error = access.os(|| format!("access({path:?})")).err()?;
    Some(Missing::new(error.to_string(), "modprobe tun, and pass the device on if this is a container"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroups::CgroupLayout;
    use crate::spec::IdMap;

    fn said(missing: Option<Missing>) -> (String, String) {
        let missing = missing.expect("something is missing");
        (missing.cause, missing.remedy)
    }

    #[test]
    fn a_kernel_that_is_too_old_is_named_by_its_release() {
        for old in ["5.13.19-arch1", "4.18.0-553.el8_10.x86_64", "2.6.78"] {
            let expected = (format!("this is Linux {old}"), "run Linux 5.14 or later".to_owned());
            assert_eq!(said(kernel(old)), expected);
        }
        for new in ["5.14.0-427.el9", "5.14", "5.15.0-1+deb11", "6.1.0-13-amd64", "10.0.0-rc1"] {
            assert_eq!(kernel(new), None, "{new}");
        }
    }

    #[test]
    fn a_caller_with_one_id_is_told_how_to_get_a_range() {
        let own = IdMap { container: 0, host: 1000, size: 1 };
        let range = IdMap { container: 1, host: 100_000, size: 65_536 };
        let (cause, remedy) = said(id_range(&IdMaps { uids: vec![own], gids: vec![own] }));
        assert_eq!(
            cause,
            "this user has no range in /etc/subuid and /etc/subgid, or newuidmap and newgidmap are not installed"
        );
        assert_eq!(
            remedy,
            "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, and install uidmap"
        );
        assert_eq!(id_range(&IdMaps { uids: vec![own, range], gids: vec![own, range] }), None);
    }

    #[test]
    fn a_user_without_a_cgroup_is_told_where_one_is_delegated() {
        let (cause, remedy) = said(Limits(Ok(CgroupLayout::default())).pause());
        assert_eq!(cause, "this user may make no cgroup to freeze a container in");
        assert_eq!(
            remedy,
            "start this program where a cgroup is delegated to the user: systemd-run --user --scope"
        );
    }

    #[test]
    fn a_host_without_tun_is_told_to_load_the_module() {
        let (cause, remedy) = said(device(Path::new("/dev/net/no-such-device")));
        assert_eq!(cause, "access(\"/dev/net/no-such-device\"): ENOENT: No such file or directory");
        assert_eq!(remedy, "modprobe tun, and pass the device on if this is a container");
    }
}
