//! [`launch`]: the effects of create, in order, and how to undo them.

use super::blueprint::Blueprint;
use super::host_ids;
use super::id_maps;
use super::join_first;
use super::namesake;
use super::sockets::{CREATE_LIMIT, Sockets, await_assembled, await_ready, hear_sandbox, misbehaved};
use crate::cgroup::{Cgroup, systemd};
use crate::container::attachment::DropGuard;
use crate::container::handle::{Handle, Streams, TemplateMemory, descriptors_of, explain_out_of_memory};
use crate::container::live::kept_files::KeptFiles;
use crate::container::{oci, teardown};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::entry::{GOFER, SANDBOX};
use crate::helper::spawn::{Start, seal_plan};
use crate::helper::{Child, Donations, OpenFds, Spawner, extra_fd_name};
use crate::host::namespaces_obstacle;
use crate::id::ContainerId;
use crate::link::{PodSandbox, SandboxAddress, SandboxLink, client, find_pod_sandbox};
use crate::network::Moved;
use crate::plan::{GoferFacts, Plan, SandboxFacts, SealedGofer};
use crate::process::console::ConsoleSocket;
use crate::process::stdio::StreamEnd;
use crate::process::{Channel, ProcessIdentity, SeenFrom, Stdio, UserLog, boot_id, stdio};
use crate::spec::NetDevice;
use crate::state::{IdClaim, Record, StateLock, Status};
use crate::wire::boot::{GoferStart, SandboxReport, SandboxStart};
use crate::wire::init::{HooksDone, IMAGE_FILES, LISTENER_FDS, layer_name};
use rustix::fd::{AsFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Claims the id, makes the container, and saves its record as created. If a step fails, undoes the steps before it, and
/// leaves `core` so that the caller can try again.
pub(in crate::container) fn launch(
    core: &mut Handle,
    blueprint: &mut Blueprint,
) -> Result<(SandboxLink, Streams)> {
    // Look for the pod before taking the id, so that a missing pod leaves no trace.
    let pod = match &blueprint.extras.pod {
        Some(id) => Some(find_pod(core, &blueprint.plan, id)?),
        None => None,
    };
    let spawner = Spawner::of(blueprint.zygote.as_ref())?;
    // Connect to the terminal's receiver before making anything, so that a missing receiver leaves no trace.
    let terminal = find_console(blueprint)?;
    let ids = host_ids::claim(core, blueprint)?;
    let (sandboxs_lifeline, creators_lifeline) = pipe_with(PipeFlags::CLOEXEC).os(|| "pipe2()")?;
    let claim = namesake::claim(&core.root, &core.record, blueprint.replace)?;
    // Before other programs can see the record: they delete an attached container whose creator is gone.
    let creator = claim.run_dir().lock_for_creator()?;
    let untouched = core.record.clone();
    let record = &mut core.record;
    record.created_at = since_epoch_ms();
    record.boot_id = boot_id()?.to_owned();
    record.seen_from = SeenFrom::here()?;
    record.cgroups = blueprint.plan.cgroup.leaves();
    record.scope = blueprint.plan.cgroup.scope.as_ref().map(|scope| scope.unit.clone());
    record.control_socket = match &pod {
        Some(pod) => pod.control_socket().to_owned(),
        None => claim.run_dir().control_socket(),
    };
    record.sandbox = pod.as_ref().map(PodSandbox::process);
    record.attached = true;
    // Save what the next steps will make before they make it: after a crash, only the record says what to undo.
    let lock = claim.commit(record)?;
    let found = lock.found(&record.id);

    let mut transaction = CreateTransaction { lock, pod, spawner, ids, children: Vec::new(), devices: None };
    match transaction.make(core, blueprint, terminal, sandboxs_lifeline) {
        Ok((live, streams)) => {
            core.tether = Some(DropGuard::new(
                creators_lifeline,
                creator,
                core.root.clone(),
                found.clone(),
                core.record.created_at,
                transaction.release(),
            ));
            core.found = Some(found);
            Ok((live, streams))
        }
        Err(error) => {
            let error = explain_out_of_memory(error, &core.record, blueprint.origin);
            // Not before: once it closes, the sandbox has the gofer remove the cgroups, whose counters say why.
            drop(creators_lifeline);
            core.record = untouched;
            let error = match &transaction.pod {
                Some(pod) => pod.explain(error),
                None => explained(error),
            };
            Err(transaction.undo(error))
        }
    }
}

/// A container that is being made: what [`undo`](Self::undo) needs beside the record.
struct CreateTransaction {
    lock: StateLock,
    /// The sandbox of the pod that the container joins; without it, the container gets a sandbox of its own.
    pod: Option<PodSandbox>,
    spawner: Spawner,
    /// The claim of the container's own range of host ids.
    ids: Option<IdClaim>,
    /// The caller's helpers: the sandbox, unless the pod has one already, then the gofer.
    children: Vec<Child>,
    /// The host's network devices that were moved to the container.
    devices: Option<Moved>,
}

impl CreateTransaction {
    /// Makes the cgroups, starts the sandbox and the gofer, moves the devices, and runs the caller's hooks. Then waits
    /// until both helpers are ready, and records the container as created. The sandbox kills the container when the other
    /// end of `lifeline` closes.
    fn make(
        &mut self,
        core: &mut Handle,
        blueprint: &Blueprint,
        terminal: Option<ConsoleSocket>,
        lifeline: OwnedFd,
    ) -> Result<(SandboxLink, Streams)> {
        let cgroup = match &blueprint.plan.cgroup.scope {
            // systemd makes a scope only around a running process: `enter_scope` does it once the sandbox runs.
            Some(_) => Cgroup::default(),
            None => self.make_cgroup(core, blueprint, None)?,
        };
        let run_dir = self.lock.run_dir()?;
        let sockets = Sockets::open(
            &run_dir,
            lifeline,
            blueprint.plan.sandbox.init.hooks.at_create,
            self.pod.is_none(),
        )?;
        let owner = blueprint.plan.pipe_owner;
        let [stdin, stdout, stderr] = &blueprint.stdio;
        let streams = stdio::OpenedStdio::open([stdin, stdout, stderr], owner)?;
        let extra_fds = blueprint.extra_fds.open()?;
        let gofer_facts = GoferFacts {
            staging: run_dir.path().to_owned(),
            // What the gofer removes if this process dies. Empty for a scope: systemd removes its cgroups.
            cgroups: cgroup.leaves(),
            cgroup_ancestors: cgroup.made_ancestors().to_vec(),
        };
        let hook_state = match blueprint.plan.sandbox.init.hooks.any() {
            true => oci::state(Status::Creating, &core.record)?,
            false => serde_json::Map::new(),
        };
        let descriptors = descriptors_of(&streams.workload, &extra_fds);
        let sandbox_facts = SandboxFacts { descriptors, hook_state };
        let sandbox_plan = seal_plan(&blueprint.plan.sandbox.resolve(sandbox_facts))?;

        // Start the sandbox first, because its namespaces take longer than the gofer's mounts. It makes them while the
        // gofer starts and works.
        let namespace =
            match self.start_sandbox(blueprint, &sandbox_plan, &sockets, &cgroup, &streams, &extra_fds)? {
                Some(sandbox) => self.begin(core, blueprint, sandbox, &sockets.boot_sandbox.0)?,
                None => self.namespace_of_the_pod(blueprint)?,
            };
        let gofer = self.spawn_gofer(&blueprint.plan.gofer.resolve(gofer_facts), &sockets)?;
        let namespace: Vec<_> =
            namespace.iter().map(|namespace| ("user-namespace", namespace.as_fd())).collect();
        sockets.boot_gofer.0.send(&GoferStart {}, &namespace)?;
        core.record.gofer = ProcessIdentity::of(gofer)?;
        let Sockets { boot_gofer, boot_sandbox, mounts, lifeline, control, exit_record, hooks } = sockets;
        // Close our copies of the helpers' ends: while we hold them, the processes at the other ends see no hangup when a
        // helper dies.
        drop((boot_gofer.1, boot_sandbox.1, mounts, lifeline, exit_record, extra_fds));
        let creator = control.map(|((ours, _), _)| ours);
        // Move the devices before the hooks, which may configure them.
        self.move_devices(&boot_sandbox.0, &blueprint.plan.net_devices)?;
        let stdio::OpenedStdio { workload, caller } = streams;
        drop(workload);

        let limit = match hooks {
            Some((init, theirs)) => {
                drop(theirs);
                self.run_hooks(core, blueprint, &init)?
            }
            None => Some(CREATE_LIMIT),
        };
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut fds = await_ready(&boot_gofer.0, &boot_sandbox.0, deadline)?;
        let init = fds.take("init")?;
        let listener = fds.take_those(&LISTENER_FDS);
        if !listener.is_empty() {
            let pid = client::pid_of(init.as_fd())?;
            core.record.init = ProcessIdentity::of(pid)?;
            oci::hand_over_listener(&core.record, Status::Creating, pid, listener)?;
        }
        let pty = match terminal {
            Some(taker) => taker.take(fds.take_only("terminal")?)?,
            None => fds.finish().map(|()| None)?,
        };
        let live = self.record_created(core, init, creator)?;
        let ids = self.ids.take();
        core.kept = blueprint.keep_files.then(|| KeptFiles::of(&live, &core.record, ids)).transpose()?;
        let Record { id, sandbox, gofer, cgroups, .. } = &*core.record;
        tracing::debug!(container = %id, ?sandbox, ?gofer, init = live.init_pid(), ?cgroups, "created");
        Ok((live, Streams { pipes: caller, pty }))
    }

    /// Puts the sandbox into its scope, if the plan has one, and maps its ids. Then tells it to start, because it waits
    /// for both. Returns the user namespace that the gofer needs.
    fn begin(
        &mut self,
        core: &mut Handle,
        blueprint: &Blueprint,
        sandbox: i32,
        boot: &Channel,
    ) -> Result<Option<OwnedFd>> {
        let fds = self.enter_scope(core, blueprint, sandbox)?;
        let fds: Vec<_> = fds.iter().map(|(name, fd)| (name.as_str(), fd.as_fd())).collect();
        let namespace = id_maps::apply(&blueprint.plan, sandbox)?;
        boot.send(&SandboxStart {}, &fds)?;
        core.record.sandbox = ProcessIdentity::of(sandbox)?;
        Ok(namespace)
    }

    /// Runs the prestart and createRuntime hooks while init waits with the root assembled, and then lets init go on.
    /// Returns how long the rest of creation may take, with the createContainer hooks that init runs; `None` if one of
    /// these has no timeout.
    fn run_hooks(
        &mut self,
        core: &mut Handle,
        blueprint: &Blueprint,
        init: &Channel,
    ) -> Result<Option<Duration>> {
        // If init died, skip the hooks; `await_ready` reports why.
        if let Some(pidfd) = await_assembled(init)? {
            // The state that hooks get names init.
            core.record.init = ProcessIdentity::of(client::pid_of(pidfd.as_fd())?)?;
            // Save the sandbox's pid before the hooks run: teardown runs the poststop hooks, which undo what these hooks
            // do, only if the record names a sandbox.
            self.lock.save(&mut core.record)?;
            oci::at_create(&core.record, &blueprint.plan.hooks)?;
            init.send(&HooksDone {}, &[])?;
        }
        Ok(oci::time_limit(&blueprint.plan.hooks.create_container).map(|hooks| hooks + CREATE_LIMIT))
    }

    /// Records the container as created and writes the PID file. Returns the link to its sandbox.
    fn record_created(
        &mut self,
        core: &mut Handle,
        init: OwnedFd,
        creator: Option<Channel>,
    ) -> Result<SandboxLink> {
        let init_pid = client::pid_of(init.as_fd())?;
        core.record.init = ProcessIdentity::of(init_pid)?;
        core.record.advance(Status::Created)?;
        self.lock.save(&mut core.record)?;
        let sandbox_pid = core.record.sandbox.map_or(0, |sandbox| sandbox.pid);
        // Engines wait for the process in the file as for a child of theirs, and take its status for the container's. That
        // is a sandbox of its own, which ends with the container. A pod's sandbox goes on: name init.
        if let Some(path) = &core.record.pid_file {
            write_pid_file(path, if self.pod.is_some() { init_pid } else { sandbox_pid })?;
        }
        let address = SandboxAddress::of(&core.root, &core.record);
        Ok(match &self.pod {
            Some(pod) => {
                SandboxLink::new(address, init, sandbox_pid, init_pid).in_pod(pod.watch(&core.record.id)?)
            }
            None => {
                let sandbox = self.children.first().expect("the sandbox was spawned first").pidfd();
                let pidfd = sandbox.try_clone_to_owned().os(|| "fcntl(F_DUPFD_CLOEXEC, pidfd)")?;
                SandboxLink::new(address, pidfd, sandbox_pid, init_pid).over(creator)
            }
        })
    }

    /// The pod's user namespace, for the gofer's mounts. `None` without a pod, and if the container maps no ids.
    fn namespace_of_the_pod(&self, blueprint: &Blueprint) -> Result<Option<OwnedFd>> {
        match &self.pod {
            Some(pod) if !blueprint.plan.id_maps.uids.is_empty() => pod.user_namespace().map(Some),
            _ => Ok(None),
        }
    }

    /// Makes the planned cgroups, in a scope around the process `sandbox`, and puts those that it made into the record.
    fn make_cgroup(
        &mut self,
        core: &mut Handle,
        blueprint: &Blueprint,
        sandbox: Option<i32>,
    ) -> Result<Cgroup> {
        match Cgroup::create(&blueprint.plan.cgroup, sandbox) {
            Ok(cgroup) => {
                // Record only the cgroups that were made: teardown destroys what the record names, and a planned one
                // may have been given up, or belong to another container.
                core.record.cgroups = cgroup.leaves();
                core.record.cgroup_ancestors = cgroup.made_ancestors().to_vec();
                // Only now it is known which of them were made. `undo` reads them from the saved record.
                if !core.record.cgroup_ancestors.is_empty() {
                    self.lock.save(&mut core.record)?;
                }
                Ok(cgroup)
            }
            // `create` has removed what it made.
            Err(error) => {
                core.record.cgroups.clear();
                self.lock.save(&mut core.record)?;
                Err(error)
            }
        }
    }

    /// If the plan has a scope, asks systemd to make it around the sandbox, then makes the cgroups below it. Returns the
    /// descriptors of these cgroups by name: the sandbox gets them now, because they did not exist when it started.
    fn enter_scope(
        &mut self,
        core: &mut Handle,
        blueprint: &Blueprint,
        sandbox: i32,
    ) -> Result<Vec<(String, OwnedFd)>> {
        let Some(scope) = &blueprint.plan.cgroup.scope else { return Ok(Vec::new()) };
        if let Err(error) = systemd::start(scope, sandbox) {
            if *error.kind() == ErrorKind::AlreadyExists {
                // The scope belongs to another container: take it out of the record, or `undo` would destroy it.
                core.record.cgroups.clear();
                core.record.scope = None;
                self.lock.save(&mut core.record)?;
            }
            return Err(error.during("linux.cgroupsPath"));
        }
        self.make_cgroup(core, blueprint, Some(sandbox))?.fds()
    }

    fn spawn_gofer(&mut self, plan: &SealedGofer<'_>, sockets: &Sockets) -> Result<i32> {
        let plan = seal_plan(plan)?;
        let mut donations = Donations::default();
        donations.give("boot", &sockets.boot_gofer.1);
        donations.give("plan", &plan);
        donations.give("init", &sockets.mounts.0);
        donations.give("lifeline", &sockets.lifeline);
        let start = Start::of(GOFER);
        let gofer = self.spawner.spawn(&start, &donations)?;
        self.add(gofer)
    }

    /// Starts a sandbox and returns its pid, or hands the container to the pod's sandbox and returns `None`.
    fn start_sandbox(
        &mut self,
        blueprint: &Blueprint,
        plan: &OwnedFd,
        sockets: &Sockets,
        cgroup: &Cgroup,
        streams: &stdio::OpenedStdio,
        extra_fds: &OpenFds<'_>,
    ) -> Result<Option<i32>> {
        let cgroups = cgroup.fds()?;
        let user_log = blueprint.user_log.as_ref().map(UserLog::open).transpose()?;
        let mut donations = Donations::default();
        donations.give("plan", plan);
        donations.give("gofer", &sockets.mounts.1);
        if let Some(((_, creator), listener)) = &sockets.control {
            donations.give("boot", &sockets.boot_sandbox.1);
            donations.give("creator", creator);
            donations.give("control", listener);
        }
        donations.give("exit", &sockets.exit_record);
        donations.give("lifeline", &sockets.lifeline);
        if let Some((_, init)) = &sockets.hooks {
            donations.give("hooks", init);
        }
        if let Some(user_log) = &user_log {
            donations.give("user-log", user_log);
        }
        if let Some(ids) = &self.ids {
            donations.give("ids", ids);
        }
        let layers = blueprint.restored.as_ref().map_or(Ok(Vec::new()), |restored| restored.open_layers())?;
        layers.iter().enumerate().for_each(|(number, layer)| donations.give(layer_name(number), layer));
        blueprint.restored.iter().for_each(|restored| donations.give(IMAGE_FILES, restored.copies()));
        let template = blueprint.template.iter().flat_map(TemplateMemory::fds);
        template.for_each(|(name, fd)| donations.give(name, fd));
        let given: Vec<_> = streams.workload.iter().map(StreamEnd::given).collect();
        for (name, stream) in ["stdin", "stdout", "stderr"].into_iter().zip(&given) {
            if let Some(stream) = stream {
                donations.give(name, stream);
            }
        }
        let extra_fds: Vec<_> = extra_fds.numbers.iter().zip(extra_fds.fds()).collect();
        for (number, fd) in &extra_fds {
            donations.give(extra_fd_name(**number), fd);
        }
        for (name, fd) in &cgroups {
            donations.give(name.as_str(), fd);
        }
        if let Some(pod) = &self.pod {
            pod.launch(&sockets.boot_sandbox.1, &donations)?;
            return Ok(None);
        }
        let plan = &blueprint.plan.sandbox.namespaces;
        let joins = join_first::open(plan)?;
        let start = Start {
            name: SANDBOX,
            namespaces: plan.with_sandbox.bits(),
            cgroup: cgroup.sandbox_dir_fd(),
            joins: &join_first::borrowed(&joins),
        };
        let spawned = self.spawner.spawn(&start, &donations);
        let sandbox = spawned.map_err(|error| join_first::explain(error, plan))?;
        self.add(sandbox).map(Some)
    }

    fn add(&mut self, child: Child) -> Result<i32> {
        let pid = child.pid();
        self.children.push(child);
        Ok(pid)
    }

    /// Moves `devices` to the network namespace of the sandbox. [`undo`](Self::undo) moves them back.
    fn move_devices(&mut self, sandbox: &Channel, devices: &[NetDevice]) -> Result<()> {
        if devices.is_empty() {
            return Ok(());
        }
        let report = hear_sandbox(sandbox, Some(Instant::now() + CREATE_LIMIT))?;
        let socket = match report.message {
            SandboxReport::Network => report.fds.take_only("network")?,
            SandboxReport::Failed(failure) => return Err(failure.into()),
            SandboxReport::Ready => return Err(misbehaved("the sandbox sent no network")),
        };
        self.devices = Some(Moved::to(socket.into(), devices)?);
        Ok(())
    }

    fn release(self) -> Vec<OwnedFd> {
        self.children.into_iter().map(Child::into_pidfd).collect()
    }

    /// Moves the devices back and kills the helpers. Then removes everything that the saved record names, as after a
    /// crash. Returns `error`, with a hint about what could not be undone.
    fn undo(self, error: Error) -> Error {
        // Move the devices back before killing the sandbox: the container's network namespace may end with it.
        let devices = self.devices.map_or(Ok(()), Moved::undo);
        for child in &self.children {
            child.destroy();
        }
        let left: Vec<_> = [devices, teardown::destroy(self.lock, None)]
            .into_iter()
            .filter_map(|undone| undone.err().map(|error| error.to_string()))
            .collect();
        match left.is_empty() {
            true => error,
            false => error.hint(format!("left behind: {}", left.join("; "))),
        }
    }
}

/// If the kernel refused a call, tries whether it refuses namespaces or mounts at all, and adds the reason to the error.
fn explained(error: Error) -> Error {
    let refused = [libc::EPERM, libc::EACCES, libc::ENOSYS, libc::ENOSPC, libc::EUSERS];
    match error.raw_os_error().filter(|errno| refused.contains(errno)).and_then(|_| namespaces_obstacle()) {
        Some(obstacle) => error.hint(obstacle.to_string()),
        None => error,
    }
}

/// Finds the sandbox of the pod `id`. Fails if that pod cannot take the container that `core` and `plan` describe.
fn find_pod(core: &Handle, plan: &Plan, id: &ContainerId) -> Result<PodSandbox> {
    let pod = find_pod_sandbox(&core.root, id)?;
    pod.check_member(&core.record.spec.parse()?)?;
    if !plan.hooks.create_container.is_empty() {
        let problem = "the host's programs cannot be reached from the pod's namespaces";
        return Err(Error::unsupported("hooks.createContainer", problem));
    }
    Ok(pod)
}

/// Connects to the process that will receive the terminal; `None` if the workload has no terminal.
fn find_console(blueprint: &Blueprint) -> Result<Option<ConsoleSocket>> {
    if blueprint.plan.sandbox.init.process.terminal.is_none() {
        return Ok(None);
    }
    if !blueprint.stdio.iter().all(Stdio::is_null) {
        let problem = "the process has a terminal, and its standard streams were redirected elsewhere";
        return Err(Error::spec(blueprint.origin, "process.terminal", problem)
            .hint("ask for the terminal, or redirect the streams"));
    }
    blueprint.console.find(blueprint.origin).map(Some)
}

/// Writes the PID file by rename, so that no reader sees half of it. Writes the pid in decimal without a newline, because
/// engines parse the whole file.
fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    use std::io::Write;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let step = || format!("write pid file {path:?}");
    let mut file = tempfile::NamedTempFile::new_in(directory).os(step)?;
    file.write_all(pid.to_string().as_bytes()).os(step)?;
    file.persist(path).map_err(|error| error.error).os(step)?;
    Ok(())
}

fn since_epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
