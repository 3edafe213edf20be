//! The range of host ids of a container that has one of its own: `build` has chosen it, and `create` takes it.

use super::blueprint::{Blueprint, blueprint};
use crate::container::builder::default_spec::build;
use crate::container::configured::Cache;
use crate::container::handle::Handle;
use crate::error::Result;
use crate::host::Caller;
use crate::host::facts::IdRange;
use crate::spec::{IdMap, Origin};
use crate::state::{IdClaim, RawSpec};
use crate::weaken::{Rule, leaves_out};
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Spec};

/// Takes the range in the plan. If another program was first, plans with another range. `None` for a container that has no
/// range of its own, or that of its pod.
pub(super) fn claim(core: &mut Handle, blueprint: &mut Blueprint) -> Result<Option<IdClaim>> {
    if !blueprint.extras.own_range || blueprint.extras.pod.is_some() || leaves_out(Rule::IdRanges) {
        return Ok(None);
    }
    loop {
        let range = |maps: &[IdMap]| maps.first().map(|map| IdRange { start: map.host, count: map.size });
        let maps = &blueprint.plan.id_maps;
        let Some(planned) = range(&maps.uids).zip(range(&maps.gids)) else { return Ok(None) };
        if let Some(claim) = IdClaim::take(planned.0, planned.1)? {
            return Ok(Some(claim));
        }
        let caller = Caller::probe()?;
        let Some(region) = caller.id_region() else { return Ok(None) };
        move_to(core, blueprint, planned, IdClaim::choose(&region)?, caller)?;
    }
}

/// Gives the container the range `to` instead of `from`, which its plan and its record have.
fn move_to(
    core: &mut Handle,
    old: &mut Blueprint,
    from: (IdRange, IdRange),
    to: (IdRange, IdRange),
    caller: Caller,
) -> Result<()> {
    let mut spec = core.record.spec.parse()?;
    shift(&mut spec, from, to);
    let extras = old.extras.clone();
    let new = blueprint(
        core.root.qualify(&core.record.id),
        &spec,
        extras,
        Some(&core.record.bundle),
        Origin::Builder,
        caller,
    )?;
    core.record.spec = RawSpec::from_spec(&spec)?;
    core.configured = Cache::default();
    old.plan = new.plan;
    Ok(())
}

/// Moves the host ids of the range `from`, in the maps of the container and of its mounts, to `to`.
fn shift(spec: &mut Spec, from: (IdRange, IdRange), to: (IdRange, IdRange)) {
    let moved = |maps: &Option<Vec<LinuxIdMapping>>, from: IdRange, to: IdRange| {
        let shifted = |map: &LinuxIdMapping| {
            let offset = map.host_id().checked_sub(from.start).filter(|offset| *offset < from.count);
            let host = offset.map_or(map.host_id(), |offset| to.start + offset);
            let moved = LinuxIdMappingBuilder::default().container_id(map.container_id()).host_id(host);
            build(|| moved.size(map.size()).build())
        };
        maps.as_ref().map(|maps| maps.iter().map(shifted).collect::<Vec<_>>())
    };
    if let Some(linux) = spec.linux_mut() {
        let (uids, gids) =
            (moved(linux.uid_mappings(), from.0, to.0), moved(linux.gid_mappings(), from.1, to.1));
        linux.set_uid_mappings(uids).set_gid_mappings(gids);
    }
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let (uids, gids) =
            (moved(mount.uid_mappings(), from.0, to.0), moved(mount.gid_mappings(), from.1, to.1));
        mount.set_uid_mappings(uids).set_gid_mappings(gids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_the_range_move() {
        let maps = |first: u32| serde_json::json!([{"containerID": 0, "hostID": first, "size": 9}]);
        let config = |container: u32, mount: u32| {
            let spec = serde_json::json!({
                "ociVersion": "1.2.0",
                "mounts": [{"destination": "/a", "uidMappings": maps(mount), "gidMappings": maps(5)}],
                "linux": {"uidMappings": maps(container), "gidMappings": maps(container + 1000)},
            });
            serde_json::from_value::<Spec>(spec).unwrap()
        };
        let range = |start| IdRange { start, count: 500 };
        let mut spec = config(10_000, 10_007);
        shift(&mut spec, (range(10_000), range(11_000)), (range(30_000), range(31_000)));
        assert_eq!(spec, config(30_000, 30_007));
    }
}
