//! Scenarios: what clients do, and what must come of it.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::client::{Client, End};
use crate::runner::{Binaries, Primitives, Runner};
use crate::server::Server;
use crate::stage::{Observed, Stage, can_compare};
use crate::wire::{can_capture, check};

/// The time in which something that must not happen could happen.
const MOMENT: Duration = Duration::from_millis(300);

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The name, which is also the name of its trials.
    pub name: &'static str,
    /// The rules of `wit/SEMANTICS.md` that the scenario proves.
    pub rules: &'static [&'static str],
    /// The service under test, by the name of its component.
    pub guest: &'static str,
    /// The arguments of the service.
    pub arguments: &'static [&'static str],
    /// What the clients do and what must come of it.
    pub play: Play,
    /// The behaviour of the same program for Node.
    pub node: Node,
    /// The difference on `wasi:sockets`, if there is one.
    pub wasi: Option<Other>,
    /// The difference where Node is the host, if there is one.
    pub node_host: Option<Other>,
    /// The difference where Node is the host in await style, if there is one.
    pub node_await: Option<Other>,
    /// Whether it chooses the addresses to listen on.
    pub listens: bool,
}

/// A difference: the reason for it, and what is played instead.
pub type Other = (&'static str, Play);

/// What clients do, and what must come of it.
#[derive(Clone, Copy, Debug)]
pub enum Play {
    /// A script, and the lines that the server must have printed at its end. In the lines,
    /// `{1}` stands for the address and port of client 1 as Node prints them.
    Script(&'static [Step], &'static [&'static str]),
    /// A script, and the lines that the server may have printed at its end: all of them or none.
    ScriptOrSilence(&'static [Step], &'static [&'static str]),
    /// Code, for what a script cannot express.
    Code(fn(&Stage<'_>) -> Result<()>),
}

/// The behaviour of the same program for Node, under the same script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// The same bytes, in the same order, with the same ends and printed lines.
    Same,
    /// Something else, for this reason. A test checks that it is something else.
    Differs(&'static str),
    /// Node has no such program, or the scenario is not a script.
    None,
}

/// A step of a script. The first number is the client that takes the step.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Connects.
    Connect(u8),
    /// Sends these bytes.
    Send(u8, &'static [u8]),
    /// Sends a byte this many times.
    SendMany(u8, u8, usize),
    /// Receives these bytes.
    Receive(u8, &'static [u8]),
    /// Receives a byte this many times.
    ReceiveMany(u8, u8, usize),
    /// Waits until something has arrived, and leaves it unread.
    Arrives(u8),
    /// Sends FIN.
    Fin(u8),
    /// Receives the server's FIN, and no byte before it.
    End(u8),
    /// Receives a RST, and no byte before it.
    EndReset(u8),
    /// Receives any bytes, and then the server's FIN.
    RestEnd(u8),
    /// Receives any bytes, and then a RST.
    RestReset(u8),
    /// Sends RST.
    Reset(u8),
    /// On the wire, the server sends FIN, and later RST. Which of the two a socket reports
    /// depends on when it is read, so only the packets are checked.
    FinThenReset(u8),
    /// Closes the socket, as programs do: FIN, or RST if received data is unread.
    Close(u8),
    /// Receives neither data nor an end for a moment.
    Silence(u8),
    /// Gives the server a moment, in which it must do nothing that a later step would see.
    /// A server that is slower than this passes as well.
    Pause,
    /// Waits until the server has printed this many lines in all.
    Printed(usize),
}

impl Step {
    /// Returns the client that takes this step, if a client does.
    #[must_use]
    pub fn client(&self) -> Option<u8> {
        match *self {
            Step::Connect(client)
            | Step::Send(client, _)
            | Step::SendMany(client, ..)
            | Step::Receive(client, _)
            | Step::ReceiveMany(client, ..)
            | Step::Arrives(client)
            | Step::Fin(client)
            | Step::End(client)
            | Step::EndReset(client)
            | Step::RestEnd(client)
            | Step::RestReset(client)
            | Step::FinThenReset(client)
            | Step::Reset(client)
            | Step::Close(client)
            | Step::Silence(client) => Some(client),
            Step::Pause | Step::Printed(_) => None,
        }
    }
}

/// What the clients saw, one line for each observation.
pub type Transcript = Vec<String>;

fn ended(end: End) -> String {
    match end {
        End::Fin => "receives FIN".to_owned(),
        End::Rst => "receives RST".to_owned(),
    }
}

fn connected(clients: &mut HashMap<u8, Client>, number: u8) -> Result<&mut Client> {
    clients
        .get_mut(&number)
        .with_context(|| format!("client {number} is not connected"))
}

/// The result of playing a script.
#[derive(Debug)]
pub struct Played {
    /// What the clients saw.
    pub seen: Transcript,
    /// The clients' own addresses.
    pub addresses: HashMap<u8, SocketAddr>,
    /// The clients that are still connected.
    pub clients: HashMap<u8, Client>,
}

/// Plays a script, and records what the clients see, expected or not.
///
/// # Errors
///
/// If a client waits in vain.
pub fn play(server: &Server, script: &[Step]) -> Result<Played> {
    let mut clients: HashMap<u8, Client> = HashMap::new();
    let mut addresses = HashMap::new();
    let mut seen = Transcript::new();
    let mut record = |client: u8, text: String| seen.push(format!("client {client} {text}"));
    for step in script {
        if let Step::Connect(number) = *step {
            let client = Client::connect(server.address())?;
            addresses.insert(number, client.address()?);
            clients.insert(number, client);
            continue;
        }
        match *step {
            Step::Connect(_) | Step::FinThenReset(_) => {}
            Step::Send(number, bytes) => {
                if connected(&mut clients, number)?.send(bytes).is_err() {
                    record(number, "cannot send".to_owned());
                }
            }
            Step::SendMany(number, byte, count) => {
                let bytes = vec![byte; count];
                if connected(&mut clients, number)?.send(&bytes).is_err() {
                    record(number, "cannot send".to_owned());
                }
            }
            Step::Receive(number, expected) => {
                let bytes = connected(&mut clients, number)?.receive(expected.len())?;
                record(number, format!("receives {}", bytes.escape_ascii()));
            }
            Step::ReceiveMany(number, byte, count) => {
                let bytes = connected(&mut clients, number)?.receive(count)?;
                let right = bytes.iter().filter(|&&got| got == byte).count();
                record(number, format!("receives {right} times {byte:02x}"));
            }
            Step::Arrives(number) => connected(&mut clients, number)?.arrives()?,
            Step::Fin(number) => drop(connected(&mut clients, number)?.fin()),
            Step::End(number) | Step::EndReset(number) => {
                let (rest, end) = connected(&mut clients, number)?.end()?;
                if !rest.is_empty() {
                    record(number, format!("receives {} bytes more", rest.len()));
                }
                record(number, ended(end));
            }
            Step::RestEnd(number) | Step::RestReset(number) => {
                let (_, end) = connected(&mut clients, number)?.end()?;
                record(number, ended(end));
            }
            Step::Close(number) => drop(clients.remove(&number)),
            Step::Reset(number) => {
                if let Some(client) = clients.remove(&number) {
                    client.reset()?;
                }
            }
            Step::Silence(number) => match connected(&mut clients, number)?.silence(MOMENT) {
                Ok(()) => record(number, "receives nothing".to_owned()),
                Err(error) => record(number, format!("is disturbed: {error}")),
            },
            Step::Pause => thread::sleep(MOMENT / 2),
            Step::Printed(lines) => drop(server.printed(lines)),
        }
    }
    Ok(Played {
        seen,
        addresses,
        clients,
    })
}

/// Returns what the clients of a script must see.
#[must_use]
pub fn expected(script: &[Step]) -> Transcript {
    script
        .iter()
        .filter_map(|step| {
            let (client, text) = match *step {
                Step::Receive(client, bytes) => {
                    (client, format!("receives {}", bytes.escape_ascii()))
                }
                Step::ReceiveMany(client, byte, count) => {
                    (client, format!("receives {count} times {byte:02x}"))
                }
                Step::End(client) | Step::RestEnd(client) => (client, ended(End::Fin)),
                Step::EndReset(client) | Step::RestReset(client) => (client, ended(End::Rst)),
                Step::Silence(client) => (client, "receives nothing".to_owned()),
                _ => return None,
            };
            Some(format!("client {client} {text}"))
        })
        .collect()
}

/// Replaces each client's address, as Node prints it, by `{1}` and so on.
#[must_use]
pub fn anonymous(lines: Vec<String>, addresses: &HashMap<u8, SocketAddr>) -> Vec<String> {
    lines
        .into_iter()
        .map(|mut line| {
            for (number, address) in addresses {
                let printed = format!("{} {}", address.ip(), address.port());
                line = line.replace(&printed, &format!("{{{number}}}"));
            }
            line
        })
        .collect()
}

impl Scenario {
    /// Returns the difference on a runner, if there is one.
    #[must_use]
    pub fn other(&self, runner: Runner) -> Option<Other> {
        match runner.properties().primitives {
            Primitives::Native | Primitives::Python => None,
            Primitives::Wasi => self.wasi,
            Primitives::Node if runner == Runner::NodeHost => self.node_await.or(self.node_host),
            Primitives::Node => self.node_host,
        }
    }

    /// Plays the scenario on a runner.
    ///
    /// # Errors
    ///
    /// If anything comes of it that must not.
    pub fn run(&self, runner: Runner, binaries: &Binaries) -> Result<()> {
        let play_here = self.other(runner).map_or(self.play, |(_, play)| play);
        let captured = match play_here {
            Play::Code(_) => can_compare(runner),
            _ => can_capture(),
        };
        let mut observed = Observed::start(runner, captured, 1, |flags| {
            let listen = ["127.0.0.1:0"];
            runner.service_with(binaries, self.guest, &listen, flags, self.arguments)
        })?;
        if !runner.prints() {
            // In place of a line that the server prints.
            observed.server.patience = MOMENT;
        }
        match play_here {
            Play::Code(code) => {
                let stage = Stage {
                    runner,
                    binaries,
                    server: &observed.server,
                    compared: Cell::new(0),
                };
                code(&stage)?;
                let further = stage.compared.get();
                let (_, compared) = observed.finish(|_| Ok(()))?;
                // No scenario is left out: its further servers are started by the stage.
                ensure!(
                    further + compared > 0 || !captured,
                    "no connection is compared with its packets"
                );
                Ok(())
            }
            Play::Script(script, lines) | Play::ScriptOrSilence(script, lines) => {
                let server = &observed.server;
                let played = play(server, script)?;
                let wanted = expected(script);
                let seen = &played.seen;
                ensure!(*seen == wanted, "expected {wanted:#?}\nseen {seen:#?}");
                let may_be_silent = matches!(play_here, Play::ScriptOrSilence(..));
                if runner.prints() && !(may_be_silent && server.printed(0).is_empty()) {
                    server.printed(lines.len());
                    // A line that must not come has a moment to come.
                    thread::sleep(Duration::from_millis(50));
                    let printed = anonymous(server.printed(0), &played.addresses);
                    ensure!(
                        printed == lines,
                        "expected {lines:#?}\nprinted {printed:#?}"
                    );
                }
                observed.finish(|wires| {
                    played.addresses.iter().try_for_each(|(&client, address)| {
                        let wire = wires.get(&address.port()).and_then(|wires| wires.first());
                        check(script, client, &wire.cloned().unwrap_or_default())
                    })
                })?;
                Ok(())
            }
        }
    }
}
