//! CRIU's images, as far as this crate changes them: which namespaces a restored process is in.
//!
//! An image numbers the namespaces of its processes, and `inventory.img` has the numbers of those that CRIU itself was in.
//! A process with CRIU's own numbers stays where CRIU is at the restore, and CRIU makes no namespace, mounts nothing and
//! maps no ids. So the numbers of every process become CRIU's: a restored process is in the container that this crate
//! made from the caller's configuration, and nothing of that comes from the image.

use super::messages::{Inventory, SharedObjects};
use crate::error::{Error, ErrorKind, Result};
use prost::Message;

/// The length of the two numbers that say what kind of image it is.
pub(super) const MAGIC: usize = 8;
/// The inventory has only one.
const INVENTORY_MAGIC: usize = 4;

/// The image `ids`, with the namespaces of `inventory`'s CRIU. `owns_pids` keeps that of pids: CRIU makes it again, as its
/// PID 1 is among the processes.
pub(crate) fn with_own_namespaces(ids: &[u8], inventory: &[u8], owns_pids: bool) -> Result<Vec<u8>> {
    let root = entry::<Inventory>("inventory.img", INVENTORY_MAGIC, inventory)?.1.root;
    let root = root.ok_or_else(|| damaged("inventory.img", "it has no root_ids"))?;
    let (magic, own) = entry::<SharedObjects>("ids", MAGIC, ids)?;
    let SharedObjects { memory, files, fs, handlers, .. } = own;
    let pids = if owns_pids { own.pids } else { root.pids };
    let joined = SharedObjects { memory, files, fs, handlers, pids, ..root }.encode_to_vec();
    let length = u32::try_from(joined.len()).expect("twelve numbers are short");
    Ok([magic, &length.to_le_bytes(), &joined].concat())
}

/// The namespaces that an image `ids` says its process is in: equal values are equal namespaces.
pub(crate) fn namespaces_of(ids: &[u8]) -> Result<impl PartialEq + use<>> {
    let own = entry::<SharedObjects>("ids", MAGIC, ids)?.1;
    Ok(SharedObjects { memory: 0, files: 0, fs: 0, handlers: 0, ..own })
}

/// The magic numbers and the only entry of an image.
fn entry<'a, M: Message + Default>(name: &str, magic: usize, image: &'a [u8]) -> Result<(&'a [u8], M)> {
    let short = || damaged(name, "it is cut off");
    let (magic, rest) = image.split_at_checked(magic).ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let bytes = rest.get(..u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
    Ok((magic, M::decode(bytes).map_err(|error| damaged(name, error))?))
}

/// All entries of an image.
pub(super) fn entries<M: Message + Default>(name: &str, magic: usize, image: &[u8]) -> Result<Vec<M>> {
    let short = || damaged(name, "it is cut off");
    let mut rest = image.get(magic..).ok_or_else(short)?;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (length, bytes) = rest.split_first_chunk().ok_or_else(short)?;
        let (entry, after) =
            bytes.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
        entries.push(M::decode(entry).map_err(|error| damaged(name, error))?);
        rest = after;
    }
    Ok(entries)
}

pub(super) fn damaged(name: &str, problem: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Stale, "image", format!("{name}: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: &[u8] = b"magicnum";

    fn image(magic: &[u8], message: &impl Message) -> Vec<u8> {
        let bytes = message.encode_to_vec();
        [magic, &(bytes.len() as u32).to_le_bytes(), &bytes].concat()
    }

    #[test]
    fn a_process_gets_crius_namespaces_and_keeps_what_it_shares_with_others() {
        let root =
            SharedObjects { memory: 1, pids: Some(1), user: Some(7), time: Some(5), ..Default::default() };
        let own = SharedObjects {
            memory: 2,
            files: 3,
            fs: 4,
            handlers: 5,
            pids: Some(9),
            user: Some(14),
            mounts: Some(13),
            ..Default::default()
        };
        let inventory = Inventory { root: Some(root.clone()) };
        let (ids, inventory) = (image(IDS, &own), image(b"magi", &inventory));
        let kept = with_own_namespaces(&ids, &inventory, true).unwrap();
        let (_, kept) = entry::<SharedObjects>("ids", MAGIC, &kept).unwrap();
        assert_eq!((kept.pids, kept.user), (Some(9), Some(7)));
        let joined = with_own_namespaces(&ids, &inventory, false).unwrap();
        let (magic, joined) = entry::<SharedObjects>("ids", MAGIC, &joined).unwrap();
        assert_eq!(magic, IDS);
        assert_eq!(joined, SharedObjects { memory: 2, files: 3, fs: 4, handlers: 5, ..root });
    }

    #[test]
    fn processes_in_the_same_namespaces_have_equal_ones() {
        let of = |ids: &SharedObjects| namespaces_of(&image(IDS, ids)).unwrap();
        let first = SharedObjects { memory: 2, files: 3, mounts: Some(13), ..Default::default() };
        assert!(of(&first) == of(&SharedObjects { memory: 4, fs: 5, ..first.clone() }));
        assert!(of(&first) != of(&SharedObjects { mounts: Some(14), ..first }));
    }

    #[test]
    fn an_image_that_is_cut_anywhere_is_refused() {
        let inventory = image(
            b"magi",
            &Inventory { root: Some(SharedObjects { pids: Some(300), ..Default::default() }) },
        );
        let ids = image(IDS, &SharedObjects::default());
        for length in 0..inventory.len() {
            assert!(with_own_namespaces(&ids, &inventory[..length], false).is_err(), "{length}");
        }
        for length in 0..ids.len() {
            assert!(with_own_namespaces(&ids[..length], &inventory, false).is_err(), "{length}");
        }
    }
}
