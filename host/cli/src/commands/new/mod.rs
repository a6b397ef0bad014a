//! `halfopen new`: makes the folder of a new service.

mod template;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::args::making::{Language, NewArgs};
use template::File;

pub(crate) fn new(args: &NewArgs) -> anyhow::Result<ExitCode> {
    let files = template::files(args)?;
    let folder = Path::new(&args.name);
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
            "`{}` exists already, and nothing in it has changed; choose another name, or remove it",
            args.name
        ),
        made => made.with_context(|| format!("cannot make the folder `{}`", args.name))?,
    }
    for file in &files {
        write(folder, file)?;
    }
    // A closed pipe, as with `| head`, is not an error.
    let _ = io::stdout().write_all(next(args).as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path, file: &File) -> anyhow::Result<()> {
    let path = folder.join(&file.path);
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(&path, &file.text))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// What to do next.
fn next(args: &NewArgs) -> String {
    let (tools, build) = steps(args.lang);
    let name = &args.name;
    let component = match args.lang {
        Language::Rust => "target/wasm32-wasip2/release/service.wasm",
        _ => "build/service.wasm",
    };
    format!(
        "{name}/ is a service; {name}/README.md says more. Next:\n\n    cd {name}\n    {tools}\n    {build}\n    halfopen serve {component}\n\nor, instead of the last two, `halfopen dev`, which builds and serves it after each change.\n"
    )
}

/// The command that installs what a language needs, and the one that builds.
fn steps(language: Language) -> (&'static str, &'static str) {
    match language {
        Language::C => (
            "apt-get install clang lld wasi-libc libclang-rt-dev-wasm32   # once",
            "make",
        ),
        Language::Go => ("go version   # 1.24 or newer", "make"),
        Language::Javascript | Language::Typescript => ("npm ci   # once", "npm run build"),
        Language::Python => (
            "python3 -m venv .venv && . .venv/bin/activate && pip install -r requirements.txt   # once",
            "make",
        ),
        Language::Rust => (
            "rustup target add wasm32-wasip2   # once",
            "cargo build --release --target wasm32-wasip2",
        ),
    }
}
