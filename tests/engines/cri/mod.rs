//! containerd as a kubelet has it: its CRI plugin, called over gRPC, runs pods for a runtime handler. Each case is gone
//! through twice: with runc's handler, which is the control, and with that of the example `oci`.
//!
//! The daemon has a network namespace of its own, so that pods with the node's network and the ends of other pods'
//! networks are in none of the host's, and a mount namespace, because the library for network plugins keeps what they
//! answered in a directory that nothing configures.

mod api;
mod cases;
mod wire;

use crate::daemon::Daemon;
use crate::engine::{limited, own_cgroup, succeed, wait_until};
use crate::image::{self, Image};
use crate::kit::example::example;
use crate::kit::{Stage, is_installed, is_root, note_skip, skip, stage};
use crate::remains::{Cgroups, Orphans, Records};
use crate::test_cases;
use api::Container;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use wire::{Message, Refusal, Reply, Server};

/// The handlers. Each has a directory with its name for its records.
const CONTROL: &str = "runc";
const OURS: &str = "cofferdam";
/// Whose containers CRI's are, in the eyes of containerd.
const RUNTIME_NAMESPACE: &str = "k8s.io";

/// What containers are made of.
const BOX: Image<'_> = Image { name: "cofferdam.test/box:1", command: &["sh"] };
/// What holds a pod: it does nothing.
const PAUSE: Image<'_> = Image { name: "cofferdam.test/pause:1", command: &["sleep", "1000000"] };

/// Where Debian has the plugins for networks.
const NETWORK_PLUGINS: &str = "/usr/lib/cni";
/// The addresses of pods.
const SUBNET: &str = "10.88.7.0/24";

/// What a node has before its daemon starts. A sysfs belongs to a network namespace, and if the first to mount it were a
/// pod, which wants it read-only, then it would be so for all.
const PREPARE: &str = "mount -t tmpfs none /var/lib && mkdir /var/lib/sys && mount -t sysfs sysfs /var/lib/sys && \
                       ip link set lo up && exec containerd --config \"$0\" --log-level warn";

/// containerd, with nothing in it but images.
struct Cri {
    /// Whom pods are run for.
    handler: &'static str,
    directory: PathBuf,
    server: Server,
    /// The daemon's, before it had anything to do.
    mounts: BTreeSet<String>,
    // In this order they end.
    daemon: Daemon,
    _orphans: Orphans,
    _records: [Records; 2],
    cgroups: Cgroups,
}

fn start(stage: &Stage) -> Result<Cri, String> {
    let runtime = example("oci")?;
    if !is_root() {
        return Err("containerd needs root".into());
    }
    for program in ["containerd", "ctr", "curl", "ip"] {
        if !is_installed(program) {
            return Err(format!("{program} is not installed"));
        }
    }
    let directory = stage.readable_directory("cri");
    let configuration = directory.join("config.toml");
    std::fs::write(&configuration, daemon_configuration(&directory, &runtime)).expect("a configuration");
    write_network_configuration(&directory);
    let mut containerd = Command::new("unshare");
    containerd.args(["--mount", "--net", "sh", "-c", PREPARE]).arg(configuration);
    let orphans = Orphans::inherit();
    let daemon = Daemon::start(&mut containerd, &directory)?;
    let records = [CONTROL, OURS].map(|handler| Records(directory.join(handler).join(RUNTIME_NAMESPACE)));
    let cri = Cri {
        handler: OURS,
        server: Server::at(directory.join("socket")),
        mounts: mounts(&daemon),
        daemon,
        _orphans: orphans,
        _records: records,
        cgroups: Cgroups::new(stage.id("cri")),
        directory,
    };
    cri.import_images();
    Ok(cri)
}

fn daemon_configuration(directory: &Path, runtime: &Path) -> String {
    let path = |name: &str| directory.join(name);
    let mut configuration = format!(
        "version = 2\n\
         root = {root:?}\n\
         state = {state:?}\n\
         oom_score = 0\n\
         [grpc]\n\
         address = {socket:?}\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\n\
         path = {opt:?}\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n\
         sandbox_image = {pause:?}\n\
         netns_mounts_under_state_dir = true\n\
         # No container may have more than the daemon without CAP_SYS_RESOURCE.\n\
         restrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
         bin_dir = {NETWORK_PLUGINS:?}\n\
         conf_dir = {networks:?}\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n\
         snapshotter = \"native\"\n",
        root = path("root"),
        state = path("state"),
        socket = path("socket"),
        opt = path("opt"),
        networks = path("networks"),
        pause = PAUSE.name,
    );
    for (handler, program) in [(CONTROL, Path::new("runc")), (OURS, runtime)] {
        configuration += &format!(
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.{handler}]\n\
             runtime_type = \"io.containerd.runc.v2\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.{handler}.options]\n\
             BinaryName = {program:?}\n\
             Root = {root:?}\n",
            root = path(handler),
        );
    }
    configuration
}

/// Each pod gets a pair of devices, and an address that the daemon's network namespace has a route to.
fn write_network_configuration(directory: &Path) {
    let networks = directory.join("networks");
    std::fs::create_dir(&networks).expect("a directory");
    let addresses = serde_json::json!({
        "type": "host-local",
        "subnet": SUBNET,
        "routes": [{ "dst": "0.0.0.0/0" }],
        "dataDir": directory.join("addresses"),
    });
    let network = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{ "type": "ptp", "ipMasq": false, "ipam": addresses }],
    });
    std::fs::write(networks.join("pods.conflist"), network.to_string()).expect("a configuration");
}

/// In the daemon's namespace.
fn mounts(daemon: &Daemon) -> BTreeSet<String> {
    let path = format!("/proc/{}/mountinfo", daemon.pid().as_raw_nonzero());
    std::fs::read_to_string(path).expect("its mounts").lines().map(str::to_owned).collect()
}

impl Cri {
    /// And waits until CRI has them, which learns of an image that it did not pull by an event.
    fn import_images(&self) {
        let layer = image::archive(&self.directory);
        let archive = image::oci_archive(&self.directory, &layer, &[BOX, PAUSE]);
        let mut ctr = limited("ctr");
        ctr.current_dir(&self.directory).arg("--address").arg(self.directory.join("socket"));
        ctr.args(["--namespace", RUNTIME_NAMESPACE, "image", "import", "--snapshotter=native"]).arg(archive);
        succeed(&mut ctr);
        for image in [BOX, PAUSE] {
            self.wait_until("the image is known", || self.knows_image(image.name));
        }
    }

    /// Asks the daemon over and over, as a kubelet does.
    fn wait_until(&self, what: &str, is_so: impl FnMut() -> bool) {
        wait_until(what, is_so, || self.log());
    }

    /// The node's namespace, as its link reads.
    fn namespace(&self, kind: &str) -> String {
        let path = format!("/proc/{}/ns/{kind}", self.daemon.pid().as_raw_nonzero());
        std::fs::read_link(path).expect("its namespace").to_string_lossy().into_owned()
    }

    /// What is in a file of a container's cgroup.
    fn cgroup_file(&self, container: &Container, file: &str) -> String {
        let (controller, file) = file.split_once('/').unwrap_or(("", file));
        let cgroup =
            Path::new("/sys/fs/cgroup").join(controller).join(self.cgroups.name()).join(&container.id);
        std::fs::read_to_string(own_cgroup(cgroup).join(file)).expect("a limit").trim().to_owned()
    }

    /// Whether the runtime of the handler has a record of the container.
    fn is_recorded(&self, container: &Container) -> bool {
        let records = std::fs::read_dir(self.directory.join(self.handler).join(RUNTIME_NAMESPACE));
        let mut names = records.expect("its records").flatten().map(|entry| entry.file_name());
        names.any(|name| name.to_string_lossy().contains(&container.id))
    }

    /// Notes that a case cannot run here, once for both handlers.
    fn skip(&self, reason: &str) {
        if self.handler == OURS {
            note_skip(reason);
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn call(&self, method: &str, request: &Message) -> Result<Reply, Refusal> {
        self.server.call(&format!("runtime.v1.{method}"), request)
    }

    #[track_caller]
    fn tell(&self, method: &str, request: &Message) -> Reply {
        self.call(method, request).unwrap_or_else(|error| panic!("{method}: {error:?}; {}", self.log()))
    }

    /// Nothing is left of the pods that a case has removed.
    fn assert_empty(&self) {
        assert_eq!(self.list_containers(), BTreeSet::new());
        assert_eq!(self.list_pods().expect("a list"), BTreeSet::new());
        let new: Vec<_> = mounts(&self.daemon).difference(&self.mounts).cloned().collect();
        assert!(new.is_empty(), "mounts are left in the daemon's namespace: {new:#?}");
    }
}

impl Drop for Cri {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "with the handler {}", self.handler);
            for pod in self.list_pods().unwrap_or_default() {
                let _ = self.stop_pod(&pod);
                let _ = self.remove_pod(&pod);
            }
        }
    }
}

/// Starts containerd, has it go through a case with either handler, and ends it. Without runc there is no control.
fn go_through(case: fn(&Cri)) {
    let stage = stage!();
    let mut cri = match start(&stage) {
        Ok(cri) => cri,
        Err(reason) => skip!("{reason}"),
    };
    for handler in [CONTROL, OURS] {
        if handler == OURS || is_installed("runc") {
            cri.handler = handler;
            case(&cri);
            cri.assert_empty();
        }
    }
}

test_cases! {
    containers_of_a_pod_share_network_and_ipc
    a_pod_that_shares_pids_sees_and_signals_all_of_them
    a_debugger_sees_the_processes_of_its_target
    the_namespaces_of_the_node_are_for_pods_that_ask
    a_container_is_what_its_configuration_says
    a_privileged_container_has_what_the_node_has
    limits_are_in_the_cgroup_and_can_be_changed
    out_of_memory_is_told_from_a_kill
    further_processes_are_executed_to_their_end_or_the_deadline
    a_stop_is_a_request_and_then_a_kill
    what_failed_is_made_anew_beside_its_log
    what_cannot_be_started_says_why
    containers_are_listed_with_what_they_use
    pods_with_networks_of_their_own_reach_each_other
}
