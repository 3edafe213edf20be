//! An engine as the cases see it: containers by name, and what may be wished for them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What a container shall be, for an engine to say in its own words.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish<'a> {
    /// Its root cannot be written to.
    ReadOnly,
    /// The user of its first process.
    User(&'a str),
    /// An environment variable, `NAME=VALUE`.
    Env(&'a str),
    /// Where it starts.
    Cwd(&'a str),
    /// This capability and no other.
    OnlyCapability(&'a str),
    /// How many files may be open, soft and hard.
    OpenFiles(u32, u32),
    /// A file system of 1 MiB in memory.
    Tmpfs(&'a str),
    /// A directory of the host.
    Volume {
        from: &'a Path,
        to: &'a str,
        read_only: bool,
    },
    Hostname(&'a str),
    HostNetwork,
    HostPids,
    /// A device of the host, under another name.
    Device {
        from: &'a str,
        to: &'a str,
    },
    /// Bytes of memory, swap included.
    Memory(u64),
    Processes(u32),
    /// Half of a CPU.
    HalfACpu,
    /// The processors to run on.
    Processors(&'a str),
    /// A first process that collects orphans.
    Init,
    Privileged,
    /// Started again when it fails, at most so often.
    RestartOnFailure(u32),
    /// What tells whether it is well.
    HealthCommand(&'a str),
    Terminal,
}

/// An engine that runs and has only an image. The default methods make docker's command line, which is podman's, too.
/// Dropping the value ends the engine.
pub(crate) trait Engine {
    /// A command of the client, with the options that say where the engine is.
    fn client(&self) -> Command;

    /// The options for a wish; `None` if the engine has none.
    fn words(&self, wish: Wish<'_>) -> Option<Vec<String>>;

    /// The options of every container.
    fn common(&self) -> Vec<String>;

    /// The options for a wish about a further process.
    fn exec_words(&self, wish: Wish<'_>) -> Option<Vec<String>> {
        self.words(wish)
    }

    /// The options of a pod.
    fn pod_words(&self) -> Vec<String> {
        panic!("no pods here")
    }

    /// Whether containers are in cgroups, which an engine without privileges cannot make in hierarchies of version 1.
    fn has_cgroups(&self) -> bool {
        true
    }

    /// Whether it tells an end out of memory from a kill: with hierarchies of version 1 podman's monitor does not, with
    /// any runtime.
    fn tells_of_oom(&self) -> bool {
        false
    }

    /// The command that runs a container to its end.
    fn run_command(&self, wishes: &[Wish<'_>], args: &[&str]) -> Command {
        let mut client = self.client();
        client
            .args(["run", "--rm", network(wishes)])
            .args(self.common())
            .args(self.all_words(wishes))
            .arg("box")
            .args(args);
        client
    }

    /// Starts a container that stays until it is removed.
    fn start(&self, name: &str, wishes: &[Wish<'_>], args: &[&str]) {
        let mut client = self.client();
        client
            .args(["run", "--detach", "--name", name, network(wishes)])
            .args(self.common())
            .args(self.all_words(wishes));
        succeed(client.arg("box").args(args));
    }

    /// The client's options with which `run` takes runc, and those of `run`.
    fn control_words(&self) -> [&'static [&'static str]; 2] {
        panic!("no control here")
    }

    /// As [`Engine::start`], with runc as the control.
    fn start_control(&self, name: &str, wishes: &[Wish<'_>], args: &[&str]) {
        let [before, of_run] = self.control_words();
        let mut client = self.client();
        client
            .args(before)
            .args(["run", "--detach", "--name", name, network(wishes)])
            .args(of_run)
            .args(self.common())
            .args(self.all_words(wishes));
        succeed(client.arg("box").args(args));
    }

    /// The commands that end it in a checkpoint and restore it.
    fn checkpoint_and_restore(&self, _name: &str) -> Vec<Command> {
        panic!("no checkpoints here")
    }

    /// Whether `update` changes the limit of processes.
    fn updates_processes(&self) -> bool {
        true
    }

    /// The command that executes a further process.
    fn exec_command(&self, name: &str, wishes: &[Wish<'_>], args: &[&str]) -> Command {
        let mut client = self.client();
        client.arg("exec").args(self.all_words(wishes)).arg(name).args(args);
        client
    }

    /// What is in a file of its cgroup.
    fn cgroup_file(&self, name: &str, file: &str) -> String {
        String::from_utf8_lossy(&self.exec(name, &[], &format!("cat /sys/fs/cgroup/{file}")).stdout)
            .into_owned()
    }

    fn kill(&self, name: &str, signal: &str) {
        self.tell(&["kill", "--signal", signal, name]);
    }

    /// Waits for its end. Its exit code.
    fn wait(&self, name: &str) -> i32 {
        let code = self.tell(&["wait", name]);
        code.trim().parse().unwrap_or_else(|_| panic!("{code:?} is an exit code"))
    }

    fn pause(&self, name: &str) {
        self.tell(&["pause", name]);
    }

    fn resume(&self, name: &str) {
        self.tell(&["unpause", name]);
    }

    /// `running`, `paused`, `exited`.
    fn status(&self, name: &str) -> String {
        self.tell(&["inspect", "--format", "{{.State.Status}}", name]).trim().to_owned()
    }

    /// What it shows of the processes, one a line after the heading.
    fn top(&self, name: &str) -> String {
        self.tell(&["top", name])
    }

    /// Bytes of memory in use, as text.
    fn memory_in_use(&self, name: &str) -> String {
        let usage = self.tell(&["stats", "--no-stream", "--format", "{{.MemUsage}}", name]);
        usage.split('/').next().unwrap_or_default().trim().to_owned()
    }

    fn remove(&self, name: &str) {
        self.tell(&["rm", "--force", name]);
    }

    /// What [`Engine::words`] says of all wishes; each must have some.
    fn all_words(&self, wishes: &[Wish<'_>]) -> Vec<String> {
        let words = |wish| self.words(wish).unwrap_or_else(|| panic!("no words for {wish:?}"));
        wishes.iter().copied().flat_map(words).collect()
    }

    /// Has the client do something that must succeed. What it wrote.
    fn tell(&self, args: &[&str]) -> String {
        succeed(self.client().args(args))
    }

    /// Runs a shell in a container to its end.
    fn run(&self, wishes: &[Wish<'_>], script: &str) -> Output {
        output(&mut self.run_command(wishes, &["sh", "-c", script]))
    }

    /// Executes a shell in a container that runs.
    fn exec(&self, name: &str, wishes: &[Wish<'_>], script: &str) -> Output {
        output(&mut self.exec_command(name, wishes, &["sh", "-c", script]))
    }
}

/// docker's word for the network; none but loopback unless wished for.
fn network(wishes: &[Wish<'_>]) -> &'static str {
    let host = wishes.iter().any(|wish| matches!(wish, Wish::HostNetwork));
    if host { "--network=host" } else { "--network=none" }
}

/// A client that ends in time, and takes what it waits for along.
pub(crate) fn limited(program: &str) -> Command {
    let mut command = Command::new("timeout");
    // In the foreground, so that a terminal is its own.
    command.args(["--foreground", "--kill-after=5", "60", program]);
    command
}

/// The words that docker and podman share.
pub(crate) fn docker_words(wish: Wish<'_>) -> Option<Vec<String>> {
    let word = |text: &str| Some(vec![text.to_owned()]);
    match wish {
        Wish::ReadOnly => word("--read-only"),
        Wish::User(user) => Some(vec!["--user".into(), user.into()]),
        Wish::Env(variable) => Some(vec!["--env".into(), variable.into()]),
        Wish::Cwd(path) => Some(vec!["--workdir".into(), path.into()]),
        Wish::OnlyCapability(name) => Some(vec!["--cap-drop=all".into(), format!("--cap-add={name}")]),
        Wish::OpenFiles(soft, hard) => Some(vec![format!("--ulimit=nofile={soft}:{hard}")]),
        Wish::Tmpfs(path) => Some(vec![format!("--tmpfs={path}:size=1m")]),
        Wish::Volume { from, to, read_only } => {
            let mode = if read_only { "ro" } else { "rw" };
            Some(vec![format!("--volume={}:{to}:{mode}", from.display())])
        }
        Wish::Hostname(name) => Some(vec![format!("--hostname={name}")]),
        // In the place of none.
        Wish::HostNetwork => Some(Vec::new()),
        Wish::HostPids => word("--pid=host"),
        Wish::Device { from, to } => Some(vec![format!("--device={from}:{to}")]),
        Wish::Memory(bytes) => Some(vec![format!("--memory={bytes}"), format!("--memory-swap={bytes}")]),
        Wish::Processes(number) => Some(vec![format!("--pids-limit={number}")]),
        Wish::HalfACpu => word("--cpus=0.5"),
        Wish::Processors(list) => Some(vec![format!("--cpuset-cpus={list}")]),
        Wish::Init => word("--init"),
        Wish::Privileged => word("--privileged"),
        Wish::RestartOnFailure(times) => Some(vec![format!("--restart=on-failure:{times}")]),
        Wish::HealthCommand(command) => {
            Some(vec![format!("--health-cmd={command}"), "--health-interval=1h".into()])
        }
        Wish::Terminal => Some(vec!["--interactive".into(), "--tty".into()]),
    }
}

/// Runs a command to its end, whether it succeeds or not.
pub(crate) fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// What a command that must succeed wrote to its standard output.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both streams, for people.
pub(crate) fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream)).concat()
}

/// How long what engines do of themselves may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Asks over and over for what is known a moment after it is so. If it does not come true, `log` says more.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool, log: impl FnOnce() -> String) {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > LIMIT {
            panic!("not within {LIMIT:?}: {what}; {}", log());
        }
    }
}

/// The cgroup of a container's own processes, where they are in one below the cgroup that the engine names.
pub(crate) fn own_cgroup(named: PathBuf) -> PathBuf {
    let own = named.join("container");
    if own.exists() { own } else { named }
}
