//! The end of a creation: init is ready and hands over what the sandbox keeps, or it failed.

use super::client::{Listener, packed, root_has_ended};
use super::container::ContainerState;
use super::stage::{Passed, Ready, Stage};
use crate::error::{Actor, Error, ErrorKind, RemoteFailure, Result};
use crate::helper::Received;
use crate::plan::CloneFlags;
use crate::process::{Channel, Delivery};
use crate::sandbox::files::Layers;
use crate::sandbox::namespaces;
use crate::sandbox::namespaces::InitNamespaces;
use crate::state::Cause;
use crate::wire::boot::SandboxReport;
use crate::wire::init::InitReport;
use rustix::fd::AsFd;
use std::path::PathBuf;

impl ContainerState {
    pub(super) fn hear_of_creation(&mut self, boot: &Channel, overlays: Vec<PathBuf>, pod_ends: bool) {
        let failure = match self.init.channel.receive_now::<InitReport>() {
            Ok(Delivery { message: InitReport::Ready { pid }, fds }) => {
                match self.take_over(pid, overlays, fds) {
                    Ok((ready, Passed { terminal, listener })) => {
                        self.stage = Stage::Created { ready, pending: None, held: None };
                        self.init.cgroups.show_sandbox();
                        let mut passed = vec![("init", self.init.pidfd.as_fd())];
                        passed.extend(terminal.as_ref().map(|terminal| ("terminal", terminal.as_fd())));
                        passed.extend(listener.iter().flat_map(Listener::named));
                        // If the creator is gone by now, the lifeline is cut too.
                        let _ = boot.send_now(&SandboxReport::Ready, &passed);
                        return;
                    }
                    Err(error) => packed(&error),
                }
            }
            Ok(Delivery { message: InitReport::Failed(failure), .. }) => failure,
            Ok(Delivery { message: InitReport::Anteroom, .. }) => {
                packed(&Error::new(ErrorKind::PeerMisbehaved, "init", "it restores nothing"))
            }
            Err(_) if pod_ends => packed(&root_has_ended()),
            Err(_) => {
                let died = Error::new(ErrorKind::HelperDied, "init", "ended before it was ready");
                RemoteFailure::pack(Actor::Init, &died)
            }
        };
        let _ = boot.send_now(&SandboxReport::Failed(failure), &[]);
        self.kill(Cause::Itself);
    }

    /// Takes what init hands over when it is ready, and enters the namespaces that the sandbox follows it into. Returns
    /// also what it passes on to the creator, without keeping a copy.
    fn take_over(
        &mut self,
        init_pid: i32,
        overlays: Vec<PathBuf>,
        mut handles: Received,
    ) -> Result<(Ready, Passed)> {
        let taken = self.take_handles(init_pid, overlays, &mut handles)?;
        handles.finish()?;
        Ok(taken)
    }

    /// As [`take_over`](Self::take_over), but for further handles.
    pub(super) fn take_handles(
        &mut self,
        init_pid: i32,
        overlays: Vec<PathBuf>,
        handles: &mut Received,
    ) -> Result<(Ready, Passed)> {
        let listener = Listener::among(handles);
        let terminal = self.traits.terminal.then(|| handles.take("terminal")).transpose()?;
        let root = handles.take("root")?;
        let cgroup = handles.take_optional(namespaces::CGROUP_NAMESPACE);
        let namespaces = InitNamespaces::take(handles)?;
        let mount = [namespaces.mount(), root.as_fd()];
        let entered_by = |types: CloneFlags| {
            let cgroup = cgroup.as_ref().filter(|_| types.contains(CloneFlags::NEWCGROUP));
            (cgroup.map(AsFd::as_fd), types.contains(CloneFlags::NEWNS).then_some(mount))
        };
        if let Some(reaper) = self.init.reaper.as_mut().filter(|reaper| reaper.is_inside()) {
            let (cgroup, mount) = entered_by(self.traits.of_reaper);
            let mount = mount.into_iter().flat_map(|[mount, root]| [("mount", mount), ("root", root)]);
            reaper.enter(
                &cgroup.map(|cgroup| ("cgroup", cgroup)).into_iter().chain(mount).collect::<Vec<_>>(),
            )?;
        }
        let (cgroup, mount) = entered_by(self.traits.followed);
        namespaces::follow(cgroup, mount)?;
        let ready = Ready {
            proc: handles.take("proc")?,
            null: handles.take("null")?,
            root,
            namespaces,
            init_pid,
            layers: Layers::take(overlays, handles)?,
            hot_mounts: Vec::new(),
            gofer_gone: false,
        };
        Ok((ready, Passed { terminal, listener }))
    }
}
