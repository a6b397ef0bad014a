//! Reads a configuration file: its keys are the flags of `serve`.
//!
//! The reader turns each key and its value into a flag for clap to parse. So a key and its
//! flag mean the same, and a mistake gets the same message either way.

use std::borrow::Cow;
use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;

use clap::{ArgAction, Args, Command, FromArgMatches};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::{self, variable};
use super::flags::{flag, reason};
use super::keys::{CONFIG, SERVICES};
use super::{Lines, Mistake, Plan, Service, keys};
use crate::args::folder::FolderArg;
use crate::args::process::ProcessArgs;
use crate::args::service::{COMPONENT, ServiceArgs};
use crate::args::state::{STATE, is_address};
use crate::args::values::negative_numbers;
use crate::args::variables::ENV_FILE;

/// The key of the folders that are granted.
const DIR: &str = "dir";
/// The key of the arguments after `--`. Like `component`, it is no flag.
const ARGS: &str = "args";
/// Keys whose values are paths, relative to the configuration file's folder.
const FILES: &[&str] = &[
    COMPONENT,
    ENV_FILE,
    "log-file",
    "tls-ca",
    "tls-cert",
    "tls-client-ca",
    "tls-key",
    "topics-password-file",
    STATE,
    "state-password-file",
    "state-ca",
    "record",
];

/// Parses a configuration; relative paths in it start at `folder`.
///
/// # Errors
/// All mistakes, sorted by line.
pub(crate) fn parse(text: &str, folder: &Path) -> Result<Plan, Vec<Mistake>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        text,
        folder,
        mistakes: Vec::new(),
    };
    for error in errors {
        reader.mistake(error.span().unwrap_or_default(), error.message());
    }
    // After an error of syntax the table is incomplete, and checking it would report
    // mistakes that are not in the file.
    if !reader.mistakes.is_empty() {
        return Err(reader.mistakes);
    }
    let plan = reader.plan(table.get_ref());
    match plan {
        Some(plan) if reader.mistakes.is_empty() => Ok(plan),
        _ => {
            reader.mistakes.sort();
            Err(reader.mistakes)
        }
    }
}

/// What begins the path of a file that systemd passes (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS: &str = "$CREDENTIALS_DIRECTORY/";

/// The path of a file that systemd passes.
fn credential(key: &str, file: &str) -> Result<OsString, String> {
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(folder) => Ok(Path::new(&folder).join(file).into()),
        None => Err(format!(
            "`{key}`: $CREDENTIALS_DIRECTORY is not set; systemd sets it for a unit with \
             `LoadCredential={file}:PATH`"
        )),
    }
}

type Key<'k> = Spanned<Cow<'k, str>>;
type Value<'k> = Spanned<DeValue<'k>>;

struct Reader<'t> {
    text: &'t str,
    folder: &'t Path,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    /// Records a mistake at the start of `span`.
    fn mistake(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.mistakes.push(Mistake {
            line: self.line(span.start),
            message: message.into(),
        });
    }

    /// The number of the line at a byte offset, counted from 1.
    fn line(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or(self.text);
        1 + before.bytes().filter(|&byte| byte == b'\n').count()
    }

    /// The lines of the values of a key.
    fn lines(&self, value: &Value<'_>) -> Vec<usize> {
        match value.get_ref().as_array() {
            Some(values) => values
                .iter()
                .map(|value| self.line(value.span().start))
                .collect(),
            None => vec![self.line(value.span().start)],
        }
    }

    fn plan(&mut self, table: &DeTable<'_>) -> Option<Plan> {
        let mut services = Vec::new();
        let process = self.args::<ProcessArgs>(
            "",
            table.iter().filter(|(key, _)| *key.get_ref() != SERVICES),
        );
        match table.iter().find(|(key, _)| *key.get_ref() == SERVICES) {
            // An unknown table, which is reported, may be meant as a service.
            None if table.iter().any(|(_, value)| value.get_ref().is_table()) => {}
            None => self.mistakes.push(Mistake {
                line: 1,
                message: "no service: add a table such as `[services.echo]`".to_owned(),
            }),
            Some((_, value)) => match value.get_ref().as_table() {
                Some(table) if !table.is_empty() => {
                    for (name, value) in table {
                        services.extend(self.service(name, value));
                    }
                }
                _ => self.mistake(
                    value.span(),
                    "`services` must be a table of services, such as `[services.echo]`",
                ),
            },
        }
        // In the order of the file: a table iterates in the order of its keys.
        services.sort_by_key(|service| service.lines.table);
        let (process, mut lines) = process?;
        lines.table = 1;
        Some(Plan {
            process,
            warnings: environment::unknown(services.iter().map(|service| &*service.name)),
            services,
            lines,
        })
    }

    fn service(&mut self, name: &Key<'_>, value: &Value<'_>) -> Option<Service> {
        let Some(table) = value.get_ref().as_table() else {
            let name_text = name.get_ref();
            let message = match keys::of::<ServiceArgs>().iter().any(|key| key == name_text) {
                true => format!(
                    "`{name_text}` belongs to a service: into a table such as `[services.echo]`"
                ),
                false => format!("`{name_text}` is not a table; a service is a table"),
            };
            self.mistake(name.span(), message);
            return None;
        };
        let before = self.mistakes.len();
        let (args, mut lines) = self.args::<ServiceArgs>(name.get_ref(), table.iter())?;
        lines.table = self.line(name.span().start);
        if let (Err(error), true) = (args.check(), before == self.mistakes.len()) {
            self.mistakes.push(Mistake {
                line: lines.of(error.key, 0),
                message: error.to_string(),
            });
        }
        Some(Service {
            name: name.get_ref().to_string(),
            args,
            lines,
        })
    }

    /// Parses a table as the flags of `A`. An empty `service` stands for the process.
    fn args<'k, A: Args + FromArgMatches>(
        &mut self,
        service: &str,
        entries: impl Iterator<Item = (&'k Key<'k>, &'k Value<'k>)>,
    ) -> Option<(A, Lines)> {
        let command = Command::new("halfopen").no_binary_name(true);
        let command = A::augment_args(command).mut_args(negative_numbers);
        let mut lines = Lines::default();
        let mut flags = Vec::new();
        let mut last = Vec::new();
        let before = self.mistakes.len();
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            let variable = variable(service, name);
            if std::env::var_os(&variable).is_some() {
                continue;
            }
            lines.keys.insert(name.to_owned(), self.lines(value));
            let tokens = match self.tokens(&command, service, key, value) {
                Ok(tokens) => tokens,
                Err(message) => {
                    self.mistake(key.span(), message);
                    continue;
                }
            };
            // Parse each flag alone, so that a mistake is reported with its line.
            match command.clone().try_get_matches_from(&tokens) {
                Ok(_) if name == ARGS => last = tokens,
                Ok(_) => flags.extend(tokens),
                Err(error) => self.mistake(value.span(), format!("`{name}`: {}", reason(&error))),
            }
        }
        for set in environment::overrides(&command, service) {
            match set {
                Ok(tokens) => flags.extend(tokens),
                Err(message) => self.mistakes.push(Mistake { line: 1, message }),
            }
        }
        if self.mistakes.len() > before {
            return None;
        }
        flags.extend(last);
        let parsed = command
            .try_get_matches_from(flags)
            .and_then(|mut matches| A::from_arg_matches_mut(&mut matches));
        match parsed {
            Ok(args) => Some((args, lines)),
            Err(error) => {
                self.mistakes.push(Mistake {
                    line: 1,
                    message: reason(&error),
                });
                None
            }
        }
    }

    /// The arguments that a key and its value mean on the command line.
    fn tokens(
        &self,
        command: &Command,
        service: &str,
        key: &Key<'_>,
        value: &Value<'_>,
    ) -> Result<Vec<OsString>, String> {
        let name = key.get_ref().as_ref();
        let value = value.get_ref();
        let positional = |argument: &clap::Arg| argument.get_id() == name;
        match name {
            COMPONENT if command.get_arguments().any(positional) => {
                return Ok(vec![self.text(name, value)?]);
            }
            ARGS if command.get_arguments().any(positional) => {
                let mut tokens = vec!["--".into()];
                tokens.extend(self.texts(name, value)?);
                return Ok(tokens);
            }
            _ => {}
        }
        let argument = command
            .get_arguments()
            .find(|argument| argument.get_long() == Some(name) && name != CONFIG)
            .ok_or_else(|| keys::unknown(service, name, value.is_table()))?;
        if matches!(argument.get_action(), ArgAction::SetTrue) {
            return match value.as_bool() {
                Some(true) => Ok(vec![format!("--{name}").into()]),
                Some(false) => Ok(Vec::new()),
                None => Err(format!("`{name}` must be true or false")),
            };
        }
        let values = match (value.as_array(), argument.get_action()) {
            (Some(_), ArgAction::Append) => self.texts(name, value)?,
            (Some(_), _) => return Err(format!("`{name}` takes one value, not a list")),
            (None, _) => vec![self.text(name, value)?],
        };
        Ok(values.into_iter().map(|value| flag(name, value)).collect())
    }

    fn texts(&self, name: &str, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
        match value.as_array() {
            Some(values) => values
                .iter()
                .map(|value| self.text(name, value.get_ref()))
                .collect(),
            None => Err(format!("`{name}` must be a list, such as {name} = [\"…\"]")),
        }
    }

    fn text(&self, name: &str, value: &DeValue<'_>) -> Result<OsString, String> {
        let text = match value {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            other => {
                return Err(format!(
                    "`{name}` must be a string or a number, not a value of type {}",
                    other.type_str()
                ));
            }
        };
        // The address of a server is no path.
        let is_file = FILES.contains(&name) && !(name == STATE && is_address(&text));
        if is_file {
            return match text.strip_prefix(CREDENTIALS) {
                Some(file) => credential(name, file),
                None => Ok(self.folder.join(text).into()),
            };
        }
        if name == DIR {
            let folder = FolderArg::within(&text, self.folder);
            // What is no folder, clap reports.
            return Ok(folder.unwrap_or(text).into());
        }
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<(usize, String)> {
        let mistakes = parse(text, Path::new("/etc")).unwrap_err();
        mistakes.into_iter().map(|m| (m.line, m.message)).collect()
    }

    #[test]
    fn keys_are_flags() {
        let text = r#"
            watch = true
            log-format = "json"

            [services.first]
            component = "first.wasm"
            listen = ["127.0.0.1:1", "*:2"]
            idle-timeout = 2.5
            isolation = "shared"
            workers = 2
            env = ["A=1"]
            args = ["--quiet", "x"]

            [services.second]
        "#;
        let plan = parse(text, Path::new("/etc/halfopen")).unwrap();
        assert!(plan.process.watch);
        let names: Vec<_> = plan.services.iter().map(|service| &service.name).collect();
        assert_eq!(names, ["first", "second"]);
        let first = &plan.services[0].args;
        let component = first.component.as_deref();
        assert_eq!(component, Some(Path::new("/etc/halfopen/first.wasm")));
        assert_eq!(first.listen.len(), 2);
        assert!(plan.services[1].args.component.is_none());
    }

    #[test]
    fn every_mistake_is_reported_with_its_line() {
        let text = "wacth = true\n\
            [services.a]\n\
            idle-timeout = \"soon\"\n\
            listen = [\"127.0.0.1\"]\n\
            watch = true\n\
            isolation = [\"shared\"]\n\
            [services.b]\n\
            isolation = \"connection\"\n\
            workers = 2\n";
        let mistakes = mistakes(text);
        let lines: Vec<_> = mistakes.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 3, 4, 5, 6, 9], "{mistakes:?}");
        for (index, part) in [
            "did you mean `watch`?",
            "number of seconds",
            "port is missing",
            "`watch` belongs to the whole process",
            "not a list",
            "--isolation shared",
        ]
        .iter()
        .enumerate()
        {
            assert!(mistakes[index].1.contains(part), "{mistakes:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_toml_or_has_no_service_is_refused() {
        assert_eq!(mistakes("a = 1\nb = = 2\n")[0].0, 2);
        assert!(mistakes("watch = true")[0].1.contains("no service"));
        assert!(mistakes("services = 1")[0].1.contains("table of services"));
    }
}
