//! The caller of the faults: this program once more, which makes a container when the test asks for it.

use crate::kit::place::Place;
use crate::orphans::again;
use cofferdam::checkpoint::{Criu, Image};
use cofferdam::templates::{Ready, Template};
use cofferdam::{ContainerBuilder, Error, Exec, Rootfs, StateRoot, Zygote};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, Stdio};
use std::time::{Duration, Instant};

const DIR: &str = "COFFERDAM_TEST_CALLER_DIR";
const ID: &str = "COFFERDAM_TEST_CALLER_ID";
/// Set for a life with the bundle in the directory, and not with what the builder makes.
const BUNDLE: &str = "COFFERDAM_TEST_CALLER_BUNDLE";
/// Set for a life with a zygote.
const ZYGOTE: &str = "COFFERDAM_TEST_CALLER_ZYGOTE";
/// Set for a life that begins with an image.
const OF_IMAGE: &str = "COFFERDAM_TEST_CALLER_OF_IMAGE";
/// Set for a life that takes a template, and for one of a clone.
const OF_TEMPLATE: &str = "COFFERDAM_TEST_CALLER_OF_TEMPLATE";
const OF_CLONE: &str = "COFFERDAM_TEST_CALLER_OF_CLONE";
/// The image in the place's directory that such a life begins with, and the one that it writes.
pub(crate) const IMAGE: &str = "image";
pub(crate) const NEXT: &str = "next";

/// What a caller does with its container.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Life {
    /// Everything there is to do with one that the builder makes.
    Full,
    /// The same with helpers that are forked from a zygote, which is there before anything happens to its caller.
    FullWithZygote,
    /// Create, start, kill and delete the bundle in the place's directory.
    OfBundle,
    /// Create, start, take a template, and run a clone of it to its end. Only its caller can be traced: a sandbox cannot
    /// trace a process that is traced.
    OfTemplate,
    /// Create, kill and delete a clone of a template that is there before anything happens.
    OfClone,
    /// Restore, create and start what is in an image, write another image, kill and delete.
    OfImage,
}

/// What the caller of a bundle says between create and start.
pub(crate) const CREATED: &str = "created";

/// A caller that waits for its word.
pub(crate) struct Caller {
    pub(crate) process: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<ChildStderr>,
    /// The thread that will make the container.
    pub(crate) thread: i32,
}

impl Caller {
    pub(crate) fn new(place: &Place, id: &str, life: Life) -> Self {
        let mut command = again("caller::makes_a_container_when_told_to");
        match life {
            Life::Full => &mut command,
            Life::FullWithZygote => command.env(ZYGOTE, "1"),
            Life::OfBundle => command.env(BUNDLE, "1"),
            Life::OfTemplate => command.env(OF_TEMPLATE, "1"),
            Life::OfClone => command.env(OF_CLONE, "1"),
            Life::OfImage => command.env(OF_IMAGE, "1"),
        };
        command.env(DIR, place.path()).env(ID, id).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("this program again");
        let stdin = process.stdin.take();
        let lines = BufReader::new(process.stderr.take().expect("stderr is a pipe"));
        let mut caller = Self { process, stdin, lines, thread: 0 };
        let said: Vec<_> = std::iter::from_fn(|| caller.line()).take(1).collect();
        let thread = said.first().and_then(|line| line.parse().ok());
        caller.thread = thread.unwrap_or_else(|| {
            let rest: Vec<_> = std::iter::from_fn(|| caller.line()).take(8).collect();
            panic!("the caller says no thread id: {said:?} {rest:?}")
        });
        caller
    }

    /// Lets it begin.
    pub(crate) fn go(&mut self) {
        self.stdin.as_mut().expect("it was not told yet").write_all(b"go\n").expect("a caller that listens");
    }

    /// The next line it writes: `ok`, or `failed: ...`; `None` if it ends without one.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        Some(line.trim_end().to_owned())
    }

    /// Its last word, or that there was none within `limit`.
    pub(crate) fn verdict(&mut self, limit: Duration) -> Result<Option<String>, String> {
        let deadline = Instant::now() + limit;
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        if self.lines.buffer().is_empty() {
            let stderr = self.lines.get_ref();
            match poll(&mut [PollFd::new(&stderr.as_fd(), PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Err(format!("the caller hangs: {}", self.stack())),
                result => result.map(drop).map_err(|errno| errno.to_string())?,
            }
        }
        Ok(self.line())
    }

    fn stack(&self) -> String {
        let file = format!("/proc/{}/task/{}/syscall", self.process.id(), self.thread);
        std::fs::read_to_string(file).unwrap_or_default()
    }
}

/// Not a test but the other program of this file. Without the variables that the test sets, it does nothing.
#[test]
fn makes_a_container_when_told_to() {
    let (Some(dir), Ok(id)) = (std::env::var_os(DIR).map(PathBuf::from), std::env::var(ID)) else { return };
    let zygote = std::env::var_os(ZYGOTE).map(|_| Zygote::spawn().expect("a zygote"));
    let is_set = |variable| std::env::var_os(variable).is_some();
    let template = is_set(OF_CLONE).then(|| take_template(&dir, &id).expect("a template"));
    say(&rustix::thread::gettid().as_raw_nonzero().to_string());
    if std::io::stdin().lock().read(&mut [0; 3]).unwrap_or(0) == 0 {
        return;
    }
    let lived = match &template {
        _ if is_set(BUNDLE) => life_of_bundle(&dir, &id),
        _ if is_set(OF_IMAGE) => life_of_image(&dir, &id),
        _ if is_set(OF_TEMPLATE) => life_of_template(&dir, &id),
        Some(template) => life_of_clone(template, &id),
        None => lifecycle(&dir, &id, zygote.as_ref()),
    };
    match lived {
        Ok(()) => say("ok"),
        Err(error) => say(&format!("failed: {error}")),
    }
}

/// The id of the container that joins the sandbox of `id`.
pub(crate) fn member_of(id: &str) -> String {
    format!("m-{id}")
}

/// Build, create, start, a process, a file, a further container in the sandbox, kill, delete: each attached, so that
/// whatever fails half-way is undone.
fn lifecycle(dir: &Path, id: &str, zygote: Option<&Zygote>) -> Result<(), Error> {
    let from = |builder: ContainerBuilder| match zygote {
        Some(zygote) => builder.zygote(zygote),
        None => builder,
    };
    let builder = ContainerBuilder::new()
        .id(id)
        .rootfs(Rootfs::directory(dir.join("rootfs")))
        .state_root(StateRoot::open(dir.join("state"))?)
        .args(["sleep", "1000"]);
    let builder = if rustix::process::geteuid().is_root() {
        builder.memory_limit(64 << 20).pids_limit(64)
    } else {
        builder
    };
    let running = from(builder).build()?.create()?.start()?;
    running.exec(Exec::new(["true"]))?.wait()?;
    running.files()?.stat("/tmp")?;
    let member = running.pod().container(member_of(id)).rootfs(Rootfs::directory(dir.join("rootfs")));
    let member = from(member.args(["sleep", "1000"])).build()?.create()?.start()?;
    member.exec(Exec::new(["true"]))?.wait()?;
    member.kill()?.delete()?;
    running.kill()?.delete()?;
    Ok(())
}

fn life_of_bundle(dir: &Path, id: &str) -> Result<(), Error> {
    let builder = ContainerBuilder::from_bundle(dir)?.id(id).state_root(StateRoot::open(dir.join("state"))?);
    let created = builder.build()?.create()?;
    say(CREATED);
    created.start()?.kill()?.delete()?;
    Ok(())
}

/// A container whose PID 1 can be in an image.
pub(crate) fn of_image(dir: &Path, id: &str) -> Result<ContainerBuilder, Error> {
    let builder = ContainerBuilder::new().id(id).rootfs(Rootfs::directory(dir.join("rootfs")));
    Ok(builder.state_root(StateRoot::open(dir.join("state"))?).init(false).args(["sleep", "1000"]))
}

fn life_of_image(dir: &Path, id: &str) -> Result<(), Error> {
    let criu = Criu::at(crate::kit::criu::path().expect("the test has looked"))?;
    let image = Image::open(dir.join(IMAGE))?;
    let running = of_image(dir, id)?.restore(&image, &criu)?.build()?.create()?.start()?;
    running.snapshot(&criu, dir.join(NEXT))?;
    running.kill()?.delete()?;
    Ok(())
}

/// A container that gets ready to be a template, with a file for its clones.
pub(crate) fn of_template(dir: &Path, id: &str) -> Result<ContainerBuilder, Error> {
    let builder = ContainerBuilder::new().id(id).rootfs(Rootfs::directory(dir.join("rootfs")));
    let script = "echo on >/tmp/file; kill -STOP $$; cat /tmp/file";
    Ok(builder.state_root(StateRoot::open(dir.join("state"))?).args(["sh", "-c", script]))
}

fn take_template(dir: &Path, id: &str) -> Result<Template, Error> {
    Ok(of_template(dir, id)?.spawn()?.into_template(Ready::Stopped)?)
}

fn life_of_template(dir: &Path, id: &str) -> Result<(), Error> {
    let template = take_template(dir, id)?;
    let output = template.builder(member_of(id)).output()?;
    assert_eq!(output.stdout, b"on\n");
    Ok(())
}

fn life_of_clone(template: &Template, id: &str) -> Result<(), Error> {
    template.builder(id).build()?.create()?.kill()?.delete()?;
    Ok(())
}

/// Writes a line to stderr, by a call that no test makes fail.
fn say(line: &str) {
    let line = format!("{line}\n");
    let _ = rustix::io::writev(rustix::stdio::stderr(), &[std::io::IoSlice::new(line.as_bytes())]);
}
