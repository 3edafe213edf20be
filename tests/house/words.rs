//! Comments, errors and documentation say who does what: words that hide it are refused. And they fit on a screen.

use super::layers::manifest_dir;
use std::path::{Path, PathBuf};

/// Words that leave open who acts. They are put together here, so that this file passes too.
const HIDING: [[&str; 2]; 2] = [["who", "ever"], ["some", "body"]];
/// Names a user where it is quoted, and hides who acts where it is not.
const QUOTED: &str = concat!("no", "body");

/// How long a line with a comment may be: rustfmt leaves comments alone.
const LONGEST: usize = 126;

#[test]
fn no_text_leaves_open_who_acts() {
    let found = lines_of_the_project(|text| hiding_lines(text).collect());
    assert!(found.is_empty(), "these lines leave open who acts:\n{}", found.join("\n"));
}

#[test]
fn every_comment_fits_on_a_screen() {
    let found = lines_of_the_project(|text| long_comments(text).collect());
    assert!(found.is_empty(), "these comments have over {LONGEST} columns:\n{}", found.join("\n"));
}

/// `FILE:LINE` of all lines that `find` names by their numbers in the text of a file.
fn lines_of_the_project(find: impl Fn(&str) -> Vec<usize>) -> Vec<String> {
    let root = manifest_dir();
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> =
        ["src", "tests", "examples", "README.md", ".ci"].map(|part| root.join(part)).into();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        // What is not text has no words.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        found.extend(find(&text).into_iter().map(|line| format!("{}:{line}", relative(&path, &root))));
    }
    found
}

/// Without the rows of tables, which cannot be broken.
fn long_comments(text: &str) -> impl Iterator<Item = usize> + '_ {
    let is_long = |line: &str| {
        let comment =
            line.trim_start().strip_prefix("//").map(|rest| rest.trim_start_matches(['/', '!', ' ']));
        line.chars().count() > LONGEST && comment.is_some_and(|comment| !comment.starts_with('|'))
    };
    text.lines().enumerate().filter(move |(_, line)| is_long(line)).map(|(index, _)| index + 1)
}

fn hiding_lines(text: &str) -> impl Iterator<Item = usize> + '_ {
    let hides = |line: &str| {
        let lower = line.to_lowercase();
        let mut words = lower.split(|letter: char| !letter.is_alphabetic());
        let unquoted =
            lower.split_once("//").is_some_and(|(_, comment)| comment.contains(&format!(" {QUOTED} ")));
        unquoted || words.any(|word| HIDING.iter().any(|parts| word == parts.concat()))
    };
    text.lines().enumerate().filter(move |(_, line)| hides(line)).map(|(index, _)| index + 1)
}

fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

#[test]
fn the_words_are_found_whatever_stands_around_them() {
    let text = format!(
        "plain\n// {}, it\n\"{}'s\"\n{}where\n// {QUOTED} sees it\n// the user `{QUOTED}` sees it",
        HIDING[0].concat(),
        HIDING[1].concat().to_uppercase(),
        HIDING[0].concat()
    );
    assert_eq!(hiding_lines(&text).collect::<Vec<_>>(), [2, 3, 5]);
}

#[test]
fn long_comments_are_found_and_rows_of_tables_are_not() {
    let word = "a".repeat(LONGEST);
    let text = format!("/// {word}\nlet text = \"{word}\";\n    //! | {word} |\n    // {word}\n/// short");
    assert_eq!(long_comments(&text).collect::<Vec<_>>(), [1, 4]);
}
