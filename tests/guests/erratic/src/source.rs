//! Where decisions come from.

use std::collections::VecDeque;

use fastrand::Rng;

/// A source of decisions: given bytes and, after these, a generator if there is one. Without
/// either every decision is 0, which is to do nothing.
#[derive(Default)]
pub(crate) struct Source {
    given: VecDeque<u8>,
    random: Option<Rng>,
}

impl Source {
    /// Adds what a connection brings: a script or, without one, its seed.
    pub(crate) fn add(&mut self, script: &[u8], seed: u64) {
        if script.is_empty() {
            let before = self.random.as_mut().map_or(0, |random| random.u64(..));
            self.random = Some(Rng::with_seed(before ^ seed));
        } else {
            self.given.extend(script);
        }
    }

    /// A number below `end`, which is at most 2^24.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        if self.given.is_empty() {
            return self.random.as_mut().map_or(0, |random| random.u32(..end));
        }
        let mut number = 0;
        let mut range = 1;
        while range < end {
            number = number << 8 | u32::from(self.given.pop_front().unwrap_or(0));
            range <<= 8;
        }
        number % end
    }
}
