//! `process`, and what a process sees of itself: namespaces, names, kernel parameters.

use crate::report::{Facts, Report, list, texts};
use caps::Capability;
use rustix::process::{Resource, getrlimit};
use rustix::system::uname;
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStringExt;
use std::str::FromStr;

/// What this process was executed with: as `/proc` has it, since the standard library's lists are copies.
fn strings_of(file: &str) -> Vec<String> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let mut strings: Vec<_> =
        bytes.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    // Each ends with a zero.
    strings.pop();
    strings
}

pub(crate) fn args(facts: &Facts, report: &mut Report) {
    let expected: Vec<_> = texts(&facts.process()["args"]).map(str::to_owned).collect();
    report.same("process.args", &expected, &strings_of("/proc/self/cmdline"));
}

/// Of two entries with one name the later one counts. Runtimes add a HOME where there is none.
pub(crate) fn env(facts: &Facts, report: &mut Report) {
    let found = strings_of("/proc/self/environ");
    let name = |entry: &str| entry.split_once('=').map_or(entry, |(name, _)| name).to_owned();
    let expected: Vec<_> = texts(&facts.process()["env"]).collect();
    for (index, entry) in expected.iter().enumerate() {
        if expected[index + 1..].iter().any(|later| name(later) == name(entry)) {
            continue;
        }
        let is_home = *entry == "HOME=";
        report.check(is_home || found.iter().any(|other| other == entry), || {
            format!("{entry:?} is not in {found:?}")
        });
    }
    let names: BTreeSet<_> = expected.iter().map(|entry| name(entry)).collect();
    for entry in &found {
        let is_listed = names.contains(&name(entry)) || name(entry) == "HOME";
        report.check(is_listed, || format!("{entry:?} is in none of process.env"));
    }
}

pub(crate) fn cwd(facts: &Facts, report: &mut Report) {
    // Not getcwd(2), which a filter may refuse.
    let found = std::fs::read_link("/proc/self/cwd").map(|path| path.display().to_string());
    let expected = facts.process()["cwd"].as_str().unwrap_or_default().to_owned();
    report.same("process.cwd", &expected, &found.unwrap_or_default());
}

fn id(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

pub(crate) fn user(facts: &Facts, report: &mut Report) {
    let user = &facts.process()["user"];
    for (name, line) in [("uid", "Uid"), ("gid", "Gid")] {
        let expected = id(&user[name]);
        // Real, effective, saved, and that of the file system.
        let expected = [expected; 4].map(|id| id.to_string()).join(" ");
        report.same(&format!("process.user.{name}"), &expected, &facts.status(line));
    }
    if facts.has_user_namespace && user["additionalGids"].is_null() {
        // Where setgroups(2) is denied, the caller's stay.
        return;
    }
    let found = facts.status("Groups");
    let mut found: BTreeSet<u64> = found.split(' ').filter_map(|group| group.parse().ok()).collect();
    let expected: BTreeSet<u64> = list(&user["additionalGids"]).map(id).collect();
    // Whether the primary one is among them is not specified.
    if !expected.contains(&id(&user["gid"])) {
        found.remove(&id(&user["gid"]));
    }
    report.same("process.user.additionalGids", &expected, &found);
}

pub(crate) fn umask(facts: &Facts, report: &mut Report) {
    let expected = facts.process()["user"]["umask"].as_u64().unwrap_or(0o22);
    report.same("process.user.umask", &format!("{expected:04o}"), &facts.status("Umask"));
}

/// The names, and what getrlimit(2) calls them.
fn resource(name: &str) -> Option<Resource> {
    Some(match name.strip_prefix("RLIMIT_")? {
        "AS" => Resource::As,
        "CORE" => Resource::Core,
        "CPU" => Resource::Cpu,
        "DATA" => Resource::Data,
        "FSIZE" => Resource::Fsize,
        "LOCKS" => Resource::Locks,
        "MEMLOCK" => Resource::Memlock,
        "MSGQUEUE" => Resource::Msgqueue,
        "NICE" => Resource::Nice,
        "NOFILE" => Resource::Nofile,
        "NPROC" => Resource::Nproc,
        "RSS" => Resource::Rss,
        "RTPRIO" => Resource::Rtprio,
        "RTTIME" => Resource::Rttime,
        "SIGPENDING" => Resource::Sigpending,
        "STACK" => Resource::Stack,
        _ => return None,
    })
}

pub(crate) fn rlimits(facts: &Facts, report: &mut Report) {
    for limit in list(&facts.process()["rlimits"]) {
        let name = limit["type"].as_str().unwrap_or_default();
        let Some(resource) = resource(name) else {
            report.check(false, || format!("{name} does not exist"));
            continue;
        };
        let found = getrlimit(resource);
        for (which, found) in [("soft", found.current), ("hard", found.maximum)] {
            report.same(&format!("{name}.{which}"), &id(&limit[which]), &found.unwrap_or(u64::MAX));
        }
    }
}

/// The five sets, as capabilities(7) says they are after execve(2) of a file without capabilities.
pub(crate) fn capabilities(facts: &Facts, report: &mut Report) {
    let process = facts.process();
    let set = |name: &str| -> u64 {
        let bits = texts(&process["capabilities"][name]).filter_map(|name| Capability::from_str(name).ok());
        bits.fold(0, |set, capability| set | capability.bitmask())
    };
    let (bounding, inheritable) = (set("bounding"), set("inheritable"));
    let ambient = set("ambient") & set("permitted") & inheritable;
    let permitted = match id(&process["user"]["uid"]) {
        // Without new privileges nothing is gained.
        0 if process["noNewPrivileges"] == true => (inheritable | bounding) & set("permitted"),
        0 => inheritable | bounding,
        _ => ambient,
    };
    for (name, line, expected) in [
        ("bounding", "CapBnd", bounding),
        ("inheritable", "CapInh", inheritable),
        ("permitted", "CapPrm", permitted),
        ("effective", "CapEff", permitted),
        ("ambient", "CapAmb", ambient),
    ] {
        report.same(name, &format!("{expected:016x}"), &facts.status(line));
    }
}

pub(crate) fn no_new_privileges(facts: &Facts, report: &mut Report) {
    let expected = u8::from(facts.process()["noNewPrivileges"] == true).to_string();
    report.same("process.noNewPrivileges", &expected, &facts.status("NoNewPrivs"));
}

fn file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| format!("{path}: {error}")).trim_end().to_owned()
}

/// "If oomScoreAdj is not set, the runtime MUST NOT change the value of oom_score_adj."
pub(crate) fn oom_score_adj(facts: &Facts, report: &mut Report) {
    let given = &facts.process()["oomScoreAdj"];
    let expected = if given.is_null() { &facts.host["oomScoreAdj"] } else { given };
    report.same("process.oomScoreAdj", &expected.to_string(), &file("/proc/self/oom_score_adj"));
}

/// The labels of the security modules that the kernel has.
pub(crate) fn labels(facts: &Facts, report: &mut Report) {
    for (module, property) in [("apparmor", "apparmorProfile"), ("selinux", "selinuxLabel")] {
        let Some(expected) = facts.process()[property].as_str() else { continue };
        if facts.host[module] == true {
            let found = file("/proc/self/attr/current");
            report.check(found.split(" (").next() == Some(expected), || format!("{property} is {found:?}"));
        }
    }
}

/// "stdin, stdout, stderr", and none of the runtime's own.
pub(crate) fn descriptors(_: &Facts, report: &mut Report) {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let found: BTreeSet<u32> = entries
        // The one of the listing itself is gone by now.
        .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| !to.ends_with("fd")))
        .filter_map(|entry| entry.file_name().into_string().ok()?.parse().ok())
        .collect();
    report.same("what is open", &BTreeSet::from([0, 1, 2]), &found);
}

pub(crate) fn namespaces(facts: &Facts, report: &mut Report) {
    for (file, expected) in facts.host["namespaces"].as_object().into_iter().flatten() {
        let found = std::fs::read_link(format!("/proc/self/ns/{file}"));
        let found = found.map(|link| link.into_os_string().into_vec()).unwrap_or_default();
        let found = String::from_utf8_lossy(&found).into_owned();
        if let Some(other) = expected["new"].as_str() {
            report.check(found != other, || format!("{file} is the runtime's"));
        } else {
            let expected = expected["is"].as_str().unwrap_or_default();
            report.same(file, &expected.to_owned(), &found);
        }
    }
    let is_new = list(&facts.linux()["namespaces"])
        .any(|namespace| namespace["type"] == "pid" && namespace["path"].is_null());
    if is_new {
        report.same("the pid in a new pid namespace", &1, &std::process::id());
    }
}

pub(crate) fn mappings(facts: &Facts, report: &mut Report) {
    for (property, path) in [("uidMappings", "/proc/self/uid_map"), ("gidMappings", "/proc/self/gid_map")] {
        let mut expected: Vec<Vec<u64>> = list(&facts.linux()[property])
            .map(|map| ["containerID", "hostID", "size"].map(|name| id(&map[name])).to_vec())
            .collect();
        if expected.is_empty() {
            continue;
        }
        let found = file(path);
        let numbers = |line: &str| line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let mut found: Vec<Vec<u64>> = found.lines().map(numbers).collect();
        expected.sort();
        found.sort();
        report.same(property, &expected, &found);
    }
}

/// Of the machine.
pub(crate) fn names(facts: &Facts, report: &mut Report) {
    let names = uname();
    for (property, found) in [("hostname", names.nodename()), ("domainname", names.domainname())] {
        if let Some(expected) = facts.config[property].as_str() {
            report.same(property, &expected.to_owned(), &found.to_string_lossy().into_owned());
        }
    }
}

pub(crate) fn sysctl(facts: &Facts, report: &mut Report) {
    for (key, expected) in facts.linux()["sysctl"].as_object().into_iter().flatten() {
        let found = file(&format!("/proc/sys/{}", key.replace('.', "/")));
        report.same(key, &expected.as_str().unwrap_or_default().to_owned(), &found);
    }
}
