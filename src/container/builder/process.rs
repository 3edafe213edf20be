//! The methods of [`ContainerBuilder`] about the workload's first process: what it executes, as whom, and what it reads
//! and writes.

use super::default_spec::build;
use super::description::{ContainerBuilder, STREAMS};
use crate::plan::Account;
use crate::process::Stdio;
use crate::process::console::{ConsoleTarget, WindowSize};
use crate::spec::Resource;
use oci_spec::runtime::{BoxBuilder, Process};
use rustix::fd::OwnedFd;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

impl ContainerBuilder {
    /// The program and its arguments. `create` looks for a name without a slash in the container's `PATH`.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        let args: Vec<String> = args.into_iter().map(|arg| self.text("args", arg.as_ref())).collect();
        self.process().set_args(Some(args));
        self
    }

    /// Adds an argument after those that are there. The first is the program.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        let arg = self.text("arg", arg.as_ref());
        let process = self.process();
        let mut args = process.args().clone().unwrap_or_default();
        args.push(arg);
        process.set_args(Some(args));
        self
    }

    /// Sets environment variables, each as [`env`](Self::env) does.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(self, vars: impl IntoIterator<Item = (N, V)>) -> Self {
        vars.into_iter().fold(self, |builder, (name, value)| builder.env(name, value))
    }

    /// Sets one environment variable. The workload gets nothing of the caller's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let (name, value) = (self.text("env", name.as_ref()), self.text("env", value.as_ref()));
        set_variables(self.process(), [(&*name, &*value)]);
        self
    }

    /// The working directory inside the container, absolute. If it is missing and the root is writable, `create` makes
    /// it.
    pub fn cwd(mut self, cwd: impl AsRef<Path>) -> Self {
        let cwd = self.path("cwd", cwd.as_ref());
        self.process().set_cwd(cwd);
        self
    }

    /// The user and group ids of the workload, as inside the container.
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        let process = self.process();
        let mut user = process.user().clone();
        user.set_uid(uid).set_gid(gid);
        process.set_user(user);
        self.extras.user = None;
        self
    }

    /// The user of the workload, by name: the container's own `/etc/passwd` and `/etc/group` give ids and supplementary
    /// groups, in place of [`user`](Self::user) and [`groups`](Self::groups). `create` looks it up when the root is in
    /// place. An [`exec`](crate::Container::exec) without a user of its own has this one.
    ///
    /// A decimal number is a uid, whatever name the image may have for it. Its group and supplementary groups are those
    /// of the first line with this uid; without such a line, gid 0 and none.
    ///
    /// `build` refuses an empty name, one that begins with a sign, and a number that begins with 0 or is no uid; and a
    /// name beside [`bind_rw`](Self::bind_rw) or another bind that shows its owner as the container's user. `create`
    /// refuses a name that the container does not have, and ids that are not mapped.
    pub fn user_name(mut self, name: impl AsRef<str>) -> Self {
        let account = Account::parse(name.as_ref());
        let uid = match &account {
            None => {
                self.refuse("user_name", "is neither a name nor a uid", "write a uid in plain digits");
                return self;
            }
            // Known before the image is read, for the checks and for the owner of pipes and binds.
            Some(Account::Uid(uid)) => *uid,
            Some(Account::Name(_)) => 0,
        };
        let process = self.process();
        let mut user = process.user().clone();
        user.set_uid(uid).set_gid(0).set_additional_gids(None);
        process.set_user(user);
        self.extras.user = account;
        self
    }

    /// The supplementary group ids of the workload, as inside the container.
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

    /// The workload's standard input; by default it is empty.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.set_stream(0, stdio.into());
        self
    }

    /// The workload's standard input: these bytes. They are copied when the container is created, into memory that the
    /// workload can read and not change; it need not read them all.
    ///
    /// It is a file to the workload, as with `<` in a shell. [`Stdio::piped`] gives it a pipe, to which the caller
    /// writes meanwhile.
    pub fn input(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin(Stdio::bytes(bytes))
    }

    /// The workload's standard output; by default it is thrown away.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.set_stream(1, stdio.into());
        self
    }

    /// The workload's standard error; by default it is thrown away.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.set_stream(2, stdio.into());
        self
    }

    /// For [`output`](Self::output): kills the container if its workload writes more than this many bytes to standard
    /// output or to standard error. 16 MiB by default. 0 is refused.
    pub fn output_limit(mut self, bytes: u64) -> Self {
        self.refuse_zero("output_limit", Some(bytes));
        self.output_limit = bytes;
        self
    }

    /// Gives the workload the caller's three standard streams.
    pub fn inherit_stdio(mut self) -> Self {
        (0..3).for_each(|index| self.set_stream(index, Stdio::inherit()));
        self
    }

    /// Gives the workload a further descriptor, at `number`: 3 or more.
    pub fn fd(mut self, number: i32, fd: impl Into<OwnedFd>) -> Self {
        self.extra_fds.give(number, fd.into());
        self.left.remove(&format!("fd({number})"));
        self
    }

    /// Gives the workload the caller's own descriptors 3, 4, ... at the same numbers, `count` of them. If one of them
    /// is not open, `create` fails.
    pub fn inherit_fds(mut self, count: u32) -> Self {
        self.extra_fds.inherit(count);
        self
    }

    /// Gives the workload a terminal in place of the three standard streams (`process.terminal`). The created container
    /// has the caller's end: [`take_pty`](crate::Container::take_pty).
    pub fn terminal(mut self) -> Self {
        self.process().set_terminal(Some(true));
        self.console = ConsoleTarget::Caller;
        self
    }

    /// Gives the workload a terminal in place of the three standard streams. `create` connects to the Unix stream
    /// socket `path` and sends the caller's end over it, as one descriptor with one short message: what engines expect
    /// of `--console-socket`.
    pub fn console_socket(mut self, path: impl AsRef<Path>) -> Self {
        let path = self.absolute("console_socket", path.as_ref());
        self.process().set_terminal(Some(true));
        self.console = ConsoleTarget::Socket(path);
        self
    }

    /// The size that the terminal starts with (`process.consoleSize`). Without a terminal it has no effect.
    pub fn terminal_size(mut self, size: WindowSize) -> Self {
        let size = build(|| BoxBuilder::default().height(size.rows).width(size.columns).build());
        self.process().set_console_size(Some(size));
        self
    }

    /// Kills the workload if it runs longer than `limit`. The sandbox keeps the time, so the limit holds also when this
    /// program has ended. A limit of zero is refused.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.refuse_zero("timeout", limit.is_zero().then_some(0));
        self.extras.timeout = Some(limit);
        self
    }

    /// Sets a resource limit (setrlimit(2)), the soft and the hard one. It replaces a limit of the same resource, also one
    /// of the [defaults](crate::manual::privileges#other-limits-by-default).
    pub fn rlimit(self, resource: Resource, limit: u64) -> Self {
        self.rlimit_soft_hard(resource, limit, limit)
    }

    /// Lets each process of the workload use this much CPU time (setrlimit(2), `RLIMIT_CPU`), rounded up to seconds:
    /// then the kernel sends it SIGXCPU, and a second later SIGKILL. A limit of zero is refused. For the time by the
    /// clock there is [`timeout`](Self::timeout).
    pub fn cpu_time(mut self, limit: Duration) -> Self {
        self.refuse_zero("cpu_time", limit.is_zero().then_some(0));
        let seconds = limit.as_secs().saturating_add(u64::from(limit.subsec_nanos() > 0));
        self.rlimit_soft_hard(Resource::Cpu, seconds, seconds.saturating_add(1))
    }

    /// Sets a resource limit: the soft one, which the workload meets, and the hard one, up to which it may raise the
    /// soft one.
    pub fn rlimit_soft_hard(mut self, resource: Resource, soft: u64, hard: u64) -> Self {
        let rlimit = resource.limit(soft, hard);
        let process = self.process();
        let mut rlimits = process.rlimits().clone().unwrap_or_default();
        rlimits.retain(|other| other.typ() != rlimit.typ());
        rlimits.push(rlimit);
        process.set_rlimits(Some(rlimits));
        self
    }

    pub(super) fn set_stream(&mut self, index: usize, stream: Stdio) {
        self.stdio[index] = stream;
        self.left.remove(STREAMS[index]);
    }
}

/// Sets variables in the environment of `process`, each in the place of the one with its name, so that a program which
/// prints its environment is predictable.
pub(in crate::container) fn set_variables<'a>(
    process: &mut Process,
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    let mut env = process.env().clone().unwrap_or_default();
    for (name, value) in variables {
        let assignment = format!("{name}=");
        match env.iter_mut().find(|other| other.starts_with(&assignment)) {
            Some(other) => *other = assignment + value,
            None => env.push(assignment + value),
        }
    }
    process.set_env(Some(env));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::spec::HookKind;
    use oci_spec::runtime::{HookBuilder, MountBuilder};
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_variable_replaces_the_one_with_the_same_name() {
        let builder =
            ContainerBuilder::new().id("env").env("A", "1").env("PATH", "/bin").env("A", "2").env("AA", "3");
        let process = builder.spec().process().as_ref().unwrap();
        assert_eq!(process.env().as_deref().unwrap(), ["PATH=/bin", "A=2", "AA=3"]);
    }

    #[test]
    fn what_is_not_utf8_is_refused_in_the_name_of_the_method() {
        let odd = OsStr::from_bytes(b"/x\xff");
        let new = || ContainerBuilder::new().id("odd").args(["true"]);
        let mount = |source, destination| {
            let mount = MountBuilder::default().typ("tmpfs").source(source).destination(destination);
            mount.build().unwrap()
        };
        let hook = HookBuilder::default().path(odd).build().unwrap();
        let cases: [(&str, ContainerBuilder); 15] = [
            ("mount", new().mount(mount(odd, OsStr::new("/x")))),
            ("mount", new().mount(mount(OsStr::new("x"), odd))),
            ("hook", new().hook(HookKind::Poststop, hook)),
            ("args", new().args([OsStr::new("true"), odd])),
            ("env", new().env(odd, "")),
            ("env", new().env("NAME", odd)),
            ("cwd", new().cwd(odd)),
            ("rootfs", new().rootfs(crate::Rootfs::directory(odd))),
            ("bind_ro", new().bind_ro(odd, "/x")),
            ("bind_rw", new().bind_rw("/x", odd)),
            ("tmpfs", new().tmpfs(odd, 1)),
            ("cgroups_path", new().cgroups_path(odd)),
            ("join_pid_namespace", new().join_pid_namespace(odd)),
            ("pid_file", new().pid_file(odd)),
            ("pod_volume", new().pod_volume("v", odd, None)),
        ];
        for (method, builder) in cases {
            let error = builder.build().unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
            let wanted = format!(
                "ContainerBuilder::{method}: \"/x\\xFF\" is not UTF-8 (an OCI configuration is JSON)"
            );
            assert_eq!(error.to_string(), wanted);
        }
        let error = ContainerBuilder::from_bundle(odd).unwrap_err().to_string();
        assert_eq!(error, "from_bundle: \"/x\\xFF\" is not UTF-8 (the record of a container is JSON)");
        let error = crate::StateRoot::open(odd).unwrap_err().to_string();
        assert_eq!(error, "state directory: \"/x\\xFF\" is not UTF-8");
    }
}
