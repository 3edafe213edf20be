//! The caller is unharmed: whatever it is like, a hundred containers later it is the same.

#![expect(clippy::disallowed_methods, reason = "tests read files of /proc and make scratch directories")]

use crate::kit::caller::{self, Caller};
use crate::kit::{descendants_of_this_process, line_of, stage, status_line, witness};
use cofferdam::{ContainerBuilder, Outcome, StateRoot};
use std::collections::BTreeMap;
use std::path::Path;

const THREADS: usize = 8;
const CONTAINERS: usize = 100;

/// Everything about this process that a container could change, by name.
fn self_portrait() -> BTreeMap<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
    let mut portrait = BTreeMap::new();
    let status = read("/proc/self/status");
    let lines = [
        "Umask",
        "Uid",
        "Gid",
        "Groups",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "ShdPnd",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Threads",
        "TracerPid",
        "PPid",
    ];
    for name in lines {
        portrait.insert(name.to_owned(), line_of(&status, name));
    }
    for name in [
        "oom_score_adj",
        "cgroup",
        "limits",
        "uid_map",
        "gid_map",
        "timerslack_ns",
        "loginuid",
        "coredump_filter",
    ] {
        portrait.insert(name.to_owned(), read(&format!("/proc/self/{name}")));
    }
    for name in ["cwd", "root", "exe"] {
        portrait.insert(name.to_owned(), link(&format!("/proc/self/{name}")));
    }
    for entry in std::fs::read_dir("/proc/self/ns").unwrap().flatten() {
        let path = entry.path();
        portrait.insert(path.display().to_string(), link(&path.display().to_string()));
    }
    let dumpable = rustix::process::dumpable_behavior().unwrap();
    portrait.insert("dumpable".into(), format!("{dumpable:?}"));
    portrait.insert("subreaper".into(), subreaper());
    portrait.insert(
        "parent death signal".into(),
        format!("{:?}", rustix::process::parent_process_death_signal()),
    );
    portrait.insert("descriptors".into(), format!("{:?}", witness::descriptors("self")));
    portrait.insert("children".into(), descendants_of_this_process().join(", "));
    portrait.insert("environment".into(), format!("{:?}", std::env::vars_os().collect::<Vec<_>>()));
    portrait
}

fn link(path: &str) -> String {
    std::fs::read_link(path).map_or_else(|error| error.to_string(), |to| to.display().to_string())
}

fn subreaper() -> String {
    format!("{:?}", rustix::process::child_subreaper().map(|pid| pid.is_some()))
}

fn assert_same(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    for (name, value) in before {
        assert_eq!(value, &after[name], "{name} of the caller changed");
    }
}

/// Runs the containers, from many threads at once; every one of them has to end as it should.
fn run_containers(root: &StateRoot) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for number in (thread..CONTAINERS).step_by(THREADS) {
                    let code = i32::try_from(number % 7).unwrap();
                    let builder = ContainerBuilder::new().id(format!("it-{}-{number}", std::process::id()));
                    let script = format!("exit {code}");
                    let exit = builder.state_root(root.clone()).args(["sh", "-c", &script]).run().unwrap();
                    assert_eq!(exit.outcome, Outcome::Exited { code });
                }
            });
        }
    });
}

/// A joined thread may still be on its way out of the kernel's list.
fn await_threads(count: &str) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while status_line("self", "Threads") != count && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
}

/// Runs one container so that what the crate keeps for the process is there, then compares around a hundred.
fn run_and_compare(directory: &Path) {
    let root = caller::root(directory);
    let warm_up =
        ContainerBuilder::new().id(format!("it-{}-warm", std::process::id())).state_root(root.clone());
    warm_up.args(["true"]).run().unwrap();
    let before = self_portrait();
    run_containers(&root);
    await_threads(&before["Threads"]);
    assert_same(&before, &self_portrait());
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "no state is left");
}

#[test]
fn a_hundred_containers_from_eight_threads_leave_the_caller_as_it_was() {
    if let Some(directory) = caller::role() {
        return run_and_compare(&directory);
    }
    let stage = stage!();
    Caller::spawn(stage.path()).finish();
}

#[test]
fn a_caller_with_unusual_settings_keeps_them() {
    if let Some(directory) = caller::role() {
        std::env::set_current_dir("/usr").unwrap();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        std::fs::write("/proc/self/oom_score_adj", "321").unwrap();
        let mut mask = nix::sys::signal::SigSet::empty();
        mask.add(nix::sys::signal::Signal::SIGUSR1);
        mask.add(nix::sys::signal::Signal::SIGTERM);
        mask.thread_block().unwrap();
        return run_and_compare(&directory);
    }
    let stage = stage!();
    Caller::spawn(stage.path()).finish();
}

#[test]
fn a_caller_that_ignores_sigchld_is_served_all_the_same() {
    if let Some(directory) = caller::role() {
        ignore_children();
        return run_and_compare(&directory);
    }
    let stage = stage!();
    Caller::spawn(stage.path()).finish();
}

#[test]
fn a_caller_that_collects_every_child_itself_is_served_all_the_same() {
    if let Some(directory) = caller::role() {
        // As an init system does: it never asks whose child it was.
        std::thread::spawn(|| {
            loop {
                let _ = rustix::process::waitid(
                    rustix::process::WaitId::All,
                    rustix::process::WaitIdOptions::EXITED,
                );
                std::thread::yield_now();
            }
        });
        return run_and_compare(&directory);
    }
    let stage = stage!();
    Caller::spawn(stage.path()).finish();
}

/// The disposition of SIGCHLD under which the kernel makes no zombies.
#[expect(
    unsafe_code,
    reason = "there is no safe way to change a signal's disposition; ignoring runs no code"
)]
fn ignore_children() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: SIG_IGN installs no handler, so nothing can run at a bad moment; this process has made no child yet.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.expect("a disposition");
}
