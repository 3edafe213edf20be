//! Says what this host can do for containers, and which layers of protection the default container would have here.
//!
//! ```text
//! cargo run --example doctor
//! cargo run --example doctor -- --memory 256m --network host   # of this container instead
//! ```
//!
//! The exit code is 0 if the container can be made, and 1 if something that it needs is missing.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

#[path = "arguments/mod.rs"]
mod arguments;

use arguments::size;
use clap::{Parser, ValueEnum};
use cofferdam::ContainerBuilder;
use cofferdam::diagnosis::{HostReport, Missing};
use std::fmt::Display;
use std::process::ExitCode;

/// Says what this host can do for containers.
#[derive(Parser)]
#[command(after_help = "SIZE is in bytes, or with k, m or g.")]
struct Options {
    /// Limit the container's memory
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Limit its processes by a cgroup
    #[arg(long, value_name = "N")]
    pids: Option<u64>,
    /// Its network: loopback alone, or the host's
    #[arg(long, value_enum, default_value_t = Network::Loopback)]
    network: Network,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Network {
    Loopback,
    Host,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let report = HostReport::probe();
    println!("This host:");
    report.iter().for_each(|(feature, missing)| line(feature, missing));

    let mut builder = ContainerBuilder::new().args(["true"]);
    if let Some(bytes) = options.memory {
        builder = builder.memory_limit(bytes);
    }
    if let Some(count) = options.pids {
        builder = builder.pids_limit(count);
    }
    if options.network == Network::Host {
        builder = builder.host_network();
    }
    match builder.build().and_then(|container| container.explain()) {
        Ok(explanation) => {
            println!("\nThis container:");
            explanation.iter().for_each(|(layer, missing)| line(layer, missing));
        }
        Err(error) => {
            eprintln!("\nThis container cannot be made: {error}");
            return ExitCode::FAILURE;
        }
    }
    if report.can_run() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(what: impl Display, missing: Option<&Missing>) {
    match missing {
        None => println!("  + {what}"),
        Some(missing) => {
            println!("  - {what:<18} {}", missing.cause);
            if !missing.remedy.is_empty() {
                println!("    {:<18} -> {}", "", missing.remedy);
            }
        }
    }
}
