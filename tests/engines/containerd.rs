//! containerd, with a daemon of its own and its own client. Kubernetes uses the same shim.

use crate::checkpoints::{search_path, steps};
use crate::daemon::Daemon;
use crate::engine::{Engine, Wish, limited, output, own_cgroup, succeed};
use crate::kit::{Stage, await_end, is_installed, is_root, note_skip};
use crate::remains::{Cgroups, Orphans, Records};
use crate::{image, test_cases};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

const IMAGE: &str = "cofferdam.test/box:1";

struct Containerd {
    runtime: PathBuf,
    directory: PathBuf,
    made: AtomicUsize,
    // In this order they end.
    _daemon: Daemon,
    _orphans: Orphans,
    _records: Records,
    cgroups: Cgroups,
}

fn start(stage: &Stage, runtime: PathBuf) -> Result<Box<dyn Engine>, String> {
    if !is_root() {
        return Err("containerd needs root".into());
    }
    if !(is_installed("containerd") && is_installed("ctr")) {
        return Err("containerd is not installed".into());
    }
    let directory = stage.readable_directory("containerd");
    let [root, state, socket] = ["root", "state", "socket"].map(|name| directory.join(name));
    let configuration = format!(
        "version = 2\n\
         root = {root:?}\n\
         state = {state:?}\n\
         oom_score = 0\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\n\
         address = {socket:?}\n"
    );
    let path = directory.join("config.toml");
    std::fs::write(&path, configuration).expect("a configuration");
    let mut containerd = Command::new("containerd");
    containerd.arg("--config").arg(path).args(["--log-level", "warn"]).env("PATH", search_path());
    let orphans = Orphans::inherit();
    let daemon = Daemon::start(&mut containerd, &directory)?;
    let cgroups = Cgroups::new(stage.id("containerd"));
    let records = Records(directory.join("runtime/test"));
    let made = AtomicUsize::new(0);
    let containerd = Containerd {
        runtime,
        directory,
        made,
        _daemon: daemon,
        _orphans: orphans,
        _records: records,
        cgroups,
    };
    let layer = image::archive(&containerd.directory);
    let images = [image::Image { name: IMAGE, command: &["sh"] }];
    let archive = image::oci_archive(&containerd.directory, &layer, &images);
    containerd.tell(&["image", "import", "--snapshotter=native", &archive.display().to_string()]);
    Ok(Box::new(containerd))
}

impl Containerd {
    /// A name that nothing has.
    fn new_name(&self, kind: &str) -> String {
        format!("{kind}{}", self.made.fetch_add(1, Ordering::Relaxed))
    }

    fn common_for(&self, name: &str) -> Vec<String> {
        let cgroup = format!("--cgroup=/{}/{name}", self.cgroups.name());
        [self.common(), vec![cgroup]].concat()
    }

    fn ctr(&self, verb: &str) -> Command {
        let mut client = self.client();
        client.arg(verb);
        client
    }

    /// Pid and status, as the list of tasks has them.
    fn task(&self, name: &str) -> Option<(i32, String)> {
        let list = self.tell(&["task", "ls"]);
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(name))?;
        let mut fields = line.split_whitespace().skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.to_lowercase()))
    }
}

impl Engine for Containerd {
    fn client(&self) -> Command {
        let mut command = limited("ctr");
        let socket = self.directory.join("socket");
        command.current_dir(&self.directory).arg("--address").arg(socket).args(["--namespace", "test"]);
        command
    }

    fn words(&self, wish: Wish<'_>) -> Option<Vec<String>> {
        let word = |text: &str| Some(vec![text.to_owned()]);
        match wish {
            Wish::ReadOnly => word("--read-only"),
            Wish::Env(variable) => Some(vec!["--env".into(), variable.into()]),
            Wish::Cwd(path) => Some(vec!["--cwd".into(), path.into()]),
            Wish::Tmpfs(path) => {
                Some(vec![format!("--mount=type=tmpfs,src=tmpfs,dst={path},options=size=1m:nosuid")])
            }
            Wish::Volume { from, to, read_only } => {
                let mode = if read_only { "ro" } else { "rw" };
                Some(vec![format!("--mount=type=bind,src={},dst={to},options=rbind:{mode}", from.display())])
            }
            Wish::HostNetwork => word("--net-host"),
            Wish::HostPids => word(&format!("--with-ns=pid:/proc/{}/ns/pid", std::process::id())),
            Wish::Memory(bytes) => Some(vec![format!("--memory-limit={bytes}")]),
            Wish::HalfACpu => word("--cpus=0.5"),
            Wish::Privileged => word("--privileged"),
            Wish::Terminal => word("--tty"),
            _ => None,
        }
    }

    fn exec_words(&self, wish: Wish<'_>) -> Option<Vec<String>> {
        match wish {
            Wish::User(user) => Some(vec!["--user".into(), user.into()]),
            Wish::Cwd(_) | Wish::Terminal => self.words(wish),
            _ => None,
        }
    }

    fn common(&self) -> Vec<String> {
        vec![
            "--snapshotter=native".into(),
            format!("--runc-binary={}", self.runtime.display()),
            format!("--runc-root={}", self.directory.join("runtime").display()),
        ]
    }

    fn run_command(&self, wishes: &[Wish<'_>], args: &[&str]) -> Command {
        let name = self.new_name("run");
        let mut client = self.ctr("run");
        client.arg("--rm").args(self.common_for(&name)).args(self.all_words(wishes)).arg(IMAGE);
        client.arg(name).args(args);
        client
    }

    fn run(&self, wishes: &[Wish<'_>], script: &str) -> Output {
        heard(|| output(&mut self.run_command(wishes, &["sh", "-c", script])))
    }

    fn exec(&self, name: &str, wishes: &[Wish<'_>], script: &str) -> Output {
        heard(|| output(&mut self.exec_command(name, wishes, &["sh", "-c", script])))
    }

    fn start(&self, name: &str, wishes: &[Wish<'_>], args: &[&str]) {
        let mut client = self.ctr("run");
        client.args(["--detach", "--null-io"]).args(self.common_for(name)).args(self.all_words(wishes));
        succeed(client.args([IMAGE, name]).args(args));
    }

    fn start_control(&self, name: &str, wishes: &[Wish<'_>], args: &[&str]) {
        let mut client = self.ctr("run");
        client.args(["--detach", "--null-io", "--snapshotter=native", "--runc-binary=runc"]);
        client.arg(format!("--runc-root={}", self.directory.join("control").display()));
        client.arg(format!("--cgroup=/{}/{name}", self.cgroups.name())).args(self.all_words(wishes));
        succeed(client.args([IMAGE, name]).args(args));
    }

    /// By way of an image: the client has none but this for the restore of a process.
    fn checkpoint_and_restore(&self, name: &str) -> Vec<Command> {
        let image = &format!("cofferdam.test/{name}:1");
        steps(
            self,
            [
                &["container", "checkpoint", "--rw", "--task", name, image],
                &["task", "delete", "--force", name],
                &["container", "delete", name],
                &["container", "restore", "--rw", "--live", name, image],
            ],
        )
    }

    fn exec_command(&self, name: &str, wishes: &[Wish<'_>], args: &[&str]) -> Command {
        let words = wishes.iter().flat_map(|wish| self.exec_words(*wish).expect("words for it"));
        let mut client = self.ctr("task");
        client.args(["exec", "--exec-id", &self.new_name("exec")]).args(words).arg(name).args(args);
        client
    }

    fn cgroup_file(&self, name: &str, file: &str) -> String {
        // Nothing shows it inside.
        let (controller, file) = file.split_once('/').unwrap_or(("", file));
        let hierarchy = Path::new("/sys/fs/cgroup").join(controller);
        let cgroup = own_cgroup(hierarchy.join(self.cgroups.name()).join(name));
        std::fs::read_to_string(cgroup.join(file)).expect("a limit")
    }

    fn kill(&self, name: &str, signal: &str) {
        self.tell(&["task", "kill", "--signal", signal, name]);
    }

    fn wait(&self, name: &str) -> i32 {
        let (pid, _) = self.task(name).expect("a task");
        await_end(pid);
        // The code is in a warning.
        let output = output(self.client().args(["task", "delete", name]));
        let said = crate::engine::said(&output);
        let code = said.split("non-zero exit code ").nth(1).and_then(|rest| rest.split('"').next());
        code.map_or(0, |code| code.trim().parse().unwrap_or_else(|_| panic!("no exit code in {said}")))
    }

    fn pause(&self, name: &str) {
        self.tell(&["task", "pause", name]);
    }

    fn resume(&self, name: &str) {
        self.tell(&["task", "resume", name]);
    }

    fn status(&self, name: &str) -> String {
        self.task(name).expect("a task").1
    }

    fn top(&self, name: &str) -> String {
        self.tell(&["task", "ps", name])
    }

    fn memory_in_use(&self, name: &str) -> String {
        let metrics = self.tell(&["task", "metrics", name]);
        let line = metrics.lines().find(|line| line.starts_with("memory.usage"));
        line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default().to_owned()
    }

    fn remove(&self, name: &str) {
        if self.task(name).is_some() {
            self.tell(&["task", "delete", "--force", name]);
        }
        self.tell(&["container", "delete", name]);
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let Ok(list) = self.client().args(["container", "ls", "--quiet"]).output() else { return };
        for name in String::from_utf8_lossy(&list.stdout).split_whitespace() {
            let _ = self.client().args(["task", "delete", "--force", name]).output();
            let _ = self.client().args(["container", "delete", name]).output();
        }
    }
}

test_cases! { start:
    output_and_exit_code_are_the_programs
    a_missing_program_is_an_error_that_names_it
    wishes_come_true_inside
    limits_are_in_the_cgroup
    out_of_memory_is_a_kill
    a_kill_ends_it_with_137
    further_processes_are_executed
    a_terminal_is_talked_to
    it_stands_still_and_goes_on
    processes_and_memory_are_shown
    the_privileged_have_every_capability_of_the_runtime
    a_container_goes_on_from_its_checkpoint_as_with_runc
}

/// What `ask` prints. On a busy machine ctr now and then prints nothing of a process that ends at once, though it ran: it
/// and the shim pass the output on through a FIFO that each opens by itself. With runc it does so as often: once in 200
/// runs with either, beside four busy loops on two processors. Then it is asked again, which is counted.
fn heard(ask: impl Fn() -> Output) -> Output {
    let is_silent =
        |output: &Output| output.status.success() && output.stdout.is_empty() && output.stderr.is_empty();
    let mut output = ask();
    for _ in 0..4 {
        if !is_silent(&output) {
            break;
        }
        note_skip("ctr printed nothing, and was asked once more");
        output = ask();
    }
    output
}
