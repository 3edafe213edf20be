//! Costs of scale: one container among many, and many callers at once.

use super::peers::{Peer, time};
use super::report::{Samples, line, rounded};
use super::{Ground, Result, helpers, let_helpers_rest, parallel, pss_kib};
use cofferdam::AnyContainer;
use serde_json::{Value, json};
use std::time::Instant;

/// How many creations make one figure: the last ones before a count is reached.
const LAST: usize = 10;

/// How costs grow with the number of containers, and of threads.
pub(super) struct Scale {
    pub(super) alive: Vec<Alive>,
    pub(super) threads: Vec<Threads>,
}

/// Many containers alive at once.
pub(super) struct Alive {
    pub(super) count: usize,
    /// The sum of the proportional set sizes of all gofers and sandboxes, MiB.
    pub(super) helpers_pss_mib: Result<f64>,
    /// From create to running, ms: the median of the last ones.
    pub(super) create_ms: f64,
    /// Listing all of them, ms.
    pub(super) list_ms: f64,
}

/// Threads that run containers at once.
pub(super) struct Threads {
    pub(super) count: usize,
    pub(super) runs_per_second: f64,
    /// bubblewrap, started from as many threads.
    pub(super) bubblewrap_per_second: Option<f64>,
}

/// Takes `runs` from all threads together for each count of threads.
pub(super) fn measure(ground: &Ground, counts: &[usize], runs: usize, peers: &[Peer]) -> Result<Scale> {
    let bubblewrap = peers.iter().find(|peer| peer.name == "bwrap" && peer.left_out.is_none());
    let mut threads = Vec::new();
    for count in [1, 2, 4, 8, 16, 32] {
        let each = (runs / count).max(1);
        let start = |peer: &Peer| parallel(count, each, || time(peer.command(), &mut Samples::default()));
        threads.push(Threads {
            count,
            runs_per_second: parallel(count, each, || ground.run().map(drop))?,
            bubblewrap_per_second: bubblewrap.map(start).transpose()?,
        });
    }
    Ok(Scale { alive: alive(ground, counts)?, threads })
}

impl Scale {
    /// What was measured with 100 containers alive.
    pub(super) fn hundred(&self) -> Option<&Alive> {
        self.alive_at(100)
    }

    /// The time to create the last of 100 containers by that of the first.
    pub(super) fn create_ratio(&self) -> Option<f64> {
        Some(self.hundred()?.create_ms / self.alive_at(LAST)?.create_ms)
    }

    /// Runs per second by bubblewrap's from 8 threads.
    pub(super) fn by_bubblewraps(&self) -> Option<f64> {
        let eight = self.threads.iter().find(|threads| threads.count == 8)?;
        Some(eight.runs_per_second / eight.bubblewrap_per_second?)
    }

    fn alive_at(&self, count: usize) -> Option<&Alive> {
        self.alive.iter().find(|alive| alive.count == count)
    }

    pub(super) fn json(&self) -> Value {
        let alive = self.alive.iter().map(|alive| {
            json!({
                "count": alive.count,
                "helpers_pss_mib": alive.helpers_pss_mib.as_ref().ok().map(|mib| rounded(*mib)),
                "create_ms": rounded(alive.create_ms),
                "list_ms": rounded(alive.list_ms),
            })
        });
        let threads = self.threads.iter().map(|threads| {
            json!({
                "count": threads.count,
                "runs_per_s": rounded(threads.runs_per_second),
                "bwrap_per_s": threads.bubblewrap_per_second.map(rounded),
            })
        });
        json!({ "alive": alive.collect::<Vec<_>>(), "threads": threads.collect::<Vec<_>>() })
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        line(
            &mut text,
            format_args!("\n{:<22}{:>9}{:>9}{:>14}", "alive", "create", "list, ms", "helpers, MiB"),
        );
        for Alive { count, helpers_pss_mib, create_ms, list_ms } in &self.alive {
            let memory = helpers_pss_mib.as_ref().map_or("-".to_owned(), |mib| format!("{mib:.1}"));
            line(&mut text, format_args!("{count:<22}{create_ms:>9.2}{list_ms:>9.2}{memory:>14}"));
        }
        line(&mut text, format_args!("\n{:<22}{:>9}{:>12}", "threads", "runs/s", "bwrap's"));
        for Threads { count, runs_per_second, bubblewrap_per_second } in &self.threads {
            let theirs = bubblewrap_per_second.map_or("-".to_owned(), |theirs| format!("{theirs:.0}"));
            line(&mut text, format_args!("{count:<22}{runs_per_second:>9.0}{theirs:>12}"));
        }
        text
    }
}

/// Measures when as many containers live as each of `counts` says, which ascend.
fn alive(ground: &Ground, counts: &[usize]) -> Result<Vec<Alive>> {
    let mut running = Vec::new();
    let mut created = Vec::new();
    let mut curve = Vec::new();
    for &count in counts {
        while running.len() < count {
            let creating = ground.container(&["/bin/sleep", "1000"]).build()?;
            let clock = Instant::now();
            running.push(creating.create()?.start()?);
            created.push(clock.elapsed());
        }
        let mut last = Samples::default();
        created.iter().rev().take(LAST).for_each(|took| last.add(*took));
        let clock = Instant::now();
        let listed = AnyContainer::list(&ground.state)?.len();
        let list_ms = clock.elapsed().as_secs_f64() * 1e3;
        if listed < count {
            return Err(format!("{listed} of {count} containers are listed").into());
        }
        let_helpers_rest();
        let sizes = running
            .iter()
            .map(|container| -> Result<u64> { helpers(container)?.map(pss_kib).into_iter().sum() });
        let helpers_pss_mib = sizes.sum::<Result<u64>>().map(|kib| kib as f64 / 1024.0);
        curve.push(Alive { count, helpers_pss_mib, create_ms: last.median(), list_ms });
    }
    for container in running {
        container.kill()?.delete()?;
    }
    Ok(curve)
}
