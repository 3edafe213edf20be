//! podman, buildah, docker, containerd and Slurm drive the example `oci` in place of runc: each test starts the engine,
//! with all its state in a directory of its own, and asserts that nothing is left when it has ended.
//!
//! [`cases`] has the tests, one list for all engines; those of [`control`] and [`checkpoints`] compare with runc. The
//! module with an engine's name knows its command line. [`cri`] makes the calls of a kubelet to containerd, [`swarm`] has
//! several docker daemons, and [`slurm`] a cluster. The tests make their images from busybox, and use no network but what
//! they make. If an engine is not installed, or this machine or user cannot run it, its tests are skipped with the reason.

#![expect(clippy::disallowed_methods, reason = "tests run engines and write plain files of their own")]

mod buildah;
mod cases;
mod checkpoints;
mod containerd;
mod control;
mod cri;
mod daemon;
mod docker;
mod engine;
mod image;
#[path = "../kit/mod.rs"]
mod kit;
mod network;
mod podman;
mod remains;
mod slurm;
mod swarm;
mod terminal;

use crate::kit::example::example;
use crate::kit::{Stage, skip, stage};
use engine::Engine;
use std::path::PathBuf;

/// How to start an engine on a stage, or why that is not possible.
type Start = fn(&Stage, PathBuf) -> Result<Box<dyn Engine>, String>;

/// Starts an engine, has it go through a case, and ends it.
fn go_through(case: fn(&dyn Engine), start: Start) {
    let runtime = match example("oci") {
        Ok(runtime) => runtime,
        Err(reason) => skip!("{reason}"),
    };
    let stage = stage!();
    match start(&stage, runtime) {
        Ok(engine) => case(&*engine),
        Err(reason) => skip!("{reason}"),
    }
}

/// One test for each case: with the engine that `start` starts, or as the module's own `go_through` says.
macro_rules! test_cases {
    ($start:path: $($case:ident)*) => {$(
        #[test]
        fn $case() {
            $crate::go_through($crate::cases::$case, $start);
        }
    )*};
    ($($case:ident)*) => {$(
        #[test]
        fn $case() {
            go_through(cases::$case);
        }
    )*};
}
use test_cases;
