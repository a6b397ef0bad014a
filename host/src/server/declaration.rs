//! The isolation that a service declares, and how it is run.

use std::fmt;
use std::num::NonZeroUsize;

use super::dispatch::Isolation;
use crate::runtime::component::Declared;

impl From<Declared> for Isolation {
    fn from(declared: Declared) -> Self {
        match declared {
            Declared::Connection => Isolation::Connection,
            Declared::Shared => Isolation::Shared,
        }
    }
}

/// A service is run in another way than it declares: it works, but its connections share
/// less or more than its author expects.
///
/// Its text says what the service declares and what it gets instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The component's name.
    name: String,
    declared: Declared,
    isolation: Isolation,
    workers: usize,
}

impl Contradiction {
    /// Compares what a service declares with how it is run.
    pub(super) fn find(
        name: &str,
        declared: Option<Declared>,
        isolation: Isolation,
        workers: Option<NonZeroUsize>,
    ) -> Option<Self> {
        let declared = declared?;
        let workers = workers.map_or(1, NonZeroUsize::get);
        let fits = match declared {
            Declared::Connection => isolation == Isolation::Connection,
            Declared::Shared => isolation == Isolation::Shared && workers == 1,
        };
        (!fits).then(|| Contradiction {
            name: name.to_owned(),
            declared,
            isolation,
            workers,
        })
    }
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, declared) = (&self.name, self.declared);
        let wants = match declared {
            Declared::Connection => "an instance of its own for each connection",
            Declared::Shared => "one instance for all connections",
        };
        write!(
            f,
            "`{name}` declares the isolation `{declared}`, {wants}; as configured, "
        )?;
        match (self.isolation, self.workers) {
            (Isolation::Connection, _) => {
                f.write_str("each connection has an instance of its own, and they share nothing")
            }
            (Isolation::Shared, 1) => f.write_str("one instance serves all connections"),
            (Isolation::Shared, workers) => write!(
                f,
                "{workers} instances share the connections, and not their state"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_a_declaration() {
        let find = |declared, isolation, workers: usize| {
            let workers = NonZeroUsize::new(workers);
            Contradiction::find("chat", declared, isolation, workers).map(|found| found.to_string())
        };
        use Isolation::{Connection, Shared};
        for (isolation, workers) in [(Connection, 0), (Shared, 0), (Shared, 2)] {
            assert_eq!(find(None, isolation, workers), None);
        }
        let shared = Some(Declared::Shared);
        assert_eq!(find(shared, Shared, 0), None);
        assert_eq!(find(shared, Shared, 1), None);
        let split = find(shared, Shared, 2).unwrap();
        assert!(split.ends_with("2 instances share the connections, and not their state"));
        assert!(find(shared, Connection, 0).unwrap().contains("`shared`"));
        let connection = Some(Declared::Connection);
        assert_eq!(find(connection, Connection, 0), None);
        let mixed = find(connection, Shared, 0).unwrap();
        assert!(mixed.ends_with("one instance serves all connections"));
    }
}
