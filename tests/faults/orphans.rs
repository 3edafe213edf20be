//! A process for each test that inherits the orphans of what it starts, and what has to be so at its end.

use crate::caller::member_of;
use crate::kit::place::{Place, children, describe, names_in};
use crate::kit::{in_own_process, process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, wait};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long what must end by itself may take.
pub(crate) const SETTLE: Duration = Duration::from_secs(20);

/// Runs `body` in a process of its own that inherits every orphan of its descendants.
pub(crate) fn alone(body: impl FnOnce()) {
    if in_own_process() {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .expect("prctl(PR_SET_CHILD_SUBREAPER)");
        body();
    }
}

/// This test program again, for one test.
pub(crate) fn again(test: &str) -> Command {
    let mut command = process::again(test);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Collects every child, those inherited too, until there is none. What is left after `limit` is killed and named.
pub(crate) fn settle(limit: Duration) -> Vec<String> {
    let deadline = Instant::now() + limit;
    let mut late = Vec::new();
    loop {
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        let Some(pid) = children().into_iter().find_map(Pid::from_raw) else { return late };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        if matches!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)), Ok(0)) {
            late.push(format!("still there: {}", describe(pid.as_raw_nonzero().get())));
            rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL)
                .expect("the right to kill a child");
            let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None);
        }
    }
}

/// The checks that hold after every fault: the record loads and deletes, twice; nothing is left; the id is free.
pub(crate) fn recovers(place: &Place, id: &str) -> Vec<String> {
    use cofferdam::{AnyContainer, ErrorKind};
    let state = place.state();
    let mut problems = place.mounts();
    let member = AnyContainer::delete_by_name(&state, &member_of(id));
    problems.extend(member.err().map(|error| format!("delete the member: {error}")));
    match AnyContainer::load(&state, id) {
        Ok(container) => {
            problems.extend(container.delete(true).err().map(|error| format!("delete: {error}")))
        }
        Err(error) if *error.kind() == ErrorKind::NotFound => {}
        Err(error) => problems.push(format!("load: {error}")),
    }
    problems.extend(
        AnyContainer::delete_by_name(&state, id).err().map(|error| format!("second delete: {error}")),
    );
    problems.extend(names_in(state.path()).into_iter().map(|left| format!("deleted, but {left} is there")));
    problems.extend(place.cgroups());
    match place.builder(id).run() {
        Ok(exit) if exit.outcome.success() => {}
        Ok(exit) => problems.push(format!("run again: {exit:?}")),
        Err(error) => problems.push(format!("run again: {error}")),
    }
    problems.extend(place.leftovers());
    problems
}
