//! The operations, and the states they lead through.

use crate::conformance::bench::{Bench, needs_root};
use crate::conformance::case::{NotHere, Verdict, table};
use crate::conformance::cgroups::v1;
use serde_json::{Value, json};

table! {
    an_id_and_a_bundle_are_what_create_needs => "create":
        "This operation MUST generate an error if it is not provided a path to the bundle and the container ID";
    an_id_belongs_to_one_container => "create":
        "If the ID provided is not unique across all containers within the scope of the runtime, the implementation \
         MUST generate an error and a new container MUST NOT be created";
    the_state_of_a_container_has_all_that_is_specified => "state create":
        "This operation MUST return the state of a container as specified in the State section";
    the_pid_of_the_state_is_the_program_in_the_containers_namespaces => "state":
        "pid is the ID of the container process";
    the_state_of_what_does_not_exist_is_an_error => "state":
        "This operation MUST generate an error if it is not provided the ID of a container. Attempting to query a \
         container that does not exist MUST generate an error";
    the_program_runs_when_it_is_started_and_once => "start":
        "process.args MUST NOT be applied until triggered by the start operation. Attempting to start a container that \
         is not created MUST have no effect on the container and MUST generate an error";
    what_does_not_exist_is_not_started => "start":
        "This operation MUST generate an error if it is not provided the container ID";
    a_container_without_a_process_is_not_started => "start":
        "This operation MUST generate an error if process was not set";
    a_signal_reaches_a_created_and_a_running_container => "kill":
        "This operation MUST send the specified signal to the container process";
    a_signal_for_what_has_ended_or_does_not_exist_is_an_error => "kill":
        "Attempting to send a signal to a container that is neither created nor running MUST generate an error";
    a_stopped_container_has_no_processes_to_list_or_to_signal => "kill":
        "--all: send the specified signal to all processes inside the container (command line interface)";
    a_signal_for_what_has_ended_changes_nothing => "kill_no_effect":
        "Attempting to send a signal to a container that is neither created nor running MUST have no effect on the \
         container";
    signals_are_sent_by_their_names => "killsig":
        "This operation MUST send the specified signal to the container process";
    what_does_not_exist_is_not_deleted => "delete":
        "This operation MUST generate an error if it is not provided the container ID";
    a_running_container_is_not_deleted => "delete":
        "Attempting to delete a container that is not stopped MUST have no effect on the container and MUST generate \
         an error";
    a_created_container_is_not_deleted => "delete":
        "Attempting to delete a container that is not stopped MUST have no effect on the container and MUST generate \
         an error";
    an_id_is_free_again_after_delete => "delete":
        "Once a container is deleted its ID MAY be used by a subsequent container";
    delete_takes_away_what_create_made => "delete_resources":
        "Deleting a container MUST delete the resources that were created during the create step";
    delete_leaves_what_create_did_not_make => "delete_only_create_resources":
        "Resources associated with the container, but not created by this container, MUST NOT be deleted";
    a_configuration_that_changes_after_create_changes_nothing => "config_updates_without_affect":
        "Any updates to config.json after this step MUST NOT affect the container";
    the_pid_file_has_the_pid_of_the_state_and_nothing_else => "pidfile":
        "--pid-file <PATH>: the runtime MUST write the container PID to this path (command line interface)";
    unknown_annotations_are_no_error => "misc_props":
        "Implementations that are reading/processing this configuration file MUST NOT generate an error if they \
         encounter an unknown annotation key";
    annotations_change_nothing => "misc_props":
        "annotations contains arbitrary metadata for the container; engines pass on those of an image";
    unknown_properties_are_no_error => "misc_props":
        "Runtimes that are reading or processing this configuration file MUST NOT generate an error if they encounter \
         an unknown property";
    an_invalid_version_is_an_error => "misc_props":
        "Runtimes that are reading or processing this configuration file MUST generate an error when invalid or \
         unsupported values are encountered";
}

fn an_id_and_a_bundle_are_what_create_needs(bench: &Bench<'_>) -> Verdict {
    bench.configure("true", |_| {});
    let bundle = bench.bundle();
    bench.refuses(&["create", "--bundle", bundle.to_str().unwrap()]);
    bench.refuses(&["create", "--bundle", bundle.to_str().unwrap(), ""]);
    let empty = bench.directory("empty");
    bench.refuses(&["create", "--bundle", empty.to_str().unwrap(), &bench.id("empty")]);
    bench.refuses(&["state", &bench.id("empty")]);
    Ok(())
}

fn an_id_belongs_to_one_container(bench: &Bench<'_>) -> Verdict {
    bench.configure("exec sleep 1000", |_| {});
    let container = bench.create("unique");
    let before = container.state();
    assert!(bench.try_create("unique").map(drop).is_err());
    assert_eq!(container.state(), before);
    container.end();
    Ok(())
}

fn the_state_of_a_container_has_all_that_is_specified(bench: &Bench<'_>) -> Verdict {
    bench
        .configure("exec sleep 1000", |config| config["annotations"] = json!({ "org.example.key": "value" }));
    let container = bench.create("state");
    let check = |status: &str| {
        let state = container.state();
        assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{state}");
        assert_eq!(state["id"], container.id.as_str());
        assert_eq!(state["status"], status);
        assert_eq!(state["bundle"], bench.bundle().to_str().unwrap());
        assert_eq!(state["annotations"], json!({ "org.example.key": "value" }));
        if status != "stopped" {
            assert_eq!(state["pid"], container.pid);
            assert!(std::path::Path::new(&format!("/proc/{}", container.pid)).exists(), "on the host");
        }
    };
    check("created");
    container.start();
    check("running");
    container.kill("KILL");
    container.await_end();
    check("stopped");
    container.delete();
    Ok(())
}

fn the_pid_of_the_state_is_the_program_in_the_containers_namespaces(bench: &Bench<'_>) -> Verdict {
    const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let script =
        "for n in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$n; done; exec sleep 1000";
    bench.configure(script, |_| {});
    let container = bench.create("pid");
    container.start();
    assert_eq!(container.state()["pid"], container.pid, "the same before and after start");
    let said = container.lines(NAMESPACES.len());
    let of = |name| std::fs::read_link(format!("/proc/{}/ns/{name}", container.pid)).unwrap();
    let seen = NAMESPACES.map(|name| format!("{}\n", of(name).display())).concat();
    assert_eq!(seen, said);
    let pids = crate::kit::status_line(&container.pid.to_string(), "NSpid");
    assert!(pids.ends_with(" 1"), "{pids}");
    container.end();
    Ok(())
}

fn the_state_of_what_does_not_exist_is_an_error(bench: &Bench<'_>) -> Verdict {
    bench.refuses(&["state"]);
    bench.refuses(&["state", ""]);
    bench.refuses(&["state", &bench.id("nothing")]);
    Ok(())
}

fn the_program_runs_when_it_is_started_and_once(bench: &Bench<'_>) -> Verdict {
    bench.configure("echo called >>/output", |_| {});
    let output = bench.rootfs().join("output");
    let container = bench.create("once");
    assert!(!output.exists(), "create runs nothing");
    container.start();
    container.await_end();
    bench.refuses(&["start", &container.id]);
    assert_eq!(container.status(), "stopped");
    assert_eq!(std::fs::read_to_string(output).unwrap(), "called\n");
    container.delete();

    bench.configure("exec sleep 1000", |_| {});
    let container = bench.create("twice");
    container.start();
    bench.refuses(&["start", &container.id]);
    assert_eq!(container.status(), "running");
    container.end();
    Ok(())
}

fn what_does_not_exist_is_not_started(bench: &Bench<'_>) -> Verdict {
    bench.refuses(&["start"]);
    bench.refuses(&["start", &bench.id("nothing")]);
    Ok(())
}

/// Whether create is an error already is not specified.
fn a_container_without_a_process_is_not_started(bench: &Bench<'_>) -> Verdict {
    let created = bench.try_configured(|config| {
        config.as_object_mut().unwrap().remove("process");
    });
    if let Ok(container) = created {
        bench.refuses(&["start", &container.id]);
    }
    Ok(())
}

fn a_signal_reaches_a_created_and_a_running_container(bench: &Bench<'_>) -> Verdict {
    bench.configure("exec sleep 1000", |_| {});
    for is_started in [false, true] {
        let container = bench.create("killed");
        if is_started {
            container.start();
        }
        container.end();
    }
    Ok(())
}

fn a_signal_for_what_has_ended_or_does_not_exist_is_an_error(bench: &Bench<'_>) -> Verdict {
    bench.refuses(&["kill"]);
    bench.refuses(&["kill", &bench.id("nothing"), "KILL"]);
    bench.configure("true", |_| {});
    let container = bench.create("ended");
    container.start();
    container.await_end();
    bench.refuses(&["kill", &container.id, "KILL"]);
    container.delete();
    Ok(())
}

fn a_stopped_container_has_no_processes_to_list_or_to_signal(bench: &Bench<'_>) -> Verdict {
    bench.configure("true", |_| {});
    let container = bench.create("stopped");
    container.start();
    container.await_end();
    let call = |arguments: &[&str]| {
        let output = bench.call(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = call(&["ps", &container.id]);
    assert!(listed.starts_with("UID") && listed.lines().count() == 1, "{listed}");
    for signal in ["0", "KILL"] {
        call(&["kill", "--all", &container.id, signal]);
    }
    container.delete();
    Ok(())
}

fn a_signal_for_what_has_ended_changes_nothing(bench: &Bench<'_>) -> Verdict {
    bench.configure("true", |_| {});
    let container = bench.create("ended");
    container.start();
    container.await_end();
    let before = container.state();
    bench.call(&["kill", &container.id, "KILL"]);
    assert_eq!(container.state(), before);
    container.delete();
    Ok(())
}

fn signals_are_sent_by_their_names(bench: &Bench<'_>) -> Verdict {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        bench.rootfs().join("ready"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )
    .unwrap();
    for signal in ["TERM", "USR1", "USR2"] {
        let script =
            format!("trap 'touch /got-{signal}; exit' {signal}; echo >/ready; while :; do sleep 0.01; done");
        bench.configure(&script, |_| {});
        let container = bench.create("signalled");
        container.start();
        assert_eq!(std::fs::read_to_string(bench.rootfs().join("ready")).unwrap(), "\n");
        container.kill(signal);
        container.await_end();
        assert!(bench.rootfs().join(format!("got-{signal}")).exists(), "{signal}");
        container.delete();
    }
    Ok(())
}

fn what_does_not_exist_is_not_deleted(bench: &Bench<'_>) -> Verdict {
    bench.refuses(&["delete"]);
    bench.refuses(&["delete", &bench.id("nothing")]);
    Ok(())
}

fn a_running_container_is_not_deleted(bench: &Bench<'_>) -> Verdict {
    bench.configure("exec sleep 1000", |_| {});
    let container = bench.create("running");
    container.start();
    let before = container.state();
    bench.refuses(&["delete", &container.id]);
    assert_eq!(container.state(), before);
    container.end();
    Ok(())
}

fn a_created_container_is_not_deleted(bench: &Bench<'_>) -> Verdict {
    bench.configure("exec sleep 1000", |_| {});
    let container = bench.create("created");
    let before = container.state();
    bench.refuses(&["delete", &container.id]);
    assert_eq!(container.state(), before);
    container.end();
    Ok(())
}

fn an_id_is_free_again_after_delete(bench: &Bench<'_>) -> Verdict {
    for script in ["echo first", "echo second"] {
        assert_eq!(bench.output(script, |_| {}), format!("{}\n", &script[5..]));
        bench.refuses(&["state", &bench.id("output")]);
    }
    Ok(())
}

fn delete_takes_away_what_create_made(bench: &Bench<'_>) -> Verdict {
    needs_root("cgroups that the caller may make")?;
    let path = format!("/{}", bench.id("group"));
    let hierarchy = v1("pids")?;
    bench.configure("true", |config| {
        config["linux"]["cgroupsPath"] = json!(path);
        config["linux"]["resources"]["pids"] = json!({ "limit": 1000 });
    });
    let container = bench.create("resources");
    let group = hierarchy.of(container.pid);
    // There, or below it, apart from a process of the runtime's.
    assert!(std::path::Path::new(group.path()).starts_with(&path), "{}", group.path());
    // If the runtime's own process is in the group, the limit there may leave room for it.
    assert!(group.value("pids.max").parse::<u64>().unwrap() >= 1000);
    container.start();
    container.await_end();
    container.delete();
    assert!(!group.exists());
    Ok(())
}

fn delete_leaves_what_create_did_not_make(bench: &Bench<'_>) -> Verdict {
    needs_root("cgroups that the caller may make")?;
    let group = v1("pids")?.make(&bench.id("other"));
    bench.configure("true", |_| {});
    let container = bench.create("moved");
    group.take(container.pid);
    container.start();
    container.await_end();
    container.delete();
    assert!(group.exists());
    group.remove();
    Ok(())
}

fn a_configuration_that_changes_after_create_changes_nothing(bench: &Bench<'_>) -> Verdict {
    bench.configure("hostname; cat /proc/self/oom_score_adj; pwd", |config| {
        config["process"]["oomScoreAdj"] = json!(500);
        config["process"]["cwd"] = json!("/tmp");
    });
    let container = bench.create("before");
    bench.write_configuration(&json!({ "ociVersion": "1.0.0" }));
    container.start();
    container.await_end();
    assert_eq!(container.output(), "conformance\n500\n/tmp\n");
    container.delete();
    Ok(())
}

fn the_pid_file_has_the_pid_of_the_state_and_nothing_else(bench: &Bench<'_>) -> Verdict {
    bench.configure("exec sleep 1000", |_| {});
    let id = bench.id("pidfile");
    let created = bench.try_create_by("pidfile", |_| {
        bench.command(&["create", "--bundle", bench.bundle().to_str().unwrap(), "--pid-file", "pid", &id])
    });
    let container = created.map_err(|said| NotHere(format!("no --pid-file: {said}")))?;
    assert_eq!(bench.read("pid"), container.pid.to_string());
    container.end();
    Ok(())
}

/// A container of this configuration is created, started and deleted.
fn lives(bench: &Bench<'_>, change: impl FnOnce(&mut Value)) {
    assert_eq!(bench.output("echo ran", change), "ran\n");
}

fn unknown_annotations_are_no_error(bench: &Bench<'_>) -> Verdict {
    lives(bench, |config| config["annotations"] = json!({ "org.example.not-known-to-anybody": "" }));
    Ok(())
}

fn annotations_change_nothing(bench: &Bench<'_>) -> Verdict {
    let script = "echo $$; cat /proc/self/cgroup | wc -l; touch /made; sleep 0.3; echo alive";
    let plain = bench.output(script, |_| {});
    std::fs::remove_file(bench.rootfs().join("made")).unwrap();
    let seen = bench.output(script, |config| {
        config["annotations"] = json!({
            "dev.cofferdam.timeout-ms": "100",
            "dev.cofferdam.scratch": "0",
            "dev.cofferdam.rootfs.idmap": "true",
            "dev.cofferdam.without-cgroup": "true",
            "dev.cofferdam.init": "true",
            "run.oci.keep_original_groups": "1",
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-id": "none",
        });
    });
    assert_eq!(seen, plain);
    assert!(seen.starts_with("1\n") && seen.ends_with("alive\n"), "{seen}");
    assert!(bench.rootfs().join("made").exists(), "in the root itself");
    Ok(())
}

fn unknown_properties_are_no_error(bench: &Bench<'_>) -> Verdict {
    lives(bench, |config| {
        config["unknown"] = json!("unknown");
        config["process"]["unknown"] = json!([1]);
        config["linux"]["unknown"] = json!({});
    });
    Ok(())
}

fn an_invalid_version_is_an_error(bench: &Bench<'_>) -> Verdict {
    bench.refuses_to_create(|config| config["ociVersion"] = json!("invalid"));
    Ok(())
}
