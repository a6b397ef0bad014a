//! Stands before a Redis or PostgreSQL server, and refuses the commands that its arguments name:
//! `redis 127.0.0.1:6379 FLUSHALL CONFIG`, or `postgres 127.0.0.1:5432 DROP DELETE`.
//!
//! It reads what clients send. In the place of a refused command the server gets one that it
//! answers by an error, so that every answer comes from the server, in its order, and the host
//! pipes the answers to the client.

mod options;
mod postgres;
mod redis;
mod sql;

use std::mem;
use std::rc::Rc;

use halfopen_guest::{Error, ErrorCode, Events, Socket, callbacks, log, log_error};
use options::{Options, Protocol};

callbacks!(Client::new, secure);

/// The bytes that may wait for the server: `drain` follows when there were more.
const HIGH_WATER: usize = 64 * 1024;

/// What a client has sent, and what of it goes to the server.
#[derive(Default)]
struct Flow {
    input: Vec<u8>,
    /// How much of the input is read.
    read: usize,
    output: Vec<u8>,
}

impl Flow {
    /// What is not read.
    fn rest(&self) -> &[u8] {
        &self.input[self.read..]
    }

    /// Reads so many bytes, and passes them on.
    fn pass(&mut self, length: usize) {
        let end = self.read + length;
        self.output.extend_from_slice(&self.input[self.read..end]);
        self.read = end;
    }

    /// Reads so many bytes, and passes on other ones instead.
    fn replace(&mut self, length: usize, instead: &[u8]) {
        self.output.extend_from_slice(instead);
        self.read += length;
    }
}

/// What an inspector has done with the next bytes of a client.
enum Step {
    /// It has read some.
    Read,
    /// It has refused this.
    Refused(String),
    /// It has read the message with which the server's answers begin.
    Begun,
    /// It has read a request, to which this is the answer.
    Answered(&'static str),
    /// The same, and TLS begins behind the answer.
    Secured(&'static str),
    /// More has to come first.
    Wait,
}

/// Reads what a client sends.
trait Inspect {
    /// Reads the next bytes. An error ends the connection.
    fn next(&mut self, flow: &mut Flow, options: &Options) -> Result<Step, String>;
}

/// A client's connection; without a dialogue once that has failed.
struct Client(Option<Dialogue>);

struct Dialogue {
    options: Rc<Options>,
    server: Socket,
    inspect: Box<dyn Inspect>,
    flow: Flow,
    /// Whether the client has sent FIN.
    ended: bool,
}

impl Client {
    fn new(client: &Socket) -> Self {
        client.allow_half_open(true);
        // Nothing is read before the server is there.
        client.pause();
        let dialogue = Dialogue::begin(client);
        Client(dialogue.map_err(|error| give_up(client, &error)).ok())
    }
}

fn give_up(client: &Socket, error: &str) {
    let peer = client
        .peer_addr()
        .map_or_else(|_| "a client".to_owned(), |peer| peer.to_string());
    log_error!("{peer}: {error}");
    client.reset();
}

impl Dialogue {
    fn begin(client: &Socket) -> Result<Self, String> {
        let options = Rc::new(Options::read()?);
        let (client, given) = (client.clone(), options.clone());
        let server = callbacks::connect(options.server, |_| Server {
            client,
            options: given,
        });
        Ok(Dialogue {
            server: server.map_err(|error| format!("{}: {error}", options.server))?,
            inspect: match options.protocol {
                Protocol::Redis => Box::<redis::Commands>::default(),
                Protocol::Postgres => Box::<postgres::Messages>::default(),
            },
            options,
            flow: Flow::default(),
            ended: false,
        })
    }

    /// Acts on what the client has sent.
    fn go_on(&mut self, client: &Socket) -> Result<(), String> {
        let text = |error: Error| error.to_string();
        let flow = &mut self.flow;
        loop {
            match self.inspect.next(flow, &self.options)? {
                Step::Read => {}
                Step::Refused(what) => {
                    let peer = client.peer_addr().map_err(text)?;
                    log!("{peer}: refused {what}");
                }
                Step::Begun => callbacks::pipe(&self.server, client).map_err(text)?,
                Step::Answered(answer) => _ = client.write(answer),
                Step::Secured(answer) => {
                    client.write(answer);
                    callbacks::secure_as_server(client, flow.rest()).map_err(text)?;
                    // What is left was refused.
                    break;
                }
                Step::Wait => break,
            }
        }
        flow.input.drain(..flow.read);
        flow.read = 0;
        self.server.write(mem::take(&mut flow.output));
        if self.server.unsent() > HIGH_WATER {
            // Until `drain`.
            client.pause();
        }
        Ok(())
    }
}

impl Events for Client {
    fn data(&mut self, client: &Socket, chunk: Vec<u8>) {
        let Some(dialogue) = &mut self.0 else {
            return;
        };
        dialogue.flow.input.extend(chunk);
        if let Err(error) = dialogue.go_on(client) {
            dialogue.server.reset();
            give_up(client, &error);
            self.0 = None;
        }
    }

    fn end(&mut self, _: &Socket) {
        if let Some(dialogue) = &mut self.0 {
            dialogue.ended = true;
            dialogue.server.end();
        }
    }

    fn error(&mut self, client: &Socket, error: &Error) {
        let Some(dialogue) = self.0.take() else {
            return;
        };
        dialogue.server.reset();
        // A client that has finished may go before the server has. An abort was reported.
        if !dialogue.ended && *error.code() != ErrorCode::ConnectionAborted {
            give_up(client, &error.to_string());
        }
    }
}

/// The connection to the server, for one client.
struct Server {
    client: Socket,
    options: Rc<Options>,
}

impl Server {
    fn secure(&self, server: &Socket, unprocessed: &[u8]) {
        let name = self.options.server_name.as_deref().unwrap_or_default();
        let protocols: &[&str] = match self.options.protocol {
            Protocol::Redis => &[],
            Protocol::Postgres => &["postgresql"],
        };
        if let Err(error) = callbacks::secure_as_client(server, name, protocols, unprocessed) {
            self.fail(server, &error.to_string());
        }
    }

    fn ready(&self, server: &Socket) {
        if self.options.protocol == Protocol::Redis
            && let Err(error) = callbacks::pipe(server, &self.client)
        {
            return self.fail(server, &error.to_string());
        }
        self.client.resume();
    }

    fn fail(&self, server: &Socket, error: &str) {
        server.reset();
        give_up(&self.client, &format!("{}: {error}", self.options.server));
    }
}

impl Events for Server {
    fn connect(&mut self, server: &Socket) {
        match (&self.options.server_name, self.options.protocol) {
            (None, _) => self.ready(server),
            (Some(_), Protocol::Redis) => self.secure(server, &[]),
            (Some(_), Protocol::Postgres) => _ = server.write(postgres::SSL_REQUEST),
        }
    }

    /// Comes before the answers are piped: what a server says to a request for TLS.
    fn data(&mut self, server: &Socket, chunk: Vec<u8>) {
        match &chunk[..] {
            [b'S', rest @ ..] => self.secure(server, rest),
            _ => self.fail(server, "it has no TLS"),
        }
    }

    fn secured(&mut self, server: &Socket) {
        self.ready(server);
    }

    fn drain(&mut self, _: &Socket) {
        self.client.resume();
    }

    fn error(&mut self, server: &Socket, error: &Error) {
        self.fail(server, &error.to_string());
    }

    fn close(&mut self, _: &Socket, _: bool) {
        self.client.resume();
    }
}
