//! Signals of the calling process, passed on to a workload, and given back.

use crate::kit::caller::{self, Caller};
use crate::kit::{Stage, in_own_process, status_line};
use cofferdam::{AnyContainer, Container, ErrorKind, Exec, Outcome, Running, Signal, Stdio};
use nix::sys::signal::{kill, raise};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

/// All of 1 to 31 that are passed on; busybox's shell can trap every one of them.
fn forwarded() -> Vec<i32> {
    (1..32)
        .filter(|signal| {
            ![libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, libc::SIGPIPE, libc::SIGURG].contains(signal)
        })
        .collect()
}

/// A workload that says which signals it gets, one a line, after a first line "ready".
fn listener(stage: &Stage) -> (Container<Running>, BufReader<std::fs::File>) {
    let traps: String = forwarded().iter().map(|signal| format!("trap 'echo {signal}' {signal}; ")).collect();
    let script = format!("{traps} echo ready; while :; do sleep 1000 & wait; kill $!; done");
    let builder = stage.busybox_shell("listener", &script).stdout(Stdio::piped());
    let mut created = builder.build().unwrap().create().unwrap();
    let stdout = created.take_stdout().unwrap();
    let running = created.start().unwrap();
    let mut lines = BufReader::new(stdout);
    assert_eq!(next(&mut lines), "ready");
    (running, lines)
}

fn next(lines: &mut BufReader<std::fs::File>) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// A stage in a process that has forwarded signals before: the first time makes what is kept for its whole life.
fn stage() -> Option<Stage> {
    in_own_process().then(|| {
        let dir = tempfile::tempdir().unwrap();
        drop(guarded(dir.path()));
        Stage::here()
    })
}

fn dispositions() -> [String; 3] {
    ["SigCgt", "SigIgn", "SigBlk"].map(|name| status_line("thread-self", name))
}

#[test]
fn each_signal_of_this_process_reaches_the_workload_and_the_dispositions_come_back() {
    let Some(stage) = stage() else { return };
    let (running, mut lines) = listener(&stage);
    let before = dispositions();
    let guard = running.forward_signals().unwrap();
    assert_ne!(dispositions(), before);
    for signal in forwarded() {
        // To the process, as a supervisor does; also those that would be a fault if the kernel sent them.
        kill(Pid::this(), nix::sys::signal::Signal::try_from(signal).unwrap()).unwrap();
        assert_eq!(next(&mut lines), signal.to_string());
    }
    raise(nix::sys::signal::Signal::SIGUSR1).unwrap();
    assert_eq!(next(&mut lines), "10");
    drop(guard);
    assert_eq!(dispositions(), before);
    // Again, from the erased form.
    let loaded = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    let guard = loaded.as_running().unwrap().forward_signals().unwrap();
    kill(Pid::this(), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(next(&mut lines), "15");
    drop(guard);
    assert_eq!(dispositions(), before);
}

#[test]
fn only_one_forwards_at_a_time() {
    let Some(stage) = stage() else { return };
    let (running, _lines) = listener(&stage);
    let guard = running.forward_signals().unwrap();
    let refused = running.forward_signals().unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::InvalidInput);
    let said = "forward signals: signals are forwarded already (drop the other ForwardSignals first)";
    assert_eq!(refused.to_string(), said);
    drop(guard);
    drop(running.forward_signals().unwrap());
    let id = running.id().to_string();
    let stopped = running.kill().unwrap();
    let loaded = AnyContainer::load(stage.root(), &id).unwrap();
    assert_eq!(*loaded.as_running().unwrap_err().kind(), ErrorKind::Ended);
    drop(stopped);
}

#[test]
fn a_signal_that_ends_the_workload_is_the_one_that_was_forwarded() {
    let Some(stage) = stage() else { return };
    let running =
        stage.container("plain").args(["sleep", "1000"]).build().unwrap().create().unwrap().start().unwrap();
    let guard = running.forward_signals().unwrap();
    kill(Pid::this(), nix::sys::signal::Signal::SIGINT).unwrap();
    let exit = running.wait_timeout(Duration::from_secs(20)).unwrap().expect("it ends");
    assert_eq!(exit.outcome, Outcome::Killed { signal: Signal::INT });
    // The container has ended, and this program goes on. The signal goes to this thread: one to the process might reach
    // another thread after the guard is dropped.
    raise(nix::sys::signal::Signal::SIGTERM).unwrap();
    drop(guard);
}

#[test]
fn an_executed_process_gets_them_too_and_init_does_not() {
    let Some(stage) = stage() else { return };
    let (running, mut lines) = listener(&stage);
    let script = "trap 'echo term' TERM; echo ready; while :; do sleep 1000 & wait; kill $!; done";
    let mut process = running.exec(Exec::new(["sh", "-c", script]).stdout(Stdio::piped())).unwrap();
    let mut said = BufReader::new(process.take_stdout().unwrap());
    assert_eq!(next(&mut said), "ready");
    let before = dispositions();
    let guard = process.forward_signals().unwrap();
    assert_eq!(*running.forward_signals().unwrap_err().kind(), ErrorKind::InvalidInput);
    kill(Pid::this(), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(next(&mut said), "term");
    kill(Pid::this(), nix::sys::signal::Signal::SIGUSR1).unwrap();
    assert_eq!(process.wait().unwrap().outcome, Outcome::Killed { signal: Signal::USR1 });
    drop(guard);
    assert_eq!(dispositions(), before);
    // The first thing init hears of.
    running.signal(Signal::HUP).unwrap();
    assert_eq!(next(&mut lines), "1");
}

#[test]
fn a_member_of_a_pod_gets_them_over_its_pods_connection() {
    let Some(stage) = stage() else { return };
    let pod =
        stage.container("pod").args(["sleep", "1000"]).build().unwrap().create().unwrap().start().unwrap();
    let member = pod.pod().container(stage.id("member")).args(["sleep", "1000"]);
    let member = member.build().unwrap().create().unwrap().start().unwrap();
    let guard = member.forward_signals().unwrap();
    kill(Pid::this(), nix::sys::signal::Signal::SIGINT).unwrap();
    let exit = member.wait_timeout(Duration::from_secs(20)).unwrap().expect("it ends");
    drop(guard);
    assert_eq!(exit.outcome, Outcome::Killed { signal: Signal::INT });
    assert_eq!(pod.try_wait().unwrap(), None);
}

/// A caller with a guard in place.
fn guarded(stage_directory: &std::path::Path) -> (Container<Running>, cofferdam::processes::ForwardSignals) {
    let builder = cofferdam::ContainerBuilder::new().id(format!("it-{}-fault", std::process::id()));
    let builder = builder.state_root(caller::root(stage_directory)).args(["sleep", "1000"]);
    let running = builder.build().unwrap().create().unwrap().start().unwrap();
    let guard = running.forward_signals().unwrap();
    (running, guard)
}

/// Deletes what a caller left that ended without warning.
fn delete_what_is_left(stage: &Stage) {
    for left in AnyContainer::list(stage.root()).unwrap() {
        let cofferdam::info::Listed::Container(left) = left else { panic!("{left:?}") };
        left.delete(true).unwrap();
    }
}

#[test]
#[expect(unsafe_code, reason = "the fault is the point")]
fn a_fault_of_the_caller_ends_it_as_it_would_have() {
    if let Some(directory) = caller::role() {
        let _held = guarded(&directory);
        let nowhere = std::hint::black_box(8_usize) as *mut u64;
        // SAFETY: it is not: nothing is mapped there, so the kernel sends SIGSEGV, and that ends this process.
        unsafe { nowhere.write_volatile(1) };
        unreachable!("the kernel does not let this happen");
    }
    let Some(stage) = stage() else { return };
    let status = Caller::spawn(stage.path()).end();
    assert_eq!(status.signal(), Some(libc::SIGSEGV), "{status}");
    delete_what_is_left(&stage);
}

#[test]
#[expect(unsafe_code, reason = "the trap is the point")]
fn a_trap_of_the_caller_ends_it_as_it_would_have() {
    if let Some(directory) = caller::role() {
        let _held = guarded(&directory);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a breakpoint without a debugger: the kernel sends SIGTRAP, and that ends this process.
        unsafe {
            std::arch::asm!("int3")
        };
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        unsafe {
            std::arch::asm!("brk #0")
        };
        unreachable!("a breakpoint without a debugger is the end");
    }
    let Some(stage) = stage() else { return };
    let status = Caller::spawn(stage.path()).end();
    assert_eq!(status.signal(), Some(libc::SIGTRAP), "{status}");
    delete_what_is_left(&stage);
}
