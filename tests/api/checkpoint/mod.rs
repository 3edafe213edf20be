//! Images of containers: what is in them, and what becomes of the container.

#![expect(
    clippy::disallowed_methods,
    reason = "moments for a kill are times, and the files are the tests' own"
)]

mod failures;
mod refusals;

use crate::kit::criu::criu_or_skip;
use crate::kit::{Stage, skip, stage, start};
use crate::restore::{COUNTER, count};
use cofferdam::checkpoint::{Image, StreamKind};
use cofferdam::typestate::Executed;
use cofferdam::{AnyContainer, Container, ContainerBuilder, Outcome, Stdio};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Waits until the counter has gone on.
fn await_progress<P: Executed>(container: &Container<P>) {
    let before = count(container);
    while count(container) <= before {
        assert_eq!(container.try_wait().unwrap(), None, "it has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn counter(stage: &Stage) -> ContainerBuilder {
    crate::restore::counter(stage, "counter")
}

/// The names and contents of a layer.
fn contents(image: &Image, tmpfs: Option<&str>) -> BTreeMap<String, Vec<u8>> {
    let layer = image.layers().iter().find(|layer| layer.tmpfs() == tmpfs.map(Path::new));
    let file = std::fs::File::open(image.path().join(layer.expect("a layer").file())).unwrap();
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().to_string_lossy().into_owned(), content)
    });
    entries.collect()
}

#[test]
fn a_snapshot_is_whole_and_the_container_goes_on() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let running = start(counter(&stage).hostname("counted"));
    await_progress(&running);
    let path = stage.path().join("image");
    let begun = std::time::SystemTime::now();
    running.snapshot(&criu, &path).unwrap();
    await_progress(&running);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);

    let image = Image::open(&path).unwrap();
    assert_eq!(image.container_id(), running.id());
    assert_eq!(image.config(), running.config());
    assert_eq!(image.criu_version(), criu.version().to_string());
    assert!(
        image.made_at() >= begun - Duration::from_millis(1)
            && image.made_at() <= std::time::SystemTime::now()
    );
    assert_eq!(image.init_pid(), 2);
    assert!(image.filter().is_some_and(|digest| digest.len() == 64));
    let files: BTreeMap<_, _> = image.files().collect();
    for file in ["config.json", "criu/inventory.img", "criu/seccomp.img", "layers/0.tar"] {
        assert!(files.contains_key(file), "{file}");
    }
    assert!(!files.contains_key("criu/stats-dump"));
    let written = contents(&image, Some("/tmp"));
    assert!(written.contains_key(".wh..wh..opq"), "{written:?}");
    let counted: u32 = String::from_utf8_lossy(&written["count"]).trim().parse().unwrap();
    assert!(counted > 0 && counted < count(&running));
    let dev = contents(&image, Some("/dev"));
    assert!(!dev.contains_key("null") && !dev.keys().any(|name| name.starts_with("pts")), "{dev:?}");

    // The directory of an image is no place for another one.
    let refused = running.snapshot(&criu, &path).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOTEMPTY), "{refused}");
    Image::open(&path).unwrap();
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_checkpoint_ends_the_container_and_everyone_learns_why() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let running = start(counter(&stage));
    await_progress(&running);
    let id = running.id().to_string();
    let other = AnyContainer::load(stage.root(), &id).unwrap();
    // Also into a directory that is there and is empty.
    let path = stage.open_directory("image");
    let stopped = running.checkpoint(&criu, &path).unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Checkpointed);
    assert_eq!(stopped.exit().outcome.to_string(), "checkpointed");
    assert_eq!(other.wait().unwrap().outcome, Outcome::Checkpointed);
    let loaded = AnyContainer::load(stage.root(), &id).unwrap();
    assert_eq!(loaded.as_stopped().unwrap().exit().outcome, Outcome::Checkpointed);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
    assert!(contents(&Image::open(&path).unwrap(), Some("/tmp")).contains_key("count"));
    drop((other, loaded));
    stopped.delete().unwrap();
}

#[test]
fn a_paused_container_is_written_without_running() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let running = start(counter(&stage));
    await_progress(&running);
    let paused = running.pause().unwrap();
    paused.snapshot(&criu, stage.path().join("snapshot")).unwrap();
    let image = Image::open(stage.path().join("snapshot")).unwrap();
    let counted = count(&paused);
    assert_eq!(String::from_utf8_lossy(&contents(&image, Some("/tmp"))["count"]).trim(), counted.to_string());
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(count(&paused), counted, "it runs");
    let running = paused.resume().unwrap();
    await_progress(&running);
    let paused = running.pause().unwrap();
    let stopped = AnyContainer::from(paused).checkpoint(&criu, stage.path().join("last")).unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Checkpointed);
    Image::open(stage.path().join("last")).unwrap();
    stopped.delete().unwrap();
}

#[test]
fn the_scratch_is_in_the_image_with_what_was_removed() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let script =
        "mkdir /new; echo more >/new/file; ln /new/file /new/again; rm /bin/kill; echo ready; sleep 1000";
    let mut running =
        start(stage.busybox_shell("scratch", script).scratch(Some(1 << 20)).stdout(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(running.take_stdout().unwrap()).read_line(&mut line).unwrap();
    let path = stage.path().join("image");
    running.snapshot(&criu, &path).unwrap();
    let image = Image::open(&path).unwrap();
    let layer = contents(&image, None);
    assert_eq!(layer["new/again"], b"more\n", "{layer:?}");
    assert!(layer.contains_key("new/file") && layer.contains_key("bin/.wh.kill"), "{layer:?}");
    // The reader of its pipe is gone, and it is a pipe nevertheless.
    assert!(matches!(&image.streams()[1], StreamKind::Pipe { key } if key.starts_with("pipe:[")));
    running.kill().unwrap().delete().unwrap();
}

/// A program with one of everything that a program commonly holds. Says "ready", and then what it reads.
const RICH: &str = r#"
import os, select, signal, socket, sys, tempfile, threading, time
if os.fork() == 0:
    if os.fork() == 0:
        signal.pause()
    signal.pause()
poll = select.epoll()
reader, writer = os.pipe()
poll.register(reader, select.EPOLLIN)
one, other = socket.socketpair()
listener = socket.socket(socket.AF_UNIX); listener.bind("\0listener"); listener.listen()
memory = os.memfd_create("m"); os.write(memory, b"kept")
event = os.eventfd(3)
gone = open("/tmp/gone", "w+"); gone.write("deleted"); gone.flush(); os.unlink("/tmp/gone")
os.mkfifo("/tmp/fifo")
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 3600)
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    os.write(writer, b"x"); assert poll.poll(1); os.read(reader, 1)
    assert os.eventfd_read(event) == 3; os.eventfd_write(event, 3)
    gone.seek(0); assert gone.read() == "deleted"
    assert os.pread(memory, 4, 0) == b"kept"
    one.send(b"y"); assert other.recv(1) == b"y"
    print("said", line.strip(), flush=True)
"#;

/// Takes a snapshot of the rich program, and sees that it still has everything.
fn snapshot_of_the_rich(stage: &Stage, builder: ContainerBuilder, init: i32) {
    let Ok(criu) = crate::kit::criu::for_a_dump() else { skip!("as above") };
    let builder = builder.tmpfs("/tmp", 1 << 20).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = start(builder);
    let mut output = BufReader::new(running.take_stdout().unwrap());
    let mut input = running.take_stdin().unwrap();
    let mut next = || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        line
    };
    assert_eq!(next(), "ready\n");
    let path = stage.path().join("image");
    running.snapshot(&criu, &path).unwrap();
    writeln!(input, "hello").unwrap();
    assert_eq!(next(), "said hello\n");
    let image = Image::open(&path).unwrap();
    assert_eq!(image.init_pid(), init);
    let [stdin, stdout, stderr] = image.streams();
    assert!(matches!(stdin, StreamKind::Pipe { .. }) && matches!(stdout, StreamKind::Pipe { .. }));
    assert!(stdin != stdout && matches!(stderr, StreamKind::Null), "{:?}", image.streams());
    assert!(contents(&image, Some("/tmp")).contains_key("fifo"));
    let stopped = running.checkpoint(&criu, stage.path().join("last")).unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Checkpointed);
    stopped.delete().unwrap();
}

fn rich(stage: &Stage) -> ContainerBuilder {
    stage.container("rich").args(["python3", "-c", RICH])
}

#[test]
fn a_program_with_one_of_everything_has_an_image_and_goes_on() {
    let stage = stage!();
    let _criu = criu_or_skip!();
    snapshot_of_the_rich(&stage, rich(&stage).memory_limit(256 << 20).pids_limit(64), 2);
}

#[test]
fn so_has_one_that_is_pid_1_of_its_container() {
    let stage = stage!();
    let _criu = criu_or_skip!();
    snapshot_of_the_rich(&stage, rich(&stage).init(false), 1);
}

#[test]
fn so_has_one_without_a_user_namespace() {
    let stage = stage!();
    let _criu = criu_or_skip!();
    snapshot_of_the_rich(&stage, rich(&stage).without_user_namespace(), 2);
}
