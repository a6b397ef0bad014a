//! Reset, read, write and close on several threads, in many orders. A wake-up that is lost
//! shows as a deadlock, which the scheduler reports with the order that led to it.
//!
//! Each test tries 3,000 random orders, and as many with few switches at chosen places
//! (probabilistic concurrency testing), or `HALFOPEN_SHUTTLE_ORDERS` of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use halfopen_shuttle::tcp::play::Connection;
use halfopen_shuttle::tcp::{Ending, ErrorCode, Limit};
use shuttle::thread;

fn in_many_orders(play: impl Fn() + Clone + Send + Sync + 'static) {
    let orders = std::env::var("HALFOPEN_SHUTTLE_ORDERS");
    let orders = orders.map_or(3000, |orders| orders.parse().expect("a number"));
    shuttle::check_random(play.clone(), orders);
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
        assert_eq!(connection.kernel.sent().len(), 8);
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

/// More than a read and a few moves inside the kernel take.
const MUCH: [u8; 40] = {
    let mut much = [0; 40];
    let mut at = 0;
    while at < much.len() {
        much[at] = at as u8;
        at += 1;
    }
    much
};

#[test]
fn much_is_moved_inside_the_kernel_and_counted_and_nothing_is_lost() {
    let spliced = Arc::new(AtomicUsize::new(0));
    let seen = spliced.clone();
    in_many_orders(move || {
        let (source, sink) = (Connection::open(), Connection::open());
        let onward = sink.clone();
        let moving = source.start(move |source| source.move_to(&onward));
        let back = source.clone();
        let returning = sink.start(move |sink| sink.move_to(&back));
        source.kernel.make_room(100);
        source.kernel.arrive(&MUCH[..23]);
        sink.kernel.make_room(17);
        sink.kernel.arrive(&MUCH);
        source.kernel.arrive(&MUCH[23..]);
        sink.kernel.make_room(4);
        source.kernel.end();
        sink.kernel.make_room(100);
        sink.kernel.end();
        assert_eq!(moving.join().unwrap(), (None, None));
        assert_eq!(returning.join().unwrap(), (None, None));
        for connection in [&source, &sink] {
            assert_eq!(connection.kernel.sent(), MUCH);
            let length = MUCH.len() as u64;
            assert_eq!(connection.counted(), (length, length));
            assert_eq!(connection.finish(), Ok(()));
            seen.fetch_add(connection.kernel.spliced(), Ordering::Relaxed);
        }
        source.outside().has_ended();
        sink.outside().has_ended();
    });
    assert!(spliced.load(Ordering::Relaxed) > 0, "nothing was spliced");
}

#[test]
fn a_reset_of_a_source_comes_behind_what_arrived_and_is_no_end() {
    in_many_orders(|| {
        let (source, sink) = (Connection::open(), Connection::open());
        let onward = sink.clone();
        let moving = source.start(move |source| source.move_to(&onward));
        sink.kernel.make_room(100);
        source.kernel.arrive(&MUCH);
        source.kernel.reset();
        let (error, of_sink) = moving.join().unwrap();
        assert_eq!(error, Some(ErrorCode::ConnectionReset));
        assert_eq!(of_sink, None);
        assert_eq!(sink.kernel.sent(), MUCH);
        assert_eq!(source.receive_again(), Err(ErrorCode::ConnectionReset));
        assert_eq!(source.counted().0, MUCH.len() as u64);
        source.outside().has_ended();
    });
}

/// A sink that is reset between two steps of splice(2) has taken the error out of the kernel
/// and returned none; reading from it must not see an end.
#[test]
fn a_reset_of_a_sink_is_one_error_also_if_splice_hides_it() {
    in_many_orders(|| {
        let (source, sink) = (Connection::open(), Connection::open());
        let onward = sink.clone();
        let moving = source.start(move |source| source.move_to(&onward));
        let reader = sink.start(|sink| sink.receive_all().1);
        let failing = sink.start(|sink| sink.sending_failed());
        source.kernel.arrive(&MUCH);
        sink.kernel.make_room(9);
        sink.kernel.make_room(9);
        sink.kernel.reset();
        let (of_source, error) = moving.join().unwrap();
        assert_eq!(of_source, None);
        let error = one_error(&[
            error.expect("there was no room"),
            reader
                .join()
                .unwrap()
                .expect_err("EOF, and the peer sent no FIN"),
            failing.join().unwrap(),
        ]);
        assert_eq!(error, ErrorCode::ConnectionReset);
        assert_eq!(sink.counted().1, sink.kernel.sent().len() as u64);
        sink.outside().has_ended();
    });
}

#[test]
fn a_connection_that_moves_to_itself_ends_as_one() {
    in_many_orders(|| {
        let connection = Connection::open();
        let moving = connection.start(|connection| connection.move_to(&connection));
        connection.kernel.make_room(13);
        connection.kernel.arrive(&MUCH);
        connection.kernel.make_room(100);
        connection.kernel.end();
        assert_eq!(moving.join().unwrap(), (None, None));
        assert_eq!(connection.kernel.sent(), MUCH);
        assert_eq!(connection.finish(), Ok(()));
        connection.outside().has_ended();
    });
}
