//! podman, as root and without privileges.

use crate::checkpoints::{search_path, steps};
use crate::engine::{Engine, Wish, docker_words, limited};
use crate::image;
use crate::kit::{Stage, is_installed, is_root, write_script};
use crate::remains::{Cgroups, Orphans, Records};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The user that an engine without privileges runs as.
const NOBODY: u32 = 65_534;

struct Podman {
    runtime: PathBuf,
    directory: PathBuf,
    who: Who,
    // In this order they end.
    _orphans: Orphans,
    _records: Records,
    cgroups: Option<Cgroups>,
    _place: TempDir,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    /// Root, as another user with ranges of ids in an `/etc` of its own.
    NobodyWithRanges,
    /// The user who runs the test, with one id.
    Caller,
}

impl Podman {
    fn start(stage: &Stage, runtime: PathBuf, who: Who) -> Result<Box<dyn Engine>, String> {
        if !(is_installed("podman") && is_installed("conmon")) {
            return Err("podman is not installed".into());
        }
        // Not on the stage, which may be far down: podman refuses a runroot of more than 50 characters.
        let place = tempfile::tempdir_in("/tmp").expect("a directory");
        let directory = place.path().to_owned();
        // Another user has to get through.
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o711)).expect("a way through");
        let archive = image::archive(&directory);
        let cgroups = (who == Who::Root).then(|| Cgroups::new(stage.id("podman")));
        let records = Records(directory.join("run/cofferdam"));
        let runtime = if who == Who::Root { with_root(&runtime, &directory, &records.0) } else { runtime };
        let podman = Self {
            runtime,
            directory,
            who,
            _orphans: Orphans::inherit(),
            _records: records,
            cgroups,
            _place: place,
        };
        podman.write_configuration();
        let import = podman.client().arg("import").arg(archive).arg("box").output();
        let import = import.map_err(|error| format!("podman: {error}"))?;
        if !import.status.success() {
            let said = String::from_utf8_lossy(&import.stderr).replace('\n', " ");
            return Err(format!("podman refuses to work here: {}", said.trim_end()));
        }
        Ok(Box::new(podman))
    }

    fn write_configuration(&self) {
        let path = |name: &str| self.directory.join(name);
        for name in ["home", "run", "etc"] {
            std::fs::create_dir(path(name)).expect("a directory");
        }
        if self.who == Who::NobodyWithRanges {
            for name in ["home", "run"] {
                chown(path(name), Some(NOBODY), Some(NOBODY)).expect("a directory of nobody's");
            }
            for name in ["subuid", "subgid"] {
                std::fs::write(path("etc").join(name), format!("{NOBODY}:200000:65536\n")).expect("a range");
            }
        }
        std::fs::set_permissions(path("run"), PermissionsExt::from_mode(0o700)).expect("a private directory");
        // The locks not in memory that all podmans share; the limits not above those of this process, which may be
        // all that it may ask for.
        let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let processes = rustix::process::getrlimit(rustix::process::Resource::Nproc);
        let limit = |limit: rustix::process::Rlimit| limit.maximum.unwrap_or(4096).min(4096);
        let (files, processes) = (limit(open_files), limit(processes));
        let configuration = format!(
            "[containers]\n\
             default_ulimits = [\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]\n\
             log_driver = \"k8s-file\"\n\
             [engine]\n\
             events_logger = \"none\"\n\
             lock_type = \"file\"\n\
             runtime_supports_json = [\"oci\"]\n"
        );
        std::fs::write(path("containers.conf"), configuration).expect("a configuration");
        let [root, run] = ["home/root", "run/root"].map(path);
        let storage = format!("[storage]\ndriver = \"vfs\"\ngraphroot = {root:?}\nrunroot = {run:?}\n");
        std::fs::write(path("storage.conf"), storage).expect("a configuration");
    }

    fn command(&self) -> Command {
        let mut command = match self.who {
            Who::Root | Who::Caller => limited("podman"),
            Who::NobodyWithRanges => {
                let etc = self.directory.join("etc");
                let script = "mount -t overlay -o lowerdir=\"$0\":/etc overlay /etc && \
                              exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all \"$@\"";
                let mut unshare = limited("unshare");
                unshare.args(["--mount", "sh", "-c", script]).arg(etc).arg("podman");
                unshare
            }
        };
        command
            .current_dir(&self.directory)
            .env_clear()
            .env("PATH", search_path())
            .env("HOME", self.directory.join("home"))
            .env("XDG_RUNTIME_DIR", self.directory.join("run"))
            .env("CONTAINERS_CONF", self.directory.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.directory.join("storage.conf"))
            .env("TMPDIR", self.directory.join("run"));
        if self.who == Who::Root {
            command.env_remove("XDG_RUNTIME_DIR");
        }
        command
    }

    fn cgroup_parent(&self) -> Option<String> {
        self.cgroups.as_ref().map(|cgroups| format!("--cgroup-parent=/{}", cgroups.name()))
    }
}

impl Engine for Podman {
    fn client(&self) -> Command {
        let mut command = self.command();
        command.args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--log-level=error"]);
        for (flag, place) in [("--root", "home/root"), ("--runroot", "run/root"), ("--tmpdir", "run/tmp")] {
            command.arg(flag).arg(self.directory.join(place));
        }
        command.arg("--network-config-dir").arg(self.directory.join("home/networks"));
        command.arg("--runtime").arg(&self.runtime);
        command
    }

    fn words(&self, wish: Wish<'_>) -> Option<Vec<String>> {
        match wish {
            // There is one id.
            Wish::User(_) if self.who == Who::Caller => None,
            // With one limit the defaults of the others are gone.
            Wish::OpenFiles(..) => {
                docker_words(wish).map(|words| [words, vec!["--ulimit=nproc=1024:1024".into()]].concat())
            }
            wish => docker_words(wish),
        }
    }

    fn common(&self) -> Vec<String> {
        self.cgroup_parent().into_iter().collect()
    }

    fn pod_words(&self) -> Vec<String> {
        let infra = ["--infra-image=box".into(), "--infra-command=sleep 1000".into()];
        infra.into_iter().chain(self.cgroup_parent()).collect()
    }

    /// Without the ten seconds in which it would wait for a program that does not listen.
    fn remove(&self, name: &str) {
        self.tell(&["rm", "--force", "--time", "0", name]);
    }

    fn has_cgroups(&self) -> bool {
        self.who == Who::Root
    }

    fn control_words(&self) -> [&'static [&'static str]; 2] {
        [&["--runtime=runc"], &[]]
    }

    fn updates_processes(&self) -> bool {
        false
    }

    fn checkpoint_and_restore(&self, name: &str) -> Vec<Command> {
        steps(self, [&["container", "checkpoint", name], &["container", "restore", name]])
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.client().args(["rm", "--all", "--force", "--time", "0"]).output();
        if self.who != Who::Root {
            // The process that keeps its user namespace.
            let _ = self.client().args(["system", "migrate"]).output();
        }
    }
}

/// The runtime with a place for its records. podman's own `--runtime-flag` does not reach every verb; without one root's
/// are all in one directory, and another user's where its other files are.
pub(crate) fn with_root(runtime: &Path, directory: &Path, root: &Path) -> PathBuf {
    let script = directory.join("oci");
    let text = format!("#!/bin/sh\nexec {} --root {} \"$@\"\n", runtime.display(), root.display());
    write_script(&script, &text);
    script
}

mod as_root {
    use super::*;
    use crate::test_cases;

    fn start(stage: &Stage, runtime: PathBuf) -> Result<Box<dyn Engine>, String> {
        if !is_root() {
            return Err("about podman run by root".into());
        }
        Podman::start(stage, runtime, Who::Root)
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
        what_cannot_be_executed_has_its_exit_code
        a_terminal_is_talked_to
        it_stands_still_and_goes_on
        processes_and_memory_are_shown
        files_are_copied_in_and_out
        what_fails_is_started_again
        an_init_collects_orphans
        the_privileged_have_every_capability_of_the_runtime
        its_health_is_what_a_command_inside_says
        changed_limits_are_those_that_runc_sets
        statistics_and_processes_are_those_that_runc_shows
        a_further_process_of_a_user_is_what_it_is_with_runc
        a_container_goes_on_from_its_checkpoint_as_with_runc
        containers_of_a_pod_share_their_network
    }
}

mod without_privileges {
    use super::*;
    use crate::test_cases;

    /// Root plays another user; any other user is one.
    fn start(stage: &Stage, runtime: PathBuf) -> Result<Box<dyn Engine>, String> {
        Podman::start(stage, runtime, if is_root() { Who::NobodyWithRanges } else { Who::Caller })
    }

    test_cases! { start:
        output_and_exit_code_are_the_programs
        failures_have_the_exit_codes_of_docker
        wishes_come_true_inside
        a_stop_is_a_request_and_then_a_kill
        further_processes_are_executed
        a_terminal_is_talked_to
        files_are_copied_in_and_out
        containers_of_a_pod_share_their_network
    }
}
