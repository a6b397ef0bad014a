//! A scenario: what a client does, and what has to come of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::client::{Client, End};
use crate::runner::{Binaries, Runner};
use crate::server::Server;
use crate::wire::{Capture, can_capture, check};

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The rules of `wit/SEMANTICS.md` that it proves.
    pub rules: &'static [&'static str],
    /// The service.
    pub guest: &'static str,
    /// The service's arguments.
    pub arguments: &'static [&'static str],
    /// What is done.
    pub play: Play,
    /// What Node's program does with the same script.
    pub node: Node,
    /// What is different on `wasi:sockets`, and why.
    pub wasi: Option<Other>,
    /// What is different where Node is the host, and why.
    pub node_host: Option<Other>,
}

/// Why something is different, and what is done and expected then.
pub type Other = (&'static str, Play);

/// What is done.
#[derive(Clone, Copy, Debug)]
pub enum Play {
    /// A client's script, and the lines that the server then has printed. In the
    /// lines, `{1}` is the address and port of the first client as Node prints them.
    Script(&'static [Step], &'static [&'static str]),
    /// Anything else.
    Code(fn(&Stage<'_>) -> Result<()>),
}

/// What Node's program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// The same: bytes, order, FIN and RST, printed lines.
    Same,
    /// Something else, for the reason given, and that is asserted as well.
    Differs(&'static str),
    /// There is no such program for Node.
    None,
}

/// A step of a script. The number is that of the client, which connects at its first
/// step.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Connects.
    Connect(u8),
    /// Sends.
    Send(u8, &'static [u8]),
    /// Sends so many times this byte.
    SendMany(u8, u8, usize),
    /// Receives these bytes.
    Receive(u8, &'static [u8]),
    /// Receives so many times this byte.
    ReceiveMany(u8, u8, usize),
    /// Sends FIN.
    Fin(u8),
    /// Receives nothing more but the server's FIN.
    End(u8),
    /// Receives nothing more but a reset.
    EndReset(u8),
    /// Receives anything, and then the server's FIN.
    RestEnd(u8),
    /// Receives anything, and then a reset.
    RestReset(u8),
    /// Sends RST.
    Reset(u8),
    /// On the wire, the server sends FIN, and RST soon after it. Which of them a socket
    /// sees depends on when it looks.
    FinThenReset(u8),
    /// Closes as programs do: FIN, or RST if something was not received.
    Close(u8),
    /// Nothing comes for a moment, and nothing ends.
    Silence(u8),
    /// Lets the server get on for a moment: so that two sends are two chunks.
    Pause,
    /// Waits until the server has printed so many lines in all.
    Printed(usize),
}

impl Step {
    /// The client that takes it, if it is one's.
    #[must_use]
    pub fn client(&self) -> Option<u8> {
        match *self {
            Step::Connect(client)
            | Step::Send(client, _)
            | Step::SendMany(client, ..)
            | Step::Receive(client, _)
            | Step::ReceiveMany(client, ..)
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

/// What is to hand while a scenario is played.
#[derive(Debug)]
pub struct Stage<'a> {
    /// How the server runs.
    pub runner: Runner,
    /// To run something else.
    pub binaries: &'a Binaries,
    /// The server.
    pub server: &'a Server,
}

/// What was seen: one line for each thing.
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

/// A script that was played.
#[derive(Debug)]
pub struct Played {
    /// What the clients saw.
    pub seen: Transcript,
    /// Where they connected from.
    pub addresses: HashMap<u8, SocketAddr>,
    /// Those that are still connected.
    pub clients: HashMap<u8, Client>,
}

/// Plays a script, and notes what happens, whether it is as expected or not.
///
/// # Errors
/// If nothing happens at all for a long time.
pub fn play(server: &Server, script: &[Step]) -> Result<Played> {
    let mut clients: HashMap<u8, Client> = HashMap::new();
    let mut addresses = HashMap::new();
    let mut seen = Transcript::new();
    let mut note = |client: u8, text: String| seen.push(format!("client {client} {text}"));
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
                    note(number, "cannot send".to_owned());
                }
            }
            Step::SendMany(number, byte, count) => {
                let bytes = vec![byte; count];
                if connected(&mut clients, number)?.send(&bytes).is_err() {
                    note(number, "cannot send".to_owned());
                }
            }
            Step::Receive(number, expected) => {
                let bytes = connected(&mut clients, number)?.receive(expected.len())?;
                note(number, format!("receives {}", bytes.escape_ascii()));
            }
            Step::ReceiveMany(number, byte, count) => {
                let bytes = connected(&mut clients, number)?.receive(count)?;
                let right = bytes.iter().filter(|&&got| got == byte).count();
                note(number, format!("receives {right} times {byte:02x}"));
            }
            Step::Fin(number) => drop(connected(&mut clients, number)?.fin()),
            Step::End(number) | Step::EndReset(number) => {
                let (rest, end) = connected(&mut clients, number)?.end()?;
                if !rest.is_empty() {
                    note(number, format!("receives {} bytes more", rest.len()));
                }
                note(number, ended(end));
            }
            Step::RestEnd(number) | Step::RestReset(number) => {
                let (_, end) = connected(&mut clients, number)?.end()?;
                note(number, ended(end));
            }
            Step::Close(number) => drop(clients.remove(&number)),
            Step::Reset(number) => {
                if let Some(client) = clients.remove(&number) {
                    client.reset()?;
                }
            }
            Step::Silence(number) => {
                match connected(&mut clients, number)?.silence(Duration::from_millis(300)) {
                    Ok(()) => note(number, "receives nothing".to_owned()),
                    Err(error) => note(number, format!("is disturbed: {error}")),
                }
            }
            Step::Pause => thread::sleep(Duration::from_millis(150)),
            Step::Printed(lines) => drop(server.printed(lines)),
        }
    }
    Ok(Played {
        seen,
        addresses,
        clients,
    })
}

/// What a script expects to be seen.
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

/// Replaces the clients' addresses, as Node prints them, by `{1}` and so on.
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
    /// What is different on this way of running, if anything is.
    #[must_use]
    pub fn other(&self, runner: Runner) -> Option<Other> {
        match runner {
            Runner::Composed | Runner::Wasmtime => self.wasi,
            Runner::NodeHost => self.node_host,
            Runner::NativeConnection
            | Runner::NativeShared
            | Runner::NativeWorkers
            | Runner::Embedded => None,
        }
    }

    /// Plays it on one way of running.
    ///
    /// # Errors
    /// If anything is not as it has to be.
    pub fn run(&self, runner: Runner, binaries: &Binaries) -> Result<()> {
        let server = runner.start(binaries, self.guest, self.arguments)?;
        let play_here = self.other(runner).map_or(self.play, |(_, play)| play);
        match play_here {
            Play::Code(code) => code(&Stage {
                runner,
                binaries,
                server: &server,
            }),
            Play::Script(script, lines) => {
                let capture = can_capture()
                    .then(|| Capture::start(server.address()))
                    .transpose()?;
                let played = play(&server, script)?;
                let wanted = expected(script);
                let seen = &played.seen;
                ensure!(*seen == wanted, "expected {wanted:#?}\nseen {seen:#?}");
                // All that is still to come.
                server.printed(lines.len());
                thread::sleep(Duration::from_millis(50));
                let printed = anonymous(server.printed(0), &played.addresses);
                ensure!(
                    printed == lines,
                    "expected {lines:#?}\nprinted {printed:#?}"
                );
                if let Some(capture) = capture {
                    let wires = capture.stop()?;
                    for (&client, address) in &played.addresses {
                        let wire = wires.get(&address.port()).copied().unwrap_or_default();
                        check(script, client, wire)?;
                    }
                }
                Ok(())
            }
        }
    }
}
