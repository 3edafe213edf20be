//! One function for each fuzz target in `fuzz/`: it takes bytes and asserts laws about what the crate makes of them.
//!
//! The laws live here and not in the targets, because they are about private types. The test below runs the same
//! functions over the committed seeds, so every run of the tests checks the seeds that were added for a bug.

mod hostile;
mod images;
mod templates;

use crate::error::{Error, ErrorKind};
use crate::host::cgroups::{CgroupLayout, CgroupType, DelegationPoint};
use crate::host::facts::{Host, IdRange, SecurityModules, ServiceManager, SystemDir};
use crate::id::{ContainerId, QualifiedId};
use crate::plan::cgroup::Value;
use crate::plan::{
    DeviceNode, Extras, GoferFacts, GoferPlan, Plan, RootPlan, SandboxFacts, Scratch, SealedGofer,
    SealedSandbox, StepSource, TreeStep,
};
use crate::seccomp::{interpret, linear};
use crate::spec::{self, MountKind, Origin, PodRole, ValidSpec};
use crate::state::{ExitRecord, Record, sealed};
use crate::wire::files::FileReply;
use crate::wire::frame;
use crate::wire::frame::Message;
use crate::wire::kinds::{self, Visitor};
use oci_spec::runtime::{LinuxSeccomp, Spec};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Component, Path};

/// A `config.json` is refused by naming a field, or it is valid. A valid one is also valid when read back from the text
/// that the state record keeps.
pub fn config(bytes: &[u8]) {
    let Some((spec, _)) = valid_spec(bytes) else { return };
    let text = serde_json::to_vec(&spec).expect("what was read from JSON can be written as JSON");
    let again = spec::parse(&text)
        .and_then(|spec| ValidSpec::new(&spec, Some(Path::new(BUNDLE)), Origin::ConfigJson));
    if let Err(error) = again {
        panic!("valid when read, but not when read back: {error}");
    }
    annotations(&spec);
}

/// The annotations of a container engine give a role in a pod, or the one that does not is named.
fn annotations(spec: &Spec) {
    let annotations: BTreeMap<String, String> =
        spec.annotations().clone().unwrap_or_default().into_iter().collect();
    assert!(!annotations.contains_key(""));
    match ValidSpec::pod_role(&annotations) {
        Ok(PodRole::Root) => {}
        Ok(PodRole::Member(pod)) => {
            assert!(annotations.values().any(|value| value == pod.as_str()));
            ContainerId::new(pod.as_str()).expect("the id of a pod is an id");
        }
        Err(error) => match error.kind() {
            ErrorKind::InvalidSpec { path } => assert!(path.starts_with("annotations["), "{error}"),
            kind => panic!("annotations were refused as {kind:?}: {error}"),
        },
    }
}

const BUNDLE: &str = "/bundle";

fn valid_spec(bytes: &[u8]) -> Option<(Spec, ValidSpec)> {
    let read = spec::parse(bytes).and_then(|spec| {
        let valid = ValidSpec::new(&spec, Some(Path::new(BUNDLE)), Origin::ConfigJson)?;
        Ok((spec, valid))
    });
    match read {
        Ok(read) => Some(read),
        Err(error) => {
            assert_names_a_field(&error);
            None
        }
    }
}

fn assert_names_a_field(error: &Error) {
    match error.kind() {
        ErrorKind::InvalidSpec { .. } | ErrorKind::Unsupported { .. } => {}
        kind => panic!("a configuration was refused as {kind:?}: {error}"),
    }
}

/// A valid configuration is planned by the laws of `plan::mounts`, on any host, or refused by naming a field.
///
/// The first byte chooses the machine and the settings of the builder; the rest is the `config.json`.
pub fn plan(bytes: &[u8]) {
    let Some((facts, config)) = bytes.split_first() else { return };
    let Some((_, spec)) = valid_spec(config) else { return };
    let (host, extras) = made_up(*facts);
    let id = ContainerId::new("fuzzed").expect("letters are a valid id");
    let plan = match Plan::new(QualifiedId { id: &id, root: 0 }, &spec, &extras, &host) {
        Ok(plan) => plan,
        Err(error) => return assert_names_a_field(&error),
    };
    let init = &plan.sandbox.init;
    handed_mounts_are_used_once(&plan.gofer, &init.root, &init.tree);
    steps_are_in_order(&spec, &init.tree);
    targets_stay_below_the_root(&init.tree);
    cgroups_stay_below_their_hierarchy(&plan);
    device_programs_load(&plan);
    survives_the_trip::<SealedGofer<'_>>(&plan.gofer.resolve(GoferFacts::default()));
    survives_the_trip::<SealedSandbox<'_>>(&plan.sandbox.resolve(SandboxFacts::default()));
}

fn made_up(facts: u8) -> (Host, Extras) {
    let is = |bit: u8| facts & (1 << bit) != 0;
    let privileged = is(0);
    let id = if privileged { 0 } else { 1000 };
    let range = is(1).then_some(IdRange { start: 100_000, count: 65_536 });
    let mut mounted = Vec::new();
    let mut joined = Vec::new();
    if is(2) {
        mounted.push("30 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory");
        mounted.push("31 23 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct");
        mounted.push("32 23 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids");
        joined.extend(["6:memory:/user", "5:cpu,cpuacct:/user", "4:pids:/"]);
    }
    if is(3) {
        mounted.push("33 23 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw");
        joined.push("0::/user.slice");
    }
    let mut cgroups = CgroupLayout::parse(&mounted.join("\n"), &joined.join("\n"));
    for hierarchy in &mut cgroups.v1 {
        hierarchy.writable = is(4);
    }
    if let Some(unified) = &mut cgroups.unified {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect();
        let point = |(level, dir)| DelegationPoint {
            dir,
            kind: if level == 0 { CgroupType::Domain } else { CgroupType::Root },
            controllers: list("cpuset cpu io memory pids"),
            enabled: list("cpu memory pids"),
            populated: is(5),
            may_make: is(4),
            may_move: is(4),
            may_enable: is(6),
        };
        unified.points = unified.point_dirs().enumerate().map(point).collect();
    }
    let dir = |name: &str, link: Option<&str>| SystemDir { name: name.into(), link: link.map(Into::into) };
    let host = Host {
        euid: id,
        egid: id,
        privileged,
        in_user_namespace: privileged && is(1),
        container_uids: IdRange::FOR_CONTAINERS,
        container_gids: IdRange::FOR_CONTAINERS,
        subuids: range,
        subgids: range,
        cgroups,
        service_manager: ServiceManager::NotBuilt,
        lsms: SecurityModules { apparmor: is(4), selinux: is(5) },
        system_dirs: vec![dir("usr", None), dir("bin", Some("usr/bin")), dir("etc", None)],
        resolver: None,
    };
    let extras = Extras {
        host_rootfs: is(5),
        scratch: is(6).then(Scratch::default),
        idmap_rootfs: is(7),
        ..Extras::default()
    };
    (host, extras)
}

/// Every mount that the gofer makes is used by exactly one step, device or root: init attaches each descriptor once,
/// and one that is left over would stay open in init.
fn handed_mounts_are_used_once(gofer: &GoferPlan, root: &RootPlan, tree: &[TreeStep]) {
    let node = |node: &DeviceNode| node.handed;
    let mut used: Vec<usize> = match root {
        RootPlan::MountBatch(index) => vec![*index],
        RootPlan::Empty => Vec::new(),
    };
    for step in tree {
        match &step.source {
            StepSource::MountBatch(index) => used.push(*index),
            StepSource::Devices { nodes, .. } => used.extend(nodes.iter().filter_map(node)),
            StepSource::Node(device) => used.extend(node(device)),
            _ => {}
        }
    }
    used.sort_unstable();
    let made: Vec<usize> = (0..gofer.items.len()).collect();
    assert_eq!(used, made, "the mounts that steps use, against those the gofer makes");
}

/// "the runtime MUST mount entries in the listed order" - OCI config.md. Before them come the root's own directories
/// and, unless the configuration has one, `/dev`; after them devices, and then the covers of masked and read-only
/// paths.
fn steps_are_in_order(spec: &ValidSpec, tree: &[TreeStep]) {
    let ranks: Vec<(u8, usize)> =
        tree.iter().map(|step| (rank(step), mount_index(step).unwrap_or(0))).collect();
    assert!(ranks.is_sorted(), "steps out of order: {tree:#?}");
    let brings_dev = spec.mounts.iter().any(|mount| mount.destination == Path::new("/dev"));
    let own_dev = tree.iter().filter(|step| rank(step) == OWN_DEV).count();
    assert_eq!(own_dev, usize::from(!brings_dev), "device directories besides the configuration's");
    for (index, mount) in spec.mounts.iter().enumerate() {
        // A host may have no cgroup hierarchy.
        let planned = tree.iter().any(|step| mount_index(step) == Some(index));
        assert!(planned || mount.kind == MountKind::Cgroup, "mounts[{index}] is dropped");
    }
    for (what, asked) in
        [("linux.maskedPaths", &spec.masked_paths), ("linux.readonlyPaths", &spec.readonly_paths)]
    {
        assert_eq!(tree.iter().filter(|step| step.field == what).count(), asked.len(), "{what}");
    }
}

const OWN_DEV: u8 = 1;

/// The part of the plan that a step belongs to, by the field it serves.
fn rank(step: &TreeStep) -> u8 {
    match step.field.as_str() {
        // The host's secrets are covered with the configuration's masked paths.
        "root" if step.source == StepSource::Mask => 4,
        "root" => 0,
        "mounts" => OWN_DEV,
        "linux.maskedPaths" => 4,
        "linux.readonlyPaths" => 5,
        field if field.starts_with("mounts[") => 2,
        field if field.starts_with("linux.devices[") => 3,
        field => panic!("a step for {field}"),
    }
}

/// `mounts[3]` -> 3.
fn mount_index(step: &TreeStep) -> Option<usize> {
    step.field.strip_prefix("mounts[")?.split_once(']')?.0.parse().ok()
}

/// Targets are relative paths of plain names, as the resolver requires, and no step mounts on the root itself.
fn targets_stay_below_the_root(tree: &[TreeStep]) {
    for step in tree {
        assert_ne!(step.at, Path::new(""), "{} covers the root", step.field);
        let plain = step.at.components().all(|component| matches!(component, Component::Normal(_)));
        assert!(plain, "{}: {:?} is not a path below the root", step.field, step.at);
    }
}

/// Each directory of a branch is the child of the one before, or of the one that also contains that, and none is named
/// `..`.
fn cgroups_stay_below_their_hierarchy(plan: &Plan) {
    for branch in &plan.cgroup.branches {
        for pair in branch.dirs.windows(2) {
            let above = [pair[0].path.parent(), Some(pair[0].path.as_path())];
            assert!(above.contains(&pair[1].path.parent()), "{}: {pair:?}", branch.field);
        }
        let plain = |path: &Path| path.components().all(|component| component != Component::ParentDir);
        assert!(branch.dirs.iter().all(|dir| plain(&dir.path)), "{:?}", branch.dirs);
    }
}

/// The kernel's verifier would accept the device programs.
fn device_programs_load(plan: &Plan) {
    let dirs = plan.cgroup.branches.iter().flat_map(|branch| &branch.dirs);
    for write in dirs.flat_map(|dir| &dir.writes) {
        if let Value::Program { program, .. } = &write.value {
            program.check();
        }
    }
}

/// A plan is the same after the trip to another process, as JSON.
fn survives_the_trip<T>(sent: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug,
{
    let text = serde_json::to_vec(sent).expect("a plan from a valid configuration can be written");
    let received: T = serde_json::from_slice(&text).expect("a plan that was written can be read");
    assert_eq!(&received, sent);
}

/// For every message type, a frame from a hostile peer is refused as such, or decodes to a message that encodes again.
pub fn control_frame(bytes: &[u8]) {
    struct Frame<'a>(&'a [u8]);
    impl Visitor for Frame<'_> {
        fn visit<M: Message + PartialEq + Debug>(&mut self, _: &'static str) {
            match frame::decode::<M>(self.0) {
                Ok((names, message)) => {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    // Our own frame escapes more, so it may be too long.
                    let Ok(again) = frame::encode(&names, &message) else { return };
                    let (names_again, message_again) = frame::decode::<M>(&again).expect("our own frame");
                    assert_eq!(
                        (names_again.iter().map(String::as_str).collect(), message_again),
                        (names, message)
                    );
                }
                Err(error) => assert_eq!(*error.kind(), ErrorKind::PeerMisbehaved, "{error}"),
            }
        }
    }
    kinds::visit_all(&mut Frame(bytes));
    if let Ok((_, reply)) = frame::decode::<FileReply>(bytes) {
        hostile::listing(&reply);
    }
}

/// Frames from a hostile peer one after the other, with descriptors: see `hostile::frames`.
pub fn control_sequence(bytes: &[u8]) {
    hostile::frames(bytes);
}

/// Text of a hostile container, its accounts and what `/proc` shows of it: see `hostile::text`.
pub fn container_text(bytes: &[u8]) {
    hostile::text(bytes);
}

/// What `/proc` shows of a hostile process, when a client asks for a template of it: see `templates::process`.
pub fn template_maps(bytes: &[u8]) {
    templates::process(bytes);
}

/// A tree that a hostile container leaves in its scratch, as a layer: see `hostile::tree`.
pub fn export_layer(bytes: &[u8]) {
    hostile::tree(bytes);
}

/// The manifest of an image, and what is read of CRIU's files and of CRIU: see `images::image`.
pub fn image(bytes: &[u8]) {
    images::image(bytes);
}

/// A layer of an image that is restored: see `images::layer`.
pub fn restored_layer(bytes: &[u8]) {
    images::layer(bytes);
}

/// A damaged record is stale, and never makes the decoder panic. A whole one is the same after a save and a load.
///
/// This decodes the bytes as they are, and also with the right checksum added, because no fuzzer guesses one.
pub fn state_record(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), sealed(bytes.to_vec())] {
        match Record::decode(&bytes) {
            Ok(record) => {
                let again = record.encode().expect("a record that was read can be written");
                assert_eq!(Record::decode(&again).expect("our own record"), record);
            }
            Err(error) => assert_eq!(*error.kind(), ErrorKind::Stale, "{error}"),
        }
    }
    if let Some(exit) = ExitRecord::decode(bytes) {
        assert_eq!(ExitRecord::decode(&exit.encode()), Some(exit));
    }
}

/// A profile is refused by naming a field, or compiles to a program that the kernel would load, and that decides as a
/// reading of the profile rule by rule does.
pub fn seccomp(bytes: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(bytes) else { return };
    let filter = match crate::seccomp::compile(&profile) {
        Ok(filter) => filter,
        Err(error) => return assert_names_a_field(&error),
    };
    interpret::check(&filter.instructions);
    for call in linear::calls_about(&profile) {
        let (verdict, _) = interpret::run(&filter.instructions, &call);
        assert_eq!(verdict, linear::reading(&profile, &call), "{call:x?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_obeys_the_laws() {
        type Check = fn(&[u8]);
        let targets: [(&str, Check); 11] = [
            ("config", config),
            ("plan", plan),
            ("control_frame", control_frame),
            ("control_sequence", control_sequence),
            ("container_text", container_text),
            ("export_layer", export_layer),
            ("image", image),
            ("restored_layer", restored_layer),
            ("state_record", state_record),
            ("seccomp", seccomp),
            ("template_maps", template_maps),
        ];
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
        if !seeds.exists() {
            crate::skip::note_skip("the seeds are in the repository, not in the published crate");
            return;
        }
        for (target, check) in targets {
            let mut count = 0;
            for seed in std::fs::read_dir(seeds.join(target)).unwrap() {
                check(&std::fs::read(seed.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "no seed for {target}");
        }
    }

    #[test]
    fn a_seed_is_a_record_of_this_version() {
        let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/state_record/running");
        if seed.exists() {
            Record::decode(&sealed(std::fs::read(seed).unwrap())).unwrap();
        }
    }
}
