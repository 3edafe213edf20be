//! The verb exec: another process in a container.

use super::arguments::{id, user};
use super::failure::{Done, EXEC_FAULT, Failure, exit_code};
use super::find;
use super::foreground::{SignalForwarder, keeps_newlines};
use super::pidfd::PidfdSocket;
use super::terminal::our_size;
use cofferdam::oci::parse_process;
use cofferdam::oci_spec::runtime::{Capability, LinuxCapabilities, Process, Spec};
use cofferdam::typestate::Enterable;
use cofferdam::{AnyContainer, Container, Paused, StateRoot};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The largest process document accepted, in bytes: execve(2) would refuse larger arguments and environments.
const MAX_DOCUMENT: u64 = 8 << 20;

/// How often to look whether a paused container was resumed: 20 ms.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

#[derive(clap::Args)]
pub(crate) struct Exec {
    /// Read the process from FILE, in the form of config.json
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Do not wait for the end of the process
    #[arg(short, long)]
    detach: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Send the terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Write its pid to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send a pidfd of the process to this socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// The directory to start in
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Add an environment variable to the container's
    #[arg(short, long, value_name = "K=V")]
    env: Vec<String>,
    /// Run the process as this user
    #[arg(short, long, value_name = "UID[:GID]", value_parser = user)]
    user: Option<(u32, Option<u32>)>,
    /// Add a supplementary group
    #[arg(short = 'g', long, value_name = "GID", value_parser = id)]
    additional_gids: Vec<u32>,
    /// Add a capability to the bounding, effective and permitted sets
    #[arg(short, long, value_name = "CAP")]
    cap: Vec<String>,
    /// Prevent the process from gaining privileges
    #[arg(long)]
    no_new_privs: bool,
    /// Pass on this many descriptors, beginning with number 3
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// The AppArmor profile
    #[arg(long, value_name = "NAME")]
    apparmor: Option<String>,
    /// The SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// In a paused container, wait until it is resumed
    #[arg(long)]
    ignore_paused: bool,
    /// Execute in an existing cgroup below the container's
    #[arg(long, value_name = "[CONTROLLER:]CGROUP")]
    cgroup: Vec<String>,
    /// The container
    id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required_unless_present = "process")]
    args: Vec<String>,
}

impl Exec {
    pub(crate) fn obey(self, root: &StateRoot) -> Done {
        let fault = |failure: Failure| Failure {
            message: format!("exec failed: {}", failure.message),
            code: EXEC_FAULT,
        };
        self.execute(root).map_err(fault)
    }

    fn execute(self, root: &StateRoot) -> Done {
        let pidfd = self.pidfd_socket.as_deref().map(PidfdSocket::connect).transpose()?;
        let pidfd = pidfd.as_ref();
        let container = match find(root, &self.id)? {
            container @ (AnyContainer::Created(_) | AnyContainer::Running(_)) => container,
            AnyContainer::Paused(paused) if self.ignore_paused => self.await_resumed(root, &paused)?,
            AnyContainer::Paused(_) => return Err("cannot exec in a paused container".into()),
            AnyContainer::Stopped(_) => return Err("cannot exec in a stopped container".into()),
            AnyContainer::Creating(_) => return Err("cannot exec in a container that was not created".into()),
        };
        let container = container.as_enterable()?;
        let mut process = match &self.process {
            Some(path) => read_process(path)?,
            None => self.changed(container_process(container)?)?,
        };
        let terminal = self.tty || process.terminal().unwrap_or(false);
        process.set_terminal(Some(terminal));
        let exec = cofferdam::Exec::from_oci(process).inherit_fds(self.preserve_fds).attached();
        let exec = self.in_cgroups(exec)?;
        match (terminal, self.detach, &self.console_socket) {
            (true, true, None) => {
                Err("cannot allocate tty if runc will detach without setting console socket".into())
            }
            (true, true, Some(socket)) => {
                self.execute_detached(container, pidfd, exec.console_socket(socket))
            }
            (_, _, Some(_)) => {
                Err("cannot use console socket if runc will not detach or allocate tty".into())
            }
            (false, true, None) => self.execute_detached(container, pidfd, exec.inherit_stdio()),
            (true, false, None) => {
                let exec = match our_size() {
                    Some(size) => exec.terminal_size(size),
                    None => exec,
                };
                let exec = if keeps_newlines() { exec.keep_newlines() } else { exec };
                self.execute_in_foreground(container, pidfd, exec.terminal())
            }
            (false, false, None) => self.execute_in_foreground(container, pidfd, exec.inherit_stdio()),
        }
    }

    /// With runc the process is in the frozen cgroup at once, and waits there for itself.
    fn await_resumed(&self, root: &StateRoot, paused: &Container<Paused>) -> Result<AnyContainer, Failure> {
        let mut events = paused.events()?;
        while let AnyContainer::Paused(_) = find(root, &self.id)? {
            // The record follows the event: look again soon, even if the event came before we listened.
            poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(&LOOK_AGAIN))?;
            while events.try_next()?.is_some() {}
        }
        match find(root, &self.id)? {
            running @ AnyContainer::Running(_) => Ok(running),
            other => Err(format!("cannot exec in a {} container", other.status()).into()),
        }
    }

    /// The process of the container's configuration, changed by the options.
    fn changed(&self, mut process: Process) -> Result<Process, Failure> {
        process.set_args(Some(self.args.clone())).set_console_size(None).set_terminal(Some(false));
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        if !self.env.is_empty() {
            let env = process.env().iter().flatten().chain(&self.env).cloned().collect();
            process.set_env(Some(env));
        }
        let mut user = process.user().clone();
        if let Some((uid, gid)) = self.user {
            let gid = gid.unwrap_or(user.gid());
            user.set_uid(uid).set_gid(gid);
        }
        if !self.additional_gids.is_empty() {
            let gids =
                user.additional_gids().iter().flatten().chain(&self.additional_gids).copied().collect();
            user.set_additional_gids(Some(gids));
        }
        process.set_user(user);
        if !self.cap.is_empty() {
            process.set_capabilities(Some(self.with_capabilities(&process)));
        }
        if self.no_new_privs {
            process.set_no_new_privileges(Some(true));
        }
        if self.apparmor.is_some() {
            process.set_apparmor_profile(self.apparmor.clone());
        }
        if self.process_label.is_some() {
            process.set_selinux_label(self.process_label.clone());
        }
        Ok(process)
    }

    /// In the cgroups of the options. As with runc, one without a controller stands alone, and is for every hierarchy.
    fn in_cgroups(&self, mut exec: cofferdam::Exec) -> Result<cofferdam::Exec, Failure> {
        for option in &self.cgroup {
            exec = match option.split_once(':') {
                Some((_, path)) if path.contains(':') => {
                    return Err(format!("invalid --cgroup argument: {option}").into());
                }
                Some((controllers, path)) => controllers
                    .split(',')
                    .fold(exec, |exec, controller| exec.controller_cgroup(controller, path)),
                None if self.cgroup.len() == 1 => exec.cgroup(option),
                None => {
                    let problem = "missing <controller>: prefix";
                    return Err(format!("invalid --cgroup argument: {option} ({problem})").into());
                }
            };
        }
        Ok(exec)
    }

    /// As with runc, not the inheritable and ambient sets: a program of another user than root gets none of these
    /// capabilities from its file.
    fn with_capabilities(&self, process: &Process) -> LinuxCapabilities {
        let parse = |name: &String| -> Option<Capability> {
            let parsed = serde_json::from_value(serde_json::Value::String(name.to_ascii_uppercase()));
            if parsed.is_err() {
                tracing::warn!("unknown capability {name:?}");
            }
            parsed.ok()
        };
        let more: Vec<_> = self.cap.iter().filter_map(parse).collect();
        let mut sets = process.capabilities().clone().unwrap_or_default();
        let grown = |set: &Option<std::collections::HashSet<Capability>>| {
            Some(set.iter().flatten().copied().chain(more.iter().copied()).collect())
        };
        let (bounding, effective, permitted) =
            (grown(sets.bounding()), grown(sets.effective()), grown(sets.permitted()));
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
        sets
    }

    /// Executes the process without waiting for its end. Leaves an exec proxy, whose pid and end are the process's to an
    /// engine.
    fn execute_detached(
        &self,
        container: &Container<dyn Enterable>,
        pidfd: Option<&PidfdSocket>,
        exec: cofferdam::Exec,
    ) -> Done {
        let process = container.exec(exec)?;
        pidfd.map_or(Ok(()), |socket| socket.send_executed(process.pidfd()))?;
        let pid = process.into_exec_proxy()?;
        self.write_pid(pid)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Executes the process and waits for its end.
    fn execute_in_foreground(
        &self,
        container: &Container<dyn Enterable>,
        pidfd: Option<&PidfdSocket>,
        exec: cofferdam::Exec,
    ) -> Done {
        // Block signals before anything starts, so that none is lost.
        let forwarder = SignalForwarder::new()?;
        let mut process = container.exec(exec)?;
        pidfd.map_or(Ok(()), |socket| socket.send_executed(process.pidfd()))?;
        self.write_pid(process.id())?;
        let pty = process.take_pty();
        forwarder.forward_until(process.as_fd(), pty, &|signal| process.signal(signal))?;
        Ok(exit_code(process.wait()?.outcome.shell_code()))
    }

    /// Replaces the file atomically. No newline: engines parse the whole file as a number.
    fn write_pid(&self, pid: i32) -> Result<(), Failure> {
        let Some(path) = &self.pid_file else { return Ok(()) };
        let path = std::path::absolute(path)?;
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new("/")))?;
        file.write_all(pid.to_string().as_bytes())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// The process of the container's configuration.
fn container_process(container: &Container<dyn Enterable>) -> Result<Process, Failure> {
    let spec: Spec = serde_json::from_str(container.config()).map_err(|error| error.to_string())?;
    Ok(spec.process().clone().unwrap_or_default())
}

fn read_process(path: &Path) -> Result<Process, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::from(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| failed(&error))?;
    let mut text = Vec::new();
    file.take(MAX_DOCUMENT).read_to_end(&mut text).map_err(|error| failed(&error))?;
    parse_process(&text).map_err(|error| failed(&error))
}
