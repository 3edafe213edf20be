//! Long sweeps in several processes at once.

use super::process::again;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::process::Stdio;

/// In the process of a lane: its number, and the file for what it returns.
const LANE: &str = "COFFERDAM_TEST_LANE";
const RESULT: &str = "COFFERDAM_TEST_LANE_RESULT";

/// How many processes one test may keep busy: a lane waits for helpers and tracers more than it computes.
const LANES: usize = 3;

/// The part of a sweep that one process has.
#[derive(Clone, Copy)]
pub struct Lane(usize);

impl Lane {
    /// Its share: every [`LANES`]-th, so that lanes which run out of time thin the sweep out and do not cut its end off.
    pub fn share<T>(self, points: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
        points.into_iter().skip(self.0).step_by(LANES)
    }
}

/// Runs this thread's test again in [`LANES`] processes at once, which come here and do `work`. Returns what it returned
/// in each; in the process of a lane `None`, since the test has nothing more to do there.
///
/// # Panics
/// If a lane fails, which says why on the standard error of both.
pub fn run<T: Serialize + DeserializeOwned>(work: impl FnOnce(Lane) -> T) -> Option<Vec<T>> {
    if let Ok(lane) = std::env::var(LANE) {
        let result = work(Lane(lane.parse().expect("a number")));
        let path = std::env::var_os(RESULT).expect("it comes with the number");
        std::fs::write(path, serde_json::to_vec(&result).expect("a document")).expect("a new file");
        return None;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |lane: usize| dir.path().join(lane.to_string());
    let thread = std::thread::current();
    let name = thread.name().expect("the harness names a test's thread after it");
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            let mut command = again(name);
            command.env(LANE, lane.to_string()).env(RESULT, path(lane));
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("this executable runs again")
        })
        .collect();
    let ends: Vec<_> = lanes.into_iter().map(|mut lane| lane.wait().expect("a lane ends")).collect();
    assert!(ends.iter().all(|end| end.success()), "{name}: {ends:?}, see above");
    let result =
        |lane| serde_json::from_slice(&std::fs::read(path(lane)).expect("a result")).expect("a document");
    Some((0..LANES).map(result).collect())
}
