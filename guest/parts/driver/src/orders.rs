//! Carries out the orders of the state.

use crate::bindings::halfopen::tcp::control::Order;
use crate::bindings::halfopen::tcp::timer_events;
use crate::socket::{self, Socket, Target};
use crate::{clock, control, events};

/// Carries out all orders that there are, and calls the events among them. Called after each
/// report.
pub(crate) fn carry_out() {
    while let Some((number, order)) = control::next() {
        match order {
            Order::Fired(timer) => timer_events::fired(timer),
            Order::Wait(time) => clock::order(time),
            Order::Connect(remote) => socket::connect(number, Target::Address(remote)),
            Order::ConnectToName((name, port)) => {
                socket::connect(number, Target::Name(name, port));
            }
            order => {
                if let Some(socket) = Socket::find(number) {
                    carry_out_for(number, &socket, order);
                }
            }
        }
    }
}

fn carry_out_for(number: u32, socket: &Socket, order: Order) {
    match order {
        Order::Connection => events::connection(number),
        Order::Data => events::data(number, &socket.take_chunk()),
        Order::End => events::end(number),
        Order::Drain => events::drain(number),
        Order::Timeout => events::timeout(number),
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
        Order::Pass(source) => {
            if let Some(source) = Socket::find(source) {
                socket.send(source.take_chunk());
            }
        }
        Order::Fired(_) | Order::Wait(_) | Order::Connect(_) | Order::ConnectToName(_) => {}
    }
}
