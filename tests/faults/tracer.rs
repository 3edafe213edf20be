//! strace(1): what a caller and its helpers call, and faults at the n-th call.

use crate::caller::Caller;
use crate::kit::note_skip;
use crate::kit::place::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How often each process of a container's life makes each call, in the order the processes came up.
#[derive(Default)]
pub(crate) struct Census {
    pub(crate) caller: BTreeMap<String, u32>,
    /// Gofer, sandbox, reaper and init.
    pub(crate) helpers: BTreeMap<&'static str, BTreeMap<String, u32>>,
}

impl Census {
    /// The calls that single a helper out: strace counts per process, so these are counts the caller never reaches.
    pub(crate) fn of_helpers_alone(&self) -> Vec<(String, u32)> {
        let points = self.helpers.values().flatten().flat_map(|(call, times)| {
            let own = self.caller.get(call).copied().unwrap_or(0);
            (own + 1..=*times).map(|nth| (call.clone(), nth))
        });
        BTreeSet::from_iter(points).into_iter().collect()
    }
}

/// The processes that are traced.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Scope {
    /// This thread alone.
    Caller,
    /// And every process it starts.
    Everybody,
}

/// Attaches strace with the expressions `inject`; its record goes to the returned file. `None`, with the reason on
/// stderr, where that cannot be.
pub(crate) fn attach(place: &Place, caller: &Caller, scope: Scope, inject: &[String]) -> Option<PathBuf> {
    attach_to(place, caller.thread, scope, inject)
}

/// As [`attach`], to the thread with this id.
pub(crate) fn attach_to(place: &Place, thread: i32, scope: Scope, inject: &[String]) -> Option<PathBuf> {
    let record = place.path().join("strace");
    let mut command = Command::new("strace");
    if scope == Scope::Everybody {
        command.arg("-f");
    }
    command.args(["-s", "32", "-o"]).arg(&record).args(["-p", &thread.to_string()]);
    for expression in inject {
        command.args(["-e", &format!("inject={expression}")]);
    }
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let Ok(mut strace) = spawned else {
        note_skip("strace is not installed");
        return None;
    };
    let mut said = String::new();
    let mut lines = BufReader::new(strace.stderr.take().expect("stderr is a pipe"));
    let _ = lines.read_line(&mut said);
    if !said.contains("attached") {
        note_skip(&format!("strace cannot attach here: {}", said.trim_end()));
        return None;
    }
    // Its later remarks have no reader: strace must not be stopped by a full or closed pipe.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    Some(record)
}

/// The calls in strace's record of a whole life.
pub(crate) fn census(record: &Path, caller: i32) -> Census {
    let text = std::fs::read_to_string(record).expect("strace's record");
    let lines = text.lines().filter_map(|line| {
        let (pid, rest) = line.split_once(char::is_whitespace).expect("a pid and a call");
        let (pid, rest) = (pid.parse::<i32>().expect("a pid"), rest.trim_start());
        let (call, arguments) = rest.split_once('(').filter(|(call, _)| is_name(call))?;
        Some((pid, call, arguments))
    });
    let mut roles = BTreeMap::from([(caller, "caller")]);
    for (pid, _, arguments) in lines.clone().filter(|(_, call, _)| *call == "execveat") {
        let named =
            ["gofer", "sandbox"].into_iter().find(|name| arguments.contains(&format!("cofferdam-{name}")));
        roles.insert(pid, named.unwrap_or("reaper"));
    }
    let mut census = Census::default();
    for (pid, call, _) in lines {
        let calls = match roles.get(&pid).copied().unwrap_or("init") {
            "caller" => &mut census.caller,
            role => census.helpers.entry(role).or_default(),
        };
        *calls.entry(call.to_owned()).or_default() += 1;
    }
    census
}

fn is_name(call: &str) -> bool {
    !call.is_empty()
        && call.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// How often the one traced thread made each call.
pub(crate) fn calls(record: &Path) -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string(record).expect("strace's record");
    let mut calls = BTreeMap::new();
    for (call, _) in text.lines().filter_map(|line| line.split_once('(')).filter(|(call, _)| is_name(call)) {
        *calls.entry(call.to_owned()).or_default() += 1;
    }
    calls
}

/// The processes strace saw killed; with one traced thread it names none, and that one is `caller`.
pub(crate) fn killed(record: &Path, caller: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(record).unwrap_or_default();
    let killed = text.lines().filter_map(|line| line.strip_suffix("+++ killed by SIGKILL +++"));
    killed.map(|pid| pid.trim().parse().unwrap_or(caller)).collect()
}

/// How often strace made a call fail.
pub(crate) fn injected(record: &Path) -> usize {
    std::fs::read_to_string(record).unwrap_or_default().matches("(INJECTED)").count()
}
