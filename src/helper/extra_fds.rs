//! Descriptors that a process of the workload gets in addition to its standard streams, and their numbers there.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::stdio::{let_reopen, memory_device};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// The highest number that one may have: below the usual limit of open files, 1024.
const MAX_NUMBER: i32 = 1023;
/// The most of one process: they go to the sandbox in one message, with other descriptors.
const MAX_COUNT: usize = 32;

/// The name under which the descriptor with this number is donated.
pub(crate) fn extra_fd_name(number: i32) -> String {
    format!("extra-{number}")
}

/// The descriptors that the caller asked for.
#[derive(Debug, Default)]
pub(crate) struct ExtraFds {
    given: Vec<(i32, OwnedFd)>,
    /// How many of the caller's own descriptors, from number 3 on, go along under the same number.
    inherited: u32,
}

impl ExtraFds {
    pub(crate) fn give(&mut self, number: i32, fd: OwnedFd) {
        self.given.push((number, fd));
    }

    pub(crate) fn inherit(&mut self, count: u32) {
        self.inherited = count;
    }

    /// The same for another container, without the descriptors that only one container can have: their numbers.
    pub(crate) fn for_another(&self) -> (Self, Vec<i32>) {
        let left = self.given.iter().map(|(number, _)| *number).collect();
        (Self { given: Vec::new(), inherited: self.inherited }, left)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.given.is_empty() && self.inherited == 0
    }

    /// Checks the numbers, and opens copies of the caller's own descriptors.
    pub(crate) fn open(&self) -> Result<OpenFds<'_>> {
        let refuse = |problem: String| Error::new(ErrorKind::InvalidInput, "fd", problem);
        let inherited = i32::try_from(self.inherited).unwrap_or(i32::MAX);
        let count = self.given.len().saturating_add(usize::try_from(inherited).unwrap_or(usize::MAX));
        if count > MAX_COUNT {
            return Err(refuse(format!("{count} extra descriptors, allowed are {MAX_COUNT}")));
        }
        let mut open = OpenFds::default();
        for number in 3..3 + inherited {
            let copy = crate::sys::duplicate(number).os(|| format!("fcntl({number}, F_DUPFD_CLOEXEC)"))?;
            if !open.is_device(number, copy.as_fd())? {
                open.numbers.push(number);
                open.own.push(copy);
            }
        }
        for (number, fd) in &self.given {
            let taken =
                open.numbers.contains(number) || open.devices.iter().any(|(device, _)| device == number);
            if !(3..=MAX_NUMBER).contains(number) || taken {
                return Err(refuse(format!("{number} is not a free number from 3 to {MAX_NUMBER}")));
            }
            if !open.is_device(*number, fd.as_fd())? {
                open.numbers.push(*number);
                open.given.push(fd.as_fd());
            }
        }
        // A workload may open these again by name, too, as `/dev/fd/3`.
        open.fds().try_for_each(let_reopen)?;
        Ok(open)
    }
}

/// Descriptors that are ready to be sent.
#[derive(Debug, Default)]
pub(crate) struct OpenFds<'a> {
    /// Their numbers in the process, in the order of [`fds`](Self::fds).
    pub(crate) numbers: Vec<i32>,
    /// The numbers of those that are not sent, because the process opens a device of the container instead, and the
    /// device: see [`memory_device`].
    pub(crate) devices: Vec<(i32, u32)>,
    own: Vec<OwnedFd>,
    given: Vec<BorrowedFd<'a>>,
}

impl OpenFds<'_> {
    /// Whether this is a device that the container has of its own; notes it then.
    fn is_device(&mut self, number: i32, fd: BorrowedFd<'_>) -> Result<bool> {
        let device = memory_device(fd)?;
        self.devices.extend(device.map(|device| (number, device)));
        Ok(device.is_some())
    }

    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.own.iter().map(AsFd::as_fd).chain(self.given.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> OwnedFd {
        std::fs::File::open("/proc/self/status").unwrap().into()
    }

    #[test]
    fn a_device_that_the_container_has_is_not_sent() {
        let mut fds = ExtraFds::default();
        fds.give(5, std::fs::File::open("/dev/null").unwrap().into());
        fds.give(4, file());
        let open = fds.open().unwrap();
        assert_eq!((open.numbers.as_slice(), open.devices.as_slice()), ([4].as_slice(), [(5, 3)].as_slice()));
        fds.give(5, file());
        assert_eq!(*fds.open().unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_number_is_used_once_and_is_no_standard_streams() {
        let mut fds = ExtraFds::default();
        fds.give(5, file());
        fds.give(3, file());
        let open = fds.open().unwrap();
        assert_eq!((open.numbers.as_slice(), open.fds().count()), ([5, 3].as_slice(), 2));
        for number in [-1, 0, 2, 5, 1024] {
            let mut fds = ExtraFds::default();
            fds.give(5, file());
            fds.give(number, file());
            assert_eq!(*fds.open().unwrap_err().kind(), ErrorKind::InvalidInput, "{number}");
        }
    }

    #[test]
    fn more_than_fit_into_one_message_are_refused() {
        let mut fds = ExtraFds::default();
        fds.inherit(u32::MAX);
        assert_eq!(*fds.open().unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
