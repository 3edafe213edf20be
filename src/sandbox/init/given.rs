//! What init works with, from the fork on.

use super::hooks::HookPoints;
use crate::error::Result;
use crate::helper::{Received, extra_fd_name};
use crate::plan::SealedSandbox;
use crate::process::Channel;
use crate::sandbox::cgroups::ContainerCgroups;
use crate::wire::init::{IMAGE_FILES, layer_name};
use crate::wire::template::PAGES;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the sandbox received for one container, and init works with.
pub(super) struct Given<'a> {
    pub(super) gofer: Channel,
    /// Absent where it opens a device of the container's own.
    pub(super) stdio: [Option<OwnedFd>; 3],
    pub(super) extra_fds: Vec<OwnedFd>,
    /// The pages of the template whose copy it becomes.
    pub(super) pages: Option<OwnedFd>,
    pub(super) cgroups: ContainerCgroups,
    pub(super) hooks: HookPoints<'a>,
    /// The archives of the plan.
    pub(super) archives: Vec<OwnedFd>,
    /// An archive of the small files of an image to restore.
    pub(super) image_files: Option<OwnedFd>,
}

impl<'a> Given<'a> {
    pub(super) fn take(
        plan: &'a SealedSandbox<'a>,
        cgroups: ContainerCgroups,
        donated: &mut Received,
    ) -> Result<Self> {
        let numbers = plan.facts.descriptors.given.iter();
        Ok(Self {
            gofer: Channel::from(donated.take("gofer")?),
            // CRIU gets those of restored processes.
            stdio: match &plan.init.restore {
                Some(_) => [const { None }; 3],
                None => STREAMS.map(|name| donated.take_optional(name)),
            },
            extra_fds: numbers.map(|number| donated.take(&extra_fd_name(*number))).collect::<Result<_>>()?,
            pages: donated.take_optional(PAGES),
            image_files: donated.take_optional(IMAGE_FILES),
            cgroups,
            hooks: HookPoints::take(&plan.init.hooks, &plan.facts.hook_state, donated)?,
            archives: (0..plan.init.archives.len())
                .map(|number| donated.take(&layer_name(number)))
                .collect::<Result<_>>()?,
        })
    }

    /// Everything that the new process has open.
    pub(super) fn keep<'b>(&'b self, parent: &'b Channel, volumes: &'b [OwnedFd]) -> Vec<BorrowedFd<'b>> {
        let files =
            self.stdio.iter().flatten().chain(&self.extra_fds).chain(&self.archives).chain(&self.pages);
        let files = files.chain(&self.image_files).chain(volumes).map(AsFd::as_fd);
        [parent.as_fd(), self.gofer.as_fd()]
            .into_iter()
            .chain(files)
            .chain(self.cgroups.fds(None))
            .chain(self.hooks.fds())
            .collect()
    }
}

/// The names under which init is given its standard streams.
pub(in crate::sandbox) const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];
