//! Damage on disk: whatever a state file has become, its neighbours are listed and it can be deleted by name.

use crate::kit::note_skip;
use crate::kit::place::Place;
use crate::orphans::{SETTLE, alone, settle};
use cofferdam::AnyContainer;
use cofferdam::info::Listed;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

type Damage = fn(&Path);

const DAMAGES: [(&str, Damage); 9] = [
    ("empty", |file| std::fs::write(file, b"").unwrap()),
    ("cut", |file| {
        let whole = std::fs::read(file).unwrap();
        std::fs::write(file, &whole[..whole.len() / 2]).unwrap();
    }),
    ("a bit flipped", |file| {
        let mut bytes = std::fs::read(file).unwrap();
        bytes[1] ^= 0x10;
        std::fs::write(file, bytes).unwrap();
    }),
    ("noise", |file| std::fs::write(file, [0xa5; 4096]).unwrap()),
    ("huge", |file| std::fs::File::create(file).unwrap().set_len(1 << 40).unwrap()),
    ("a directory", |file| {
        std::fs::remove_file(file).unwrap();
        std::fs::create_dir(file).unwrap();
    }),
    ("a link to elsewhere", |file| {
        std::fs::remove_file(file).unwrap();
        symlink("/etc/hostname", file).unwrap();
    }),
    ("a link to itself", |file| {
        std::fs::remove_file(file).unwrap();
        symlink(file, file).unwrap();
    }),
    ("a FIFO", |file| {
        std::fs::remove_file(file).unwrap();
        nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }),
];

#[test]
fn a_damaged_record_hides_no_neighbour_and_is_deleted_by_name() {
    alone(|| {
        let place = Place::new();
        let state = place.state();
        let neighbour =
            place.builder(&place.id("neighbour")).build().expect("a plan").create().expect("a neighbour");
        for (name, damage) in DAMAGES {
            let id = place.id("damaged");
            let container = place.created(&id).start().expect("started");
            damage(&state_file(&place, &id));

            let listed = AnyContainer::list(&state).expect("a list");
            assert!(
                listed
                    .iter()
                    .any(|entry| matches!(entry, Listed::Container(one) if one.id() == neighbour.id())),
                "{name}: {listed:?}"
            );
            assert!(
                listed
                    .iter()
                    .any(|entry| matches!(entry, Listed::Damaged { id: damaged, .. } if *damaged == id)),
                "{name}: {listed:?}"
            );
            let error = AnyContainer::load(&state, &id).expect_err(name);
            assert_eq!(*error.kind(), cofferdam::ErrorKind::Stale, "{name}: {error}");
            // The value still holds its lifeline: it takes its processes along, with or without a record.
            drop(container);
            AnyContainer::delete_by_name(&state, &id).unwrap_or_else(|error| panic!("{name}: {error}"));
            AnyContainer::delete_by_name(&state, &id)
                .unwrap_or_else(|error| panic!("{name}, again: {error}"));
            let left = place.leftovers();
            assert!(!left.iter().any(|left| left.contains(&id)), "{name}: {left:#?}");
            assert!(place.builder(&id).run().expect(name).outcome.success());
        }
        drop(neighbour);
        assert_eq!(settle(SETTLE), Vec::<String>::new());
        assert_eq!(place.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn cgroups_are_removed_also_when_the_sandbox_was_killed() {
    alone(|| {
        let place = Place::new();
        if !rustix::process::geteuid().is_root() {
            return note_skip("cgroups need root");
        }
        let id = place.id("lost");
        let builder = place.builder(&id).args(["sleep", "1000"]).pids_limit(16).memory_limit(64 << 20);
        let running = builder.build().expect("a plan").create().expect("created").start().expect("started");
        assert!(!place.cgroups().is_empty());
        let sandbox = Pid::from_raw(running.sandbox_pid()).expect("a pid");
        let pidfd = pidfd_open(sandbox, PidfdFlags::empty()).expect("the sandbox is alive");
        pidfd_send_signal(&pidfd, Signal::KILL).expect("a child may be killed");

        let stopped = running.wait_stopped().expect("an end");
        assert_eq!(stopped.exit().outcome, cofferdam::Outcome::Lost);
        stopped.delete().expect("deleted");
        assert_eq!(place.leftovers(), Vec::<String>::new());
    });
}

fn state_file(place: &Place, id: &str) -> PathBuf {
    place.path().join("state").join(format!("{id}_sandbox:{id}.state"))
}
