//! The calls and messages of CRI, `runtime.v1` in the `api.proto` of Kubernetes' cri-api, as far as the cases need them.
//! Fields have its numbers and names.

use super::wire::{Message, Refusal};
use super::{BOX, Cri};
use crate::kit::await_end;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// `NamespaceMode`: whose namespace a container is in.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Pod = 0,
    Container = 1,
    Node = 2,
    Target = 3,
}

/// What a pod shall be.
#[derive(Clone, Copy, Default)]
pub(crate) struct PodSpec<'a> {
    pub(crate) network: Mode,
    pub(crate) pid: Mode,
    pub(crate) ipc: Mode,
    pub(crate) hostname: &'a str,
    pub(crate) sysctls: &'a [(&'a str, &'a str)],
    pub(crate) privileged: bool,
}

/// What a container shall be.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spec<'a> {
    pub(crate) command: &'a [&'a str],
    /// A single one is all that is needed here.
    pub(crate) argument: Option<&'a str>,
    pub(crate) working_dir: &'a str,
    pub(crate) envs: &'a [(&'a str, &'a str)],
    /// From, to, read-only.
    pub(crate) mounts: &'a [(&'a Path, &'a str, bool)],
    /// From and to.
    pub(crate) devices: &'a [(&'a str, &'a str)],
    pub(crate) terminal: bool,
    pub(crate) user: Option<i64>,
    pub(crate) group: Option<i64>,
    pub(crate) supplemental_groups: &'a [i64],
    pub(crate) read_only: bool,
    pub(crate) add_capabilities: &'a [&'a str],
    pub(crate) drop_capabilities: &'a [&'a str],
    pub(crate) no_new_privileges: bool,
    pub(crate) privileged: bool,
    /// The container whose processes it sees.
    pub(crate) target: &'a str,
    pub(crate) resources: Resources<'a>,
}

/// What a container may use.
#[derive(Clone, Copy, Default)]
pub(crate) struct Resources<'a> {
    pub(crate) memory: i64,
    pub(crate) cpu_quota: i64,
    pub(crate) cpus: &'a str,
}

/// A pod that was run.
pub(crate) struct Pod {
    pub(crate) id: String,
    options: Message,
    config: Message,
    logs: PathBuf,
}

/// A container of a pod.
pub(crate) struct Container {
    pub(crate) id: String,
    log: PathBuf,
}

/// `ContainerState`.
pub(crate) const CREATED: i64 = 0;
pub(crate) const RUNNING: i64 = 1;
pub(crate) const EXITED: i64 = 2;

/// `ContainerStatus`.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) state: i64,
    pub(crate) exit_code: i64,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// `ExecSyncResponse`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Executed {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) exit_code: i64,
}

/// Of `ContainerStats`.
#[derive(Debug)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: i64,
    pub(crate) memory: i64,
}

/// What a kubelet has containers not see or not write to, unless they are privileged.
const MASKED: &[&str] = &["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// `Int64Value`.
fn value(number: i64) -> Message {
    Message::new().number((1, "value"), number)
}

impl PodSpec<'_> {
    /// `NamespaceOption`.
    fn namespaces(&self) -> Message {
        Message::new()
            .number((1, "network"), self.network as i64)
            .number((2, "pid"), self.pid as i64)
            .number((3, "ipc"), self.ipc as i64)
    }

    /// `PodSandboxConfig`.
    fn config(&self, name: &str, logs: &Path, cgroup: &str) -> Message {
        let metadata =
            Message::new().text((1, "name"), name).text((2, "uid"), name).text((3, "namespace"), "test");
        // SecurityProfile; 0 is RuntimeDefault, which a kubelet asks for here.
        let security = Message::new()
            .message((1, "namespace_options"), &self.namespaces())
            .flag((6, "privileged"), self.privileged)
            .message((9, "seccomp"), &Message::new());
        let linux =
            Message::new().text((1, "cgroup_parent"), cgroup).message((2, "security_context"), &security);
        let linux =
            self.sysctls.iter().fold(linux, |linux, (key, value)| linux.entry((3, "sysctls"), key, value));
        Message::new()
            .message((1, "metadata"), &metadata)
            .text((2, "hostname"), self.hostname)
            .text((3, "log_directory"), &logs.display().to_string())
            .entry((6, "labels"), "io.kubernetes.pod.name", name)
            .message((8, "linux"), &linux)
    }
}

impl Spec<'_> {
    /// `ContainerConfig`.
    fn config(&self, name: &str, attempt: i64, namespaces: &Message) -> Message {
        let metadata = Message::new().text((1, "name"), name).number((2, "attempt"), attempt);
        let mut config = Message::new()
            .message((1, "metadata"), &metadata)
            .message((2, "image"), &Message::new().text((1, "image"), BOX.name))
            .texts((3, "command"), self.command)
            .texts((4, "args"), self.argument.as_slice())
            .text((5, "working_dir"), self.working_dir);
        for (key, value) in self.envs {
            let variable = Message::new().text((1, "key"), key).text((2, "value"), value);
            config = config.message((6, "envs"), &variable);
        }
        for (from, to, read_only) in self.mounts {
            let mount = Message::new()
                .text((1, "container_path"), to)
                .text((2, "host_path"), &from.display().to_string())
                .flag((3, "readonly"), *read_only);
            config = config.message((7, "mounts"), &mount);
        }
        for (from, to) in self.devices {
            let device = Message::new()
                .text((1, "container_path"), to)
                .text((2, "host_path"), from)
                .text((3, "permissions"), "rwm");
            config = config.message((8, "devices"), &device);
        }
        let linux = Message::new()
            .message((1, "resources"), &self.resources.message())
            .message((2, "security_context"), &self.security(namespaces));
        config
            .entry((9, "labels"), "io.kubernetes.container.name", name)
            .text((11, "log_path"), &log_path(name, attempt))
            .flag((14, "tty"), self.terminal)
            .message((15, "linux"), &linux)
    }

    /// `LinuxContainerSecurityContext`.
    fn security(&self, namespaces: &Message) -> Message {
        let mut namespaces = namespaces.clone();
        if !self.target.is_empty() {
            // The last of a field is what counts.
            namespaces =
                namespaces.number((2, "pid"), Mode::Target as i64).text((4, "target_id"), self.target);
        }
        let capabilities = Message::new()
            .texts((1, "add_capabilities"), self.add_capabilities)
            .texts((2, "drop_capabilities"), self.drop_capabilities);
        let mut security = Message::new()
            .message((1, "capabilities"), &capabilities)
            .flag((2, "privileged"), self.privileged)
            .message((3, "namespace_options"), &namespaces)
            .flag((7, "readonly_rootfs"), self.read_only)
            .flag((11, "no_new_privs"), self.no_new_privileges);
        if let Some(user) = self.user {
            security = security.message((5, "run_as_user"), &value(user));
        }
        if let Some(group) = self.group {
            security = security.message((12, "run_as_group"), &value(group));
        }
        for group in self.supplemental_groups {
            security = security.number((8, "supplemental_groups"), *group);
        }
        if !self.privileged {
            // SecurityProfile; 0 is RuntimeDefault.
            security = security
                .texts((13, "masked_paths"), MASKED)
                .texts((14, "readonly_paths"), READ_ONLY)
                .message((15, "seccomp"), &Message::new());
        }
        security
    }
}

impl Resources<'_> {
    /// `LinuxContainerResources`, with what a kubelet says of a pod that asks for nothing.
    fn message(&self) -> Message {
        let period = if self.cpu_quota == 0 { 0 } else { 100_000 };
        Message::new()
            .number((1, "cpu_period"), period)
            .number((2, "cpu_quota"), self.cpu_quota)
            .number((3, "cpu_shares"), 2)
            .number((4, "memory_limit_in_bytes"), self.memory)
            .number((5, "oom_score_adj"), 1000)
            .text((6, "cpuset_cpus"), self.cpus)
    }
}

fn log_path(name: &str, attempt: i64) -> String {
    format!("{name}-{attempt}.log")
}

impl Cri {
    pub(crate) fn knows_image(&self, name: &str) -> bool {
        let image = Message::new().text((1, "image"), name);
        let request = Message::new().message((1, "image"), &image);
        // An error as long as the plugin is starting.
        let reply = self.call("ImageService/ImageStatus", &request).unwrap_or_default();
        !reply.message((1, "image")).text((1, "id")).is_empty()
    }

    pub(crate) fn run_pod(&self, name: &str, spec: PodSpec<'_>) -> Pod {
        let logs = self.directory.join("logs").join(self.handler).join(name);
        let config = spec.config(name, &logs, &format!("/{}", self.cgroups.name()));
        let request =
            Message::new().message((1, "config"), &config).text((2, "runtime_handler"), self.handler);
        let reply = self.tell("RuntimeService/RunPodSandbox", &request);
        Pod { id: reply.text((1, "pod_sandbox_id")), options: spec.namespaces(), config, logs }
    }

    /// The address of a pod with a network of its own.
    pub(crate) fn address(&self, pod: &Pod) -> String {
        let request = Message::new().text((1, "pod_sandbox_id"), &pod.id);
        let reply = self.tell("RuntimeService/PodSandboxStatus", &request);
        reply.message((1, "status")).message((5, "network")).text((1, "ip"))
    }

    pub(crate) fn create(&self, pod: &Pod, name: &str, attempt: i64, spec: Spec<'_>) -> Container {
        let request = Message::new()
            .text((1, "pod_sandbox_id"), &pod.id)
            .message((2, "config"), &spec.config(name, attempt, &pod.options))
            .message((3, "sandbox_config"), &pod.config);
        let reply = self.tell("RuntimeService/CreateContainer", &request);
        let log = pod.logs.join(log_path(name, attempt));
        Container { id: reply.text((1, "container_id")), log }
    }

    pub(crate) fn start(&self, container: &Container) -> Result<(), Refusal> {
        self.call("RuntimeService/StartContainer", &of_container(container)).map(drop)
    }

    pub(crate) fn run(&self, pod: &Pod, name: &str, spec: Spec<'_>) -> Container {
        let container = self.create(pod, name, 0, spec);
        self.tell("RuntimeService/StartContainer", &of_container(&container));
        container
    }

    pub(crate) fn status(&self, container: &Container) -> Status {
        let reply = self.tell("RuntimeService/ContainerStatus", &of_container(container));
        let status = reply.message((1, "status"));
        Status {
            state: status.number((3, "state")),
            exit_code: status.number((7, "exit_code")),
            reason: status.text((10, "reason")),
            message: status.text((11, "message")),
        }
    }

    /// Its status after its end.
    pub(crate) fn wait(&self, container: &Container) -> Status {
        if let Some(pid) = self.pid(container) {
            await_end(pid);
        }
        let mut status = self.status(container);
        self.wait_until("the end of the container is known", || {
            status = self.status(container);
            status.state == EXITED
        });
        status
    }

    /// The pid that the runtime gave, as long as it runs.
    fn pid(&self, container: &Container) -> Option<i32> {
        let request = of_container(container).flag((2, "verbose"), true);
        let reply = self.tell("RuntimeService/ContainerStatus", &request);
        // A map with one entry, which is a document of containerd's.
        let info = reply.message((2, "info")).text((2, "value"));
        let info: serde_json::Value = serde_json::from_str(&info).expect("a document");
        info["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0)
    }

    /// `seconds` is how long it may take; 0 is no limit.
    pub(crate) fn execute(
        &self,
        container: &Container,
        command: &[&str],
        seconds: i64,
    ) -> Result<Executed, Refusal> {
        let request = of_container(container).texts((2, "cmd"), command).number((3, "timeout"), seconds);
        let reply = self.call("RuntimeService/ExecSync", &request)?;
        Ok(Executed {
            stdout: reply.text((1, "stdout")),
            stderr: reply.text((2, "stderr")),
            exit_code: reply.number((3, "exit_code")),
        })
    }

    /// What a shell in a container writes, without the last newline.
    #[track_caller]
    pub(crate) fn shell(&self, container: &Container, script: &str) -> String {
        let executed = self.execute(container, &["sh", "-c", script], 0).expect("it is executed");
        assert_eq!((executed.exit_code, &*executed.stderr), (0, ""), "{script}: {executed:?}");
        executed.stdout.trim_end().to_owned()
    }

    /// The lines of its log: stream, tag, and what was written. The time before them is left out.
    pub(crate) fn log_of(&self, container: &Container) -> Vec<String> {
        let log = std::fs::read_to_string(&container.log).expect("its log");
        let without_time = |line: &str| {
            let (time, rest) = line.split_once(' ').expect("a time");
            assert!(time.starts_with("20") && time.contains('T'), "{line}");
            rest.to_owned()
        };
        log.lines().map(without_time).collect()
    }

    pub(crate) fn update(&self, container: &Container, resources: Resources<'_>) {
        let request = of_container(container).message((2, "linux"), &resources.message());
        self.tell("RuntimeService/UpdateContainerResources", &request);
    }

    pub(crate) fn usage(&self, container: &Container) -> Usage {
        let reply = self.tell("RuntimeService/ContainerStats", &of_container(container));
        let stats = reply.message((1, "stats"));
        Usage {
            cpu_ns: stats.message((2, "cpu")).message((2, "usage_core_nano_seconds")).number((1, "value")),
            memory: stats.message((3, "memory")).message((2, "working_set_bytes")).number((1, "value")),
        }
    }

    /// With SIGTERM, and after `seconds` with SIGKILL.
    pub(crate) fn stop(&self, container: &Container, seconds: i64) {
        let request = of_container(container).number((2, "timeout"), seconds);
        self.tell("RuntimeService/StopContainer", &request);
    }

    pub(crate) fn remove(&self, container: &Container) {
        self.tell("RuntimeService/RemoveContainer", &of_container(container));
    }

    pub(crate) fn stop_pod(&self, id: &str) -> Result<(), Refusal> {
        self.call("RuntimeService/StopPodSandbox", &Message::new().text((1, "pod_sandbox_id"), id)).map(drop)
    }

    pub(crate) fn remove_pod(&self, id: &str) -> Result<(), Refusal> {
        self.call("RuntimeService/RemovePodSandbox", &Message::new().text((1, "pod_sandbox_id"), id))
            .map(drop)
    }

    /// With everything in it, as a kubelet ends a pod without grace.
    #[track_caller]
    pub(crate) fn end_pod(&self, pod: Pod) {
        self.stop_pod(&pod.id).unwrap_or_else(|error| panic!("{error:?}; {}", self.log()));
        self.remove_pod(&pod.id).unwrap_or_else(|error| panic!("{error:?}; {}", self.log()));
    }

    /// The ids and states of all containers.
    pub(crate) fn list_containers(&self) -> BTreeSet<(String, i64)> {
        let reply = self.tell("RuntimeService/ListContainers", &Message::new());
        let containers = reply.messages((1, "containers"));
        containers.iter().map(|one| (one.text((1, "id")), one.number((6, "state")))).collect()
    }

    /// The ids of all pods.
    pub(crate) fn list_pods(&self) -> Result<BTreeSet<String>, Refusal> {
        let reply = self.call("RuntimeService/ListPodSandbox", &Message::new())?;
        Ok(reply.messages((1, "items")).iter().map(|pod| pod.text((1, "id"))).collect())
    }
}

/// The requests about a container begin with it.
fn of_container(container: &Container) -> Message {
    Message::new().text((1, "container_id"), &container.id)
}
