//! `process`: priorities, policies, limits and labels.

use crate::kit::{is_root, line_of, skip, stage, status_line};
use crate::properties::{builder, end, exec, refusal, seen, sleeping, unsupported};
use cofferdam::{Error, Exec};
use serde_json::{Value, json};

/// Field `number`, as proc_pid_stat(5) counts, of the file's text.
fn stat_field(stat: &str, number: usize) -> &str {
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(number - 3).unwrap()
}

#[test]
fn a_scheduling_policy_and_a_nice_value_are_the_processs() {
    let stage = stage!();
    let stat = seen(&stage, "cat /proc/self/stat", |config| {
        config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
    });
    assert_eq!((stat_field(&stat, 41), stat_field(&stat, 19)), ("3", "7"));

    let container = sleeping(&stage, |config| {
        config["process"]["scheduler"] = json!({"policy": "SCHED_IDLE"});
    });
    assert_eq!(stat_field(&exec(&container, "cat /proc/1/stat"), 41), "5");
    assert_eq!(stat_field(&exec(&container, "cat /proc/self/stat"), 41), "5", "of an executed process, too");
    end(container);
}

#[test]
fn a_real_time_policy_is_applied_or_refused_by_name() {
    let stage = stage!();
    let ask = |config: &mut Value| {
        config["process"]["scheduler"] =
            json!({"policy": "SCHED_RR", "priority": 10, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    };
    if is_root() {
        // The shell's own entry: its children do not inherit the policy.
        let stat =
            seen(&stage, "read -r stat </proc/self/stat; echo \"$stat\"; cat /proc/self/stat; true", ask);
        let mut lines = stat.lines();
        let shell = lines.next().unwrap();
        assert_eq!((stat_field(shell, 41), stat_field(shell, 40)), ("2", "10"));
        assert_eq!(stat_field(lines.next().unwrap(), 41), "0");
    } else {
        let error = refusal(&stage, ask);
        assert_eq!(error.step(), "init: process.scheduler", "{error}");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    }
}

#[test]
fn a_process_with_a_deadline_has_start_hooks_like_any_other() {
    let stage = stage!();
    if !is_root() {
        skip!("only root is promised time");
    }
    // A shell that reads and writes by itself: it could not fork.
    let script = "for file in /proc/self/stat /tmp/hook; do read -r stat <$file; echo \"$stat\"; done";
    let container = builder(&stage, script, |config| {
        config["process"]["scheduler"] = json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 10_000_000});
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "cat /proc/self/stat >/tmp/hook"]});
        config["hooks"] = json!({"startContainer": [hook]});
    });
    let stats = match container.output() {
        Err(error)
            if error.step() == "init: process.scheduler" && error.raw_os_error() == Some(libc::EBUSY) =>
        {
            skip!("this host has no time to promise: {error}");
        }
        output => String::from_utf8(output.unwrap().stdout).unwrap(),
    };
    let policies: Vec<_> = stats.lines().map(|stat| stat_field(stat, 41)).collect();
    assert_eq!(policies, ["6", "0"], "the process, and the hook: {stats}");
}

#[test]
fn an_io_priority_is_the_processs() {
    let stage = stage!();
    let container = sleeping(&stage, |config| {
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    });
    assert_eq!(io_priority(container.init_pid()), 2 << 13 | 6);
    end(container);
    let ask = |config: &mut Value| {
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_RT", "priority": 0});
    };
    if is_root() {
        let container = sleeping(&stage, ask);
        assert_eq!(io_priority(container.init_pid()), 1 << 13);
        end(container);
    } else {
        assert_eq!(refusal(&stage, ask).step(), "init: process.ioPriority");
    }
}

#[expect(unsafe_code, reason = "no crate here has ioprio_get(2)")]
fn io_priority(pid: i32) -> i64 {
    // SAFETY: integers only.
    unsafe { libc::syscall(libc::SYS_ioprio_get, 1, pid) }
}

#[test]
fn an_executed_process_runs_on_the_processors_of_its_affinity_and_init_does_not() {
    let stage = stage!();
    let allowed = status_line("self", "Cpus_allowed_list");
    let container = sleeping(&stage, |config| {
        config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    });
    let of = |file| line_of(&exec(&container, &format!("cat {file}")), "Cpus_allowed_list");
    assert_eq!(of("/proc/self/status"), "0");
    assert_eq!(of("/proc/1/status"), allowed);
    end(container);
}

#[test]
fn a_personality_is_the_machine_the_process_sees() {
    let stage = stage!();
    let container = sleeping(&stage, |config| {
        config["linux"]["personality"] = json!({"domain": "LINUX32"});
    });
    assert_eq!(exec(&container, "cat /proc/1/personality"), "00000008");
    assert_eq!(exec(&container, "cat /proc/self/personality"), "00000008");
    end(container);
}

#[test]
fn a_memory_policy_is_the_processs() {
    let stage = stage!();
    let maps = seen(&stage, "cat /proc/self/numa_maps", |config| {
        config["linux"]["memoryPolicy"] =
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    });
    assert!(maps.lines().all(|line| line.contains(" bind=static:0")), "{maps}");
    let error = refusal(&stage, |config| {
        config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "1000"});
    });
    assert_eq!(error.step(), "init: linux.memoryPolicy", "{error}");
}

#[test]
fn what_the_kernel_denies_a_process_is_the_creations_error() {
    let stage = stage!();
    let nodes = json!({"mode": "MPOL_BIND", "nodes": "1000"});
    // No process may have more than the kernel has numbers for, whatever its privileges (fs.nr_open).
    let limit = json!([{"type": "RLIMIT_NOFILE", "soft": 16, "hard": u64::MAX - 1}]);
    // A deadline that is over before it begins.
    let deadline = json!({"policy": "SCHED_DEADLINE", "runtime": 5000, "deadline": 3000, "period": 2000});
    for (section, name, value) in
        [("process", "rlimits", limit), ("process", "scheduler", deadline), ("linux", "memoryPolicy", nodes)]
    {
        let created =
            builder(&stage, "true", |config| config[section][name] = value).build().unwrap().create();
        let error = Error::from(created.expect_err(name));
        assert_eq!(error.step(), format!("init: {section}.{name}"), "{error}");
    }
}

#[test]
fn capabilities_that_the_caller_has_not_are_the_creations_error() {
    let stage = stage!();
    let held = u64::from_str_radix(&status_line("self", "CapPrm"), 16).unwrap();
    let missing = (0..=40_u8).find(|number| held >> number & 1 == 0);
    let missing = caps::all().into_iter().find(|capability| Some(capability.index()) == missing);
    let Some(missing) = missing.filter(|_| is_root()) else {
        skip!("root has every capability here, and the maker of a user namespace has them all in it");
    };
    let names = json!([missing.to_string()]);
    let created = builder(&stage, "true", |config| {
        config["process"]["capabilities"] = json!({"bounding": names, "permitted": names});
    });
    let error = Error::from(created.build().unwrap().create().expect_err("not held"));
    assert_eq!(*error.kind(), unsupported("process.capabilities"), "{error}");
}

#[test]
fn a_limit_of_fewer_descriptors_than_we_need_ourselves_is_the_processs() {
    let stage = stage!();
    let container = sleeping(&stage, |config| {
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6}]);
    });
    let limits = exec(&container, "cat /proc/1/limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["5", "6"]);
    end(container);
}

#[test]
fn a_users_process_may_begin_where_only_root_gets() {
    let stage = stage!();
    if !is_root() {
        skip!("needs a second user");
    }
    let secret = stage.busybox().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::set_permissions(secret, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let seen = seen(&stage, "pwd; id -u", |config| {
        config["process"]["cwd"] = json!("/secret");
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    assert_eq!(seen, "/secret\n1000");
}

#[test]
fn labels_are_refused_where_their_module_is_not_enabled() {
    let stage = stage!();
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap();
    let apparmor = std::path::Path::new("/sys/module/apparmor").exists();
    for (section, name, module, enabled) in [
        ("process", "apparmorProfile", "AppArmor", apparmor),
        ("process", "selinuxLabel", "SELinux", filesystems.contains("selinuxfs")),
        ("linux", "mountLabel", "SELinux", filesystems.contains("selinuxfs")),
    ] {
        if enabled {
            skip!("{module} is enabled here, and what its policy says is the administrator's");
        }
        let error = refusal(&stage, |config| config[section][name] = json!("some_label"));
        assert_eq!(*error.kind(), unsupported(&format!("{section}.{name}")));
        assert_eq!(error.to_string(), format!("{section}.{name}: {module} is not enabled on this host"));
    }
    let container = sleeping(&stage, |_| {});
    for (name, module) in [("apparmorProfile", "AppArmor"), ("selinuxLabel", "SELinux")] {
        let process = json!({"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}, name: "some_label"});
        let error = container.exec(Exec::from_oci(serde_json::from_value(process).unwrap())).unwrap_err();
        assert_eq!(error.to_string(), format!("process.{name}: {module} is not enabled on this host"));
    }
    end(container);
}
