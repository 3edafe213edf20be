//! The example `oci` as the runtime of podman, docker, containerd, Kubernetes, docker swarm and Slurm.
//!
//! The example `oci` replaces runc in podman, docker, containerd and other engines that drive runc. It has runc's verbs,
//! flags and exit codes, and the words that engines look for in runc's errors. It uses only the public API.
//!
//! ```sh
//! cargo build --profile dist --example oci
//! install -D target/dist/examples/oci /usr/local/bin/cofferdam-oci
//! ```
//!
//! podman (through conmon), docker and containerd (through its shim) take a container's pid from the PID file. They wait for
//! that process, look for the container's network namespace and cgroup at it, and show its pid. It is the container's
//! [sandbox](super::oci#hooks-and-the-containers-pid). Hooks, and tools that read `oci state`, get the pid of the program.
//! The memory that they show for a container has the sandbox's in it, a quarter of a MiB. Its number of processes has not.
//!
//! # podman
//!
//! podman takes it by its path, or by a name from `containers.conf`. With `runtime_supports_json` podman shows its errors
//! in full.
//!
//! ```toml
//! [engine]
//! cgroup_manager = "cgroupfs"
//! runtime = "cofferdam"
//! runtime_supports_json = ["cofferdam"]
//!
//! [engine.runtimes]
//! cofferdam = ["/usr/local/bin/cofferdam-oci"]
//! ```
//!
//! ```sh
//! podman run --rm --network none busybox echo hello
//! podman --runtime /usr/local/bin/cofferdam-oci --cgroup-manager=cgroupfs run --rm --network none busybox echo hello
//! ```
//!
//! It also works without privileges: with a range in `/etc/subuid`, or with only the caller's id.
//!
//! # docker
//!
//! docker takes it from `/etc/docker/daemon.json`, or from `dockerd --add-runtime cofferdam=/usr/local/bin/cofferdam-oci`:
//!
//! ```json
//! { "runtimes": { "cofferdam": { "path": "/usr/local/bin/cofferdam-oci" } } }
//! ```
//!
//! ```sh
//! docker run --rm --runtime cofferdam --network none busybox echo hello
//! ```
//!
//! # containerd and Kubernetes
//!
//! containerd runs it through its own shim for runc. `ctr` takes the path of the program; Kubernetes takes a handler from
//! `/etc/containerd/config.toml`:
//!
//! ```sh
//! ctr run --rm --runc-binary /usr/local/bin/cofferdam-oci docker.io/library/busybox:latest hello echo hello
//! ```
//!
//! ```toml
//! version = 2
//!
//! [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cofferdam]
//! runtime_type = "io.containerd.runc.v2"
//!
//! [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cofferdam.options]
//! BinaryName = "/usr/local/bin/cofferdam-oci"
//! ```
//!
//! ```yaml
//! apiVersion: node.k8s.io/v1
//! kind: RuntimeClass
//! metadata:
//!   name: cofferdam
//! handler: cofferdam
//! ---
//! apiVersion: v1
//! kind: Pod
//! metadata:
//!   name: hello
//! spec:
//!   runtimeClassName: cofferdam
//!   restartPolicy: Never
//!   containers:
//!     - name: hello
//!       image: busybox
//!       command: [echo, hello]
//! ```
//!
//! # Several machines
//!
//! The crate manages the containers of one machine and knows no other. On a cluster, an orchestrator decides which node runs
//! a container: Kubernetes with the runtime class above, docker swarm, or Slurm. Install the program on every node, and
//! configure the orchestrator to run it.
//!
//! # docker swarm
//!
//! A service has no option for its runtime. So `/etc/docker/daemon.json` makes it the default of every node:
//!
//! ```json
//! {
//!   "default-runtime": "cofferdam",
//!   "runtimes": { "cofferdam": { "path": "/usr/local/bin/cofferdam-oci" } }
//! }
//! ```
//!
//! ```sh
//! docker swarm init
//! docker service create --name hello --replicas 3 --network host busybox sh -c 'echo hello; exec sleep 1000'
//! ```
//!
//! # Slurm
//!
//! Slurm runs the bundle that `srun --container` names. `oci.conf`, beside `slurm.conf` on every node, says how:
//!
//! ```text
//! RunTimeRun="exec /usr/local/bin/cofferdam-oci --root=/run/cofferdam-slurm/%u run %n.%u.%j.%s.%t -b %b"
//! RunTimeQuery="/usr/local/bin/cofferdam-oci --root=/run/cofferdam-slurm/%u state %n.%u.%j.%s.%t"
//! RunTimeKill="/usr/local/bin/cofferdam-oci --root=/run/cofferdam-slurm/%u kill %n.%u.%j.%s.%t SIGKILL"
//! RunTimeDelete="/usr/local/bin/cofferdam-oci --root=/run/cofferdam-slurm/%u delete --force %n.%u.%j.%s.%t"
//! ```
//!
//! Without `exec`, `scancel` signals only the shell that Slurm starts for the command. `RunTimeCreate` and `RunTimeStart`
//! instead of `RunTimeRun` would lose the exit code of the program, with any runtime.
//!
//! Slurm runs the container as the job's user, so that user must be able to make the directory for the records, here in a
//! directory like `/tmp`. An ordinary user's bundle has a configuration for a caller without privileges. The name of the
//! container has the node's name in it: without it, several `slurmd` on one machine would give two tasks the same name.
//!
//! ```sh
//! install -d -m 1777 /run/cofferdam-slurm  # at every boot
//! cd bundle && cofferdam-oci spec --rootless
//! srun --nodes 2 --container "$PWD" echo hello
//! ```
//!
//! # Checkpoints
//!
//! With [CRIU](super::checkpoint) in their `PATH`, engines write images of running containers and restore them, as root:
//!
//! ```sh
//! podman container checkpoint --export /var/tmp/server.tar server
//! podman container restore --import /var/tmp/server.tar --name again
//! docker checkpoint create server first && docker start --checkpoint first server  # of a daemon with --experimental
//! ctr container checkpoint --rw --task server example.org/server:1
//! ctr container restore --rw --live server example.org/server:1
//! ```
//!
//! The image is the directory `cofferdam` in the one that the engine names, so a container is restored with the runtime that
//! wrote its image. What an engine permits an image to have, as podman's `--tcp-established` and `--file-locks` and what
//! containerd sets by itself, is taken for what it is: a permission. A container that would need it is refused, and named.
//! There are no checkpoints in several steps (`--pre-checkpoint`), and no statistics (`--print-stats`).
//!
//! # What is tested
//!
//! `tests/engines` starts podman 4.3 (as root and without privileges), buildah 1.28, docker 20.10 and containerd 1.6
//! with all their state in one directory. It tests run, exec, terminals, stop, kill, pause, limits, volumes, pods,
//! checkpoints and more, and ran the commands above with images made from busybox. For Kubernetes it makes a kubelet's
//! CRI calls to containerd, once with the handler above and once with runc's: pods with the node's network and with
//! their own (CNI), shared namespaces, security contexts, limits and their update, out of memory, commands with a
//! deadline, stop, logs and failures. With two docker daemons it makes a swarm, and replicates, replaces, updates,
//! scales and drains a service. With Slurm 22.05 it runs jobs on two nodes, as root and as an ordinary user, signals
//! them, and cancels them. Here, too, runc is the control.
//!
//! Not tested: Kubernetes itself, its streaming calls (`kubectl exec`, `attach`), and engines that use systemd for cgroups
//! (built with `--features systemd`, the program takes `--systemd-cgroup`). If an engine's default limits are above root's
//! own, root needs `CAP_SYS_RESOURCE`; without it, set `default_ulimits` for podman, `--oom-score-adjust 0` for dockerd and
//! `restrict_oom_score_adj` for CRI.
