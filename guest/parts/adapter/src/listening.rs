//! Listening sockets.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use halfopen_parts::types::{ErrorCode, IpSocketAddress, TcpSocket};
use halfopen_parts::{Accepted, listen};

use crate::exports::halfopen::tcp::connections;
use crate::exports::halfopen::tcp::listeners::{self, Guest, GuestListener, ListenOptions};
use crate::{Adapter, Connection};

impl Guest for Adapter {
    type Listener = Listener;
}

/// A listening socket. The port is free once both fields are dropped.
pub(crate) struct Listener {
    accepted: Turns<Accepted>,
    socket: TcpSocket,
}

impl GuestListener for Listener {
    fn listen(
        local_address: IpSocketAddress,
        options: ListenOptions,
    ) -> Result<listeners::Listener, ErrorCode> {
        let (socket, accepted) = listen(local_address, options.backlog)?;
        let accepted = Turns::new(accepted);
        Ok(listeners::Listener::new(Listener { accepted, socket }))
    }

    fn local_address(&self) -> Result<IpSocketAddress, ErrorCode> {
        self.socket.get_local_address()
    }

    async fn accept(&self) -> Result<connections::Connection, ErrorCode> {
        let mut turn = self.accepted.turn().await;
        // The host ends the stream only when the socket can no longer listen.
        let socket = turn.get().next().await.ok_or(ErrorCode::InvalidState)?;
        Ok(Connection::handle(socket))
    }
}

/// A value that its users take in turns, first come, first served (rule L6).
struct Turns<T> {
    free: RefCell<Option<T>>,
    waiting: RefCell<VecDeque<Waker>>,
}

/// The exclusive use of the value of a [`Turns`]; ends on drop.
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
