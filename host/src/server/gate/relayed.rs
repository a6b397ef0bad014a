//! Connections that another server has parted with.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Gate;
use crate::server::passed::Passed;
use crate::server::visit::Visit;
use crate::tcp::Ending;

impl Gate {
    /// Goes on with a connection of another server: without the service, by passing on its bytes.
    /// It counts as one, beyond the limits if it has to.
    pub(in crate::server) fn go_on(self: Arc<Self>, passed: Passed) {
        let (peer, age) = (passed.peer(), passed.age());
        let Some((parted, leaving)) = passed.take() else {
            return;
        };
        let mut visit = Visit::go_on(&parted.accepted, peer, age, self.observers.clone());
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            visit.places.peer = self.admission.go_on(peer);
            self.accepted.fetch_add(1, Ordering::Relaxed);
            visit.accepted();
            let began = visit.began();
            let relay = match visit.relay(parted, self.tasks.connections()) {
                Ok(relay) => relay,
                Err(error) => return self.observers.journal().lost(peer, &error),
            };
            let passing = relay.passing().clone();
            let killed = async {
                self.tasks.killed().await;
                // Before the pumps are dropped, which would send FIN.
                relay.abort(&Ending::Stopped);
            };
            tokio::select! {
                () = relay.run() => {}
                () = self.tasks.handed_over(&passing, peer, began) => {}
                () = killed => {}
                // New connections wait while this one has a place.
                () = self.room.occupy() => {}
            }
        });
        // Only now does the server that waits for its connections have another one to wait for.
        drop(leaving);
    }
}
