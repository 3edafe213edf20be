//! An interactive shell in a container, with this program between its terminal and ours.
//!
//! ```text
//! cargo run --example shell
//! cargo run --example shell -- --scratch --host-network
//! cargo run --example shell -- --rootfs ./alpine /bin/ash -l
//! echo 'id; exit 3' | cargo run --example shell
//! ```
//!
//! Without `--rootfs` the container sees the host's system directories, read-only, and the shell is bash, or sh where
//! there is no bash. If this program runs on a terminal, the shell gets one too. Every byte typed is passed on, so
//! Ctrl-C ends the foreground job inside and Ctrl-Z stops it, and so is every resize of the window. Without a terminal
//! the shell inherits the standard streams and reads its script from standard input.
//!
//! The exit code is that of the shell, or 128 + n if signal n ended the shell or this program; 127 if there is no such
//! shell, 126 if it cannot be executed, and 125 if the container could not be created.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

#[path = "terminal/relay.rs"]
mod relay;
#[path = "terminal/mod.rs"]
mod terminal;

use clap::Parser;
use cofferdam::{ContainerBuilder, Error, Pty, Rootfs};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use relay::TerminalRelay;
use rustix::termios::isatty;
use std::io::{stdin, stdout};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use terminal::{RawMode, our_size};

/// Runs a shell in a container, on a terminal.
#[derive(Parser)]
struct Options {
    /// Show this directory as the root, instead of the host's system directories
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// Put a writable layer in memory over the root, and discard it at the end
    #[arg(long)]
    scratch: bool,
    /// Use the host's network, instead of an empty one
    #[arg(long)]
    host_network: bool,
    /// Give the shell a terminal even if this program has none
    #[arg(long)]
    tty: bool,
    /// The shell and its arguments
    #[arg(trailing_var_arg = true)]
    program: Vec<String>,
}

/// The code with which docker reports its own failures.
const OUR_FAULT: u8 = 125;

fn main() -> ExitCode {
    let options = Options::parse();
    let interactive = isatty(stdin()) && isatty(stdout());
    let ended = if interactive || options.tty {
        on_a_terminal(container(options), interactive)
    } else {
        container(options).inherit_stdio().run().map(|exit| exit.outcome.shell_code()).map_err(Into::into)
    };
    match ended {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(OUR_FAULT)),
        Err(error) => {
            eprintln!("shell: {error}");
            ExitCode::from(match error.downcast_ref().map(Error::kind) {
                Some(cofferdam::ErrorKind::ProgramNotFound) => 127,
                Some(cofferdam::ErrorKind::ProgramNotExecutable) => 126,
                _ => OUR_FAULT,
            })
        }
    }
}

fn container(options: Options) -> ContainerBuilder {
    let bash = Path::new("/bin/bash");
    let mut container = ContainerBuilder::new().id(format!("shell-{}", std::process::id())).cwd("/");
    let mut program = options.program;
    if program.is_empty() {
        let shell = if options.rootfs.is_none() && bash.exists() { "bash" } else { "sh" };
        program.push(shell.to_owned());
    }
    if let Some(directory) = options.rootfs {
        container = container.rootfs(Rootfs::directory(directory));
    }
    if options.scratch {
        container = container.scratch(None);
    }
    if options.host_network {
        container = container.host_network();
    }
    if let Ok(kind) = std::env::var("TERM") {
        container = container.env("TERM", kind);
    }
    container.args(program)
}

/// Runs the container on a new terminal, copies between that one and ours, and returns the exit code.
///
/// On every way out of here, errors and panics included, the guard restores our terminal, and dropping the container
/// destroys it.
fn on_a_terminal(container: ContainerBuilder, interactive: bool) -> Result<i32, Box<dyn std::error::Error>> {
    // Block the signals before anything starts, so that none is lost: from here on they are read from a descriptor.
    let watched = SigSet::from_iter([Signal::SIGWINCH, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT]);
    watched.thread_block()?;
    let signals = SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;

    let container = match our_size() {
        Some(size) => container.terminal_size(size),
        None => container,
    };
    let mut created = container.terminal().build()?.create().map_err(Error::from)?;
    let pty = created.take_pty().ok_or("there is no terminal")?;
    let mut relay = TerminalRelay::new(pty)?;
    let running = created.start().map_err(Error::from)?;

    let raw = interactive.then(RawMode::enter).transpose()?;
    while relay.talking {
        let signalled = relay.turn(&signals, running.as_fd())?;
        if signalled && let Some(signal) = heed(&signals, &relay.pty)? {
            return Ok(128 + signal as i32);
        }
    }
    drop(raw);
    let stopped = running.wait_stopped().map_err(Error::from)?;
    let code = stopped.exit().outcome.shell_code();
    stopped.delete().map_err(Error::from)?;
    Ok(code)
}

/// Reads pending signals: passes on resizes, and returns the first signal that should end this program.
fn heed(signals: &SignalFd, pty: &Pty) -> Result<Option<Signal>, Box<dyn std::error::Error>> {
    while let Some(info) = signals.read_signal()? {
        match Signal::try_from(i32::try_from(info.ssi_signo)?)? {
            Signal::SIGWINCH => {
                if let Some(size) = our_size() {
                    pty.resize(size)?;
                }
            }
            signal => return Ok(Some(signal)),
        }
    }
    Ok(None)
}
