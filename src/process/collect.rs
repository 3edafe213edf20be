//! [`collect`]: reads what a process writes to its pipes, within a limit, until the process ends.

use crate::error::{OsContext, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;

/// How many bytes of each stream a caller keeps by default: far more than a program prints for people, and few enough
/// that a program which prints for ever does not use up the caller's memory.
pub(crate) const DEFAULT_OUTPUT_LIMIT: u64 = 16 << 20;

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// Whether the process wrote more than the limit to one of them. The rest was not read.
    pub(crate) too_much: bool,
}

/// Reads standard output and standard error, at most `limit` bytes of each, until all writers have closed them or
/// `end` is readable, which says that the process has ended.
///
/// Does not wait for the writers after `end`: another process may hold the pipes and write for ever, even one outside of
/// the container to which the workload has sent them.
///
/// Does not close the pipes: SIGPIPE would end a process that writes too much, before its caller can kill it.
pub(crate) fn collect(pipes: &[Option<File>; 2], limit: u64, end: BorrowedFd<'_>) -> Result<Collected> {
    let mut collector = Collector::new(pipes, limit)?;
    while collector.wants_more() {
        let ended = wait(&collector.sources(end))?;
        collector.read(ended)?;
    }
    Ok(collector.finish())
}

/// What [`collect`] has read so far. It does not wait, so that a runtime can wait in its own way.
pub(crate) struct Collector<'a> {
    streams: [Option<Stream<'a>>; 2],
    limit: usize,
    too_much: bool,
    ended: bool,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(pipes: &'a [Option<File>; 2], limit: u64) -> Result<Self> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let stream = |pipe| Stream { pipe, bytes: Vec::new(), open: true };
        let streams = pipes.each_ref().map(|pipe| pipe.as_ref().map(stream));
        for stream in streams.iter().flatten() {
            // Do not block: the workload can open its pipe for reading, and take the bytes that poll(2) announced.
            let flags = rustix::fs::fcntl_getfl(stream.pipe).os(|| "fcntl(F_GETFL)")?;
            rustix::fs::fcntl_setfl(stream.pipe, flags | OFlags::NONBLOCK).os(|| "fcntl(F_SETFL)")?;
        }
        Ok(Self { streams, limit, too_much: false, ended: false })
    }

    /// Whether there may be more to read.
    pub(crate) fn wants_more(&self) -> bool {
        !self.too_much && !self.ended && self.streams.iter().flatten().any(|stream| stream.open)
    }

    /// What to wait for: `end`, then the streams that are open.
    pub(crate) fn sources<'b>(&self, end: BorrowedFd<'b>) -> Vec<BorrowedFd<'b>>
    where
        'a: 'b,
    {
        let open = self.streams.iter().flatten().filter(|stream| stream.open);
        std::iter::once(end).chain(open.map(|stream| stream.pipe.as_fd())).collect()
    }

    /// Reads from the open streams. If the process has `ended`, reads what the pipes hold, and nothing after that.
    pub(crate) fn read(&mut self, ended: bool) -> Result<()> {
        for stream in self.streams.iter_mut().flatten().filter(|stream| stream.open) {
            self.too_much |= match ended {
                true => stream.read_what_is_there(self.limit)?,
                false => stream.read(self.limit, CHUNK)?.1,
            };
        }
        self.ended = ended;
        Ok(())
    }

    pub(crate) fn finish(self) -> Collected {
        let [stdout, stderr] =
            self.streams.map(|stream| stream.map(|stream| stream.bytes).unwrap_or_default());
        Collected { stdout, stderr, too_much: self.too_much }
    }
}

/// How much to read at once: a pipe holds four times that unless it was told otherwise (pipe(7)).
const CHUNK: usize = 16 << 10;

/// One of the pipes.
struct Stream<'a> {
    pipe: &'a File,
    bytes: Vec<u8>,
    open: bool,
}

impl Stream<'_> {
    /// Reads at most `most` bytes. Returns how many there were, and whether they are more than the limit allows.
    fn read(&mut self, limit: usize, most: usize) -> Result<(usize, bool)> {
        let mut chunk = [0; CHUNK];
        // One byte more than there is room for tells whether the limit is exceeded.
        let room = (limit - self.bytes.len()).saturating_add(1).min(most).min(CHUNK);
        match rustix::io::read(self.pipe, &mut chunk[..room]) {
            Ok(0) => {
                self.open = false;
                Ok((0, false))
            }
            Ok(count) => {
                self.bytes.extend_from_slice(&chunk[..count]);
                let too_much = self.bytes.len() > limit;
                self.bytes.truncate(limit);
                Ok((count, too_much))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok((0, false)),
            Err(errno) => Err(errno).os(|| "read(output)"),
        }
    }

    /// Reads what the pipe holds now, and nothing that is written meanwhile. Returns whether it exceeds the limit.
    fn read_what_is_there(&mut self, limit: usize) -> Result<bool> {
        let there = rustix::io::ioctl_fionread(self.pipe).os(|| "ioctl(FIONREAD)")?;
        let mut left = usize::try_from(there).unwrap_or(usize::MAX);
        while left > 0 {
            match self.read(limit, left)? {
                (_, true) => return Ok(true),
                (0, _) => break,
                (count, _) => left -= count,
            }
        }
        Ok(false)
    }
}

/// Waits until one of `sources` is readable. Returns whether the first is.
fn wait(sources: &[BorrowedFd<'_>]) -> Result<bool> {
    let mut fds: Vec<_> = sources.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    loop {
        match poll(&mut fds, None) {
            Err(Errno::INTR) => {}
            ready => return ready.os(|| "poll(output)").map(|_| !fds[0].revents().is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::io::Write;

    fn pipe() -> (File, File) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        (read.into(), write.into())
    }

    #[test]
    fn reading_stops_at_the_end_while_another_process_holds_the_pipe() {
        let (stdout, mut held) = pipe();
        let (end, ended) = pipe();
        held.write_all(b"all of it").unwrap();
        drop(ended);
        let read = collect(&[Some(stdout), None], 100, end.as_fd()).unwrap();
        assert_eq!(
            (read.stdout.as_slice(), read.stderr.as_slice(), read.too_much),
            (&b"all of it"[..], &[][..], false)
        );
        held.write_all(b"more").unwrap_err();
    }

    #[test]
    fn exactly_the_limit_is_not_too_much() {
        for (limit, too_much, kept) in
            [(4, true, "1234"), (5, false, "12345"), (6, false, "12345"), (0, true, "")]
        {
            for ends_first in [true, false] {
                let ((stdout, mut out), (stderr, err), (end, ended)) = (pipe(), pipe(), pipe());
                out.write_all(b"12345").unwrap();
                let still_runs = (!ends_first).then_some(ended);
                drop((out, err));
                let read = collect(&[Some(stdout), Some(stderr)], limit, end.as_fd()).unwrap();
                assert_eq!((read.stdout, read.too_much), (kept.as_bytes().to_vec(), too_much), "{limit}");
                drop(still_runs);
            }
        }
    }

    #[test]
    fn bytes_that_another_reader_takes_are_not_waited_for() {
        let ((stdout, mut out), (end, ended)) = (pipe(), pipe());
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&stdout));
        let thief = std::thread::spawn(move || {
            let thief =
                rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK, rustix::fs::Mode::empty()).unwrap();
            for _ in 0..1000 {
                out.write_all(b"x").unwrap();
                let _ = rustix::io::read(&thief, &mut [0; 1]);
            }
            drop(ended);
            (out, thief)
        });
        let read = collect(&[Some(stdout), None], 10_000, end.as_fd()).unwrap();
        assert!(read.stdout.len() <= 1000 && !read.too_much);
        drop(thief.join().unwrap());
    }
}
