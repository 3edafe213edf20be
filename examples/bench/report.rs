//! The samples, and the two forms in which to print them.

use super::CostsInTurns;
use super::Result;
use super::cost::Costs;
use super::many_execs::ManyExecs;
use super::operations::Execs;
use super::peers::Peer;
use super::pool::Pooled;
use super::scale::Scale;
use super::targets;
use super::warm::Warm;
use super::zygote::Forked;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Times of one operation, in milliseconds.
#[derive(Default)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    pub(super) fn add(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1e3);
    }

    pub(super) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// All of them, in the order in which they were taken.
    pub(super) fn all(&self) -> &[f64] {
        &self.0
    }

    pub(super) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// By nearest rank, so the result is one of the samples.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    /// By how much each is above that of `other` which was taken beside it.
    fn less(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one - other).collect())
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "p50": rounded(self.percentile(50)),
            "p95": rounded(self.percentile(95)),
            "p99": rounded(self.percentile(99)),
        })
    }
}

/// The samples of each phase of a run.
#[derive(Default)]
pub(super) struct Phases([Samples; 5]);

const PHASES: [&str; 5] = ["build", "create", "start", "wait", "delete"];

impl Phases {
    pub(super) fn add(&mut self, laps: [Duration; 5]) {
        for (samples, took) in self.0.iter_mut().zip(laps) {
            samples.add(took);
        }
    }

    pub(super) fn medians(&self) -> impl Iterator<Item = (&'static str, f64)> {
        PHASES.into_iter().zip(self.0.iter().map(Samples::median))
    }
}

/// The cost of limits.
#[derive(Default)]
pub(super) struct CostOfLimits {
    pub(super) without: Samples,
    pub(super) with: Samples,
}

impl CostOfLimits {
    pub(super) fn json(&self) -> Value {
        json!({
            "run_ms": self.without.json(),
            "limits_run_ms": self.with.json(),
            "limits_ratio": rounded(self.with.median() / self.without.median()),
        })
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let without = self.without.median();
        line(
            &mut text,
            format_args!("{:<22}{:>9}{:>9}{:>9}{:>9}", "one run, ms", "p50", "p95", "p99", "ratio"),
        );
        row(&mut text, "without limits", &self.without, without);
        row(&mut text, "with limits", &self.with, without);
        text
    }
}

/// All measurements.
pub(super) struct Report {
    pub(super) run: Samples,
    /// In turns with `run`: the same without the container's init.
    pub(super) run_without_init: Samples,
    pub(super) floor: Samples,
    pub(super) phases: Phases,
    pub(super) costs: CostsInTurns,
    pub(super) parallel_per_second: f64,
    pub(super) forked: Forked,
    pub(super) pooled: Pooled,
    /// `None` without a Python.
    pub(super) warm: Option<Warm>,
    pub(super) helpers_pss_kib: Result<u64>,
    pub(super) big_caller_ratio: f64,
    pub(super) exec: Execs,
    pub(super) many_execs: ManyExecs,
    pub(super) limits_run: Result<Samples>,
    /// Runs without a writable bind and with one, in turns.
    pub(super) bind_run: [Samples; 2],
    pub(super) pause_resume: Samples,
    pub(super) pod_member: Samples,
    /// The number of records, and the times of reading the state of one of them.
    pub(super) state_of_many: (usize, Samples),
    pub(super) scale: Scale,
    /// `podman run --rm` with each runtime.
    pub(super) podman: Vec<Peer>,
    pub(super) peers: Vec<Peer>,
}

impl Report {
    pub(super) fn json(&self) -> Value {
        let phases: Map<String, Value> =
            self.phases.medians().map(|(phase, median)| (phase.to_owned(), rounded(median))).collect();
        let (mut peers, mut left_out) = (Map::new(), Map::new());
        for peer in &self.peers {
            match &peer.left_out {
                Some(reason) => drop(left_out.insert(peer.name.into(), json!(reason))),
                None => {
                    let mut entry = json!({ "run_ms": peer.times.json(), "run_cost": peer.costs.json() });
                    if peer.wrapped() {
                        entry["wrapper_ms"] = rounded(peer.wrapper_times.median());
                    }
                    peers.insert(peer.name.into(), entry);
                }
            }
        }
        for peer in &self.exec.peers {
            match &peer.left_out {
                Some(reason) => drop(left_out.insert(format!("{} exec", peer.name), json!(reason))),
                None => {
                    let entry = peers.entry(peer.name).or_insert_with(|| json!({}));
                    entry["exec_ms"] = peer.times.json();
                    if peer.wrapped() {
                        entry["exec_wrapper_ms"] = rounded(peer.wrapper_times.median());
                    }
                }
            }
        }
        for peer in &self.podman {
            match &peer.left_out {
                Some(reason) => drop(left_out.insert(peer.name.into(), json!(reason))),
                None => drop(peers.insert(peer.name.into(), json!({ "run_ms": peer.times.json() }))),
            }
        }
        for (name, times) in self.many_execs.rows() {
            if let Err(reason) = times {
                left_out.insert(name.into(), json!(reason.to_string()));
            }
        }
        let mut report = json!({
            "cofferdam": {
                "run_ms": self.run.json(),
                "run_cost": self.costs.run.json(),
                "zygote_run_cost": self.costs.forked_run.json(),
                "floor_cost": self.costs.floor.json(),
                "init_run_ms": rounded(self.init_cost()),
                "floor_ms": self.floor.json(),
                "phases_ms": phases,
                "parallel8_per_s": rounded(self.parallel_per_second),
                "zygote_run_ms": self.forked.run.json(),
                "zygote_parallel8_per_s": rounded(self.forked.parallel_per_second),
                "zygote_pss_kib": self.forked.pss_kib.as_ref().ok().map(|(zygote, _)| zygote),
                "zygote_helpers_pss_kib": self.forked.pss_kib.as_ref().ok().map(|(_, helpers)| helpers),
                "helpers_pss_kib": self.helpers_pss_kib.as_ref().ok(),
                "big_caller_ratio": rounded(self.big_caller_ratio),
                "exec_ms": self.exec.ours.json(),
                "exec_1000_threads_ms": self.many_execs.blocking.as_ref().ok().map(Samples::json),
                "tokio_exec_ms": self.many_execs.tokio.as_ref().ok().map(Samples::json),
                "limits_run_ms": self.limits_run.as_ref().ok().map(Samples::json),
                "bind_run_ms": self.bind_run[1].json(),
                "pause_resume_ms": self.pause_resume.json(),
                "pod_member_ms": self.pod_member.json(),
                "state_of_500_ms": self.state_of_many.1.json(),
                "state_of_500_records": self.state_of_many.0,
                "scale": self.scale.json(),
            },
            "peers": peers,
            "host": {
                "kernel": kernel(),
                "arch": std::env::consts::ARCH,
                "cpus": cpus(),
                "uid": rustix::process::geteuid().as_raw(),
                "runs": self.run.0.len(),
                "peers_left_out": left_out,
            },
        });
        for (key, value) in pool_json(&self.pooled).as_object_mut().into_iter().flatten() {
            report["cofferdam"][key] = value.take();
        }
        report["cofferdam"]["warm"] = self.warm.as_ref().map(Warm::json).into();
        report
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let ours = self.run.median();
        let uid = rustix::process::geteuid();
        line(&mut text, format_args!("Linux {}, {} cpus, uid {}", kernel(), cpus(), uid.as_raw()));
        line(
            &mut text,
            format_args!("\n{:<22}{:>9}{:>9}{:>9}{:>9}", "one run of true, ms", "p50", "p95", "p99", "ratio"),
        );
        row(&mut text, "cofferdam", &self.run, ours);
        row(&mut text, "  without an init", &self.run_without_init, ours);
        row(&mut text, "  with a zygote", &self.forked.run, ours);
        row(&mut text, "floor", &self.floor, ours);
        for peer in &self.peers {
            match &peer.left_out {
                Some(reason) => line(&mut text, format_args!("{:<22}left out: {reason}", peer.name)),
                None => row(&mut text, peer.name, &peer.times, ours),
            }
            if peer.left_out.is_none() && peer.wrapped() {
                row(&mut text, &format!("  wrapper of {}", peer.name), &peer.wrapper_times, ours);
            }
        }
        for peer in &self.podman {
            match &peer.left_out {
                Some(reason) => line(&mut text, format_args!("{:<22}left out: {reason}", peer.name)),
                None => row(&mut text, peer.name, &peer.times, ours),
            }
        }
        let (floor, forked) = (self.floor.median(), self.forked.run.median());
        line(
            &mut text,
            format_args!(
                "cofferdam is {:.2} times the floor, with a zygote {:.2}",
                ours / floor,
                forked / floor
            ),
        );

        self.add_costs(&mut text);
        text += &pool_table(&self.pooled, &self.peers);
        text += &self.warm.as_ref().map(Warm::table).unwrap_or_default();
        line(&mut text, format_args!("\n{:<22}{:>9}", "phases of a run, ms", "p50"));
        for (phase, median) in self.phases.medians() {
            line(&mut text, format_args!("{phase:<22}{median:>9.3}"));
        }
        line(
            &mut text,
            format_args!("\n{:<34}{:>8.0}", "runs per second from 8 threads", self.parallel_per_second),
        );
        let forked = self.forked.parallel_per_second;
        line(&mut text, format_args!("{:<34}{forked:>8.0}", "  with a zygote"));
        match &self.helpers_pss_kib {
            Ok(size) => {
                line(&mut text, format_args!("{:<34}{size:>8} KiB", "memory of gofer and sandbox, PSS"))
            }
            Err(reason) => {
                line(&mut text, format_args!("{:<34} left out: {reason}", "memory of gofer and sandbox, PSS"))
            }
        }
        if let Ok((zygote, helpers)) = &self.forked.pss_kib {
            line(
                &mut text,
                format_args!("{:<34}{helpers:>8} KiB, and {zygote} KiB of its own", "  with a zygote"),
            );
        }
        let ratio = self.big_caller_ratio;
        line(
            &mut text,
            format_args!("{:<34}{ratio:>8.2} times a small one's run", "caller of 2 GiB and 64 threads"),
        );
        self.add_execs(&mut text);
        self.add_many_execs(&mut text);
        self.add_operations(&mut text);
        text + &self.scale.table() + &targets::table(self)
    }
}

impl Report {
    /// What an init adds to a run, in milliseconds: the median of what it adds to each of the pairs. Both runs of a pair
    /// meet the same load of the host, so that this is steadier than the difference of two medians.
    pub(super) fn init_cost(&self) -> f64 {
        self.run.less(&self.run_without_init).median()
    }

    fn add_costs(&self, text: &mut String) {
        let CostsInTurns { run, run_without_init, forked_run, floor } = &self.costs;
        Costs::heading(text);
        run.row(text, "cofferdam", run);
        run_without_init.row(text, "  without an init", run);
        forked_run.row(text, "  with a zygote", run);
        floor.row(text, "floor", run);
        for peer in &self.peers {
            peer.costs.row(text, peer.name, run);
            peer.wrapper_costs.row(text, &format!("  wrapper of {}", peer.name), run);
        }
    }

    fn add_execs(&self, text: &mut String) {
        let ours = self.exec.ours.median();
        line(
            text,
            format_args!(
                "\n{:<22}{:>9}{:>9}{:>9}{:>9}",
                "one exec of true, ms", "p50", "p95", "p99", "ratio"
            ),
        );
        row(text, "cofferdam", &self.exec.ours, ours);
        for peer in &self.exec.peers {
            match &peer.left_out {
                Some(reason) => line(text, format_args!("{:<22}left out: {reason}", peer.name)),
                None => row(text, peer.name, &peer.times, ours),
            }
            if peer.left_out.is_none() && peer.wrapped() {
                row(text, &format!("  wrapper of {}", peer.name), &peer.wrapper_times, ours);
            }
        }
    }

    fn add_many_execs(&self, text: &mut String) {
        line(text, format_args!("\n{:<22}{:>9}{:>9}{:>9}", "1000 execs at once, ms", "p50", "p95", "p99"));
        for (name, times) in self.many_execs.rows() {
            match times {
                Ok(times) => {
                    let [p50, p95, p99] = [50, 95, 99].map(|percent| times.percentile(percent));
                    line(text, format_args!("{name:<22}{p50:>9.1}{p95:>9.1}{p99:>9.1}"));
                }
                Err(reason) => line(text, format_args!("{name:<22}left out: {reason}")),
            }
        }
    }

    fn add_operations(&self, text: &mut String) {
        line(text, format_args!("\n{:<22}{:>9}{:>9}{:>9}", "other operations, ms", "p50", "p95", "p99"));
        let mut operation = |name: &str, samples: &Samples| {
            let [p50, p95, p99] = [50, 95, 99].map(|percent| samples.percentile(percent));
            line(text, format_args!("{name:<22}{p50:>9.2}{p95:>9.2}{p99:>9.2}"));
        };
        operation("pause and resume", &self.pause_resume);
        operation("member of a pod", &self.pod_member);
        operation(&format!("state, one of {}", self.state_of_many.0), &self.state_of_many.1);
        operation("run with a bind", &self.bind_run[1]);
        match &self.limits_run {
            Ok(samples) => operation("run with three limits", samples),
            Err(reason) => line(text, format_args!("{:<22}left out: {reason}", "run with three limits")),
        }
    }
}

/// The figures of pools.
pub(super) fn pool_json(pooled: &Pooled) -> Value {
    json!({
        "pool_take_to_exit_ms": pooled.warm.json(),
        "pool_take_to_exit_cpu_ms": rounded(pooled.warm_cpu.mean()),
        "pool_cold_to_exit_ms": pooled.cold.json(),
        "pool_cold_to_exit_cpu_ms": rounded(pooled.cold_cpu.mean()),
    })
}

pub(super) fn pool_table(pooled: &Pooled, peers: &[Peer]) -> String {
    let mut text = String::new();
    let heading = "from take to exit, ms";
    line(&mut text, format_args!("\n{heading:<22}{:>9}{:>9}{:>9}{:>9}", "p50", "p95", "p99", "CPU"));
    let mut row = |name: &str, samples: &Samples, cpu: f64| {
        let [p50, p95, p99] = [50, 95, 99].map(|percent| samples.percentile(percent));
        line(&mut text, format_args!("{name:<22}{p50:>9.2}{p95:>9.2}{p99:>9.2}{cpu:>9.2}"));
    };
    row("out of a pool", &pooled.warm, pooled.warm_cpu.mean());
    row("created for the job", &pooled.cold, pooled.cold_cpu.mean());
    for peer in peers.iter().filter(|peer| peer.name == "bwrap" && peer.left_out.is_none()) {
        row(peer.name, &peer.times, peer.costs.cpu());
    }
    text
}

impl Peer {
    fn wrapped(&self) -> bool {
        !self.wrapper_times.0.is_empty()
    }
}

pub(super) fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes everything");
}

fn row(text: &mut String, name: &str, samples: &Samples, ours: f64) {
    let [p50, p95, p99] = [50, 95, 99].map(|percent| samples.percentile(percent));
    line(text, format_args!("{name:<22}{p50:>9.2}{p95:>9.2}{p99:>9.2}{:>8.2}x", p50 / ours));
}

/// Rounds to three digits (microseconds): more would be noise.
pub(super) fn rounded(number: f64) -> Value {
    json!((number * 1e3).round() / 1e3)
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}
