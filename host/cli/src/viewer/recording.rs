//! `halfopen watch --record`: events as a recording, until they end or somebody ends it.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::args::record::file_size;
use crate::args::watch::WatchArgs;
use crate::record::{Encoder, Excluded, Next, Output, Recorder};
use crate::signals::Signals;
use crate::viewer::server::Server;
use crate::viewer::source::Source;
use crate::watch::json::{Event, Line};

/// How many events wait to be written. A server counts what a watcher misses that takes no more.
const WAITING: usize = 1024;
/// How long what has come may take to be written at the end: a pipe may have no reader.
const LAST: Duration = Duration::from_secs(1);

/// Records events until they end, or until a signal asks for the end.
pub(crate) fn record(
    path: &Path,
    args: &WatchArgs,
    mut source: Box<dyn Source>,
    server: Option<Server>,
) -> anyhow::Result<ExitCode> {
    let hello = source.next()?;
    let encoder = encoder(hello, args.record_payload)?;
    let output = output(path, args)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let is_live = source.is_live();
    let stopping = Arc::new(AtomicBool::new(false));
    let (lines, coming) = sync_channel(WAITING);
    let (ended, done) = oneshot::channel();
    let over = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let stop = stopping.clone();
        thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || ended.send(write(encoder, output, &coming, &stop)))?;
        let stop = stopping.clone();
        thread::Builder::new()
            .name("watcher".to_owned())
            .spawn(move || read(&mut *source, server.as_ref(), &lines, &stop))?;
        if is_live {
            say(&format!("recording in {}; Ctrl-C ends it", shown(path)));
        }
        tokio::pin!(done);
        tokio::select! {
            over = &mut done => anyhow::Ok(over.ok()),
            () = signals.stop() => {
                stopping.store(true, Ordering::Relaxed);
                Ok(timeout(LAST, done).await.ok().and_then(Result::ok))
            }
        }
    })?;
    let is_asked = stopping.load(Ordering::Relaxed);
    match over {
        // Nobody reads it.
        None => Ok(ExitCode::SUCCESS),
        Some(Err(error)) if is_closed(&error) => Ok(ExitCode::SUCCESS),
        Some(Err(error)) => Err(error.context("the recording ends")),
        Some(Ok(unwritten)) => {
            if is_live && !is_asked {
                say("the server has ended");
            }
            // Why was said already.
            Ok(match unwritten {
                0 => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            })
        }
    }
}

/// An encoder for a stream that begins with `hello`.
fn encoder(hello: Option<Line>, with_payload: bool) -> anyhow::Result<Encoder> {
    let Some(mut hello) = hello else {
        bail!("there are no events to record");
    };
    if let Event::Hello {
        payload, may_write, ..
    } = &mut hello.event
    {
        if with_payload && !*payload {
            bail!(
                "--record-payload: the server shows no bytes; start it with `--watch-payload`, or \
                 record without them"
            );
        }
        (*payload, *may_write) = (with_payload, false);
    }
    Encoder::new(hello, with_payload, Excluded::default()).ok_or_else(|| {
        anyhow!("the events do not say when they happened: they begin without `hello`")
    })
}

fn output(path: &Path, args: &WatchArgs) -> anyhow::Result<Output> {
    if path != Path::new("-") {
        return Output::create(path, file_size(args.record_size))
            .with_context(|| format!("cannot make the file of `--record {}`", path.display()));
    }
    if io::stdout().is_terminal() {
        bail!(
            "--record -: standard output is a terminal; give it to Wireshark: `| wireshark -k -i -`"
        );
    }
    Ok(Output::stdout()?)
}

fn shown(path: &Path) -> String {
    match path.to_str() {
        Some("-") => "standard output".to_owned(),
        _ => format!("`{}`", path.display()),
    }
}

/// Reads events until they end, or nobody wants more.
fn read(
    source: &mut dyn Source,
    server: Option<&Server>,
    lines: &SyncSender<anyhow::Result<Next>>,
    stopping: &AtomicBool,
) {
    while !stopping.load(Ordering::Relaxed) {
        let next = match source.next() {
            Ok(None) => return,
            Ok(Some(line)) => line,
            Err(error) => {
                // Nobody wants it.
                let _ = lines.send(Err(error));
                return;
            }
        };
        let has_lost = matches!(next.event, Event::Lost { .. });
        if lines.send(Ok(Next::Line(Box::new(next)))).is_err() {
            return;
        }
        if has_lost
            && let Some(open) = server.and_then(Server::open)
            && lines.send(Ok(Next::Open(open))).is_err()
        {
            return;
        }
    }
}

/// Writes what comes. Returns how many events could not be written.
fn write(
    encoder: Encoder,
    output: Output,
    coming: &Receiver<anyhow::Result<Next>>,
    stopping: &AtomicBool,
) -> anyhow::Result<u64> {
    let mut failed = None;
    let written = Recorder::new(encoder, output, say).run(|wait| {
        let next = match stopping.load(Ordering::Relaxed) {
            // Whoever reads may wait for the server.
            true => coming
                .try_recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
            false => coming.recv_timeout(wait),
        };
        match next {
            Ok(Ok(next)) => next,
            Ok(Err(error)) => {
                failed = Some(error);
                Next::End
            }
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(written),
    }
}

/// Whether nobody reads standard output any more, which is no failure.
fn is_closed(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn say(text: &str) {
    // Standard error may be closed.
    let _ = writeln!(io::stderr(), "halfopen: {text}");
}
