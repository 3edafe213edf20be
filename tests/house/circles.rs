//! No file of `src` imports, directly or through others, a file that imports it.
//!
//! An import is a name of this crate that a file uses and another defines, in a `use` line or written out. It leads to
//! the file that defines the name: a `pub use` on the way only hands it on. What is compiled for tests alone is left out.

use super::layers::{SourceFile, source_files, test_item};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};

/// The modules below the crate's root that lead to a file, and the names that lead on.
type Path = Vec<String>;

#[test]
fn no_files_import_each_other_in_a_circle() {
    let files: Vec<_> = source_files().into_iter().filter(|file| !file.only_for_tests()).collect();
    let circles = Crate::read(&files).circles();
    assert!(circles.is_empty(), "files that import each other:\n{}", circles.join("\n"));
}

/// One name that a `use` line brings into a file.
struct Binding {
    path: Path,
    /// Whether the line only hands the name on: the file need not use it.
    public: bool,
}

#[derive(Default)]
struct Module {
    bindings: BTreeMap<String, Binding>,
    /// The paths of `use a::*`.
    globs: Vec<Path>,
    /// Paths that the code uses, outside of `use` lines: written out, or one name.
    used: BTreeSet<Path>,
}

struct Crate {
    modules: BTreeMap<Path, Module>,
}

impl Crate {
    fn read(files: &[SourceFile]) -> Self {
        let modules = files.iter().map(|file| {
            let path = match file.at.as_str() {
                "lib" => Path::new(),
                at => at.split('/').map(str::to_owned).collect(),
            };
            let mut module = Module::default();
            module.read(&file.tokens);
            (path, module)
        });
        Self { modules: modules.collect() }
    }

    /// The file that defines what `path`, from the crate's root, leads to.
    fn file_of(&self, path: &[String], depth: usize) -> Option<Path> {
        let known = (0..=path.len()).rev().find(|&length| self.modules.contains_key(&path[..length]))?;
        let (module, rest) = path.split_at(known);
        let Some((name, after)) = rest.split_first() else { return Some(module.to_vec()) };
        let contents = &self.modules[module];
        // Names lead through few files; more is a name that is handed round in a circle.
        if depth < 8 {
            if let Some(binding) = contents.bindings.get(name) {
                let mut onwards = self.absolute(module, &binding.path)?;
                onwards.extend_from_slice(after);
                return self.file_of(&onwards, depth + 1);
            }
            for glob in contents.globs.iter().filter_map(|glob| self.absolute(module, glob)) {
                if self.modules.get(&glob).is_some_and(|from| from.bindings.contains_key(name)) {
                    return self.file_of(&[glob.as_slice(), rest].concat(), depth + 1);
                }
            }
        }
        Some(module.to_vec())
    }

    /// `path` as it is written in `module`, from the crate's root. `None` if it leads out of this crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Path> {
        let mut base = module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Path::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
            }
            first => {
                let child = [module, &path[..1]].concat();
                if !self.modules.contains_key(&child) {
                    let binding = self.modules[module].bindings.get(first)?;
                    // A crate, or something of a crate that is named like it.
                    if binding.path[0] == first {
                        return None;
                    }
                    base = self.absolute(module, &binding.path)?;
                    rest = &path[1..];
                }
            }
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    fn imports(&self, at: &[String]) -> BTreeSet<Path> {
        let module = &self.modules[at];
        let private = module.bindings.values().filter(|binding| !binding.public).map(|binding| &binding.path);
        let paths = private.chain(&module.used).filter_map(|path| self.absolute(at, path));
        let files = paths.filter_map(|path| self.file_of(&path, 0));
        files.filter(|file| file != at).collect()
    }

    /// A line for each group of files that reach each other, with one circle of it.
    fn circles(&self) -> Vec<String> {
        let imports: BTreeMap<_, _> = self.modules.keys().map(|at| (at.clone(), self.imports(at))).collect();
        let reach: BTreeMap<_, _> = imports.keys().map(|at| (at.clone(), reachable(&imports, at))).collect();
        let mut seen = BTreeSet::new();
        let mut lines = Vec::new();
        for at in imports.keys().filter(|at| reach[*at].contains(*at)) {
            if !seen.insert(at.clone()) {
                continue;
            }
            let group: BTreeSet<_> = reach[at].iter().filter(|other| reach[*other].contains(at)).collect();
            seen.extend(group.iter().map(|path| (*path).clone()));
            for from in &group {
                for to in imports[*from].iter().filter(|to| group.contains(to)) {
                    lines.push(format!("  {} -> {}", from.join("/"), to.join("/")));
                }
            }
            lines.push(String::new());
        }
        lines
    }
}

fn reachable(imports: &BTreeMap<Path, BTreeSet<Path>>, from: &Path) -> BTreeSet<Path> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<_> = imports[from].iter().collect();
    while let Some(next) = open.pop() {
        if reached.insert(next.clone()) {
            open.extend(&imports[next]);
        }
    }
    reached
}

impl Module {
    fn read(&mut self, tokens: &TokenStream) {
        let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
        let mut at = 0;
        let mut public = false;
        while at < tokens.len() {
            if let Some(length) = test_item(&tokens[at..]) {
                at += length;
                continue;
            }
            match &tokens[at] {
                TokenTree::Ident(word) if word == "use" => {
                    let end = tokens[at..].iter().position(|token| is_punct(token, ';')).unwrap_or(1);
                    self.read_use(&tokens[at + 1..at + end], Path::new(), public);
                    at += end;
                }
                TokenTree::Ident(word) if word == "pub" => {
                    public = true;
                    // Its scope, in parentheses, belongs to it.
                    at += 1 + usize::from(matches!(&tokens.get(at + 1), Some(TokenTree::Group(_))));
                    continue;
                }
                TokenTree::Ident(word) if word == "mod" => at += 1,
                TokenTree::Ident(_) if !is_member(&tokens[..at]) => at += self.read_path(&tokens[at..]),
                TokenTree::Group(group) => self.read(&group.stream()),
                _ => {}
            }
            public = false;
            at += 1;
        }
    }

    /// Notes the path at the start of `tokens`; returns how many tokens follow its first.
    fn read_path(&mut self, tokens: &[TokenTree]) -> usize {
        let TokenTree::Ident(first) = &tokens[0] else { return 0 };
        let mut path = vec![first.to_string()];
        let mut at = 1;
        while let [a, b, TokenTree::Ident(next), ..] = &tokens[at..]
            && is_punct(a, ':')
            && is_punct(b, ':')
        {
            path.push(next.to_string());
            at += 3;
        }
        self.used.insert(path);
        at - 1
    }

    fn read_use(&mut self, tokens: &[TokenTree], prefix: Path, public: bool) {
        let mut path = prefix;
        let mut rest = tokens;
        loop {
            match rest {
                [TokenTree::Ident(word), after @ ..] if word != "as" => {
                    if word != "self" || path.is_empty() {
                        path.push(word.to_string());
                    }
                    rest = after;
                }
                [TokenTree::Ident(_), TokenTree::Ident(alias), ..] => {
                    self.bindings.insert(alias.to_string(), Binding { path, public });
                    return;
                }
                [TokenTree::Punct(punct), after @ ..] if punct.as_char() == ':' => rest = after,
                [TokenTree::Punct(_), ..] => {
                    self.globs.push(path.clone());
                    if !public {
                        self.used.insert(path);
                    }
                    return;
                }
                [TokenTree::Group(group), ..] if group.delimiter() == Delimiter::Brace => {
                    let tokens: Vec<_> = group.stream().into_iter().collect();
                    for part in tokens.split(|token| is_punct(token, ',')).filter(|part| !part.is_empty()) {
                        self.read_use(part, path.clone(), public);
                    }
                    return;
                }
                _ => {
                    if let Some(name) = path.last() {
                        self.bindings.insert(name.clone(), Binding { path, public });
                    }
                    return;
                }
            }
        }
    }
}

/// Whether the name after `before` is a field, a method, or a lifetime.
fn is_member(before: &[TokenTree]) -> bool {
    match before {
        [.., a, b] if is_punct(a, '.') && is_punct(b, '.') => false,
        [.., last] => is_punct(last, '.') || is_punct(last, '\''),
        [] => false,
    }
}

fn is_punct(token: &TokenTree, expected: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == expected)
}

mod the_reader {
    use super::*;
    use std::str::FromStr;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let file = |(at, text): &(&str, &str)| SourceFile {
            at: (*at).to_owned(),
            lines: 0,
            tokens: TokenStream::from_str(text).unwrap(),
        };
        let files: Vec<_> = files.iter().map(file).collect();
        let lines = Crate::read(&files).circles();
        lines.into_iter().filter(|line| !line.is_empty()).map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn follows_names_to_the_file_that_defines_them() {
        let face = ("a", "mod b; mod c; pub(crate) use b::B;");
        assert_eq!(
            circles(&[("lib", "mod a;"), face, ("a/b", "struct B;"), ("a/c", "use super::B;")]),
            [""; 0]
        );
        assert_eq!(
            circles(&[("lib", ""), face, ("a/b", "use super::c::C; struct B;"), ("a/c", "use crate::a::B;")]),
            ["a/b -> a/c", "a/c -> a/b"]
        );
    }

    #[test]
    fn sees_a_child_that_needs_its_parent() {
        let parent = ("a", "mod b; use b::B; struct A(B);");
        assert_eq!(
            circles(&[("lib", ""), parent, ("a/b", "use super::A; struct B;")]),
            ["a -> a/b", "a/b -> a"]
        );
        let written_out = ("a", "mod b; fn f() { b::g() } struct A;");
        assert_eq!(circles(&[("lib", ""), written_out, ("a/b", "fn g(_: super::A) {}")]).len(), 2);
    }

    #[test]
    fn counts_a_name_that_is_handed_on_only_where_the_file_uses_it() {
        let child = ("a/b", "use super::A; struct B;");
        assert_eq!(circles(&[("lib", ""), ("a", "mod b; pub use b::B; struct A;"), child]), [""; 0]);
        assert_eq!(circles(&[("lib", ""), ("a", "mod b; pub use b::B; struct A(B);"), child]).len(), 2);
    }

    #[test]
    fn leaves_out_tests_and_members() {
        let parent = ("a", "mod b; use b::B; struct A; fn f(x: X) { x.b() }");
        let child = ("a/b", "struct B; #[cfg(test)] mod tests { use super::super::A; }");
        assert_eq!(circles(&[("lib", ""), parent, child]), [""; 0]);
    }
}
