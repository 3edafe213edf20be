//! Init of a container whose PID 1 is a restored process: CRIU makes that, and with it the pid namespace, before the root can
//! be there, because only a process inside the namespace can mount its proc.
//!
//! ```text
//!   init: PID 1 of a pid namespace above the container's         CRIU, beside it
//!     anteroom: a root with nothing but a proc   --Anteroom-->     begins in it
//!                                                <--Assemble--     has made the container's PID 1, and waits
//!     assembles the root from inside the container's pid namespace, and enters it: with it, CRIU and PID 1
//!                                                 --Ready-->       goes on
//!     gives everything up, and stays: the namespaces below end with it
//! ```
//!
//! So CRIU never sees the host's files, and begins where the container has none: its loader, its plugins and the programs
//! that it looks for are all found by paths. Where init is another process than PID 1, it assembles the root first, leaves
//! it in such an anteroom, and ends ([`super::room`]); CRIU begins, and the sandbox enters the root with it
//! before it makes a process. Nothing that CRIU could have changed by then is handed over later.

use super::empty_root::{BARE, EmptyRoot};
use super::file_systems::new_fs;
use super::handed::Handed;
use super::tree::join_network;
use super::{First, Handles, handed};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::plan::{RestorePlan, StepSource};
use crate::process::Delivery;
use crate::process::stdio::NULL;
use crate::sandbox::{namespaces, own_device, reaper};
use crate::spec::MountAttrs;
use crate::sys::{self, clone_tree};
use crate::wire::init::{FIRST_PROCESS, InitReport, InitRequest};
use rustix::fd::{AsFd, OwnedFd};

impl First<'_> {
    /// For a restored PID 1: has the sandbox restore it from here, assembles the root beside it, and stays.
    pub(super) fn make_anteroom(&self, restore: &RestorePlan) -> ! {
        let (handed, handles) = self.anteroom(restore).unwrap_or_else(|error| self.fail(&error));
        self.hand_over(&InitReport::Anteroom, handles);
        let Ok(Delivery { message: InitRequest::Assemble, fds }) = self.parent.receive(None) else {
            sys::exit_now(1)
        };
        let made =
            fds.take_only(FIRST_PROCESS).and_then(|first| self.assemble_beside(first, handed, restore));
        let handles = made.unwrap_or_else(|error| self.fail(&error));
        self.hand_over(&InitReport::Ready { pid: restore.tree.init_pid }, handles);
        reaper::stay(self.parent)
    }

    fn hand_over(&self, report: &InitReport, handles: Handles) {
        let named: Vec<_> = handles.iter().map(|(name, fd)| (name.as_str(), fd.as_fd())).collect();
        if self.parent.send(report, &named).is_err() {
            sys::exit_now(1);
        }
    }

    fn anteroom(&self, restore: &RestorePlan) -> Result<(Handed, Handles)> {
        self.begin()?;
        let mut handed = handed::receive(&self.given.gofer)?;
        let room = EmptyRoot::make()?;
        let mut handles = handed.take_for_criu(restore)?;
        self.make_images(restore, &mut handles, &room)?;
        self.network.map_or(Ok(()), join_network)?;
        // While the host's is in reach.
        handles.push(("null".to_owned(), own_device::make(NULL)?));

        // A user namespace may mount a proc or a sysfs only where it sees one that nothing covers.
        if self.plan.init.tree.iter().any(|step| matches!(step.source, StepSource::Sysfs))
            && let Ok(sysfs) = new_fs("sysfs", &[], BARE | MountAttrs::RDONLY)
        {
            room.attach_new(sysfs.as_fd(), "sys")?;
        }
        // Not the mount that CRIU sees, which could be covered.
        let proc = clone_tree(room.proc.as_fd(), false).os(|| "open_tree(proc, OPEN_TREE_CLONE)")?;
        sys::set_propagation(proc.as_fd(), libc::MS_PRIVATE, false)
            .os(|| "mount_setattr(proc, MS_PRIVATE)")?;
        room.enter_with(None)?;
        handles.extend(namespaces::all_of_this_process(proc.as_fd())?);
        handles.extend(namespaces::of_this_process(proc.as_fd(), self.plan.namespaces.with_init)?);
        handles.push(("proc".to_owned(), proc));
        Ok((handed, handles))
    }

    /// Assembles the root from a process in the pid namespace of `first`, which is gone when this returns.
    fn assemble_beside(&self, first: OwnedFd, handed: Handed, restore: &RestorePlan) -> Result<Handles> {
        namespaces::children_in(first).map_err(|error| error.during("criu restore"))?;
        let mut made = None;
        let assemble = || {
            let entered = self.complete_root(handed, None, None);
            made = Some(entered.and_then(|entered| self.furnish(restore, entered)));
        };
        sys::run_as(restore.tree.criu_pid, assemble).os(|| "clone3(init)")?;
        made.unwrap_or_else(|| Err(Error::new(ErrorKind::HelperDied, "init", "ended before it was ready")))
    }
}
