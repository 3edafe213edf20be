//! When a container ends with its value or its caller, and when it does not: attached, dropped, detached, caller killed.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::caller::{self, Caller};
use crate::kit::{Stage, await_end, descendants_of_this_process, may_limit_all, skip, stage, start};
use cofferdam::info::Info;
use cofferdam::info::ProcessIdentity;
use cofferdam::{
    AnyContainer, ContainerBuilder, Created, Error, ErrorKind, Failed, Outcome, Paused, Signal, StateRoot,
    Status, Stdio,
};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The container that a caller process makes. The test writes its id into a file.
fn callers_builder(directory: &Path) -> (ContainerBuilder, StateRoot) {
    let root = caller::root(directory);
    let id = std::fs::read_to_string(directory.join("id")).unwrap();
    (ContainerBuilder::new().id(id).state_root(root.clone()).args(["sleep", "1000"]), root)
}

/// Writes the id down and starts the caller.
fn spawn_caller(stage: &Stage, id: &str) -> Caller {
    std::fs::write(stage.path().join("id"), id).unwrap();
    Caller::spawn(stage.path())
}

fn pids(words: &str) -> Vec<i32> {
    words.split(' ').map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn dropping_an_attached_container_destroys_it() {
    let stage = stage!();
    let created = stage.container("dropped").args(["sleep", "1000"]).build().unwrap().create().unwrap();
    let (sandbox, init) = (created.sandbox_pid(), created.init_pid());
    drop(created);
    assert!(stage.changes().is_empty(), "a created one: {:?}", stage.changes());
    await_end(sandbox);
    await_end(init);

    let running = stage
        .container("dropped")
        .args(["sleep", "1000"])
        .build()
        .unwrap()
        .create()
        .unwrap()
        .start()
        .unwrap();
    drop(running);
    assert!(stage.changes().is_empty(), "a running one: {:?}", stage.changes());

    let running =
        stage.container("dropped").args(["true"]).build().unwrap().create().unwrap().start().unwrap();
    drop(running.wait_stopped().unwrap());
    assert!(stage.changes().is_empty(), "a stopped one: {:?}", stage.changes());
}

#[test]
fn dropping_a_loaded_container_changes_nothing() {
    let stage = stage!();
    let running =
        stage.container("loaded").args(["sleep", "1000"]).build().unwrap().create().unwrap().start().unwrap();
    let loaded = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    assert!(matches!(loaded, AnyContainer::Running(_)));
    drop(loaded);
    assert!(running.try_wait().unwrap().is_none());
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_container_that_was_never_created_leaves_nothing_when_dropped() {
    let stage = stage!();
    drop(stage.container("never").args(["true"]).build().unwrap());
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
}

#[test]
fn a_detached_container_outlives_its_value() {
    let stage = stage!();
    let mut running = stage
        .container("detached")
        .args(["sleep", "1000"])
        .build()
        .unwrap()
        .create()
        .unwrap()
        .start()
        .unwrap();
    let id = running.id().to_string();
    running.detach().unwrap();
    let loaded = AnyContainer::load(stage.root(), &id).unwrap();
    assert_eq!(loaded.status(), Status::Running);
    assert!(!loaded.info().attached);
    loaded.as_alive().unwrap().signal(Signal::TERM).unwrap();
    assert_eq!(loaded.wait().unwrap().outcome, Outcome::Killed { signal: Signal::TERM });
    AnyContainer::load(stage.root(), &id).unwrap().delete(false).unwrap();
    // The next call that looks at any container collects the helpers of one that was detached.
    assert!(AnyContainer::load(stage.root(), &id).is_err());
    assert_eq!(descendants_of_this_process(), Vec::<String>::new());
}

#[test]
fn a_container_that_has_ended_meanwhile_is_detached_all_the_same() {
    let stage = stage!();
    let mut running = stage.shell("brief", "exit 4").build().unwrap().create().unwrap().start().unwrap();
    let id = running.id().to_string();
    running.wait().unwrap();
    running.detach().unwrap();
    let AnyContainer::Stopped(stopped) = AnyContainer::load(stage.root(), &id).unwrap() else {
        panic!("it has ended")
    };
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 4 });
    stopped.delete().unwrap();
}

#[test]
fn a_created_container_can_be_detached_and_started_by_another_handle() {
    let stage = stage!();
    let mut created = stage.shell("later", "exit 9").build().unwrap().create().unwrap();
    created.detach().unwrap();
    let id = created.id().to_string();
    drop(created);
    let AnyContainer::Created(created) = AnyContainer::load(stage.root(), &id).unwrap() else {
        panic!("it waits to be started")
    };
    let stopped = created.start().unwrap().wait_stopped().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 9 });
    stopped.delete().unwrap();
    assert!(AnyContainer::load(stage.root(), &id).is_err());
}

#[test]
fn a_killed_caller_takes_its_attached_container_along() {
    if let Some(directory) = caller::role() {
        let (builder, _) = callers_builder(&directory);
        let running = builder.build().unwrap().create().unwrap().start().unwrap();
        caller::say(format!("{} {}", running.sandbox_pid(), running.init_pid()));
        return caller::stay();
    }
    let stage = stage!();
    let id = stage.id("callergone");
    let mut caller = spawn_caller(&stage, &id);
    let pids = pids(&caller.hear());
    caller.kill();
    pids.into_iter().for_each(await_end);
    let loaded = AnyContainer::load(stage.root(), &id).unwrap();
    assert_eq!(loaded.status(), Status::Stopped);
    assert_eq!(loaded.wait().unwrap().outcome, Outcome::CallerGone);
    loaded.delete(false).unwrap();
}

/// What the caller reports about a container: its helpers and its first process, and its cgroups.
fn tell_of(record: &Info, init: i32) -> String {
    let pid = |identity: Option<ProcessIdentity>| identity.expect("it is created").pid;
    let cgroups: Vec<_> = record.cgroups.iter().map(|cgroup| cgroup.to_str().unwrap()).collect();
    format!("{} {} {init} {}", pid(record.gofer), pid(record.sandbox), cgroups.join(" "))
}

/// A container of a caller that the test kills.
struct Told {
    pids: Vec<i32>,
    cgroups: Vec<PathBuf>,
}

impl Told {
    fn hear(caller: &mut Caller) -> Self {
        let words = caller.hear();
        let mut words = words.split(' ');
        let pids = words.by_ref().take(3).map(|pid| pid.parse().unwrap()).collect();
        Self { pids, cgroups: words.map(PathBuf::from).collect() }
    }

    /// Waits until its processes have ended, and looks whether anything of its cgroups is left.
    fn assert_gone(&self) {
        assert!(!self.cgroups.is_empty(), "it had a cgroup");
        self.pids.iter().copied().for_each(await_end);
        let left: Vec<_> = self.cgroups.iter().filter(|cgroup| cgroup.exists()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_killed_caller_leaves_no_cgroup() {
    if let Some(directory) = caller::role() {
        let (builder, _) = callers_builder(&directory);
        let builder = builder.memory_limit(64 << 20).pids_limit(20).cpu_limit(0.5);
        let running = builder.build().unwrap().create().unwrap().start().unwrap();
        caller::say(tell_of(&running.info(), running.init_pid()));
        return caller::stay();
    }
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit all of cpu, memory and pids here");
    }
    let id = stage.id("limitedgone");
    let mut caller = spawn_caller(&stage, &id);
    let told = Told::hear(&mut caller);
    // Nested cgroups, as a workload makes them if it may write to its own cgroup.
    for cgroup in &told.cgroups {
        std::fs::create_dir_all(cgroup.join("nested/deeper")).unwrap();
        std::fs::create_dir(cgroup.join("nested/beside")).unwrap();
    }
    caller.kill();
    told.assert_gone();
    let loaded = AnyContainer::load(stage.root(), &id).unwrap();
    assert_eq!(loaded.status(), Status::Stopped);
    let exit = loaded.wait().unwrap();
    assert_eq!(exit.outcome, Outcome::CallerGone);
    assert!(exit.memory_peak.is_none_or(|peak| peak > 0), "{exit:?}");
    loaded.delete(false).unwrap();
    assert_eq!(stage.changes(), Vec::<String>::new());
}

#[test]
fn a_delete_while_the_cgroups_of_a_killed_caller_are_removed_finds_nothing_amiss() {
    if let Some(directory) = caller::role() {
        let (builder, _) = callers_builder(&directory);
        let running = builder.pids_limit(20).build().unwrap().create().unwrap().start().unwrap();
        caller::say(tell_of(&running.info(), running.init_pid()));
        return caller::stay();
    }
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit the number of processes here");
    }
    for round in 0..8 {
        let id = stage.id(&format!("atonce{round}"));
        let mut caller = spawn_caller(&stage, &id);
        let told = Told::hear(&mut caller);
        for number in 0..20 {
            std::fs::create_dir(told.cgroups[0].join(format!("nested{number}"))).unwrap();
        }
        caller.kill();
        AnyContainer::load(stage.root(), &id).unwrap().delete(true).unwrap();
        told.assert_gone();
    }
    assert_eq!(stage.changes(), Vec::<String>::new());
}

#[test]
fn a_killed_caller_leaves_no_cgroup_of_a_created_or_paused_container_and_none_that_led_there() {
    if let Some(directory) = caller::role() {
        let (_, root) = callers_builder(&directory);
        let id = std::fs::read_to_string(directory.join("id")).unwrap();
        let build = |name: &str| {
            let builder = ContainerBuilder::new().id(format!("{id}{name}")).state_root(root.clone());
            // The stage's witness finds the cgroup by its name.
            let path = format!("cofferdam-{id}{name}/above/leaf");
            builder.args(["sleep", "1000"]).cgroups_path(path).build().unwrap().create().unwrap()
        };
        let created = build("created");
        let paused = build("paused").start().unwrap().pause().unwrap();
        caller::say(tell_of(&created.info(), created.init_pid()));
        caller::say(tell_of(&paused.info(), paused.init_pid()));
        return caller::stay();
    }
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not make cgroups at a path here");
    }
    let id = stage.id("ledto");
    let mut caller = spawn_caller(&stage, &id);
    let [created, paused] = [Told::hear(&mut caller), Told::hear(&mut caller)];
    caller.kill();
    for (told, name, outcome) in
        [(created, "created", Outcome::NeverStarted), (paused, "paused", Outcome::CallerGone)]
    {
        told.assert_gone();
        let above = |cgroup: &PathBuf| cgroup.ancestors().nth(2).unwrap().exists();
        assert!(!told.cgroups.iter().any(above), "{name}: {:?}", told.cgroups);
        let loaded = AnyContainer::load(stage.root(), &format!("{id}{name}")).unwrap();
        assert_eq!(loaded.wait().unwrap().outcome, outcome);
        loaded.delete(false).unwrap();
    }
    assert_eq!(stage.changes(), Vec::<String>::new());
}

#[test]
fn a_killed_caller_leaves_no_cgroup_of_a_pod() {
    if let Some(directory) = caller::role() {
        let (builder, _) = callers_builder(&directory);
        let pod = builder.build().unwrap().create().unwrap().start().unwrap();
        caller::say(tell_of(&pod.info(), pod.init_pid()));
        let id = pod.id().as_str();
        let member = pod.pod().container(format!("{id}m")).args(["sleep", "1000"]).pids_limit(20);
        let member = member.build().unwrap().create().unwrap().start().unwrap();
        caller::say(tell_of(&member.info(), member.init_pid()));
        return caller::stay();
    }
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit the number of processes here");
    }
    let id = stage.id("podgone");
    let mut caller = spawn_caller(&stage, &id);
    let [pod, member] = [Told::hear(&mut caller), Told::hear(&mut caller)];
    caller.kill();
    pod.assert_gone();
    member.assert_gone();
    for id in [format!("{id}m"), id] {
        AnyContainer::load(stage.root(), &id).unwrap().delete(false).unwrap();
    }
    assert_eq!(stage.changes(), Vec::<String>::new());
}

#[test]
fn a_killed_caller_leaves_nothing_of_a_member_that_shares_its_processes() {
    if let Some(directory) = caller::role() {
        let pod = std::fs::read_to_string(directory.join("id")).unwrap();
        let AnyContainer::Running(pod) = AnyContainer::load(&caller::root(&directory), &pod).unwrap() else {
            panic!("it runs")
        };
        let member = pod.pod().container(format!("{}m", pod.id().as_str())).share_pid_namespace();
        // A process that outlives the member's first one, and becomes a child of the root container's init.
        let script = "setsid sh -c 'sleep 1000 & echo $!; wait' & wait";
        let member = member.args(["sh", "-c", script]).pids_limit(20).stdout(Stdio::piped());
        let mut member = member.build().unwrap().create().unwrap().start().unwrap();
        let mut stdout = BufReader::new(member.take_stdout().unwrap());
        stdout.read_line(&mut String::new()).unwrap();
        caller::say(tell_of(&member.info(), member.init_pid()));
        return caller::stay();
    }
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit the number of processes here");
    }
    let pod = start(stage.container("podstays").args(["sleep", "1000"]));
    let id = pod.id().as_str().to_owned();
    let mut caller = spawn_caller(&stage, &id);
    let Told { pids, cgroups } = Told::hear(&mut caller);
    let [gofer, sandbox, init] = pids.try_into().unwrap();
    assert_eq!(sandbox, pod.sandbox_pid());
    caller.kill();
    Told { pids: vec![gofer, init], cgroups }.assert_gone();
    assert!(pod.try_wait().unwrap().is_none(), "the others go on");
    let member = AnyContainer::load(stage.root(), &format!("{id}m")).unwrap();
    assert_eq!(member.wait().unwrap().outcome, Outcome::CallerGone);
    member.delete(false).unwrap();
    pod.kill().unwrap().delete().unwrap();
    assert_eq!(stage.changes(), Vec::<String>::new());
}

/// What a caller does with its container that ends by itself.
const KEPT: &str = "kept";
const DETACHED_BEFORE_THE_END: &str = "before";
const DETACHED_AFTER_THE_END: &str = "after";

/// Makes a container that ends by itself, and stays when it has ended.
fn keep_an_ended_container(directory: &Path, name: &str) {
    let (builder, _) = callers_builder(directory);
    let id = std::fs::read_to_string(directory.join("id")).unwrap();
    let builder = builder.id(format!("{id}{name}")).args(["sh", "-c", "read line; exit 3"]).pids_limit(20);
    let mut running = start(builder.stdin(Stdio::piped()));
    let told = tell_of(&running.info(), running.init_pid());
    if name == DETACHED_BEFORE_THE_END {
        running.detach().unwrap();
    }
    drop(running.take_stdin());
    assert_eq!(running.wait().unwrap().outcome, Outcome::Exited { code: 3 });
    await_end(running.sandbox_pid());
    if name == DETACHED_AFTER_THE_END {
        running.detach().unwrap();
    }
    caller::say(told);
    // A value that is dropped would destroy its container.
    std::mem::forget(running);
}

#[test]
fn a_caller_killed_after_the_end_of_its_container_leaves_the_record_and_no_cgroup() {
    if let Some(directory) = caller::role() {
        keep_an_ended_container(&directory, KEPT);
        return caller::stay();
    }
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit the number of processes here");
    }
    let id = stage.id("endedgone");
    let mut caller = spawn_caller(&stage, &id);
    let told = Told::hear(&mut caller);
    assert!(told.cgroups.iter().all(|cgroup| cgroup.exists()), "while the caller lives: {:?}", told.cgroups);
    caller.kill();
    told.assert_gone();
    let loaded = AnyContainer::load(stage.root(), &format!("{id}{KEPT}")).unwrap();
    assert_eq!(loaded.status(), Status::Stopped);
    assert_eq!(loaded.wait().unwrap().outcome, Outcome::Exited { code: 3 });
    loaded.delete(false).unwrap();
    assert_eq!(stage.changes(), Vec::<String>::new());
}

#[test]
fn an_ended_container_of_a_living_caller_can_be_deleted_by_another_program() {
    if let Some(directory) = caller::role() {
        keep_an_ended_container(&directory, KEPT);
        return caller::stay();
    }
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit the number of processes here");
    }
    let id = stage.id("endedother");
    let mut caller = spawn_caller(&stage, &id);
    let told = Told::hear(&mut caller);
    AnyContainer::load(stage.root(), &format!("{id}{KEPT}")).unwrap().delete(false).unwrap();
    told.assert_gone();
    caller.kill();
    assert_eq!(stage.changes(), Vec::<String>::new());
}

#[test]
fn a_container_that_was_detached_before_or_after_its_end_keeps_its_cgroups() {
    let names = [DETACHED_BEFORE_THE_END, DETACHED_AFTER_THE_END];
    if let Some(directory) = caller::role() {
        names.into_iter().for_each(|name| keep_an_ended_container(&directory, name));
        return caller::stay();
    }
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit the number of processes here");
    }
    let id = stage.id("endedkept");
    let mut caller = spawn_caller(&stage, &id);
    let told = names.map(|_| Told::hear(&mut caller));
    caller.kill();
    for (Told { pids, cgroups }, name) in told.into_iter().zip(names) {
        // No process is left that could remove them.
        pids.into_iter().for_each(await_end);
        assert!(cgroups.iter().all(|cgroup| cgroup.exists()), "{name}: {cgroups:?}");
        let loaded = AnyContainer::load(stage.root(), &format!("{id}{name}")).unwrap();
        assert_eq!(loaded.wait().unwrap().outcome, Outcome::Exited { code: 3 });
        loaded.delete(false).unwrap();
    }
    assert_eq!(stage.changes(), Vec::<String>::new());
}

#[test]
fn a_caller_killed_after_the_end_of_its_member_leaves_no_cgroup_of_it_and_the_pod_alone() {
    let names = ["left", "detached", "outlived"];
    if let Some(directory) = caller::role() {
        let pod = std::fs::read_to_string(directory.join("id")).unwrap();
        let AnyContainer::Running(pod) = AnyContainer::load(&caller::root(&directory), &pod).unwrap() else {
            panic!("it runs")
        };
        for name in names {
            let member = pod.pod().container(format!("{}{name}", pod.id().as_str())).share_pid_namespace();
            // A process that outlives the member's first one, and becomes a child of the root container's init.
            let script = if name == "left" { "setsid sleep 1000 & exit 3" } else { "exit 3" };
            let mut member = start(member.args(["sh", "-c", script]).pids_limit(20));
            member.wait().unwrap();
            if name == "detached" {
                member.detach().unwrap();
            }
            caller::say(tell_of(&member.info(), member.init_pid()));
            std::mem::forget(member);
        }
        return caller::stay();
    }
    let stage = stage!();
    if !may_limit_all() {
        skip!("this user may not limit the number of processes here");
    }
    for pod_ends_first in [false, true] {
        let pod = start(stage.container("podstays").args(["sleep", "1000"]));
        let id = pod.id().as_str().to_owned();
        let mut caller = spawn_caller(&stage, &id);
        let told = names.map(|_| Told::hear(&mut caller));
        let cgroups: Vec<_> = told.iter().flat_map(|told| &told.cgroups).collect();
        assert!(cgroups.iter().all(|cgroup| cgroup.exists()), "while the caller lives: {cgroups:?}");
        let pod = match pod_ends_first {
            true => Err(pod.kill().unwrap()),
            false => Ok(pod),
        };
        caller.kill();
        for (Told { pids, cgroups }, name) in told.into_iter().zip(names) {
            let [gofer, _, init] = pids.try_into().unwrap();
            match name {
                "detached" => {
                    // The gofer of a member is there as long as the sandbox.
                    if pod_ends_first {
                        await_end(gofer);
                    }
                    assert!(cgroups.iter().all(|cgroup| cgroup.exists()), "{cgroups:?}");
                }
                _ => Told { pids: vec![gofer, init], cgroups }.assert_gone(),
            }
            let member = AnyContainer::load(stage.root(), &format!("{id}{name}")).unwrap();
            assert_eq!(member.wait().unwrap().outcome, Outcome::Exited { code: 3 });
            member.delete(false).unwrap();
            await_end(gofer);
        }
        match pod {
            Ok(pod) => {
                assert!(pod.try_wait().unwrap().is_none(), "the others go on");
                pod.kill().unwrap().delete().unwrap();
            }
            Err(stopped) => stopped.delete().unwrap(),
        }
        assert_eq!(stage.changes(), Vec::<String>::new());
    }
}

#[test]
fn a_killed_caller_takes_its_created_container_along() {
    if let Some(directory) = caller::role() {
        let (builder, _) = callers_builder(&directory);
        let created = builder.build().unwrap().create().unwrap();
        caller::say(format!("{} {}", created.sandbox_pid(), created.init_pid()));
        return caller::stay();
    }
    let stage = stage!();
    let id = stage.id("createdgone");
    let mut caller = spawn_caller(&stage, &id);
    let pids = pids(&caller.hear());
    caller.kill();
    pids.into_iter().for_each(await_end);
    let loaded = AnyContainer::load(stage.root(), &id).unwrap();
    assert_eq!(loaded.status(), Status::Stopped);
    assert_eq!(loaded.wait().unwrap().outcome, Outcome::NeverStarted);
    loaded.delete(false).unwrap();
}

#[test]
fn a_detached_container_outlives_a_killed_caller() {
    if let Some(directory) = caller::role() {
        let (builder, _) = callers_builder(&directory);
        let mut running = builder.build().unwrap().create().unwrap().start().unwrap();
        running.detach().unwrap();
        caller::say(format!("{} {}", running.sandbox_pid(), running.init_pid()));
        return caller::stay();
    }
    let stage = stage!();
    let id = stage.id("survivor");
    let mut caller = spawn_caller(&stage, &id);
    let pids = pids(&caller.hear());
    caller.kill();
    let AnyContainer::Running(running) = AnyContainer::load(stage.root(), &id).unwrap() else {
        panic!("it runs on")
    };
    assert!(running.try_wait().unwrap().is_none());
    assert_eq!(vec![running.sandbox_pid(), running.init_pid()], pids);
    let stopped = running.kill().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Killed { signal: Signal::KILL });
    stopped.delete().unwrap();
    pids.into_iter().for_each(await_end);
}

#[test]
fn the_end_of_the_thread_that_made_it_does_not_end_a_container() {
    let stage = stage!();
    let builder = stage.container("thread").args(["sleep", "1000"]);
    let make = || builder.build().unwrap().create().unwrap().start().unwrap();
    let running = std::thread::scope(|scope| scope.spawn(make).join().unwrap());
    assert!(running.wait_timeout(std::time::Duration::from_millis(100)).unwrap().is_none());
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_kept_error_keeps_its_container_and_dropping_it_destroys_the_container() {
    let stage = stage!();
    let fails = || -> Result<(), Box<dyn std::error::Error>> {
        let started = {
            let created = stage.container("kept").args(["sleep", "1000"]).build()?.create()?;
            // Another program starts it first, so that this value cannot.
            let other = AnyContainer::load(stage.root(), created.id().as_str())?;
            let _ = other.into_phase::<Created>()?.start()?;
            created.start()
        };
        let _ = started?;
        Ok(())
    };
    let is_there = || AnyContainer::load(stage.root(), &stage.id("kept")).is_ok();
    let error = fails().unwrap_err();
    let kind = error.source().and_then(|source| source.downcast_ref()).map(Error::kind);
    assert_eq!(kind, Some(&ErrorKind::WrongState { actual: Status::Running }));
    assert!(is_there(), "it is in the error");
    drop(error);
    assert!(!is_there());
    let error = fails().unwrap_err();
    let failed = error.downcast::<Failed<Created>>().unwrap();
    let error: Box<dyn std::error::Error> = Error::from(*failed).into();
    assert!(!is_there(), "the error alone holds nothing: {error}");
    // A container in another phase comes back in an error too.
    let running = start(stage.container("kept").args(["sleep", "1000"]));
    let wrong = AnyContainer::from(running).into_phase::<Paused>().unwrap_err();
    let wrong: Box<dyn std::error::Error> = wrong.into();
    let kind = wrong.source().and_then(|source| source.downcast_ref()).map(Error::kind);
    assert_eq!(kind, Some(&ErrorKind::WrongState { actual: Status::Running }));
    assert!(is_there());
    drop(wrong);
    assert!(!is_there());
}
