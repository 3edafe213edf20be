//! OOM scores of everything that belongs to a pod, while its containers come and go.

use crate::kit::{Stage, descendants_of_this_process, is_root, skip, stage, start};
use cofferdam::{Container, ContainerBuilder, Exec, Running};
use serde_json::json;

const POD: &str = "io.kubernetes.cri.container-type";

fn score(pid: i32) -> i32 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    text.trim().parse().unwrap()
}

fn own() -> i32 {
    score(std::process::id().cast_signed())
}

/// A bundle of what the builder describes, with a score, for containers of this state root.
fn scored(stage: &Stage, name: &str, builder: ContainerBuilder, score: Option<i32>) -> ContainerBuilder {
    let bundle = stage.write_bundle(&format!("bundle-{name}"), builder, |config| {
        config["process"]["args"] = json!(["sleep", "1000"]);
        if let Some(score) = score {
            config["process"]["oomScoreAdj"] = json!(score);
        }
    });
    stage.bundled(name, &bundle).unwrap()
}

fn pod(stage: &Stage, score: Option<i32>) -> Container<Running> {
    start(scored(stage, "pod", ContainerBuilder::new().id("pod"), score))
}

fn member(stage: &Stage, pod: &Container<Running>, name: &str, score: Option<i32>) -> Container<Running> {
    start(scored(stage, name, ContainerBuilder::new().id("member"), score).in_pod(pod.pod().id()))
}

/// Gofer, init and an executed process.
fn scores(container: &Container<Running>) -> [i32; 3] {
    let gofer = container.info().gofer.unwrap().pid;
    let process = container.exec(Exec::new(["sleep", "1000"])).unwrap();
    let scores = [score(gofer), score(container.init_pid()), score(process.id())];
    process.kill().unwrap();
    scores
}

#[test]
fn everything_of_a_single_container_has_its_score() {
    let stage = stage!();
    let container = pod(&stage, Some(own() + 300));
    assert_eq!(scores(&container), [own() + 300; 3]);
    assert_eq!(score(container.sandbox_pid()), own() + 300);
    let container = start(scored(&stage, "plain", ContainerBuilder::new().id("plain"), None));
    assert_eq!(scores(&container), [own(); 3]);
    assert_eq!(score(container.sandbox_pid()), own());
}

#[test]
fn the_sandbox_has_the_lowest_score_of_its_containers_as_they_come_and_go() {
    let stage = stage!();
    let own = own();
    let pod = pod(&stage, Some(own + 500));
    let sandbox = || score(pod.sandbox_pid());
    let unset = member(&stage, &pod, "unset", None);
    assert_eq!(scores(&unset), [own; 3], "what sets none has the caller's, not the sandbox's");
    assert_eq!(sandbox(), own + 500);
    let low = member(&stage, &pod, "low", Some(own + 100));
    let middle = member(&stage, &pod, "middle", Some(own + 200));
    assert_eq!(sandbox(), own + 100);
    assert_eq!(
        [scores(&pod), scores(&low), scores(&middle)],
        [[own + 500; 3], [own + 100; 3], [own + 200; 3]]
    );
    assert_eq!(sandbox(), own + 100, "what was lent came back");
    let low = low.kill().unwrap();
    assert_eq!(sandbox(), own + 200);
    low.delete().unwrap();
    middle.kill().unwrap().delete().unwrap();
    assert_eq!(sandbox(), own + 500);
    assert_eq!(scores(&unset), [own; 3]);
}

#[test]
fn a_pause_container_does_not_count_and_none_left_is_the_score_from_before() {
    let stage = stage!();
    let own = own();
    let pause =
        scored(&stage, "pod", ContainerBuilder::new().id("pod").annotation(POD, "sandbox"), Some(own + 10))
            .follow_pod_annotations();
    let pod = start(pause);
    let sandbox = || score(pod.sandbox_pid());
    assert_eq!((scores(&pod), sandbox()), ([own + 10; 3], own));
    let high = member(&stage, &pod, "high", Some(own + 400));
    assert_eq!(sandbox(), own + 400);
    high.kill().unwrap().delete().unwrap();
    assert_eq!(sandbox(), own);
}

#[test]
fn a_score_below_the_callers_is_refused_by_name_and_leaves_nothing() {
    let stage = stage!();
    if is_root() && may_raise() {
        skip!("this caller may go as low as it likes");
    }
    let before = descendants_of_this_process();
    let error = scored(&stage, "low", ContainerBuilder::new().id("low"), Some(-900))
        .build()
        .unwrap()
        .create()
        .unwrap_err();
    assert!(error.to_string().contains("process.oomScoreAdj"), "{error}");
    drop(error);
    assert_eq!(descendants_of_this_process(), before);
}

/// Whether this process has `CAP_SYS_RESOURCE` (bit 24).
fn may_raise() -> bool {
    let capabilities = u64::from_str_radix(&crate::kit::status_line("self", "CapEff"), 16).unwrap();
    capabilities >> 24 & 1 == 1
}
