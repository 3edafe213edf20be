//! `linux.resources.blockIO`.

use super::super::field::Field;
use crate::error::Result;
use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice, LinuxWeightDevice};
use serde::{Deserialize, Serialize};
use std::fmt;

/// `linux.resources.blockIO`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockIo {
    /// `weight` against other groups, 10 to 1000; 0 was read as absent.
    pub(crate) weight: Option<u16>,
    /// `leafWeight`: the same against groups inside this one.
    pub(crate) leaf_weight: Option<u16>,
    /// `weightDevice`: both for one device.
    pub(crate) weight_devices: Vec<DeviceWeight>,
    /// `throttleReadBpsDevice`: bytes a second.
    pub(crate) read_bps: Vec<Throttle>,
    /// `throttleWriteBpsDevice`: bytes a second.
    pub(crate) write_bps: Vec<Throttle>,
    /// `throttleReadIOPSDevice`: operations a second.
    pub(crate) read_iops: Vec<Throttle>,
    /// `throttleWriteIOPSDevice`: operations a second.
    pub(crate) write_iops: Vec<Throttle>,
}

/// One entry of `linux.resources.blockIO.weightDevice`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceWeight {
    /// `major` and `minor`.
    pub(crate) device: DeviceNumber,
    /// `weight`, 10 to 1000.
    pub(crate) weight: Option<u16>,
    /// `leafWeight`, 10 to 1000.
    pub(crate) leaf_weight: Option<u16>,
}

/// One entry of the throttles in `linux.resources.blockIO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Throttle {
    /// `major` and `minor`.
    pub(crate) device: DeviceNumber,
    /// `rate` a second; 0 means unlimited.
    pub(crate) rate: u64,
}

/// The number of a block device; as text, `8:0`.
///
/// Closed on purpose: callers write it as a literal, and a device has these two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNumber {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl BlockIo {
    pub(super) fn new(field: &Field<'_>, block: Option<&LinuxBlockIo>) -> Result<Self> {
        let Some(block) = block else {
            return Ok(Self::default());
        };
        let throttles = |name: &str, throttles: &Option<Vec<LinuxThrottleDevice>>| {
            let field = field.key(name);
            let throttles = throttles.iter().flatten().enumerate();
            throttles
                .map(|(index, throttle)| Throttle::new(&field.index(index), throttle))
                .collect::<Result<_>>()
        };
        let weights = field.key("weightDevice");
        let weight_devices = block.weight_device().iter().flatten().enumerate();
        Ok(Self {
            weight: weight(&field.key("weight"), block.weight())?,
            leaf_weight: weight(&field.key("leafWeight"), block.leaf_weight())?,
            weight_devices: weight_devices
                .map(|(index, device)| DeviceWeight::new(&weights.index(index), device))
                .collect::<Result<_>>()?,
            read_bps: throttles("throttleReadBpsDevice", block.throttle_read_bps_device())?,
            write_bps: throttles("throttleWriteBpsDevice", block.throttle_write_bps_device())?,
            read_iops: throttles("throttleReadIOPSDevice", block.throttle_read_iops_device())?,
            write_iops: throttles("throttleWriteIOPSDevice", block.throttle_write_iops_device())?,
        })
    }
}

impl DeviceWeight {
    fn new(field: &Field<'_>, device: &LinuxWeightDevice) -> Result<Self> {
        Ok(Self {
            device: DeviceNumber::new(field, device.major(), device.minor())?,
            weight: weight(&field.key("weight"), device.weight())?,
            leaf_weight: weight(&field.key("leafWeight"), device.leaf_weight())?,
        })
    }
}

impl Throttle {
    fn new(field: &Field<'_>, throttle: &LinuxThrottleDevice) -> Result<Self> {
        let device = DeviceNumber::new(field, throttle.major(), throttle.minor())?;
        Ok(Self { device, rate: throttle.rate() })
    }
}

impl DeviceNumber {
    /// The numbers the kernel's `dev_t` has room for (`MINORBITS` in include/linux/kdev_t.h).
    fn new(field: &Field<'_>, major: i64, minor: i64) -> Result<Self> {
        let part = |name: &str, number: i64, max: u32| match u32::try_from(number) {
            Ok(number) if number <= max => Ok(number),
            _ => Err(field.key(name).error(format_args!("{number} is not between 0 and {max}"))),
        };
        Ok(Self { major: part("major", major, (1 << 12) - 1)?, minor: part("minor", minor, (1 << 20) - 1)? })
    }
}

/// The range of the kernel's I/O schedulers for v1 (CFQ's, and within BFQ's).
fn weight(field: &Field<'_>, weight: Option<u16>) -> Result<Option<u16>> {
    match weight {
        None | Some(0) => Ok(None),
        Some(weight @ 10..=1000) => Ok(Some(weight)),
        Some(weight) => Err(field.error(format_args!("{weight} is not between 10 and 1000"))),
    }
}
