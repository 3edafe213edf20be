//! What the crate promises and what it does not, layer by layer, and where its design differs from the usual one.
//!
//! # Who is trusted
//!
//! Trusted: the caller, the configuration, and the host's root. Not trusted: the bytes of an image, the workload (also
//! as uid 0 in its user namespace) and everything it sends, and every other process that writes to a volume of the
//! container.
//!
//! # Promised
//!
//! Below each promise are tests that fail if it is broken, as program, file and function of `tests/`.
//!
//! * The crate reads, writes and creates no object of the host by path on the container's behalf, outside of the
//!   declared root and mounts.
//!   (`isolation::posture_of_helpers::a_rootfs_whose_mount_points_lead_out_touches_nothing_outside`,
//!   `isolation::posture_of_helpers::a_mount_destination_that_is_a_symlink_stays_inside`,
//!   `api::files::a_tree_that_changes_under_a_copy_never_leads_outside`)
//! * No privilege, descriptor, environment variable, key or memory of the caller or of a helper reaches the workload,
//!   except supplementary groups [if there is a single id](super::privileges#ids), or if
//!   [`keep_caller_groups`](crate::ContainerBuilder::keep_caller_groups) asks for them.
//!   (`isolation::posture::the_descriptors_are_the_three_streams_whatever_the_caller_leaks`,
//!   `isolation::posture_of_exec::the_descriptors_are_the_streams_and_what_was_given_whatever_the_caller_leaks`,
//!   `isolation::posture_of_exec::neither_groups_nor_inheritable_capabilities_of_the_caller_reach_what_is_executed`,
//!   `isolation::workload_view::the_environment_is_what_was_set_and_nothing_of_the_callers`,
//!   `isolation::keyring::no_process_of_a_container_finds_the_callers_keys`,
//!   `isolation::groups::no_group_of_a_privileged_caller_stays_with_one_id_or_many`)
//! * A startContainer hook, which is a program of the image, has the workload's privileges and no more.
//!   (`isolation::posture_of_hooks::a_hook_of_the_image_is_what_the_workload_is`)
//! * No process of the container has a [memory device of the host](super::processes#descriptors) open, such as its
//!   `/dev/null`. (`isolation::own_devices::no_descriptor_of_a_process_leads_to_a_device_of_the_host`)
//! * Helpers keep no mount of the host, except one that the configuration shares: a disk that the host unmounts is free.
//!   (`isolation::host_mounts::a_disk_that_the_host_unmounts_is_free_while_a_container_runs`)
//! * Under the default filter a workload takes no lease on a file (fcntl(2)). Where another filter lets it, or a process
//!   of the host has one, no operation waits for the file longer than a second: it fails, and names the lease. Only
//!   execve(2) of a leased program waits until the kernel breaks the lease, and a deadline of the caller holds meanwhile.
//!   (`isolation::seccomp::no_program_takes_a_lease`, `isolation::leases::file_work_names_the_lease`,
//!   `isolation::leases::create_and_exec_name_the_lease_on_the_images_users`,
//!   `isolation::leases::a_deadline_holds_for_a_program_that_is_leased`)
//! * An image that was tampered with gives no restored process more than the configuration allows: every thread is compared
//!   while it stands still, and the image's filter with the configuration's before that.
//!   (`api::restore::an_image_that_asks_for_more_is_refused_before_it_runs`,
//!   `api::restored_pid_1::a_pid_1_that_asks_for_more_is_refused_before_it_runs`)
//! * CRIU, which restores with capabilities that the container may not have, executes and loads no file of the container.
//!   (`api::restore::criu_executes_and_loads_nothing_of_the_container`)
//! * A restored process reaches nothing of the host that CRIU was executed from.
//!   (`api::restore::nothing_of_the_host_is_reachable_from_a_restored_process`)
//! * The limits of the configuration hold before the workload's first instruction. A limit that cannot be set is an
//!   error; with [best effort](crate::ContainerBuilder::best_effort_limits), a limit whose controller is missing is
//!   [named](crate::info::Info::unapplied_limits) instead.
//!   (`cgroups::limits::limits_are_in_the_cgroups_files_and_the_workload_is_under_them`,
//!   `cgroups::limits::limits_that_cannot_be_set_are_refused_and_not_dropped`,
//!   `cgroups::limits::limits_that_cannot_be_set_are_done_without_and_named_where_best_effort_is_enough`)
//! * Two containers of root have no host id in common, unless they are in one pod or were given
//!   [mappings](crate::ContainerBuilder::id_mappings). So none uses up what the kernel counts for each uid: descriptors that
//!   wait in sockets, pipe buffers, keys.
//!   (`isolation::own_ids::containers_of_root_share_no_id_whatever_their_state_roots`,
//!   `isolation::peer_inflight::a_container_that_fills_sockets_with_descriptors_disturbs_no_other`,
//!   `isolation::exhaustion::a_victim_lives_while_another_container_uses_up_what_its_user_has`)
//! * A container that the builder describes leaves its caller most of what the kernel counts for both: queued signals,
//!   timers, message queues, inotify and fanotify, namespaces. [The limits](super::privileges#other-limits-by-default).
//!   (`isolation::own_ids::a_default_container_cannot_use_up_what_its_caller_needs`)
//! * A workload that uses up what it can get of its own container's resources keeps no other container from being
//!   created, used and deleted: descriptors, terminals, sockets, shared memory, its output, its processes if their
//!   number is limited, its processor time if that is limited, page cache and disk, the programs that its host executes
//!   in it.
//!   (`isolation::exhaustion::a_victim_lives_while_another_container_uses_up_what_it_has`,
//!   `isolation::exhaustion::a_victim_lives_while_the_sessions_in_another_container_hang`,
//!   `isolation::exhaustion::no_record_is_written_to_the_disk_before_it_is_removed`,
//!   `cgroups::limits::limits_are_in_the_cgroups_files_and_the_workload_is_under_them`)
//! * No file of a container stops or misleads what its host executes there, whatever it has in place of `/etc/passwd`.
//!   (`isolation::hostile_files::no_file_of_a_container_stops_what_is_executed_in_it`)
//! * A process that may trace (`CAP_SYS_PTRACE`), or is user 0 of the container or the user that the program is executed
//!   as, can stop what its host executes in the container, and lets it go on when it likes. But deadlines hold, the caller
//!   learns of every end, and all else that is done with the container and with its pod goes on.
//!   (`isolation::hostile_tracer::a_tracer_that_holds_what_is_executed_holds_no_one_else`,
//!   `isolation::hostile_tracer::a_tracer_in_a_pod_with_one_pid_namespace_holds_no_other_container`,
//!   `isolation::hostile_tracer::a_tracer_that_keeps_the_connections_of_what_is_executed_stops_no_one`,
//!   `isolation::hostile_tracer::a_tracer_that_speaks_for_what_is_executed_stops_no_one`)
//! * A clone of a [template](super::templates) has the rights of its own configuration, whatever the template was or did.
//!   The sandbox that copies a process waits for it for a limited time.
//!   (`api::template::a_clone_has_the_ids_capabilities_filter_and_limits_of_a_cold_start`,
//!   `api::template::memory_that_is_wiped_on_fork_is_wiped_in_a_clone`,
//!   `api::template::a_process_that_does_not_stop_in_time_is_killed_and_the_sandbox_works_on`,
//!   `api::template::a_reservation_too_large_to_look_through_is_refused_in_time`,
//!   `api::template::pages_that_were_only_read_are_not_copied`)
//! * No annotation of a bundle changes its container, because engines pass on those of an image, unless the caller
//!   [asks for it](super::oci#annotations).
//!   (`api::pods::annotations_of_engines_are_followed_only_if_asked_for`)
//! * If a configuration asks for something that the crate does not do, the crate refuses it by field name. It drops
//!   nothing silently.
//!   (`oci::bad_input::every_row_is_refused_in_its_words_and_leaves_the_host_as_it_was`)
//! * A failed create leaves nothing, and harms no container that existed.
//!   (`faults::killed_processes::a_helper_killed_at_any_call_fails_the_caller_and_leaves_nothing`,
//!   `api::lifecycle::a_taken_id_is_refused_and_its_owner_is_unharmed`)
//! * If a helper dies, nothing of the container goes on running, provided that the container has a new pid namespace.
//!   (`api::lifecycle::a_killed_gofer_ends_its_container`,
//!   `api::lifecycle::a_killed_sandbox_takes_everything_along_and_the_outcome_says_lost`,
//!   `cgroups::pause::a_paused_container_whose_sandbox_is_killed_has_stopped`)
//! * If the caller is killed, an attached container that was created and has not ended leaves no process and no cgroup,
//!   only the record of how it ended. For the cgroups this needs a kernel with Landlock; systemd removes the cgroups of
//!   a scope.
//!   (`api::attachment::a_killed_caller_takes_its_attached_container_along`,
//!   `api::attachment::a_killed_caller_leaves_no_cgroup`)
//! * The caller is not changed.
//!   (`api::unharmed::a_hundred_containers_from_eight_threads_leave_the_caller_as_it_was`)
//!
//! `tests/isolation/teeth.rs` shows for rules of the code that its tests fail where the rule is left out.
//!
//! # Not promised
//!
//! * Protection from kernel bugs. The workload makes its system calls to the host's kernel; the filter reduces which
//!   ones.
//! * Protection from side channels: caches, timing, speculative execution.
//! * Fairness without limits: memory, CPU time, disk and network are shared with the host unless a limit is set. What the
//!   kernel's own threads do for a container, such as writing its files to the disk, is under no limit of processor time. And
//!   create and delete make and remove files in the state root: on a disk they wait for the journal of its file system, which
//!   a container on the same file system can keep busy with sync(2). The default state root is in memory.
//! * That a workload with `CAP_SYS_PTRACE` and no limit of processor time leaves the host any: on Linux 6.18 without
//!   preemption, ten processes that trace ten others step by step keep every other process of the host from running for
//!   seconds. A [`cpu_limit`](crate::ContainerBuilder::cpu_limit) prevents that.
//! * That many containers together leave the caller any signals, timers, message queues, inotify and fanotify objects or
//!   namespaces: each has its limit, and the kernel counts all of them for the caller, who may have fewer. Four containers
//!   with full message queues, or of inotify instances, leave root none. [`rlimit`](crate::ContainerBuilder::rlimit) lowers
//!   the limits of signals and queues.
//! * Anything of this kind between an unprivileged caller and its containers, whose uid 0 is the caller's own uid: such a
//!   container can use up the caller's descriptors in sockets, pipe buffers and keys, and those of its other containers.
//! * Isolation of a container whose `config.json` gives it up: no user namespace with `CAP_SYS_ADMIN`, the host's `/`
//!   bound writable, no seccomp. The crate obeys.
//! * Separation beyond what containers share. Two containers with one writable volume are as separate as that volume
//!   lets them be. The containers of a pod share a network, ipc objects, a user namespace, and, with
//!   [`share_pid_namespace`](crate::ContainerBuilder::share_pid_namespace), their processes. They also share what the kernel
//!   counts for each id of the user namespace: one that runs 1024 processes leaves the others none to fork, one that fills
//!   sockets with descriptors leaves them none to send. A [`pids_limit`](crate::ContainerBuilder::pids_limit) for each
//!   prevents the former.
//! * That a stream or a descriptor which the caller gives is the caller's alone afterwards. It is one open file for both: the
//!   workload can change its position and its flags, such as `O_NONBLOCK`, and use up the space of its pipe. A file that was
//!   opened to write is also opened to read, through `/proc/self/fd`, if its mode lets the workload. Give a pipe, as
//!   [`Stdio::piped`](crate::Stdio::piped) does, where that matters.
//! * That a state root below a directory of another user stays the one that was named. Its owner can move it away, and put
//!   another state root of the caller in its place: a container is then not found, or one with the same id is.
//! * That a process with `CAP_SYS_PTRACE`, executed in a created container, has no more rights than its own: it may trace
//!   init, which has all capabilities that the sandbox has until it becomes the workload. In a user namespace these count
//!   inside only. Without one, execute nothing in a created container that the workload could not be trusted to be.
//! * That a workload with `CAP_SYS_PTRACE` learns nothing of its pod. Until its execve, a process of exec is a copy of
//!   the sandbox, and such a workload may read its memory, which has the plans of the pod's other containers. It may
//!   not if the sandbox was forked from a [zygote](super::processes#the-zygote).
//! * That helpers forked from the same zygote differ in their memory layout or in their stack protector's secret: the
//!   kernel chooses both at execve(2). An attacker that learns them of one helper, through a kernel bug or a side
//!   channel, knows them of the others. Workloads are executed, and have their own.
//! * That a program which is made a [template](super::templates) costs nothing: one that maps terabytes without use keeps
//!   its sandbox from answering, also to the other containers of a pod, for 10 s.
//! * That a process which leaves the container's mount namespace, in a pid namespace that it shares with others, still
//!   counts as the container's. Only the kill of its cgroup still reaches it.
//! * That a tampered image is harmless beyond that. It decides what the processes of the container do, which of its files
//!   they have open, and what is in its scratch: as much as the root of the container could have done. And CRIU, a program
//!   in C, parses it: an image that takes CRIU over has what CRIU has, which is the container's namespaces, cgroups and
//!   files, as the container's root, with more capabilities than the workload. Without a user namespace that is root of the
//!   host: restore only an image that you trust there.
//! * That restored processes stand still if CRIU is killed between create and start, which only root of the host, the OOM
//!   killer or a process that was executed in the container can do: they run until the sandbox has killed them.
//! * That hooks are harmless: hooks of the host run with the caller's own privileges, and those of createContainer
//!   [start in the image's root](super::oci#the-working-directory-of-hooks). A startContainer hook is a program of the
//!   image, and can do what the workload can.
//!
//! # The layers
//!
//! | Layer | Does | Its limit |
//! |---|---|---|
//! | User namespace | uid 0 inside has no rights outside; capabilities count inside only | opens kernel code that would otherwise need root. The filter refuses nested user namespaces. |
//! | Mount namespace, pivot_root | only declared files are reachable | what is bound writable is the host's own; [chroot(2) alone](super::oci#a-mount-namespace-that-is-not-new) if the configuration has no new one |
//! | Pid namespaces | processes of others cannot be seen or signalled, except [one of this crate](super::processes#the-reaper) that holds nothing; killing the sandbox kills all | off if the configuration shares the host's |
//! | Network namespace | loopback only; abstract Unix sockets of the host are out of reach | a bound Unix socket still connects |
//! | Ipc, uts, cgroup namespaces | own shared memory and queues, name, cgroup view | |
//! | Capabilities | all five sets as planned, by default empty, read back before the exec | |
//! | no_new_privs | set-user-ID files raise nothing | off with `allow_new_privileges` |
//! | seccomp | an allow-list per ABI; see [`default_seccomp`](crate::oci::default_seccomp) | sees numbers and arguments, never memory |
//! | Masked and read-only paths | parts of `/proc` and `/sys` hidden or read-only | a list; the kernel adds files |
//! | Session keyring | a new, empty one, never the caller's; read-only where the quota of the container's ids is used up | the other keyrings are not namespaced; the filter refuses their calls |
//! | `RLIMIT_NPROC` | stops a fork bomb | [not for the host's root](super::privileges#processes) |
//! | cgroups | limits of memory, CPU and processes [for the container's own processes](super::processes#limits-and-who-is-under-them), and [which devices open](super::oci#device-rules), if requested | by default only a cgroup to freeze, if the caller may make one |
//! | Landlock | confines the waiting gofer: to removing its container's cgroups | not applied to the workload |
//!
//! `Rootfs::host()` shows the host's `/etc` among other directories, read-only and with the host's permissions.
//! Password hashes and `sudoers` are masked; only their permissions protect other secrets in `/etc`. A container of an
//! unprivileged caller reads there what the caller can read. For a workload that must not see this, use
//! [`Rootfs::directory`](crate::Rootfs::directory).
//!
//! A root directory without a scratch gets the mount points it lacks, as empty directories and files, and they stay
//! there. With a [`scratch`](crate::ContainerBuilder::scratch) they go to the layer in memory.
//!
//! In a configuration that shares the host's pid namespace
//! ([`share_pid_namespace`](crate::ContainerBuilder::share_pid_namespace) outside of a pod), there is no PID 1 whose
//! end ends everything. `kill` then ends init, and processes that init left behind end only if the container has a
//! cgroup of its own.
//!
//! # Not there yet
//!
//! A [checkpoint](super::checkpoint) by another user than root of the host. A restore of a container of a pod, and of a
//! terminal. In a pod, createContainer hooks of the host are refused, except for the root container.
//!
//! # Where the design differs from the usual one
//!
//! **Sandbox and gofer are separate processes.** runc and crun leave no process behind, and an engine's monitor
//! (conmon, the shim) is the container's parent. A library has no monitor to rely on, and its caller can be any
//! program. So the container has its own parent, the sandbox: it collects the exit status, enforces the time limit, and
//! answers requests after the caller has ended. It is PID 1 of a pid namespace around the container's, so its death
//! ends the rest. The gofer is another process because the one that opens host paths must not be the one that the
//! workload can attack.
//!
//! **The gofer has no pid and no network namespace of its own**, and for root no user namespace. A network namespace
//! per gofer would double the most expensive part of create. The waiting gofer has no file system but [its container's
//! cgroups](super::processes#the-gofer) and no system call that opens a socket or sends a signal, so those namespaces
//! would take away nothing that it can reach. A user namespace would prevent its work: to make an id-mapped mount, a
//! process needs `CAP_SYS_ADMIN` in the user namespace that owns the *file system* (mount_setattr(2)), and for a host's
//! file system that is the initial one. The gofer of an unprivileged caller enters the sandbox's user namespace,
//! because it may mount only there; this is also why such a container has no id-mapped root.
//!
//! **The gofer serves no files.** gVisor's gofer does, because the workload has no other way to its files. Here the
//! workload does its file I/O itself, at native speed, on the mounts that the gofer made. For access from outside, each
//! client gets [its own worker](super::processes#file-workers) inside the container's namespaces, which has no paths of
//! the host. The gofer had those paths; it keeps the right to open none of them, and takes no requests.
//!
//! **No fsync.** See [the record](super::crash_safety#on-disk) for the reason.
//!
//! **`RLIMIT_NPROC`, not a pids cgroup, is the default guard against fork bombs.** A cgroup needs write access that
//! most callers do not have, and on v1 joining one costs time in every run. The limit of setrlimit(2) needs neither,
//! and since Linux 5.14 the kernel counts it per user namespace. [`pids_limit`](crate::ContainerBuilder::pids_limit)
//! uses the cgroup, for an exact count.
//!
//! **The state directory is per user**, and nothing in it is secret from that user. Its checksums detect damage, not
//! tampering: a process that can write there can do all that the caller can. So can a container into which that directory,
//! or one above it, is bound, even read-only, and whose ids are the caller's: it reaches the sockets of the caller's
//! sandboxes.
//!
//! **The OCI state and the PID file have different pids**: [init's](crate::Container::init_pid), and the
//! [sandbox's](crate::Container::sandbox_pid), which ends with the container and with its status.
//! [Why](super::oci#hooks-and-the-containers-pid).
