//! The caller's supplementary groups, which a workload must not have unless the caller asks for it.

use crate::kit::unshared::Unshared;
use crate::kit::{inside, is_root, skip, stage, start};
use cofferdam::ContainerBuilder;
use cofferdam::builder::{Bind, IdMap};
use rustix::fs::Gid;
use serde_json::{Value, json};

/// A group of the caller's.
const GROUP: u32 = 4242;

/// The supplementary groups of a container's init and of a further process in it.
fn groups(builder: ContainerBuilder) -> [String; 2] {
    let running = start(builder.init(false).args(["sleep", "1000"]));
    let of = |pid: &str| {
        let said = inside::output(&running, &format!("grep ^Groups: /proc/{pid}/status"));
        said.trim_start_matches("Groups:").trim().to_owned()
    };
    let both = ["1", "self"].map(of);
    running.kill().unwrap().delete().unwrap();
    both
}

fn have_a_group() {
    rustix::thread::set_thread_groups(&[Gid::from_raw(GROUP)]).unwrap();
}

#[test]
fn no_group_of_a_privileged_caller_stays_with_one_id_or_many() {
    let stage = stage!();
    if !is_root() {
        skip!("another user cannot take a group");
    }
    have_a_group();
    assert_eq!(groups(stage.container("many")), ["", ""]);
    assert_eq!(groups(stage.container("asked").groups([7])), ["7", "7"]);
    let one = [IdMap { container: 0, host: 700_000, size: 1 }];
    assert_eq!(groups(stage.container("one").id_mappings(&one, &one)), ["", ""]);
}

#[test]
fn the_callers_groups_stay_where_they_are_asked_for_and_open_what_they_may_open() {
    let stage = stage!();
    if !is_root() {
        skip!("another user cannot take a group");
    }
    have_a_group();
    let place = stage.path().join("of-the-group");
    std::fs::create_dir(&place).unwrap();
    std::os::unix::fs::chown(&place, Some(1000), Some(GROUP)).unwrap();
    std::fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o770)).unwrap();
    let bound = |name: &str| {
        let builder = stage.container(name).bind(Bind::new(&place, "/mnt").keep_ids());
        builder.args(["sleep", "1000"]).user(1000, 1000)
    };
    let kept = start(bound("kept").keep_caller_groups());
    assert_eq!(inside::output(&kept, "touch /mnt/made; grep ^Groups: /proc/1/status"), "Groups:\t65534 \n");
    kept.kill().unwrap().delete().unwrap();
    assert!(place.join("made").exists());
    let dropped = start(bound("dropped"));
    assert!(!inside::run(&dropped, "touch /mnt/not").0);
    dropped.kill().unwrap().delete().unwrap();
    assert_eq!(groups(stage.container("own").keep_caller_groups().groups([7])), ["7", "7"]);
    let bundle = stage.path().join("bundle");
    stage.busybox_shell("template", "true").keep_caller_groups().to_bundle(&bundle).unwrap();
    assert_eq!(groups(stage.bundled("bundled", &bundle).unwrap()), ["65534", "65534"]);
    // crun's annotation says so, too; but an image could have it.
    let bundle = stage.write_bundle("annotated", stage.busybox_shell("template", "true"), |config| {
        config["annotations"] = json!({"run.oci.keep_original_groups": "1"});
    });
    assert_eq!(groups(stage.bundled("annotated", &bundle).unwrap()), ["", ""]);
    let pod = start(stage.container("pod").args(["sleep", "1000"]));
    let member = pod.pod().container(stage.id("member")).args(["true"]).keep_caller_groups();
    let refused = member.build().unwrap_err();
    assert!(refused.to_string().starts_with("keep_caller_groups: "), "{refused}");
    pod.kill().unwrap().delete().unwrap();
}

#[test]
fn no_group_of_a_privileged_caller_stays_in_a_user_namespace_that_denies_setgroups() {
    let stage = stage!();
    if !is_root() {
        skip!("the user namespace of another process can be entered by its owner's root only");
    }
    have_a_group();
    // For `--map-root-user`, unshare(1) writes "deny" to /proc/PID/setgroups.
    let other = Unshared::new(&["--user", "--map-root-user"]);
    let template = stage.busybox_shell("template", "true").without_user_namespace();
    let bundle = stage.write_bundle("bundle", template, |config: &mut Value| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user", "path": other.path("user")}));
    });
    assert_eq!(groups(stage.bundled("joined", &bundle).unwrap()), ["", ""]);
}
