//! [`Criu`]: which program it is, whether it fits, and why not.

use super::messages::{Options, Request, RequestType};
use super::worker::{Answer, Worker};
use crate::error::{Error, ErrorKind, Result};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Directories for programs of the administrator, where CRIU is installed. They are in no other user's `PATH`.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// The version is the program's first answer, but the host may be very busy.
const VERSION_LIMIT: Duration = Duration::from_secs(60);
/// A check tries out some dozens of the kernel's features.
const CHECK_LIMIT: Duration = Duration::from_secs(120);

/// CRIU, "checkpoint/restore in userspace": a program of the host that writes processes to files and makes them again.
///
/// It is an optional program, which this crate finds at run time; Debian's package is `criu`. `/etc/criu/default.conf`
/// changes its options for all its users, this crate among them.
///
/// ```no_run
/// use cofferdam::checkpoint::Criu;
///
/// # fn main() -> cofferdam::Result<()> {
/// let criu = Criu::find()?;
/// criu.check()?;
/// println!("CRIU {} in {}", criu.version(), criu.path().display());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Criu {
    path: PathBuf,
    version: CriuVersion,
}

impl Criu {
    /// The first program `criu` in the directories of `PATH`, or in those for programs of the administrator:
    /// `/usr/local/sbin`, `/usr/sbin`, `/sbin`.
    ///
    /// Asks it for its version, which takes some milliseconds and needs no privilege.
    ///
    /// # Errors
    /// [`Unsuitable`], which becomes an [`Error`](crate::Error) under `?`.
    pub fn find() -> Result<Self, Unsuitable> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let of_the_system = SYSTEM_DIRS.map(PathBuf::from);
        let mut dirs = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).chain(of_the_system);
        let program = dirs.find_map(|dir| Some(dir.join("criu")).filter(|program| is_program(program)));
        Self::at(program.ok_or(Unsuitable::Absent { path: None })?)
    }

    /// The program at `path`; a relative path is one in the directory that is the working directory now.
    ///
    /// Asks it for its version, as [`find`](Self::find) does.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn at(path: impl AsRef<Path>) -> Result<Self, Unsuitable> {
        let given = path.as_ref();
        let path = std::path::absolute(given).map_err(|_| Unsuitable::Absent { path: Some(given.into()) })?;
        let version = ask_version(&path, Instant::now() + VERSION_LIMIT)?;
        if version < CriuVersion::OLDEST {
            return Err(Unsuitable::TooOld { path, version });
        }
        Ok(Self { path, version })
    }

    /// The program's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> CriuVersion {
        self.version
    }

    /// Has CRIU try out whether this kernel has what it needs, with the rights of this process: as `criu check`.
    ///
    /// Takes about a tenth of a second. CRIU keeps what it learnt in `/run/criu.kdat`.
    ///
    /// # Errors
    /// [`Unsuitable::Kernel`] with what CRIU said, also for a caller whom the kernel does not let look.
    pub fn check(&self) -> Result<(), Unsuitable> {
        let options = Options {
            images_dir_fd: -1,
            // A link, as CRIU reads where it leads, to the directory that the worker started in.
            images_dir: Some("/proc/self/cwd".into()),
            log_level: Some(1),
            log_to_stderr: Some(true),
            ..Options::default()
        };
        let request = Request::of(RequestType::Check, Some(options));
        let refused = |said: String| Unsuitable::Kernel {
            version: self.version,
            problem: if said.is_empty() { "it does not say why".into() } else { said },
        };
        match ask(&self.path, &request, Instant::now() + CHECK_LIMIT)? {
            Answer::Response(response) if response.success => Ok(()),
            Answer::Response(response) => Err(refused(response.error.unwrap_or_default())),
            Answer::Hangup(said) => Err(refused(said)),
        }
    }
}

/// A version of CRIU. Later versions are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct CriuVersion {
    /// 4 in 4.1.1.
    pub major: u32,
    /// The first 1 in 4.1.1.
    pub minor: u32,
    /// The last 1 in 4.1.1; 0 if there is none.
    pub sublevel: u32,
}

impl CriuVersion {
    /// The oldest version that this crate takes: those before it restore a process without its no_new_privs. Linux 6.13
    /// and later need 4.1.1, which [`Criu::check`] finds out.
    pub const OLDEST: Self = Self { major: 3, minor: 19, sublevel: 0 };
}

/// `4.1.1`, or `3.19` if the last number is 0.
impl fmt::Display for CriuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.sublevel > 0 { write!(f, ".{}", self.sublevel) } else { Ok(()) }
    }
}

/// Why there is no CRIU that this crate can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsuitable {
    /// There is no such program.
    #[error("{}", absent(path.as_deref()))]
    Absent {
        /// Where it should have been; `None` if it was searched for.
        path: Option<PathBuf>,
    },
    /// The program does not do what CRIU does: it is another one, cannot be executed, or gives no answer.
    #[error("{path:?} is not a working CRIU: {problem}")]
    Broken {
        /// Its file.
        path: PathBuf,
        /// What it did, or what it said.
        problem: String,
    },
    /// Its version is older than [`CriuVersion::OLDEST`].
    #[error(
        "{path:?} is CRIU {version}, and {} is the oldest that restores no_new_privs",
        CriuVersion::OLDEST
    )]
    TooOld {
        /// Its file.
        path: PathBuf,
        /// Its version.
        version: CriuVersion,
    },
    /// CRIU lacks something of this kernel, or a right that it needs to look.
    #[error("CRIU {version} cannot work here: {problem}")]
    Kernel {
        /// Its version.
        version: CriuVersion,
        /// What it said.
        problem: String,
    },
}

impl Unsuitable {
    /// What a person can do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Absent { .. } | Self::Broken { .. } => "install the package criu".into(),
            Self::TooOld { .. } => format!("install CRIU {} or later", CriuVersion::OLDEST),
            Self::Kernel { .. } => "run `criu check -v4` as root, or install a newer CRIU".into(),
        }
    }
}

/// An error of kind [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), with this one as its source.
impl From<Unsuitable> for Error {
    fn from(unsuitable: Unsuitable) -> Self {
        let hint = unsuitable.remedy();
        Self::unsupported("criu", &unsuitable).hint(hint).because(unsuitable)
    }
}

fn absent(path: Option<&Path>) -> String {
    match path {
        Some(path) => format!("there is no program {path:?}"),
        None => format!("no program `criu` is in PATH, {}", SYSTEM_DIRS.join(", ")),
    }
}

fn is_program(path: &Path) -> bool {
    path.is_file() && accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

fn ask_version(path: &Path, deadline: Instant) -> Result<CriuVersion, Unsuitable> {
    let broken = |problem: String| Unsuitable::Broken { path: path.into(), problem };
    let request = Request::of(RequestType::Version, None);
    let response = match ask(path, &request, deadline)? {
        Answer::Response(response) => response,
        Answer::Hangup(said) if said.is_empty() => return Err(broken("it ended without an answer".into())),
        Answer::Hangup(said) => return Err(broken(said)),
    };
    let version = response.version.filter(|_| response.success && response.kind == request.kind);
    let version = version.ok_or_else(|| broken("its answer has no version".into()))?;
    let number = |number: i32| u32::try_from(number).map_err(|_| broken(format!("version {version:?}")));
    Ok(CriuVersion {
        major: number(version.major)?,
        minor: number(version.minor)?,
        sublevel: number(version.sublevel.unwrap_or(0))?,
    })
}

fn ask(path: &Path, request: &Request, deadline: Instant) -> Result<Answer, Unsuitable> {
    Worker::start(path)
        .and_then(|worker| worker.ask(request, deadline))
        .map_err(|error| unsuitable(path, &error))
}

/// What the failure to ask the program at `path` says about it.
pub(super) fn unsuitable(path: &Path, error: &Error) -> Unsuitable {
    match error.kind() {
        ErrorKind::Os(libc::ENOENT) if !path.exists() => Unsuitable::Absent { path: Some(path.into()) },
        ErrorKind::TimedOut => Unsuitable::Broken { path: path.into(), problem: "it gave no answer".into() },
        _ => Unsuitable::Broken { path: path.into(), problem: error.to_string() },
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write a program of their own")]
mod tests {
    use super::*;
    use crate::process::channel::wait_readable;
    use rustix::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_program_that_gives_no_answer_is_killed_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("criu");
        // Both shells write their numbers, and neither ends by itself.
        let script = "#!/bin/sh\ncd \"${0%/*}\"\nsh -c 'echo $$ >pids; exec sleep 1000' &\nwait\n";
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let refused = ask_version(&path, Instant::now() + Duration::from_millis(300)).unwrap_err();
        assert_eq!(refused, Unsuitable::Broken { path, problem: "it gave no answer".into() });
        let Ok(pid) = std::fs::read_to_string(dir.path().join("pids")) else {
            return crate::skip::note_skip("this host is too busy: the program did not start in time");
        };
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        // What is left of it is collected by another process, perhaps before this line.
        if let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            wait_readable(process.as_fd(), Instant::now() + Duration::from_secs(20)).unwrap();
        }
    }
}
