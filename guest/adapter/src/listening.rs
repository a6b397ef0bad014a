//! Listening sockets.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use wit_bindgen::StreamReader;

use crate::backoff::Backoff;
use crate::exports::halfopen::tcp::connections;
use crate::exports::halfopen::tcp::listeners::{self, Guest, GuestListener, ListenOptions};
use crate::wasi::sockets::types::{ErrorCode, IpAddressFamily, IpSocketAddress, TcpSocket};
use crate::{Adapter, Connection};

/// The backlog where none is asked for: Node's.
const BACKLOG: u64 = 511;

impl Guest for Adapter {
    type Listener = Listener;
}

/// A listening socket. Both of its parts have to go before the port is free.
pub(crate) struct Listener {
    accepted: Turns<StreamReader<TcpSocket>>,
    socket: TcpSocket,
}

impl GuestListener for Listener {
    fn listen(
        local_address: IpSocketAddress,
        options: ListenOptions,
    ) -> Result<listeners::Listener, ErrorCode> {
        let backlog = match options.backlog {
            Some(0) => return Err(ErrorCode::InvalidArgument),
            Some(backlog) => backlog.into(),
            None => BACKLOG,
        };
        let socket = TcpSocket::create(family_of(&local_address))?;
        socket.set_listen_backlog_size(backlog)?;
        socket.bind(local_address)?;
        let accepted = Turns::new(socket.listen()?);
        Ok(listeners::Listener::new(Listener { accepted, socket }))
    }

    fn local_address(&self) -> Result<IpSocketAddress, ErrorCode> {
        self.socket.get_local_address()
    }

    async fn accept(&self) -> Result<connections::Connection, ErrorCode> {
        let mut turn = self.accepted.turn().await;
        let mut backoff = Backoff::default();
        while let Some(socket) = turn.get().next().await {
            if backoff.is_connection(&socket).await {
                return Ok(Connection::handle(socket));
            }
        }
        // The host ends the stream only when the socket can listen no more.
        Err(ErrorCode::InvalidState)
    }
}

pub(crate) fn family_of(address: &IpSocketAddress) -> IpAddressFamily {
    match address {
        IpSocketAddress::Ipv4(_) => IpAddressFamily::Ipv4,
        IpSocketAddress::Ipv6(_) => IpAddressFamily::Ipv6,
    }
}

/// Something that is used by one at a time, first come, first served (rule L6).
struct Turns<T> {
    free: RefCell<Option<T>>,
    waiting: RefCell<VecDeque<Waker>>,
}

/// The use of a [`Turns`], until it is dropped.
struct Turn<'a, T> {
    turns: &'a Turns<T>,
    value: Option<T>,
}

impl<T> Turns<T> {
    fn new(value: T) -> Self {
        Turns {
            free: RefCell::new(Some(value)),
            waiting: RefCell::new(VecDeque::new()),
        }
    }

    async fn turn(&self) -> Turn<'_, T> {
        poll_fn(|context| match self.free.borrow_mut().take() {
            Some(value) => Poll::Ready(Turn {
                turns: self,
                value: Some(value),
            }),
            None => {
                self.waiting.borrow_mut().push_back(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl<T> Turn<'_, T> {
    fn get(&mut self) -> &mut T {
        self.value
            .as_mut()
            .expect("a turn has its value until it is dropped")
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        *self.turns.free.borrow_mut() = self.value.take();
        if let Some(next) = self.turns.waiting.borrow_mut().pop_front() {
            next.wake();
        }
    }
}
