//! Values by numbers that are never used again.

use std::fmt;

/// Values by number. A number stands for one value for ever: it is used again only after
/// all others have been, some four thousand million later (rule K10).
///
/// Numbers ascend from 1. A value lies where the low bits of its number say, and a number
/// whose place is taken is left out, so finding a value takes one look.
///
/// ```
/// use halfopen_model::Table;
///
/// let mut table = Table::default();
/// let first = table.add(|number| format!("socket {number}"));
/// assert_eq!(table.get(first).unwrap(), "socket 1");
/// table.remove(first);
/// assert_ne!(table.add(|_| String::new()), first);
/// assert_eq!(table.get(first), None);
/// ```
pub struct Table<T> {
    /// As many as a power of two, or none.
    slots: Vec<Option<(u32, T)>>,
    length: usize,
    last: u32,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            slots: Vec::new(),
            length: 0,
            last: 0,
        }
    }
}

impl<T> Table<T> {
    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns the value of a number, if there is one.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&T> {
        match self.slots.get(self.place(number))? {
            Some((found, value)) if *found == number => Some(value),
            _ => None,
        }
    }

    /// Returns the value of a number, to change it.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let place = self.place(number);
        match self.slots.get_mut(place)? {
            Some((found, value)) if *found == number => Some(value),
            _ => None,
        }
    }

    /// Adds a value, which is made of its number; returns the number.
    pub fn add(&mut self, make: impl FnOnce(u32) -> T) -> u32 {
        if (self.length + 1) * 2 > self.slots.len() {
            self.grow();
        }
        loop {
            self.last = self.last.wrapping_add(1);
            let place = self.place(self.last);
            if self.last != 0 && self.slots[place].is_none() {
                self.slots[place] = Some((self.last, make(self.last)));
                self.length += 1;
                return self.last;
            }
        }
    }

    /// Removes and returns the value of a number.
    pub fn remove(&mut self, number: u32) -> Option<T> {
        let place = self.place(number);
        let (_, value) = self
            .slots
            .get_mut(place)?
            .take_if(|(found, _)| *found == number)?;
        self.length -= 1;
        Some(value)
    }

    /// Takes a value out whose number stays in use; [`give_back`](Self::give_back) has to put
    /// it back before anything else is done with the table.
    pub fn lend(&mut self, number: u32) -> Option<T> {
        let place = self.place(number);
        let lent = self
            .slots
            .get_mut(place)?
            .take_if(|(found, _)| *found == number)?;
        Some(lent.1)
    }

    /// Puts a value back that [`lend`](Self::lend) has returned.
    pub fn give_back(&mut self, number: u32, value: T) {
        let place = self.place(number);
        self.slots[place] = Some((number, value));
    }

    /// Returns the place of a number. It may be outside of an empty table.
    fn place(&self, number: u32) -> usize {
        number as usize & self.slots.len().wrapping_sub(1)
    }

    /// Doubles the places. Two numbers that lie in different places do so afterwards, too.
    fn grow(&mut self) {
        let length = (self.slots.len() * 2).max(2);
        let slots = std::mem::take(&mut self.slots);
        self.slots.resize_with(length, || None);
        for slot in slots.into_iter().flatten() {
            let place = self.place(slot.0);
            self.slots[place] = Some(slot);
        }
    }
}

impl<T> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("length", &self.length)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_table_has_nothing() {
        let mut table = Table::<()>::default();
        for number in [0, 1, u32::MAX] {
            assert_eq!(table.get(number), None);
            assert_eq!(table.remove(number), None);
        }
    }

    #[test]
    fn numbers_begin_again_and_leave_out_zero_and_what_is_in_use() {
        let mut table = Table::default();
        assert_eq!(table.add(|_| 'a'), 1);
        table.last = u32::MAX - 1;
        assert_eq!(table.add(|_| 'b'), u32::MAX);
        assert_eq!(table.add(|_| 'c'), 2);
        assert_eq!(table.get(1), Some(&'a'));
    }

    proptest! {
        /// Adds, and removes what was added so many steps ago, as a map does.
        #[test]
        fn it_holds_what_a_map_holds(steps in prop::collection::vec(any::<(bool, u8)>(), 1..400)) {
            let mut table = Table::default();
            let mut model = HashMap::new();
            let mut given = Vec::new();
            for (adds, which) in steps {
                if adds {
                    let number = table.add(|number| number);
                    prop_assert!(!given.contains(&number), "{number} twice");
                    given.push(number);
                    model.insert(number, number);
                } else if let Some(&number) = given.get(usize::from(which) % given.len().max(1)) {
                    prop_assert_eq!(table.remove(number), model.remove(&number));
                }
                prop_assert_eq!(table.len(), model.len());
                for number in &given {
                    prop_assert_eq!(table.get(*number), model.get(number));
                }
            }
        }
    }
}
