//! The verbs state, list and ps.

use super::failure::{Done, Failure};
use super::find;
use clap::ValueEnum;
use cofferdam::info::Listed;
use cofferdam::oci_spec::runtime::Spec;
use cofferdam::{AnyContainer, StateRoot, Status};
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// The OCI state, with the fields that runc adds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    oci_version: String,
    id: String,
    pid: i32,
    status: Status,
    bundle: PathBuf,
    rootfs: PathBuf,
    created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    owner: String,
}

impl State {
    fn of(container: &AnyContainer, root: &StateRoot) -> Result<Self, Failure> {
        let state = container.oci_state()?;
        let spec: Spec = serde_json::from_str(container.config()).map_err(|error| error.to_string())?;
        let rootfs = spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
        Ok(Self {
            oci_version: state.oci_version,
            id: state.id,
            pid: state.pid,
            status: state.status,
            rootfs: state.bundle.join(rootfs),
            bundle: state.bundle,
            created: humantime::format_rfc3339_millis(container.info().created_at).to_string(),
            annotations: state.annotations,
            owner: owner(root),
        })
    }
}

/// The user who created the containers in `root`: a state directory belongs to one user.
fn owner(root: &StateRoot) -> String {
    let Ok(metadata) = std::fs::metadata(root.path()) else { return String::new() };
    let user = nix::unistd::User::from_uid(metadata.uid().into()).ok().flatten();
    user.map_or_else(|| format!("#{}", metadata.uid()), |user| user.name)
}

pub(crate) fn state(container: &AnyContainer, root: &StateRoot) -> Done {
    println!("{}", pretty(&State::of(container, root)?));
    Ok(ExitCode::SUCCESS)
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[derive(clap::Args)]
pub(crate) struct List {
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Print only the ids
    #[arg(short, long)]
    quiet: bool,
}

impl List {
    pub(crate) fn obey(self, root: &StateRoot) -> Done {
        let mut states = Vec::new();
        for listed in AnyContainer::list(root)? {
            match listed {
                Listed::Container(container) => states.push(State::of(&container, root)?),
                Listed::Damaged { id, error } => eprintln!("{id}: {error}"),
            }
        }
        match (self.quiet, self.format) {
            (true, _) => states.iter().for_each(|state| println!("{}", state.id)),
            (false, Format::Json) => {
                println!("{}", serde_json::to_string(&states).unwrap_or_default());
            }
            (false, Format::Table) => {
                let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
                let rows = states.into_iter().map(|state| {
                    let bundle = state.bundle.display().to_string();
                    let (pid, status) = (state.pid.to_string(), state.status.to_string());
                    [state.id, pid, status, bundle, state.created, state.owner]
                });
                print_table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print_table<const N: usize>(rows: &[[String; N]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("   ").trim_end());
    }
}

#[derive(clap::Args)]
pub(crate) struct Ps {
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The container
    id: String,
    /// Options for ps(1), which prints the table
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Ps {
    pub(crate) fn obey(self, root: &StateRoot) -> Done {
        let container = find(root, &self.id)?;
        let pids: Vec<i32> = match &container {
            AnyContainer::Created(_) | AnyContainer::Running(_) | AnyContainer::Paused(_) => {
                container.as_alive()?.processes()?.iter().filter_map(|process| process.host_pid).collect()
            }
            AnyContainer::Stopped(_) => Vec::new(),
            AnyContainer::Creating(_) => return Err("container not running".into()),
        };
        match self.format {
            Format::Json => println!("{}", serde_json::json!(pids)),
            Format::Table => self.print_table(&pids)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Prints the lines of ps(1) for these processes: the options of `ps` select the columns.
    #[expect(clippy::disallowed_methods, reason = "runs ps(1) on the host")]
    fn print_table(&self, pids: &[i32]) -> Result<(), Failure> {
        let options = if self.options.is_empty() { vec!["-ef".to_owned()] } else { self.options.clone() };
        let output = Command::new("ps").args(options).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| format!("ps: {error}"))?;
        if !output.status.success() {
            return Err("ps failed".into());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.lines();
        let head = lines.next().unwrap_or_default();
        let column = head.split_ascii_whitespace().position(|name| name == "PID");
        let column = column.ok_or("couldn't find PID field in ps output")?;
        println!("{head}");
        let is_inside = |line: &&str| {
            let pid = line.split_ascii_whitespace().nth(column).and_then(|pid| pid.parse().ok());
            pid.is_some_and(|pid| pids.contains(&pid))
        };
        lines.filter(is_inside).for_each(|line| println!("{line}"));
        Ok(())
    }
}
