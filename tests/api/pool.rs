//! Pools: jobs that are given to containers which exist already, and what is never given away.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::caller::{self, Caller};
use crate::kit::{Stage, await_end, may_limit, skip, stage};
use cofferdam::helpers::Helper;
use cofferdam::info::Listed;
use cofferdam::pools::{Job, Pool, Taken};
use cofferdam::{
    AnyContainer, Container, ContainerBuilder, Created, Error, ErrorKind, Exec, Outcome, Rootfs, StateRoot,
    Stdio, Zygote,
};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest wait, which only a test that fails reaches.
const PATIENCE: Duration = Duration::from_secs(60);

fn template(stage: &Stage) -> ContainerBuilder {
    stage.container("pool").args(["echo", "template"])
}

fn full(template: ContainerBuilder, size: usize) -> Pool {
    let pool = Pool::new(template, size).unwrap();
    pool.wait_full(PATIENCE).unwrap();
    pool
}

fn shell(script: &str) -> Job {
    Job::new(["sh", "-c", script]).stdout(Stdio::piped())
}

/// How a taken container ends, and what it writes to its standard output. It is deleted.
fn run(taken: Taken) -> (Outcome, String) {
    let mut created = taken.into_container();
    let mut stdout = created.take_stdout().expect("a pipe was asked for");
    let running = created.start().unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    let stopped = running.wait_stopped().unwrap();
    let outcome = stopped.exit().outcome;
    stopped.delete().unwrap();
    (outcome, text)
}

fn is_missing_root(error: &Error) -> bool {
    error.to_string().contains("rootfs") && error.to_string().contains("No such file or directory")
}

/// The containers of `root` that wait for the start, loaded.
fn waiting(root: &StateRoot) -> Vec<Container<Created>> {
    let listed = AnyContainer::list(root).unwrap();
    let loaded = listed.into_iter().map(|listed| match listed {
        Listed::Container(container) => *container,
        damaged => panic!("{damaged:?}"),
    });
    loaded.filter_map(|any| any.into_phase::<Created>().ok()).collect()
}

fn ids(root: &StateRoot) -> BTreeSet<String> {
    waiting(root).iter().map(|member| member.id().to_string()).collect()
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).unwrap();
}

#[test]
fn a_job_has_arguments_variables_streams_and_a_directory_of_its_own() {
    let stage = stage!();
    let pool = full(template(&stage).env("KEPT", "1").env("CHANGED", "1"), 2);
    let job =
        shell("cat; echo $KEPT$CHANGED$ADDED $PWD; echo reopened >/dev/stdout; ls /proc/self/fd; exit 7")
            .input("input\n")
            .env("CHANGED", "2")
            .envs([("ADDED", "3")])
            .cwd("/tmp");
    let taken = pool.take(job).unwrap();
    assert!(!taken.is_cold() && taken.refill_error().is_none());
    let (outcome, text) = run(taken);
    assert_eq!(text, "input\n123 /tmp\nreopened\n0\n1\n2\n3\n");
    assert_eq!(outcome, Outcome::Exited { code: 7 });
    let taken = pool.take(Job::of_template().stdout(Stdio::piped())).unwrap();
    assert_eq!(run(taken).1, "template\n");
    let file = stage.path().join("stderr");
    let job = shell("echo to the file >&2; cat").stderr(File::create(&file).unwrap());
    assert_eq!(run(pool.take(job).unwrap()).1, "");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "to the file\n");
}

#[test]
fn a_taken_container_is_like_any_other() {
    let stage = stage!();
    let pool = full(template(&stage), 1);
    let mut created = pool.take(Job::new(["sleep", "1000"]).env("OF", "job")).unwrap().into_container();
    assert!(created.id().as_str().starts_with(&stage.id("pool-")), "{}", created.id());
    let loaded = AnyContainer::load(stage.root(), created.id().as_str()).unwrap();
    assert!(loaded.config().contains("\"sleep\",\"1000\""), "{}", loaded.config());
    assert_eq!(loaded.info().generation, created.info().generation);
    assert!(created.take_stdin().is_none() && created.take_stdout().is_none());
    let mut running = created.start().unwrap();
    assert_eq!(running.exec_output(Exec::new(["sh", "-c", "echo $OF"])).unwrap().stdout, b"job\n");
    running.detach().unwrap();
    drop(pool);
    let loaded = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    loaded.kill().unwrap().delete().unwrap();
}

#[test]
fn limits_and_time_are_the_templates_unless_the_job_has_a_time_of_its_own() {
    let stage = stage!();
    let (long, short) = (Duration::from_millis(400), Duration::from_millis(100));
    let pool = full(template(&stage).timeout(long), 2);
    let sleep = || Job::new(["sleep", "1000"]).stdout(Stdio::piped());
    assert_eq!(run(pool.take(sleep()).unwrap()).0, Outcome::TimedOut { after: long });
    assert_eq!(run(pool.take(sleep().timeout(short)).unwrap()).0, Outcome::TimedOut { after: short });
    drop(pool);
    if !may_limit("pids") {
        skip!("this user may not limit the number of processes here");
    }
    let pool = full(template(&stage).pids_limit(17), 1);
    let taken = pool.take(shell("exec sleep 1000")).unwrap().into_container();
    let files = taken.info().cgroups.into_iter().map(|dir| dir.join("container/pids.max"));
    let limits: Vec<_> = files.filter_map(|file| std::fs::read_to_string(file).ok()).collect();
    assert_eq!(limits, ["17\n"]);
}

#[test]
fn a_member_that_was_changed_is_not_given_away() {
    let stage = stage!();
    let root = stage.root();
    let freezer = |member: &Container<Created>| {
        let frozen = |dir: PathBuf| [(dir.join("freezer.state"), "FROZEN"), (dir.join("cgroup.freeze"), "1")];
        let dirs = member.info().cgroups.into_iter().flat_map(|dir| [dir.join("container"), dir]);
        dirs.flat_map(frozen).find(|(file, _)| std::fs::OpenOptions::new().write(true).open(file).is_ok())
    };
    let limit = |member: &Container<Created>| {
        let files = member.info().cgroups.into_iter().map(|dir| dir.join("container/pids.max"));
        files.into_iter().find(|file| file.exists())
    };
    type Change<'a> = (&'a str, &'a dyn Fn(&Container<Created>));
    let changes: [Change<'_>; 10] = [
        ("init killed", &|member| {
            signal(member.init_pid(), Signal::KILL);
            await_end(member.sandbox_pid());
        }),
        ("sandbox killed", &|member| signal(member.sandbox_pid(), Signal::KILL)),
        ("init stopped", &|member| {
            signal(member.init_pid(), Signal::STOP);
            while !crate::kit::status_line(&member.init_pid().to_string(), "State").starts_with('T') {
                std::thread::yield_now();
            }
        }),
        ("mounted over", &|member| member.mount_tmpfs("/tmp", 1 << 20).unwrap()),
        ("executed in", &|member| {
            member.exec_output(Exec::new(["touch", "/tmp/left"])).unwrap();
        }),
        ("written to", &|member| member.files().unwrap().write("/tmp/left", b"", 0o644).unwrap()),
        ("deleted", &|member| AnyContainer::delete_by_name(root, member.id().as_str()).unwrap()),
        ("started", &|member| {
            let any = AnyContainer::load(root, member.id().as_str()).unwrap();
            any.into_phase::<Created>().unwrap().start().unwrap().wait().unwrap();
        }),
        ("limit removed", &|member| {
            if let Some(file) = limit(member) {
                std::fs::write(file, "max").unwrap();
            } else {
                signal(member.init_pid(), Signal::KILL);
            }
        }),
        ("frozen", &|member| match freezer(member) {
            Some((file, value)) => std::fs::write(file, value).unwrap(),
            None => signal(member.init_pid(), Signal::KILL),
        }),
    ];
    let template = if may_limit("pids") { template(&stage).pids_limit(64) } else { template(&stage) };
    let pool = full(template, 1);
    for (name, change) in changes {
        let [member] = waiting(root).try_into().expect("one waits");
        change(&member);
        let taken = pool.take(shell("echo fine")).unwrap();
        assert!(taken.is_cold(), "{name}");
        assert_eq!(run(taken), (Outcome::Exited { code: 0 }, "fine\n".to_owned()), "{name}");
        pool.wait_full(PATIENCE).unwrap();
        assert!(!ids(root).contains(member.id().as_str()), "{name}: it is destroyed");
    }
}

/// Whether a thread waits for the flock(2) of this file.
fn is_waited_for(lock: &File) -> bool {
    let inode = format!(":{} ", lock.metadata().unwrap().ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    locks.lines().any(|line| line.contains("-> FLOCK") && line.contains(&inode))
}

#[test]
fn a_member_that_is_stopped_while_it_takes_the_job_costs_no_long_wait() {
    let stage = stage!();
    let root = stage.root();
    let pool = full(template(&stage), 1);
    let [member] = waiting(root).try_into().expect("one waits");
    // After the look at the member, its record is locked.
    let mut files = std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().path());
    let lock = files.find(|path| path.extension().is_some_and(|end| end == "lock")).unwrap();
    let lock = File::open(lock).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let taken = std::thread::scope(|scope| {
        let taker = scope.spawn(|| pool.take(shell("echo fine")));
        while !is_waited_for(&lock) {
            std::thread::yield_now();
        }
        signal(member.sandbox_pid(), Signal::STOP);
        let began = Instant::now();
        flock(&lock, FlockOperation::Unlock).unwrap();
        let taken = taker.join().unwrap().unwrap();
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        taken
    });
    assert_eq!(run(taken), (Outcome::Exited { code: 0 }, "fine\n".to_owned()));
    pool.wait_full(PATIENCE).unwrap();
    assert!(!ids(root).contains(member.id().as_str()), "it is destroyed");
}

#[test]
fn a_dropped_pool_leaves_nothing_and_its_thread_takes_no_signals() {
    let stage = stage!();
    let pool = full(template(&stage), 4);
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        let named =
            |task: &PathBuf| std::fs::read_to_string(task.join("comm")).unwrap() == "cofferdam-pool\n";
        tasks.filter(named).collect::<Vec<_>>()
    };
    let [thread] = threads().try_into().expect("one thread");
    let status = std::fs::read_to_string(thread.join("status")).unwrap();
    let blocked = crate::kit::line_of(&status, "SigBlk");
    let blocked = u64::from_str_radix(&blocked, 16).unwrap();
    let term = 1 << (libc::SIGTERM - 1);
    assert_eq!((blocked & term, waiting(stage.root()).len()), (term, 4));
    drop(pool);
    assert!(threads().is_empty());
    assert_eq!(stage.changes(), Vec::<String>::new());
}

/// The pool of a caller that the test kills.
fn callers_template(directory: &Path) -> ContainerBuilder {
    let id = std::fs::read_to_string(directory.join("id")).unwrap();
    ContainerBuilder::new().id(id).state_root(caller::root(directory)).args(["true"])
}

#[test]
fn a_killed_owner_leaves_nothing_and_the_next_pool_deletes_its_records() {
    if let Some(directory) = caller::role() {
        let pool = full(callers_template(&directory), 3);
        let taken = pool.take(Job::new(["sleep", "1000"])).unwrap().into_container().start().unwrap();
        pool.wait_full(PATIENCE).unwrap();
        caller::say(format!("{} {}", taken.sandbox_pid(), taken.init_pid()));
        return caller::stay();
    }
    let stage = stage!();
    std::fs::write(stage.path().join("id"), stage.id("owner")).unwrap();
    let mut caller = Caller::spawn(stage.path());
    let mut pids: Vec<i32> = caller.hear().split(' ').map(|pid| pid.parse().unwrap()).collect();
    let members = waiting(stage.root());
    assert_eq!(members.len(), 3);
    let mut cgroups = Vec::new();
    for member in &members {
        let info = member.info();
        pids.extend([member.sandbox_pid(), member.init_pid(), info.gofer.expect("it is created").pid]);
        cgroups.extend(info.cgroups);
    }
    caller.kill();
    pids.into_iter().for_each(await_end);
    let left: Vec<_> = cgroups.iter().filter(|cgroup| cgroup.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
    drop(members);
    let pool = full(callers_template(stage.path()), 2);
    assert_eq!(AnyContainer::list(stage.root()).unwrap().len(), 2, "only those of the new pool");
    drop(pool);
    assert_eq!(stage.changes(), Vec::<String>::new());
}

#[test]
fn eight_threads_take_sixty_four_jobs() {
    let stage = stage!();
    let pool = full(template(&stage), 8);
    let job = |number: usize| {
        shell("cat; echo $NUMBER; exit $NUMBER").input(format!("{number} ")).env("NUMBER", number.to_string())
    };
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let pool = &pool;
            scope.spawn(move || {
                for number in (thread * 8)..(thread * 8 + 8) {
                    let expected = (Outcome::Exited { code: number as i32 }, format!("{number} {number}\n"));
                    assert_eq!(run(pool.take(job(number)).unwrap()), expected);
                }
            });
        }
    });
    pool.wait_full(PATIENCE).unwrap();
    assert_eq!((pool.waiting(), waiting(stage.root()).len()), (8, 8));
}

#[test]
fn a_template_that_cannot_be_is_told_when_the_pool_is_made() {
    let stage = stage!();
    let refused = |template: ContainerBuilder, size| Pool::new(template, size).unwrap_err();
    let error = refused(template(&stage).rootfs(Rootfs::directory(stage.path().join("none"))), 1);
    assert!(is_missing_root(&error), "{error}");
    let error = refused(stage.container("pool").args(["/no/such/program"]), 1);
    assert_eq!(*error.kind(), ErrorKind::ProgramNotFound, "{error}");
    let cases = [
        (refused(template(&stage), 0), "Pool::new: the size must not be 0"),
        (refused(template(&stage).terminal(), 1), "Pool::new: the template has a terminal"),
        (refused(template(&stage).stdout(Stdio::piped()), 1), "Pool::new: the template has streams"),
        (
            refused(template(&stage).pid_file(stage.path().join("pid")), 1),
            "Pool::new: the template has a PID file",
        ),
    ];
    for (error, said) in cases {
        assert_eq!(*error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(said), "{error}");
    }
    assert_eq!(stage.changes(), Vec::<String>::new());
}

#[test]
fn a_job_that_is_wrong_is_told_as_by_build_and_uses_up_no_member() {
    let stage = stage!();
    let pool = full(template(&stage), 1);
    let before = ids(stage.root());
    let cases = [
        (Job::new(["echo", "a\0"]), "job: args[1]: contains a NUL byte"),
        (Job::new([""; 0]), "job: args: is empty (name the program to run)"),
        (Job::new(["true"]).env("", "hidden"), "job: process.env[1]: has an empty name (write NAME=value)"),
        (Job::new(["true"]).cwd("tmp"), "job: cwd: "),
        (Job::new(["true"]).timeout(Duration::ZERO), "Job::timeout: must not be 0"),
    ];
    for (job, said) in cases {
        let error = pool.take(job).unwrap_err();
        assert!(error.to_string().starts_with(said), "{error}");
    }
    assert_eq!(ids(stage.root()), before);
}

#[test]
fn a_program_that_is_not_there_is_told_as_by_create_and_the_member_is_destroyed() {
    let stage = stage!();
    let pool = full(template(&stage), 2);
    let before = ids(stage.root());
    for (program, kind) in
        [("no-such-program", ErrorKind::ProgramNotFound), ("/etc/passwd", ErrorKind::ProgramNotExecutable)]
    {
        let error = pool.take(Job::new([program])).unwrap_err();
        let of_create = stage.container("create").args([program]).build().unwrap().create().unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (&kind, of_create.to_string()));
        pool.wait_full(PATIENCE).unwrap();
    }
    assert!(ids(stage.root()).is_disjoint(&before), "both were destroyed");
    let failed = pool.take(Job::new(["true"]).cwd("/no/such/directory")).unwrap().into_container().start();
    assert!(failed.unwrap_err().to_string().contains("process.cwd"));
    assert_eq!(run(pool.take(shell("echo well")).unwrap()).1, "well\n");
}

#[test]
fn a_pool_that_cannot_be_refilled_says_why_and_recovers() {
    let stage = stage!();
    let (root, away) = (stage.busybox(), stage.path().join("away"));
    let pool = full(template(&stage).rootfs(Rootfs::directory(&root)), 12);
    std::fs::rename(&root, &away).unwrap();
    let mut told = 0;
    for _ in 0..12 {
        let taken = pool.take(shell("echo warm")).unwrap();
        assert!(!taken.is_cold());
        told += usize::from(taken.refill_error().is_some_and(is_missing_root));
        assert_eq!(run(taken).1, "warm\n");
    }
    assert!(told > 0, "an error of the refill thread is reported");
    assert!(is_missing_root(&pool.take(shell("")).unwrap_err()));
    std::fs::rename(&away, &root).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = pool.wait_full(PATIENCE) {
        assert!(is_missing_root(&error) && Instant::now() < deadline, "{error}");
    }
    assert!(!pool.take(shell("")).unwrap().is_cold());
}

#[test]
fn nothing_of_one_job_reaches_another() {
    let stage = stage!();
    let pool = full(template(&stage), 2);
    let secret = "of-the-first-job";
    let first = shell("cat >/tmp/left; exec sleep 1000").env("SECRET", secret).input(secret);
    let first = pool.take(first).unwrap().into_container().start().unwrap();
    let look = "env; cat /tmp/left /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'; cat";
    let second = pool.take(shell(&format!("{{ {look}; }} 2>&1"))).unwrap();
    let (_, text) = run(second);
    assert!(text.contains("PATH=") && !text.contains(secret), "{text}");
    pool.wait_full(PATIENCE).unwrap();
    for member in waiting(stage.root()) {
        assert!(!member.config().contains(secret));
    }
    first.kill().unwrap().delete().unwrap();
}

#[test]
fn members_are_forked_by_a_zygote_or_execute_an_installed_helper() {
    let stage = stage!();
    Helper::at(env!("CARGO_BIN_EXE_cofferdam-helper")).unwrap().install().unwrap();
    let zygote = Zygote::spawn().unwrap();
    for template in [template(&stage), template(&stage).zygote(&zygote)] {
        let pool = full(template, 2);
        for number in 0..4 {
            let text = run(pool.take(shell("echo $NUMBER").env("NUMBER", number.to_string())).unwrap()).1;
            assert_eq!(text, format!("{number}\n"));
        }
    }
}

#[test]
fn members_of_a_pool_can_be_containers_of_a_pod() {
    let stage = stage!();
    let pod = crate::kit::start(stage.container("pod").args(["sleep", "1000"]));
    let pool = full(template(&stage).in_pod(pod.id()), 2);
    for _ in 0..3 {
        assert_eq!(run(pool.take(shell("cat").input("in a pod\n")).unwrap()).1, "in a pod\n");
    }
    drop(pool);
    pod.kill().unwrap().delete().unwrap();
}

#[cfg(feature = "tokio")]
#[test]
fn a_runtime_with_one_thread_takes_jobs() {
    let stage = stage!();
    let pool = full(template(&stage), 2);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let running = pool.take_async(shell("exit 3")).await.unwrap().into_container().start().unwrap();
        assert_eq!(running.wait_async().await.unwrap().outcome, Outcome::Exited { code: 3 });
    });
}
