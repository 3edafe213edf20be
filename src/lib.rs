//! cofferdam runs untrusted or fragile programs in Linux containers, from inside a Rust program: no daemon, no helper
//! binary to install, no root needed, and a lifecycle that the compiler checks.
//!
//! ```no_run
//! use cofferdam::{ContainerBuilder, Outcome};
//! use std::time::Duration;
//!
//! fn main() -> cofferdam::Result<()> {
//!     let output = ContainerBuilder::new()
//!         .args(["sh", "-c", "echo hello from $(hostname); id -u"])
//!         .timeout(Duration::from_secs(10))
//!         .output()?;
//!     assert_eq!(output.exit.outcome, Outcome::Exited { code: 0 });
//!     print!("{}", String::from_utf8_lossy(&output.stdout));
//!     Ok(())
//! }
//! ```
//!
//! This needs no preparation. The default root directory is the host's own system directories, read-only
//! ([`Rootfs::host`]); the default container has a user namespace of its own, no capability, no_new_privs, a seccomp
//! allow-list, no network but loopback and 1024 processes at most. Every relaxation is a method of
//! [`ContainerBuilder`] with a name of its own. [`ContainerBuilder::from_bundle`] takes an OCI bundle instead and
//! does what its `config.json` says.
//!
//! # The life of a container
//!
//! ```text
//!  ContainerBuilder --build--> Creating --create--> Created --start--> Running --wait_stopped--> Stopped --delete--> gone
//!                                 |                    |                  |       stop, kill        |
//!                                 |                    +------ kill ------+-------------------------+
//!                                 +-- dropped: nothing was made yet
//! ```
//!
//! Each phase is a type: [`Container<Creating>`](Creating), [`Container<Created>`](Created),
//! [`Container<Running>`](Running), [`Container<Paused>`](Paused), [`Container<Stopped>`](Stopped). A transition
//! consumes the container and returns it in its next phase. What makes no sense does not compile, and the compiler's
//! message says what to do:
//!
//! ```compile_fail,E0277
//! use cofferdam::{Container, Stopped};
//!
//! fn again(container: Container<Stopped>) {
//!     let _ = container.start(); // a `Container<Stopped>` cannot be started
//! }
//! ```
//!
//! A type says what *this program* did. Meanwhile the workload may have ended, or another process may have deleted the
//! container. So a transition takes the container's lock, reads its record again, compares, acts, saves and unlocks. One
//! that fails returns [`Failed`]: the error, and the container as it was, or as it is now if another process changed it.
//!
//! ```no_run
//! use cofferdam::{ContainerBuilder, Outcome, Signal, Stdio};
//! use std::time::Duration;
//!
//! fn lifecycle() -> cofferdam::Result<()> {
//!     let creating = ContainerBuilder::new().id("server").args(["sleep", "60"]).stdout(Stdio::piped()).build()?;
//!     let mut created = creating.create()?; // its processes exist, and `sleep` was found
//!     let stdout = created.take_stdout();
//!     let running = created.start()?; // `sleep` was executed
//!     running.signal(Signal::HUP)?;
//!     let stopped = running.stop(Duration::from_secs(5))?; // SIGTERM, and SIGKILL after five seconds
//!     println!("{:?}", stopped.exit().outcome);
//!     stopped.delete()?;
//!     Ok(())
//! }
//! ```
//!
//! A container whose phase is known only at run time, loaded or listed, is an [`AnyContainer`], an enum of the five
//! phases. [`as_alive`](AnyContainer::as_alive), [`as_running`](AnyContainer::as_running) and
//! [`into_phase`](AnyContainer::into_phase) lead to the operations of a phase, and a `match` to all. More in
//! [`manual::lifecycle`].
//!
//! # While it lives
//!
//! ```no_run
//! use cofferdam::files::Transfer;
//! use cofferdam::{Container, Exec, Running, Signal};
//! use std::time::Duration;
//!
//! fn look_after(web: &Container<Running>) -> Result<(), Box<dyn std::error::Error>> {
//!     // Further processes, with pipes, a terminal or descriptors of their own.
//!     let date = web.exec_output(Exec::new(["date"]).timeout(Duration::from_secs(5)))?;
//!     let mut shell = web.exec(Exec::new(["sh"]).terminal())?;
//!     let _keyboard = shell.take_pty();
//!     // Its files, as it sees them. The image needs no program for this.
//!     let files = web.files()?;
//!     files.write("/tmp/started", &date.stdout, 0o644)?;
//!     files.copy_out("/tmp", "collected", &Transfer::up_to(1 << 30))?;
//!     // What it uses and who runs in it, as the kernel counts.
//!     println!("{:?} {:?}", web.stats()?.memory, web.processes()?);
//!     web.signal_process_group(shell.pid_inside(), Signal::HUP)?;
//!     // A further container in the same sandbox: the same network, other files.
//!     web.pod().container("log").args(["logger"]).spawn()?.detach()?;
//!     Ok(())
//! }
//! ```
//!
//! | For | There is |
//! |---|---|
//! | another program inside | [`exec`](Container::exec), [`exec_output`](Container::exec_output), [`Process`], [`wait_pid`](Container::wait_pid) |
//! | its output | [`take_stdout`](Container::take_stdout), [`take_stderr`](Container::take_stderr), or both line by line: [`take_lines`](Container::take_lines) |
//! | signals | to [init](Container::signal), [all](Container::signal_all), [one](Container::signal_process), [a group](Container::signal_process_group), [a terminal's foreground](Container::signal_foreground); [`forward_signals`](Container::forward_signals) passes on the caller's |
//! | a terminal | [`terminal`](ContainerBuilder::terminal) and [`Pty`], or a [console socket](ContainerBuilder::console_socket) |
//! | its files | [`Files`]: read, write, list, copy trees [in](Files::copy_in) and [out](Files::copy_out), what [changed](Files::diff), a [layer](Files::export_layer) of that; after its end, too, with [`keep_files`](ContainerBuilder::keep_files) |
//! | mounts while it lives | [`mount`](Container::mount), [`mount_bind_ro`](Container::mount_bind_ro), [`mount_bind_rw`](Container::mount_bind_rw), [`mount_tmpfs`](Container::mount_tmpfs), [`unmount`](Container::unmount) |
//! | measuring and limiting | [`stats`](Container::stats), [`processes`](Container::processes), [`update`](Container::update); [which limits are not in force](info::Info::unapplied_limits) |
//! | several containers that belong together | [`Pod`], [`in_pod`](ContainerBuilder::in_pod), [`pod_volume`](ContainerBuilder::pod_volume), or [the annotations of containerd and CRI-O](ContainerBuilder::follow_pod_annotations) |
//! | what this host can do, and what protects a container | [`HostReport`](diagnosis::HostReport), [`explain`](Container::explain) |
//! | programs of the host at points of its life | [`hook`](ContainerBuilder::hook) |
//!
//! # The processes
//!
//! ```text
//!  caller               your program: any thread, any async runtime
//!    |
//!    +-- gofer          the only process that opens host paths: turns the rootfs and every bind into a detached mount,
//!    |                  hands them over by descriptor, gives up every privilege and waits for the end
//!    |
//!    +-- sandbox        PID 1 of its own pid namespace: killing it kills everything inside; one thread, one poll loop;
//!          |            answers the control socket, writes the exit record before it reports the end
//!          |
//!          +-- reaper   PID 1 of the container, one page of code: collects orphans (not in an OCI bundle)
//!          +-- init     assembles the root, pivots, sheds privileges, becomes the workload
//!          |
//!          +-- processes of exec       in init's namespaces; their parent is outside
//!          +-- file workers            one for each Files: in the container's root, and invisible inside
//!          +-- inits of other members  of a pod; each has a gofer of its own
//! ```
//!
//! Gofer and sandbox are the caller's own executable, run again from a read-only mount of it or a sealed copy in
//! memory. A constructor in `.init_array` recognises them by an exact `argv[0]` before `main`, so nothing of the
//! caller's `main` runs in them, and there is no `init()` to call. This works in tests and examples too. It does not
//! work where this crate is not part of the main executable, as in a Python extension: there `create` returns
//! [`ErrorKind::Unsupported`]. More in [`manual::processes`].
//!
//! Most of what a short container costs is the start of these two programs. A program that makes many containers starts
//! a [`Zygote`] once, and gofers and sandboxes are forks of it.
//!
//! ```no_run
//! use cofferdam::{ContainerBuilder, Zygote};
//!
//! # fn main() -> cofferdam::Result<()> {
//! let zygote = Zygote::spawn()?; // once; for all threads
//! let exit = ContainerBuilder::new().zygote(&zygote).args(["true"]).run()?;
//! # Ok(())
//! # }
//! ```
//!
//! A program that runs many short jobs in containers of one kind keeps some of them created, in a [`Pool`](pools::Pool):
//! `pool.take(job)` gives one the job's arguments, environment and streams, and returns a `Container<Created>`.
//!
//! A program that takes long to get ready, such as an interpreter with its modules, does that once for many containers:
//! [`into_template`](Container::into_template) makes a [`Template`](templates::Template) of it, and each
//! `template.builder(id)` describes a container that goes on from there. [What such clones have in
//! common](manual::templates).
//!
//! # Terms
//!
//! | Term | Meaning here |
//! |---|---|
//! | *caller*, *workload* | the program that uses this crate; the program in the container, and the processes it makes |
//! | *init* | the workload's first process: pid 2 inside, 1 without a reaper; [`init_pid`](Container::init_pid) on the host |
//! | *reaper* | PID 1 inside, if [`ContainerBuilder::init`] is on, as it is by default: it collects orphans |
//! | *sandbox* | the parent of both: [`sandbox_pid`](Container::sandbox_pid) |
//! | *record* | the file that says what exists of a container; [`Container::info`] shows it |
//! | *state root* | the directory with the records of one user: [`StateRoot`] |
//! | *attached* | ends with its value and with its caller; [`detach`](Container::detach) ends that |
//! | *lifeline* | the pipe by which a sandbox notices that its caller is gone |
//! | *bundle* | a directory with a `config.json` and a root directory, as OCI defines it |
//! | *rootfs*, *scratch* | what the container sees as `/`; a writable layer over it, in memory |
//! | *exec proxy* | a process of the host that lives and ends as one in a container does: [`into_exec_proxy`](Process::into_exec_proxy) |
//!
//! # What is not promised
//!
//! * Protection from bugs of the kernel, or from side channels. The workload makes its system calls to the host's
//!   kernel, through a filter. Where that is not enough, use gVisor or a virtual machine.
//! * That a `config.json` is safe. It is trusted and obeyed, also where it asks for less isolation than the builder's
//!   default.
//! * That limits exist where none were asked for. By default only the number of processes is limited; memory and
//!   CPU time are the host's own until [`memory_limit`](ContainerBuilder::memory_limit) and
//!   [`cpu_limit`](ContainerBuilder::cpu_limit).
//! * That records survive a reboot: what they name does not. [`StateRoot::durable`] is for exit records that must.
//! * [Images](manual::checkpoint) of containers are made by root alone, and of containers of a pod not at all.
//!
//! What is promised, layer by layer, is in [`manual::promises`].
//!
//! # Errors
//!
//! Everything that fails returns an [`Error`], or a [`Failed`] that holds one, has it as its source, and becomes one
//! under `?`. `Display` prints one line: the step, the cause and, where a person can act, a hint. A step that was a
//! system call prints like strace. A mistake in the configuration names its field, or the method that set it.
//! [`ErrorKind`] is for programs:
//!
//! | Kind | What to do |
//! |---|---|
//! | [`InvalidId`](ErrorKind::InvalidId), [`InvalidSpec`](ErrorKind::InvalidSpec), [`InvalidInput`](ErrorKind::InvalidInput) | correct what was given; the field is named by its path in `config.json` |
//! | [`TooLarge`](ErrorKind::TooLarge), [`NotARegularFile`](ErrorKind::NotARegularFile) | a container's file is not what was expected, and was left alone |
//! | [`ProgramNotFound`](ErrorKind::ProgramNotFound), [`ProgramNotExecutable`](ErrorKind::ProgramNotExecutable) | a shell's 127 and 126; from `create`, or from `start` if an interpreter is missing |
//! | [`Unsupported`](ErrorKind::Unsupported) | this host or this user cannot; nothing was dropped silently |
//! | [`HookFailed`](ErrorKind::HookFailed) | the hook is named by its field, with its exit code and the end of its standard error |
//! | [`NotFound`](ErrorKind::NotFound), [`AlreadyExists`](ErrorKind::AlreadyExists) | another id |
//! | [`Ended`](ErrorKind::Ended) | the container or process has ended: `wait` says how |
//! | [`WrongState`](ErrorKind::WrongState) | the container lives in another phase, which is named: load it again |
//! | [`Stale`](ErrorKind::Stale) | the record is damaged or another version's; delete by name |
//! | [`Incomplete`](ErrorKind::Incomplete) | something could not be removed; the record is kept, so delete again |
//! | [`HelperDied`](ErrorKind::HelperDied), [`PeerMisbehaved`](ErrorKind::PeerMisbehaved), [`TimedOut`](ErrorKind::TimedOut) | a helper was killed, or the host is overloaded |
//! | [`OutdatedZygote`](ErrorKind::OutdatedZygote) | the caller has changed since it made its [`Zygote`]; make another |
//! | [`Os`](ErrorKind::Os) | the errno of the call that is named |
//!
//! How the *workload* ended is no error: it is an [`Outcome`], from the wait status, the cgroup's own counters and what
//! this API was asked to do.
//!
//! # Threads, async and drop
//!
//! * Containers are [`Send`] and [`Sync`]. Any thread may create, wait for and drop one; the end of a thread ends no
//!   container.
//! * Calls block: `create` and `start` for milliseconds, `wait` until the end. With the feature `tokio`, run, wait and
//!   exec also exist as futures (see [Features](#features)). For other event loops, [`Container::end_fd`] and
//!   [`Process`] are descriptors that become readable at the end ([`AsFd`](std::os::fd::AsFd)), and the pipes are plain
//!   [`File`](std::fs::File)s.
//! * The crate changes nothing of the caller: no signal handler, no `SIGCHLD` disposition, no directory, no umask, no
//!   cgroup, no `waitpid(-1)`, and no thread that outlives a call, but that of a [`Pool`](pools::Pool), which ends with
//!   the pool. Helpers are collected by pidfd. A caller that
//!   reaps all children itself takes nothing away, because the exit status is on disk. The one exception is
//!   [`forward_signals`](Container::forward_signals), which has signal handlers as long as its guard lives.
//! * Dropping an attached container destroys it. Errors there go to `tracing` at debug level, and what is left keeps
//!   its record. Dropping a loaded or a detached one changes nothing. `std::process::exit` runs no destructor; there
//!   the lifeline does it.
//!
//! # Privileges and kernels
//!
//! Linux 5.14 or later, 64-bit, with user namespaces where the caller is not root. No capability is needed, and no
//! package; `newuidmap` and `newgidmap` are used if they are installed. As root, each container gets a range of
//! host ids for itself. As another user, it gets the caller's subordinate ids, or the caller's own id alone.
//! [`manual::privileges`] says what needs which kernel, and what is missing without root.
//!
//! # Features
//!
//! Both features are off by default. The crate then needs no C library and no async runtime. Its build downloads nothing.
//! [`oci_spec`] is re-exported, because its types are part of this API.
//!
//! `tokio` adds the futures: `ContainerBuilder::{spawn_async, run_async, output_async}`,
//! `Container::{wait_async, exec_async, exec_output_async}`, `Process::{wait_async, wait_with_output_async}` and
//! `Pool::take_async`. They need a runtime with I/O and time enabled, of any number of threads. Dropping a future destroys
//! the container that it made, or kills the process that it executed. Pipes are files; `tokio::net::unix::pipe` reads and
//! writes them.
//!
//! `systemd` adds a D-Bus client, for a `linux.cgroupsPath` of the form `slice:prefix:name`: the container is in a scope
//! of systemd's then, on cgroup v2. Each exchange with systemd takes a thread, which ends with the call. From the first
//! exchange on the process keeps a pair of sockets.
//!
//! # Where to read on
//!
//! In the [`manual`]: [phases, transitions and outcomes](manual::lifecycle), [who starts whom](manual::processes),
//! [what a kill leaves at each step](manual::crash_safety), [ids and kernels](manual::privileges), [every property of
//! the OCI runtime specification](manual::oci), [engines](manual::engines), [figures](manual::figures), and [what is
//! promised](manual::promises).

// Lints are in Cargo.toml. The modules, from what everything uses to what callers see; tests/house/layers.rs holds every
// file against this order, and tests/house/public.rs every public item against a list.

// The vocabulary of all.
mod error;
mod id;
mod weaken;

// Pure: what was asked for, what is said, what is remembered, what will be done.
mod plan;
mod seccomp;
mod spec;
mod wire;

// System calls.
#[expect(unsafe_code, reason = "the one place for it; every block names its invariant")]
mod sys;

// The actors.
mod cgroup;
mod criu;
mod gofer;
mod helper;
mod hooks;
mod host;
mod image;
mod link;
mod network;
mod process;
mod sandbox;
#[expect(unreachable_pub, reason = "written as public modules; what is public is named below")]
mod state;

// What callers see.
mod container;
pub mod manual;

// For this crate's own bench and fuzz targets.
#[doc(hidden)]
pub mod floor;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;

// The public interface is:

pub use container::{
    AnyContainer, Container, ContainerBuilder, Created, Creating, Events, Exec, Exit, Failed, Files, Outcome,
    Output, Paused, Pod, Process, Rootfs, Running, Stats, Stopped,
};
pub use error::{Error, ErrorKind, Result};
pub use helper::Zygote;
pub use id::ContainerId;
pub use oci_spec;
pub use process::console::Pty;
pub use process::{Signal, Stdio};
pub use state::{StateRoot, Status};

/// The phases as traits, and what a transition that fails gives back.
///
/// The traits say in which phases a method exists. They are sealed: the five phases are all there are.
pub mod typestate {
    pub use crate::container::{
        Alive, Built, Creatable, Ended, Enterable, Executed, HasFiles, HasStreams, Pausable, Phase,
        Resumable, Startable, Started,
    };
    pub use crate::container::{FailedAny, Recovered, WrongPhase};
}

/// The program of the processes beside a workload: [`Helper`](helpers::Helper).
pub mod helpers {
    pub use crate::helper::Helper;
    #[doc(hidden)]
    pub use crate::helper::HelperAllocator;
}

/// Containers that are created before there is a job for them: [`Pool`](pools::Pool).
pub mod pools {
    pub use crate::container::{Job, Pool, Taken};
}

/// Containers that begin where a prepared process stopped: [`Template`](templates::Template).
pub mod templates {
    pub use crate::container::{FailedTemplate, Ready, Template};
}

/// Images of containers that run: [`Image`](checkpoint::Image), and the program that writes processes to files,
/// [`Criu`](checkpoint::Criu).
///
/// [`Container::snapshot`] writes an image and lets the container go on; [`Container::checkpoint`] ends it with
/// [`Outcome::Checkpointed`]. [The manual](manual::checkpoint) says what an image has, and what it does not.
pub mod checkpoint {
    pub use crate::criu::{Criu, CriuVersion, Unsuitable};
    pub use crate::image::{Image, ImageLayer, StreamKind};
}

/// What the methods of [`ContainerBuilder`] take.
pub mod builder {
    pub use crate::container::{Bind, IoLimit};
    pub use crate::process::UserLog;
    pub use crate::spec::{DeviceNumber, HookKind, IdMap, Resource};
}

/// What this host can do for containers, and which layers of protection a container has:
/// [`HostReport`](diagnosis::HostReport), [`Container::explain`].
pub mod diagnosis {
    pub use crate::container::{Explanation, Feature, HostReport, Layer, Missing};
}

/// What is recorded of a container, and a list of all: [`Container::info`], [`AnyContainer::list`].
pub mod info {
    pub use crate::container::{Info, Listed};
    pub use crate::process::ProcessIdentity;
}

/// What [`Files`] takes and returns.
pub mod files {
    pub use crate::container::{Change, ChangeKind, Copied, Entry, FileKind, Metadata, Skipped, Transfer};
}

/// What [`Events`] yields.
pub mod events {
    pub use crate::container::Event;
}

/// What [`Stats`] consists of.
pub mod stats {
    pub use crate::container::{
        CpuStats, HugetlbStats, IoStats, MemoryStats, PidsStats, Pressure, RdmaStats, Stall, Stalls,
    };
}

/// What is known of the processes of a container, and how they ended.
pub mod processes {
    pub use crate::container::{ForwardSignals, ProcessExit, ProcessInfo, ProcessOutput};
    pub use crate::process::{Line, Lines, OutputStream};
}

/// Terminals: what [`Pty`] takes.
pub mod terminal {
    pub use crate::process::console::WindowSize;
}

/// What the OCI runtime specification defines, beyond the types of [`oci_spec`]: for programs that behave as an OCI
/// runtime.
pub mod oci {
    pub use crate::container::{OciState, check_config, default_seccomp, parse_process};
    pub use crate::spec::{OCI_VERSIONS, mount_options};
}

// What the tour says of threads, for all five phases at once.
const _: fn() = || {
    fn crosses_threads<T: Send + Sync>() {}
    crosses_threads::<AnyContainer>();
    crosses_threads::<pools::Pool>();
    crosses_threads::<templates::Template>();
};

/// What the unit tests share.
#[cfg(test)]
mod skip {
    use std::io::Write;

    /// Prints `skipped: REASON` to the real standard error, because the harness captures what a test prints, and in one
    /// write, so that the harness's own lines do not come in between. The test script counts these lines.
    pub(crate) fn note_skip(reason: &str) {
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        let _ = std::io::stderr().write_all(format!("skipped: {reason} [{name}]\n").as_bytes());
    }
}
