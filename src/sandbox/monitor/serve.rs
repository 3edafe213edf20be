//! Requests: each is answered once, on the connection it came by or on the one it brought.

use super::client::{Client, Role};
use super::members::Member;
use super::{Key, Monitor, packed};
use crate::error::{Actor, Error, ErrorKind, Result};
use crate::helper::Received;
use crate::process::Channel;
use crate::process::channel::Delivery;
use crate::sandbox::exec::Forked;
use crate::sandbox::mounts::Work;
use crate::state::Cause;
use crate::wire::control::{
    CONNECTION, ExecReply, InitPhase, Operation, Reply, Request, SandboxEvent, SignalTarget, WaitReply,
};
use crate::wire::files::WorkerReport;
use crate::wire::init::StartProgram;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::Pid;

/// The most clients at once. The socket is reachable by its owner only; the cap bounds what a broken one can hold.
const MAX_CLIENTS: usize = 64;

impl Monitor {
    pub(super) fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC;
        let Ok(socket) = accept_with(&self.listener, flags) else { return };
        // Everybody inside the container has a pid here; a peer from outside has none that we can see. Not through
        // rustix: its type for a peer's pid has no place for that 0.
        let peer = getsockopt(&socket, PeerCredentials);
        let outside = peer.is_ok_and(|peer| rustix::process::getpid() != Pid::INIT || peer.pid() == 0);
        let clients = self.clients.iter().filter(|(_, client)| client.role == Role::Control).count();
        if outside && clients < MAX_CLIENTS {
            self.add_client(Client::accepted(socket.into()));
        }
    }

    /// Something came from a client, if only its end.
    pub(super) fn serve(&mut self, key: Key) {
        let Some(client) = self.take_client(key) else { return };
        if client.role != Role::Control {
            return;
        }
        let Ok(request) = client.channel.receive_now::<Request>() else { return };
        if let Some(client) = self.answer(client, request) {
            self.clients.push((key, client));
        }
    }

    /// Answers one request. `None` if the client is done, broken, or waits elsewhere.
    fn answer(&mut self, mut client: Client, request: Delivery<Request>) -> Option<Client> {
        client.touch();
        let Delivery { message: Request { container, operation }, mut fds } = request;
        let connection = fds.take_optional(CONNECTION).map(Channel::from);
        let container = match &container {
            None => self.root_key(),
            Some(id) => self.containers.iter().find(|(_, known)| known.id == *id).map(|(key, _)| *key),
        };
        let Some(container) = container else {
            let error = Error::new(ErrorKind::NotFound, "sandbox", "no such container in this sandbox");
            return client.reply(&failed(&error));
        };
        match operation {
            Operation::Exec => {
                if let Some(connection) = connection {
                    self.execute(container, connection, fds);
                }
                Some(client)
            }
            Operation::WaitProcess { pid } => {
                if let Some(connection) = connection {
                    self.wait_for_process(container, pid, connection);
                }
                Some(client)
            }
            Operation::Watch => {
                if let Some(connection) = connection {
                    self.watch(container, connection);
                }
                Some(client)
            }
            Operation::Files => {
                if let Some(connection) = connection {
                    self.serve_files(container, &connection);
                }
                Some(client)
            }
            Operation::Mount => {
                if let Some(connection) = connection {
                    self.mount(container, connection, fds);
                }
                Some(client)
            }
            Operation::Unmount { destination } => {
                if let Some(connection) = connection {
                    let destination = destination.path().to_owned();
                    self.change_mounts(container, connection, Ok(Work::Unmount { destination }));
                }
                Some(client)
            }
            Operation::Launch => {
                if let Some(boot) = connection {
                    self.launch(boot, fds);
                }
                Some(client)
            }
            Operation::Forget => {
                let reply = self.forget(container).unwrap_or_else(|error| failed(&error));
                client.reply(&reply)
            }
            Operation::Pause => {
                let helpers = self.helpers();
                self.container(container).pause(client, helpers)
            }
            Operation::Resume => {
                let reply = self.container(container).resume().unwrap_or_else(|error| failed(&error));
                client.reply(&reply)
            }
            Operation::Events => {
                if let Some(connection) = connection
                    && self.container(container).is_alive()
                {
                    let listener = Client::listening(connection, container);
                    if listener.channel.send_now(&SandboxEvent::Listening, &[]).is_ok() {
                        self.add_client(listener);
                    }
                }
                Some(client)
            }
            Operation::Start => self.start(container, client),
            Operation::Detach => {
                self.container(container).lifeline = None;
                client.reply(&Reply::Done)
            }
            Operation::Query => {
                let phase = self.container(container).phase;
                client.reply(&Reply::State { phase })
            }
            Operation::Processes => {
                let helpers = self.helpers();
                match self.container(container).hand_over_proc(&client, &helpers) {
                    Ok(()) => Some(client),
                    Err(error) => client.reply(&failed(&error)),
                }
            }
            Operation::Kill => {
                self.kill(container, Cause::Requested { signal: libc::SIGKILL });
                client.reply(&Reply::Done)
            }
            Operation::Signal { number, to } => {
                let reply = self.signal(container, number, to).unwrap_or_else(|error| failed(&error));
                client.reply(&reply)
            }
        }
    }

    fn start(&mut self, container: Key, client: Client) -> Option<Client> {
        let container = self.container(container);
        if container.phase != InitPhase::Created || container.starting.is_some() {
            return client.reply(&failed(&container.not_in_phase("start")));
        }
        match container.init.channel.send(&StartProgram {}, &[]) {
            Ok(()) => {
                container.starting = Some(client);
                None
            }
            Err(error) => client.reply(&failed(&error)),
        }
    }

    fn signal(&mut self, container: Key, number: i32, to: SignalTarget) -> Result<Reply> {
        let helpers = self.helpers();
        let container = self.container(container);
        container.signal_target(number, to, &helpers)?;
        if (number, to) != (libc::SIGKILL, SignalTarget::All) {
            return Ok(Reply::Done);
        }
        let left = container.members(&helpers)?.filter(Member::is_running).count();
        Ok(Reply::Left { processes: u32::try_from(left).unwrap_or(u32::MAX) })
    }

    fn watch(&mut self, container: Key, connection: Channel) {
        // Closed at once if there is nothing left to wait for.
        if self.container(container).is_alive() {
            self.add_client(Client::watching(connection, container));
        }
    }

    fn execute(&mut self, container: Key, connection: Channel, fds: Received) {
        let contained = self.contained(container);
        match Forked::new(contained, &self.score, fds) {
            Ok(forked) => {
                let key = self.next_key();
                self.processes.add(key, container, forked, connection);
            }
            Err(error) => {
                let _ = connection.send_now(&ExecReply::Failed(packed(Actor::Sandbox, &error)), &[]);
            }
        }
    }

    fn serve_files(&mut self, container: Key, connection: &Channel) {
        let found = self.containers.iter().find(|(key, _)| *key == container);
        let (_, contained) = found.expect("the key was just looked up");
        // Born with the score of the container's processes: the sandbox is spared when memory runs out, not this.
        let spawned = contained.root("files").and_then(|root| {
            let score = contained.rules.oom_score_adj;
            self.score.lend(score, || self.files.spawn(container, connection, root, &contained.layers))
        });
        if let Err(error) = spawned {
            let _ = connection.send_now(&WorkerReport::Failed(packed(Actor::Sandbox, &error)), &[]);
        }
    }

    fn wait_for_process(&mut self, container: Key, pid: i32, connection: Channel) {
        if let Err(connection) = self.processes.wait(container, pid, connection) {
            let problem = format!("{pid} is not a process that was executed and not waited for");
            let error = Error::new(ErrorKind::NotFound, "wait", problem);
            let _ = connection.send_now(&WaitReply::Failed(packed(Actor::Sandbox, &error)), &[]);
        }
    }
}

pub(super) fn failed(error: &Error) -> Reply {
    Reply::Failed(packed(Actor::Sandbox, error))
}
