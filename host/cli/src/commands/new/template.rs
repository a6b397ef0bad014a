//! The files of a new service, from the templates that the binary carries.
//!
//! A service is the common files of its language, and those of its template. In the names of
//! files, `dot-` at the beginning stands for a dot, and `.template` at the end for nothing: cargo
//! would take `Cargo.toml` for that of another package. In the texts, `{{name}}` and its like stand
//! for what is chosen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use halfopen_compose::{Declared, wit};
use include_dir::{Dir, include_dir};

use crate::args::making::{Language, NewArgs, Template};

/// The folder `guest/templates`.
static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/templates");

/// The SDK beside the sources that this binary was built from.
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest/sdk");

/// The files of WASI that the world of a service uses.
const WASI: [&str; 2] = ["cli-0.2.wit", "io-0.2.wit"];

/// A file of a service.
#[derive(Debug)]
pub(super) struct File {
    /// Its path in the folder of the service.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Returns the files of a new service.
///
/// # Errors
/// If the binary lacks a template.
pub(super) fn files(args: &NewArgs) -> anyhow::Result<Vec<File>> {
    let template = match args.template {
        Template::Echo => "echo",
        Template::Chat => "chat",
        Template::Lines => "lines",
    };
    let mut files = BTreeMap::new();
    for language in folders(args.lang) {
        for part in ["common", template] {
            if let Some(dir) = TEMPLATES.get_dir(format!("{language}/{part}")) {
                add(dir, dir.path(), &mut files)?;
            }
        }
    }
    if generates(args.lang) {
        add_wit(&mut files)?;
    }
    let values = values(args);
    let file = |(path, text): (PathBuf, &str)| File {
        path,
        text: filled(text, &values),
    };
    Ok(files.into_iter().map(file).collect())
}

/// The folders of a language's templates; a later one may replace a file of an earlier one.
fn folders(language: Language) -> &'static [&'static str] {
    match language {
        Language::C => &["c"],
        Language::Go => &["go"],
        Language::Javascript => &["ecmascript", "javascript"],
        Language::Python => &["python"],
        Language::Rust => &["rust"],
        Language::Typescript => &["ecmascript", "typescript"],
    }
}

/// Whether the tool of a language reads the WIT itself.
fn generates(language: Language) -> bool {
    matches!(
        language,
        Language::Javascript | Language::Python | Language::Typescript
    )
}

fn add(
    dir: &'static Dir<'_>,
    root: &Path,
    files: &mut BTreeMap<PathBuf, &'static str>,
) -> anyhow::Result<()> {
    for file in dir.files() {
        let path = file.path().strip_prefix(root)?;
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.context("a file of the template has no name")?;
        let name = name.strip_suffix(".template").unwrap_or(name);
        let path = match name.strip_prefix("dot-") {
            Some(name) => path.with_file_name(format!(".{name}")),
            None => path.with_file_name(name),
        };
        let text = file.contents_utf8();
        let text = text.with_context(|| format!("`{}` is not text", path.display()))?;
        files.insert(path, text);
    }
    dir.dirs().try_for_each(|dir| add(dir, root, files))
}

/// Adds the world of the service, and below `wit/deps` the packages that it may use.
fn add_wit(files: &mut BTreeMap<PathBuf, &'static str>) -> anyhow::Result<()> {
    let world = TEMPLATES.get_file("wit/service.wit");
    let world = world.and_then(|file| file.contents_utf8());
    files.insert("wit/service.wit".into(), world.context("no world")?);
    let deps = Path::new("wit/deps");
    for (name, text) in wit::files().filter(|(_, text)| stands_alone(text)) {
        files.insert(deps.join("halfopen-tcp").join(name), text);
    }
    for (name, text) in wit::dependencies().filter(|(name, _)| WASI.contains(name)) {
        files.insert(deps.join(name), text);
    }
    Ok(())
}

/// Whether a file of `halfopen:tcp` uses no other package. Those that do are for programs and for
/// the parts of composed components.
fn stands_alone(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start);
    !lines.any(|line| {
        ["use ", "import ", "export "].iter().any(|word| {
            line.strip_prefix(word)
                .is_some_and(|rest| rest.starts_with("wasi:"))
        })
    })
}

fn values(args: &NewArgs) -> [(&'static str, String); 4] {
    let declared = (args.template == Template::Chat).then_some(Declared::Shared);
    let in_wit = declared.filter(|_| args.lang != Language::Python);
    let sdk = match Path::new(SDK).canonicalize() {
        Ok(folder) => format!("{{ path = {:?} }}", folder.display().to_string()),
        Err(_) => format!("{:?}", env!("CARGO_PKG_VERSION")),
    };
    [
        ("{{name}}", args.name.clone()),
        ("{{sdk}}", sdk),
        (
            "{{isolation}}",
            declared.map_or(String::new(), |declared| format!("--isolation {declared}")),
        ),
        (
            "{{declaration}}",
            // componentize-py 0.25 builds no component with an interface without functions.
            in_wit.map_or(String::new(), |declared| {
                format!("  export {};\n", declared.interface())
            }),
        ),
    ]
}

fn filled(text: &str, values: &[(&str, String)]) -> String {
    let mut text = text.to_owned();
    for (name, value) in values {
        text = text.replace(name, value);
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    /// Each combination of language and template has a service, a test of it, a page about it, and
    /// no place that is not filled.
    #[test]
    fn every_language_has_every_template() {
        for &lang in Language::value_variants() {
            for &template in Template::value_variants() {
                let name = "shout".to_owned();
                let args = NewArgs {
                    name,
                    lang,
                    template,
                };
                let files = files(&args).expect("they are there");
                let has = |part: &str| {
                    let mut paths = files.iter().map(|file| file.path.display().to_string());
                    assert!(paths.any(|path| path.contains(part)), "{args:?}: {part}");
                };
                match lang {
                    Language::Rust => has("src/lib.rs"),
                    _ => has("service."),
                }
                ["test", "README.md", ".gitignore"]
                    .into_iter()
                    .for_each(has);
                for file in &files {
                    assert!(
                        !file.text.contains("{{"),
                        "{args:?}: {}",
                        file.path.display()
                    );
                }
            }
        }
    }
}
