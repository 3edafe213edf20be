//! Figures, and a comparison with other runtimes.
//!
//! # Speed
//!
//! One run is build, create, start, wait and delete of a static `true` on a busybox root directory, in all seven
//! namespaces and without cgroup limits. The floor is one `clone3` into the same namespaces with the same mounts, exec
//! and wait.
//!
//! The figures are from one `cargo run --profile dist --example bench` on an otherwise idle virtual machine with 2 CPUs,
//! Linux 6.18, as root. All programs take turns in one loop, so you can compare them with each other.
//!
//! | One run, ms | p50 | p95 | p99 |
//! |---|---|---|---|
//! | floor | 1.41 | 2.04 | 2.65 |
//! | bubblewrap 0.8.0 | 3.20 | 3.87 | 4.66 |
//! | **cofferdam with a zygote** | **3.36** | **4.41** | **5.06** |
//! | **cofferdam** | **4.30** | **5.67** | **6.50** |
//! | **the example `oci run`** | **6.31** | **7.46** | **8.52** |
//! | crun 1.8.1, in a wrapper | 9.40 | 21.18 | 33.30 |
//! | that wrapper alone, running `true` | 3.93 | | |
//! | runc 1.1.5 | 22.32 | 29.92 | 36.38 |
//! | `podman run --rm` with the example `oci` | 80.70 | 93.14 | 97.07 |
//! | `podman run --rm` with runc | 110.91 | 126.77 | 129.51 |
//! | `podman run --rm` with crun, in a wrapper for each call | 114.14 | 118.51 | 120.35 |
//!
//! | One exec of `true` in a container that runs, ms | p50 | p95 | p99 |
//! |---|---|---|---|
//! | **cofferdam** | **1.30** | **1.62** | **2.19** |
//! | crun 1.8.1, in a wrapper of 3.89 | 7.94 | 10.63 | 13.79 |
//! | runc 1.1.5 | 21.82 | 34.84 | 43.49 |
//!
//! | | |
//! |---|---|
//! | Of the 4.30 ms: build, create, start, wait, delete | 0.25, 2.54, 0.40, 0.91, 0.10 ms (medians of each) |
//! | The same with limits on memory, processes and CPU | 4.41 ms |
//! | Another container in a pod, create to running | 2.60 ms |
//! | Pause and resume | 0.30 ms |
//! | State of one container among 500 | 0.02 ms |
//! | Containers per second from 8 threads | 304; with a zygote 411 |
//! | Memory of gofer and sandbox together (proportional set size) | 1870 KiB; 75 MiB for those of 100 containers |
//! | The same with a zygote | 1500 KiB; the zygote itself has 1089 KiB |
//! | Making the 100th container | 0.86 times the time of the first |
//! | A caller with 2 GiB of memory and 64 threads | 1.04 times the time of a small one |
//!
//! One run takes three times as long as the floor. About a millisecond is the start of the two helpers, mostly glibc's
//! dynamic loader. They start in parallel, so on busy CPUs a run takes several times as long. A statically linked program
//! has no loader, and its helpers are the same program: a run, and `oci run` too, takes 0.9 times as long, and the helpers
//! use two thirds of the memory.
//!
//! ```sh
//! RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --example oci --target x86_64-unknown-linux-gnu
//! ```
//!
//! crun 1.8.1 does not run on this host's mix of cgroup v1 and v2, so the bench starts it from a shell in a mount namespace
//! without the v2 mount. Subtract the wrapper's time.
//!
//! Without `CAP_SYS_PTRACE` the zygote forks only the gofer: a run then takes as long as without a zygote, and 8 threads make
//! a sixth more containers per second.
//!
//! bubblewrap does less: it has no second process that opens host paths, no record, no lock, and no wait for "created".
//!
//! `cargo run --profile dist --example bench` prints the table for your machine, `--json` as one object, and `--html FILE`
//! draws it. To include the example `oci`, build it first: `cargo build --profile dist --example oci`.
//!
//! # Compared with others
//!
//! | | cofferdam | runc, crun | youki | bubblewrap | gVisor (runsc) |
//! |---|---|---|---|---|---|
//! | Form | Rust library | program (crun also a C library) | program, Rust libraries | program | program |
//! | To install | nothing | the program | the program | the program | the program |
//! | Lifecycle errors found | at compile time | at run time | at run time | no lifecycle | at run time |
//! | Without root | yes | yes | yes | yes | partly |
//! | Hardened by default | yes | as `config.json` says | as `config.json` says | as the options say | yes: own kernel |
//! | Workload's system calls | filtered by seccomp | filtered by seccomp | filtered by seccomp | filter is the caller's | **served by its own kernel** |
//! | OCI bundles | read and written, see limits | **complete** | **yes** | no | **yes** |
//! | OCI command line, for engines | an example, tested with podman, docker, containerd, Slurm | **yes** | **yes** | no | **yes** |
//! | exec into a container | **yes** | **yes** | **yes** | no | **yes** |
//! | pause and resume | **yes** | **yes** | **yes** | no | **yes** |
//! | Statistics, events, live limits | **yes** | **yes** | **yes** | no | **yes** |
//! | Hooks | **yes** | **yes** | **yes** | no | **yes** |
//! | Consoles | **yes** | **yes** | **yes** | no | **yes** |
//! | Files of a container, from outside | **yes** | no | no | no | partly |
//! | Checkpoint and restore | by CRIU: dumped by root, restored by anyone | **yes, by CRIU** | partly | no | **yes** |
//! | Pods | **yes** | by their engine | by their engine | no | **yes** |
//! | Network setup | none or the host's | by their engine | by their engine | none or the host's | by their engine |
//! | Years in production | none | **many** | some | **many** | **many** |
//!
//! If the workload is hostile and you worry about the attack surface of the host kernel, use gVisor or a virtual machine: a
//! program in a cofferdam container makes system calls to the host kernel, through a filter. If an engine drives the runtime
//! and years in production count, use runc, crun or youki. If a shell script needs a sandbox, bubblewrap is smaller and
//! starts faster.
