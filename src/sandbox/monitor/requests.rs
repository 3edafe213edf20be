//! Requests: each is answered once, on the connection it came by or on the one it brought.

use super::client::{Client, ClientRole, Key, failed, packed};
use super::event_loop::Monitor;
use super::stage::{Lifeline, Ready, Stage};
use crate::cgroup::Split;
use crate::error::{Error, ErrorKind, RemoteFailure, Result};
use crate::helper::Received;
use crate::helper::spawn::read_plan;
use crate::plan::TreeStep;
use crate::process::Channel;
use crate::process::channel::Delivery;
use crate::sandbox::exec::ExecChild;
use crate::sandbox::members::Member;
use crate::sandbox::mounts::MountWork;
use crate::sandbox::namespaces::MOUNT_NAMESPACE;
use crate::sandbox::target::has_ended;
use crate::state::Cause;
use crate::wire::boot::SandboxReport;
use crate::wire::control::{
    CONNECTION, ExecReply, MountReply, Operation, Reply, Request, SandboxEvent, SignalTarget, WaitReply,
};
use crate::wire::files::WorkerReport;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::Pid;
use std::time::{Duration, Instant};

/// The most clients at once. The socket is reachable by its owner only; the cap bounds what a broken one can hold.
const MAX_CLIENTS: usize = 64;

/// How long a client waits at most once the sandbox has a descriptor for it again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Monitor {
    pub(super) fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC;
        let socket = match accept_with(&self.listener, flags) {
            Ok(socket) => socket,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                // The client still waits, and would wake every poll.
                self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
                return;
            }
            Err(_) => return,
        };
        // Every process inside the container has a pid here; a peer from outside has none that we can see. Not through
        // rustix: its type for a peer's pid cannot hold that 0.
        let peer = getsockopt(&socket, PeerCredentials);
        let outside = peer.is_ok_and(|peer| rustix::process::getpid() != Pid::INIT || peer.pid() == 0);
        let clients = self.clients.iter().filter(|(_, client)| client.role == ClientRole::Control).count();
        if outside && clients < MAX_CLIENTS {
            self.add_client(Client::accepted(socket.into()));
        }
    }

    /// A client has sent something, or is gone.
    pub(super) fn serve(&mut self, key: Key) {
        let Some(client) = self.take_client(key) else { return };
        match client.role {
            ClientRole::Control => {}
            ClientRole::Checkpoint(container) => return self.hear_of_image(key, client, container),
            ClientRole::Template(container) => return self.contained(container).let_go(),
            ClientRole::Watch(_) | ClientRole::Events(_) => return,
        }
        match client.channel.receive_part::<Request>() {
            Ok((request, None)) => {
                if let Some(client) = self.answer(client, request) {
                    self.clients.push((key, client));
                }
            }
            Ok((request, Some(missing))) => {
                refuse(request, &missing);
                self.clients.push((key, client));
            }
            Err(_) => {}
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
        if operation.disturbs_an_image() && self.is_being_written(container) {
            let problem = "an image of the container is being made, or a template";
            let error = Error::new(ErrorKind::Os(libc::EBUSY), operation.name(), problem);
            let Some(connection) = connection else { return client.reply(&failed(&error)) };
            refuse_on(&connection, &operation, packed(&error));
            return Some(client);
        }
        match operation {
            Operation::Checkpoint => {
                if let Some(connection) = connection {
                    self.begin_image(container, connection);
                }
                Some(client)
            }
            Operation::Exec => {
                if let Some(connection) = connection {
                    self.execute(container, connection, fds);
                }
                Some(client)
            }
            Operation::Template { stopped } => {
                if let Some(connection) = connection {
                    self.write_down(container, connection, stopped);
                }
                Some(client)
            }
            Operation::SplitCgroup { enable } => {
                if let Some(connection) = connection {
                    let reply = self.split_cgroup(container, enable, fds);
                    let _ = connection.send_now(&reply.unwrap_or_else(|error| failed(&error)), &[]);
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
                    self.change_mounts(container, connection, read_mount(fds));
                }
                Some(client)
            }
            Operation::Unmount { destination } => {
                if let Some(connection) = connection {
                    let destination = destination.path().to_owned();
                    self.change_mounts(container, connection, Ok(MountWork::Unmount { destination }));
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
            Operation::Job { timeout } => {
                if let Some(connection) = connection {
                    self.give_job(container, connection, timeout, fds);
                }
                Some(client)
            }
            Operation::Detach => {
                self.container(container).lifeline = Lifeline::Released;
                client.reply(&Reply::Done)
            }
            Operation::Query => {
                let phase = self.contained(container).phase();
                client.reply(&Reply::State { phase })
            }
            Operation::Processes => {
                let helpers = self.helpers();
                match self.hand_over_proc(container, &client, &helpers) {
                    Ok(()) => Some(client),
                    Err(error) => client.reply(&failed(&error)),
                }
            }
            Operation::Root => match self.hand_over_root(container, &client) {
                Ok(()) => Some(client),
                Err(error) => client.reply(&failed(&error)),
            },
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

    /// Answers with the container's own proc, and which of the `helpers` are seen in it.
    fn hand_over_proc(&self, container: Key, client: &Client, helpers: &[i32]) -> Result<()> {
        let container = self.contained(container);
        let Some(view) = container.view() else {
            return Err(Error::new(ErrorKind::InvalidInput, "processes", "there are none yet"));
        };
        let helpers = container.helpers_inside(helpers);
        client.channel.send_now(&Reply::Processes { helpers }, &[("proc", view.proc)])
    }

    /// Answers with what holds the container's files.
    fn hand_over_root(&self, container: Key, client: &Client) -> Result<()> {
        let container = self.contained(container);
        let Some(Ready { root, namespaces, layers, .. }) = container.ready() else {
            return Err(container.not_in_phase("files"));
        };
        let layers_by_name = layers.named();
        let mut fds = vec![("root", root.as_fd()), (MOUNT_NAMESPACE, namespaces.mount())];
        fds.extend(layers_by_name.iter().map(|(name, fd)| (name.as_str(), *fd)));
        let overlays = layers.overlays().iter().map(|path| path.as_path().into()).collect();
        client.channel.send_now(&Reply::Root { overlays }, &fds)
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
        // If the container has ended, this closes the connection at once.
        if self.container(container).is_alive() {
            self.add_client(Client::watching(connection, container));
        }
    }

    fn execute(&mut self, container: Key, connection: Channel, fds: Received) {
        self.container(container).visited = true;
        let prepared = match self.contained(container).stage {
            Stage::Created { .. } => self.prepare_for_programs(container),
            _ => Ok(()),
        };
        let state = self.contained(container);
        let (target, oom_kills) = (state.exec_target(), self.processes.oom_kills(container, state));
        match prepared.and(target).and_then(|target| ExecChild::fork(&target, &self.score, fds)) {
            Ok(child) => {
                let key = self.next_key();
                self.processes.add(key, container, child, oom_kills, connection);
            }
            Err(error) => {
                let _ = connection.send_now(&ExecReply::Failed(packed(&error)), &[]);
            }
        }
    }

    /// Moves the container's processes one cgroup down.
    fn split_cgroup(&mut self, container: Key, enable: String, mut fds: Received) -> Result<Reply> {
        let (dir, join, control) = (fds.take("dir")?, fds.take("join")?, fds.take("control")?);
        fds.finish()?;
        if let Stage::Created { .. } = self.contained(container).stage {
            self.prepare_for_programs(container)?;
        }
        self.contained(container).exec_target()?;
        let split = Split { enable, dir, join, control };
        // One that is still to join would not find the cgroup that it knows of.
        self.processes.await_joined(container);
        self.container(container).init.cgroups.split(&split)?;
        let container = self.contained(container);
        let mut moved = Ok(());
        container.hold_still(|| moved = container.init.cgroups.move_to(&split));
        moved.map(|()| Reply::Done)
    }

    fn serve_files(&mut self, container: Key, connection: &Channel) {
        self.container(container).visited = true;
        // Not by `contained`, which borrows all of the monitor.
        let found = self.containers.iter().find(|(key, _)| *key == container);
        let (_, state) = found.expect("the key was just looked up");
        let (target, ready) = (state.target("files"), state.ready());
        // With the OOM score of the container's processes: when memory runs out, the sandbox is spared, a worker is not.
        let spawned = target.map(|target| (target, ready)).and_then(|(target, ready)| {
            let layers = &ready.expect("there is a target").layers;
            let spawn = || self.files.spawn(container, connection, target.root, layers);
            self.score.lend(target.exec_config.oom_score_adj, spawn)
        });
        if let Err(error) = spawned {
            let _ = connection.send_now(&WorkerReport::Failed(packed(&error)), &[]);
        }
    }

    fn change_mounts(&mut self, container: Key, client: Channel, work: Result<MountWork>) {
        self.container(container).visited = true;
        let forked = work.and_then(|work| {
            let target = self.contained(container).target("mount")?;
            self.changes.fork(container, &target, &work, &self.score)
        });
        match forked {
            Ok(child) => {
                let key = self.next_key();
                self.changes.add(key, container, child, client);
            }
            Err(error) => {
                let _ = client.send_now(&MountReply::Failed(packed(&error)), &[]);
            }
        }
    }

    fn wait_for_process(&mut self, container: Key, pid: i32, connection: Channel) {
        if let Err(connection) = self.processes.wait(container, pid, connection) {
            let state = self.contained(container);
            let error = if state.is_alive() {
                let problem = format!("{pid} is not a process that was executed and not waited for");
                Error::new(ErrorKind::NotFound, "wait", problem)
            } else {
                has_ended(&state.id, "wait")
            };
            let _ = connection.send_now(&WaitReply::Failed(packed(&error)), &[]);
        }
    }
}

/// Answers a request that came without all of its descriptors, on the connection that it brought. Without that, too, its end
/// is the answer.
fn refuse(request: Delivery<Request>, missing: &Error) {
    let Delivery { message: Request { operation, .. }, mut fds } = request;
    let Some(connection) = fds.take_optional(CONNECTION).map(Channel::from) else { return };
    refuse_on(&connection, &operation, packed(missing));
}

fn refuse_on(connection: &Channel, operation: &Operation, failure: RemoteFailure) {
    let _ = match operation {
        Operation::Exec => connection.send_now(&ExecReply::Failed(failure), &[]),
        Operation::WaitProcess { .. } => connection.send_now(&WaitReply::Failed(failure), &[]),
        Operation::Files => connection.send_now(&WorkerReport::Failed(failure), &[]),
        Operation::Launch => connection.send_now(&SandboxReport::Failed(failure), &[]),
        Operation::Mount | Operation::Unmount { .. } => {
            connection.send_now(&MountReply::Failed(failure), &[])
        }
        _ => connection.send_now(&Reply::Failed(failure), &[]),
    };
}

/// What the descriptors of a mount describe: the step, and the connection of the gofer that hands the mount over.
fn read_mount(mut fds: Received) -> Result<MountWork> {
    let step = read_plan::<TreeStep>(fds.take("step")?)?;
    let gofer = fds.take_optional("gofer").map(Channel::from);
    fds.finish()?;
    Ok(MountWork::Mount { step, gofer })
}
