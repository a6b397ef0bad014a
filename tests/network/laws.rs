//! The laws: what both sides may see, whatever the network does.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result, ensure};
use halfopen_model::Directions;

use super::play::{Ending, Played};

/// What the server says about one connection.
#[derive(Debug, Default)]
struct Seen {
    /// The lines of the service.
    events: Vec<String>,
    /// The line of the access log.
    report: Option<Report>,
}

/// A line of the access log.
#[derive(Debug)]
struct Report {
    received: usize,
    sent: usize,
    ending: String,
}

/// What the service saw, as the model replays it.
#[derive(Debug, Default)]
struct Replayed {
    directions: Directions<String>,
    data: usize,
    closed: bool,
}

/// Checks every connection. Returns a summary.
pub(super) fn check(
    played: &BTreeMap<u16, Played>,
    lines: &[String],
    forged: &HashSet<u16>,
) -> Result<String> {
    let mut seen: HashMap<u16, Seen> = HashMap::new();
    for line in lines {
        sort(line, &mut seen).with_context(|| line.clone())?;
    }
    let mut endings: BTreeMap<String, usize> = BTreeMap::new();
    let mut violations = Vec::new();
    for (port, played) in played {
        let seen = seen.remove(port).unwrap_or_default();
        let ending = seen.report.as_ref().map(|report| report.ending.as_str());
        *endings
            .entry(ending.unwrap_or("never accepted").to_owned())
            .or_default() += 1;
        if let Err(error) = obeys(played, &seen, forged.contains(port)) {
            let mut outcome = format!("{:?}", played.outcome);
            outcome.truncate(300);
            violations.push(format!(
                "port {port}: {error:#}\n  {:?}\n  {:?}\n  {outcome}\n  {seen:?}",
                played.script,
                played.script.weather()
            ));
        }
    }
    ensure!(seen.is_empty(), "connections of nobody: {:?}", seen.keys());
    ensure!(
        violations.is_empty(),
        "{} violations:\n{}",
        violations.len(),
        violations.join("\n")
    );
    // Fair weather is frequent, so a test in which nothing comes through shows nothing.
    let fair = endings.get("fin").copied().unwrap_or(0);
    ensure!(
        fair * 4 >= played.len(),
        "few connections came through: {endings:?}"
    );
    Ok(format!("{endings:?}"))
}

/// Adds a line of the server to the connection that it is about.
fn sort(line: &str, seen: &mut HashMap<u16, Seen>) -> Result<()> {
    let field = |name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}="))?;
        rest.split_whitespace().next()
    };
    if let Some(peer) = field("peer").filter(|_| line.contains(" closed ")) {
        let (_, port) = peer.rsplit_once(':').context("no port")?;
        let report = Report {
            received: field("received").context("received")?.parse()?,
            sent: field("sent").context("sent")?.parse()?,
            ending: field("ending").context("ending")?.to_owned(),
        };
        let of = seen.entry(port.parse()?).or_default();
        ensure!(of.report.replace(report).is_none(), "a second report");
    } else if let Some((port, event)) = line.split_once(' ')
        && let Ok(port) = port.parse()
    {
        seen.entry(port).or_default().events.push(event.to_owned());
    }
    Ok(())
}

fn obeys(played: &Played, seen: &Seen, forged: bool) -> Result<()> {
    let (script, outcome) = (&played.script, &played.outcome);
    let written = script.written();

    // The client: what comes is what the service wrote, and FIN comes behind all of it.
    ensure!(
        written.starts_with(&outcome.received),
        "the client received what the service did not write (W1)"
    );
    ensure!(
        !outcome.end || outcome.received.len() == written.len(),
        "FIN after {} of {} bytes (W1, C7)",
        outcome.received.len(),
        written.len()
    );
    ensure!(
        !outcome.end || outcome.finished || script.ends_by_itself(),
        "a FIN that the service did not send (C7)"
    );
    ensure!(
        seen.report.is_some() || outcome.received.is_empty(),
        "a connection that was served has no report"
    );
    let Some(report) = &seen.report else {
        ensure!(seen.events.is_empty(), "events without a report");
        return Ok(());
    };

    // The service: its events, in the order of the model.
    let service = replay(&seen.events)?;
    let accepted = script.orders.len() + outcome.sent;
    ensure!(report.received <= accepted, "bytes were added");
    ensure!(
        report.sent <= written.len(),
        "the service's bytes were doubled"
    );
    ensure!(
        outcome.received.len() <= report.sent,
        "the client received what was not sent"
    );
    let orders = script.orders.len().min(report.received);
    ensure!(
        service.data + orders <= report.received,
        "bytes were doubled (R1)"
    );
    let all = script.sends.iter().sum::<usize>();
    let served = !seen.events.is_empty();
    ensure!(
        service.closed || !served && report.received == 0,
        "`close` did not come (K1), after {:?}",
        seen.events
    );
    if service.saw_end() {
        ensure!(
            outcome.finished || matches!(script.ending, Ending::Close | Ending::Idle),
            "the service saw an end that the client did not send (R2)"
        );
        ensure!(
            service.data == all,
            "`end` after {} of {all} bytes (R3)",
            service.data
        );
    }

    // The report agrees with what both sides did.
    let failure = service.directions.failure().map(String::as_str);
    match report.ending.as_str() {
        "fin" => {
            ensure!(
                failure.is_none(),
                "a failed connection is reported as complete"
            );
            ensure!(
                !served || service.saw_end(),
                "complete without the client's FIN"
            );
            ensure!(report.sent == written.len(), "complete without all bytes");
        }
        "reset-by-peer" => {
            ensure!(
                forged || outcome.abandoned || outcome.error.is_some(),
                "a reset that nobody sent (R4)"
            );
            ensure!(
                !served || matches!(failure, Some("ECONNRESET" | "EPIPE")),
                "reported as reset, and the service saw {failure:?} (E1)"
            );
        }
        // The client resets or closes after its FIN was read (E2), or a timeout of the kernel.
        "error" => ensure!(
            !served || matches!(failure, Some("ECONNRESET" | "EPIPE" | "ETIMEDOUT")),
            "reported as failed, and the service saw {failure:?} (E1)"
        ),
        "limit-idle" | "limit-write" => ensure!(
            !served || failure == Some("ETIMEDOUT"),
            "reported as a limit, and the service saw {failure:?} (C7)"
        ),
        other => ensure!(false, "nobody asked for the ending {other}"),
    }
    Ok(())
}

/// Replays the events of a service: `data`* `end`? `error`? `close` (K1).
fn replay(events: &[String]) -> Result<Replayed> {
    let mut replayed = Replayed::default();
    let mut ended = false;
    for event in events {
        ensure!(!replayed.closed, "`{event}` after `close` (K1)");
        let directions = &mut replayed.directions;
        match event.split_once(' ').unwrap_or((event, "")) {
            ("data", length) => {
                ensure!(!ended && directions.failure().is_none(), "late data (K1)");
                replayed.data += length.parse::<usize>()?;
            }
            ("end", _) => {
                ensure!(!ended, "a second end (K1)");
                let end = directions.receive_end();
                ensure!(end.is_ok(), "an end after the error {end:?} (R4)");
                ended = true;
            }
            ("error", name) => {
                ensure!(directions.failure().is_none(), "a second error (E1)");
                directions.fail(name.to_owned());
            }
            ("close", had_error) => {
                let failed = directions.failure().is_some();
                ensure!(had_error == failed.to_string(), "`close {had_error}` (K1)");
                if !failed {
                    // No error: our FIN is queued as well, and the connection is over.
                    directions.finish();
                }
                replayed.closed = true;
            }
            _ => ensure!(false, "an unknown event: {event}"),
        }
    }
    Ok(replayed)
}

impl Replayed {
    /// Whether the peer's FIN was read.
    fn saw_end(&self) -> bool {
        self.directions.received_end()
    }
}
