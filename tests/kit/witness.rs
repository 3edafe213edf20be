//! The witness: what of the host a container could leave changed, as a value to compare.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a look at the host found. Two looks around a test have to agree.
pub struct Witness {
    facts: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Witness {
    /// Looks at mounts that show or cover something in `dir` or named with `id_prefix`, cgroups named with `id_prefix`,
    /// the state files in `dir`, and at descendants (zombies too) and descriptors of this process.
    pub fn look(id_prefix: &str, dir: &Path) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let here = dir.to_str().expect("a temporary directory in UTF-8");
        let mounts = mounts.lines().filter(|line| line.contains(here) || line.contains(id_prefix));
        let mut cgroups = BTreeSet::new();
        find_directories(Path::new("/sys/fs/cgroup"), &|name| name.contains(id_prefix), &mut cgroups);
        let processes = descendants(std::process::id());
        let descriptors = descriptors("self");
        let facts = BTreeMap::from([
            ("mount", mounts.map(str::to_owned).collect()),
            ("process", processes.into_iter().map(|process| process.to_string()).collect()),
            ("cgroup", cgroups),
            (DESCRIPTOR, descriptors.into_iter().map(|(fd, to)| format!("{fd} -> {to}")).collect()),
            ("state file", files_in(&dir.join("state"))),
        ]);
        Self { facts }
    }

    /// The differences, one a line.
    pub fn changes(&self, after: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let mut kept = vec![IMAGE, NULL];
        for (kind, before) in &self.facts {
            let after = &after.facts[kind];
            let new =
                after.difference(before).filter(|fact| !(*kind == DESCRIPTOR && is_kept(fact, &mut kept)));
            changes.extend(new.map(|fact| format!("new {kind}: {fact}")));
            changes.extend(before.difference(after).map(|fact| format!("lost {kind}: {fact}")));
        }
        changes
    }
}

const DESCRIPTOR: &str = "descriptor";

/// What the crate opens once in a process and keeps: the image of the helpers, as a detached mount of the executable or,
/// without the right to mount, as a copy in memory; and the null device.
const IMAGE: &[&str] = &["/", "/memfd:cofferdam (deleted)"];
const NULL: &[&str] = &["/dev/null"];

/// Whether a descriptor is one of those in `kept`; the next of its kind is not.
fn is_kept(fact: &str, kept: &mut Vec<&[&str]>) -> bool {
    let (_, target) = fact.split_once(" -> ").expect("a number and a target");
    let found = kept.iter().position(|targets| targets.contains(&target));
    found.map(|index| kept.remove(index)).is_some()
}

/// A process as `/proc/PID/stat` tells of it.
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub name: String,
    pub state: char,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {} (child of {})", self.pid, self.name, self.state, self.parent)
    }
}

/// Every process below `ancestor`, whether alive or waiting to be collected.
pub fn descendants(ancestor: u32) -> Vec<Process> {
    let mut family = BTreeSet::from([ancestor]);
    let mut others: Vec<Process> = processes();
    let mut found = Vec::new();
    loop {
        let (children, rest): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|process| family.contains(&process.parent));
        if children.is_empty() {
            return found;
        }
        family.extend(children.iter().map(|child| child.pid));
        found.extend(children);
        others = rest;
    }
}

fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name may hold blanks and brackets: it ends at the last one.
            let (head, tail) = stat.rsplit_once(") ")?;
            let mut fields = tail.split(' ');
            let state = fields.next()?.chars().next()?;
            let parent = fields.next()?.parse().ok()?;
            Some(Process { pid, parent, name: head.split_once('(')?.1.to_owned(), state })
        })
        .collect()
}

/// The descriptors of a process, with what each refers to.
pub fn descriptors(pid: &str) -> BTreeMap<u32, String> {
    let directory = Path::new("/proc").join(pid).join("fd");
    let names: Vec<_> = match std::fs::read_dir(&directory) {
        Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect(),
        Err(error) => panic!("{}: {error}", directory.display()),
    };
    // The one the listing itself used is closed by now and has no target any more.
    let target = |name: &std::ffi::OsString| std::fs::read_link(directory.join(name)).ok();
    names
        .iter()
        .filter_map(|name| Some((name.to_str()?.parse().ok()?, target(name)?.to_string_lossy().into_owned())))
        .collect()
}

/// Adds every directory below `below` that is meant by its name.
pub fn find_directories(below: &Path, is_meant: &dyn Fn(&str) -> bool, found: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(below) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if is_meant(&entry.file_name().to_string_lossy()) {
            found.insert(entry.path().display().to_string());
        }
        find_directories(&entry.path(), is_meant, found);
    }
}

fn files_in(directory: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return BTreeSet::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
