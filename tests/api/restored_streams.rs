//! Images of containers that keep nothing in files, which every kernel can make: a layer of a scratch takes attributes that
//! the tmpfs of kernels before Linux 6.6 does not have.

use crate::kit::criu::criu_or_skip;
use crate::kit::{Stage, stage, start};
use crate::restore::{assert_nothing_left, image_of, restore};
use cofferdam::{ContainerBuilder, Outcome, Stdio};
use std::io::{BufRead, BufReader, Write};

/// Numbers the lines that it reads.
fn numbering(stage: &Stage, name: &str) -> ContainerBuilder {
    let script = "n=0; while read -r line; do n=$((n+1)); echo $n $line; done; exit 7";
    stage.shell(name, script).stdin(Stdio::piped()).stdout(Stdio::piped())
}

/// The numbers go on in the restored container, which ends with the program's own status.
fn goes_on(change: impl Fn(ContainerBuilder) -> ContainerBuilder) {
    let stage = stage!();
    let criu = criu_or_skip!();
    let mut before = start(change(numbering(&stage, "before")));
    let (mut stdin, stdout) = (before.take_stdin().unwrap(), before.take_stdout().unwrap());
    let mut lines = BufReader::new(stdout).lines();
    for line in ["one", "two"] {
        writeln!(stdin, "{line}").unwrap();
        assert!(lines.next().unwrap().unwrap().ends_with(line));
    }
    let image = image_of(before, &criu, &stage);
    drop((stdin, lines));

    let mut created = restore(change(numbering(&stage, "after")), &image, &criu).unwrap();
    let (mut stdin, stdout) = (created.take_stdin().unwrap(), created.take_stdout().unwrap());
    let running = created.start().unwrap();
    writeln!(stdin, "three").unwrap();
    drop(stdin);
    let lines: Vec<String> = BufReader::new(stdout).lines().map(Result::unwrap).collect();
    assert_eq!(lines, ["3 three"]);
    let stopped = running.wait_stopped().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 7 });
    stopped.delete().unwrap();
    assert_nothing_left(&stage);
}

#[test]
fn a_program_goes_on_with_other_streams() {
    goes_on(|builder| builder);
}

#[test]
fn the_null_device_may_take_the_place_of_each_pipe() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let before = start(numbering(&stage, "before").stderr(Stdio::piped()));
    let image = image_of(before, &criu, &stage);
    let null =
        |builder: ContainerBuilder| builder.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let running = restore(null(numbering(&stage, "after")), &image, &criu).unwrap().start().unwrap();
    let stopped = running.wait_stopped().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 7 });
    stopped.delete().unwrap();
    assert_nothing_left(&stage);
}

#[test]
fn so_does_a_pid_1() {
    goes_on(|builder| builder.init(false));
}

#[test]
fn so_does_one_without_a_user_namespace() {
    goes_on(ContainerBuilder::without_user_namespace);
}

#[test]
fn so_does_a_pid_1_without_a_user_namespace() {
    goes_on(|builder| builder.without_user_namespace().init(false));
}
