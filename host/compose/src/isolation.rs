//! The isolation that a component declares, by exporting an interface without functions.

use std::fmt;

use crate::{Error, Interfaces};

/// The interface that a service exports to declare [`Declared::Shared`].
pub const ISOLATION_SHARED: &str = "halfopen:tcp/isolation-shared@0.1.0";

/// The interface that a service exports to declare [`Declared::Connection`].
pub const ISOLATION_CONNECTION: &str = "halfopen:tcp/isolation-connection@0.1.0";

/// The isolation that a service declares to need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// Each connection has an instance of its own.
    Connection,
    /// One instance serves all connections.
    Shared,
}

impl Declared {
    /// The interface that declares it.
    #[must_use]
    pub fn interface(self) -> &'static str {
        match self {
            Declared::Connection => ISOLATION_CONNECTION,
            Declared::Shared => ISOLATION_SHARED,
        }
    }
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Declared::Connection => "connection",
            Declared::Shared => "shared",
        })
    }
}

impl Interfaces {
    /// Returns the isolation that a component with these exports declares; `None` if it
    /// declares none.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it declares both.
    pub fn isolation(&self) -> Result<Option<Declared>, Error> {
        let exports = |declared: &Declared| {
            let interface = declared.interface();
            self.exports.iter().any(|name| name == interface)
        };
        match [Declared::Connection, Declared::Shared].map(|declared| exports(&declared)) {
            [true, true] => Err(Error::Invalid(format!(
                "it exports both `{ISOLATION_CONNECTION}` and `{ISOLATION_SHARED}`, which exclude each other"
            ))),
            [true, false] => Ok(Some(Declared::Connection)),
            [false, true] => Ok(Some(Declared::Shared)),
            [false, false] => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_declares_the_isolation_and_two_exclude_each_other() {
        let of = |names: &[&str]| {
            let exports = names.iter().map(|&name| name.to_owned()).collect();
            Interfaces {
                exports,
                ..Interfaces::default()
            }
            .isolation()
        };
        assert_eq!(of(&[crate::HANDLER]).unwrap(), None);
        let shared = of(&[crate::HANDLER, ISOLATION_SHARED]);
        assert_eq!(shared.unwrap(), Some(Declared::Shared));
        let connection = of(&[ISOLATION_CONNECTION]);
        assert_eq!(connection.unwrap(), Some(Declared::Connection));
        let both = of(&[ISOLATION_CONNECTION, ISOLATION_SHARED]);
        assert!(both.unwrap_err().to_string().contains("exclude each other"));
    }
}
