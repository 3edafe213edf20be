//! SHA-256 (FIPS 180-4) of files and of bytes.

use crate::error::{Error, ErrorKind, OsContext, Result};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;

/// How a directory is opened.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// How much of a file is read at once.
const BLOCK: usize = 256 << 10;

/// The digest as 64 hexadecimal digits.
pub(crate) fn hex_digest(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

/// Length and digest of a file.
pub(super) fn of_file(mut file: File, name: &str) -> Result<(u64, String)> {
    let (mut state, mut length, mut block) = (Sha256::new(), 0, vec![0; BLOCK]);
    loop {
        match file.read(&mut block) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            read => match read.os(|| format!("read({name:?})"))? {
                0 => return Ok((length, hex(state.finalize().as_slice()))),
                size => {
                    state.update(&block[..size]);
                    length += size as u64;
                }
            },
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// Opens the regular file `name` for reading. Anything else is not opened at all: to open a FIFO or a device is to use it.
pub(super) fn open_regular(directory: BorrowedFd<'_>, name: &str) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let place =
        rustix::fs::openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .os(|| format!("openat({name:?})"))?;
    check_regular(&place, name)?;
    let file =
        rustix::fs::openat(directory, name, flags, Mode::empty()).os(|| format!("openat({name:?})"))?;
    // Something else may have its name by now.
    check_regular(&file, name)?;
    Ok(File::from(file))
}

fn check_regular(file: &OwnedFd, name: &str) -> Result<()> {
    let stat = rustix::fs::fstat(file).os(|| format!("fstat({name:?})"))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Symlink => "a symbolic link",
        FileType::Directory => "a directory",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        _ => "a device",
    };
    Err(Error::new(ErrorKind::NotARegularFile, "image", format!("{name}: it is {kind}, not a regular file")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_digest_is_that_of_the_standard() {
        // The first example of FIPS 180-4.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(super::hex_digest(b"abc"), abc);
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"abc").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        assert_eq!(super::of_file(file, "abc").unwrap(), (3, abc.to_owned()));
    }
}
