//! `runc exec` and `crun exec`, each into a container that the same runtime started.

#![expect(clippy::disallowed_methods, reason = "starts other runtimes, not containers of ours")]

use super::Result;
use super::peers::{path, time, words, wrapper_of_crun};
use super::report::Samples;
use super::rootfs::find_on_path;
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

/// A runtime with a sleeping container. Dropping this value deletes the container.
pub(super) struct PeerExec {
    pub(super) name: &'static str,
    /// The runtime's command line up to the verb, with its wrapper.
    runtime: Vec<String>,
    wrapper: Option<Vec<String>>,
    pub(super) times: Samples,
    /// Times of the wrapper alone, if the peer needs one.
    pub(super) wrapper_times: Samples,
    /// Why there are no times.
    pub(super) left_out: Option<String>,
}

const ID: &str = "bench-exec";

/// Starts a container with each runtime. One that cannot run here stays in the list, with the reason.
pub(super) fn start(place: &Path) -> Vec<PeerExec> {
    let bundle = place.join("sleeping");
    let written = write_bundle(place, &bundle);
    [("runc", None), ("crun", wrapper_of_crun())]
        .into_iter()
        .map(|(name, wrapper)| {
            let own = words(&[name, "--root", &path(place, &format!("{name}-exec"))]);
            let runtime = wrapper.iter().flatten().cloned().chain(own).collect();
            let (times, wrapper_times) = Default::default();
            let mut peer = PeerExec { name, runtime, wrapper, times, wrapper_times, left_out: None };
            peer.left_out = match (find_on_path(name), &written) {
                (None, _) => Some("not on the PATH".into()),
                (_, Err(reason)) => Some(format!("no bundle: {reason}")),
                _ => peer.start(&bundle, place).err().map(|reason| reason.to_string()),
            };
            peer
        })
        .collect()
}

/// Copies the bundle of the runs, with a program that sleeps.
fn write_bundle(place: &Path, bundle: &Path) -> Result<()> {
    let mut config: Value = serde_json::from_slice(&std::fs::read(place.join("config.json"))?)?;
    config["process"]["args"] = json!(["/bin/sleep", "1000"]);
    config["root"]["path"] = json!(place.join("rootfs"));
    std::fs::create_dir(bundle)?;
    std::fs::write(bundle.join("config.json"), serde_json::to_vec(&config)?)?;
    Ok(())
}

impl PeerExec {
    fn command(&self, args: &[&str]) -> Vec<String> {
        [self.runtime.clone(), words(args)].concat()
    }

    /// Output goes to a file: a pipe would stay open as long as the container sleeps.
    fn start(&self, bundle: &Path, place: &Path) -> Result<()> {
        let command = self.command(&["run", "--detach", "--bundle", &path(bundle, ""), ID]);
        let said = place.join(format!("{}-said", self.name));
        let status = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said)?)
            .status()?;
        if status.success() {
            return Ok(());
        }
        let said = std::fs::read_to_string(said)?;
        Err(format!("{status}: {}", said.lines().last().unwrap_or("said nothing").trim()).into())
    }

    /// Measures one exec. After a failure the peer is left out.
    pub(super) fn measure(&mut self) {
        let command = self.command(&["exec", ID, "/bin/true"]);
        if self.left_out.is_none()
            && let Err(reason) = time(&command, &mut self.times).and_then(|()| self.measure_wrapper())
        {
            self.left_out = Some(reason.to_string());
        }
    }

    fn measure_wrapper(&mut self) -> Result<()> {
        match &self.wrapper {
            Some(wrapper) => time(&[wrapper.clone(), words(&["true"])].concat(), &mut self.wrapper_times),
            None => Ok(()),
        }
    }

    /// Discards the measurements.
    pub(super) fn reset(&mut self) {
        (self.times, self.wrapper_times) = Default::default();
    }

    pub(super) fn wrapped(&self) -> bool {
        self.wrapper.is_some()
    }

    /// The median of an exec in milliseconds, less the wrapper's.
    pub(super) fn median(&self) -> f64 {
        self.times.median() - if self.wrapped() { self.wrapper_times.median() } else { 0.0 }
    }
}

impl Drop for PeerExec {
    fn drop(&mut self) {
        let _ = time(&self.command(&["delete", "--force", ID]), &mut Samples::default());
    }
}
