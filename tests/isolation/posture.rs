//! What the workload is: ids, capabilities, filter, namespaces, descriptors, mounts, as the kernel shows them.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::{is_root, line_of, stage, stdout_of};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;

#[test]
fn the_workload_has_no_privilege_by_default() {
    let stage = stage!();
    let status = stdout_of(stage.container("privileges").args(["cat", "/proc/self/status"]));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(line_of(&status, set), "0000000000000000", "{set}");
    }
    assert_eq!(line_of(&status, "NoNewPrivs"), "1");
    assert_eq!((line_of(&status, "Seccomp"), line_of(&status, "Seccomp_filters")), ("2".into(), "1".into()));
    assert_eq!((line_of(&status, "Uid"), line_of(&status, "Gid")), ("0 0 0 0".into(), "0 0 0 0".into()));
    assert_eq!(line_of(&status, "NSpid").split(' ').count(), 1, "it sees no pid namespace but its own");
    for mask in ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
        assert_eq!(line_of(&status, mask), "0000000000000000", "{mask}");
    }
}

#[test]
fn the_ids_are_mapped_to_none_of_the_hosts_users() {
    let stage = stage!();
    let script =
        "cat /proc/self/uid_map /proc/self/gid_map; grep Groups /proc/self/status; cat /proc/self/setgroups";
    let seen = stdout_of(stage.busybox_shell("maps", script));
    let words: Vec<Vec<&str>> = seen.lines().map(|line| line.split_whitespace().collect()).collect();
    if is_root() {
        for map in &words[..2] {
            assert_eq!((map[0], map[2]), ("0", "65536"));
            assert!(map[1].parse::<u32>().unwrap() > 1_000_000, "{map:?}");
        }
        assert_eq!(words[2], ["Groups:"], "no group of the caller's");
    } else {
        let own = rustix::process::geteuid().as_raw().to_string();
        assert_eq!((words[0][0], words[0][1]), ("0", own.as_str()));
    }
}

#[test]
fn every_namespace_is_the_containers_own() {
    let stage = stage!();
    let script = "for n in user mnt pid net ipc uts cgroup; do echo $n $(readlink /proc/self/ns/$n); done";
    let inside: BTreeMap<String, String> = pairs(&stdout_of(stage.busybox_shell("namespaces", script)));
    assert_eq!(inside.len(), 7);
    for (name, inside) in inside {
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(inside, outside.display().to_string(), "{name}");
        assert!(inside.contains(":["), "{name}: {inside}");
    }
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| line.split_once(' ').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.lines().filter_map(pair).collect()
}

#[test]
fn the_network_is_a_loopback_that_is_up() {
    let stage = stage!();
    let script = "cat /proc/net/dev | tail -n +3 | cut -d: -f1; cat /proc/net/route | tail -n +2 | wc -l; cat /sys/class/net/lo/flags";
    let seen = stdout_of(stage.busybox_shell("network", script));
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!((words[0], words[1]), ("lo", "0"), "{seen}");
    let flags = u32::from_str_radix(words[2].trim_start_matches("0x"), 16).unwrap();
    assert_eq!(flags & 1, 1, "IFF_UP");
}

#[test]
fn the_descriptors_are_the_three_streams_whatever_the_caller_leaks() {
    let stage = stage!();
    // A host directory without close-on-exec, two hundred times: what a careless caller leaks.
    let leaked: Vec<OwnedFd> = (0..200).map(|_| leak(File::open("/").unwrap())).collect();
    // No pipeline, between whose forks the shell holds a pipe; and a last command that the shell does not become.
    let seen = stdout_of(stage.busybox_shell("leak", "ls /proc/2/fd; ls /proc/2/fdinfo; :"));
    drop(leaked);
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "0", "1", "2"]);
}

/// The same file on a descriptor that survives execve.
fn leak(file: File) -> OwnedFd {
    let fd = OwnedFd::from(file);
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
    fd
}

#[test]
fn the_process_limit_is_set_and_the_rest_is_the_callers() {
    let stage = stage!();
    let limits = stdout_of(stage.busybox_shell("rlimits", "cat /proc/self/limits"));
    let line = limits.lines().find(|line| line.starts_with("Max processes")).unwrap();
    assert_eq!(line.split_whitespace().skip(2).take(2).collect::<Vec<_>>(), ["1024", "1024"]);
}

#[test]
fn the_kernels_file_systems_are_mounted_with_care() {
    let stage = stage!();
    let table = stdout_of(stage.busybox_shell("mounts", "cat /proc/self/mountinfo"));
    let mounts: BTreeMap<&str, (&str, &str, &str)> = table
        .lines()
        .map(|line| {
            let (mount, fs) = line.split_once(" - ").unwrap();
            let (fields, of_fs): (Vec<&str>, Vec<&str>) =
                (mount.split(' ').collect(), fs.split(' ').collect());
            (fields[4], (fields[5], of_fs[0], of_fs[2]))
        })
        .collect();
    for (at, kind, flags) in [
        ("/proc", "proc", "rw,nosuid,nodev,noexec"),
        ("/sys", "sysfs", "ro,nosuid,nodev,noexec"),
        ("/dev", "tmpfs", "nosuid"),
        ("/dev/pts", "devpts", "nosuid,noexec"),
        ("/dev/shm", "tmpfs", "nosuid,nodev,noexec"),
        ("/dev/mqueue", "mqueue", "nosuid,nodev,noexec"),
        ("/tmp", "tmpfs", "nosuid,nodev"),
        ("/proc/sys", "proc", "ro"),
        ("/proc/bus", "proc", "ro"),
        ("/proc/sysrq-trigger", "proc", "ro"),
    ] {
        let Some((has, is, _)) = mounts.get(at) else {
            assert!(!std::path::Path::new(at).exists(), "{at} is missing in\n{table}");
            continue;
        };
        assert_eq!(*is, kind, "{at}");
        let has: Vec<&str> = has.split(',').collect();
        assert!(flags.split(',').all(|flag| has.contains(&flag)), "{at}: {has:?}");
    }
    assert!(mounts["/"].0.starts_with("ro"), "{table}");
    let terminals = mounts["/dev/pts"].2;
    assert!(terminals.split(',').any(|option| option == "max=256"), "not all of the machine's: {terminals}");
}

#[test]
fn what_is_masked_is_empty_and_what_is_read_only_cannot_be_written() {
    let stage = stage!();
    let script = "for f in /proc/kcore /proc/keys /proc/timer_list; do [ -e $f ] && cat $f | wc -c; done; \
                  for d in /proc/acpi /proc/scsi /sys/firmware; do [ -e $d ] && ls -A $d | wc -l; done; \
                  (echo 1 > /proc/sys/kernel/panic) 2>&1; true";
    let seen = stdout_of(stage.busybox_shell("masked", script));
    let (numbers, refusals): (Vec<&str>, Vec<&str>) =
        seen.lines().partition(|line| line.trim().parse::<u64>().is_ok());
    assert!(!numbers.is_empty() && numbers.iter().all(|number| number.trim() == "0"), "{seen}");
    assert!(matches!(refusals[..], [refusal] if refusal.contains("Read-only file system")), "{seen}");
}

#[test]
fn no_path_leads_to_the_host() {
    let stage = stage!();
    std::fs::write(stage.path().join("canary"), "host").unwrap();
    let canary = stage.path().join("canary").display().to_string();
    let script = format!(
        "for p in {canary} /../..{canary} /proc/1/root{canary} /proc/self/root{canary} /proc/1/cwd{canary}; do \
         cat $p 2>/dev/null && echo REACHED $p; done; ls /proc | grep -E '^[0-9]+$' | wc -l; \
         cd /; for i in 0 1 2 3 4 5 6 7 8 9; do cd ..; done; ls -d {canary} 2>/dev/null; true"
    );
    let seen = stdout_of(stage.busybox_shell("host", &script));
    assert!(!seen.contains("REACHED") && !seen.contains("canary"), "{seen}");
    // The shell and what it runs to look: of no other process there is a trace.
    assert!(seen.trim().parse::<u32>().unwrap() <= 5, "{seen}");
}

#[test]
fn a_host_directory_the_caller_leaked_is_no_way_out() {
    let stage = stage!();
    let _leaked: Vec<OwnedFd> = (0..20).map(|_| leak(File::open("/").unwrap())).collect();
    for number in [3, 5, 7, 8, 9, 12, 20] {
        let builder =
            stage.busybox_shell("cwd", "pwd; ls -d /proc/self/cwd/..").cwd(format!("/proc/self/fd/{number}"));
        if let Ok(output) = builder.output() {
            let seen = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(!output.exit.outcome.success() || seen.starts_with('/'), "{seen}");
            panic!("a working directory below /proc/self/fd was entered: {seen}");
        }
    }
}

#[test]
fn the_hosts_password_hashes_are_not_shown() {
    let stage = stage!();
    let script = "for f in /etc/shadow /etc/gshadow /etc/shadow- /etc/sudoers; do \
                  [ -e $f ] && cat $f 2>/dev/null | wc -c; done; ls -A /root /home | grep -v : | wc -w";
    let seen = stdout_of(stage.shell("shadow", script));
    assert!(!seen.is_empty() && seen.split_whitespace().all(|count| count == "0"), "{seen}");
}

#[test]
fn granted_capabilities_are_exactly_the_five_sets() {
    let stage = stage!();
    let granted = [oci_spec_capability()].into_iter().collect();
    let builder = stage.busybox_shell("granted", "cat /proc/self/status").grant_capabilities(granted);
    let status = stdout_of(builder);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(line_of(&status, set), "0000000000000400", "{set} is CAP_NET_BIND_SERVICE");
    }
}

fn oci_spec_capability() -> oci_spec::runtime::Capability {
    oci_spec::runtime::Capability::NetBindService
}

#[test]
fn the_devices_are_ours_and_no_others() {
    let stage = stage!();
    // The image's own /dev has no effect.
    std::fs::write(stage.busybox().join("dev/planted"), "x").unwrap();
    let script = "ls /dev | tr '\\n' ' '; stat -c '%t:%T' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; \
                  for l in fd stdin ptmx; do readlink /dev/$l; done; echo x > /dev/null && head -c 2 /dev/zero | wc -c";
    let seen = stdout_of(stage.busybox_shell("devices", script));
    let expected = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero \
                    1:3\n1:5\n1:7\n1:8\n1:9\n5:0\n/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n2";
    assert_eq!(seen, expected);
}
