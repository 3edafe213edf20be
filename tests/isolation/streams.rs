//! Streams by name: a workload opens `/dev/stdin`, `/dev/stdout` and `/dev/stderr`, which are links to its descriptors.

#![expect(clippy::disallowed_methods, reason = "tests read and make plain files of their own")]

use crate::kit::{Stage, inside, is_root, note_skip, stage, start, stdout_of};
use cofferdam::{ContainerBuilder, Exec, Stdio};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

/// Copies a line of standard input to both outputs, and opens all three streams by name.
const BY_NAME: &str = "read line </dev/stdin; echo out $line >/dev/stdout; echo err $line >/dev/stderr";

/// The users to try: the container's root, and another one if the container has an id for it.
fn users(stage: &Stage) -> Vec<u32> {
    if stage.container("users").args(["true"]).user(1000, 1000).build().is_ok() {
        return vec![0, 1000];
    }
    note_skip("one id is mapped: no other user than root");
    vec![0]
}

/// Reads until all writers have closed the pipe.
fn text(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

/// A pipe with `line` in it.
fn with_line(line: &str) -> std::io::PipeReader {
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, line.as_bytes()).unwrap();
    reader
}

fn mode(of: impl AsFd) -> u32 {
    rustix::fs::fstat(of).unwrap().st_mode & 0o7777
}

fn piped(builder: ContainerBuilder) -> (String, String) {
    let output = builder.stdin(Stdio::fd(with_line("in\n"))).output().unwrap();
    (text(output.stdout.as_slice()), text(output.stderr.as_slice()))
}

#[test]
fn every_user_opens_the_pipes_that_it_gets_by_name() {
    let stage = stage!();
    let (out, err) = ("out in\n".to_owned(), "err in\n".to_owned());
    for uid in users(&stage) {
        let builder = stage.busybox_shell(&format!("user-{uid}"), BY_NAME).user(uid, uid);
        assert_eq!(piped(builder), (out.clone(), err.clone()), "uid {uid}");
    }
    if is_root() {
        let builder = stage.busybox_shell("host-user", BY_NAME).user(1000, 1000).without_user_namespace();
        assert_eq!(piped(builder), (out, err), "without a user namespace");
        let owner = stage.busybox_shell("owner", "stat -L -c %u:%g /proc/self/fd/1").user(1000, 1001);
        assert_eq!(stdout_of(owner), "1000:1001", "the user owns the pipes made for it");
    }
}

#[test]
fn every_user_of_an_exec_opens_its_pipes_by_name() {
    let stage = stage!();
    let running = start(stage.busybox_shell("exec", "sleep 1000"));
    for uid in users(&stage) {
        let exec = Exec::new(["sh", "-c", BY_NAME]).user(uid, uid).stdin(Stdio::fd(with_line("in\n")));
        let output = running.exec_output(exec).unwrap();
        let both = (text(output.stdout.as_slice()), text(output.stderr.as_slice()));
        assert_eq!(both, ("out in\n".into(), "err in\n".into()), "uid {uid}");
        let (reader, writer) = std::io::pipe().unwrap();
        let exec = Exec::new(["sh", "-c", "echo of the caller >/dev/stdout"]).user(uid, uid);
        let ended = running.exec(exec.stdout(Stdio::fd(writer))).unwrap().wait().unwrap();
        assert!(ended.outcome.success(), "uid {uid}: {:?}", ended.outcome);
        assert_eq!(text(reader), "of the caller\n", "uid {uid}");
    }
    assert_eq!(inside::output(&running, "echo by name >/dev/stdout"), "by name\n");
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn every_user_opens_the_pipes_of_others_by_name_in_the_direction_it_has() {
    let stage = stage!();
    for uid in users(&stage) {
        let (stdout, theirs) = std::io::pipe().unwrap();
        let (third, writer) = std::io::pipe().unwrap();
        let input = with_line("in\n");
        let kept = [input.try_clone().unwrap().into(), theirs.try_clone().unwrap().into()];
        let script = "read line </dev/stdin; echo $line >/dev/stdout; echo third >/proc/self/fd/5";
        let exit = stage
            .busybox_shell(&format!("given-{uid}"), script)
            .user(uid, uid)
            .stdin(Stdio::fd(input))
            .stdout(Stdio::fd(theirs))
            .fd(5, writer)
            .run()
            .unwrap();
        assert!(exit.outcome.success(), "uid {uid}: {:?}", exit.outcome);
        let kept: [std::os::fd::OwnedFd; 2] = kept;
        assert_eq!(kept.each_ref().map(mode), [0o644, 0o622], "readers read and writers write");
        drop(kept);
        assert_eq!((text(stdout), text(third)), ("in\n".into(), "third\n".into()), "uid {uid}");
    }
}

#[test]
fn what_has_a_path_on_the_host_keeps_its_mode_and_owner() {
    let stage = stage!();
    let (fifo, file) = (stage.path().join("fifo"), stage.path().join("file"));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    std::fs::write(&file, "").unwrap();
    let before = [&fifo, &file].map(|path| path.metadata().unwrap());
    // Open it for reading and writing: open(2) then does not wait for another process.
    let both = File::options().read(true).write(true).open(&fifo).unwrap();
    let builder = stage.busybox_shell("paths", "echo kept; echo kept >&2");
    let exit = builder.stdout(both).stderr(File::create(&file).unwrap()).run().unwrap();
    assert!(exit.outcome.success());
    let after = [&fifo, &file].map(|path| path.metadata().unwrap());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.mode(), before.uid(), before.gid()), (after.mode(), after.uid(), after.gid()));
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept\n");
}
