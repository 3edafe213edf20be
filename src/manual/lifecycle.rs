//! Phases and transitions, how a container ends, and who owns it.
//!
//! # Phases
//!
//! ```text
//!               build            create            start
//!   builder ----------> Creating ------> Created ---------> Running
//!                                           |                  |
//!                                           | kill             | wait_stopped, stop, kill
//!                                           v                  v
//!                                           +----> Stopped <---+
//!                                                     | delete
//!                                                     v
//!                                                   gone
//! ```
//!
//! | Phase | On the host | Methods besides `id`, `status`, `info`, `config`, `explain` |
//! |---|---|---|
//! | [`Creating`](crate::Creating) | nothing | `create` |
//! | [`Created`](crate::Created) | gofer, sandbox, [reaper](super::processes#the-reaper), init; the root is assembled, the program found | `start`, `signal`, `signal_all`, `wait` and its variants, `end_fd`, `kill`, `detach`, `take_stdin` and its variants, `take_lines`, `files`, `mount` and its variants, `exec`, `exec_output`, `wait_pid`, `processes`, `signal_process` and its variants, `stats`, `events`, `update`, `pod`, the pids |
//! | [`Running`](crate::Running) | the same, and the workload runs | `forward_signals`, `wait_stopped`, `stop`, `pause`, `AsFd`, and the methods of `Created` except `start` |
//! | [`Paused`](crate::Paused) | the same, with all processes stopped | `resume`, `wait_stopped`, `stop`, and the methods of `Created` except `start`, `exec`, `exec_output`, and `signal_process` and its variants |
//! | [`Stopped`](crate::Stopped) | the record and the exit record | `exit`, `delete`, `take_stdout` and its variants, `files` with [`keep_files`](crate::ContainerBuilder::keep_files) |
//!
//! A phase's type holds what exists in that phase, and no `Option` for what may exist. A method is bound by a trait
//! that only the phases with that method implement ([`Startable`](crate::typestate::Startable),
//! [`Alive`](crate::typestate::Alive), [`Ended`](crate::typestate::Ended)). The compiler's message comes from that
//! trait: it names the phase that the call needs and the call that leads there. The traits are sealed.
//!
//! # What each transition does
//!
//! 1. **build** validates the configuration, looks at the host, and plans. It changes nothing. It finds every mistake
//!    that can be found without touching the host, and names the field: `config.json: process.cwd: is relative`.
//! 2. **create** claims the id, writes the record, makes the cgroup, starts sandbox and gofer, and waits until init has
//!    assembled the root and found the program *in* it. Init looks up `argv[0]` with the container's own `PATH`, root
//!    and user. A missing program is [`ProgramNotFound`](crate::ErrorKind::ProgramNotFound), a program that may not be
//!    executed is [`ProgramNotExecutable`](crate::ErrorKind::ProgramNotExecutable). If anything fails, create undoes
//!    everything and returns the container as it was.
//! 3. **start** lets init shed its privileges and execute the path that create found. Only execve(2) itself can still
//!    fail, for example because a script's interpreter is missing. The container has then ended, and
//!    [`Failed`](crate::Failed) holds it as stopped. Then **pause** stops all processes and **resume** lets them go on.
//!    The freezer of the container does this, which no process inside can notice; without a freezer, SIGSTOP and
//!    SIGCONT do, which a parent inside can notice. In a paused container files, processes and statistics can be read,
//!    and kill and stop work; exec does not.
//! 4. **wait_stopped**, **stop** and **kill** lead to [`Stopped`](crate::Stopped). `stop` sends SIGTERM and, after the
//!    grace time, kills; it resumes a paused container for this. `kill` kills every process and waits until they are
//!    gone.
//! 5. **delete** removes what is left, the record last. If something cannot be removed, the error is
//!    [`Incomplete`](crate::ErrorKind::Incomplete), the record stays, and you can call delete again.
//!
//! [`run`](crate::ContainerBuilder::run) and [`output`](crate::ContainerBuilder::output) do all five. If a step fails,
//! the container is gone when they return.
//!
//! `wait`, `try_wait` and `wait_timeout` are not transitions. They take `&self` and no lock, and any number of
//! processes can call them, again and again, also long after the end.
//!
//! # The type and the actual state
//!
//! A `Container<Running>` says that this program started the container. Meanwhile the workload may have ended, or
//! another process may have killed or deleted the container. Therefore create, start, detach and delete take the
//! container's lock and read the record again. If its generation is not the one that this value last saw, another
//! process changed it: the error is [`WrongState`](crate::ErrorKind::WrongState), or [`Ended`](crate::ErrorKind::Ended)
//! if the container has ended, and the failure holds the container in its actual phase
//! ([`Recovered::Moved`](crate::typestate::Recovered::Moved)). The status in a record is a hint. If a record says
//! `running` and the sandbox is dead, the container loads as stopped; pid, start time and boot id together decide
//! whether the sandbox is dead.
//!
//! # When the phase is not known
//!
//! [`AnyContainer`](crate::AnyContainer) is an enum of the five phases. For a method, borrow the container:
//! [`as_running`](crate::AnyContainer::as_running), [`as_alive`](crate::AnyContainer::as_alive) and similar return it,
//! or fail with [`WrongState`](crate::ErrorKind::WrongState), or with [`Ended`](crate::ErrorKind::Ended) if it has
//! ended. For a transition, take it: [`into_phase`](crate::AnyContainer::into_phase) returns it in that phase, or gives
//! it back in [`WrongPhase`](crate::typestate::WrongPhase). A `match` makes the compiler check that you handle every
//! phase. Methods that make sense in any phase are on `AnyContainer` itself: `kill`, `stop`, `detach`, `delete`,
//! `wait`. If one of its transitions fails, the error is a [`FailedAny`](crate::typestate::FailedAny) with the
//! container in its present phase.
//!
//! ```no_run
//! use cofferdam::{AnyContainer, StateRoot};
//!
//! fn make_it_run(root: &StateRoot, name: &str) -> cofferdam::Result<AnyContainer> {
//!     match AnyContainer::load(root, name)? {
//!         AnyContainer::Created(created) => Ok(created.start()?.into()),
//!         other => Ok(other),
//!     }
//! }
//! ```
//!
//! # How it ended
//!
//! [`Exit`](crate::Exit) has the outcome, the times, the CPU time and the memory used. Each [`Outcome`](crate::Outcome)
//! has its evidence:
//!
//! | Outcome | Evidence |
//! |---|---|
//! | `Exited` | the wait status. Also if the workload caught a signal of this API and then exited by itself. |
//! | `Signalled` | the wait status; this API did not send the signal |
//! | `Killed` | the wait status names the signal that this API sent, or the SIGKILL that it sent instead |
//! | `OutOfMemory` | a SIGKILL that this API did not send, and the memory cgroup counted a kill; of an executed process, a kill during its life. Without a memory cgroup: `Signalled`. |
//! | `TimedOut` | the sandbox killed it at its time limit: a container's [`timeout`](crate::ContainerBuilder::timeout), or that of an [executed process](crate::Exec::timeout) |
//! | `TooMuchOutput` | the caller collected its output, and had it killed at the limit; not in the record of a container |
//! | `CallerGone` | the sandbox killed it because the lifeline closed |
//! | `Checkpointed` | the sandbox ended it because `checkpoint` had written its image |
//! | `PodEnded` | the sandbox ended it because the root container of its pod had ended |
//! | `NeverStarted` | init ended between create and start |
//! | `Lost` | no exit record: the sandbox was killed from outside; or the gofer was killed, and the sandbox ended the container; or the [reaper](super::processes#the-reaper) was killed |
//!
//! The time limit begins when the program is executed; that of a process of exec, when the sandbox gets the request. The
//! sandbox enforces it, so it also holds after the caller has ended.
//!
//! # Signals
//!
//! By default the workload is not PID 1 of its container, and signals do to it what they do to any process. Where it is
//! PID 1 (in a container from a bundle, and with [`init(false)`](crate::ContainerBuilder::init)), the kernel does not
//! deliver a signal for which it has no handler; a SIGTERM to `sleep` would do nothing. So there
//! [`signal`](crate::Container::signal) looks at init's signal dispositions. If init catches or ignores the signal, it is
//! delivered as it is. If the disposition is the default, and the default is to end the process, it is delivered as
//! SIGKILL, and the record names the signal that the caller asked for. The *sandbox* treats
//! a signal sent to its own pid (HUP, INT, QUIT, TERM, USR1, USR2, ALRM, CONT, WINCH) as one to init, because the PID
//! file has the sandbox's pid; in a pod, to the root container's init.
//!
//! [`signal_all`](crate::Container::signal_all) reaches every process of the container, also orphans and processes of
//! exec, and no process of another container in the same pid namespace. With SIGKILL it returns when none is left.
//! [`signal_process`](crate::Container::signal_process) and
//! [`signal_process_group`](crate::Container::signal_process_group) take the numbers that the container sees, and
//! refuse those of other containers' processes. [`signal_foreground`](crate::Container::signal_foreground) reaches the
//! processes that a key pressed at a terminal would interrupt.
//!
//! # Processes of exec
//!
//! [`exec`](crate::Container::exec) returns when the program was executed, or with the reason why not. The process is
//! in init's namespaces and cgroups and has the container's seccomp filter. Its user, capabilities, environment,
//! directory and limits are init's unless [`Exec`](crate::Exec) changes them. Its parent is the sandbox, which is not
//! visible inside, and it ends with the container. Dropping the [`Process`](crate::Process) leaves it running, unless it
//! is [`attached`](crate::Exec::attached): any handle to the container can then
//! [wait for its pid](crate::Container::wait_pid), once.
//!
//! In a created container a process of exec runs beside init, which waits for the start. It can prepare what the workload
//! will find, and ends with the container like every other. It changes nothing about the outcome: a container that ends
//! before its start is `NeverStarted`.
//!
//! At its [`timeout`](crate::Exec::timeout) the sandbox kills the process [with all that it
//! started](super::processes#processes-forked-beside-others), whatever the caller does meanwhile.
//!
//! # Pools
//!
//! A [`Pool`](crate::pools::Pool) keeps containers in `Created`. Its operations:
//!
//! * **new** creates the first member from the template, so that a template that cannot be is told at once. A thread of the
//!   pool then creates the others.
//! * **take** gives a member a [`Job`](crate::pools::Job): arguments, further variables, a working directory, streams and
//!   a time limit. It validates the job by the rules for the process of a configuration, and init looks for the program as
//!   at create, with the same errors. The record then has the job's configuration. What take returns is a
//!   [`Created`](crate::Created) container with no ties to its pool, which may be started, detached, killed or dropped.
//!   An empty pool creates a container for the job, and [`is_cold`](crate::pools::Taken::is_cold) says so.
//! * **wait_full** waits until as many members wait as the pool has been made for.
//! * Dropping the pool destroys the members that wait.
//!
//! A member is never handed out after a change from outside: take looks at its processes, its record, the files of its
//! cgroups and the state of its mount table, destroys a member that is not as it was made, and goes on to the next. If a
//! job fails in a member, that member is destroyed, too: none is used twice.
//!
//! # Templates
//!
//! [`into_template`](crate::Container::into_template) makes a [`Template`](crate::templates::Template) of a running
//! container's process, and deletes the container. [`builder`](crate::templates::Template::builder) then describes clones:
//! containers with the same phases and operations as any other, whose program goes on where the template's process
//! stopped, when they are started. [How, and what clones have in common](super::templates).
//!
//! # Pods
//!
//! A container built with [`in_pod`](crate::ContainerBuilder::in_pod), or from the annotations that containerd and CRI-O
//! write, if [they are followed](crate::ContainerBuilder::follow_pod_annotations), is made in the sandbox of another one,
//! the pod's root container. It has the pod's network, ipc, uts and user namespaces, and so its host name and its id
//! mappings. Root directory, mounts, cgroups, gofer, record and life are its own. Its pid namespace is its own too, unless
//! [`share_pid_namespace`](crate::ContainerBuilder::share_pid_namespace) makes it the root container's. When the root
//! container ends, all end. When another container ends, the rest go on.
//!
//! # Hooks
//!
//! [`hook`](crate::ContainerBuilder::hook), or `hooks` of a `config.json`, by the rules of the OCI runtime
//! specification 1.2:
//!
//! | Kind | When | Where | If one fails |
//! |---|---|---|---|
//! | prestart, createRuntime | create, between the last mount and the pivot | on the host | create fails, everything is undone, poststop runs |
//! | createContainer | after those | a program of the host in the container's namespaces, in its root | likewise |
//! | startContainer | start, before the program | a program of the image, in the container, with the ids, capabilities, filter, limits and working directory of the workload | start fails, the container has ended |
//! | poststart | start, after the program was executed | on the host | a warning to `tracing`; from `ociVersion` 1.3 on, start fails and the container is ended |
//! | poststop | delete, when all but the record is gone | on the host | a warning to `tracing` |
//!
//! Each hook gets the container's OCI state on standard input, its own arguments and environment, and nothing else of the
//! caller. A startContainer hook without `env` has the workload's environment. The error,
//! [`HookFailed`](crate::ErrorKind::HookFailed), names the field, the path, the exit code, signal or time limit, and the
//! end of the hook's standard error. A hook that fails or takes too long is killed with its process group. If a hook
//! succeeds, the processes that it left running go on.
//!
//! Poststop hooks run once, whichever process deletes the container, also if the value is dropped, and even if several
//! processes delete it at once. All of those return when the hooks have ended, so a poststop hook must not delete its
//! own container. If the deleting process is killed meanwhile, the hooks go on, and do not run a second time. They run
//! for every container whose environment was complete, and so not if create failed before the first hook of creation
//! could run. A damaged record names no hooks, so none run for its container.
//!
//! # Attached and detached
//!
//! A container that this program made is *attached*: it is destroyed when its value is dropped, and killed when this
//! program ends in any way. Then its cgroups are gone too, and only a record of how it ended remains. Delete it by its id,
//! or create another container with the id. [`detach`](crate::Container::detach) ends both, and leaves the value in its
//! phase. After that any process of the same user can load the
//! container by its id; [`AnyContainer::load`](crate::AnyContainer::load) never attaches it again. The helpers of a
//! detached container remain children of this program. The next `load`, `create` or `delete` after their end collects
//! them.
