//! File access from outside a container: every call on real containers, and images that try to make it a way out.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::witness::{descendants, descriptors};
use crate::kit::{Stage, is_readable_within, is_root, skip, stage, status_line};
use cofferdam::files::{FileKind, Transfer};
use cofferdam::{AnyContainer, Container, ErrorKind, Files, Rootfs, Running};
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// A container whose root can be written to, with whatever the stage's rootfs has.
fn start(stage: &Stage, name: &str) -> Container<Running> {
    let builder = stage.container(name).rootfs(Rootfs::directory(stage.busybox())).scratch(None);
    builder.args(["sleep", "1000"]).build().unwrap().create().unwrap().start().unwrap()
}

fn errno<T: std::fmt::Debug>(result: Result<T, cofferdam::Error>) -> i32 {
    let error = result.unwrap_err();
    error.raw_os_error().unwrap_or_else(|| panic!("no errno: {error}"))
}

fn names(files: &Files, path: &str) -> Vec<String> {
    files.list(path).unwrap().into_iter().map(|entry| entry.name.into_string().unwrap()).collect()
}

fn every_call(files: &Files) {
    files.write("/tmp/hello", "hello", 0o640).unwrap();
    assert_eq!(files.read("/tmp/hello", 5).unwrap(), b"hello");
    let error = files.read("/tmp/hello", 4).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: 4 });
    assert_eq!(error.to_string(), "read \"/tmp/hello\": is larger than the limit of 4 bytes");
    let stat = files.stat("tmp/hello").unwrap();
    assert_eq!((stat.kind, stat.mode, stat.uid, stat.gid, stat.size), (FileKind::File, 0o640, 0, 0, 5));
    assert!(stat.modified().elapsed().unwrap() < Duration::from_secs(60));

    files.write("/tmp/hello", "bye", 0o777).unwrap();
    assert_eq!(files.read("/tmp/hello", 5).unwrap(), b"bye", "replaced, not overwritten");
    assert_eq!(files.stat("/tmp/hello").unwrap().mode, 0o640, "and its mode is its own");

    let mut created = files.create("/tmp/created", 0o4755).unwrap();
    created.write_all(b"content").unwrap();
    created.rewind().unwrap();
    let mut text = String::new();
    created.read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    assert_eq!(errno(files.create("/tmp/created", 0o600)), libc::EEXIST);
    let mut opened = files.open("/tmp/created").unwrap();
    assert!(opened.write_all(b"x").is_err(), "opened for reading only");

    files.create_dir("/tmp/dir", 0o750).unwrap();
    assert_eq!(files.stat("/tmp/dir").unwrap().mode, 0o750);
    assert_eq!(errno(files.create_dir("/tmp/dir", 0o750)), libc::EEXIST);
    files.create_dir_all("/tmp/dir/a/b/c", 0o755).unwrap();
    files.create_dir_all("/tmp/dir/a/b/c", 0o755).unwrap();
    assert_eq!(errno(files.create_dir_all("/tmp/hello/a", 0o755)), libc::ENOTDIR);

    files.symlink("../hello", "/tmp/dir/link").unwrap();
    assert_eq!(files.read_link("/tmp/dir/link").unwrap(), Path::new("../hello"));
    assert_eq!(errno(files.read_link("/tmp/hello")), libc::EINVAL);
    assert_eq!(files.read("/tmp/dir/link", 9).unwrap(), b"bye");
    let link = files.lstat("/tmp/dir/link").unwrap();
    assert_eq!((link.kind, link.target.as_deref()), (FileKind::Symlink, Some(Path::new("../hello"))));
    assert_eq!(files.stat("/tmp/dir/link").unwrap().kind, FileKind::File);

    files.hard_link("/tmp/hello", "/tmp/dir/second").unwrap();
    assert_eq!(files.stat("/tmp/hello").unwrap().links, 2);
    assert_eq!(names(files, "/tmp/dir"), ["a", "link", "second"]);

    files.set_permissions("/tmp/hello", 0o4711).unwrap();
    assert_eq!(files.stat("/tmp/hello").unwrap().mode, 0o4711);
    files.set_permissions("/tmp/dir", 0o1777).unwrap();
    assert_eq!(files.stat("/tmp/dir").unwrap().mode, 0o1777);

    files.rename("/tmp/dir/second", "/tmp/dir/third").unwrap();
    assert_eq!(names(files, "/tmp/dir"), ["a", "link", "third"]);

    assert_eq!(errno(files.remove_dir("/tmp/dir")), libc::ENOTEMPTY);
    assert_eq!(errno(files.remove_file("/tmp/dir")), libc::EISDIR);
    files.remove_file("/tmp/dir/link").unwrap();
    files.remove_dir("/tmp/dir/a/b/c").unwrap();
    files.remove_all("/tmp/dir").unwrap();
    assert_eq!(errno(files.remove_all("/tmp/dir")), libc::ENOENT);
    files.remove_all("/tmp/created").unwrap();
    files.remove_file("/tmp/hello").unwrap();
    assert_eq!(names(files, "/tmp"), [""; 0]);
}

#[test]
fn every_call_works_while_created_and_running_and_from_any_handle() {
    let stage = stage!();
    let builder = stage.container("calls").rootfs(Rootfs::directory(stage.busybox()));
    let creating = builder.args(["sleep", "1000"]).build().unwrap();
    let created = creating.create().unwrap();
    every_call(&created.files().unwrap());
    let running = created.start().unwrap();
    every_call(&running.files().unwrap());
    let loaded = AnyContainer::load(stage.root(), running.id().as_str()).unwrap();
    let files = loaded.as_alive().unwrap().files().unwrap();
    every_call(&files);
    assert!(
        stage.changes().iter().any(|change| change.contains("cofferdam-files")),
        "a process does the work"
    );

    let stopped = running.kill().unwrap();
    assert_eq!(*files.stat("/").unwrap_err().kind(), ErrorKind::Ended, "it ends with the container");
    let ended = AnyContainer::load(stage.root(), stopped.id().as_str()).unwrap();
    assert_eq!(*ended.as_alive().unwrap_err().kind(), ErrorKind::Ended);
    drop(files);
    stopped.delete().unwrap();
}

#[test]
fn owners_and_attributes_are_the_containers() {
    let stage = stage!();
    let running = start(&stage, "owners");
    let files = running.files().unwrap();
    files.write("/tmp/file", "x", 0o644).unwrap();
    if is_root() {
        files.chown("/tmp/file", 7, 8).unwrap();
        let stat = files.stat("/tmp/file").unwrap();
        assert_eq!((stat.uid, stat.gid), (7, 8));
    } else {
        assert_eq!(errno(files.chown("/tmp/file", 70_000, 70_000)), libc::EINVAL);
    }
    files.symlink("nowhere", "/tmp/link").unwrap();
    files.lchown("/tmp/link", 0, 0).unwrap();
    assert_eq!(errno(files.chown("/tmp/link", 0, 0)), libc::ENOENT);

    match files.set_xattr("/tmp/file", "user.note", b"\0\xff value") {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            skip!("tmpfs has no user attributes here")
        }
        set => set.unwrap(),
    }
    assert_eq!(files.get_xattr("/tmp/file", "user.note").unwrap(), b"\0\xff value");
    assert_eq!(files.list_xattrs("/tmp/file").unwrap(), ["user.note"]);
    assert_eq!(errno(files.get_xattr("/tmp/file", "user.other")), libc::ENODATA);
    files.remove_xattr("/tmp/file", "user.note").unwrap();
    assert_eq!(files.list_xattrs("/tmp/file").unwrap(), [""; 0]);
    let too_large = files.set_xattr("/tmp/file", "user.note", vec![0; 17 << 10]).unwrap_err();
    assert_eq!(*too_large.kind(), ErrorKind::InvalidInput);
    assert_eq!(*files.list_xattrs("/dev/null").unwrap_err().kind(), ErrorKind::NotARegularFile);
}

#[test]
fn what_the_workload_sees_is_what_is_seen_here() {
    let stage = stage!();
    let shared = stage.open_directory("shared");
    std::fs::write(shared.join("from-host"), "host").unwrap();
    let script = "echo workload > /tmp/made; mkdir /tmp/d; touch /tmp/ready; \
                  while [ ! -s /tmp/answer ]; do sleep 0.02; done; cat /tmp/answer";
    let builder =
        stage.busybox_shell("view", script).bind_rw(&shared, "/shared").bind_ro(&shared, "/read-only");
    let builder = builder.scratch(None).stdout(cofferdam::Stdio::piped());
    let mut running = builder.build().unwrap().create().unwrap().start().unwrap();
    let mut stdout = running.take_stdout().unwrap();
    let files = running.files().unwrap();
    while files.stat("/tmp/ready").is_err() {
        assert!(!is_readable_within(&running, Duration::from_millis(10)), "it runs");
    }
    assert_eq!(files.read("/tmp/made", MIB).unwrap(), b"workload\n");
    assert_eq!(files.stat("/tmp/d").unwrap().kind, FileKind::Directory);
    assert_eq!(files.read("/shared/from-host", MIB).unwrap(), b"host");
    files.write("/shared/from-here", "here", 0o644).unwrap();
    assert_eq!(std::fs::read(shared.join("from-here")).unwrap(), b"here");
    assert_eq!(errno(files.write("/read-only/new", "x", 0o644)), libc::EROFS);
    assert_eq!(files.read("/proc/2/comm", MIB).unwrap(), b"sh\n", "proc is the container's");
    files.write("/tmp/answer", "done", 0o644).unwrap();
    let mut answer = String::new();
    stdout.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "done");
}

#[test]
fn a_read_only_root_says_so() {
    let stage = stage!();
    let builder = stage.container("ro").rootfs(Rootfs::directory(stage.busybox())).args(["sleep", "1000"]);
    let created = builder.build().unwrap().create().unwrap();
    let files = created.files().unwrap();
    assert_eq!(errno(files.write("/etc/new", "x", 0o644)), libc::EROFS);
    assert_eq!(errno(files.create_dir("/new", 0o755)), libc::EROFS);
    assert_eq!(errno(files.remove_file("/bin/busybox")), libc::EROFS);
    assert_eq!(errno(files.set_permissions("/bin", 0o777)), libc::EROFS);
    files.write("/tmp/new", "x", 0o644).unwrap();
    assert!(!stage.busybox().join("etc/new").exists());
}

#[test]
fn no_path_leads_out_of_the_root() {
    let stage = stage!();
    let canary = stage.open_directory("canary");
    std::fs::write(canary.join("secret"), "of the host").unwrap();
    let rootfs = stage.busybox();
    std::fs::write(rootfs.join("etc/passwd"), "inside").unwrap();
    symlink("/etc/passwd", rootfs.join("abs")).unwrap();
    symlink("../../../../../../etc/passwd", rootfs.join("rel")).unwrap();
    symlink(&canary, rootfs.join("out")).unwrap();
    symlink("dangling-target", rootfs.join("dangling")).unwrap();
    symlink("loop-b", rootfs.join("loop-a")).unwrap();
    symlink("loop-a", rootfs.join("loop-b")).unwrap();
    symlink("/proc/1/root", rootfs.join("magic")).unwrap();
    symlink("/proc/self/fd/0", rootfs.join("magic-fd")).unwrap();
    let running = start(&stage, "out");
    let files = running.files().unwrap();

    for path in ["/abs", "/rel", "/../../etc/passwd", "etc/../../../etc/passwd", "../../../../etc/passwd"] {
        assert_eq!(files.read(path, MIB).unwrap(), b"inside", "{path}");
    }
    let secret = canary.join("secret");
    for path in [secret.as_path(), Path::new("/out/secret")] {
        assert_eq!(errno(files.read(path, MIB)), libc::ENOENT, "{}", path.display());
        assert!(files.stat(path).is_err() && files.remove_all(path).is_err());
    }
    assert!(files.write("/out/planted", "x", 0o644).is_err());
    assert!(files.create_dir("/out/planted", 0o755).is_err());
    assert_eq!(
        errno(files.write("/dangling", "x", 0o644)),
        libc::EEXIST,
        "nothing is made through a symlink"
    );
    assert_eq!(errno(files.create("/dangling", 0o644)), libc::EEXIST);
    assert_eq!(errno(files.read("/loop-a", MIB)), libc::ELOOP);
    for path in ["/magic/etc/passwd", "/proc/1/root/etc/passwd", "/magic-fd", "/proc/1/exe", "/proc/1/cwd"] {
        assert!(files.read(path, MIB).is_err() && files.stat(path).is_err(), "{path}");
    }
    // Names, not places: nothing of these is followed.
    files.rename("/abs", "/renamed").unwrap();
    files.remove_all("/out").unwrap();
    files.remove_all("/renamed").unwrap();
    assert_eq!(files.read("/etc/passwd", MIB).unwrap(), b"inside");
    for path in ["/", "..", "/etc/..", "", "nul\0byte"] {
        assert!(files.remove_all(path).is_err(), "{path:?}");
        assert!(files.write(path, "x", 0o644).is_err(), "{path:?}");
    }
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "of the host");
    assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 1);
}

#[test]
fn fifos_devices_and_directories_are_refused_before_they_are_opened() {
    let stage = stage!();
    let rootfs = stage.busybox();
    rustix::fs::mkfifoat(rustix::fs::CWD, rootfs.join("fifo"), rustix::fs::Mode::from_raw_mode(0o666))
        .unwrap();
    let running = start(&stage, "fifo");
    let files = running.files().unwrap();
    for (path, what) in [
        ("/fifo", "it is a FIFO, not a regular file"),
        ("/dev/null", "it is a character device, not a regular file"),
        ("/etc", "it is a directory, not a regular file"),
    ] {
        for error in [files.read(path, MIB).unwrap_err(), files.write(path, "x", 0o644).unwrap_err()] {
            assert_eq!(*error.kind(), ErrorKind::NotARegularFile, "{error}");
            assert!(error.to_string().contains(what), "{error}");
        }
    }
    let null = files.stat("/dev/null").unwrap();
    assert_eq!((null.kind, null.device_major, null.device_minor), (FileKind::CharDevice, 1, 3));
    // The permission bits of what cannot be opened can be changed nevertheless.
    files.set_permissions("/fifo", 0o600).unwrap();
    assert_eq!(files.stat("/fifo").unwrap().mode, 0o600);
}

#[test]
fn a_large_directory_is_listed_whole_and_strange_names_are_kept() {
    let stage = stage!();
    let running = start(&stage, "list");
    let files = running.files().unwrap();
    files.create_dir("/tmp/many", 0o755).unwrap();
    let strange = std::ffi::OsStr::from_bytes(b"new\nline %41 \xff\"\\");
    let long = "x".repeat(255);
    files.write(Path::new("/tmp/many").join(strange), "strange", 0o644).unwrap();
    files.write(Path::new("/tmp/many").join(&long), "long", 0o644).unwrap();
    for number in 0..2000 {
        files.symlink("x", format!("/tmp/many/{number:05}")).unwrap();
    }
    let list = files.list("/tmp/many").unwrap();
    assert_eq!(list.len(), 2002);
    assert!(list.is_sorted_by(|one, other| one.name < other.name));
    assert_eq!((list[0].name.to_str(), list[0].kind), (Some("00000"), FileKind::Symlink));
    assert!(list.iter().any(|entry| entry.name == strange && entry.kind == FileKind::File));
    assert_eq!(files.read(Path::new("/tmp/many").join(strange), 99).unwrap(), b"strange");
    files.remove_all("/tmp/many").unwrap();
}

#[test]
fn removing_a_tree_stops_at_mounts_and_follows_no_symlink() {
    let stage = stage!();
    let volume = stage.open_directory("volume");
    std::fs::write(volume.join("kept"), "kept").unwrap();
    let builder = stage.container("rm").rootfs(Rootfs::directory(stage.busybox())).scratch(None);
    let builder = builder.bind_rw(&volume, "/tree/volume").args(["sleep", "1000"]);
    let created = builder.build().unwrap().create().unwrap();
    let files = created.files().unwrap();
    files.create_dir_all("/tree/deep/er", 0o755).unwrap();
    files.write("/tree/deep/er/file", "x", 0o644).unwrap();
    files.create_dir("/other", 0o755).unwrap();
    files.write("/other/file", "x", 0o644).unwrap();
    files.symlink("/other", "/tree/link").unwrap();
    let error = files.remove_all("/tree").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{error}");
    assert_eq!(names(&files, "/tree"), ["volume"], "the rest is gone");
    assert_eq!(std::fs::read_to_string(volume.join("kept")).unwrap(), "kept");
    assert_eq!(files.read("/other/file", 1).unwrap(), b"x");
}

#[test]
fn the_worker_has_the_powers_of_a_file_server_and_is_invisible_inside() {
    let stage = stage!();
    let running = start(&stage, "posture");
    let files = running.files().unwrap();
    let sandbox = u32::try_from(running.sandbox_pid()).unwrap();
    let worker = || descendants(sandbox).into_iter().find(|process| process.name == "cofferdam-files");
    let pid = worker().expect("a process does the work").pid.to_string();
    // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETFCAP.
    let file_work = format!("{:016x}", 0x8000_001f_u64);
    for (set, bits) in [("CapPrm", &*file_work), ("CapEff", &*file_work), ("CapInh", "0000000000000000")] {
        assert_eq!(status_line(&pid, set), bits, "{set}");
    }
    assert_eq!(status_line(&pid, "Seccomp"), "2");
    assert_eq!(status_line(&pid, "NoNewPrivs"), "1");
    if is_root() {
        let held = descriptors(&pid);
        assert!(held.len() <= 7, "streams, connection, root, two layers: {held:?}");
        assert!(
            held.values().all(|to| to == "/dev/null" || to == "/" || to.starts_with("socket:")),
            "{held:?}"
        );
        for namespace in ["user", "mnt"] {
            let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
            assert_eq!(of(&pid), of(&running.init_pid().to_string()), "{namespace}");
        }
    }
    let inside = files.list("/proc").unwrap();
    let processes = inside.iter().filter(|entry| entry.name.as_bytes()[0].is_ascii_digit()).count();
    assert_eq!(processes, 2, "the workload sees itself and PID 1");

    drop(files);
    let gone = || worker().is_none();
    for _ in 0..200 {
        if gone() {
            return;
        }
        let _ = is_readable_within(&running, Duration::from_millis(20));
    }
    panic!("the worker is still there: {:?}", worker().map(|process| process.to_string()));
}

#[test]
fn clients_are_served_at_once_up_to_a_limit_that_is_named() {
    let stage = stage!();
    let running = start(&stage, "limit");
    let clients: Vec<Files> = (0..16).map(|_| running.files().unwrap()).collect();
    let error = running.files().unwrap_err();
    assert!(error.to_string().contains("16 clients are being served"), "{error}");
    for (number, files) in clients.iter().enumerate() {
        files.write(format!("/tmp/{number}"), "x", 0o644).unwrap();
    }
    assert_eq!(clients[0].list("/tmp").unwrap().len(), 16);
}

#[test]
fn a_tree_survives_the_trip_in_and_out() {
    let stage = stage!();
    let source = stage.path().join("source");
    std::fs::create_dir_all(source.join("sub/empty")).unwrap();
    std::fs::write(source.join("sub/file"), "content").unwrap();
    std::fs::write(source.join("script"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(source.join("script"), PermissionsExt::from_mode(0o4755)).unwrap();
    std::fs::set_permissions(source.join("sub/empty"), PermissionsExt::from_mode(0o1700)).unwrap();
    std::fs::hard_link(source.join("sub/file"), source.join("sub/second")).unwrap();
    symlink("/etc/passwd", source.join("link")).unwrap();
    let strange = std::ffi::OsStr::from_bytes(b"a\nb\xff");
    std::fs::write(source.join(strange), vec![7; 300_000]).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, source.join("fifo"), mode).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    std::fs::File::open(source.join("sub/file")).unwrap().set_modified(old).unwrap();
    std::fs::File::open(source.join("sub")).unwrap().set_modified(old).unwrap();
    let noted =
        rustix::fs::setxattr(source.join("sub/file"), "user.note", b"noted", rustix::fs::XattrFlags::empty());

    let running = start(&stage, "trip");
    let files = running.files().unwrap();
    let copied = files.copy_in(&source, "/tmp/copy", &Transfer::up_to(MIB)).unwrap();
    assert_eq!((copied.files, copied.directories, copied.symlinks, copied.hard_links), (3, 3, 1, 1));
    assert_eq!(copied.bytes, 300_000 + 7 + 10);
    let skipped: Vec<_> = copied.skipped.iter().map(|skipped| skipped.path.clone()).collect();
    assert_eq!(skipped, [source.join("fifo")]);
    assert_eq!(files.stat("/tmp/copy/script").unwrap().mode, 0o4755);
    assert_eq!(files.stat("/tmp/copy/sub/empty").unwrap().mode, 0o1700);
    let file = files.stat("/tmp/copy/sub/file").unwrap();
    assert_eq!((file.uid, file.gid, file.links), (0, 0, 2), "root's inside, with both its names");
    assert_eq!(file.modified(), old);
    assert_eq!(files.stat("/tmp/copy/sub").unwrap().modified(), old);
    assert_eq!(files.read_link("/tmp/copy/link").unwrap(), Path::new("/etc/passwd"));
    assert_eq!(errno(files.copy_in(&source, "/tmp/copy", &Transfer::up_to(MIB))), libc::EEXIST);

    let back = stage.path().join("back");
    let copied = files.copy_out("/tmp/copy", &back, &Transfer::up_to(MIB)).unwrap();
    assert_eq!((copied.files, copied.directories, copied.symlinks, copied.hard_links), (3, 3, 1, 1));
    assert_eq!(copied.skipped, []);
    assert_eq!(std::fs::read(back.join(strange)).unwrap(), vec![7; 300_000]);
    assert_eq!(std::fs::read_link(back.join("link")).unwrap(), Path::new("/etc/passwd"));
    let metadata = std::fs::metadata(back.join("sub/file")).unwrap();
    assert_eq!((metadata.nlink(), metadata.modified().unwrap()), (2, old));
    assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(std::fs::metadata(back.join("sub")).unwrap().modified().unwrap(), old);
    let script = std::fs::metadata(back.join("script")).unwrap();
    assert_eq!(script.mode() & 0o7777, 0o755, "no set-id bit comes out");
    if noted.is_ok() {
        assert_eq!(files.get_xattr("/tmp/copy/sub/file", "user.note").unwrap(), b"noted");
        let mut value = [0; 16];
        let size = rustix::fs::getxattr(back.join("sub/file"), "user.note", &mut value).unwrap();
        assert_eq!(&value[..size], b"noted");
    }
    assert_eq!(errno(files.copy_out("/tmp/copy", &back, &Transfer::up_to(MIB))), libc::EEXIST);
    if is_root() {
        let transfer = Transfer::up_to(MIB).owner(5, 6);
        files.copy_in(source.join("sub"), "/tmp/owned", &transfer).unwrap();
        for path in ["/tmp/owned", "/tmp/owned/file", "/tmp/owned/empty"] {
            let stat = files.stat(path).unwrap();
            assert_eq!((stat.uid, stat.gid), (5, 6), "{path}");
        }
    }
}

#[test]
fn a_copy_that_is_too_large_says_what_did_not_fit_and_what_is_left() {
    let stage = stage!();
    let source = stage.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("large"), vec![0; 5000]).unwrap();
    let running = start(&stage, "large");
    let files = running.files().unwrap();
    let error = files.copy_in(&source, "/tmp/in", &Transfer::up_to(3000)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: 3000 });
    let text = error.to_string();
    assert!(text.contains("source/large\": 5000 bytes more exceed the limit of 3000 bytes"), "{text}");
    assert!(text.ends_with("(what was copied before it is still at \"/tmp/in\")"), "{text}");
    assert_eq!(names(&files, "/tmp/in"), [""; 0], "no part of it");

    // A sparse file is as large as it says, and a million names are not free.
    let sparse = files.create("/tmp/sparse", 0o644).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let back = stage.path().join("back");
    let error = files.copy_out("/tmp/sparse", &back, &Transfer::up_to(MIB)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: MIB });
    assert!(!back.exists());
    files.create_dir("/tmp/names", 0o755).unwrap();
    for number in 0..50 {
        files.symlink("x", format!("/tmp/names/{number}")).unwrap();
    }
    let error = files.copy_out("/tmp/names", &back, &Transfer::up_to(20_000)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: 20_000 }, "{error}");
}

#[test]
fn what_a_container_plants_stays_in_the_copy() {
    let stage = stage!();
    let canary = stage.open_directory("canary");
    let running = start(&stage, "planted");
    let files = running.files().unwrap();
    files.create_dir("/tmp/evil", 0o755).unwrap();
    files.symlink(&canary, "/tmp/evil/dir").unwrap();
    files.symlink("../../../../../../../../etc", "/tmp/evil/up").unwrap();
    files.symlink("/proc/self/fd", "/tmp/evil/fds").unwrap();
    let back = stage.path().join("back");
    files.copy_out("/tmp/evil", &back, &Transfer::up_to(MIB)).unwrap();
    for name in ["dir", "up", "fds"] {
        assert!(std::fs::symlink_metadata(back.join(name)).unwrap().is_symlink());
    }
    assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 0);
    // A destination that is a symlink, to somewhere or to nowhere, is taken: nothing goes through it.
    for target in [canary.join("through"), canary.clone()] {
        let link = stage.path().join("link");
        symlink(&target, &link).unwrap();
        assert_eq!(errno(files.copy_out("/tmp/evil", &link, &Transfer::up_to(MIB))), libc::EEXIST);
        assert_eq!(errno(files.copy_out("/bin/busybox", &link, &Transfer::up_to(9 * MIB))), libc::EEXIST);
        std::fs::remove_file(link).unwrap();
    }
    assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 0);
}

#[test]
fn a_tree_that_changes_under_a_copy_never_leads_outside() {
    let stage = stage!();
    let canary = stage.open_directory("canary");
    std::fs::write(canary.join("file"), "untouched").unwrap();
    // A directory and a symlink to the host's canary take turns under one name.
    let script = format!(
        "mkdir -p /tmp/t/d; echo x > /tmp/t/d/file; ln -s {} /tmp/l; touch /tmp/ready; \
         while :; do mv /tmp/t/d /tmp/away; mv /tmp/l /tmp/t/d; mv /tmp/t/d /tmp/l; mv /tmp/away /tmp/t/d; done",
        canary.display()
    );
    let builder = stage.busybox_shell("flip", &script.replace("mv ", "busybox mv ")).scratch(None);
    let running = builder.build().unwrap().create().unwrap().start().unwrap();
    let files = running.files().unwrap();
    while files.lstat("/tmp/ready").is_err() {
        assert!(!is_readable_within(&running, Duration::from_millis(10)), "it runs");
    }
    for round in 0..100 {
        let back = stage.path().join(format!("back-{round}"));
        let _ = files.copy_out("/tmp/t", &back, &Transfer::up_to(MIB));
        let _ = files.write("/tmp/t/d/file", "written", 0o644);
        let _ = files.remove_all("/tmp/t/d/file");
    }
    assert_eq!(std::fs::read_to_string(canary.join("file")).unwrap(), "untouched");
    assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 1);
}
