//! A running `criu swrk`: one process, one connection.
//!
//! ```text
//!   this process --Request--> criu swrk 0   (its standard input is the connection)
//!                <-Response--
//!                <--stderr---               (memory, so that CRIU never waits for a reader)
//! ```

use super::messages::{Request, Response};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::channel::wait_readable;
use prost::Message as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The most bytes of a response: the longest has an error message of one line.
pub(super) const MAX_RESPONSE: usize = 64 << 10;
/// How much of its standard error goes into an error: the last bytes.
const MAX_STDERR: u64 = 2 << 10;
/// What CRIU calls an error, and does not take for one.
const HARMLESS: &str = "rlimit: Can't setup RLIMIT_NOFILE for self";
/// Where CRIU finds the programs that it runs itself, as ip(8) and nft(8).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The process and the connection to it. Dropping it kills the process, with all that it started, and collects it.
pub(super) struct Worker {
    pid: Pid,
    /// Readable when it has ended.
    end: OwnedFd,
    connection: OwnedFd,
    stderr: File,
}

/// What a program did with a request.
pub(super) enum Answer {
    Response(Response),
    /// It closed the connection, after it had written this to its standard error.
    Hangup(String),
}

impl Worker {
    /// Starts `program`. Fails with the errno of execve(2), as when there is no such file.
    pub(super) fn start(program: &Path) -> Result<Self> {
        let (connection, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .os(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)")?;
        let stderr = rustix::fs::memfd_create("cofferdam-criu", MemfdFlags::CLOEXEC)
            .os(|| "memfd_create(\"cofferdam-criu\")")?;
        let stderr = File::from(stderr);
        #[expect(clippy::disallowed_methods, reason = "a program of the host, which may be a script")]
        let child = Command::new(program)
            // Its standard input, so that no other number of this process has to be inherited.
            .args(["swrk", "0"])
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(stderr.try_clone().os(|| "fcntl(F_DUPFD_CLOEXEC)")?)
            // None of the caller's environment: CRIU reads a configuration from HOME, and options from variables.
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            // A group of its own: the processes that it forks are killed with it.
            .process_group(0)
            .spawn()
            .os(|| format!("execve({program:?})"))?;
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a child has a positive pid");
        let opened = pidfd_open(pid, PidfdFlags::empty());
        let end = opened.inspect_err(|_| kill_and_collect(pid)).os(|| "pidfd_open(criu)")?;
        Ok(Self { pid, end, connection, stderr })
    }

    /// Its pid, until this value is dropped.
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends a request, or the answer to a notification, and waits for what comes back. A worker serves only one request:
    /// CRIU ends after it.
    pub(super) fn ask(&self, request: &Request, deadline: Instant) -> Result<Answer> {
        let bytes = request.encode_to_vec();
        loop {
            match send(&self.connection, &bytes, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(Answer::Hangup(self.said())),
                sent => break sent.os(|| "send(criu)").map(drop)?,
            }
        }
        if !self.await_answer(deadline)? {
            return Ok(Answer::Hangup(self.said()));
        }
        let mut bytes = vec![0; MAX_RESPONSE];
        let length = loop {
            match recv(&self.connection, bytes.as_mut_slice(), RecvFlags::TRUNC) {
                Err(Errno::INTR) => {}
                // It ended without having read the request.
                Err(Errno::CONNRESET) => break 0,
                received => break received.os(|| "recv(criu)")?.1,
            }
        };
        if length == 0 {
            return Ok(Answer::Hangup(self.said()));
        }
        let misbehaved = |problem: String| Error::new(ErrorKind::PeerMisbehaved, "criu", problem);
        let bytes = bytes.get(..length).ok_or_else(|| misbehaved(format!("a response of {length} bytes")))?;
        match Response::decode(bytes) {
            // The response has the first error of all, which need not be the one that counts.
            Ok(response) if !response.success => {
                let error = Some(self.said()).filter(|said| !said.is_empty()).or(response.error);
                Ok(Answer::Response(Response { error, ..response }))
            }
            Ok(response) => Ok(Answer::Response(response)),
            Err(error) => Err(misbehaved(error.to_string())),
        }
    }

    /// Waits until there is something to receive; false if the program has ended without that. A process that it has
    /// started may hold the connection longer than it lives itself.
    fn await_answer(&self, deadline: Instant) -> Result<bool> {
        let mut fds = [PollFd::new(&self.connection, PollFlags::IN), PollFd::new(&self.end, PollFlags::IN)];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
            match poll(&mut fds, Some(&left)) {
                Err(Errno::INTR) => {}
                ready => match ready.os(|| "poll(criu)")? {
                    0 => return Err(Error::new(ErrorKind::TimedOut, "poll(criu)", "the deadline passed")),
                    _ => return Ok(!fds[0].revents().is_empty()),
                },
            }
        }
    }

    /// Waits until it has ended by itself: CRIU answers a dump before it has written the last of its files.
    pub(super) fn wait(&self, deadline: Instant) -> Result<()> {
        wait_readable(self.end.as_fd(), deadline)
    }

    /// The end of what it wrote to its standard error, on one line.
    pub(super) fn said(&self) -> String {
        let length = self.stderr.metadata().map_or(0, |metadata| metadata.len());
        let mut bytes = vec![0; length.min(MAX_STDERR) as usize];
        let read = self.stderr.read_at(&mut bytes, length.saturating_sub(MAX_STDERR)).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..read]);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        // Without CAP_SYS_RESOURCE it says so, and goes on.
        lines.filter(|line| !line.contains(HARMLESS)).collect::<Vec<_>>().join("; ")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        kill_and_collect(self.pid);
    }
}

fn kill_and_collect(pid: Pid) {
    // Not collected yet, so no other process has its number. Only a caller that collects all its children could have
    // been faster, and then the group is gone as well, or holds what CRIU left behind.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    let wait = || rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
    while matches!(wait(), Err(Errno::INTR)) {}
}
