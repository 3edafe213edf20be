//! Daemons that tests start.

use crate::kit::{await_end, is_readable_within};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a daemon may take to be ready.
const LIMIT: Duration = Duration::from_secs(30);

/// A daemon. It ends with its value.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Starts one that says when it is ready, as sd_notify(3) does, and waits until then. What it says goes to a file in
    /// `directory`.
    pub(crate) fn start(command: &mut Command, directory: &Path) -> Result<Self, String> {
        let path = directory.join("ready");
        let socket = UnixDatagram::bind(&path).map_err(|error| format!("{path:?}: {error}"))?;
        let log = directory.join("log");
        let file = File::create(&log).expect("a file for the log");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a copy")).stderr(file);
        let child =
            command.env("NOTIFY_SOCKET", &path).spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let daemon = Self(child);
        let end = pidfd_open(daemon.pid(), PidfdFlags::empty()).expect("a child has a pidfd");
        let mut message = [0; 512];
        loop {
            wait_for_either(&socket, &end);
            if !is_readable_within(&socket, Duration::ZERO) {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                return Err(format!("{command:?} does not become ready: {}", said.trim_end()));
            }
            let length = socket.recv(&mut message).expect("a message");
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return Ok(daemon);
            }
        }
    }

    /// Starts one that does not say when it is ready. What it says goes to the file `log`.
    pub(crate) fn launch(command: &mut Command, log: &Path) -> Self {
        let file = File::create(log).expect("a file for the log");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a copy")).stderr(file);
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.pid(), Signal::TERM);
        await_end(self.pid().as_raw_nonzero().get());
        let _ = self.0.wait();
    }
}

/// Until one of them is readable, or the time is over.
fn wait_for_either(one: &impl std::os::fd::AsFd, other: &impl std::os::fd::AsFd) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = Timespec { tv_sec: LIMIT.as_secs().cast_signed(), tv_nsec: 0 };
    let _ = poll(&mut [PollFd::new(one, PollFlags::IN), PollFd::new(other, PollFlags::IN)], Some(&limit));
}
