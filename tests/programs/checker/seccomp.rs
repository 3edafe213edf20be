//! `linux.seccomp`: each rule's action, tried with calls that do nothing. Every call here has arguments of which the
//! kernel alone makes an error that no filter makes, so that the answer tells who gave it.

#![expect(unsafe_code, reason = "calls are made by number, and a process that may be killed is forked")]

use crate::report::{Facts, Report, list, texts};
use libc::{
    EBADF, EFAULT, EINVAL, ENOENT, ENOSYS, EPERM, ERANGE, ESRCH, SYS_clone3, SYS_close_range, SYS_dup,
    SYS_epoll_ctl, SYS_eventfd2, SYS_fchmod, SYS_fchown, SYS_flock, SYS_fsync, SYS_ftruncate, SYS_getcwd,
    SYS_getpriority, SYS_getrusage, SYS_inotify_add_watch, SYS_kill, SYS_lseek, SYS_mkdirat, SYS_mount,
    SYS_openat2, SYS_pidfd_open, SYS_pipe2, SYS_prctl, SYS_ptrace, SYS_sched_getscheduler, SYS_setns,
    SYS_statx, SYS_timerfd_settime, SYS_unshare, c_int, c_long,
};
use serde_json::Value;

/// A call: its name, its number, its arguments, and the kernel's own error.
type Call = (&'static str, c_long, [c_long; 4], c_int);

/// No descriptor, no size, no flags: bits that mean nothing.
const NONE: c_long = -1;
/// Where no memory is.
const NOWHERE: c_long = 8;

const CALLS: &[Call] = &[
    ("clone3", SYS_clone3, [0, 0, 0, 0], EINVAL),
    ("close_range", SYS_close_range, [2, 1, 0, 0], EINVAL),
    ("dup", SYS_dup, [NONE, 0, 0, 0], EBADF),
    ("epoll_ctl", SYS_epoll_ctl, [NONE, 2, NONE, 0], EBADF),
    ("eventfd2", SYS_eventfd2, [0, NONE, 0, 0], EINVAL),
    ("fchmod", SYS_fchmod, [NONE, 0, 0, 0], EBADF),
    ("fchown", SYS_fchown, [NONE, 0, 0, 0], EBADF),
    ("flock", SYS_flock, [NONE, 1, 0, 0], EBADF),
    ("fsync", SYS_fsync, [NONE, 0, 0, 0], EBADF),
    ("ftruncate", SYS_ftruncate, [NONE, 0, 0, 0], EBADF),
    ("getcwd", SYS_getcwd, [0, 0, 0, 0], ERANGE),
    ("getpriority", SYS_getpriority, [99, 0, 0, 0], EINVAL),
    ("getrusage", SYS_getrusage, [99, 0, 0, 0], EINVAL),
    ("inotify_add_watch", SYS_inotify_add_watch, [NONE, 0, 1, 0], EBADF),
    ("kill", SYS_kill, [0, 999, 0, 0], EINVAL),
    ("lseek", SYS_lseek, [NONE, 0, 0, 0], EBADF),
    ("mkdirat", SYS_mkdirat, [NONE, NOWHERE, 0, 0], EFAULT),
    ("mount", SYS_mount, [NOWHERE, NOWHERE, NOWHERE, 0], EFAULT),
    ("openat2", SYS_openat2, [NONE, 0, 0, 0], EINVAL),
    ("pidfd_open", SYS_pidfd_open, [0, 0, 0, 0], EINVAL),
    ("pipe2", SYS_pipe2, [0, NONE, 0, 0], EINVAL),
    ("prctl", SYS_prctl, [NONE, 0, 0, 0], EINVAL),
    ("ptrace", SYS_ptrace, [7, 0, 0, 0], ESRCH),
    ("sched_getscheduler", SYS_sched_getscheduler, [NONE, 0, 0, 0], EINVAL),
    ("setns", SYS_setns, [NONE, 0, 0, 0], EBADF),
    ("statx", SYS_statx, [NONE, NOWHERE, NONE, 0], EINVAL),
    ("timerfd_settime", SYS_timerfd_settime, [NONE, 0, NOWHERE, 0], EFAULT),
    ("unshare", SYS_unshare, [NONE, 0, 0, 0], EINVAL),
];

/// What happens to a process that makes a call.
#[derive(Debug, PartialEq)]
enum Answer {
    Error(c_int),
    Done,
    Killed(c_int),
}

pub(crate) fn seccomp(facts: &Facts, report: &mut Report) {
    let profile = &facts.linux()["seccomp"];
    // SECCOMP_MODE_FILTER, or none.
    let mode = if profile.is_object() { "2" } else { "0" };
    report.same("the mode", &mode.to_owned(), &facts.status("Seccomp"));
    let is_strict = profile["defaultAction"].as_str().is_some_and(|action| action != "SCMP_ACT_ALLOW");
    for (name, number, arguments, own) in CALLS {
        let action = action_for(profile, name, arguments);
        let found = match action {
            Some(action) if action.0.contains("KILL") || action.0 == "SCMP_ACT_TRAP" => {
                in_a_child(*number, arguments)
            }
            _ => answer(*number, arguments),
        };
        let expected = match action {
            Some(("SCMP_ACT_ERRNO", errno)) => Answer::Error(errno),
            Some((action, _)) if action.contains("KILL") || action == "SCMP_ACT_TRAP" => {
                Answer::Killed(libc::SIGSYS)
            }
            _ => Answer::Error(*own),
        };
        // Some runtimes take a call that no rule names, newer than all that rules name, for one that does not exist.
        let is_unknown = is_strict && !is_named(profile, name) && found == Answer::Error(ENOSYS);
        report.check(found == expected || is_unknown, || format!("{name} is {found:?}, not {expected:?}"));
    }
}

fn rules(profile: &Value) -> impl Iterator<Item = &Value> {
    list(&profile["syscalls"])
}

fn is_named(profile: &Value, name: &str) -> bool {
    rules(profile).any(|rule| texts(&rule["names"]).any(|other| other == name))
}

/// The action for a call and its error number; `None` if there is no profile.
fn action_for<'a>(profile: &'a Value, name: &str, arguments: &[c_long]) -> Option<(&'a str, c_int)> {
    let default = profile["defaultAction"].as_str()?;
    let matching = rules(profile).find(|rule| {
        texts(&rule["names"]).any(|other| other == name)
            && list(&rule["args"]).all(|condition| holds(condition, arguments))
    });
    let errno = |value: &Value| value.as_i64().and_then(|errno| c_int::try_from(errno).ok()).unwrap_or(EPERM);
    Some(match matching {
        Some(rule) => (rule["action"].as_str()?, errno(&rule["errnoRet"])),
        None => (default, errno(&profile["defaultErrnoRet"])),
    })
}

fn holds(condition: &Value, arguments: &[c_long]) -> bool {
    let number = |name: &str| condition[name].as_u64().unwrap_or_default();
    let Some(argument) = usize::try_from(number("index")).ok().and_then(|index| arguments.get(index)) else {
        return false;
    };
    let (argument, value) = (argument.cast_unsigned(), number("value"));
    match condition["op"].as_str().unwrap_or_default() {
        "SCMP_CMP_EQ" => argument == value,
        "SCMP_CMP_NE" => argument != value,
        "SCMP_CMP_LT" => argument < value,
        "SCMP_CMP_LE" => argument <= value,
        "SCMP_CMP_GT" => argument > value,
        "SCMP_CMP_GE" => argument >= value,
        "SCMP_CMP_MASKED_EQ" => argument & value == number("valueTwo"),
        _ => false,
    }
}

fn answer(number: c_long, arguments: &[c_long; 4]) -> Answer {
    let [first, second, third, fourth] = *arguments;
    // SAFETY: the arguments in the table make the kernel refuse the call before it reads or writes memory.
    let result = unsafe { libc::syscall(number, first, second, third, fourth) };
    match result {
        -1 => Answer::Error(std::io::Error::last_os_error().raw_os_error().unwrap_or(ENOENT)),
        _ => Answer::Done,
    }
}

/// In a process that may be killed.
fn in_a_child(number: c_long, arguments: &[c_long; 4]) -> Answer {
    // SAFETY: this process has one thread, so its copy may do anything.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = match answer(number, arguments) {
            Answer::Error(errno) => errno,
            _ => 0,
        };
        // SAFETY: it returns to nothing.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: the status is ours to write to.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    match (waited == child, libc::WIFSIGNALED(status), libc::WEXITSTATUS(status)) {
        (false, ..) => Answer::Done,
        (true, true, _) => Answer::Killed(libc::WTERMSIG(status)),
        (true, false, 0) => Answer::Done,
        (true, false, errno) => Answer::Error(errno),
    }
}
