//! The files of the program: what it takes to execute it where the host's files are out of reach.
//!
//! CRIU may be one static file, a program with a loader and libraries, or a script that starts another program. So nothing
//! here reads or guesses how it is built: a running one is looked at (proc_pid_maps(5)).

use super::messages::{Request, RequestType};
use super::program::{Criu, unsuitable};
use super::worker::{Answer, Worker};
use crate::error::{Error, OsContext, Result};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// It has answered once when its files are looked at; the host may be very busy.
const LIMIT: Duration = Duration::from_secs(60);
/// `AT_BASE` of getauxval(3): where the loader is that the kernel mapped with the program.
const AT_BASE: usize = 7;
/// The most directories with libraries.
const MAX_DIRECTORIES: usize = 64;

/// What to execute, by paths of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProgramFiles {
    /// The dynamic loader, which starts the program.
    pub(crate) loader: Option<PathBuf>,
    pub(crate) program: PathBuf,
    /// The directories of its libraries.
    pub(crate) libraries: Vec<PathBuf>,
}

impl Criu {
    /// The files of this CRIU. Starts it for that.
    pub(crate) fn files(&self) -> Result<ProgramFiles> {
        let refused = |problem: &str| Error::unsupported("criu", format!("{:?}: {problem}", self.path()));
        let worker = Worker::start(self.path()).map_err(|error| unsuitable(self.path(), &error))?;
        let request = Request { keep_open: Some(true), ..Request::of(RequestType::Version, None) };
        let answer = worker.ask(&request, Instant::now() + LIMIT);
        match answer.map_err(|error| unsuitable(self.path(), &error))? {
            Answer::Response(response) if response.success => {}
            _ => return Err(refused("it does not say its version")),
        }
        let file = |name: &str| {
            let path = format!("/proc/{}/{name}", worker.pid());
            std::fs::read(&path).os(|| format!("read({path:?})"))
        };
        let link = format!("/proc/{}/exe", worker.pid());
        let executed = std::fs::read_link(&link).os(|| format!("readlink({link:?})"))?;
        let (maps, auxv, arguments) = (file("maps")?, file("auxv")?, file("cmdline")?);
        read(&executed, &maps, &auxv, &arguments)
            .ok_or_else(|| refused("its files cannot be told from /proc/PID/maps"))
    }
}

/// The files of a process that executed `executed` for `.. swrk 0`, from its files in proc.
fn read(executed: &Path, maps: &[u8], auxv: &[u8], arguments: &[u8]) -> Option<ProgramFiles> {
    let mappings: Vec<(usize, &Path)> = maps.split(|byte| *byte == b'\n').filter_map(mapping).collect();
    let files: BTreeSet<&Path> = mappings.iter().map(|(_, path)| *path).collect();
    let executed = *files.get(executed)?;
    let (loader, program) = match value_of(AT_BASE, auxv)? {
        0 if files.len() == 1 => (None, executed),
        // The kernel mapped no loader: what it executed is the loader, and the program is its argument.
        0 => {
            let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
            let command = arguments.iter().position(|argument| *argument == b"swrk")?;
            let named = Path::new(OsStr::from_bytes(arguments[..command].last()?));
            #[expect(
                clippy::disallowed_methods,
                reason = "compared with a path that the kernel shows, and not opened"
            )]
            let program = std::fs::canonicalize(named).ok()?;
            (Some(executed), *files.get(&*program)?)
        }
        base => (Some(mappings.iter().find(|(start, _)| *start == base)?.1), executed),
    };
    let libraries = files.iter().filter(|path| Some(**path) != loader && **path != program);
    let directories: BTreeSet<&Path> = libraries.filter_map(|path| path.parent()).collect();
    (directories.len() <= MAX_DIRECTORIES).then(|| ProgramFiles {
        loader: loader.map(Path::to_owned),
        program: program.to_owned(),
        libraries: directories.into_iter().map(Path::to_owned).collect(),
    })
}

/// Where a file is mapped, and its path. Not for anonymous memory, and not for a file that is gone.
fn mapping(line: &[u8]) -> Option<(usize, &Path)> {
    let start = line.split(|byte| *byte == b'-').next()?;
    let start = usize::from_str_radix(std::str::from_utf8(start).ok()?, 16).ok()?;
    let path = &line[line.iter().position(|byte| *byte == b'/')?..];
    (!path.ends_with(b" (deleted)")).then(|| (start, Path::new(OsStr::from_bytes(path))))
}

/// The value of the auxiliary vector under this key (getauxval(3)); 0 without one.
fn value_of(key: usize, auxv: &[u8]) -> Option<usize> {
    const WORD: usize = size_of::<usize>();
    let word = |bytes: &[u8]| Some(usize::from_ne_bytes(bytes.try_into().ok()?));
    for pair in auxv.chunks_exact(2 * WORD) {
        if word(&pair[..WORD])? == key {
            return word(&pair[WORD..]);
        }
    }
    Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] = b"55d000-55e000 r--p 00000000 08:01 11 /bin/criu\n\
        7f2000-7f3000 r-xp 00000000 08:01 12 /lib/ld.so\n\
        7f4000-7f5000 r--p 00000000 08:01 13 /lib/libc.so.6\n\
        7f6000-7f7000 r--p 00000000 08:01 14 /opt/a b/libnl.so\n\
        7f8000-7f9000 rw-p 00000000 00:00 0 [heap]\n\
        7fa000-7fb000 rw-p 00000000 00:00 0 \n";

    fn auxv(base: usize) -> Vec<u8> {
        [3, 64, AT_BASE, base, 0, 0].iter().flat_map(|word: &usize| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_program_has_the_loader_that_the_kernel_mapped_and_the_directories_of_its_libraries() {
        let files = read(Path::new("/bin/criu"), MAPS, &auxv(0x7f2000), b"criu\0swrk\x000\0").unwrap();
        assert_eq!((files.loader, files.program), (Some("/lib/ld.so".into()), "/bin/criu".into()));
        assert_eq!(files.libraries, [Path::new("/lib"), Path::new("/opt/a b")]);
    }

    #[test]
    fn a_static_program_needs_nothing_else_and_an_unknown_one_is_none() {
        let maps = MAPS.split(|byte| *byte == b'\n').next().unwrap();
        let files = read(Path::new("/bin/criu"), maps, &auxv(0), b"criu\0swrk\x000\0").unwrap();
        assert_eq!((files.loader, files.libraries), (None, Vec::new()));
        assert_eq!(read(Path::new("/bin/other"), maps, &auxv(0), b"criu\0swrk\x000\0"), None);
        assert_eq!(read(Path::new("/bin/criu"), maps, &auxv(1), b"criu\0swrk\x000\0"), None);
    }

    #[test]
    fn a_file_that_is_gone_is_no_mapping() {
        assert_eq!(mapping(b"7f-80 r--p 0 08:01 11 /bin/criu (deleted)"), None);
    }
}
