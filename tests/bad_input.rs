//! Bad input, as a table: what is wrong, the exact message, the kind, and a host that is as it was before.
#![expect(clippy::print_stderr, reason = "skips and counts are for people to read")]
#![expect(clippy::disallowed_methods, reason = "a test prepares its inputs with the plain tools")]

mod common;

use cofferdam::spec::DeviceNumber;
use cofferdam::{ContainerBuilder, Error, ErrorKind, IoLimit};
use common::note_skip;
use common::place::{Place, names_in};
use serde_json::{Value, json};
use std::fmt::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// Children are looked for in the whole process, so one test at a time makes some.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn every_row_is_refused_in_its_words_and_leaves_the_host_as_it_was() {
    let _alone = alone();
    let rows = [rows_of_ids(), rows_of_documents(), rows_of_programs(), rows_of_mounts(), rows_of_linux()];
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
        None => ContainerBuilder::from_bundle(id, place.path())?.state_root(place.state()),
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

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Vec<(&'static str, Value)> {
    vec![(
        "/mounts/-",
        json!({"destination": destination, "type": kind, "source": source, "options": options}),
    )]
}

fn rows_of_ids() -> Vec<Row> {
    let id = |make: fn(ContainerBuilder, &Place) -> ContainerBuilder, message| {
        row(Builder(make), ErrorKind::InvalidId, message)
    };
    vec![
        id(|_, place| ContainerBuilder::new("").state_root(place.state()), "container id: is empty"),
        id(
            |_, place| ContainerBuilder::new("../up").state_root(place.state()),
            "container id: \"../up\" starts with \".\"",
        ),
        id(
            |_, place| ContainerBuilder::new("-rf").state_root(place.state()),
            "container id: \"-rf\" starts with \"-\"",
        ),
        id(
            |_, place| ContainerBuilder::new("a/b").state_root(place.state()),
            "container id: \"a/b\" contains '/', allowed are A-Z a-z 0-9 _ + . -",
        ),
        id(
            |_, place| ContainerBuilder::new("a\0b").state_root(place.state()),
            "container id: \"a\\0b\" contains '\\0', allowed are A-Z a-z 0-9 _ + . -",
        ),
        id(
            |_, place| ContainerBuilder::new("x".repeat(256)).state_root(place.state()),
            "container id: is 256 bytes long, the limit is 255",
        ),
    ]
}

fn rows_of_documents() -> Vec<Row> {
    vec![
        row(
            Bundle(|place| std::fs::remove_file(place.path().join("config.json")).unwrap()),
            ErrorKind::Os(libc::ENOENT),
            "open(\"DIR/config.json\"): ENOENT: No such file or directory",
        ),
        spec(Bundle(|place| replace_config(place, b"")), "", "config.json: is empty"),
        spec(
            Bundle(|place| {
                let whole = std::fs::read(place.path().join("config.json")).unwrap();
                replace_config(place, &whole[..20]);
            }),
            "",
            "config.json: ends early, at line 1 column 20",
        ),
        spec(
            Bundle(|place| replace_config(place, format!("{{\"a\": {}", "[".repeat(70)).as_bytes())),
            &format!("a{}", "[0]".repeat(63)),
            "config.json: a[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: is nested deeper than 64 levels",
        ),
        spec(
            Bundle(|place| replace_config(place, &vec![b' '; (16 << 20) + 1])),
            "",
            "config.json: is 16777217 bytes long, the limit is 16777216",
        ),
        spec(
            Bundle(|place| replace_config(place, b"{\"process\": {\"cwd\": \"/\", \"cwd\": \"/tmp\"}}")),
            "process.cwd",
            "config.json: process.cwd: appears twice",
        ),
        spec(
            Bundle(|place| replace_config(place, b"{\"a\": \"\xff\"}")),
            "",
            "config.json: is not UTF-8 at byte 7",
        ),
        spec(
            Bundle(|place| {
                std::fs::remove_file(place.path().join("config.json")).unwrap();
                mkfifo(&place.path().join("config.json"));
            }),
            "",
            "config.json: is not a regular file",
        ),
        spec(
            Bundle(|place| {
                std::fs::remove_file(place.path().join("config.json")).unwrap();
                std::fs::create_dir(place.path().join("config.json")).unwrap();
            }),
            "",
            "config.json: is not a regular file",
        ),
        spec(
            Config(|| vec![("/ociVersion", json!("2.1.0"))]),
            "ociVersion",
            "config.json: ociVersion: \"2.1.0\" is not supported (supported is 1.0.0 up to, but not including, 2.0.0)",
        ),
        spec(Config(|| vec![("/root", Value::Null)]), "root", "config.json: root: is missing"),
        spec(
            Config(|| vec![("/root/path", json!("nowhere"))]),
            "root.path",
            "config.json: root.path: DIR/nowhere: No such file or directory",
        ),
        spec(
            Config(|| vec![("/root/path", json!("rootfs/bin/busybox"))]),
            "root.path",
            "config.json: root.path: DIR/rootfs/bin/busybox: Not a directory",
        ),
        spec(
            Bundle(|place| {
                std::fs::rename(place.rootfs(), place.path().join("real")).unwrap();
                symlink("gone", place.rootfs()).unwrap();
            }),
            "root.path",
            "config.json: root.path: DIR/rootfs: No such file or directory",
        ),
        spec(
            Builder(|builder, _| builder.rootfs(cofferdam::Rootfs::directory("rootfs"))),
            "root.path",
            "builder: root.path: \"rootfs\" is relative (use an absolute path)",
        ),
        spec(
            Config(|| vec![("/annotations", json!({"dev.cofferdam.timeout-ms": "soon"}))]),
            "annotations[\"dev.cofferdam.timeout-ms\"]",
            "config.json: annotations[\"dev.cofferdam.timeout-ms\"]: \"soon\" is not a number",
        ),
    ]
}

fn rows_of_programs() -> Vec<Row> {
    vec![
        spec(
            Builder(|builder, _| builder.args::<&str>([])),
            "process.args",
            "builder: process.args: is empty (name the program to run)",
        ),
        spec(
            Config(|| vec![("/process/args", json!([]))]),
            "process.args",
            "config.json: process.args: is empty (name the program to run)",
        ),
        spec(
            Config(|| vec![("/process/args", json!(["true", "a\0b"]))]),
            "process.args[1]",
            "config.json: process.args[1]: contains a NUL byte",
        ),
        row(
            Builder(|builder, _| builder.args(["nope"])),
            ErrorKind::ProgramNotFound,
            "exec: \"nope\": executable file not found in $PATH",
        ),
        row(
            Builder(|builder, _| builder.args(["/bin/nope"])),
            ErrorKind::ProgramNotFound,
            "exec: \"/bin/nope\": stat /bin/nope: no such file or directory",
        ),
        row(
            Builder(|builder, _| builder.args(["/etc"])),
            ErrorKind::ProgramNotExecutable,
            "exec: \"/etc\": permission denied",
        ),
        row(
            Builder(|builder, place| {
                let path = place.rootfs().join("bin/data");
                std::fs::write(&path, "data").unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
                builder.args(["data"])
            }),
            ErrorKind::ProgramNotExecutable,
            "exec: \"data\": permission denied",
        ),
        spec(
            Config(|| vec![("/process/cwd", json!("tmp"))]),
            "process.cwd",
            "config.json: process.cwd: \"tmp\" is relative (use an absolute path)",
        ),
        row(
            Config(|| vec![("/process/cwd", json!("/bin/busybox"))]),
            ErrorKind::Os(libc::ENOTDIR),
            "init: process.cwd: bin/busybox: is not a directory",
        ),
        spec(
            Config(|| vec![("/process/env", json!(["PATH"]))]),
            "process.env[0]",
            "config.json: process.env[0]: has no \"=\" (write NAME=value)",
        ),
        spec(
            Config(|| vec![("/process/env", json!(["=x"]))]),
            "process.env[0]",
            "config.json: process.env[0]: has an empty name (write NAME=value)",
        ),
        spec(
            Builder(|builder, _| builder.env("A", "b\0c")),
            "process.env[1]",
            "builder: process.env[1]: contains a NUL byte",
        ),
        spec(
            Config(|| vec![("/process/user/uid", json!(7))]),
            "process.user.uid",
            "config.json: process.user.uid: 7 is not mapped (add it to linux.uidMappings)",
        ),
        spec(
            Config(|| vec![("/process/user/uid", json!(-1))]),
            "process.user.uid",
            "config.json: process.user.uid: expected an integer from 0 to 4294967295, found -1",
        ),
        spec(
            Config(|| vec![("/process/user/umask", json!(0o1000))]),
            "process.user.umask",
            "config.json: process.user.umask: 0o1000 is above 0o777",
        ),
        spec(
            Config(|| vec![("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 8}]))]),
            "process.rlimits[0].soft",
            "config.json: process.rlimits[0].soft: 9 is above hard, 8",
        ),
        spec(
            Config(|| vec![("/process/rlimits", json!([{"type": "RLIMIT_LUCK", "soft": 8, "hard": 8}]))]),
            "process.rlimits[0].type",
            "config.json: process.rlimits[0].type: unknown rlimit type \"RLIMIT_LUCK\" (known are RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_CORE, RLIMIT_RSS, RLIMIT_NPROC, RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_LOCKS, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO, RLIMIT_RTTIME)",
        ),
        spec(
            Config(|| vec![("/process/capabilities", json!({"bounding": ["CAP_FLY"]}))]),
            "process.capabilities.bounding[0]",
            "config.json: process.capabilities.bounding[0]: unknown capability \"CAP_FLY\"",
        ),
        spec(
            Config(|| vec![("/process/capabilities", json!({"effective": ["CAP_KILL"]}))]),
            "process.capabilities.effective",
            "config.json: process.capabilities.effective: CAP_KILL is not in permitted",
        ),
        unsupported(
            Config(|| vec![("/process/terminal", json!(true))]),
            "process.terminal",
            "process.terminal: no devpts is mounted at /dev/pts (add {\"destination\": \"/dev/pts\", \"type\": \"devpts\"} to mounts)",
        ),
        unsupported(
            Config(|| vec![("/process/apparmorProfile", json!("strict"))]),
            "process.apparmorProfile",
            "process.apparmorProfile: AppArmor is not enabled on this host",
        ),
    ]
}

fn rows_of_mounts() -> Vec<Row> {
    vec![
        spec(
            Builder(|builder, place| builder.bind_ro(place.path().join("absent"), "/tmp")),
            "mounts[6].source",
            "builder: mounts[6].source: DIR/absent: No such file or directory",
        ),
        row(
            Builder(|builder, place| builder.bind_ro(place.rootfs().join("bin/busybox"), "/etc")),
            ErrorKind::Os(libc::EISDIR),
            "init: mounts[7]: etc: is a directory",
        ),
        row(
            Builder(|builder, place| builder.bind_ro(place.rootfs().join("etc"), "/bin/busybox")),
            ErrorKind::Os(libc::ENOTDIR),
            "init: mounts[7]: bin/busybox: is not a directory",
        ),
        spec(
            Config(|| mount("/a/../../b", "tmpfs", "tmpfs", &[])),
            "mounts[1].destination",
            "config.json: mounts[1].destination: \"/a/../../b\" contains \"..\"",
        ),
        spec(
            Config(|| mount("data", "tmpfs", "tmpfs", &[])),
            "mounts[1].destination",
            "config.json: mounts[1].destination: \"data\" is relative (use an absolute path)",
        ),
        row(
            Builder(|builder, place| {
                symlink(place.path().join("planted"), place.rootfs().join("mnt")).unwrap();
                builder.tmpfs("/mnt", 4096)
            }),
            ErrorKind::Os(libc::EEXIST),
            "init: mounts[7]: mkdir(rootfs/mnt): EEXIST: File exists (create the mount point in the rootfs, or give the container a scratch)",
        ),
        row(
            Builder(|builder, _| builder.writable_rootfs().tmpfs("/bin/busybox/deep", 4096)),
            ErrorKind::Os(libc::ENOTDIR),
            "init: mounts[7]: openat2(rootfs, \"bin/busybox/deep\"): ENOTDIR: Not a directory",
        ),
        unsupported(
            Config(|| mount("/tmp", "tankfs", "tank", &[])),
            "mounts[1].type",
            "mounts[1].type: this kernel knows no file system \"tankfs\"",
        ),
        spec(
            Config(|| mount("/tmp", "tmpfs", "tmpfs", &["fast"])),
            "mounts[1].options[0]",
            "config.json: mounts[1].options[0]: unknown option \"fast\"",
        ),
        spec(
            Config(|| mount("/tmp", "tmpfs", "tmpfs", &["size=lots"])),
            "mounts[1].options[0]",
            "config.json: mounts[1].options[0]: \"size=lots\" has a bad value",
        ),
        spec(
            Config(|| mount("/tmp", "tmpfs", "tmpfs", &["size=-1"])),
            "mounts[1].options[0]",
            "config.json: mounts[1].options[0]: \"size=-1\" has a bad value",
        ),
        unsupported(
            Config(|| mount("/", "tmpfs", "tmpfs", &[])),
            "mounts[1].destination",
            "mounts[1].destination: mounting over the root itself",
        ),
        spec(
            Config(|| vec![("/linux/maskedPaths", json!(["proc/kcore"]))]),
            "linux.maskedPaths[0]",
            "config.json: linux.maskedPaths[0]: \"proc/kcore\" is relative (use an absolute path)",
        ),
    ]
}

fn rows_of_linux() -> Vec<Row> {
    let mut rows = vec![
        spec(
            Config(|| vec![("/linux/namespaces/-", json!({"type": "moon"}))]),
            "linux.namespaces[7].type",
            "config.json: linux.namespaces[7].type: unknown namespace type \"moon\" (known are mount, cgroup, uts, ipc, user, pid, network, time)",
        ),
        spec(
            Config(|| vec![("/linux/namespaces/-", json!({"type": "uts"}))]),
            "linux.namespaces[7].type",
            "config.json: linux.namespaces[7].type: uts appears twice",
        ),
        spec(
            Config(|| vec![("/linux/namespaces/3/path", json!("proc/1/ns/net"))]),
            "linux.namespaces[3].path",
            "config.json: linux.namespaces[3].path: \"proc/1/ns/net\" is relative (use an absolute path)",
        ),
        unsupported(
            Config(|| {
                let node = json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 5});
                vec![("/linux/devices", json!([node]))]
            }),
            "linux.devices[0]",
            "linux.devices[0]: /dev/null is always the device 1:3 with mode 0666 of root",
        ),
        unsupported(
            Config(|| vec![("/linux/namespaces/1/path", json!("/proc/1/ns/mnt"))]),
            "linux.namespaces",
            "linux.namespaces: no existing mount namespace can be entered from a new user namespace (add {\"type\": \"mount\"} without a path to linux.namespaces)",
        ),
        unsupported(
            Config(|| {
                vec![(
                    "/linux/namespaces",
                    json!([{"type": "user"}, {"type": "pid"}, {"type": "uts"}, {"type": "ipc"}]),
                )]
            }),
            "linux.namespaces",
            "linux.namespaces: the caller's mount namespace cannot be entered from another user namespace (add {\"type\": \"mount\"} without a path to linux.namespaces)",
        ),
        spec(
            Config(|| vec![("/linux/uidMappings", json!([]))]),
            "linux.uidMappings",
            "config.json: linux.uidMappings: is empty, and a new user namespace needs it",
        ),
        spec(
            Config(|| vec![("/linux/gidMappings/-", json!({"containerID": 0, "hostID": 9, "size": 2}))]),
            "linux.gidMappings[1].containerID",
            "config.json: linux.gidMappings[1].containerID: overlaps the range of entry 0",
        ),
        spec(
            Config(|| {
                vec![("/linux/uidMappings", json!([{"containerID": 1, "hostID": 0, "size": u32::MAX}]))]
            }),
            "linux.uidMappings[0].size",
            "config.json: linux.uidMappings[0].size: containerID plus size is above 4294967295",
        ),
        spec(
            Config(|| vec![("/hostname", json!("box")), ("/linux/namespaces/5", json!({"type": "mount"}))]),
            "linux.namespaces[5].type",
            "config.json: linux.namespaces[5].type: mount appears twice",
        ),
        spec(
            Config(|| {
                vec![
                    ("/hostname", json!("box")),
                    ("/linux/namespaces", json!([{"type": "user"}, {"type": "mount"}, {"type": "pid"}])),
                ]
            }),
            "hostname",
            "config.json: hostname: needs a uts namespace (add {\"type\": \"uts\"} to linux.namespaces)",
        ),
        spec(
            Builder(|builder, _| builder.hostname("h".repeat(65))),
            "hostname",
            "builder: hostname: is 65 bytes long, the limit is 64",
        ),
        spec(
            Config(|| vec![("/linux/sysctl", json!({"vm.swappiness": "1"}))]),
            "linux.sysctl[\"vm.swappiness\"]",
            "config.json: linux.sysctl[\"vm.swappiness\"]: is not namespaced (it would change the host)",
        ),
        spec(
            Config(|| vec![("/linux/sysctl", json!({"net.ipv4/../../kernel/panic": "1"}))]),
            "linux.sysctl[\"net.ipv4/../../kernel/panic\"]",
            "config.json: linux.sysctl[\"net.ipv4/../../kernel/panic\"]: has '/' in its name (separate the parts with dots)",
        ),
        spec(
            Config(|| vec![("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_MAYBE"}))]),
            "linux.seccomp.defaultAction",
            "config.json: linux.seccomp.defaultAction: unknown seccomp action \"SCMP_ACT_MAYBE\" (known are SCMP_ACT_KILL, SCMP_ACT_KILL_THREAD, SCMP_ACT_KILL_PROCESS, SCMP_ACT_TRAP, SCMP_ACT_ERRNO, SCMP_ACT_NOTIFY, SCMP_ACT_TRACE, SCMP_ACT_LOG, SCMP_ACT_ALLOW)",
        ),
        spec(
            Config(|| {
                let rule = json!({"names": ["read"], "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]});
                vec![("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}))]
            }),
            "linux.seccomp.syscalls[0].args[0].index",
            "config.json: linux.seccomp.syscalls[0].args[0].index: 6 is above 5",
        ),
        spec(
            Config(|| {
                let rule = json!({"names": ["read"], "action": "SCMP_ACT_NOTIFY"});
                vec![("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))]
            }),
            "linux.seccomp.syscalls[0].action",
            "config.json: linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY needs listenerPath",
        ),
        spec(
            Builder(|builder, _| builder.memory_limit(-5)),
            "linux.resources.memory.limit",
            "builder: linux.resources.memory.limit: -5 is below -1",
        ),
        spec(
            Builder(|builder, _| builder.cpu_limit(-1.0)),
            "linux.resources.cpu.quota",
            "builder: linux.resources.cpu.quota: -100000 is below 1000 (the unit is microseconds per period; -1 is unlimited)",
        ),
        spec(
            Builder(|builder, _| builder.cpu_limit(f64::INFINITY)),
            "linux.resources.cpu.quota",
            "builder: linux.resources.cpu.quota: 9223372036854775807 is above 17592186044415",
        ),
        spec(
            Builder(|builder, _| builder.cpu_limit(0.0)),
            "linux.resources.cpu.quota",
            "builder: linux.resources.cpu.quota: 1 is below 1000 (the unit is microseconds per period; -1 is unlimited)",
        ),
        spec(
            Builder(|builder, _| builder.cpu_limit(f64::NAN)),
            "linux.resources.cpu.quota",
            "builder: linux.resources.cpu.quota: 1 is below 1000 (the unit is microseconds per period; -1 is unlimited)",
        ),
        spec(
            Builder(|builder, _| builder.pids_limit(i64::MAX)),
            "linux.resources.pids.limit",
            "builder: linux.resources.pids.limit: 9223372036854775807 is above 4194304 (-1 is unlimited)",
        ),
        spec(
            Config(|| {
                vec![("/linux/resources", json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}))]
            }),
            "linux.resources.hugepageLimits[0].pageSize",
            "config.json: linux.resources.hugepageLimits[0].pageSize: \"3MB\" is no page size \
             (write it as in 64KB, 2MB or 1GB)",
        ),
        spec(
            Config(|| vec![("/linux/resources", json!({"unified": {"../memory.high": "1"}}))]),
            "linux.resources.unified[\"../memory.high\"]",
            "config.json: linux.resources.unified[\"../memory.high\"]: is no control file \
             (write it as in memory.high)",
        ),
        unsupported(
            Config(|| vec![("/linux/resources", json!({"unified": {"cgroup.procs": "1"}}))]),
            "linux.resources.unified[\"cgroup.procs\"]",
            "config.json: linux.resources.unified[\"cgroup.procs\"]: is the file of no controller",
        ),
        spec(
            Config(|| {
                let throttle = json!([{"major": 8, "minor": -7, "rate": 1}]);
                vec![("/linux/resources", json!({"blockIO": {"throttleReadBpsDevice": throttle}}))]
            }),
            "linux.resources.blockIO.throttleReadBpsDevice[0].minor",
            "config.json: linux.resources.blockIO.throttleReadBpsDevice[0].minor: -7 is not between 0 and 1048575",
        ),
        spec(
            Config(|| vec![("/linux/resources", json!({"memory": {"swappiness": 200}}))]),
            "linux.resources.memory.swappiness",
            "config.json: linux.resources.memory.swappiness: 200 is not between 0 and 100",
        ),
        spec(
            Config(|| vec![("/linux/resources", json!({"cpu": {"quota": 10000, "burst": 20000}}))]),
            "linux.resources.cpu.burst",
            "config.json: linux.resources.cpu.burst: 20000 is above quota, 10000",
        ),
        spec(
            Builder(|builder, _| builder.cgroups_path("/a/../../b")),
            "linux.cgroupsPath",
            "builder: linux.cgroupsPath: \"/a/../../b\" contains \"..\"",
        ),
        spec(
            Config(|| vec![("/hooks", json!({"prestart": [{"path": "bin/hook"}]}))]),
            "hooks.prestart[0].path",
            "config.json: hooks.prestart[0].path: \"bin/hook\" is relative (use an absolute path)",
        ),
    ];
    rows.extend(rows_of_hooks());
    rows.extend(rows_of_the_caller());
    rows
}

fn rows_of_hooks() -> Vec<Row> {
    vec![
        spec(
            Config(|| vec![("/hooks", json!({"poststop": [{"path": "/bin/hook", "timeout": 0}]}))]),
            "hooks.poststop[0].timeout",
            "config.json: hooks.poststop[0].timeout: 0 is not positive (give whole seconds, or leave it out)",
        ),
        spec(
            Config(|| vec![("/hooks", json!({"poststart": [{"path": "/bin/hook", "args": ["a\0b"]}]}))]),
            "hooks.poststart[0].args[0]",
            "config.json: hooks.poststart[0].args[0]: contains a NUL byte",
        ),
        spec(
            Config(|| {
                vec![(
                    "/hooks",
                    json!({"createRuntime": [{"path": "/bin/a"}, {"path": "/bin/b", "env": ["A"]}]}),
                )]
            }),
            "hooks.createRuntime[1].env[0]",
            "config.json: hooks.createRuntime[1].env[0]: has no \"=\" (write NAME=value)",
        ),
    ]
}

/// What depends on who asks: refused to everybody but the privileged.
fn rows_of_the_caller() -> Vec<Row> {
    if rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    vec![
        unsupported(
            Builder(|builder, _| builder.without_user_namespace()),
            "linux.namespaces",
            "linux.namespaces: no user namespace, and the caller is not privileged \
             (add a namespace of type \"user\" with mappings)",
        ),
        unsupported(
            Builder(|builder, _| {
                let others = [cofferdam::spec::IdMap { container: 0, host: 5, size: 9 }];
                builder.id_mappings(&others, &others)
            }),
            "linux.uidMappings",
            "linux.uidMappings: the caller may not map host ids 5 to 13 \
             (add a range to /etc/subuid, with newuidmap and newgidmap installed)",
        ),
    ]
}

#[test]
fn limits_a_caller_may_not_set_are_refused_by_name() {
    let _alone = alone();
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
    let _alone = alone();
    let place = Place::new();
    write_bundle(
        &place,
        &Config(|| vec![("/linux/resources", json!({"devices": [{"allow": false, "access": "rwm"}]}))]),
    );
    let bundle = ContainerBuilder::from_bundle(place.id("rules"), place.path()).expect("a bundle");
    let exit = bundle.state_root(place.state()).run().expect("a container with device rules");
    assert!(exit.outcome.success());
    assert_eq!(place.leftovers(), Vec::<String>::new());
}
