//! Every operation through [`AnyContainer`]: the same as typed, and by name and phase refused where it would not compile.

use crate::kit::{Stage, in_own_process, is_readable_within};
use cofferdam::{
    AnyContainer, ContainerBuilder, Error, ErrorKind, Exec, FailedAny, Outcome, Signal, StateRoot, Status,
    Stdio,
};
use std::io::Read;
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(10);
const CREATED: [Status; 1] = [Status::Created];
const RUNNING: [Status; 1] = [Status::Running];
const ALIVE: [Status; 3] = [Status::Created, Status::Running, Status::Paused];
const EXECUTED: [Status; 2] = [Status::Running, Status::Paused];

fn load(stage: &Stage, name: &str) -> AnyContainer {
    AnyContainer::load(stage.root(), &stage.id(name)).unwrap()
}

/// A stage in a process that has forwarded signals before: the first time makes what is kept for its whole life.
fn stage() -> Option<Stage> {
    in_own_process().then(|| {
        let dir = tempfile::tempdir().unwrap();
        let root = StateRoot::open(dir.path().join("state")).unwrap();
        let id = format!("warm-{}", std::process::id());
        let builder = ContainerBuilder::new(id).state_root(root).args(["sleep", "1000"]);
        let running = builder.build().unwrap().create().unwrap().start().unwrap();
        drop(running.forward_signals().unwrap());
        drop(running);
        Stage::here()
    })
}

/// An operation that borrows the container: what it is called in errors, where it works, and a call of it.
type Operation = (&'static str, &'static [Status], fn(&AnyContainer) -> Result<(), Error>);

const OPERATIONS: &[Operation] = &[
    ("exec", &RUNNING, |any| any.exec(Exec::new(["true"])).map(drop)),
    ("exec", &RUNNING, |any| any.exec_output(Exec::new(["true"])).map(drop)),
    ("events", &ALIVE, |any| any.events().map(drop)),
    ("exit", &[Status::Stopped], |any| any.exit().map(drop)),
    ("files", &ALIVE, |any| any.files().map(drop)),
    ("forward signals", &RUNNING, |any| any.forward_signals().map(drop)),
    ("init pid", &ALIVE, |any| any.init_pid().map(drop)),
    ("pod", &ALIVE, |any| any.pod().map(drop)),
    ("processes", &EXECUTED, |any| any.processes().map(drop)),
    ("sandbox pid", &ALIVE, |any| any.sandbox_pid().map(drop)),
    ("signal a process group", &RUNNING, |any| any.signal_process_group(1, Signal::CONT)),
    ("signal a process", &RUNNING, |any| any.signal_process(1, Signal::CONT)),
    ("signal the foreground", &RUNNING, |any| any.signal_foreground(1, Signal::CONT)),
    ("signal", &ALIVE, |any| any.signal(Signal::CONT)),
    ("signal", &ALIVE, |any| any.signal_all(Signal::CONT)),
    ("stats", &ALIVE, |any| any.stats().map(drop)),
    ("wait for a process", &EXECUTED, |any| any.wait_pid(4000).map(drop)),
    ("wait", &ALIVE, |any| any.end_fd().map(drop)),
];

/// A transition, likewise.
type Transition = (&'static str, &'static [Status], fn(AnyContainer) -> Result<(), FailedAny>);

const TRANSITIONS: &[Transition] = &[
    ("create", &[Status::Creating], |any| any.create().map(drop)),
    ("start", &CREATED, |any| any.start().map(drop)),
    ("stop", &EXECUTED, |any| any.stop(GRACE).map(drop)),
    ("pause", &RUNNING, |any| any.pause().map(drop)),
    ("resume", &[Status::Paused], |any| any.resume().map(drop)),
    ("kill", &ALIVE, |any| any.kill().map(drop)),
    ("wait until stopped", &EXECUTED, |any| any.wait_stopped().map(drop)),
    ("detach", &ALIVE, |any| any.detach().map(drop)),
];

/// Calls everything that this phase has not. The container comes back as it was.
fn refuses_what_is_of_other_phases(mut any: AnyContainer) -> AnyContainer {
    let actual = any.status();
    let wrong_state = match actual {
        Status::Stopped => ErrorKind::Ended,
        actual => ErrorKind::WrongState { actual },
    };
    let said = |operation: &str| format!("{operation}: {:?} is {actual}", any.id().as_str());
    for (operation, phases, call) in OPERATIONS {
        let done = call(&any);
        if phases.contains(&actual) {
            // It may be refused for other reasons: there is no process 4000, and no terminal.
            let state = done
                .is_err_and(|error| matches!(error.kind(), ErrorKind::WrongState { .. } | ErrorKind::Ended));
            assert!(!state, "{operation} works in {actual}");
        } else {
            let error = done.expect_err(operation);
            assert_eq!(*error.kind(), wrong_state, "{error}");
            assert_eq!(error.to_string(), said(operation));
        }
    }
    let record = any.record().clone();
    for (operation, phases, call) in TRANSITIONS {
        if phases.contains(&actual) {
            continue;
        }
        let expected = format!("{operation}: {:?} is {actual}", any.id().as_str());
        let failed = call(any).expect_err(operation);
        assert_eq!((failed.to_string(), failed.error().kind()), (expected, &wrong_state));
        any = failed.into_parts().1.expect("it comes back");
        assert_eq!((any.status(), any.record()), (actual, &record), "{operation} changed nothing");
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
    let any = refuses_what_is_of_other_phases(any.create().unwrap());
    assert_eq!(any.status(), Status::Created);
    let any = refuses_what_is_of_other_phases(any.start().unwrap());
    assert_eq!(any.status(), Status::Running);
    let any = refuses_what_is_of_other_phases(any.pause().unwrap());
    assert_eq!(any.status(), Status::Paused);
    let any = any.resume().unwrap();
    assert_eq!(any.status(), Status::Running);
    assert_eq!(any.try_wait().unwrap(), None);
    // Attached still: a refusal destroys nothing.
    let refused = any.delete(false).unwrap_err();
    let any = refused.into_parts().1.unwrap();
    assert_eq!(any.try_wait().unwrap(), None);
    let any = refuses_what_is_of_other_phases(any.kill().unwrap());
    assert_eq!(any.status(), Status::Stopped);
    assert_eq!(any.exit().unwrap().outcome, Outcome::Killed { signal: Signal::KILL });
    assert_eq!(any.try_wait().unwrap().as_ref(), any.wait_timeout(GRACE).unwrap().as_ref());
    any.delete(false).unwrap();
}

#[test]
fn a_whole_life_can_be_led_without_naming_a_phase() {
    let Some(stage) = stage() else { return };
    let builder = stage.shell("life", "read line; echo got $line; exit 3");
    let builder = builder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut any = AnyContainer::from(builder.build().unwrap());
    assert!(any.take_stdin().is_none() && any.take_stdout().is_none() && any.take_pty().is_none());
    any = any.create().unwrap();
    let (stdin, stdout) = (any.take_stdin().unwrap(), any.take_stdout().unwrap());
    assert!(any.take_stderr().is_some() && any.take_stderr().is_none());
    any = any.start().unwrap();
    assert!(!is_readable_within(&any.end_fd().unwrap(), Duration::ZERO));
    std::io::Write::write_all(&mut { stdin }, b"this\n").unwrap();
    let mut said = String::new();
    { stdout }.read_to_string(&mut said).unwrap();
    assert_eq!(said, "got this\n");
    assert!(is_readable_within(&any.end_fd().unwrap(), GRACE));
    any = any.wait_stopped().unwrap();
    assert_eq!(any.exit().unwrap().outcome, Outcome::Exited { code: 3 });
    any.delete(false).unwrap();
}

#[test]
fn a_loaded_container_is_executed_in_signalled_detached_and_stopped() {
    let Some(stage) = stage() else { return };
    let made = stage.container("loaded").args(["sleep", "1000"]).build().unwrap().create().unwrap();
    drop(made.detach().unwrap());
    let any = load(&stage, "loaded").start().unwrap();
    let output = any.exec_output(Exec::new(["sh", "-c", "echo $PPID"])).unwrap();
    assert_eq!(output.stdout, b"0\n");
    let process = any.exec(Exec::new(["sleep", "1000"])).unwrap();
    let pid = process.pid_inside();
    drop(process);
    any.signal_process_group(pid, Signal::USR1).unwrap();
    let ended = Outcome::Signalled { signal: Signal::USR1, core_dumped: false };
    assert_eq!(any.wait_pid(pid).unwrap().outcome, ended);
    let other = any.exec(Exec::new(["sleep", "1000"])).unwrap();
    any.signal_process(other.pid_inside(), Signal::USR2).unwrap();
    let ended = Outcome::Signalled { signal: Signal::USR2, core_dumped: false };
    assert_eq!(other.wait().unwrap().outcome, ended);
    assert_eq!(any.pod().unwrap().id(), any.id());
    let any = any.detach().unwrap().stop(GRACE).unwrap();
    assert_eq!(any.exit().unwrap().outcome, Outcome::Killed { signal: Signal::TERM });
    any.delete(false).unwrap();
}

#[test]
fn a_transition_that_fails_gives_back_what_became_of_the_container() {
    let Some(stage) = stage() else { return };
    let made = stage.container("moved").args(["sleep", "1000"]).build().unwrap().create().unwrap();
    let (first, second) = (load(&stage, "moved"), load(&stage, "moved"));
    let running = first.start().unwrap();
    let failed = second.start().unwrap_err();
    assert_eq!(*failed.error().kind(), ErrorKind::WrongState { actual: Status::Running }, "{failed}");
    let (_, Some(second)) = failed.into_parts() else { panic!("it is there") };
    assert_eq!((second.status(), second.init_pid().unwrap()), (Status::Running, running.init_pid().unwrap()));
    let late = load(&stage, "moved");
    running.kill().unwrap().delete(false).unwrap();
    let failed = late.detach().err();
    assert!(failed.is_none(), "what is not attached need not be let go of: {failed:?}");
    drop((made, second));

    let missing = AnyContainer::from(stage.container("missing").args(["no-such-program"]).build().unwrap());
    let failed = missing.create().unwrap_err();
    assert_eq!(*failed.error().kind(), ErrorKind::ProgramNotFound);
    let Some(creating) = failed.into_parts().1 else { panic!("it comes back") };
    assert_eq!(creating.status(), Status::Creating);
    creating.delete(false).expect("there is nothing to delete");
}
