//! Which cgroups a container needs, and what is written into them: `linux.cgroupsPath` and `linux.resources` against
//! the host's layout.
//!
//! What lives here: the plan as a value and the choice of hierarchy; that of the place in it is in [`place`]. How each
//! version of the interface spells a limit is in [`v1`] and [`v2`]. What may not: any look at the host; its facts come in as a [`CgroupLayout`].

mod devices;
mod place;
mod scope;
mod update;
mod v1;
mod v2;

#[cfg(feature = "systemd")]
pub(crate) use scope::PropertyValue;
pub(crate) use scope::{Property, ScopePlan, ScopeUpdate, update_scope};
pub(crate) use update::{ControllerUpdate, Lifted, Spelling, not_joined, undo, update};

use crate::error::{Error, Result};
use crate::host::cgroups::{CgroupLayout, DelegationPoint, UnifiedHierarchy, V1Hierarchy};
use crate::host::facts::ServiceManager;
use crate::id::ContainerId;
use crate::plan::devices::DeviceProgram;
use crate::spec::{BlockIo, CpuLimits, MemoryLimits, Resources, SystemdScope};
use place::{CgroupLocation, Unusable, default_name};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// The cgroups to make and the limits to set, in order. Empty where no limit was asked for and there is no place to
/// freeze: then nothing is done at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CgroupPlan {
    /// One entry for each hierarchy in use.
    pub(crate) branches: Vec<Branch>,
    /// The container's root on the host, where its processes are made by that user and not by the caller's: only who
    /// may write `cgroup.procs` of the v2 directories can have a process born there.
    pub(crate) delegate_uid: Option<u32>,
    /// The scope that systemd makes first, around the sandbox.
    pub(crate) scope: Option<ScopePlan>,
}

/// What happens in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Branch {
    /// Which hierarchy.
    pub(crate) hierarchy: Hierarchy,
    /// The configuration field that asked for it, for messages.
    pub(crate) field: String,
    /// Directories from the top down: the first exists, each other is a child of the one before.
    pub(crate) dirs: Vec<PlannedDir>,
    /// Nobody asked for it by name: a host that refuses it after all is done without.
    pub(crate) optional: bool,
}

impl Branch {
    /// The directory that goes with the container: the one with its limits, or the only one there is.
    fn leaf(&self) -> Option<&PlannedDir> {
        self.dirs.iter().find(|dir| matches!(dir.role, Role::Sandbox | Role::SystemdScope | Role::Container))
    }

    /// Whether the container's own processes are by themselves in a directory of this branch.
    fn freezes(&self) -> bool {
        self.dirs.iter().any(|dir| dir.role == Role::Container)
    }
}

/// A hierarchy, by its controllers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Hierarchy {
    /// A v1 hierarchy with these controllers.
    V1(Vec<String>),
    /// The unified hierarchy.
    V2,
}

/// One directory: make it (or find it), then write, then go on to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedDir {
    /// Absolute path.
    pub(crate) path: PathBuf,
    /// What it is for.
    pub(crate) role: Role,
    /// What is written into it, in this order.
    pub(crate) writes: Vec<PlannedWrite>,
}

/// What a directory of a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Exists on the host: never made, never removed.
    Base,
    /// Leads to the leaf: made where missing, removed only by whoever made it.
    Ancestor,
    /// Carries the limits; the sandbox joins it.
    Sandbox,
    /// Carries the limits; a service manager made it and put the sandbox there.
    SystemdScope,
    /// The container's own processes join it, and nothing else.
    Container,
}

/// One write into a control file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedWrite {
    /// The control file, or what a program decides about.
    pub(crate) file: String,
    /// What to write.
    pub(crate) value: Value,
    /// The configuration field it obeys, for messages.
    pub(crate) field: String,
}

/// What to write into a control file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Value {
    /// This text. A kernel without the file cannot do what was asked.
    Text(String),
    /// This text, where the kernel has the file: without it the asked-for state holds anyway.
    TextIfPresent(String),
    /// This text, or where the kernel does not have the file, another text into another file: kernels have several names
    /// for one limit.
    Either { text: String, otherwise: (String, String) },
    /// The parent's value, unless the file already has one.
    FromParent,
    /// `+controller` for those not yet enabled for the children. The required ones must succeed; the observed ones
    /// only give statistics, and a host that refuses them has none.
    Enable { required: Vec<String>, observed: Vec<String> },
    /// No text: this program, attached to the directory. One that is not required is done without where the host refuses
    /// it.
    Program { program: DeviceProgram, required: bool },
}

impl CgroupPlan {
    /// Whether the container needs no cgroup.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.branches.is_empty()
    }

    /// The container's directory in the hierarchy mounted at `mountpoint`, if it has one there.
    pub(crate) fn directory_in(&self, mountpoint: &Path) -> Option<PathBuf> {
        self.leaves().into_iter().find(|leaf| leaf.starts_with(mountpoint))
    }

    /// The leaf directories: what the state record keeps *before* any effect, and what
    /// [`destroy`](crate::cgroup::destroy) takes.
    pub(crate) fn leaves(&self) -> Vec<PathBuf> {
        self.branches.iter().filter_map(Branch::leaf).map(|leaf| leaf.path.clone()).collect()
    }
}

/// Plans the cgroups of container `id`.
///
/// Without `cgroups_path` only the hierarchies that carry a limit are used, below the caller's own cgroup (v1) or where
/// [`CgroupLocation::point`] says (v2), under the name `cofferdam-ID`. With one, an absolute path starts at the
/// hierarchy's mount point and a relative one at that same default place ("the runtime MAY interpret the path relative to a
/// runtime-determined location" - OCI config-linux.md), and the hierarchies that give statistics are joined as well.
///
/// With `freeze`, every container gets a directory with its own processes and nothing else in it, to stop and resume
/// them at once. Where limits bring none, that is one directory in the v1 freezer hierarchy, which costs the least to join
/// (`tasks` needs no grace period), else a branch in the unified one. It is optional: where the caller may make none,
/// there is none.
///
/// # Errors
/// [`Unsupported`](crate::error::ErrorKind::Unsupported) naming the first field that cannot be obeyed: no hierarchy has
/// its controller, or the caller may not write there. [`InvalidSpec`](crate::error::ErrorKind::InvalidSpec) for a
/// `cgroupsPath` that is not a plain path, and a swap limit without a memory limit.
pub(crate) fn plan(
    resources: &Resources,
    cgroups_path: Option<&Path>,
    id: &ContainerId,
    layout: &CgroupLayout,
    freeze: bool,
) -> Result<CgroupPlan> {
    let place = CgroupLocation::new(cgroups_path, id)?;
    let mut branches = limits(resources, cgroups_path, &place, layout)?;
    if freeze && !branches.iter().any(Branch::freezes) {
        branches.extend(freezer_branch(resources, &place, layout));
    }
    Ok(CgroupPlan { branches, delegate_uid: None, scope: None })
}

/// Plans the cgroups of a container in a scope of systemd's: one directory of its own in the one that systemd makes.
///
/// # Errors
/// [`Unsupported`](crate::error::ErrorKind::Unsupported) naming `linux.cgroupsPath` where there is no systemd to ask, it
/// cannot be asked, or the host's cgroups are not v2 alone; else as [`plan`].
pub(crate) fn plan_scope(
    resources: &Resources,
    scope: &SystemdScope,
    layout: &CgroupLayout,
    manager: &ServiceManager,
) -> Result<CgroupPlan> {
    let (scope, branch) = scope::plan(resources, scope, layout, manager)?;
    Ok(CgroupPlan { branches: vec![branch], delegate_uid: None, scope: Some(scope) })
}

/// The branches that were asked for, by a limit or by a place.
fn limits(
    resources: &Resources,
    cgroups_path: Option<&Path>,
    place: &CgroupLocation,
    layout: &CgroupLayout,
) -> Result<Vec<Branch>> {
    let (asked, unified_asked) = (asked(resources), unified_asked(resources));
    let mut fields = asked.iter().chain(&unified_asked).map(|asked| asked.field.clone());
    let Some(first_field) = fields.next().or(cgroups_path.map(|_| CGROUPS_PATH.into())) else {
        return Ok(Vec::new());
    };
    check_swap(resources)?;
    if layout.v1.is_empty() && layout.unified.is_none() {
        return Err(Error::unsupported(first_field, "no cgroup hierarchy is mounted"));
    }
    let (on_v1, mut on_v2): (Vec<_>, Vec<_>) =
        asked.into_iter().partition(|a| layout.v1(v1::name(&a.controller)).is_some());
    if let Some(only_v1) = on_v2.iter().find_map(|asked| v2::only_v1(&asked.controller, resources)) {
        return Err(OtherVersion(only_v1.into()).on(Version::V2));
    }
    if let (Some(asked), None) = (unified_asked.first(), &layout.unified) {
        return Err(OtherVersion(asked.field.clone()).on(Version::V1));
    }
    on_v2.extend(unified_asked);
    let unified_alone = layout.v1.is_empty();

    let mut branches = v1_branches(resources, &on_v1, place, layout)?;
    if let (Some(unified), true) = (&layout.unified, unified_alone || !on_v2.is_empty()) {
        branches.push(v2_branch(resources, &on_v2, place, unified)?);
    } else if let Some(missing) = on_v2.first() {
        return Err(missing.unavailable("no cgroup hierarchy has it"));
    }
    Ok(branches)
}

/// The error where the caller may make no cgroup.
fn closed(field: Cow<'static, str>, why: &str) -> Error {
    Error::unsupported(field, format!("no cgroup can be made: {why}"))
        .hint("leave out limits and linux.cgroupsPath, or have a cgroup delegated to this user")
}

/// A place to freeze where the limits bring none.
fn freezer_branch(resources: &Resources, place: &CgroupLocation, layout: &CgroupLayout) -> Option<Branch> {
    let field = FREEZER.to_owned();
    if let Some(hierarchy) = layout.v1("freezer") {
        if !hierarchy.writable {
            return None;
        }
        // No second level: nothing is limited here, so the sandbox, which must not be frozen, stays where it was.
        let mut dirs = place.dirs(place.base(hierarchy));
        if let Some(leaf) = dirs.last_mut() {
            leaf.role = Role::Container;
        }
        let hierarchy = Hierarchy::V1(hierarchy.controllers.clone());
        return Some(Branch { hierarchy, field, dirs, optional: true });
    }
    let branch = v2_branch(resources, &[], place, layout.unified.as_ref()?).ok()?;
    Some(Branch { field, optional: true, ..branch })
}

/// What messages call the cgroup that nobody asked for by a field.
const FREEZER: &str = "freezer cgroup";

/// Where a container of this id has its cgroups if its configuration names no place, the innermost first.
pub(crate) fn default_places(id: &ContainerId, layout: &CgroupLayout) -> Vec<PathBuf> {
    let name = default_name(id);
    let v1 = layout.v1.iter().map(|hierarchy| hierarchy.own_dir().join(&name));
    let v2 = layout.unified.iter().flat_map(UnifiedHierarchy::point_dirs).map(|dir| dir.join(&name));
    v1.chain(v2.flat_map(|leaf| [leaf.join(CONTAINER), leaf])).collect()
}

const CGROUPS_PATH: &str = "linux.cgroupsPath";

/// Joined besides those with limits when the configuration names a place, since whoever named it reads statistics
/// there and freezes it.
const OBSERVED: [&str; 5] = ["memory", "pids", "cpu", "cpuacct", "freezer"];

/// A controller that limits were asked of, with the first field that did.
struct RequestedLimits {
    /// As v2 calls it.
    controller: Cow<'static, str>,
    field: Cow<'static, str>,
}

impl RequestedLimits {
    fn unavailable(&self, why: &str) -> Error {
        let message = format!("the {} controller is not available: {why}", self.controller);
        Error::unsupported(self.field.clone(), message)
    }
}

/// A field that only the other version of the interface has a file for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherVersion(Cow<'static, str>);

/// A version of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

impl OtherVersion {
    /// The error where only `version` is.
    pub(crate) fn on(&self, version: Version) -> Error {
        let why = match version {
            Version::V1 => "cgroup v1 has no file for it, and no cgroup v2 hierarchy here has its controller",
            Version::V2 => "cgroup v2 has no file for it, and no cgroup v1 hierarchy here has its controller",
        };
        Error::unsupported(self.0.clone(), why)
    }
}

/// Every field of `resources` that asks for something, with its controller. Memory values of 0 read as absent, as every
/// OCI runtime reads them.
fn fields(resources: &Resources) -> impl Iterator<Item = (&'static str, &'static str)> {
    let Resources { memory, cpu, block_io, network, .. } = resources;
    let nonzero = |value: Option<i64>| value.is_some_and(|value| value != 0);
    let fields = [
        ("memory", "linux.resources.memory.limit", nonzero(memory.limit)),
        ("memory", "linux.resources.memory.reservation", nonzero(memory.reservation)),
        ("memory", "linux.resources.memory.swap", nonzero(memory.swap)),
        ("memory", v1::SWAPPINESS, memory.swappiness.is_some()),
        ("memory", v1::DISABLE_OOM_KILLER, memory.disable_oom_killer),
        ("cpu", "linux.resources.cpu.shares", cpu.shares.is_some()),
        ("cpu", "linux.resources.cpu.quota", cpu.quota.is_some()),
        ("cpu", "linux.resources.cpu.period", cpu.period.is_some()),
        ("cpu", "linux.resources.cpu.burst", cpu.burst.is_some()),
        ("cpu", v1::REALTIME_RUNTIME, cpu.realtime_runtime.is_some()),
        ("cpu", v1::REALTIME_PERIOD, cpu.realtime_period.is_some()),
        ("cpu", "linux.resources.cpu.idle", cpu.idle),
        ("cpuset", "linux.resources.cpu.cpus", cpu.cpus.is_some()),
        ("cpuset", "linux.resources.cpu.mems", cpu.mems.is_some()),
        ("pids", "linux.resources.pids.limit", resources.pids_limit.is_some()),
        ("io", "linux.resources.blockIO.weight", block_io.weight.is_some()),
        ("io", v1::LEAF_WEIGHT, block_io.leaf_weight.is_some()),
        ("io", "linux.resources.blockIO.weightDevice", !block_io.weight_devices.is_empty()),
        ("io", "linux.resources.blockIO.throttleReadBpsDevice", !block_io.read_bps.is_empty()),
        ("io", "linux.resources.blockIO.throttleWriteBpsDevice", !block_io.write_bps.is_empty()),
        ("io", "linux.resources.blockIO.throttleReadIOPSDevice", !block_io.read_iops.is_empty()),
        ("io", "linux.resources.blockIO.throttleWriteIOPSDevice", !block_io.write_iops.is_empty()),
        ("hugetlb", "linux.resources.hugepageLimits", !resources.hugepages.is_empty()),
        ("net_cls", v1::CLASS_ID, network.class_id.is_some()),
        ("net_prio", v1::PRIORITIES, !network.priorities.is_empty()),
        ("rdma", "linux.resources.rdma", !resources.rdma.is_empty()),
    ];
    fields.into_iter().filter(|(_, _, present)| *present).map(|(controller, field, _)| (controller, field))
}

/// The controllers `resources` needs, by the fields that have one whatever the version.
fn asked(resources: &Resources) -> Vec<RequestedLimits> {
    let mut asked: Vec<RequestedLimits> = Vec::new();
    for (controller, field) in fields(resources) {
        if asked.last().is_none_or(|last| last.controller != controller) {
            asked.push(RequestedLimits { controller: controller.into(), field: field.into() });
        }
    }
    asked
}

/// The controllers `linux.resources.unified` needs, which have to be those of v2.
fn unified_asked(resources: &Resources) -> Vec<RequestedLimits> {
    let asked = resources.unified.iter().map(|unified| RequestedLimits {
        controller: unified.controller().to_owned().into(),
        field: v2::unified_field(unified).into(),
    });
    asked.collect()
}

/// Takes out the limits of the controller that `field` asks for, and returns their fields; none if `field` is no limit
/// that one can do without.
pub(crate) fn drop_limits_beside(resources: &mut Resources, field: &str) -> Vec<String> {
    let fields_of = |resources: &Resources| fields(resources).collect::<Vec<_>>();
    let before = fields_of(resources);
    let Some((controller, _)) = before.iter().find(|(_, asked)| *asked == field) else {
        return Vec::new();
    };
    match *controller {
        "memory" => resources.memory = MemoryLimits::default(),
        "cpu" => {
            let (cpus, mems) = (resources.cpu.cpus.take(), resources.cpu.mems.take());
            resources.cpu = CpuLimits { cpus, mems, ..CpuLimits::default() };
        }
        "cpuset" => (resources.cpu.cpus, resources.cpu.mems) = (None, None),
        "pids" => resources.pids_limit = None,
        "io" => resources.block_io = BlockIo::default(),
        "hugetlb" => resources.hugepages.clear(),
        "net_cls" => resources.network.class_id = None,
        "net_prio" => resources.network.priorities.clear(),
        "rdma" => resources.rdma.clear(),
        _ => {}
    }
    let left = fields_of(resources);
    before.iter().filter(|field| !left.contains(field)).map(|(_, field)| (*field).to_owned()).collect()
}

/// Swap is counted together with memory, so a bound on the sum means nothing without one on memory.
fn check_swap(resources: &Resources) -> Result<()> {
    match (resources.memory.swap, resources.memory.limit) {
        (Some(1..), None | Some(..=0)) => {
            Err(Error::spec("config.json", "linux.resources.memory.swap", "is set without a memory limit")
                .hint("set linux.resources.memory.limit too"))
        }
        _ => Ok(()),
    }
}

/// The directory of the container's own processes, below the leaf.
pub(crate) const CONTAINER: &str = "container";

fn with_container(mut dirs: Vec<PlannedDir>) -> Vec<PlannedDir> {
    let leaf = dirs.last().map(|leaf| leaf.path.join(CONTAINER));
    dirs.extend(leaf.map(|path| PlannedDir { path, role: Role::Container, writes: Vec::new() }));
    dirs
}

fn v1_branches(
    resources: &Resources,
    asked: &[RequestedLimits],
    place: &CgroupLocation,
    layout: &CgroupLayout,
) -> Result<Vec<Branch>> {
    let mut branches = Vec::new();
    // pids first: teardown keeps this order, and closing the pids cgroup to new tasks is what stops a fork bomb.
    let mut hierarchies: Vec<&V1Hierarchy> = layout.v1.iter().collect();
    hierarchies.sort_by_key(|hierarchy| !hierarchy.controllers.iter().any(|own| own == "pids"));
    for hierarchy in hierarchies {
        let has = |name: &str| hierarchy.has(name);
        let limits: Vec<&RequestedLimits> =
            asked.iter().filter(|asked| has(v1::name(&asked.controller))).collect();
        if limits.is_empty() && !(place.explicit && OBSERVED.into_iter().any(has)) {
            continue;
        }
        let field = limits.first().map_or(CGROUPS_PATH.into(), |asked| asked.field.clone());
        let base = place.base(hierarchy);
        if !hierarchy.writable {
            return Err(closed(field, &place::may_not_write(&base)));
        }
        let mut dirs = place.dirs(base);
        for dir in dirs.iter_mut().filter(|dir| has("cpuset") && dir.role == Role::Ancestor) {
            dir.writes = v1::inherited_cpuset();
        }
        if let Some(leaf) = dirs.last_mut() {
            let controllers = hierarchy.controllers.iter().map(String::as_str);
            leaf.writes = controllers.flat_map(|controller| v1::writes(controller, resources)).collect();
        }
        if has("freezer") {
            dirs = with_container(dirs);
        }
        let field = field.into_owned();
        let hierarchy = Hierarchy::V1(hierarchy.controllers.clone());
        branches.push(Branch { hierarchy, field, dirs, optional: false });
    }
    Ok(branches)
}

/// Both versions have one file, with one line for each device.
fn rdma(resources: &Resources) -> Vec<PlannedWrite> {
    let lines = resources.rdma.iter().map(|limit| {
        let handles = limit.hca_handles.map(|most| format!(" hca_handle={most}")).unwrap_or_default();
        let objects = limit.hca_objects.map(|most| format!(" hca_object={most}")).unwrap_or_default();
        PlannedWrite {
            file: "rdma.max".into(),
            value: Value::Text(format!("{}{handles}{objects}", limit.device)),
            field: "linux.resources.rdma".into(),
        }
    });
    lines.collect()
}

/// A branch where the caller may make it.
fn v2_branch(
    resources: &Resources,
    asked: &[RequestedLimits],
    place: &CgroupLocation,
    unified: &UnifiedHierarchy,
) -> Result<Branch> {
    let required = required(asked);
    match place.point(unified, &required) {
        Ok(point) => Ok(v2_branch_at(point, resources, asked, place)),
        Err(Unusable::Closed { why }) => Err(closed(v2_field(asked), &why)),
        Err(Unusable::Without { controller, why }) => Err(unavailable(asked, &controller, &why)),
    }
}

/// The error for the first field that asked for a controller that is not there.
fn unavailable(asked: &[RequestedLimits], controller: &str, why: &str) -> Error {
    let asked = asked.iter().find(|asked| asked.controller == controller);
    asked.expect("only what was asked for is missing").unavailable(why).hint(
        "enable it in cgroup.subtree_control of the cgroups above, which hold no processes then, or choose another \
         linux.cgroupsPath",
    )
}

/// The controllers of these, each once.
fn required(asked: &[RequestedLimits]) -> Vec<String> {
    let mut required: Vec<String> = Vec::new();
    for controller in asked.iter().map(|asked| asked.controller.as_ref()) {
        if !required.iter().any(|known| known == controller) {
            required.push(controller.to_owned());
        }
    }
    required
}

fn v2_field(asked: &[RequestedLimits]) -> Cow<'static, str> {
    asked.first().map_or(CGROUPS_PATH.into(), |asked| asked.field.clone())
}

/// The branch that starts at `point`.
fn v2_branch_at(
    point: &DelegationPoint,
    resources: &Resources,
    asked: &[RequestedLimits],
    place: &CgroupLocation,
) -> Branch {
    let (field, required) = (v2_field(asked).into_owned(), required(asked));
    // Who names a place from the top wants what the top has; elsewhere nothing is enabled only to be observed.
    let available = if place.absolute { &point.controllers } else { &point.enabled };
    let has = |name: &str| available.iter().any(|own| own == name);
    let unasked = |name: &&str| has(name) && !required.iter().any(|asked| asked == name);
    let observed: Vec<String> = match place.explicit {
        true => OBSERVED.into_iter().filter(unasked).map(str::to_owned).collect(),
        false => Vec::new(),
    };
    let mut dirs = place.dirs(point.dir.clone());
    let missing = required.iter().any(|name| !point.enabled.contains(name));
    for dir in &mut dirs {
        let enables = match dir.role {
            Role::Base => place.absolute || missing,
            role => role == Role::Ancestor,
        };
        if enables && !(required.is_empty() && observed.is_empty()) {
            let value = Value::Enable { required: required.clone(), observed: observed.clone() };
            let (file, field) = ("cgroup.subtree_control".into(), field.clone());
            dir.writes.push(PlannedWrite { file, value, field });
        } else if dir.role == Role::Sandbox {
            dir.writes = required.iter().flat_map(|controller| v2::writes(controller, resources)).collect();
            // After the others: who names a file means it.
            dir.writes.extend(resources.unified.iter().map(v2::unified));
        }
    }
    Branch { hierarchy: Hierarchy::V2, field, dirs: with_container(dirs), optional: false }
}

#[cfg(test)]
mod tests;
