//! The store on a real directory: races, remains, damage and intruders.

use super::super::record::MAX_RECORD_BYTES;
use super::super::{Cause, EXIT_RECORD, ExitRecord, RawSpec, Status, WaitStatus};
use super::*;
use rustix::fs::{FileType, Mode};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use tempfile::TempDir;

fn id(id: &str) -> ContainerId {
    ContainerId::new(id).unwrap()
}

fn root() -> (TempDir, StateRoot) {
    let parent = tempfile::tempdir().unwrap();
    let root = StateRoot::open(parent.path().join("state")).unwrap();
    (parent, root)
}

fn record(container: &str, sandbox: &str) -> Record {
    let spec = RawSpec::new("{\"ociVersion\": \"1.2.0\"}".into()).unwrap();
    Record::new(id(container), id(sandbox), "/bundle".into(), spec)
}

/// Makes a container and gives its record as saved.
fn create(root: &StateRoot, container: &str, sandbox: &str) -> Record {
    let mut record = record(container, sandbox);
    root.claim(&id(container), &id(sandbox)).unwrap().commit(&mut record).unwrap();
    record
}

fn remove(root: &StateRoot, container: &str) {
    root.lock(&root.find(container).unwrap()).unwrap().remove().unwrap();
}

fn files(root: &StateRoot) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn state_file(root: &StateRoot, container: &str, sandbox: &str) -> PathBuf {
    root.path().join(StateName::new(&id(container), &id(sandbox)).file(FileRole::State))
}

#[expect(clippy::disallowed_methods, reason = "damages the directory as another program could")]
fn overwrite(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

fn make_fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn of_sixteen_racers_for_an_id_one_wins() {
    let (_parent, root) = root();
    for round in 0..20 {
        let container = format!("race{round}");
        let barrier = Barrier::new(16);
        let outcomes: Vec<Result<Claim>> = std::thread::scope(|scope| {
            let racer = |number: usize| {
                let (root, container, barrier) = (&root, &container, &barrier);
                // Every other one wants the id in a sandbox of its own.
                let sandbox =
                    if number.is_multiple_of(2) { container.clone() } else { format!("pod{number}") };
                scope.spawn(move || {
                    barrier.wait();
                    root.claim(&id(container), &id(&sandbox))
                })
            };
            let racers: Vec<_> = (0..16).map(racer).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for error in outcomes.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), &ErrorKind::AlreadyExists);
            assert!(
                error.to_string().starts_with(&format!("claim: container \"{container}\" already exists"))
            );
        }
    }
    assert_eq!(files(&root), [] as [&str; 0]);
}

#[test]
fn a_claim_destroys_nothing_that_exists() {
    let (_parent, root) = root();
    let saved = create(&root, "web", "web");
    let before = files(&root);
    for sandbox in ["web", "pod"] {
        let error = root.claim(&id("web"), &id(sandbox)).unwrap_err();
        assert_eq!(error.to_string(), "claim: container \"web\" already exists");
    }
    assert_eq!(files(&root), before);
    assert_eq!(root.read(&root.find("web").unwrap()).unwrap(), saved);

    // Nor while it is locked, nor when its record is damaged.
    let lock = root.lock(&root.find("web").unwrap()).unwrap();
    assert_eq!(root.claim(&id("web"), &id("web")).unwrap_err().kind(), &ErrorKind::AlreadyExists);
    drop(lock);
    overwrite(&state_file(&root, "web", "web"), b"");
    assert_eq!(root.claim(&id("web"), &id("web")).unwrap_err().kind(), &ErrorKind::AlreadyExists);
    assert_eq!(files(&root), before);
}

#[test]
fn a_dropped_claim_and_a_failed_commit_free_the_id() {
    let (_parent, root) = root();
    drop(root.claim(&id("web"), &id("web")).unwrap());
    assert_eq!(files(&root), [] as [&str; 0]);

    let mut foreign = record("other", "other");
    let error = root.claim(&id("web"), &id("web")).unwrap().commit(&mut foreign).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InvalidInput);
    assert_eq!(foreign.generation(), 0);
    assert_eq!(files(&root), [] as [&str; 0]);
}

#[test]
fn the_remains_of_a_crashed_claim_are_taken_over() {
    let (_parent, root) = root();
    for sandbox in ["web", "pod"] {
        let at = |suffix: &str| root.path().join(format!("web_sandbox:{sandbox}.{suffix}"));
        overwrite(&at("lock"), b"");
        overwrite(&at("tmp"), b"half a rec");
        fs::create_dir(at("run")).unwrap();
        overwrite(
            &at("run").join(EXIT_RECORD),
            &ExitRecord::new(WaitStatus::Unknown, Cause::Itself, 1).encode(),
        );
        assert_eq!(root.find("web").unwrap_err().kind(), &ErrorKind::NotFound);
        assert!(root.list().unwrap().is_empty());

        let claim = root.claim(&id("web"), &id("web")).unwrap();
        assert_eq!(claim.run_dir().exit_record().unwrap(), None);
        claim.commit(&mut record("web", "web")).unwrap();
        assert_eq!(files(&root), ["web_sandbox:web.lock", "web_sandbox:web.run", "web_sandbox:web.state"]);
        remove(&root, "web");
    }
}

#[test]
fn a_run_directory_that_is_something_else_stops_the_claim() {
    let (parent, root) = root();
    let canary = parent.path().join("canary");
    fs::create_dir(&canary).unwrap();
    overwrite(&canary.join(EXIT_RECORD), b"precious");
    symlink(&canary, root.path().join("web_sandbox:web.run")).unwrap();
    assert!(matches!(root.claim(&id("web"), &id("web")).unwrap_err().kind(), ErrorKind::Os(_)));
    assert_eq!(fs::read(canary.join(EXIT_RECORD)).unwrap(), b"precious");
}

#[test]
fn an_exact_id_wins_over_those_it_begins_and_only_a_beginning_is_completed() {
    let (_parent, root) = root();
    for (container, sandbox) in [("web", "pod"), ("web-1", "web-1"), ("web-2", "pod"), ("db", "db")] {
        create(&root, container, sandbox);
    }
    for id in ["web", "web-1"] {
        assert_eq!(root.find(id).unwrap().id(), id);
        assert_eq!(root.find_by_beginning(id).unwrap().id(), id);
    }
    assert_eq!(root.find_by_beginning("d").unwrap().id(), "db");
    for beginning in ["d", "web-"] {
        assert_eq!(root.find(beginning).unwrap_err().kind(), &ErrorKind::NotFound, "{beginning}");
    }
    let error = root.find_by_beginning("web-").unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InvalidInput);
    assert_eq!(
        error.to_string(),
        "find: \"web-\" is the beginning of 2 container ids: web-1, web-2 (give more of the id)"
    );
}

#[test]
fn of_many_candidates_ten_are_named_in_order() {
    let (_parent, root) = root();
    for number in (0..12).rev() {
        create(&root, &format!("c{number:02}"), "pod");
    }
    let error = root.find_by_beginning("c").unwrap_err().to_string();
    assert!(error.contains("12 container ids: c00, c01, c02,"), "{error}");
    assert!(error.contains("c09 and 2 more"), "{error}");
}

#[test]
fn looking_for_an_unknown_id_leaves_nothing() {
    let (_parent, root) = root();
    for name in ["web", &"x".repeat(255)] {
        for error in [root.find(name).unwrap_err(), root.find_by_beginning(name).unwrap_err()] {
            assert_eq!(error.kind(), &ErrorKind::NotFound);
            assert_eq!(error.to_string(), format!("find: container \"{name}\" does not exist"));
        }
    }
    for name in ["", "../web", "we*b"] {
        assert_eq!(root.find(name).unwrap_err().kind(), &ErrorKind::InvalidId);
    }
    assert_eq!(files(&root), [] as [&str; 0]);
}

#[test]
fn saving_counts_and_loading_sees_the_last_save() {
    let (_parent, root) = root();
    let root = root.durable(true);
    create(&root, "web", "web");
    let found = root.find("web").unwrap();
    let mut lock = root.lock(&found).unwrap();
    let mut record = lock.load().unwrap();
    assert_eq!((record.generation(), record.status()), (1, Status::Creating));
    record.advance(Status::Created).unwrap();
    lock.save(&mut record).unwrap();
    assert_eq!(lock.load().unwrap(), record);
    assert_eq!(root.read(&found).unwrap().generation(), 2);
    assert_eq!(files(&root), ["web_sandbox:web.lock", "web_sandbox:web.run", "web_sandbox:web.state"]);
    assert_eq!(fs::metadata(state_file(&root, "web", "web")).unwrap().permissions().mode() & 0o077, 0);
}

#[test]
fn a_save_that_fails_leaves_record_and_generation_alone() {
    let (_parent, root) = root();
    let mut record = create(&root, "web", "web");
    let mut lock = root.lock(&root.find("web").unwrap()).unwrap();
    // In the way of the rename; cannot be replaced by a file.
    fs::remove_file(state_file(&root, "web", "web")).unwrap();
    fs::create_dir(state_file(&root, "web", "web")).unwrap();
    assert!(lock.save(&mut record).is_err());
    assert_eq!(record.generation(), 1);
    assert!(!files(&root).iter().any(|name| name.ends_with(".tmp")));
}

#[test]
fn a_lock_excludes_and_its_drop_frees() {
    let (_parent, root) = root();
    create(&root, "web", "web");
    let found = root.find("web").unwrap();
    let lock = root.lock(&found).unwrap();
    assert!(root.try_lock(&found).unwrap().is_none());
    drop(lock);
    assert!(root.try_lock(&found).unwrap().is_some());
}

#[test]
fn a_wait_for_the_lock_of_a_removed_container_ends_with_not_found() {
    let (_parent, root) = root();
    for _ in 0..50 {
        create(&root, "web", "web");
        let found = root.find("web").unwrap();
        let lock = root.lock(&found).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| root.lock(&found).map(drop));
            lock.remove().unwrap();
            assert_eq!(waiter.join().unwrap().unwrap_err().kind(), &ErrorKind::NotFound);
        });
        assert_eq!(files(&root), [] as [&str; 0]);
    }
}

#[test]
fn concurrent_changes_are_neither_lost_nor_torn() {
    let (_parent, root) = root();
    create(&root, "web", "web");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let mut lock = root.lock(&root.find("web").unwrap()).unwrap();
                    let mut record = lock.load().unwrap();
                    lock.save(&mut record).unwrap();
                }
            });
        }
        scope.spawn(|| (0..200).for_each(|_| assert!(root.list().unwrap()[0].is_ok())));
    });
    assert_eq!(root.read(&root.find("web").unwrap()).unwrap().generation(), 101);
}

#[test]
fn removal_is_complete_and_does_not_mind_what_is_already_gone() {
    let (_parent, root) = root();
    create(&root, "web", "web");
    let found = root.find("web").unwrap();
    drop(root.run_dir(&found).unwrap().create_exit_record().unwrap());
    let lock = root.lock(&found).unwrap();
    std::os::unix::net::UnixListener::bind(lock.run_dir().unwrap().control_socket()).unwrap();
    lock.remove().unwrap();
    assert_eq!(files(&root), [] as [&str; 0]);
    assert_eq!(root.lock(&found).unwrap_err().kind(), &ErrorKind::NotFound);
    assert_eq!(root.read(&found).unwrap_err().kind(), &ErrorKind::NotFound);

    // Every subset of the three names may be missing.
    for missing in 0..8 {
        create(&root, "web", "web");
        let lock = root.lock(&found).unwrap();
        for (bit, suffix) in ["lock", "run", "state"].iter().enumerate() {
            let path = root.path().join(format!("web_sandbox:web.{suffix}"));
            if missing & (1 << bit) != 0 {
                fs::remove_dir(&path).or_else(|_| fs::remove_file(&path)).unwrap();
            }
        }
        lock.remove().unwrap();
        assert_eq!(files(&root), [] as [&str; 0]);
    }
}

#[test]
fn a_container_whose_lock_file_was_tidied_up_can_still_be_removed() {
    let (_parent, root) = root();
    create(&root, "web", "web");
    fs::remove_file(root.path().join("web_sandbox:web.lock")).unwrap();
    remove(&root, "web");
    assert_eq!(files(&root), [] as [&str; 0]);
}

#[test]
fn removal_takes_a_link_in_place_of_the_run_directory_and_not_what_it_points_to() {
    let (parent, root) = root();
    create(&root, "web", "web");
    let (run, canary) = (root.path().join("web_sandbox:web.run"), parent.path().join("canary"));
    fs::rename(&run, &canary).unwrap();
    overwrite(&canary.join(EXIT_RECORD), b"precious");
    symlink(&canary, &run).unwrap();
    remove(&root, "web");
    assert_eq!(files(&root), [] as [&str; 0]);
    assert_eq!(fs::read(canary.join(EXIT_RECORD)).unwrap(), b"precious");
}

#[test]
fn removal_reports_what_it_does_not_know_and_leaves_it() {
    let (_parent, root) = root();
    create(&root, "web", "web");
    overwrite(&root.path().join("web_sandbox:web.run/precious"), b"x");
    let error = root.lock(&root.find("web").unwrap()).unwrap().remove().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Incomplete);
    assert!(error.to_string().contains("ENOTEMPTY"), "{error}");
    assert_eq!(files(&root), ["web_sandbox:web.lock", "web_sandbox:web.run"]);
    assert_eq!(root.find("web").unwrap_err().kind(), &ErrorKind::NotFound);
}

/// The damaged container is an error, its neighbours are listed, and it can be removed.
fn assert_damage_stays_local(root: &StateRoot, what: &str) {
    let listed = root.list().unwrap();
    assert_eq!(listed.len(), 3, "{what}");
    assert_eq!(listed[0].as_ref().unwrap().id.as_str(), "a");
    let damaged = listed[1].as_ref().unwrap_err();
    assert_eq!(
        (damaged.found.id(), damaged.error.kind()),
        ("b", &ErrorKind::Stale),
        "{what}: {}",
        damaged.error
    );
    assert_eq!(listed[2].as_ref().unwrap().id.as_str(), "c");

    let found = root.find("b").unwrap();
    assert_eq!(root.read(&found).unwrap_err().kind(), &ErrorKind::Stale, "{what}");
    assert_eq!(root.lock(&found).unwrap().load().unwrap_err().kind(), &ErrorKind::Stale, "{what}");
}

#[test]
fn a_damaged_record_is_an_error_of_its_container_alone() {
    let (_parent, root) = root();
    for container in ["a", "b", "c"] {
        create(&root, container, container);
    }
    let path = state_file(&root, "b", "b");
    let whole = fs::read(&path).unwrap();
    for end in 0..whole.len() {
        overwrite(&path, &whole[..end]);
        assert_damage_stays_local(&root, &format!("cut at {end}"));
    }
    for bit in (0..whole.len() * 8).step_by(7) {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        overwrite(&path, &flipped);
        assert_damage_stays_local(&root, &format!("bit {bit} flipped"));
    }
    overwrite(&path, &fs::read(state_file(&root, "a", "a")).unwrap());
    assert_damage_stays_local(&root, "another container's record");
    File::create(&path).unwrap().set_len(MAX_RECORD_BYTES as u64 + 1).unwrap();
    assert_damage_stays_local(&root, "longer than the limit");
    remove(&root, "b");
    assert_eq!(root.list().unwrap().len(), 2);
}

#[test]
fn what_is_put_in_the_place_of_a_record_is_neither_followed_nor_waited_for() {
    let (_parent, root) = root();
    type Intruder = fn(&Path, &Path);
    let intruders: [(&str, Intruder); 5] = [
        ("directory", |path, _| fs::create_dir(path).unwrap()),
        ("symlink to a good record", |path, other| symlink(other, path).unwrap()),
        ("dangling symlink", |path, _| symlink("nowhere", path).unwrap()),
        ("fifo", |path, _| make_fifo(path)),
        ("socket", |path, _| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
    ];
    create(&root, "a", "a");
    create(&root, "c", "c");
    for (what, intrude) in intruders {
        create(&root, "b", "b");
        let path = state_file(&root, "b", "b");
        fs::remove_file(&path).unwrap();
        intrude(&path, &state_file(&root, "a", "a"));
        assert_damage_stays_local(&root, what);
        remove(&root, "b");
        assert_eq!(root.list().unwrap().len(), 2, "{what}");
    }
}

#[test]
fn foreign_files_are_neither_listed_nor_touched() {
    let (_parent, root) = root();
    for name in ["notes.txt", "x.state", "~_sandbox:y.state", ".state", "b_sandbox:"] {
        overwrite(&root.path().join(name), b"");
    }
    let before = files(&root);
    assert!(root.list().unwrap().is_empty());
    create(&root, "b", "b");
    remove(&root, "b");
    assert_eq!(files(&root), before);
}

#[test]
fn the_longest_ids_live_like_any_other() {
    let (_parent, root) = root();
    let long = |end: char| format!("{}{end}", "x".repeat(254));
    for end in ['1', '2'] {
        create(&root, &long(end), &long(end));
    }
    create(&root, "short", &long('1'));
    assert!(files(&root).iter().all(|name| name.len() <= 255));

    assert_eq!(root.find(&long('2')).unwrap().id(), long('2'));
    assert_eq!(root.find_by_beginning(&long('2')).unwrap().id(), long('2'));
    assert_eq!(root.find_by_beginning("sho").unwrap().id(), "short");
    for beginning in ["x", &"x".repeat(200)] {
        assert_eq!(root.find_by_beginning(beginning).unwrap_err().kind(), &ErrorKind::InvalidInput);
    }
    assert_eq!(root.find(&"x".repeat(255)).unwrap_err().kind(), &ErrorKind::NotFound);
    assert_eq!(root.claim(&id(&long('1')), &id("pod")).unwrap_err().kind(), &ErrorKind::AlreadyExists);
    let ids: Vec<_> = root.list().unwrap().into_iter().map(|record| record.unwrap().id.to_string()).collect();
    assert_eq!(ids, ["short".into(), long('1'), long('2')]);

    // Damaged, the whole id still finds it, and so does the list.
    overwrite(&state_file(&root, &long('1'), &long('1')), b"");
    remove(&root, &long('1'));
    overwrite(&state_file(&root, &long('2'), &long('2')), b"");
    let damaged = root.list().unwrap().into_iter().find_map(Result::err).unwrap();
    let found = root.find(damaged.found.id()).unwrap();
    root.lock(&found).unwrap().remove().unwrap();
    remove(&root, "short");
    assert_eq!(files(&root), [] as [&str; 0]);
}

#[test]
fn an_exit_record_is_read_once_it_is_whole() {
    use std::io::Write;
    let (_parent, root) = root();
    create(&root, "web", "web");
    let run_dir = root.run_dir(&root.find("web").unwrap()).unwrap();
    assert_eq!(run_dir.exit_record().unwrap(), None);
    let mut file = File::from(run_dir.create_exit_record().unwrap());
    assert_eq!(run_dir.create_exit_record().unwrap_err().raw_os_error(), Some(libc::EEXIST));
    let ended = ExitRecord::new(WaitStatus::Exited(3), Cause::Itself, 1);
    let line = ended.encode();
    for byte in &line {
        assert_eq!(run_dir.exit_record().unwrap(), None);
        file.write_all(std::slice::from_ref(byte)).unwrap();
    }
    assert_eq!(run_dir.exit_record().unwrap(), Some(ended));
}

#[test]
fn remains_of_a_creation_are_removed_by_name_and_nothing_else_is() {
    let (_parent, root) = root();
    create(&root, "other", "pod");
    let whole = files(&root);
    // As a program that is killed before its first save leaves it.
    std::mem::forget(root.claim(&id("web"), &id("pod")).unwrap());
    assert_eq!(files(&root).len(), whole.len() + 2);
    root.remove_remains(&id("web")).unwrap();
    assert_eq!(files(&root).len(), whole.len() + 2, "its lock is still held: it may yet be made");
    root.remove_remains(&id("other")).unwrap();
    assert!(root.find("other").is_ok());

    let stem = StateName::new(&id("gone"), &id("pod"));
    overwrite(&root.path().join(stem.file(FileRole::Lock)), b"");
    fs::create_dir(root.path().join(stem.file(FileRole::RunDir))).unwrap();
    root.remove_remains(&id("gone")).unwrap();
    assert_eq!(files(&root).len(), whole.len() + 2);
}
