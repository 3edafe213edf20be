//! Bad input, as a table: what is wrong, the exact message, the kind, and a host that is as it was before.
//!
//! Each module has the rows of one part of the input; here is what is done with them.

#![expect(clippy::print_stderr, reason = "skips and counts are for people to read")]
#![expect(clippy::disallowed_methods, reason = "a test prepares its inputs with the plain tools")]

mod documents;
mod linux;
mod mounts;
mod programs;

use crate::kit::place::{Place, names_in};
use crate::kit::{in_own_process, note_skip};
use cofferdam::builder::DeviceNumber;
use cofferdam::builder::IoLimit;
use cofferdam::{ContainerBuilder, Error, ErrorKind};
use serde_json::{Value, json};
use std::fmt::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// What is done to a container that would otherwise run `true`.
enum Change {
    /// To the builder.
    Builder(fn(ContainerBuilder, &Place) -> ContainerBuilder),
    /// To properties of `config.json`: JSON pointers and values; `/-` at the end appends, null removes.
    Config(fn() -> Vec<(&'static str, Value)>),
    /// To the bundle on disk, after a good `config.json` was written.
    Bundle(fn(&Place)),
}

use Change::{Builder, Bundle, Config};

struct Row {
    change: Change,
    /// `DIR` stands for the directory of the test.
    message: &'static str,
    kind: ErrorKind,
}

fn row(change: Change, kind: ErrorKind, message: &'static str) -> Row {
    Row { change, message, kind }
}

fn spec(change: Change, path: &str, message: &'static str) -> Row {
    row(change, ErrorKind::InvalidSpec { path: path.into() }, message)
}

fn unsupported(change: Change, feature: &str, message: &'static str) -> Row {
    row(change, ErrorKind::Unsupported { feature: feature.into() }, message)
}

#[test]
fn every_row_is_refused_in_its_words_and_leaves_the_host_as_it_was() {
    if !in_own_process() {
        return;
    }
    let rows = [
        documents::rows_of_ids(),
        documents::rows_of_documents(),
        programs::rows_of_programs(),
        mounts::rows_of_mounts(),
        linux::rows_of_linux(),
        programs::rows_of_hooks(),
        linux::rows_of_the_caller(),
    ];
    let mut wrong = Vec::new();
    let mut checked = 0;
    for row in rows.into_iter().flatten() {
        let place = Place::new();
        if let Err(problem) = check(&row, &place) {
            wrong.push(problem);
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{} of {checked} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked >= 40);
    eprintln!("rows checked: {checked}");
}

fn check(row: &Row, place: &Place) -> Result<(), String> {
    write_bundle(place, &row.change);
    let id = place.id("bad");
    let changed = match &row.change {
        Builder(change) => Some(change(place.builder(&id), place)),
        Config(_) | Bundle(_) => None,
    };
    let before = listing_of_the_rootfs(place);
    let outcome = attempt(changed, &id, place);
    let Err(error) = outcome else { return Err(format!("accepted: {}", row.message)) };
    let message = error.to_string().replace(place.path().to_str().expect("UTF-8"), "DIR");
    let mut problem = String::new();
    if message != row.message || *error.kind() != row.kind {
        problem = format!(
            "wanted {:?}\n       {}\n   got {:?}\n       {message}",
            row.kind,
            row.message,
            error.kind()
        );
    }
    for left in place.leftovers() {
        problem += &format!("\n  left behind: {left}");
    }
    if listing_of_the_rootfs(place) != before {
        problem += "\n  the rootfs changed";
    }
    if problem.is_empty() { Ok(()) } else { Err(format!("{}: {problem}", row.message)) }
}

/// The rootfs, one line for each file with everything that could be changed about it.
fn listing_of_the_rootfs(place: &Place) -> String {
    let mut listing = String::new();
    let mut todo = vec![place.rootfs()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).expect("a file of the rootfs");
        let (mode, owner) = (meta.permissions().mode(), (meta.uid(), meta.gid()));
        let changed = (meta.mtime(), meta.mtime_nsec());
        writeln!(listing, "{path:?} {mode:o} {owner:?} {} {changed:?}", meta.len()).expect("text in memory");
        if meta.is_dir() {
            todo.extend(names_in(&path).iter().map(|name| path.join(name)));
        }
    }
    listing
}

fn attempt(builder: Option<ContainerBuilder>, id: &str, place: &Place) -> Result<(), Error> {
    let builder = match builder {
        Some(builder) => builder,
        None => ContainerBuilder::from_bundle(place.path())?.id(id).state_root(place.state()),
    };
    drop(builder.build()?.create()?.start()?);
    Ok(())
}

/// A bundle of the test's directory, with `change` made to it.
fn write_bundle(place: &Place, change: &Change) {
    let mut config = good_config();
    if let Config(changes) = change {
        for (pointer, value) in changes() {
            set(&mut config, pointer, value);
        }
    }
    std::fs::write(place.path().join("config.json"), config.to_string()).expect("a config.json");
    if let Bundle(change) = change {
        change(place);
    }
}

fn good_config() -> Value {
    let ids = |own: u32| json!([{"containerID": 0, "hostID": own, "size": 1}]);
    let kinds = ["user", "mount", "pid", "network", "ipc", "uts", "cgroup"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": kinds.map(|kind| json!({"type": kind})),
            "uidMappings": ids(rustix::process::geteuid().as_raw()),
            "gidMappings": ids(rustix::process::getegid().as_raw()),
        },
    })
}

fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer has a slash");
    let mut at = config;
    for name in parent.split('/').skip(1) {
        at = match at {
            Value::Array(list) => &mut list[name.parse::<usize>().expect("an index")],
            object => &mut object[name],
        };
    }
    match at {
        Value::Array(list) if name == "-" => list.push(value),
        Value::Array(list) => list[name.parse::<usize>().expect("an index")] = value,
        object => object[name] = value,
    }
}

fn mkfifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
}

fn replace_config(place: &Place, bytes: &[u8]) {
    std::fs::write(place.path().join("config.json"), bytes).expect("a config.json");
}

#[test]
fn limits_a_caller_may_not_set_are_refused_by_name() {
    if !in_own_process() {
        return;
    }
    let place = Place::new();
    if rustix::process::geteuid().is_root() {
        note_skip("root may set every limit");
        return;
    }
    type Limit = fn(ContainerBuilder) -> ContainerBuilder;
    let limits: [(&str, Limit); 4] = [
        ("linux.resources.memory.limit", |builder| builder.memory_limit(64 << 20)),
        ("linux.resources.pids.limit", |builder| builder.pids_limit(10)),
        ("linux.resources.cpu.burst", |builder| builder.cpu_burst(Duration::from_millis(1))),
        ("linux.resources.blockIO.throttleReadIOPSDevice", |builder| {
            let limit = IoLimit { reads: Some(5), ..IoLimit::default() };
            builder.io_limit(DeviceNumber { major: 8, minor: 0 }, limit)
        }),
    ];
    for (feature, limit) in limits {
        let Err(error) = limit(place.builder(&place.id("limits"))).build() else {
            note_skip("a cgroup is delegated to this user");
            return;
        };
        assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: feature.into() });
        assert!(error.to_string().starts_with(&format!("{feature}: no ")), "{error}");
        assert_eq!(place.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn the_device_rules_every_engine_writes_are_accepted() {
    if !in_own_process() {
        return;
    }
    let place = Place::new();
    write_bundle(
        &place,
        &Config(|| vec![("/linux/resources", json!({"devices": [{"allow": false, "access": "rwm"}]}))]),
    );
    let bundle = ContainerBuilder::from_bundle(place.path()).expect("a bundle").id(place.id("rules"));
    let exit = bundle.state_root(place.state()).run().expect("a container with device rules");
    assert!(exit.outcome.success());
    assert_eq!(place.leftovers(), Vec::<String>::new());
}
