//! `root`, `mounts`, and the paths that are masked or read-only.

use crate::report::{Facts, Report, list, texts};
use rustix::fs::{OFlags, StatVfsMountFlags, lstat, statvfs};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A line of mountinfo, see proc_pid_mountinfo(5).
struct Mount {
    id: String,
    /// The mount that it is on.
    parent: String,
    at: String,
    /// Of this mount.
    options: Vec<String>,
    /// How it propagates; empty if it does not.
    optional: String,
    kind: String,
    source: String,
    /// Of the file system.
    super_options: Vec<String>,
}

fn table() -> Vec<Mount> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.splitn(7, ' ');
    let (id, parent) = (mount.next()?.to_owned(), mount.next()?.to_owned());
    let mut mount = mount.skip(2);
    let (at, options) = (unescape(mount.next()?), mount.next()?);
    let mut file_system = file_system.splitn(3, ' ');
    let words = |text: &str| text.split(',').map(str::to_owned).collect();
    Some(Mount {
        id,
        parent,
        at,
        options: words(options),
        optional: mount.next().unwrap_or_default().to_owned(),
        kind: file_system.next()?.to_owned(),
        source: unescape(file_system.next()?),
        super_options: words(file_system.next()?),
    })
}

/// Blanks, tabs, line feeds and backslashes are in octal.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

pub(crate) fn root(facts: &Facts, report: &mut Report) {
    let expected = facts.config["root"]["readonly"] == true;
    let file = "/.checker-writes";
    let written = OpenOptions::new().write(true).create_new(true).open(file);
    if written.is_ok() {
        let _ = std::fs::remove_file(file);
    }
    let is_read_only = matches!(&written, Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem);
    report.check(is_read_only == expected, || format!("with root.readonly {expected}: {written:?}"));
}

/// A private root and a slave of a private one look the same.
pub(crate) fn propagation(facts: &Facts, report: &mut Report) {
    let Some(expected) = facts.linux()["rootfsPropagation"].as_str() else { return };
    let table = table();
    let Some(root) = table.iter().rfind(|mount| mount.at == "/") else {
        return report.check(false, || "there is no mount at /".into());
    };
    let has = |what: &str| root.optional.contains(what);
    let found = (has("shared:"), has("unbindable"), has("master:"));
    let holds = match expected.trim_start_matches('r') {
        "shared" => has("shared:"),
        "unbindable" => has("unbindable") && !has("shared:"),
        "slave" => !has("shared:") && !has("unbindable"),
        _ => found == (false, false, false),
    };
    report.check(holds, || format!("{expected} is {:?}", root.optional));
}

fn options(mount: &Value) -> impl Iterator<Item = &str> {
    texts(&mount["options"])
}

fn is_bind(mount: &Value) -> bool {
    mount["type"] == "bind" || options(mount).any(|option| option == "bind" || option == "rbind")
}

/// "The runtime MUST mount entries in the listed order": each has what its entry says, and is on the last one before it
/// whose directory it is in. New file systems are in the table in the listed order too. Nothing else is mounted but what
/// other properties ask for.
pub(crate) fn mounts(facts: &Facts, report: &mut Report) {
    let table = table();
    let mut after = 0;
    // Those before, with whether each is a tree of the host's, which can have mounts of its own.
    let mut before: Vec<(&Mount, bool)> =
        table.iter().find(|mount| mount.at == "/").map(|root| (root, false)).into_iter().collect();
    for mount in list(&facts.config["mounts"]) {
        let destination = mount["destination"].as_str().unwrap_or_default().trim_end_matches('/');
        let is_it = |found: &Mount| {
            found.at == destination
                && !before.iter().any(|(other, _)| other.id == found.id)
                && (is_bind(mount) || mount["type"].as_str().is_none_or(|kind| kind == found.kind))
        };
        // A source may have been opened at any time.
        let in_order = table[after..].iter().position(is_it).map(|index| after + index);
        let found = in_order.or_else(|| table.iter().position(is_it));
        report.check(found.is_some(), || format!("{mount} is missing"));
        let Some(index) = found else { continue };
        let found = &table[index];
        if !is_bind(mount) {
            report
                .check(in_order.is_some(), || format!("{destination} comes before what is listed before it"));
            after = index + 1;
        }
        let below = before.iter().rfind(|(other, _)| Path::new(destination).starts_with(&other.at));
        if let Some((below, is_tree)) = below {
            report.check(*is_tree || found.parent == below.id, || {
                format!("{destination} is not on {}, which is listed before it", below.at)
            });
        }
        before.push((found, is_bind(mount)));
        if is_bind(mount) {
            bind(facts, report, destination, found, mount);
        } else {
            file_system(facts, report, destination, found, mount);
        }
    }
    others(facts, report, &table);
}

fn bind(facts: &Facts, report: &mut Report, at: &str, found: &Mount, mount: &Value) {
    if let Some(expected) = facts.host["binds"][at].as_array() {
        let expected: Vec<_> = expected.iter().filter_map(Value::as_u64).collect();
        let stat = lstat(at).map(|stat| vec![stat.st_dev, stat.st_ino]).unwrap_or_default();
        report.same(&format!("the file at {at}"), &expected, &stat);
    }
    // What the source's mount has besides stays.
    for flag in options(mount).filter_map(|option| flag_of(option)) {
        report.check(found.options.iter().any(|other| other == flag), || {
            format!("{at} has {:?}, without {flag}", found.options)
        });
    }
}

/// What mountinfo calls an option of a mount's own; also one that says it for all below (1.1).
fn flag_of(option: &str) -> Option<&str> {
    let flags = ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "nosymfollow"];
    let option = option.strip_prefix('r').filter(|option| flags.contains(option)).unwrap_or(option);
    flags.contains(&option).then_some(option)
}

fn file_system(facts: &Facts, report: &mut Report, at: &str, found: &Mount, mount: &Value) {
    if let Some(source) = mount["source"].as_str() {
        report.same(&format!("the source of {at}"), &source.to_owned(), &found.source);
    }
    let mut flags: BTreeSet<&str> = options(mount).filter_map(flag_of).collect();
    if !flags.contains("ro") {
        flags.insert("rw");
    }
    let is_atime = |option: &str| ["noatime", "strictatime", "relatime"].contains(&option);
    // Since Linux 2.6.30.
    if !options(mount).any(is_atime) {
        flags.insert("relatime");
    }
    let has: BTreeSet<&str> = found.options.iter().map(String::as_str).collect();
    // Below a user namespace the kernel keeps the flags that the host's mounts of this type have.
    let holds = if facts.has_user_namespace { flags.is_subset(&has) } else { flags == has };
    report.check(holds, || format!("{at} has {has:?}, not {flags:?}"));
    for option in options(mount) {
        let Some((key, value)) = option.split_once('=') else { continue };
        // The kernel shows ids as the host has them.
        if facts.has_user_namespace && (key == "uid" || key == "gid") {
            continue;
        }
        let shown = found.super_options.iter().find_map(|other| other.strip_prefix(key)?.strip_prefix('='));
        let (value, shown) = (meaning(key, value), shown.map(|shown| meaning(key, shown)));
        // A directory's usual mode is not shown.
        let shown = shown.or_else(|| (key == "mode").then(|| "1777".to_owned()));
        report.same(&format!("{key} of {at}"), &Some(value), &shown);
    }
}

/// Of an option's value, so that two ways to write it are the same: modes, and sizes in whole pages.
fn meaning(key: &str, value: &str) -> String {
    match key {
        "mode" | "ptmxmode" => value.trim_start_matches('0').to_owned(),
        "size" => {
            let (number, unit) =
                value.split_at(value.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(value.len()));
            let shift = match unit.to_ascii_lowercase().as_str() {
                "k" => 10,
                "m" => 20,
                "g" => 30,
                _ => 0,
            };
            let page = rustix::param::page_size() as u64;
            let bytes = number.parse::<u64>().unwrap_or_default() << shift;
            bytes.next_multiple_of(page).to_string()
        }
        _ => value.to_owned(),
    }
}

/// What no property asks for.
fn others(facts: &Facts, report: &mut Report, table: &[Mount]) {
    let linux = facts.linux();
    let mounts = || list(&facts.config["mounts"]);
    let trees: Vec<&str> = mounts()
        .filter(|mount| {
            is_bind(mount) || mount["type"].as_str().is_some_and(|kind| kind.starts_with("cgroup"))
        })
        .filter_map(|mount| mount["destination"].as_str())
        .collect();
    let mut known: BTreeSet<&str> = mounts().filter_map(|mount| mount["destination"].as_str()).collect();
    known.extend(texts(&linux["maskedPaths"]).chain(texts(&linux["readonlyPaths"])));
    known.extend(list(&linux["devices"]).filter_map(|device| device["path"].as_str()));
    known.extend(texts(&facts.host["mounts"]));
    known.extend(["/", "/dev/console", "/dev/ptmx"]);
    known.extend(crate::devices::DEFAULT.iter().map(|device| device.0));
    for mount in table {
        let is_below = |tree: &str| mount.at.strip_prefix(tree).is_some_and(|rest| rest.starts_with('/'));
        report.check(known.contains(mount.at.as_str()) || trees.iter().any(|tree| is_below(tree)), || {
            format!("{} {} at {} is in no list", mount.kind, mount.source, mount.at)
        });
    }
}

/// "so that they cannot be read": a file has nothing in it, or is not opened, and a directory has no entries.
pub(crate) fn masked_paths(facts: &Facts, report: &mut Report) {
    for path in texts(&facts.linux()["maskedPaths"]) {
        let Ok(metadata) = std::fs::metadata(path) else { continue };
        let read = if metadata.is_dir() {
            std::fs::read_dir(path).map_or(0, Iterator::count)
        } else {
            // Opening a FIFO would wait for its other end.
            let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
            let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
            file.and_then(|mut file: File| file.read(&mut [0])).unwrap_or(0)
        };
        report.check(read == 0, || format!("{path} can be read"));
    }
}

/// "readonly": nothing is created in a directory, and no file is opened to be written. What a device or a FIFO is given
/// is not written to a file system, so there the mount itself has to say it.
pub(crate) fn readonly_paths(facts: &Facts, report: &mut Report) {
    for path in texts(&facts.linux()["readonlyPaths"]) {
        let Ok(metadata) = std::fs::metadata(path) else { continue };
        let flags = statvfs(path).map(|found| found.f_flag).unwrap_or(StatVfsMountFlags::empty());
        report.check(flags.contains(StatVfsMountFlags::RDONLY), || {
            format!("{path} is not on a read-only mount")
        });
        let file = if metadata.is_dir() {
            Path::new(path).join(".checker-writes")
        } else if metadata.is_file() {
            path.into()
        } else {
            continue;
        };
        let written = OpenOptions::new().write(true).create(metadata.is_dir()).truncate(false).open(file);
        report.check(written.is_err(), || format!("{path} can be written to"));
    }
}
