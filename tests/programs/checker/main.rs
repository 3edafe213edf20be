//! The program that every conformance case runs first inside its container. It compares all it finds there with
//! `config.json`, writes one line about it to standard output, and then executes the case's own program:
//!
//! ```text
//! checker DIRECTORY PROGRAM ARGUMENT...
//! ```
//!
//! `DIRECTORY` has `config.json`, and `host.json` with what only the host can know (see `Facts`). The program uses nothing
//! of the crate under test, so that a mistake of the crate's cannot hide itself.

#![expect(clippy::print_stderr, reason = "the last words of a program that cannot go on")]
#![expect(clippy::disallowed_methods, reason = "a test program that becomes the case's own")]

mod devices;
mod mounts;
mod process;
mod report;
mod seccomp;

use report::{Facts, Report};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// A comparison.
type Compare = fn(&Facts, &mut Report);

/// What is compared, by the names that a report begins its lines with.
const SUBJECTS: &[(&str, Compare)] = &[
    ("args", process::args),
    ("env", process::env),
    ("cwd", process::cwd),
    ("user", process::user),
    ("umask", process::umask),
    ("rlimits", process::rlimits),
    ("capabilities", process::capabilities),
    ("noNewPrivileges", process::no_new_privileges),
    ("oomScoreAdj", process::oom_score_adj),
    ("labels", process::labels),
    ("descriptors", process::descriptors),
    ("namespaces", process::namespaces),
    ("mappings", process::mappings),
    ("names", process::names),
    ("sysctl", process::sysctl),
    ("root", mounts::root),
    ("propagation", mounts::propagation),
    ("mounts", mounts::mounts),
    ("maskedPaths", mounts::masked_paths),
    ("readonlyPaths", mounts::readonly_paths),
    ("devices", devices::listed),
    ("default devices", devices::default_devices),
    ("default links", devices::default_links),
    ("seccomp", seccomp::seccomp),
];

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(directory), Some(program)) = (args.next(), args.next()) else {
        eprintln!("checker: a directory and a program are needed");
        return ExitCode::from(125);
    };
    let facts = Facts::read(&PathBuf::from(directory));
    let mut report = Report::default();
    for (subject, compare) in SUBJECTS {
        report.begin(subject);
        compare(&facts, &mut report);
    }
    let mut stdout = std::io::stdout();
    if let Err(error) = stdout.write_all(report.line().as_bytes()).and_then(|()| stdout.flush()) {
        eprintln!("checker: standard output: {error}");
        return ExitCode::from(125);
    }
    let error = Command::new(&program).args(args.collect::<Vec<OsString>>()).exec();
    eprintln!("checker: {}: {error}", program.display());
    ExitCode::from(127)
}
