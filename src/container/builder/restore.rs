//! [`ContainerBuilder::restore`]: an image in place of a program.

use super::description::ContainerBuilder;
use crate::container::create::restore_source::RestoreSource;
use crate::criu::{Contents, Criu};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::image::{Image, StreamKind};
use crate::plan::{Restored, RestoredTree};
use crate::process::memory::sealed;
use oci_spec::runtime::Spec;
use rustix::fd::{AsFd, OwnedFd};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The method, for errors.
const METHOD: &str = "ContainerBuilder::restore";
/// How many numbers CRIU gets to itself: for its own process, and for those that it tries the kernel with.
const ROOM: u32 = 300;
/// The number of pids that every kernel has by default (`PID_MAX_DEFAULT`).
const PIDS: u32 = 32_768;

impl ContainerBuilder {
    /// Makes a container of an image instead of starting a program: [`create`](crate::Container::create) has CRIU restore its
    /// processes, which then stand still until [`start`](crate::Container::start) lets them go on from where they were.
    ///
    /// From the image come the processes: programs, memory, descriptors, and what they wrote to their
    /// [`scratch`](Self::scratch) and to each tmpfs. Arguments, variables and working directory of this builder become those
    /// of the image, so that the record has them. Everything that gives authority comes from this builder: mounts, ids,
    /// limits, network, capabilities and the seccomp filter. It has to allow what the processes were: describe the container
    /// as it was described when the image was made. [The manual](crate::manual::checkpoint) says what may differ.
    ///
    /// `create` compares every thread with the configuration before it runs, and refuses an image that has more. CRIU itself
    /// parses the image inside the new container, as its root and with no other authority. Without a user namespace that root
    /// is root of the host: restore only an image that you trust there.
    ///
    /// A stream that was a [pipe](crate::Stdio::piped) becomes what this builder says; the others stay what they were.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the image was made by another version of CRIU, had a terminal, or if CRIU's files cannot
    /// be found; [`ErrorKind::Stale`] for an image that makes no sense, or that was changed after it was opened; or the errno
    /// of reading it.
    ///
    /// `build` fails with [`ErrorKind::Unsupported`] naming the field of the configuration that a restored container cannot
    /// have, and [`ErrorKind::InvalidInput`] naming the stream that does not fit; `create` with [`ErrorKind::Stale`] saying
    /// which process has more than the configuration allows, and with [`ErrorKind::Unsupported`] and what CRIU said.
    pub fn restore(mut self, image: &Image, criu: &Criu) -> Result<Self> {
        let version = criu.version().to_string();
        if image.criu_version() != version {
            let problem = format!("CRIU {} made the image, and this is CRIU {version}", image.criu_version());
            return Err(Error::unsupported(METHOD, problem).hint("restore it with the CRIU that made it"));
        }
        let streams = image.streams().clone();
        if streams.contains(&StreamKind::Terminal) {
            return Err(Error::unsupported(
                METHOD,
                "the image has a terminal, whose other end does not travel",
            ));
        }
        let spec: Spec = serde_json::from_str(image.config())
            .map_err(|error| Error::new(ErrorKind::Stale, "image", format!("config.json: {error}")))?;
        if let Some(process) = spec.process() {
            self.process()
                .set_args(process.args().clone())
                .set_env(process.env().clone())
                .set_cwd(process.cwd().clone());
        }
        let directory = image.as_fd().try_clone_to_owned().os(|| "fcntl(F_DUPFD_CLOEXEC, image)")?;
        let path = std::path::absolute(image.path()).os(|| format!("getcwd() for {:?}", image.path()))?;
        let (large, small): (Vec<_>, Vec<_>) =
            image.files_of_criu().into_iter().partition(|(name, length)| is_large(name, *length));
        let read = |(name, _): (String, u64)| Ok((image.read_of_criu(&name, Contents::MAX_FILE)?, name));
        let small: Vec<(Vec<u8>, String)> = small.into_iter().map(read).collect::<Result<_>>()?;
        let [tree, filters] = Contents::FILES.map(|name| {
            let found = small.iter().find(|(_, file)| file == name);
            found.map(|(content, _)| content.as_slice())
        });
        let tree = tree.ok_or_else(|| stale("it has no processes"))?;
        let Contents { pids, first_filters } = Contents::parse(tree, filters)?;
        let files = criu.files()?;
        let pipes = streams.iter().enumerate().filter_map(|(stream, kind)| match kind {
            StreamKind::Pipe { key } => Some((stream, key.clone())),
            _ => None,
        });
        self.extras.restore = Some(Restored {
            images: path.join("criu"),
            program: files.program,
            loader: files.loader,
            libraries: files.libraries,
            tree: RestoredTree {
                init_pid: image.init_pid(),
                criu_pid: free_pid(&pids).ok_or_else(|| stale("its processes leave no pid for CRIU"))?,
                pipes: pipes.collect(),
                files: large,
            },
            layers: image.layers().iter().map(|layer| layer.tmpfs().map(Into::into)).collect(),
        });
        let layers = image.layers().iter().map(|layer| layer.file().to_owned()).collect();
        self.restored =
            Some(Arc::new(RestoreSource::new(directory, layers, archive(&small)?, streams, first_filters)));
        Ok(self)
    }
}

fn stale(problem: &'static str) -> Error {
    Error::new(ErrorKind::Stale, "image", problem)
}

/// Whether CRIU gets this file itself, and no copy: memory, deleted files, and others of this size, none of which decides
/// what a restored process may do.
fn is_large(name: &str, length: u64) -> bool {
    let large =
        ["pages-", "ghost-file-"].iter().any(|kind| name.starts_with(kind)) || length > Contents::MAX_FILE;
    large && !Contents::FILES.contains(&name)
}

/// An archive of these files, in memory that no process can change.
fn archive(files: &[(Vec<u8>, String)]) -> Result<OwnedFd> {
    let mut archive = tar::Builder::new(Vec::new());
    for (content, name) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o400);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, name, content.as_slice()).os(|| format!("archive {name:?}"))?;
    }
    sealed("cofferdam-image", &archive.into_inner().os(|| "archive")?)
}

/// A number that is followed by room for others, and none of `taken`.
fn free_pid(taken: &BTreeSet<u32>) -> Option<i32> {
    let starts = taken.iter().map(|pid| pid.saturating_add(1)).chain([ROOM]);
    let free = |start: &u32| *start + ROOM < PIDS && taken.range(*start..*start + ROOM).next().is_none();
    // The highest: what the container starts later comes after it.
    starts.filter(|start| *start < PIDS).filter(free).max().map(u32::cast_signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criu_gets_a_pid_that_no_process_has_nor_any_soon_after_it() {
        assert_eq!(free_pid(&BTreeSet::from([2, 3, 40])), Some(300));
        assert_eq!(free_pid(&BTreeSet::from([2, 310])), Some(311));
        assert_eq!(free_pid(&BTreeSet::from([2, 32_700])), Some(300));
        assert_eq!(free_pid(&BTreeSet::from([2, u32::MAX])), Some(300));
        assert_eq!(free_pid(&(1..PIDS).step_by(100).collect()), None);
    }
}
