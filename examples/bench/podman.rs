//! `podman run --rm` of the same `true`, with each runtime in turn: how long the user of an engine waits.

#![expect(clippy::disallowed_methods, reason = "starts other runtimes, not containers of ours")]

use super::peers::{Peer, our_runtime, path, words, wrapper_of_crun};
use super::rootfs::find_on_path;
use super::{Amounts, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Measures podman with each runtime. A runtime that cannot run here stays in the list, with the reason.
pub(super) fn measure(place: &Path, rootfs: &Path, amounts: &Amounts) -> Vec<Peer> {
    let runtimes = [
        ("podman with oci", our_runtime().map_err(Into::into)),
        ("podman with crun", crun(place)),
        ("podman with runc", find_on_path("runc").ok_or_else(|| "runc is not on the PATH".into())),
    ];
    let configured = configure(place);
    let mut peers: Vec<_> = runtimes
        .into_iter()
        .map(|(name, runtime)| {
            let (runtime, left_out) = match (runtime, &configured) {
                (Ok(runtime), Ok(())) => (runtime, None),
                (Err(reason), _) => (PathBuf::new(), Some(reason.to_string())),
                (_, Err(reason)) => (PathBuf::new(), Some(reason.to_string())),
            };
            let left_out = left_out
                .or_else(|| find_on_path("podman").is_none().then(|| "podman is not on the PATH".to_owned()));
            let mut peer = Peer::new(name, command(place, rootfs, &runtime));
            peer.left_out = left_out;
            peer
        })
        .collect();
    for round in 0..=amounts.podman_runs {
        for peer in &mut peers {
            peer.measure();
            if round == 0 {
                // The first run fills caches.
                peer.times = Default::default();
            }
        }
    }
    peers
}

fn command(place: &Path, rootfs: &Path, runtime: &Path) -> Vec<String> {
    let setting = |name: &str| format!("{name}={}", path(place, name));
    let environment = ["env".to_owned(), setting("CONTAINERS_CONF"), setting("CONTAINERS_STORAGE_CONF")];
    let podman = words(&[
        "podman",
        "--root",
        &path(place, "podman"),
        "--runroot",
        &path(place, "podman-run"),
        "--tmpdir",
        &path(place, "podman-tmp"),
        "--cgroup-manager=cgroupfs",
        "--runtime",
        &runtime.to_string_lossy(),
        "run",
        "--rm",
        "--network=none",
        "--rootfs",
        &path(rootfs, ""),
        "/bin/true",
    ]);
    [environment.to_vec(), podman].concat()
}

/// Writes a configuration for podman, so that the user's own has no influence.
fn configure(place: &Path) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err("measured as root only".into());
    }
    // Low limits, because root may lack the capability to raise them.
    let containers = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
                      [engine]\nevents_logger = \"none\"\nlock_type = \"file\"\n";
    std::fs::write(place.join("CONTAINERS_CONF"), containers)?;
    let [root, run] = ["podman", "podman-run"].map(|name| place.join(name));
    let storage = format!("[storage]\ndriver = \"vfs\"\ngraphroot = {root:?}\nrunroot = {run:?}\n");
    std::fs::write(place.join("CONTAINERS_STORAGE_CONF"), storage)?;
    Ok(())
}

/// The path of crun, or of a script that runs it in its wrapper.
fn crun(place: &Path) -> Result<PathBuf> {
    let crun = find_on_path("crun").ok_or("crun is not on the PATH")?;
    let Some(wrapper) = wrapper_of_crun() else { return Ok(crun) };
    let quoted: Vec<_> = wrapper.iter().map(|word| format!("'{word}'")).collect();
    let script = place.join("crun-wrapped");
    std::fs::write(&script, format!("#!/bin/sh\nexec {} crun \"$@\"\n", quoted.join(" ")))?;
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
    Ok(script)
}
