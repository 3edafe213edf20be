//! Where a container's cgroups are, and which it has.

use crate::cli::{Engine, assert_success, need};
use crate::kit::{await_end, is_root, may_limit, skip, stage};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The directory of `controller`'s hierarchy: of v1, or else the unified one.
fn hierarchy(controller: &str) -> PathBuf {
    let v1 = Path::new("/sys/fs/cgroup").join(controller);
    if v1.join("cgroup.procs").exists() { v1 } else { "/sys/fs/cgroup".into() }
}

/// A cgroup that no container made. Removed in the end.
struct Above(PathBuf);

impl Above {
    fn new(controller: &str, name: &str) -> Self {
        let path = hierarchy(controller).join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Writes the file of v1, or another one of v2.
    fn write(&self, v1: (&str, &str), v2: (&str, &str)) {
        let (file, text) = if self.0.join(v1.0).exists() { v1 } else { v2 };
        std::fs::write(self.0.join(file), text).unwrap();
    }

    fn freeze(&self, yes: bool) {
        let (v1, v2) = if yes { ("FROZEN", "1") } else { ("THAWED", "0") };
        self.write(("freezer.state", v1), ("cgroup.freeze", v2));
    }
}

impl Drop for Above {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(self.0.join("leaf"));
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_place_that_is_frozen_is_refused_at_once_and_nothing_is_left() {
    need!(ours);
    if !is_root() {
        skip!("needs cgroups that the caller may make");
    }
    let stage = stage!();
    let engine = Engine::on(&stage, "true");
    let id = &stage.id("frozen");
    let above = Above::new("freezer", id);
    above.freeze(true);
    for place in ["", "/leaf"] {
        engine.edit(|config| config["linux"]["cgroupsPath"] = json!(format!("/{id}{place}")));
        let begun = Instant::now();
        let said = engine.refused(&["run", id]);
        assert!(said.contains("linux.cgroupsPath: ") && said.contains("is frozen"), "{said}");
        assert!(begun.elapsed() < crate::cli::LIMIT / 2, "{:?}", begun.elapsed());
        assert!(engine.refused(&["state", id]).contains("does not exist"));
    }
    assert!(!above.0.join("leaf").exists());
    // The directory itself may be the container's, empty as it is.
    above.freeze(false);
    engine.edit(|config| config["linux"]["cgroupsPath"] = json!(format!("/{id}/leaf")));
    assert_success(&engine.call(&["run", id]));
}

#[test]
fn a_container_that_cannot_be_made_leaves_none_of_the_cgroups_above_its_own() {
    need!(ours);
    if !is_root() {
        skip!("needs cgroups that the caller may make");
    }
    let stage = stage!();
    let engine = Engine::on(&stage, "true");
    let id = &stage.id("above");
    engine.edit(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("/{id}/between/leaf"));
        config["process"]["args"] = json!(["/missing"]);
    });
    assert!(engine.refused(&["run", id]).contains("no such file"));
    let left = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path().join(id));
    assert_eq!(left.filter(|path| path.exists()).collect::<Vec<_>>(), [] as [PathBuf; 0]);
}

/// The host pids of a container's processes.
fn pids(engine: &Engine, id: &str) -> Vec<i32> {
    serde_json::from_str(&engine.must(&["ps", "--format", "json", id])).unwrap()
}

#[test]
fn a_paused_container_whose_sandbox_and_record_are_gone_is_deleted_with_its_frozen_processes() {
    need!(ours);
    if !is_root() {
        skip!("needs a cgroup to freeze");
    }
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("damaged");
    let sandbox = engine.running(id);
    let inside = pids(&engine, id);
    engine.must(&["pause", id]);
    kill_process(Pid::from_raw(sandbox).unwrap(), Signal::KILL).unwrap();
    let record = engine.root.join(format!("{id}_sandbox:{id}.state"));
    std::fs::write(&record, "").unwrap();
    engine.must(&["delete", "--force", id]);
    for pid in inside {
        await_end(pid);
    }
    assert!(engine.refused(&["state", id]).contains("does not exist"));
}

#[test]
fn processes_that_the_workload_froze_in_a_cgroup_of_its_own_are_deleted_too() {
    need!(ours);
    if !is_root() {
        skip!("needs a cgroup to freeze");
    }
    let stage = stage!();
    let mut engine = Engine::on(&stage, "sleep 1000 & sleep 1000 & wait");
    let id = &stage.id("nested");
    engine.running(id);
    while pids(&engine, id).len() < 3 {
        std::thread::yield_now();
    }
    let inside = pids(&engine, id);
    let paths = membership(&inside[0].to_string());
    let own = paths.iter().find(|(all, _)| all.split(',').any(|one| one == "freezer"));
    let own = own.or(paths.iter().find(|(all, _)| all.is_empty())).unwrap();
    let top = hierarchy("freezer").join(own.1.trim_start_matches('/'));
    // One in each of two cgroups, the inner one below a cgroup that is not frozen.
    for (name, pid) in [("one", inside[1]), ("two/three", inside[2])] {
        let nested = top.join(name);
        std::fs::create_dir_all(&nested).unwrap();
        std::fs::write(nested.join("cgroup.procs"), pid.to_string()).unwrap();
        let (file, text) = match nested.join("freezer.state").exists() {
            true => ("freezer.state", "FROZEN"),
            false => ("cgroup.freeze", "1"),
        };
        std::fs::write(nested.join(file), text).unwrap();
    }
    let begun = Instant::now();
    engine.must(&["delete", "--force", id]);
    assert!(begun.elapsed() < crate::cli::LIMIT / 4, "{:?}", begun.elapsed());
    for pid in inside {
        await_end(pid);
    }
}

/// The paths in `/proc/PID/cgroup` by controllers; those of v2 under an empty name.
fn membership(pid: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let line = |line: &str| {
        let (controllers, path) = line.split_once(':').unwrap().1.split_once(':').unwrap();
        (controllers.to_owned(), path.to_owned())
    };
    text.lines().map(line).collect()
}

#[test]
fn a_container_without_a_path_is_named_after_its_id_where_runc_puts_it() {
    need!(runtime);
    if !is_root() {
        skip!("needs cgroups that the caller may make");
    }
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("unnamed");
    engine.running(id);
    let inside: Vec<i32> = serde_json::from_str(&engine.must(&["ps", "--format", "json", id])).unwrap();
    let (own, found) = (membership("self"), membership(&inside[0].to_string()));
    let is_v2 = own.iter().all(|(controllers, _)| controllers.is_empty());
    let joined: Vec<_> = ["pids", "memory", "cpu", "cpuset", "blkio", "freezer"]
        .into_iter()
        .filter(|name| is_v2 || own.iter().any(|(all, _)| all.split(',').any(|one| one == *name)))
        .collect();
    for controller in joined {
        let of = |all: &[(String, String)]| {
            let mut lines = all.iter();
            let line = lines.find(|(all, _)| is_v2 || all.split(',').any(|one| one == controller));
            line.unwrap().1.clone()
        };
        let own = of(&own);
        let base = if is_v2 { Path::new(&own).parent().unwrap_or(Path::new("/")) } else { Path::new(&own) };
        let place = of(&found);
        // Our processes are one level below the container's limits where the sandbox is apart.
        let place = place.strip_suffix("/container").unwrap_or(&place);
        assert_eq!(Path::new(place), base.join(id), "{controller}");
    }
    engine.must(&["delete", "--force", id]);
}

#[test]
fn processors_are_chosen_for_a_container_that_was_created_without_a_choice() {
    need!(runtime);
    if !is_root() || !may_limit("cpuset") {
        skip!("needs cgroups with cpuset");
    }
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("processors");
    engine.edit(|config| config["linux"]["cgroupsPath"] = json!(format!("/{id}")));
    let pid = engine.running(id);
    engine.must(&["update", "--cpuset-cpus", "0", id]);
    let inside = engine.must(&["ps", "--format", "json", id]);
    let inside: Vec<i32> = serde_json::from_str(&inside).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", inside[0])).unwrap();
    assert_eq!(crate::kit::line_of(&status, "Cpus_allowed_list"), "0", "of {inside:?}, {pid}");
    engine.must(&["delete", "--force", id]);
}

#[test]
fn a_quota_and_a_shorter_period_change_together_below_a_limit() {
    // runc does it too, and leaves the cgroups above the container's.
    need!(ours);
    if !is_root() || !may_limit("cpu") {
        skip!("needs cgroups with cpu");
    }
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("period");
    let above = Above::new("cpu", id);
    if hierarchy("cpu") == Path::new("/sys/fs/cgroup") {
        let _ = std::fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu");
    }
    above.write(("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"));
    engine.edit(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("/{id}/leaf"));
        config["linux"]["resources"]["cpu"] = json!({ "quota": 50_000, "period": 100_000 });
    });
    engine.running(id);
    for [period, quota] in [["50000", "25000"], ["200000", "100000"], ["10000", "4000"]] {
        engine.must(&["update", "--cpu-period", period, "--cpu-quota", quota, id]);
        let leaf = above.0.join("leaf");
        let read = |file: &str| std::fs::read_to_string(leaf.join(file)).map(|text| text.trim().to_owned());
        let found = read("cpu.cfs_quota_us")
            .and_then(|quota| Ok(format!("{quota} {}", read("cpu.cfs_period_us")?)))
            .or_else(|_| read("container/cpu.max"));
        assert_eq!(found.unwrap(), format!("{quota} {period}"));
    }
    engine.must(&["delete", "--force", id]);
}

#[test]
fn a_process_is_executed_in_cgroups_below_the_containers() {
    need!(runtime);
    if !is_root() || !hierarchy("memory").ends_with("memory") {
        skip!("needs cgroups of v1 that the caller may make");
    }
    let stage = stage!();
    let mut engine = Engine::on(&stage, "exec sleep 1000");
    let id = &stage.id("below");
    engine.edit(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("/{id}"));
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["type"] == "cgroup" {
                mount["options"].as_array_mut().unwrap().retain(|option| option != "ro");
            }
        }
    });
    engine.running(id);
    let make = "for d in /sys/fs/cgroup/*/cgroup.procs; do
            d=${d%/cgroup.procs}
            mkdir $d/sub
            for f in cpuset.cpus cpuset.mems; do [ ! -e $d/$f ] || cat $d/$f > $d/sub/$f; done
        done";
    engine.must(&["exec", id, "sh", "-c", make]);
    // runc puts it into the unified hierarchy, too, and does not show that inside.
    let unified = Path::new("/sys/fs/cgroup/unified").join(id);
    if unified.exists() {
        std::fs::create_dir(unified.join("sub")).unwrap();
    }
    let membership = |options: &[&str]| {
        let command = [id.as_str(), "cat", "/proc/self/cgroup"];
        let arguments: Vec<_> = ["exec"].iter().chain(options).chain(&command).copied().collect();
        engine.must(&arguments)
    };
    let own = membership(&[]);
    // Those of the controllers asked about whose path is now below the one of a process without the option.
    let below = |options: &[&str]| -> Vec<&str> {
        let now = membership(options);
        let of = |text: &str, controller: &str| -> String {
            let line = text.lines().find(|line| line.split(':').nth(1) == Some(controller));
            line.unwrap_or_else(|| panic!("{text}")).to_owned()
        };
        let moved = |controller: &&str| {
            let (before, after) = (of(&own, controller), of(&now, controller));
            assert!(
                after == before || after == format!("{}/sub", before.trim_end_matches('/')),
                "{before} {after}"
            );
            after != before
        };
        ["cpu", "freezer", "memory", "pids"].into_iter().filter(moved).collect()
    };
    assert_eq!(below(&["--cgroup", "memory:sub", "--cgroup", "pids:/sub"]), ["memory", "pids"]);
    assert_eq!(below(&["--cgroup", "cpu,memory:sub"]), ["cpu", "memory"]);
    assert_eq!(below(&["--cgroup", "sub"]), ["cpu", "freezer", "memory", "pids"]);
    assert!(below(&["--cgroup", "/"]).is_empty());
    assert!(below(&["--cgroup", "cpu:/"]).is_empty());
    let wrong: [(&[&str], &str); 7] = [
        (&["--cgroup", ".."], ".. is not a sub cgroup path"),
        (&["--cgroup", "memory:.."], ".. is not a sub cgroup path"),
        (&["--cgroup", "nonexistent"], "/nonexistent/cgroup.procs: no such file"),
        (&["--cgroup", "cpu:nonexistent"], "/nonexistent/cgroup.procs: no such file"),
        (&["--cgroup", "whaaat:/"], "unknown controller"),
        (&["--cgroup", "cpu:a:b"], "invalid --cgroup argument: cpu:a:b"),
        (&["--cgroup", "cpu:sub", "--cgroup", "sub"], "missing <controller>: prefix"),
    ];
    for (options, words) in wrong {
        let arguments: Vec<_> =
            ["exec"].iter().chain(options).chain(&[id.as_str(), "true"]).copied().collect();
        let said = engine.refused(&arguments);
        assert!(said.contains(words), "{options:?}: {said}");
    }
    assert_eq!(engine.must(&["exec", id, "cat", "/sys/fs/cgroup/memory/sub/cgroup.procs"]), "");
    engine.must(&["delete", "--force", id]);
    assert!(!hierarchy("memory").join(id).exists());
}
