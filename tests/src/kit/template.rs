//! The command that the kit starts for each scenario.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use halfopen_compose::Style;

use crate::runner::{Instances, Primitives};

/// What is said of a command that the project does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The implementation of the primitives whose promises the host makes
    /// (`wit/SEMANTICS.md`, "What each implementation can promise").
    pub promises: Primitives,
    /// The instances that serve the connections.
    pub instances: Instances,
    /// The style of services that the host serves; `None` if it serves both.
    pub style: Option<Style>,
    /// Whether the host lets a service connect to loopback.
    pub connects: bool,
    /// Whether the command does not print what its service prints.
    pub silent: bool,
}

/// The words of a command, some of which stand for others.
#[derive(Clone, Debug)]
pub struct Template(Vec<String>);

/// Stands for the file of the component.
pub const COMPONENT: &str = "{component}";
/// Stands for the file of the component, composed into a WASI command.
pub const STANDALONE: &str = "{standalone}";
/// Stands for the arguments of the service.
pub const ARGS: &str = "{args}";
/// Stands for the address to listen on.
pub const LISTEN: &str = "{listen}";

impl Template {
    /// Checks the words. A command `is_service` if it is a service by itself, and hosts no
    /// component.
    ///
    /// # Errors
    ///
    /// If they say nowhere which component to serve, or a word does not stand alone.
    pub fn new(words: Vec<String>, is_service: bool) -> Result<Self> {
        let template = Template(words);
        let has_component = template.has(COMPONENT) || template.has(STANDALONE);
        match (has_component, is_service) {
            (false, false) => bail!(
                "the command has no `{COMPONENT}`: put it, or `{STANDALONE}`, where the command \
                 takes the file to serve; for a command that is a service by itself, give \
                 --native-echo or --native"
            ),
            (true, true) => bail!(
                "the command has `{COMPONENT}`, and is said to be a service by itself: leave \
                 one of them out"
            ),
            _ => {}
        }
        let alone = |word: &String| word != ARGS && word.contains(ARGS);
        if let Some(word) = template.0.iter().find(|word| alone(word)) {
            bail!("`{ARGS}` stands for several arguments, so `{word}` has to be a word for itself");
        }
        Ok(template)
    }

    /// Whether a word has this in it.
    #[must_use]
    pub fn has(&self, placeholder: &str) -> bool {
        self.0.iter().any(|word| word.contains(placeholder))
    }

    /// Returns the command that serves a component.
    ///
    /// A word with `{listen}` comes once for each address, together with the flag before it.
    ///
    /// # Panics
    ///
    /// If there is no word.
    #[must_use]
    pub fn command(
        &self,
        component: &Path,
        standalone: &Path,
        listen: &[&str],
        arguments: &[&str],
    ) -> Command {
        let mut words: Vec<String> = Vec::new();
        for word in &self.0 {
            if word == ARGS {
                words.extend(arguments.iter().map(|&argument| argument.to_owned()));
            } else if word.contains(LISTEN) {
                let is_flag =
                    |last: &&String| word == LISTEN && last.starts_with("--") && *last != "--";
                let flag = words.last().filter(is_flag).cloned();
                for (number, address) in listen.iter().enumerate() {
                    words.extend(flag.clone().filter(|_| number > 0));
                    words.push(word.replace(LISTEN, address));
                }
            } else {
                let word = word.replace(COMPONENT, &component.to_string_lossy());
                words.push(word.replace(STANDALONE, &standalone.to_string_lossy()));
            }
        }
        let (program, arguments) = words.split_first().expect("a command has a word");
        let mut command = Command::new(program);
        command.args(arguments);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(words: &str, is_service: bool) -> Result<Template> {
        Template::new(words.split(' ').map(str::to_owned).collect(), is_service)
    }

    #[test]
    fn words_stand_for_others() {
        let words = "host {component} --listen {listen} --also=x -- {args}";
        let template = template(words, false).unwrap();
        let listen = ["127.0.0.1:0", "[::1]:0"];
        let (component, standalone) = (Path::new("a b.wasm"), Path::new("c.wasm"));
        let command = template.command(component, standalone, &listen, &["-x", "y"]);
        assert_eq!(command.get_program(), "host");
        let arguments: Vec<_> = command.get_args().collect();
        let expected = [
            "a b.wasm",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:0",
            "--also=x",
            "--",
            "-x",
            "y",
        ];
        assert_eq!(arguments, expected);
        let command = template.command(component, standalone, &listen[..1], &[]);
        assert_eq!(command.get_args().count(), 5);
    }

    #[test]
    fn a_command_without_a_component_is_refused() {
        assert!(template("host --listen {listen}", false).is_err());
        assert!(template("host {component}", true).is_err());
        assert!(template("host {component} a{args}", false).is_err());
        assert!(template("host {standalone} {args}", false).is_ok());
        assert!(template("echo", true).is_ok());
    }
}
