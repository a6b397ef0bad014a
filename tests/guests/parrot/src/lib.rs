//! The echo server again, for the tests: a service in await style whose events the SDK
//! serves. It prints and does what the example does.

mod arguments;

use halfopen_guest::print::Buffer;
use halfopen_guest::{Connection, Error, Events, Options, Socket, env, log, service};

use arguments::Arguments;
use memchr::memchr;

service!(handle);

async fn handle(connection: Connection) -> Result<(), String> {
    let arguments = Arguments::parse(env::args())?;
    let options = Options::default().allow_half_open(arguments.allow_half_open);
    connection
        .serve(options, |socket| Echo::new(socket, arguments))
        .await;
    Ok(())
}

struct Echo {
    arguments: Arguments,
}

impl Echo {
    fn new(socket: &Socket, arguments: Arguments) -> Self {
        if !arguments.quiet {
            match socket.peer_addr() {
                Ok(peer) => log!("new connection {} {}", peer.ip(), peer.port()),
                Err(_) => log!("new connection undefined undefined"),
            }
        }
        Echo { arguments }
    }
}

impl Events for Echo {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        if !self.arguments.quiet {
            log!("data: {}", Buffer(&chunk));
        }
        let quit = memchr(b'q', &chunk).is_some();
        // After our own end, `write` returns false, and data is no longer sent back.
        if socket.write(chunk) && quit {
            if !self.arguments.quiet {
                log!("closing.");
            }
            socket.end();
        }
    }

    fn end(&mut self, socket: &Socket) {
        if !self.arguments.quiet {
            log!("EOF.");
        }
        // With half-open connections allowed, the socket does not end by itself.
        if self.arguments.allow_half_open {
            socket.end();
        }
    }

    fn error(&mut self, _: &Socket, error: &Error) {
        if !self.arguments.quiet {
            log!("error: {}", error.name());
        }
    }
}
