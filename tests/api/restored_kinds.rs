//! Restored programs that hold one of everything, and images that were damaged after they were opened.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::criu::criu_or_skip;
use crate::kit::{Stage, may_limit, skip, stage, start};
use crate::restore::{
    COUNTER, assert_nothing_left, count, counter, image_of, image_of_counter, restore, until,
};
use cofferdam::builder::HookKind;
use cofferdam::checkpoint::{Criu, Image};
use cofferdam::oci_spec::runtime::HookBuilder;
use cofferdam::{Container, ContainerBuilder, Created, ErrorKind, Outcome, Stdio};
use rustix::fs::{CWD, FileType, Mode};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Says "ready", and for each line that it reads what it still has.
const RICH: &str = r#"
import ctypes, os, select, signal, socket, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
poll = select.epoll()
reader, writer = os.pipe()
poll.register(reader, select.EPOLLIN)
one, other = socket.socketpair()
memory = os.memfd_create("m"); os.write(memory, b"kept")
event = os.eventfd(3)
timer = libc.timerfd_create(1, 0)
assert timer >= 0
libc.timerfd_settime(timer, 0, struct.pack("qqqq", 0, 0, 3600, 0), None)
gone = open("/tmp/gone", "w+"); gone.write("deleted"); gone.flush(); os.unlink("/tmp/gone")
kept = open("/tmp/kept", "w+"); kept.write("kept"); kept.flush()
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1}); os.kill(os.getpid(), signal.SIGUSR1)
wakes, awake = threading.Event(), threading.Event()
def wait():
    global mine
    mine = threading.get_native_id()
    wakes.wait(); awake.set()
thread = threading.Thread(target=wait, daemon=True); thread.start()
if os.fork() == 0:
    signal.pause()
print("ready", flush=True)
for line in sys.stdin:
    os.write(writer, b"x"); assert poll.poll(1); os.read(reader, 1)
    assert os.eventfd_read(event) == 3; os.eventfd_write(event, 3)
    left = ctypes.create_string_buffer(32)
    assert libc.timerfd_gettime(timer, left) == 0
    assert 3000 < struct.unpack("qqqq", left.raw)[2] <= 3600
    gone.seek(0); assert gone.read() == "deleted" and not os.path.exists("/tmp/gone")
    kept.seek(0); assert kept.read() == "kept" and os.fstat(kept.fileno()).st_ino == os.stat("/tmp/kept").st_ino
    assert os.pread(memory, 4, 0) == b"kept"
    one.send(b"y"); assert other.recv(1) == b"y"
    assert os.path.exists(f"/proc/self/task/{mine}"), "the thread has its number"
    wakes.set(); assert awake.wait(10)
    assert not heard; signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1}); assert heard
    print("has everything after", line.strip(), flush=True)
    break
sys.exit(5)
"#;

fn piped(builder: ContainerBuilder) -> ContainerBuilder {
    builder.tmpfs("/tmp", 1 << 20).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

fn line_of(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

/// Has the program say that it has everything, and end.
fn has_everything(mut created: Container<Created>) {
    let (mut input, output) = (created.take_stdin().unwrap(), created.take_stdout().unwrap());
    let problems = BufReader::new(created.take_stderr().unwrap());
    let running = created.start().unwrap();
    input.write_all(b"the trip\n").unwrap();
    let said = line_of(&mut BufReader::new(output));
    let problem: Vec<_> = if said.is_empty() { problems.lines().collect() } else { Vec::new() };
    assert_eq!(said, "has everything after the trip\n", "{problem:?}");
    let stopped = running.wait_stopped().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 5 });
    stopped.delete().unwrap();
}

fn image_of_rich(
    stage: &Stage,
    criu: &Criu,
    describe: impl Fn(ContainerBuilder) -> ContainerBuilder,
) -> Image {
    let builder = stage.container("before").args(["python3", "-c", RICH]);
    let mut running = start(piped(describe(builder)));
    assert_eq!(line_of(&mut BufReader::new(running.take_stdout().unwrap())), "ready\n");
    image_of(running, criu, stage)
}

#[test]
fn a_program_with_one_of_everything_has_it_after_a_restore() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_rich(&stage, &criu, |builder| builder);
    has_everything(restore(piped(stage.container("after")), &image, &criu).unwrap());
    assert_nothing_left(&stage);
}

/// Has, in each of its places, a deleted file, a mapping of another, one with a second name, a FIFO and a socket; then
/// a large one, and a directory as the current one.
const DELETED: &str = r#"
import mmap, os, socket, sys
def deleted(path, data):
    file = open(path, "w+b"); file.write(data); file.flush(); os.unlink(path)
    return file
class Place:
    def __init__(self, at):
        self.at = at
        self.gone = deleted(at + "/gone", b"gone")
        mapped = deleted(at + "/mapped", b"m" * 8192)
        self.memory = mmap.mmap(mapped.fileno(), 8192)
        os.mkfifo(at + "/fifo"); self.fifo = os.open(at + "/fifo", os.O_RDWR); os.unlink(at + "/fifo")
        self.one = open(at + "/one", "w+b"); self.one.write(b"linked"); self.one.flush()
        os.link(at + "/one", at + "/other"); os.unlink(at + "/one")
        self.socket = socket.socket(socket.AF_UNIX); self.socket.bind(at + "/socket"); self.socket.listen()
    def check(self):
        self.gone.seek(0); assert self.gone.read() == b"gone" and os.fstat(self.gone.fileno()).st_nlink == 0
        assert self.memory[4096:] == b"m" * 4096
        os.write(self.fifo, b"f"); assert os.read(self.fifo, 1) == b"f"
        self.one.write(b" twice"); self.one.flush(); assert open(self.at + "/other", "rb").read() == b"linked twice"
        client = socket.socket(socket.AF_UNIX); client.connect(self.at + "/socket"); self.socket.accept()
        names = sorted(os.listdir(self.at))
        assert [name for name in names if name not in ("other", "socket")] == before[self.at], names
places = ["/tmp", "/dev/shm", "/opt"]
before = {place: sorted(os.listdir(place)) for place in places}
held = [Place(place) for place in places]
large = deleted("/dev/shm/large", b"l" * (3 << 20))
os.mkdir("/tmp/here"); os.chdir("/tmp/here"); os.rmdir("/tmp/here")
print("ready", flush=True)
for line in sys.stdin:
    for place in held: place.check()
    large.seek(0); assert large.read() == b"l" * (3 << 20)
    assert not os.path.exists("/tmp/here") and os.stat(".").st_nlink == 0
    print("has everything after", line.strip(), flush=True)
    break
sys.exit(5)
"#;

#[test]
fn files_that_were_deleted_while_they_were_open_are_there_after_a_restore() {
    let stage = stage!();
    let criu = criu_or_skip!();
    for describe in [
        |builder: ContainerBuilder| builder,
        |builder: ContainerBuilder| builder.init(false),
        ContainerBuilder::without_user_namespace,
    ] {
        let writable = |builder: ContainerBuilder| {
            piped(describe(builder.scratch(Some(8 << 20)).tmpfs("/dev/shm", 8 << 20)))
        };
        let mut running = start(writable(stage.container("before").args(["python3", "-c", DELETED])));
        assert_eq!(line_of(&mut BufReader::new(running.take_stdout().unwrap())), "ready\n");
        let image = image_of(running, &criu, &stage);
        has_everything(restore(writable(stage.container("after")), &image, &criu).unwrap());
        std::fs::remove_dir_all(image.path()).unwrap();
    }
    assert_nothing_left(&stage);
}

#[test]
fn hooks_before_the_pivot_find_the_host_and_the_root_of_a_restored_container() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let heard = stage.open_directory("heard");
    let script = format!("mkdir -p /tmp; {COUNTER}");
    let with_hooks = |name: &str| {
        let rootfs = stage.busybox();
        let hook =
            |script: String| HookBuilder::default().path("/bin/sh").args(["sh".into(), "-c".into(), script]);
        let runtime = format!(
            "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); \
             nsenter -t $pid -m test -d {0}/dev/pts -a -d /etc && echo found >{1}/{name}-runtime",
            rootfs.display(),
            heard.display()
        );
        let container =
            format!("test -d dev/pts -a -d /etc && echo found >{}/{name}-container", heard.display());
        let env = ["PATH=/usr/bin:/bin".to_owned()];
        stage
            .busybox_shell(name, &script)
            .scratch(Some(1 << 20))
            .hook(HookKind::CreateRuntime, hook(runtime).env(env.clone()).build().unwrap())
            .hook(HookKind::CreateContainer, hook(container).env(env).build().unwrap())
    };
    let before = start(with_hooks("before"));
    until("it counts", || count(&before) > 3);
    let image = image_of(before, &criu, &stage);
    let created = restore(with_hooks("after"), &image, &criu).unwrap();
    let held = count(&created);
    let running = created.start().unwrap();
    until("it goes on", || count(&running) > held + 3);
    // Each container has ids of its own, and makes files of its own.
    for file in ["before-runtime", "before-container", "after-runtime", "after-container"] {
        assert_eq!(std::fs::read_to_string(heard.join(file)).unwrap(), "found\n", "{file}");
    }
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", running.init_pid())).unwrap();
    assert!(!mounts.contains(stage.path().to_str().unwrap()), "{mounts}");
    running.kill().unwrap().delete().unwrap();
    assert_nothing_left(&stage);
}

#[test]
fn the_memory_of_restored_processes_counts_against_the_new_limit() {
    let stage = stage!();
    let criu = criu_or_skip!();
    if !may_limit("memory") {
        skip!("no limit of memory can be set here");
    }
    let image = image_of_rich(&stage, &criu, |builder| builder.memory_limit(256 << 20).pids_limit(64));
    let limited = |size| piped(stage.container("after")).memory_limit(size).pids_limit(64);
    let error = restore(limited(3 << 20), &image, &criu).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unsupported { .. } | ErrorKind::Ended), "{error:?}");
    assert_nothing_left(&stage);
    has_everything(restore(limited(256 << 20), &image, &criu).unwrap());
    assert_nothing_left(&stage);
}

#[test]
fn a_file_of_a_bind_is_opened_again_if_it_is_still_what_it_was() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let (bound, writable) = (stage.readable_directory("bound"), stage.open_directory("writable"));
    std::fs::write(bound.join("input"), "first\nsecond\n").unwrap();
    let file = stage.readable_directory("files").join("file");
    std::fs::write(&file, "of the host\n").unwrap();
    let script = "exec 4</bound/input 5>>/writable/output; read line <&4; echo $line >&5; echo 4 >/tmp/count; \
                  read go; read line <&4; echo $line >&5; cat /opt/new/file >&5";
    let with_binds = |name: &str| {
        let builder = stage.shell(name, script).tmpfs("/tmp", 1 << 20).stdin(Stdio::piped());
        // The scratch gets a file for the mount of a file.
        let builder = builder.scratch(Some(1 << 20)).bind_ro(&file, "/opt/new/file");
        builder.bind_ro(&bound, "/bound").bind_rw(&writable, "/writable")
    };
    let running = start(with_binds("before"));
    until("it has read a line", || count(&running) == 4);
    let image = image_of(running, &criu, &stage);
    // Of another size, and then not there.
    std::fs::write(bound.join("input"), "first\n").unwrap();
    let refused = |words: &str| {
        let error = restore(with_binds("after"), &image, &criu).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    };
    refused("bound/input");
    std::fs::remove_file(bound.join("input")).unwrap();
    refused("bound/input");
    std::fs::write(bound.join("input"), "FIRST\nSECOND\n").unwrap();
    let mut created = restore(with_binds("after"), &image, &criu).unwrap();
    created.take_stdin().unwrap().write_all(b"go\n").unwrap();
    let stopped = created.start().unwrap().wait_stopped().unwrap();
    assert!(stopped.exit().outcome.success(), "{:?}", stopped.exit());
    assert_eq!(std::fs::read_to_string(writable.join("output")).unwrap(), "first\nSECOND\nof the host\n");
    stopped.delete().unwrap();
}

#[test]
fn a_pipe_that_the_new_configuration_lacks_becomes_the_null_device() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let script = "echo 4 >/tmp/count; read go; echo said; exec sh -c 'exit 6'";
    let scratch = |name: &str| stage.shell(name, script).scratch(Some(1 << 20));
    let running = start(scratch("before").stdin(Stdio::piped()).stdout(Stdio::piped()));
    until("it waits", || count(&running) == 4);
    let image = image_of(running, &criu, &stage);
    let running = restore(scratch("after"), &image, &criu).unwrap().start().unwrap();
    // It reads the end of its input, and writes to no one.
    let stopped = running.wait_stopped().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 6 });
    stopped.delete().unwrap();
    assert_nothing_left(&stage);
}

#[test]
fn what_takes_the_place_of_a_file_after_the_image_was_opened_is_refused() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_counter(&stage, &criu);
    let aside = stage.path().join("aside");
    for file in ["criu/pstree.img", "criu/seccomp.img", "layers/0.tar"] {
        let at = image.path().join(file);
        std::fs::rename(&at, &aside).unwrap();
        // A FIFO without a writer would be waited on.
        rustix::fs::mknodat(CWD, &at, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let error = restore(counter(&stage, "after"), &image, &criu).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotARegularFile, "{file}: {error}");
        std::fs::remove_file(&at).unwrap();
        std::os::unix::fs::symlink(&aside, &at).unwrap();
        let error = restore(counter(&stage, "after"), &image, &criu).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotARegularFile, "{file}: {error}");
        std::fs::remove_file(&at).unwrap();
        let error = restore(counter(&stage, "after"), &image, &criu).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Stale, "{file}: {error}");
        assert!(error.to_string().contains("it is missing"), "{file}: {error}");
        std::fs::rename(&aside, &at).unwrap();
    }
    assert_nothing_left(&stage);
    drop(restore(counter(&stage, "after"), &image, &criu).unwrap());
}

/// Restores with `damage` done to each of CRIU's files in turn, after the image was opened. CRIU may refuse what it reads, or
/// not need it; nothing stays of it either way. Returns how many were refused.
fn refused_with(stage: &Stage, criu: &Criu, image: &Image, damage: impl Fn(&mut Vec<u8>)) -> usize {
    let files: Vec<PathBuf> = image.files().map(|(name, _)| image.path().join(name)).collect();
    let mut refused = 0;
    let is_read = |path: &&PathBuf| path.starts_with(image.path().join("criu"));
    for path in files.iter().filter(is_read) {
        let whole = std::fs::read(path).unwrap();
        let mut damaged = whole.clone();
        damage(&mut damaged);
        std::fs::write(path, &damaged).unwrap();
        match restore(counter(stage, "after"), image, criu) {
            // What its memory has by now may end it at once.
            Ok(created) => drop(created.start()),
            Err(error) => {
                assert_named(path, error.kind());
                refused += 1;
            }
        }
        std::fs::write(path, whole).unwrap();
        assert_nothing_left(stage);
    }
    refused
}

fn assert_named(path: &Path, kind: &ErrorKind) {
    let expected = matches!(kind, ErrorKind::Stale | ErrorKind::Unsupported { .. } | ErrorKind::Ended);
    assert!(expected, "{}: {kind:?}", path.display());
}

#[test]
fn an_image_that_is_damaged_in_any_file_leaves_nothing() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_counter(&stage, &criu);
    let halved = refused_with(&stage, &criu, &image, |bytes| bytes.truncate(bytes.len() / 2));
    assert!(halved > 5, "{halved}");
    // In the first entry, and in the middle.
    for place in [|bytes: &[u8]| 14.min(bytes.len() - 1), |bytes: &[u8]| bytes.len() / 2] {
        let flipped = refused_with(&stage, &criu, &image, |bytes| {
            let place = place(bytes);
            bytes[place] ^= 0x10;
        });
        assert!(flipped > 0);
    }
    // It was the damage.
    let running = restore(counter(&stage, "after"), &image, &criu).unwrap().start().unwrap();
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn criu_reads_what_was_compared_whatever_becomes_of_the_files() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_counter(&stage, &criu);
    for describe in [|builder: ContainerBuilder| builder, ContainerBuilder::without_user_namespace] {
        let building = describe(counter(&stage, "after")).restore(&image, &criu).unwrap().build().unwrap();
        let small =
            ["seccomp.img", "core-2.img", "pstree.img"].map(|name| image.path().join("criu").join(name));
        let whole = small.each_ref().map(|path| std::fs::read(path).unwrap());
        small.iter().for_each(|path| std::fs::write(path, "another").unwrap());
        let created = building.create().unwrap();
        let held = count(&created);
        let running = created.start().unwrap();
        until("it goes on", || count(&running) > held + 3);
        running.kill().unwrap().delete().unwrap();
        assert_eq!(
            *describe(counter(&stage, "late")).restore(&image, &criu).unwrap_err().kind(),
            ErrorKind::Stale
        );
        small.iter().zip(whole).for_each(|(path, whole)| std::fs::write(path, whole).unwrap());
    }
    assert_nothing_left(&stage);
}

#[test]
fn memory_that_is_cut_or_replaced_after_the_image_was_opened_ends_a_restore_soon() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_counter(&stage, &criu);
    let pages = image.path().join("criu/pages-1.img");
    let aside = stage.path().join("aside");
    std::fs::rename(&pages, &aside).unwrap();
    let whole = std::fs::read(&aside).unwrap();
    let refused = |words: &str| {
        let begun = Instant::now();
        let error = restore(counter(&stage, "after"), &image, &criu).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        assert_eq!(*error.kind(), ErrorKind::Stale, "{error}");
        let named = error.to_string().contains("criu/pages-1.img was changed during the restore: ");
        assert!(named && error.to_string().contains(words), "{error}");
        std::fs::remove_file(&pages).unwrap();
        assert_nothing_left(&stage);
    };
    std::fs::write(&pages, &whole[..whole.len() - 1]).unwrap();
    refused(&format!("it has {} bytes, and had {}", whole.len() - 1, whole.len()));
    rustix::fs::mknodat(CWD, &pages, FileType::Fifo, Mode::RUSR, 0).unwrap();
    refused("it is no regular file");
    std::fs::rename(&aside, &pages).unwrap();
    drop(restore(counter(&stage, "after"), &image, &criu).unwrap());
    assert_nothing_left(&stage);
}

#[test]
fn the_files_of_another_containers_image_are_refused() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let image = image_of_counter(&stage, &criu);
    let running =
        start(stage.shell("other", "echo 4 >/tmp/count; read go; sleep 1000").scratch(Some(1 << 20)));
    until("it is there", || count(&running) == 4);
    let other = stage.path().join("other");
    running.snapshot(&criu, &other).unwrap();
    running.kill().unwrap().delete().unwrap();
    std::fs::copy(image.path().join("criu/core-2.img"), other.join("criu/core-2.img")).unwrap();
    let error = Image::open(&other).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Stale);
    assert!(error.to_string().contains("criu/core-2.img"), "{error}");
    std::fs::remove_dir_all(other).unwrap();
    assert_nothing_left(&stage);
}
