//! Terminals: what a workload has, what the holder of the other end can do, and which process holds it.

use crate::kit::witness::descriptors;
use crate::kit::{Stage, is_readable_within, is_root, skip, stage};
use cofferdam::terminal::WindowSize;
use cofferdam::{Container, ContainerBuilder, ErrorKind, Exec, Outcome, Pty, Running, Signal, Stdio};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// How long a terminal may stay silent.
const LIMIT: Duration = Duration::from_secs(20);

/// A person at a terminal.
struct Person {
    pty: Pty,
    seen: String,
}

impl Person {
    fn at(pty: Pty) -> Self {
        Self { pty, seen: String::new() }
    }

    /// What is typed is echoed: what is waited for has to look different.
    fn types(&mut self, text: &str) {
        self.pty.write_all(text.as_bytes()).expect("the terminal takes it");
    }

    /// Waits until `text` shows, after what was waited for before.
    fn sees(&mut self, text: &str) {
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            assert!(self.reads(), "the terminal ended before {text:?}, after {:?}", self.seen);
        }
    }

    /// Everything up to the end.
    fn sees_the_end(mut self) -> String {
        while self.reads() {}
        self.seen
    }

    fn reads(&mut self) -> bool {
        assert!(is_readable_within(&self.pty, LIMIT), "nothing comes after {:?}", self.seen);
        let mut bytes = [0; 4096];
        let count = self.pty.read(&mut bytes).expect("a terminal to read");
        self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        count > 0
    }
}

/// Starts the container, and sits down at its terminal.
fn start(builder: ContainerBuilder) -> (Container<Running>, Person) {
    let mut created = builder.build().unwrap().create().unwrap();
    let pty = created.take_pty().expect("a terminal was asked for");
    assert!(created.take_pty().is_none(), "there is one");
    (created.start().unwrap(), Person::at(pty))
}

/// An interactive bash, past its prompt.
fn bash(stage: &Stage, name: &str) -> (Container<Running>, Person) {
    let builder = stage.container(name).args(["bash", "--norc", "--noprofile", "-i"]).env("PS1", "ready> ");
    let (running, mut person) = start(builder.terminal());
    person.sees("ready> ");
    (running, person)
}

fn exit_code(running: &Container<Running>) -> Outcome {
    running.wait_timeout(LIMIT).unwrap().expect("it ends").outcome
}

#[test]
fn the_workload_has_a_terminal_of_its_own_and_no_other() {
    let stage = stage!();
    let script = "tty; stty size; stat -c '%t:%T' /dev/pts/0 /dev/console; ls /dev/pts | tr '\\n' ' '; echo
        test -t 0 && test -t 1 && test -t 2 && echo three; echo through > /dev/tty; echo bound > /dev/console
        readlink /proc/self/fd/0";
    let size = WindowSize { rows: 24, columns: 80 };
    let (running, person) = start(stage.shell("own", script).terminal().terminal_size(size));
    let seen = person.sees_the_end();
    let lines: Vec<&str> = seen.lines().collect();
    let expected =
        ["/dev/pts/0", "24 80", "88:0", "88:0", "0 ptmx ", "three", "through", "bound", "/dev/pts/0"];
    assert_eq!(lines, expected);
    assert_eq!(exit_code(&running), Outcome::Exited { code: 0 });
}

#[test]
fn a_terminal_of_an_image_on_disk_is_the_users() {
    if !is_root() {
        skip!("only a privileged caller maps more than one id");
    }
    let stage = stage!();
    let script = "stat -c '%u %a' /dev/pts/0; echo through > /dev/tty && echo again > /dev/console";
    let (running, person) = start(stage.busybox_shell("user", script).user(1000, 1000).terminal());
    assert_eq!(person.sees_the_end(), "1000 620\r\nthrough\r\nagain\r\n");
    assert_eq!(exit_code(&running), Outcome::Exited { code: 0 });
}

#[test]
fn ctrl_c_ends_the_foreground_job_and_not_the_shell() {
    let stage = stage!();
    let (running, mut person) = bash(&stage, "interrupt");
    person.types("sh -c 'echo be''gun; exec sleep 1000'\n");
    person.sees("begun");
    person.types("\x03");
    person.sees("ready> ");
    person.types("echo status=$?\n");
    person.sees("status=130");
    person.types("exit 3\n");
    assert_eq!(exit_code(&running), Outcome::Exited { code: 3 });
}

#[test]
fn a_signal_to_the_foreground_is_for_the_job_there_and_not_for_the_shell() {
    let stage = stage!();
    let (running, mut person) = bash(&stage, "foreground");
    person.types("sh -c 'echo be''gun; exec sleep 1000'\n");
    person.sees("begun");
    running.signal_foreground(2, Signal::TERM).unwrap();
    person.sees("ready> ");
    person.types("echo status=$?\n");
    person.sees("status=143");
    person.types("exit 3\n");
    assert_eq!(exit_code(&running), Outcome::Exited { code: 3 });
}

#[test]
fn ctrl_z_stops_a_job_and_fg_continues_it() {
    let stage = stage!();
    let (running, mut person) = bash(&stage, "suspend");
    person.types("sh -c 'echo be''gun; read line; echo got-$line; exit 5'\n");
    person.sees("begun");
    person.types("\x1a");
    person.sees("Stopped");
    person.sees("ready> ");
    person.types("fg\n");
    person.sees("fg\r\n");
    person.types("words\n");
    person.sees("got-words");
    person.sees("ready> ");
    person.types("exit $?\n");
    assert_eq!(exit_code(&running), Outcome::Exited { code: 5 });
}

#[test]
fn a_resize_reaches_the_workload_as_a_signal_and_a_size() {
    let stage = stage!();
    let script = "trap 'stty size; exit 0' WINCH; echo ready; sleep 1000 & wait";
    let (running, mut person) = start(stage.shell("resize", script).terminal());
    person.sees("ready");
    let size = WindowSize { rows: 40, columns: 132 };
    person.pty.resize(size).unwrap();
    person.sees("40 132");
    assert_eq!(person.pty.size().unwrap(), size);
    assert_eq!(exit_code(&running), Outcome::Exited { code: 0 });
}

#[test]
fn only_the_caller_holds_the_terminal_so_dropping_it_hangs_up() {
    let stage = stage!();
    let script = "trap 'exit 7' HUP; echo ready; sleep 1000 & wait";
    let (running, mut person) = start(stage.shell("hangup", script).terminal());
    person.sees("ready");
    drop(person);
    assert_eq!(exit_code(&running), Outcome::Exited { code: 7 });

    let (running, person) = bash(&stage, "hangup-bash");
    if is_root() {
        let sandbox = descriptors(&running.sandbox_pid().to_string());
        assert!(!sandbox.values().any(|to| to.contains("ptmx") || to.contains("pts/")), "{sandbox:?}");
    }
    drop(person);
    assert!(matches!(exit_code(&running), Outcome::Exited { .. } | Outcome::Signalled { .. }));
}

#[test]
fn a_terminal_that_was_not_taken_lives_as_long_as_the_container() {
    let stage = stage!();
    let exit = stage.shell("untaken", "echo hello; test -t 1").terminal().run().unwrap();
    assert_eq!(exit.outcome, Outcome::Exited { code: 0 });
}

#[test]
fn a_console_socket_gets_the_terminal_once() {
    let stage = stage!();
    // Longer than a socket address: the path goes through its directory.
    let directory = stage.path().join("a".repeat(120));
    std::fs::create_dir(&directory).unwrap();
    let short = stage.path().join("console.sock");
    let listener = UnixListener::bind(&short).unwrap();
    std::fs::rename(&short, directory.join("console.sock")).unwrap();

    let script = "echo hello; read line; echo got-$line";
    let builder = stage.shell("socket", script).console_socket(directory.join("console.sock"));
    let mut created = builder.build().unwrap().create().unwrap();
    assert!(created.take_pty().is_none(), "it went to the socket");
    let (mut stream, _) = listener.accept().unwrap();
    let (words, mut fds) = receive(&stream);
    assert_eq!((words.as_str(), fds.len()), ("/dev/ptmx", 1));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed after that");
    drop(stream);

    let running = created.start().unwrap();
    let mut terminal = std::fs::File::from(fds.remove(0));
    terminal.write_all(b"words\n").unwrap();
    assert_eq!(exit_code(&running), Outcome::Exited { code: 0 });
    let mut seen = Vec::new();
    // EIO at the end: this is a plain file.
    let _ = terminal.read_to_end(&mut seen);
    assert!(String::from_utf8_lossy(&seen).contains("got-words"), "{seen:?}");
}

fn receive(stream: &std::os::unix::net::UnixStream) -> (String, Vec<OwnedFd>) {
    let mut bytes = [0; 256];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let count = recvmsg(stream, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    (String::from_utf8_lossy(&bytes[..count]).into_owned(), fds)
}

#[test]
fn a_console_socket_without_a_listener_is_creates_error_and_leaves_nothing() {
    let stage = stage!();
    let path = stage.path().join("nobody.sock");
    let error = stage.shell("deaf", "true").console_socket(&path).build().unwrap().create().unwrap_err();
    let error = cofferdam::Error::from(error);
    assert_eq!(error.kind(), &ErrorKind::Os(2), "{error}");
    assert!(error.to_string().starts_with("connect(console socket, "), "{error}");
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());

    drop(UnixListener::bind(&path).unwrap());
    let error = stage.shell("deaf", "true").console_socket(&path).build().unwrap().create().unwrap_err();
    assert_eq!(cofferdam::Error::from(error).raw_os_error(), Some(111));
    std::fs::remove_file(&path).unwrap();
}

/// A bundle of a shell that runs `script`, its process edited.
fn bundle(stage: &Stage, script: &str, edit: impl FnOnce(&mut Value)) -> std::path::PathBuf {
    stage.write_bundle("bundle", stage.shell("bundle", script), |config| edit(&mut config["process"]))
}

#[test]
fn a_terminal_that_no_method_takes_is_creates_error() {
    let stage = stage!();
    let directory = bundle(&stage, "tty", |process| process["terminal"] = json!(true));
    let load = || stage.bundled("bundle", &directory).unwrap();
    let error = cofferdam::Error::from(load().build().unwrap().create().unwrap_err());
    let expected = "config.json: process.terminal: nothing takes the terminal (ask the builder for `terminal()` or a \
                    `console_socket(path)`, or set it to false)";
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error.kind(), ErrorKind::InvalidSpec { path } if path == "process.terminal"));

    let error = load().terminal().stdout(Stdio::piped()).build().unwrap().create().unwrap_err();
    assert!(error.to_string().contains("process.terminal: the process has a terminal"));

    let (running, person) = start(load().terminal());
    assert_eq!(person.sees_the_end(), "/dev/pts/0\r\n");
    assert_eq!(exit_code(&running), Outcome::Exited { code: 0 });
}

#[test]
fn a_console_size_without_a_terminal_is_ignored() {
    // "Runtimes MUST ignore `consoleSize` if `terminal` is `false` or unset" - OCI config.md
    let stage = stage!();
    let directory = bundle(&stage, "test -t 0 || echo none", |process| {
        process["consoleSize"] = json!({"height": 10, "width": 20});
    });
    assert_eq!(crate::kit::stdout_of(stage.bundled("bundle", &directory).unwrap()), "none");
}

#[test]
fn a_console_size_of_a_bundle_is_what_the_terminal_starts_with() {
    let stage = stage!();
    let directory = bundle(&stage, "stty size", |process| {
        process["terminal"] = json!(true);
        process["consoleSize"] = json!({"height": 10, "width": 20});
    });
    let (_running, person) = start(stage.bundled("bundle", &directory).unwrap().terminal());
    assert_eq!(person.sees_the_end(), "10 20\r\n");
}

#[test]
fn many_terminals_at_once_are_each_number_zero() {
    let stage = stage!();
    let all: Vec<_> =
        (0..4).map(|n| start(stage.shell(&format!("many-{n}"), "tty; read line").terminal())).collect();
    for (running, mut person) in all {
        person.sees("/dev/pts/0");
        person.types("\n");
        assert_eq!(exit_code(&running), Outcome::Exited { code: 0 });
    }
}

#[test]
fn an_executed_process_has_a_terminal_and_job_control_too() {
    let stage = stage!();
    let running =
        stage.container("exec").args(["sleep", "1000"]).build().unwrap().create().unwrap().start().unwrap();
    let size = WindowSize { rows: 33, columns: 77 };
    let exec = Exec::new(["bash", "--norc", "--noprofile", "-i"]).env("PS1", "ready> ");
    let mut process = running.exec(exec.terminal().terminal_size(size)).unwrap();
    let mut person = Person::at(process.take_pty().expect("a terminal was asked for"));
    assert!(process.take_pty().is_none(), "there is one");
    person.sees("ready> ");
    person.types("tty; stty size; test -e /dev/console || echo no''ne\n");
    person.sees("/dev/pts/0\r\n33 77\r\nnone");
    person.types("sh -c 'echo be''gun; exec sleep 1000'\n");
    person.sees("begun");
    person.types("\x03");
    person.sees("ready> ");
    person.types("echo status=$?\n");
    person.sees("status=130");

    let mut second = running.exec(Exec::new(["tty"]).terminal()).unwrap();
    let seen = Person::at(second.take_pty().unwrap()).sees_the_end();
    assert_eq!(seen, "/dev/pts/1\r\n");

    drop(person);
    let end = process.wait_timeout(LIMIT).unwrap().expect("hanging up ends a shell");
    assert!(!end.outcome.success(), "{end:?}");
    let error = running.exec(Exec::new(["tty"]).terminal().stdout(Stdio::piped())).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidSpec { path } if path == "process.terminal"), "{error}");
    drop(running);
}
