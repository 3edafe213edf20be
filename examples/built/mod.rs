//! Tells whether cargo built a program of this package from the present sources.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How current a program is.
pub(crate) enum Built {
    /// Built from the present sources.
    Now,
    /// Built before this source changed.
    Before(PathBuf),
    Never,
}

/// Compares the executable `program`, in the directory where cargo put it, with its sources.
pub(crate) fn state_of(program: &Path) -> Built {
    let Some(built) = last_change(program) else { return Built::Never };
    let newer = |source: &PathBuf| last_change(source).is_some_and(|change| change > built);
    sources(&program.with_extension("d")).into_iter().find(newer).map_or(Built::Now, Built::Before)
}

/// The sources of a program, from the file in which cargo lists them as a rule of make(1): `PROGRAM: SOURCE...`. Empty
/// if there is no such file, for example because the program was copied to another machine.
fn sources(rule: &Path) -> Vec<PathBuf> {
    let rule = std::fs::read_to_string(rule).unwrap_or_default();
    let (_, sources) = rule.split_once(": ").unwrap_or_default();
    // Cargo writes a backslash before a blank in a name.
    let sources = sources.trim_end().replace("\\ ", "\0");
    sources.split_whitespace().map(|source| PathBuf::from(source.replace('\0', " "))).collect()
}

fn last_change(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}
