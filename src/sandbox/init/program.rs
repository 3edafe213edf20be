//! Finding the program: at create, inside the container's root, so that "not found" is create's error and start
//! executes the very path that was found.

use super::accounts;
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::plan::{ProcessPlan, relative_to_root};
use crate::sandbox::resolve;
use crate::spec::{CapSet, User};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::borrow::Cow;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The search path if the environment has no `PATH`, as for the shell and execvp(3).
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The path and environment for execve(2).
#[derive(Debug)]
pub(in crate::sandbox) struct Program {
    pub(in crate::sandbox) path: CString,
    pub(in crate::sandbox) environment: Vec<CString>,
}

/// Why a candidate is not the program.
enum Refusal {
    Missing,
    NotExecutable,
}

/// Finds the program `instead`, or else `argv[0]`, as execvp(3) would, but inside the container's root. Engines know these
/// messages.
pub(in crate::sandbox) fn find(plan: &ProcessPlan, instead: Option<&str>) -> Result<Program> {
    let name = match instead {
        Some(name) => Cow::Owned(CString::new(name).unwrap_or_default()),
        None => Cow::Borrowed(plan.argv.first().map(CString::as_c_str).unwrap_or_default()),
    };
    let root =
        rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).os(|| "open(\"/\", O_PATH)")?;
    let step = format!("exec: {:?}", name.to_string_lossy());
    let not_executable = || Error::new(ErrorKind::ProgramNotExecutable, step.clone(), "permission denied");
    if name.to_bytes().contains(&b'/') {
        let path = plan.cwd.join(OsStr::from_bytes(name.to_bytes()));
        return match candidate(&root, &path, plan) {
            Ok(()) => program(plan, path),
            Err(Refusal::NotExecutable) => Err(not_executable()),
            Err(Refusal::Missing) => {
                let problem = format!("stat {}: no such file or directory", path.display());
                Err(Error::new(ErrorKind::ProgramNotFound, step.clone(), problem))
            }
        };
    }
    let mut seen_not_executable = false;
    for directory in search_path(&plan.envp).split(|byte| *byte == b':') {
        let path = plan.cwd.join(OsStr::from_bytes(directory)).join(OsStr::from_bytes(name.to_bytes()));
        match candidate(&root, &path, plan) {
            Ok(()) => return program(plan, path),
            Err(Refusal::NotExecutable) => seen_not_executable = true,
            Err(Refusal::Missing) => {}
        }
    }
    if seen_not_executable {
        return Err(not_executable());
    }
    Err(Error::new(ErrorKind::ProgramNotFound, step, "executable file not found in $PATH"))
}

fn program(plan: &ProcessPlan, path: PathBuf) -> Result<Program> {
    let path = CString::new(path.into_os_string().into_vec()).map_err(|_| {
        Error::new(ErrorKind::InvalidSpec { path: "process.args[0]".into() }, "exec", "contains a NUL")
    })?;
    Ok(Program { path, environment: environment(plan)? })
}

fn search_path(env: &[CString]) -> &[u8] {
    env.iter().find_map(|entry| entry.to_bytes().strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH)
}

/// The workload's environment: the configuration's, and a `HOME` if it has none or an empty one: the home directory in
/// the image's `/etc/passwd`, or `/`.
fn environment(plan: &ProcessPlan) -> Result<Vec<CString>> {
    let mut environment = plan.envp.clone();
    environment.retain(|entry| entry.to_bytes() != b"HOME=");
    if !environment.iter().any(|entry| entry.to_bytes().starts_with(b"HOME=")) {
        let home = accounts::home_of(plan.user.uid)?.unwrap_or_else(|| b"/".to_vec());
        environment.extend(CString::new([b"HOME=".as_slice(), &home].concat()));
    }
    Ok(environment)
}

/// Whether `path` is a regular file that the process may execute. Directories are skipped, as a shell does.
fn candidate(root: &OwnedFd, path: &Path, plan: &ProcessPlan) -> Result<(), Refusal> {
    let found = match resolve::open(root.as_fd(), &relative_to_root_keeping_parents(path)) {
        Ok(found) => found,
        Err(Errno::ACCESS) => return Err(Refusal::NotExecutable),
        Err(_) => return Err(Refusal::Missing),
    };
    let stat = rustix::fs::fstat(found.as_fd()).map_err(|_| Refusal::Missing)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile
            if may_execute(stat.st_mode, (stat.st_uid, stat.st_gid), plan, found.as_fd()) =>
        {
            Ok(())
        }
        _ => Err(Refusal::NotExecutable),
    }
}

fn may_execute(mode: u32, owner: (u32, u32), plan: &ProcessPlan, file: BorrowedFd<'_>) -> bool {
    let no_exec = rustix::fs::fstatvfs(file).is_ok_and(|fs| fs.f_flag.bits() & libc::ST_NOEXEC != 0);
    !no_exec && mode & execute_bits(owner, &plan.user, plan.capabilities.effective) != 0
}

/// Any of these bits lets a process execute a file of `owner`. Whether the kernel agrees shows at execve.
fn execute_bits((uid, gid): (u32, u32), user: &User, effective: CapSet) -> u32 {
    // The superuser, or any process with this capability, needs any one of the bits (path_resolution(7)).
    if user.uid == 0 || effective.contains(CapSet::DAC_OVERRIDE) {
        0o111
    } else if user.uid == uid {
        0o100
    } else if user.gid == gid || user.additional_gids.contains(&gid) {
        0o010
    } else {
        0o001
    }
}

/// Keeps `..`: only the kernel knows where it leads after symlinks.
fn relative_to_root_keeping_parents(path: &Path) -> PathBuf {
    match path.strip_prefix("/") {
        Ok(relative) if relative.components().any(|c| c == std::path::Component::ParentDir) => {
            relative.to_owned()
        }
        _ => relative_to_root(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32, gid: u32) -> User {
        User { uid, gid, ..User::default() }
    }

    #[test]
    fn the_permission_bits_of_the_right_class_decide() {
        let check = |mode, owner, user: &User| mode & execute_bits(owner, user, CapSet::empty()) != 0;
        assert!(check(0o100, (7, 7), &user(7, 1)));
        assert!(!check(0o011, (7, 7), &user(7, 7)), "the owner's bit decides for the owner");
        assert!(check(0o010, (7, 8), &user(1, 8)));
        assert!(!check(0o101, (7, 8), &user(1, 8)), "the group's bit decides for the group");
        assert!(check(0o001, (7, 8), &user(1, 1)));
        assert!(check(0o010, (7, 8), &user(0, 0)), "any bit will do for root");
        assert!(!check(0o644, (0, 0), &user(0, 0)));
        let capable = |mode| mode & execute_bits((0, 0), &user(7, 7), CapSet::DAC_OVERRIDE) != 0;
        assert!(capable(0o744) && !capable(0o666), "any bit will do for the capability");
    }

    #[test]
    fn the_search_path_is_the_containers() {
        let env = [CString::new("A=b").unwrap(), CString::new("PATH=/x:/y").unwrap()];
        assert_eq!(search_path(&env), b"/x:/y");
        assert_eq!(search_path(&[]), DEFAULT_PATH);
    }
}
