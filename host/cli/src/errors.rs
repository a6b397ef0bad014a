//! What to do about an error: the library states facts, and this module adds the flags and
//! commands that help.

use std::path::Path;

use anyhow::anyhow;
use halfopen::component::Kind;
use halfopen::tcp::Denied;
use halfopen::{LoadError, Problem};

/// An error about loading a component, with what to do about it.
pub(crate) fn explain(error: LoadError) -> anyhow::Error {
    let help = match &error {
        LoadError::NotWasm => "build one with `cargo build --target wasm32-wasip2`",
        LoadError::CoreModule => {
            "build it for the target wasm32-wasip2, or make a component of it with `halfopen component`"
        }
        LoadError::WrongKind {
            expected,
            interfaces,
            ..
        } => {
            return anyhow!(
                "a component of another world: {}; this one exports {}",
                wanted(*expected, interfaces.kind()),
                interfaces.exports_listed()
            );
        }
        LoadError::WasiVersion { .. } => "rebuild the component with a current toolchain",
        LoadError::MissingImport { import, .. } => provider(import),
        LoadError::PrecompiledDenied { .. } => {
            "if you compiled it yourself, add `--allow-precompiled`"
        }
        LoadError::PrecompiledMismatch(_) => "compile it again with `halfopen compile`",
        _ => return anyhow!("{error}"),
    };
    anyhow!("{error}; {help}")
}

/// An error about loading the component `path`, for a message that names the file already.
pub(crate) fn explain_about(path: Option<&Path>, error: LoadError) -> anyhow::Error {
    match error {
        LoadError::Read { path: read, error } if Some(&*read) == path => error.into(),
        error => explain(error),
    }
}

/// What `serve` or `run` takes, and what to do with a component of kind `found`.
fn wanted(expected: Kind, found: Kind) -> &'static str {
    match (expected, found) {
        (Kind::Service, Kind::Program | Kind::Command) => {
            "`serve` takes a service, which exports `halfopen:tcp/events@0.1.0` or `halfopen:tcp/handler@0.1.0`; run a program with `halfopen run`"
        }
        (Kind::Service, _) => {
            "`serve` takes a service, which exports `halfopen:tcp/events@0.1.0` or `halfopen:tcp/handler@0.1.0`"
        }
        (_, Kind::Service) => {
            "`run` takes a program, which exports `wasi:cli/run`; run a service with `halfopen serve`, or make a program of it with `halfopen compose`"
        }
        _ => "`run` takes a program, which exports `wasi:cli/run` of WASI 0.3.0 or 0.2",
    }
}

/// What could provide an interface that this host does not have.
fn provider(import: &str) -> &'static str {
    if import.starts_with("wasi:http/") {
        "a component for HTTP runs under `wasmtime serve`"
    } else if import.starts_with("wasi:keyvalue/") {
        "this host has `store`, `atomics` and `batch` of wasi:keyvalue@0.2.0-draft2"
    } else if import.starts_with("halfopen:tcp/") {
        "the component was composed or built for another version of halfopen"
    } else {
        "compose it with a component that does"
    }
}

/// What an operator can do about a problem of a running component.
pub(crate) fn advice(problem: &Problem) -> String {
    match problem {
        Problem::Denied(Denied::Listen(address)) => {
            format!("grant it with `--allow-listen {address}`")
        }
        Problem::Denied(Denied::Connect { address, .. }) => {
            format!("grant it with `--allow-connect {address}`")
        }
        Problem::Denied(Denied::ConnectName { name, port, .. }) => {
            format!("grant it with `--allow-connect {name}:{port}`")
        }
        Problem::Denied(Denied::Lookup(name)) => {
            format!("grant it with `--allow-lookup {name}`")
        }
        Problem::Denied(Denied::Other { what, .. }) => grant(what).to_owned(),
        Problem::ComputeLimit(_) => "--max-compute is the limit".to_owned(),
        Problem::BackgroundCalls(_) => {
            "--max-instances is the limit, and --background-timeout says how long they may take"
                .to_owned()
        }
        Problem::OutOfMappings => {
            "raise `sysctl vm.max_map_count`, lower `--max-connections`, or use `--isolation shared`"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// What grants a denial of a kind that has no address.
fn grant(what: &str) -> &'static str {
    match what {
        "files" => "grant a folder with `--dir FOLDER::NAME`",
        "running" => "grant it with `--keep-running`",
        "state" => "grant it with `--state FILE`",
        "topics" => {
            "grant them with `--topics local`, or across machines with `--topics redis://HOST`"
        }
        "secure" => "grant it with `--starttls`, `--tls-cert` and `--tls-key` of `halfopen serve`",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_import_comes_with_what_could_provide_it() {
        let error = |import: &str| {
            let import = import.to_owned();
            explain(LoadError::MissingImport { import }).to_string()
        };
        assert!(error("wasi:http/types@0.3.0").contains("; a component for HTTP"));
        assert!(error("halfopen:tcp/peer@9.0.0").contains("another version"));
        assert!(error("wasi:keyvalue/store@0.2.0-draft").contains("@0.2.0-draft2"));
        assert!(error("acme:a/b@1.0.0").contains("; compose it"));
    }

    #[test]
    fn a_denial_comes_with_the_flag_that_lifts_it() {
        let address = "127.0.0.1:80".parse().unwrap();
        let problem = Problem::Denied(Denied::Listen(address));
        assert_eq!(
            advice(&problem),
            "grant it with `--allow-listen 127.0.0.1:80`"
        );
    }
}
