//! The terminal of this program, for the examples that give a container another one.

use cofferdam::terminal::WindowSize;
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::stdin;

/// Its size, or `None` if standard input is no terminal.
pub(crate) fn our_size() -> Option<WindowSize> {
    let size = tcgetwinsize(stdin()).ok()?;
    Some(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// Switches off all processing of input by our terminal, because the terminal in the container does it. Dropping this
/// value restores the old mode.
pub(crate) struct RawMode(Termios);

impl RawMode {
    pub(crate) fn enter() -> Result<Self, Errno> {
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
