//! The program that checkpoint and restore need: found, asked, or refused with the reason.

use crate::kit::process::{again, in_own_process};
use crate::kit::{self, is_root, skip, stage};
use cofferdam::checkpoint::{Criu, CriuVersion, Unsuitable};
use cofferdam::diagnosis::{Feature, HostReport};
use cofferdam::{Error, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Tells a test run again which directory is its `PATH`.
const ROLE: &str = "COFFERDAM_TEST_CRIU_DIR";

/// Answers a request for the version as CRIU 3.18 does: its standard input is the connection.
const OLD: &str = r"head -c 2 >/dev/null; printf '\010\012\020\001\122\004\010\003\020\022' >&0";

/// Answers with what is no protobuf.
const GARBAGE: &str = r"head -c 2 >/dev/null; printf '\377\377\377\377' >&0";

/// A program `criu` in `directory` that runs `script`.
#[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
fn program(directory: &Path, script: &str) -> PathBuf {
    let path = directory.join("criu");
    // The name of a whole file: another test's fork could still have one open that was written here.
    let new = directory.join("criu.new");
    std::fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::rename(new, &path).unwrap();
    path
}

#[test]
fn the_criu_of_the_tests_says_its_version_and_whether_it_fits_the_kernel() {
    let _stage = stage!();
    let path = match kit::criu::path() {
        Ok(path) => path,
        Err(reason) => skip!("{reason}"),
    };
    let criu = Criu::at(&path).unwrap();
    assert_eq!(criu.path(), path);
    assert!(criu.version() >= CriuVersion::OLDEST, "{criu:?}");
    match criu.check() {
        Ok(()) => assert!(is_root(), "without a privilege it cannot look"),
        Err(unsuitable @ Unsuitable::Kernel { .. }) => assert!(!is_root(), "{unsuitable}"),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_program_that_is_no_usable_criu_is_refused_by_the_reason() {
    let stage = stage!();
    let missing = stage.path().join("none");
    assert_eq!(Criu::at(&missing).unwrap_err(), Unsuitable::Absent { path: Some(missing) });

    let broken = |path: &Path| match Criu::at(path).unwrap_err() {
        Unsuitable::Broken { path: of, problem } => {
            assert_eq!(of, path);
            problem
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(broken(Path::new("/bin/true")), "it ended without an answer");
    assert!(broken(stage.path()).ends_with("EACCES: Permission denied"));
    let path = program(stage.path(), "echo 'no such request' >&2; exit 1");
    assert_eq!(broken(&path), "no such request");
    let path = program(stage.path(), GARBAGE);
    assert!(broken(&path).starts_with("criu: "), "{}", broken(&path));
    // Its interpreter is missing, not the program.
    let path = program(stage.path(), "");
    let text = std::fs::read_to_string(&path).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
    std::fs::write(&path, text.replace("/bin/sh", "/none/sh")).unwrap();
    assert!(broken(&path).contains("ENOENT"), "{}", broken(&path));
}

#[test]
fn an_old_criu_is_refused_by_its_version() {
    let stage = stage!();
    let path = program(stage.path(), OLD);
    let refused = Criu::at(&path).unwrap_err();
    let Unsuitable::TooOld { version, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((version.to_string().as_str(), CriuVersion::OLDEST.to_string().as_str()), ("3.18", "3.19"));
    let text = refused.to_string();
    let error = Error::from(refused);
    assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: "criu".into() });
    assert_eq!(error.to_string(), format!("criu: {text} (install CRIU 3.19 or later)"));
    assert!(std::error::Error::source(&error).is_some_and(|source| source.is::<Unsuitable>()));
}

/// The search needs a `PATH` of its own, which only another process can have.
#[test]
fn a_program_is_found_in_path_and_the_report_says_what_find_says() {
    if let Some(directory) = std::env::var_os(ROLE).map(PathBuf::from) {
        let refused = Criu::find().unwrap_err();
        assert!(
            matches!(&refused, Unsuitable::TooOld { path, .. } if *path == directory.join("criu")),
            "{refused:?}"
        );
        let report = HostReport::probe();
        let missing = report.missing(Feature::Criu).expect("it is too old");
        assert_eq!((&missing.cause, &missing.remedy), (&refused.to_string(), &refused.remedy()));
        assert_eq!(report.can_run(), HostReport::probe().can_run());
        return;
    }
    if !in_own_process() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    program(directory.path(), OLD);
    // Neither a directory of that name nor a file that cannot be executed is a program.
    let (folder, plain) = (directory.path().join("a"), directory.path().join("b"));
    for dir in [&folder, &plain] {
        std::fs::create_dir(dir).unwrap();
    }
    std::fs::create_dir(folder.join("criu")).unwrap();
    std::fs::File::create(plain.join("criu")).unwrap();
    let dirs = [&folder, &plain, directory.path(), Path::new("/usr/bin"), Path::new("/bin")];
    let thread = std::thread::current();
    let output = again(thread.name().unwrap())
        .env("PATH", std::env::join_paths(dirs).unwrap())
        .env(ROLE, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
