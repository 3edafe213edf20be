//! [`Exec`]: describes a process to execute in a running container, and becomes a plan. `process` carries it out.

use crate::cgroup;
use crate::container::builder::description::NO_LIMIT;
use crate::container::configured::Configured;
use crate::container::handle::Handle;
use crate::error::{Error, ErrorKind, Result};
use crate::helper::ExtraFds;
use crate::host;
use crate::plan::{Account, DeviceLimits, ExecOptions, ExecPlan, host_ids_of};
use crate::process::console::{ConsoleTarget, WindowSize};
use crate::process::{DEFAULT_OUTPUT_LIMIT, Stdio};
use crate::spec;
use crate::spec::ValidSpec;
use crate::spec::{Resource, Resources};
use oci_spec::runtime::Process as OciProcess;
use oci_spec::runtime::{BoxBuilder, Capabilities, LinuxCapabilitiesBuilder, PosixRlimit, User};
use rustix::fd::OwnedFd;
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// A further process: what to execute in a running container, and how.
///
/// What this value does not set is as for the container's own first process: environment, working directory, user,
/// capabilities, no_new_privs, resource limits. The seccomp filter is always the container's.
#[derive(Debug)]
#[must_use = "nothing is executed until `Container::exec`"]
pub struct Exec {
    /// The process from [`from_oci`](Self::from_oci). Without it, `changes` are applied to the container's own process.
    whole: Option<OciProcess>,
    args: Option<Vec<OsString>>,
    /// Each `NAME=value`.
    env: Vec<OsString>,
    clear_env: bool,
    changes: Vec<ProcessChange>,
    account: Option<Account>,
    pub(in crate::container) stdio: [Stdio; 3],
    pub(super) extra_fds: ExtraFds,
    timeout: Option<Duration>,
    pub(super) output_limit: u64,
    /// Those of its own cgroup.
    pub(super) limits: Resources,
    /// Existing ones, each with the controller of its hierarchy; `None` for all hierarchies.
    pub(super) cgroups: Vec<(Option<String>, PathBuf)>,
    /// Where the terminal goes, if the process has one.
    pub(super) console: ConsoleTarget,
    terminal_size: Option<WindowSize>,
    keep_newlines: bool,
    attached: bool,
    /// The first argument that a method could not take.
    refused: Option<Refused>,
}

/// An argument that [`Exec::plan`] refuses.
#[derive(Debug)]
struct Refused {
    method: &'static str,
    problem: Cow<'static, str>,
    hint: &'static str,
}

/// One difference from the container's own process.
#[derive(Debug)]
enum ProcessChange {
    Cwd(PathBuf),
    User(u32, u32),
    Groups(Vec<u32>),
    Umask(u32),
    Capabilities(Capabilities),
    NoNewPrivileges(bool),
    Rlimit(PosixRlimit),
}

impl Exec {
    /// The program and its arguments. A name without a slash is looked up in the `PATH` of the process's environment,
    /// inside the container.
    pub fn new<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Self { args: Some(args), ..Self::unchanged(None) }
    }

    /// Exactly the process of an OCI configuration (OCI config.md, "Process"), as `runc exec --process` takes it. The
    /// container's own process adds nothing.
    pub fn from_oci(process: OciProcess) -> Self {
        Self::unchanged(Some(process))
    }

    fn unchanged(whole: Option<OciProcess>) -> Self {
        Self {
            whole,
            args: None,
            env: Vec::new(),
            clear_env: false,
            changes: Vec::new(),
            account: None,
            stdio: Default::default(),
            extra_fds: ExtraFds::default(),
            timeout: None,
            output_limit: DEFAULT_OUTPUT_LIMIT,
            limits: Resources::default(),
            cgroups: Vec::new(),
            console: ConsoleTarget::default(),
            terminal_size: None,
            keep_newlines: false,
            attached: false,
            refused: None,
        }
    }

    pub(super) fn refuse(
        &mut self,
        method: &'static str,
        problem: impl Into<Cow<'static, str>>,
        hint: &'static str,
    ) {
        let problem = problem.into();
        self.refused.get_or_insert(Refused { method, problem, hint });
    }

    fn with(mut self, change: ProcessChange) -> Self {
        self.changes.push(change);
        self
    }

    /// Sets one environment variable, besides the container's own.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let mut entry = name.as_ref().to_owned();
        entry.push("=");
        entry.push(value);
        self.env.push(entry);
        self
    }

    /// Starts from an empty environment instead of the container's.
    pub fn env_clear(mut self) -> Self {
        self.env.clear();
        self.clear_env = true;
        self
    }

    /// The working directory: an absolute path in the container, which must exist.
    pub fn cwd(self, cwd: impl Into<PathBuf>) -> Self {
        self.with(ProcessChange::Cwd(cwd.into()))
    }

    /// The process's user and group, as ids inside the container. Without a user, the process has the container's own,
    /// also one that was [found by its name](crate::ContainerBuilder::user_name).
    pub fn user(self, uid: u32, gid: u32) -> Self {
        self.with(ProcessChange::User(uid, gid))
    }

    /// The process's user, by name: the image's `/etc/passwd` and `/etc/group` give ids and supplementary groups.
    ///
    /// A decimal number is a uid, whatever name the image may have. Its group and supplementary groups are those of the
    /// image's line for that uid; without one, the group of the container's own process, and no others.
    ///
    /// # Errors
    /// [`exec`](crate::Container::exec) refuses an empty name, one that begins with a sign, and a number that begins
    /// with 0 or is no uid ([`InvalidInput`](ErrorKind::InvalidInput)); and a name that the image does not have
    /// ([`InvalidSpec`](ErrorKind::InvalidSpec)).
    pub fn user_name(mut self, name: impl AsRef<str>) -> Self {
        match Account::parse(name.as_ref()) {
            None => self.refuse("user_name", "is neither a name nor a uid", "write a uid in plain digits"),
            account => self.account = account,
        }
        self
    }

    /// Supplementary groups, as ids inside the container.
    pub fn groups(self, gids: impl IntoIterator<Item = u32>) -> Self {
        self.with(ProcessChange::Groups(gids.into_iter().collect()))
    }

    /// The file mode creation mask.
    pub fn umask(self, umask: u32) -> Self {
        self.with(ProcessChange::Umask(umask))
    }

    /// These capabilities in all five sets, instead of the container's.
    pub fn capabilities(self, capabilities: Capabilities) -> Self {
        self.with(ProcessChange::Capabilities(capabilities))
    }

    /// Whether the kernel ignores set-user-ID bits and file capabilities of what the process executes (prctl(2),
    /// `PR_SET_NO_NEW_PRIVS`).
    pub fn no_new_privileges(self, yes: bool) -> Self {
        self.with(ProcessChange::NoNewPrivileges(yes))
    }

    /// A resource limit (setrlimit(2)), the soft and the hard one, instead of the container's of the same resource.
    pub fn rlimit(self, resource: Resource, limit: u64) -> Self {
        self.rlimit_soft_hard(resource, limit, limit)
    }

    /// A resource limit: the soft one, which the process meets, and the hard one, up to which it may raise the soft one.
    pub fn rlimit_soft_hard(self, resource: Resource, soft: u64, hard: u64) -> Self {
        self.with(ProcessChange::Rlimit(resource.limit(soft, hard)))
    }

    /// Standard input; nothing by default.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[0] = stdio.into();
        self
    }

    /// Standard input: these bytes, as [`ContainerBuilder::input`](crate::ContainerBuilder::input).
    pub fn input(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin(Stdio::bytes(bytes))
    }

    /// Standard output; discarded by default.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[1] = stdio.into();
        self
    }

    /// Standard error; discarded by default.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[2] = stdio.into();
        self
    }

    /// All three standard streams are the caller's.
    pub fn inherit_stdio(mut self) -> Self {
        self.stdio = [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()];
        self
    }

    /// Gives the process a terminal of its own in place of the three standard streams.
    /// [`Process::take_pty`](crate::Process::take_pty) returns the caller's end.
    pub fn terminal(mut self) -> Self {
        self.console = ConsoleTarget::Caller;
        self
    }

    /// Gives the process a terminal of its own in place of the three standard streams, and sends the caller's end to
    /// the listener on the Unix stream socket `path`, as
    /// [`ContainerBuilder::console_socket`](crate::container::ContainerBuilder::console_socket) does.
    pub fn console_socket(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.console = ConsoleTarget::Socket(std::path::absolute(&path).unwrap_or(path));
        self
    }

    /// The size the terminal starts with.
    pub fn terminal_size(mut self, size: WindowSize) -> Self {
        self.terminal_size = Some(size);
        self
    }

    /// Has the terminal pass newlines on as the program writes them, and not as carriage return and newline: it starts
    /// without `ONLCR` (termios(3)). For output that ends in a file or a pipe. Without a terminal it has no effect.
    pub fn keep_newlines(mut self) -> Self {
        self.keep_newlines = true;
        self
    }

    /// A further descriptor, at this number in the new process: 3 or more.
    pub fn fd(mut self, number: i32, fd: impl Into<OwnedFd>) -> Self {
        self.extra_fds.give(number, fd.into());
        self
    }

    /// Gives the new process `count` descriptors of the caller, from 3 on, at the same numbers. One that is not open
    /// is an error.
    pub fn inherit_fds(mut self, count: u32) -> Self {
        self.extra_fds.inherit(count);
        self
    }

    /// Kills the process and everything that it started, if it runs longer than this: its
    /// [outcome](crate::processes::ProcessExit::outcome) is then [`TimedOut`](crate::Outcome::TimedOut). If even its
    /// program was not executed by then, `exec` fails with [`ErrorKind::TimedOut`].
    ///
    /// The sandbox keeps the time, from the moment when it gets the request, so that the limit holds whatever this
    /// program does, and when it has ended. What a process started is ended as
    /// [`Process::kill_tree`](crate::Process::kill_tree) does. A process that ends in time may leave others behind,
    /// which go on; if it has a cgroup of its own, as with [`memory_limit`](Self::memory_limit), they are killed when
    /// the time is up. A limit of zero is refused.
    pub fn timeout(mut self, limit: Duration) -> Self {
        if limit.is_zero() {
            self.refuse("timeout", "must not be 0", NO_LIMIT);
        }
        self.timeout = Some(limit);
        self
    }

    /// For [`Container::exec_output`](crate::Container::exec_output) and
    /// [`Process::wait_with_output`](crate::Process::wait_with_output): kills the process and what
    /// it started if more than this many bytes are written to either stream. 16 MiB by default. 0 is refused.
    pub fn output_limit(mut self, bytes: u64) -> Self {
        if bytes == 0 {
            self.refuse("output_limit", "must not be 0", "to collect nothing, use `exec` without pipes");
        }
        self.output_limit = bytes;
        self
    }

    /// Ties the process to its [`Process`](crate::Process): the sandbox kills it when that value is dropped, and when
    /// the program that holds the value ends in any way.
    pub fn attached(mut self) -> Self {
        self.attached = true;
        self
    }

    pub(super) fn has_terminal(&self) -> bool {
        !matches!(self.console, ConsoleTarget::Unset)
    }

    fn names_ids(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, ProcessChange::User(..)))
    }

    fn names_groups(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, ProcessChange::Groups(_)))
    }

    /// Refuses a terminal that is `asked` for and that no receiver takes, and one beside redirected streams.
    fn check_terminal(&self, asked: bool) -> Result<()> {
        let refuse = |problem| Err(Error::spec("exec", "process.terminal", problem));
        match (self.has_terminal(), self.stdio.iter().all(Stdio::is_null)) {
            (false, _) if asked => refuse(
                "nothing takes the terminal: ask for `terminal()` or a `console_socket(path)`, or set it to false",
            ),
            (true, false) => {
                refuse("the process has a terminal, and its standard streams were redirected elsewhere")
            }
            _ => Ok(()),
        }
    }

    /// The validated process, against the container's configuration, and the host ids of its user: the owner of its
    /// pipes.
    pub(in crate::container) fn plan(&self, core: &Handle) -> Result<(ExecPlan, (u32, u32))> {
        if let Some(Refused { method, problem, hint }) = &self.refused {
            let error = Error::new(ErrorKind::InvalidInput, format!("Exec::{method}"), problem.clone());
            return Err(error.hint(*hint));
        }
        let configured = core.configured()?;
        let Configured { process: container, valid, .. } = &*configured;
        let mut process = self.whole.as_ref().unwrap_or(container).clone();
        let asked = self.whole.as_ref().and_then(|whole| whole.terminal()).unwrap_or(false);
        self.check_terminal(asked)?;
        process.set_terminal(Some(self.has_terminal()));
        // The container's own terminal has a size of its own.
        if self.whole.is_none() {
            process.set_console_size(None);
        }
        if let Some(WindowSize { rows, columns }) = self.terminal_size {
            let size = BoxBuilder::default().height(rows).width(columns).build();
            process.set_console_size(Some(size.expect("two sides are all there is")));
        }
        if self.clear_env {
            process.set_env(None);
        }
        self.changes.iter().for_each(|change| change.apply(&mut process));
        let inherited = match &self.account {
            None if self.whole.is_none() && !self.names_ids() => inherited_account(core)?,
            _ => None,
        };
        let keeps_groups = inherited.is_some() && self.names_groups();
        let account = self.account.clone().or(inherited);
        if let Some(Account::Uid(uid)) = &account {
            // Known before the image is read, for the checks and for the owner of pipes.
            let mut user = process.user().clone();
            user.set_uid(*uid);
            process.set_user(user);
        }
        let process =
            spec::ValidProcess::for_exec(&process, self.args.as_deref(), &self.env, &valid.id_maps)?;
        check_devices(core, &process, valid)?;
        let lsms = host::security_modules(process.asks_for_labels());
        let options = ExecOptions {
            user: account,
            keeps_groups,
            id_maps: valid.id_maps.clone(),
            attached: self.attached,
            timeout: self.timeout,
        };
        let mut plan = ExecPlan::new(&process, valid, lsms, &core.record.unapplied_limits, options)?;
        if let Some(terminal) = &mut plan.process.terminal {
            terminal.keep_newlines = self.keep_newlines;
        }
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Ok((plan, host_ids_of(&process.user, valid, own)))
    }
}

/// The user of the container's own process, if that was looked up inside.
fn inherited_account(core: &Handle) -> Result<Option<Account>> {
    let account = core.record.extras.get("user").cloned().unwrap_or_default();
    serde_json::from_value(account)
        .map_err(|error| Error::new(ErrorKind::Stale, "record", format!("extras: {error}")))
}

/// Refuses `CAP_MKNOD` in a container whose device rules nothing enforces, because its own processes do without.
fn check_devices(core: &Handle, process: &spec::ValidProcess, spec: &ValidSpec) -> Result<()> {
    if DeviceLimits::of_exec(process, spec, host::in_user_namespace()).is_none()
        || cgroup::enforces_devices(&core.record.cgroups)
    {
        return Ok(());
    }
    let why = "with CAP_MKNOD it could make any device, and nothing enforces the container's device rules";
    Err(Error::unsupported("process.capabilities", why)
        .hint("leave CAP_MKNOD out, as the container's own process does"))
}

impl ProcessChange {
    fn apply(&self, process: &mut OciProcess) {
        let user = |process: &mut OciProcess, change: &dyn Fn(&mut User)| {
            let mut user = process.user().clone();
            change(&mut user);
            process.set_user(user);
        };
        match self {
            Self::Cwd(cwd) => {
                process.set_cwd(cwd.clone());
            }
            Self::User(uid, gid) => user(process, &|user| {
                user.set_uid(*uid).set_gid(*gid).set_additional_gids(None);
            }),
            Self::Groups(gids) => user(process, &|user| {
                user.set_additional_gids(Some(gids.clone()));
            }),
            Self::Umask(umask) => user(process, &|user| {
                user.set_umask(Some(*umask));
            }),
            Self::Capabilities(set) => {
                let sets = LinuxCapabilitiesBuilder::default()
                    .bounding(set.clone())
                    .effective(set.clone())
                    .inheritable(set.clone())
                    .permitted(set.clone())
                    .ambient(set.clone())
                    .build()
                    .expect("five sets are all there is");
                process.set_capabilities(Some(sets));
            }
            Self::NoNewPrivileges(yes) => {
                process.set_no_new_privileges(Some(*yes));
            }
            Self::Rlimit(rlimit) => {
                let mut rlimits = process.rlimits().clone().unwrap_or_default();
                rlimits.retain(|other| other.typ() != rlimit.typ());
                rlimits.push(*rlimit);
                process.set_rlimits(Some(rlimits));
            }
        }
    }
}
