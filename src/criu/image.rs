//! CRIU's images, as far as this crate changes them: which namespaces a restored process is in.
//!
//! An image numbers the namespaces of its processes, and `inventory.img` has the numbers of those that CRIU itself was in.
//! A process with CRIU's own numbers stays where CRIU is at the restore, and CRIU makes no namespace, mounts nothing and
//! maps no ids. So the numbers of every process become CRIU's: a restored process is in the container that this crate
//! made from the caller's configuration, and nothing of that comes from the image. Its mounts have numbers that the
//! image does not know, so every open file loses that of its mount, and is found by its path.

use super::messages::{Inventory, SharedObjects};
use crate::error::{Error, ErrorKind, Result};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

/// The length of the two numbers that say what kind of image it is.
pub(super) const MAGIC: usize = 8;
/// The inventory has only one.
const INVENTORY_MAGIC: usize = 4;

/// The fields of `file_entry` in CRIU's images with something that has a path, and in each of them the field with the number
/// of the mount: `reg` (`reg_file_entry`) and `usk` (`unix_sk_entry`), both with `mnt_id`.
const MOUNTS: [(u32, u32); 2] = [(3, 7), (16, 17)];

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

/// The image `files.img`, without the mounts that its open files were found in. CRIU looks a mount up to make a name for a
/// deleted file or for a socket, and knows only mounts that it has made itself.
pub(crate) fn without_mounts(files: &[u8]) -> Result<Vec<u8>> {
    let damaged = || damaged("files.img", "it makes no sense");
    let magic = files.get(..MAGIC).ok_or_else(damaged)?;
    let mut changed = magic.to_vec();
    for entry in raw_entries("files.img", MAGIC, files)? {
        let mut kept = Vec::with_capacity(entry.len());
        for field in fields(entry).ok_or_else(damaged)? {
            let Some((_, mount)) = MOUNTS.iter().find(|(kind, _)| *kind == field.number) else {
                kept.extend(field.bytes);
                continue;
            };
            let of_file = fields(field.value).ok_or_else(damaged)?;
            let of_file = of_file.iter().filter(|field| field.number != *mount);
            let of_file: Vec<u8> = of_file.flat_map(|field| field.bytes).copied().collect();
            encode_key(field.number, WireType::LengthDelimited, &mut kept);
            encode_varint(of_file.len() as u64, &mut kept);
            kept.extend(of_file);
        }
        changed.extend(u32::try_from(kept.len()).map_err(|_| damaged())?.to_le_bytes());
        changed.extend(kept);
    }
    Ok(changed)
}

/// One field of a message whose other fields this crate does not know.
struct Field<'a> {
    number: u32,
    /// With its key.
    bytes: &'a [u8],
    /// What follows its key, or the length after that.
    value: &'a [u8],
}

/// The fields of a message; `None` if it is none.
fn fields(message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let start = rest;
        let (number, wire) = decode_key(&mut rest).ok()?;
        let length = |rest: &mut &[u8]| usize::try_from(decode_varint(rest).ok()?).ok();
        let value;
        (value, rest) = match wire {
            WireType::Varint => {
                let value = rest;
                length(&mut rest)?;
                value.split_at_checked(value.len() - rest.len())?
            }
            WireType::LengthDelimited => {
                let length = length(&mut rest)?;
                rest.split_at_checked(length)?
            }
            WireType::SixtyFourBit => rest.split_at_checked(8)?,
            WireType::ThirtyTwoBit => rest.split_at_checked(4)?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        fields.push(Field { number, bytes: &start[..start.len() - rest.len()], value });
    }
    Some(fields)
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
    let entries = raw_entries(name, magic, image)?.into_iter();
    entries.map(|entry| M::decode(entry).map_err(|error| damaged(name, error))).collect()
}

fn raw_entries<'a>(name: &str, magic: usize, image: &'a [u8]) -> Result<Vec<&'a [u8]>> {
    let short = || damaged(name, "it is cut off");
    let mut rest = image.get(magic..).ok_or_else(short)?;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (length, bytes) = rest.split_first_chunk().ok_or_else(short)?;
        let (entry, after) =
            bytes.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
        entries.push(entry);
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
    fn an_open_file_loses_its_mount_and_nothing_else() {
        // `id` 1, `flags` 0, `name` "/a", perhaps `mnt_id` -2, and `mode`: of a file, then of a socket.
        let file =
            |mount: &[u8]| [&[0x08, 1, 0x10, 0, 0x32, 2, b'/', b'a'], mount, &[0x50, 0xa4, 1]].concat();
        let socket = |mount: &[u8]| {
            [&[0x08, 3][..], mount, &[0x65, 1, 2, 3, 4, 0x69, 1, 2, 3, 4, 5, 6, 7, 8]].concat()
        };
        let entry = |kind: &[u8], of: &[u8]| [&[0x08, 1, 0x10, 7][..], kind, &[of.len() as u8], of].concat();
        let all = |mounts: [&[u8]; 2]| {
            let entries = [
                entry(&[0x1a], &file(mounts[0])),
                entry(&[0x82, 1], &socket(mounts[1])),
                // An `efd`, whose field of that number is another one.
                entry(&[0x42], &[0x38, 3]),
            ];
            let framed =
                entries.iter().flat_map(|entry| [&(entry.len() as u32).to_le_bytes()[..], entry].concat());
            [IDS.to_vec(), framed.collect()].concat()
        };
        let bare = all([&[], &[]]);
        assert_eq!(without_mounts(&all([&[0x38, 3], &[0x88, 1, 3]])).unwrap(), bare);
        assert_eq!(without_mounts(&bare).unwrap(), bare);
        for length in IDS.len() + 1..bare.len() {
            // An image may end between two entries.
            if let Ok(shorter) = without_mounts(&bare[..length]) {
                assert_eq!(shorter, bare[..length]);
            }
        }
        assert!(
            without_mounts(&all([&[0x3b], &[]])).is_err(),
            "a group is none of protobuf's that CRIU writes"
        );
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
