//! What to write in place of a key that is unknown where it stands.

use clap::{Args, Command};

use crate::args::process::ProcessArgs;
use crate::args::service::ServiceArgs;

/// The table that holds a table for each service.
pub(super) const SERVICES: &str = "services";
/// The flag that names the configuration file, which is not a key.
pub(super) const CONFIG: &str = "config";

/// The keys of the flags of `A`.
pub(super) fn of<A: Args>() -> Vec<String> {
    let command = A::augment_args(Command::new("halfopen"));
    let arguments = command.get_arguments();
    arguments
        .map(|argument| argument.get_long().unwrap_or(argument.get_id().as_str()))
        .filter(|&key| key != CONFIG)
        .map(str::to_owned)
        .collect()
}

/// The message about an unknown key. An empty `service` stands for the process.
pub(super) fn unknown(service: &str, name: &str, is_table: bool) -> String {
    let (own, others) = match service {
        "" => (of::<ProcessArgs>(), of::<ServiceArgs>()),
        _ => (of::<ServiceArgs>(), of::<ProcessArgs>()),
    };
    let moved = |name: &str| match service {
        "" => format!("`{name}` belongs to a service: into a table such as `[services.echo]`"),
        _ => format!("`{name}` belongs to the whole process: to the top, above every table"),
    };
    if others.iter().any(|other| other == name) {
        return moved(name);
    }
    if service.is_empty() && is_table {
        return match closest(name, [SERVICES.to_owned()]) {
            Some(_) => format!(
                "unknown table `{name}`; did you mean `{SERVICES}`, as in `[services.echo]`?"
            ),
            None => {
                format!("unknown table `{name}`; a service is a table such as `[services.{name}]`")
            }
        };
    }
    if let Some(key) = closest(name, own) {
        return format!("unknown key `{name}`; did you mean `{key}`?");
    }
    match closest(name, others) {
        Some(key) => format!(
            "unknown key `{name}`; did you mean `{key}`? {}",
            moved(&key)
        ),
        None => format!("unknown key `{name}`; the keys are the flags of `halfopen serve`"),
    }
}

/// The candidate that someone who wrote `name` probably meant: a third of the letters may be
/// wrong, or the end may be missing.
pub(super) fn closest(name: &str, candidates: impl IntoIterator<Item = String>) -> Option<String> {
    let candidates = candidates.into_iter();
    let distances = candidates.map(|candidate| {
        let begins = name.len() > 3 && candidate.len() > 3;
        let begins = begins && (name.starts_with(&candidate) || candidate.starts_with(name));
        let distance = match begins {
            true => 1,
            false => strsim::damerau_levenshtein(name, &candidate),
        };
        (distance, candidate)
    });
    let (distance, candidate) = distances.min()?;
    (distance <= (name.chars().count() / 3).clamp(1, 3)).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sent_to_the_table_where_it_belongs() {
        for (service, name, is_table, part) in [
            (
                "",
                "listen",
                false,
                "into a table such as `[services.echo]`",
            ),
            ("a", "admin", false, "to the top"),
            (
                "a",
                "acess-log",
                false,
                "did you mean `access-log`? `access-log` belongs to the whole",
            ),
            ("", "service", true, "did you mean `services`"),
            ("", "echo", true, "such as `[services.echo]`"),
            ("a", "tls-certificate", false, "did you mean `tls-cert`?"),
            (
                "a",
                "max-conections",
                false,
                "did you mean `max-connections`?",
            ),
            ("a", "zzz", false, "the keys are the flags"),
        ] {
            let message = unknown(service, name, is_table);
            assert!(message.contains(part), "{message}");
        }
    }
}
