//! Environment variables, which override the configuration file.

use std::ffi::OsString;

use clap::{ArgAction, Command};

use super::flags::{flag, reason};
use super::keys;
use super::keys::CONFIG;
use crate::args::process::ProcessArgs;
use crate::args::service::ServiceArgs;

/// What begins the name of every variable.
const PREFIX: &str = "HALFOPEN_";

/// Variables with a meaning of their own, with or without a configuration file: what is logged,
/// and that this process is a successor (`serve::upgrade`).
const OTHERS: [&str; 2] = ["HALFOPEN_LOG", "HALFOPEN_UPGRADE"];

/// The variable that overrides a key of a service, or of the process if `service` is empty.
pub(super) fn variable(service: &str, key: &str) -> String {
    let name = match service {
        "" => format!("{PREFIX}{key}"),
        service => format!("{PREFIX}{service}_{key}"),
    };
    name.to_ascii_uppercase().replace('-', "_")
}

/// The flags that variables set, each with its key, or the mistake in one.
pub(super) fn overrides(command: &Command, service: &str) -> Vec<Result<Vec<OsString>, String>> {
    let mut flags = Vec::new();
    for argument in command.get_arguments() {
        let Some(long) = argument.get_long().filter(|&long| long != CONFIG) else {
            continue;
        };
        let variable = variable(service, long);
        let Some(value) = std::env::var_os(&variable) else {
            continue;
        };
        let tokens = match (argument.get_action(), value.to_str()) {
            (ArgAction::SetTrue, Some("true" | "1")) => vec![format!("--{long}").into()],
            (ArgAction::SetTrue, Some("false" | "0")) => Vec::new(),
            (ArgAction::SetTrue, _) => {
                flags.push(Err(format!("{variable} must be true or false")));
                continue;
            }
            _ => vec![flag(long, value)],
        };
        flags.push(match command.clone().try_get_matches_from(&tokens) {
            Ok(_) => Ok(tokens),
            Err(error) => Err(format!("{variable}: {}", reason(&error))),
        });
    }
    flags
}

/// Warns of variables that look like overrides, and override nothing.
pub(super) fn unknown<'s>(services: impl Iterator<Item = &'s str>) -> Vec<String> {
    let process = keys::of::<ProcessArgs>();
    let keys = keys::of::<ServiceArgs>();
    let of_services =
        services.flat_map(|service| keys.iter().map(move |key| variable(service, key)));
    let known: Vec<_> = process
        .iter()
        .map(|key| variable("", key))
        .chain(of_services)
        .collect();
    let unknown = set().filter(|name| !OTHERS.contains(&name.as_str()) && !known.contains(name));
    unknown
        .map(|name| {
            let fact = format!("the environment variable {name} overrides no key");
            match keys::closest(&name, known.iter().cloned()) {
                Some(closest) => format!("{fact}; did you mean {closest}?"),
                None => format!("{fact} of this configuration"),
            }
        })
        .collect()
}

/// Warns of variables that would override a configuration file, where there is none.
pub(super) fn without_effect(service: &str) -> Vec<String> {
    let process = keys::of::<ProcessArgs>();
    let own = keys::of::<ServiceArgs>();
    let own = own.into_iter().map(|key| (variable(service, &key), key));
    let process = process.into_iter().map(|key| (variable("", &key), key));
    let known: Vec<_> = process.chain(own).collect();
    set()
        .filter_map(|name| {
            let (_, key) = known.iter().find(|(variable, _)| *variable == name)?;
            Some(format!(
                "the environment variable {name} overrides a configuration file, and there is \
                 none; use the flag `--{key}`"
            ))
        })
        .collect()
}

/// The variables that are set and could be meant for this program.
fn set() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| {
        let name = name.into_string().ok()?;
        (name.starts_with(PREFIX) && !is_of_kubernetes(&name)).then_some(name)
    })
}

/// Whether Kubernetes sets a variable of this name for a Service called `halfopen`.
fn is_of_kubernetes(name: &str) -> bool {
    let name = &name[PREFIX.len()..];
    name.starts_with("SERVICE_HOST") || name.starts_with("SERVICE_PORT") || name.starts_with("PORT")
}
