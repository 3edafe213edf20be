//! The range of host ids that each container of root has for itself, and the limits that it starts with.

#![expect(
    clippy::disallowed_methods,
    reason = "tests read and make plain files of their own, and look at proc"
)]

use crate::kit::caller::{self, Caller, say};
use crate::kit::{Stage, await_end, inside, is_root, note_skip, skip, stage, start, stdout_of};
use cofferdam::builder::{Bind, Resource};
use cofferdam::{Container, ContainerBuilder, Running, StateRoot};
use nix::fcntl::{FcntlArg, fcntl};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// The first id on disk of files of containers, whatever range they have.
const ON_DISK: u32 = 1_878_982_656;

/// The first host id of the container that the process `pid` is in, and how many it has.
fn range_of(pid: i32) -> (u32, u32) {
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    let numbers: Vec<u32> = map.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/gid_map")).unwrap(), map);
    assert_eq!((numbers.len(), numbers[0]), (3, 0), "{map}");
    (numbers[1], numbers[2])
}

fn range(container: &Container<Running>) -> u32 {
    let (first, count) = range_of(container.init_pid());
    assert_eq!(count, 65_536);
    first
}

/// Whether a process holds the range that begins with `first`.
fn is_taken(first: u32) -> bool {
    let locks = std::fs::OpenOptions::new().read(true).open("/run/cofferdam.ids").unwrap();
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: first.into(),
        l_len: 65_536,
        l_pid: 0,
    };
    fcntl(&locks, FcntlArg::F_OFD_GETLK(&mut lock)).unwrap();
    i32::from(lock.l_type) != libc::F_UNLCK
}

#[test]
fn containers_of_root_share_no_id_whatever_their_state_roots() {
    let stage = stage!();
    if !is_root() {
        skip!("another user has only the ids that it was given");
    }
    let other = StateRoot::open(stage.path().join("other")).unwrap();
    let touch = "touch /tmp/mine && exec sleep 1000";
    let one = start(stage.shell("one", touch));
    let two = start(stage.shell("two", touch).state_root(other));
    let (first, second) = (range(&one), range(&two));
    assert!(first.abs_diff(second) >= 65_536, "{first} {second}");
    for (container, range) in [(&one, first), (&two, second)] {
        assert!(range.abs_diff(ON_DISK) >= 65_536);
        assert_eq!(inside::output(container, "stat -c %u:%g /tmp/mine"), "0:0\n");
        let file = Path::new("/proc").join(container.init_pid().to_string()).join("root/tmp/mine");
        let seen = file.metadata().unwrap();
        assert_eq!((seen.uid(), seen.gid()), (range, range), "seen from the host");
        assert!(is_taken(range));
    }
    one.kill().unwrap().delete().unwrap();
    assert!(!is_taken(first), "free with its end");
    assert!(is_taken(second));
    two.kill().unwrap().delete().unwrap();
    assert!(!is_taken(second));
}

#[test]
fn the_range_of_a_killed_caller_is_free_again() {
    if let Some(directory) = caller::role() {
        let running = start(
            ContainerBuilder::new()
                .id(format!("it-{}-range", std::process::id()))
                .state_root(caller::root(&directory))
                .args(["sleep", "1000"]),
        );
        say(format!("{} {}", running.sandbox_pid(), range(&running)));
        return caller::stay();
    }
    let stage = stage!();
    if !is_root() {
        skip!("another user has only the ids that it was given");
    }
    let mut caller = Caller::spawn(stage.path());
    let said = caller.hear();
    let (sandbox, first) = said.split_once(' ').unwrap();
    let of_caller: u32 = first.parse().unwrap();
    assert!(is_taken(of_caller));
    // A container of another process gets none of the ids of the caller's.
    let here = start(stage.container("here").args(["sleep", "1000"]));
    let own = range(&here);
    assert!(own.abs_diff(of_caller) >= 65_536, "{own} {of_caller}");
    caller.kill();
    await_end(sandbox.parse().unwrap());
    assert!(!is_taken(of_caller));
    assert!(is_taken(own));
    here.kill().unwrap().delete().unwrap();
    for listed in cofferdam::AnyContainer::list(stage.root()).unwrap() {
        let cofferdam::info::Listed::Container(container) = listed else { panic!("{listed:?}") };
        container.delete(false).unwrap();
    }
}

#[test]
fn a_full_region_is_refused_by_name_and_a_race_for_a_range_has_two_winners() {
    const REGION: &str = "root:2500000000:131072";
    if let Some(directory) = caller::role() {
        let build = |name: &str| {
            let builder = ContainerBuilder::new().id(format!("it-{}-{name}", std::process::id()));
            builder.state_root(caller::root(&directory)).args(["sleep", "1000"]).build()
        };
        // Each has chosen one of two ranges, so that in most rounds two have chosen the same.
        for _ in 0..6 {
            let [one, two, three] = ["one", "two", "three"].map(|name| build(name).unwrap());
            let [one, two] = [one, two].map(|built| built.create().unwrap().start().unwrap());
            let mut firsts = [range(&one), range(&two)];
            firsts.sort_unstable();
            assert_eq!(firsts, [2_500_000_000, 2_500_065_536]);
            let refused = three.create().unwrap_err();
            let planned = build("late").unwrap_err();
            assert_eq!(planned.to_string(), refused.error().to_string());
            say(&planned);
            one.kill().unwrap().delete().unwrap();
            // The value that was refused is whole.
            let three = refused.into_parts().1;
            let cofferdam::typestate::Recovered::Unchanged(three) = three else { panic!("{three:?}") };
            let three = three.create().unwrap().start().unwrap();
            assert!(firsts.contains(&range(&three)));
            two.kill().unwrap().delete().unwrap();
            three.kill().unwrap().delete().unwrap();
        }
        return;
    }
    let stage = stage!();
    if !is_root() {
        skip!("another user has only the ids that it was given");
    }
    let Some(said) = again_in_region(&stage, REGION) else { return };
    let refused = "caller: host ids: there are 2 ranges of root's subordinate ids, uids from 2500000000 to 2500131071 and \
                   gids from 2500000000 to 2500131071, and none is free (delete containers, give root more ids in \
                   /etc/subuid and /etc/subgid, or call id_mappings)";
    assert_eq!(said.lines().filter(|line| *line == refused).count(), 6, "{said}");
}

/// Runs this test again as a caller whose containers have the ids of `region`, a line of subuid(5). Returns what it wrote;
/// `None` if that cannot be, and notes the skip.
fn again_in_region(stage: &Stage, region: &str) -> Option<String> {
    if !["/etc/subuid", "/etc/subgid"].iter().all(|file| Path::new(file).exists()) {
        note_skip("this host has no files of subordinate ids, to show others in their place");
        return None;
    }
    let file = stage.path().join("subordinate");
    std::fs::write(&file, region).unwrap();
    let script = "for f in /etc/subuid /etc/subgid; do mount --bind \"$0\" $f || exit 9; done; exec \"$@\"";
    let again = crate::kit::process::again(std::thread::current().name().unwrap());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&file);
    command.arg(again.get_program()).args(again.get_args());
    let output = command.env(caller::ROLE, stage.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Some(said)
}

/// With two ranges, a process that does not see what the other has taken chooses the same in most runs.
#[test]
fn containers_of_two_processes_share_no_range_of_a_region_of_two() {
    const SECOND: &str = "second";
    if let Some(directory) = caller::role() {
        let container = || {
            let builder = ContainerBuilder::new().id(format!("it-{}-one", std::process::id()));
            start(builder.state_root(caller::root(&directory)).args(["sleep", "1000"]))
        };
        if directory.ends_with(SECOND) {
            while std::io::stdin().read_line(&mut String::new()).unwrap() > 0 {
                let running = container();
                say(range(&running));
                caller::stay();
                running.kill().unwrap().delete().unwrap();
                say("deleted");
            }
            return;
        }
        let theirs = directory.join(SECOND);
        std::fs::create_dir(&theirs).unwrap();
        let mut second = Caller::spawn(&theirs);
        for _ in 0..8 {
            let running = container();
            second.tell("make one");
            let mut firsts = [range(&running), second.hear().parse().unwrap()];
            firsts.sort_unstable();
            assert_eq!(firsts, [2_700_000_000, 2_700_065_536]);
            running.kill().unwrap().delete().unwrap();
            second.tell("delete it");
            assert_eq!(second.hear(), "deleted");
        }
        return second.finish();
    }
    let stage = stage!();
    if !is_root() {
        skip!("another user has only the ids that it was given");
    }
    again_in_region(&stage, "root:2700000000:131072");
}

#[test]
fn the_containers_of_a_pod_have_one_range() {
    let stage = stage!();
    if !is_root() {
        skip!("another user has only the ids that it was given");
    }
    let pod = start(stage.container("pod").args(["sleep", "1000"]));
    let member = start(pod.pod().container(stage.id("member")).args(["sleep", "1000"]));
    assert_eq!(range(&pod), range(&member));
    let first = range(&pod);
    member.kill().unwrap().delete().unwrap();
    assert!(is_taken(first), "it is the pod's");
    pod.kill().unwrap().delete().unwrap();
    assert!(!is_taken(first));
}

#[test]
fn a_volume_has_the_same_owners_for_containers_with_different_ranges() {
    let stage = stage!();
    if !is_root() {
        skip!("another user has only the ids that it was given");
    }
    let volume = stage.open_directory("volume");
    let make = "umask 077; echo seven >/volume/seven; mkdir /volume/own; stat -c %u:%g /volume/seven";
    let maker = |name: &str, script: &str| stage.shell(name, script).user(7, 8).bind_rw(&volume, "/volume");
    assert_eq!(stdout_of(maker("maker", make)), "7:8");
    let seen = volume.join("seven").metadata().unwrap();
    assert_eq!((seen.uid(), seen.gid()), (ON_DISK + 7, ON_DISK + 8), "on the disk");
    let own = volume.join("own");
    let look = "cat /volume/seven; stat -c %u:%g /volume/seven; touch /volume/own/more; ls /volume/own";
    assert_eq!(stdout_of(maker("same", look)), "seven\n7:8\nmore");
    // The container has an id for the owner, so that it is shown as that.
    let of_owner = stage.shell("owner", "stat -c %u:%g /own /own/more").user(7, 8).bind_rw(&own, "/own");
    assert_eq!(stdout_of(of_owner), "7:8\n7:8");
    let mapped = stage.shell("mapped", "stat -c %u:%g /own /own/more").user(9, 9);
    assert_eq!(stdout_of(mapped.bind(Bind::new(&own, "/own").map_owner())), "9:9\n9:9");
    for bind in [Bind::new(&volume, "/volume").read_only(), Bind::new(&volume, "/volume").keep_ids()] {
        let reader = stage.shell("reader", "stat -c %u:%g /volume/seven").bind(bind);
        assert_eq!(stdout_of(reader), "7:8");
    }
}

#[test]
fn files_that_a_stopped_container_leaves_keep_their_owners() {
    let stage = stage!();
    if !is_root() {
        skip!("another user may not give files away");
    }
    let builder = stage.busybox_shell("left", "echo made >/tmp/made; echo root >/of-root; chmod 1777 /tmp");
    let stopped = builder.scratch(None).keep_files().spawn().unwrap().wait_stopped().unwrap();
    let _other = start(stage.container("other").args(["sleep", "1000"]));
    let files = stopped.files().unwrap();
    files.write("/later", b"later", 0o600).unwrap();
    for path in ["/of-root", "/later"] {
        let seen = files.stat(path).unwrap();
        assert_eq!((seen.uid, seen.gid), (0, 0), "{path}");
    }
    let mut layer = Vec::new();
    files.export_layer(1 << 20, &mut layer).unwrap();
    let mut names = Vec::new();
    for entry in tar::Archive::new(layer.as_slice()).entries().unwrap() {
        let entry = entry.unwrap();
        assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (0, 0));
        names.push(entry.path().unwrap().display().to_string());
    }
    assert!(names.iter().any(|name| name.ends_with("of-root")), "{names:?}");
}

const LIMITS: &str = "ulimit -Hn; ulimit -i; ulimit -q; cat /proc/sys/user/max_inotify_instances \
                      /proc/sys/user/max_user_namespaces";

fn limits(builder: ContainerBuilder) -> Vec<String> {
    let seen = stdout_of(builder.args(["bash", "-c", LIMITS]));
    seen.lines().map(str::to_owned).collect()
}

#[test]
fn a_default_container_cannot_use_up_what_its_caller_needs() {
    let stage = stage!();
    let own = |resource| {
        let limit = rustix::process::getrlimit(resource);
        limit.maximum.unwrap_or(u64::MAX)
    };
    use rustix::process::Resource::{Msgqueue, Nofile, Sigpending};
    let files = own(Nofile);
    let files = (files - files / 4).min(65_536).to_string();
    let (signals, queues) = (own(Sigpending).min(1024).to_string(), own(Msgqueue).min(204_800).to_string());
    let expected = [files.as_str(), &signals, &queues, "32", "256"];
    assert_eq!(limits(stage.container("default")), expected);
    let raised = stage.container("raised").rlimit(Resource::PendingSignals, 7);
    assert_eq!(limits(raised), [files.as_str(), "7", &queues, "32", "256"]);
    let running = start(stage.container("exec").args(["sleep", "1000"]));
    let output = running.exec_output(cofferdam::Exec::new(["bash", "-c", LIMITS])).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), expected);

    let further = "cat /proc/sys/user/max_fanotify_groups /proc/sys/user/max_net_namespaces";
    let unfiltered = stage.shell("unfiltered", further).seccomp(None);
    assert_eq!(stdout_of(unfiltered), "32\n256", "what no filter refuses");

    let bundle = stage.write_bundle("bundle", stage.container("described"), |config| {
        config["process"]["rlimits"] = serde_json::json!([]);
        config["process"]["args"] = serde_json::json!(["bash", "-c", LIMITS]);
        config["root"] = serde_json::json!({"path": "/", "readonly": true});
    });
    let seen = stdout_of(stage.bundled("bundled", &bundle).unwrap());
    let seen: Vec<_> = seen.lines().collect();
    assert_eq!(seen[0], own(Nofile).to_string(), "a bundle lists all its limits");
    assert_eq!(seen[3..], ["2147483647", "2147483647"]);
}
