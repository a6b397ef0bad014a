//! Reset, read, write and close on several threads, in many orders. A wake-up that is lost
//! shows as a deadlock, which the scheduler reports with the order that led to it.
//!
//! Each test tries 3,000 random orders, and as many with few switches at chosen places
//! (probabilistic concurrency testing), or `HALFOPEN_SHUTTLE_ORDERS` of each.

use halfopen_shuttle::tcp::play::Connection;
use halfopen_shuttle::tcp::{Ending, ErrorCode, Limit};
use shuttle::thread;

fn in_many_orders(play: fn()) {
    let orders = std::env::var("HALFOPEN_SHUTTLE_ORDERS");
    let orders = orders.map_or(3000, |orders| orders.parse().expect("a number"));
    shuttle::check_random(play, orders);
    shuttle::check_pct(play, orders, 3);
}

/// Whether these are all the same, and returns it.
fn one_error(errors: &[ErrorCode]) -> ErrorCode {
    let first = errors.first().expect("an error");
    assert!(errors.iter().all(|error| error == first), "{errors:?}");
    first.clone()
}

#[test]
fn a_reset_by_the_peer_is_one_error_and_no_end() {
    in_many_orders(|| {
        let connection = Connection::open();
        let reader = connection.start(|connection| connection.receive_all());
        let writer = connection.start(|connection| connection.send(8));
        let receiving = connection.start(|connection| connection.receiving_failed());
        let sending = connection.start(|connection| connection.sending_failed());
        connection.kernel.arrive(b"before");
        connection.kernel.make_room(5);
        connection.kernel.reset();
        let (received, end) = reader.join().unwrap();
        assert!(b"before".starts_with(&received[..]), "{received:?}");
        let error = one_error(&[
            end.expect_err("EOF, and the peer sent no FIN"),
            writer.join().unwrap().expect_err("there was no room"),
            receiving.join().unwrap(),
            sending.join().unwrap(),
        ]);
        assert_eq!(error, ErrorCode::ConnectionReset);
        assert_eq!(connection.receive_again(), Err(error));
        connection.outside().has_ended();
        assert_eq!(
            connection.outside().ending().as_deref(),
            Some("reset-by-peer")
        );
        assert_eq!(connection.kernel.resets(), 0);
    });
}

#[test]
fn a_reset_by_the_peer_is_noticed_if_nobody_waits() {
    in_many_orders(|| {
        let connection = Connection::open();
        let peer = connection.kernel.clone();
        let peer = thread::spawn(move || peer.reset());
        let registry = connection.start(|connection| {
            while connection.outside().guard_drops() == 0 {
                connection.enforce();
                thread::yield_now();
            }
        });
        peer.join().unwrap();
        registry.join().unwrap();
        connection.outside().has_ended();
        assert_eq!(connection.receive_again(), Err(ErrorCode::ConnectionReset));
        assert_eq!(
            connection.outside().ending().as_deref(),
            Some("reset-by-peer")
        );
    });
}

#[test]
fn both_ends_end_the_connection_though_its_handle_is_held() {
    in_many_orders(|| {
        let connection = Connection::open();
        let reader = connection.start(|connection| connection.receive_all());
        let writer = connection.start(|connection| {
            connection.send(8)?;
            connection.finish()
        });
        let registry = connection.start(|connection| connection.enforce());
        connection.kernel.arrive(b"some");
        connection.kernel.make_room(3);
        connection.kernel.arrive(b"data");
        connection.kernel.end();
        connection.kernel.make_room(100);
        let (received, end) = reader.join().unwrap();
        assert_eq!((&received[..], end), (&b"somedata"[..], Ok(())));
        assert_eq!(writer.join().unwrap(), Ok(()));
        registry.join().unwrap();
        connection.outside().has_ended();
        assert_eq!(connection.receive_again(), Ok(0));
        assert_eq!(connection.outside().ending(), None);
        assert_eq!(connection.kernel.sent(), 8);
        assert!(connection.kernel.finished());
        assert_eq!(connection.kernel.resets(), 0);
    });
}

#[test]
fn the_first_abort_is_the_error_and_sends_one_reset() {
    in_many_orders(|| {
        let connection = Connection::open();
        let reader = connection.start(|connection| connection.receive_all().1);
        let writer = connection.start(|connection| connection.send(8));
        let receiving = connection.start(|connection| connection.receiving_failed());
        let registry = connection.start(|connection| {
            connection.enforce();
            connection.abort(Ending::Limit(Limit::Idle));
        });
        connection.abort(Ending::Stopped);
        connection.outside().has_ended();
        registry.join().unwrap();
        let error = one_error(&[
            reader
                .join()
                .unwrap()
                .expect_err("EOF, and the peer sent no FIN"),
            writer.join().unwrap().expect_err("there was no room"),
            receiving.join().unwrap(),
        ]);
        let ending = connection.outside().ending();
        match ending.as_deref() {
            Some("stopped") => assert_eq!(error, ErrorCode::ConnectionAborted),
            Some("limit-idle") => assert_eq!(error, ErrorCode::Timeout),
            other => panic!("{other:?}"),
        }
        connection.outside().has_ended();
        assert_eq!(connection.kernel.resets(), 1);
        assert!(!connection.kernel.finished());
    });
}

#[test]
fn an_abort_and_a_reset_by_the_peer_have_one_cause() {
    in_many_orders(|| {
        let connection = Connection::open();
        let reader = connection.start(|connection| connection.receive_all().1);
        let sending = connection.start(|connection| connection.sending_failed());
        let aborting = connection.start(|connection| connection.abort(Ending::Limit(Limit::Age)));
        connection.kernel.arrive(b"data");
        connection.kernel.reset();
        let error = one_error(&[
            reader
                .join()
                .unwrap()
                .expect_err("EOF, and the peer sent no FIN"),
            sending.join().unwrap(),
        ]);
        aborting.join().unwrap();
        let cause = match error {
            ErrorCode::Timeout => "limit-age",
            ErrorCode::ConnectionReset => "reset-by-peer",
            other => panic!("{other:?}"),
        };
        assert_eq!(connection.outside().ending().as_deref(), Some(cause));
        connection.outside().has_ended();
        assert!(connection.kernel.resets() <= 1);
    });
}

#[test]
fn a_reset_after_the_peers_end_is_an_error_of_the_other_direction() {
    in_many_orders(|| {
        let connection = Connection::open();
        let reader = connection.start(|connection| connection.receive_all());
        let writer = connection.start(|connection| connection.send(8));
        let sending = connection.start(|connection| connection.sending_failed());
        connection.kernel.arrive(b"data");
        connection.kernel.end();
        connection.kernel.reset();
        let (received, end) = reader.join().unwrap();
        let error = one_error(&[
            writer.join().unwrap().expect_err("there was no room"),
            sending.join().unwrap(),
        ]);
        assert_eq!(error, ErrorCode::ConnectionBroken);
        match end {
            Ok(()) => assert_eq!(received, b"data"),
            Err(seen) => assert_eq!(seen, error),
        }
        connection.outside().has_ended();
        assert_eq!(connection.outside().ending().as_deref(), Some("error"));
    });
}

#[test]
fn a_finish_and_a_reset_by_the_peer_report_once() {
    in_many_orders(|| {
        let connection = Connection::open();
        let finisher = connection.start(|connection| connection.finish());
        let again = connection.start(|connection| connection.finish());
        let reader = connection.start(|connection| connection.receive_all().1);
        connection.kernel.reset();
        let error = reader
            .join()
            .unwrap()
            .expect_err("EOF, and the peer sent no FIN");
        assert_eq!(error, ErrorCode::ConnectionReset);
        for finished in [finisher.join().unwrap(), again.join().unwrap()] {
            assert!(
                finished.is_ok() || finished == Err(error.clone()),
                "{finished:?}"
            );
        }
        connection.outside().has_ended();
        assert_eq!(
            connection.outside().ending().as_deref(),
            Some("reset-by-peer")
        );
    });
}

#[test]
fn handles_that_are_dropped_while_the_connection_ends_end_it_once() {
    in_many_orders(|| {
        let connection = Connection::open();
        let outside = connection.outside();
        let kernel = connection.kernel.clone();
        let reader = connection.start(drop);
        let writer = connection.start(|connection| drop(connection.finish()));
        let registry = connection.start(|connection| connection.enforce());
        let aborting = connection.start(|connection| connection.abort(Ending::Reset));
        drop(connection);
        kernel.end();
        kernel.reset();
        for thread in [reader, writer, registry, aborting] {
            thread.join().unwrap();
        }
        outside.has_ended();
    });
}
