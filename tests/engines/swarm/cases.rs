//! What users do with a swarm, and what has to come of it.

use super::{IMAGES, Swarm};

/// A program that says that it has started, and ends when it is asked to.
const SERVANT: &str = "trap 'exit 0' TERM; echo started; sleep 1000 & wait";

pub(super) fn a_service_has_its_replicas_whatever_happens(swarm: &Swarm) {
    let [old, new] = IMAGES;
    let options = ["--replicas=3", "--restart-delay=0s", "--update-parallelism=0"];
    swarm.create("web", &options, &["sh", "-c", SERVANT]);
    swarm.wait_until_running("web", 3, old);
    assert!(swarm.nodes().iter().all(|node| !node.containers().is_empty()), "each node has its share");
    swarm.wait_until("each says so", || {
        swarm.manager.tell(&["service", "logs", "--raw", "web"]).lines().eq(["started"; 3])
    });

    let victim = swarm.worker.containers().remove(0);
    swarm.worker.tell(&["kill", &victim]);
    swarm.wait_until("the end is seen", || {
        swarm.tasks("web").iter().any(|task| task.error.contains("non-zero exit (137)"))
    });
    swarm.wait_until_running("web", 3, old);

    swarm.manager.tell(&["service", "update", "--detach", "--no-resolve-image", "--image", new, "web"]);
    swarm.wait_until_running("web", 3, new);
    swarm.manager.tell(&["service", "scale", "--detach", "web=5"]);
    swarm.wait_until_running("web", 5, new);

    let node = swarm.worker.tell(&["info", "--format={{.Swarm.NodeID}}"]);
    swarm.manager.tell(&["node", "update", "--availability=drain", &node]);
    swarm.wait_until("all is on the manager", || {
        swarm.worker.containers().is_empty() && swarm.manager.containers().len() == 5
    });
    swarm.wait_until_running("web", 5, new);

    swarm.manager.tell(&["service", "rm", "web"]);
    swarm.wait_until("nothing runs", || swarm.manager.containers().is_empty());
}

pub(super) fn a_job_has_the_exit_code_of_its_program(swarm: &Swarm) {
    let secret = swarm.manager.directory.join("secret");
    std::fs::write(&secret, "of the swarm\n").expect("a file");
    swarm.manager.tell(&["secret", "create", "s", &secret.display().to_string()]);
    let options = ["--mode=replicated-job", "--restart-condition=none", "--secret=s", "--env=A=b c"];
    for (args, state, code, error) in [
        (["sh", "-c", "cat /run/secrets/s; echo $A; sh -c 'exit 0'"].as_slice(), "Complete", "0", ""),
        (&["sh", "-c", "exit 7"], "Failed", "7", "non-zero exit (7)"),
        (&["nosuch"], "Failed", "127", "\"nosuch\": executable file not found in $PATH"),
    ] {
        swarm.create("job", &options, args);
        let task = swarm.wait("job");
        assert_eq!(task.state, state, "{args:?}: {}", task.error);
        assert!(task.error.contains(error), "{args:?}: {}", task.error);
        let found =
            swarm.manager.tell(&["inspect", "--format={{.Status.ContainerStatus.ExitCode}}", &task.id]);
        assert_eq!(found, code, "{args:?}: {}", task.error);
        if state == "Complete" {
            let log = swarm.manager.tell(&["service", "logs", "--raw", "job"]);
            assert_eq!(log, "of the swarm\nb c");
        }
        swarm.manager.tell(&["service", "rm", "job"]);
        swarm.wait_until("it is forgotten", || swarm.manager.tell(&["service", "ls", "--quiet"]).is_empty());
    }
}
