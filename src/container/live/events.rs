//! What a container uses, and what happens to it, as it happens.

use crate::cgroup;
use crate::cgroup::stats::Stats;
use crate::container::handle::read_exit;
use crate::container::{Alive, Container, Exit, Phase};
use crate::error::{Error, ErrorKind, Result};
use crate::process::Channel;
use crate::process::channel::{Delivery, wait_readable_until};
use crate::state::{Found, StateRoot};
use crate::wire::control::{Operation, SandboxEvent};
use rustix::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the sandbox may take to begin telling.
const LISTEN_LIMIT: Duration = Duration::from_secs(30);

/// Something that happened to a container.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The kernel kills in it for memory. Needs a memory cgroup.
    OutOfMemory,
    /// It was paused.
    Paused,
    /// It was resumed.
    Resumed,
    /// The time for statistics has come; see [`Events::stats_every`].
    Stats(Box<Stats>),
    /// It has ended. Nothing comes after this.
    Exit(Exit),
}

/// The events of one container, from when they were asked for: an iterator that waits, and a descriptor ([`AsFd`]) that is
/// readable when [`try_next`](Self::try_next) has something other than statistics.
///
/// It ends after [`Event::Exit`]. Whoever does not read for long loses it: the sandbox waits for nobody.
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
    /// What the kernel does not count for this container is `None`. Cgroups that are gone, because somebody deleted the
    /// container, count nothing.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn stats(&self) -> Result<Stats>
    where
        P: Alive,
    {
        cgroup::stats::read(&self.core.record.cgroups)
    }

    /// What happens to the container from now on: paused, resumed, out of memory, exit, and statistics if asked for.
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
        // Only now it is listened for: a request over another connection could else overtake this one.
        match channel
            .receive::<SandboxEvent>(Some(Instant::now() + LISTEN_LIMIT))
            .map_err(Error::gone_means_ended)
        {
            Ok(Delivery { message: SandboxEvent::Listening, .. }) => {}
            Ok(_) => {
                return Err(Error::new(
                    ErrorKind::PeerMisbehaved,
                    "events",
                    "the sandbox sent something else",
                ));
            }
            // It has ended, which is the first thing to tell.
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
    /// Mixes in statistics, the first at once and then one each `interval`, at most one for each call of `next`.
    #[must_use]
    pub fn stats_every(mut self, interval: Duration) -> Self {
        self.every = Some(interval);
        self.next_stats = Some(Instant::now());
        self
    }

    /// The next event if there is one now; `None` if there is none yet, or none any more.
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
        let news = match self.channel.receive_now::<SandboxEvent>().map_err(Error::gone_means_ended) {
            Ok(news) => news.message,
            // The sandbox is gone, or was before it was asked: there is nobody to tell but the record.
            Err(error) if *error.kind() == ErrorKind::Ended => SandboxEvent::Ended,
            Err(error) => {
                self.ended = true;
                return Err(error);
            }
        };
        Ok(match news {
            SandboxEvent::OutOfMemory => Event::OutOfMemory,
            SandboxEvent::Paused => Event::Paused,
            SandboxEvent::Resumed => Event::Resumed,
            SandboxEvent::Listening => {
                self.ended = true;
                return Err(Error::new(ErrorKind::PeerMisbehaved, "events", "the sandbox said it twice"));
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
