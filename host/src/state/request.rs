//! What a component asks of a bucket.

use std::collections::{BTreeMap, BTreeSet};

use super::StateError;

/// A change of a bucket. It takes place as a whole or not at all.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Sets keys to values.
    Set(BTreeMap<String, Vec<u8>>),
    /// Deletes keys, as far as they are there.
    Delete(BTreeSet<String>),
    /// Adds to a number.
    Increment { key: String, delta: i64 },
    /// Sets a key if it has this value, or none.
    Swap {
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    },
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    Done,
    /// The sum.
    Number(i64),
    /// The key has another value than expected: this one.
    Otherwise(Option<Vec<u8>>),
}

/// Some keys of a bucket, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) keys: Vec<String>,
    /// Whether there may be more keys behind the last one.
    pub(super) more: bool,
}

/// Adds to a number in its decimal form; no value counts as 0.
pub(super) fn sum(value: Option<&[u8]>, delta: i64) -> Result<i64, StateError> {
    let number = match value {
        None => 0,
        Some(bytes) => number(bytes).ok_or(StateError::NotANumber)?,
    };
    number.checked_add(delta).ok_or(StateError::Overflow)
}

/// Reads a number that is written as `to_string` writes it, and as Redis reads it.
fn number(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_are_added() {
        assert_eq!(sum(None, -3), Ok(-3));
        assert_eq!(sum(Some(b"40"), 2), Ok(42));
        let least = i64::MIN.to_string();
        assert_eq!(sum(Some(least.as_bytes()), i64::MAX), Ok(-1));
        assert_eq!(sum(Some(least.as_bytes()), -1), Err(StateError::Overflow));
        for wrong in [
            "",
            "+1",
            "01",
            "-0",
            " 1",
            "1 ",
            "1.0",
            "x",
            "9223372036854775808",
        ] {
            let sum = sum(Some(wrong.as_bytes()), 1);
            assert_eq!(sum, Err(StateError::NotANumber), "{wrong:?}");
        }
    }
}
