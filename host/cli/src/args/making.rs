//! The arguments of the commands with which services are made.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use halfopen_compose::Declared;

use crate::args::listen::{DEFAULT, Listen};

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// Name of the service, and of its folder
    ///
    /// Lower-case letters, digits and `-`, beginning with a letter.
    #[arg(value_parser = name)]
    pub(crate) name: String,
    /// Language of the service
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    pub(crate) lang: Language,
    /// What the service does to begin with
    #[arg(long, value_enum, value_name = "TEMPLATE", default_value = "echo")]
    pub(crate) template: Template,
}

/// A language that services are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// C, with clang or zig
    C,
    /// Go
    Go,
    /// JavaScript, with componentize-qjs
    Javascript,
    /// Python, with componentize-py
    Python,
    /// Rust
    Rust,
    /// TypeScript, with esbuild and componentize-qjs
    Typescript,
}

/// What a new service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Template {
    /// Sends back all data
    Echo,
    /// Passes each line on to all other clients; its connections share one instance
    Chat,
    /// Answers each line
    Lines,
}

#[derive(Debug, Args)]
pub(crate) struct ComponentArgs {
    /// The core module, or a component that is to declare something
    ///
    /// The imports and exports of a module are functions with the canonical ABI, such as `end` of
    /// `halfopen:tcp/sockets@0.1.0` and `halfopen:tcp/events@0.1.0#data`. It may import WASI 0.1
    /// as well.
    pub(crate) module: PathBuf,
    /// File for the component
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Declares how the connections of the service share instances
    ///
    /// `halfopen serve` follows it without a flag. [default: nothing is declared]
    #[arg(long, value_enum, value_name = "MODE")]
    isolation: Option<Isolation>,
}

impl ComponentArgs {
    /// The isolation that the component declares.
    pub(crate) fn declared(&self) -> Option<Declared> {
        self.isolation.map(|isolation| match isolation {
            Isolation::Connection => Declared::Connection,
            Isolation::Shared => Declared::Shared,
        })
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Isolation {
    /// Each connection needs an instance of its own
    Connection,
    /// All connections need one instance
    Shared,
}

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// The folder of the service
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
    /// Listens on this address
    ///
    /// As for `halfopen serve`. May be given several times.
    #[arg(long, value_name = "ADDR", default_value_t = DEFAULT)]
    pub(crate) listen: Listen,
    /// Flags for `halfopen serve`, and after a second `--` arguments of the service
    #[arg(last = true, value_name = "FLAGS")]
    pub(crate) flags: Vec<String>,
}

/// Words that no language of [`Language`] takes for the name of a package.
const RESERVED: [&str; 7] = [
    "core",
    "halfopen",
    "main",
    "std",
    "test",
    "wit",
    "halfopen-guest",
];

/// Parses the name of a service: a package of any language, and a folder.
fn name(text: &str) -> Result<String, String> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins || text.ends_with('-') || !text.chars().all(letters) || text.len() > 50 {
        return Err(
            "choose lower-case letters, digits and `-`, at most 50, beginning with a letter"
                .to_owned(),
        );
    }
    match RESERVED.contains(&text) {
        true => Err("a word that a language reserves; choose another name".to_owned()),
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_name_is_one_of_a_package_and_a_folder() {
        for good in ["shout", "a", "key-value2"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        let long = "a".repeat(51);
        for bad in [
            "", "Shout", "a b", "-a", "a-", "2a", "../a", "a/b", "é", "std", &long,
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
