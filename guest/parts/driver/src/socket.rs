//! One connection and its input and output.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures::future::{self, Either, FutureExt, LocalBoxFuture};
use futures::task::AtomicWaker;
use halfopen_guest::bindings::imports::halfopen::tcp::connections::Connection;
use halfopen_guest::bindings::imports::halfopen::tcp::outbound;
use halfopen_guest::bindings::imports::halfopen::tcp::types::{ErrorCode, IpSocketAddress};
use halfopen_guest::bindings::imports::wit_stream;
use halfopen_model::Room;
use wit_bindgen::rt::async_support::StreamResult;
use wit_bindgen::{FutureReader, StreamReader, StreamWriter};

use crate::bindings::halfopen::tcp::lookups;
use crate::control;
use crate::orders::carry_out;

/// A connection that is open.
pub(crate) struct Socket {
    number: u32,
    /// `None` until the connection exists, and once it is closed or reset.
    handle: RefCell<Option<Connection>>,
    /// The chunk that was received and not delivered.
    chunk: RefCell<Vec<u8>>,
    /// Whether there is an order to receive.
    receive: Cell<bool>,
    sending: RefCell<Sending>,
    /// Whether the host has stopped to read what is sent. The error is on its way.
    failing: Cell<bool>,
    closed: Cell<bool>,
    /// The task that receives.
    receiver: AtomicWaker,
    /// The task that sends.
    sender: AtomicWaker,
}

/// The sending direction.
enum Sending {
    Idle(StreamWriter<u8>),
    /// The host has not taken all bytes yet.
    Busy(Write),
    /// No more can be sent.
    Over,
}

/// A write to the host, which returns the writer; `None` if the host no longer reads.
type Write = LocalBoxFuture<'static, Option<StreamWriter<u8>>>;

thread_local! {
    static SOCKETS: RefCell<BTreeMap<u32, Rc<Socket>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Serves a connection until it has closed.
pub(crate) async fn serve(connection: Connection) {
    let local = connection.local_address().ok();
    let remote = connection.remote_address().ok();
    let socket = Socket::add(control::add(local, remote));
    let (data, received) = socket.clone().open(connection);
    carry_out();
    socket.receive_all(data, received).await;
}

/// Makes a connection, and serves it, unless the service gives it up before.
pub(crate) fn connect(number: u32, target: Target) {
    let socket = Socket::add(number);
    halfopen_guest::spawn(async move {
        let connecting = pin!(target.connect(number));
        let connected = match future::select(connecting, pin!(socket.closed())).await {
            Either::Left((connected, _)) => connected,
            Either::Right(_) => return,
        };
        match connected {
            Ok(connection) if socket.closed.get() => Connection::reset(connection),
            Ok(connection) => {
                let local = connection.local_address().ok();
                let (data, received) = socket.clone().open(connection);
                control::connected(number, local);
                carry_out();
                socket.receive_all(data, received).await;
            }
            Err(error) => {
                control::failed(number, &error);
                carry_out();
            }
        }
    });
}

/// What a service connects to.
pub(crate) enum Target {
    Address(IpSocketAddress),
    Name(String, u16),
}

impl Target {
    /// Connects to an address, or to one address of a name after the other.
    async fn connect(self, number: u32) -> Result<Connection, ErrorCode> {
        let (name, port) = match self {
            Target::Address(remote) => return outbound::connect(remote).await,
            Target::Name(name, port) => (name, port),
        };
        let mut last = ErrorCode::RemoteUnreachable;
        for remote in lookups::look_up(name, port).await? {
            match outbound::connect(remote).await {
                Ok(connection) => {
                    control::found(number, remote);
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The receiving direction of a connection.
type Received = (StreamReader<u8>, FutureReader<Result<(), ErrorCode>>);

impl Socket {
    fn add(number: u32) -> Rc<Self> {
        let socket = Rc::new(Socket {
            number,
            handle: RefCell::default(),
            chunk: RefCell::default(),
            receive: Cell::new(false),
            sending: RefCell::new(Sending::Over),
            failing: Cell::new(false),
            closed: Cell::new(false),
            receiver: AtomicWaker::new(),
            sender: AtomicWaker::new(),
        });
        SOCKETS.with_borrow_mut(|sockets| sockets.insert(number, socket.clone()));
        socket
    }

    /// Takes over the connection, and starts the tasks that send.
    fn open(self: Rc<Self>, connection: Connection) -> Received {
        let received = connection.read();
        let (writer, reader) = wit_stream::new();
        let sent = connection.write(reader);
        self.handle.replace(Some(connection));
        self.sending.replace(Sending::Idle(writer));
        halfopen_guest::spawn(self.clone().await_sent(sent));
        halfopen_guest::spawn(self.send_rest());
        received
    }
}

// --- The orders ------------------------------------------------------------------

impl Socket {
    pub(crate) fn find(number: u32) -> Option<Rc<Socket>> {
        SOCKETS.with_borrow(|sockets| sockets.get(&number).cloned())
    }

    pub(crate) fn take_chunk(&self) -> Vec<u8> {
        self.chunk.take()
    }

    pub(crate) fn order_receive(&self) {
        self.receive.set(true);
        self.receiver.wake();
    }

    /// Sends bytes: what the host does not take at once is left to the task that sends.
    pub(crate) fn send(&self, bytes: Vec<u8>) {
        if let Some(write) = self.try_send(bytes) {
            self.sending.replace(Sending::Busy(write));
            self.sender.wake();
        }
    }

    /// Sends bytes if the host takes all of them at once.
    pub(crate) fn flush(&self, bytes: Vec<u8>) {
        if self.try_send(bytes).is_some() {
            control::lost(self.number);
        }
    }

    /// Writes to the host, and returns the write if that would have to wait.
    fn try_send(&self, bytes: Vec<u8>) -> Option<Write> {
        let Sending::Idle(writer) = self.sending.replace(Sending::Over) else {
            // The connection has failed; its error is on the way.
            return None;
        };
        let mut write = write(writer, bytes).boxed_local();
        match write.poll_unpin(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => return Some(write),
            Poll::Ready(writer) => self.sent(writer),
        }
        None
    }

    fn sent(&self, writer: Option<StreamWriter<u8>>) {
        match writer {
            Some(writer) => {
                self.sending.replace(Sending::Idle(writer));
                control::sent(self.number);
            }
            None => self.failing.set(true),
        }
    }

    pub(crate) fn finish(&self) {
        self.sending.replace(Sending::Over);
    }

    pub(crate) fn reset(&self) {
        if let Some(handle) = self.handle.take() {
            Connection::reset(handle);
        }
        // Later than the reset: the end of the stream could cause FIN.
        self.sending.replace(Sending::Over);
    }

    /// Closes the connection, and forgets it.
    pub(crate) fn close(&self) {
        SOCKETS.with_borrow_mut(|sockets| sockets.remove(&self.number));
        self.sending.replace(Sending::Over);
        self.handle.take();
        self.closed.set(true);
        self.receiver.wake();
        self.sender.wake();
    }
}

/// Writes all bytes, and returns the writer unless the host no longer reads.
async fn write(mut writer: StreamWriter<u8>, bytes: Vec<u8>) -> Option<StreamWriter<u8>> {
    // To write again after that would trap.
    let rest = writer.write_all(bytes).await;
    rest.is_empty().then_some(writer)
}

// --- The tasks -------------------------------------------------------------------

impl Socket {
    /// Receives as ordered, until the connection has closed.
    async fn receive_all(
        &self,
        mut data: StreamReader<u8>,
        received: FutureReader<Result<(), ErrorCode>>,
    ) {
        let mut room = Room::default();
        while self.receive_ordered().await {
            let read = pin!(data.read(Vec::with_capacity(room.bytes())));
            let (result, chunk) = match future::select(read, pin!(self.closed())).await {
                Either::Left((read, _)) => read,
                Either::Right(_) => return,
            };
            if !chunk.is_empty() {
                let length = chunk.len();
                room.filled(length);
                self.chunk.replace(chunk);
                control::received(self.number, length as u32);
            } else if result == StreamResult::Dropped {
                break;
            } else {
                self.receive.set(true);
            }
            carry_out();
        }
        if self.closed.get() {
            return;
        }
        // To read the stream again would trap.
        drop(data);
        match received.await {
            Ok(()) => {
                // The kernel reports a reset once. If the sending direction gets it, the
                // receiving one looks as if FIN had come; the sending direction's error is
                // then already on its way (rule E1).
                halfopen_guest::yield_now().await;
                if !self.failing.get() {
                    control::receive_ended(self.number);
                }
            }
            Err(error) => control::failed(self.number, &error),
        }
        carry_out();
        self.closed().await;
    }

    /// Waits for an order to receive; returns false once the connection has closed.
    async fn receive_ordered(&self) -> bool {
        poll_fn(|context| {
            self.receiver.register(context.waker());
            if self.closed.get() {
                return Poll::Ready(false);
            }
            match self.receive.take() {
                true => Poll::Ready(true),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Waits until the connection has closed. For the task that receives.
    async fn closed(&self) {
        poll_fn(|context| {
            self.receiver.register(context.waker());
            match self.closed.get() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Sends what the host does not take at once.
    async fn send_rest(self: Rc<Self>) {
        poll_fn(|context| {
            self.sender.register(context.waker());
            loop {
                let write = match &mut *self.sending.borrow_mut() {
                    Sending::Busy(write) => write.poll_unpin(context),
                    _ if self.closed.get() => return Poll::Ready(()),
                    _ => return Poll::Pending,
                };
                let Poll::Ready(writer) = write else {
                    return Poll::Pending;
                };
                self.sending.replace(Sending::Over);
                self.sent(writer);
                carry_out();
            }
        })
        .await;
    }

    /// Waits for the end of the sending direction, which is also the error of a connection
    /// that fails while nothing is sent.
    async fn await_sent(self: Rc<Self>, sent: FutureReader<Result<(), ErrorCode>>) {
        let result = sent.await;
        match result {
            Ok(()) => control::finished(self.number),
            Err(error) => control::failed(self.number, &error),
        }
        carry_out();
    }
}
