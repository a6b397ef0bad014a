//! What is wrong with a command line, in one line.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::{Command, Halfopen};

/// Parses the arguments of a process, its name first.
///
/// # Errors
/// Help or the version, to be printed on standard output; or a mistake.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Command, Usage> {
    if let Some(mistake) = mistyped_command(&arguments) {
        return Err(Usage::Mistake(mistake));
    }
    let parsed = Halfopen::try_parse_from(&arguments);
    parsed
        .map(Halfopen::into_command)
        .map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Usage::Help(error),
            _ => Usage::Mistake(one_line(&error, command(&arguments).as_deref())),
        })
}

/// What to print in place of running a command.
#[derive(Debug)]
pub(crate) enum Usage {
    /// Help or the version, which was asked for.
    Help(clap::Error),
    /// A mistake, as one line.
    Mistake(String),
}

/// The names of the commands.
fn commands() -> Vec<String> {
    let mut halfopen = Halfopen::command();
    halfopen.build();
    let commands = halfopen.get_subcommands();
    commands
        .map(|command| command.get_name().to_owned())
        .collect()
}

/// The command that is named, if any.
fn command(arguments: &[OsString]) -> Option<String> {
    let first = arguments.get(1)?.to_str()?;
    commands().into_iter().find(|command| command == first)
}

/// The mistake in a first argument that is a word, and neither a command nor a file to serve.
fn mistyped_command(arguments: &[OsString]) -> Option<String> {
    let word = arguments.get(1)?.to_str()?;
    let is_word = word.starts_with(|first: char| first.is_ascii_alphabetic())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let commands = commands();
    if !is_word || commands.iter().any(|command| command == word) || Path::new(word).exists() {
        return None;
    }
    let distance = |command: &String| strsim::damerau_levenshtein(word, command);
    let closest = commands.iter().min_by_key(|command| distance(command))?;
    let help = match distance(closest) {
        0..=2 => format!("did you mean `halfopen {closest}`?"),
        _ => format!("the commands are {}", commands.join(", ")),
    };
    Some(format!("`{word}` is neither a command nor a file; {help}"))
}

/// The message of clap's error, and where to read on.
fn one_line(error: &clap::Error, command: Option<&str>) -> String {
    let help = match command {
        Some(command) => format!("see `halfopen {command} --help`"),
        None => "see `halfopen --help`".to_owned(),
    };
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return format!("the command is incomplete; {help}");
    }
    let text = error.to_string();
    let lines: Vec<_> = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .map(str::trim)
        // How to pass it as a value is hardly ever what was meant.
        .filter(|line| !line.is_empty() && !line.contains(" as a value, use "))
        .collect();
    let text = lines.join(" ");
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let text = text.replace(" tip: ", "; ");
    let config = error.kind() == ErrorKind::ArgumentConflict && text.contains("--config");
    let in_the_file = match config {
        true => "; write it into the file, as a key of a service",
        false => "",
    };
    format!("{text}{in_the_file}; {help}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(arguments: &str) -> String {
        let arguments = ["halfopen"].into_iter().chain(arguments.split_whitespace());
        match parse(arguments.map(OsString::from).collect()) {
            Err(Usage::Mistake(mistake)) => mistake,
            other => panic!("{arguments:?}: {other:?}", arguments = other.is_ok()),
        }
    }

    #[test]
    fn a_mistyped_command_is_told_the_right_one() {
        for (arguments, part) in [
            ("srve", "did you mean `halfopen serve`?"),
            (
                "srve x.wasm --listen 127.0.0.1:0",
                "did you mean `halfopen serve`?",
            ),
            ("chek x.toml", "did you mean `halfopen check`?"),
            ("frobnicate", "the commands are serve, run, new"),
            ("generate", "incomplete; see `halfopen generate --help`"),
        ] {
            let mistake = mistake(arguments);
            assert!(mistake.contains(part), "{arguments}: {mistake}");
        }
    }

    #[test]
    fn what_is_no_number_of_a_connection_is_told_what_one_is() {
        for id in ["x", "0", "1.5"] {
            let mistake = mistake(&format!("ctl --control x reset {id}"));
            let part = "write a whole number of at least 1";
            assert!(mistake.contains(part), "{id}: {mistake}");
        }
    }

    #[test]
    fn flags_beside_a_configuration_are_named() {
        let named = mistake("serve --config x --workers 2 --admin 1 --max-memory 3 a.wasm");
        for part in [
            "--workers",
            "--max-memory",
            "[COMPONENT]",
            "a key of a service",
        ] {
            assert!(named.contains(part), "{part}: {named}");
        }
        assert!(!named.contains("--admin"), "{named}");
        for flag in [
            "--tls-key x",
            "--deny-peer ::1",
            "--proxy-from ::1",
            "--inherit-network",
            "--grace 1",
        ] {
            let named = mistake(&format!("--config x {flag}"));
            let flag = flag.split_once(' ').map_or(flag, |(flag, _)| flag);
            assert!(named.contains(flag), "{flag}: {named}");
        }
    }

    #[test]
    fn a_negative_number_is_the_value_of_its_flag() {
        for arguments in [
            "serve --idle-timeout -1",
            "run --grace -1 x",
            "--max-age -0.5",
        ] {
            let mistake = mistake(arguments);
            assert!(mistake.contains("a time is not negative"), "{mistake}");
        }
        assert!(mistake("serve --max-connections -1").contains("at least 1"));
    }
}
