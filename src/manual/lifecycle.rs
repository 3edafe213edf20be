//! Phases and transitions, how a container ends, and who it belongs to.
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
//! | Phase | On the host | What can be called besides `id`, `bundle`, `status`, `record` |
//! |---|---|---|
//! | [`Creating`](crate::Creating) | nothing | `create` |
//! | [`Created`](crate::Created) | gofer, sandbox, init; the root is assembled, the program found | `start`, `signal`, `signal_all`, `wait` and its like, `kill`, `detach`, `take_stdin` and its like, `files`, `stats`, `update`, `pod`, the pids |
//! | [`Running`](crate::Running) | the same, and the workload runs | `exec`, `exec_output`, `wait_pid`, `processes`, `signal_process` and its like, `forward_signals`, `wait_stopped`, `stop`, `AsFd`, and what `Created` has without `start` |
//! | [`Paused`](crate::Paused) | the same, standing still | `pause` from `Running`, `resume` back to it |
//! | [`Stopped`](crate::Stopped) | the record and the exit record | `exit`, `delete`, `take_stdout` and its like |
//!
//! A phase's type holds what exists in that phase and nothing that might. A method that a phase does not have is
//! bound by a trait that only the right phases implement ([`Startable`](crate::Startable), [`Alive`](crate::Alive),
//! [`Ended`](crate::Ended)), and the message of the compiler comes from that trait: it names the phase that is needed
//! and the call that leads there. The traits are sealed.
//!
//! # What each transition does
//!
//! 1. **build** validates the configuration, looks at the host, and plans. It changes nothing. Every mistake that can
//!    be found without touching the host is found here and names its field, as `config.json: process.cwd: is
//!    relative`.
//! 2. **create** claims the id, writes the record, makes the cgroup, starts sandbox and gofer, and waits until init
//!    has assembled the root and found the program *in* it. `argv[0]` is looked up with the container's own `PATH`,
//!    root and user. A missing program is [`ProgramNotFound`](crate::ErrorKind::ProgramNotFound), one that may not be
//!    executed [`ProgramNotExecutable`](crate::ErrorKind::ProgramNotExecutable). If anything fails, everything is
//!    undone and the container comes back as it was.
//! 3. **start** lets init shed its privileges and execute the very path that create found. What can still fail is
//!    execve(2) itself, for example because a script's interpreter is missing. The container has then ended, and
//!    [`Failed`](crate::Failed) holds it as stopped.
//!    Then **pause** stops all processes and **resume** lets them go on: by the container's freezer, which nothing
//!    inside can notice, or by SIGSTOP and SIGCONT where it has none, which a parent inside can. Files, processes and
//!    statistics can be looked at meanwhile, and kill and stop work; exec has to wait.
//! 4. **wait_stopped**, **stop** and **kill** end at [`Stopped`](crate::Stopped). `stop` sends SIGTERM and kills
//!    after the grace, a paused container is resumed for it; `kill` kills every process and waits until they are gone.
//! 5. **delete** removes what is left, the record last. If something cannot be removed the error is
//!    [`Incomplete`](crate::ErrorKind::Incomplete), the record stays, and the call can be repeated.
//!
//! [`run`](crate::ContainerBuilder::run) is all five in a row, and [`output`](crate::ContainerBuilder::output) too.
//! Whatever fails on the way, the container is gone when they return.
//!
//! `wait`, `try_wait` and `wait_timeout` are not transitions. They take `&self` and no lock, can be repeated, and
//! work from any number of processes at once, also long after the end.
//!
//! # Types claim what was done, the kernel decides what is
//!
//! A `Container<Running>` says that this program started it. Meanwhile the workload may have ended, or another
//! process may have killed or deleted it. Therefore create, start, detach and delete take the container's lock and
//! read the record again. If its generation is not the one this value last saw, somebody else moved it: the error is
//! [`WrongState`](crate::ErrorKind::WrongState) and the failure holds the container in its actual phase
//! ([`Recovered::Moved`](crate::Recovered::Moved)). The status in a record is a hint. A record that says `running`
//! whose sandbox is dead is loaded as stopped; pid, start time and boot id together decide whether it is dead.
//!
//! # Where the phase is not known
//!
//! [`AnyContainer`](crate::AnyContainer) has every operation. What would not compile on a `Container` of the phase it is
//! in fails there with `WrongState`, before anything is done, as `exec: "web" is created`. Its transitions return it in
//! its next phase; one that fails is a [`FailedAny`](crate::FailedAny) with the container in the phase that it has now.
//!
//! ```no_run
//! use cofferdam::{AnyContainer, StateRoot, Status};
//!
//! fn make_it_run(root: &StateRoot, name: &str) -> cofferdam::Result<AnyContainer> {
//!     let container = AnyContainer::load(root, name)?;
//!     match container.status() {
//!         Status::Created => Ok(container.start()?),
//!         _ => Ok(container),
//!     }
//! }
//! ```
//!
//! # How it ended
//!
//! [`Exit`](crate::Exit) has the outcome, the times, the CPU time and the memory used. Each
//! [`Outcome`](crate::Outcome) has its evidence:
//!
//! | Outcome | Evidence |
//! |---|---|
//! | `Exited` | the wait status. Also after a signal of ours that the workload caught before it exited by itself. |
//! | `Signalled` | the wait status; the signal is none that was sent through this API |
//! | `Killed` | the wait status names the signal this API sent, or the SIGKILL that it sent in its place |
//! | `OutOfMemory` | SIGKILL that nobody here sent, and the memory cgroup counted a kill. Without a memory cgroup: `Signalled`. |
//! | `TimedOut` | the sandbox killed it because its time was over |
//! | `CallerGone` | the sandbox killed it because the lifeline was cut |
//! | `PodEnded` | the sandbox ended it because the root container of its pod had ended |
//! | `NeverStarted` | init ended between create and start |
//! | `Lost` | no exit record: the sandbox was killed from outside |
//!
//! The time limit starts when the program is executed. The sandbox keeps it, so it also holds after the caller has
//! ended.
//!
//! # Signals
//!
//! The kernel ignores a signal to a PID 1 that has no handler for it; a SIGTERM to `sleep` in a container would do
//! nothing. So [`signal`](crate::Container::signal) looks at init's handlers: a signal that is caught or ignored is
//! delivered as it is; one that is neither, and would end any other process, is delivered as SIGKILL. The record then
//! names the signal that was asked for. A signal sent to the *sandbox's* pid (HUP, INT, QUIT, TERM, USR1, USR2, ALRM,
//! CONT, WINCH) is treated as one to init, because that is the pid that the PID file names; in a pod, to the root
//! container's init.
//!
//! [`signal_all`](crate::Container::signal_all) reaches every process of the container, also those that were executed
//! later and orphans, and no process of another container in the same pid namespace. With SIGKILL it returns when none
//! is left. [`signal_process`](crate::Container::signal_process) and
//! [`signal_process_group`](crate::Container::signal_process_group) take the container's own numbers, and refuse those of
//! somebody else. [`signal_foreground`](crate::Container::signal_foreground) is for whatever a key pressed at a terminal
//! would interrupt.
//!
//! # Further processes
//!
//! [`exec`](crate::Container::exec) returns when the program was executed, or with the reason why not. The process is in
//! init's namespaces and cgroups and behind the container's seccomp filter; user, capabilities, environment, directory and
//! limits are init's unless [`Exec`](crate::Exec) says otherwise. Its parent is not inside, so it is nobody's orphan there,
//! and the container's end is its own. Dropping the [`Process`](crate::Process) leaves it running: any handle to the
//! container can then [wait for its pid](crate::Container::wait_pid), once.
//!
//! # Pods
//!
//! A container built with [`in_pod`](crate::ContainerBuilder::in_pod), or with the annotations that containerd and CRI-O
//! write, is made in the sandbox of another one, the pod's root container. It has the pod's network, ipc, uts and user
//! namespaces, so also its host name and its id mappings, and otherwise its own root directory, mounts, cgroups, gofer,
//! record and life. Its pid namespace is its own unless
//! [`share_pid_namespace`](crate::ContainerBuilder::share_pid_namespace) says that it is the root container's. The end of
//! one disturbs no other, but for the root container's: that is the end of all.
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
//! | startContainer | start, before the program | in the container, before privileges are shed | start fails, the container has ended |
//! | poststart | start, after the program was executed | on the host | a warning to `tracing`; from `ociVersion` 1.3 on, start fails and the container is ended |
//! | poststop | delete, when all but the record is gone | on the host | a warning to `tracing` |
//!
//! Each gets the container's OCI state on standard input, its own arguments and environment, and nothing of the
//! caller's. The error, [`HookFailed`](crate::ErrorKind::HookFailed), names the field, the path, the exit code, signal
//! or time limit, and the end of what the hook wrote to standard error. A hook that fails or takes too long is killed
//! with its process group; what a successful one left running goes on.
//!
//! Poststop hooks run once, whoever deletes the container, also if it was dropped, and however many delete it at once.
//! All of them return when the hooks have ended; so such a hook must not delete its container itself. If the deleting
//! process is killed meanwhile, the hooks go on, and are not run a second time. They run for every container whose
//! environment was complete: not for one whose create failed before the first hook of creation could run. A damaged
//! record names no hooks, so for that container none are run.
//!
//! # Whose it is
//!
//! A container made by this program is *attached*: it is destroyed when its value is dropped, and killed when this
//! program ends in any way; then no cgroup of it is left either, but a record of how it ended, to be deleted by its id.
//! [`detach`](crate::Container::detach) ends both. From then on it belongs to whoever loads
//! it by its id, and [`AnyContainer::load`](crate::AnyContainer::load) never attaches it again. A detached
//! container's helpers are still children of this program as long as it lives. They are collected by the next `load`
//! or `create` after their end.
