//! The files of a container after its end, for the value that created it.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::caller::{Caller, role, root, say, stay};
use crate::kit::witness::descendants;
use crate::kit::{await_end, descendants_of_this_process, is_root, skip, stage};
use cofferdam::files::{FileKind, Transfer};
use cofferdam::{AnyContainer, Container, ContainerBuilder, ErrorKind, Outcome, Stopped};
use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;

const MIB: u64 = 1 << 20;

fn stopped(builder: ContainerBuilder) -> Container<Stopped> {
    let stopped = builder.spawn().unwrap().wait_stopped().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 0 });
    stopped
}

/// The mount namespaces that this process and those below it are in or have open, by their links in proc, besides its own.
fn held_mount_namespaces() -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    let family = descendants(std::process::id()).into_iter().map(|process| process.pid);
    for pid in family.chain([std::process::id()]) {
        let process = Path::new("/proc").join(pid.to_string());
        let descriptors = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let links = descriptors.map(|entry| entry.path()).chain([process.join("ns/mnt")]);
        held.extend(
            links.filter_map(|link| std::fs::read_link(link).ok()?.into_os_string().into_string().ok()),
        );
    }
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    held.retain(|link| link.starts_with("mnt:[") && Path::new(link) != own);
    held
}

fn workers() -> Vec<i32> {
    let all = descendants(std::process::id());
    all.into_iter()
        .filter(|process| process.name == "cofferdam-files")
        .map(|process| process.pid.try_into().unwrap())
        .collect()
}

#[test]
fn a_stopped_container_has_the_files_that_its_program_left() {
    let stage = stage!();
    let shared = stage.open_directory("shared");
    let canary = stage.open_directory("canary");
    std::fs::write(canary.join("secret"), "of the host").unwrap();
    symlink(&canary, stage.busybox().join("out")).unwrap();
    let script = "echo root >/made; echo tmpfs >/tmp/made; echo bind >/shared/made; busybox mkfifo /fifo; \
                  ln -s /tmp/made /link; ln -s /proc/1/root /magic";
    let builder = stage.busybox_shell("left", script).scratch(None).bind_rw(&shared, "/shared");
    let stopped = stopped(builder.keep_files());
    let files = stopped.files().unwrap();
    for (path, content) in
        [("/made", "root\n"), ("/tmp/made", "tmpfs\n"), ("/shared/made", "bind\n"), ("/link", "tmpfs\n")]
    {
        assert_eq!(files.read(path, MIB).unwrap(), content.as_bytes(), "{path}");
    }
    assert_eq!(files.stat("/made").unwrap().uid, 0, "the ids are the container's");
    files.write("/tmp/new", "new", 0o600).unwrap();
    assert_eq!(files.read("/tmp/new", MIB).unwrap(), b"new");
    let copied = stage.path().join("copied");
    files.copy_out("/tmp", &copied, &Transfer::up_to(MIB)).unwrap();
    assert_eq!(std::fs::read(copied.join("made")).unwrap(), b"tmpfs\n");

    assert_eq!(*files.read("/fifo", MIB).unwrap_err().kind(), ErrorKind::NotARegularFile);
    assert_eq!(files.lstat("/fifo").unwrap().kind, FileKind::Fifo);
    let secret = canary.join("secret");
    for path in
        [secret.as_path(), "/out/secret".as_ref(), "/magic/etc".as_ref(), "/../../../out/secret".as_ref()]
    {
        assert!(files.stat(path).is_err() && files.read(path, MIB).is_err(), "{}", path.display());
    }

    // The worker goes with its value.
    let [worker] = workers()[..] else { panic!("{:?}", workers()) };
    drop(files);
    await_end(worker);
    assert!(workers().is_empty());
    // As often as it is asked for, and by any thread, whose end ends no worker.
    let files = std::thread::scope(|scope| scope.spawn(|| stopped.files().unwrap()).join().unwrap());
    assert_eq!(files.read("/made", MIB).unwrap(), b"root\n");
    drop(files);
    stopped.delete().unwrap();
}

#[test]
fn the_layer_of_a_stopped_container_is_the_one_that_it_had() {
    let stage = stage!();
    let builder =
        stage.busybox_shell("layer", "echo changed >/made; rm /bin/sh; echo ready; cat").scratch(None);
    let builder = builder.stdin(cofferdam::Stdio::piped()).stdout(cofferdam::Stdio::piped()).keep_files();
    let mut running = builder.spawn().unwrap();
    let mut ready = [0; 6];
    // Kept open: busybox's cat uses sendfile(2), which raises SIGPIPE at once if the pipe has no reader.
    let mut stdout = running.take_stdout().unwrap();
    stdout.read_exact(&mut ready).unwrap();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let files = running.files().unwrap();
    match files.export_layer(1 << 30, &mut before) {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported { .. }) => skip!("{error}"),
        exported => exported.unwrap(),
    }
    let stopped = running.wait_stopped().unwrap();
    drop(stdout);
    assert_eq!(
        *files.read("/made", MIB).unwrap_err().kind(),
        ErrorKind::Ended,
        "a value from before the end"
    );
    let files = stopped.files().unwrap();
    files.export_layer(1 << 30, &mut after).unwrap();
    assert!(!before.is_empty() && before == after);
    assert_eq!(files.diff().unwrap().len(), 2);
    drop(files);
    stopped.delete().unwrap();
}

#[test]
fn files_that_were_not_kept_are_refused_with_the_way_to_keep_them() {
    let stage = stage!();
    let refused = |stopped: &Container<Stopped>| {
        let error = stopped.files().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Ended);
        let text = format!(
            "files: container {:?} has ended: it exited with code 0 (`keep_files` keeps the files of a container \
             for the value that creates it)",
            stopped.id().as_str()
        );
        assert_eq!(error.to_string(), text);
    };
    let not_kept = stopped(stage.container("not").args(["true"]));
    refused(&not_kept);
    not_kept.delete().unwrap();
    // Another value of the same container has none.
    let kept = stopped(stage.container("kept").args(["true"]).keep_files());
    let AnyContainer::Stopped(loaded) = AnyContainer::load(stage.root(), kept.id().as_str()).unwrap() else {
        panic!("it has ended")
    };
    refused(&loaded);
    assert_eq!(kept.files().unwrap().stat("/").unwrap().kind, FileKind::Directory);
    kept.delete().unwrap();
}

#[test]
fn nothing_is_kept_that_was_not_asked_for_or_whose_value_is_gone() {
    let stage = stage!();
    // Without cgroups, since the gofer, which waits to remove them, has a mount namespace of its own.
    let not_kept = stopped(stage.container("not").args(["true"]).without_cgroup());
    assert_eq!(held_mount_namespaces(), BTreeSet::new());
    not_kept.delete().unwrap();
    let ways: [fn(Container<Stopped>); 2] = [drop, |stopped| stopped.delete().unwrap()];
    for end in ways {
        let stopped = stopped(stage.container("kept").args(["true"]).without_cgroup().keep_files());
        let files = stopped.files().unwrap();
        assert_eq!(held_mount_namespaces().len(), 1);
        end(stopped);
        // The worker has what it needs until its value is dropped.
        files.stat("/").unwrap();
        drop(files);
        assert_eq!(held_mount_namespaces(), BTreeSet::new());
        assert_eq!(descendants_of_this_process(), [""; 0]);
    }
}

#[test]
fn the_worker_of_a_stopped_container_ends_with_its_caller() {
    if let Some(directory) = role() {
        let builder = ContainerBuilder::new().id("killed").state_root(root(&directory)).args(["true"]);
        let stopped = stopped(builder.keep_files());
        let files = stopped.files().unwrap();
        say(workers()[0]);
        stay();
        drop((files, stopped));
        return;
    }
    let stage = stage!();
    let mut caller = Caller::spawn(stage.path());
    let worker = caller.hear().parse().unwrap();
    caller.kill();
    await_end(worker);
    AnyContainer::delete_by_name(&root(stage.path()), "killed").unwrap();
}

#[test]
fn a_container_of_a_pod_and_one_without_a_user_namespace_keep_theirs() {
    let stage = stage!();
    let root = stage.container("root").args(["sleep", "1000"]).spawn().unwrap();
    let script = "echo left >/tmp/left";
    let member = root.pod().container(stage.id("member")).args(["sh", "-c", script]).keep_files();
    let member = stopped(member);
    assert_eq!(member.files().unwrap().read("/tmp/left", MIB).unwrap(), b"left\n");
    member.delete().unwrap();
    root.kill().unwrap().delete().unwrap();
    if !is_root() {
        skip!("a container without a user namespace needs root");
    }
    let plain = stopped(stage.shell("plain", script).without_user_namespace().keep_files());
    assert_eq!(plain.files().unwrap().read("/tmp/left", MIB).unwrap(), b"left\n");
    plain.delete().unwrap();
}
