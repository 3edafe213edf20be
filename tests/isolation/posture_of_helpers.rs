//! What gofer and sandbox are, seen from the host; and what an image that attacks its assembly gets.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::witness::descriptors;
use crate::kit::{Stage, is_root, skip, stage, status_line, write_script};
use cofferdam::helpers::Helper;
use cofferdam::info::Info;
use cofferdam::{Container, Rootfs, Running};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn start(stage: &Stage, name: &str) -> Container<Running> {
    stage.container(name).args(["sleep", "1000"]).build().unwrap().create().unwrap().start().unwrap()
}

fn gofer_pid(container: &Container<Running>) -> i32 {
    container.info().gofer.as_ref().expect("recorded").pid
}

fn first_argument(pid: i32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    String::from_utf8_lossy(line.split(|byte| *byte == 0).next().unwrap()).into_owned()
}

#[test]
fn helpers_have_names_of_their_own_and_are_children_of_the_caller() {
    let stage = stage!();
    let running = start(&stage, "names");
    let own = std::process::id().to_string();
    for (pid, name) in
        [(gofer_pid(&running), "cofferdam-gofer"), (running.sandbox_pid(), "cofferdam-sandbox")]
    {
        assert_eq!(first_argument(pid), name);
        assert_eq!(status_line(&pid.to_string(), "PPid"), own);
        assert!(!status_line(&pid.to_string(), "State").starts_with('Z'), "{name} lives");
        assert_eq!(status_line(&pid.to_string(), "Threads"), "1");
    }
}

/// Sends the process every signal but SIGKILL and SIGSTOP, which no process can ignore, and SIGCONT.
fn signal_with_everything(pid: i32) {
    let script = "for s in $(seq 64); do case $s in 9|18|19) ;; *) kill -$s $0 || exit 1;; esac; done";
    let sent = std::process::Command::new("sh").args(["-c", script, &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "{pid} was there until the end");
}

#[test]
fn a_supervisor_that_signals_every_process_ends_no_helper_and_the_workload_has_its_signals() {
    let stage = stage!();
    let zygote = cofferdam::Zygote::spawn().unwrap();
    let ignoring = "trap '' HUP INT QUIT USR1 USR2 ALRM TERM; echo ready >/tmp/ready; exec sleep 1000";
    for forked in [false, true] {
        let builder = stage.shell(if forked { "forked" } else { "executed" }, ignoring);
        let running = crate::kit::start(if forked { builder.zygote(&zygote) } else { builder });
        let files = running.files().unwrap();
        while files.read("/tmp/ready", 9).is_err() {
            std::thread::yield_now();
        }
        let helpers = || {
            let all = crate::kit::witness::descendants(std::process::id()).into_iter();
            all.filter(|process| process.name.starts_with("cofferdam")).collect::<Vec<_>>()
        };
        let before = helpers();
        let named = |name: &str| before.iter().any(|process| process.name.starts_with(name));
        for name in ["cofferdam-gofer", "cofferdam-sandb", "cofferdam-files", "cofferdam-zygot"] {
            assert!(
                named(name),
                "{name} in {:?}",
                before.iter().map(ToString::to_string).collect::<Vec<_>>()
            );
        }
        for helper in &before {
            signal_with_everything(i32::try_from(helper.pid).unwrap());
        }
        let status = running.exec_output(cofferdam::Exec::new(["cat", "/proc/self/status"])).unwrap().stdout;
        let status = String::from_utf8(status).unwrap();
        for mask in ["SigBlk", "SigIgn", "SigPnd", "ShdPnd"] {
            assert_eq!(crate::kit::line_of(&status, mask), NONE, "{mask}");
        }
        files.write("/tmp/after", b"", 0o600).unwrap();
        let pids = |all: &[crate::kit::witness::Process]| all.iter().map(|one| one.pid).collect::<Vec<_>>();
        assert_eq!(pids(&helpers()), pids(&before));
        drop(files);
        running.kill().unwrap().delete().unwrap();
    }
    drop(zygote);
}

#[test]
fn the_gofer_can_do_nothing_but_wait_and_remove_its_containers_cgroups() {
    let stage = stage!();
    let with_cgroups = start(&stage, "gofer");
    let builder = stage.container("without").args(["sleep", "1000"]).without_cgroup();
    for running in [with_cgroups, crate::kit::start(builder)] {
        let gofer = gofer_pid(&running).to_string();
        // At the top of a hierarchy not even the owner of a directory may remove what is in it.
        let parents = running.info().cgroups.into_iter().map(|cgroup| cgroup.parent().unwrap().to_owned());
        let closed = |parent: PathBuf| std::fs::metadata(parent).unwrap().mode() & libc::S_IWUSR == 0;
        let takes_override = is_root() && parents.into_iter().any(closed);
        let dac_override = if takes_override { "0000000000000002" } else { NONE };
        for (set, expected) in
            [("CapInh", NONE), ("CapPrm", dac_override), ("CapEff", dac_override), ("CapAmb", NONE)]
        {
            assert_eq!(status_line(&gofer, set), expected, "{set}");
        }
        assert_eq!(status_line(&gofer, "NoNewPrivs"), "1");
        assert_eq!(status_line(&gofer, "Seccomp"), "2");
    }
}

/// No capability.
const NONE: &str = "0000000000000000";

#[test]
fn helpers_hold_only_descriptors_of_their_own() {
    let stage = stage!();
    if !is_root() {
        skip!("descriptors of processes that are not dumpable are root's to read");
    }
    // As many as it takes for some to have numbers below those of what is donated, and above those it is given there.
    let leak = |_| {
        let leaked = std::fs::File::open("/usr").unwrap();
        rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
        leaked
    };
    let _leaked: Vec<_> = (0..64).map(leak).collect();
    let running = start(&stage, "fds");
    for (name, pid) in [("gofer", gofer_pid(&running)), ("sandbox", running.sandbox_pid())] {
        for (fd, to) in descriptors(&pid.to_string()) {
            let class = to.split(':').next().unwrap();
            let ours = ["socket", "pipe", "anon_inode"].contains(&class)
                || to == "/dev/null"
                || to.ends_with(".run/exit.json")
                || to.ends_with("/exit")
                || (name == "gofer" && is_the_gofers(pid, fd, &running.info()))
                // Its lock on the container's range of host ids.
                || (name == "sandbox" && to == "/run/cofferdam.ids")
                || (name == "sandbox" && ["mnt", "pid"].contains(&class))
                || (name == "sandbox" && is_the_sandboxes(&to, running.id().as_str()));
            assert!(ours, "{name} holds {fd} -> {to}");
        }
    }
    let gofer = gofer_pid(&running);
    let mut held = descriptors(&gofer.to_string());
    held.retain(|fd, _| !is_the_gofers(gofer, *fd, &running.info()));
    assert!(held.len() <= 5, "the gofer holds its streams and its connection besides: {held:?}");
}

/// Its container's cgroups, and where they are. By number, because their mount is one that the gofer has left, in which
/// they have no path.
fn is_the_gofers(gofer: i32, fd: u32, record: &Info) -> bool {
    let number = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let held = number(Path::new(&format!("/proc/{gofer}/fd/{fd}")));
    let mut cgroups = record.cgroups.iter().flat_map(|cgroup| [Some(cgroup.as_path()), cgroup.parent()]);
    held.is_some() && cgroups.any(|cgroup| cgroup.and_then(number) == held)
}

/// Its container's root, its own score, its run directory, and files of its container's cgroups, to freeze it and to join
/// them, and of no other's.
fn is_the_sandboxes(path: &str, id: &str) -> bool {
    path == "/"
        || path.ends_with("/oom_score_adj")
        || path.contains(".run/")
        || path.contains(&format!("/cofferdam-{id}"))
}

#[test]
fn helpers_are_nowhere_near_the_callers_working_directory() {
    let stage = stage!();
    if !is_root() {
        skip!("the working directory of a process that is not dumpable is root's to see");
    }
    let running = start(&stage, "cwd");
    for pid in [gofer_pid(&running), running.sandbox_pid()] {
        assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    }
    let identity = |path: String| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).unwrap();
    let [cwd, root] = ["cwd", "root"].map(|name| identity(format!("/proc/{}/{name}", running.sandbox_pid())));
    assert_eq!(cwd, root, "the container's root, not the host's");
}

#[test]
fn the_executable_of_a_helper_cannot_be_written() {
    let stage = stage!();
    if !is_root() {
        skip!("the image of a process that is not dumpable is root's to look at");
    }
    let running = start(&stage, "image");
    for pid in [gofer_pid(&running), running.sandbox_pid()] {
        let image = format!("/proc/{pid}/exe");
        let refused = std::fs::OpenOptions::new().write(true).open(&image).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ExecutableFileBusy, "{refused}");
        // Also when no process executes it any more: the mount that shows it is read-only.
        let same = std::fs::metadata(&image).unwrap().permissions();
        let refused = std::fs::set_permissions(&image, same).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{refused}");
        assert_eq!(std::fs::read(&image).unwrap(), std::fs::read(std::env::current_exe().unwrap()).unwrap());
    }
    assert!(stage.changes().iter().all(|change| !change.contains("mount")), "it is attached nowhere");
}

#[test]
fn the_gofer_cannot_be_looked_into_by_its_user() {
    let stage = stage!();
    if is_root() {
        skip!("root owns all files of its processes, and may read them");
    }
    let running = start(&stage, "dumpable");
    let environ = format!("/proc/{}/environ", gofer_pid(&running));
    // The files of a process that is not dumpable belong to root (proc_pid(5)).
    assert_eq!(std::fs::metadata(&environ).unwrap().uid(), 0);
    assert!(std::fs::read(&environ).is_err());
}

#[test]
fn helpers_with_nothing_to_do_give_back_their_code() {
    let stage = stage!();
    rest_and_work_on(&stage);
}

/// The filter of its gofer must allow all that this allocator needs by then.
#[test]
fn installed_helpers_with_nothing_to_do_give_back_their_code() {
    let stage = stage!();
    Helper::at(env!("CARGO_BIN_EXE_cofferdam-helper")).unwrap().install().unwrap();
    rest_and_work_on(&stage);
}

fn rest_and_work_on(stage: &Stage) {
    let running = start(stage, "idle");
    let kib = |pid: i32, name| -> u64 {
        let line = status_line(&pid.to_string(), name);
        line.split(' ').next().and_then(|kib| kib.parse().ok()).expect("a size in kB")
    };
    let helpers = [gofer_pid(&running), running.sandbox_pid()];
    let deadline = Instant::now() + Duration::from_secs(10);
    // Their peak was when they made the container.
    while helpers.into_iter().any(|pid| kib(pid, "VmRSS") * 4 > kib(pid, "VmHWM") * 3) {
        let now = helpers.map(|pid| ["VmRSS", "VmHWM"].map(|name| kib(pid, name)));
        assert!(Instant::now() < deadline, "resident and at its peak, KiB: {now:?}");
        std::thread::yield_now();
    }
    // They still work.
    running.exec_output(cofferdam::Exec::new(["true"])).unwrap();
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn helpers_keep_nothing_of_the_callers_environment() {
    let stage = stage!();
    if !is_root() {
        skip!("the environment of a process that is not dumpable is root's to read");
    }
    let running = start(&stage, "environment");
    for pid in [gofer_pid(&running), running.sandbox_pid()] {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        let names = environ.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
        let names: Vec<_> = names.map(|entry| String::from_utf8_lossy(entry).into_owned()).collect();
        assert!(names.iter().all(|name| name.starts_with("LD_LIBRARY_PATH=")), "{names:?}");
    }
}

#[test]
fn an_entry_point_that_is_the_running_program_changes_nothing() {
    let stage = stage!();
    let own = std::env::current_exe().unwrap();
    let before = (std::fs::read(&own).unwrap(), std::fs::metadata(&own).unwrap().ino());
    for (name, text) in [("exe", "#!/proc/self/exe\n"), ("parent", "#!/proc/1/exe\n"), ("link", "")] {
        let entry = stage.busybox().join("bin").join(format!("entry-{name}"));
        if text.is_empty() {
            symlink("/proc/self/exe", &entry).unwrap();
        } else {
            write_script(&entry, text);
        }
        let program = format!("/bin/entry-{name}");
        let builder = stage.container("entry").rootfs(Rootfs::directory(stage.busybox())).args([program]);
        // Refused, or harmless: it must not become a helper that anybody listens to.
        let outcome = builder.timeout(Duration::from_secs(5)).run();
        assert!(outcome.as_ref().map_or(true, |exit| !exit.outcome.success()), "{name}: {outcome:?}");
    }
    let after = (std::fs::read(&own).unwrap(), std::fs::metadata(&own).unwrap().ino());
    assert!(before == after, "the executable is the same");
}

#[test]
fn nothing_visible_in_proc_can_be_opened_for_writing_as_a_program() {
    let stage = stage!();
    let script = "for p in /proc/[0-9]*/exe; do (: >> $p) 2>/dev/null && echo WROTE $p; done; echo done";
    let seen = crate::kit::stdout_of(stage.busybox_shell("write", script));
    assert_eq!(seen, "done");
}

#[test]
fn a_rootfs_whose_mount_points_lead_out_touches_nothing_outside() {
    let stage = stage!();
    let canary = stage.path().join("canary");
    std::fs::create_dir(&canary).unwrap();
    std::fs::write(canary.join("file"), "untouched").unwrap();
    for target in ["proc", "sys", "dev", "tmp"] {
        for to in [canary.clone(), Path::new("../../../../../..").join(canary.strip_prefix("/").unwrap())] {
            let rootfs = stage.path().join("evil");
            crate::kit::write_busybox_rootfs(&rootfs);
            std::fs::remove_dir(rootfs.join(target)).unwrap();
            symlink(&to, rootfs.join(target)).unwrap();
            let builder = stage.container("evil").rootfs(Rootfs::directory(&rootfs)).writable_rootfs();
            // Inside the rootfs, or a clean error; never outside.
            let outcome = builder.args(["sh", "-c", "echo x > /dev/null; touch /tmp/x"]).run();
            let names: Vec<_> =
                std::fs::read_dir(&canary).unwrap().flatten().map(|entry| entry.file_name()).collect();
            assert_eq!(names, ["file"], "{target} -> {}: {outcome:?}", to.display());
            assert_eq!(std::fs::read_to_string(canary.join("file")).unwrap(), "untouched");
            std::fs::remove_dir_all(&rootfs).unwrap();
        }
    }
}

#[test]
fn a_mount_destination_that_is_a_symlink_stays_inside() {
    let stage = stage!();
    let (canary, shared) = (stage.open_directory("canary"), stage.open_directory("shared"));
    symlink(&canary, stage.busybox().join("data")).unwrap();
    let script = "echo x > /data/made 2>/dev/null; true";
    let builder = stage.busybox_shell("symlink", script).bind_rw(&shared, "/data/deep").writable_rootfs();
    let outcome = builder.run();
    assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 0, "{outcome:?}");
}
