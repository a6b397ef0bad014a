//! `halfopen watch`: every connection as a live ladder, with who ended it and why.
//!
//! ```text
//! window   of a server that shows its own connections
//! ui/      the terminal       plain    lines for pipes
//! model/   the connections    filter   which of them are shown
//! words    payload            events and bytes, in words
//! recording                   events as a file for Wireshark
//! server   source             where events come from
//! ```

mod filter;
mod model;
mod payload;
mod plain;
mod recording;
mod server;
mod source;
#[cfg(test)]
mod stories;
mod ui;
pub(crate) mod window;
mod words;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;

use crate::args::watch::WatchArgs;
use crate::viewer::filter::Filter;
use crate::viewer::plain::{Form, Over};
use crate::viewer::server::Server;
use crate::viewer::source::{Paced, Source};
use crate::viewer::ui::{Give, Watched};

/// Runs `halfopen watch`.
pub(crate) fn watch(args: &WatchArgs) -> anyhow::Result<ExitCode> {
    let filter = match Filter::parse(&args.filter) {
        Ok(filter) => filter,
        Err(mistake) => bail!("--filter: {mistake}"),
    };
    if let Some(path) = &args.record {
        let (source, server) = opened(args)?;
        return recording::record(path, args, source, server);
    }
    let form = match (args.plain, args.json) {
        (true, _) => Some(Form::Words),
        (_, true) => Some(Form::Json),
        _ => None,
    };
    if form.is_none()
        && let Err(reason) = ui::check()
    {
        bail!("{reason}; use --plain or --json");
    }
    let (mut source, server) = opened(args)?;
    if let Some(form) = form {
        if server.is_some() {
            plain::end_with_reader();
        }
        return print(&mut *source, form, &filter, server.is_some());
    }
    // What is no stream of events is said before the terminal is taken.
    let first = source.next()?;
    let give = server.map(|server| -> Give { Arc::new(move |order| server.give(order)) });
    let (code, _) = ui::run(Watched {
        source,
        first,
        filter,
        give,
        printed: None,
    })?;
    Ok(code)
}

/// The stream to watch, and the server that sends it.
fn opened(args: &WatchArgs) -> anyhow::Result<(Box<dyn Source>, Option<Server>)> {
    if let Some(file) = &args.file {
        let source = source::open(file)?;
        return Ok(match args.speed {
            Some(speed) => (Box::new(Paced::new(source, speed)), None),
            None => (source, None),
        });
    }
    let server = match (&args.admin, &args.control) {
        (Some(admin), _) => Server::at_admin(admin),
        (None, Some(control)) => Server::at_control(control),
        (None, None) => bail!(
            "say what to watch: a server by `--control PATH` or `--admin ADDR`, or a saved stream \
             by its file"
        ),
    };
    Ok((Box::new(server.events()?), Some(server)))
}

/// Prints events until the stream ends or nobody reads.
fn print(
    source: &mut dyn Source,
    form: Form,
    filter: &Filter,
    is_live: bool,
) -> anyhow::Result<ExitCode> {
    if plain::to_stdout(source, form, filter)? == Over::Ended && is_live {
        // Standard error may be closed.
        let _ = writeln!(io::stderr(), "halfopen: the server has ended");
    }
    Ok(ExitCode::SUCCESS)
}
