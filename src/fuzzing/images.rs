//! What another machine can put before a restore: the manifest of an image, its layers, and CRIU's files; and what CRIU says.

use crate::criu::restore::read as hear;
use crate::criu::{Contents, namespaces_of, with_own_namespaces};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::sandbox::{compare_and_export, unpack_below};
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, Mode, OFlags};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Component, Path};
use tempfile::TempDir;

/// The files of an image of which each is empty.
const FILES: [&str; 5] =
    ["config.json", "criu/core-2.img", "criu/inventory.img", "layers/0.tar", "layers/1.tar"];

/// A manifest, or a part of what CRIU writes and says. The first byte chooses what it is.
pub(super) fn image(bytes: &[u8]) {
    let Some((what, bytes)) = bytes.split_first() else { return };
    match what % 4 {
        0 => manifest(bytes),
        1 => contents(bytes),
        2 => namespaces(bytes),
        _ => drop(hear(bytes).inspect_err(|error| assert_kind(error, &ErrorKind::PeerMisbehaved))),
    }
}

fn assert_kind(error: &Error, kind: &ErrorKind) {
    assert_eq!(error.kind(), kind, "{error}");
}

/// The manifest of a directory: it lists exactly the files that are there, or the image is refused.
#[expect(clippy::disallowed_methods, reason = "writes below a directory that is its own")]
fn manifest(bytes: &[u8]) {
    let place = directory();
    for folder in ["criu", "layers"] {
        std::fs::create_dir(place.path().join(folder)).expect("a folder of an image");
    }
    for name in FILES {
        std::fs::write(place.path().join(name), "").expect("a file of an image");
    }
    std::fs::write(place.path().join("manifest.json"), bytes).expect("a manifest");
    let image = match Image::open(place.path()) {
        Ok(image) => image,
        Err(error) => match error.kind() {
            ErrorKind::Stale | ErrorKind::Unsupported { .. } => return,
            kind => panic!("an image was refused as {kind:?}: {error}"),
        },
    };
    assert!(image.files().map(|(name, _)| name).eq(FILES) && image.size() == 0);
    for layer in image.layers() {
        assert!(FILES[3..].contains(&layer.file()), "{layer:?}");
        let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        assert!(layer.tmpfs().is_none_or(|at| at.is_absolute() && at.components().all(plain)), "{layer:?}");
    }
    assert!(image.init_pid() > 0 && !image.container_id().as_str().contains('/'));
    let _ = (image.made_at(), image.streams(), image.filter(), image.external());
}

/// The processes and filters of an image. There are no more of them than the files have bytes for.
fn contents(bytes: &[u8]) {
    let (tree, filters) = halves(bytes);
    for filters in [None, Some(filters)] {
        match Contents::parse(tree, filters) {
            Ok(contents) => {
                assert!(contents.pids.len() <= 3 * tree.len());
                let programs: usize = contents.first_filters.iter().map(Vec::len).sum();
                assert!(programs <= filters.map_or(0, <[u8]>::len));
            }
            Err(error) => assert_kind(&error, &ErrorKind::Stale),
        }
    }
}

/// The namespaces of a process become those of CRIU, whatever they were.
fn namespaces(bytes: &[u8]) {
    let (ids, inventory) = halves(bytes);
    let joined = with_own_namespaces(ids, inventory, false);
    if let Err(error) = namespaces_of(ids).map(drop).and(joined.as_ref().map(drop).map_err(clone)) {
        return assert_kind(&error, &ErrorKind::Stale);
    }
    let joined = joined.expect("seen above");
    let again = with_own_namespaces(&joined, inventory, false).expect("our own file");
    assert_eq!(again, joined);
    let others = [&b"magicnum"[..], &[0; 4]].concat();
    if let Ok(others) = with_own_namespaces(&others, inventory, false) {
        let of = |ids: &[u8]| namespaces_of(ids).expect("our own file");
        assert!(of(&others) == of(&joined), "two processes in different namespaces");
    }
}

fn clone(error: &Error) -> Error {
    Error::new(error.kind().clone(), "image", error.to_string())
}

/// Two files. The first two bytes are the length of the first.
fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    let [high, low, rest @ ..] = bytes else { return (&[], &[]) };
    rest.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(rest.len()))
}

/// An archive, whose checksums are put right. Unpacked, it changes nothing outside the directory that it is for, makes no
/// device, and takes no more room than its length; and what it makes is exported as a layer that makes the same again.
pub(super) fn layer(bytes: &[u8]) {
    let place = directory();
    let made = |name: &str| {
        let path = place.path().join(name);
        rustix::fs::mkdir(&path, Mode::RWXU).expect("a directory of its own");
        path
    };
    let (outside, root, again, lower) = (made("outside"), made("root"), made("again"), made("lower"));
    rustix::fs::mkdir(outside.join("directory"), Mode::RWXU).expect("a directory there");
    File::create_new(outside.join("file")).expect("a file there");
    let before = all_below(&outside);
    // What an image of files may lead to.
    symlink("../outside", root.join("out")).expect("a link");
    symlink(outside.join("file"), root.join("file")).expect("a link");
    rustix::fs::mkdir(root.join("in"), Mode::RWXU).expect("a directory in it");
    symlink("../../outside/directory", root.join("in/out")).expect("a link");
    let unpacked = unpack_below(open(&root), archive(&with_checksums(bytes)));
    assert_eq!(all_below(&outside), before, "something outside has changed");
    let inside = all_below(&root);
    let length: u64 = inside.iter().map(|entry| entry.size).sum();
    assert!(length <= bytes.len() as u64 + inside.len() as u64 * 4096, "{length} bytes");
    assert!(inside.iter().all(|entry| !matches!(entry.mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK)));
    if unpacked.is_err() {
        return;
    }
    let Ok(first) = export(&root, &lower) else { return };
    unpack_below(open(&again), archive(&first)).expect("our own layer");
    assert!(export(&again, &lower).expect("the same tree") == first, "another tree");
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn open(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).expect("it was made")
}

fn archive(bytes: &[u8]) -> File {
    let mut file = File::from(rustix::fs::memfd_create("layer", MemfdFlags::CLOEXEC).expect("memory"));
    file.write_all(bytes).and_then(|()| file.rewind()).expect("memory for it");
    file
}

fn export(upper: &Path, lower: &Path) -> Result<Vec<u8>> {
    let mut written = archive(b"");
    let duplicate = written.try_clone().expect("a duplicate");
    compare_and_export([open(upper), open(lower)], duplicate.into())?;
    let mut bytes = Vec::new();
    written.rewind().and_then(|()| written.read_to_end(&mut bytes)).expect("what was written");
    Ok(bytes)
}

/// The archive with the checksum that each header should have (pax(1), "ustar Interchange Format").
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0_usize;
    while let Some(header) = bytes.get_mut(at..at.saturating_add(512)) {
        let header: &mut [u8; 512] = header.try_into().expect("as long as that");
        if *header == [0; 512] {
            break;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = tar::Header::from_byte_slice(header).entry_size().unwrap_or(0);
        let Some(next) = usize::try_from(size).ok().and_then(|size| size.checked_next_multiple_of(512))
        else {
            break;
        };
        at = at.saturating_add(512).saturating_add(next);
    }
    bytes
}

/// What a name is of.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Node {
    path: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    links: u64,
    changed: (i64, i64),
}

/// Everything below a directory, and itself, as it is now.
fn all_below(top: &Path) -> BTreeSet<Node> {
    let stat = top.symlink_metadata().expect("it is there");
    let mut found = BTreeSet::from([Node {
        path: top.as_os_str().as_encoded_bytes().to_vec(),
        mode: stat.mode(),
        owner: (stat.uid(), stat.gid()),
        size: stat.size(),
        links: stat.nlink(),
        changed: (stat.ctime(), stat.ctime_nsec()),
    }]);
    if stat.is_dir() {
        for entry in std::fs::read_dir(top).expect("a directory that can be read") {
            found.extend(all_below(&entry.expect("a name").path()));
        }
    }
    found
}
