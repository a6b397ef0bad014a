//! The log of what a component is denied.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::noise::Noise;

/// How long a denial that was logged is not logged again: a component that tries an address
/// over and over tells its operator nothing new.
const REPEAT: Duration = Duration::from_secs(3600);

/// Logs what was denied to a component: each text once an hour, and only so many lines at a
/// time.
#[derive(Debug)]
pub(super) struct Denials {
    noise: Arc<Noise>,
    /// What was logged, and when. The rate of lines bounds how much that is.
    logged: Mutex<HashMap<String, Instant>>,
}

impl Denials {
    /// Limits the lines about a service, or about a program.
    pub(super) fn of(service: Option<String>) -> Self {
        Denials {
            noise: Noise::of(service, "denials"),
            logged: Mutex::default(),
        }
    }

    /// Logs a denial by calling `log`, unless it was logged before. The text names what was
    /// denied, the address and the reason.
    pub(super) fn log(&self, denied: &str, log: impl FnOnce()) {
        let now = Instant::now();
        let recent = |logged: &Instant| now - *logged < REPEAT;
        if self.logged().get(denied).is_some_and(recent) {
            return;
        }
        self.noise.log(|| {
            let mut logged = self.logged();
            logged.retain(|_, when| recent(when));
            logged.insert(denied.to_owned(), now);
            drop(logged);
            log();
        });
    }

    fn logged(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::Denied;

    fn logged(denials: &Denials, address: &str) -> bool {
        let denied = Denied::connect(address.parse().unwrap());
        let mut logged = false;
        denials.log(&denied.to_string(), || logged = true);
        logged
    }

    #[test]
    fn each_address_is_logged_once() {
        let denials = Denials::of(None);
        assert!(logged(&denials, "192.0.2.1:80"));
        for _ in 0..1000 {
            assert!(!logged(&denials, "192.0.2.1:80"));
        }
        // What is not logged takes no room from the rest.
        assert!(logged(&denials, "192.0.2.1:81"));
        let listen = Denied::Listen("192.0.2.1:80".parse().unwrap());
        let mut other = false;
        denials.log(&listen.to_string(), || other = true);
        assert!(other);
    }

    #[test]
    fn many_addresses_make_few_lines() {
        let denials = Denials::of(None);
        let address = |number: u16| format!("192.0.2.1:{number}");
        let lines = (0..20_000).filter(|&number| logged(&denials, &address(number)));
        let lines = lines.count();
        assert!((1..100).contains(&lines), "{lines}");
        assert_eq!(denials.logged.lock().unwrap().len(), lines);
    }
}
