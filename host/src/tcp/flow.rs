//! Whether the bytes that a connection passes on to another come in large amounts.

use super::sizes::LARGE;

/// The flow of bytes from one connection to another. While much comes at a time, it is moved
/// inside the kernel; copying is cheaper for less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flow {
    /// Little comes at a time.
    #[default]
    Small,
    /// Much comes at a time.
    Large,
    /// Much came, and nothing was left behind it: only receiving shows whether there is more.
    Drained,
}

impl Flow {
    /// Whether what comes next is to be moved inside the kernel.
    pub(super) fn is_large(self) -> bool {
        self == Flow::Large
    }

    /// Records that so much was received at a time.
    pub(super) fn received(&mut self, length: usize) {
        *self = match length >= LARGE {
            true => Flow::Large,
            false => Flow::Small,
        };
    }

    /// Records that so much was moved inside the kernel, of at most `most`.
    pub(super) fn moved(&mut self, length: usize, most: usize) {
        *self = match length {
            _ if length == most => Flow::Large,
            // Receiving shows whether there is nothing, or something that cannot be moved.
            0 | LARGE.. => Flow::Drained,
            _ => Flow::Small,
        };
    }

    /// Records that there is nothing to receive.
    pub(super) fn waits(&mut self) {
        if *self == Flow::Drained {
            *self = Flow::Large;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_at_a_time_is_moved_until_little_comes() {
        let mut flow = Flow::default();
        flow.received(LARGE - 1);
        assert!(!flow.is_large());
        flow.received(LARGE);
        assert!(flow.is_large());
        flow.moved(2 * LARGE, 2 * LARGE);
        assert!(flow.is_large());
        flow.moved(LARGE - 1, 2 * LARGE);
        assert!(!flow.is_large());
        flow.waits();
        assert!(!flow.is_large());
    }

    #[test]
    fn receiving_has_its_turn_when_little_may_be_left() {
        let mut flow = Flow::default();
        for moved in [0, LARGE] {
            flow.received(LARGE);
            flow.moved(moved, 2 * LARGE);
            assert!(!flow.is_large());
            flow.waits();
            assert!(flow.is_large(), "nothing was left");
            flow.moved(moved, 2 * LARGE);
            flow.received(1);
            flow.waits();
            assert!(!flow.is_large());
        }
    }
}
