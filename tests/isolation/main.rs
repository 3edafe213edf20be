//! What a workload is, sees and can do, and what it must not: measured from inside and from the host.

mod binds;
mod devices;
mod exhaustion;
mod groups;
mod host_mounts;
mod host_rootfs;
mod hostile_files;
mod hostile_tracer;
mod keyring;
#[path = "../kit/mod.rs"]
mod kit;
mod leases;
mod mount_namespace;
mod own_devices;
mod own_ids;
mod peer_inflight;
mod posture;
mod posture_of_exec;
mod posture_of_helpers;
mod posture_of_hooks;
mod posture_of_init;
mod seccomp;
mod streams;
mod teeth;
mod workload_view;
