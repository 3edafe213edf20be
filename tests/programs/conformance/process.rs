//! The process: what it is executed as, and with what rights and limits.

use crate::conformance::bench::{Bench, needs_root};
use crate::conformance::case::{NotHere, Verdict, table};
use crate::conformance::container::Container;
use crate::conformance::differences::FAULTS;
use crate::kit::{is_root, line_of};
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

table! {
    the_full_configuration_is_what_the_process_sees => "default":
        "The runtime MUST create the container's runtime environment according to the configuration";
    a_small_configuration_has_what_every_container_has => "default":
        "The following devices MUST be supplied; runtimes MUST create the following symbolic links";
    arguments_environment_and_directory_are_the_processs => "process":
        "The runtime MUST run the user-specified program, as specified by process: args, env, cwd";
    user_and_groups_are_the_processs => "process_user":
        "user specifies the user and groups that the process runs as";
    capabilities_are_those_listed_and_no_others => "process_capabilities":
        "capabilities is an object containing arrays that specifies the sets of capabilities for the process";
    capabilities_that_cannot_be_granted_are_a_warning => "process_capabilities_fail":
        "Any value which cannot be mapped to a relevant kernel interface, or cannot be granted otherwise, MUST be \
         logged as a warning by the runtime (1.2)";
    a_capability_for_an_executed_process_is_in_three_sets => "process_capabilities":
        "--cap <CAP>: add a capability to the bounding, effective and permitted sets (command line of runc)";
    a_process_without_a_user_is_roots => "process_user":
        "user is a platform-specific object; engines leave it out, for uid 0 and gid 0";
    a_program_may_be_executable_by_a_capability_alone => "process":
        "The runtime MUST run the user-specified program; CAP_DAC_OVERRIDE bypasses execute permission checks \
         (capabilities(7))";
    an_empty_home_is_the_users => "process":
        "env: engines set HOME to an empty value and expect the home directory of the user";
    the_oom_score_is_adjusted => "process_oom_score_adj":
        "If oomScoreAdj is set, the runtime MUST set oom_score_adj to the given value";
    limits_are_the_processs => "process_rlimits":
        "The runtime MUST set for each entry in rlimits the soft and the hard limit, as getrlimit(3) shows them";
    a_limit_that_does_not_exist_is_an_error => "process_rlimits_fail":
        "The runtime MUST generate an error for any values which cannot be mapped to a relevant kernel interface";
    an_apparmor_profile_is_the_processs => "linux_process_apparmor_profile":
        "apparmorProfile specifies the name of the AppArmor profile for the process";
    a_stream_that_is_null_is_the_containers_null => "process":
        "Some of the file descriptors MAY be redirected to /dev/null even though they are open";
    each_rule_of_a_filter_has_its_action => "linux_seccomp":
        "seccomp: the action for each rule of system calls, and for those that are in none";
    a_filter_refuses_what_a_runtime_may_want_itself => "linux_seccomp":
        "The process MUST be executed with the filter: the rules bind the program, not the runtime before it";
}

fn the_full_configuration_is_what_the_process_sees(bench: &Bench<'_>) -> Verdict {
    for no_new_privileges in [false, true] {
        bench.configure("true", |config| config["process"]["noNewPrivileges"] = json!(no_new_privileges));
        let container = bench.create("full");
        container.start();
        // What is declared is there, too.
        let faults = container.faults();
        for declared in FAULTS.iter().filter(|fault| fault.runtime == bench.runtime.name) {
            let is_found = faults.iter().any(|fault| fault.starts_with(declared.says));
            assert!(is_found, "{:?} is declared ({}), and not found", declared.says, declared.why);
        }
        container.await_end();
        container.delete();
    }
    Ok(())
}

fn a_stream_that_is_null_is_the_containers_null(bench: &Bench<'_>) -> Verdict {
    // Of the bench every runtime has a null device as standard input, ours the host's, and hands it on to its commands.
    let script = "test /proc/self/fd/0 -ef /dev/null && echo its own; cat; exec sleep 1000";
    bench.configure(script, |_| {});
    let container = bench.create("null");
    container.start();
    let host = std::fs::metadata("/dev/null").unwrap();
    let own = std::fs::metadata(format!("/proc/{}/root/dev/null", container.pid)).unwrap();
    if is_root() {
        assert_ne!((host.dev(), host.ino()), (own.dev(), own.ino()));
        let exec = ["exec", &container.id, "sh", "-c", "test /proc/self/fd/0 -ef /dev/null"];
        assert!(bench.call(&exec).status.success(), "an executed process");
    }
    container.kill("KILL");
    container.await_end();
    assert_eq!(container.output(), "its own\n");
    container.delete();
    Ok(())
}

/// With what makes up a container and nothing else.
fn a_small_configuration_has_what_every_container_has(bench: &Bench<'_>) -> Verdict {
    let seen = bench.output("echo $PWD", |config| {
        let process = config["process"].as_object_mut().unwrap();
        process.retain(|name, _| ["args", "cwd", "user"].contains(&name.as_str()));
        let linux = config["linux"].as_object_mut().unwrap();
        linux.retain(|name, _| name == "namespaces" || name.ends_with("Mappings"));
    });
    assert_eq!(seen, "/\n");
    Ok(())
}

fn arguments_environment_and_directory_are_the_processs(bench: &Bench<'_>) -> Verdict {
    std::fs::create_dir(bench.rootfs().join("test")).unwrap();
    let script = "tr '\\0' '|' </proc/self/cmdline; echo; tr '\\0' '|' </proc/$$/cmdline; echo; echo $testa $testb; pwd";
    let seen = bench.output(script, |config| {
        config["process"]["args"] = bench.program(&["sh", "-c", script, "zero", "one two", ""]);
        config["process"]["env"] = json!(["PATH=/bin", "testa=valuea", "testb=123"]);
        config["process"]["cwd"] = json!("/test");
    });
    let lines: Vec<_> = seen.lines().collect();
    assert_eq!(lines[1], format!("sh|-c|{script}|zero|one two||"));
    assert_eq!(lines[2..], ["valuea 123", "/test"]);
    Ok(())
}

fn user_and_groups_are_the_processs(bench: &Bench<'_>) -> Verdict {
    needs_root("a user namespace of one id has one user")?;
    let seen = bench.output("cat /proc/self/status; umask", |config| {
        config["process"]["user"] = json!({ "uid": 10, "gid": 20, "additionalGids": [5, 6], "umask": 0o27 });
    });
    assert_eq!(line_of(&seen, "Uid"), "10 10 10 10");
    assert_eq!(line_of(&seen, "Gid"), "20 20 20 20");
    let groups = line_of(&seen, "Groups");
    assert!(groups == "5 6" || groups == "5 6 20", "{groups}");
    assert!(seen.ends_with("\n0027\n"), "{seen}");
    Ok(())
}

fn capabilities_are_those_listed_and_no_others(bench: &Bench<'_>) -> Verdict {
    for no_new_privileges in [false, true] {
        let seen = bench.output("cat /proc/self/status", |config| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["process"]["capabilities"] = json!({
                "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_ADMIN"],
                "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_ADMIN"],
                "effective": ["CAP_CHOWN", "CAP_KILL"],
                "inheritable": ["CAP_KILL"],
                "ambient": ["CAP_KILL"],
            });
        });
        // By execve(2) root has all that is bounding, and without new privileges all that is permitted.
        let permitted = if no_new_privileges { "0000000000001021" } else { "00000000000010a1" };
        for (set, bits) in [
            ("CapBnd", "00000000000010a1"),
            ("CapPrm", permitted),
            ("CapEff", permitted),
            ("CapInh", "0000000000000020"),
            ("CapAmb", "0000000000000020"),
        ] {
            assert_eq!(line_of(&seen, set), bits, "{set}");
        }
    }
    Ok(())
}

fn capabilities_that_cannot_be_granted_are_a_warning(bench: &Bench<'_>) -> Verdict {
    bench.configure("cat /proc/self/status", |config| {
        let capabilities = &mut config["process"]["capabilities"];
        for set in ["bounding", "effective", "permitted"] {
            capabilities[set] = json!(["CAP_KILL", "CAP_TEST", "CAP_AUDIT_WRITE"]);
        }
        capabilities["inheritable"] = json!(["CAP_AUDIT_WRITE"]);
        capabilities["ambient"] = json!(["CAP_AUDIT_WRITE", "CAP_NET_ADMIN", "CAP_TEST"]);
    });
    let container = bench.create("granted");
    let said = bench.read("stderr");
    assert!(said.contains("level=warning") && said.contains("CAP_TEST"), "{said}");
    container.start();
    container.await_end();
    let seen = container.output();
    container.delete();
    for (set, bits) in [("CapBnd", "20000020"), ("CapPrm", "20000020"), ("CapAmb", "20000000")] {
        assert_eq!(line_of(&seen, set), format!("{bits:0>16}"), "{set}");
    }
    Ok(())
}

/// A container of this configuration that waits for others to be executed in it.
fn waiting<'a>(bench: &'a Bench<'_>, change: impl FnOnce(&mut Value)) -> Container<'a> {
    bench.configure("exec sleep 1000", change);
    let container = bench.create("waiting");
    container.start();
    container
}

fn executed(bench: &Bench<'_>, arguments: &[&str]) -> String {
    let output = bench.call(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn a_capability_for_an_executed_process_is_in_three_sets(bench: &Bench<'_>) -> Verdict {
    let container = waiting(bench, |config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] =
                json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        }
        config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
        config["process"]["capabilities"]["ambient"] = json!(["CAP_KILL"]);
    });
    let arguments =
        ["exec", "--cap", "CAP_CHOWN", "--cap", "CAP_TEST", &container.id, "cat", "/proc/self/status"];
    let seen = executed(bench, &arguments);
    for (set, bits) in [
        ("CapBnd", "20000421"),
        ("CapPrm", "20000421"),
        ("CapEff", "20000421"),
        ("CapInh", "20"),
        ("CapAmb", "20"),
    ] {
        assert_eq!(line_of(&seen, set), format!("{bits:0>16}"), "{set}");
    }
    container.end();
    Ok(())
}

fn a_process_without_a_user_is_roots(bench: &Bench<'_>) -> Verdict {
    let container = waiting(bench, |config| {
        config["process"].as_object_mut().unwrap().remove("user");
    });
    let process = json!({
        "args": ["sh", "-c", "id -u; id -g; stat -c %u:%g /proc/1"], "cwd": "/", "env": ["PATH=/bin"],
        "scheduler": { "policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RESET_ON_FORK"] },
    });
    let file = bench.bundle().join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let seen = executed(bench, &["exec", "--process", file.to_str().unwrap(), &container.id]);
    assert_eq!(seen, "0\n0\n0:0\n");
    container.end();
    Ok(())
}

fn a_program_may_be_executable_by_a_capability_alone(bench: &Bench<'_>) -> Verdict {
    needs_root("a user namespace of one id has one user")?;
    let program = bench.rootfs().join("bin/owners");
    std::fs::write(&program, "#!/bin/sh\necho executed\n").unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o744)).unwrap();
    let configure = |config: &mut Value, capabilities: &[&str]| {
        config["process"]["args"] = json!(["owners"]);
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            config["process"]["capabilities"][set] = json!(capabilities);
        }
    };
    bench.configure("", |config| configure(config, &["CAP_DAC_OVERRIDE"]));
    let container = bench.create("owners");
    container.start_alone();
    container.await_end();
    assert_eq!(container.output(), "executed\n");
    container.delete();
    bench.refuses_to_create(|config| configure(config, &["CAP_KILL"]));
    Ok(())
}

fn an_empty_home_is_the_users(bench: &Bench<'_>) -> Verdict {
    std::fs::write(bench.rootfs().join("etc/passwd"), "root:x:0:0::/of/root:/bin/sh\n").unwrap();
    let seen = bench.output("echo $HOME; env | grep -c ^HOME=", |config| {
        config["process"]["env"] = json!(["PATH=/bin", "HOME="]);
    });
    assert_eq!(seen, "/of/root\n1\n");
    Ok(())
}

fn the_oom_score_is_adjusted(bench: &Bench<'_>) -> Verdict {
    for value in [500, 1000] {
        let seen = bench.output("cat /proc/self/oom_score_adj", |config| {
            config["process"]["oomScoreAdj"] = json!(value);
        });
        assert_eq!(seen, format!("{value}\n"));
    }
    Ok(())
}

fn limits_are_the_processs(bench: &Bench<'_>) -> Verdict {
    let gigabytes = |count: u64| count << 30;
    let limits = [
        ("RLIMIT_AS", "Max address space", gigabytes(8), gigabytes(9)),
        ("RLIMIT_CORE", "Max core file size", gigabytes(3), gigabytes(4)),
        ("RLIMIT_CPU", "Max cpu time", 120, 130),
        ("RLIMIT_DATA", "Max data size", gigabytes(5), gigabytes(6)),
        ("RLIMIT_FSIZE", "Max file size", gigabytes(7), gigabytes(8)),
        ("RLIMIT_LOCKS", "Max file locks", 10, 11),
        ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
        ("RLIMIT_MSGQUEUE", "Max msgqueue size", 4096, 8192),
        ("RLIMIT_NICE", "Max nice priority", 0, 0),
        ("RLIMIT_NOFILE", "Max open files", 100, 200),
        ("RLIMIT_NPROC", "Max processes", 1000, 2000),
        ("RLIMIT_RSS", "Max resident set", gigabytes(1), gigabytes(2)),
        ("RLIMIT_RTPRIO", "Max realtime priority", 0, 0),
        ("RLIMIT_SIGPENDING", "Max pending signals", 100, 200),
        ("RLIMIT_STACK", "Max stack size", 1 << 20, 2 << 20),
    ];
    let seen = bench.output("cat /proc/self/limits", |config| {
        let entries = limits.map(|(kind, _, soft, hard)| json!({ "type": kind, "soft": soft, "hard": hard }));
        config["process"]["rlimits"] = json!(entries);
    });
    for (kind, name, soft, hard) in limits {
        let line = seen.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{seen}"));
        let words: Vec<_> = line.split_whitespace().take(2).collect();
        assert_eq!(words, [soft.to_string(), hard.to_string()], "{kind}");
    }
    Ok(())
}

fn a_limit_that_does_not_exist_is_an_error(bench: &Bench<'_>) -> Verdict {
    bench.refuses_to_create(|config| {
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_TEST", "soft": 1024, "hard": 1024 }]);
    });
    Ok(())
}

fn an_apparmor_profile_is_the_processs(bench: &Bench<'_>) -> Verdict {
    if !Path::new("/sys/module/apparmor").exists() {
        return Err(NotHere("AppArmor is not enabled on this host".into()));
    }
    let seen = bench.output("cat /proc/self/attr/current", |config| {
        config["process"]["apparmorProfile"] = json!("unconfined");
    });
    assert!(seen.starts_with("unconfined"), "{seen}");
    Ok(())
}

/// What is allowed but for the rules, which the checker tries.
fn profile(rules: &Value) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": rules,
    })
}

fn each_rule_of_a_filter_has_its_action(bench: &Bench<'_>) -> Verdict {
    let rules = json!([
        { "names": ["getpriority", "setns"], "action": "SCMP_ACT_ERRNO" },
        { "names": ["sched_getscheduler"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 },
        { "names": ["flock"], "action": "SCMP_ACT_LOG" },
        { "names": ["ptrace"], "action": "SCMP_ACT_TRAP" },
        { "names": ["inotify_add_watch"], "action": "SCMP_ACT_KILL" },
        { "names": ["timerfd_settime"], "action": "SCMP_ACT_KILL_PROCESS" },
        // Both conditions hold, and one of two does not.
        { "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 16, "args": [
            { "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }, { "index": 1, "value": 900, "op": "SCMP_CMP_GT" },
        ] },
        { "names": ["getrusage"], "action": "SCMP_ACT_ERRNO", "errnoRet": 16, "args": [
            { "index": 0, "value": 99, "op": "SCMP_CMP_EQ" }, { "index": 1, "value": 900, "op": "SCMP_CMP_GT" },
        ] },
        { "names": ["eventfd2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 16, "args": [
            { "index": 1, "value": 0x40, "valueTwo": 0x40, "op": "SCMP_CMP_MASKED_EQ" },
        ] },
    ]);
    for no_new_privileges in [false, true] {
        bench.output("true", |config| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["linux"]["seccomp"] = profile(&rules);
        });
    }
    Ok(())
}

fn a_filter_refuses_what_a_runtime_may_want_itself(bench: &Bench<'_>) -> Verdict {
    let rules = json!([{
        "names": ["getcwd", "close_range", "mount", "unshare", "setns", "openat2", "pidfd_open"],
        "action": "SCMP_ACT_ERRNO",
    }]);
    let seen = bench.output("/bin/pwd 2>&1 || echo refused; /bin/ls -d /tmp", |config| {
        config["linux"]["seccomp"] = profile(&rules);
    });
    assert!(seen.contains("not permitted") && seen.ends_with("refused\n/tmp\n"), "{seen}");
    Ok(())
}
