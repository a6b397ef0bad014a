//! Carries out the orders of the state.

use crate::bindings::halfopen::tcp::control::Order;
use crate::socket::Socket;
use crate::{control, events};

/// Carries out all orders that there are, and calls the events among them. Called after each
/// report.
pub(crate) fn carry_out() {
    while let Some((number, order)) = control::next() {
        let Some(socket) = Socket::find(number) else {
            continue;
        };
        match order {
            Order::Connection => events::connection(number),
            Order::Data => events::data(number, &socket.take_chunk()),
            Order::End => events::end(number),
            Order::Drain => events::drain(number),
            Order::Error(error) => events::error(number, &error),
            Order::Close(had_error) => {
                socket.close();
                events::close(number, had_error);
            }
            Order::Receive => socket.order_receive(),
            Order::Send(bytes) => socket.send(bytes),
            Order::Flush(bytes) => socket.flush(bytes),
            Order::Finish => socket.finish(),
            Order::Reset => socket.reset(),
        }
    }
}
