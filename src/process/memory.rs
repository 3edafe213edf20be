//! Sealed memory: bytes behind a descriptor, which no process can change afterwards (memfd_create(2), "File sealing").

use crate::error::{OsContext, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// How often to try to seal. The kernel itself waits about 150 ms in each try.
const SEAL_ATTEMPTS: usize = 20;

const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// A copy of `bytes` in sealed memory that the kernel calls `name`. A read of it begins at the first byte.
pub(crate) fn sealed(name: &str, bytes: &[u8]) -> Result<OwnedFd> {
    filled(name, |memory| memory.write_all_at(bytes, 0).os(|| format!("write({name})")))
}

/// Sealed memory that the kernel calls `name`, with what `fill` writes to it.
pub(crate) fn filled(name: &str, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create(name, flags).os(|| format!("memfd_create({name:?})"))?;
    let mut memory = File::from(memory);
    fill(&mut memory)?;
    seal(memory.as_fd())?;
    Ok(memory.into())
}

/// Memory for a program, not sealed yet. Fails where the host lets no memfd be executed (`vm.memfd_noexec`).
pub(crate) fn executable_memfd(name: &str) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(name, flags | MFD_EXEC) {
        // KERNEL(6.3): MFD_EXEC.
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        made => made,
    }
    .os(|| format!("memfd_create({name:?})"))
}

/// `MFD_EXEC`: since Linux 6.3, whether a memfd may be executed is decided when it is made.
const MFD_EXEC: MemfdFlags = MemfdFlags::from_bits_retain(0x10);

/// Seals the memory behind `memfd`.
pub(crate) fn seal(memfd: BorrowedFd<'_>) -> Result<()> {
    let mut attempts = SEAL_ATTEMPTS;
    loop {
        attempts -= 1;
        match rustix::fs::fcntl_add_seals(memfd, SEALS) {
            // Kernel threads (reclaim, compaction, DAMON) hold pages for a moment, and the kernel takes a held page for
            // one that may still be written.
            Err(Errno::BUSY) if attempts > 0 => {}
            result => return result.os(|| "fcntl(F_ADD_SEALS)"),
        }
    }
}

/// Whether this is a memfd that no process can change, so that a read of it neither blocks nor sees a change.
pub(crate) fn is_sealed(memfd: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_get_seals(memfd).is_ok_and(|seals| seals.contains(SEALS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn what_is_sealed_is_read_from_its_beginning_and_never_written() {
        let memory = sealed("test", b"bytes").unwrap();
        assert!(is_sealed(memory.as_fd()));
        let mut memory = File::from(memory);
        let mut read = Vec::new();
        memory.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"bytes");
        assert_eq!(memory.write(b"more").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(memory.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
