//! The changes of a container as a layer of an image: a tar archive (OCI image-spec, layer.md).

use super::layers::{self, Layer, Layers, OWN_ATTRIBUTES};
use super::walk::{self, MAX_DEPTH};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::lease::{name_lease, open_unleased};
use crate::sandbox::resolve;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use tar::{Builder, EntryType, Header};

/// "Whiteout files ... MUST only apply to resources in lower/parent layers." - OCI image-spec, layer.md
const WHITEOUT: &[u8] = b".wh.";
/// "Opaque Whiteout": everything the lower layers have in this directory is hidden.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The prefix of extended attributes in PAX archives, by the convention of star, GNU tar, Go and others.
const ATTRIBUTE: &str = "SCHILY.xattr.";
const FILE_CAPABILITIES: &[u8] = b"security.capability";
/// The longest name that fits into the plain header.
const PLAIN_NAME: usize = 100;
/// The kernel's limits: `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`.
const MAX_ATTRIBUTE: usize = 64 << 10;

/// Writes the layer of all overlays to `pipe`, each directory's names in the order of their bytes.
pub(super) fn write(layers: &Layers, pipe: OwnedFd) -> Result<()> {
    let layers = layers.open()?;
    let mut archive = Archive::new(pipe, false);
    for Layer { at, upper, .. } in &layers {
        let at = at.as_os_str().as_encoded_bytes();
        archive.directory(upper, at, MAX_DEPTH)?;
    }
    archive.finish()
}

/// Writes the file system of which `directory` is the root to `pipe`: without the mounts in it, and without devices, both of
/// which the configuration makes.
pub(super) fn write_mount(directory: &OwnedFd, pipe: OwnedFd) -> Result<()> {
    let mut archive = Archive::new(pipe, true);
    archive.marker(OPAQUE.to_vec())?;
    archive.directory(directory, b"", MAX_DEPTH)?;
    archive.finish()
}

struct Archive {
    tar: Builder<BufWriter<File>>,
    /// Files with several names, and the first of each that was written.
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// Whether it has one file system as it is, and no layer of an overlay.
    one_mount: bool,
}

impl Archive {
    fn new(pipe: OwnedFd, one_mount: bool) -> Self {
        let tar = Builder::new(BufWriter::with_capacity(64 << 10, File::from(pipe)));
        Self { tar, linked: HashMap::new(), one_mount }
    }

    fn finish(self) -> Result<()> {
        let mut pipe = self.tar.into_inner().os(|| "write(archive)")?;
        pipe.flush().os(|| "write(archive)")
    }

    /// The contents of a directory whose path is `at`.
    fn directory(&mut self, directory: &OwnedFd, at: &[u8], depth: usize) -> Result<()> {
        if !self.one_mount && layers::is_opaque(directory) {
            self.marker(join(at, OPAQUE))?;
        }
        for (name, _) in walk::children(directory)? {
            let path = join(at, name.to_bytes());
            let step = || format!("export {:?}", String::from_utf8_lossy(&path));
            let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW).os(step)?;
            if self.one_mount && (is_device(&stat) || is_mount_point(directory.as_fd(), &name)) {
                continue;
            }
            // Also the name of a file that was removed: the marker for `.wh..opq` would hide a whole directory.
            if name.to_bytes().starts_with(WHITEOUT) {
                let problem = "in a layer, a name that begins with .wh. would remove something";
                return Err(Error::new(ErrorKind::InvalidInput, step(), problem));
            }
            if layers::is_whiteout(&stat) {
                self.marker(join(at, &[WHITEOUT, name.to_bytes()].concat()))?;
                continue;
            }
            let Some(depth) = depth.checked_sub(1) else { return Err(walk::too_deep(&name)) };
            self.entry(directory.as_fd(), &name, &stat, path.clone(), depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        path: Vec<u8>,
        depth: usize,
    ) -> Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let file = (stat.st_dev, stat.st_ino);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&file).cloned() {
                return self.append(EntryType::Link, stat, &path, Some(&first), &[], &mut io::empty());
            }
            self.linked.insert(file, path.clone());
        }
        match kind {
            FileType::Directory => {
                let directory = resolve::open_child(parent, name).os(|| format!("open({name:?})"))?;
                let attributes = attributes_of(directory.as_fd())?;
                let with_slash = [&path, &b"/"[..]].concat();
                self.append(EntryType::Directory, stat, &with_slash, None, &attributes, &mut io::empty())?;
                self.directory(&directory, &path, depth)
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
                let file = open_unleased(open).os(|| format!("open({name:?})")).map_err(name_lease)?;
                let attributes = attributes_of(file.as_fd())?;
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                // Exactly as many bytes as the header says, whatever the container does to the file meanwhile.
                let mut content = File::from(file).chain(io::repeat(0)).take(size);
                self.append(EntryType::Regular, stat, &path, None, &attributes, &mut content)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())
                    .os(|| format!("readlinkat({name:?})"))?;
                let target = Some(target.to_bytes());
                self.append(EntryType::Symlink, stat, &path, target, &[], &mut io::empty())
            }
            FileType::Fifo => self.append(EntryType::Fifo, stat, &path, None, &[], &mut io::empty()),
            FileType::CharacterDevice => {
                self.append(EntryType::Char, stat, &path, None, &[], &mut io::empty())
            }
            FileType::BlockDevice => self.append(EntryType::Block, stat, &path, None, &[], &mut io::empty()),
            // A socket is useless without the process that listens, and archives have no type for it.
            _ => Ok(()),
        }
    }

    /// An empty file whose name is a whiteout.
    fn marker(&mut self, path: Vec<u8>) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        self.write(header, &path, None, &[], &mut io::empty())
    }

    fn append(
        &mut self,
        kind: EntryType,
        stat: &Stat,
        path: &[u8],
        target: Option<&[u8]>,
        attributes: &[(String, Vec<u8>)],
        content: &mut dyn Read,
    ) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(stat.st_uid.into());
        header.set_gid(stat.st_gid.into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
        let size = if kind == EntryType::Regular { stat.st_size } else { 0 };
        header.set_size(u64::try_from(size).unwrap_or_default());
        if matches!(kind, EntryType::Char | EntryType::Block) {
            let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            let set = header.set_device_major(major).and_then(|()| header.set_device_minor(minor));
            set.os(|| format!("device {major}:{minor}"))?;
        }
        self.write(header, path, target, attributes, content)
    }

    /// Writes the entry under its names. Values that do not fit into the plain header go before it.
    fn write(
        &mut self,
        mut header: Header,
        path: &[u8],
        target: Option<&[u8]>,
        attributes: &[(String, Vec<u8>)],
        content: &mut dyn Read,
    ) -> Result<()> {
        let mut extra: Vec<(&str, &[u8])> = Vec::new();
        let ustar = header.as_ustar_mut().expect("made as one");
        let names =
            [("path", path, &mut ustar.name), ("linkpath", target.unwrap_or_default(), &mut ustar.linkname)];
        for (key, name, field) in names {
            let plain = name.len().min(PLAIN_NAME);
            field[..plain].copy_from_slice(&name[..plain]);
            if name.len() > PLAIN_NAME {
                extra.push((key, name));
            }
        }
        extra.extend(attributes.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        header.set_cksum();
        if !extra.is_empty() {
            self.tar.append_pax_extensions(extra).os(|| "write(archive)")?;
        }
        self.tar.append(&header, content).os(|| "write(archive)")
    }
}

fn is_device(stat: &Stat) -> bool {
    matches!(FileType::from_raw_mode(stat.st_mode), FileType::CharacterDevice | FileType::BlockDevice)
}

/// Whether something is mounted on the name.
fn is_mount_point(parent: BorrowedFd<'_>, name: &CStr) -> bool {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    matches!(rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve), Err(Errno::XDEV))
}

/// What belongs into an image: attributes of users', and file capabilities.
fn attributes_of(file: BorrowedFd<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; MAX_ATTRIBUTE];
    let size = rustix::fs::flistxattr(file, names.as_mut_slice()).os(|| "flistxattr()")?;
    let mut names: Vec<&[u8]> = names[..size].split(|byte| *byte == 0).collect();
    names.retain(|name| {
        (name.starts_with(b"user.") && !name.starts_with(OWN_ATTRIBUTES)) || *name == FILE_CAPABILITIES
    });
    names.sort_unstable();
    let mut value = vec![0; if names.is_empty() { 0 } else { MAX_ATTRIBUTE }];
    let mut attributes = Vec::with_capacity(names.len());
    for name in names {
        let size = rustix::fs::fgetxattr(file, name, value.as_mut_slice()).os(|| "fgetxattr()")?;
        // A PAX archive spells them in UTF-8, and the first `=` ends them: what follows would become a part of the value.
        let Some(spelled) = std::str::from_utf8(name).ok().filter(|name| !name.contains('=')) else {
            let step = format!("export the attribute {:?}", String::from_utf8_lossy(name));
            let problem = "an archive cannot have a name with `=`, or one that is not UTF-8";
            return Err(Error::new(ErrorKind::InvalidInput, step, problem));
        };
        attributes.push((format!("{ATTRIBUTE}{spelled}"), value[..size].to_vec()));
    }
    Ok(attributes)
}

fn join(at: &[u8], name: &[u8]) -> Vec<u8> {
    if at.is_empty() { name.to_vec() } else { [at, b"/", name].concat() }
}
