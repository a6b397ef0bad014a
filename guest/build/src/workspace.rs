//! The crates of the workspace, as their `Cargo.toml` files and `Cargo.lock` describe
//! them. Nothing here runs cargo or needs the network.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cargo_lock::{Lockfile, Package};
use toml::{Table, Value};

/// The workspace.
#[derive(Debug)]
pub struct Workspace {
    /// The root `Cargo.toml`.
    pub manifest: Table,
    /// The members, by crate name.
    members: BTreeMap<String, Member>,
    lock: Lockfile,
}

/// A crate of the workspace.
#[derive(Debug)]
pub struct Member {
    /// Its folder, from the top folder of the project.
    pub folder: String,
    /// Its dependencies by name, dev-dependencies excepted, and whether each inherits
    /// from `[workspace.dependencies]`.
    pub dependencies: BTreeMap<String, bool>,
}

impl Workspace {
    /// Reads the workspace whose top folder is `root`.
    ///
    /// # Errors
    /// If a file cannot be read or is not what cargo writes or accepts.
    pub fn read(root: &Path) -> Result<Self> {
        let manifest = table(root, "Cargo.toml")?;
        let mut members = BTreeMap::new();
        for pattern in array(&manifest, &["workspace", "members"]) {
            for folder in expand(root, pattern)? {
                let manifest = table(root, &format!("{folder}/Cargo.toml"))?;
                let name = find(&manifest, &["package", "name"]).and_then(Value::as_str);
                let name = name.with_context(|| format!("`{folder}` has no package name"))?;
                let dependencies = dependencies(&manifest);
                let member = Member {
                    folder,
                    dependencies,
                };
                members.insert(name.to_owned(), member);
            }
        }
        let lock = Lockfile::load(root.join("Cargo.lock")).context("cannot read `Cargo.lock`")?;
        Ok(Workspace {
            manifest,
            members,
            lock,
        })
    }

    /// The members that the crates `names` are built from, themselves included.
    ///
    /// # Errors
    /// If one of `names` is not a member.
    pub fn reachable(&self, names: impl IntoIterator<Item = String>) -> Result<Vec<&Member>> {
        let mut queue: VecDeque<String> = names.into_iter().collect();
        for name in &queue {
            let member = self.members.get(name);
            member.with_context(|| format!("`{name}` is not a crate of this workspace"))?;
        }
        let mut reached = BTreeMap::new();
        while let Some(name) = queue.pop_front() {
            if let Some(member) = self.members.get(&name)
                && reached.insert(name, member).is_none()
            {
                queue.extend(member.dependencies.keys().cloned());
            }
        }
        Ok(reached.into_values().collect())
    }

    /// The name, version and checksum of each package in `Cargo.lock` that the crates
    /// `names` are built from, themselves included, one line each.
    #[must_use]
    pub fn locked(&self, names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
        let names: BTreeSet<String> = names.into_iter().collect();
        let named = |package: &&Package| names.contains(package.name.as_str());
        let mut queue: VecDeque<&Package> = self.lock.packages.iter().filter(named).collect();
        let mut lines = BTreeSet::new();
        while let Some(package) = queue.pop_front() {
            let mut line = format!("{} {}", package.name, package.version);
            if let Some(checksum) = &package.checksum {
                line += &format!(" {checksum}");
            }
            if lines.insert(line) {
                queue.extend(self.lock.packages.iter().filter(|other| {
                    package
                        .dependencies
                        .iter()
                        .any(|wanted| wanted.matches(other))
                        && !self.is_for_tests(package, other)
                }));
            }
        }
        lines
    }

    /// Whether `package` is a member that uses `dependency` only in its tests:
    /// `Cargo.lock` does not tell dev-dependencies apart.
    fn is_for_tests(&self, package: &Package, dependency: &Package) -> bool {
        let member = self.members.get(package.name.as_str());
        member.is_some_and(|member| !member.dependencies.contains_key(dependency.name.as_str()))
    }
}

/// The value at a path of keys.
pub(crate) fn find<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let start = table.get(*first)?;
    rest.iter().try_fold(start, |value, key| value.get(*key))
}

fn table(root: &Path, path: &str) -> Result<Table> {
    let text = fs::read_to_string(root.join(path)).with_context(|| cannot_read(path))?;
    text.parse().with_context(|| cannot_read(path))
}

fn cannot_read(path: &str) -> String {
    format!("cannot read `{path}`")
}

/// The strings of the array at a path of keys.
fn array<'a>(table: &'a Table, path: &[&str]) -> impl Iterator<Item = &'a str> {
    let array = find(table, path).and_then(Value::as_array);
    array.into_iter().flatten().filter_map(Value::as_str)
}

/// The folders that an entry of `members` stands for: itself, or the crates below the
/// folder before `/*`.
fn expand(root: &Path, pattern: &str) -> Result<Vec<String>> {
    let Some(parent) = pattern.strip_suffix("/*") else {
        return Ok(vec![pattern.to_owned()]);
    };
    let mut folders = Vec::new();
    for entry in fs::read_dir(root.join(parent)).with_context(|| cannot_read(parent))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            folders.push(format!("{parent}/{}", entry.file_name().to_string_lossy()));
        }
    }
    Ok(folders)
}

/// The dependencies in a crate's `Cargo.toml`, those for certain targets included.
fn dependencies(manifest: &Table) -> BTreeMap<String, bool> {
    let targets = find(manifest, &["target"]).and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values);
    let sections = targets.filter_map(|target| target.get("dependencies"));
    let sections = sections.chain(manifest.get("dependencies"));
    let entries = sections.filter_map(Value::as_table).flatten();
    entries
        .map(|(name, value)| {
            let inherited = value.get("workspace").and_then(Value::as_bool);
            (name.clone(), inherited == Some(true))
        })
        .collect()
}
