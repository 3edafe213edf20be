//! The effects, on this host's own cgroups. Each test makes its own under a name nobody else has.

use super::*;
use crate::error::ErrorKind;
use crate::host;
use crate::host::cgroups::{CgroupLayout, DelegationPoint, below};
use crate::id::ContainerId;
use crate::plan::DeviceLimits;
use crate::plan::cgroup::{CgroupPlan, plan};
use crate::skip::note_skip;
use crate::spec::{CpuLimits, DeviceAccess, DeviceRule, DeviceRuleKind, MemoryLimits, Resources};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The host's layout, or `None` with the reason printed where these tests cannot run.
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

/// The unified hierarchy alone, or `None` with the reason printed where the caller may make no cgroup in it.
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

/// A name nobody else has, and the removal of what a failing test left.
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
        let plan = plan(resources, path.as_deref(), &id, layout, freeze).unwrap();
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
    // It begins when its input ends, and by then it is inside.
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
    let cgroup = Cgroup::create(&plan).unwrap();
    let leaf = |controller: &str| {
        let own = layout.v1(controller).unwrap().own_dir();
        own.join(format!("cofferdam-{}", fixture.name))
    };
    assert_eq!(read(leaf("memory").join("memory.limit_in_bytes")), "67108864");
    assert_eq!(read(leaf("pids").join("pids.max")), "17");
    assert_eq!(read(leaf("cpu").join("cpu.shares")), "512");

    let names: Vec<String> = cgroup.join_fds().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|name| name.starts_with(SANDBOX_JOIN)), "{names:?}");
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
fn destroy_ends_live_processes_and_nested_cgroups() {
    let Some(layout) = host(&["memory", "pids", "freezer"]) else {
        return;
    };
    let mut fixture = Fixture::new();
    let plan = fixture.plan(&limits(), &layout, Some("/leaf"));
    let cgroup = Cgroup::create(&plan).unwrap();
    let freezer =
        below(&layout.v1("freezer").unwrap().mountpoint, &Path::new(&fixture.name).join("leaf/container"));
    let pids = below(&layout.v1("pids").unwrap().mountpoint, &Path::new(&fixture.name).join("leaf"));
    let inner = pids.join("a/b");
    std::fs::create_dir(pids.join("a")).unwrap();
    std::fs::create_dir(&inner).unwrap();
    let mut deep = inhabitant(&inner.join("cgroup.procs"), SLEEP);
    let mut frozen = inhabitant(&freezer.join("cgroup.procs"), SLEEP);
    let state = rustix::fs::open(
        freezer.join("freezer.state"),
        rustix::fs::OFlags::WRONLY,
        rustix::fs::Mode::empty(),
    );
    rustix::io::write(state.unwrap(), b"FROZEN").unwrap();

    let error = Cgroup::create(&plan).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::AlreadyExists, "{error}");

    destroy(&plan.leaves()).unwrap();
    assert!(plan.leaves().iter().all(|path| !path.exists()));
    for child in [&mut deep, &mut frozen] {
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    }
    assert_eq!(cgroup.made_ancestors().len(), plan.branches.len());
    prune(cgroup.made_ancestors()).unwrap();
    assert!(cgroup.made_ancestors().iter().all(|path| !path.exists()));
}

#[test]
fn destroy_wins_against_a_process_that_keeps_forking() {
    let Some(layout) = host(&["pids"]) else { return };
    let mut fixture = Fixture::new();
    let resources = Resources { pids_limit: Some(100), ..Resources::default() };
    let plan = fixture.plan(&resources, &layout, None);
    Cgroup::create(&plan).unwrap();
    let [leaf] = plan.leaves().try_into().unwrap();
    // Each process starts the next and ends: whatever was listed is gone when it is to be killed. The chain ends by
    // itself in a minute, should the test fail.
    let script = "f() { (:); [ $1 -gt 20000 ] || f $(($1 + 1)) & }; f 0; exec sleep 60";
    let mut children = [(); 3].map(|()| inhabitant(&leaf.join("cgroup.procs"), script));
    destroy(std::slice::from_ref(&leaf)).unwrap();
    assert!(!leaf.exists());
    for child in &mut children {
        child.wait().unwrap();
    }
}

#[test]
fn on_v2_destroy_kills_the_whole_subtree_at_once() {
    let Some(layout) = unified_host() else { return };
    if !layout.unified.as_ref().unwrap().points.last().unwrap().is_open() {
        return note_skip("the caller may make cgroups in its own part of the hierarchy only");
    }
    let mut fixture = Fixture::new();
    let plan = fixture.plan(&Resources::default(), &layout, Some(""));
    let cgroup = Cgroup::create(&plan).unwrap();
    assert!(cgroup.sandbox_dir_fd().is_some());
    let names: Vec<String> = cgroup.join_fds().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [CONTAINER_DIR.to_owned(), format!("{CONTAINER_JOIN}-v2")]);
    let leaf = plan.leaves().remove(0);
    std::fs::create_dir(leaf.join("container/inner")).unwrap();
    let mut child = inhabitant(&leaf.join("container/inner/cgroup.procs"), SLEEP);
    destroy(&plan.leaves()).unwrap();
    assert!(!leaf.exists());
    child.wait().unwrap();
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
        let plan = CgroupPlan::default().with_device_limits(&limits, None, &id, &layout).unwrap();
        fixture.paths = plan.leaves();
        match Cgroup::create(&plan) {
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

/// The leaf of a container in the unified hierarchy, or in v1's of the process limit.
fn leaf_to_fill(fixture: &mut Fixture, unified: bool) -> Option<PathBuf> {
    let layout = if unified { unified_host() } else { host(&["pids"]) }?;
    let resources = match unified {
        true => Resources::default(),
        false => Resources { pids_limit: Some(1000), ..Resources::default() },
    };
    let plan = fixture.plan_freezing(&resources, &layout, None, unified);
    Cgroup::create(&plan).unwrap();
    plan.leaves().into_iter().next()
}

#[test]
fn destroy_removes_a_deep_nest_with_somebody_at_its_end() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some(leaf) = leaf_to_fill(&mut fixture, unified) else { continue };
        // Deeper than a path is long: from inside, one makes the next below where it is.
        let script =
            "cd \"$0\" && i=0 && while [ $i -lt 600 ]; do mkdir nested && cd -P nested && i=$((i + 1)); done";
        #[expect(clippy::disallowed_methods, reason = "what a workload would do, done by the test alone")]
        let made = std::process::Command::new("sh").args(["-euc", script]).arg(&leaf).status().unwrap();
        assert!(made.success());
        let deep: PathBuf = leaf.join(["nested"; 300].join("/"));
        let mut child = inhabitant(&deep.join("cgroup.procs"), SLEEP);
        destroy(std::slice::from_ref(&leaf)).unwrap();
        assert!(!leaf.exists(), "unified: {unified}");
        child.wait().unwrap();
    }
}

#[test]
fn destroy_removes_many_siblings() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some(leaf) = leaf_to_fill(&mut fixture, unified) else { continue };
        for number in 0..1000 {
            std::fs::create_dir(leaf.join(number.to_string())).unwrap();
        }
        destroy(std::slice::from_ref(&leaf)).unwrap();
        assert!(!leaf.exists(), "unified: {unified}");
    }
}

#[test]
fn destroy_wins_against_a_process_that_keeps_making_cgroups_and_going_there() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some(leaf) = leaf_to_fill(&mut fixture, unified) else { continue };
        std::fs::create_dir(leaf.join("busy")).unwrap();
        // Ends by itself, should the test fail.
        let script = format!(
            "cd {leaf:?}/busy; i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); \
             mkdir n$i; (echo 0 > n$i/cgroup.procs; exec sleep 60) & done"
        );
        let mut child = inhabitant(&leaf.join("busy/cgroup.procs"), &script);
        let busy = (0..1_000_000).any(|_| leaf.join("busy/n20").exists());
        assert!(busy, "it has begun");
        destroy(std::slice::from_ref(&leaf)).unwrap();
        assert!(!leaf.exists(), "unified: {unified}");
        child.wait().unwrap();
    }
}

#[test]
fn on_v2_destroy_removes_threaded_cgroups() {
    let mut fixture = Fixture::new();
    let Some(leaf) = leaf_to_fill(&mut fixture, true) else { return };
    let inner = leaf.join("container/threads");
    std::fs::create_dir(&inner).unwrap();
    let file =
        rustix::fs::open(inner.join("cgroup.type"), rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty());
    rustix::io::write(file.unwrap(), b"threaded").unwrap();
    // By itself: a thread moves within its threaded domain alone.
    let script = format!("echo 0 > {inner:?}/cgroup.threads; {SLEEP}");
    let mut child = inhabitant(&leaf.join("container/cgroup.procs"), &script);
    let moved = (0..1_000_000).any(|_| !read(inner.join("cgroup.threads")).is_empty());
    assert!(moved);
    destroy(std::slice::from_ref(&leaf)).unwrap();
    assert!(!leaf.exists());
    child.wait().unwrap();
}

#[test]
fn removal_ends_in_time_and_says_what_is_left() {
    let mut fixture = Fixture::new();
    let Some(leaf) = leaf_to_fill(&mut fixture, false) else { return };
    for number in 0..100 {
        std::fs::create_dir(leaf.join(number.to_string())).unwrap();
    }
    let error = destroy_within(std::slice::from_ref(&leaf), std::time::Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Incomplete);
    assert!(error.to_string().contains(leaf.to_str().unwrap()), "{error}");
    destroy(std::slice::from_ref(&leaf)).unwrap();
    assert!(!leaf.exists(), "a second time it goes on where it was");
}

/// A freezer in the unified hierarchy, or in v1's.
fn place_to_freeze(fixture: &mut Fixture, unified: bool) -> Option<(PathBuf, Freezer)> {
    let layout = if unified { unified_host()? } else { host(&["freezer"])? };
    let plan = fixture.plan_freezing(&Resources::default(), &layout, None, true);
    let cgroup = Cgroup::create(&plan).unwrap();
    assert_eq!(cgroup.leaves(), plan.leaves());
    let mut fds = cgroup.freezer_fds().unwrap();
    let taken = Freezer::take(|name| {
        let index = fds.iter().position(|(given, _)| given == name)?;
        Some(fds.swap_remove(index).1)
    });
    let dir = plan.branches[0].dirs.last().unwrap().path.clone();
    Some((dir, taken.unwrap()))
}

fn await_frozen(freezer: &Freezer) {
    use rustix::event::{Timespec, poll};
    let nanos = RECHECK.as_nanos().try_into().unwrap();
    for _ in 0..10_000 {
        if freezer.frozen().unwrap() {
            return;
        }
        poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: nanos })).unwrap();
    }
    panic!("not frozen");
}

#[test]
fn what_is_frozen_makes_no_progress_until_it_is_thawed() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some((dir, freezer)) = place_to_freeze(&mut fixture, unified) else { continue };
        let counter = tempfile::NamedTempFile::new().unwrap();
        let script = format!("while :; do echo >> {}; done", counter.path().display());
        let mut child = inhabitant(&dir.join("cgroup.procs"), &script);
        assert!(freezer.members().unwrap().contains(&child.id().cast_signed()));
        let length = || counter.as_file().metadata().unwrap().len();
        let grows_beyond = |at: u64| {
            (0..10_000).any(|_| {
                std::thread::yield_now();
                length() > at
            })
        };
        assert!(grows_beyond(0));
        freezer.freeze().unwrap();
        await_frozen(&freezer);
        let at = length();
        // As long as it took to see it grow, and longer.
        (0..10_000).for_each(|_| std::thread::yield_now());
        assert_eq!(length(), at, "unified: {unified}");
        freezer.thaw().unwrap();
        assert!(grows_beyond(at));
        freezer.freeze().unwrap();
        await_frozen(&freezer);
        freezer.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    }
}

#[test]
fn killing_takes_all_that_fork_meanwhile() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some((dir, freezer)) = place_to_freeze(&mut fixture, unified) else { continue };
        let script = "f() { (:); [ $1 -gt 20000 ] || f $(($1 + 1)) & }; f 0; exec sleep 60";
        let mut child = inhabitant(&dir.join("cgroup.procs"), script);
        freezer.kill().unwrap();
        child.wait().unwrap();
        // The orphans go to whoever collects them here; what is left in the list is dead or about to be.
        let gone = (0..10_000).any(|_| {
            std::thread::yield_now();
            freezer.members().unwrap().is_empty()
        });
        assert!(gone, "unified: {unified}: {:?}", freezer.members());
    }
}

#[test]
fn in_a_cgroup_that_was_removed_nobody_is_left_to_kill() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some((dir, freezer)) = place_to_freeze(&mut fixture, unified) else { continue };
        destroy(&[dir]).unwrap();
        freezer.kill().unwrap();
        assert!(freezer.members().unwrap().is_empty(), "unified: {unified}");
    }
}

#[test]
fn a_remover_waits_for_the_end_of_who_is_inside_and_takes_what_they_made() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some(leaf) = leaf_to_fill(&mut fixture, unified) else { continue };
        for below in ["nested", "nested/deeper"] {
            std::fs::create_dir(leaf.join(below)).unwrap();
        }
        let remover = Remover::open(std::slice::from_ref(&leaf), &[]).unwrap();
        let mut inside = inhabitant(&leaf.join("nested/cgroup.procs"), SLEEP);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| remover.remove_when_empty());
            // It holds pidfds or polls by now, or will: either is right.
            std::thread::yield_now();
            assert!(leaf.join("nested").exists(), "unified: {unified}");
            inside.kill().unwrap();
            waiting.join().unwrap();
        });
        assert!(!leaf.exists(), "unified: {unified}");
        inside.wait().unwrap();
        // What is gone is not removed twice, by whoever comes late.
        remover.remove_when_empty();
        destroy(std::slice::from_ref(&leaf)).unwrap();
        assert_eq!(Remover::open(&[leaf], &[]).unwrap().leaves().count(), 0);
    }
}

#[test]
fn two_may_remove_the_same_cgroups_at_once() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some(leaf) = leaf_to_fill(&mut fixture, unified) else { continue };
        for number in 0..50 {
            for below in ["", "/nested", "/nested/deeper"] {
                std::fs::create_dir(leaf.join(format!("{number}{below}"))).unwrap();
            }
        }
        let leaves = std::slice::from_ref(&leaf);
        let remover = Remover::open(leaves, &[]).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| remover.remove_when_empty());
            destroy(leaves).unwrap();
        });
        assert!(!leaf.exists(), "unified: {unified}");
    }
}

#[test]
fn an_oom_kill_is_heard_when_it_happens() {
    let Some(layout) = host(&["memory"]) else { return };
    let mut fixture = Fixture::new();
    let memory = MemoryLimits { limit: Some(8 << 20), ..MemoryLimits::default() };
    let plan = fixture.plan(&Resources { memory, ..Resources::default() }, &layout, None);
    let cgroup = Cgroup::create(&plan).unwrap();
    let mut fds = cgroup.oom_watch_fds();
    let mut watch = OomWatch::take(|name| {
        let index = fds.iter().position(|(given, _)| given == name)?;
        Some(fds.swap_remove(index).1)
    })
    .unwrap();
    assert!(!watch.happened());
    let leaf = plan.leaves().remove(0);
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
    assert!(watch.happened(), "whoever is dead was counted, whether or not the fd is ready by now");
}

#[test]
fn what_is_optional_is_done_without_where_somebody_else_is() {
    let Some(layout) = host(&["freezer"]) else { return };
    let mut fixture = Fixture::new();
    let plan = fixture.plan_freezing(&Resources::default(), &layout, None, true);
    Cgroup::create(&plan).unwrap();
    let mut other = inhabitant(&plan.leaves()[0].join("cgroup.procs"), SLEEP);
    let cgroup = Cgroup::create(&plan).unwrap();
    assert!(cgroup.leaves().is_empty() && cgroup.freezer_fds().unwrap().is_empty());
    assert!(cgroup.made_ancestors().is_empty());
    destroy(&cgroup.leaves()).unwrap();
    assert_eq!(other.try_wait().unwrap(), None, "another's processes are left alone");
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
    let error = Cgroup::create(&plan).unwrap_err();
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
    Cgroup::create(&plan).unwrap();
    let [leaf] = plan.leaves().try_into().unwrap();
    assert_eq!(read(leaf.join("cpuset.cpus")), "0");
    assert_eq!(read(leaf.join("cpuset.mems")), read(leaf.parent().unwrap().join("cpuset.mems")));
}

#[test]
fn nothing_but_cgroups_below_a_mount_is_ever_removed() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    let mut paths =
        vec![victim.clone(), PathBuf::from("relative"), PathBuf::from("/"), dir.path().join("a/../victim")];
    let layout = host::cgroup_layout().unwrap();
    paths.extend(layout.v1.first().map(|hierarchy| hierarchy.mountpoint.clone()));
    for path in paths {
        let error = destroy(std::slice::from_ref(&path)).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Incomplete, "{path:?}: {error}");
    }
    assert!(victim.exists());
}

#[test]
fn an_empty_plan_makes_nothing() {
    let cgroup = Cgroup::create(&CgroupPlan::default()).unwrap();
    assert!(cgroup.join_fds().unwrap().is_empty() && cgroup.evidence_fds().is_empty());
    destroy(&[]).unwrap();
}
