//! The layers, as a table, and every file of `src` held against it.
//!
//! A module may use what its row names and itself; everything else needs a row among the exceptions, with the reason.
//! What is checked are `use` lines and written-out paths alike, in what is compiled for users: tests may use anything.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// One row of the table: a module or a file, with what is below it.
struct Row {
    /// Its path below `src`, without the extension. Of several that match a file, the longest counts.
    at: &'static str,
    kind: Kind,
    /// The modules of this crate it may use: whole folders, or one file of a folder.
    uses: &'static [&'static str],
}

/// Whether a module may have effects.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Values in, values out: nothing of [`IMPURE`].
    Pure,
    /// Looks at the host or changes it.
    Effects,
}

/// From the bottom up. Data flows one way: builder -> `ValidSpec` -> `Plan` -> gofer and sandbox -> control client ->
/// record.
const TABLE: &[Row] = &[
    // The vocabulary of all.
    Row { at: "error", kind: Kind::Pure, uses: &[] },
    Row { at: "id", kind: Kind::Pure, uses: &["error"] },
    // Rules that a build for tests can leave out: named by the environment.
    Row { at: "weaken", kind: Kind::Effects, uses: &[] },
    // Pure: what was asked for, what is said, what is remembered.
    Row { at: "spec", kind: Kind::Pure, uses: &["error", "id"] },
    Row { at: "seccomp", kind: Kind::Pure, uses: &["error", "spec"] },
    Row { at: "wire", kind: Kind::Pure, uses: &["error", "id"] },
    Row { at: "state/record", kind: Kind::Pure, uses: &["error", "host/facts", "id", "spec"] },
    Row { at: "state/status", kind: Kind::Pure, uses: &[] },
    Row { at: "state/exit", kind: Kind::Pure, uses: &["error"] },
    Row { at: "state/name", kind: Kind::Pure, uses: &["error", "id"] },
    // Pure: what this machine is, as values.
    Row { at: "host/cgroups", kind: Kind::Pure, uses: &[] },
    Row { at: "host/facts", kind: Kind::Pure, uses: &["error", "host/cgroups", "spec"] },
    Row { at: "host/machine", kind: Kind::Pure, uses: &[] },
    Row { at: "host/id_region", kind: Kind::Pure, uses: &["host/facts"] },
    // Pure: what will be done.
    Row {
        at: "plan",
        kind: Kind::Pure,
        uses: &["error", "host/cgroups", "host/facts", "id", "spec", "seccomp"],
    },
    // System calls, and nothing that knows what they are for.
    Row { at: "sys", kind: Kind::Effects, uses: &["error"] },
    // Looks at the host.
    Row { at: "host", kind: Kind::Effects, uses: &["error", "spec", "sys"] },
    // Actors: each knows plans, what is said over a connection, and how to run; none knows another.
    Row { at: "process", kind: Kind::Effects, uses: &["error", "sys", "weaken", "wire"] },
    Row {
        at: "helper",
        kind: Kind::Effects,
        uses: &["error", "gofer", "hooks", "process", "sandbox", "sys", "weaken", "wire"],
    },
    Row { at: "cgroup", kind: Kind::Effects, uses: &["error", "host/facts", "plan", "process", "sys"] },
    Row { at: "image/manifest", kind: Kind::Pure, uses: &["error", "host/machine", "id"] },
    Row { at: "image", kind: Kind::Effects, uses: &["error", "host", "id"] },
    Row { at: "criu/messages", kind: Kind::Pure, uses: &[] },
    Row { at: "criu", kind: Kind::Effects, uses: &["error", "process"] },
    Row {
        at: "state",
        kind: Kind::Effects,
        uses: &["error", "host/facts", "host/id_region", "id", "process", "sys"],
    },
    Row { at: "network", kind: Kind::Effects, uses: &["error", "spec", "sys"] },
    Row { at: "hooks", kind: Kind::Effects, uses: &["error", "helper", "process", "spec", "sys", "wire"] },
    Row {
        at: "gofer",
        kind: Kind::Effects,
        uses: &["cgroup", "error", "helper", "plan", "process", "seccomp", "spec", "sys", "weaken", "wire"],
    },
    Row {
        at: "sandbox",
        kind: Kind::Effects,
        uses: &[
            "cgroup", "criu", "error", "helper", "hooks", "id", "network", "plan", "process", "seccomp",
            "spec", "state", "sys", "weaken", "wire",
        ],
    },
    // The caller's end.
    Row {
        at: "link",
        kind: Kind::Effects,
        uses: &["cgroup", "error", "helper", "id", "process", "state", "sys", "wire"],
    },
    // Public.
    Row {
        at: "container",
        kind: Kind::Effects,
        uses: &[
            "cgroup", "criu", "error", "helper", "hooks", "host", "id", "image", "link", "network", "plan",
            "process", "sandbox", "seccomp", "spec", "state", "sys", "weaken", "wire",
        ],
    },
    // A program of its own: it sees what callers see.
    Row { at: "bin", kind: Kind::Effects, uses: &[] },
    // The build script: no part of the library.
    Row { at: "build", kind: Kind::Effects, uses: &[] },
    // Text for rustdoc, and no code.
    Row { at: "manual", kind: Kind::Pure, uses: &[] },
    // The bench's yardstick: none of the machinery above takes part.
    Row { at: "floor", kind: Kind::Effects, uses: &["error", "host", "sys"] },
    Row {
        at: "fuzzing",
        kind: Kind::Effects,
        uses: &[
            "cgroup",
            "container",
            "criu",
            "error",
            "host",
            "id",
            "image",
            "plan",
            "process",
            "sandbox",
            "seccomp",
            "spec",
            "state",
            "sys",
            "wire",
        ],
    },
    Row {
        at: "lib",
        kind: Kind::Effects,
        uses: &["container", "criu", "error", "helper", "id", "image", "process", "spec", "state"],
    },
];

/// What a pure module does not use: crates that make system calls, and the parts of `std` that do.
const IMPURE: &[&str] = &[
    "caps",
    "landlock",
    "nix",
    "procfs",
    "rustix",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time",
    "tempfile",
];

/// What pure modules may use of those crates: error numbers, the names of capabilities, parsers of text.
const VALUES: &[&str] = &[
    "caps::Capability",
    "caps::all",
    "nix::errno::Errno",
    "procfs::FromBufRead",
    "procfs::ProcessCGroup",
    "procfs::ProcessCGroups",
    "procfs::process::MountInfo",
    "rustix::io::Errno",
];

/// Paths that the table forbids and the code uses nevertheless: where, what, why. One that nothing uses is an error too.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "error",
        "crate::state::Status",
        "a plain value: the phase a container was in when it should not have been",
    ),
    ("state/record", "crate::process::ProcessIdentity", "a plain value: a pid and a start time"),
    ("state/record", "crate::process::SeenFrom", "a plain value: the namespaces in which these were read"),
];

/// Pairs that must not know each other, whatever the table says: an edit of the table is to be refused as well.
const STRANGERS: &[(&str, &str)] = &[("gofer", "sandbox"), ("sandbox", "gofer")];

/// The only module with `unsafe` code.
const UNSAFE: &str = "sys/";

/// The longest that a file may be: a longer one has two subjects.
const MAX_LINES: usize = 500;

/// A file with fewer lines is small, and fewer than `SMALL_FILES` files may be: a reader follows a subject more easily
/// in one file than through many small ones.
const SMALL: usize = 60;
const SMALL_FILES: usize = 15;

#[test]
fn every_module_uses_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for file in source_files() {
        if file.only_for_tests() {
            continue;
        }
        let row = file.row();
        for path in file.paths_used() {
            if allowed(row, &path) {
                continue;
            }
            match EXCEPTIONS.iter().position(|(at, what, _)| *at == row.at && is_below(&path, what, "::")) {
                Some(exception) => drop(used.insert(exception)),
                None => wrong.push(format!("src/{}.rs uses {path}", file.at)),
            }
        }
    }
    for (index, (at, what, _)) in EXCEPTIONS.iter().enumerate() {
        if !used.contains(&index) {
            wrong.push(format!("the exception for {at} to use {what} is needed by nothing"));
        }
    }
    assert!(wrong.is_empty(), "against the table in {}:\n{}", file!(), wrong.join("\n"));
}

#[test]
fn the_table_itself_obeys_the_design() {
    for row in TABLE {
        for (module, stranger) in STRANGERS {
            assert!(
                row.at != *module || !row.uses.contains(stranger),
                "{module} and {stranger} are strangers"
            );
        }
        let on_top = ["fuzzing", "lib"];
        assert!(!row.uses.contains(&"container") || on_top.contains(&row.at), "{} uses container", row.at);
        for used in row.uses.iter().filter(|_| row.kind == Kind::Pure) {
            let pure = TABLE.iter().any(|other| other.at == *used && other.kind == Kind::Pure);
            assert!(pure, "{} is pure and uses {used}, which is not", row.at);
        }
        assert!(
            source_files().iter().any(|file| is_below(&file.at, row.at, "/")),
            "no file for the row {}",
            row.at
        );
    }
}

#[test]
fn unsafe_code_is_only_in_sys() {
    for file in source_files().iter().filter(|file| !file.at.starts_with(UNSAFE)) {
        // In an attribute it is a word: `#[ctor(unsafe)]`.
        let found = contains_word(file.tokens.clone(), "unsafe");
        assert!(!found, "src/{}.rs has unsafe code", file.at);
    }
}

#[test]
fn no_file_is_too_long() {
    for file in source_files() {
        assert!(file.lines <= MAX_LINES, "src/{}.rs has {} lines", file.at, file.lines);
    }
}

#[test]
fn few_files_are_small() {
    let files = source_files();
    // The `main` of a program has nothing to be merged with.
    let small = files.iter().filter(|file| file.lines < SMALL && !file.at.starts_with("bin/"));
    let small: Vec<_> = small.map(|file| format!("src/{}.rs has {} lines", file.at, file.lines)).collect();
    assert!(
        small.len() < SMALL_FILES,
        "{} files have fewer than {SMALL} lines, and fewer than {SMALL_FILES} may: merge some\n{}",
        small.len(),
        small.join("\n")
    );
}

fn allowed(row: &Row, path: &str) -> bool {
    let Some(inside) = path.strip_prefix("crate::") else {
        let listed = |list: &[&str]| list.iter().any(|item| is_below(path, item, "::"));
        return row.kind == Kind::Effects || !listed(IMPURE) || listed(VALUES);
    };
    let inside = inside.replace("::", "/");
    let own = row.at.split('/').next() == inside.split('/').next();
    own || row.uses.iter().any(|module| is_below(&inside, module, "/"))
}

/// Whether `path` is `prefix` or something below it.
fn is_below(path: &str, prefix: &str, separator: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
}

pub(super) struct SourceFile {
    /// Path below `src`, without extension, `mod` named by its directory.
    pub(super) at: String,
    pub(super) lines: usize,
    pub(super) tokens: TokenStream,
}

impl SourceFile {
    fn read(src: &Path, path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let at = path.strip_prefix(src).unwrap().with_extension("");
        let at = at.to_str().unwrap();
        let at = at.strip_suffix("/mod").unwrap_or(at).to_owned();
        let tokens = TokenStream::from_str(&text).unwrap_or_else(|error| panic!("src/{at}.rs: {error}"));
        Self { at, lines: text.lines().count(), tokens }
    }

    pub(super) fn only_for_tests(&self) -> bool {
        self.at.split('/').any(|part| part == "tests")
    }

    fn row(&self) -> &'static Row {
        let rows = TABLE.iter().filter(|row| is_below(&self.at, row.at, "/"));
        rows.max_by_key(|row| row.at.len())
            .unwrap_or_else(|| panic!("src/{}.rs belongs to no row of the table", self.at))
    }

    /// Every path from the crate's root or from another crate, written out.
    fn paths_used(&self) -> BTreeSet<String> {
        let depth = if self.at == "lib" { 0 } else { self.at.split('/').count() };
        let mut paths = BTreeSet::new();
        collect(&self.tokens, depth, &mut paths);
        paths
    }
}

pub(super) fn source_files() -> Vec<SourceFile> {
    let src = manifest_dir().join("src");
    let mut files = Vec::new();
    let mut directories = vec![src.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(SourceFile::read(&src, &path));
            }
        }
    }
    assert!(!files.is_empty(), "no source in {src:?}");
    files
}

/// Where the sources are now, which is not where they were compiled when the test was moved.
pub(super) fn manifest_dir() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// Collects the paths in `tokens`, `depth` modules below the crate's root.
fn collect(tokens: &TokenStream, depth: usize, paths: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if let Some(after) = test_item(&tokens[at..]) {
            at += after;
            continue;
        }
        match &tokens[at] {
            // `a::b` is one path: what comes after the first word was collected with it.
            TokenTree::Ident(word) if !follows_colons(&tokens[..at]) => {
                collect_path(&word.to_string(), &tokens[at + 1..], depth, paths);
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            TokenTree::Group(group) => {
                let inline_module =
                    at >= 2 && is_word(&tokens[at - 2], "mod") && group.delimiter() == Delimiter::Brace;
                // The tree of a `use` belongs to the path before it.
                if !follows_colons(&tokens[..at]) {
                    collect(&group.stream(), depth + usize::from(inline_module), paths);
                }
            }
        }
        at += 1;
    }
}

/// The length of `#[cfg(test)] mod name { .. }`, or of any other item in braces or up to a semicolon, at the start of
/// `tokens`.
pub(super) fn test_item(tokens: &[TokenTree]) -> Option<usize> {
    let [TokenTree::Punct(hash), TokenTree::Group(attribute), ..] = tokens else { return None };
    if hash.as_char() != '#' || attribute.stream().to_string().replace(' ', "") != "cfg(test)" {
        return None;
    }
    let end = tokens.iter().skip(2).position(|token| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    });
    end.map(|end| end + 3)
}

fn collect_path(first: &str, rest: &[TokenTree], depth: usize, paths: &mut BTreeSet<String>) {
    match first {
        "crate" => expand("crate", rest, paths),
        "super" => {
            // `super::super::x` is a path from the root if there are as many as modules.
            let mut supers = 1;
            let mut rest = rest;
            while let Some(after) = after_colons(rest)
                && after.first().is_some_and(|token| is_word(token, "super"))
            {
                supers += 1;
                rest = &after[1..];
            }
            if supers >= depth {
                expand("crate", rest, paths);
            }
        }
        _ if after_colons(rest).is_some() => expand(first, rest, paths),
        _ => {}
    }
}

/// Adds `prefix` with what follows it: `::a::b`, or each path of `::{a, b::c}`.
fn expand(prefix: &str, rest: &[TokenTree], paths: &mut BTreeSet<String>) {
    let Some(after) = after_colons(rest) else {
        paths.insert(prefix.to_owned());
        return;
    };
    match after.first() {
        Some(TokenTree::Ident(word)) => expand(&format!("{prefix}::{word}"), &after[1..], paths),
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            expand_group(prefix, group, paths)
        }
        _ => drop(paths.insert(prefix.to_owned())),
    }
}

fn expand_group(prefix: &str, group: &Group, paths: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    for path in tokens.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')) {
        match path {
            [TokenTree::Ident(word), rest @ ..] if word == "self" => expand(prefix, rest, paths),
            [TokenTree::Ident(word), rest @ ..] => expand(&format!("{prefix}::{word}"), rest, paths),
            _ => {}
        }
    }
}

fn after_colons(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    match tokens {
        [TokenTree::Punct(a), TokenTree::Punct(b), rest @ ..] if a.as_char() == ':' && b.as_char() == ':' => {
            Some(rest)
        }
        _ => None,
    }
}

fn follows_colons(before: &[TokenTree]) -> bool {
    before.len() >= 2 && after_colons(&before[before.len() - 2..]).is_some()
}

fn is_word(token: &TokenTree, expected: &str) -> bool {
    matches!(token, TokenTree::Ident(word) if word == expected)
}

/// Whether `word` occurs outside of attributes.
fn contains_word(tokens: TokenStream, word: &str) -> bool {
    let mut attribute = false;
    tokens.into_iter().any(|token| {
        let in_attribute = std::mem::take(&mut attribute);
        match token {
            TokenTree::Group(_) if in_attribute => false,
            TokenTree::Group(group) => contains_word(group.stream(), word),
            TokenTree::Punct(punct) => {
                attribute = punct.as_char() == '#' || (in_attribute && punct.as_char() == '!');
                false
            }
            token => is_word(&token, word),
        }
    })
}

mod the_reader {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        let mut paths = BTreeSet::new();
        collect(&TokenStream::from_str(source).unwrap(), 2, &mut paths);
        paths.into_iter().collect()
    }

    #[test]
    fn sees_use_trees_and_written_out_paths() {
        assert_eq!(
            paths("use crate::a::{self, B, c::D as E};"),
            ["crate::a", "crate::a::B", "crate::a::c::D"]
        );
        assert_eq!(paths("fn f() { std::fs::read(x) }"), ["std::fs::read"]);
        assert_eq!(paths("fn f(x: Vec<crate::a::B>) {}"), ["crate::a::B"]);
        assert_eq!(paths("use std::{fs::File, io};"), ["std::fs::File", "std::io"]);
    }

    #[test]
    fn follows_super_to_the_root() {
        assert_eq!(paths("use super::a;"), [""; 0]);
        assert_eq!(paths("use super::super::a;"), ["crate::a"]);
        assert_eq!(paths("mod inner { use super::super::a; }"), [""; 0]);
    }

    #[test]
    fn leaves_out_comments_strings_and_tests() {
        assert_eq!(paths("// crate::a\nconst S: &str = \"crate::b\";"), [""; 0]);
        assert_eq!(paths("#[cfg(test)] mod tests { use crate::a; } use crate::b;"), ["crate::b"]);
    }
}
