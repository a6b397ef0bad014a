//! Data that is written, and that the kernel has not taken.

use std::collections::VecDeque;

/// The size of a block, in bytes.
const BLOCK: usize = 64 * 1024;
/// The size of the smallest block.
const SMALL: usize = 1024;

/// Bytes in the order in which they were written. They lie in blocks, which do not move, so
/// that a queue takes no more memory than its bytes and a block.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// None of them is empty.
    blocks: VecDeque<Vec<u8>>,
    /// How many bytes of the first block are gone.
    gone: usize,
    length: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn push(&mut self, mut data: &[u8]) {
        self.length += data.len();
        if let Some(last) = self.blocks.back_mut() {
            let room = last.capacity() - last.len();
            let (fits, rest) = data.split_at(room.min(data.len()));
            last.extend_from_slice(fits);
            data = rest;
        }
        while !data.is_empty() {
            let (first, rest) = data.split_at(data.len().min(BLOCK));
            // While little waits, little is set aside.
            let size = match self.blocks.is_empty() {
                true => first.len().next_power_of_two().max(SMALL),
                false => BLOCK,
            };
            let mut block = Vec::with_capacity(size.min(BLOCK));
            block.extend_from_slice(first);
            self.blocks.push_back(block);
            data = rest;
        }
    }

    /// Returns the first bytes; none if the queue is empty. They stay the first ones, whatever
    /// is pushed, until [`advance`](Self::advance).
    pub(super) fn front(&self) -> &[u8] {
        self.blocks.front().map_or(&[], |block| &block[self.gone..])
    }

    /// Removes the first bytes, no more than [`front`](Self::front) returns.
    pub(super) fn advance(&mut self, length: usize) {
        self.gone += length;
        self.length -= length;
        let all = |block: &Vec<u8>| block.len() == self.gone;
        if self.blocks.front().is_some_and(all) {
            self.blocks.pop_front();
            self.gone = 0;
        }
        if self.blocks.is_empty() {
            // Idle sockets keep no memory.
            *self = Queue::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What comes out is what went in, and the memory is that of the bytes and a block.
        #[test]
        fn nothing_is_lost_or_reordered(
            steps in prop::collection::vec((any::<bool>(), 0..200_000_usize), 1..60)
        ) {
            let mut queue = Queue::default();
            let (mut pushed, mut popped) = (0_usize, 0_usize);
            for (pushes, size) in steps {
                if pushes {
                    let data: Vec<u8> = (pushed..pushed + size).map(|i| (i % 251) as u8).collect();
                    let before = queue.front().to_vec();
                    queue.push(&data);
                    pushed += size;
                    prop_assert!(queue.front().starts_with(&before));
                } else {
                    let front = queue.front();
                    let length = size.min(front.len());
                    for (at, byte) in front[..length].iter().enumerate() {
                        prop_assert_eq!(*byte, ((popped + at) % 251) as u8);
                    }
                    queue.advance(length);
                    popped += length;
                }
                prop_assert_eq!(queue.len(), pushed - popped);
                prop_assert_eq!(queue.len() == 0, queue.front().is_empty());
                let memory: usize = queue.blocks.iter().map(Vec::capacity).sum();
                prop_assert!(memory <= queue.len() + 2 * BLOCK, "{memory} for {}", queue.len());
            }
        }
    }
}
