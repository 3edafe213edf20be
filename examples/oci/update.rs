//! The verb update: changes the limits of a container.

use super::failure::{Done, Failure};
use super::find;
use cofferdam::StateRoot;
use cofferdam::oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The largest document accepted, in bytes.
const MAX_DOCUMENT: u64 = 1 << 20;

#[derive(clap::Args)]
pub(crate) struct Update {
    /// Read linux.resources from FILE in the form of config.json, or from standard input with -
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// The memory limit
    #[arg(short, long, value_name = "BYTES", allow_hyphen_values = true, value_parser = bytes)]
    memory: Option<i64>,
    /// The soft limit, enforced when memory is short
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = bytes)]
    memory_reservation: Option<i64>,
    /// The limit of memory and swap together
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = bytes)]
    memory_swap: Option<i64>,
    /// Obsolete and ignored
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, hide = true)]
    kernel_memory: Option<String>,
    /// Obsolete and ignored
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, hide = true)]
    kernel_memory_tcp: Option<String>,
    /// The length of a period, in microseconds
    #[arg(long, value_name = "US")]
    cpu_period: Option<u64>,
    /// CPU time in each period, in microseconds
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// CPU time that a period may use of what earlier periods left, in microseconds
    #[arg(long, value_name = "US")]
    cpu_burst: Option<u64>,
    /// The CPU weight relative to other groups
    #[arg(long, value_name = "N")]
    cpu_share: Option<u64>,
    /// The length of a period for real-time tasks, in microseconds
    #[arg(long, value_name = "US")]
    cpu_rt_period: Option<u64>,
    /// CPU time of real-time tasks in each period, in microseconds
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    /// 1: only CPU time that no other group uses; 0: by weight
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    cpu_idle: Option<i64>,
    /// The CPUs it may use
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// The memory nodes it may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// The maximum number of processes and threads
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// The weight in block I/O relative to other groups
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// The container
    id: String,
}

impl Update {
    pub(crate) fn obey(self, root: &StateRoot) -> Done {
        let mut container = find(root, &self.id)?;
        let document = match &self.resources {
            Some(path) => read(path)?,
            None => self.document(),
        };
        let resources: LinuxResources =
            serde_json::from_value(document).map_err(|error| format!("resources: {error}"))?;
        container.as_alive_mut()?.update(&resources)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The other options in the form of a document.
    fn document(&self) -> Value {
        let mut document = json!({});
        let mut put = |section: &str, key: &str, value: Option<Value>| {
            if let Some(value) = value {
                document[section][key] = value;
            }
        };
        put("memory", "limit", self.memory.map(Into::into));
        put("memory", "reservation", self.memory_reservation.map(Into::into));
        put("memory", "swap", self.memory_swap.map(Into::into));
        put("cpu", "period", self.cpu_period.map(Into::into));
        put("cpu", "quota", self.cpu_quota.map(Into::into));
        put("cpu", "burst", self.cpu_burst.map(Into::into));
        put("cpu", "realtimePeriod", self.cpu_rt_period.map(Into::into));
        put("cpu", "realtimeRuntime", self.cpu_rt_runtime.map(Into::into));
        put("cpu", "idle", self.cpu_idle.map(Into::into));
        put("cpu", "shares", self.cpu_share.map(Into::into));
        put("cpu", "cpus", self.cpuset_cpus.clone().map(Into::into));
        put("cpu", "mems", self.cpuset_mems.clone().map(Into::into));
        put("pids", "limit", self.pids_limit.map(Into::into));
        put("blockIO", "weight", self.blkio_weight.map(Into::into));
        document
    }
}

/// A number of bytes, with an optional unit as in `64m`; -1 means no limit.
fn bytes(text: &str) -> Result<i64, String> {
    let lower = text.to_ascii_lowercase();
    let plain = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
    let units = [('k', 10), ('m', 20), ('g', 30), ('t', 40), ('p', 50)];
    let unit = units.into_iter().find_map(|(unit, shift)| Some((plain.strip_suffix(unit)?, shift)));
    let (number, shift) = unit.unwrap_or((plain, 0));
    let number: i64 = number.trim().parse().map_err(|_| "is not a number of bytes such as 64m".to_owned())?;
    match number {
        ..=-1 if shift > 0 => Err("is below 0".into()),
        number => number.checked_mul(1 << shift).ok_or_else(|| "is too large".to_owned()),
    }
}

fn read(path: &Path) -> Result<Value, Failure> {
    let failed =
        |error: &dyn std::fmt::Display| Failure::from(format!("resources {}: {error}", path.display()));
    let mut text = Vec::new();
    let read = if path.as_os_str() == "-" {
        stdin().lock().take(MAX_DOCUMENT).read_to_end(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(MAX_DOCUMENT).read_to_end(&mut text))
    };
    read.map_err(|error| failed(&error))?;
    serde_json::from_slice(&text).map_err(|error| failed(&error))
}
