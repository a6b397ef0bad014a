//! A service in callback style that begins TLS when its clients say so: for the tests of
//! `socket-secure`.
//!
//! A client sends lines, see `Client::call`; behind `up` they are about the connection that it
//! has made. The client gets a line for each event of that connection, and for its own handshake.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use halfopen_guest::{Error, ErrorCode, Events, LineBuffer, Socket, Tls, callbacks, log_error};

callbacks!(Client::new, secure);

/// A connection that a client has made.
type Upstream = Rc<RefCell<Option<Socket>>>;

#[derive(Default)]
struct Client {
    lines: LineBuffer,
    upstream: Upstream,
    late: Cell<bool>,
}

impl Client {
    fn new(socket: &Socket) -> Self {
        socket.allow_half_open(true);
        Client::default()
    }

    /// Does what a line says, and returns the answer.
    fn call(&self, client: &Socket, line: &str) -> Result<String, Error> {
        let up = line.strip_prefix("up ");
        let upstream = self.upstream.borrow().clone();
        let socket = match up {
            Some(_) => upstream.as_ref().unwrap_or(client),
            None => client,
        };
        let words: Vec<&str> = up.unwrap_or(line).split(' ').collect();
        match words[..] {
            // Begins TLS as the server, as if so many more bytes were left.
            ["server", more] => {
                socket.write("go ahead\n");
                let left = [self.lines.rest(), &vec![0; more.parse().unwrap_or(0)]].concat();
                callbacks::secure_as_server(socket, &left)?;
                return Ok(String::new());
            }
            // The same, behind so many KiB in the clear, and with text to send within TLS.
            ["server-behind", size] => {
                socket.write(vec![b'.'; 1024 * size.parse::<usize>().unwrap_or(0)]);
                socket.write("go ahead\n");
                callbacks::secure_as_server(socket, self.lines.rest())?;
                socket.write("within TLS\n");
                return Ok(String::new());
            }
            // Ends or gives up the connection while the handshake goes on.
            ["server-end"] | ["server-destroy"] => {
                socket.write("go ahead\n");
                callbacks::secure_as_server(socket, self.lines.rest())?;
                match words[0] {
                    "server-end" => socket.end(),
                    _ => socket.destroy(),
                }
                return Ok(String::new());
            }
            // Begins TLS once nothing was received for a time, of what was received before
            // that nothing was seen.
            ["server-late", ms] => {
                socket.pause();
                socket.set_timeout(Duration::from_millis(ms.parse().unwrap_or(0)));
                self.late.set(true);
            }
            ["client", name, ref protocols @ ..] => {
                callbacks::secure_as_client(socket, name, protocols, &[])?;
            }
            ["connect", port] => {
                let address = ([127, 0, 0, 1], port.parse().unwrap_or(0)).into();
                let client = client.clone();
                let upstream = callbacks::connect(address, |_| Up(client))?;
                *self.upstream.borrow_mut() = Some(upstream);
            }
            ["pipe"] => callbacks::pipe(client, socket)?,
            ["write", text] => return Ok(format!("taken {}\n", socket.write(text))),
            ["tls"] => return Ok(told(socket.tls())),
            ["pause"] => socket.pause(),
            ["end"] => socket.end(),
            ["destroy"] => socket.destroy(),
            ["timeout", ms] => {
                socket.set_timeout(Duration::from_millis(ms.parse().unwrap_or(0)));
            }
            _ => return Ok(format!("unknown {line}\n")),
        }
        Ok(format!("done {line}\n"))
    }
}

fn reason(error: &Error) -> &str {
    match error.code() {
        ErrorCode::AccessDenied => "access-denied",
        ErrorCode::InvalidArgument => "invalid-argument",
        ErrorCode::InvalidState => "invalid-state",
        ErrorCode::Timeout => "timeout",
        ErrorCode::Other(Some(text)) => text,
        _ => error.name(),
    }
}

fn told(tls: Option<Tls>) -> String {
    let Some(tls) = tls else {
        return "no tls\n".to_owned();
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    format!(
        "tls {} for {} with {}, name {}, certificates {}\n",
        tls.version.unwrap_or_default(),
        tls.server_name.as_deref().unwrap_or("-"),
        tls.application_protocol.map_or("-".to_owned(), text),
        tls.common_name.as_deref().unwrap_or("-"),
        tls.certificates.len()
    )
}

impl Events for Client {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        self.lines.push(&chunk);
        while let Some(Ok(line)) = self.lines.next_line() {
            let answer = self.call(socket, &line);
            socket.write(answer.unwrap_or_else(|error| format!("refused: {}\n", reason(&error))));
        }
    }

    fn secured(&mut self, socket: &Socket) {
        socket.write("secured\n");
    }

    fn timeout(&mut self, socket: &Socket) {
        if self.late.take() {
            let begun = callbacks::secure_as_server(socket, &[]);
            return begun.unwrap_or_else(|error| log_error!("late: {}", reason(&error)));
        }
        socket.write("timeout\n");
    }

    fn end(&mut self, _: &Socket) {
        log_error!("end");
    }

    fn error(&mut self, _: &Socket, error: &Error) {
        log_error!("error: {}", reason(error));
    }

    fn close(&mut self, _: &Socket, had_error: bool) {
        log_error!("close {had_error}");
    }
}

/// The events of a connection that a client has made.
struct Up(Socket);

impl Events for Up {
    fn connect(&mut self, _: &Socket) {
        self.0.write("up connection\n");
    }

    fn secured(&mut self, _: &Socket) {
        self.0.write("up secured\n");
    }

    fn data(&mut self, _: &Socket, chunk: Vec<u8>) {
        self.0
            .write(format!("up data {}\n", String::from_utf8_lossy(&chunk)));
    }

    fn end(&mut self, _: &Socket) {
        self.0.write("up end\n");
    }

    fn error(&mut self, _: &Socket, error: &Error) {
        self.0.write(format!("up error {}\n", reason(error)));
    }

    fn close(&mut self, _: &Socket, had_error: bool) {
        self.0.write(format!("up close {had_error}\n"));
    }
}
