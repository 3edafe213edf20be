//! What runs cost besides time. Processes of a run that start side by side hide it while CPUs are idle.

use super::Result;
use super::report::{line, rounded};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};
use std::time::Duration;

/// The sum over some runs, each with all its processes.
#[derive(Default)]
pub(super) struct Costs {
    runs: u32,
    total: Cost,
}

/// What this process and its children have used (getrusage(2)). Of a child it counts what has ended, with what that waited
/// for.
#[derive(Clone, Copy, Default)]
struct Cost {
    user: Duration,
    system: Duration,
    /// Page faults that read nothing from a disk.
    faults: i64,
    switches: i64,
}

impl Cost {
    fn now() -> Result<Self> {
        let [own, children] = [getrusage(UsageWho::RUSAGE_SELF)?, getrusage(UsageWho::RUSAGE_CHILDREN)?];
        let time = |of: fn(&Usage) -> nix::sys::time::TimeVal| {
            let microseconds = of(&own).num_microseconds() + of(&children).num_microseconds();
            Duration::from_micros(microseconds.unsigned_abs())
        };
        let count = |of: fn(&Usage) -> i64| of(&own) + of(&children);
        Ok(Self {
            user: time(Usage::user_time),
            system: time(Usage::system_time),
            faults: count(Usage::minor_page_faults),
            switches: count(Usage::voluntary_context_switches) + count(Usage::involuntary_context_switches),
        })
    }
}

impl Costs {
    /// Adds what `run` costs. No other thread may run meanwhile.
    pub(super) fn of<T>(&mut self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = Cost::now()?;
        let done = run()?;
        let after = Cost::now()?;
        self.runs += 1;
        self.total.user += after.user.saturating_sub(before.user);
        self.total.system += after.system.saturating_sub(before.system);
        self.total.faults += after.faults - before.faults;
        self.total.switches += after.switches - before.switches;
        Ok(done)
    }

    /// User and system time of one run, milliseconds.
    pub(super) fn cpu(&self) -> f64 {
        self.per_run((self.total.user + self.total.system).as_secs_f64() * 1e3)
    }

    pub(super) fn faults(&self) -> f64 {
        self.per_run(self.total.faults as f64)
    }

    fn per_run(&self, total: f64) -> f64 {
        if self.runs == 0 { f64::NAN } else { total / f64::from(self.runs) }
    }

    /// Means, since the kernel counts time in steps.
    pub(super) fn json(&self) -> Value {
        json!({
            "cpu_ms": rounded(self.cpu()),
            "user_ms": rounded(self.per_run(self.total.user.as_secs_f64() * 1e3)),
            "system_ms": rounded(self.per_run(self.total.system.as_secs_f64() * 1e3)),
            "faults": rounded(self.faults()),
            "switches": rounded(self.per_run(self.total.switches as f64)),
        })
    }

    pub(super) fn row(&self, text: &mut String, name: &str, ours: &Self) {
        if self.runs == 0 {
            return;
        }
        let Cost { user, system, switches, .. } = self.total;
        let [user, system] = [user, system].map(|time| self.per_run(time.as_secs_f64() * 1e3));
        let (cpu, faults, switches) = (self.cpu(), self.faults(), self.per_run(switches as f64));
        let ratio = cpu / ours.cpu();
        line(
            text,
            format_args!(
                "{name:<22}{cpu:>9.2}{user:>9.2}{system:>9.2}{faults:>9.0}{switches:>9.0}{ratio:>8.2}x"
            ),
        );
    }

    pub(super) fn heading(text: &mut String) {
        line(
            text,
            format_args!(
                "\n{:<22}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
                "cost of one run, mean", "CPU, ms", "user", "system", "faults", "switches", "ratio"
            ),
        );
    }
}
