//! Those who watch connections come and go on several threads, while connections report and end.
//! A wake-up that is lost shows as a deadlock, which the scheduler reports with the order that led
//! to it. Each test tries 1,000 orders of each kind, or `HALFOPEN_SHUTTLE_ORDERS`, as for `races`.

use halfopen_shuttle::events::play::{Process, Reporting, Watcher};
use shuttle::thread::{self, JoinHandle};

fn in_many_orders(play: impl Fn() + Clone + Send + Sync + 'static) {
    let orders = std::env::var("HALFOPEN_SHUTTLE_ORDERS");
    let orders = orders.map_or(1000, |orders| orders.parse().expect("a number"));
    shuttle::check_random(play.clone(), orders);
    shuttle::check_pct(play, orders, 3);
}

/// A connection on a thread of its own, which reports so often, and ends.
fn start(process: &Process, id: u64, reports: usize) -> JoinHandle<()> {
    let connection = process.connect(id);
    thread::spawn(move || report(connection, reports))
}

fn report(connection: Reporting, reports: usize) {
    for _ in 0..reports {
        connection.report();
    }
    connection.end();
}

/// Somebody who comes to watch, hears what there is, and goes.
fn visit(process: &Process) -> JoinHandle<()> {
    let process = process.clone();
    thread::spawn(move || {
        let mut watcher = process.watch();
        watcher.hear().is_whole();
    })
}

#[test]
fn who_watches_all_the_time_hears_everything_and_is_woken_for_it() {
    in_many_orders(|| {
        let process = Process::begin();
        let mut watcher = process.watch();
        let connections = [start(&process, 1, 2), start(&process, 2, 1)];
        let visits = [visit(&process), visit(&process)];
        let heard = watcher.wait_for(2);
        heard.is_whole();
        assert_eq!(heard.events.len(), 3 + 2, "{heard:?}");
        assert_eq!(heard.events[0].0, 1, "{heard:?}");
        for thread in connections.into_iter().chain(visits) {
            thread.join().unwrap();
        }
        assert_eq!(watcher.hear().events.len(), 5);
    });
}

#[test]
fn two_who_wait_are_both_woken() {
    in_many_orders(|| {
        let process = Process::begin();
        let watchers = [process.watch(), process.watch()];
        let waiting = watchers.map(|mut watcher| {
            thread::spawn(move || {
                watcher.wait_for(2).is_whole();
            })
        });
        let connections = [start(&process, 1, 1), start(&process, 2, 0)];
        for thread in connections.into_iter().chain(waiting) {
            thread.join().unwrap();
        }
    });
}

/// Nobody else watches: connections keep nothing, and begin to report in their midst.
#[test]
fn who_comes_in_the_midst_hears_the_end_of_each_connection_that_it_finds() {
    in_many_orders(|| {
        let process = Process::begin();
        let connections = [start(&process, 1, 2), start(&process, 2, 2)];
        let mut watcher = process.watch();
        for connection in connections {
            connection.join().unwrap();
        }
        heard_to_the_end(&mut watcher);
    });
}

/// Between two who watch there is a moment in which nobody does, and in which threads may still add
/// events for the one who has gone.
#[test]
fn who_follows_another_misses_nothing_from_the_first_event_on() {
    in_many_orders(|| {
        let process = Process::begin();
        let before = process.watch();
        let connections = [start(&process, 1, 2), start(&process, 2, 2)];
        drop(before);
        let mut watcher = process.watch();
        for connection in connections {
            connection.join().unwrap();
        }
        heard_to_the_end(&mut watcher);
    });
}

#[test]
fn who_comes_while_others_come_and_go_misses_nothing_either() {
    in_many_orders(|| {
        let process = Process::begin();
        let connections = [start(&process, 1, 2), start(&process, 2, 2)];
        let visits = [visit(&process), visit(&process)];
        let mut watcher = process.watch();
        for thread in connections.into_iter().chain(visits) {
            thread.join().unwrap();
        }
        heard_to_the_end(&mut watcher);
    });
}

/// Checks what a watcher has heard of connections that have all ended by now.
fn heard_to_the_end(watcher: &mut Watcher) {
    let heard = watcher.hear();
    heard.is_whole();
    let of_events = heard.events.iter().map(|(_, connection, _)| connection);
    for connection in of_events.chain(&heard.found) {
        assert!(
            heard.has_ended(*connection),
            "the end of {connection} is missing: {heard:?}"
        );
    }
}

#[test]
fn what_is_lost_is_told() {
    in_many_orders(|| {
        let process = Process::begin();
        let mut watcher = process.watch();
        // A ring holds 8 events, and there are two.
        let connections = [start(&process, 1, 12), start(&process, 2, 9)];
        let visit = visit_lossy(&process);
        watcher.hear().is_lawful();
        for thread in connections.into_iter().chain([visit]) {
            thread.join().unwrap();
        }
        let heard = watcher.hear();
        heard.is_lawful();
        let events = heard.events.len() as u64 + heard.lost;
        assert_eq!(events, 13 + 10, "{heard:?}");
    });
}

/// Somebody who may come when the rings have lost what they had.
fn visit_lossy(process: &Process) -> JoinHandle<()> {
    let process = process.clone();
    thread::spawn(move || {
        let mut watcher = process.watch();
        watcher.hear().is_lawful();
    })
}
