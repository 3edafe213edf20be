//! One run as a timeline of its processes, seen by strace(1).

#![expect(clippy::disallowed_methods, reason = "starts strace, which starts a copy of this program")]

use super::report::line;
use super::{Ground, Result, WARM_UP};
use std::io::Write;
use std::process::{Command, Stdio};

/// What a run is made of, and `write`, by which the traced copy answers.
const CALLS: &str = "trace=clone,clone3,execve,execveat,exit,exit_group,fork,fsmount,kill,mkdirat,mount,mount_setattr,\
    move_mount,open_tree,pidfd_send_signal,pivot_root,recvmsg,renameat,renameat2,seccomp,sendmsg,setns,umount2,\
    unlinkat,unshare,vfork,wait4,waitid,write";
/// Longer calls are cut.
const WIDTH: usize = 100;

/// A system call, or the end of a process.
struct Event<'a> {
    pid: &'a str,
    /// Seconds.
    at: f64,
    what: &'a str,
}

/// Prints the last of a few runs of a copy of this program.
pub(super) fn timeline(ground: &Ground) -> Result<String> {
    let log = tempfile::NamedTempFile::new()?;
    let mut strace = Command::new("strace")
        .args(["-f", "-ttt", "-s", "24", "-e", "signal=none", "-e", CALLS, "-o"])
        .arg(log.path())
        .arg(std::env::current_exe()?)
        .arg("caller")
        .arg(ground.rootfs())
        .arg(ground.state())
        .args(["0", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("strace: {error}"))?;
    strace.stdin.take().expect("asked for just above").write_all(&[b'\n'; WARM_UP + 1])?;
    let status = strace.wait()?;
    if !status.success() {
        return Err(format!("strace: {status}").into());
    }
    let text = std::fs::read_to_string(log.path())?;
    let events: Vec<_> = text.lines().filter_map(event).collect();
    let caller = events.first().ok_or("strace wrote nothing")?.pid;
    let answered = |event: &Event<'_>| event.pid == caller && event.what.starts_with("write(1, ");
    let answers: Vec<_> = events.iter().enumerate().filter(|(_, event)| answered(event)).collect();
    let [.., (from, begin), (to, _)] = answers[..] else { return Err("too few runs were traced".into()) };
    Ok(table(&events[from + 1..to], begin.at))
}

/// A line of strace: pid, time, call.
fn event(line: &str) -> Option<Event<'_>> {
    let (pid, rest) = line.split_once(' ')?;
    let (at, what) = rest.trim_start().split_once(' ')?;
    Some(Event { pid, at: at.parse().ok()?, what })
}

/// A line for each event: when, in which process, and what. The processes are numbered as they appear.
fn table(events: &[Event<'_>], begin: f64) -> String {
    let mut text = String::new();
    let mut seen: Vec<&str> = Vec::new();
    line(&mut text, format_args!("{:>9}  process and call; strace slows all of them", "ms"));
    for Event { pid, at, what } in events.iter().filter(|event| !event.what.starts_with("write(")) {
        let process = seen.iter().position(|known| known == pid).unwrap_or_else(|| {
            seen.push(pid);
            seen.len() - 1
        });
        let call: String = what.chars().take(WIDTH).collect();
        let since = (at - begin) * 1e3;
        line(&mut text, format_args!("{since:>9.3}  {:indent$}{process} {call}", "", indent = process * 2));
    }
    text
}
