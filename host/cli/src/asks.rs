//! What components ask for, and the flags that grant it.
//!
//! One row for each grant: `inspect`, `check` and the guide for operators show the same table.

use halfopen::component::{Interfaces, Kind};

use crate::args::service::Given;

/// Something that a component may ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// What it is, as in "asks for folders".
    pub(crate) what: &'static str,
    /// A component that imports or exports one of these interfaces asks for it.
    interfaces: &'static [&'static str],
    /// The flag that grants it, with an example of its value; empty for what everybody has.
    pub(crate) flag: &'static str,
    /// What the flags that were given grant; `None` if nothing.
    given: fn(&Given<'_>) -> Option<String>,
    /// For whom the flag is.
    who: Who,
    /// Whether the interface is only there for those who use it. The standard libraries of many
    /// languages bring some along in any case.
    pub(crate) certain: bool,
}

/// For which components a flag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    All,
    Services,
}
use Who::{All, Services};

const fn ask(
    what: &'static str,
    interfaces: &'static [&'static str],
    flag: &'static str,
    given: fn(&Given<'_>) -> Option<String>,
) -> Ask {
    Ask {
        what,
        interfaces,
        flag,
        given,
        who: All,
        certain: true,
    }
}

impl Ask {
    const fn uncertain(self) -> Self {
        Ask {
            certain: false,
            ..self
        }
    }

    const fn of_services(self) -> Self {
        Ask {
            who: Services,
            ..self
        }
    }
}

const ENVIRONMENT: &[&str] = &["wasi:cli/environment"];
const FILES: &[&str] = &["wasi:filesystem/preopens", "wasi:filesystem/types"];
const LISTEN: &[&str] = &["halfopen:tcp/listeners"];
const CONNECT: &[&str] = &["halfopen:tcp/outbound", "halfopen:tcp/connecting"];
const SOCKETS: &[&str] = &["wasi:sockets/types", "wasi:sockets/tcp-create-socket"];
const LOOK_UP: &[&str] = &["wasi:sockets/ip-name-lookup"];
const NAMES: &[&str] = &["halfopen:tcp/naming"];
const STATE: &[&str] = &["wasi:keyvalue/store", "wasi:keyvalue/atomics"];
const TOPICS: &[&str] = &[
    "halfopen:tcp/topics",
    "halfopen:tcp/subscribing",
    "halfopen:tcp/topic-streams",
];
const SECURE: &[&str] = &["halfopen:tcp/secure", "halfopen:tcp/socket-secure"];
const TIMERS: &[&str] = &["halfopen:tcp/timers"];
const ALONE: &[&str] = &["halfopen:tcp/starting", "halfopen:tcp/background"];

/// Everything that a component may ask for, in the order of the guide for operators.
pub(crate) const ASKS: &[Ask] = &[
    ask("arguments", ENVIRONMENT, "-- ARGUMENTS", arguments).uncertain(),
    ask("variables", ENVIRONMENT, "--env NAME=VALUE", variables).uncertain(),
    ask("folders", FILES, "--dir FOLDER::NAME", folders).uncertain(),
    ask("listening", LISTEN, "--allow-listen IP:PORT", listens),
    ask(
        "outgoing connections",
        CONNECT,
        "--allow-connect IP:PORT",
        connects,
    ),
    ask(
        "connections to names",
        NAMES,
        "--allow-connect NAME:PORT",
        connects,
    ),
    ask(
        "sockets",
        SOCKETS,
        "--allow-listen IP:PORT --allow-connect IP:PORT",
        uses_sockets,
    ),
    ask("names", LOOK_UP, "--allow-lookup NAME", looks_up),
    ask("state", STATE, "--state FILE", |given| {
        given.guest.state.described()
    }),
    ask("topics", TOPICS, "--topics local", |given| {
        given.guest.topics.granted()
    }),
    ask(
        "TLS on connections in use",
        SECURE,
        "--starttls --tls-cert FILE --tls-key FILE",
        |given| given.starttls.then(|| "yes".to_owned()),
    )
    .of_services(),
    ask("timers", TIMERS, "", |_| Some("always".to_owned())),
    ask(
        "running without connections",
        ALONE,
        "--keep-running",
        alone,
    )
    .of_services(),
];

fn arguments(given: &Given<'_>) -> Option<String> {
    (!given.args.is_empty()).then(|| given.args.join(" "))
}

fn variables(given: &Given<'_>) -> Option<String> {
    listed(given.guest.env.iter().map(|(name, _)| name))
}

fn folders(given: &Given<'_>) -> Option<String> {
    listed(given.guest.dir.iter())
}

fn listens(given: &Given<'_>) -> Option<String> {
    let policy = given.guest.network.policy();
    policy.may_listen_anywhere().then(|| policy.to_string())
}

fn connects(given: &Given<'_>) -> Option<String> {
    let policy = given.guest.network.policy();
    policy.may_connect_anywhere().then(|| policy.to_string())
}

fn uses_sockets(given: &Given<'_>) -> Option<String> {
    listens(given).or_else(|| connects(given))
}

fn looks_up(given: &Given<'_>) -> Option<String> {
    let policy = given.guest.network.policy();
    policy.may_lookup_any().then(|| policy.to_string())
}

fn alone(given: &Given<'_>) -> Option<String> {
    given.keep_running.then(|| "yes".to_owned())
}

fn listed(items: impl Iterator<Item = impl ToString>) -> Option<String> {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    (!items.is_empty()).then(|| items.join(", "))
}

/// Something that a component asks for, and what it gets.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) ask: &'static Ask,
    /// What is granted; `None` if nothing.
    pub(crate) granted: Option<String>,
}

/// Returns what a component asks for, and what it gets.
pub(crate) fn asked(interfaces: &Interfaces, given: Given<'_>) -> Vec<Asked> {
    let service = interfaces.kind() == Kind::Service;
    let names = || interfaces.imports.iter().chain(&interfaces.exports);
    let plain = |name: &String| name.split('@').next().unwrap_or_default().to_owned();
    let asks = |ask: &&Ask| {
        (ask.who == All || service)
            && names().any(|name| ask.interfaces.contains(&plain(name).as_str()))
    };
    let asks = ASKS.iter().filter(asks);
    asks.map(|ask| Asked {
        ask,
        granted: (ask.given)(&given),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::grants::GuestArgs;
    use crate::args::service::KeepArgs;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        guest: GuestArgs,
        #[command(flatten)]
        keep: KeepArgs,
        #[arg(long, requires = "tls_cert", requires = "tls_key")]
        starttls: bool,
        #[arg(long)]
        tls_cert: Option<String>,
        #[arg(long)]
        tls_key: Option<String>,
        #[arg(last = true)]
        args: Vec<String>,
    }

    fn parse(flags: &str) -> Flags {
        let flags = flags.replace("FOLDER::NAME", "/srv::/data");
        let flags = flags.replace("IP:PORT", "127.0.0.1:80");
        let flags = flags.replace("NAME:PORT", "example.com:80");
        let flags = flags.replace("lookup NAME", "lookup example.com");
        Flags::parse_from(["halfopen"].into_iter().chain(flags.split_whitespace()))
    }

    /// Each row is asked for by each of its interfaces, granted by its own flag, and by nothing
    /// else by default.
    #[test]
    fn every_grant_has_a_flag_that_grants_it() {
        for row in ASKS {
            for interface in row.interfaces {
                let interfaces = Interfaces {
                    imports: vec![format!("{interface}@0.1.0")],
                    exports: vec!["halfopen:tcp/events@0.1.0".to_owned()],
                };
                let granted = |flags: &str| {
                    let flags = parse(flags);
                    let given = Given {
                        guest: &flags.guest,
                        args: &flags.args,
                        keep_running: flags.keep.keep_running,
                        starttls: flags.starttls,
                    };
                    let asked = asked(&interfaces, given);
                    let found = asked.into_iter().find(|found| found.ask.what == row.what);
                    found.expect(row.what).granted
                };
                assert_eq!(granted("").is_some(), row.flag.is_empty(), "{row:?}");
                assert!(granted(row.flag).is_some(), "{row:?}");
            }
        }
    }

    #[test]
    fn the_guide_for_operators_has_every_row() {
        let guide = include_str!("../../OPERATING.md");
        for row in ASKS {
            let flag = match row.flag {
                "" => "none needed".to_owned(),
                flag => format!("`{}`", flag.replace(" --", "`, `--")),
            };
            let line = guide.lines().find(|line| {
                line.starts_with(&format!("| {} |", row.what)) && line.contains(&flag)
            });
            assert!(
                line.is_some(),
                "the table of grants lacks {}: {flag}",
                row.what
            );
        }
    }
}
