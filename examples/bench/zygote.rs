//! What a zygote saves, and what it costs.

use super::report::Samples;
use super::{Ground, Result, THREADS, helpers, let_helpers_rest, parallel, pss_kib};
use cofferdam::Zygote;

/// Measurements with helpers forked from a zygote.
pub(super) struct Forked {
    pub(super) run: Samples,
    pub(super) parallel_per_second: f64,
    /// The proportional set sizes of the zygote while one container sleeps, and of gofer and sandbox of that container.
    pub(super) pss_kib: Result<(u64, u64)>,
}

/// Takes `run` as it is, because it was measured in turns with other runs.
pub(super) fn measure(
    ground: &Ground,
    zygote: &Zygote,
    run: Samples,
    parallel_runs: usize,
) -> Result<Forked> {
    Ok(Forked {
        run,
        parallel_per_second: parallel(THREADS, parallel_runs, || ground.run_forked(zygote).map(drop))?,
        pss_kib: memory(ground, zygote),
    })
}

fn memory(ground: &Ground, zygote: &Zygote) -> Result<(u64, u64)> {
    let sleeping = ground.container(&["/bin/sleep", "60"]).zygote(zygote).build()?.create()?.start()?;
    let_helpers_rest();
    let helpers: Result<u64> = helpers(&sleeping)?.into_iter().map(pss_kib).sum();
    let sizes = pss_kib(zygote.pid()).and_then(|zygote| Ok((zygote, helpers?)));
    sleeping.kill()?.delete()?;
    sizes
}
