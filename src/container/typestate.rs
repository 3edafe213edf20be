//! The phases of a container's life as types, and the sealed traits that say what each phase allows.
//!
//! A method that only some phases have carries its bound on the method, not on the `impl`: the compiler then prints the
//! text of the trait it misses.

use super::create::blueprint::Blueprint;
use super::handle::{Handle, Streams};
use super::outcome::Exit;
use crate::id::ContainerId;
use crate::link::SandboxLink;
use crate::state::{Record, Status};
use std::fmt::Debug;

/// A container in phase `P`: [`Creating`], [`Created`], [`Running`], [`Paused`] or [`Stopped`].
///
/// Each method exists in certain phases, so a call that makes no sense does not compile. If the phase is known only at
/// run time, for example because the container was loaded from disk, it is an [`AnyContainer`].
///
/// A container that this program made is *attached*: it is destroyed when the value is dropped, and when this program
/// ends in any way, unless [`detach`](Container::detach) was called.
#[must_use = "an attached container is destroyed when it is dropped"]
#[derive(Debug)]
pub struct Container<P: Phase + ?Sized> {
    pub(super) core: Handle,
    pub(super) phase: P,
}

/// A container whose phase is known only at run time: loaded from disk, listed, kept in a `Vec`.
///
/// Closed on purpose: a `match` over the five phases needs no wildcard, and a sixth phase would be a change that every
/// program must consider.
///
/// Three ways lead to the operations of a phase:
///
/// * [`as_running`](Self::as_running), [`as_alive`](Self::as_alive) and their variants borrow the container for what
///   several phases have in common, or fail with [`ErrorKind::WrongState`](crate::ErrorKind::WrongState) or
///   [`ErrorKind::Ended`](crate::ErrorKind::Ended).
/// * [`into_phase`](Self::into_phase) and `TryFrom` take it for a transition; in another phase it comes back in
///   [`WrongPhase`](super::WrongPhase).
/// * With `match`, the compiler checks that no phase is forgotten.
///
/// What makes sense in any phase is a method here.
///
/// ```no_run
/// use cofferdam::{AnyContainer, Created, Exec, Signal, StateRoot};
///
/// fn by_name(root: &StateRoot, name: &str) -> cofferdam::Result<()> {
///     let any = AnyContainer::load(root, name)?;
///     any.as_alive()?.signal(Signal::HUP)?; // created, running or paused
///     any.as_enterable()?.exec(Exec::new(["date"]))?; // created or running
///     any.kill()?.delete()?;
///     Ok(())
/// }
///
/// fn start(root: &StateRoot, name: &str) -> cofferdam::Result<()> {
///     AnyContainer::load(root, name)?.into_phase::<Created>()?.start()?.detach()?;
///     Ok(())
/// }
/// ```
///
/// A loaded container is not attached: dropping it changes nothing. Serializing one gives its [`Info`](super::Info).
#[derive(Debug)]
pub enum AnyContainer {
    /// A program has begun to create it and has not finished; that program may have ended.
    Creating(Container<Creating>),
    /// It waits for the start.
    Created(Container<Created>),
    /// Its program was executed.
    Running(Container<Running>),
    /// Its program is frozen.
    Paused(Container<Paused>),
    /// It has ended.
    Stopped(Container<Stopped>),
}

/// A phase of a container's life. Sealed: the five phases are all there are.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a phase of a container",
    note = "the phases are Creating, Created, Running, Paused and Stopped"
)]
pub trait Phase: sealed::Sealed + Debug + Send + Sync {
    /// The phase as a value.
    #[doc(hidden)]
    fn status(&self) -> Status;
}

/// A phase in which nothing exists yet: [`Creating`].
#[diagnostic::on_unimplemented(
    message = "a `Container<{Self}>` was created already",
    label = "`create` needs a `Container<Creating>`",
    note = "a container is created once; to have two, build another one with its own id"
)]
pub trait Creatable: Phase {
    #[doc(hidden)]
    fn into_creating(self) -> Creating;
}

/// A phase in which there is a program to start: [`Created`].
#[diagnostic::on_unimplemented(
    message = "a `Container<{Self}>` cannot be started",
    label = "`start` needs a `Container<Created>`",
    note = "a `Container<Creating>` has to be created first, by `create()`",
    note = "a container is started once: one that runs, is paused or has ended was started already, so build another to run the program again"
)]
pub trait Startable: Phase {
    #[doc(hidden)]
    fn into_created(self) -> Created;
}

/// A phase in which the program runs: [`Running`].
#[diagnostic::on_unimplemented(
    message = "the program of a `Container<{Self}>` does not run",
    label = "this needs a `Container<Running>`",
    note = "`forward_signals` needs a program that runs",
    note = "a `Container<Created>` has `start()` and `kill()`; a `Container<Paused>` has `resume()`",
    note = "a `Container<Stopped>` has `exit()`, which says how it ended"
)]
pub trait Started: Alive {}

/// A phase in which further processes can be executed: [`Created`] and [`Running`].
#[diagnostic::on_unimplemented(
    message = "no process can be executed in a `Container<{Self}>`",
    label = "this needs a `Container<Created>` or `Container<Running>`",
    note = "`exec` and its variants, and `signal_process` and its variants, need processes that can run",
    note = "a `Container<Paused>` has `resume()`; a `Container<Stopped>` has `exit()`, which says how it ended"
)]
pub trait Enterable: Alive {}

/// A phase in which the program can be frozen: [`Running`].
#[diagnostic::on_unimplemented(
    message = "a `Container<{Self}>` cannot be paused",
    label = "`pause` needs a `Container<Running>`",
    note = "a `Container<Paused>` is paused already: `resume()` it to let it run",
    note = "before `start()` and after the end there is no program to pause"
)]
pub trait Pausable: Phase {
    #[doc(hidden)]
    fn into_running(self) -> Running;
}

/// A phase in which the container's processes exist: [`Created`], [`Running`] and [`Paused`].
#[diagnostic::on_unimplemented(
    message = "a `Container<{Self}>` has no processes",
    label = "this needs a `Container<Created>`, `Container<Running>` or `Container<Paused>`",
    note = "before `create()` there is nothing to signal, wait for, list, detach, limit or look into with `stats` or `pod`",
    note = "after the end there are only `exit()`, `delete()`, and `files()` where the builder has `keep_files()`"
)]
pub trait Alive: HasFiles {
    #[doc(hidden)]
    fn live(&self) -> &SandboxLink;
    #[doc(hidden)]
    fn streams(&self) -> &Streams;
    #[doc(hidden)]
    fn into_parts(self) -> (SandboxLink, Streams);
}

/// A phase in which the container has files, or may have kept them: every phase but [`Creating`].
#[diagnostic::on_unimplemented(
    message = "a `Container<{Self}>` has no files",
    label = "its root is made by `create()`"
)]
pub trait HasFiles: Phase {
    #[doc(hidden)]
    fn live_if_alive(&self) -> Option<&SandboxLink>;
}

/// A phase in which the program was executed and has not ended: [`Running`] and [`Paused`].
#[diagnostic::on_unimplemented(
    message = "the program of a `Container<{Self}>` was not executed, or has ended",
    label = "this needs a `Container<Running>` or `Container<Paused>`",
    note = "`stop` and `wait_stopped` need a program that was executed",
    note = "a `Container<Created>` has `start()` and `kill()`; a `Container<Stopped>` has `exit()`, which says how it ended"
)]
pub trait Executed: Alive {}

/// A phase in which the processes are frozen: [`Paused`].
#[diagnostic::on_unimplemented(
    message = "a `Container<{Self}>` is not paused",
    label = "`resume` needs a `Container<Paused>`",
    note = "call `pause()` on a `Container<Running>` first; `AnyContainer::into_phase::<Paused>()` checks the phase at run time"
)]
pub trait Resumable: Phase {
    #[doc(hidden)]
    fn into_paused(self) -> Paused;
}

/// A phase in which everything has ended: [`Stopped`].
#[diagnostic::on_unimplemented(
    message = "a `Container<{Self}>` has not ended",
    label = "this needs a `Container<Stopped>`",
    note = "call `kill()`, `stop(grace)` or `wait_stopped()` first; `AnyContainer::delete(true)` deletes in any phase",
    note = "before `create()` there is nothing to delete: a `Container<Creating>` is dropped"
)]
pub trait Ended: Phase {
    #[doc(hidden)]
    fn stopped(&self) -> &Stopped;
    #[doc(hidden)]
    fn into_stopped(self) -> Stopped;
}

/// A phase that may hold the caller's ends of the workload's streams: every phase but [`Creating`].
#[diagnostic::on_unimplemented(
    message = "a `Container<{Self}>` has no streams",
    label = "its pipes and its terminal are made by `create()`"
)]
pub trait HasStreams: Phase {
    #[doc(hidden)]
    fn streams_mut(&mut self) -> &mut Streams;
}

/// What a [`ContainerBuilder`](super::ContainerBuilder) becomes by `build()`. No type has this trait: it is there for
/// what the compiler says.
#[diagnostic::on_unimplemented(
    message = "a `ContainerBuilder` is not a container yet",
    label = "`build()` makes it one: `builder.build()?.create()?.start()?`",
    note = "`spawn()` builds, creates and starts it; `run()` and `output()` also wait for its end and delete it"
)]
pub trait Built: sealed::Sealed {}

mod sealed {
    #[diagnostic::on_unimplemented(
        message = "`{Self}` cannot be made a phase of a container",
        label = "the five phases are all there are"
    )]
    pub trait Sealed {}
}

/// Configured and planned; nothing exists on the host yet.
#[derive(Debug)]
pub struct Creating {
    pub(super) blueprint: Box<Blueprint>,
}

/// The root is assembled, the program is found, and init waits for the start.
#[derive(Debug)]
pub struct Created {
    pub(super) live: SandboxLink,
    pub(super) streams: Streams,
}

/// The program was executed.
#[derive(Debug)]
pub struct Running {
    pub(super) live: SandboxLink,
    pub(super) streams: Streams,
}

/// The program was executed and is frozen.
#[derive(Debug)]
pub struct Paused {
    pub(super) live: SandboxLink,
    pub(super) streams: Streams,
}

/// Everything has ended. The exit record is left.
#[derive(Debug)]
pub struct Stopped {
    pub(super) exit: Exit,
    pub(super) streams: Streams,
}

macro_rules! phases {
    ($($phase:ident),*) => { $(
        impl sealed::Sealed for $phase {}
        impl Phase for $phase {
            fn status(&self) -> Status {
                Status::$phase
            }
        }
    )* };
}
phases!(Creating, Created, Running, Paused, Stopped);

impl Creatable for Creating {
    fn into_creating(self) -> Creating {
        self
    }
}

impl Startable for Created {
    fn into_created(self) -> Created {
        self
    }
}

impl Started for Running {}

impl Enterable for Created {}

impl Enterable for Running {}

impl Pausable for Running {
    fn into_running(self) -> Running {
        self
    }
}

impl Resumable for Paused {
    fn into_paused(self) -> Paused {
        self
    }
}

impl Ended for Stopped {
    fn stopped(&self) -> &Stopped {
        self
    }
    fn into_stopped(self) -> Stopped {
        self
    }
}

macro_rules! alive {
    ($($phase:ident),*) => { $(
        impl HasFiles for $phase {
            fn live_if_alive(&self) -> Option<&SandboxLink> {
                Some(&self.live)
            }
        }
        impl Alive for $phase {
            fn live(&self) -> &SandboxLink {
                &self.live
            }
            fn streams(&self) -> &Streams {
                &self.streams
            }
            fn into_parts(self) -> (SandboxLink, Streams) {
                (self.live, self.streams)
            }
        }
    )* };
}
alive!(Created, Running, Paused);

impl HasFiles for Stopped {
    fn live_if_alive(&self) -> Option<&SandboxLink> {
        None
    }
}

impl Executed for Running {}

impl Executed for Paused {}

macro_rules! has_streams {
    ($($phase:ident),*) => { $(
        impl HasStreams for $phase {
            fn streams_mut(&mut self) -> &mut Streams {
                &mut self.streams
            }
        }
    )* };
}
has_streams!(Created, Running, Paused, Stopped);

impl<P: Phase> Container<P> {
    pub(super) fn map<Q: Phase>(self, phase: impl FnOnce(P) -> Q) -> Container<Q> {
        Container { core: self.core, phase: phase(self.phase) }
    }
}

impl<P: Phase + ?Sized> Container<P> {
    /// The container's id.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.core.record.id
    }

    /// The phase that this program brought the container to, as a value.
    #[must_use]
    pub fn status(&self) -> Status {
        self.phase.status()
    }

    pub(super) fn record(&self) -> &Record {
        &self.core.record
    }
}
