//! [`Lines`]: piped output line by line, as it comes.

use crate::error::{OsContext, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::time::SystemTime;

/// The most bytes of a line, unless [`Lines::max_length`] says otherwise.
const DEFAULT_MAX_LENGTH: usize = 64 << 10;
/// How much to read at once.
const CHUNK: usize = 16 << 10;

/// One of the two streams that a program writes to. Closed on purpose: programs have no third.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line {
    /// Where the program wrote it.
    pub stream: OutputStream,
    /// When it was read here. A program that does not flush its output after each line has written it earlier.
    pub at: SystemTime,
    /// Its bytes, without the newline.
    pub bytes: Vec<u8>,
    /// Whether a newline ended it. It is false for a part of a line that is longer than [`Lines::max_length`], whose
    /// rest follows, and for the last line of a program that ends without a newline.
    pub complete: bool,
}

impl Line {
    /// Its text; bytes that are no UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// The lines that a program writes to its pipes, each with its stream and its time, as they come:
/// [`Container::take_lines`](crate::Container::take_lines), [`Process::take_lines`](crate::Process::take_lines).
///
/// The iterator waits for the next line, and ends when every process that holds the pipes has closed them. Lines of one
/// stream keep their order. The order of lines of different streams is unknown, because each stream has its own pipe.
#[derive(Debug)]
pub struct Lines {
    pipes: Vec<Pipe>,
    max_length: usize,
    ready: VecDeque<Line>,
}

#[derive(Debug)]
struct Pipe {
    stream: OutputStream,
    file: File,
    /// The beginning of a line whose newline was not read yet.
    begun: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stdout: Option<File>, stderr: Option<File>) -> Self {
        let pipe = |stream| move |file| Pipe { stream, file, begun: Vec::new() };
        let stdout = stdout.map(pipe(OutputStream::Stdout));
        let pipes = stdout.into_iter().chain(stderr.map(pipe(OutputStream::Stderr))).collect();
        Self { pipes, max_length: DEFAULT_MAX_LENGTH, ready: VecDeque::new() }
    }

    /// Cuts lines that are longer than this many bytes, at least 1, into parts. 65536 by default. The limit keeps a program
    /// that writes no newline from using up the caller's memory.
    #[must_use]
    pub fn max_length(mut self, bytes: usize) -> Self {
        self.max_length = bytes.max(1);
        self
    }

    /// Waits until a pipe is readable, and reads once from each that is.
    fn read(&mut self) -> Result<()> {
        let mut fds: Vec<_> = self
            .pipes
            .iter()
            .map(|pipe| PollFd::from_borrowed_fd(pipe.file.as_fd(), PollFlags::IN))
            .collect();
        match poll(&mut fds, None) {
            Err(Errno::INTR) => return Ok(()),
            ready => ready.os(|| "poll(output)")?,
        };
        let readable: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let at = SystemTime::now();
        let mut readable = readable.into_iter();
        let mut failure = Ok(());
        self.pipes.retain_mut(|pipe| {
            let is_readable = readable.next().unwrap_or(false);
            !is_readable
                || pipe.read(at, self.max_length, &mut self.ready).unwrap_or_else(|error| {
                    failure = Err(error);
                    false
                })
        });
        failure
    }
}

impl Pipe {
    /// Reads once, and puts the lines that are whole now into `lines`. Returns false at the end.
    fn read(&mut self, at: SystemTime, max_length: usize, lines: &mut VecDeque<Line>) -> Result<bool> {
        let mut chunk = [0; CHUNK];
        let count = match rustix::io::read(&self.file, &mut chunk) {
            Err(Errno::INTR | Errno::AGAIN) => return Ok(true),
            count => count.os(|| "read(output)")?,
        };
        let stream = self.stream;
        let mut push = |bytes, complete| lines.push_back(Line { stream, at, bytes, complete });
        if count == 0 {
            if !self.begun.is_empty() {
                push(std::mem::take(&mut self.begun), false);
            }
            return Ok(false);
        }
        for part in chunk[..count].split_inclusive(|byte| *byte == b'\n') {
            let (text, complete) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            self.begun.extend_from_slice(text);
            while self.begun.len() > max_length {
                let rest = self.begun.split_off(max_length);
                push(std::mem::replace(&mut self.begun, rest), false);
            }
            if complete {
                push(std::mem::take(&mut self.begun), true);
            }
        }
        Ok(true)
    }
}

impl Iterator for Lines {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(Ok(line));
            }
            if self.pipes.is_empty() {
                return None;
            }
            if let Err(error) = self.read() {
                return Some(Err(error));
            }
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

    fn shown(lines: Lines) -> Vec<String> {
        lines
            .map(|line| {
                let Line { stream, bytes, complete, .. } = line.unwrap();
                format!("{stream:?} {} {complete}", String::from_utf8(bytes).unwrap())
            })
            .collect()
    }

    #[test]
    fn lines_come_whole_from_each_stream_and_the_last_without_its_newline() {
        let ((stdout, mut out), (stderr, mut err)) = (pipe(), pipe());
        out.write_all(b"one\n\nthr").unwrap();
        err.write_all(b"oops\n").unwrap();
        let mut lines = Lines::new(Some(stdout), Some(stderr));
        let first: Vec<_> = (0..3).map(|_| lines.next().unwrap().unwrap()).collect();
        assert!(first.iter().all(|line| line.complete));
        out.write_all(b"ee\nend").unwrap();
        drop((out, err));
        assert_eq!(shown(lines), ["Stdout three true", "Stdout end false"]);
    }

    #[test]
    fn a_line_without_end_comes_in_parts() {
        let (stdout, mut out) = pipe();
        out.write_all(b"abcdefgh\nij\nklm").unwrap();
        drop(out);
        let lines = Lines::new(Some(stdout), None).max_length(3);
        let expected =
            ["Stdout abc false", "Stdout def false", "Stdout gh true", "Stdout ij true", "Stdout klm false"];
        assert_eq!(shown(lines), expected);
    }
}
