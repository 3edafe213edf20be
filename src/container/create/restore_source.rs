//! [`RestoreSource`]: an image as a creation uses it.

use crate::error::{Error, ErrorKind, Result};
use crate::image::{StreamKind, open_file};
use crate::process::Stdio;
use crate::seccomp::Filter;
use rustix::fd::{AsFd, OwnedFd};

/// What [`ContainerBuilder::restore`] took from an image.
#[derive(Debug)]
pub(in crate::container) struct RestoreSource {
    directory: OwnedFd,
    /// The archives, by their paths in the directory.
    layers: Vec<String>,
    /// Those of CRIU's files that it gets copies of, as an archive in sealed memory.
    copies: OwnedFd,
    streams: [StreamKind; 3],
    /// The programs of the filters that come first in a thread of the image.
    filters: Vec<Vec<u8>>,
}

impl RestoreSource {
    pub(in crate::container) fn new(
        directory: OwnedFd,
        layers: Vec<String>,
        copies: OwnedFd,
        streams: [StreamKind; 3],
        filters: Vec<Vec<u8>>,
    ) -> Self {
        Self { directory, layers, copies, streams, filters }
    }

    /// Compares what only the built configuration has: the streams, and the filter of every process.
    pub(in crate::container) fn check(&self, stdio: &[Stdio; 3], filter: Option<&Filter>) -> Result<()> {
        for ((kind, stream), name) in self.streams.iter().zip(stdio).zip(["stdin", "stdout", "stderr"]) {
            if !matches!(kind, StreamKind::Pipe { .. }) && !stream.is_null() {
                let problem = "the stream was no pipe in the image, and stays what it was";
                let method = format!("ContainerBuilder::{name}");
                return Err(Error::new(ErrorKind::InvalidInput, method, problem));
            }
        }
        let Some(filter) = filter else { return Ok(()) };
        let program: Vec<u8> =
            filter.instructions.iter().flat_map(|instruction| instruction.bytes()).collect();
        match self.filters.is_empty() || self.filters.iter().any(|first| *first != program) {
            true => Err(stale("its processes have another seccomp filter than the configuration")),
            false => Ok(()),
        }
    }

    /// The archive of CRIU's files that it gets copies of.
    pub(in crate::container) fn copies(&self) -> &OwnedFd {
        &self.copies
    }

    /// Opens the archives of the layers.
    ///
    /// # Errors
    /// [`ErrorKind::NotARegularFile`] if a FIFO or a link has taken the place of one since the image was opened, and
    /// [`ErrorKind::Stale`] if one is gone.
    pub(in crate::container) fn open_layers(&self) -> Result<Vec<OwnedFd>> {
        let open = |path: &String| open_file(self.directory.as_fd(), path).map(OwnedFd::from);
        self.layers.iter().map(open).collect()
    }
}

fn stale(problem: &'static str) -> Error {
    Error::new(ErrorKind::Stale, "image", problem)
}
