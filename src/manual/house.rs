//! The source: which folder holds what, and which files create, exec and delete run through. For readers of the code.
//!
//! Paths are below `src/`, unless they begin with `tests/`.
//!
//! # Folders, from the bottom up
//!
//! Each folder has one law. A file uses only the folders that its row in `tests/house/layers.rs` allows; almost all of
//! them are above its own in this table.
//!
//! | Folder | What lives here | It must not |
//! |---|---|---|
//! | `error.rs`, `error/`, `id.rs` | errors, and the id of a container | use anything below in this table |
//! | `spec/` | `config.json`: parses every field once, and checks every rule of OCI that needs no host | look at the host |
//! | `seccomp/` | profiles, and the compiler from a profile to classic BPF | load a filter, or ask the kernel |
//! | `wire/` | the messages between processes, a type for each end of each connection; `wire/mod.rs` lists them | open a socket, or read a clock |
//! | `host/` | what this machine is, as values that tests can write down; only `host/probe.rs` looks | change the machine |
//! | `plan/` | makes a plan for each process from a valid configuration and facts about the host | have effects |
//! | `sys/` | a wrapper for each system call that has no safe one; the only `unsafe` code | retry, or decide |
//! | `process/` | channels and donations, identities by pid and start time, signals, streams, terminals | know what a container is |
//! | `helper/` | makes a helper of the caller's executable: image, spawn, zygote, exec proxy; kills and collects children | do the work of gofer and sandbox |
//! | `cgroup/` | makes, reads, freezes and removes cgroups | choose a path, a controller or a value, or move the caller |
//! | `criu/` | finds CRIU, and speaks to it | know what a container is, or decide which rights its processes get |
//! | `image/` | directories with all that a container was: writes them, and refuses what is not whole | know what a container or CRIU is |
//! | `state/` | the record, its claim and its lock, the exit record | talk to a process |
//! | `network/` | moves devices of the host to a container and back | create devices |
//! | `hooks/` | runs hooks | decide when a hook runs |
//! | `gofer/` | opens host paths, makes detached mounts, waits | use `sandbox/` |
//! | `sandbox/` | the container's parent: `sandbox/init/` becomes the workload, `sandbox/monitor/` is the event loop, `sandbox/files/` the file worker | resolve a host path of a mount, or use `gofer/` |
//! | `link/` | the caller's end: the control client, finding a live sandbox, joining a pod, killing through kernel objects | change a record |
//! | `container/` | what users call: a file for each phase at the top, below `container/builder/`, `container/create/`, `container/live/` and `container/pools/` | do the work of gofer and sandbox |
//! | `manual/` | text | have code |
//! | `bin/` | the program `cofferdam-helper` | use more than what is public |
//! | `build.rs` | the build script: builds that program for the feature `embedded-helper` | do anything without it |
//! | `lib.rs` | the tour, and the public names | define them |
//! | `weaken.rs` | the rules that a build with `--cfg weaken` can leave out, so that traps are seen to fire | do anything in another build |
//! | `floor.rs`, `fuzzing.rs`, `fuzzing/` | parts of the bench and of the fuzz targets | be used by anything else |
//!
//! *Pure* are `spec/`, `seccomp/`, `wire/`, `plan/`, and the values of `host/` and `state/`: they make no system call
//! and read no clock, so their tests need no privileges and no container.
//!
//! # What the tests hold
//!
//! * `tests/house/layers.rs`: which folder uses which, `unsafe` in `sys/` only, at most 500 lines to a file, and fewer
//!   than 15 files with under 60. A use against the table needs an exception with a reason, and an exception that
//!   nothing needs is an error. `gofer/` and `sandbox/` never know each other, whatever the table says.
//! * `tests/house/circles.rs`: no circle of imports between files. If a `mod.rs` defines what its children use
//!   and also uses the children, the definitions move to a file of their own.
//! * `tests/house/typestate.rs`: what must not compile, with the compiler's message.
//! * `tests/house/semantics.rs`: each operation, and the tests that fail without it.
//! * `tests/house/oci_manual.rs`: [every property of OCI](super::oci) is in the manual.
//! * `tests/house/house_manual.rs`: the files and functions that this page names exist, and it names every folder.
//!
//! # create
//!
//! 1. `container/builder/build.rs` `build` has `container/create/blueprint.rs` validate the configuration
//!    (`spec/mod.rs`), look at the host (`host/probe.rs`) and plan (`plan/mod.rs`). Nothing exists on the host yet.
//! 2. `container/creating.rs` `create` consumes the `Creating` phase and calls `container/create/transaction.rs`
//!    `launch`.
//! 3. `container/create/host_ids.rs` `claim` takes the range of host ids that `build` has chosen, if the container has one
//!    of its own (`state/id_claim.rs`). `container/create/namesake.rs` `claim` removes what a killed program left under the
//!    id, `state/claim.rs` `take` claims it, and `commit` saves the record. From here on a step that fails makes the
//!    transaction `undo` all steps before it.
//! 4. `cgroup/group.rs` `create` makes the cgroup and writes its limits. A systemd scope follows after step 6 instead.
//! 5. `container/create/sockets.rs` `open` makes the connections between the four processes, the control socket, the
//!    lifeline and the exit record. `plan/sealed.rs` `resolve` adds to each plan what is known only now, and no later
//!    step changes a plan.
//! 6. `helper/spawn.rs` `spawn` executes the sandbox, or `helper/zygote/mod.rs` asks the zygote for a fork. In the new
//!    process `helper/entry.rs` `before_main` calls `sandbox/mod.rs` `serve`. `container/create/id_maps.rs` `write`
//!    meanwhile writes its id maps, and the transaction tells it to begin. In a pod, `link/pod.rs` sends the container
//!    to the pod's sandbox instead.
//! 7. `sandbox/mod.rs` `prepare` joins the cgroups, `sandbox/namespaces.rs` `make` makes the namespaces, and
//!    `sandbox/init/mod.rs` `fork` forks init, and before it the reaper (`sandbox/reaper.rs`) if the plan has one. From
//!    then on the sandbox is in `sandbox/monitor/event_loop.rs` `run`.
//! 8. `gofer/mod.rs` `prepare`, in the next helper, has `gofer/mounts.rs` open each source as a detached mount, sends
//!    the mounts to init, and gives everything up in `gofer/confine.rs`.
//! 9. `sandbox/init/tree.rs` `assemble` attaches the mounts below the root, and `enter` pivots.
//!    `sandbox/init/program.rs` `find` looks the program up. Init reports "ready".
//! 10. `sandbox/monitor/container.rs` `hear_init` passes "ready" and init's pidfd on to the caller. The transaction's
//!     `record_created` saves "created" (`state/lock.rs` `save`), writes the PID file, and returns the
//!     `link/sandbox.rs` for the `Created` phase.
//!
//! # exec
//!
//! 1. `container/live/process.rs` `exec` is there for phases in which processes run. `container/live/exec.rs` `plan` applies
//!    the changes of [`Exec`](crate::Exec) to the process in the record.
//! 2. `spec/process.rs` `for_exec` validates the result, and `plan/process.rs` `new` plans it.
//! 3. `process/stdio.rs` `open` opens the streams, `plan/sealed.rs` `resolve` adds the numbers of extra descriptors to
//!    the plan, and `helper/spawn.rs` `seal_plan` puts it into sealed memory.
//! 4. `link/sandbox.rs` `connect` sends the request with the plan, the streams and one end of a new connection. It uses
//!    the connection that create made, or a new one of `link/client.rs` `connect_in`.
//! 5. `sandbox/monitor/requests.rs` `answer` takes the request, and `execute` hands it on.
//! 6. `sandbox/exec.rs` `fork` reads the plan and has `sys/fork_inside.rs` `fork_inside` fork the process, in the
//!    container's pid namespace and with nothing open that is the sandbox's.
//! 7. `sandbox/exec.rs` `run`, in the new process, joins the cgroups (`sandbox/cgroups.rs` `join`) and init's other
//!    namespaces, and finds user (`sandbox/init/accounts.rs`) and program (`sandbox/init/program.rs`) inside.
//! 8. `sandbox/init/become_workload.rs` `execute` sheds privileges, loads the filter and calls execve(2), as for init.
//! 9. `sandbox/monitor/processes.rs` `hear` sees the connection close: the program runs. It sends "started" and a pidfd
//!    to the caller, which returns a [`Process`](crate::Process).
//! 10. `sandbox/monitor/processes.rs` `end` collects the status when the process ends and sends it over the same
//!     connection; `wait` receives it there. At a timeout, `sandbox/offspring.rs` `kill` kills the process with all that
//!     it started.
//!
//! # take
//!
//! 1. `container/pools/pool.rs` `refill` is the thread that has `container/pools/member.rs` `make` build and create members
//!    ahead of time. Each keeps a `cgroup/snapshot.rs` of its cgroups.
//! 2. `container/pools/pool.rs` `take` pops the oldest member; `container/pools/member.rs` `is_unchanged` looks whether it
//!    is as it was made. One that is not goes to the refill thread, which destroys it.
//! 3. `container/pools/member.rs` `prepare` applies the `container/pools/job.rs` to the template's process,
//!    `spec/process.rs` `for_job` validates it, and `process/stdio.rs` `open` opens the streams.
//! 4. `container/pools/member.rs` `hand_over` sends plan and streams, and saves the record meanwhile.
//! 5. `sandbox/monitor/waiting.rs` `give_job` hands them on, and `sandbox/init/mod.rs` `take_job` takes them and finds the
//!    program. What follows is the same start as for any container.
//!
//! # restore
//!
//! 1. `container/builder/restore.rs` `restore` reads what matters of the image (`criu/contents.rs`), finds the files of CRIU
//!    (`criu/files.rs`), and leaves both to `plan/restore.rs`. `build` compares streams and filter
//!    (`container/create/restore_source.rs`).
//! 2. Create begins as for any container. The gofer makes mounts of the images and of CRIU's files, too, and
//!    `sandbox/init/room.rs` `make_room` keeps them for the sandbox. It leaves the root in an empty one
//!    (`sandbox/init/empty_root.rs` `enter_with`), makes the directory that CRIU reads (`images`), unpacks the layers
//!    (`unpack`), and waits for its end, so that its pid is free.
//! 3. `sandbox/monitor/restoring.rs` `fork_criu` ends init, and `sandbox/restore/mod.rs` `fork` forks CRIU in the container.
//!    `hear` enters the root with it.
//!    `criu/restore.rs` has the messages.
//!    If the program was PID 1, `sandbox/init/anteroom.rs` `make_anteroom` comes before: CRIU begins in an empty root, makes
//!    the pid namespace (`sandbox/restore/anteroom.rs` `meet_first`), and waits while init assembles the root from inside it
//!    (`assemble_beside`). This init stays as PID 1 of the namespace above (`sandbox/reaper.rs` `stay`).
//! 4. When CRIU has made every process, `sandbox/restore/posture.rs` `check` compares each thread with the plan, and
//!    `find_restored` gets a pidfd of the first process, which is a child of the sandbox. The container is created.
//! 5. `start` has CRIU let the processes go (`sandbox/monitor/waiting.rs` `start`); `hear_of_release` hears that they run.
//!
//! # clone
//!
//! 1. `container/template.rs` `into_template` asks the sandbox of a running container to write its process down.
//!    `sandbox/monitor/templates.rs` `write_down` looks whether it is alone, and `sandbox/template/capture.rs` `capture`
//!    stops it, refuses what cannot be copied (`sandbox/template/refusal.rs`, `sandbox/template/files.rs`), and answers
//!    with two sealed memfds: pages, and a description (`wire/template.rs`). It holds the process until the connection
//!    is closed: `read_files` has a file worker archive the files in memory meanwhile. The container is then deleted.
//! 2. A builder of `container/template.rs` `builder` has all that as its `TemplateMemory` (`container/handle.rs`).
//!    create is that of any container; the sandbox keeps the description, init the pages, and `sandbox/init/room.rs`
//!    `unpack` the files.
//! 3. At the start, `sandbox/init/become_workload.rs` `execute` has init traced (`sys/tracing.rs` `be_traced`) before it
//!    loads the filter and calls execve(2), so that the new program stops before its first instruction.
//! 4. `sandbox/monitor/waiting.rs` `hear_of_start` hears of the execve(2), and `sandbox/template/write.rs` `write` has the
//!    process replace its memory by a table of system calls, sets its registers, and lets it go.
//!
//! # delete
//!
//! 1. `container/stopped.rs` `delete` deletes a loaded or detached container by its record. An attached one it leaves
//!    to `container/attachment.rs` `destroy`, which first kills the helpers through the pidfds that it holds.
//! 2. `state/lock.rs` `acquire` takes the lock and checks that the locked inode still has its name.
//! 3. `container/teardown.rs` `destroy` reads the record again, and stops if another container has the name by now.
//! 4. `link/kill.rs` `leave_pod` asks the sandbox of a pod to end the container's processes and to forget it, unless it
//!    is the root container.
//! 5. `link/kill.rs` `kill_process` kills the sandbox, then init and gofer, each by the identity in the record
//!    (`process/identity.rs`), and waits for the end.
//! 6. `cgroup/teardown.rs` `thaw` lets frozen processes run meanwhile, because on cgroup v1 a frozen one does not die.
//! 7. `cgroup/teardown.rs` `destroy` kills what still is in the cgroups and removes them, and `prune` removes the
//!    parents that were made for them. `cgroup/systemd.rs` has systemd remove a scope.
//! 8. Only if all of this succeeded, `container/oci.rs` `poststop` notes in the record that the poststop hooks run, and
//!    runs them once (`hooks/mod.rs`). Otherwise the record stays, and delete fails with
//!    [`Incomplete`](crate::ErrorKind::Incomplete).
//! 9. `state/lock.rs` `remove` removes the record, then the run directory, and the lock file last.
//! 10. `helper/child.rs` `collect_ended` collects the helpers that were children of the caller, so that none stays a zombie.
