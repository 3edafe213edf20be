//! Files of a template: those that it has made in memory, which its copies get, and those that it has open, which its
//! copies open again.

use super::child::Child;
use super::maps::{MOUNT_TABLE_ESCAPES, PAGE, unescape};
use super::refusal::refuse;
use super::{Subject, read, version_of};
use crate::error::{OsContext, Result};
use crate::sandbox::files::{Layers, is_empty};
use crate::sys::tracing::{self, arch};
use crate::sys::{StatusText, open_below};
use crate::wire::template::{Descriptor, MAX_ARCHIVES, MAX_DESCRIPTORS, NamedFile, Opened};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where a template has files that its copies get.
pub(super) struct FilesInMemory<'a> {
    layers: &'a Layers,
    mounts: Vec<Mount>,
    /// Whether it has changed files of its scratch.
    pub(super) scratch: bool,
    /// Where a tmpfs has files.
    pub(super) tmpfs: Vec<PathBuf>,
}

impl<'a> FilesInMemory<'a> {
    /// Fails for a tmpfs that cannot be looked into.
    pub(super) fn of(subject: Subject<'_>, layers: &'a Layers) -> Result<Self> {
        const MOST: u64 = 4 << 20;
        let text = read(subject, "mountinfo", MOST)?;
        let mounts: Vec<Mount> = text.split(|byte| *byte == b'\n').filter_map(Mount::of).collect();
        let mut tmpfs: Vec<PathBuf> = Vec::new();
        for (number, mount) in mounts.iter().enumerate().filter(|(_, mount)| mount.is_memory) {
            // What is mounted later on the same place hides it.
            let is_hidden = mounts[number + 1..].iter().any(|other| other.point == mount.point);
            if !is_hidden && mount.has_files(subject)? {
                tmpfs.push(mount.path().to_owned());
            }
        }
        if tmpfs.len() > MAX_ARCHIVES {
            let problem = format!("there are files in more than {MAX_ARCHIVES} file systems in memory");
            return Err(refuse(problem, "remove them before the stop, and make them in the clone"));
        }
        Ok(Self { layers, mounts, scratch: layers.are_changed()?, tmpfs })
    }

    /// Whether copies get the file at this path from the template, and have no other.
    pub(super) fn contain(&self, path: &[u8]) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        let mounts = self.mounts.iter().filter(|mount| path.starts_with(mount.path()));
        // Of several on one place, the last one.
        let mount = mounts.max_by_key(|mount| mount.point.len());
        mount.is_some_and(|mount| mount.is_memory) || self.layers.changed_file(path)
    }
}

/// A line of proc_pid_mountinfo(5).
struct Mount {
    id: u64,
    point: Vec<u8>,
    /// Whether it is memory that programs of the container may write to.
    is_memory: bool,
}

impl Mount {
    fn of(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let (point, options) = (unescape(fields.nth(3)?, MOUNT_TABLE_ESCAPES), fields.next()?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        let is_memory = kind == b"tmpfs" && !options.starts_with(b"ro") && !is_device(&point);
        Some(Self { id, point, is_memory })
    }

    fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.point))
    }

    fn has_files(&self, subject: Subject<'_>) -> Result<bool> {
        // What is mounted is in the cache, and so is the way to it: nothing here waits for a filesystem of the process.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::CACHED;
        let open = || rustix::fs::openat2(subject.root, self.point.as_slice(), flags, Mode::empty(), resolve);
        // The kernel also gives up a walk through the cache if another process mounts anything meanwhile.
        let mut attempts =
            (0..LOOKS).map(|_| open()).skip_while(|opened| matches!(opened, Err(Errno::AGAIN)));
        let opened = attempts.next().unwrap_or(Err(Errno::AGAIN));
        let found = opened.and_then(|found| {
            let (how, what) = (AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::MNT_ID);
            rustix::fs::statx(&found, "", how, what | StatxFlags::TYPE).map(|stat| (found, stat))
        });
        match found {
            // A file is of the configuration.
            Ok((_, stat)) if stat.stx_mnt_id == self.id && !is_directory(&stat) => Ok(false),
            Ok((directory, stat)) if stat.stx_mnt_id == self.id => Ok(!is_empty(directory.as_fd())),
            _ => {
                let problem = format!("there may be files in {}, which is hidden", self.path().display());
                Err(refuse(problem, "unmount what hides it before the stop"))
            }
        }
    }
}

/// How often to look for a mount before it counts as hidden.
const LOOKS: usize = 1000;

fn is_directory(stat: &Statx) -> bool {
    FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory
}

/// `/dev` is made by create, in a copy too; but not what is in its memory for programs.
fn is_device(point: &[u8]) -> bool {
    point == b"/dev" || point.starts_with(b"/dev/") && point != b"/dev/shm"
}

/// Refuses what is open and has no path, or no longer. Returns the numbers of the rest, but for the standard streams.
pub(super) fn list_descriptors(subject: Subject<'_>) -> Result<Vec<(u64, Vec<u8>)>> {
    let step = || "getdents64(proc/fd)";
    let path = format!("{}/fd", subject.inside);
    let directory = open_below(subject.proc, &path, OFlags::DIRECTORY).os(step)?;
    let mut open = Vec::new();
    for entry in Dir::read_from(&directory).os(step)? {
        let entry = entry.os(step)?;
        let name = entry.file_name();
        let Some(number) = name.to_str().ok().and_then(|name| name.parse::<u64>().ok()) else { continue };
        let target = rustix::fs::readlinkat(&directory, name, Vec::new()).unwrap_or_default().into_bytes();
        // Such as userfaultfd(2) and io_uring: as a standard stream it would be another object in the clone.
        let has_path = target.starts_with(b"/") && !target.ends_with(b" (deleted)");
        if number > 2 && !has_path || target.starts_with(b"anon_inode:") {
            return Err(refuse_descriptor(number, &String::from_utf8_lossy(&target)));
        }
        if number > 2 {
            open.push((number, target));
        }
    }
    open.sort_unstable();
    if open.len() > MAX_DESCRIPTORS {
        let problem = format!("the process has more than {MAX_DESCRIPTORS} descriptors open");
        return Err(refuse(problem, "close them before the stop"));
    }
    Ok(open)
}

fn refuse_descriptor(number: u64, what: &str) -> crate::error::Error {
    let problem = format!("descriptor {number} is open: {what}");
    refuse(problem, "close it before the stop, and open it again in the clone")
}

/// Describes what is open, with a page at `buffer` for the process to read and one after it for answers. Refuses what is no
/// file that open(2) would open again.
pub(super) fn describe_descriptors(
    subject: Subject<'_>,
    child: &Child,
    buffer: u64,
    open: Vec<(u64, Vec<u8>)>,
    files: &FilesInMemory<'_>,
) -> Result<Vec<Descriptor>> {
    let mut described: Vec<Descriptor> = Vec::new();
    for (number, path) in open {
        let info = read(subject, &format!("fdinfo/{number}"), PAGE)?;
        let info = String::from_utf8_lossy(&info);
        let line = |name| StatusText(&info).line(name);
        let flags = line("flags").and_then(|flags| u32::from_str_radix(flags, 8).ok()).unwrap_or(u32::MAX);
        let position = line("pos").and_then(|pos| pos.parse().ok()).unwrap_or(u64::MAX);
        let text = String::from_utf8_lossy(&path).into_owned();
        let stat = child.stat(buffer, Some(number), b"")?;
        let named = child.stat(buffer, None, &path).unwrap_or_default();
        let (kind, device) = (FileType::from_raw_mode(stat[arch::STAT_MODE] as u32), stat[arch::STAT_DEVICE]);
        // /dev/null and its like. Where a device has another number, it is another one.
        let is_memory_device = kind == FileType::CharacterDevice && rustix::fs::major(device) == 1;
        let is_copied = is_memory_device || files.contain(&path);
        let why_not = if kind != FileType::RegularFile && !is_memory_device {
            Some("is no regular file")
        } else if named[..2] != stat[..2] {
            Some("has another name by now")
        } else if flags & !REOPENED & !IGNORED != 0 {
            Some("has flags that open(2) would not give it again")
        } else if line("lock").is_some() {
            Some("is locked")
        } else if flags & libc::O_ACCMODE as u32 != 0 && !is_copied {
            Some("can be written to, and all clones would write to the same file")
        } else {
            None
        };
        if let Some(why_not) = why_not {
            return Err(refuse_descriptor(number, &format!("{text}, which {why_not}")));
        }
        let file = NamedFile { path, version: version_of(&stat), is_copied };
        let flags_again = flags & REOPENED;
        let position = if is_memory_device { 0 } else { position };
        let opened = Opened::File { file, flags: flags_again, position };
        let mut first = None;
        for other in described.iter().filter(|other| other.opened == opened) {
            if tracing::is_same_file(subject.pid, other.number, number).os(|| "kcmp()")? {
                first = Some(other.number);
            }
        }
        let opened = first.map_or(opened, |of| Opened::Duplicate { of });
        let close_on_exec = flags & libc::O_CLOEXEC as u32 != 0;
        described.push(Descriptor { number, close_on_exec, opened });
    }
    Ok(described)
}

/// The flags of open(2) that a copy opens a file with again.
const REOPENED: u32 = (libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_DIRECT
    | libc::O_NOATIME
    | libc::O_DSYNC
    | libc::O_SYNC) as u32;
/// Those that say how it was opened. `O_LARGEFILE` is what every file has.
const IGNORED: u32 = (libc::O_CLOEXEC | libc::O_NOFOLLOW) as u32 | LARGE_FILE;
#[cfg(target_arch = "x86_64")]
const LARGE_FILE: u32 = 0o100_000;
#[cfg(target_arch = "aarch64")]
const LARGE_FILE: u32 = 0o400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_read_with_the_bytes_that_the_kernel_escapes() {
        let line = b"41 30 0:33 / /a\\040b\\134c rw,nosuid - tmpfs tmpfs rw";
        let mount = Mount::of(line).unwrap();
        assert_eq!((mount.id, mount.point.as_slice(), mount.is_memory), (41, b"/a b\\c".as_slice(), true));
        assert!(!Mount::of(b"41 30 0:33 / /tmp ro - tmpfs tmpfs rw").unwrap().is_memory);
        assert!(!Mount::of(b"41 30 0:33 / /dev rw - tmpfs tmpfs rw").unwrap().is_memory);
        assert!(Mount::of(b"41 30 0:33 / /dev/shm rw - tmpfs tmpfs rw").unwrap().is_memory);
        assert!(Mount::of(b"41 30 0:33").is_none());
    }
}
