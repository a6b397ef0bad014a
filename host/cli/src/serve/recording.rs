//! The recording of this process: a thread that reads the events and writes the file.

use std::collections::VecDeque;
use std::io;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use halfopen::events::{Events, Item, Subscription};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::args::record::RecordArgs;
use crate::observe::log::Log;
use crate::record::{Encoder, Excluded, Next, Output, Recorder};
use crate::watch::feed::Watching;
use crate::watch::json::Line;

/// A recording that goes on until this is dropped, or is finished.
pub(crate) struct Recording {
    stop: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

impl Recording {
    /// Begins a recording, if the flags ask for one. Services that are `excluded` are left out.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub(crate) fn start(
        args: &RecordArgs,
        watching: &Watching,
        excluded: Excluded,
        log: Log,
    ) -> anyhow::Result<Option<Self>> {
        let Some(path) = &args.record else {
            return Ok(None);
        };
        let output = Output::create(path, args.file_size())
            .with_context(|| format!("cannot make the file of `--record {}`", path.display()))?;
        let hello = watching.hello(args.record_payload, false);
        let encoder = Encoder::new(hello, args.record_payload, excluded)
            .ok_or_else(|| anyhow!("the clock is set to a time before 1970; set it right"))?;
        let events = watching.events().clone();
        let (stop, stopping) = oneshot::channel();
        let (ending, done) = oneshot::channel();
        let source = Source::new(events, args.record_payload, stopping)?;
        thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || {
                let say = |text: &str| log.say(text);
                if let Err(error) = record(encoder, output, source, say) {
                    log.say(&format!("the recording ends: {error}"));
                }
                drop(ending);
            })?;
        Ok(Some(Recording { stop, done }))
    }

    /// Writes what has happened until now, and ends; waits for that, for at most `limit`. A pipe may
    /// have no reader.
    pub(crate) async fn finish(self, limit: Duration) {
        drop(self.stop);
        let _ = timeout(limit, self.done).await;
    }
}

fn record(
    encoder: Encoder,
    output: Output,
    mut source: Source,
    say: impl Fn(&str),
) -> io::Result<()> {
    let written = Recorder::new(encoder, output, say).run(|wait| source.next(wait));
    written.map(drop)
}

/// The events of this process.
struct Source {
    events: Events,
    subscription: Subscription,
    first: VecDeque<Line>,
    /// Waits, without a thread that serves.
    runtime: Runtime,
    stopping: oneshot::Receiver<()>,
    is_stopped: bool,
    has_lost: bool,
}

impl Source {
    fn new(
        events: Events,
        with_payload: bool,
        stopping: oneshot::Receiver<()>,
    ) -> io::Result<Self> {
        let mut subscription = match with_payload {
            true => events.subscribe_with_payload(),
            false => events.subscribe(),
        };
        Ok(Source {
            first: open(&mut subscription).into(),
            events,
            subscription,
            runtime: Builder::new_current_thread().enable_time().build()?,
            stopping,
            is_stopped: false,
            has_lost: false,
        })
    }

    fn next(&mut self, wait: Duration) -> Next {
        if let Some(line) = self.first.pop_front() {
            return Next::Line(Box::new(line));
        }
        if std::mem::take(&mut self.has_lost) {
            return Next::Open(open(&mut self.events.subscribe()));
        }
        let item = match self.subscription.try_next() {
            Some(item) => item,
            None if self.is_stopped => return Next::End,
            None => {
                let (subscription, stopping) = (&mut self.subscription, &mut self.stopping);
                let waited = self.runtime.block_on(async {
                    tokio::select! {
                        item = subscription.next() => Some(item),
                        _ = stopping => {
                            self.is_stopped = true;
                            None
                        }
                        () = sleep(wait) => None,
                    }
                });
                match waited {
                    Some(item) => item,
                    None => return Next::Nothing,
                }
            }
        };
        self.has_lost = matches!(item, Item::Lost(_));
        Next::Line(Box::new(item.into()))
    }
}

/// The connections that were open when a subscription began.
fn open(subscription: &mut Subscription) -> Vec<Line> {
    let connections = subscription.take_connections();
    connections.into_iter().map(Line::from).collect()
}
