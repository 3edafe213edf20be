//! A swarm of two docker daemons, with the example `oci` as the default runtime of both. Beside it each case is gone
//! through by another, with runc, which is the control.

mod cases;

use crate::daemon::Daemon;
use crate::docker;
use crate::engine::{output, said, succeed, wait_until};
use crate::image;
use crate::kit::example::example;
use crate::kit::{Stage, find, is_installed, is_root, skip, stage};
use crate::network;
use crate::remains::{Cgroups, Orphans, Records};
use crate::test_cases;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The images, which differ by their names alone.
const IMAGES: [&str; 2] = ["box:1", "box:2"];

struct Node {
    /// Where it listens for other nodes.
    address: &'static str,
    directory: PathBuf,
    // In this order they end.
    _daemon: Daemon,
    _records: Records,
}

impl Node {
    fn start(directory: &Path, address: &'static str, runtime: &Path, cgroups: &str) -> Result<Self, String> {
        let directory = directory.to_owned();
        let mut dockerd = docker::daemon(&directory, runtime);
        dockerd.arg(format!("--cgroup-parent=/{cgroups}"));
        let daemon = Daemon::start(&mut dockerd, &directory)?;
        let records = Records(docker::records(&directory));
        Ok(Self { address, directory, _daemon: daemon, _records: records })
    }

    fn client(&self) -> Command {
        docker::client(&self.directory)
    }

    /// Has the client do something that must succeed. What it wrote, without the last newline.
    fn tell(&self, args: &[&str]) -> String {
        succeed(self.client().args(args)).trim_end().to_owned()
    }

    /// Makes a swarm, or becomes part of one.
    fn enter(&self, verb: &str, args: &[&str]) -> Result<(), String> {
        let mut client = self.client();
        client.args(["swarm", verb, "--advertise-addr", self.address]);
        client.arg(format!("--listen-addr={}:2377", self.address)).args(args);
        let output = output(&mut client);
        output.status.success().then_some(()).ok_or_else(|| said(&output).replace('\n', " "))
    }

    /// The containers that run on it.
    fn containers(&self) -> Vec<String> {
        self.tell(&["ps", "--quiet", "--no-trunc"]).lines().map(str::to_owned).collect()
    }
}

struct Swarm {
    manager: Node,
    worker: Node,
    /// Ends after the nodes.
    _cgroups: Cgroups,
}

/// What a swarm knows of one of a service's tasks.
struct Task {
    id: String,
    image: String,
    /// `Running`, `Failed`, ...
    state: String,
    error: String,
}

impl Swarm {
    fn start(stage: &Stage, name: &str, runtime: &Path) -> Result<Self, String> {
        network::isolate()?;
        let cgroups = Cgroups::new(stage.id(name));
        let node = |role: &str, address| {
            Node::start(
                &stage.readable_directory(&format!("{name}-{role}")),
                address,
                runtime,
                cgroups.name(),
            )
        };
        let swarm = Self {
            manager: node("manager", "127.0.0.1")?,
            worker: node("worker", "127.0.0.2")?,
            _cgroups: cgroups,
        };
        let archive = image::archive(&swarm.manager.directory).display().to_string();
        for node in swarm.nodes() {
            for image in IMAGES {
                node.tell(&["import", &archive, image]);
            }
        }
        swarm.manager.enter("init", &[])?;
        let token = swarm.manager.tell(&["swarm", "join-token", "--quiet", "worker"]);
        swarm.worker.enter("join", &["--token", &token, "127.0.0.1:2377"])?;
        swarm.wait_until("both nodes are ready", || {
            let states = swarm.manager.tell(&["node", "ls", "--format={{.Status}}"]);
            states.lines().eq(["Ready", "Ready"])
        });
        Ok(swarm)
    }

    fn nodes(&self) -> [&Node; 2] {
        [&self.manager, &self.worker]
    }

    /// Starts a service that runs a program in the first of the images.
    fn create(&self, name: &str, options: &[&str], args: &[&str]) {
        let mut client = self.manager.client();
        client.args(["service", "create", "--detach", "--network=host", "--no-resolve-image"]);
        succeed(client.args(["--name", name]).args(options).arg(IMAGES[0]).args(args));
    }

    fn tasks(&self, service: &str) -> Vec<Task> {
        let format = "--format={{.ID}}\t{{.Image}}\t{{.CurrentState}}\t{{.Error}}";
        let list = self.manager.tell(&["service", "ps", "--no-trunc", format, service]);
        let task = |line: &str| {
            let mut fields = line.split('\t').map(str::to_owned);
            let mut field = || fields.next().unwrap_or_default();
            let [id, image, state, error] = [(); 4].map(|()| field());
            // It is followed by since when.
            let state = state.split(' ').next().unwrap_or_default().to_owned();
            Task { id, image, state, error }
        };
        list.lines().map(task).collect()
    }

    /// Waits until the service has so many tasks that run, all with this image.
    fn wait_until_running(&self, service: &str, number: usize, image: &str) {
        self.wait_until(&format!("{number} tasks run {image}"), || {
            let tasks = self.tasks(service);
            let running: Vec<_> = tasks.iter().filter(|task| task.state == "Running").collect();
            running.len() == number && running.iter().all(|task| task.image == image)
        });
    }

    /// Waits until the only task of a service has ended. The task.
    fn wait(&self, service: &str) -> Task {
        let mut ended = None;
        self.wait_until(&format!("{service} has ended"), || {
            let ends = ["Complete", "Failed", "Rejected"];
            ended = self.tasks(service).into_iter().find(|task| ends.contains(&task.state.as_str()));
            ended.is_some()
        });
        ended.expect("it was waited for")
    }

    fn wait_until(&self, what: &str, is_so: impl FnMut() -> bool) {
        let log = |node: &Node| std::fs::read_to_string(node.directory.join("log")).unwrap_or_default();
        wait_until(what, is_so, || self.nodes().map(log).concat());
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        for name in ["web", "job"] {
            let _ = self.manager.client().args(["service", "rm", name]).output();
        }
        for node in [&self.worker, &self.manager] {
            let _ = node.client().args(["swarm", "leave", "--force"]).output();
            docker::remove_containers(&node.directory);
        }
    }
}

/// Starts a swarm for each runtime, has it go through a case, and ends it.
fn go_through(case: fn(&Swarm)) {
    let stage = stage!();
    let runtime = match example("oci") {
        Ok(runtime) => runtime,
        Err(reason) => skip!("{reason}"),
    };
    if !is_root() {
        skip!("dockerd needs root");
    }
    if let Some(program) = ["dockerd", "docker", "ip"].iter().find(|program| !is_installed(program)) {
        skip!("{program} is not installed");
    }
    let orphans = Orphans::inherit();
    let runtimes = [("runc", find("runc")), ("cofferdam", Some(runtime))];
    let results = std::thread::scope(|scope| {
        let (stage, case) = (&stage, &case);
        let threads = runtimes.map(|(name, runtime)| {
            let thread = std::thread::Builder::new().name(format!("a swarm with {name}"));
            let go = move || match runtime {
                Some(runtime) => Swarm::start(stage, name, &runtime).map(|swarm| case(&swarm)),
                // There is no control then.
                None => Ok(()),
            };
            thread.spawn_scoped(scope, go).expect("a thread")
        });
        threads.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    drop(orphans);
    if let Some(reason) = results.into_iter().find_map(Result::err) {
        skip!("{reason}");
    }
}

test_cases! {
    a_service_has_its_replicas_whatever_happens
    a_job_has_the_exit_code_of_its_program
}
