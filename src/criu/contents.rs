//! What this crate reads of CRIU's images before it restores them: the pids that have to be free, and the seccomp filters.

use super::image::{MAGIC, entries};
use super::messages::{FilterEntry, Filters, TreeEntry};
use crate::error::Result;
use std::collections::BTreeSet;

const TREE: &str = "pstree.img";
const FILTERS: &str = "seccomp.img";

/// What matters of the images in one directory.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The pid of every process and thread, and the number of every process group and session.
    pub(crate) pids: BTreeSet<u32>,
    /// The programs of the filters that a thread loaded first, or inherited as such.
    pub(crate) first_filters: Vec<Vec<u8>>,
}

impl Contents {
    /// The files that [`parse`](Self::parse) takes: the second is not in every image.
    pub(crate) const FILES: [&str; 2] = [TREE, FILTERS];
    /// The longest file that is read, in bytes: some ten thousand processes, or filters.
    pub(crate) const MAX_FILE: u64 = 16 << 20;

    /// What the two files say.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`](crate::error::ErrorKind::Stale) naming the file that makes no sense.
    pub(crate) fn parse(tree: &[u8], filters: Option<&[u8]>) -> Result<Self> {
        let mut pids = BTreeSet::new();
        for TreeEntry { pid, group, session, threads } in entries(TREE, MAGIC, tree)? {
            pids.extend([pid, group, session].into_iter().chain(threads));
        }
        let filters = match filters {
            Some(bytes) => entries::<Filters>(FILTERS, MAGIC, bytes)?,
            None => Vec::new(),
        };
        let filters = filters.into_iter().flat_map(|filters| filters.filters);
        let first = filters.filter(|FilterEntry { before, .. }| before.is_none());
        Ok(Self { pids, first_filters: first.map(|filter| filter.program).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn image(entries: &[Vec<u8>]) -> Vec<u8> {
        let entries =
            entries.iter().flat_map(|entry| [&(entry.len() as u32).to_le_bytes(), &entry[..]].concat());
        b"magicnum".iter().copied().chain(entries).collect()
    }

    #[test]
    fn every_number_is_taken_and_only_first_filters_count() {
        let first = TreeEntry { pid: 2, group: 2, session: 2, threads: vec![2, 9] };
        let second = TreeEntry { pid: 5, group: 4, session: 2, threads: vec![5] };
        let tree = image(&[first.encode_to_vec(), second.encode_to_vec()]);
        assert_eq!(Contents::parse(&tree, None).unwrap().first_filters, Vec::<Vec<u8>>::new());
        let filter = |byte, before| FilterEntry { program: vec![byte; 8], before };
        let filters = Filters { filters: vec![filter(1, None), filter(2, Some(0)), filter(3, None)] };
        let contents = Contents::parse(&tree, Some(&image(&[filters.encode_to_vec()]))).unwrap();
        assert_eq!(contents.pids.into_iter().collect::<Vec<_>>(), [2, 4, 5, 9]);
        assert_eq!(contents.first_filters, [vec![1; 8], vec![3; 8]]);

        for length in 9..tree.len() {
            // An image may end between two entries.
            let whole = length == 8 + 4 + first.encoded_len();
            assert_eq!(Contents::parse(&tree[..length], None).is_ok(), whole, "{length}");
        }
    }
}
