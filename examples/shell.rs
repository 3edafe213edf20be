//! An interactive shell in a container: a terminal at both ends, and this program between them.
//!
//! ```text
//! cargo run --example shell
//! cargo run --example shell -- --scratch --host-network
//! cargo run --example shell -- --rootfs ./alpine /bin/ash -l
//! echo 'id; exit 3' | cargo run --example shell
//! ```
//!
//! Without `--rootfs` the container sees the host's system directories, read-only, and the shell is bash, or sh where
//! there is no bash. If this program's streams are a terminal, so are the shell's: what is typed goes through byte for
//! byte, so Ctrl-C ends the foreground job inside and Ctrl-Z stops it, and a resize of the window reaches it. If they
//! are not, the shell gets them as they are and reads its script from standard input.
//!
//! The exit code is the shell's, or 128 + n if signal n ended it or this program; 127 and 126 if there is no
//! such shell or it cannot be executed, 125 if there is no container.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

use clap::Parser;
use cofferdam::{ContainerBuilder, Error, Pty, Rootfs, WindowSize};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{ErrorKind, Read, Write, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs a shell in a container, on a terminal.
#[derive(Parser)]
struct Options {
    /// Show this directory as the root, instead of the host's system directories
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// Put a writable layer in memory over the root, thrown away at the end
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

/// What docker and runc exit with if they fail themselves.
const OUR_FAULT: u8 = 125;
/// What a terminal takes for the end of its input, where a pipe would just end.
const END_OF_INPUT: u8 = 0x04;

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
    let mut container = ContainerBuilder::new(format!("shell-{}", std::process::id())).cwd("/");
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

/// Runs the container on a terminal of its own, and is the wire between that one and ours. Returns its exit code.
///
/// Whatever ends this, an error or a panic included, our terminal is put back by the guard and the container is
/// destroyed with its value.
fn on_a_terminal(container: ContainerBuilder, interactive: bool) -> Result<i32, Box<dyn std::error::Error>> {
    // Before anything starts, so that none is lost: from here on they are read, not suffered.
    let watched = SigSet::from_iter([Signal::SIGWINCH, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT]);
    watched.thread_block()?;
    let signals = SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;

    let container = match our_size() {
        Some(size) => container.terminal_size(size),
        None => container,
    };
    let mut created = container.terminal().build()?.create().map_err(Error::from)?;
    let pty = created.take_pty().ok_or("there is no terminal")?;
    fcntl_setfl(&pty, fcntl_getfl(&pty)? | OFlags::NONBLOCK)?;
    let running = created.start().map_err(Error::from)?;

    let raw = interactive.then(RawMode::enter).transpose()?;
    let mut wire = Wire { pty, typed: Vec::new(), listening: true, talking: true };
    while wire.talking {
        if let Some(signal) = wire.turn(&signals, running.as_fd())? {
            return Ok(128 + signal as i32);
        }
    }
    drop(raw);
    let stopped = running.wait_stopped().map_err(Error::from)?;
    let code = stopped.exit().outcome.shell_code();
    stopped.delete().map_err(Error::from)?;
    Ok(code)
}

fn our_size() -> Option<WindowSize> {
    let size = tcgetwinsize(stdin()).ok()?;
    Some(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// Our terminal with everything off that a terminal does with input: the one inside does it. Put back on drop.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> Result<Self, Errno> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// Between the two terminals.
struct Wire {
    pty: Pty,
    /// What was typed and not taken yet. No more is read meanwhile.
    typed: Vec<u8>,
    /// Whether our input has not ended yet.
    listening: bool,
    /// Whether something may still come from inside.
    talking: bool,
}

impl Wire {
    /// Waits for something to do, and does it. Returns the signal that tells this program to end, if one came.
    fn turn(
        &mut self,
        signals: &SignalFd,
        container: BorrowedFd<'_>,
    ) -> Result<Option<Signal>, Box<dyn std::error::Error>> {
        let ours = stdin();
        let wants = |yes, flags| if yes { flags } else { PollFlags::empty() };
        let from_us = wants(self.listening && self.typed.is_empty(), PollFlags::IN);
        let from_inside = PollFlags::IN | wants(!self.typed.is_empty(), PollFlags::OUT);
        let mut fds = vec![
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(&self.pty, from_inside),
            PollFd::new(&container, PollFlags::IN),
        ];
        // A descriptor nobody wants to hear of would still report its hangup, over and over.
        if !from_us.is_empty() {
            fds.push(PollFd::new(&ours, from_us));
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => return Ok(None),
            ready => ready?,
        };
        let found = |index: usize| fds.get(index).map_or(PollFlags::empty(), PollFd::revents);
        let (signalled, inside, ended, typing) = (found(0), found(1), found(2), found(3));
        drop(fds);

        if inside.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) || !ended.is_empty() {
            self.show()?;
        }
        // Whoever is gone from the terminal without having ended is waited for, and cannot be typed to.
        self.talking &= ended.is_empty();
        if inside.contains(PollFlags::OUT) {
            self.pass_on()?;
        }
        if !typing.is_empty() {
            self.listen()?;
        }
        if !signalled.is_empty() { self.heed(signals) } else { Ok(None) }
    }

    /// Everything there is from inside, to our output.
    fn show(&mut self) -> std::io::Result<()> {
        let mut bytes = [0; 16 << 10];
        loop {
            match self.pty.read(&mut bytes) {
                Ok(0) => {
                    self.talking = false;
                    return Ok(());
                }
                Ok(count) => {
                    let mut out = stdout().lock();
                    out.write_all(&bytes[..count])?;
                    out.flush()?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn listen(&mut self) -> Result<(), Errno> {
        let mut bytes = [0; 4 << 10];
        // Not through std, whose buffer would hide bytes from poll.
        match rustix::io::read(stdin(), &mut bytes) {
            Ok(0) | Err(Errno::IO) => {
                self.listening = false;
                self.typed.push(END_OF_INPUT);
            }
            Ok(count) => self.typed.extend_from_slice(&bytes[..count]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    fn pass_on(&mut self) -> std::io::Result<()> {
        match self.pty.write(&self.typed) {
            Ok(count) => drop(self.typed.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn heed(&self, signals: &SignalFd) -> Result<Option<Signal>, Box<dyn std::error::Error>> {
        while let Some(info) = signals.read_signal()? {
            match Signal::try_from(i32::try_from(info.ssi_signo)?)? {
                Signal::SIGWINCH => {
                    if let Some(size) = our_size() {
                        self.pty.resize(size)?;
                    }
                }
                signal => return Ok(Some(signal)),
            }
        }
        Ok(None)
    }
}
