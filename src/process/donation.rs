//! Descriptors cross from one process to another under a name, never as a bare number.
//!
//! The donor lists them in order. Their names go into the helper's `argv[1]`, where the position gives the number, or
//! into the frame that carries them. The receiver takes each by name, once; it closes the ones that it does not take.

use crate::error::{Error, ErrorKind, OsContext, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ffi::CString;

/// The start of `argv[1]`: together with an exact `argv[0]` it marks a helper.
pub(crate) const TOKEN: &str = "donated:";

/// A descriptor to send, and its name.
pub(crate) type NamedFd<'a> = (&'a str, BorrowedFd<'a>);

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

    /// The list as a frame carries it.
    pub(crate) fn named(&self) -> Vec<NamedFd<'_>> {
        self.names.iter().map(String::as_str).zip(self.fds.iter().copied()).collect()
    }

    /// `argv[1]` of the helper.
    pub(crate) fn argument(&self) -> CString {
        CString::new(format!("{TOKEN}{}", self.names.join(","))).expect("names are our own, without NUL")
    }
}

/// The descriptors that a process was given, each to be taken once by its name.
#[derive(Debug, Default)]
pub(crate) struct Received {
    fds: Vec<(String, OwnedFd)>,
}

impl Received {
    /// Takes what `argument` names; `None` if it is not a donation list. Called once, before this process opens any
    /// descriptor.
    pub(crate) fn from_argument(argument: &str) -> Option<Self> {
        let names = argument.strip_prefix(TOKEN)?;
        let fds = (3..)
            .zip(names.split(','))
            .filter_map(|(number, name)| Some((name.to_owned(), crate::sys::inherited_fd(number)?)));
        Some(Self { fds: fds.collect() })
    }

    /// The descriptors of a frame, with the names that the frame gives them.
    pub(crate) fn from_frame(names: Vec<String>, fds: Vec<OwnedFd>) -> Result<Self> {
        if names.len() != fds.len() {
            let problem = format!("{} names for {} descriptors", names.len(), fds.len());
            return Err(Error::new(ErrorKind::PeerMisbehaved, "receive descriptors", problem));
        }
        Ok(Self { fds: names.into_iter().zip(fds).collect() })
    }

    /// Adds what came later.
    pub(crate) fn extend(&mut self, later: Self) {
        self.fds.extend(later.fds);
    }

    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.fds.iter().map(|(_, fd)| fd.as_fd())
    }

    /// All of them, by their names.
    pub(crate) fn into_named(self) -> Vec<(String, OwnedFd)> {
        self.fds
    }

    /// Takes the descriptor called `name`.
    pub(crate) fn take(&mut self, name: &str) -> Result<OwnedFd> {
        self.take_optional(name).ok_or_else(|| {
            let problem = format!("{name:?} is missing");
            Error::new(ErrorKind::PeerMisbehaved, "receive descriptors", problem)
        })
    }

    /// Takes the descriptor called `name`, where the donor decides whether there is one.
    pub(crate) fn take_optional(&mut self, name: &str) -> Option<OwnedFd> {
        let place = self.fds.iter().position(|(given, _)| given == name)?;
        Some(self.fds.remove(place).1)
    }

    /// A copy of the descriptor called `name`, which is still to be taken, if there is one.
    pub(crate) fn duplicate(&self, name: &str) -> Result<Option<OwnedFd>> {
        let found = self.fds.iter().find(|(given, _)| given == name);
        let copy = found.map(|(_, fd)| fd.try_clone()).transpose();
        copy.os(|| format!("fcntl(F_DUPFD_CLOEXEC, {name})"))
    }

    /// Takes those of these descriptors that are there, with their names.
    pub(crate) fn take_those(&mut self, names: &[&str]) -> Self {
        let wanted = |(name, _): &(String, OwnedFd)| names.contains(&name.as_str());
        let (fds, left) = std::mem::take(&mut self.fds).into_iter().partition(wanted);
        self.fds = left;
        Self { fds }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fds.is_empty()
    }

    /// Takes every descriptor whose name starts with `prefix`.
    pub(crate) fn take_all(&mut self, prefix: &str) -> Vec<OwnedFd> {
        self.take_named(prefix).into_iter().map(|(_, fd)| fd).collect()
    }

    /// As [`take_all`](Self::take_all), with their names.
    pub(crate) fn take_named(&mut self, prefix: &str) -> Vec<(String, OwnedFd)> {
        let (taken, left) =
            std::mem::take(&mut self.fds).into_iter().partition(|(name, _)| name.starts_with(prefix));
        self.fds = left;
        taken
    }

    /// Takes the descriptor called `name`, the only one there may be.
    pub(crate) fn take_only(mut self, name: &str) -> Result<OwnedFd> {
        let taken = self.take(name)?;
        self.finish().map(|()| taken)
    }

    /// Refuses descriptors that the receiver does not know.
    pub(crate) fn finish(self) -> Result<()> {
        match self.fds.first() {
            None => Ok(()),
            Some((name, _)) => {
                let problem = format!("{name:?} does not belong here");
                Err(Error::new(ErrorKind::PeerMisbehaved, "receive descriptors", problem))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(names: &[&str]) -> Received {
        let fds = names.iter().map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect();
        Received::from_frame(names.iter().map(|name| (*name).to_owned()).collect(), fds).unwrap()
    }

    #[test]
    fn a_wrong_set_of_descriptors_is_refused_by_name() {
        let mut fds = received(&["plan", "extra-3", "extra-5"]);
        fds.take("plan").unwrap();
        assert_eq!(fds.take("plan").unwrap_err().to_string(), "receive descriptors: \"plan\" is missing");
        assert_eq!(fds.take_all("extra-").len(), 2);
        fds.finish().unwrap();
        let error = received(&["plan", "more"]).take_only("plan").unwrap_err();
        assert_eq!(error.to_string(), "receive descriptors: \"more\" does not belong here");
        assert_eq!(*error.kind(), ErrorKind::PeerMisbehaved);
    }

    #[test]
    fn each_descriptor_has_a_name() {
        let fds = vec![std::fs::File::open("/dev/null").unwrap().into()];
        let error = Received::from_frame(Vec::new(), fds).unwrap_err();
        assert_eq!(error.to_string(), "receive descriptors: 0 names for 1 descriptors");
    }
}
