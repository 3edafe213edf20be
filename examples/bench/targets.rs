//! Compares the measurements with their targets.

use super::peers::Peer;
use super::report::{Report, Samples, line};
use super::warm::Warm;

/// A measurement and its upper bound; `None` if it was not taken.
struct Target {
    name: String,
    measured: Option<f64>,
    at_most: f64,
    unit: &'static str,
}

pub(super) fn table(report: &Report) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("\n{:<54}{:>9}{:>12}", "targets", "measured", "at most"));
    for Target { name, measured, at_most, unit } in targets(report) {
        match measured {
            Some(measured) => {
                let verdict = if measured <= at_most { "" } else { "  MISSED" };
                line(&mut text, format_args!("{name:<54}{measured:>9.2}{at_most:>8} {unit:<3}{verdict}"));
            }
            None => line(&mut text, format_args!("{name:<54}{:>9}{at_most:>8} {unit}", "-")),
        }
    }
    text
}

fn targets(report: &Report) -> Vec<Target> {
    let target = |name: &str, measured, at_most, unit| Target { name: name.into(), measured, at_most, unit };
    let exec = report.exec.ours.median();
    let bubblewrap = report.peers.iter().find(|peer| peer.name == "bwrap" && peer.left_out.is_none());
    let by_bubblewrap = |ours: f64, theirs: fn(&Peer) -> f64| bubblewrap.map(|peer| ours / theirs(peer));
    let (wall, cpu) = (report.run.median(), report.costs.run.cpu());
    let mut targets = vec![
        target("a run, by bubblewrap's", by_bubblewrap(wall, |peer| peer.times.median()), 0.9, "x"),
        target("  its CPU time", by_bubblewrap(cpu, |peer| peer.costs.cpu()), 2.0, "x"),
        target(
            "bubblewrap's runs per second from 8 threads, by ours",
            report.scale.by_bubblewraps().map(f64::recip),
            0.625,
            "x",
        ),
        target(
            "from take to exit, by bubblewrap's run",
            by_bubblewrap(report.pooled.warm.median(), |peer| peer.times.median()),
            0.35,
            "x",
        ),
        target(
            "  its CPU time",
            by_bubblewrap(report.pooled.warm_cpu.mean(), |peer| peer.costs.cpu()),
            0.75,
            "x",
        ),
        target("exec of true", Some(exec), 3.0, "ms"),
    ];
    for peer in &report.exec.peers {
        let name =
            format!("  of {} exec{}", peer.name, if peer.wrapped() { " less its wrapper" } else { "" });
        let share = peer.left_out.is_none().then(|| exec / peer.median());
        targets.push(target(&name, share, 0.25, "x"));
    }
    let memory_of_100 = report.scale.hundred().and_then(|alive| alive.helpers_pss_mib.as_ref().ok());
    let [without, with] = report.bind_run.each_ref().map(Samples::median);
    let bind_cost = with - without;
    let state = format!("state of one among {}", report.state_of_many.0);
    targets.extend([
        target("1000 execs, p99 with tokio by threads", report.many_execs.ratio(), 2.0, "x"),
        target("the container's init, of a run", Some(report.init_cost()), 0.3, "ms"),
        target(&state, Some(report.state_of_many.1.median()), 1.0, "ms"),
        target("a writable bind, over a run without", Some(bind_cost), 0.2, "ms"),
        target("pause and resume", Some(report.pause_resume.median()), 2.0, "ms"),
        target("a second container in a pod, to running", Some(report.pod_member.median()), 4.0, "ms"),
        target("100 alive: memory of all helpers, PSS", memory_of_100.copied(), 300.0, "MiB"),
        target("100 alive: creation of the last by the first", report.scale.create_ratio(), 1.2, "x"),
    ]);
    let warm = report.warm.iter().flat_map(Warm::targets);
    targets.extend(warm.map(|(name, measured, at_most, unit)| target(name, Some(measured), at_most, unit)));
    targets
}
