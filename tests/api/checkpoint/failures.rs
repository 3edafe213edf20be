//! What becomes of container and directory when the writing of an image is cut short.

use super::{await_progress, count, counter};
use crate::kit::caller::{self, Caller};
use crate::kit::criu::criu_or_skip;
use crate::kit::{Stage, stage, start, write_script};
use cofferdam::checkpoint::{Criu, Image};
use cofferdam::typestate::Recovered;
use cofferdam::{AnyContainer, Error, ErrorKind, Exec, Outcome};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A CRIU that runs `script` for a dump, with the true program in `$CRIU`. Only a dump gets descriptors of images.
fn wrapped(stage: &Stage, criu: &Criu, script: &str) -> Criu {
    let path = stage.path().join("criu.sh");
    let text = format!("#!/bin/sh\nCRIU='{}'\n{script}\n", criu.path().display());
    write_script(&path, &text);
    // It was asked for its version by the path of the true one.
    Criu::at(&path).unwrap()
}

/// A CRIU that is killed `after` seconds in a dump, and not when it is asked for its version.
fn killed_after(stage: &Stage, criu: &Criu, after: &str) -> Criu {
    let once = stage.path().join("asked");
    let script = format!(
        "if test -e '{once}'; then (sleep {after}; kill -9 $$) & exec \"$CRIU\" \"$@\"; fi\n>'{once}'; exec \"$CRIU\" \"$@\"",
        once = once.display()
    );
    wrapped(stage, criu, &script)
}

#[test]
fn a_full_disk_is_named_and_the_container_goes_on() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let running = start(counter(&stage));
    await_progress(&running);
    let disk = stage.readable_directory("disk");
    running.snapshot(&criu, stage.path().join("image")).unwrap();
    let needed = Image::open(stage.path().join("image")).unwrap().size();
    for eighths in [0, 1, 4, 6] {
        let size = (needed * eighths / 8 + 4096).to_string();
        mount_tmpfs(&disk, &size);
        let failed = running.snapshot(&criu, disk.join("image"));
        let left: Vec<_> =
            std::fs::read_dir(&disk).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        unmount(&disk);
        let error = failed.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{size}: {error}");
        assert!(left.is_empty(), "{size}: {left:?}");
        await_progress(&running);
    }
    running.kill().unwrap().delete().unwrap();
}

fn mount_tmpfs(at: &Path, size: &str) {
    let flags = rustix::mount::MountFlags::empty();
    let options = std::ffi::CString::new(format!("size={size}")).unwrap();
    rustix::mount::mount("tmpfs", at, "tmpfs", flags, options.as_c_str()).unwrap();
}

fn unmount(at: &Path) {
    rustix::mount::unmount(at, rustix::mount::UnmountFlags::empty()).unwrap();
}

/// The kill came while CRIU had a process of the container run code of CRIU's, a step at a time.
fn assert_died_of_it(error: &Error, ended: &AnyContainer) {
    assert_eq!(*error.kind(), ErrorKind::Ended, "{error}");
    let outcome = ended.as_stopped().unwrap().exit().outcome;
    assert!(matches!(outcome, Outcome::Signalled { .. }), "{error}: {outcome}");
}

#[test]
fn criu_may_be_killed_at_any_moment() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let mut running = start(counter(&stage));
    await_progress(&running);
    let mut failures = 0;
    for step in 0..20 {
        let after = format!("0.{:03}", step * 15);
        let _ = std::fs::remove_file(stage.path().join("asked"));
        let killed = killed_after(&stage, &criu, &after);
        let path = stage.path().join(format!("image-{step}"));
        match running.checkpoint(&killed, &path) {
            // It was faster, or the kill met a container that is being killed.
            Ok(stopped) => {
                assert_eq!(stopped.exit().outcome, Outcome::Checkpointed, "{after}");
                Image::open(&path).unwrap();
                stopped.delete().unwrap();
                running = start(counter(&stage));
            }
            Err(failed) => {
                let (error, recovered) = failed.into_parts();
                assert!(!path.exists(), "{after}");
                running = match recovered {
                    Recovered::Unchanged(container) => {
                        assert_eq!(*error.kind(), ErrorKind::HelperDied, "{after}: {error}");
                        container
                    }
                    Recovered::Moved(ended) => {
                        assert_died_of_it(&error, &ended);
                        ended.delete(false).unwrap();
                        start(counter(&stage))
                    }
                    Recovered::Gone => panic!("{after}: {error}"),
                };
                failures += 1;
            }
        }
        await_progress(&running);
    }
    assert!(failures > 0, "no kill was early enough");
    // The sandbox forbids nothing any more.
    assert_eq!(running.exec_output(Exec::new(["echo", "in"])).unwrap().stdout, b"in\n");
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_paused_container_stays_paused_when_criu_is_killed() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let running = start(counter(&stage));
    await_progress(&running);
    let mut paused = running.pause().unwrap();
    let mut failures = 0;
    for step in 0..10 {
        let _ = std::fs::remove_file(stage.path().join("asked"));
        let killed = killed_after(&stage, &criu, &format!("0.{:03}", 20 + step * 15));
        let path = stage.path().join(format!("image-{step}"));
        match paused.snapshot(&killed, &path) {
            Ok(()) => drop(Image::open(&path).unwrap()),
            Err(error) if *error.kind() == ErrorKind::Ended => {
                let ended = AnyContainer::load(stage.root(), paused.id().as_str()).unwrap();
                assert_died_of_it(&error, &ended);
                drop((ended, paused));
                let running = start(counter(&stage));
                await_progress(&running);
                paused = running.pause().unwrap();
            }
            Err(error) => {
                assert_eq!(*error.kind(), ErrorKind::HelperDied, "{error}");
                failures += 1;
            }
        }
        // The sandbox answers after it has seen the end of the attempt.
        assert!(paused.processes().unwrap().len() <= 2);
        let counted = count(&paused);
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(count(&paused), counted, "it runs");
    }
    assert!(failures > 0, "no kill was early enough");
    let running = paused.resume().unwrap();
    await_progress(&running);
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_container_that_ends_meanwhile_has_ended() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let mut ended = 0;
    for step in 0..6 {
        let running = start(counter(&stage));
        await_progress(&running);
        let pid = rustix::process::Pid::from_raw(running.init_pid()).unwrap();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(step * 20));
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        });
        let path = stage.path().join(format!("image-{step}"));
        match running.checkpoint(&criu, &path) {
            Ok(stopped) => {
                // The killer may have been quicker than the sandbox: it has not run since the image was taken.
                let outcome = &stopped.exit().outcome;
                let ended_as_asked = matches!(outcome, Outcome::Checkpointed | Outcome::Signalled { .. });
                assert!(ended_as_asked, "{outcome:?}");
                Image::open(&path).unwrap();
                killer.join().unwrap();
                stopped.delete().unwrap();
            }
            Err(failed) => {
                killer.join().unwrap();
                let (error, recovered) = failed.into_parts();
                assert_eq!(*error.kind(), ErrorKind::Ended, "{error}");
                assert!(!path.exists());
                let Recovered::Moved(container) = recovered else { panic!("{recovered:?}") };
                let stopped = container.as_stopped().unwrap();
                assert!(matches!(stopped.exit().outcome, Outcome::Signalled { .. }), "{:?}", stopped.exit());
                container.delete(false).unwrap();
                ended += 1;
            }
        }
    }
    assert!(ended > 0, "no kill was early enough");
}

#[test]
fn the_sandbox_keeps_others_from_changing_it_meanwhile() {
    let stage = stage!();
    let criu = criu_or_skip!();
    let running = start(counter(&stage));
    await_progress(&running);
    let id = running.id().to_string();
    // The dump waits for this test.
    let (begun, go_on) = (stage.path().join("begun"), stage.path().join("go-on"));
    let once = stage.path().join("asked");
    let script = format!(
        "if test -e '{once}'; then >'{begun}'; while ! test -e '{go_on}'; do sleep 0.01; done; fi\n\
         >'{once}'; exec \"$CRIU\" \"$@\"",
        once = once.display(),
        begun = begun.display(),
        go_on = go_on.display()
    );
    let slow = wrapped(&stage, &criu, &script);
    let image = stage.path().join("image");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| running.snapshot(&slow, &image));
        while !begun.exists() {
            std::thread::yield_now();
        }
        let other = AnyContainer::load(stage.root(), &id).unwrap();
        let refused = other.as_running().unwrap().exec(Exec::new(["true"])).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EBUSY), "{refused}");
        assert!(refused.to_string().contains("an image of the container is being made"), "{refused}");
        other.as_running().unwrap().signal(cofferdam::Signal::CONT).unwrap();
        std::fs::write(&go_on, "").unwrap();
        writer.join().unwrap().unwrap();
    });
    Image::open(&image).unwrap();
    running.exec_output(Exec::new(["true"])).unwrap();
    assert!(count(&running) > 0);
    running.kill().unwrap().delete().unwrap();
}

/// The part of the caller that is killed: makes a container and tells when it writes an image.
fn caller(directory: PathBuf) {
    let criu = Criu::at(crate::kit::criu::path().unwrap()).unwrap();
    let script = super::COUNTER;
    let id = std::fs::read_to_string(directory.join("id")).unwrap();
    let builder = cofferdam::ContainerBuilder::new().id(id).state_root(caller::root(&directory));
    let mut running = start(builder.args(["sh", "-c", script]).scratch(Some(1 << 20)));
    running.detach().unwrap();
    await_progress(&running);
    caller::say("writing");
    drop(running.checkpoint(&criu, directory.join("image")));
    caller::say("written");
    caller::stay();
}

#[test]
fn a_caller_that_is_killed_leaves_no_image_or_a_whole_one() {
    if let Some(directory) = caller::role() {
        return caller(directory);
    }
    let stage = stage!();
    let _criu = criu_or_skip!();
    let (mut half, mut whole) = (0, 0);
    for step in 0..12 {
        let directory = stage.readable_directory(&format!("caller-{step}"));
        let id = stage.id("written");
        std::fs::write(directory.join("id"), &id).unwrap();
        let mut caller = Caller::spawn(&directory);
        assert_eq!(caller.hear(), "writing");
        if step == 11 {
            assert_eq!(caller.hear(), "written");
        } else {
            std::thread::sleep(Duration::from_millis(step * 25));
        }
        caller.kill();
        let root = caller::root(&directory);
        let image = directory.join("image");
        let container = AnyContainer::load(&root, &id).unwrap();
        if image.join("manifest.json").exists() {
            Image::open(&image).unwrap();
            whole += 1;
        } else {
            let running = container.as_running().unwrap();
            await_progress(running);
            half += 1;
        }
        if step == 11 {
            assert_eq!(container.wait().unwrap().outcome, Outcome::Checkpointed);
        }
        container.delete(true).unwrap();
        if image.exists() {
            assert_eq!(std::fs::metadata(&image).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
    assert!(half > 0 && whole > 0, "half {half}, whole {whole}");
}
