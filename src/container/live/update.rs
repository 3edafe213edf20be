//! Changes the limits of a container that exists.

use crate::cgroup::update::{LimitDirs, PropertyUpdate};
use crate::container::handle::Handle;
use crate::container::{Alive, Container, Phase};
use crate::error::{Error, ErrorKind, Result};
use crate::link::observe;
use crate::plan::cgroup::{ControllerUpdate, Lifted};
use crate::plan::{Extras, cgroup};
use crate::spec::{BlockIo, Origin, Resources, Throttle, ValidSpec};
use crate::state::{RawSpec, Record, StateLock, Status};
use oci_spec::runtime::{LinuxResources, LinuxThrottleDevice, Spec};
use serde_json::Value;
use std::path::Path;

impl<P: Phase + ?Sized> Container<P> {
    /// Changes limits at once. Sets the limits that `resources` names; a limit that it leaves out, or gives as 0,
    /// stays as it is, and -1 lifts a limit. Writes the new limits to the configuration in the record.
    ///
    /// Checks the new limits, together with those that stay, as for a new container. If the kernel refuses one,
    /// restores those that were already set. `devices` may repeat the rules of the configuration, but not change them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] naming the field; [`ErrorKind::Unsupported`] naming a field whose controller the
    /// container was created without, or a field that is never supported; [`ErrorKind::InvalidInput`] for a memory
    /// limit below what is in use with `checkBeforeUpdate`; [`ErrorKind::Ended`] if the container has ended;
    /// [`ErrorKind::WrongState`] if another process changed the phase; else the errno of the write.
    pub fn update(&mut self, resources: &LinuxResources) -> Result<()>
    where
        P: Alive,
    {
        self.phase.live().check_alive("update")?;
        let mut lock = lock_in_phase(&mut self.core, self.phase.status())?;
        let mut record = self.core.record.clone();
        let change = LimitUpdate::new(&record, resources)?;
        let limited = LimitDirs::open(&record.cgroups)?;
        if let Some(limit) = change.checked_limit {
            limited.check_usage(limit)?;
        }
        // Set systemd's properties before the files: systemd rounds, and the files then get the exact values.
        let unit = record.scope.clone();
        let properties = unit.as_ref().map(|unit| PropertyUpdate::of(unit, change.scope)).transpose()?;
        let written = limited.write(&change.updates)?;
        record.spec = change.spec;
        // If the save fails, restore the old limits too: the next update would start from a record without the new
        // ones.
        lock.save(&mut record)?;
        written.keep();
        properties.into_iter().for_each(PropertyUpdate::keep);
        self.core.record = record;
        Ok(())
    }
}

/// Takes the lock and reads the record again, and fails if the container is not in phase `expected` any more.
fn lock_in_phase(core: &mut Handle, expected: Status) -> Result<StateLock> {
    let lock = core.root.lock(core.found()?)?;
    let now = lock.load()?;
    let actual = observe(&now)?;
    if now.created_at == core.record.created_at && actual == Status::Stopped {
        return Err(core.has_ended("update"));
    }
    if now.created_at != core.record.created_at || actual != expected {
        let problem = format!("{:?} was changed by another process and is {actual} now", now.id.as_str());
        return Err(Error::wrong_state(actual, "update", problem));
    }
    *core.record = now;
    Ok(lock)
}

/// What an update will write.
struct LimitUpdate {
    updates: Vec<ControllerUpdate>,
    /// The same for the systemd scope, if the container is in one.
    scope: cgroup::ScopeUpdate,
    /// The configuration with the new limits.
    spec: RawSpec,
    /// A memory limit that must not be below the memory in use.
    checked_limit: Option<u64>,
}

impl LimitUpdate {
    fn new(record: &Record, resources: &LinuxResources) -> Result<Self> {
        let not_json =
            |error: serde_json::Error| Error::spec("update", "linux.resources", &error).because(error);
        let resources = &with_swap_lifted(resources, record)?;
        if !(no_devices_asked(resources) || are_devices_of(&record.spec.parse()?, resources)) {
            let why = "the devices of a container are decided when it is created";
            return Err(Error::unsupported("linux.resources.devices", why));
        }
        let mut given = serde_json::to_value(resources).map_err(not_json)?;
        if let Some(given) = given.as_object_mut() {
            given.remove("devices");
        }
        let old = valid(record, &record.spec)?;
        let spec = with_resources(&record.spec, |slot| merge(slot, &given))?;
        let new = valid(record, &spec)?;
        let named = named(&new, resources);
        let cpu = resources.cpu().as_ref();
        let lifted = Lifted {
            pids: resources.pids().as_ref().is_some_and(|pids| pids.limit() < 0),
            cpu_burst: cpu.is_some_and(|cpu| cpu.burst() == Some(0)),
            cpu_idle: cpu.is_some_and(|cpu| cpu.idle() == Some(0)),
        };
        let checks =
            resources.memory().as_ref().is_some_and(|memory| memory.check_before_update() == Some(true));
        let limit = named.memory.limit.and_then(|limit| u64::try_from(limit).ok());
        Ok(Self {
            scope: cgroup::update_scope(&old, &new, lifted),
            updates: cgroup::update(&old, &new, &named, lifted)?,
            spec,
            checked_limit: limit.filter(|_| checks),
        })
    }
}

/// `resources`, with the container's swap limit lifted if they lift its memory limit and say nothing of swap: the swap
/// limit counts memory and swap together, and cannot be below the memory limit. runc does the same.
fn with_swap_lifted(resources: &LinuxResources, record: &Record) -> Result<LinuxResources> {
    let mut resources = resources.clone();
    if let Some(memory) = resources.memory()
        && memory.limit() == Some(-1)
        && matches!(memory.swap(), None | Some(0))
        && valid(record, &record.spec)?.memory.swap.is_some_and(|swap| swap > 0)
    {
        let mut memory = *memory;
        memory.set_swap(Some(-1));
        resources.set_memory(Some(memory));
    }
    Ok(resources)
}

/// Whether `resources` has no device rules, or only those of `LinuxResources::default()`, which the caller did not
/// choose.
fn no_devices_asked(resources: &LinuxResources) -> bool {
    let devices = resources.devices();
    devices.as_ref().is_none_or(Vec::is_empty) || devices == LinuxResources::default().devices()
}

/// Whether the device rules are those of the container: engines repeat them beside the limits that they change.
fn are_devices_of(spec: &Spec, resources: &LinuxResources) -> bool {
    let own = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    own.is_some_and(|own| own.devices() == resources.devices())
}

/// Of the limits `new`, those that `given` names.
fn named(new: &Resources, given: &LinuxResources) -> Resources {
    let nonzero = |value: Option<i64>| value.is_some_and(|value| value != 0);
    let mut named = Resources::default();
    if let Some(memory) = given.memory() {
        named.memory.limit = new.memory.limit.filter(|_| nonzero(memory.limit()));
        named.memory.reservation = new.memory.reservation.filter(|_| nonzero(memory.reservation()));
        named.memory.swap = new.memory.swap.filter(|_| nonzero(memory.swap()));
        named.memory.swappiness = new.memory.swappiness.filter(|_| memory.swappiness().is_some());
        named.memory.disable_oom_killer = memory.disable_oom_killer() == Some(true);
    }
    if let Some(cpu) = given.cpu() {
        let filled = |list: &Option<String>| list.as_ref().is_some_and(|list| !list.is_empty());
        named.cpu.shares = new.cpu.shares.filter(|_| cpu.shares().is_some_and(|shares| shares != 0));
        named.cpu.quota = new.cpu.quota.filter(|_| nonzero(cpu.quota()));
        named.cpu.period = new.cpu.period.filter(|_| cpu.period().is_some_and(|period| period != 0));
        named.cpu.burst = new.cpu.burst.filter(|_| cpu.burst().is_some());
        named.cpu.realtime_runtime = new.cpu.realtime_runtime.filter(|_| nonzero(cpu.realtime_runtime()));
        named.cpu.realtime_period =
            new.cpu.realtime_period.filter(|_| cpu.realtime_period().is_some_and(|period| period != 0));
        named.cpu.idle = new.cpu.idle && cpu.idle().is_some();
        named.cpu.cpus = new.cpu.cpus.clone().filter(|_| filled(cpu.cpus()));
        named.cpu.mems = new.cpu.mems.clone().filter(|_| filled(cpu.mems()));
    }
    named.pids_limit = new.pids_limit.filter(|_| given.pids().is_some_and(|pids| pids.limit() != 0));
    named_beyond_the_process(&mut named, new, given);
    named
}

/// As [`named`], for block devices, huge pages, networks, RDMA and unified files. A list of a block device limit
/// counts as a whole.
fn named_beyond_the_process(named: &mut Resources, new: &Resources, given: &LinuxResources) {
    if let Some(block) = given.block_io() {
        let filled =
            |list: &Option<Vec<LinuxThrottleDevice>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let nonzero = |weight: Option<u16>| weight.is_some_and(|weight| weight != 0);
        let BlockIo { weight, leaf_weight, weight_devices, read_bps, write_bps, read_iops, write_iops } =
            new.block_io.clone();
        let some = |list: Vec<Throttle>, given| if filled(given) { list } else { Vec::new() };
        named.block_io = BlockIo {
            weight: weight.filter(|_| nonzero(block.weight())),
            leaf_weight: leaf_weight.filter(|_| nonzero(block.leaf_weight())),
            weight_devices: match block.weight_device().as_ref().is_some_and(|list| !list.is_empty()) {
                true => weight_devices,
                false => Vec::new(),
            },
            read_bps: some(read_bps, block.throttle_read_bps_device()),
            write_bps: some(write_bps, block.throttle_write_bps_device()),
            read_iops: some(read_iops, block.throttle_read_iops_device()),
            write_iops: some(write_iops, block.throttle_write_iops_device()),
        };
    }
    if let Some(pages) = given.hugepage_limits() {
        let is_given = |size: &str| pages.iter().any(|given| given.page_size() == size);
        named.hugepages = new.hugepages.iter().filter(|limit| is_given(&limit.page_size)).cloned().collect();
    }
    if let Some(network) = given.network() {
        named.network.class_id = new.network.class_id.filter(|_| network.class_id().is_some());
        let is_given = |name: &str| network.priorities().iter().flatten().any(|given| given.name() == name);
        let priorities = new.network.priorities.iter().filter(|priority| is_given(&priority.interface));
        named.network.priorities = priorities.cloned().collect();
    }
    if let Some(rdma) = given.rdma() {
        named.rdma = new.rdma.iter().filter(|limit| rdma.contains_key(&limit.device)).cloned().collect();
    }
    if let Some(unified) = given.unified() {
        let is_given = |file: &str| unified.get(file).is_some_and(|value| !value.is_empty());
        named.unified = new.unified.iter().filter(|unified| is_given(&unified.file)).cloned().collect();
    }
}

/// The limits in `spec`, validated by the rules for every configuration.
fn valid(record: &Record, spec: &RawSpec) -> Result<Resources> {
    let extras: Extras = serde_json::from_value(record.extras.clone())
        .map_err(|error| Error::new(ErrorKind::Stale, "record", format!("extras: {error}")))?;
    let bundle = if extras.host_rootfs { Path::new("/") } else { &record.bundle };
    Ok(ValidSpec::new(&spec.parse()?, Some(bundle), Origin::Update)?.resources)
}

/// The configuration with other `linux.resources`. All other fields stay, also those that this crate does not know.
fn with_resources(spec: &RawSpec, change: impl FnOnce(&mut Value)) -> Result<RawSpec> {
    let not_json = |error: serde_json::Error| Error::spec("record", "", &error).because(error);
    let mut document: Value = serde_json::from_str(spec.text()).map_err(not_json)?;
    let mut slot = &mut document;
    for key in ["linux", "resources"] {
        if !slot.is_object() {
            *slot = Value::Object(serde_json::Map::new());
        }
        slot = &mut slot[key];
    }
    change(slot);
    RawSpec::new(document.to_string())
}

/// Writes what `given` names over `slot`: objects key by key, lists of objects entry by entry, other values as a whole.
fn merge(slot: &mut Value, given: &Value) {
    match (&mut *slot, given) {
        (Value::Array(there), Value::Array(items)) => {
            for item in items {
                there.retain(|known| identity(known) != identity(item));
                there.push(item.clone());
            }
        }
        (_, Value::Object(fields)) => {
            for (key, value) in fields.iter().filter(|(key, value)| is_named(key, value)) {
                if !slot.is_object() {
                    *slot = Value::Object(serde_json::Map::new());
                }
                merge(&mut slot[key.as_str()], value);
            }
        }
        (_, value) => *slot = value.clone(),
    }
}

/// Keys whose 0 is a value or lifts the limit. Engines do not fill these in with 0.
const MEANT_AS_ZERO: [&str; 5] = ["burst", "hcaHandles", "hcaObjects", "idle", "swappiness"];

/// What identifies an entry of a list: a device, a page size, an interface.
fn identity(item: &Value) -> [&Value; 4] {
    ["major", "minor", "pageSize", "name"].map(|key| &item[key])
}

/// Whether the value differs from what engines fill in for a field that their user did not set.
fn is_named(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0) || MEANT_AS_ZERO.contains(&key),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => fields.iter().any(|(key, value)| is_named(key, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_named_stays() {
        let spec = RawSpec::new(
            json!({"ociVersion": "1.0.2", "x": 1, "linux": {"resources": {"memory": {"limit": 5, "swap": 7}}}})
                .to_string(),
        )
        .unwrap();
        let given = json!({"memory": {"limit": 9, "swap": 0, "reservation": null}, "cpu": {"cpus": ""}, "pids": {"limit": 3}});
        let merged = with_resources(&spec, |slot| merge(slot, &given)).unwrap();
        let merged: Value = serde_json::from_str(merged.text()).unwrap();
        assert_eq!(
            merged,
            json!({
                "ociVersion": "1.0.2",
                "x": 1,
                "linux": {"resources": {"memory": {"limit": 9, "swap": 7}, "pids": {"limit": 3}}}
            })
        );
    }

    #[test]
    fn the_devices_a_container_has_may_be_repeated_and_no_others_named() {
        let rule = |access: &str| json!({"allow": false, "access": access});
        let spec = |devices: Value| {
            serde_json::from_value::<Spec>(json!({
                "ociVersion": "1.0.2",
                "root": {"path": "rootfs"},
                "linux": {"resources": {"devices": devices, "memory": {"limit": 5}}}
            }))
            .unwrap()
        };
        let resources = |devices: Value| -> LinuxResources {
            serde_json::from_value(json!({"devices": devices, "memory": {"limit": 9}})).unwrap()
        };
        assert!(are_devices_of(&spec(json!([rule("rwm")])), &resources(json!([rule("rwm")]))));
        assert!(!are_devices_of(&spec(json!([rule("rwm")])), &resources(json!([rule("rw")]))));
        assert!(!are_devices_of(&spec(Value::Null), &resources(json!([rule("rwm")]))));
    }

    #[test]
    fn lists_are_kept_by_what_their_entries_are_about_and_a_zero_that_means_something_is_kept() {
        let throttle = |minor: u32, rate: u64| json!({"major": 8, "minor": minor, "rate": rate});
        let spec = RawSpec::new(
            json!({"linux": {"resources": {
                "blockIO": {"throttleReadBpsDevice": [throttle(0, 1), throttle(16, 2)]},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 9}],
                "cpu": {"idle": 1, "burst": 5}
            }}})
            .to_string(),
        )
        .unwrap();
        let given = json!({
            "blockIO": {"weight": 0, "throttleReadBpsDevice": [throttle(0, 3)]},
            "hugepageLimits": [{"pageSize": "1GB", "limit": 0}],
            "cpu": {"idle": 0, "burst": 0, "shares": 0}
        });
        let merged = with_resources(&spec, |slot| merge(slot, &given)).unwrap();
        let merged: Value = serde_json::from_str(merged.text()).unwrap();
        assert_eq!(
            merged["linux"]["resources"],
            json!({
                "blockIO": {"throttleReadBpsDevice": [throttle(16, 2), throttle(0, 3)]},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 9}, {"pageSize": "1GB", "limit": 0}],
                "cpu": {"idle": 0, "burst": 0}
            })
        );
    }

    #[test]
    fn a_configuration_without_limits_gets_its_first() {
        let spec = RawSpec::new("{\"linux\": null}".into()).unwrap();
        let given = json!({"pids": {"limit": 3}});
        let merged = with_resources(&spec, |slot| merge(slot, &given)).unwrap();
        assert_eq!(merged.text(), "{\"linux\":{\"resources\":{\"pids\":{\"limit\":3}}}}");
    }
}
