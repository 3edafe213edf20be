//! docker, with a daemon of its own.

use crate::checkpoints::{search_path, steps};
use crate::daemon::Daemon;
use crate::engine::{Engine, Wish, docker_words, limited};
use crate::kit::{Stage, is_installed, is_root};
use crate::remains::{Cgroups, Orphans, Records};
use crate::{image, test_cases};
use std::path::{Path, PathBuf};
use std::process::Command;

struct Docker {
    directory: PathBuf,
    // In this order they end.
    _daemon: Daemon,
    _orphans: Orphans,
    _records: Records,
    cgroups: Cgroups,
}

fn start(stage: &Stage, runtime: PathBuf) -> Result<Box<dyn Engine>, String> {
    if !is_root() {
        return Err("dockerd needs root".into());
    }
    if !(is_installed("dockerd") && is_installed("docker")) {
        return Err("docker is not installed".into());
    }
    let directory = stage.readable_directory("docker");
    let mut dockerd = daemon(&directory, &runtime);
    let orphans = Orphans::inherit();
    let daemon = Daemon::start(&mut dockerd, &directory)?;
    let docker = Docker {
        _daemon: daemon,
        _orphans: orphans,
        _records: Records(records(&directory)),
        cgroups: Cgroups::new(stage.id("docker")),
        directory,
    };
    docker.tell(&["import", &image::archive(&docker.directory).display().to_string(), "box"]);
    Ok(Box::new(docker))
}

/// The command of a daemon with all its state in `directory`. The runtime is its default.
pub(crate) fn daemon(directory: &Path, runtime: &Path) -> Command {
    std::fs::write(directory.join("daemon.json"), "{}").expect("a configuration");
    let path = |name: &str| directory.join(name).display().to_string();
    // In a mount namespace of its own, as its package has it started: it leaves a mount when it ends.
    let mut dockerd = Command::new("unshare");
    dockerd
        .args(["--mount", "dockerd"])
        .args([
            "--config-file",
            &path("daemon.json"),
            "--data-root",
            &path("data"),
            "--exec-root",
            &path("exec"),
        ])
        .args(["--pidfile", &path("pid"), "--host", &format!("unix://{}", path("socket"))])
        // No network: what the host has stays as it is.
        .args(["--bridge=none", "--iptables=false", "--ip-masq=false", "--ip-forward=false"])
        .args(["--storage-driver=vfs", "--oom-score-adjust=0", "--log-level=warn"])
        .args(["--exec-opt=native.cgroupdriver=cgroupfs"])
        // Checkpoints are one of its experiments.
        .arg("--experimental")
        .env("PATH", search_path())
        .args(["--add-runtime", &format!("tested={}", runtime.display()), "--default-runtime=tested"]);
    dockerd
}

/// Where the runtime of such a daemon has its records.
pub(crate) fn records(directory: &Path) -> PathBuf {
    directory.join("exec/runtime-runc/moby")
}

/// A command of such a daemon's client.
pub(crate) fn client(directory: &Path) -> Command {
    let mut command = limited("docker");
    command
        .current_dir(directory)
        .env("DOCKER_CONFIG", directory.join("client"))
        .env("DOCKER_HOST", format!("unix://{}/socket", directory.display()));
    command
}

/// Ends and removes every container of such a daemon, as far as that is possible.
pub(crate) fn remove_containers(directory: &Path) {
    let ids = client(directory).args(["ps", "--all", "--quiet"]).output();
    let ids = ids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    for id in ids.split_whitespace() {
        let _ = client(directory).args(["rm", "--force", id]).output();
    }
}

impl Engine for Docker {
    fn client(&self) -> Command {
        client(&self.directory)
    }

    fn words(&self, wish: Wish<'_>) -> Option<Vec<String>> {
        match wish {
            // The daemon asks by itself, and so often.
            Wish::HealthCommand(command) => Some(vec![
                format!("--health-cmd={command}"),
                "--health-interval=1s".into(),
                "--health-retries=1".into(),
            ]),
            wish => docker_words(wish),
        }
    }

    fn control_words(&self) -> [&'static [&'static str]; 2] {
        [&[], &["--runtime=runc"]]
    }

    fn tells_of_oom(&self) -> bool {
        true
    }

    fn checkpoint_and_restore(&self, name: &str) -> Vec<Command> {
        steps(
            self,
            [
                &["checkpoint", "create", name, "image"],
                &["wait", name],
                &["start", "--checkpoint=image", name],
            ],
        )
    }

    fn common(&self) -> Vec<String> {
        vec![format!("--cgroup-parent=/{}", self.cgroups.name())]
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        remove_containers(&self.directory);
    }
}

test_cases! { start:
    output_and_exit_code_are_the_programs
    failures_have_the_exit_codes_of_docker
    wishes_come_true_inside
    limits_are_in_the_cgroup
    a_single_process_may_be_all_there_is
    out_of_memory_is_a_kill
    a_stop_is_a_request_and_then_a_kill
    a_kill_ends_it_with_137
    further_processes_are_executed
    a_terminal_is_talked_to
    it_stands_still_and_goes_on
    processes_and_memory_are_shown
    files_are_copied_in_and_out
    what_fails_is_started_again
    an_init_collects_orphans
    the_privileged_have_every_capability_of_the_runtime
    its_health_is_seen_to_change
    changed_limits_are_those_that_runc_sets
    statistics_and_processes_are_those_that_runc_shows
    a_further_process_of_a_user_is_what_it_is_with_runc
    a_container_goes_on_from_its_checkpoint_as_with_runc
}
