//! The caller's supplementary groups, which a workload must not have unless the caller asks for it.

#![expect(clippy::disallowed_methods, reason = "starts itself again as another user")]

use crate::kit::caller;
use crate::kit::unshared::Unshared;
use crate::kit::{inside, is_installed, is_root, skip, stage, start, stdout_of};
use cofferdam::ContainerBuilder;
use cofferdam::builder::{Bind, IdMap};
use rustix::fs::Gid;
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

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

/// Makes a directory below `above` that belongs to another user, and that the group may write to.
fn of_the_group(above: &Path) {
    let place = above.join("of-the-group");
    std::fs::create_dir(&place).unwrap();
    chown(&place, Some(1000), Some(GROUP)).unwrap();
    std::fs::set_permissions(&place, PermissionsExt::from_mode(0o770)).unwrap();
}

/// That a container which keeps its caller's groups may write to the directory of the group, and no other may.
fn only_kept_groups_open(above: &Path, container: impl Fn(&str) -> ContainerBuilder) {
    let place = above.join("of-the-group");
    let bound = |name: &str| {
        let builder = container(name).bind(Bind::new(&place, "/mnt").keep_ids());
        builder.args(["sleep", "1000"]).user(1000, 1000)
    };
    let kept = start(bound("kept").keep_caller_groups());
    assert_eq!(inside::output(&kept, "touch /mnt/made; grep ^Groups: /proc/1/status"), "Groups:\t65534 \n");
    kept.kill().unwrap().delete().unwrap();
    assert!(place.join("made").exists());
    let dropped = start(bound("dropped"));
    assert!(!inside::run(&dropped, "touch /mnt/not").0);
    dropped.kill().unwrap().delete().unwrap();
    assert!(!place.join("not").exists());
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
    of_the_group(stage.path());
    only_kept_groups_open(stage.path(), |name| stage.container(name));
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

/// The user has no privilege. newuidmap(1) and newgidmap(1) map its range, as they do on a desktop.
#[test]
fn the_groups_of_a_user_with_a_subordinate_range_stay_where_they_are_asked_for() {
    const USER: &str = "nobody";
    const RANGE: u32 = 2_600_000_000;
    if let Some(directory) = caller::role() {
        assert_eq!(rustix::process::getgroups().unwrap(), [Gid::from_raw(GROUP)]);
        assert!(!is_root());
        let container = |name: &str| {
            let builder = ContainerBuilder::new().id(format!("it-{}-{name}", std::process::id()));
            builder.state_root(caller::root(&directory))
        };
        only_kept_groups_open(&directory, container);
        assert_eq!(groups(container("none")), ["", ""]);
        let uids = stdout_of(container("range").args(["cat", "/proc/self/uid_map"]));
        let uids: Vec<_> = uids.split_whitespace().collect();
        assert_eq!(uids[3..], ["1", &RANGE.to_string(), "65536"], "the range is what it has");
        return;
    }
    let stage = stage!();
    if !is_root() {
        skip!("another user cannot become one with a group and a range of its own");
    }
    if let Some(missing) = ["newuidmap", "newgidmap", "setpriv"].into_iter().find(|name| !is_installed(name))
    {
        skip!("{missing} is not installed");
    }
    let Ok(Some(user)) = nix::unistd::User::from_name(USER) else { skip!("this host has no user {USER}") };
    if !["/etc/subuid", "/etc/subgid"].iter().all(|file| Path::new(file).exists()) {
        skip!("this host has no files of subordinate ids, to show others in their place");
    }
    // The user has to get to a directory of its own, and to the test.
    std::fs::set_permissions(stage.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let directory = stage.readable_directory("of-the-user");
    of_the_group(&directory);
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    chown(&directory, Some(uid), Some(gid)).unwrap();
    let program = stage.path().join("test");
    let again = crate::kit::process::again(std::thread::current().name().unwrap());
    std::fs::copy(again.get_program(), &program).unwrap();
    let file = stage.path().join("subordinate");
    std::fs::write(&file, format!("{USER}:{RANGE}:65536\n")).unwrap();
    let script =
        "for f in /etc/subuid /etc/subgid; do mount --bind \"$0\" $f || exit 9; done; exec setpriv \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&file);
    command.args([format!("--reuid={uid}"), format!("--regid={gid}"), format!("--groups={GROUP}")]);
    command.arg(&program).args(again.get_args()).env(caller::ROLE, &directory);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    let made = directory.join("of-the-group/made").metadata().unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), RANGE + 999, "the container's user, on the host");
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
