//! [`Stats`], what a container uses, and [`Events`], what happens to it.

use crate::cgroup;
use crate::cgroup::stats::Stats;
use crate::container::handle::read_exit;
use crate::container::{Alive, Container, Exit, Phase};
use crate::error::{Error, ErrorKind, Result};
use crate::process::Channel;
use crate::process::channel::{Delivery, wait_readable_until};
use crate::state::{Found, StateRoot};
use crate::wire::control::{Operation, SandboxEvent};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the sandbox may take to acknowledge the request for events.
const LISTEN_LIMIT: Duration = Duration::from_secs(30);

/// Something that happened to a container.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The kernel's OOM killer killed in it. Needs a memory cgroup.
    OutOfMemory,
    /// It was paused.
    Paused,
    /// It was resumed.
    Resumed,
    /// Statistics, at the interval of [`Events::stats_every`].
    Stats(Box<Stats>),
    /// It has ended. This is the last event.
    Exit(Exit),
}

/// The events of one container since [`Container::events`] was called: an iterator that waits, and a descriptor
/// ([`AsFd`]) that is readable when [`try_next`](Self::try_next) has an event other than statistics.
///
/// The iterator ends after [`Event::Exit`]. The sandbox does not wait for slow readers: it closes the connection of one
/// whose queue is full.
#[derive(Debug)]
pub struct Events {
    channel: Channel,
    root: StateRoot,
    found: Found,
    cgroups: Vec<PathBuf>,
    every: Option<Duration>,
    next_stats: Option<Instant>,
    ended: bool,
}

impl<P: Phase + ?Sized> Container<P> {
    /// What the container uses now and has used so far, from its own cgroups.
    ///
    /// A value that the kernel does not count for this container is `None`. If another process deleted the container,
    /// its cgroups are gone, and all values are `None`.
    ///
    /// # Errors
    /// [`ErrorKind::Ended`] if the container has ended: its [`Exit`](crate::Exit) has what it used in all; or the system
    /// call that failed.
    pub fn stats(&self) -> Result<Stats>
    where
        P: Alive,
    {
        let stats = cgroup::stats::read(&self.core.record.cgroups)?;
        // Check after reading, because the container may end while the statistics are read.
        self.phase.live().check_alive("stats")?;
        Ok(stats)
    }

    /// The container's events from now on: out of memory, paused, resumed, exit, and statistics at an interval if
    /// [`Events::stats_every`] sets one.
    ///
    /// Any number of programs can listen, and none of them keeps the container alive.
    ///
    /// # Errors
    /// [`ErrorKind::Ended`] if the sandbox is gone.
    pub fn events(&self) -> Result<Events>
    where
        P: Alive,
    {
        let channel = self.phase.live().connect(Operation::Events, &[])?;
        // Wait for the acknowledgement: until the sandbox has registered us, a request over another connection could
        // overtake this one, and we would miss its event.
        match channel
            .receive::<SandboxEvent>(Some(Instant::now() + LISTEN_LIMIT))
            .map_err(Error::gone_means_ended)
        {
            Ok(Delivery { message: SandboxEvent::Listening, .. }) => {}
            Ok(_) => {
                return Err(Error::new(
                    ErrorKind::PeerMisbehaved,
                    "events",
                    "the sandbox did not acknowledge the request",
                ));
            }
            // The container has ended: `Event::Exit` will be the first event.
            Err(error) if *error.kind() == ErrorKind::Ended => {}
            Err(error) => return Err(error),
        }
        Ok(Events {
            channel,
            root: self.core.root.clone(),
            found: self.core.found()?.clone(),
            cgroups: self.core.record.cgroups.clone(),
            every: None,
            next_stats: None,
            ended: false,
        })
    }
}

impl Events {
    /// Adds statistics to the events: the first at once, then one each `interval`, at most one for each call of `next`.
    #[must_use]
    pub fn stats_every(mut self, interval: Duration) -> Self {
        self.every = Some(interval);
        self.next_stats = Some(Instant::now());
        self
    }

    /// The next event, without waiting; `None` if there is none now, or after [`Event::Exit`].
    ///
    /// # Errors
    /// The connection or the statistics cannot be read.
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        self.next_until(Some(Instant::now()))
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Result<Option<Event>> {
        if self.ended {
            return Ok(None);
        }
        let until = deadline.into_iter().chain(self.next_stats).min();
        if wait_readable_until(self.channel.as_fd(), until)? {
            return self.receive().map(Some);
        }
        match (self.next_stats, self.every) {
            (Some(due), Some(every)) if due <= Instant::now() => {
                self.next_stats = Instant::now().checked_add(every);
                Ok(Some(Event::Stats(Box::new(cgroup::stats::read(&self.cgroups)?))))
            }
            _ => Ok(None),
        }
    }

    fn receive(&mut self) -> Result<Event> {
        let event = match self.channel.receive_now::<SandboxEvent>().map_err(Error::gone_means_ended) {
            Ok(event) => event.message,
            // The sandbox is gone, or was gone before we asked: take the exit from its record.
            Err(error) if *error.kind() == ErrorKind::Ended => SandboxEvent::Ended,
            Err(error) => {
                self.ended = true;
                return Err(error);
            }
        };
        Ok(match event {
            SandboxEvent::OutOfMemory => Event::OutOfMemory,
            SandboxEvent::Paused => Event::Paused,
            SandboxEvent::Resumed => Event::Resumed,
            SandboxEvent::Listening => {
                self.ended = true;
                return Err(Error::new(
                    ErrorKind::PeerMisbehaved,
                    "events",
                    "the sandbox acknowledged the request twice",
                ));
            }
            SandboxEvent::Ended => {
                self.ended = true;
                Event::Exit(read_exit(&self.root, &self.found, &self.cgroups)?)
            }
        })
    }
}

impl Iterator for Events {
    type Item = Result<Event, Error>;

    /// Waits for the next event; `None` after [`Event::Exit`].
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_until(None) {
                Ok(None) if !self.ended => {}
                next => return next.transpose(),
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl AsRawFd for Events {
    /// The number of [`as_fd`](AsFd::as_fd), for event loops that take numbers. It stays this value's.
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
