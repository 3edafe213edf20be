//! The checker on the host's side: the example of this name and what it needs, in the root directory of a container; and
//! what it is told of the host.

use crate::kit::example::example;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where it is in the container.
const DIRECTORY: &str = "/checker";

/// Whether there is one; if not, by which command there would be.
pub(crate) fn is_built() -> Result<(), String> {
    example("checker").map(drop)
}

/// Copies it into a root directory. Returns the arguments before those of the case's own program.
///
/// # Panics
/// If the example was not built.
pub(crate) fn install(rootfs: &Path) -> Vec<String> {
    let checker = example("checker").unwrap_or_else(|reason| panic!("{reason}"));
    let directory = directory(rootfs);
    std::fs::create_dir(&directory).unwrap();
    let copy = |from: &Path, name: &str| {
        let to = directory.join(name);
        std::fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        std::fs::set_permissions(to, PermissionsExt::from_mode(0o755)).unwrap();
        format!("{DIRECTORY}/{name}")
    };
    let program = copy(&checker, "checker");
    let mut arguments = Vec::new();
    // A program that is linked statically has none, and neither has its checker.
    for library in libraries() {
        let name = library.file_name().expect("a file").to_string_lossy().into_owned();
        let path = copy(&library, &name);
        if name.starts_with("ld-") {
            // By the linker's path, which the program names, whatever that is on this host.
            arguments = vec![path, "--library-path".into(), DIRECTORY.into()];
        }
    }
    arguments.extend([program, DIRECTORY.into()]);
    arguments
}

/// What this process was linked with, the linker too: a superset of what the checker is linked with.
fn libraries() -> BTreeSet<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| line.split_once('/')).map(|(_, path)| format!("/{path}"));
    let is_library = |path: &String| path.contains(".so.") || path.ends_with(".so");
    paths.filter(is_library).map(PathBuf::from).collect()
}

/// The directory that it reads, in a root directory.
pub(crate) fn directory(rootfs: &Path) -> PathBuf {
    rootfs.join(&DIRECTORY[1..])
}

/// Writes down what the checker compares with: the configuration, and what only the host knows.
pub(crate) fn write_facts(directory: &Path, config: &Value) {
    let oom_score_adj = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let host = json!({
        "namespaces": namespaces(config),
        "oomScoreAdj": oom_score_adj.trim_end().parse::<i32>().unwrap(),
        "apparmor": Path::new("/sys/module/apparmor").exists(),
        "selinux": Path::new("/sys/fs/selinux/enforce").exists(),
        "binds": binds(config),
    });
    write(directory, "config.json", config);
    write(directory, "host.json", &host);
}

/// Changes what only the host knows.
pub(crate) fn change_host(directory: &Path, change: impl FnOnce(&mut Value)) {
    let text = std::fs::read(directory.join("host.json")).unwrap();
    let mut host: Value = serde_json::from_slice(&text).unwrap();
    change(&mut host);
    write(directory, "host.json", &host);
}

fn write(directory: &Path, name: &str, document: &Value) {
    std::fs::write(directory.join(name), document.to_string()).unwrap();
}

/// In which ones the process has to be, by the name of the file in /proc.
fn namespaces(config: &Value) -> Value {
    let link = |path: &str| std::fs::read_link(path).ok().map(|link| link.display().to_string());
    let mut expected = Map::new();
    for (kind, file) in [
        ("cgroup", "cgroup"),
        ("ipc", "ipc"),
        ("mount", "mnt"),
        ("network", "net"),
        ("pid", "pid"),
        ("time", "time"),
        ("user", "user"),
        ("uts", "uts"),
    ] {
        // A kernel without time namespaces has no such file.
        let Some(runtimes) = link(&format!("/proc/self/ns/{file}")) else { continue };
        let mut listed = config["linux"]["namespaces"].as_array().into_iter().flatten();
        let listed = listed.rfind(|namespace| namespace["type"] == kind);
        let fact = match listed.map(|namespace| namespace["path"].as_str()) {
            None => json!({ "is": runtimes }),
            Some(None) => json!({ "new": runtimes }),
            Some(Some(path)) => json!({ "is": link(path) }),
        };
        expected.insert(file.to_owned(), fact);
    }
    Value::Object(expected)
}

/// The device and the inode of each source, by the destination.
fn binds(config: &Value) -> Value {
    let mut found = Map::new();
    for mount in config["mounts"].as_array().into_iter().flatten() {
        let (Some(at), Some(source)) = (mount["destination"].as_str(), mount["source"].as_str()) else {
            continue;
        };
        // The sources of other types are names.
        if let (true, Ok(metadata)) = (source.starts_with('/'), std::fs::metadata(source)) {
            found.insert(at.to_owned(), json!([metadata.st_dev(), metadata.st_ino()]));
        }
    }
    Value::Object(found)
}
