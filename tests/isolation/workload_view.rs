//! What the workload sees of what was asked for: arguments, environment, ids, mounts, streams.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::{is_root, skip, stage, stdout_of};
use cofferdam::{ErrorKind, Rootfs, Stdio};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;

/// More than any pipe holds.
const FLOOD: usize = 8 << 20;

#[test]
fn arguments_arrive_as_they_were_given() {
    let stage = stage!();
    let words = ["printf", "<%s>", "a b", "", "$HOME", "*", "ü\n-"];
    let output = stage.container("args").args(words).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "<a b><><$HOME><*><ü\n->");
}

#[test]
fn the_environment_is_what_was_set_and_nothing_of_the_callers() {
    let stage = stage!();
    let builder = stage.container("env").args(["env"]).env("GREETING", "hello world").env("EMPTY", "");
    let seen = stdout_of(builder);
    let mut names: Vec<&str> = seen.lines().collect();
    names.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(names.first(), Some(&"EMPTY="));
    assert!(names.contains(&"GREETING=hello world") && names.contains(&path), "{names:?}");
    let extra: Vec<_> = names
        .iter()
        .filter(|name| !["EMPTY", "GREETING", "PATH", "HOME"].iter().any(|known| name.starts_with(known)))
        .collect();
    assert!(extra.is_empty(), "{extra:?}");
}

#[test]
fn directory_host_name_and_umask_are_the_containers() {
    let stage = stage!();
    let script = "pwd; hostname; umask; touch f; stat -c %a f";
    let builder = stage.busybox_shell("place", script).cwd("/tmp").hostname("island").umask(0o027);
    assert_eq!(stdout_of(builder), "/tmp\nisland\n0027\n640");
    let default = stage.busybox_shell("default", "umask; hostname; pwd");
    assert_eq!(stdout_of(default), "0022\ncofferdam\n/");
}

#[test]
fn a_missing_working_directory_is_made_where_the_root_can_be_written() {
    let stage = stage!();
    let builder = stage.busybox_shell("cwd", "pwd").cwd("/srv/deep").scratch(None);
    assert_eq!(stdout_of(builder), "/srv/deep");
    assert!(!stage.busybox().join("srv").exists(), "and only there");
    let failed = stage.busybox_shell("nocwd", "pwd").cwd("/tmp/../bin/sh").build().map(drop);
    let failed = failed.map_or_else(
        |error| error.to_string(),
        |()| {
            stage
                .busybox_shell("nocwd", "pwd")
                .cwd("/bin/sh")
                .build()
                .unwrap()
                .create()
                .unwrap_err()
                .to_string()
        },
    );
    assert!(failed.contains("cwd"), "a working directory that is a file is refused by name: {failed}");
}

#[test]
fn files_about_the_whole_machine_are_empty() {
    let stage = stage!();
    let script = "for file in config.gz interrupts kcore key-users keys timer_list; do
        test ! -e /proc/$file || head -c 1 /proc/$file; done | wc -c
        ls /sys/firmware /sys/devices/virtual/powercap 2>/dev/null | grep -v : | wc -w";
    assert_eq!(stdout_of(stage.shell("machine", script)), "0\n0");
}

#[test]
fn ids_are_the_ones_asked_for() {
    let stage = stage!();
    assert_eq!(stdout_of(stage.busybox_shell("root", "id -u; id -g; id -G")), "0\n0\n0");
    let other = stage.busybox_shell("ids", "id -u; id -g; id -G").user(1000, 100).groups([7, 8]);
    match other.output() {
        Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout), "1000\n100\n100 7 8\n"),
        // One id is mapped there: no other can be had, and that is said by name.
        Err(error) if !is_root() => assert_eq!(
            error.to_string(),
            "builder: user.uid: 1000 is not mapped (add it to linux.uidMappings)"
        ),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn ids_that_are_not_mapped_are_refused_before_anything_happens() {
    let stage = stage!();
    let refused = stage.container("unmapped").args(["true"]).user(70_000, 0).build().unwrap_err();
    assert!(
        matches!(refused.kind(), ErrorKind::InvalidSpec { path } if path.starts_with("process.user")),
        "{refused}"
    );
    let refused = stage.container("unmapped").args(["true"]).groups([70_000]).build().unwrap_err();
    assert!(refused.to_string().starts_with("builder: groups[0]: 70000 is not mapped"), "{refused}");
}

#[test]
fn the_root_is_read_only_unless_asked_otherwise() {
    let stage = stage!();
    let script = "touch /x 2>&1; echo $?";
    let said = stdout_of(stage.busybox_shell("ro", script));
    assert!(said.contains("Read-only file system") && said.ends_with('1'), "{said}");
    assert!(!stage.busybox().join("x").exists());
}

#[test]
fn scratch_writes_do_not_reach_the_rootfs() {
    let stage = stage!();
    let rootfs = stage.busybox();
    std::fs::write(rootfs.join("etc/motd"), "old").unwrap();
    let script = "echo new > /etc/motd; rm /bin/wc; mkdir /made; cat /etc/motd; ls -d /made";
    assert_eq!(stdout_of(stage.busybox_shell("scratch", script).scratch(Some(8 << 20))), "new\n/made");
    assert_eq!(std::fs::read_to_string(rootfs.join("etc/motd")).unwrap(), "old");
    assert!(rootfs.join("bin/wc").is_symlink() && !rootfs.join("made").exists());
}

#[test]
fn a_scratch_is_no_larger_than_asked() {
    let stage = stage!();
    let script = "head -c 4194304 /dev/zero > /big; echo $?; stat -c %s /big";
    let said = stdout_of(stage.busybox_shell("small", script).scratch(Some(1 << 20)));
    let size: u64 = said.lines().last().unwrap().parse().unwrap();
    assert!(said.starts_with('1') && size <= 1 << 20, "{said}");
}

#[test]
fn a_scratch_on_the_hosts_directories_does_not_reach_the_host() {
    let stage = stage!();
    let mark = stage.id("mark");
    let script = format!("touch /etc/{mark} /usr/{mark} /opt/{mark} && echo done");
    assert_eq!(stdout_of(stage.shell("hostscratch", &script).scratch(None)), "done");
    for directory in ["etc", "usr", "opt"] {
        assert!(!std::path::Path::new("/").join(directory).join(&mark).exists(), "/{directory}");
    }
}

#[test]
fn a_writable_rootfs_is_written_to() {
    let stage = stage!();
    assert_eq!(
        stdout_of(stage.busybox_shell("writable", "echo kept > /etc/kept; echo ok").writable_rootfs()),
        "ok"
    );
    assert_eq!(std::fs::read_to_string(stage.busybox().join("etc/kept")).unwrap(), "kept\n");
}

#[test]
fn binds_are_read_only_or_writable_as_asked() {
    let stage = stage!();
    let (open, closed) = (stage.open_directory("open"), stage.open_directory("closed"));
    std::fs::write(closed.join("text"), "from the host").unwrap();
    let script = "cat /tmp/ro/text; echo; echo x > /tmp/rw/made; touch /tmp/ro/not 2>&1; true";
    let builder = stage.busybox_shell("binds", script).bind_ro(&closed, "/tmp/ro").bind_rw(&open, "/tmp/rw");
    let said = stdout_of(builder);
    assert!(said.starts_with("from the host\n") && said.contains("Read-only file system"), "{said}");
    assert_eq!(std::fs::read_to_string(open.join("made")).unwrap(), "x\n");
    assert!(!closed.join("not").exists());
}

#[test]
fn a_single_file_can_be_bound() {
    let stage = stage!();
    let file = stage.path().join("file");
    std::fs::write(&file, "one file").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(
        stdout_of(stage.busybox_shell("file", "cat /tmp/file").bind_ro(&file, "/tmp/file")),
        "one file"
    );
}

#[test]
fn a_bind_of_nothing_is_refused_by_name() {
    let stage = stage!();
    let missing = stage.path().join("missing");
    let builder = stage.busybox_shell("nothing", "true").bind_ro(&missing, "/tmp/x");
    let failed = builder.build().unwrap().create().unwrap_err();
    let index = 7;
    assert_eq!(
        failed.error().to_string(),
        format!("builder: bind_ro(\"/tmp/x\").source: {}: No such file or directory", missing.display())
    );
    assert!(
        matches!(failed.error().kind(), ErrorKind::InvalidSpec { path } if *path == format!("mounts[{index}].source"))
    );
}

#[test]
fn a_tmpfs_is_empty_and_no_larger_than_asked() {
    let stage = stage!();
    let script =
        "ls -A /tmp/mem | wc -l; head -c 4194304 /dev/zero > /tmp/mem/big; echo $?; stat -c %s /tmp/mem/big";
    let said = stdout_of(stage.busybox_shell("tmpfs", script).tmpfs("/tmp/mem", 1 << 20));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines[0].trim(), lines[1]), ("0", "1"), "{said}");
    assert!(lines[2].parse::<u64>().unwrap() <= 1 << 20, "{said}");
}

#[test]
fn streams_are_null_by_default() {
    let stage = stage!();
    let shared = stage.open_directory("shared");
    let script = "wc -c < /proc/self/fd/0 > /shared/read; readlink /proc/self/fd/0 > /shared/link; echo lost; echo lost >&2";
    let exit = stage.shell("null", script).bind_rw(&shared, "/shared").run().unwrap();
    assert!(exit.outcome.success());
    assert_eq!(std::fs::read_to_string(shared.join("read")).unwrap().trim(), "0");
}

#[test]
fn what_is_piped_in_comes_out() {
    let stage = stage!();
    let builder = stage.container("echo").args(["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut created = builder.build().unwrap().create().unwrap();
    let (mut stdin, mut stdout) = (created.take_stdin().unwrap(), created.take_stdout().unwrap());
    assert!(created.take_stdin().is_none() && created.take_stderr().is_none());
    let running = created.start().unwrap();
    stdin.write_all(b"there and back").unwrap();
    let mut half = [0; 14];
    stdout.read_exact(&mut half).unwrap();
    drop(stdin);
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!((&half, rest.as_slice()), (b"there and back", &b""[..]));
    assert!(running.wait().unwrap().outcome.success());
}

#[test]
fn a_flood_on_both_streams_is_collected_whole() {
    let stage = stage!();
    let script = format!("head -c {FLOOD} /dev/zero & head -c {FLOOD} /dev/zero >&2; wait");
    let output = stage.shell("flood", &script).output().unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (FLOOD, FLOOD));
}

#[test]
fn files_and_descriptors_are_used_as_they_are() {
    let stage = stage!();
    let input = stage.path().join("input");
    std::fs::write(&input, "text").unwrap();
    let mut out =
        File::options().create(true).read(true).append(true).open(stage.path().join("out")).unwrap();
    out.write_all(b"before ").unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let exit = stage
        .shell("files", "cat; echo oops >&2")
        .stdin(File::open(&input).unwrap())
        .stdout(out.try_clone().unwrap())
        .stderr(Stdio::fd(writer))
        .run()
        .unwrap();
    assert!(exit.outcome.success());
    let (mut text, mut errors) = (String::new(), String::new());
    out.rewind().unwrap();
    out.read_to_string(&mut text).unwrap();
    reader.read_to_string(&mut errors).unwrap();
    assert_eq!((text.as_str(), errors.as_str()), ("before text", "oops\n"));
}

#[test]
fn inherited_streams_are_the_callers() {
    if let Some(directory) = crate::kit::caller::role() {
        let builder = cofferdam::ContainerBuilder::new().id(format!("it-{}-inherit", std::process::id()));
        let root = crate::kit::caller::root(&directory);
        let exit = builder
            .state_root(root)
            .args(["sh", "-c", "echo; echo caller: of the container"])
            .inherit_stdio()
            .run();
        assert!(exit.unwrap().outcome.success());
        return;
    }
    let stage = stage!();
    let mut caller = crate::kit::caller::Caller::spawn(stage.path());
    assert_eq!(caller.hear(), "of the container");
    caller.finish();
}

#[test]
fn a_directory_that_is_not_there_is_no_rootfs() {
    let stage = stage!();
    let missing = stage.path().join("no-rootfs");
    let builder = stage.container("rootless").rootfs(Rootfs::directory(&missing)).args(["true"]);
    let said = match builder.build() {
        Ok(creating) => creating.create().unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(said, format!("builder: rootfs: {}: No such file or directory", missing.display()));
}

#[test]
fn an_overlay_is_skipped_where_the_kernel_has_none() {
    let stage = stage!();
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap();
    if !filesystems.contains("\toverlay") {
        skip!("this kernel has no overlay file system");
    }
    assert_eq!(
        stdout_of(stage.busybox_shell("overlay", "grep -c overlay /proc/self/mounts").scratch(None)),
        "1"
    );
}
