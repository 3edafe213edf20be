//! Passing the caller's signals on to a container, or to a process in it.

use crate::container::handle::Handle;
use crate::container::{AnyContainer, Container, Phase, Process, Started};
use crate::error::Result;
use crate::link::{Address, client};
use crate::process::ForwardSignals;
use crate::state::CONTROL_SOCKET;
use crate::wire::control::{Operation, Request, SignalTarget};
use rustix::fd::AsFd;

impl<P: Phase> Container<P> {
    /// Passes the signals that this program gets on to init, as [`signal`](Container::signal) does, until the returned
    /// value is dropped: what a program does that stands in for its workload, under a supervisor or a terminal.
    ///
    /// **This changes this program** as [`ForwardSignals`] says, as long as that value lives. Signals that come when
    /// the container has ended are lost, so drop it when [`wait`](Container::wait) returns.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if signals are forwarded already.
    pub fn forward_signals(&self) -> Result<ForwardSignals>
    where
        P: Started,
    {
        forward(&self.core, SignalTarget::Init)
    }
}

impl Process {
    /// Passes the signals that this program gets on to this process, as [`signal`](Self::signal) does, until the
    /// returned value is dropped; see [`Container::forward_signals`].
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if signals are forwarded already.
    pub fn forward_signals(&self) -> Result<ForwardSignals> {
        let (pid, send) = (self.pid(), self.sender()?);
        ForwardSignals::to(move |signal| {
            if let Err(error) = send(signal) {
                tracing::debug!(pid, %signal, %error, "a signal was not passed on");
            }
        })
    }
}

impl AnyContainer {
    /// Passes the signals that this program gets on to init; see [`Container::forward_signals`].
    ///
    /// # Errors
    /// [`WrongState`](crate::ErrorKind::WrongState) unless it runs; [`InvalidInput`](crate::ErrorKind::InvalidInput) if
    /// signals are forwarded already.
    pub fn forward_signals(&self) -> Result<ForwardSignals> {
        match self {
            Self::Running(container) => container.forward_signals(),
            _ => Err(self.wrong_state("forward signals")),
        }
    }
}

/// Passes them on to `to`, over a connection for each: between two signals there may be hours.
pub(in crate::container) fn forward(core: &Handle, to: SignalTarget) -> Result<ForwardSignals> {
    let run_dir = Address::of(&core.root, &core.record).run_dir()?;
    let id = core.record.id.clone();
    ForwardSignals::to(move |signal| {
        let operation = Operation::Signal { number: signal.number(), to };
        let request = Request { container: Some(id.clone()), operation };
        let sent = client::connect_in(run_dir.as_fd(), CONTROL_SOCKET)
            .and_then(|sandbox| client::begin(sandbox, &request)?.reply());
        if let Err(error) = sent {
            tracing::debug!(container = %id, %signal, %error, "a signal was not passed on");
        }
    })
}
