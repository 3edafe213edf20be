//! Executed processes for callers that know processes and nothing else, as container engines do.

use crate::container::{Exec, Process};
use crate::error::Result;
use crate::helper::entry::reexec;
use crate::helper::exec_proxy;
use crate::process::Channel;
use crate::wire::control::ProcessEnded;
use rustix::fd::AsFd;

impl Exec {
    /// Ties the process to whoever holds its [`Process`]: it is killed when the value is dropped, and when the program
    /// that holds it ends in any way.
    pub fn attached(mut self) -> Self {
        self.attached = true;
        self
    }
}

impl Process {
    /// Leaves a small process of this host in place of this value, as a child of the calling program, and returns its
    /// pid: it passes on the signals it gets, ends when the process in the container has ended, and with the same exit
    /// code or of the same signal. If this program ends first, its parent is whoever takes over its children, such as a
    /// subreaper (prctl(2), `PR_SET_CHILD_SUBREAPER`).
    ///
    /// This is what engines expect of `runc exec --detach`. It holds none of the process's streams. An
    /// [`attached`](Exec::attached) process is killed when its stand-in is, so that even SIGKILL reaches it.
    ///
    /// # Errors
    /// The system call that failed; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where this program cannot
    /// be executed again.
    pub fn into_exec_proxy(self) -> Result<i32> {
        let Some(end) = self.end.get() else {
            return Ok(exec_proxy::start(reexec()?, self.pidfd.as_fd(), &self.channel)?.pid());
        };
        // We have received its end already: report it to the proxy in place of the sandbox.
        let (ours, theirs) = Channel::pair()?;
        ours.send(&ProcessEnded(*end), &[])?;
        Ok(exec_proxy::start(reexec()?, self.pidfd.as_fd(), &theirs)?.pid())
    }
}
