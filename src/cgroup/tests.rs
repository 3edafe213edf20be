//! The effects, on this host's own cgroups. Each test makes its own, under a name that no other process uses.

mod freezing;
mod removal;

use super::*;
use crate::error::ErrorKind;
use crate::host;
use crate::host::cgroups::{CgroupLayout, DelegationPoint, below};
use crate::id::{ContainerId, QualifiedId};
use crate::plan::DeviceLimits;
use crate::plan::cgroup::{CONTAINER, CgroupPlan, Role, plan};
use crate::skip::note_skip;
use crate::spec::{
    CpuLimits, DeviceAccess, DeviceRule, DeviceRuleKind, HugepageLimit, MemoryLimits, Resources,
};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The host's layout. `None`, with the reason printed, where these tests cannot run.
fn host(needed: &[&str]) -> Option<CgroupLayout> {
    let layout = host::cgroups_for(None).unwrap();
    let found: Vec<_> = needed.iter().map(|name| layout.v1(name)).collect();
    let reason = match found.iter().position(Option::is_none) {
        Some(missing) => format!("no v1 hierarchy has {}", needed[missing]),
        None if !found.into_iter().flatten().all(|hierarchy| hierarchy.writable) => {
            "the caller may not make cgroups".into()
        }
        None => return Some(layout),
    };
    note_skip(&reason);
    None
}

/// The unified hierarchy only. `None`, with the reason printed, where the caller may make no cgroup in it.
fn unified_host() -> Option<CgroupLayout> {
    let mut layout = host::cgroups_for(None).unwrap();
    layout.v1.clear();
    let reason = match &layout.unified {
        None => "no cgroup2 mount",
        Some(unified) if !unified.points.iter().any(DelegationPoint::is_open) => {
            "the caller may make no cgroup in the unified hierarchy"
        }
        Some(_) => return Some(layout),
    };
    note_skip(reason);
    None
}

/// A name that no other process uses. Dropping it removes what a failing test left.
struct Fixture {
    name: String,
    paths: Vec<PathBuf>,
}

impl Fixture {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("cofferdam-test-{}-{number}", std::process::id()), paths: Vec::new() }
    }

    fn plan(&mut self, resources: &Resources, layout: &CgroupLayout, explicit: Option<&str>) -> CgroupPlan {
        self.plan_freezing(resources, layout, explicit, false)
    }

    fn plan_freezing(
        &mut self,
        resources: &Resources,
        layout: &CgroupLayout,
        explicit: Option<&str>,
        freeze: bool,
    ) -> CgroupPlan {
        let id = ContainerId::new(self.name.as_str()).unwrap();
        let path = explicit.map(|below| PathBuf::from(format!("/{}{below}", self.name)));
        let plan =
            plan(resources, path.as_deref(), QualifiedId { id: &id, root: 0 }, layout, freeze).unwrap();
        self.paths = plan.leaves();
        plan
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = destroy(&self.paths);
    }
}

fn limits() -> Resources {
    Resources {
        memory: MemoryLimits { limit: Some(64 << 20), ..MemoryLimits::default() },
        cpu: CpuLimits { shares: Some(512), ..CpuLimits::default() },
        pids_limit: Some(17),
        ..Resources::default()
    }
}

const SLEEP: &str = "exec sleep 600";

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

#[expect(clippy::disallowed_methods, reason = "a process to be killed, made by the test alone")]
fn inhabitant(procs: &Path, script: &str) -> Child {
    // The script begins when its input ends, and we close the input after the move.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("read _; {script}")]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let file = rustix::fs::open(procs, rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty()).unwrap();
    rustix::io::write(file, child.id().to_string().as_bytes()).unwrap();
    drop(child.stdin.take());
    child
}

#[test]
fn limits_are_in_the_kernel_before_anything_joins_and_destroy_leaves_nothing() {
    let Some(layout) = host(&["memory", "pids", "cpu"]) else {
        return;
    };
    let mut fixture = Fixture::new();
    let plan = fixture.plan(&limits(), &layout, None);
    let cgroup = Cgroup::create(&plan, None).unwrap();
    let leaf = |controller: &str| {
        let own = layout.v1(controller).unwrap().own_dir();
        own.join(format!("cofferdam-{}-00000000", fixture.name))
    };
    for (file, outer, exact) in
        [("memory.limit_in_bytes", (64 + 32) << 20, 64 << 20), ("pids.max", 17 + 128, 17)]
    {
        let leaf = leaf(file.split('.').next().unwrap());
        assert_eq!(read(leaf.join(file)), outer.to_string());
        assert_eq!(read(leaf.join(CONTAINER).join(file)), exact.to_string());
    }
    assert_eq!(read(leaf("cpu").join("cpu.shares")), "512");

    // The sandbox is in those of memory and pids, beside the container's, and not in the one of cpu.
    let names: Vec<String> = cgroup.join_fds().unwrap().into_iter().map(|(name, _)| name).collect();
    let count = |prefix| names.iter().filter(|name| name.starts_with(prefix)).count();
    assert_eq!((count(SANDBOX_JOIN), count(CONTAINER_JOIN), names.len()), (2, 3, 5), "{names:?}");
    assert!(cgroup.sandbox_dir_fd().is_none());

    let evidence = cgroup.evidence_fds();
    let [(oom, oom_fd), (peak, peak_fd)] = evidence.as_slice() else { panic!("{evidence:?}") };
    assert_eq!((oom.as_str(), peak.as_str()), (EVIDENCE_OOM, EVIDENCE_PEAK));
    let seen = OomEvidence::read(oom_fd.as_fd(), Some(peak_fd.as_fd())).unwrap();
    assert_eq!(seen, OomEvidence { oom_kills: 0, peak: Some(0) });

    destroy(&plan.leaves()).unwrap();
    assert!(plan.leaves().iter().all(|path| !path.exists()));
    destroy(&plan.leaves()).unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test may fork")]
fn on_v2_a_program_decides_about_devices_however_many_rules_there_are() {
    let Some(layout) = unified_host() else { return };
    let rule = |major, minor| DeviceRule {
        allow: true,
        kind: DeviceRuleKind::Char,
        major: Some(major),
        minor: Some(minor),
        access: DeviceAccess::READ,
    };
    let many: Vec<DeviceRule> = (0..3900).map(|at| rule(200 + at / 50, 3 * (at % 50))).collect();
    for rules in [&many[..1], &many] {
        let mut fixture = Fixture::new();
        let id = ContainerId::new(fixture.name.as_str()).unwrap();
        let limits = DeviceLimits::new(rules, true).unwrap();
        let plan = CgroupPlan::default()
            .with_device_limits(&limits, None, QualifiedId { id: &id, root: 0 }, &layout)
            .unwrap();
        fixture.paths = plan.leaves();
        match Cgroup::create(&plan, None) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                return note_skip("the caller may not use bpf(2)");
            }
            made => drop(made.unwrap()),
        }
        let procs = plan.leaves().remove(0).join("cgroup.procs");
        let script = "echo 0 >$0; for name in null urandom kmsg; do (: </dev/$name) && echo $name; done";
        let mut shell = std::process::Command::new("sh");
        let seen = shell.args(["-c", script]).arg(procs).stderr(Stdio::null()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&seen.stdout), "null\nurandom\n");
    }
}

#[test]
fn an_oom_kill_is_heard_when_it_happens() {
    let Some(layout) = host(&["memory"]) else { return };
    let mut fixture = Fixture::new();
    let memory = MemoryLimits { limit: Some(8 << 20), ..MemoryLimits::default() };
    let plan = fixture.plan(&Resources { memory, ..Resources::default() }, &layout, None);
    let cgroup = Cgroup::create(&plan, None).unwrap();
    let mut fds = cgroup.oom_watch_fds();
    let mut watch = OomWatch::take(|name| {
        let index = fds.iter().position(|(given, _)| given == name)?;
        Some(fds.swap_remove(index).1)
    })
    .unwrap();
    assert!(!watch.happened());
    let leaf = plan.leaves().remove(0).join(CONTAINER);
    let mut child = inhabitant(&leaf.join("cgroup.procs"), "exec tail /dev/zero");
    let interest = watch.interest();
    let limit = rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 };
    let ready =
        rustix::event::poll(&mut [rustix::event::PollFd::new(&watch, interest)], Some(&limit)).unwrap();
    assert_eq!(ready, 1);
    assert!(watch.happened());
    assert!(!watch.happened(), "once");
    child.wait().unwrap();

    let mut child = inhabitant(&leaf.join("cgroup.procs"), "exec tail /dev/zero");
    child.wait().unwrap();
    assert!(watch.happened(), "a dead process was counted, even if the fd is not ready yet");
}

#[test]
fn an_optional_cgroup_that_holds_other_processes_is_left_out() {
    let Some(layout) = host(&["freezer"]) else { return };
    let mut fixture = Fixture::new();
    let plan = fixture.plan_freezing(&Resources::default(), &layout, None, true);
    Cgroup::create(&plan, None).unwrap();
    let mut other = inhabitant(&plan.leaves()[0].join("cgroup.procs"), SLEEP);
    let cgroup = Cgroup::create(&plan, None).unwrap();
    assert!(cgroup.leaves().is_empty() && cgroup.freezer_fds().unwrap().is_empty());
    assert!(cgroup.made_ancestors().is_empty());
    destroy(&cgroup.leaves()).unwrap();
    assert_eq!(other.try_wait().unwrap(), None, "processes of others are left alone");
    destroy(&plan.leaves()).unwrap();
    other.wait().unwrap();
}

#[test]
fn a_refused_limit_names_its_field_and_leaves_no_directory() {
    let Some(layout) = host(&["memory", "pids", "cpuset"]) else {
        return;
    };
    let mut fixture = Fixture::new();
    let cpu = CpuLimits { cpus: Some("4000".into()), ..CpuLimits::default() };
    let plan = fixture.plan(&Resources { cpu, ..limits() }, &layout, Some("/leaf"));
    let error = Cgroup::create(&plan, None).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("linux.resources.cpu.cpus: write(\"/"), "{message}");
    assert!(message.contains("cpuset.cpus\", \"4000\"): E"), "{message}");
    for path in plan.leaves() {
        assert!(!path.parent().unwrap().exists(), "{path:?}");
    }
}

#[test]
fn a_cpuset_takes_what_was_not_given_from_its_parent() {
    let Some(layout) = host(&["cpuset"]) else { return };
    let mut fixture = Fixture::new();
    let cpu = CpuLimits { cpus: Some("0".into()), ..CpuLimits::default() };
    let plan = fixture.plan(&Resources { cpu, ..Resources::default() }, &layout, None);
    Cgroup::create(&plan, None).unwrap();
    let [leaf] = plan.leaves().try_into().unwrap();
    assert_eq!(read(leaf.join("cpuset.cpus")), "0");
    assert_eq!(read(leaf.join("cpuset.mems")), read(leaf.parent().unwrap().join("cpuset.mems")));
}

#[test]
fn on_v2_a_sandbox_that_a_service_manager_put_into_the_scope_goes_beside_the_container() {
    let Some(layout) = unified_host() else { return };
    let mut fixture = Fixture::new();
    let pages = HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 };
    let resources = Resources { hugepages: vec![pages], ..Resources::default() };
    let id = ContainerId::new(fixture.name.as_str()).unwrap();
    let Ok(mut plan) = plan(&resources, None, QualifiedId { id: &id, root: 0 }, &layout, false) else {
        return note_skip("the unified hierarchy has no hugetlb");
    };
    fixture.paths = plan.leaves();
    let scope = plan.leaves().remove(0);
    let dirs = &mut plan.branches[0].dirs;
    dirs.iter_mut().find(|dir| dir.role == Role::Outer).unwrap().role = Role::SystemdScope;
    std::fs::create_dir(&scope).unwrap();
    let mut sandbox = inhabitant(&scope.join("cgroup.procs"), SLEEP);
    let pid = i32::try_from(sandbox.id()).unwrap();
    Cgroup::create(&plan, Some(pid)).unwrap();
    let inside = |dir: &str| read(scope.join(dir).join("cgroup.procs"));
    assert_eq!([inside(""), inside("sandbox"), inside("container")], ["", &pid.to_string(), ""]);
    assert_eq!(read(scope.join("container/hugetlb.2MB.max")), (4 << 20).to_string());
    assert_ne!(read(scope.join("sandbox/hugetlb.2MB.max")), (4 << 20).to_string(), "it has no limit");
    destroy(&plan.leaves()).unwrap();
    sandbox.wait().unwrap();
}

#[test]
fn an_empty_plan_makes_nothing() {
    let cgroup = Cgroup::create(&CgroupPlan::default(), None).unwrap();
    assert!(cgroup.join_fds().unwrap().is_empty() && cgroup.evidence_fds().is_empty());
    destroy(&[]).unwrap();
}
