//! Whether the bytes that a connection passes on to another come in large amounts.

use super::sizes::LARGE;

/// The flow of bytes from one connection to another. While much comes at a time, it is moved
/// inside the kernel; copying is cheaper for less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flow {
    /// Little comes at a time.
    #[default]
    Small,
    /// Much comes at a time: so much was moved since there was last nothing to receive.
    Large(usize),
    /// Much was moved, and nothing seems to be left: receiving shows whether there is more.
    Drained,
}

impl Flow {
    /// Whether what comes next is to be moved inside the kernel.
    pub(super) fn is_large(self) -> bool {
        matches!(self, Flow::Large(_))
    }

    /// Records that so much was received at a time.
    pub(super) fn received(&mut self, length: usize) {
        *self = match self {
            // It came after the last look.
            Flow::Drained => Flow::Large(length),
            _ if length >= LARGE => Flow::Large(length),
            _ => Flow::Small,
        };
    }

    /// Records that so much was moved inside the kernel; 0 if nothing could be. Only then
    /// nothing seems to be left: the kernel may also move less than there is.
    pub(super) fn moved(&mut self, length: usize) {
        *self = match *self {
            Flow::Large(moved) if length > 0 => Flow::Large(moved.saturating_add(length)),
            Flow::Large(LARGE..) => Flow::Drained,
            _ => Flow::Small,
        };
    }

    /// Records that there is nothing to receive.
    pub(super) fn waits(&mut self) {
        if *self == Flow::Drained {
            *self = Flow::Large(0);
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
        for _ in 0..2 {
            assert!(flow.is_large());
            // A part, and another one.
            flow.moved(LARGE - 1);
            assert!(flow.is_large());
            flow.moved(1);
            flow.moved(0);
            assert!(!flow.is_large(), "receiving has its turn");
            flow.waits();
        }
        flow.moved(LARGE - 1);
        flow.moved(0);
        flow.waits();
        assert!(!flow.is_large());
    }

    #[test]
    fn what_comes_between_two_looks_is_no_end_of_much() {
        let mut flow = Flow::default();
        flow.received(LARGE);
        flow.moved(0);
        flow.received(1);
        assert!(flow.is_large());
        flow.moved(0);
        assert!(!flow.is_large());
        flow.received(1);
        assert!(!flow.is_large());
    }
}
