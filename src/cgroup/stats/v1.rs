//! Reads the counters of v1 (kernel: admin-guide/cgroup-v1).

use super::super::dir::{CgroupDir, keyed, limit};
use super::values::{CpuStats, HugetlbStats, IoStats, MemoryStats, Stats};
use crate::error::Result;
use std::time::Duration;

/// Adds the counters of this directory. Each file exists in the hierarchy of its controller only.
pub(super) fn add(stats: &mut Stats, dir: &CgroupDir) -> Result<()> {
    if let Some(usage) = dir.number("cpuacct.usage")? {
        let split = dir.statistic("cpuacct.stat")?.unwrap_or_default();
        add_times(stats.cpu.get_or_insert_default(), usage, &split);
    }
    if let Some(text) = dir.statistic("cpu.stat")? {
        add_throttling(stats.cpu.get_or_insert_default(), &text);
    }
    if let Some(usage) = dir.number("memory.usage_in_bytes")? {
        stats.memory = Some(MemoryStats {
            limit: dir.statistic("memory.limit_in_bytes")?.as_deref().and_then(bytes_limit),
            peak: dir.number("memory.max_usage_in_bytes")?,
            // The file counts memory and swap together.
            swap: dir.number("memory.memsw.usage_in_bytes")?.map(|both| both.saturating_sub(usage)),
            swap_limit: dir.statistic("memory.memsw.limit_in_bytes")?.as_deref().and_then(bytes_limit),
            ..memory(
                usage,
                &dir.statistic("memory.stat")?.unwrap_or_default(),
                &dir.statistic("memory.oom_control")?.unwrap_or_default(),
            )
        });
    }
    if let Some(bytes) = dir.statistic("blkio.throttle.io_service_bytes_recursive")? {
        let operations = dir.statistic("blkio.throttle.io_serviced_recursive")?.unwrap_or_default();
        stats.io = Some(io(&bytes, &operations));
    }
    for page_size in dir.huge_page_sizes(".usage_in_bytes")? {
        let file = |name: &str| format!("hugetlb.{page_size}.{name}");
        stats.hugetlb.get_or_insert_default().push(HugetlbStats {
            usage: dir.number(&file("usage_in_bytes"))?.unwrap_or(0),
            limit: dir.statistic(&file("limit_in_bytes"))?.as_deref().and_then(bytes_limit),
            peak: dir.number(&file("max_usage_in_bytes"))?,
            failures: dir.number(&file("failcnt"))?,
            page_size,
        });
    }
    Ok(())
}

/// `cpuacct.usage` in nanoseconds, `cpuacct.stat` in ticks of user space's clock, which are 100 a second on every
/// Linux.
fn add_times(cpu: &mut CpuStats, usage_ns: u64, stat: &str) {
    let ticks = |key| keyed(stat, key).map(|ticks| Duration::from_millis(ticks.saturating_mul(10)));
    cpu.usage = Some(Duration::from_nanos(usage_ns));
    (cpu.user, cpu.system) = (ticks("user"), ticks("system"));
}

fn add_throttling(cpu: &mut CpuStats, stat: &str) {
    (cpu.periods, cpu.throttled) = (keyed(stat, "nr_periods"), keyed(stat, "nr_throttled"));
    cpu.throttled_time = keyed(stat, "throttled_time").map(Duration::from_nanos);
    cpu.bursts = keyed(stat, "nr_bursts");
    cpu.burst_time = keyed(stat, "burst_time").map(Duration::from_nanos);
}

fn memory(usage: u64, stat: &str, oom_control: &str) -> MemoryStats {
    MemoryStats {
        usage,
        anon: keyed(stat, "total_rss"),
        file: keyed(stat, "total_cache"),
        oom_kills: keyed(oom_control, "oom_kill"),
        ..MemoryStats::default()
    }
}

/// No limit is the highest number of whole pages (`PAGE_COUNTER_MAX`), whatever size a page has.
fn bytes_limit(text: &str) -> Option<u64> {
    const LARGEST_PAGE: u64 = 64 << 10;
    limit(text).filter(|bytes| *bytes < i64::MAX.unsigned_abs() - LARGEST_PAGE)
}

/// Lines of `major:minor Operation count`; skips the sums over all operations and devices.
fn io(bytes: &str, operations: &str) -> Vec<IoStats> {
    let mut devices: Vec<IoStats> = Vec::new();
    for (text, counts_bytes) in [(bytes, true), (operations, false)] {
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let number = fields.next().and_then(|device| device.split_once(':'));
            let Some((Ok(major), Ok(minor))) = number.map(|(major, minor)| (major.parse(), minor.parse()))
            else {
                continue;
            };
            let (Some(operation), Some(Ok(count))) = (fields.next(), fields.next().map(str::parse)) else {
                continue;
            };
            let known = devices.iter().position(|device| (device.major, device.minor) == (major, minor));
            let index = known.unwrap_or_else(|| {
                devices.push(IoStats { major, minor, ..IoStats::default() });
                devices.len() - 1
            });
            let device = &mut devices[index];
            match (operation, counts_bytes) {
                ("Read", true) => device.read_bytes = count,
                ("Write", true) => device.write_bytes = count,
                ("Read", false) => device.reads = count,
                ("Write", false) => device.writes = count,
                _ => {}
            }
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_throttling_come_from_two_controllers() {
        let mut cpu = CpuStats::default();
        add_times(&mut cpu, 1_234_567_890, "user 100\nsystem 23\n");
        assert_eq!(cpu.usage, Some(Duration::from_nanos(1_234_567_890)));
        assert_eq!((cpu.user, cpu.system), (Some(Duration::from_secs(1)), Some(Duration::from_millis(230))));
        assert_eq!((cpu.periods, cpu.throttled, cpu.throttled_time), (None, None, None));
        add_throttling(
            &mut cpu,
            "nr_periods 7\nnr_throttled 3\nthrottled_time 5000000\nnr_bursts 2\nburst_time 9000\n",
        );
        assert_eq!((cpu.periods, cpu.throttled), (Some(7), Some(3)));
        assert_eq!(cpu.throttled_time, Some(Duration::from_millis(5)));
        assert_eq!((cpu.bursts, cpu.burst_time), (Some(2), Some(Duration::from_micros(9))));
    }

    #[test]
    fn memory_is_counted_with_what_is_below() {
        let stat = "cache 1\nrss 2\ntotal_cache 4096\ntotal_rss 8192\ntotal_rss_huge 0\n";
        let memory = memory(12288, stat, "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
        assert_eq!((memory.anon, memory.file, memory.oom_kills), (Some(8192), Some(4096), Some(2)));
        assert_eq!(super::memory(1, "", "").oom_kills, None);
    }

    #[test]
    fn the_highest_number_of_pages_is_no_limit() {
        for (text, expected) in [
            ("9223372036854771712\n", None),
            ("9223372036854710272\n", None),
            ("67108864\n", Some(64 << 20)),
            ("max\n", None),
        ] {
            assert_eq!(bytes_limit(text), expected, "{text}");
        }
    }

    #[test]
    fn transfers_are_counted_by_device() {
        let bytes = "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 0\n8:0 Discard 0\n8:0 Total 12288\n\
                     259:1 Read 0\n259:1 Write 512\nTotal 12800\n";
        let operations = "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\n259:1 Write 1\nTotal 4\n";
        assert_eq!(
            io(bytes, operations),
            [
                IoStats { major: 8, minor: 0, read_bytes: 4096, write_bytes: 8192, reads: 1, writes: 2 },
                IoStats { major: 259, minor: 1, read_bytes: 0, write_bytes: 512, reads: 0, writes: 1 },
            ]
        );
        assert_eq!(io("Total 0\n", "Total 0\n"), []);
    }
}
