//! The devices, those that the configuration lists and those that every container has.

use crate::report::{Facts, Report, list};
use rustix::fs::{FileType, Stat, lstat, major, minor};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;

/// Supplied "in addition to the devices configured with this setting": path, major and minor number.
pub(crate) const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

fn kind(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => "c",
        FileType::BlockDevice => "b",
        FileType::Fifo => "p",
        _ => "no device",
    }
}

pub(crate) fn listed(facts: &Facts, report: &mut Report) {
    for device in list(&facts.linux()["devices"]) {
        let path = device["path"].as_str().unwrap_or_default();
        let stat = match lstat(path) {
            Ok(stat) => stat,
            Err(error) => {
                report.check(false, || format!("{path}: {error}"));
                continue;
            }
        };
        let expected = device["type"].as_str().unwrap_or_default();
        let expected = if expected == "u" { "c" } else { expected };
        report.same(&format!("the type of {path}"), &expected, &kind(&stat));
        if expected != "p" {
            let found = (major(stat.st_rdev), minor(stat.st_rdev));
            let number = |name: &str| device[name].as_u64().and_then(|number| u32::try_from(number).ok());
            let expected = (number("major").unwrap_or_default(), number("minor").unwrap_or_default());
            report.same(&format!("the number of {path}"), &expected, &found);
        }
        // In a user namespace mknod(2) makes none: they are the host's, bound, and so are their owners and modes.
        if facts.has_user_namespace {
            continue;
        }
        let found = [("fileMode", stat.st_mode & 0o7777), ("uid", stat.st_uid), ("gid", stat.st_gid)];
        for (name, found) in found {
            // Of a mode with a type in it only the permissions count.
            let bits = if name == "fileMode" { 0o7777 } else { u64::MAX };
            if let Some(expected) = device[name].as_u64().map(|value| value & bits) {
                report.same(&format!("{name} of {path}"), &expected, &u64::from(found));
            }
        }
    }
}

/// They are there, and their one use is allowed whatever the rules for devices say.
pub(crate) fn default_devices(facts: &Facts, report: &mut Report) {
    for (path, first, second) in DEFAULT {
        let found = lstat(path).map(|stat| (kind(&stat), major(stat.st_rdev), minor(stat.st_rdev)));
        report.same(path, &Ok(("c", first, second)), &found);
    }
    for (path, expected) in
        [("/dev/null", 0), ("/dev/zero", 1), ("/dev/full", 1), ("/dev/random", 1), ("/dev/urandom", 1)]
    {
        let mut byte = [0];
        let file = OpenOptions::new().read(true).write(true).open(path);
        let read = file.and_then(|mut file| file.read(&mut byte));
        report.check(matches!(read, Ok(count) if count == expected), || format!("{path}: {read:?}"));
    }
    if facts.process()["terminal"] == true {
        let found = lstat("/dev/console").map(|stat| kind(&stat));
        report.same("/dev/console", &Ok("c"), &found);
    }
    multiplexer(facts, report);
}

/// "A bind-mount or symlink of the container's /dev/pts/ptmx": a terminal that it opens is one of the container's.
fn multiplexer(facts: &Facts, report: &mut Report) {
    let is_mounted = |mount: &Value| mount["destination"] == "/dev/pts";
    if !list(&facts.config["mounts"]).any(is_mounted) {
        return;
    }
    use rustix::pty::{OpenptFlags, openpt, ptsname};
    let opened = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY);
    let name = opened.and_then(|master| Ok((ptsname(&master, Vec::new())?, master)));
    match name {
        Ok((name, _master)) => {
            let name = name.to_string_lossy().into_owned();
            report.check(Path::new(&name).exists(), || format!("/dev/ptmx made {name}, which is not there"));
        }
        Err(error) => report.check(false, || format!("/dev/ptmx: {error}")),
    }
}

pub(crate) fn default_links(_: &Facts, report: &mut Report) {
    for (path, expected) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        let found = std::fs::read_link(path).map(|to| to.display().to_string()).map_err(|error| error.kind());
        report.same(path, &Ok(expected.to_owned()), &found);
    }
}
