//! The root, what is mounted in it, what is masked, and the devices.

use crate::conformance::bench::{Bench, needs_root};
use crate::conformance::case::{NotHere, Verdict, table};
use crate::kit::bundle::add_mount;
use crate::kit::is_root;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;
use std::path::PathBuf;

table! {
    a_read_only_root_is_not_written_to => "root_readonly_true":
        "If readonly is true then the root filesystem MUST be read-only inside the container";
    every_mount_has_its_type_and_options => "mounts":
        "The runtime MUST mount entries in the listed order, with the type, the source and the options of each";
    the_source_of_a_mount_is_its_name => "mounts":
        "source: a device name, but can also be a file or directory name for bind mounts or a dummy";
    parameters_of_file_systems_have_no_effect_on_a_bind => "mounts":
        "data: with MS_BIND, the remaining bits of mountflags and data are ignored (mount(2))";
    a_read_only_dev_is_complete_before_it_is_read_only => "mounts":
        "The runtime MUST mount entries in the listed order, and supply the default devices and links in /dev";
    a_read_only_tmpfs_takes_the_mounts_listed_after_it => "mounts":
        "The runtime MUST mount entries in the listed order";
    recursive_options_reach_what_is_mounted_below => "mounts_recursive":
        "Options rro, rnosuid, rnodev, rnoexec, rnoatime: recursive, as mount_setattr(2) with AT_RECURSIVE (1.1)";
    a_root_is_shared_if_asked_for => "linux_rootfs_propagation":
        "rootfsPropagation sets the rootfs's mount propagation: shared, slave, private or unbindable";
    a_root_is_unbindable_if_asked_for => "linux_rootfs_propagation":
        "rootfsPropagation sets the rootfs's mount propagation: shared, slave, private or unbindable";
    a_root_is_slave_or_private_if_asked_for => "linux_rootfs_propagation":
        "rootfsPropagation sets the rootfs's mount propagation: shared, slave, private or unbindable";
    masked_paths_cannot_be_read => "linux_masked_paths":
        "maskedPaths will mask over the provided paths inside the container so that they cannot be read";
    masked_devices_cannot_be_read => "linux_masked_paths":
        "maskedPaths will mask over the provided paths inside the container so that they cannot be read";
    a_masked_path_is_absolute => "linux_masked_paths":
        "The values MUST be absolute paths in the container namespace";
    read_only_paths_cannot_be_written_to => "linux_readonly_paths":
        "readonlyPaths will set the provided paths as readonly inside the container";
    read_only_devices_are_there => "linux_readonly_paths":
        "readonlyPaths will set the provided paths as readonly inside the container";
    a_read_only_path_is_absolute => "linux_readonly_paths":
        "The values MUST be absolute paths in the container namespace";
    devices_are_there_as_described => "linux_devices":
        "devices lists devices that MUST be available in the container: type, path, major, minor, fileMode, uid, gid";
    a_default_device_has_the_owner_and_mode_that_are_listed => "linux_devices":
        "devices lists devices that MUST be available in the container: fileMode, uid and gid are those of the device";
    devices_outside_dev_open => "linux_devices":
        "devices lists devices that MUST be available in the container";
    a_mount_label_is_the_mounts => "linux_mount_label":
        "mountLabel will set the SELinux context for the mounts in the container";
}

fn a_read_only_root_is_not_written_to(bench: &Bench<'_>) -> Verdict {
    for (readonly, expected) in [(true, "refused\n"), (false, "written\n")] {
        let script = "touch /file 2>/dev/null && echo written || echo refused";
        assert_eq!(bench.output(script, |config| config["root"]["readonly"] = json!(readonly)), expected);
    }
    Ok(())
}

/// The options, the optional fields and the file system's part of the mount at `at`, from the text of a mountinfo.
fn mount_at<'a>(mountinfo: &'a str, at: &str) -> (&'a str, &'a str, &'a str) {
    let line = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some(at));
    let (line, file_system) =
        line.unwrap_or_else(|| panic!("nothing at {at}:\n{mountinfo}")).split_once(" - ").unwrap();
    let mut fields = line.splitn(7, ' ').skip(5);
    (fields.next().unwrap(), fields.next().unwrap_or_default(), file_system)
}

fn every_mount_has_its_type_and_options(bench: &Bench<'_>) -> Verdict {
    let shown = bench.directory("shown");
    std::fs::write(shown.join("file"), "shown\n").unwrap();
    let seen = bench.output("cat /tmp/shown/file /proc/self/mountinfo", |config| {
        let options = ["nosuid", "strictatime", "mode=755", "size=1k"];
        add_mount(config, json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": options }));
        // Below the one before it.
        let bind = json!({ "destination": "/tmp/shown", "type": "bind", "source": shown, "options": ["bind", "ro"] });
        add_mount(config, bind);
    });
    assert!(seen.starts_with("shown\n"), "{seen}");
    for (at, kind) in [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
        ("/tmp", "tmpfs"),
    ] {
        assert!(mount_at(&seen, at).2.starts_with(&format!("{kind} ")), "{at}: {seen}");
    }
    let (options, _, file_system) = mount_at(&seen, "/tmp");
    assert!(options.contains("nosuid") && !options.contains("relatime"), "{options}");
    // In whole pages.
    assert!(file_system.contains("mode=755") && file_system.contains("size=4k"), "{file_system}");
    assert!(mount_at(&seen, "/tmp/shown").0.split(',').any(|option| option == "ro"), "{seen}");
    Ok(())
}

fn the_source_of_a_mount_is_its_name(bench: &Bench<'_>) -> Verdict {
    let seen = bench.output("cat /proc/self/mountinfo", |config| {
        for mount in config["mounts"].as_array_mut().unwrap() {
            let at = mount["destination"].as_str().unwrap().replace('/', "-");
            mount["source"] = json!(format!("named{at}"));
        }
        add_mount(config, json!({ "destination": "/tmp", "type": "tmpfs", "source": "named-tmp" }));
    });
    for at in ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/tmp"] {
        let file_system = mount_at(&seen, at).2;
        let name = format!(" named{} ", at.replace('/', "-"));
        assert!(file_system.contains(&name), "{at}: {file_system}");
    }
    Ok(())
}

fn parameters_of_file_systems_have_no_effect_on_a_bind(bench: &Bench<'_>) -> Verdict {
    let shown = bench.directory("shown");
    let seen = bench.output("stat -c %a /tmp/shown; cat /proc/self/mountinfo", |config| {
        let options = ["rbind", "ro", "mode=700", "size=1k", "uid=7", "noswap"];
        add_mount(config, json!({ "destination": "/tmp/shown", "source": shown, "options": options }));
    });
    assert!(!seen.starts_with("700\n"), "{seen}");
    assert!(mount_at(&seen, "/tmp/shown").0.split(',').any(|option| option == "ro"), "{seen}");
    Ok(())
}

fn a_read_only_dev_is_complete_before_it_is_read_only(bench: &Bench<'_>) -> Verdict {
    let script =
        "echo x >/dev/null && test -d /dev/shm && readlink /dev/stdin; test -c /dev/added || echo none
        touch /dev/file 2>&1; touch /dev/shm/file && echo written below; cat /proc/self/mountinfo";
    let seen = bench.output(script, |config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        let dev = mounts.iter_mut().find(|mount| mount["destination"] == "/dev").unwrap();
        dev["options"] = json!(["nosuid", "mode=755", "ro"]);
        if is_root() {
            config["linux"]["devices"] =
                json!([{ "path": "/dev/added", "type": "c", "major": 1, "minor": 3 }]);
        }
    });
    let added = if is_root() { "" } else { "none\n" };
    let end = "touch: /dev/file: Read-only file system\nwritten below\n";
    assert!(seen.starts_with(&format!("/proc/self/fd/0\n{added}{end}")), "{seen}");
    assert!(mount_at(&seen, "/dev").0.split(',').any(|option| option == "ro"), "{seen}");
    Ok(())
}

fn a_read_only_tmpfs_takes_the_mounts_listed_after_it(bench: &Bench<'_>) -> Verdict {
    let script = "touch /tmp/deep/place/file && ls /tmp/deep/place; touch /tmp/file 2>&1";
    let seen = bench.output(script, |config| {
        for (at, options) in [("/tmp", json!(["ro"])), ("/tmp/deep/place", json!([]))] {
            let tmpfs = json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": options });
            add_mount(config, tmpfs);
        }
    });
    assert_eq!(seen, "file\ntouch: /tmp/file: Read-only file system\n");
    Ok(())
}

/// A tmpfs of the host's, unmounted in the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: PathBuf) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        mount("tmpfs", &at, "tmpfs", MountFlags::empty(), None).unwrap();
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::empty()).expect("no process uses it");
    }
}

fn recursive_options_reach_what_is_mounted_below(bench: &Bench<'_>) -> Verdict {
    needs_root("only root can mount something below a volume")?;
    let volume = bench.directory("volume");
    let _below = Mounted::new(volume.join("below"));
    let options = ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"];
    let seen = bench.output("cat /proc/self/mountinfo", |config| {
        for option in options {
            let bind = |at: String, option: String| {
                json!({ "destination": at, "type": "bind", "source": volume, "options": ["rbind", option] })
            };
            add_mount(config, bind(format!("/plain/{option}"), option.to_owned()));
            add_mount(config, bind(format!("/tree/{option}"), format!("r{option}")));
        }
    });
    for option in options {
        let has = |at: String| mount_at(&seen, &at).0.split(',').any(|other| other == option);
        assert!(has(format!("/tree/{option}")) && has(format!("/tree/{option}/below")), "r{option}: {seen}");
        assert!(
            has(format!("/plain/{option}")) && !has(format!("/plain/{option}/below")),
            "{option}: {seen}"
        );
    }
    Ok(())
}

/// The optional fields of the root's mount with this propagation.
fn propagation(bench: &Bench<'_>, word: &str) -> String {
    let seen = bench.output("cat /proc/self/mountinfo", |config| {
        config["linux"]["rootfsPropagation"] = json!(word);
    });
    mount_at(&seen, "/").1.to_owned()
}

fn a_root_is_shared_if_asked_for(bench: &Bench<'_>) -> Verdict {
    let fields = propagation(bench, "shared");
    assert!(fields.contains("shared:"), "{fields}");
    Ok(())
}

fn a_root_is_unbindable_if_asked_for(bench: &Bench<'_>) -> Verdict {
    let fields = propagation(bench, "unbindable");
    assert!(fields.contains("unbindable") && !fields.contains("shared:"), "{fields}");
    Ok(())
}

fn a_root_is_slave_or_private_if_asked_for(bench: &Bench<'_>) -> Verdict {
    for word in ["slave", "private"] {
        let fields = propagation(bench, word);
        assert!(!fields.contains("shared:") && !fields.contains("unbindable"), "{word}: {fields}");
        // A slave has a master only where the host's mount is shared.
        assert!(word == "slave" || !fields.contains("master:"), "{word}: {fields}");
    }
    Ok(())
}

/// Files at the top, in a directory, and in one below it.
fn make_tree(bench: &Bench<'_>, name: &str) -> [String; 5] {
    let paths = ["dir", "file", "dir/sub", "dir/file", "dir/sub/file"].map(|path| format!("/{name}-{path}"));
    let directory = format!("/{name}-dir/sub");
    std::fs::create_dir_all(bench.rootfs().join(&directory[1..])).unwrap();
    for path in paths.iter().filter(|path| path.ends_with("file")) {
        std::fs::write(bench.rootfs().join(&path[1..]), "secret").unwrap();
    }
    paths
}

fn masked_paths_cannot_be_read(bench: &Bench<'_>) -> Verdict {
    let paths = make_tree(bench, "masked");
    let mut order = paths.to_vec();
    // The deepest first, so that all are there to be masked.
    order.reverse();
    let script =
        "cat /masked-file /masked-dir/file /masked-dir/sub/file 2>/dev/null; ls /masked-dir; echo end";
    for list in [order, paths.to_vec()] {
        assert_eq!(bench.output(script, |config| config["linux"]["maskedPaths"] = json!(list)), "end\n");
    }
    Ok(())
}

/// Device nodes as far as this user may make them.
fn make_devices(bench: &Bench<'_>) -> Vec<&'static str> {
    let nodes = [
        ("fifo", FileType::Fifo, makedev(0, 0)),
        ("zero", FileType::CharacterDevice, makedev(1, 5)),
        ("disk", FileType::BlockDevice, makedev(7, 0)),
    ];
    let made = nodes.into_iter().filter(|(name, kind, number)| {
        let node = mknodat(CWD, bench.rootfs().join(name), *kind, Mode::from_raw_mode(0o666), *number);
        assert!(node.is_ok() || !is_root(), "{name}: {node:?}");
        node.is_ok()
    });
    made.map(|(name, ..)| name).collect()
}

fn masked_devices_cannot_be_read(bench: &Bench<'_>) -> Verdict {
    for name in make_devices(bench) {
        let seen = bench.output(&format!("head -c 1 /{name} | wc -c"), |config| {
            config["linux"]["maskedPaths"] = json!([format!("/{name}")]);
        });
        assert_eq!(seen, "0\n", "{name}");
    }
    Ok(())
}

fn a_masked_path_is_absolute(bench: &Bench<'_>) -> Verdict {
    std::fs::write(bench.rootfs().join("relative"), "").unwrap();
    bench.refuses_to_create(|config| config["linux"]["maskedPaths"] = json!(["relative"]));
    Ok(())
}

fn read_only_paths_cannot_be_written_to(bench: &Bench<'_>) -> Verdict {
    let paths = make_tree(bench, "fixed");
    let script = "for path in /fixed-file /fixed-dir/file /fixed-dir/sub/file /fixed-dir/new /fixed-dir/sub/new; do
        (echo x >$path) 2>/dev/null && echo $path; done; cat /fixed-dir/sub/file; touch /tmp/x && echo ' end'";
    let seen = bench.output(script, |config| config["linux"]["readonlyPaths"] = json!(paths));
    assert_eq!(seen, "secret end\n");
    Ok(())
}

fn read_only_devices_are_there(bench: &Bench<'_>) -> Verdict {
    for name in make_devices(bench) {
        let script = format!("test -e /{name} && cat /proc/self/mountinfo");
        let seen = bench.output(&script, |config| {
            config["linux"]["readonlyPaths"] = json!([format!("/{name}")]);
        });
        assert!(mount_at(&seen, &format!("/{name}")).0.split(',').any(|option| option == "ro"), "{seen}");
    }
    Ok(())
}

fn a_read_only_path_is_absolute(bench: &Bench<'_>) -> Verdict {
    std::fs::write(bench.rootfs().join("relative"), "").unwrap();
    bench.refuses_to_create(|config| config["linux"]["readonlyPaths"] = json!(["relative"]));
    Ok(())
}

fn devices_are_there_as_described(bench: &Bench<'_>) -> Verdict {
    needs_root("nodes of devices are made by root, or are the host's")?;
    let script = "cd /dev; for path in test1 test2 test3; do stat -c '%n %F %t:%T %a %u:%g' $path; done";
    let seen = bench.output(script, |config| {
        config["linux"]["devices"] = json!([
            { "path": "/dev/test1", "type": "c", "major": 10, "minor": 666, "fileMode": 0o660, "uid": 0, "gid": 0 },
            { "path": "/dev/test2", "type": "b", "major": 8, "minor": 666, "fileMode": 0o600, "uid": 7, "gid": 8 },
            { "path": "/dev/test3", "type": "p", "major": 8, "minor": 666, "fileMode": 0o640 },
        ]);
    });
    assert_eq!(
        seen,
        "test1 character special file a:29a 660 0:0\n\
         test2 block special file 8:29a 600 7:8\n\
         test3 fifo 0:0 640 0:0\n"
    );
    Ok(())
}

fn a_default_device_has_the_owner_and_mode_that_are_listed(bench: &Bench<'_>) -> Verdict {
    needs_root("nodes of devices are made by root, or are the host's")?;
    let seen = bench.output("cd /dev; stat -c '%n %t:%T %a %u:%g' tty null zero", |config| {
        config["linux"]["devices"] = json!([
            { "path": "/dev/tty", "type": "c", "major": 5, "minor": 0, "fileMode": 0o20660, "uid": 0, "gid": 5 },
            { "path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 7, "gid": 8 },
        ]);
    });
    assert_eq!(seen, "tty 5:0 660 0:5\nnull 1:3 666 0:0\nzero 1:5 600 7:8\n");
    Ok(())
}

fn devices_outside_dev_open(bench: &Bench<'_>) -> Verdict {
    needs_root("nodes of devices are made by root, or are the host's")?;
    let script = "stat -c '%t:%T %a %u:%g' /made/null && echo x >/made/null && head -c 3 /made/zero | wc -c
        head -c 1 /made/memory 2>&1; test -p /made/fifo && echo fifo";
    // Again: the root keeps what was made in it.
    for _ in 0..2 {
        let seen = bench.output(script, |config| {
            config["linux"]["devices"] = json!([
                { "path": "/made/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o622, "uid": 7, "gid": 8 },
                { "path": "/made/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0 },
                { "path": "/made/memory", "type": "c", "major": 1, "minor": 1, "fileMode": 0o666, "uid": 0, "gid": 0 },
                { "path": "/made/fifo", "type": "p", "fileMode": 0o666 },
            ]);
        });
        // The last device has no rule.
        let denied = "head: /made/memory: Operation not permitted\n";
        assert_eq!(seen, format!("1:3 622 7:8\n3\n{denied}fifo\n"));
    }
    Ok(())
}

fn a_mount_label_is_the_mounts(bench: &Bench<'_>) -> Verdict {
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap();
    if !filesystems.contains("selinuxfs") {
        return Err(NotHere("SELinux is not enabled on this host".into()));
    }
    let label = "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811";
    let seen =
        bench.output("cat /proc/self/mountinfo", |config| config["linux"]["mountLabel"] = json!(label));
    assert!(mount_at(&seen, "/dev/shm").2.contains(label), "{seen}");
    Ok(())
}
