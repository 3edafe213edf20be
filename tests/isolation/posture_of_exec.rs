//! What an executed process is, and what it lets be seen of the sandbox it comes from, from its fork on.

#![expect(
    clippy::print_stdout,
    reason = "the program that looks around in the container is this one, and prints what it saw"
)]

use crate::kit::caller::{self, Caller};
use crate::kit::{is_root, line_of, stage, start, write_script};
use cofferdam::oci_spec::runtime::Capability;
use cofferdam::{Container, ContainerBuilder, Exec, Rootfs, Running, Stdio};
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const EXECS: usize = 300;
const WATCH: &str = "COFFERDAM_TEST_WATCH";

#[test]
fn a_container_that_may_trace_sees_nothing_of_the_sandbox_in_what_is_executed() {
    let stage = stage!();
    let container = start_watcher(stage.container("watcher"));
    execute_and_judge(container);
}

#[test]
fn a_member_of_a_pod_that_may_trace_sees_nothing_of_the_others_in_what_is_executed() {
    let stage = stage!();
    let root = stage.container("pod").rootfs(Rootfs::directory(stage.busybox())).args(["sleep", "1000"]);
    let pod = start(root);
    let container = start_watcher(pod.pod().container(stage.id("watcher")));
    execute_and_judge(container);
}

#[test]
fn a_container_that_may_trace_and_has_the_hosts_ids_sees_no_descriptor_of_the_host() {
    let stage = stage!();
    if !is_root() {
        crate::kit::skip!("only root can do without a user namespace");
    }
    execute_and_judge(start_watcher(stage.container("watcher").without_user_namespace()));
}

#[test]
fn a_process_before_the_start_sees_nothing_of_the_sandbox_in_init() {
    let stage = stage!();
    for (user_namespace, init) in [(true, true), (true, false), (false, true), (false, false)] {
        if !user_namespace && !is_root() {
            continue;
        }
        let mut builder = stage.busybox_shell("waits", "exec sleep 1000").init(init);
        if !user_namespace {
            builder = builder.without_user_namespace();
        }
        let container = builder.build().unwrap().create().unwrap();
        let pid = if init { "2" } else { "1" };
        let script = "cd /proc/$1/fd && for f in *; do readlink $f; done";
        let exec = Exec::new(["sh", "-c", script, "sh", pid]);
        let output = container.exec_output(exec.capabilities([Capability::SysPtrace].into())).unwrap();
        let seen = String::from_utf8(output.stdout).unwrap();
        let links: BTreeSet<&str> = seen.lines().collect();
        // Its streams, what it joined its cgroups by, and a file in its own directory in proc.
        let own = |link: &str| {
            link == "/dev/null"
                || ["/tasks", "/cgroup.procs", "/clear_refs"].iter().any(|name| link.ends_with(name))
        };
        let (sockets, others): (Vec<_>, Vec<_>) =
            links.into_iter().filter(|link| !own(link)).partition(|link| link.starts_with("socket:"));
        assert!(others.is_empty(), "{others:?}");
        // To the sandbox and to the gofer.
        assert_eq!(sockets.len(), 2, "{seen}");
    }
}

/// A container whose init is this program as [`watches_when_told_to`], with the right to look into other processes.
fn start_watcher(builder: ContainerBuilder) -> Container<Running> {
    let builder = builder.bind_ro(std::env::current_exe().unwrap(), "/tmp/watcher").env(WATCH, "1");
    let args = [
        "/tmp/watcher",
        "--exact",
        "posture_of_exec::watches_when_told_to",
        "--nocapture",
        "--test-threads=1",
    ];
    let builder = builder.args(args).grant_capabilities([Capability::SysPtrace].into());
    start(builder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()))
}

fn execute_and_judge(mut container: Container<Running>) {
    let mut said = container.take_stdout().unwrap();
    for _ in 0..EXECS {
        let process = container.exec(Exec::new(["true"])).unwrap();
        assert!(process.wait().unwrap().outcome.success());
    }
    drop(container.take_stdin());
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    assert!(container.wait().unwrap().outcome.success(), "{text}");
    let seen: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("seen ")).collect();
    assert!(!seen.is_empty(), "nothing was seen at all: {text}");
    let wrong: Vec<_> = seen.into_iter().filter(|line| !is_harmless(line)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a container may know this about another process in it.
fn is_harmless(line: &str) -> bool {
    let (process, fact) = line.split_once(": ").expect("who and what");
    let (what, value) = fact.split_once(' ').expect("what and its value");
    // Until it is named for what it is, it has its parent's name.
    let before_execve = process.starts_with("cofferdam-");
    match what {
        "root" | "cwd" => value == "/",
        "fd" if before_execve => {
            // Its streams, its connection to the sandbox, init, and what it joins its cgroups by, each a file that
            // leads nowhere else.
            ["/dev/null", "socket", "pidfd"].contains(&value) || value.starts_with("cgroup file ")
        }
        "fd" => value == "/dev/null",
        "fd-number" => before_execve || ["0", "1", "2"].contains(&value),
        "environ" => !before_execve || value == "LD_LIBRARY_PATH",
        "writable" => false,
        other => panic!("{other}"),
    }
}

/// Not a test but the program in a container: looks into every process there is until its input ends.
#[test]
fn watches_when_told_to() {
    static ENOUGH: AtomicBool = AtomicBool::new(false);
    if std::env::var_os(WATCH).is_none() {
        return;
    }
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        ENOUGH.store(true, Ordering::Relaxed);
    });
    let own = std::process::id().to_string();
    let mut seen = BTreeSet::new();
    while !ENOUGH.load(Ordering::Relaxed) {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().iter().all(u8::is_ascii_digit) && name.to_str() != Some(&own) {
                look_into(&entry.path(), &mut seen);
            }
        }
    }
    seen.iter().for_each(|fact| println!("\nseen {fact}"));
}

/// Everything a privileged process can reach through another one's directory in proc.
fn look_into(process: &Path, seen: &mut BTreeSet<String>) {
    let mut facts = Vec::new();
    let comm = || std::fs::read_to_string(process.join("comm")).unwrap_or_default();
    let before = comm();
    for what in ["root", "cwd"] {
        if let Ok(found) = std::fs::metadata(process.join(what)) {
            let link = std::fs::read_link(process.join(what)).unwrap_or_default();
            let is_root = is_same(&found, std::fs::metadata("/").ok());
            facts.push(if is_root { format!("{what} /") } else { format!("{what} outside, {link:?}") });
        }
    }
    for entry in std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        let Ok(link) = std::fs::read_link(entry.path()) else { continue };
        let link = link.display().to_string();
        let Ok(found) = std::fs::metadata(entry.path()) else { continue };
        let class = match link.split(':').next().unwrap_or_default() {
            "socket" => "socket".to_owned(),
            "anon_inode" if link.contains("pidfd") => "pidfd".to_owned(),
            _ if link.starts_with("pidfd:") => "pidfd".to_owned(),
            _ if is_same(&found, std::fs::metadata("/dev/null").ok()) => "/dev/null".to_owned(),
            _ if found.is_file() && (link.ends_with("/tasks") || link.ends_with("/cgroup.procs")) => {
                format!("cgroup file {link}")
            }
            // A file of the container's, which its program opened, or by which the sandbox looked for the program.
            _ if is_same(&found, std::fs::metadata(&link).ok()) => continue,
            _ => format!("{link} ({:?})", found.file_type()),
        };
        facts.push(format!("fd {class}"));
        facts.push(format!("fd-number {}", entry.file_name().display()));
    }
    let environ = std::fs::read(process.join("environ")).unwrap_or_default();
    for entry in environ.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        let name = entry.split(|byte| *byte == b'=').next().unwrap_or_default();
        facts.push(format!("environ {}", String::from_utf8_lossy(name)));
    }
    if std::fs::OpenOptions::new().write(true).open(process.join("exe")).is_ok() {
        facts.push("writable exe".to_owned());
    }
    // Drop the facts if the process has executed another program meanwhile: a later look sees that program.
    if !before.is_empty() && before == comm() {
        seen.extend(facts.into_iter().map(|fact| format!("{}: {fact}", before.trim_end())));
    }
}

fn is_same(one: &Metadata, other: Option<Metadata>) -> bool {
    other.is_some_and(|other| (one.dev(), one.ino()) == (other.dev(), other.ino()))
}

#[test]
fn the_descriptors_are_the_streams_and_what_was_given_whatever_the_caller_leaks() {
    let stage = stage!();
    let _leaked: Vec<OwnedFd> = (0..200).map(|_| leak(File::open("/").unwrap())).collect();
    let container = start(stage.container("leak").args(["sleep", "1000"]));
    let given = File::open("/dev/null").unwrap();
    let exec = Exec::new(["sh", "-c", "ls /proc/$$/fd; :"]).fd(9, given);
    let seen = String::from_utf8(container.exec_output(exec).unwrap().stdout).unwrap();
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "9"]);
}

/// The same file on a descriptor that survives execve.
fn leak(file: File) -> OwnedFd {
    let fd = OwnedFd::from(file);
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
    fd
}

#[test]
fn no_descriptor_is_a_working_directory() {
    let stage = stage!();
    let _leaked: Vec<OwnedFd> = (0..20).map(|_| leak(File::open("/").unwrap())).collect();
    let container = start(stage.container("cwd").args(["sleep", "1000"]));
    let descriptors = (0..1024).map(|number| format!("/proc/self/fd/{number}"));
    for cwd in descriptors.chain(["/proc/1/cwd".into(), "/proc/self/root/../..".into()]) {
        let exec = Exec::new(["sh", "-c", "pwd -P; ls -d /proc/self/cwd/."]).cwd(cwd.as_str());
        match container.exec_output(exec) {
            Err(error) => assert!(error.to_string().contains("cwd"), "{cwd}: {error}"),
            // The container's own root, which every process in it may enter.
            Ok(output) => {
                let at = String::from_utf8(output.stdout).unwrap();
                assert!(!cwd.contains("/fd/") && at.starts_with("/\n"), "{cwd} is {at}");
            }
        }
    }
}

#[test]
fn a_target_that_is_the_running_program_changes_nothing() {
    let stage = stage!();
    let own = std::env::current_exe().unwrap();
    let before = (std::fs::read(&own).unwrap(), std::fs::metadata(&own).unwrap().ino());
    let bin = stage.busybox().join("bin");
    write_script(&bin.join("entry-exe"), "#!/proc/self/exe\n");
    write_script(&bin.join("entry-init"), "#!/proc/1/exe\n");
    symlink("/proc/self/exe", bin.join("entry-link")).unwrap();
    let builder = stage.container("target").rootfs(Rootfs::directory(stage.busybox()));
    let container = start(builder.args(["sleep", "1000"]));
    for name in ["entry-exe", "entry-init", "entry-link"] {
        let limit = std::time::Duration::from_secs(5);
        let outcome = container.exec_output(Exec::new([format!("/bin/{name}")]).timeout(limit));
        // Refused, or busybox, or a helper without a peer: harmless.
        assert!(
            outcome.as_ref().map_or(true, |output| !output.exit.outcome.success()),
            "{name}: {outcome:?}"
        );
    }
    assert!(container.exec(Exec::new(["true"])).unwrap().wait().unwrap().outcome.success(), "it goes on");
    let after = (std::fs::read(&own).unwrap(), std::fs::metadata(&own).unwrap().ino());
    assert!(before == after, "the executable is the same");
}

#[test]
fn neither_groups_nor_inheritable_capabilities_of_the_caller_reach_what_is_executed() {
    if let Some(directory) = caller::role() {
        if is_root() {
            let groups = [4, 20, 999].map(nix::unistd::Gid::from_raw);
            nix::unistd::setgroups(&groups).unwrap();
        }
        let permitted = caps::read(None, caps::CapSet::Permitted).unwrap();
        caps::set(None, caps::CapSet::Inheritable, &permitted).unwrap();
        let root = caller::root(&directory);
        for userns in [true, false] {
            if !userns && !is_root() {
                continue;
            }
            let id = format!("{}-{userns}", caller_id(&directory));
            let builder = ContainerBuilder::new().id(id).state_root(root.clone()).args(["sleep", "1000"]);
            let builder = if userns { builder } else { builder.without_user_namespace() };
            let container = start(builder.grant_capabilities([Capability::NetBindService].into()));
            judge_status(&container, Exec::new(["cat", "/proc/self/status"]), "0000000000000400", "0", "");
            let as_user = Exec::new(["cat", "/proc/self/status"]).capabilities([].into());
            judge_status(&container, as_user, "0000000000000000", "0", "");
            if is_root() {
                let other = Exec::new(["cat", "/proc/self/status"]).user(7, 8).groups([9, 10]);
                judge_status(&container, other.capabilities([].into()), "0000000000000000", "7", "9 10");
            }
        }
        return caller::say("judged");
    }
    let stage = stage!();
    let mut caller = Caller::spawn(stage.path());
    assert_eq!(caller.hear(), "judged");
    caller.finish();
}

fn caller_id(directory: &Path) -> String {
    directory.file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned()
}

/// Compares what the kernel says of a process with what its configuration says.
fn judge_status(container: &Container<Running>, exec: Exec, capabilities: &str, uid: &str, groups: &str) {
    let output = container.exec_output(exec).unwrap();
    let status = String::from_utf8(output.stdout).unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(line_of(&status, set), capabilities, "{set}");
    }
    assert_eq!(line_of(&status, "Uid"), [uid; 4].join(" "));
    assert_eq!(line_of(&status, "Groups"), groups);
    assert_eq!(line_of(&status, "NoNewPrivs"), "1");
    assert_eq!((line_of(&status, "Seccomp"), line_of(&status, "Seccomp_filters")), ("2".into(), "1".into()));
    for mask in ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
        assert_eq!(line_of(&status, mask), "0000000000000000", "{mask}");
    }
}
