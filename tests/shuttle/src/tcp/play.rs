//! A connection to play with, and the laws of its end.

use std::any::Any;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread::{self, JoinHandle};

use super::moving::{Moving, Stop};
use super::registry::{Member, Registry};
use super::socket::{Attachment, Socket};
use super::transport::Stream;
use super::waiters::Wait;
use super::{Ending, ErrorCode, Meter, Timeouts};
use crate::net::{Kernel, TcpStream};

/// The turns in which other threads finish what they do.
const TURNS: usize = 1000;

/// A connection, and what can be seen of it from outside. Clones are the same connection,
/// and hold its handle.
#[derive(Clone)]
pub struct Connection {
    socket: Arc<Socket>,
    /// The peer, and the kernel between.
    pub kernel: Arc<Kernel>,
    outside: Outside,
}

/// What remains to be seen when nothing holds the connection any more.
#[derive(Clone)]
pub struct Outside {
    kernel: Arc<Kernel>,
    dropped: Arc<AtomicUsize>,
    meter: Arc<Meter>,
}

/// The guard of a connection.
struct Guard {
    kernel: Arc<Kernel>,
    registry: Registry,
    dropped: Arc<AtomicUsize>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        assert!(self.kernel.closed(), "the descriptor is still open");
        assert_eq!(self.registry.len(), 0, "still registered");
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// A result that is set once, and awaited.
type Cell<T> = Arc<Mutex<(Option<T>, Option<Waker>)>>;

impl Connection {
    /// Opens a connection.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[must_use]
    pub fn open() -> Self {
        let kernel = Arc::new(Kernel::default());
        let registry = Registry::default();
        let dropped = Arc::new(AtomicUsize::new(0));
        let meter = Arc::new(Meter::new());
        let guard: Box<dyn Any + Send + Sync> = Box::new(Guard {
            kernel: kernel.clone(),
            registry: registry.clone(),
            dropped: dropped.clone(),
        });
        let attachment = Attachment {
            meter: meter.clone(),
            peer_session: None,
            guard,
        };
        let stream = Stream::Plain(TcpStream::on(kernel.clone()));
        let remote = Some(SocketAddr::from(([127, 0, 0, 1], 2)));
        let socket = Socket::open(stream, remote, &registry, None, Some(attachment));
        Connection {
            socket: socket.expect("a scripted stream opens"),
            kernel: kernel.clone(),
            outside: Outside {
                kernel,
                dropped,
                meter,
            },
        }
    }

    /// Returns what remains to be seen afterwards.
    #[must_use]
    pub fn outside(&self) -> Outside {
        self.outside.clone()
    }

    /// Starts a thread that acts on the connection.
    pub fn start<T: Send + 'static>(
        &self,
        act: impl FnOnce(Connection) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let connection = self.clone();
        thread::spawn(move || act(connection))
    }

    /// Receives to the end. Returns what came, and how it ended.
    pub fn receive_all(&self) -> (Vec<u8>, Result<(), ErrorCode>) {
        let mut received = Vec::new();
        loop {
            let mut buffer = [0; 4];
            let receive = poll_fn(|cx| self.socket.poll_receive(cx, &mut buffer));
            match shuttle::future::block_on(receive) {
                Ok(0) => return (received, Ok(())),
                Ok(length) => received.extend(&buffer[..length]),
                Err(error) => return (received, Err(error)),
            }
        }
    }

    /// Receives once more, after the end, without waiting.
    ///
    /// # Panics
    ///
    /// If it has to wait.
    pub fn receive_again(&self) -> Result<usize, ErrorCode> {
        let cx = &mut std::task::Context::from_waker(Waker::noop());
        match self.socket.poll_receive(cx, &mut [0; 4]) {
            Poll::Ready(received) => received,
            Poll::Pending => panic!("reading waits after its end"),
        }
    }

    /// Sends this many bytes.
    ///
    /// # Errors
    ///
    /// That of the connection.
    pub fn send(&self, mut length: usize) -> Result<(), ErrorCode> {
        while length > 0 {
            let data = vec![0; length];
            length -= shuttle::future::block_on(poll_fn(|cx| self.socket.poll_send(cx, &data)))?;
        }
        Ok(())
    }

    /// Moves what it receives to another connection, until one of them ends. Returns the error
    /// of this connection, and that of the other.
    pub fn move_to(&self, sink: &Connection) -> (Option<ErrorCode>, Option<ErrorCode>) {
        let mut moving = Moving::default();
        let stop = poll_fn(|cx| {
            let moved = moving.poll(cx, &self.socket, &sink.socket);
            if moved.is_pending() && moving.is_empty() {
                let failed = sink.socket.poll_failed(cx, Wait::Pump);
                return failed.map(Stop::SinkFailed);
            }
            moved
        });
        match shuttle::future::block_on(stop) {
            Stop::Ended => (None, None),
            Stop::SourceFailed(error) => (Some(error), None),
            Stop::SinkFailed(error) => (None, Some(error)),
        }
    }

    /// How many bytes were received and sent, as the meter has counted.
    #[must_use]
    pub fn counted(&self) -> (u64, u64) {
        self.outside.meter.bytes()
    }

    /// Ends the sending direction.
    ///
    /// # Errors
    ///
    /// That of the connection.
    pub fn finish(&self) -> Result<(), ErrorCode> {
        let cell = Cell::default();
        let report = cell.clone();
        self.socket.finish_sending(move |finished| {
            let mut cell = report.lock().expect("no thread panics with it");
            assert!(cell.0.is_none(), "the end is reported twice");
            cell.0 = Some(finished);
            let waker = cell.1.take();
            drop(cell);
            waker.into_iter().for_each(Waker::wake);
        });
        shuttle::future::block_on(poll_fn(|cx| {
            let mut cell = cell.lock().expect("no thread panics with it");
            match cell.0.take() {
                Some(finished) => Poll::Ready(finished),
                None => {
                    cell.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }

    /// Waits until the connection fails, on behalf of the receiving direction.
    #[must_use]
    pub fn receiving_failed(&self) -> ErrorCode {
        shuttle::future::block_on(self.socket.failed(Wait::Received))
    }

    /// Waits until the connection fails, on behalf of the sending direction.
    #[must_use]
    pub fn sending_failed(&self) -> ErrorCode {
        shuttle::future::block_on(self.socket.failed(Wait::Sent))
    }

    /// Resets the connection.
    pub fn abort(&self, ending: Ending) {
        self.socket.abort(ending);
    }

    /// What the registry does from time to time.
    pub fn enforce(&self) {
        Member::enforce(&*self.socket, &Timeouts::NONE, Instant::now());
    }
}

impl Outside {
    /// How often the guard was dropped.
    #[must_use]
    pub fn guard_drops(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    /// Whether the descriptor is closed.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.kernel.closed()
    }

    /// How the connection ended, in one word, if it did not end by FIN.
    #[must_use]
    pub fn ending(&self) -> Option<String> {
        self.meter.ending().map(|ending| ending.to_string())
    }

    /// Checks that the connection ends once and for all, though nobody does anything for it
    /// any more: another thread may be about to.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn has_ended(&self) {
        for _ in 0..TURNS {
            if self.guard_drops() > 0 {
                break;
            }
            thread::yield_now();
        }
        assert!(self.closed(), "the descriptor is still open");
        assert_eq!(self.guard_drops(), 1, "the guard is dropped once");
    }
}
