//! Reads the counters of v2 (kernel: admin-guide/cgroup-v2).

use super::super::dir::{CgroupDir, keyed, limit};
use super::values::{CpuStats, HugetlbStats, IoStats, MemoryStats, Pressure, Stall, Stalls, Stats};
use crate::error::Result;
use std::time::Duration;

/// Adds the counters of this directory. The files of a controller exist where it is enabled.
pub(super) fn add(stats: &mut Stats, dir: &CgroupDir) -> Result<()> {
    // The file exists without the controller, too, but then without the lines about throttling. What is there already is
    // of v1.
    if let Some(text) = dir.statistic("cpu.stat")? {
        stats.cpu = Some(completed(stats.cpu.unwrap_or_default(), cpu(&text)));
    }
    if let Some(usage) = dir.number("memory.current")? {
        stats.memory = Some(MemoryStats {
            limit: dir.statistic("memory.max")?.as_deref().and_then(limit),
            peak: dir.number("memory.peak")?,
            swap: dir.number("memory.swap.current")?,
            swap_limit: dir.statistic("memory.swap.max")?.as_deref().and_then(limit),
            ..memory(
                usage,
                &dir.statistic("memory.stat")?.unwrap_or_default(),
                &dir.statistic("memory.events")?.unwrap_or_default(),
            )
        });
    }
    if let Some(text) = dir.statistic("io.stat")? {
        stats.io = Some(text.lines().filter_map(device).collect());
    }
    let stalls = |file: &str| -> Result<_> { Ok(dir.statistic(file)?.map(|text| stalls(&text))) };
    let pressure = Pressure {
        cpu: stalls("cpu.pressure")?,
        memory: stalls("memory.pressure")?,
        io: stalls("io.pressure")?,
    };
    if pressure != Pressure::default() {
        stats.pressure = Some(pressure);
    }
    let mut pages = Vec::new();
    for page_size in dir.huge_page_sizes(".current")? {
        pages.push(HugetlbStats {
            usage: dir.number(&format!("hugetlb.{page_size}.current"))?.unwrap_or(0),
            limit: dir.statistic(&format!("hugetlb.{page_size}.max"))?.as_deref().and_then(limit),
            peak: None,
            failures: dir
                .statistic(&format!("hugetlb.{page_size}.events"))?
                .and_then(|events| keyed(&events, "max")),
            page_size,
        });
    }
    if !pages.is_empty() {
        stats.hugetlb = Some(pages);
    }
    Ok(())
}

/// `counted`, with the values of `other` where it has none.
pub(super) fn completed(counted: CpuStats, other: CpuStats) -> CpuStats {
    CpuStats {
        usage: counted.usage.or(other.usage),
        user: counted.user.or(other.user),
        system: counted.system.or(other.system),
        periods: counted.periods.or(other.periods),
        throttled: counted.throttled.or(other.throttled),
        throttled_time: counted.throttled_time.or(other.throttled_time),
        bursts: counted.bursts.or(other.bursts),
        burst_time: counted.burst_time.or(other.burst_time),
    }
}

fn cpu(stat: &str) -> CpuStats {
    let time = |key| keyed(stat, key).map(Duration::from_micros);
    CpuStats {
        usage: time("usage_usec"),
        user: time("user_usec"),
        system: time("system_usec"),
        periods: keyed(stat, "nr_periods"),
        throttled: keyed(stat, "nr_throttled"),
        throttled_time: time("throttled_usec"),
        bursts: keyed(stat, "nr_bursts"),
        burst_time: time("burst_usec"),
    }
}

fn memory(usage: u64, stat: &str, events: &str) -> MemoryStats {
    MemoryStats {
        usage,
        anon: keyed(stat, "anon"),
        file: keyed(stat, "file"),
        oom_kills: keyed(events, "oom_kill"),
        ..MemoryStats::default()
    }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`; skips unknown keys. A device without transfers has only its
/// number.
fn device(line: &str) -> Option<IoStats> {
    let mut fields = line.split_ascii_whitespace();
    let (major, minor) = fields.next()?.split_once(':')?;
    let mut device = IoStats { major: major.parse().ok()?, minor: minor.parse().ok()?, ..IoStats::default() };
    for (key, value) in fields.filter_map(|field| field.split_once('=')) {
        let Ok(value) = value.parse() else { continue };
        match key {
            "rbytes" => device.read_bytes = value,
            "wbytes" => device.write_bytes = value,
            "rios" => device.reads = value,
            "wios" => device.writes = value,
            _ => {}
        }
    }
    Some(device)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same line for `full`, which older kernels lack for CPUs.
fn stalls(text: &str) -> Stalls {
    let line = |kind: &str| {
        let fields = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let field = |key: &str| {
            fields.split_ascii_whitespace().find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
        };
        let average = |key| field(key)?.parse().ok();
        Some(Stall {
            avg10: average("avg10")?,
            avg60: average("avg60")?,
            avg300: average("avg300")?,
            total: Duration::from_micros(field("total")?.parse().ok()?),
        })
    };
    Stalls { some: line("some"), full: line("full") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_is_absent_without_the_controller() {
        let time = "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\n";
        let without = cpu(time);
        assert_eq!(
            (without.usage, without.user),
            (Some(Duration::from_secs(3)), Some(Duration::from_secs(2)))
        );
        assert_eq!((without.periods, without.throttled_time), (None, None));
        let with = cpu(&format!(
            "{time}core_sched.force_idle_usec 0\nnr_periods 9\nnr_throttled 4\nthrottled_usec 70\n"
        ));
        assert_eq!((with.periods, with.throttled), (Some(9), Some(4)));
        assert_eq!(with.throttled_time, Some(Duration::from_micros(70)));
    }

    #[test]
    fn a_key_that_begins_like_another_is_another() {
        let stat = "anon_thp 5\nanon 8192\nfile_mapped 1\nfile 4096\n";
        let memory = memory(1, stat, "oom 9\noom_kill 1\noom_group_kill 0\n");
        assert_eq!((memory.anon, memory.file, memory.oom_kills), (Some(8192), Some(4096), Some(1)));
    }

    #[test]
    fn transfers_are_counted_by_device() {
        let line = "259:1 rbytes=1024 wbytes=2048 rios=1 wios=2 dbytes=0 dios=0 cost.usage=3";
        let expected =
            IoStats { major: 259, minor: 1, read_bytes: 1024, write_bytes: 2048, reads: 1, writes: 2 };
        assert_eq!(device(line), Some(expected));
        assert_eq!(device("8:16"), Some(IoStats { major: 8, minor: 16, ..IoStats::default() }));
        assert_eq!(device("(unknown) rbytes=1"), None);
    }

    #[test]
    fn pressure_has_one_or_two_lines() {
        let both = stalls(
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=1000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
        );
        let some = both.some.unwrap();
        assert_eq!((some.avg10, some.avg60, some.total), (1.5, 0.25, Duration::from_secs(1)));
        assert_eq!(both.full.unwrap().total, Duration::from_micros(7));
        assert_eq!(stalls("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n").full, None);
        assert_eq!(stalls("garbage\n"), Stalls::default());
    }

    #[test]
    fn max_is_no_limit() {
        assert_eq!((limit("max\n"), limit("64\n")), (None, Some(64)));
    }
}
