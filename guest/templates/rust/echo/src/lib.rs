//! An echo server: it sends back all data, and ends its side after a chunk that contains a `q`.

use halfopen_guest::print::Buffer;
use halfopen_guest::{Error, Events, Socket, callbacks, env, log};

callbacks!(Echo::new);

struct Echo {
    quiet: bool,
    half_open: bool,
}

impl Echo {
    fn new(socket: &Socket) -> Self {
        let has = |flag| env::args().iter().any(|argument| argument == flag);
        let echo = Echo {
            quiet: has("--quiet"),
            half_open: has("--allow-half-open"),
        };
        socket.allow_half_open(echo.half_open);
        match socket.peer_addr() {
            Ok(peer) => echo.log(format_args!("new connection {} {}", peer.ip(), peer.port())),
            Err(_) => echo.log(format_args!("new connection undefined undefined")),
        }
        echo
    }

    fn log(&self, line: std::fmt::Arguments<'_>) {
        if !self.quiet {
            log!("{line}");
        }
    }
}

impl Events for Echo {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        self.log(format_args!("data: {}", Buffer(&chunk)));
        let quit = chunk.contains(&b'q');
        // After our own end nothing is sent any more.
        if socket.write(chunk) && quit {
            self.log(format_args!("closing."));
            socket.end();
        }
    }

    fn end(&mut self, socket: &Socket) {
        self.log(format_args!("EOF."));
        // With half-open connections allowed, this side does not end by itself.
        if self.half_open {
            socket.end();
        }
    }

    fn error(&mut self, _: &Socket, error: &Error) {
        self.log(format_args!("error: {}", error.name()));
    }
}
