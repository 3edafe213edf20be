//! Properties of the OCI runtime specification, each asked for in a bundle and looked at from inside a real container.

#![expect(clippy::disallowed_methods, reason = "tests write bundles, and look at the host with plain tools")]

mod common;

use cofferdam::{Container, ContainerBuilder, Error, ErrorKind, Exec, Outcome, Running};
use common::bundle::add_mount;
use common::{Stage, is_root, line_of, skip, stdout_of};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A bundle of busybox that runs `script` with its own namespaces but that of users, where the caller may do without;
/// then edited.
fn bundle(stage: &Stage, script: &str, edit: impl FnOnce(&mut Value)) -> PathBuf {
    let mut kinds = vec!["mount", "pid", "network", "ipc", "uts"];
    let mut linux = json!({});
    if !is_root() {
        kinds.push("user");
        let ids = |own: u32| json!([{"containerID": 0, "hostID": own, "size": 1}]);
        linux["uidMappings"] = ids(rustix::process::geteuid().as_raw());
        linux["gidMappings"] = ids(rustix::process::getegid().as_raw());
    }
    linux["namespaces"] = kinds.iter().map(|kind| json!({"type": kind})).collect();
    let mut config = json!({
        "ociVersion": "1.2.0",
        "process": {"args": ["sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0},
                    "noNewPrivileges": true},
        "root": {"path": stage.busybox()},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": linux,
    });
    edit(&mut config);
    let bundle = tempfile::Builder::new().prefix("bundle").tempdir_in(stage.path()).unwrap().keep();
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    bundle
}

fn builder(stage: &Stage, script: &str, edit: impl FnOnce(&mut Value)) -> ContainerBuilder {
    let bundle = bundle(stage, script, edit);
    let id = stage.id(bundle.file_name().unwrap().to_str().unwrap());
    ContainerBuilder::from_bundle(id.replace('.', ""), bundle).unwrap().state_root(stage.root().clone())
}

/// What a container of the edited bundle writes.
fn seen(stage: &Stage, script: &str, edit: impl FnOnce(&mut Value)) -> String {
    stdout_of(builder(stage, script, edit))
}

/// Why the edited bundle is not run.
fn refusal(stage: &Stage, edit: impl FnOnce(&mut Value)) -> Error {
    let bundle = bundle(stage, "true", edit);
    stage.bundled("refused", &bundle).and_then(ContainerBuilder::output).expect_err("it is refused")
}

fn unsupported(feature: &str) -> ErrorKind {
    ErrorKind::Unsupported { feature: feature.into() }
}

/// A container that goes on until it is killed.
fn sleeping(stage: &Stage, edit: impl FnOnce(&mut Value)) -> Container<Running> {
    builder(stage, "sleep 1000", edit).build().unwrap().create().unwrap().start().unwrap()
}

/// What a further process in it writes.
fn exec(container: &Container<Running>, script: &str) -> String {
    let output = container.exec_output(Exec::new(["sh", "-c", script])).unwrap();
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn end(container: Container<Running>) {
    container.stop(std::time::Duration::ZERO).unwrap().delete().unwrap();
}

/// Field `number`, as proc_pid_stat(5) counts, of the file's text.
fn stat_field(stat: &str, number: usize) -> &str {
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(number - 3).unwrap()
}

#[test]
fn a_scheduling_policy_and_a_nice_value_are_the_processs() {
    let stage = Stage::new();
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
    let stage = Stage::new();
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
    let stage = Stage::new();
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
    let stage = Stage::new();
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
    let stage = Stage::new();
    let allowed = common::status_line("self", "Cpus_allowed_list");
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
    let stage = Stage::new();
    let container = sleeping(&stage, |config| {
        config["linux"]["personality"] = json!({"domain": "LINUX32"});
    });
    assert_eq!(exec(&container, "cat /proc/1/personality"), "00000008");
    assert_eq!(exec(&container, "cat /proc/self/personality"), "00000008");
    end(container);
}

#[test]
fn a_memory_policy_is_the_processs() {
    let stage = Stage::new();
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
    let stage = Stage::new();
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
    let stage = Stage::new();
    let held = u64::from_str_radix(&common::status_line("self", "CapPrm"), 16).unwrap();
    let missing = (0..=40_u8).find(|number| held >> number & 1 == 0);
    let missing = caps::all().into_iter().find(|capability| Some(capability.index()) == missing);
    let Some(missing) = missing.filter(|_| is_root()) else {
        skip!("root has every capability here, or whoever makes a user namespace has them all there");
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
    let stage = Stage::new();
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
    let stage = Stage::new();
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
    let stage = Stage::new();
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

#[test]
fn the_clocks_of_a_time_namespace_are_ahead_by_their_offsets() {
    let stage = Stage::new();
    let host: f64 = uptime(&std::fs::read_to_string("/proc/uptime").unwrap());
    let script = "cat /proc/uptime; cat /proc/self/timens_offsets";
    let container = sleeping(&stage, |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] =
            json!({"boottime": {"secs": 1_000_000, "nanosecs": 5}, "monotonic": {"secs": 2000}});
    });
    for pid in ["1", "self"] {
        let offsets = exec(&container, &format!("cat /proc/{pid}/timens_offsets"));
        let words: Vec<_> = offsets.split_whitespace().collect();
        assert_eq!(words, ["monotonic", "2000", "0", "boottime", "1000000", "5"], "{pid}");
    }
    let inside = uptime(&exec(&container, script));
    assert!((1_000_000.0..1_000_100.0).contains(&(inside - host)), "{inside} {host}");
    // Another container joins it by its path.
    if is_root() {
        let path = format!("/proc/{}/ns/time", container.init_pid());
        let joined = builder(&stage, script, |config| {
            let kinds = config["linux"]["namespaces"].as_array_mut().unwrap();
            kinds.push(json!({"type": "time", "path": path}));
        });
        let joined = uptime(&stdout_of(joined));
        assert!((joined - inside).abs() < 100.0, "{joined} {inside}");
    }
    end(container);
}

fn uptime(text: &str) -> f64 {
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// The options of the mount at `at`, its optional fields, and its type, from the text of a mountinfo.
fn mount_at<'a>(mountinfo: &'a str, at: &str) -> (Vec<&'a str>, &'a str, &'a str) {
    let line = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some(at));
    let line = line.unwrap_or_else(|| panic!("nothing is mounted at {at}:\n{mountinfo}"));
    let (mount, file_system) = line.split_once(" - ").unwrap();
    let options = mount.split(' ').nth(5).unwrap().split(',').collect();
    let optional = mount.splitn(7, ' ').nth(6).unwrap_or("");
    (options, optional, file_system)
}

#[test]
fn every_option_of_a_mount_is_its_mounts() {
    let stage = Stage::new();
    let shared = stage.open_directory("shared");
    let mut options = vec!["nosuid", "nodev", "noexec", "nosymfollow", "ro"];
    // In a user namespace the times of access stay as the host's mounts have them (mount_namespaces(7)).
    if is_root() {
        options.extend(["noatime", "nodiratime"]);
    }
    let seen = seen(&stage, "cat /proc/self/mountinfo", |config| {
        add_mount(
            config,
            json!({"destination": "/plain", "type": "bind", "source": shared, "options": ["bind", "private"]}),
        );
        for (index, option) in options.iter().enumerate() {
            let (at, tree) = (format!("/one{index}"), format!("/tree{index}"));
            let bind = |at: &str, option: &str| json!({"destination": at, "source": shared, "options": ["rbind", option]});
            add_mount(config, bind(&at, option));
            add_mount(config, bind(&tree, &format!("r{option}")));
        }
        let words = ["size=64k", "mode=1700", "nr_inodes=16", "noswap"];
        let words: Vec<_> = words.into_iter().filter(|word| is_root() || *word != "noswap").collect();
        add_mount(config, json!({"destination": "/tmpfs", "type": "tmpfs", "options": words}));
    });
    let plain = mount_at(&seen, "/plain").0;
    for (index, option) in options.iter().enumerate() {
        for at in [format!("/one{index}"), format!("/tree{index}")] {
            assert!(mount_at(&seen, &at).0.contains(option), "{option} at {at}:\n{seen}");
        }
        assert!(!plain.contains(option) || *option == "nosuid" || *option == "nodev", "{plain:?}");
    }
    let (_, _, tmpfs) = mount_at(&seen, "/tmpfs");
    for word in ["size=64k", "mode=1700", "nr_inodes=16"] {
        assert!(tmpfs.contains(word), "{tmpfs}");
    }
}

#[test]
fn a_recursive_option_reaches_what_is_mounted_below() {
    let stage = Stage::new();
    if !is_root() {
        skip!("only root can mount something below a volume");
    }
    let volume = stage.open_directory("volume");
    let below = Mounted::tmpfs(volume.join("below"));
    let seen = seen(&stage, "cat /proc/self/mountinfo", |config| {
        let bind =
            |at: &str, options: &[&str]| json!({"destination": at, "source": volume, "options": options});
        add_mount(config, bind("/one", &["rbind", "ro"]));
        add_mount(config, bind("/tree", &["rbind", "rro"]));
    });
    drop(below);
    assert!(
        mount_at(&seen, "/one").0.contains(&"ro") && mount_at(&seen, "/one/below").0.contains(&"rw"),
        "{seen}"
    );
    assert!(
        mount_at(&seen, "/tree").0.contains(&"ro") && mount_at(&seen, "/tree/below").0.contains(&"ro"),
        "{seen}"
    );
}

#[test]
fn an_option_that_takes_a_flag_off_does_so_on_the_mount_or_on_the_tree() {
    let stage = Stage::new();
    if !is_root() {
        skip!("in a user namespace the flags of the host's mounts are locked");
    }
    let volume = stage.open_directory("volume");
    let flags = "ro,nosuid,nodev,noexec,nosymfollow,noatime,nodiratime";
    let top = Mounted::tmpfs(volume.clone());
    let below = Mounted::tmpfs(volume.join("below"));
    for Mounted(at) in [&below, &top] {
        run("mount", &["-o", &format!("remount,bind,{flags}"), at.to_str().unwrap()]);
    }
    let words = [
        ("rw", "ro"),
        ("suid", "nosuid"),
        ("dev", "nodev"),
        ("exec", "noexec"),
        ("symfollow", "nosymfollow"),
        ("atime", "noatime"),
        ("strictatime", "noatime"),
        ("diratime", "nodiratime"),
    ];
    let seen = seen(&stage, "cat /proc/self/mountinfo", |config| {
        let bind =
            |at: &str, word: &str| json!({"destination": at, "source": volume, "options": ["rbind", word]});
        for (word, _) in words {
            add_mount(config, bind(&format!("/one-{word}"), word));
            add_mount(config, bind(&format!("/tree-{word}"), &format!("r{word}")));
        }
        add_mount(config, bind("/tree-relatime", "rrelatime"));
    });
    drop((below, top));
    let has = |at: String, flag: &str| mount_at(&seen, &at).0.contains(&flag);
    for (word, flag) in words {
        assert!(
            !has(format!("/one-{word}"), flag) && has(format!("/one-{word}/below"), flag),
            "{word}: {seen}"
        );
        for at in [format!("/tree-{word}"), format!("/tree-{word}/below")] {
            assert!(!has(at.clone(), flag), "r{word} at {at}: {seen}");
            assert_eq!(has(at.clone(), "relatime"), word == "atime", "r{word} at {at}: {seen}");
        }
    }
    assert!(has("/tree-relatime/below".to_owned(), "relatime"), "{seen}");
}

#[test]
fn a_tmpfs_begins_with_what_it_covers_where_that_is_asked_for() {
    let stage = Stage::new();
    let covered = stage.busybox().join("covered");
    std::fs::create_dir_all(covered.join("directory")).unwrap();
    std::fs::write(covered.join("directory/file"), "kept").unwrap();
    std::os::unix::fs::symlink("directory/file", covered.join("link")).unwrap();
    let script = "cat /covered/link; echo more > /covered/directory/file; ls /empty; stat -f -c %T /covered";
    let seen = seen(&stage, script, |config| {
        let tmpfs = |options: &[&str]| json!({"type": "tmpfs", "source": "tmpfs", "options": options});
        let mut copied = tmpfs(&["tmpcopyup", "size=1m"]);
        copied["destination"] = json!("/covered");
        let mut empty = tmpfs(&["size=1m"]);
        empty["destination"] = json!("/empty");
        add_mount(config, copied);
        add_mount(config, empty);
    });
    assert_eq!(seen, "kepttmpfs");
    assert_eq!(std::fs::read_to_string(covered.join("directory/file")).unwrap(), "kept", "a copy");
}

/// A file system that the test mounted, unmounted in the end.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: PathBuf) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        run("mount", &["-t", "tmpfs", "tmpfs", at.to_str().unwrap()]);
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[self.0.to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = std::process::Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

#[test]
fn an_id_mapped_volume_shows_the_ids_of_its_mappings() {
    let stage = Stage::new();
    let volume = stage.open_directory("volume");
    std::fs::write(volume.join("file"), "").unwrap();
    let maps = |first: u32| json!([{"containerID": first, "hostID": 5000, "size": 10}]);
    let own = rustix::process::geteuid().as_raw();
    let ask = |config: &mut Value, extra: Value| {
        let mut mount = json!({"destination": "/volume", "source": volume, "options": ["rbind", "idmap"]});
        mount.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        add_mount(config, mount);
    };
    let with_maps =
        json!({"uidMappings": maps(own), "gidMappings": maps(rustix::process::getegid().as_raw())});
    if is_root() {
        let seen = seen(&stage, "stat -c %u:%g /volume/file", |config| ask(config, with_maps.clone()));
        assert_eq!(seen, "5000:5000");
        let recursive = self::seen(&stage, "stat -c %u:%g /volume/file", |config| {
            ask(
                config,
                json!({"uidMappings": maps(own), "gidMappings": maps(own), "options": ["rbind", "ridmap"]}),
            );
        });
        assert_eq!(recursive, "5000:5000");
        // Without mappings of its own it takes the container's: root's file is the container's root's.
        let through = self::seen(&stage, "stat -c %u:%g /volume/file", |config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            for name in ["uidMappings", "gidMappings"] {
                config["linux"][name] = json!([{"containerID": 0, "hostID": 700_000, "size": 1000}]);
            }
            stage.open_to_everybody();
            ask(config, json!({}));
        });
        assert_eq!(through, "0:0");
    } else {
        let error = refusal(&stage, |config| ask(config, with_maps.clone()));
        assert_eq!(*error.kind(), unsupported("mounts[1].options"), "{error}");
    }
}

/// Lets every user pass through the test's directory.
#[test]
fn a_file_system_the_crate_has_no_name_for_is_mounted_with_its_options() {
    let stage = Stage::new();
    if !is_root() {
        skip!("overlay of a directory of nobody's needs its own user namespace to have been asked for");
    }
    let directories = ["lower", "upper", "work"].map(|name| stage.open_directory(name));
    std::fs::write(directories[0].join("from-below"), "").unwrap();
    let [lower, upper, work] = directories.map(|path| path.display().to_string());
    let script = "ls /merged; touch /merged/new && echo written";
    let seen = seen(&stage, script, |config| {
        add_mount(
            config,
            json!({"destination": "/merged", "type": "overlay", "source": "overlay", "options":
                [format!("lowerdir={lower}"), format!("upperdir={upper}"), format!("workdir={work}"), "nodev"]}),
        );
    });
    assert_eq!(seen, "from-below\nwritten");
    assert!(stage.path().join("upper/new").exists());
}

#[test]
fn a_proc_that_hides_processes_is_mounted_so() {
    let stage = Stage::new();
    let container =
        sleeping(&stage, |config| config["mounts"][0]["options"] = json!(["hidepid=2", "nosuid"]));
    let mounts = exec(&container, "cat /proc/self/mountinfo");
    let (_, _, proc) = mount_at(&mounts, "/proc");
    assert!(proc.contains("hidepid=invisible") || proc.contains("hidepid=2"), "{proc}");
    assert_eq!(container.processes().unwrap().len(), 1, "and they are seen from outside");
    end(container);
}

#[test]
fn a_cgroup_mount_shows_the_containers_own_cgroups() {
    let stage = Stage::new();
    let script = "cat /proc/self/mountinfo; ls /cg; cat /cg/pids/pids.max; mkdir /cg/pids/x 2>/dev/null && echo made; true";
    let v1 = std::path::Path::new("/sys/fs/cgroup/pids/cgroup.procs").exists();
    if !is_root() || !v1 {
        skip!("limits need a v1 hierarchy that the caller may write to");
    }
    for (options, wanted) in [(json!(["ro"]), "ro"), (json!([]), "rw")] {
        let seen = seen(&stage, script, |config| {
            config["linux"]["resources"] = json!({"pids": {"limit": 77}});
            add_mount(
                config,
                json!({"destination": "/cg", "type": "cgroup", "source": "cgroup", "options": options}),
            );
        });
        assert!(mount_at(&seen, "/cg").2.starts_with("tmpfs"), "{seen}");
        assert!(mount_at(&seen, "/cg").0.contains(&wanted), "{seen}");
        assert!(mount_at(&seen, "/cg/pids").0.contains(&wanted), "{seen}");
        assert!(seen.contains("\n77"), "{seen}");
        assert_eq!(seen.ends_with("made"), wanted == "rw", "{seen}");
    }
    // The unified hierarchy by its own name: the caller's, where the container has no part of it, and then read-only.
    if std::path::Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
        let seen = seen(&stage, "cat /proc/self/mountinfo", |config| {
            add_mount(
                config,
                json!({"destination": "/cg", "type": "cgroup2", "source": "cgroup", "options": ["nosuid"]}),
            );
        });
        assert!(mount_at(&seen, "/cg").2.starts_with("cgroup2"), "{seen}");
    }
}

#[test]
fn mount_events_pass_as_the_propagation_of_the_root_says() {
    let stage = Stage::new();
    if !is_root() {
        skip!("only root can mount something the container could see");
    }
    let volume = Mounted::tmpfs(stage.path().join("volume"));
    run("mount", &["--make-shared", volume.0.to_str().unwrap()]);
    for (root, option, from_host, to_host) in [
        ("private", "rprivate", false, false),
        ("rslave", "rslave", true, false),
        ("rshared", "rshared", true, true),
    ] {
        let container = sleeping(&stage, |config| {
            config["linux"]["rootfsPropagation"] = json!(root);
            config["process"]["capabilities"] = ["bounding", "effective", "permitted"]
                .map(|set| (set.to_owned(), json!(["CAP_SYS_ADMIN"])))
                .into_iter()
                .collect();
            add_mount(
                config,
                json!({"destination": "/volume", "source": volume.0, "options": ["rbind", option]}),
            );
        });
        let late = Mounted::tmpfs(volume.0.join("late"));
        let sees = exec(&container, "cat /proc/self/mountinfo").contains(" /volume/late ");
        drop(late);
        assert_eq!(sees, from_host, "{root}: the host's");
        let made = exec(&container, "mkdir -p /volume/made && mount -t tmpfs tmpfs /volume/made && echo ok");
        assert_eq!(made, "ok");
        let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let passed = host.contains(&format!(" {}/made ", volume.0.display()));
        assert_eq!(passed, to_host, "{root}: the container's");
        exec(&container, "umount /volume/made");
        end(container);
    }
    let optional = |propagation: &str| {
        let text = seen(&stage, "cat /proc/self/mountinfo", |config| {
            config["linux"]["rootfsPropagation"] = json!(propagation);
        });
        mount_at(&text, "/").1.to_owned()
    };
    assert_eq!(optional("private"), "");
    assert!(optional("shared").starts_with("shared:"));
    assert_eq!(optional("unbindable"), "unbindable");
}

/// An agent at a socket: takes one listener, and answers what it notifies with `errno` until it is told to end.
struct Agent {
    socket: PathBuf,
    thread: std::thread::JoinHandle<(Value, Vec<i32>)>,
}

impl Agent {
    /// Answers `count` notifications: of the call `refused` with an errno, of all others by letting them go on.
    fn new(stage: &Stage, refused: i64) -> Self {
        let socket = stage.path().join("agent.sock");
        let _ = std::fs::remove_file(&socket);
        let server = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let thread = std::thread::spawn(move || {
            let (stream, _) = server.accept().unwrap();
            let (state, listener) = receive_state(&stream);
            (state, answer_all(&listener, refused))
        });
        Self { socket, thread }
    }

    /// What it was told, and the calls it was asked about. The container has ended by now.
    fn end(self) -> (Value, Vec<i32>) {
        self.thread.join().unwrap()
    }
}

fn receive_state(stream: &std::os::unix::net::UnixStream) -> (Value, std::os::fd::OwnedFd) {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut bytes = vec![0; 64 << 10];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
    let received = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut fds: Vec<_> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(fds.len(), 1);
    let state = serde_json::from_slice(&bytes[..received.bytes]).unwrap();
    let mut rest = [0];
    assert_eq!(std::io::Read::read(&mut &*stream, &mut rest).unwrap(), 0, "one state, then the end");
    (state, fds.remove(0))
}

/// seccomp_unotify(2): the calls that were notified, in order.
#[expect(unsafe_code, reason = "no crate here has the ioctls of seccomp_unotify(2)")]
fn answer_all(listener: &std::os::fd::OwnedFd, refused: i64) -> Vec<i32> {
    use std::os::fd::AsRawFd;
    const RECV: u64 = 0xc050_2100;
    const SEND: u64 = 0xc018_2101;
    const CONTINUE: u32 = 1;
    let mut calls = Vec::new();
    loop {
        // The listener hangs up when nobody with the filter is left.
        use rustix::event::{PollFd, PollFlags, poll};
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        poll(&mut fds, None).unwrap();
        if !fds[0].revents().contains(PollFlags::IN) {
            return calls;
        }
        // struct seccomp_notif: id, pid, flags, then seccomp_data with the number first.
        let mut notification = [0_u64; 10];
        // SAFETY: the buffer has the size that the request's number names.
        if unsafe { libc::ioctl(listener.as_raw_fd(), RECV, notification.as_mut_ptr()) } < 0 {
            continue;
        }
        let number = notification[2] as i32;
        calls.push(number);
        // struct seccomp_notif_resp: id, val, error, flags.
        let answer = if i64::from(number) == refused {
            [notification[0], 0, (-libc::EMLINK) as u32 as u64]
        } else {
            [notification[0], 0, u64::from(CONTINUE) << 32]
        };
        // SAFETY: as above.
        unsafe { libc::ioctl(listener.as_raw_fd(), SEND, answer.as_ptr()) };
    }
}

#[test]
fn an_agent_decides_about_the_calls_its_filter_notifies() {
    let stage = Stage::new();
    // The very calls that hand the listener over, and the one that ends the wait for it.
    let names = ["mkdir", "sendmsg", "read", "write", "close", "execve", "prctl", "capset"];
    for no_new_privileges in [true, false] {
        let agent = Agent::new(&stage, libc::SYS_mkdir);
        let socket = agent.socket.clone();
        let script = "mkdir /tmp/refused 2>&1; echo done";
        let bundle = bundle(&stage, script, |config| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": socket,
                "listenerMetadata": "for the agent",
                "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}],
            });
        });
        let id = stage.id("notified");
        let builder = ContainerBuilder::from_bundle(&id, &bundle).unwrap().state_root(stage.root().clone());
        let seen = stdout_of(builder);
        assert!(seen.contains("Too many links") && seen.ends_with("done"), "{seen}");
        assert!(!stage.busybox().join("tmp/refused").exists());
        let (state, calls) = agent.end();
        assert_eq!(state["ociVersion"], "1.2.0");
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "for the agent");
        assert_eq!((&state["state"]["id"], &state["state"]["status"]), (&json!(id), &json!("created")));
        assert!(state["pid"].as_i64().unwrap() > 1 && state["state"]["pid"].as_i64().unwrap() > 1, "{state}");
        assert!(calls.contains(&(libc::SYS_execve as i32)), "{calls:?}");
    }
}

#[test]
fn an_executed_process_has_a_listener_of_its_own() {
    let stage = Stage::new();
    let agent = Agent::new(&stage, -1);
    let socket = agent.socket.clone();
    let container = sleeping(&stage, |config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": socket,
            "syscalls": [{"names": ["mkdir", "execve"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    let second = Agent::new(&stage, libc::SYS_mkdir);
    let said = exec(&container, "mkdir /tmp/refused 2>&1; true");
    assert!(said.contains("Too many links"), "{said}");
    let (state, _) = second.end();
    assert_eq!(state["state"]["status"], "running");
    // Nobody listens: the process is not executed, and the container goes on.
    std::fs::remove_file(stage.path().join("agent.sock")).unwrap();
    let error = container.exec(Exec::new(["true"])).unwrap_err();
    assert_eq!(error.step(), "linux.seccomp.listenerPath", "{error}");
    end(container);
    agent.end();
    let error = refusal(&stage, |config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": stage.path().join("nobody.sock"),
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    assert_eq!(error.step(), "linux.seccomp.listenerPath", "{error}");
}

/// Joins namespaces of a running container by their paths.
fn join(config: &mut Value, container: &Container<Running>, kinds: &[(&str, &str)]) {
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    for (kind, file) in kinds {
        list.retain(|namespace| namespace["type"] != *kind);
        let path = format!("/proc/{}/ns/{file}", container.init_pid());
        list.push(json!({"type": kind, "path": path}));
    }
}

#[test]
fn namespaces_are_joined_by_their_paths() {
    let stage = Stage::new();
    if !is_root() {
        skip!("another container's namespaces belong to its user namespace");
    }
    let other = sleeping(&stage, |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
        config["hostname"] = json!("other");
    });
    let files = ["pid", "net", "ipc", "uts", "cgroup"];
    let kinds = ["pid", "network", "ipc", "uts", "cgroup"];
    let inside = |pid: &str| format!("for f in {}; do readlink /proc/{pid}/ns/$f; done", files.join(" "));
    let theirs = exec(&other, &inside("self"));
    let pairs: Vec<_> = kinds.into_iter().zip(files).collect();
    let ours = seen(&stage, &format!("{}; hostname", inside("self")), |config| join(config, &other, &pairs));
    assert_eq!(ours, format!("{theirs}\nother"));
    // A name for a namespace that is joined is a new name for all in it.
    let renamed = seen(&stage, "hostname", |config| {
        join(config, &other, &[("uts", "uts")]);
        config["hostname"] = json!("renamed");
        config["domainname"] = json!("example.org");
    });
    assert_eq!(renamed, "renamed");
    assert_eq!(exec(&other, "hostname; cat /proc/sys/kernel/domainname"), "renamed\nexample.org");
    end(other);
}

#[test]
fn a_user_namespace_is_joined_by_its_path() {
    let stage = Stage::new();
    if !is_root() {
        skip!("another container's user namespace can be entered by its owner's root only");
    }
    stage.open_to_everybody();
    let other = sleeping(&stage, |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        for name in ["uidMappings", "gidMappings"] {
            config["linux"][name] = json!([{"containerID": 0, "hostID": 700_000, "size": 1000}]);
        }
    });
    let theirs = exec(&other, "readlink /proc/self/ns/user");
    let ours = seen(
        &stage,
        "readlink /proc/self/ns/user; id -u; cat /proc/self/uid_map; touch /dev/shm-file && stat -c %u /dev/shm-file",
        |config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.extend([json!({"type": "user"}), json!({"type": "cgroup"})]);
            join(config, &other, &[("user", "user"), ("network", "net")]);
        },
    );
    let lines: Vec<_> = ours.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3]), (theirs.as_str(), "0", "0"), "{ours}");
    assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["0", "700000", "1000"]);
    end(other);
}

#[test]
fn devices_are_made_as_they_are_described_or_are_the_hosts() {
    let stage = Stage::new();
    let script = "cd /dev; stat -c '%n %F %t:%T %a %u:%g' null-too unbuffered fifo disk 2>/dev/null; ls /dev";
    let devices = json!([
        {"path": "/dev/null-too", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 5},
        {"path": "/dev/fifo", "type": "p", "fileMode": 0o600},
        {"path": "/dev/disk", "type": "b", "major": 7, "minor": 0, "fileMode": 0o600},
    ]);
    if is_root() {
        let seen = seen(&stage, script, |config| config["linux"]["devices"] = devices.clone());
        for line in [
            "null-too character special file 1:3 640 7:8",
            "unbuffered character special file 1:5 666 0:0",
            "fifo fifo 0:0 600 0:0",
            "disk block special file 7:0 600 0:0",
        ] {
            assert!(seen.lines().any(|seen| seen == line), "{line}:\n{seen}");
        }
    }
    // In a user namespace it is the host's own node, bound, which has to be that device.
    let in_user_namespace = |config: &mut Value| {
        if is_root() {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            for name in ["uidMappings", "gidMappings"] {
                config["linux"][name] = json!([{"containerID": 0, "hostID": 700_000, "size": 1000}]);
            }
        }
    };
    stage.open_to_everybody();
    if !std::path::Path::new("/dev/fuse").exists() {
        skip!("the host has no /dev/fuse to bind");
    }
    let fuse = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}, {"path": "/dev/fifo", "type": "p"}]);
    let seen = seen(&stage, "stat -c '%F %t:%T' /dev/fuse /dev/fifo", |config| {
        in_user_namespace(config);
        config["linux"]["devices"] = fuse;
    });
    assert_eq!(seen, "character special file a:e5\nfifo 0:0");
    let error = refusal(&stage, |config| {
        in_user_namespace(config);
        config["linux"]["devices"] = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 1}]);
    });
    assert_eq!(*error.kind(), unsupported("/dev/fuse"), "{error}");
}

#[test]
fn paths_are_masked_and_read_only_and_need_not_be_there() {
    let stage = Stage::new();
    let script =
        "cat /etc/secret; ls /etc/hidden; touch /etc/fixed/x 2>&1; cat /proc/version /proc/self/mountinfo";
    let rootfs = stage.busybox();
    std::fs::write(rootfs.join("etc/secret"), "secret").unwrap();
    std::fs::create_dir_all(rootfs.join("etc/hidden/inside")).unwrap();
    std::fs::create_dir_all(rootfs.join("etc/fixed")).unwrap();
    let seen = seen(&stage, script, |config| {
        config["linux"]["maskedPaths"] =
            json!(["/etc/secret", "/etc/hidden", "/etc/nowhere/at/all", "/proc/version"]);
        config["linux"]["readonlyPaths"] = json!(["/etc/fixed", "/etc/nowhere", "/proc/sys"]);
    });
    assert!(!seen.contains("secret\n") && !seen.contains("inside"), "{seen}");
    assert!(seen.contains("Read-only file system"), "{seen}");
    assert!(mount_at(&seen, "/proc/sys").0.contains(&"ro"), "{seen}");
    assert!(!seen.contains("Linux version"), "{seen}");
    assert!(!rootfs.join("etc/nowhere").exists());
}

#[test]
fn kernel_parameters_of_its_namespaces_are_the_containers() {
    let stage = Stage::new();
    let values = [
        ("kernel.msgmax", "4096"),
        ("kernel.shm_rmid_forced", "1"),
        ("fs.mqueue.msg_max", "5"),
        ("net.ipv4.ip_forward", "1"),
        ("kernel.domainname", "example.org"),
    ];
    let files: Vec<_> =
        values.iter().map(|(name, _)| format!("/proc/sys/{}", name.replace('.', "/"))).collect();
    let seen = seen(&stage, &format!("cat {}", files.join(" ")), |config| {
        config["linux"]["sysctl"] =
            values.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    });
    assert_eq!(seen.lines().collect::<Vec<_>>(), values.map(|(_, value)| value));
}

/// How a container whose shell makes a directory ends, under this rule for it.
fn outcome_of_mkdir(stage: &Stage, rule: Value) -> (Outcome, String) {
    let output = builder(stage, "mkdir /tmp/x 2>&1; echo went on $?", |config| {
        let mut rule = rule;
        rule["names"] = json!(["mkdir", "mkdirat"]);
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
            "syscalls": [rule],
        });
    });
    let output = output.output().unwrap();
    let _ = std::fs::remove_dir(stage.busybox().join("tmp/x"));
    (output.exit.outcome, String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[test]
fn every_action_of_a_filter_does_what_it_is_called() {
    let stage = Stage::new();
    let said = |rule: Value| outcome_of_mkdir(&stage, rule).1;
    assert_eq!(said(json!({"action": "SCMP_ACT_ALLOW"})), "went on 0");
    assert_eq!(said(json!({"action": "SCMP_ACT_LOG"})), "went on 0");
    let errno = said(json!({"action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV}));
    assert!(errno.contains("link") && errno.ends_with("went on 1"), "{errno}");
    let default = said(json!({"action": "SCMP_ACT_ERRNO"}));
    assert!(default.contains("not permitted"), "{default}");
    // Without a tracer there is no such call (seccomp(2)).
    let traced = said(json!({"action": "SCMP_ACT_TRACE", "errnoRet": 5}));
    assert!(traced.contains("not implemented"), "{traced}");
    // The shell's child dies of SIGSYS, and the shell says so.
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let killed = said(json!({"action": action}));
        assert!(killed.ends_with("went on 159"), "{action}: {killed}");
    }
    let arg = |mode: u32| {
        said(json!({"action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV,
            "args": [{"index": 1, "value": mode, "op": "SCMP_CMP_EQ"}]}))
    };
    assert!(arg(0o777).ends_with("went on 1"));
    assert_eq!(arg(0o123), "went on 0");
}

#[test]
fn unknown_properties_are_ignored() {
    let stage = Stage::new();
    let said = seen(&stage, "echo ran", |config| {
        config["zyx"] = json!({"a": [1]});
        config["process"]["zyx"] = json!(1);
        config["linux"]["zyx"] = json!("x");
        config["process"]["commandLine"] = json!("for Windows");
        config["process"]["user"]["username"] = json!("for Windows");
        config["windows"] = json!({"layerFolders": []});
        config["mounts"][0]["zyx"] = json!(null);
    });
    assert_eq!(said, "ran");
}

/// In a network namespace of its own: the pair of devices `here0` and `there0`, the first up and with addresses.
fn with_two_devices(test: impl FnOnce() + Send) {
    let in_its_own = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let add = ["link", "add", "here0", "mtu", "1300", "type", "veth", "peer", "there0"];
        if !std::process::Command::new("ip").args(add).status().is_ok_and(|status| status.success()) {
            skip!("no ip(8), or a kernel without pairs of devices");
        }
        run("ip", &["link", "set", "here0", "up"]);
        run("ip", &["address", "add", "10.77.0.1/24", "dev", "here0"]);
        run("ip", &["-6", "address", "add", "fd77::1/64", "dev", "here0", "nodad"]);
        test();
    };
    std::thread::scope(|scope| scope.spawn(in_its_own).join().unwrap());
}

/// What `ip` shows of the device where this thread is.
fn shown(device: &str) -> String {
    let output = std::process::Command::new("ip").args(["address", "show", "dev", device]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn network_devices_move_to_the_container_with_their_addresses() {
    let stage = Stage::new();
    if !is_root() {
        skip!("only root has network devices to move");
    }
    for users in [false, true] {
        with_two_devices(|| {
            let container = sleeping(&stage, |config| {
                config["linux"]["netDevices"] = json!({"here0": {"name": "wan0"}, "there0": {}});
                if users {
                    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
                    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
                    config["linux"]["uidMappings"] = ids.clone();
                    config["linux"]["gidMappings"] = ids;
                    stage.open_to_everybody();
                }
            });
            let inside = exec(&container, "busybox ip address show dev wan0");
            for words in ["10.77.0.1/24", "fd77::1/64", "mtu 1300", "UP"] {
                assert!(inside.contains(words), "{words}: {inside}");
            }
            let other = exec(&container, "busybox ip address show dev there0");
            assert!(other.contains("UP"), "{other}");
            assert_eq!((shown("here0"), shown("there0")), (String::new(), String::new()));
            end(container);
        });
    }
}

#[test]
fn network_devices_move_to_a_namespace_that_is_joined() {
    let stage = Stage::new();
    if !is_root() {
        skip!("only root has network devices to move");
    }
    with_two_devices(|| {
        let first = sleeping(&stage, |_| {});
        let show = "busybox ip address show dev here0";
        let seen = seen(&stage, show, |config| {
            join(config, &first, &[("network", "net")]);
            config["linux"]["netDevices"] = json!({"here0": {}});
        });
        assert!(seen.contains("10.77.0.1/24"), "{seen}");
        assert_eq!(exec(&first, show), seen.trim_end());
        end(first);
    });
}

#[test]
fn network_devices_are_back_as_they_were_when_creation_fails() {
    let stage = Stage::new();
    if !is_root() {
        skip!("only root has network devices to move");
    }
    // In the container's network, where the device has its new name by then.
    let in_its_network = json!({"path": "/bin/sh", "args": ["sh", "-c", "ip link show dev wan0 && exit 7"]});
    with_two_devices(|| {
        for (devices, program, hook, step) in [
            (json!({"here0": {"name": "wan0"}, "nosuch0": {}}), "true", None, "linux.netDevices.nosuch0"),
            (json!({"here0": {"name": "lo"}}), "true", None, "linux.netDevices.here0"),
            (json!({"here0": {"name": "wan0"}}), "nosuch", None, "exec: \"nosuch\""),
            (json!({"here0": {"name": "wan0"}}), "true", Some(&in_its_network), "hooks.createContainer[0]"),
        ] {
            let error = refusal(&stage, |config| {
                config["linux"]["netDevices"] = devices;
                config["process"]["args"] = json!([program]);
                config["hooks"] = json!({"createContainer": Vec::from_iter(hook)});
            });
            assert!(error.to_string().contains(step), "{step}: {error}");
            assert!(
                hook.is_none() || error.to_string().contains("code 7"),
                "the hook saw the device: {error}"
            );
            let after = shown("here0");
            for words in ["10.77.0.1/24", "fd77::1/64", "mtu 1300", "UP"] {
                assert!(after.contains(words), "{words}: {after}");
            }
        }
    });
}

#[test]
fn network_devices_that_cannot_come_back_are_all_named() {
    let stage = Stage::new();
    if !is_root() {
        skip!("only root has network devices to move");
    }
    // Where the devices were there are others now, by their names.
    let take_their_names = "ip link add here0 type veth peer there0; exit 7";
    with_two_devices(|| {
        let error = refusal(&stage, |config| {
            config["linux"]["netDevices"] = json!({"here0": {"name": "wan0"}, "there0": {}});
            let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", take_their_names]});
            config["hooks"] = json!({"createRuntime": [hook]});
        });
        let error = error.to_string();
        for words in
            ["hooks.createRuntime[0]", "linux.netDevices.here0: ", "linux.netDevices.there0: ", "EEXIST"]
        {
            assert!(error.contains(words), "{words}: {error}");
        }
    });
}

#[test]
fn network_devices_are_for_those_who_rule_where_they_are() {
    let stage = Stage::new();
    if is_root() {
        skip!("root may move any device");
    }
    let error = refusal(&stage, |config| config["linux"]["netDevices"] = json!({"lo": {"name": "lo1"}}));
    assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
}
