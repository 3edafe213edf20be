//! Many clones of one template: what they leave behind, and those that wait in a pool for a job.

use crate::kit::{Stage, find, skip, stage};
use crate::template::{preparing, taken};
use cofferdam::pools::{Job, Pool};
use cofferdam::templates::Template;
use cofferdam::{Container, ErrorKind, Running, Stdio};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// How many clones live at the same time.
const WAVE: usize = 20;

/// What of this process could grow with each clone.
#[derive(Debug, PartialEq)]
struct Held {
    descriptors: usize,
    mappings: usize,
    threads: usize,
}

impl Held {
    fn now() -> Self {
        let count = |directory: &str| std::fs::read_dir(directory).unwrap().count();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mappings = maps.lines().count();
        Self { descriptors: count("/proc/self/fd"), mappings, threads: count("/proc/self/task") }
    }
}

/// The resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Makes [`WAVE`] clones, which all live, and ends them. Returns how long making them took.
fn wave(stage: &Stage, template: &Template, number: usize) -> Duration {
    let clock = Instant::now();
    let clones: Vec<Container<Running>> = (0..WAVE)
        .map(|clone| {
            let id = stage.id(&format!("clone{number}-{clone}"));
            let builder = template.builder(id).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut clone = builder.spawn().unwrap();
            let mut byte = [0];
            clone.take_stdout().unwrap().read_exact(&mut byte).unwrap();
            clone
        })
        .collect();
    let took = clock.elapsed();
    for clone in clones {
        clone.kill().unwrap().delete().unwrap();
    }
    took
}

/// Says it past the harness's capturing.
fn note(words: &str) {
    let _ = std::io::stderr().write_all(format!("{words}\n").as_bytes());
}

#[test]
fn a_hundred_clones_in_waves_leave_nothing_behind_and_cost_the_last_what_the_first_cost() {
    let stage = stage!();
    let waves =
        std::env::var("COFFERDAM_TEST_CLONES").map_or(5, |clones| clones.parse::<usize>().unwrap() / WAVE);
    let script = "echo file >/tmp/file; kill -STOP $$; echo on; read n";
    let template = taken(preparing(&stage, &["sh", "-c", script]));
    let mut times = vec![wave(&stage, &template, 0)];
    let (held, memory, changes) = (Held::now(), resident(), stage.changes());
    times.extend((1..waves).map(|number| wave(&stage, &template, number)));
    assert_eq!((Held::now(), stage.changes()), (held, changes));
    let grown = resident().saturating_sub(memory);
    assert!(grown < 8 << 20, "{grown} bytes");
    let each: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e3 / WAVE as f64).collect();
    note(&format!("{} clones, ms each by wave: {each:.1?}", waves * WAVE));
    drop(template);
    assert_eq!(stage.changes(), Vec::<String>::new());
}

#[test]
fn a_clone_of_a_pool_goes_on_with_the_arguments_variables_and_streams_of_its_job() {
    let stage = stage!();
    if find("python3").is_none() {
        skip!("no python3");
    }
    let script = "import os, sys\n\
        os.kill(os.getpid(), 19)\n\
        read = lambda name: open('/proc/self/' + name).read().split('\\0')[:-1]\n\
        own = dict(v.split('=', 1) for v in read('environ'))\n\
        print(read('cmdline'), own.get('JOB'), own['COFFERDAM_CLONE'], sys.stdin.read(), flush=True)";
    let template = taken(preparing(&stage, &["/usr/bin/python3", "-c", script]).env("JOB", "none"));
    let pool = Pool::new(template.builder(stage.id("pool")), 2).unwrap();
    pool.wait_full(Duration::from_secs(60)).unwrap();
    for n in ["1", "2", "3"] {
        let job = Job::new(["a job that is no program", n]).env("JOB", n).input(format!("input {n}"));
        let taken = pool.take(job.stdout(Stdio::piped())).unwrap();
        assert!(!taken.is_cold() || n == "3", "{n}");
        let mut created = taken.into_container();
        let (id, mut stdout) = (created.id().to_string(), created.take_stdout().unwrap());
        let stopped = created.start().unwrap().wait_stopped().unwrap();
        let mut said = String::new();
        stdout.read_to_string(&mut said).unwrap();
        assert_eq!(said, format!("['a job that is no program', '{n}'] {n} {id} input {n}\n"));
        assert!(id.starts_with(&stage.id("pool-")), "{id}");
        stopped.delete().unwrap();
    }
    let error = pool.take(Job::of_template().cwd("/tmp")).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("Job::cwd: a clone begins"), "{error}");
}

#[test]
fn threads_share_a_template_and_a_clone_is_none() {
    let stage = stage!();
    let script = "n=0; while true; do kill -STOP $$; read x; n=$n$x; echo $n; done";
    let template = taken(preparing(&stage, &["sh", "-c", script]));
    let run = |template: &Template, name: String, input: &str| {
        let output = template
            .builder(stage.id(&name))
            .args(["anything"])
            .input(input)
            .timeout(Duration::from_secs(60));
        let mut clone = output.stdout(Stdio::piped()).spawn().unwrap();
        let mut byte = [0; 3];
        clone.take_stdout().unwrap().read_exact(&mut byte).unwrap();
        (clone, String::from_utf8_lossy(&byte).into_owned())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=4)
            .map(|n| {
                let (template, run) = (template.clone(), &run);
                scope.spawn(move || run(&template, format!("thread{n}"), &format!("{n}\n")))
            })
            .collect();
        for (n, worker) in (1..=4).zip(workers) {
            let (clone, said) = worker.join().unwrap();
            assert_eq!(said, format!("0{n}\n"));
            clone.kill().unwrap().delete().unwrap();
        }
    });
    let (clone, _) = run(&template, "first".into(), "5\n");
    let failed = clone.into_template(cofferdam::templates::Ready::Stopped).unwrap_err();
    assert!(failed.to_string().contains("the process is a clone"), "{failed}");
}
