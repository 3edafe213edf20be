//! Many containers alive at once: the memory of their helpers, and whether the last one is created as fast as the
//! first.

use super::report::Samples;
use super::{Ground, Result, helpers, pss_kib};
use std::time::Instant;

/// Compare this many of the first containers with as many of the last.
const ENDS: usize = 10;

/// The cost of many containers.
pub(super) struct Alive {
    /// The sum of the proportional set sizes of all gofers and sandboxes, MiB.
    pub(super) helpers_pss_mib: Result<f64>,
    /// The time from create to running: the median of the last containers divided by that of the first.
    pub(super) create_ratio: f64,
}

pub(super) fn measure(ground: &Ground, count: usize) -> Result<Alive> {
    let (mut first, mut last) = (Samples::default(), Samples::default());
    let mut running = Vec::with_capacity(count);
    for number in 0..count {
        let creating = ground.container(&["/bin/sleep", "1000"]).build()?;
        let clock = Instant::now();
        running.push(creating.create()?.start()?);
        let took = clock.elapsed();
        if number < ENDS {
            first.add(took);
        }
        if number + ENDS >= count {
            last.add(took);
        }
    }
    let sizes =
        running.iter().map(|container| -> Result<u64> { helpers(container)?.map(pss_kib).into_iter().sum() });
    let sum: Result<u64> = sizes.sum();
    for container in running {
        container.kill()?.delete()?;
    }
    let helpers_pss_mib = sum.map(|kib| kib as f64 / 1024.0);
    Ok(Alive { helpers_pss_mib, create_ratio: last.median() / first.median() })
}
