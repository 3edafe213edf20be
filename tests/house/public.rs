//! The public items of the crate: those named in `lib.rs`, against a list, and what each of them owes its users.
//!
//! `lib.rs` names every public item, and no glob. A root that grows is noticed here, before users depend on it.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

/// What the root of the crate has, besides its modules.
const ROOT: &[&str] = &[
    "AnyContainer",
    "Container",
    "ContainerBuilder",
    "ContainerId",
    "Created",
    "Creating",
    "Error",
    "ErrorKind",
    "Events",
    "Exec",
    "Exit",
    "Failed",
    "Files",
    "Outcome",
    "Output",
    "Paused",
    "Pod",
    "Process",
    "Pty",
    "Result",
    "Rootfs",
    "Running",
    "Signal",
    "StateRoot",
    "Stats",
    "Status",
    "Stdio",
    "Stopped",
    "Zygote",
    "oci_spec",
];

/// The most items the root may have, whatever the list says.
const MAX_ROOT: usize = 30;

/// The public modules, and what is in them.
const MODULES: &[(&str, &[&str])] = &[
    ("builder", &["Bind", "DeviceNumber", "HookKind", "IdMap", "IoLimit", "Resource", "UserLog"]),
    ("checkpoint", &["Criu", "CriuVersion", "Image", "ImageLayer", "StreamKind", "Unsuitable"]),
    ("diagnosis", &["Explanation", "Feature", "HostReport", "Layer", "Missing"]),
    ("events", &["Event"]),
    ("files", &["Change", "ChangeKind", "Copied", "Entry", "FileKind", "Metadata", "Skipped", "Transfer"]),
    ("helpers", &["Helper"]),
    ("info", &["Info", "Listed", "ProcessIdentity"]),
    ("manual", &[]),
    (
        "oci",
        &["OCI_VERSIONS", "OciState", "check_config", "default_seccomp", "mount_options", "parse_process"],
    ),
    ("pools", &["Job", "Pool", "Taken"]),
    ("templates", &["FailedTemplate", "Ready", "Template"]),
    (
        "processes",
        &["ForwardSignals", "Line", "Lines", "OutputStream", "ProcessExit", "ProcessInfo", "ProcessOutput"],
    ),
    (
        "stats",
        &[
            "CpuStats",
            "HugetlbStats",
            "IoStats",
            "MemoryStats",
            "PidsStats",
            "Pressure",
            "RdmaStats",
            "Stall",
            "Stalls",
        ],
    ),
    ("terminal", &["WindowSize"]),
    (
        "typestate",
        &[
            "Alive",
            "Built",
            "Creatable",
            "Ended",
            "Enterable",
            "Executed",
            "FailedAny",
            "HasFiles",
            "HasStreams",
            "Pausable",
            "Phase",
            "Recovered",
            "Resumable",
            "Startable",
            "Started",
            "WrongPhase",
        ],
    ),
];

/// A file with a type that is called as a public one and is another: the `process` of a validated configuration.
const PRIVATE: &str = "spec/process.rs";

/// What the documentation of a public type says where it is not `#[non_exhaustive]`, and goes on with why.
const CLOSED: &str = "Closed on purpose";

#[test]
#[expect(clippy::print_stdout, reason = "the harness shows the list where the test fails")]
fn the_public_items_are_those_of_the_list() {
    let mut found = public_items();
    for (module, items) in &mut found {
        items.sort_unstable();
        println!("{}: {}", if module.is_empty() { "the root" } else { module }, items.join(" "));
    }
    let root = found.remove("").expect("the root");
    assert_eq!(root, ROOT, "the root of the crate");
    assert!(root.len() <= MAX_ROOT, "{} items in the root", root.len());
    let listed: BTreeMap<String, Vec<String>> = MODULES
        .iter()
        .map(|(module, items)| ((*module).to_owned(), items.iter().map(|item| (*item).to_owned()).collect()))
        .collect();
    assert_eq!(found, listed, "the public modules");
}

#[test]
fn public_types_with_fields_can_grow_or_say_why_not() {
    let public: Vec<String> = public_items().into_values().flatten().collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (file, tokens) in sources() {
        for defined in definitions(&tokens).into_iter().filter(|defined| public.contains(&defined.name)) {
            seen += 1;
            if defined.is_open && !defined.is_non_exhaustive && !defined.documentation.contains(CLOSED) {
                wrong.push(format!("{} in {file}", defined.name));
            }
        }
    }
    assert!(seen > 50, "only {seen} definitions were found");
    assert!(wrong.is_empty(), "neither #[non_exhaustive] nor {CLOSED:?}:\n{}", wrong.join("\n"));
}

/// By public module, the root being "", the names of what `lib.rs` exports.
fn public_items() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(src().join("lib.rs")).unwrap();
    let mut items = BTreeMap::new();
    collect("", TokenStream::from_str(&text).unwrap(), &mut items);
    items
}

fn collect(module: &str, tokens: TokenStream, items: &mut BTreeMap<String, Vec<String>>) {
    items.entry(module.to_owned()).or_default();
    let mut attributes = String::new();
    let mut statement: Vec<TokenTree> = Vec::new();
    for token in tokens {
        let end = match &token {
            TokenTree::Punct(punct) => punct.as_char() == ';',
            TokenTree::Group(group)
                if group.delimiter() == Delimiter::Bracket && is_attribute(&statement) =>
            {
                attributes.push_str(&group.stream().to_string());
                statement.clear();
                continue;
            }
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !is_use(&statement),
            _ => false,
        };
        statement.push(token);
        if end {
            item(module, &attributes, &std::mem::take(&mut statement), items);
            attributes.clear();
        }
    }
}

/// `#` or `#!`, before its brackets.
fn is_attribute(statement: &[TokenTree]) -> bool {
    let text: String = statement.iter().map(ToString::to_string).collect();
    text == "#" || text == "#!"
}

fn is_use(statement: &[TokenTree]) -> bool {
    statement.iter().any(|token| is_word(token, "use"))
}

/// One statement of `lib.rs`: `pub use path::{names};`, `pub mod name { .. }`, `pub mod name;`, or nothing public.
fn item(module: &str, attributes: &str, statement: &[TokenTree], items: &mut BTreeMap<String, Vec<String>>) {
    let hidden = attributes.replace(' ', "").contains("doc(hidden)");
    match statement {
        [public, rest @ ..] if is_word(public, "pub") && !hidden => match rest {
            [word, TokenTree::Ident(name), body] if is_word(word, "mod") => {
                let inside = match body {
                    TokenTree::Group(group) => group.stream(),
                    _ => TokenStream::new(),
                };
                collect(&name.to_string(), inside, items);
            }
            [word, path @ ..] if is_word(word, "use") => {
                let names = items.entry(module.to_owned()).or_default();
                exported(&path[..path.len() - 1], names);
            }
            _ => panic!("lib.rs exports something by other means than `pub use` and `pub mod`"),
        },
        _ => {}
    }
}

/// The names that `a::b`, `a::{b, c as d}` bring in.
fn exported(path: &[TokenTree], names: &mut Vec<String>) {
    match path.last() {
        Some(TokenTree::Group(group)) => in_braces(group, names),
        Some(TokenTree::Ident(name)) => names.push(name.to_string()),
        _ => panic!("lib.rs exports a glob, which hides what is public"),
    }
}

fn in_braces(group: &Group, names: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    let comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    tokens.split(comma).filter(|path| !path.is_empty()).for_each(|path| exported(path, names));
}

/// A public type in a source file.
struct Definition {
    name: String,
    /// An enum, or a struct with a public field: what users can match or build.
    is_open: bool,
    is_non_exhaustive: bool,
    documentation: String,
}

fn definitions(tokens: &TokenStream) -> Vec<Definition> {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let mut found = Vec::new();
    let mut attributes = String::new();
    for at in 0..tokens.len() {
        match &tokens[at..] {
            [TokenTree::Punct(hash), TokenTree::Group(attribute), ..] if hash.as_char() == '#' => {
                attributes.push_str(&attribute.stream().to_string());
            }
            [public, kind, TokenTree::Ident(name), ..]
                if is_word(public, "pub") && (is_word(kind, "struct") || is_word(kind, "enum")) =>
            {
                let body = tokens[at..].iter().find_map(|token| match token {
                    TokenTree::Group(group) if group.delimiter() != Delimiter::Bracket => Some(group),
                    _ => None,
                });
                let has_public_field =
                    body.is_some_and(|body| body.stream().into_iter().any(|token| is_word(&token, "pub")));
                // `pub(crate)` and `pub(super)` are fields of ours.
                let restricted = body.is_some_and(|body| {
                    let text = body.stream().to_string();
                    !text.replace("pub (", "pub(").replace("pub(", "").contains("pub ")
                });
                found.push(Definition {
                    name: name.to_string(),
                    is_open: is_word(kind, "enum") || (has_public_field && !restricted),
                    is_non_exhaustive: attributes.contains("non_exhaustive"),
                    documentation: std::mem::take(&mut attributes),
                });
            }
            [TokenTree::Punct(punct), ..] if punct.as_char() == ';' => attributes.clear(),
            [TokenTree::Group(group), ..] if group.delimiter() == Delimiter::Brace => attributes.clear(),
            _ => {}
        }
    }
    found
}

fn is_word(token: &TokenTree, expected: &str) -> bool {
    matches!(token, TokenTree::Ident(word) if word == expected)
}

fn src() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR");
    manifest.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from).join("src")
}

/// Every source file that is not about tests, with its path below `src`.
fn sources() -> Vec<(String, TokenStream)> {
    let mut files = Vec::new();
    let mut directories = vec![src()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests") {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with(PRIVATE)
            {
                let tokens = TokenStream::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
                files.push((path.strip_prefix(src()).unwrap().display().to_string(), tokens));
            }
        }
    }
    files
}
