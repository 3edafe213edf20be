//! A device of the host that is on its way to a container when something goes wrong. As long as its caller lives, it is
//! back as it was; if the caller was killed, it may have gone the way of the container's network namespace, and that is
//! the end of a virtual one.

use crate::caller::Life;
use crate::kit::note_skip;
use crate::kit::place::Place;
use crate::orphans::{alone, recovers};
use crate::round::{self, Round};
use crate::tracer::Scope;
use serde_json::json;
use std::process::Command;

/// The device where the caller is, and in the container.
const DEVICE: &str = "here0";
const IN_CONTAINER: &str = "wan0";

/// The calls that a move consists of: nothing else of a life makes them.
const STEPS: [&str; 3] = ["sendto", "recvfrom", "ioctl"];

/// How many points of the helpers' lives are visited at most.
const MAX_POINTS: usize = 60;

#[test]
fn a_device_is_back_as_it_was_whichever_call_of_its_move_fails() {
    with_a_device(|host| {
        let Some(census) = round::undisturbed(&host.place, Life::OfBundle, Scope::Everybody) else { return };
        let faults = STEPS.into_iter().zip(["ENOBUFS", "ENOMEM", "EMFILE"]).flat_map(|(call, errno)| {
            let times = census.caller.get(call).copied().unwrap_or(0);
            (1..=times).map(move |nth| format!("{call}:error={errno}:when={nth}"))
        });
        let tally = host.live_through(faults.collect(), Scope::Caller);
        eprintln!("failing calls: {} of a move, {} devices back", tally.injected, tally.back);
        assert!(tally.back > 15, "{} failures are too few to mean anything", tally.back);
    });
}

#[test]
fn a_device_is_back_as_it_was_when_a_helper_is_killed_before_the_container_is_there() {
    with_a_device(|host| {
        let Some(census) = round::undisturbed(&host.place, Life::OfBundle, Scope::Everybody) else { return };
        let points = census.of_helpers_alone();
        let thinned = points.iter().step_by(points.len().div_ceil(MAX_POINTS).max(1));
        let faults = thinned.map(|(call, nth)| format!("{call}:signal=KILL:when={nth}"));
        let tally = host.live_through(faults.collect(), Scope::Everybody);
        eprintln!("kill points: {} beside a move, {} devices back", tally.killed, tally.back);
        assert!(tally.back > 15, "{} kills are too few to mean anything", tally.back);
    });
}

#[test]
fn a_device_is_whole_or_gone_with_the_container_when_the_caller_is_killed() {
    with_a_device(|host| {
        let Some(census) = round::undisturbed(&host.place, Life::OfBundle, Scope::Everybody) else { return };
        let faults = STEPS.into_iter().flat_map(|call| {
            let times = census.caller.get(call).copied().unwrap_or(0);
            (1..=times).map(move |nth| format!("{call}:signal=KILL:when={nth}"))
        });
        let tally = host.live_through(faults.collect(), Scope::Caller);
        eprintln!("kill points: {} in a move, {} devices back", tally.killed, tally.back);
        assert!(tally.killed > 15, "{} kills are too few to mean anything", tally.killed);
        assert!(
            0 < tally.back && tally.back < tally.killed,
            "not only before a move, or after: {}",
            tally.back
        );
    });
}

/// Runs `test` in a network namespace of its own, with a bundle that has [`DEVICE`] moved in.
fn with_a_device(test: impl FnOnce(&mut Host)) {
    alone(|| {
        let place = Place::new();
        if !rustix::process::geteuid().is_root() {
            return note_skip("only root has network devices to move");
        }
        // Processes that this thread starts are in that namespace, too.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("unshare(CLONE_NEWNET)");
        let kinds = ["mount", "pid", "network", "ipc", "uts"];
        let config = json!({
            "ociVersion": "1.2.0",
            "process": {"args": ["sleep", "1000"], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "root": {"path": place.rootfs()},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": kinds.map(|kind| json!({"type": kind})),
                      "netDevices": {DEVICE: {"name": IN_CONTAINER}}},
        });
        std::fs::write(place.path().join("config.json"), config.to_string()).expect("a bundle");
        let mut host = Host { place, made: 0 };
        match host.renew() {
            true => test(&mut host),
            false => note_skip("no ip(8), or a kernel without pairs of devices"),
        }
    });
}

/// A host with one device to give away.
struct Host {
    place: Place,
    made: u32,
}

/// How often it happened.
#[derive(Default)]
struct Tally {
    injected: usize,
    killed: usize,
    /// Rounds after which the device was the host's.
    back: usize,
}

impl Host {
    /// Lives with each of the faults, and looks after the device and everything else.
    fn live_through(&mut self, faults: Vec<String>, scope: Scope) -> Tally {
        let mut tally = Tally::default();
        let mut problems = Vec::new();
        for (number, fault) in faults.iter().enumerate() {
            assert!(self.renew(), "it worked before");
            let id = self.place.id(&format!("device{number}"));
            let Some(round) = round::live(&self.place, &id, Life::OfBundle, scope, fault) else { break };
            tally.injected += round.injected;
            tally.killed += round.killed.len();
            let shown = shown();
            tally.back += usize::from(!shown.is_empty());
            let mut found = self.judge(&round, &shown);
            found.extend(round.late);
            found.extend(recovers(&self.place, &id));
            problems.extend(found.into_iter().map(|problem| format!("{fault}: {problem}")));
        }
        assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
        tally
    }

    /// What is wrong with the device, of which `ip` says `shown`, and with what the caller left.
    fn judge(&self, round: &Round, shown: &str) -> Vec<String> {
        let mut found = Vec::new();
        let whole = ["10.77.0.1/24", "fd77::1/64", "mtu 1300", ",UP"];
        let lacks: Vec<_> = whole.into_iter().filter(|words| !shown.contains(words)).collect();
        // Without the caller, and after the container was there, its network is the kernel's to empty.
        let may_be_gone = round.created || !round.caller_lives;
        if !(lacks.is_empty() || may_be_gone && shown.is_empty()) {
            found.push(format!("the device is without {lacks:?} after {:?}: {shown}", round.verdict));
        }
        match &round.verdict {
            Err(hangs) => found.push(hangs.clone()),
            Ok(None) if round.caller_lives => found.push("the caller died along".into()),
            Ok(_) => {}
        }
        if round.caller_lives {
            found.extend(self.place.leftovers());
        }
        found
    }

    /// Makes the device where it is not there any more: up, with an address of each family, and its peer down. Returns
    /// whether that can be done here.
    fn renew(&mut self) -> bool {
        if !shown().is_empty() {
            return true;
        }
        self.made += 1;
        // The last one's peer goes when the kernel comes to it.
        let peer = format!("there{}", self.made);
        ip(&["link", "add", DEVICE, "mtu", "1300", "type", "veth", "peer", &peer])
            && ip(&["link", "set", DEVICE, "up"])
            && ip(&["address", "add", "10.77.0.1/24", "dev", DEVICE])
            && ip(&["-6", "address", "add", "fd77::1/64", "dev", DEVICE, "nodad"])
    }
}

/// What `ip` shows of the device where the caller is; nothing if it is not there.
fn shown() -> String {
    let output = Command::new("ip").args(["-oneline", "address", "show", "dev", DEVICE]).output();
    let link = Command::new("ip").args(["-oneline", "link", "show", "dev", DEVICE]).output();
    let text = |output: std::io::Result<std::process::Output>| {
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    };
    text(link) + &text(output)
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).status().is_ok_and(|status| status.success())
}
