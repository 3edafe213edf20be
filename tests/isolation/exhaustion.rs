//! A hostile container uses up all that it can get of the kernel's resources and holds it; meanwhile another container
//! is created, executes, works on files, is counted and deleted, and nothing of that fails.
//!
//! The attacker is this test's own program, in a default container that is limited only where the host would suffer: in
//! memory and processes.

#![expect(clippy::disallowed_methods, reason = "the attacker and the test use plain files")]
#![expect(clippy::print_stdout, reason = "shows what an attack costs a victim")]
#![expect(unsafe_code, reason = "no safe crate has timers, queued signals and message queues")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "calls of one purpose, in their order")]

use crate::kit::{Stage, may_limit, note_skip, stage, start};
use cofferdam::{Container, Exec, Running, Stdio};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// What the environment of the attacker names.
const ATTACK: &str = "EXHAUST";
/// The most of anything that the attacker takes: more than any limit that a workload has by default.
const MOST: usize = 1 << 16;
/// The most memory that it writes to file systems and pipes.
const MOST_BYTES: usize = 24 << 20;
/// The size of the file by which it keeps the disk busy: more than its memory holds.
const ON_DISK: u64 = 128 << 20;
/// What a victim's work may take beyond twice its time without an attacker: the machine does other things, too.
const SLACK: Duration = Duration::from_secs(2);
/// How many programs the host executes in the attacker, each of which never ends and reads and writes without end.
const SESSIONS: u64 = 24;

/// A resource, and how to take all of it. The value holds it; the number is how much there was.
type Attack = fn() -> (usize, Box<dyn std::any::Any>);

/// What the kernel counts for a user, which containers with the same ids on the host share.
const OF_THE_USER: &[(&str, Attack)] = &[
    ("descriptors in flight", descriptors_in_flight),
    ("inotify instances", || take(|| rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::empty()))),
    ("pages of pipes", large_pipes),
    ("queued signals", queued_signals),
    ("timers", timers),
    ("message queues", message_queues),
];

/// What a container has of its own, or must not get.
const OF_THE_CONTAINER: &[(&str, Attack)] = &[
    ("descriptors", || take(|| rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty()))),
    ("terminals", || take(|| rustix::fs::open("/dev/ptmx", OFlags::RDWR | OFlags::NOCTTY, Mode::empty()))),
    ("sockets", sockets_with_names),
    ("space in /tmp", || fill(Path::new("/tmp"))),
    ("space in /dev/shm", || fill(Path::new("/dev/shm"))),
    ("names that are not there", missing_names),
    ("processes", processes),
    ("leases", refused_leases),
    ("keys", refused_keys),
    ("mounts", refused_mounts),
    ("cgroups", refused_cgroups),
    ("its own output", flooded_output),
    ("page cache and disk", busy_disk),
];

/// What a default container gets none of.
const REFUSED: &[&str] = &["leases", "keys", "mounts", "cgroups"];

/// Takes one after the other until the kernel refuses.
fn take<T: 'static>(mut one: impl FnMut() -> rustix::io::Result<T>) -> (usize, Box<dyn std::any::Any>) {
    let held: Vec<T> = std::iter::from_fn(|| one().ok()).take(MOST).collect();
    (held.len(), Box::new(held))
}

fn descriptors_in_flight() -> (usize, Box<dyn std::any::Any>) {
    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
        sendmsg, socketpair,
    };
    let null = File::open("/dev/null").unwrap();
    let batch = [null.as_fd(); 128];
    let (mut sent, mut held) = (0, Vec::new());
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(128))];
    'all: for _ in 0..256 {
        let flags = SocketFlags::NONBLOCK;
        let Ok(pair) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None) else { break };
        loop {
            let mut message = SendAncillaryBuffer::new(&mut space);
            assert!(message.push(SendAncillaryMessage::ScmRights(&batch)));
            match sendmsg(&pair.0, &[std::io::IoSlice::new(b"x")], &mut message, SendFlags::empty()) {
                Ok(_) if sent < MOST => sent += batch.len(),
                Err(Errno::AGAIN) => break,
                _ => {
                    held.push(pair);
                    break 'all;
                }
            }
        }
        held.push(pair);
    }
    (sent, Box::new(held))
}

fn large_pipes() -> (usize, Box<dyn std::any::Any>) {
    take(|| {
        let (read, write) = rustix::pipe::pipe()?;
        rustix::pipe::fcntl_setpipe_size(&write, 1 << 20)?;
        Ok((read, write))
    })
}

fn queued_signals() -> (usize, Box<dyn std::any::Any>) {
    let signal = libc::SIGRTMIN() + 5;
    // SAFETY: the set is initialised by sigemptyset before it is used, and the calls keep no pointer.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
    // To this thread, which blocks the signal: another one would die of it. The kernel queues each real-time signal.
    // SAFETY: the calls take numbers, and this thread is there.
    let queue = || unsafe { libc::pthread_kill(libc::pthread_self(), signal) };
    take(|| if queue() == 0 { Ok(()) } else { Err(Errno::AGAIN) })
}

fn timers() -> (usize, Box<dyn std::any::Any>) {
    take(|| {
        // SAFETY: the event is all zeroes but for its kind, which makes the kernel look at nothing else in it; the timer
        // is written to by the call.
        let made = unsafe {
            let (mut timer, mut event) = (std::mem::zeroed(), std::mem::zeroed::<libc::sigevent>());
            event.sigev_notify = libc::SIGEV_NONE;
            libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer)
        };
        if made == 0 { Ok(()) } else { Err(Errno::AGAIN) }
    })
}

fn message_queues() -> (usize, Box<dyn std::any::Any>) {
    let mut number = 0;
    take(|| {
        number += 1;
        let name = std::ffi::CString::new(format!("/exhaust-{number}")).unwrap();
        // SAFETY: the name is a C string; without attributes the kernel takes its own.
        let queue = unsafe {
            libc::mq_open(
                name.as_ptr(),
                libc::O_CREAT | libc::O_RDWR,
                0o600,
                std::ptr::null::<libc::mq_attr>(),
            )
        };
        if queue >= 0 { Ok(()) } else { Err(Errno::NOSPC) }
    })
}

fn sockets_with_names() -> (usize, Box<dyn std::any::Any>) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let mut number = 0;
    take(|| {
        number += 1;
        let name = SocketAddr::from_abstract_name(format!("exhaust-{number}")).unwrap();
        UnixListener::bind_addr(&name).map_err(|_| Errno::MFILE)
    })
}

/// Writes until there is no space left, or the bound is reached.
fn fill(directory: &Path) -> (usize, Box<dyn std::any::Any>) {
    let Ok(mut file) = File::create(directory.join("filler")) else { return (0, Box::new(())) };
    let mut size = 0;
    while size < MOST_BYTES && file.write_all(&[1; 1 << 16]).is_ok() {
        size += 1 << 16;
    }
    let files = (0..MOST / 8).take_while(|number| File::create(directory.join(format!("f{number}"))).is_ok());
    (size + files.count(), Box::new(file))
}

fn missing_names() -> (usize, Box<dyn std::any::Any>) {
    (0..MOST).for_each(|number| drop(std::fs::metadata(format!("/tmp/missing-{number}"))));
    (MOST, Box::new(()))
}

/// Children that wait for the end of this process. Bounded also where the container is not.
fn processes() -> (usize, Box<dyn std::any::Any>) {
    let child = || std::process::Command::new("sleep").arg("1000").spawn();
    let held: Vec<_> = std::iter::from_fn(|| child().ok()).take(100).collect();
    (held.len(), Box::new(held))
}

fn refused(what: &str, errno: Option<i32>, expected: &[i32]) -> (usize, Box<dyn std::any::Any>) {
    assert!(errno.is_some_and(|errno| expected.contains(&errno)), "{what}: {errno:?}");
    (0, Box::new(()))
}

fn last_errno() -> Option<i32> {
    std::io::Error::last_os_error().raw_os_error()
}

fn refused_leases() -> (usize, Box<dyn std::any::Any>) {
    let file = File::create("/tmp/leased").unwrap();
    // SAFETY: the command takes a number.
    let taken = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
    refused("a lease", (taken < 0).then(last_errno).flatten(), &[libc::EPERM])
}

fn refused_keys() -> (usize, Box<dyn std::any::Any>) {
    const SESSION: i64 = -3;
    // SAFETY: the strings end with NUL, and the key has no payload.
    let key = unsafe { libc::syscall(libc::SYS_add_key, c"keyring".as_ptr(), c"k".as_ptr(), 0, 0, SESSION) };
    refused("a key", (key < 0).then(last_errno).flatten(), &[libc::EPERM, libc::ENOSYS])
}

fn refused_mounts() -> (usize, Box<dyn std::any::Any>) {
    let mounted = rustix::mount::mount("x", "/tmp", "tmpfs", rustix::mount::MountFlags::empty(), None);
    refused("a mount", mounted.err().map(Errno::raw_os_error), &[libc::EPERM])
}

fn refused_cgroups() -> (usize, Box<dyn std::any::Any>) {
    let made = std::fs::create_dir("/sys/fs/cgroup/exhaust");
    let errno = made.err().and_then(|error| error.raw_os_error());
    refused("a cgroup", errno, &[libc::EROFS, libc::EACCES, libc::EPERM, libc::ENOENT])
}

/// One thread writes a file again and again, more than its memory holds, and another reads it: all pages of it are dirty,
/// and every page that is read throws out another.
fn busy_disk() -> (usize, Box<dyn std::any::Any>) {
    let writer = File::create("/disk/busy").unwrap();
    let reader = File::open("/disk/busy").unwrap();
    let chunk = vec![1; 1 << 20];
    let mut offsets = (0..ON_DISK >> 20).map(|number| number << 20).cycle();
    let mut step = move || writer.write_all_at(&chunk, offsets.next().unwrap());
    (0..ON_DISK >> 20).for_each(|_| step().unwrap());
    std::thread::spawn(move || while step().is_ok() {});
    std::thread::spawn(move || {
        let mut chunk = vec![0; 1 << 20];
        for offset in (0..ON_DISK >> 20).map(|number| number << 20).cycle() {
            let _ = reader.read_at(&mut chunk, offset);
        }
    });
    (usize::try_from(ON_DISK).unwrap(), Box::new(()))
}

/// Nothing reads standard error.
fn flooded_output() -> (usize, Box<dyn std::any::Any>) {
    let stderr: OwnedFd = rustix::io::dup(rustix::stdio::stderr()).unwrap();
    rustix::io::ioctl_fionbio(&stderr, true).unwrap();
    take(move || rustix::io::write(&stderr, &[b'x'; 4096]).map(drop))
}

/// The attacker, when it is executed in its container.
#[test]
fn attacker() {
    let Ok(name) = std::env::var(ATTACK) else { return };
    let all = OF_THE_USER.iter().chain(OF_THE_CONTAINER);
    let (_, attack) = all.into_iter().find(|(known, _)| *known == name).expect("a known attack");
    let (count, held) = attack();
    // The harness writes to standard output, too.
    let mut ready = std::io::stdout();
    ready.write_all(format!("\nholds {count}\n").as_bytes()).unwrap();
    ready.flush().unwrap();
    loop {
        std::thread::park();
        std::hint::black_box(&held);
    }
}

/// Starts the attacker, and waits until it holds all that it gets.
fn attack(stage: &Stage, name: &str, place: &Path) -> (Container<Running>, usize) {
    let disk = stage.path().join("disk");
    if !disk.exists() {
        stage.open_directory("disk");
    }
    let builder = stage.container(&format!("attacker-{}", name.replace([' ', '/'], "-")));
    let builder = builder.bind_rw(disk, "/disk");
    let builder = builder.args(["/tmp/attacker", "--exact", "exhaustion::attacker", "--nocapture"]);
    let mut builder = builder.bind_ro(place, "/tmp/attacker").env(ATTACK, name);
    if may_limit("memory") {
        builder = builder.memory_limit(96 << 20);
    }
    if may_limit("pids") {
        builder = builder.pids_limit(48);
    }
    let (reader, writer) = std::io::pipe().unwrap();
    let running = start(builder.stdout(Stdio::fd(writer)).stderr(Stdio::piped()));
    let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
    let count = lines.find_map(|line| line.strip_prefix("holds ").map(str::to_owned));
    let count = count.unwrap_or_else(|| panic!("{name}: the attacker failed before it held anything"));
    (running, count.parse().unwrap())
}

/// Everything that a caller does with a container, and how long that takes. Panics with what failed under which attack.
fn a_victim_lives(stage: &Stage, attack: &str) -> Duration {
    let begun = Instant::now();
    let step = |what: &str| format!("{what}, while another container uses up {attack}");
    let id = format!("victim-{}", attack.replace([' ', '/'], "-"));
    let victim = stage.shell(&id, "cat; sleep 1000").stdin(Stdio::piped()).stdout(Stdio::piped());
    let victim =
        victim.build().unwrap().create().unwrap_or_else(|error| panic!("{}: {error}", step("create")));
    let victim = victim.start().unwrap_or_else(|error| panic!("{}: {error}", step("start")));
    let done = || -> cofferdam::Result<()> {
        for _ in 0..3 {
            // A terminal, too.
            let output =
                victim.exec_output(Exec::new(["sh", "-c", "exec 3<>/dev/ptmx && echo it works | cat"]))?;
            assert_eq!(output.stdout, b"it works\n", "{}", step("exec"));
            let files = victim.files()?;
            files.write("/tmp/file", "text", 0o600)?;
            assert_eq!(files.read("/tmp/file", 16)?, b"text", "{}", step("files"));
            files.list("/tmp")?;
            victim.stats()?;
            victim.processes()?;
        }
        Ok(())
    };
    done().unwrap_or_else(|error| panic!("{}: {error}", step("work")));
    let stopped = victim.kill().unwrap_or_else(|error| panic!("{}: {error}", step("kill")));
    stopped.delete().unwrap_or_else(|error| panic!("{}: {error}", step("delete")));
    begun.elapsed()
}

/// That a victim lives, and that its work takes no longer than it does `alone`.
fn a_victim_lives_as_before(stage: &Stage, attack: &str, alone: Duration) {
    let beside = a_victim_lives(stage, attack);
    println!("{attack}: a victim's work takes {beside:.1?}, and {alone:.1?} without an attacker");
    assert!(beside <= 2 * alone + SLACK, "{attack}: {beside:?}, and {alone:?} without");
}

/// The host's ids of the container's processes.
fn host_ids(container: &Container<Running>) -> String {
    std::fs::read_to_string(format!("/proc/{}/uid_map", container.init_pid())).unwrap()
}

fn attack_with(stage: &Stage, attacks: &[(&str, Attack)]) {
    let place = std::env::current_exe().unwrap();
    let alone = a_victim_lives(stage, "nothing");
    for (name, _) in attacks {
        let (attacker, count) = attack(stage, name, &place);
        assert!(count > 0 || REFUSED.contains(name), "{name}: the attacker got nothing");
        a_victim_lives_as_before(stage, name, alone);
        attacker.kill().unwrap().delete().unwrap();
    }
}

#[test]
fn a_victim_lives_while_another_container_uses_up_what_it_has() {
    let stage = stage!();
    attack_with(&stage, OF_THE_CONTAINER);
}

#[test]
fn a_victim_lives_while_another_container_uses_up_what_its_user_has() {
    let stage = stage!();
    let (one, other) = (start(stage.shell("one", "sleep 1000")), start(stage.shell("other", "sleep 1000")));
    let shared = host_ids(&one) == host_ids(&other);
    for container in [one, other] {
        container.kill().unwrap().delete().unwrap();
    }
    if shared {
        note_skip("the containers of this user share ids of the host, and what the kernel counts for them");
        return;
    }
    attack_with(&stage, OF_THE_USER);
}

/// A container opens no session of exec by itself. It can make those that its host opens hang: they read nothing, write
/// without end, stop themselves, and leave no process for another.
#[test]
fn a_victim_lives_while_the_sessions_in_another_container_hang() {
    let stage = stage!();
    let alone = a_victim_lives(&stage, "nothing");
    let mut builder = stage.container("attacker").args(["sleep", "1000"]);
    if may_limit("memory") {
        builder = builder.memory_limit(96 << 20);
    }
    if may_limit("pids") {
        builder = builder.pids_limit(SESSIONS);
    }
    let attacker = start(builder);
    let hang = |number: u64| match number % 3 {
        0 => Exec::new(["cat", "/dev/zero"]),
        1 => Exec::new(["sh", "-c", "kill -STOP $$"]),
        _ => Exec::new(["sleep", "1000"]),
    };
    let session = |number| {
        let exec = hang(number).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        attacker.exec(exec)
    };
    let sessions: Vec<_> = (0..SESSIONS).map_while(|number| session(number).ok()).collect();
    assert!(sessions.len() as u64 >= SESSIONS / 2, "{} sessions", sessions.len());
    // One more: its host is not made to wait to learn whether there can be.
    let begun = Instant::now();
    drop(session(2));
    assert!(begun.elapsed() < SLACK, "after {:?}", begun.elapsed());
    a_victim_lives_as_before(&stage, "sessions of exec", alone);
    // What the attacker's host asks of its sandbox is answered, too.
    let begun = Instant::now();
    assert!(attacker.processes().unwrap().len() > sessions.len());
    attacker.stats().unwrap();
    sessions.iter().for_each(|session| session.kill().unwrap());
    for session in &sessions {
        let ended = session.wait_timeout(10 * SLACK).unwrap();
        assert!(ended.is_some(), "a session does not end");
    }
    assert!(begun.elapsed() < 5 * SLACK, "after {:?}", begun.elapsed());
    attacker.kill().unwrap().delete().unwrap();
}

/// The bytes that this thread wrote to files on disks, and how many of them are in files that were removed before they were
/// on the disk (proc_pid_io(5)); `None` if the kernel does not count them.
fn written() -> Option<(u64, u64)> {
    let counted = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    let find = |name| counted.lines().find_map(|line| line.strip_prefix(name))?.parse().ok();
    Some((find("write_bytes: ")?, find("cancelled_write_bytes: ")?))
}

/// A record that is being written when it is removed is waited for, behind all that another container writes.
#[test]
fn no_record_is_written_to_the_disk_before_it_is_removed() {
    let stage = stage!();
    let life = |number: u32| {
        let before = written()?;
        let container = stage.container(&format!("short-{number}")).args(["sleep", "1000"]);
        start(container).kill().unwrap().delete().unwrap();
        let after = written()?;
        Some((after.0 - before.0, after.1 - before.1))
    };
    // By itself the kernel writes everything down now and then.
    let lives: Vec<_> = (0..5).map_while(life).collect();
    if lives.iter().all(|(written, _)| *written == 0) {
        note_skip("the kernel counts nothing that is written to the file system of these tests");
        return;
    }
    let all_removed = lives.iter().any(|(written, removed)| written <= removed);
    assert!(all_removed, "bytes written, and removed before they were on the disk: {lives:?}");
}
