//! `halfopen inspect`: shows what a component needs, what it gets, and how to run it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use halfopen::component::{Declared, Interfaces, Kind, Style, provides, read, runs};

use crate::args::InspectArgs;
use crate::args::service::Given;
use crate::asks::{Ask, Asked, asked};
use crate::errors::explain_about;

pub(crate) fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let path = args.component.display().to_string();
    let bytes = read(&args.component)
        .map_err(|error| explain_about(Some(&args.component), error))
        .with_context(|| format!("cannot inspect `{path}`"))?;
    let interfaces = Interfaces::of(&bytes).with_context(|| format!("cannot inspect `{path}`"))?;
    let isolation = interfaces
        .isolation()
        .with_context(|| format!("cannot inspect `{path}`"))?;
    let report = report(&path, bytes.len(), &interfaces, isolation, args);
    // A closed pipe, as with `| head`, is not an error.
    let _ = std::io::stdout().write_all(report.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn report(
    path: &str,
    size: usize,
    interfaces: &Interfaces,
    isolation: Option<Declared>,
    args: &InspectArgs,
) -> String {
    let kind = interfaces.kind();
    let both = kind == Kind::Service && runs(interfaces);
    let also = if both { " and program" } else { "" };
    let style = interfaces.style();
    let mut text = match style {
        Some(style) => format!("{path}: {kind} in {style}{also}, {size} bytes\n"),
        None => format!("{path}: {kind}, {size} bytes\n"),
    };
    let world = match kind {
        Kind::Service if style == Some(Style::Callback) => "halfopen:tcp/callbacks@0.1.0",
        Kind::Service => "halfopen:tcp/service@0.1.0",
        Kind::Program => "halfopen:tcp/program@0.1.0",
        Kind::Command => "wasi:cli/command",
        Kind::Other => "unknown",
    };
    let _ = writeln!(text, "\nworld:\n  {world}");
    let given = Given {
        guest: &args.guest,
        args: &[],
        keep_running: args.keep.keep_running,
        starttls: false,
    };
    let asked = asked(interfaces, given);
    text += "\nexports:\n";
    for export in &interfaces.exports {
        let _ = writeln!(text, "  {export}");
    }
    text += "\nimports and grants:\n";
    let width = interfaces
        .imports
        .iter()
        .map(String::len)
        .max()
        .unwrap_or(0);
    for import in &interfaces.imports {
        let _ = writeln!(text, "  {import:width$}  {}", granted(import, kind, args));
    }
    if !asked.is_empty() {
        text += "\nasks for:\n";
    }
    let width = asked.iter().map(|asked| asked.ask.what.len()).max();
    let width = width.unwrap_or(0);
    for Asked { ask, granted } in &asked {
        let what = ask.what;
        let _ = match granted {
            Some(granted) => writeln!(text, "  {what:width$}  granted: {granted}"),
            None => writeln!(text, "  {what:width$}  not granted: {}", ask.flag),
        };
    }
    let _ = writeln!(text, "\nmemory:\n  at most {} MiB", args.guest.max_memory);
    if kind == Kind::Service || isolation.is_some() {
        let _ = writeln!(text, "\nisolation:\n  {}", declared(isolation));
    }
    text += "\nrun it:\n";
    for way in ways(path, kind, both, &asked) {
        let _ = writeln!(text, "  {way}");
    }
    text
}

/// What a component gets for one of its imports.
fn granted(import: &str, kind: Kind, args: &InspectArgs) -> String {
    if !provides(import) {
        return "MISSING: this host does not provide it".to_owned();
    }
    let name = import.split_once('@').map_or(import, |(name, _)| name);
    match name {
        "halfopen:tcp/connections"
        | "halfopen:tcp/options"
        | "halfopen:tcp/sockets"
        | "halfopen:tcp/piping" => "its own connections".to_owned(),
        "halfopen:tcp/peer" | "halfopen:tcp/socket-peer" => {
            "facts about its peers, from TLS or a load balancer".to_owned()
        }
        "halfopen:tcp/secure" | "halfopen:tcp/socket-secure" => {
            let authorities = match &args.guest.tls_ca {
                Some(file) => format!("in `{}`", file.display()),
                None => "of this system".to_owned(),
            };
            let server = match kind {
                Kind::Service => "as a server with `--starttls`, ",
                _ => "",
            };
            format!("TLS: {server}as a client with the authorities {authorities}")
        }
        "halfopen:tcp/listeners"
        | "halfopen:tcp/outbound"
        | "halfopen:tcp/connecting"
        | "halfopen:tcp/naming"
        | "wasi:sockets/ip-name-lookup"
        | "wasi:sockets/types"
        | "wasi:sockets/tcp"
        | "wasi:sockets/tcp-create-socket"
        | "wasi:sockets/network"
        | "wasi:sockets/instance-network" => args.guest.network.policy().to_string(),
        "wasi:sockets/udp" | "wasi:sockets/udp-create-socket" => {
            "nothing: every call is denied".to_owned()
        }
        "halfopen:tcp/topics" | "halfopen:tcp/subscribing" | "halfopen:tcp/topic-streams" => {
            args.guest.topics.described()
        }
        "wasi:cli/environment" => {
            let names = args.guest.env.iter().map(|(name, _)| name.clone());
            format!("its arguments, and {}", listed(names, "no variables"))
        }
        "wasi:cli/stdin" => match kind {
            Kind::Service => "an empty input".to_owned(),
            _ => "standard input of this process".to_owned(),
        },
        "wasi:cli/stdout" | "wasi:cli/stderr" => match kind {
            Kind::Service => "the stream of this process, line by line".to_owned(),
            _ => "the stream of this process".to_owned(),
        },
        "wasi:keyvalue/store" | "wasi:keyvalue/atomics" | "wasi:keyvalue/batch" => {
            match args.guest.state.described() {
                Some(store) => format!("state in {store}"),
                None => "nothing: opening a store is denied; `--state` grants one".to_owned(),
            }
        }
        "wasi:filesystem/types" | "wasi:filesystem/preopens" => {
            let folders = args.guest.dir.iter().map(ToString::to_string);
            listed(folders, "no directory")
        }
        _ => "yes".to_owned(),
    }
}

/// The isolation that a component declares.
fn declared(isolation: Option<Declared>) -> &'static str {
    match isolation {
        Some(Declared::Shared) => "shared: one instance for all connections",
        Some(Declared::Connection) => "connection: an instance of its own for each connection",
        None => "not declared: by default an instance of its own for each connection",
    }
}

fn listed(names: impl Iterator<Item = String>, none: &str) -> String {
    let names: Vec<_> = names.collect();
    match names.is_empty() {
        true => none.to_owned(),
        false => names.join(", "),
    }
}

/// The command lines that run a component. What it may need, but need not, is in brackets.
fn ways(path: &str, kind: Kind, both: bool, asked: &[Asked]) -> Vec<String> {
    let flags = |without: &[&str]| -> String {
        let rows = asked.iter().map(|asked| asked.ask);
        let rows = rows.filter(|ask| !ask.flag.is_empty() && !without.contains(&ask.what));
        let (certain, uncertain): (Vec<&Ask>, Vec<&Ask>) = rows.partition(|ask| ask.certain);
        let certain = certain.iter().map(|ask| format!(" {}", ask.flag));
        let uncertain = uncertain.iter().map(|ask| format!(" [{}]", ask.flag));
        certain.chain(uncertain).collect()
    };
    let serve = format!("halfopen serve {path}{}", flags(&["arguments"]));
    let run = format!(
        "halfopen run --allow-listen '127.0.0.1:*'{} {path}",
        flags(&[
            "arguments",
            "listening",
            "sockets",
            "running without connections"
        ])
    );
    let compose = format!(
        "halfopen compose {path} -o composed.wasm && wasmtime run -S inherit-network composed.wasm"
    );
    match kind {
        Kind::Service if both => vec![serve, run, compose],
        Kind::Service => vec![serve, compose],
        Kind::Program => vec![run, compose],
        Kind::Command => vec![run, format!("wasmtime run -S inherit-network {path}")],
        Kind::Other => vec![
            "not with halfopen, which runs services (`halfopen:tcp/events`, `halfopen:tcp/handler`) and programs (`wasi:cli/run`)"
                .to_owned(),
        ],
    }
}
