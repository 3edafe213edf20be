//! A terminal for a client, with the test at its other end.

use crate::kit::is_readable_within;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

/// How long a client may be silent.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs `command` on a terminal, types `input` when it says `prompt`, and reads to the end. All it wrote, and its exit
/// code.
pub(crate) fn converse(command: &mut Command, prompt: &str, input: &str) -> (String, Option<i32>) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&ours).expect("grantpt");
    unlockpt(&ours).expect("unlockpt");
    let name = ptsname(&ours, Vec::new()).expect("its name").into_string().expect("a path");
    let end = || File::options().read(true).write(true).open(&name).expect("the other end");
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("the client");
    // Its ends of the terminal would keep it open.
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::null());
    let mut ours = File::from(ours);
    let (mut said, mut typed) = (String::new(), false);
    let mut bytes = [0; 4096];
    loop {
        assert!(is_readable_within(&ours, LIMIT), "nothing more after {said:?}");
        match ours.read(&mut bytes) {
            // EIO: no process has the other end open any more.
            Err(_) | Ok(0) => break,
            Ok(length) => said.push_str(&String::from_utf8_lossy(&bytes[..length])),
        }
        if !typed && said.contains(prompt) {
            ours.write_all(input.as_bytes()).expect("the client reads");
            typed = true;
        }
    }
    (said, child.wait().expect("the client ends").code())
}
