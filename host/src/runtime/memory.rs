//! The memory of one instance: all that it may make the host allocate for it.

use std::mem::size_of;

use wasmtime::ResourceLimiter;

/// What the host allocates for one handle of a guest, at most, in bytes: the entry in
/// wasmtime's tables, which double when they are full, and the resource, stream or future
/// behind it. The most was measured with streams, on a machine of 64 bits.
const HANDLE: usize = 400;

/// Adds up the linear memories and tables of one instance, and what its handles may take.
#[derive(Debug)]
pub(super) struct Memory {
    limit: usize,
    used: usize,
    /// What the last growth added, which may still fail.
    last: usize,
    handles: usize,
}

impl Memory {
    /// Allows `limit` bytes, and `handles` handles or as many as fit into `part` of the bytes,
    /// which is one in this many. What the handles may take is set aside at once.
    pub(super) fn new(limit: usize, handles: usize, part: usize) -> Self {
        let handles = handles.min(limit / part / HANDLE);
        Memory {
            limit,
            used: handles * HANDLE,
            last: 0,
            handles,
        }
    }

    /// Returns how many handles the instance may have.
    pub(super) fn handles(&self) -> usize {
        self.handles
    }

    fn grow(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
        unit: usize,
    ) -> bool {
        self.last = 0;
        let more = desired.saturating_sub(current).saturating_mul(unit);
        let grown = self.used.saturating_add(more);
        if grown > self.limit || maximum.is_some_and(|maximum| desired > maximum) {
            return false;
        }
        self.used = grown;
        self.last = more;
        true
    }

    fn failed(&mut self) {
        self.used -= std::mem::take(&mut self.last);
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, maximum, 1))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, maximum, size_of::<usize>()))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 65_536;

    #[test]
    fn memories_tables_and_handles_add_up() {
        let mut memory = Memory::new(10 * PAGE, 150, 4);
        assert_eq!(memory.handles(), 150);
        // The handles take 60,000 bytes.
        assert!(memory.memory_growing(0, 4 * PAGE, None).unwrap());
        assert!(memory.memory_growing(0, 4 * PAGE, None).unwrap());
        assert!(!memory.memory_growing(4 * PAGE, 6 * PAGE, None).unwrap());
        assert!(
            memory
                .table_growing(0, (2 * PAGE - 60_000) / 8, None)
                .unwrap()
        );
        assert!(!memory.table_growing(0, 1, None).unwrap());
    }

    #[test]
    fn a_growth_that_fails_takes_nothing() {
        let mut memory = Memory::new(2 * PAGE, 0, 4);
        assert!(!memory.memory_growing(0, 2 * PAGE, Some(PAGE)).unwrap());
        memory
            .memory_grow_failed(wasmtime::Error::msg("maximum"))
            .unwrap();
        assert!(memory.memory_growing(0, 2 * PAGE, None).unwrap());
        memory
            .memory_grow_failed(wasmtime::Error::msg("mmap"))
            .unwrap();
        assert!(memory.memory_growing(0, 2 * PAGE, None).unwrap());
    }

    #[test]
    fn handles_take_no_more_than_their_part() {
        let memory = Memory::new(1 << 20, 100_000, 4);
        assert_eq!(memory.handles(), (1 << 18) / HANDLE);
        assert!(memory.used <= 1 << 18);
    }
}
