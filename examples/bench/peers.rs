//! The other runtimes on the `PATH`: each runs a container of its own default kind on the same root file system.

#![expect(clippy::disallowed_methods, reason = "starts other runtimes, not containers of ours")]

use super::built::{self, Built};
use super::cost::Costs;
use super::report::Samples;
use super::rootfs::find_on_path;
use super::{Result, WARM_UP};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Where a host with cgroup v1 mounts the v2 hierarchy too. crun does not support such a mix.
const HYBRID: &str = "/sys/fs/cgroup/unified";

/// A program, measured from its start to its end as its user experiences it.
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// The path of the program, or its name on the `PATH`.
    program: PathBuf,
    command: Vec<String>,
    pub(super) times: Samples,
    /// The wrapper with a trivial command, if the peer needs a wrapper.
    wrapper: Option<Vec<String>>,
    pub(super) wrapper_times: Samples,
    pub(super) costs: Costs,
    pub(super) wrapper_costs: Costs,
    /// Why there are no times.
    pub(super) left_out: Option<String>,
}

/// Sets up the peers. One that cannot run here stays in the list, with the reason.
pub(super) fn on_path(place: &Path, rootfs: &Path) -> Result<Vec<Peer>> {
    let mut peers = vec![our_command_line(place), runc(place), crun(place), bwrap(rootfs)];
    if let Err(reason) = write_bundle(place, &["/bin/true"]) {
        let reason = format!("no bundle: {reason}");
        peers
            .iter_mut()
            .filter(|peer| peer.name != "bwrap")
            .for_each(|peer| peer.left_out = Some(reason.clone()));
    }
    peers.iter_mut().for_each(Peer::warm_up);
    Ok(peers)
}

/// The example `oci` in the directory of this one; it shows what a command line costs on top of the library. cargo
/// builds it only on request, so it may be missing or outdated; the error then names the command that builds it.
pub(super) fn our_runtime() -> Result<PathBuf, String> {
    let runtime = std::env::current_exe().unwrap_or_default().with_file_name("oci");
    // cargo puts what a profile builds into a directory of its name, and `dev` into `debug`.
    let directory =
        runtime.ancestors().nth(2).and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let profile = if directory == "debug" { "dev" } else { &directory };
    let build = format!("cargo build --profile {profile} --example oci");
    match built::state_of(&runtime) {
        Built::Now => Ok(runtime),
        Built::Never => Err(format!("not built: {build}")),
        Built::Before(source) => Err(format!("older than {}: {build}", source.display())),
    }
}

fn our_command_line(place: &Path) -> Peer {
    let (runtime, left_out) = match our_runtime() {
        Ok(runtime) => (runtime, None),
        Err(reason) => (PathBuf::new(), Some(reason)),
    };
    let options = ["--root", &path(place, "oci"), "run", "--bundle", &path(place, ""), "bench-oci"];
    let command = [words(&[&runtime.to_string_lossy()]), words(&options)].concat();
    Peer { program: runtime, left_out, ..Peer::new("oci", command) }
}

fn runc(place: &Path) -> Peer {
    Peer::new(
        "runc",
        words(&["runc", "--root", &path(place, "runc"), "run", "--bundle", &path(place, ""), "bench-runc"]),
    )
}

fn crun(place: &Path) -> Peer {
    let run =
        words(&["crun", "--root", &path(place, "crun"), "run", "--bundle", &path(place, ""), "bench-crun"]);
    match wrapper_of_crun() {
        None => Peer::new("crun", run),
        Some(wrapper) => {
            let alone = [wrapper.clone(), words(&["true"])].concat();
            Peer { wrapper: Some(alone), ..Peer::new("crun", [wrapper, run].concat()) }
        }
    }
}

/// The wrapper that crun needs on this host, if any: a separate mount namespace without [`HYBRID`].
pub(super) fn wrapper_of_crun() -> Option<Vec<String>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let script = format!("umount {HYBRID}; exec \"$@\"");
    mounts
        .lines()
        .any(|mount| mount.split(' ').nth(1) == Some(HYBRID))
        .then(|| words(&["unshare", "-m", "sh", "-c", &script, "sh"]))
}

fn bwrap(rootfs: &Path) -> Peer {
    let root = path(rootfs, "");
    let options =
        ["bwrap", "--unshare-all", "--ro-bind", &root, "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"];
    Peer::new("bwrap", words(&options))
}

/// Writes the `config.json` of `runc spec`, with `program` and without a terminal.
pub(super) fn write_bundle(place: &Path, program: &[&str]) -> Result<()> {
    let mut spec = Command::new("runc");
    spec.args(["spec", "--bundle"]).arg(place);
    if !rustix::process::geteuid().is_root() {
        spec.arg("--rootless");
    }
    let output = spec.output().map_err(|error| format!("runc spec: {error}"))?;
    if !output.status.success() {
        return Err(format!("runc spec: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    let path = place.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(program);
    std::fs::write(path, serde_json::to_vec(&config)?)?;
    Ok(())
}

impl Peer {
    pub(super) fn new(name: &'static str, command: Vec<String>) -> Self {
        let (times, wrapper_times, costs, wrapper_costs) = Default::default();
        Self {
            name,
            program: name.into(),
            command,
            times,
            wrapper: None,
            wrapper_times,
            costs,
            wrapper_costs,
            left_out: None,
        }
    }

    /// What is measured.
    pub(super) fn command(&self) -> &[String] {
        &self.command
    }

    /// Runs the program some times without counting them, if it is there.
    fn warm_up(&mut self) {
        if self.left_out.is_none() && find_on_path(&self.program).is_none() {
            self.left_out = Some("not on the PATH".into());
        }
        for _ in 0..WARM_UP.min(2) {
            self.measure();
        }
        (self.times, self.wrapper_times) = Default::default();
        (self.costs, self.wrapper_costs) = Default::default();
    }

    /// Measures one run. After a failure the peer is left out.
    pub(super) fn measure(&mut self) {
        if self.left_out.is_none()
            && let Err(reason) = self.try_measure()
        {
            self.left_out = Some(reason.to_string());
        }
    }

    fn try_measure(&mut self) -> Result<()> {
        let Self { command, times, costs, wrapper, wrapper_times, wrapper_costs, .. } = self;
        costs.of(|| time(command, times))?;
        wrapper.as_ref().map_or(Ok(()), |wrapper| wrapper_costs.of(|| time(wrapper, wrapper_times)))
    }
}

/// Times a command from its start to its end, and discards its output.
pub(super) fn time(command: &[String], times: &mut Samples) -> Result<()> {
    let clock = Instant::now();
    let output = Command::new(&command[0]).args(&command[1..]).stdin(Stdio::null()).output()?;
    times.add(clock.elapsed());
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", output.status, said.lines().last().unwrap_or("said nothing").trim()).into())
}

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().copied().map(str::to_owned).collect()
}

pub(super) fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_string_lossy().into_owned()
}
