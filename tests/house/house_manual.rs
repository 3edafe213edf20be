//! The manual's page on the source, held against the source: what it names exists, and it names every folder.

use std::path::{Path, PathBuf};

/// The text of the page on the source.
fn page() -> String {
    text_of("src/manual/house.rs")
}

fn text_of(page: &str) -> String {
    let source = std::fs::read_to_string(package().join(page)).expect("the page");
    let lines = source.lines().filter_map(|line| line.strip_prefix("//!"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Where the sources are now: CI runs the binaries in a copy of the tree.
fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// What stands between backticks, with the text before it.
fn code(page: &str) -> Vec<(&str, &str)> {
    let parts: Vec<_> = page.split('`').collect();
    parts.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

fn is_path(code: &str) -> bool {
    let of_a_path = |letter: char| letter.is_ascii_alphanumeric() || "_/.".contains(letter);
    (code.ends_with(".rs") || code.ends_with('/')) && code.chars().all(of_a_path) && code != "src/"
}

/// Where a path of the page leads.
fn resolve(path: &str) -> PathBuf {
    if path.starts_with("tests/") { package().join(path) } else { package().join("src").join(path) }
}

fn has_function(file: &Path, name: &str) -> bool {
    let source = std::fs::read_to_string(file).unwrap_or_default();
    source
        .match_indices(&format!("fn {name}"))
        .any(|(at, found)| source[at + found.len()..].starts_with(['(', '<']))
}

#[test]
fn every_file_and_function_that_the_page_names_exists() {
    let page = page();
    let (mut file, mut checked, mut missing) = (None, 0, Vec::new());
    for (before, code) in code(&page) {
        if is_path(code) && code != "mod.rs" {
            let path = resolve(code);
            if !path.exists() {
                missing.push(code.to_owned());
            }
            (file, checked) = (Some(path), checked + 1);
        } else if let Some(file) = file.take_if(|_| before == " ") {
            checked += 1;
            if !has_function(&file, code) {
                missing.push(format!("{code} in {}", file.display()));
            }
        } else {
            file = None;
        }
    }
    assert!(checked > 60, "the page is read: {checked}");
    assert!(missing.is_empty(), "src/manual/house.rs names what does not exist:\n{}", missing.join("\n"));
}

#[test]
fn the_page_names_every_folder_and_file_at_the_top() {
    let page = page();
    let named: Vec<_> = code(&page).into_iter().map(|(_, code)| code).collect();
    let entries = std::fs::read_dir(package().join("src")).expect("the source");
    let names = entries.map(|entry| {
        let entry = entry.expect("an entry");
        let slash = if entry.path().is_dir() { "/" } else { "" };
        format!("{}{slash}", entry.file_name().to_str().expect("an ASCII name"))
    });
    let missing: Vec<_> = names.filter(|name| !named.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "src/manual/house.rs leaves out {missing:?}");
}

/// The test that `program::file::function` names, as its file and its function.
fn named_test(code: &str) -> Option<(PathBuf, &str)> {
    let (module, function) = code.rsplit_once("::")?;
    let programs = ["api", "cgroups", "engines", "faults", "isolation", "oci", "programs"];
    let path = module.replace("::", "/");
    programs.contains(&module.split("::").next()?).then(|| {
        let file = package().join("tests").join(format!("{path}.rs"));
        (if file.exists() { file } else { package().join("tests").join(path).join("mod.rs") }, function)
    })
}

#[test]
fn every_promise_names_tests_and_they_exist() {
    let page = text_of("src/manual/promises.rs");
    let promised = page.split_once("# Promised ").and_then(|(_, rest)| rest.split_once("# Not promised"));
    let promises = promised.expect("both parts").0;
    let mut wrong = Vec::new();
    for promise in promises.split(" * ").skip(1) {
        let tests: Vec<_> = code(promise).into_iter().filter_map(|(_, code)| named_test(code)).collect();
        let missing = tests.iter().filter(|(file, function)| !has_function(file, function));
        wrong.extend(missing.map(|(file, function)| format!("no {function} in {}", file.display())));
        if tests.is_empty() {
            wrong.push(format!("no test is named for: {promise}"));
        }
    }
    assert!(wrong.is_empty(), "src/manual/promises.rs:\n{}", wrong.join("\n"));
}
