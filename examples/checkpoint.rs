//! A counter that goes on where it was, although this program ends after a few numbers each time.
//!
//! ```text
//! sudo target/debug/examples/checkpoint /var/tmp/counter    # 1 2 3
//! sudo target/debug/examples/checkpoint /var/tmp/counter    # 4 5 6
//! ```
//!
//! The counter is a shell in a container. After the last number this program writes an image of the container, which ends
//! it; the next run makes a container of the same description, and restores the shell in it. Needs CRIU, and root to write
//! the image. The exit code is 0 if the numbers came.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]
#![expect(clippy::disallowed_methods, reason = "makes and removes plain directories of its user's")]

use clap::Parser;
use cofferdam::checkpoint::{Criu, Image};
use cofferdam::{ContainerBuilder, Created, StateRoot, Stdio};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A shell has its variables in memory alone, so only an image can bring them back.
const COUNTER: &str = "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.1; done";

/// Counts on from where the last run of this program stopped.
#[derive(Parser)]
struct Options {
    /// Where the image is between two runs
    directory: PathBuf,
    /// How many numbers to print
    #[arg(long, value_name = "N", default_value_t = 3)]
    numbers: usize,
    /// The program CRIU, instead of the `criu` in PATH
    #[arg(long, value_name = "FILE")]
    criu: Option<PathBuf>,
    /// Keep the record of the container in this directory
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let criu = options.criu.as_ref().map_or_else(Criu::find, Criu::at)?;
    fs::create_dir_all(&options.directory)?;
    let (last, next) = (options.directory.join("image"), options.directory.join("next"));

    let mut created = counter(&options, &last, &criu)?;
    let output = created.take_stdout().ok_or("the builder asked for a pipe")?;
    let running = created.start()?;
    let mut numbers = BufReader::new(output).lines();
    for number in numbers.by_ref().take(options.numbers) {
        println!("{}", number?);
    }

    remove(&next)?;
    let stopped = running.checkpoint(&criu, &next)?;
    // What the shell wrote meanwhile is in the pipe, and not in the image.
    for number in numbers {
        println!("{}", number?);
    }
    eprintln!("{:?}", stopped.exit().outcome);
    stopped.delete()?;
    // A run that is killed in between finds no image, or the new one at its old name: remove that name by hand.
    remove(&last)?;
    Ok(fs::rename(&next, &last)?)
}

/// The container: with the processes of the image, if an earlier run has left one.
fn counter(options: &Options, image: &Path, criu: &Criu) -> Result<cofferdam::Container<Created>> {
    let mut builder = ContainerBuilder::new().args(["sh", "-c", COUNTER]).stdout(Stdio::piped());
    if let Some(root) = &options.root {
        builder = builder.state_root(StateRoot::open(root)?);
    }
    if image.exists() {
        builder = builder.restore(&Image::open(image)?, criu)?;
    }
    Ok(builder.build()?.create()?)
}

fn remove(directory: &Path) -> std::io::Result<()> {
    if directory.exists() { fs::remove_dir_all(directory) } else { Ok(()) }
}
