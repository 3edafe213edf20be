//! Freezing, listing and killing, in both versions.

use super::*;

/// A freezer in the unified hierarchy, or in v1's.
fn place_to_freeze(fixture: &mut Fixture, unified: bool) -> Option<(PathBuf, Freezer)> {
    let layout = if unified { unified_host()? } else { host(&["freezer"])? };
    let plan = fixture.plan_freezing(&Resources::default(), &layout, None, true);
    let cgroup = Cgroup::create(&plan, None).unwrap();
    assert_eq!(cgroup.leaves(), plan.leaves());
    let mut fds = cgroup.freezer_fds().unwrap();
    let taken = Freezer::take(|name| {
        let index = fds.iter().position(|(given, _)| given == name)?;
        Some(fds.swap_remove(index).1)
    });
    let dir = plan.branches[0].dirs.last().unwrap().path.clone();
    Some((dir, taken.unwrap()))
}

fn await_frozen(freezer: &Freezer) {
    use rustix::event::{Timespec, poll};
    let nanos = RECHECK.as_nanos().try_into().unwrap();
    for _ in 0..10_000 {
        if freezer.frozen().unwrap() {
            return;
        }
        poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: nanos })).unwrap();
    }
    panic!("not frozen");
}

#[test]
fn what_is_frozen_makes_no_progress_until_it_is_thawed() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some((dir, freezer)) = place_to_freeze(&mut fixture, unified) else { continue };
        let counter = tempfile::NamedTempFile::new().unwrap();
        let script = format!("while :; do echo >> {}; done", counter.path().display());
        let mut child = inhabitant(&dir.join("cgroup.procs"), &script);
        assert!(freezer.members().unwrap().contains(&child.id().cast_signed()));
        let length = || counter.as_file().metadata().unwrap().len();
        // How many looks it takes until the file is longer than `at`.
        let grows_beyond = |at: u64| {
            let began = std::time::Instant::now();
            let grows = (0..).find(|_| {
                std::thread::yield_now();
                length() > at || began.elapsed() > std::time::Duration::from_secs(60)
            });
            assert!(length() > at, "unified: {unified}");
            grows.unwrap_or(0)
        };
        let looks = grows_beyond(0).max(10_000);
        freezer.freeze().unwrap();
        await_frozen(&freezer);
        let at = length();
        // Longer than it took to see the file grow.
        (0..looks).for_each(|_| std::thread::yield_now());
        assert_eq!(length(), at, "unified: {unified}");
        freezer.thaw().unwrap();
        grows_beyond(at);
        freezer.freeze().unwrap();
        await_frozen(&freezer);
        freezer.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    }
}

#[test]
fn killing_takes_all_that_fork_meanwhile() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some((dir, freezer)) = place_to_freeze(&mut fixture, unified) else { continue };
        let script = "f() { (:); [ $1 -gt 20000 ] || f $(($1 + 1)) & }; f 0; exec sleep 60";
        let mut child = inhabitant(&dir.join("cgroup.procs"), script);
        freezer.kill().unwrap();
        child.wait().unwrap();
        // The host's subreaper collects the orphans. What is still listed is dead, or about to be.
        let gone = (0..10_000).any(|_| {
            std::thread::yield_now();
            freezer.members().unwrap().is_empty()
        });
        assert!(gone, "unified: {unified}: {:?}", freezer.members());
    }
}

#[test]
fn a_removed_cgroup_has_no_process_left_to_kill() {
    for unified in [false, true] {
        let mut fixture = Fixture::new();
        let Some((dir, freezer)) = place_to_freeze(&mut fixture, unified) else { continue };
        destroy(&[dir]).unwrap();
        freezer.kill().unwrap();
        assert!(freezer.members().unwrap().is_empty(), "unified: {unified}");
    }
}
