//! What this crate reads of CRIU's images before it restores them: the pids that have to be free, and the seccomp filters.

use super::image::{MAGIC, damaged, entries};
use super::messages::{FilterEntry, Filters, TreeEntry};
use crate::error::{OsContext, Result};
use rustix::fd::BorrowedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;

/// The longest file that is read: some ten thousand processes, or filters.
const MAX_FILE: u64 = 16 << 20;

/// What matters of the images in one directory.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The pid of every process and thread, and the number of every process group and session.
    pub(crate) pids: BTreeSet<u32>,
    /// The programs of the filters that a thread loaded first, or inherited as such.
    pub(crate) first_filters: Vec<Vec<u8>>,
}

impl Contents {
    /// Reads the images in the directory `images`.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`](crate::error::ErrorKind::Stale) naming the file that makes no sense, or the errno of reading.
    pub(crate) fn read(images: BorrowedFd<'_>) -> Result<Self> {
        let tree = file(images, "pstree.img")?.ok_or_else(|| damaged("pstree.img", "it is missing"))?;
        let mut pids = BTreeSet::new();
        for TreeEntry { pid, group, session, threads } in entries("pstree.img", MAGIC, &tree)? {
            pids.extend([pid, group, session].into_iter().chain(threads));
        }
        let filters = match file(images, "seccomp.img")? {
            Some(bytes) => entries::<Filters>("seccomp.img", MAGIC, &bytes)?,
            None => Vec::new(),
        };
        let filters = filters.into_iter().flat_map(|filters| filters.filters);
        let first = filters.filter(|FilterEntry { before, .. }| before.is_none());
        Ok(Self { pids, first_filters: first.map(|filter| filter.program).collect() })
    }
}

fn file(images: BorrowedFd<'_>, name: &str) -> Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let step = || format!("read({name:?})");
    let file = match rustix::fs::openat(images, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => File::from(opened.os(step)?),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).os(step)?;
    match bytes.len() as u64 > MAX_FILE {
        true => Err(damaged(name, format!("it is longer than {MAX_FILE} bytes"))),
        false => Ok(Some(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use rustix::fd::AsFd;

    fn image(entries: &[Vec<u8>]) -> Vec<u8> {
        let entries =
            entries.iter().flat_map(|entry| [&(entry.len() as u32).to_le_bytes(), &entry[..]].concat());
        b"magicnum".iter().copied().chain(entries).collect()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "files of the test's own")]
    fn every_number_is_taken_and_only_first_filters_count() {
        let directory = tempfile::tempdir().unwrap();
        let opened = File::open(directory.path()).unwrap();
        let read = || Contents::read(opened.as_fd());
        assert!(read().unwrap_err().to_string().contains("pstree.img: it is missing"));

        let first = TreeEntry { pid: 2, group: 2, session: 2, threads: vec![2, 9] };
        let second = TreeEntry { pid: 5, group: 4, session: 2, threads: vec![5] };
        let tree = image(&[first.encode_to_vec(), second.encode_to_vec()]);
        std::fs::write(directory.path().join("pstree.img"), &tree).unwrap();
        assert_eq!(read().unwrap().first_filters, Vec::<Vec<u8>>::new());
        let filter = |byte, before| FilterEntry { program: vec![byte; 8], before };
        let filters = Filters { filters: vec![filter(1, None), filter(2, Some(0)), filter(3, None)] };
        std::fs::write(directory.path().join("seccomp.img"), image(&[filters.encode_to_vec()])).unwrap();
        let contents = read().unwrap();
        assert_eq!(contents.pids.into_iter().collect::<Vec<_>>(), [2, 4, 5, 9]);
        assert_eq!(contents.first_filters, [vec![1; 8], vec![3; 8]]);

        for length in 9..tree.len() {
            std::fs::write(directory.path().join("pstree.img"), &tree[..length]).unwrap();
            // An image may end between two entries.
            assert_eq!(read().is_ok(), length == 8 + 4 + first.encoded_len(), "{length}");
        }
    }
}
