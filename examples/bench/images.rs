//! What a checkpoint and a restore cost, beside runc with the same CRIU: both by their command lines, in turns.

#![expect(clippy::disallowed_methods, reason = "starts other runtimes, not containers of ours")]

use super::peers::{our_runtime, path, words, write_bundle};
use super::report::{Samples, line};
use super::rootfs::find_on_path;
use super::{Result, WARM_UP};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A runtime, and what it took.
pub(super) struct Runtime {
    pub(super) name: &'static str,
    /// The program with its options for every verb.
    command: Vec<String>,
    pub(super) checkpoint: Samples,
    pub(super) restore: Samples,
    /// Why there are no times.
    pub(super) left_out: Option<String>,
}

/// Writes an image of a sleeping container, which ends it, and restores that, with the CRIU on the `PATH`.
pub(super) fn measure(place: &Path, runs: usize) -> Result<Vec<Runtime>> {
    write_bundle(place, &["/bin/sleep", "1000"])?;
    let ours = our_runtime().map(|path| path.to_string_lossy().into_owned());
    let runc = Path::new("runc");
    let missing = if find_on_path(Path::new("criu")).is_none() { Some("no criu on the PATH") } else { None };
    let others = if find_on_path(runc).is_none() { Some("not on the PATH") } else { None };
    let mut runtimes = [
        Runtime::new(
            "oci",
            ours.as_deref().unwrap_or_default(),
            ours.as_ref().err().map(String::as_str),
            place,
        ),
        Runtime::new("runc", "runc", others, place),
    ];
    for runtime in &mut runtimes {
        runtime.left_out = runtime.left_out.take().or(missing.map(str::to_owned));
    }
    for round in 0..WARM_UP.min(2) + runs {
        for runtime in runtimes.iter_mut().filter(|runtime| runtime.left_out.is_none()) {
            if round == WARM_UP.min(2) {
                (runtime.checkpoint, runtime.restore) = Default::default();
            }
            if let Err(error) = runtime.round(place) {
                runtime.left_out = Some(error.to_string());
            }
        }
    }
    Ok(runtimes.into())
}

pub(super) fn table(runtimes: &[Runtime]) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("\n{:<22}{:>9}{:>9}", "of a sleep, ms", "p50", "p95"));
    let mut row = |name: String, samples: &Samples| {
        let [p50, p95] = [50, 95].map(|percent| samples.percentile(percent));
        line(&mut text, format_args!("{name:<22}{p50:>9.2}{p95:>9.2}"));
    };
    for runtime in runtimes.iter().filter(|runtime| runtime.left_out.is_none()) {
        row(format!("checkpoint, {}", runtime.name), &runtime.checkpoint);
        row(format!("restore, {}", runtime.name), &runtime.restore);
    }
    for runtime in runtimes {
        if let Some(reason) = &runtime.left_out {
            line(&mut text, format_args!("{}: {reason}", runtime.name));
        }
    }
    text
}

pub(super) fn json(runtimes: &[Runtime]) -> Value {
    let measured = runtimes.iter().filter(|runtime| runtime.left_out.is_none());
    let object = |runtime: &Runtime| {
        let times =
            json!({ "checkpoint_ms": runtime.checkpoint.json(), "restore_ms": runtime.restore.json() });
        (runtime.name.to_owned(), times)
    };
    Value::Object(measured.map(object).collect())
}

impl Runtime {
    fn new(name: &'static str, program: &str, left_out: Option<&str>, place: &Path) -> Self {
        let command = words(&[program, "--root", &path(place, &format!("images-{name}"))]);
        let (checkpoint, restore) = Default::default();
        Self { name, command, checkpoint, restore, left_out: left_out.map(str::to_owned) }
    }

    fn round(&mut self, place: &Path) -> Result<()> {
        let (id, bundle) = (format!("bench-{}-{}", self.name, std::process::id()), path(place, ""));
        let image = tempfile::tempdir_in(place)?;
        let image =
            ["--image-path", &path(image.path(), "image"), "--work-path", &path(image.path(), "work")];
        let bundled = ["--detach", "--bundle", &bundle];
        let call = |verb: &str, options: &[&str]| -> Result<Duration> {
            let mut command = Command::new(&self.command[0]);
            command.args(&self.command[1..]).arg(verb).args(options).arg(&id);
            // Not into pipes, which the container would keep open.
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let clock = Instant::now();
            let status = command.status()?;
            let took = clock.elapsed();
            if status.success() { Ok(took) } else { Err(format!("{verb}: {status}").into()) }
        };
        let measured = || -> Result<[Duration; 2]> {
            call("run", &bundled)?;
            let checkpoint = call("checkpoint", &image)?;
            // runc forgets a container that a checkpoint has ended.
            let _ = call("delete", &["--force"]);
            Ok([checkpoint, call("restore", &[&bundled[..], &image].concat())?])
        };
        let measured = measured();
        let _ = call("delete", &["--force"]);
        let [checkpoint, restore] = measured?;
        self.checkpoint.add(checkpoint);
        self.restore.add(restore);
        Ok(())
    }
}
