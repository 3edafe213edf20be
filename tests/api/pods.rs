//! Pods: several containers in one sandbox.

use crate::kit::inside::output;
use crate::kit::{Stage, skip, stage, start};
use cofferdam::{
    AnyContainer, Container, ContainerBuilder, ErrorKind, Exec, Outcome, Pod, Running, Signal, Status, Stdio,
};
use std::time::Duration;

fn root(stage: &Stage) -> Container<Running> {
    start(stage.container("pod").args(["sleep", "1000"]))
}

fn member(stage: &Stage, pod: &Container<Running>, name: &str) -> ContainerBuilder {
    pod.pod().container(stage.id(name)).args(["sleep", "1000"])
}

fn namespace(container: &Container<Running>, name: &str) -> String {
    output(container, &format!("readlink /proc/self/ns/{name}"))
}

#[test]
fn members_share_network_ipc_uts_and_user_and_have_their_own_mounts_and_pids() {
    let stage = stage!();
    let pod = root(&stage);
    let web = start(member(&stage, &pod, "web"));
    for shared in ["net", "ipc", "uts", "user"] {
        assert_eq!(namespace(&pod, shared), namespace(&web, shared), "{shared}");
    }
    for own in ["mnt", "pid", "cgroup"] {
        assert_ne!(namespace(&pod, own), namespace(&web, own), "{own}");
    }
    assert_eq!(output(&web, "cat /proc/2/comm"), "sleep\n");
    output(&web, "touch /tmp/mine");
    assert_eq!(output(&pod, "ls /tmp"), "");
    assert_eq!(web.sandbox_pid(), pod.sandbox_pid());
    assert_ne!(web.init_pid(), pod.init_pid());
}

#[test]
fn a_member_without_a_cgroup_namespace_of_its_own_is_in_the_root_containers() {
    let stage = stage!();
    if std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("nsdelegate") {
        skip!("cgroup namespaces are borders here, which a sandbox stays outside of");
    }
    let pod = root(&stage);
    let described = stage.container("described").args(["sleep", "1000"]);
    let bundle = stage.write_bundle("bundle", described, |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
        // A bundle is taken as it is, and the members of a pod have the same ids.
        for (field, file) in [("uidMappings", "uid_map"), ("gidMappings", "gid_map")] {
            let map = std::fs::read_to_string(format!("/proc/{}/{file}", pod.init_pid())).unwrap();
            let numbers: Vec<u32> = map.split_whitespace().map(|number| number.parse().unwrap()).collect();
            let maps = numbers
                .chunks(3)
                .map(|map| serde_json::json!({"containerID": map[0], "hostID": map[1], "size": map[2]}));
            config["linux"][field] = maps.collect();
        }
    });
    let member = start(stage.bundled("member", &bundle).unwrap().in_pod(pod.id()));
    assert_eq!(namespace(&pod, "cgroup"), namespace(&member, "cgroup"));
    member.kill().unwrap().delete().unwrap();
    pod.kill().unwrap().delete().unwrap();
}

#[test]
fn a_member_without_pids_of_its_own_is_seen_by_the_root_container() {
    let stage = stage!();
    let pod = root(&stage);
    let member = start(member(&stage, &pod, "shared").share_pid_namespace());
    assert_eq!(namespace(&pod, "pid"), namespace(&member, "pid"));
    assert_ne!(namespace(&pod, "mnt"), namespace(&member, "mnt"));
    assert_eq!(output(&pod, "cat /proc/2/comm"), "sleep\n");
    let process = member.exec(Exec::new(["sleep", "1000"])).unwrap();
    assert!(process.pid_inside() > 2);
    // Another container's process, though its number means something here.
    for pid in [1, process.pid_inside()] {
        let wrong = if pid == 1 { &member } else { &pod };
        let error = wrong.signal_process(pid, Signal::KILL).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("belongs to a different container"), "{error}");
    }
    // All of one are not all of the other.
    member.signal_all(Signal::KILL).unwrap();
    assert!(!process.wait().unwrap().outcome.success());
    assert_eq!(member.wait().unwrap().outcome, Outcome::Killed { signal: Signal::KILL });
    assert!(pod.try_wait().unwrap().is_none());
}

#[test]
fn orphans_of_a_member_that_ended_are_killed_with_it() {
    let stage = stage!();
    let pod = root(&stage);
    let builder = pod.pod().container(stage.id("orphans")).share_pid_namespace();
    let script = "setsid sleep 1000 & until grep -q sleep /proc/$!/comm; do :; done; exit 5";
    let member = start(builder.args(["sh", "-c", script]));
    let stopped = member.wait_stopped().unwrap();
    assert_eq!(stopped.exit().outcome, Outcome::Exited { code: 5 });
    // A zombie has no command line; whether it is collected is up to the root container's program.
    let sleeping = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 100[0]' | wc -l";
    assert_eq!(output(&pod, sleeping), "2\n", "the root's and the orphan");
    stopped.delete().unwrap();
    assert_eq!(output(&pod, sleeping), "1\n");
}

#[test]
fn each_member_lives_and_ends_by_itself() {
    let stage = stage!();
    let pod = root(&stage);
    let builder = |name: &str| pod.pod().container(stage.id(name));
    let one = start(builder("one").args(["sh", "-c", "exit 3"]));
    let two = start(builder("two").args(["sleep", "1000"]));
    let one = one.wait_stopped().unwrap();
    assert_eq!(one.exit().outcome, Outcome::Exited { code: 3 });
    one.delete().unwrap();
    assert!(two.try_wait().unwrap().is_none());
    let two = two.stop(Duration::from_secs(5)).unwrap();
    assert_eq!(two.exit().outcome, Outcome::Killed { signal: Signal::TERM });
    two.delete().unwrap();
    let again = start(builder("one").args(["true"]));
    assert!(again.wait().unwrap().outcome.success(), "a name that was given back can be given again");
    assert!(pod.try_wait().unwrap().is_none());
}

#[test]
fn the_end_of_the_root_container_is_the_end_of_all() {
    let stage = stage!();
    let mut pod = start(stage.container("pod").args(["cat"]).stdin(Stdio::piped()));
    let own = start(member(&stage, &pod, "own"));
    let shared = start(member(&stage, &pod, "shared").share_pid_namespace());
    let process = own.exec(Exec::new(["sleep", "1000"])).unwrap();
    drop(pod.take_stdin());
    assert!(pod.wait().unwrap().outcome.success());
    assert_eq!(own.wait().unwrap().outcome, Outcome::PodEnded);
    assert_eq!(shared.wait().unwrap().outcome, Outcome::PodEnded);
    assert!(process.wait().is_err() || !process.wait().unwrap().outcome.success());
    for container in pod.pod().containers().unwrap() {
        assert_eq!(container.status(), Status::Stopped, "{}", container.id());
    }
}

#[test]
fn a_loaded_member_is_watched_signalled_and_deleted() {
    let stage = stage!();
    let pod = root(&stage);
    let mut member = start(member(&stage, &pod, "member"));
    member.detach().unwrap();
    let id = member.id().to_string();
    drop(member);
    let loaded = AnyContainer::load(stage.root(), &id).unwrap();
    assert_eq!(loaded.status(), Status::Running);
    let state = loaded.oci_state().unwrap();
    assert_eq!(state.pid, loaded.info().init.unwrap().pid);
    loaded.as_alive().unwrap().signal(Signal::TERM).unwrap();
    assert_eq!(loaded.wait().unwrap().outcome, Outcome::Killed { signal: Signal::TERM });
    assert_eq!(AnyContainer::load(stage.root(), &id).unwrap().status(), Status::Stopped);
    loaded.delete(true).unwrap();
    assert_eq!(*AnyContainer::load(stage.root(), &id).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(pod.try_wait().unwrap().is_none());
}

#[test]
fn a_member_ends_with_the_value_that_made_it() {
    let stage = stage!();
    let pod = root(&stage);
    let member = start(member(&stage, &pod, "member"));
    let id = member.id().to_string();
    drop(member);
    assert_eq!(*AnyContainer::load(stage.root(), &id).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(pod.pod().containers().unwrap().len(), 1);
}

#[test]
fn a_pod_is_listed_and_deleted_as_a_whole() {
    let stage = stage!();
    let mut pod = root(&stage);
    pod.detach().unwrap();
    let mut members = ["a", "b"].map(|name| start(member(&stage, &pod, name)));
    members.iter_mut().for_each(|member| member.detach().unwrap());
    let loaded = Pod::load(stage.root(), pod.id().as_str()).unwrap();
    let ids: Vec<String> = loaded.containers().unwrap().iter().map(|one| one.id().to_string()).collect();
    assert_eq!(ids, [stage.id("a"), stage.id("b"), stage.id("pod")]);
    let error = Pod::load(stage.root(), members[0].id().as_str()).unwrap_err();
    assert!(error.to_string().contains("is in the sandbox of"), "{error}");
    loaded.delete().unwrap();
    assert!(AnyContainer::list(stage.root()).unwrap().is_empty());
}

#[test]
fn a_pod_that_is_not_there_is_an_error_that_leaves_nothing() {
    let stage = stage!();
    let builder = |pod: &str| stage.container("member").args(["true"]).in_pod(&pod.parse().unwrap());
    let error = builder("nobody").build().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound);
    let pod = root(&stage);
    let waiting = builder(pod.id().as_str()).build().unwrap();
    let id = pod.id().to_string();
    drop(pod);
    let failed = waiting.create().unwrap_err();
    assert_eq!(*failed.error().kind(), ErrorKind::NotFound, "{failed}");
    drop(failed);
    assert_eq!(*AnyContainer::load(stage.root(), &id).unwrap_err().kind(), ErrorKind::NotFound);
    let annotated =
        stage.container("x").args(["true"]).annotation("io.kubernetes.cri.container-type", "container");
    let error = annotated.follow_pod_annotations().build().unwrap_err();
    assert_eq!(
        *error.kind(),
        ErrorKind::InvalidSpec { path: "annotations[\"io.kubernetes.cri.sandbox-id\"]".into() }
    );
}

#[test]
fn the_annotations_of_engines_make_members_too() {
    let stage = stage!();
    let sandbox = stage.container("pod").args(["sleep", "1000"]);
    let sandbox = sandbox.annotation("io.kubernetes.cri.container-type", "sandbox");
    let pod = start(sandbox.follow_pod_annotations());
    let member = stage.container("member").args(["sleep", "1000"]);
    let member = member.annotation("io.kubernetes.cri.container-type", "container").follow_pod_annotations();
    let member = start(member.annotation("io.kubernetes.cri.sandbox-id", pod.id().as_str()));
    assert_eq!(member.sandbox_pid(), pod.sandbox_pid());
    assert_eq!(namespace(&pod, "net"), namespace(&member, "net"));
    let again = stage.container("pod").args(["true"]).build().unwrap().create().unwrap_err();
    assert_eq!(*again.error().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_program_missing_in_a_member_is_its_creates_error() {
    let stage = stage!();
    let pod = root(&stage);
    let builder = pod.pod().container(stage.id("missing")).args(["no-such-program"]);
    let failed = builder.build().unwrap().create().unwrap_err();
    assert_eq!(*failed.error().kind(), ErrorKind::ProgramNotFound);
    drop(failed);
    assert_eq!(pod.pod().containers().unwrap().len(), 1);
    assert!(start(pod.pod().container(stage.id("missing")).args(["true"])).wait().unwrap().outcome.success());
}

#[test]
fn a_member_loses_its_gofer_and_ends_and_the_others_do_not() {
    let stage = stage!();
    let pod = root(&stage);
    let member = start(member(&stage, &pod, "member"));
    let gofer = member.info().gofer.unwrap().pid;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(gofer).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    assert_eq!(member.wait().unwrap().outcome, Outcome::Lost);
    assert!(pod.try_wait().unwrap().is_none());
}

#[test]
fn twenty_members_come_and_go_at_once() {
    let stage = stage!();
    let pod = root(&stage);
    std::thread::scope(|scope| {
        for number in 0..20 {
            let (stage, pod) = (&stage, &pod);
            scope.spawn(move || {
                let builder = pod.pod().container(stage.id(&format!("m{number}")));
                let builder = if number % 2 == 0 { builder.share_pid_namespace() } else { builder };
                let member = start(builder.args(["sleep", "1000"]));
                assert!(member.exec_output(Exec::new(["true"])).unwrap().exit.outcome.success());
                member.signal(Signal::TERM).unwrap();
                let stopped = member.wait_stopped().unwrap();
                assert!(!stopped.exit().outcome.success());
                stopped.delete().unwrap();
            });
        }
    });
    assert_eq!(pod.pod().containers().unwrap().len(), 1);
    assert_eq!(output(&pod, "set -- /proc/[0-9]*; echo $#"), "3\n", "init, sleep and sh");
}

#[test]
fn annotations_of_engines_are_followed_only_if_asked_for() {
    let stage = stage!();
    let pod = root(&stage);
    let builder = stage
        .container("alone")
        .args(["sleep", "1000"])
        .annotation("io.kubernetes.cri.container-type", "container")
        .annotation("io.kubernetes.cri.sandbox-id", pod.id().as_str());
    let alone = start(builder);
    assert_ne!(alone.sandbox_pid(), pod.sandbox_pid());
    assert_ne!(namespace(&alone, "net"), namespace(&pod, "net"));
}
