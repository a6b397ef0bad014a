//! Holds the imports of the library and of the command line to the tables of layers in
//! `ARCHITECTURE.md`.
//!
//! Each row of a table names a module and the modules that it may import. A file belongs to
//! the row with the longest matching name. Modules must not import each other in a circle
//! either, wherever the tables would allow it. Unit tests (everything after `mod tests`)
//! may import anything.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The heading of a table in `ARCHITECTURE.md`, and the sources that it is about.
const TABLES: [(&str, &str); 2] = [
    ("### The library", "host/src"),
    ("### The command line", "host/cli/src"),
];

#[test]
fn every_import_points_down() {
    for (heading, directory) in TABLES {
        let table = Table::read(heading);
        let crate_ = Crate::read(&root().join(directory));
        let mut problems = table.violations(&crate_.imports());
        problems.extend(circles(&crate_.imports()));
        assert!(problems.is_empty(), "{directory}:\n{}", problems.join("\n"));
    }
}

#[test]
fn every_row_of_a_table_is_a_module() {
    for (heading, directory) in TABLES {
        let table = Table::read(heading);
        let crate_ = Crate::read(&root().join(directory));
        for row in table.0.keys() {
            assert!(crate_.files.contains_key(row), "{directory}: `{row}`");
        }
    }
}

#[test]
fn an_arrow_up_is_found() {
    let table = Table::read(TABLES[0].0);
    for (module, source) in [
        ("tcp::meter", "use crate::server::Observer;"),
        ("tcp::host", "use super::super::runtime::Problem;"),
        ("tcp", "pub use crate::server::Report;"),
        (
            "runtime::store",
            "fn f() { crate::program::Program::builder(); }",
        ),
        ("server::visit", "use super::gate::{self, Gate};"),
        (
            "server::gate::tls",
            "type T = Box<super::super::handle::ServerHandle>;",
        ),
    ] {
        let mut crate_ = Crate::read(&root().join(TABLES[0].1));
        let before = table.violations(&crate_.imports()).len();
        crate_.files.get_mut(module).unwrap().push_str(source);
        let found = table.violations(&crate_.imports());
        assert_eq!(found.len(), before + 1, "{module}: {source}\n{found:?}");
    }
}

#[test]
fn a_circle_is_found() {
    let source = |text: &str| text.to_owned();
    let crate_ = Crate {
        files: [
            (source(""), source("mod a; mod b; pub use a::A;")),
            (
                source("a"),
                source("use crate::b::B; // use crate::c::C;\n"),
            ),
            (
                source("b"),
                source("use super::A; const S: &str = \"crate::c\";"),
            ),
        ]
        .into(),
    };
    assert_eq!(circles(&crate_.imports()), ["a circle: a, b"]);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The modules of a table, and what each may import.
struct Table(BTreeMap<String, BTreeSet<String>>);

impl Table {
    /// Reads the rows `| module | imports | ... |` of the first table after a heading.
    fn read(heading: &str) -> Self {
        let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
        let (_, after) = text.split_once(heading).unwrap();
        let rows = after
            .lines()
            .skip_while(|line| !line.starts_with("| `"))
            .take_while(|line| line.starts_with('|'));
        let row = |line: &str| {
            let mut cells = line.trim_matches('|').split('|');
            let module = quoted(cells.next()?).next()?;
            Some((module, quoted(cells.next()?).collect()))
        };
        Table(rows.filter_map(row).collect())
    }

    /// The row that a module belongs to.
    fn row(&self, module: &str) -> Option<&str> {
        let rows = self.0.keys().filter(|row| is_within(module, row));
        rows.max_by_key(|row| row.len()).map(String::as_str)
    }

    fn violations(&self, imports: &[Import]) -> Vec<String> {
        let violation = |Import { from, to }: &Import| {
            let Some(row) = self.row(from) else {
                return Some(format!("`{from}` is in no row"));
            };
            let allowed = self.row(to) == Some(row)
                || self.0[row].iter().any(|allowed| is_within(to, allowed));
            (!allowed).then(|| format!("`{from}` imports `{to}`"))
        };
        imports.iter().filter_map(violation).collect()
    }
}

/// The words of a Markdown text that are in backticks.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// Whether a module is `ancestor`, or inside it.
fn is_within(module: &str, ancestor: &str) -> bool {
    module
        .strip_prefix(ancestor)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Modules that are generated from WIT. They name the types that stand for WIT's resources,
/// and these use their error codes.
const GENERATED: [&str; 2] = ["tcp::bindings", "state::bindings"];

/// Modules that import each other, directly or not.
fn circles(imports: &[Import]) -> Vec<String> {
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let written = |import: &&Import| !GENERATED.contains(&&*import.from);
    for Import { from, to } in imports.iter().filter(written) {
        reached.entry(from).or_default().insert(to);
    }
    loop {
        let before: usize = reached.values().map(BTreeSet::len).sum();
        let step = reached.clone();
        for targets in reached.values_mut() {
            let further = targets.iter().filter_map(|target| step.get(target));
            targets.extend(further.flatten().copied().collect::<Vec<_>>());
        }
        if before == reached.values().map(BTreeSet::len).sum() {
            break;
        }
    }
    let circle = |module: &&str| -> Vec<&str> {
        let both = |other: &&&str| {
            reached
                .get(*other)
                .is_some_and(|back| back.contains(module))
        };
        reached[module].iter().filter(both).copied().collect()
    };
    let circles: BTreeSet<_> = reached.keys().map(circle).collect();
    let circles = circles.iter().filter(|circle| !circle.is_empty());
    circles
        .map(|circle| format!("a circle: {}", circle.join(", ")))
        .collect()
}

/// One module uses something that another defines.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    from: String,
    to: String,
}

/// The sources of a crate, by module path; the root is the empty path.
struct Crate {
    files: BTreeMap<String, String>,
}

impl Crate {
    fn read(directory: &Path) -> Self {
        let mut files = BTreeMap::new();
        read_directory(directory, "", &mut files);
        Crate { files }
    }

    fn imports(&self) -> Vec<Import> {
        let scanned = self.scan();
        let mut imports = BTreeSet::new();
        for (module, paths) in &scanned {
            // The root only declares and re-exports.
            for path in paths.iter().filter(|_| !module.is_empty()) {
                let to = resolve(&scanned, module, &path.segments, 0);
                // A parent that re-exports from its children does not depend on them.
                let own = path.re_export && to.as_ref().is_some_and(|to| is_within(to, module));
                if let Some(to) = to.filter(|to| to != module && !own) {
                    let from = module.clone();
                    imports.insert(Import { from, to });
                }
            }
        }
        imports.into_iter().collect()
    }

    fn scan(&self) -> Scanned {
        let children = |module: &str| -> BTreeSet<String> {
            let parent = |other: &&String| match other.rsplit_once("::") {
                Some((parent, _)) => parent == module,
                None => module.is_empty() && !other.is_empty(),
            };
            let name = |other: &String| other.rsplit("::").next().unwrap().to_owned();
            self.files.keys().filter(parent).map(name).collect()
        };
        let scan = |(module, text): (&String, &String)| {
            let paths = Scanner::new(text, children(module)).paths();
            (module.clone(), paths)
        };
        self.files.iter().map(scan).collect()
    }
}

fn read_directory(directory: &Path, module: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let child = match module {
            "" => stem.to_owned(),
            _ => format!("{module}::{stem}"),
        };
        if path.is_dir() {
            read_directory(&path, &child, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let (code, _) = text.split_once("\nmod tests {").unwrap_or((&text, ""));
            let module = match stem {
                "mod" | "lib" => module.to_owned(),
                // The binary uses the library of its package from outside.
                "main" => continue,
                _ => child,
            };
            files.insert(module, code.to_owned());
        }
    }
}

type Scanned = BTreeMap<String, Vec<UsedPath>>;

/// A path to something in the crate, as a module uses it.
#[derive(Debug)]
struct UsedPath {
    segments: Vec<String>,
    /// Whether it is in a `use`, under which name, and whether that is visible outside.
    alias: Option<String>,
    re_export: bool,
}

/// The module that defines what a path names.
fn resolve(scanned: &Scanned, from: &str, segments: &[String], depth: usize) -> Option<String> {
    assert!(depth < 10, "{from}: {segments:?}");
    let mut module = from.to_owned();
    for (index, segment) in segments.iter().enumerate() {
        let parent = |module: &str| module.rsplit_once("::").map_or("", |(up, _)| up).to_owned();
        match segment.as_str() {
            "crate" => module = String::new(),
            "self" => {}
            "super" => module = parent(&module),
            name => {
                let child = match module.as_str() {
                    "" => name.to_owned(),
                    module => format!("{module}::{name}"),
                };
                if scanned.contains_key(&child) {
                    module = child;
                    continue;
                }
                // Not a module: defined here, or imported to here from elsewhere.
                let imported = scanned[&module].iter().find(|path| {
                    path.alias.as_deref() == Some(name) && (module != from || index > 0)
                });
                return match imported {
                    Some(path) => {
                        let rest = &segments[index + 1..];
                        let path = [&path.segments, rest].concat();
                        resolve(scanned, &module, &path, depth + 1)
                    }
                    None => Some(module),
                };
            }
        }
    }
    Some(module)
}

/// Finds the paths in a source file that begin in its own crate.
struct Scanner {
    tokens: Vec<String>,
    next: usize,
    children: BTreeSet<String>,
}

impl Scanner {
    fn new(source: &str, children: BTreeSet<String>) -> Self {
        Scanner {
            tokens: tokens(source),
            next: 0,
            children,
        }
    }

    fn peek(&self) -> &str {
        self.tokens.get(self.next).map_or("", String::as_str)
    }

    fn paths(mut self) -> Vec<UsedPath> {
        let mut paths = Vec::new();
        while self.next < self.tokens.len() {
            let before = |count| {
                self.next
                    .checked_sub(count)
                    .map(|index| &*self.tokens[index])
            };
            let (before, earlier) = (before(1), before(2));
            match self.peek() {
                // Not `impl Trait + use<'a>`.
                "use" if self.after_next() != "<" => {
                    // After `pub` or `pub(crate)`.
                    let re_export = matches!(before, Some("pub" | ")"));
                    self.next += 1;
                    let mut tree = Vec::new();
                    self.tree(&[], re_export, &mut tree);
                    tree.retain(|path| self.begins_here(&path.segments[0]));
                    paths.extend(tree);
                }
                // Not `pub(in crate::module)`.
                token
                    if before != Some("::")
                        && (earlier, before) != (Some("("), Some("in"))
                        && self.begins_here(token) =>
                {
                    let mut segments = vec![self.word()];
                    while self.peek() == "::" && is_word(self.after_next()) {
                        self.next += 1;
                        segments.push(self.word());
                    }
                    // `pub(crate)` and `self` are no paths.
                    if segments.len() > 1 {
                        paths.push(UsedPath {
                            segments,
                            alias: None,
                            re_export: false,
                        });
                    }
                }
                _ => self.next += 1,
            }
        }
        paths
    }

    fn after_next(&self) -> &str {
        self.tokens.get(self.next + 1).map_or("", String::as_str)
    }

    fn word(&mut self) -> String {
        self.next += 1;
        self.tokens[self.next - 1].clone()
    }

    fn begins_here(&self, token: &str) -> bool {
        matches!(token, "crate" | "super" | "self") || self.children.contains(token)
    }

    /// Reads the tree of a `use`.
    fn tree(&mut self, prefix: &[String], re_export: bool, paths: &mut Vec<UsedPath>) {
        let mut segments = prefix.to_vec();
        let mut alias = None;
        loop {
            match self.peek() {
                "{" => {
                    self.next += 1;
                    while self.peek() != "}" {
                        self.tree(&segments, re_export, paths);
                    }
                    self.next += 1;
                    if self.peek() == "," {
                        self.next += 1;
                    }
                    return;
                }
                "as" => {
                    self.next += 1;
                    alias = Some(self.word());
                }
                "self" if !segments.is_empty() => self.next += 1,
                "::" | "*" => self.next += 1,
                word if is_word(word) => {
                    let word = self.word();
                    segments.push(word);
                }
                _ => break,
            }
        }
        if self.peek() == "," {
            self.next += 1;
        }
        paths.push(UsedPath {
            alias: alias.or_else(|| segments.last().cloned()),
            segments,
            re_export,
        });
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphanumeric() || first == '_')
}

/// Splits a source into words, `::` and other characters, without comments and strings.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if first == '"' {
            string(rest)
        } else if let Some(hashes) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            open + rest[open..].find(&end).unwrap() + end.len()
        } else if let Some(length) = character(rest) {
            length
        } else if is_word(rest) {
            let end = rest.find(|next: char| !next.is_alphanumeric() && next != '_');
            let (word, _) = rest.split_at(end.unwrap_or(rest.len()));
            tokens.push(word.to_owned());
            word.len()
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of a string literal.
fn string(text: &str) -> usize {
    let mut escaped = true;
    let end = text.find(|next: char| {
        let ends = next == '"' && !escaped;
        escaped = next == '\\' && !escaped;
        ends
    });
    end.unwrap() + 1
}

/// How many `#` a raw string begins with.
fn raw_string(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('r')?;
    let hashes = rest.find(|next| next != '#')?;
    rest[hashes..].starts_with('"').then_some(hashes)
}

/// The length of a character literal, which a lifetime is not.
fn character(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    let first = rest.chars().next()?;
    match first {
        '\\' => Some(rest[2..].find('\'')? + 4),
        _ => rest[first.len_utf8()..]
            .starts_with('\'')
            .then_some(first.len_utf8() + 2),
    }
}
