//! Removal: deep nests, many siblings, processes that keep forking, and threaded cgroups.

use super::*;

#[test]
fn destroy_ends_live_processes_and_nested_cgroups() {
    let Some(layout) = host(&["memory", "pids", "freezer"]) else {
        return;
    };
    let mut fixture = Fixture::new();
    let plan = fixture.plan(&limits(), &layout, Some("/leaf"));
    let cgroup = Cgroup::create(&plan, None).unwrap();
    let freezer =
        below(&layout.v1("freezer").unwrap().mountpoint, &Path::new(&fixture.name).join("leaf/container"));
    let pids = below(&layout.v1("pids").unwrap().mountpoint, &Path::new(&fixture.name).join("leaf"));
    let inner = pids.join("a/b");
    std::fs::create_dir(pids.join("a")).unwrap();
    std::fs::create_dir(&inner).unwrap();
    let mut deep = inhabitant(&inner.join("cgroup.procs"), SLEEP);
    let mut frozen = inhabitant(&freezer.join("cgroup.procs"), SLEEP);
    let state = rustix::fs::open(
        freezer.join("freezer.state"),
        rustix::fs::OFlags::WRONLY,
        rustix::fs::Mode::empty(),
    );
    rustix::io::write(state.unwrap(), b"FROZEN").unwrap();

    let error = Cgroup::create(&plan, None).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::AlreadyExists, "{error}");

    destroy(&plan.leaves()).unwrap();
    assert!(plan.leaves().iter().all(|path| !path.exists()));
    for child in [&mut deep, &mut frozen] {
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    }
    assert_eq!(cgroup.made_ancestors().len(), plan.branches.len());
    prune(cgroup.made_ancestors()).unwrap();
    assert!(cgroup.made_ancestors().iter().all(|path| !path.exists()));
}

#[test]
fn destroy_wins_against_a_process_that_keeps_forking() {
    let Some(layout) = host(&["pids"]) else { return };
    let mut fixture = Fixture::new();
    let resources = Resources { pids_limit: Some(100), ..Resources::default() };
    let plan = fixture.plan(&resources, &layout, None);
    Cgroup::create(&plan, None).unwrap();
    let [leaf] = plan.leaves().try_into().unwrap();
    // Each process starts the next and ends, so a listed process has ended before it can be killed. If the test
    // fails, the chain ends by itself in a minute.
    let script = "f() { (:); [ $1 -gt 20000 ] || f $(($1 + 1)) & }; f 0; exec sleep 60";
    let mut children = [(); 3].map(|()| inhabitant(&leaf.join("cgroup.procs"), script));
    destroy(std::slice::from_ref(&leaf)).unwrap();
    assert!(!leaf.exists());
    for child in &mut children {
        child.wait().unwrap();
    }
}

#[test]
fn on_v2_destroy_kills_the_whole_subtree_at_once() {
    let Some(layout) = unified_host() else { return };
    if !layout.unified.as_ref().unwrap().points.last().unwrap().is_open() {
        return note_skip("the caller may make cgroups in its own part of the hierarchy only");
    }
    let mut fixture = Fixture::new();
    let plan = fixture.plan(&Resources::default(), &layout, Some(""));
    let cgroup = Cgroup::create(&plan, None).unwrap();
    assert!(cgroup.sandbox_dir_fd().is_some());
    let names: Vec<String> = cgroup.join_fds().unwrap().into_iter().map(|(name, _)| name).collect();
    let (own, others) = names.split_at(2);
    assert_eq!(own, [CONTAINER_DIR.to_owned(), format!("{CONTAINER_JOIN}-v2")]);
    // Where this hierarchy counts memory, the sandbox is shown in the workload's cgroup for a while.
    let stems: Vec<&str> =
        others.iter().filter_map(|name| name.rsplit_once('-')).map(|(stem, _)| stem).collect();
    assert!(stems.is_empty() || stems == [SANDBOX_SHOWN, SANDBOX_BACK], "{others:?}");
    let leaf = plan.leaves().remove(0);
    std::fs::create_dir(leaf.join("container/inner")).unwrap();
    let mut child = inhabitant(&leaf.join("container/inner/cgroup.procs"), SLEEP);
    destroy(&plan.leaves()).unwrap();
    assert!(!leaf.exists());
    child.wait().unwrap();
    destroy(&plan.leaves()).unwrap();
}

/// The leaf of a container in the unified hierarchy, or in v1's of the process limit.
fn leaf_to_fill(fixture: &mut Fixture, unified: bool) -> Option<PathBuf> {
    let layout = if unified { unified_host() } else { host(&["pids"]) }?;
    let resources = match unified {
        true => Resources::default(),
        false => Resources { pids_limit: Some(1000), ..Resources::default() },
    };
    let plan = fixture.plan_freezing(&resources, &layout, None, unified);
    Cgroup::create(&plan, None).unwrap();
    plan.leaves().into_iter().next()
}

#[test]
fn destroy_removes_a_deep_nest_with_a_process_at_its_end() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some(leaf) = leaf_to_fill(&mut fixture, unified) else { continue };
        // Deeper than PATH_MAX allows: the script makes each directory from inside the one above.
        let script =
            "cd \"$0\" && i=0 && while [ $i -lt 600 ]; do mkdir nested && cd -P nested && i=$((i + 1)); done";
        #[expect(clippy::disallowed_methods, reason = "the test does what a workload would do")]
        let made = std::process::Command::new("sh").args(["-euc", script]).arg(&leaf).status().unwrap();
        assert!(made.success());
        let deep: PathBuf = leaf.join(["nested"; 300].join("/"));
        let mut child = inhabitant(&deep.join("cgroup.procs"), SLEEP);
        destroy(std::slice::from_ref(&leaf)).unwrap();
        assert!(!leaf.exists(), "unified: {unified}");
        child.wait().unwrap();
    }
}

#[test]
fn destroy_removes_many_siblings() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some(leaf) = leaf_to_fill(&mut fixture, unified) else { continue };
        for number in 0..1000 {
            std::fs::create_dir(leaf.join(number.to_string())).unwrap();
        }
        destroy(std::slice::from_ref(&leaf)).unwrap();
        assert!(!leaf.exists(), "unified: {unified}");
    }
}

#[test]
fn destroy_wins_against_a_process_that_keeps_making_cgroups_and_going_there() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some(leaf) = leaf_to_fill(&mut fixture, unified) else { continue };
        std::fs::create_dir(leaf.join("busy")).unwrap();
        // If the test fails, the script ends by itself.
        let script = format!(
            "cd {leaf:?}/busy; i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); \
             mkdir n$i; (echo 0 > n$i/cgroup.procs; exec sleep 60) & done"
        );
        let mut child = inhabitant(&leaf.join("busy/cgroup.procs"), &script);
        let busy = (0..1_000_000).any(|_| leaf.join("busy/n20").exists());
        assert!(busy, "it has begun");
        destroy(std::slice::from_ref(&leaf)).unwrap();
        assert!(!leaf.exists(), "unified: {unified}");
        child.wait().unwrap();
    }
}

#[test]
fn on_v2_destroy_removes_threaded_cgroups() {
    let mut fixture = Fixture::new();
    let Some(leaf) = leaf_to_fill(&mut fixture, true) else { return };
    let inner = leaf.join("container/threads");
    std::fs::create_dir(&inner).unwrap();
    let file =
        rustix::fs::open(inner.join("cgroup.type"), rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty());
    rustix::io::write(file.unwrap(), b"threaded").unwrap();
    // The process moves itself, because a thread can move only within its threaded domain.
    let script = format!("echo 0 > {inner:?}/cgroup.threads; {SLEEP}");
    let mut child = inhabitant(&leaf.join("container/cgroup.procs"), &script);
    let moved = (0..1_000_000).any(|_| !read(inner.join("cgroup.threads")).is_empty());
    assert!(moved);
    destroy(std::slice::from_ref(&leaf)).unwrap();
    assert!(!leaf.exists());
    child.wait().unwrap();
}

#[test]
fn removal_ends_in_time_and_says_what_is_left() {
    let mut fixture = Fixture::new();
    let Some(leaf) = leaf_to_fill(&mut fixture, false) else { return };
    for number in 0..100 {
        std::fs::create_dir(leaf.join(number.to_string())).unwrap();
    }
    let error = destroy_within(std::slice::from_ref(&leaf), std::time::Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Incomplete);
    assert!(error.to_string().contains(leaf.to_str().unwrap()), "{error}");
    destroy(std::slice::from_ref(&leaf)).unwrap();
    assert!(!leaf.exists(), "a second call continues the removal");
}

#[test]
fn a_remover_waits_for_the_end_of_who_is_inside_and_takes_what_they_made() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some(leaf) = leaf_to_fill(&mut fixture, unified) else { continue };
        for below in ["nested", "nested/deeper"] {
            std::fs::create_dir(leaf.join(below)).unwrap();
        }
        let remover = Remover::open(std::slice::from_ref(&leaf), &[]).unwrap();
        let mut inside = inhabitant(&leaf.join("nested/cgroup.procs"), SLEEP);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| remover.remove_when_empty());
            // By now the remover may hold pidfds and poll, or may not have begun. Both are right.
            std::thread::yield_now();
            assert!(leaf.join("nested").exists(), "unified: {unified}");
            inside.kill().unwrap();
            waiting.join().unwrap();
        });
        assert!(!leaf.exists(), "unified: {unified}");
        inside.wait().unwrap();
        // A removal that comes late finds nothing, and that is no error.
        remover.remove_when_empty();
        destroy(std::slice::from_ref(&leaf)).unwrap();
        assert_eq!(Remover::open(&[leaf], &[]).unwrap().leaves().count(), 0);
    }
}

#[test]
fn a_remover_leaves_a_later_cgroup_of_the_same_name() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some(leaf) = leaf_to_fill(&mut fixture, unified) else { continue };
        let remover = Remover::open(std::slice::from_ref(&leaf), &[]).unwrap();
        destroy(std::slice::from_ref(&leaf)).unwrap();
        std::fs::create_dir(&leaf).unwrap();
        remover.remove_when_empty();
        assert!(leaf.exists(), "unified: {unified}");
        destroy(std::slice::from_ref(&leaf)).unwrap();
    }
}

#[test]
fn two_may_remove_the_same_cgroups_at_once() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some(leaf) = leaf_to_fill(&mut fixture, unified) else { continue };
        for number in 0..50 {
            for below in ["", "/nested", "/nested/deeper"] {
                std::fs::create_dir(leaf.join(format!("{number}{below}"))).unwrap();
            }
        }
        let leaves = std::slice::from_ref(&leaf);
        let remover = Remover::open(leaves, &[]).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| remover.remove_when_empty());
            destroy(leaves).unwrap();
        });
        assert!(!leaf.exists(), "unified: {unified}");
    }
}

#[test]
fn nothing_but_cgroups_below_a_mount_is_ever_removed() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    let mut paths =
        vec![victim.clone(), PathBuf::from("relative"), PathBuf::from("/"), dir.path().join("a/../victim")];
    let layout = host::cgroup_layout().unwrap();
    paths.extend(layout.v1.first().map(|hierarchy| hierarchy.mountpoint.clone()));
    for path in paths {
        let error = destroy(std::slice::from_ref(&path)).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Incomplete, "{path:?}: {error}");
    }
    assert!(victim.exists());
}
