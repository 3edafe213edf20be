//! The verbs events and stats: what a container uses, in the JSON lines of `runc events`.

use super::arguments::duration;
use super::failure::{Done, Failure};
use super::find;
use cofferdam::events::Event;
use cofferdam::stats::Stall;
use cofferdam::{AnyContainer, Error, ErrorKind, StateRoot, Stats};
use serde::Serialize;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Events {
    /// Print the statistics once, and exit
    #[arg(long)]
    stats: bool,
    /// The time between two lines
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = interval)]
    interval: Duration,
    /// The container
    id: String,
}

impl Events {
    pub(crate) fn obey(self, root: &StateRoot) -> Done {
        let container = find(root, &self.id)?;
        if self.stats {
            return once(&container);
        }
        let not_running = |error: Error| match error.kind() {
            ErrorKind::WrongState { .. } | ErrorKind::Ended => not_running(&container),
            _ => error.into(),
        };
        let events = container.as_alive().and_then(|alive| alive.events()).map_err(not_running)?;
        for event in events.stats_every(self.interval) {
            match event? {
                Event::Stats(stats) => print(&container, &stats),
                Event::OutOfMemory => Line::new("oom", &container, None).print(),
                // runc does not report the others.
                _ => {}
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A line of `runc events`, with its keys in runc's order: programs compare the beginning of a line.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl<'a> Line<'a> {
    fn new(kind: &'static str, container: &'a AnyContainer, data: Option<Value>) -> Self {
        Self { r#type: kind, id: container.id().as_str(), data }
    }

    fn print(&self) {
        println!("{}", serde_json::to_string(self).unwrap_or_default());
    }
}

fn not_running(container: &AnyContainer) -> Failure {
    format!("container with id {} is not running", container.id()).into()
}

fn print(container: &AnyContainer, stats: &Stats) {
    Line::new("stats", container, Some(data(stats))).print();
}

pub(crate) fn once(container: &AnyContainer) -> Done {
    match container.as_alive().and_then(|alive| alive.stats()) {
        Ok(stats) => {
            print(container, &stats);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WrongState { .. } | ErrorKind::Ended) => {
            Err(not_running(container))
        }
        Err(error) => Err(error.into()),
    }
}

/// The statistics with runc's names. Values that the kernel does not count are left out.
fn data(stats: &Stats) -> Value {
    let ns = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let mut data = json!({});
    if let Some(cpu) = &stats.cpu {
        data["cpu"] = json!({
            "usage": { "total": ns(cpu.usage), "user": ns(cpu.user), "kernel": ns(cpu.system) },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled,
                "throttledTime": ns(cpu.throttled_time),
            },
            "bursts": { "bursts": cpu.bursts, "burstTime": ns(cpu.burst_time) },
        });
    }
    if let Some(memory) = &stats.memory {
        // The largest number means no limit, as in the kernel's file.
        let limit = memory.limit.unwrap_or(u64::MAX);
        data["memory"] = json!({
            "cache": memory.file,
            "usage": { "limit": limit, "usage": memory.usage, "max": memory.peak },
            "swap": { "usage": memory.swap, "limit": memory.swap_limit },
            "raw": { "anon": memory.anon, "file": memory.file, "oom_kill": memory.oom_kills },
        });
    }
    if let Some(pids) = &stats.pids {
        data["pids"] = json!({ "current": pids.current, "limit": pids.limit });
    }
    if let Some(io) = &stats.io {
        let entries = |pick: fn(&cofferdam::stats::IoStats) -> [u64; 2]| -> Vec<Value> {
            io.iter()
                .flat_map(|device| {
                    let [read, write] = pick(device);
                    [("Read", read), ("Write", write)].map(|(op, value)| {
                        json!({ "major": device.major, "minor": device.minor, "op": op, "value": value })
                    })
                })
                .collect()
        };
        data["blkio"] = json!({
            "ioServiceBytesRecursive": entries(|device| [device.read_bytes, device.write_bytes]),
            "ioServicedRecursive": entries(|device| [device.reads, device.writes]),
        });
    }
    for size in stats.hugetlb.iter().flatten() {
        data["hugetlb"][&size.page_size] =
            json!({ "usage": size.usage, "max": size.peak, "failcnt": size.failures, "limit": size.limit });
    }
    if let Some(rdma) = &stats.rdma {
        data["rdma"] = json!(rdma);
    }
    if let Some(pressure) = stats.pressure {
        for (resource, stalls) in [("cpu", pressure.cpu), ("memory", pressure.memory), ("blkio", pressure.io)]
        {
            if let Some(stalls) = stalls {
                data[resource]["psi"] = json!({ "some": psi(stalls.some), "full": psi(stalls.full) });
            }
        }
    }
    without_nulls(data)
}

/// Averages in percent, the total in microseconds, as in the kernel's file.
fn psi(stall: Option<Stall>) -> Option<Value> {
    let stall = stall?;
    let total = u64::try_from(stall.total.as_micros()).unwrap_or(u64::MAX);
    Some(json!({ "avg10": stall.avg10, "avg60": stall.avg60, "avg300": stall.avg300, "total": total }))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        other => other,
    }
}

/// Parses an interval, which must not be zero.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval.is_zero() { Err("must be longer than zero".into()) } else { Ok(interval) }
}
