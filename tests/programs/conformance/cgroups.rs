//! Limits, as the kernel's files show them from outside. Each controller with an absolute and with a relative path.

use crate::conformance::bench::{Bench, needs_root};
use crate::conformance::case::{NotHere, Verdict, table};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

table! {
    processor_limits_are_set => "linux_cgroups_cpus linux_cgroups_relative_cpus":
        "cpu represents the cgroup subsystems cpu and cpusets: shares, quota, period, realtimeRuntime, realtimePeriod, \
         cpus, mems";
    memory_limits_are_set => "linux_cgroups_memory linux_cgroups_relative_memory":
        "memory represents the cgroup subsystem memory: limit, reservation, swap, swappiness, disableOOMKiller";
    a_limit_of_tcp_buffers_is_set => "linux_cgroups_memory linux_cgroups_relative_memory":
        "kernelTCP (NOT RECOMMENDED) sets hard limit for kernel TCP buffer memory";
    a_limit_of_processes_is_set => "linux_cgroups_pids linux_cgroups_relative_pids":
        "pids represents the cgroup subsystem pids: limit";
    rules_of_devices_apply_in_the_listed_order => "linux_cgroups_devices linux_cgroups_relative_devices":
        "devices configures the device allowed list. The runtime MUST apply entries in the listed order";
    weights_of_block_devices_are_set => "linux_cgroups_blkio linux_cgroups_relative_blkio":
        "blockIO represents the cgroup subsystem blkio: weight, leafWeight, weightDevice";
    rates_of_block_devices_are_set => "linux_cgroups_blkio linux_cgroups_relative_blkio":
        "throttleReadBpsDevice, throttleWriteBpsDevice, throttleReadIOPSDevice, throttleWriteIOPSDevice";
    limits_of_huge_pages_are_set => "linux_cgroups_hugetlb linux_cgroups_relative_hugetlb":
        "hugepageLimits: pageSize, limit";
    a_size_that_no_huge_page_has_is_an_error => "linux_cgroups_hugetlb":
        "Runtimes MUST generate an error when invalid or unsupported values are encountered";
    network_class_and_priorities_are_set => "linux_cgroups_network linux_cgroups_relative_network":
        "network represents the cgroup subsystems net_cls and net_prio: classID, priorities";
}

/// A hierarchy of cgroup v1.
pub(crate) struct Hierarchy {
    controller: &'static str,
    root: PathBuf,
}

/// The hierarchy of a controller, where it is mounted.
pub(crate) fn v1(controller: &'static str) -> Result<Hierarchy, NotHere> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut words = file_system.split(' ');
        let is_v1 = words.next() == Some("cgroup");
        let has_it = words.nth(1)?.split(',').any(|option| option == controller);
        (is_v1 && has_it).then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    });
    let root = root.ok_or_else(|| NotHere(format!("the host has no cgroup v1 hierarchy of {controller}")))?;
    Ok(Hierarchy { controller, root })
}

impl Hierarchy {
    /// The group that a process is in.
    pub(crate) fn of(&self, pid: i32) -> Group {
        let membership = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let path = membership.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|name| name == self.controller).then(|| path.to_owned())
        });
        Group { root: self.root.clone(), path: path.expect("every process is in a group of every hierarchy") }
    }

    /// A new group that no container has made.
    pub(crate) fn make(&self, name: &str) -> Group {
        let group = Group { root: self.root.clone(), path: format!("/{name}") };
        std::fs::create_dir(group.directory()).unwrap();
        group
    }

    fn has(&self, file: &str) -> bool {
        // Some files are in every group but the topmost.
        let topmost = self.root.join(file).exists();
        let groups = std::fs::read_dir(&self.root).unwrap().flatten();
        topmost || groups.map(|entry| entry.path().join(file)).any(|path| path.exists())
    }
}

/// A group of a hierarchy.
pub(crate) struct Group {
    root: PathBuf,
    path: String,
}

impl Group {
    /// Within its hierarchy.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn directory(&self) -> PathBuf {
        self.root.join(self.path.trim_start_matches('/'))
    }

    pub(crate) fn exists(&self) -> bool {
        self.directory().exists()
    }

    pub(crate) fn value(&self, file: &str) -> String {
        let path = self.directory().join(file);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim_end().to_owned()
    }

    pub(crate) fn take(&self, pid: i32) {
        std::fs::write(self.directory().join("cgroup.procs"), pid.to_string()).unwrap();
    }

    pub(crate) fn remove(self) {
        std::fs::remove_dir(self.directory()).unwrap();
    }
}

/// A container with limits.
struct Limited {
    pid: i32,
    /// What the configuration says, absolute or relative.
    cgroups_path: String,
}

impl Limited {
    /// The group with the container's limits. The container's processes are in the group that the configuration names, or
    /// one below it, so that the runtime's own process, which the state names, is not under the limits.
    fn group(&self, hierarchy: &Hierarchy) -> Group {
        let mut group = hierarchy.of(self.pid);
        let path = group.path.strip_suffix("/container").unwrap_or(&group.path);
        let is_there = match self.cgroups_path.starts_with('/') {
            true => path == self.cgroups_path,
            false => path.ends_with(&format!("/{}", self.cgroups_path)),
        };
        assert!(is_there, "{} for {}", group.path, self.cgroups_path);
        if group.directory().join("container").exists() {
            group.path.push_str("/container");
        }
        group
    }
}

/// Looks at a container with these resources, once where its path is absolute and once where it is relative.
fn with_resources(bench: &Bench<'_>, resources: &Value, look: impl Fn(&Limited)) {
    let name = bench.id("group");
    for cgroups_path in [format!("/{name}"), name] {
        bench.configure("exec sleep 1000", |config| {
            config["linux"]["cgroupsPath"] = json!(cgroups_path);
            let given = config["linux"]["resources"].as_object_mut().unwrap();
            for (name, more) in resources.as_object().unwrap() {
                match (given.get_mut(name), more) {
                    // After those that allow the default devices.
                    (Some(Value::Array(rules)), Value::Array(more)) => rules.extend(more.iter().cloned()),
                    _ => {
                        given.insert(name.clone(), more.clone());
                    }
                }
            }
        });
        let container = bench.create("limited");
        look(&Limited { pid: container.pid, cgroups_path });
        container.end();
    }
}

fn limits_are_roots() -> Result<(), NotHere> {
    needs_root("cgroups that the caller may make")
}

fn processor_limits_are_set(bench: &Bench<'_>) -> Verdict {
    limits_are_roots()?;
    let (cpu, cpuset) = (v1("cpu")?, v1("cpuset")?);
    let all = cpuset.of(i32::try_from(std::process::id()).unwrap()).value("cpuset.cpus");
    let sets = ["0", &all];
    for (index, (shares, period, quota)) in
        [(1024, 100_000, 50_000), (2048, 500_000, 200_000), (512, 100_000, 200_000)].into_iter().enumerate()
    {
        let cpus = sets[index % 2];
        let mut resources = json!({ "cpu": {
            "shares": shares, "period": period, "quota": quota, "cpus": cpus, "mems": "0",
        } });
        let is_real_time = cpu.has("cpu.rt_runtime_us") && is_accepted(&cpu, "cpu.rt_runtime_us", "0");
        if is_real_time {
            resources["cpu"]["realtimePeriod"] = json!(1_000_000);
            resources["cpu"]["realtimeRuntime"] = json!(0);
        }
        with_resources(bench, &resources, |limited| {
            let group = limited.group(&cpu);
            assert_eq!(group.value("cpu.shares"), shares.to_string());
            assert_eq!(group.value("cpu.cfs_period_us"), period.to_string());
            assert_eq!(group.value("cpu.cfs_quota_us"), quota.to_string());
            if is_real_time {
                assert_eq!(group.value("cpu.rt_period_us"), "1000000");
                assert_eq!(group.value("cpu.rt_runtime_us"), "0");
            }
            let group = limited.group(&cpuset);
            assert_eq!(group.value("cpuset.cpus"), cpus);
            assert_eq!(group.value("cpuset.mems"), "0");
        });
    }
    Ok(())
}

/// Whether the kernel takes this value for a new group.
fn is_accepted(hierarchy: &Hierarchy, file: &str, value: &str) -> bool {
    let group = hierarchy.make(&format!("probe-{}", std::process::id()));
    let accepted = std::fs::write(group.directory().join(file), value).is_ok();
    group.remove();
    accepted
}

/// The limit of the kernel's own memory is not among them: it is "NOT RECOMMENDED", and kernels take no notice of it.
fn memory_limits_are_set(bench: &Bench<'_>) -> Verdict {
    limits_are_roots()?;
    let memory = v1("memory")?;
    for (limit, swappiness, is_without_killer) in [(50_593_792_u64, 10, true), (151_781_376, 100, false)] {
        let mut resources = json!({ "memory": {
            "limit": limit, "reservation": limit, "swappiness": swappiness, "disableOOMKiller": is_without_killer,
        } });
        let has_swap = memory.has("memory.memsw.limit_in_bytes");
        if has_swap {
            resources["memory"]["swap"] = json!(limit);
        }
        with_resources(bench, &resources, |limited| {
            let group = limited.group(&memory);
            assert_eq!(group.value("memory.limit_in_bytes"), limit.to_string());
            assert_eq!(group.value("memory.soft_limit_in_bytes"), limit.to_string());
            assert_eq!(group.value("memory.swappiness"), swappiness.to_string());
            let control = group.value("memory.oom_control");
            let line = format!("oom_kill_disable {}", u8::from(is_without_killer));
            assert!(control.lines().any(|other| other == line), "{control}");
            if has_swap {
                assert_eq!(group.value("memory.memsw.limit_in_bytes"), limit.to_string());
            }
        });
    }
    Ok(())
}

fn a_limit_of_tcp_buffers_is_set(bench: &Bench<'_>) -> Verdict {
    limits_are_roots()?;
    let (memory, file) = (v1("memory")?, "memory.kmem.tcp.limit_in_bytes");
    if !memory.has(file) {
        return Err(NotHere(format!("the kernel has no {file}")));
    }
    with_resources(bench, &json!({ "memory": { "kernelTCP": 50_593_792 } }), |limited| {
        assert_eq!(limited.group(&memory).value(file), "50593792");
    });
    Ok(())
}

fn a_limit_of_processes_is_set(bench: &Bench<'_>) -> Verdict {
    limits_are_roots()?;
    let pids = v1("pids")?;
    with_resources(bench, &json!({ "pids": { "limit": 1000 } }), |limited| {
        assert_eq!(limited.group(&pids).value("pids.max"), "1000");
    });
    Ok(())
}

fn rules_of_devices_apply_in_the_listed_order(bench: &Bench<'_>) -> Verdict {
    limits_are_roots()?;
    let devices = v1("devices")?;
    let rule = |allow: bool, kind: &str, (major, minor): (i64, i64), access: &str| {
        let mut rule = json!({ "allow": allow, "type": kind, "access": access });
        (rule["major"], rule["minor"]) = (json!(major), json!(minor));
        rule
    };
    let rules = [
        rule(true, "c", (10, 229), "rwm"),
        rule(true, "b", (8, 20), "rw"),
        rule(true, "b", (10, 200), "r"),
        rule(true, "c", (4, 64), "rw"),
        rule(false, "c", (4, 64), "w"),
    ];
    with_resources(bench, &json!({ "devices": rules }), |limited| {
        let list = limited.group(&devices).value("devices.list");
        // Nodes of any device may be made (m) with both runtimes: that alone opens none.
        for (device, granted, denied) in [
            ("c 10:229", "rwm", ""),
            ("b 8:20", "rw", ""),
            ("b 10:200", "r", "w"),
            ("c 4:64", "r", "w"),
            ("b 8:21", "", "rw"),
        ] {
            let access = access(&list, device);
            assert!(granted.chars().all(|letter| access.contains(letter)), "{device} {access} in {list}");
            assert!(!denied.chars().any(|letter| access.contains(letter)), "{device} {access} in {list}");
        }
    });
    Ok(())
}

/// What the rules of a devices.list allow, taken together.
fn access(list: &str, device: &str) -> String {
    let (kind, number) = device.split_once(' ').expect("a kind and a number");
    let (major, minor) = number.split_once(':').expect("two numbers");
    let covers = |pattern: &str, word: &str| pattern == "*" || pattern == word;
    let rules = list.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (of, numbers, access) = (words.next()?, words.next()?, words.next()?);
        let (first, second) = numbers.split_once(':')?;
        let is_covered = (of == "a" || of == kind) && covers(first, major) && covers(second, minor);
        is_covered.then_some(access)
    });
    rules.collect()
}

/// A whole disk of the host's.
fn disk() -> Result<(u64, u64), NotHere> {
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let disks = disks.filter(|entry| entry.path().join("device").exists());
    let numbers = disks.filter_map(|entry| std::fs::read_to_string(entry.path().join("dev")).ok()).next();
    let numbers = numbers.ok_or_else(|| NotHere("the host has no disk".into()))?;
    let (major, minor) = numbers.trim_end().split_once(':').expect("two numbers");
    Ok((major.parse().unwrap(), minor.parse().unwrap()))
}

fn weights_of_block_devices_are_set(bench: &Bench<'_>) -> Verdict {
    limits_are_roots()?;
    let blkio = v1("blkio")?;
    let Some(file) = ["blkio.weight", "blkio.bfq.weight"].into_iter().find(|file| blkio.has(file)) else {
        return Err(NotHere(
            "no scheduler of block devices on this host has weights: no blkio.weight".into(),
        ));
    };
    let mut resources = json!({ "blockIO": { "weight": 500 } });
    let has_leaf = blkio.has("blkio.leaf_weight");
    if has_leaf {
        resources["blockIO"]["leafWeight"] = json!(300);
    }
    with_resources(bench, &resources, |limited| {
        let group = limited.group(&blkio);
        assert_eq!(group.value(file), "500");
        if has_leaf {
            assert_eq!(group.value("blkio.leaf_weight"), "300");
        }
    });
    Ok(())
}

fn rates_of_block_devices_are_set(bench: &Bench<'_>) -> Verdict {
    limits_are_roots()?;
    let blkio = v1("blkio")?;
    if !blkio.has("blkio.throttle.read_bps_device") {
        return Err(NotHere("the host's blkio has no rates".into()));
    }
    let (major, minor) = disk()?;
    let rate = json!([{ "major": major, "minor": minor, "rate": 102_400 }]);
    let resources = json!({ "blockIO": {
        "throttleReadBpsDevice": rate, "throttleWriteBpsDevice": rate,
        "throttleReadIOPSDevice": rate, "throttleWriteIOPSDevice": rate,
    } });
    with_resources(bench, &resources, |limited| {
        let group = limited.group(&blkio);
        for file in ["read_bps", "write_bps", "read_iops", "write_iops"] {
            let value = group.value(&format!("blkio.throttle.{file}_device"));
            assert_eq!(value, format!("{major}:{minor} 102400"), "{file}");
        }
    });
    Ok(())
}

/// The sizes, as the kernel's files are named.
fn huge_page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let kilobytes = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()
    });
    let name = |kilobytes: u64| match kilobytes {
        gigabytes if gigabytes >= 1 << 20 => format!("{}GB", gigabytes >> 20),
        megabytes if megabytes >= 1 << 10 => format!("{}MB", megabytes >> 10),
        kilobytes => format!("{kilobytes}KB"),
    };
    kilobytes.map(name).collect()
}

fn limits_of_huge_pages_are_set(bench: &Bench<'_>) -> Verdict {
    limits_are_roots()?;
    let hugetlb = v1("hugetlb")?;
    for size in huge_page_sizes() {
        let limits = json!({ "hugepageLimits": [{ "pageSize": size, "limit": 2_u64 << 30 }] });
        with_resources(bench, &limits, |limited| {
            let value = limited.group(&hugetlb).value(&format!("hugetlb.{size}.limit_in_bytes"));
            assert_eq!(value, (2_u64 << 30).to_string(), "{size}");
        });
    }
    Ok(())
}

fn a_size_that_no_huge_page_has_is_an_error(bench: &Bench<'_>) -> Verdict {
    limits_are_roots()?;
    if !Path::new("/sys/kernel/mm/hugepages").exists() {
        return Err(NotHere("the kernel has no huge pages".into()));
    }
    bench.refuses_to_create(|config| {
        config["linux"]["resources"]["hugepageLimits"] = json!([{ "pageSize": "3MB", "limit": 314_572_800 }]);
    });
    Ok(())
}

fn network_class_and_priorities_are_set(bench: &Bench<'_>) -> Verdict {
    limits_are_roots()?;
    let (class, priorities) = (v1("net_cls")?, v1("net_prio")?);
    let resources =
        json!({ "network": { "classID": 255, "priorities": [{ "name": "lo", "priority": 10 }] } });
    with_resources(bench, &resources, |limited| {
        assert_eq!(limited.group(&class).value("net_cls.classid"), "255");
        let map = limited.group(&priorities).value("net_prio.ifpriomap");
        assert!(map.lines().any(|line| line == "lo 10"), "{map}");
    });
    Ok(())
}
