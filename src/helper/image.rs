//! The file that a helper executes, through a descriptor that no process can write to, so that a container which opens
//! `/proc/PID/exe` of a helper cannot change the program (CVE-2019-5736): this program, or what [`Helper`] names.
//!
//! A caller that may mount makes a detached, read-only mount of the executable: that is cheap, and the program is in
//! memory once. Any other caller makes a copy in a sealed memfd. It copies only what the kernel loads, and leaves a
//! hole in place of debug information, which often is nine tenths of the file. A process makes the image once, for all
//! helpers of all containers.
//!
//! [`Helper`]: super::Helper

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::memory::{executable_memfd, seal};
use crate::sys::{self, MountAttr};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;

/// An ELF file with more program headers than this is no executable of a Rust program.
const MAX_SEGMENTS: u16 = 256;
const COPY_CHUNK: usize = 1 << 20;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;

static IMAGE: OnceLock<OwnedFd> = OnceLock::new();

/// The image for every helper of this process: what was [installed](install), else this program.
pub(super) fn image() -> Result<BorrowedFd<'static>> {
    if let Some(image) = IMAGE.get() {
        return Ok(image.as_fd());
    }
    let made = of_program(Path::new(EXECUTABLE))?;
    // Two threads may make one each; one is kept, and the other is closed here.
    Ok(IMAGE.get_or_init(|| made).as_fd())
}

/// Makes `image` that of every helper of this process. Gives it back if there is one already.
pub(super) fn install(image: OwnedFd) -> Result<(), OwnedFd> {
    IMAGE.set(image)
}

/// Whether there is an image already: of this program, or one that was [installed](install).
pub(super) fn is_installed() -> bool {
    IMAGE.get().is_some()
}

const EXECUTABLE: &str = "/proc/self/exe";

/// An image of the executable at `path`.
pub(super) fn of_program(path: &Path) -> Result<OwnedFd> {
    read_only_mount(path).or_else(|_| sealed_copy(path))
}

/// An image that consists of these bytes.
pub(super) fn of_bytes(bytes: &[u8]) -> Result<OwnedFd> {
    let image = File::from(executable_memfd(NAME)?);
    image.write_all_at(bytes, 0).os(|| "write(memfd)")?;
    seal(image.as_fd())?;
    Ok(image.into())
}

/// What the kernel calls a copy in memory.
const NAME: &str = "cofferdam";

/// Fails for a caller without `CAP_SYS_ADMIN`, and for an executable that is in no mount of its namespace, as in a
/// memfd.
fn read_only_mount(path: &Path) -> Result<OwnedFd, Errno> {
    let mount = sys::clone_tree_at(path, false)?;
    // Private, so that mount events of the host's mount, where that is shared, do not reach this one.
    let read_only = MountAttr::change(libc::MOUNT_ATTR_RDONLY, 0).with_propagation(libc::MS_PRIVATE);
    sys::mount_setattr(mount.as_fd(), &read_only, false)?;
    Ok(mount)
}

fn sealed_copy(path: &Path) -> Result<OwnedFd> {
    // What was named may be a FIFO, which must not be waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let program = rustix::fs::open(path, flags, Mode::empty()).os(|| format!("open({path:?})"))?;
    let (program, image) = (File::from(program), File::from(executable_memfd(NAME)?));
    copy_loaded_parts(path, &program, &image)?;
    seal(image.as_fd())?;
    Ok(image.into())
}

/// Copies the ELF header, the program headers and every loaded segment to the same offsets. The rest reads as zeroes.
fn copy_loaded_parts(path: &Path, program: &File, image: &File) -> Result<()> {
    let reading = || format!("read({path:?})");
    let size = program.metadata().os(|| format!("fstat({path:?})"))?.len();
    image.set_len(size).os(|| "ftruncate(memfd)")?;
    let mut header = [0_u8; 64];
    let not_elf = || Error::new(ErrorKind::Os(libc::ENOEXEC), reading(), "not a 64-bit ELF file");
    match program.read_exact_at(&mut header, 0) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(not_elf()),
        read => read.os(reading)?,
    }
    if header[..5] != *b"\x7fELF\x02" {
        return Err(not_elf());
    }
    let u16_at = |bytes: &[u8], at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    let u64_at = |bytes: &[u8], at: usize| {
        u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes make a u64"))
    };
    let (table, entry_size, count) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56));
    if entry_size != 56 || count > MAX_SEGMENTS {
        return Err(not_elf());
    }
    let mut entries = vec![0_u8; usize::from(entry_size) * usize::from(count)];
    program.read_exact_at(&mut entries, table).os(reading)?;
    // Remove the section table (e_shoff, e_shnum, e_shstrndx): it describes parts that are not copied.
    header[40..48].fill(0);
    header[60..64].fill(0);

    for entry in entries.chunks_exact(usize::from(entry_size)) {
        let kind = u32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]);
        if kind == PT_LOAD || kind == PT_INTERP {
            copy_range(program, image, u64_at(entry, 8), u64_at(entry, 32)).os(reading)?;
        }
    }
    image.write_all_at(&entries, table).os(|| "write(memfd)")?;
    image.write_all_at(&header, 0).os(|| "write(memfd)")
}

fn copy_range(program: &File, image: &File, offset: u64, length: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; COPY_CHUNK.min(usize::try_from(length).unwrap_or(COPY_CHUNK))];
    let mut done = 0;
    while done < length {
        let want = buffer.len().min(usize::try_from(length - done).unwrap_or(COPY_CHUNK));
        program.read_exact_at(&mut buffer[..want], offset + done)?;
        image.write_all_at(&buffer[..want], offset + done)?;
        done += want as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::memory::is_sealed;

    #[test]
    fn no_process_can_write_to_a_copy() {
        let copy = sealed_copy(Path::new(EXECUTABLE)).unwrap();
        assert!(is_sealed(copy.as_fd()));
        let copy = File::from(copy);
        assert_eq!(copy.write_all_at(b"\x7fELF", 0).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(copy.metadata().unwrap().len(), std::fs::metadata(EXECUTABLE).unwrap().len());
    }
}
