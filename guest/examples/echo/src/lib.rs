//! An echo server: it sends back all data, prints each event, and ends its direction after a
//! chunk that contains a `q`.
//!
//! Its output equals that of the same program for Node, character for character. With
//! `--quiet` it prints nothing; with `--allow-half-open` its direction stays open after the
//! peer's FIN, until it ends it itself.

use halfopen_guest::print::Buffer;
use halfopen_guest::{Error, Events, Socket, callbacks, env, log, log_error};
use memchr::memchr;

callbacks!(Echo::new);

struct Echo {
    quiet: bool,
    allow_half_open: bool,
}

impl Echo {
    fn new(socket: &Socket) -> Self {
        let mut echo = Echo {
            quiet: false,
            allow_half_open: false,
        };
        for argument in env::args() {
            match argument.as_str() {
                "--quiet" => echo.quiet = true,
                "--allow-half-open" => echo.allow_half_open = true,
                other => {
                    log_error!(
                        "unknown argument `{other}`; echo has `--allow-half-open` and `--quiet`"
                    );
                    socket.reset();
                }
            }
        }
        socket.allow_half_open(echo.allow_half_open);
        if !echo.quiet {
            match socket.peer_addr() {
                Ok(peer) => log!("new connection {} {}", peer.ip(), peer.port()),
                Err(_) => log!("new connection undefined undefined"),
            }
        }
        echo
    }
}

impl Events for Echo {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        if !self.quiet {
            log!("data: {}", Buffer(&chunk));
        }
        let quit = memchr(b'q', &chunk).is_some();
        // After our own end, `write` returns false, and data is no longer sent back.
        if socket.write(chunk) && quit {
            if !self.quiet {
                log!("closing.");
            }
            socket.end();
        }
    }

    fn end(&mut self, socket: &Socket) {
        if !self.quiet {
            log!("EOF.");
        }
        // With half-open connections allowed, the socket does not end by itself.
        if self.allow_half_open {
            socket.end();
        }
    }

    fn error(&mut self, _: &Socket, error: &Error) {
        if !self.quiet {
            log!("error: {}", error.name());
        }
    }
}
