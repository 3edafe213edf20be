//! The methods of [`ContainerBuilder`] about the workload's first process: what it executes, as whom, and what it reads
//! and writes.

use super::default_spec::build;
use super::description::ContainerBuilder;
use crate::process::Stdio;
use crate::process::console::{ConsoleTarget, WindowSize};
use oci_spec::runtime::{BoxBuilder, PosixRlimit};
use rustix::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

impl ContainerBuilder {
    /// The program and its arguments. A name without a slash is looked up in the container's `PATH`.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        let args: Vec<String> = args.into_iter().map(Into::into).collect();
        self.process().set_args(Some(args));
        self
    }

    /// Sets one environment variable. The workload gets nothing of the caller's environment.
    pub fn env(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let entry = format!("{}={}", name.as_ref(), value.as_ref());
        let process = self.process();
        let mut env = process.env().clone().unwrap_or_default();
        env.push(entry);
        process.set_env(Some(env));
        self
    }

    /// The working directory inside the container, absolute. Created if it is missing and the root can be written to.
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.process().set_cwd(cwd.into());
        self
    }

    /// Who the workload is, as ids inside the container.
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        let process = self.process();
        let mut user = process.user().clone();
        user.set_uid(uid).set_gid(gid);
        process.set_user(user);
        self
    }

    /// Supplementary groups, as ids inside the container.
    pub fn groups(mut self, gids: impl IntoIterator<Item = u32>) -> Self {
        let process = self.process();
        let mut user = process.user().clone();
        user.set_additional_gids(Some(gids.into_iter().collect()));
        process.set_user(user);
        self
    }

    /// The file mode creation mask; 022 by default.
    pub fn umask(mut self, umask: u32) -> Self {
        let process = self.process();
        let mut user = process.user().clone();
        user.set_umask(Some(umask));
        process.set_user(user);
        self
    }

    /// Standard input of the workload; nothing by default.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[0] = stdio.into();
        self
    }

    /// Standard output of the workload; thrown away by default.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[1] = stdio.into();
        self
    }

    /// Standard error of the workload; thrown away by default.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[2] = stdio.into();
        self
    }

    /// All three standard streams are the caller's.
    pub fn inherit_stdio(mut self) -> Self {
        self.stdio = [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()];
        self
    }

    /// A further descriptor, at this number in the workload: 3 or more.
    pub fn fd(mut self, number: i32, fd: impl Into<OwnedFd>) -> Self {
        self.extra_fds.give(number, fd.into());
        self
    }

    /// The caller's own descriptors 3, 4, ... at the same numbers in the workload, this many. What is not open is
    /// `create`'s error.
    pub fn inherit_fds(mut self, count: u32) -> Self {
        self.extra_fds.inherit(count);
        self
    }

    /// Gives the workload a terminal in place of the three standard streams: `process.terminal`. The caller's end is
    /// taken from the created container (`take_pty`).
    pub fn terminal(mut self) -> Self {
        self.process().set_terminal(Some(true));
        self.console = ConsoleTarget::Caller;
        self
    }

    /// Gives the workload a terminal in place of the three standard streams, and sends the caller's end to whoever
    /// listens on the Unix stream socket `path`: once, when the container is created, as one descriptor with one short
    /// message, as engines expect of `--console-socket`.
    pub fn console_socket(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.process().set_terminal(Some(true));
        self.console = ConsoleTarget::Socket(std::path::absolute(&path).unwrap_or(path));
        self
    }

    /// The size the terminal starts with: `process.consoleSize`. Ignored without a terminal.
    pub fn terminal_size(mut self, size: WindowSize) -> Self {
        let size = build(|| BoxBuilder::default().height(size.rows).width(size.columns).build());
        self.process().set_console_size(Some(size));
        self
    }

    /// Kills the workload if it runs longer than this. The sandbox keeps the time, so it holds also when this program
    /// has ended.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.extras.timeout = Some(limit);
        self
    }

    /// A resource limit of setrlimit(2). One of a type that is there already takes its place.
    pub fn rlimit(mut self, rlimit: PosixRlimit) -> Self {
        let process = self.process();
        let mut rlimits = process.rlimits().clone().unwrap_or_default();
        rlimits.retain(|other| other.typ() != rlimit.typ());
        rlimits.push(rlimit);
        process.set_rlimits(Some(rlimits));
        self
    }
}
