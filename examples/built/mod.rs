//! Whether a program of this package was built, and from the sources there are now.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What there is of a program.
pub(crate) enum Built {
    /// As the sources are.
    Now,
    /// Before this source was changed.
    Before(PathBuf),
    Never,
}

/// What there is of the executable `program`, which cargo put where it is.
pub(crate) fn state_of(program: &Path) -> Built {
    let Some(built) = last_change(program) else { return Built::Never };
    let newer = |source: &PathBuf| last_change(source).is_some_and(|change| change > built);
    sources(&program.with_extension("d")).into_iter().find(newer).map_or(Built::Now, Built::Before)
}

/// What cargo says that a program was built from: `PROGRAM: SOURCE...`, as a rule of make(1). Nothing if it says nothing,
/// as where the program was copied to another machine.
fn sources(rule: &Path) -> Vec<PathBuf> {
    let rule = std::fs::read_to_string(rule).unwrap_or_default();
    let (_, sources) = rule.split_once(": ").unwrap_or_default();
    // A blank in a name has a backslash before it.
    let sources = sources.trim_end().replace("\\ ", "\0");
    sources.split_whitespace().map(|source| PathBuf::from(source.replace('\0', " "))).collect()
}

fn last_change(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}
