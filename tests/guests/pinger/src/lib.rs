//! The pinger of the SDK's cookbook.

use halfopen_guest::{Events, Socket, callbacks};
use std::time::Duration;

callbacks!(Pinger::new, timers);

struct Pinger {
    /// Cleared once it is dropped, with its connection.
    _timer: Option<callbacks::Timer>,
}

impl Pinger {
    fn new(socket: &Socket) -> Self {
        let client = socket.clone();
        let ping = move || {
            client.write("ping\n");
            if client.unsent() > 1 << 10 {
                client.reset(); // the client does not read
            }
        };
        ping();
        Pinger {
            _timer: callbacks::set_interval(Duration::from_secs(1), ping),
        }
    }
}

impl Events for Pinger {}
