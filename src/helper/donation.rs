//! Descriptors that cross a process travel with a name, never as a bare number.
//!
//! The donor lists them in order; their names go into the helper's `argv[1]`, and the kernel-side number is the position.
//! The helper takes each by name, once; what it does not take is closed.

use crate::error::{Error, ErrorKind, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ffi::CString;

/// The first word of `argv[1]`: together with an exact `argv[0]` it marks a helper.
pub(crate) const TOKEN: &str = "donated:";

/// A list of descriptors to give away, in order.
#[derive(Default)]
pub(crate) struct Donations<'a> {
    names: Vec<String>,
    fds: Vec<BorrowedFd<'a>>,
}

impl<'a> Donations<'a> {
    pub(crate) fn give(&mut self, name: impl Into<String>, fd: &'a impl AsFd) {
        self.names.push(name.into());
        self.fds.push(fd.as_fd());
    }

    pub(crate) fn fds(&self) -> &[BorrowedFd<'a>] {
        &self.fds
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// `argv[1]` of the helper.
    pub(crate) fn argument(&self) -> CString {
        CString::new(format!("{TOKEN}{}", self.names.join(","))).expect("names are our own, without NUL")
    }
}

/// The receiving end.
pub(crate) struct Received {
    fds: Vec<(String, Option<OwnedFd>)>,
}

impl Received {
    /// Takes what `argument` names; `None` if it is not a donation list. Called once, before anything else opens one.
    pub(crate) fn from_argument(argument: &str) -> Option<Self> {
        let names = argument.strip_prefix(TOKEN)?;
        let fds = (3..)
            .zip(names.split(','))
            .map(|(number, name)| (name.to_owned(), crate::sys::inherited_fd(number)));
        Some(Self { fds: fds.collect() })
    }

    /// What came over a connection instead: names, and as many descriptors.
    pub(crate) fn from_message(names: Vec<String>, fds: Vec<OwnedFd>) -> Result<Self> {
        let mut received = Self { fds: Vec::new() };
        received.add(names, fds)?;
        Ok(received)
    }

    /// Takes in what came over a connection besides: names, and as many descriptors.
    pub(crate) fn add(&mut self, names: Vec<String>, fds: Vec<OwnedFd>) -> Result<()> {
        if names.len() != fds.len() {
            let problem = format!("{} names for {} descriptors", names.len(), fds.len());
            return Err(Error::new(ErrorKind::PeerMisbehaved, "take donation", problem));
        }
        self.fds.extend(names.into_iter().zip(fds.into_iter().map(Some)));
        Ok(())
    }

    /// Takes the descriptor called `name`.
    pub(crate) fn take(&mut self, name: &str) -> Result<OwnedFd> {
        self.take_optional(name).ok_or_else(|| {
            Error::new(ErrorKind::PeerMisbehaved, "take donation", format!("{name:?} was not given"))
        })
    }

    /// Takes the descriptor called `name`, where the plan leaves it to the donor.
    pub(crate) fn take_optional(&mut self, name: &str) -> Option<OwnedFd> {
        self.fds.iter_mut().find(|(given, fd)| given == name && fd.is_some())?.1.take()
    }

    /// Takes every descriptor whose name starts with `prefix`.
    pub(crate) fn take_all(&mut self, prefix: &str) -> Vec<OwnedFd> {
        self.fds
            .iter_mut()
            .filter(|(name, _)| name.starts_with(prefix))
            .filter_map(|(_, fd)| fd.take())
            .collect()
    }
}
