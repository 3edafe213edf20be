//! `linux.resources.cpu`.

use super::super::field::{Field, shorten};
use crate::error::Result;
use oci_spec::runtime;
use serde::{Deserialize, Serialize};

/// `linux.resources.cpu`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CpuLimits {
    /// `shares`, 2 to 262144; 0 was read as absent.
    pub(crate) shares: Option<u64>,
    /// `quota` in microseconds per period; -1 means unlimited.
    pub(crate) quota: Option<i64>,
    /// `period` in microseconds, 1000 to 1000000.
    pub(crate) period: Option<u64>,
    /// `burst` in microseconds: how much unused quota of earlier periods one period may use; at most `quota`.
    pub(crate) burst: Option<u64>,
    /// `realtimeRuntime`: how many microseconds per `realtimePeriod` real-time tasks may run; -1 means unlimited.
    pub(crate) realtime_runtime: Option<i64>,
    /// `realtimePeriod` in microseconds.
    pub(crate) realtime_period: Option<u64>,
    /// `idle`: the group gets only the CPU time that no other group wants.
    pub(crate) idle: bool,
    /// `cpus`, a cpuset(7) list.
    pub(crate) cpus: Option<String>,
    /// `mems`, a cpuset(7) list.
    pub(crate) mems: Option<String>,
}

/// The most microseconds per period the kernel can count (`MAX_BW` in kernel/sched/sched.h).
const MAX_CPU_QUOTA: i64 = (1 << 44) - 1;

impl CpuLimits {
    pub(super) fn new(field: &Field<'_>, cpu: Option<&runtime::LinuxCpu>) -> Result<Self> {
        let Some(cpu) = cpu else {
            return Ok(Self::default());
        };
        let within = |name: &str, value: Option<u64>, min: u64, max: u64| match value {
            None | Some(0) => Ok(None),
            Some(value) if (min..=max).contains(&value) => Ok(Some(value)),
            Some(value) => Err(field.key(name).error(format_args!("{value} is not between {min} and {max}"))),
        };
        let quota = match cpu.quota() {
            None | Some(0) => None,
            Some(quota @ (-1 | 1000..=MAX_CPU_QUOTA)) => Some(quota),
            Some(quota @ 1000..) => {
                return Err(field.key("quota").error(format_args!("{quota} is above {MAX_CPU_QUOTA}")));
            }
            Some(quota) => {
                let error = field.key("quota").error(format_args!("{quota} is below 1000"));
                return Err(error.hint("the unit is microseconds per period; -1 is unlimited"));
            }
        };
        let idle = match cpu.idle() {
            None | Some(0) => false,
            Some(1) => true,
            Some(idle) => return Err(field.key("idle").error(format_args!("{idle} is neither 0 nor 1"))),
        };
        let burst = within("burst", cpu.burst(), 1, MAX_CPU_QUOTA.unsigned_abs())?;
        if let (Some(burst), Some(quota @ 0..)) = (burst, quota)
            && burst > quota.unsigned_abs()
        {
            return Err(field.key("burst").error(format_args!("{burst} is above quota, {quota}")));
        }
        let (realtime_runtime, realtime_period) = realtime(field, cpu)?;
        Ok(Self {
            // The ranges are the kernel's: MIN_SHARES and MAX_SHARES, max_cfs_quota_period and min_cfs_quota_period.
            shares: within("shares", cpu.shares(), 2, 262_144)?,
            quota,
            period: within("period", cpu.period(), 1000, 1_000_000)?,
            burst,
            realtime_runtime,
            realtime_period,
            idle,
            cpus: cpuset(&field.key("cpus"), cpu.cpus().as_deref())?,
            mems: cpuset(&field.key("mems"), cpu.mems().as_deref())?,
        })
    }
}

/// The kernel's own period for real-time tasks, microseconds.
const DEFAULT_REALTIME_PERIOD: u64 = 1_000_000;

fn realtime(field: &Field<'_>, cpu: &runtime::LinuxCpu) -> Result<(Option<i64>, Option<u64>)> {
    let period = match cpu.realtime_period().filter(|period| *period != 0) {
        // The kernel keeps it in nanoseconds, in 64 bits.
        Some(period) if i64::try_from(period).is_ok_and(|period| period.checked_mul(1000).is_some()) => {
            Some(period)
        }
        Some(period) => return Err(field.key("realtimePeriod").error(format_args!("{period} is too long"))),
        None => None,
    };
    let field = field.key("realtimeRuntime");
    match cpu.realtime_runtime() {
        None | Some(0) => Ok((None, period)),
        Some(-1) => Ok((Some(-1), period)),
        Some(runtime) => match u64::try_from(runtime) {
            Ok(micros) if micros <= period.unwrap_or(DEFAULT_REALTIME_PERIOD) => Ok((Some(runtime), period)),
            Ok(_) => Err(field.error(format_args!("{runtime} is above the period"))),
            Err(_) => Err(field.error(format_args!("{runtime} is below -1"))),
        },
    }
}

/// The list format of cpuset(7): `0-3,7`. An empty list is absent.
fn cpuset(field: &Field<'_>, list: Option<&str>) -> Result<Option<String>> {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u32>().ok(),
        false => None,
    };
    let good = |range: &str| match range.split_once('-') {
        None => number(range).is_some(),
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
    };
    if list.split(',').all(good) {
        return Ok(Some(list.to_owned()));
    }
    Err(field.error(format_args!("{:?} is not a list", shorten(list))).hint("write it as in 0-3,7"))
}
