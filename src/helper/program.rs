//! [`Helper`]: another program than this one for the helpers to execute, and the proof that it is one.

use super::spawn::{self, Start};
use super::{Donations, Received, image};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::process::channel::wait_readable_until;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `argv[0]` of a program that is asked whether it is a helper.
pub(super) const CHECK: &str = "cofferdam-check";

/// What a helper answers: a program that was built from another version could take a plan for another.
const VERSION: &[u8] = concat!("cofferdam-helper ", env!("CARGO_PKG_VERSION")).as_bytes();

/// How long the answer may take. It is the program's first step, but the host may be very busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

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
/// (`x86_64-unknown-linux-gnu` works, too, and takes a little longer to start.) Install it once, at the start of the
/// program:
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
/// With it, this crate need not be linked into the main executable: it works in a shared library that another program
/// loads, such as an extension of Python.
///
/// A helper has every power over the containers that it serves, as this program has. So no other user may be able to write
/// to its file. Replace it by renaming, as package managers do, and never write to it: a process that installed the file
/// goes on with what it was.
#[derive(Clone, Debug)]
pub struct Helper(Arc<OwnedFd>);

impl Helper {
    /// The program in the file at `path`.
    ///
    /// Asks the program which version it is of, by executing it once: some milliseconds.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is not the `cofferdam-helper` of this version of the crate, or another program that
    /// is linked with it; else the errno with which the file could not be opened or executed.
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

    fn of(image: OwnedFd, what: &str) -> Result<Self> {
        let version = ask(image.as_fd())?;
        if version != VERSION {
            let problem = match version.strip_prefix(b"cofferdam-helper ") {
                Some(other) => format!(
                    "{what} is of version {}, and this is {}",
                    String::from_utf8_lossy(other),
                    env!("CARGO_PKG_VERSION")
                ),
                None => format!("{what} is no cofferdam-helper"),
            };
            return Err(Error::new(ErrorKind::InvalidInput, "helper", problem));
        }
        Ok(Self(Arc::new(image)))
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

/// Executes `image` to learn its version. The answer of a program that is no helper is empty, or anything.
fn ask(image: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let (answer, theirs) = pipe_with(PipeFlags::CLOEXEC).os(|| "pipe2()")?;
    let mut donations = Donations::default();
    donations.give("answer", &theirs);
    let start = Start::of(CHECK);
    let child = spawn::execute(image, &start, &donations)?;
    drop(donations);
    drop(theirs);
    let mut bytes = [0; 64];
    let readable = wait_readable_until(answer.as_fd(), Some(Instant::now() + ANSWER_LIMIT));
    let read = match readable {
        Ok(true) => rustix::io::read(&answer, &mut bytes).unwrap_or(0),
        _ => 0,
    };
    child.destroy();
    Ok(bytes[..read].to_vec())
}

/// The other side of [`ask`].
pub(super) fn answer(mut donated: Received) {
    if let Ok(answer) = donated.take("answer") {
        let _ = rustix::io::write(&answer, VERSION);
    }
}
