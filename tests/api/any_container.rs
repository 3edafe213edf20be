//! Every operation through [`AnyContainer`]: the same as typed, and by name and phase refused where it would not compile.

use crate::kit::{Stage, in_own_process, is_readable_within};
use cofferdam::typestate::FailedAny;
use cofferdam::{
    AnyContainer, Container, ContainerBuilder, Created, Creating, Error, ErrorKind, Exec, Outcome, Paused,
    Running, Signal, StateRoot, Status, Stdio, Stopped,
};
use std::io::Read;
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(10);
const CREATED: [Status; 1] = [Status::Created];
const RUNNING: [Status; 1] = [Status::Running];
const ALIVE: [Status; 3] = [Status::Created, Status::Running, Status::Paused];
const ENTERABLE: [Status; 2] = [Status::Created, Status::Running];
const ENDS: [Status; 3] = [Status::Running, Status::Paused, Status::Stopped];

fn load(stage: &Stage, name: &str) -> AnyContainer {
    AnyContainer::load(stage.root(), &stage.id(name)).unwrap()
}

/// A stage in a process that has forwarded signals before: the first time makes what is kept for its whole life.
fn stage() -> Option<Stage> {
    in_own_process().then(|| {
        let dir = tempfile::tempdir().unwrap();
        let root = StateRoot::open(dir.path().join("state")).unwrap();
        let id = format!("warm-{}", std::process::id());
        let builder = ContainerBuilder::new().id(id).state_root(root).args(["sleep", "1000"]);
        let running = builder.build().unwrap().create().unwrap().start().unwrap();
        drop(running.forward_signals().unwrap());
        drop(running);
        Stage::here()
    })
}

/// The words of an accessor's error for the phases that it is for, those phases, and a use of the accessor.
type Borrowed = (&'static str, &'static [Status], fn(&AnyContainer) -> Result<(), Error>);

const BORROWED: &[Borrowed] = &[
    ("created or running", &ENTERABLE, |any| any.as_enterable()?.exec(Exec::new(["true"])).map(drop)),
    ("created or running", &ENTERABLE, |any| any.as_enterable()?.exec_output(Exec::new(["true"])).map(drop)),
    ("created or running", &ENTERABLE, |any| any.as_enterable()?.signal_process_group(1, Signal::CONT)),
    ("created or running", &ENTERABLE, |any| any.as_enterable()?.signal_process(1, Signal::CONT)),
    ("created or running", &ENTERABLE, |any| any.as_enterable()?.signal_foreground(1, Signal::CONT)),
    ("running", &RUNNING, |any| any.as_running()?.forward_signals().map(drop)),
    ("alive", &ALIVE, |any| any.as_alive()?.processes().map(drop)),
    ("alive", &ALIVE, |any| any.as_alive()?.wait_pid(4000).map(drop)),
    ("alive", &ALIVE, |any| any.as_alive()?.events().map(drop)),
    ("alive", &ALIVE, |any| any.as_alive()?.files().map(drop)),
    ("alive", &ALIVE, |any| any.as_alive().map(|alive| assert_ne!(alive.init_pid(), alive.sandbox_pid()))),
    ("alive", &ALIVE, |any| any.as_alive().map(|alive| drop((alive.pod(), alive.end_fd())))),
    ("alive", &ALIVE, |any| any.as_alive()?.signal(Signal::CONT)),
    ("alive", &ALIVE, |any| any.as_alive()?.signal_all(Signal::CONT)),
    ("alive", &ALIVE, |any| any.as_alive()?.stats().map(drop)),
    ("stopped", &[Status::Stopped], |any| any.as_stopped().map(|stopped| drop(stopped.exit().clone()))),
];

/// The same for a transition.
type Transition = (&'static str, &'static [Status], fn(AnyContainer) -> Result<(), FailedAny>);

const TRANSITIONS: &[Transition] = &[
    ("creating", &[Status::Creating], |any| Ok(any.into_phase::<Creating>()?.create().map(drop)?)),
    ("created", &CREATED, |any| Ok(any.into_phase::<Created>()?.start().map(drop)?)),
    ("running", &RUNNING, |any| Ok(any.into_phase::<Running>()?.pause().map(drop)?)),
    ("paused", &[Status::Paused], |any| Ok(any.into_phase::<Paused>()?.resume().map(drop)?)),
    ("running or paused", &ENDS, |any| any.stop(GRACE).map(drop)),
    ("running or paused", &ENDS, |any| any.wait_stopped().map(drop)),
    ("alive", &[Status::Created, Status::Running, Status::Paused, Status::Stopped], |any| {
        any.kill().map(drop)
    }),
];

/// Tries everything that this phase does not have. Returns the container as it was.
fn refuses_what_is_of_other_phases(mut any: AnyContainer) -> AnyContainer {
    let actual = any.status();
    let wrong_state = match actual {
        Status::Stopped => ErrorKind::Ended,
        actual => ErrorKind::WrongState { actual },
    };
    let id = any.id().to_string();
    let said = |wanted: &str| format!("container {id:?}: is {actual}, not {wanted}");
    for (wanted, phases, call) in BORROWED {
        let done = call(&any);
        if phases.contains(&actual) {
            // In its own phase it may fail for other reasons: there is no process 4000, and no terminal.
            let state = done
                .is_err_and(|error| matches!(error.kind(), ErrorKind::WrongState { .. } | ErrorKind::Ended));
            assert!(!state, "what is {wanted} works in {actual}");
        } else {
            let error = done.expect_err(wanted);
            assert_eq!(*error.kind(), wrong_state, "{error}");
            assert_eq!(error.to_string(), said(wanted));
        }
    }
    if !ALIVE.contains(&actual) {
        assert_eq!(any.detach().unwrap_err().to_string(), said("alive"));
    }
    let info = any.info();
    for (wanted, phases, call) in TRANSITIONS {
        if phases.contains(&actual) {
            continue;
        }
        let failed = call(any).expect_err(wanted);
        assert_eq!((failed.to_string(), failed.kind()), (said(wanted), &wrong_state));
        any = failed.into_parts().1.expect("it comes back");
        assert_eq!((any.status(), any.info()), (actual, info.clone()), "nothing changed");
    }
    any
}

#[test]
fn what_would_not_compile_is_refused_by_name_and_changes_nothing() {
    let Some(stage) = stage() else { return };
    let builder = stage.container("phases").args(["sleep", "1000"]);
    let any = refuses_what_is_of_other_phases(builder.build().unwrap().into());
    assert_eq!(any.status(), Status::Creating);
    for waited in [any.wait().map(Some), any.try_wait(), any.wait_timeout(Duration::ZERO)] {
        assert!(matches!(waited.unwrap_err().kind(), ErrorKind::WrongState { .. }));
    }
    let created = any.into_phase::<Creating>().unwrap().create().unwrap();
    let any = refuses_what_is_of_other_phases(created.into());
    assert_eq!(any.status(), Status::Created);
    let running = any.into_phase::<Created>().unwrap().start().unwrap();
    let any = refuses_what_is_of_other_phases(running.into());
    assert_eq!(any.status(), Status::Running);
    let any = refuses_what_is_of_other_phases(any.into_phase::<Running>().unwrap().pause().unwrap().into());
    assert_eq!(any.status(), Status::Paused);
    let any = AnyContainer::from(any.into_phase::<Paused>().unwrap().resume().unwrap());
    assert_eq!(any.status(), Status::Running);
    assert_eq!(any.try_wait().unwrap(), None);
    // The container is still attached: a refusal destroys nothing.
    let refused = any.delete(false).unwrap_err();
    let any = refused.into_parts().1.unwrap();
    assert_eq!(any.try_wait().unwrap(), None);
    let any = refuses_what_is_of_other_phases(any.kill().unwrap().into());
    assert_eq!(any.status(), Status::Stopped);
    assert_eq!(any.as_stopped().unwrap().exit().outcome, Outcome::Killed { signal: Signal::KILL });
    assert_eq!(any.try_wait().unwrap().as_ref(), any.wait_timeout(GRACE).unwrap().as_ref());
    any.delete(false).unwrap();
}

#[test]
fn ending_what_is_stopped_succeeds() {
    let Some(stage) = stage() else { return };
    let outcome = Outcome::Exited { code: 3 };
    let stopped = crate::kit::start(stage.shell("stopped", "exit 3")).wait_stopped().unwrap();
    let mut any = AnyContainer::from(stopped);
    type End = fn(AnyContainer) -> Result<Container<Stopped>, FailedAny>;
    let ends: [End; 3] = [AnyContainer::kill, |any| any.stop(GRACE), AnyContainer::wait_stopped];
    for end in ends {
        let stopped = end(any).unwrap();
        assert_eq!(stopped.exit().outcome, outcome);
        let loaded = AnyContainer::load(stage.root(), stopped.id().as_str()).unwrap();
        assert_eq!(end(loaded).unwrap().exit().outcome, outcome);
        any = stopped.into();
    }
    any.delete(false).unwrap();
    // The same for a value that has not noticed the end yet.
    for end in ends {
        let running = crate::kit::start(stage.shell("unnoticed", "exit 3"));
        running.wait().unwrap();
        let stopped = end(running.into()).unwrap();
        assert_eq!(stopped.exit().outcome, outcome);
        stopped.delete().unwrap();
    }
}

#[test]
fn a_whole_life_can_be_led_from_phase_to_phase() {
    let Some(stage) = stage() else { return };
    let builder = stage.shell("life", "read line; echo got $line; exit 3");
    let builder = builder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let any = AnyContainer::from(builder.build().unwrap());
    let mut created = any.into_phase::<Creating>().unwrap().create().unwrap();
    let (stdin, stdout) = (created.take_stdin().unwrap(), created.take_stdout().unwrap());
    assert!(created.take_stderr().is_some() && created.take_stderr().is_none());
    assert!(created.take_pty().is_none());
    let any = AnyContainer::from(created.start().unwrap());
    assert!(!is_readable_within(&any.as_alive().unwrap().end_fd(), Duration::ZERO));
    std::io::Write::write_all(&mut { stdin }, b"this\n").unwrap();
    let mut said = String::new();
    { stdout }.read_to_string(&mut said).unwrap();
    assert_eq!(said, "got this\n");
    assert!(is_readable_within(&any.as_alive().unwrap().end_fd(), GRACE));
    let stopped = any.into_phase::<Running>().unwrap().wait_stopped().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 3 });
    stopped.delete().unwrap();
}

#[test]
fn a_loaded_container_is_executed_in_signalled_detached_and_stopped() {
    let Some(stage) = stage() else { return };
    stage.container("loaded").args(["sleep", "1000"]).build().unwrap().create().unwrap().detach().unwrap();
    let mut any =
        AnyContainer::from(load(&stage, "loaded").into_phase::<Created>().unwrap().start().unwrap());
    let running = any.as_running().unwrap();
    let output = running.exec_output(Exec::new(["sh", "-c", "echo $PPID"])).unwrap();
    assert_eq!(output.stdout, b"0\n");
    let process = running.exec(Exec::new(["sleep", "1000"])).unwrap();
    let pid = process.pid_inside();
    drop(process);
    running.signal_process_group(pid, Signal::USR1).unwrap();
    let ended = Outcome::Signalled { signal: Signal::USR1, core_dumped: false };
    assert_eq!(running.wait_pid(pid).unwrap().outcome, ended);
    let other = running.exec(Exec::new(["sleep", "1000"])).unwrap();
    running.signal_process(other.pid_inside(), Signal::USR2).unwrap();
    let ended = Outcome::Signalled { signal: Signal::USR2, core_dumped: false };
    assert_eq!(other.wait().unwrap().outcome, ended);
    assert_eq!(running.pod().id(), any.id());
    any.detach().unwrap();
    let stopped = any.stop(GRACE).unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Killed { signal: Signal::TERM });
    stopped.delete().unwrap();
}

#[test]
fn a_transition_that_fails_gives_back_what_became_of_the_container() {
    let Some(stage) = stage() else { return };
    let made = stage.container("moved").args(["sleep", "1000"]).build().unwrap().create().unwrap();
    let (first, second) = (load(&stage, "moved"), load(&stage, "moved"));
    let (first, second) = (first.into_phase::<Created>().unwrap(), second.into_phase::<Created>().unwrap());
    let running = first.start().unwrap();
    let failed = FailedAny::from(second.start().unwrap_err());
    assert_eq!(*failed.error().kind(), ErrorKind::WrongState { actual: Status::Running }, "{failed}");
    let (_, Some(second)) = failed.into_parts() else { panic!("it is there") };
    assert_eq!(
        (second.status(), second.as_alive().unwrap().init_pid()),
        (Status::Running, running.init_pid())
    );
    let mut late = load(&stage, "moved");
    running.kill().unwrap().delete().unwrap();
    let failed = late.detach().err();
    assert!(failed.is_none(), "what is not attached need not be let go of: {failed:?}");
    drop((made, second));

    let missing = AnyContainer::from(stage.container("missing").args(["no-such-program"]).build().unwrap());
    let failed = FailedAny::from(missing.into_phase::<Creating>().unwrap().create().unwrap_err());
    assert_eq!(*failed.error().kind(), ErrorKind::ProgramNotFound);
    let Some(creating) = failed.into_parts().1 else { panic!("it comes back") };
    assert_eq!(creating.status(), Status::Creating);
    creating.delete(false).expect("there is nothing to delete");
}
