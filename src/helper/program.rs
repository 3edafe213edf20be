//! [`Helper`]: another program than this one for the helpers to execute, and how its file says that it is one.

use super::image;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::sys::{NOTE_BYTES, NOTE_KIND, NOTE_NAME};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, AtFlags, Mode, OFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A program that was built from another version could take a plan for another.
const VERSION: &[u8] = env!("CARGO_PKG_VERSION").as_bytes();

/// A program that the processes beside a workload execute, in place of this one.
///
/// Beside every workload are two processes of this crate: the gofer and the sandbox
/// ([`manual::processes`](crate::manual::processes)). Each executes *this program* once more, and the crate takes over
/// before `main`. That needs nothing to be installed, but a large or dynamically linked program takes longer to start than
/// all that the helper has to do. A `Helper` is a small program for that purpose, `cofferdam-helper`, which this package
/// builds. It is best linked statically:
///
/// ```sh
/// RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static' \
///     cargo build --profile dist --bin cofferdam-helper --target x86_64-unknown-linux-musl
/// ```
///
/// (`x86_64-unknown-linux-gnu` works, too, and takes a little longer to start.) With the feature `embedded-helper` the
/// build of this crate does the same, and the program is part of yours: `Helper::built_in`. Install it once, at the start
/// of the program:
///
/// ```no_run
/// use cofferdam::helpers::Helper;
///
/// # fn main() -> cofferdam::Result<()> {
/// Helper::at("/usr/libexec/cofferdam-helper")?.install()?;
/// # Ok(())
/// # }
/// ```
///
/// The examples `run` and `oci` install the file of this name in their own directory, if there is one.
///
/// With it, this crate need not be linked into the main executable: it works in a shared library that another program
/// loads, such as an extension of Python (example `extension`).
///
/// A helper has every power over the containers that it serves, as this program has. So no other user may be able to write
/// to its file. Replace it by renaming, as package managers do, and never write to it: a process that installed the file
/// goes on with what it was.
#[derive(Clone, Debug)]
pub struct Helper(Arc<OwnedFd>);

impl Helper {
    /// The program in the file at `path`.
    ///
    /// Reads the version of the crate out of the file, and does not execute it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is not the `cofferdam-helper` of this version of the crate, or another program that
    /// is linked with it; else the errno with which the file could not be opened or read, or cannot be executed.
    pub fn at(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::of(image::of_program(path)?, &format!("{path:?}"))
    }

    /// The program that consists of `bytes`, for one file that has everything:
    /// `Helper::embedded(include_bytes!("cofferdam-helper"))`. It is copied into memory of its own.
    ///
    /// # Errors
    /// As [`at`](Self::at). The host may forbid to execute memory (sysctl `vm.memfd_noexec`).
    pub fn embedded(bytes: &[u8]) -> Result<Self> {
        Self::of(image::of_bytes(bytes)?, "these bytes")
    }

    /// The program that the feature `embedded-helper` built into this one, in the way that [`Helper`] describes: for musl if
    /// `rustup` has that target, else with the static library of glibc, which some distributions package by itself.
    ///
    /// The feature runs cargo once more while this crate is built, offline where it can, and makes this program about
    /// 2 MB larger.
    ///
    /// # Errors
    /// As [`embedded`](Self::embedded).
    #[cfg(feature = "embedded-helper")]
    pub fn built_in() -> Result<Self> {
        Self::embedded(include_bytes!(env!("COFFERDAM_HELPER")))
    }

    fn of(image: OwnedFd, what: &str) -> Result<Self> {
        let refuse = |problem| Err(Error::new(ErrorKind::InvalidInput, "helper", problem));
        match version_in(image.as_fd(), what)? {
            Some(version) if version == VERSION => Ok(Self(Arc::new(image))),
            Some(other) => refuse(format!(
                "{what} is of version {}, and this is {}",
                String::from_utf8_lossy(&other),
                env!("CARGO_PKG_VERSION")
            )),
            None => refuse(format!("{what} is no cofferdam-helper")),
        }
    }

    /// Has every helper that this process starts from now on execute this program: for containers, for hooks, for executed
    /// processes that are [detached](crate::Process), and zygotes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if this process has started a helper already, or has installed another program: all of its
    /// helpers execute the same.
    pub fn install(&self) -> Result<()> {
        let image = self.0.try_clone().os(|| "fcntl(F_DUPFD_CLOEXEC)")?;
        image::install(image).map_err(|_| {
            let problem = "this process has started helpers already";
            Error::new(ErrorKind::InvalidInput, "install", problem)
                .hint("install it before the first container")
        })
    }
}

/// The version of this crate in the program `image`; `None` if it has nothing of this crate.
fn version_in(image: BorrowedFd<'_>, what: &str) -> Result<Option<Vec<u8>>> {
    // An image is opened as a path only.
    let path = format!("/proc/self/fd/{}", image.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::empty()).os(|| format!("open({what})"))?;
    let version = elf::version(&File::from(file)).os(|| format!("read({what})"))?;
    rustix::fs::accessat(rustix::fs::CWD, &path, Access::EXEC_OK, AtFlags::EACCESS)
        .os(|| format!("access({what}, X_OK)"))?;
    Ok(version)
}

/// Looks for the note in the program headers of elf(5).
mod elf {
    use super::*;
    use std::io;

    const HEADER: usize = 64;
    const PROGRAM_HEADER: usize = 56;
    /// No executable of a Rust program has more.
    const MAX_PROGRAM_HEADERS: u16 = 256;
    /// The notes of a program have some hundred bytes.
    const MAX_NOTES: u64 = 1 << 16;
    const PT_LOAD: u32 = 1;
    const PT_NOTE: u32 = 4;

    /// The version in the note of this crate. Fails with `ENOEXEC` for what is no whole 64-bit ELF file.
    pub(super) fn version(file: &File) -> io::Result<Option<Vec<u8>>> {
        let no_program = || io::Error::from_raw_os_error(libc::ENOEXEC);
        let read = |length: usize, at: u64| {
            let mut bytes = vec![0; length];
            match file.read_exact_at(&mut bytes, at) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(no_program()),
                done => done.map(|()| bytes),
            }
        };
        let header = read(HEADER, 0)?;
        let (table, entry, count) = (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56));
        let is_elf = header[..5] == *b"\x7fELF\x02" && usize::from(entry) == PROGRAM_HEADER;
        if !is_elf || count > MAX_PROGRAM_HEADERS {
            return Err(no_program());
        }
        let size = file.metadata()?.len();
        let mut version = None;
        for header in read(PROGRAM_HEADER * usize::from(count), table)?.chunks_exact(PROGRAM_HEADER) {
            let (kind, at, length) = (u32_at(header, 0), u64_at(header, 8), u64_at(header, 32));
            // The kernel would execute a file that was cut, and kill it when it reaches what is missing.
            if kind == PT_LOAD && at.checked_add(length).is_none_or(|end| end > size) {
                return Err(no_program());
            }
            if kind == PT_NOTE && length <= MAX_NOTES && version.is_none() {
                version = in_notes(&read(usize::try_from(length).unwrap_or_default(), at)?);
            }
        }
        Ok(version)
    }

    /// Goes through notes: the sizes of name and description, a type, then name and description, each filled up to a multiple
    /// of four.
    fn in_notes(mut notes: &[u8]) -> Option<Vec<u8>> {
        while notes.len() >= 12 {
            let [name, description] =
                [0, 4].map(|at| usize::try_from(u32_at(notes, at)).unwrap_or(usize::MAX));
            let kind = u32_at(notes, 8);
            let (found, rest) = notes[12..].split_at_checked(name.checked_next_multiple_of(4)?)?;
            let (bytes, rest) = rest.split_at_checked(description.checked_next_multiple_of(4)?)?;
            if found == NOTE_NAME && kind == NOTE_KIND && description == NOTE_BYTES {
                let version = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
                return Some(version.to_vec());
            }
            notes = rest;
        }
        None
    }

    fn u16_at(bytes: &[u8], at: usize) -> u16 {
        u16::from_ne_bytes([bytes[at], bytes[at + 1]])
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes make a u32"))
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes make a u64"))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn this_program_has_the_note_and_a_foreign_one_has_not() {
            let of = |path: &str| version(&File::open(path).unwrap()).unwrap();
            assert_eq!(of("/proc/self/exe").as_deref(), Some(VERSION));
            assert_eq!(of("/bin/sh"), None);
        }

        #[test]
        fn notes_of_any_sizes_are_read_to_their_end() {
            let mut notes = [u32::MAX, 7, 1].map(u32::to_ne_bytes).concat();
            assert_eq!(in_notes(&notes), None);
            notes.splice(0..4, 3_u32.to_ne_bytes());
            notes.extend(b"GNU\0seven..\0");
            assert_eq!(in_notes(&notes), None);
            notes.extend([12, 32, NOTE_KIND].map(u32::to_ne_bytes).concat());
            notes.extend(NOTE_NAME);
            notes.extend(*b"1.2.3\0\0\0");
            assert_eq!(in_notes(&notes), None);
            notes.extend([0; 24]);
            assert_eq!(in_notes(&notes).as_deref(), Some(b"1.2.3".as_slice()));
        }
    }
}
