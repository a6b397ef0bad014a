//! What a component is, by what it imports and exports.

use std::fmt;

use wit_component::DecodedWasm;
use wit_parser::{WorldItem, WorldKey};

use crate::{Error, HANDLER};

/// How a component can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Exports `halfopen:tcp/handler`: the runtime accepts and calls it.
    Service,
    /// Exports `wasi:cli/run` and imports the primitives.
    Program,
    /// Exports `wasi:cli/run` and imports nothing but WASI.
    Command,
    /// Anything else.
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Service => "service",
            Kind::Program => "program on the primitives",
            Kind::Command => "plain WASI command",
            Kind::Other => "component of another world",
        })
    }
}

/// The names of what a component imports and exports, as in
/// `wasi:cli/run@0.3.0`, each list sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interfaces {
    /// What it needs.
    pub imports: Vec<String>,
    /// What it offers.
    pub exports: Vec<String>,
}

impl Interfaces {
    /// Reads them from a binary component.
    ///
    /// # Errors
    /// If it is none.
    pub fn of(component: &[u8]) -> Result<Self, Error> {
        let decoded = wit_component::decode(component)
            .map_err(|error| Error::Invalid(crate::one_line(&error)))?;
        let DecodedWasm::Component(resolve, world) = decoded else {
            return Err(Error::Invalid("a WIT package, not a component".to_owned()));
        };
        let world = &resolve.worlds[world];
        let names = |items: &mut dyn Iterator<Item = (&WorldKey, &WorldItem)>| {
            let mut names: Vec<String> = items
                .filter(|(_, item)| !matches!(item, WorldItem::Type { .. }))
                .map(|(key, _)| resolve.name_world_key(key))
                .collect();
            names.sort();
            names
        };
        Ok(Interfaces {
            imports: names(&mut world.imports.iter()),
            exports: names(&mut world.exports.iter()),
        })
    }

    /// What kind of component has these.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let exports = |prefix: &str| self.exports.iter().any(|name| name.starts_with(prefix));
        if self.exports.iter().any(|name| name == HANDLER) {
            Kind::Service
        } else if !exports("wasi:cli/run@0.3.0") && !exports("wasi:cli/run@0.2.") {
            Kind::Other
        } else if self.missing().is_some() {
            Kind::Program
        } else {
            Kind::Command
        }
    }

    /// The exports, as a list for people.
    #[must_use]
    pub fn exports_listed(&self) -> String {
        match &self.exports[..] {
            [] => "nothing".to_owned(),
            names => names
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    /// An import of halfopen's, if there is one.
    pub(crate) fn missing(&self) -> Option<&str> {
        self.imports.iter().map(String::as_str).find(|name| {
            name.starts_with("halfopen:tcp/") && !name.starts_with("halfopen:tcp/types@")
        })
    }
}
