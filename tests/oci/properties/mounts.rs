//! `mounts`: options, propagation, mapped ids, and the file systems with ways of their own.

use crate::kit::bundle::add_mount;
use crate::kit::{is_root, skip, stage};
use crate::properties::{end, exec, mount_at, refusal, run, seen, sleeping, unsupported};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

#[test]
fn every_option_of_a_mount_is_its_mounts() {
    let stage = stage!();
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
    let stage = stage!();
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
    let stage = stage!();
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
    let stage = stage!();
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

#[test]
fn a_tmpfs_without_a_mode_has_that_of_the_directory_it_covers() {
    let stage = stage!();
    let rootfs = stage.busybox();
    let mut destinations = Vec::new();
    for (name, mode) in [("closed", 0o710), ("shared", 0o1777), ("given", 0o755)] {
        std::fs::create_dir(rootfs.join(name)).unwrap();
        std::fs::set_permissions(rootfs.join(name), PermissionsExt::from_mode(mode)).unwrap();
        let options: &[&str] = if name == "given" { &["mode=700"] } else { &[] };
        destinations.push(json!({"destination": format!("/{name}"), "type": "tmpfs", "options": options}));
    }
    let seen = seen(&stage, "stat -c %a /closed /shared /given", |config| {
        destinations.iter().for_each(|mount| add_mount(config, mount.clone()));
    });
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["710", "1777", "700"]);
}

/// Images have such links: `/etc/localtime`, `/var/lock`, `/etc/resolv.conf`.
#[test]
fn a_destination_that_is_a_dangling_link_is_made_where_the_link_leads() {
    let stage = stage!();
    let rootfs = stage.busybox();
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, rootfs.join(at)).unwrap();
    std::fs::create_dir_all(rootfs.join("deep/er")).unwrap();
    link("/run/lock", "last");
    link("../../made/conf", "deep/er/middle");
    link("second", "first");
    link("/../../above", "second");
    let shown = stage.open_directory("shown");
    std::fs::write(shown.join("file"), "shown").unwrap();
    let bind = |from: PathBuf, to: &str| json!({"destination": to, "source": from, "options": ["bind"]});
    let script = "cat /run/lock/file /made/conf/sub/file /above; ls /run";
    let seen = seen(&stage, script, |config| {
        add_mount(config, bind(shown.clone(), "/last"));
        add_mount(config, bind(shown.clone(), "/deep/er/middle/sub"));
        add_mount(config, bind(shown.join("file"), "/first"));
    });
    assert_eq!(seen, "shownshownshownlock");
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

#[test]
fn an_id_mapped_volume_shows_the_ids_of_its_mappings() {
    let stage = stage!();
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
    let stage = stage!();
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
fn options_longer_than_255_bytes_reach_the_file_system_or_are_refused_by_their_place() {
    let stage = stage!();
    let overlay = |options: &[String]| json!({"destination": "/merged", "type": "overlay", "source": "long", "options": options});
    let refused = |mount: Value| refusal(&stage, |config| add_mount(config, mount)).to_string();
    let said = refused(overlay(&["nodev".into(), format!("lowerdir={}", "/lower:".repeat(600))]));
    assert!(said.contains("].options[1]: is 4209 bytes long, and the limit for all"), "{said}");
    let said = refused(overlay(&[format!("lowerdir={}", "/lower:".repeat(60)), "upperdir=/a,b".into()]));
    assert!(said.contains("].options[1]: contains a comma"), "{said}");
    let context = format!("mpol=bind:{}", "0".repeat(255));
    let said = refused(json!({"destination": "/memory", "type": "tmpfs", "options": [context]}));
    assert!(said.contains("].options[0]: is 265 bytes long, the limit is 255"), "{said}");
    if !is_root() {
        skip!("overlay of a directory of nobody's needs its own user namespace to have been asked for");
    }
    let [upper, work] = ["upper", "work"].map(|name| stage.open_directory(name).display().to_string());
    let lower: Vec<String> = (0..12)
        .map(|number| {
            let path = stage.open_directory(&format!("lower-with-a-rather-long-name-{number:02}"));
            std::fs::write(path.join(format!("file-{number:02}")), "").unwrap();
            path.display().to_string()
        })
        .collect();
    let lower = format!("lowerdir={}", lower.join(":"));
    assert!(lower.len() > 255, "{lower}");
    for read_only in [false, true] {
        let mut options = vec![lower.clone(), "nodev".into()];
        match read_only {
            true => options.push("ro".into()),
            false => options.extend([format!("upperdir={upper}"), format!("workdir={work}")]),
        }
        let script =
            "ls /merged | wc -l; touch /merged/new 2>/dev/null && echo written; cat /proc/self/mountinfo";
        let seen = seen(&stage, script, |config| add_mount(config, overlay(&options)));
        let written = if read_only { "12\n" } else { "12\nwritten\n" };
        assert!(seen.starts_with(written) && seen.contains("written") != read_only, "{seen}");
        let (attributes, _, _) = mount_at(&seen, "/merged");
        assert!(attributes.contains(&"nodev") && attributes.contains(&"ro") == read_only, "{attributes:?}");
        assert!(seen.contains(" - overlay long "), "{seen}");
        let _ = std::fs::remove_file(stage.path().join("upper/new"));
    }
}

#[test]
fn a_proc_that_hides_processes_is_mounted_so() {
    let stage = stage!();
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
    let stage = stage!();
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
    let stage = stage!();
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
