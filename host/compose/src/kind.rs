//! The kind of a component, which its imports and exports determine.

use std::fmt;

use wasmparser::{
    BinaryReaderError, ComponentExternalKind, ComponentTypeRef, Encoding, Parser, Payload,
    Validator, WasmFeatures,
};

use crate::{Error, one_line};

/// The interface that a service in await style exports.
pub const HANDLER: &str = "halfopen:tcp/handler@0.1.0";
/// The interface that a service in callback style exports.
pub const EVENTS: &str = "halfopen:tcp/events@0.1.0";

/// The interface that a service in callback style imports to set timers.
pub(crate) const TIMERS: &str = "halfopen:tcp/timers@0.1.0";
/// The interface that it exports to have them.
pub(crate) const TIMER_EVENTS: &str = "halfopen:tcp/timer-events@0.1.0";

/// The interface that it imports to subscribe to topics.
pub(crate) const SUBSCRIBING: &str = "halfopen:tcp/subscribing@0.1.0";
/// The interface that it exports to have their messages.
pub(crate) const TOPIC_EVENTS: &str = "halfopen:tcp/topic-events@0.1.0";

/// The interface that a service in callback style imports to connect to names.
#[cfg(feature = "compose")]
pub(crate) const NAMING: &str = "halfopen:tcp/naming@0.1.0";

/// The custom section of an encoded WIT package, which is a component by its binary format,
/// and cannot be run.
const WIT_PACKAGE: &str = "wit-component-encoding";

/// The kind of a component, which determines how it can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Exports `halfopen:tcp/events` or `halfopen:tcp/handler`: a server accepts connections
    /// and calls it. [`Interfaces::style`] says which.
    Service,
    /// Exports `wasi:cli/run` and imports the primitives: it listens and connects itself.
    Program,
    /// Exports `wasi:cli/run` and imports WASI alone.
    Command,
    /// Any other component.
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

/// How a host calls a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `halfopen:tcp/events`: the host reads and writes, and calls a function for each event. No
    /// function waits.
    Callback,
    /// `halfopen:tcp/handler`: the host calls one function for each connection, which waits.
    Await,
}

impl fmt::Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Style::Callback => "callback style",
            Style::Await => "await style",
        })
    }
}

/// The names of a component's imports and exports, such as `wasi:cli/run@0.3.0`.
///
/// Both lists are sorted. Types that stand alone, outside of an interface, are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// The names of the imports.
    pub imports: Vec<String>,
    /// The names of the exports.
    pub exports: Vec<String>,
}

impl Interfaces {
    /// Validates a binary component and reads its imports and exports.
    ///
    /// # Errors
    /// [`Error::Invalid`], if the bytes are damaged, a core module or a WIT package.
    pub fn of(component: &[u8]) -> Result<Self, Error> {
        Validator::new_with_features(WasmFeatures::all())
            .validate_all(component)
            .map_err(invalid)?;
        Self::unvalidated(component)
    }

    /// Reads the imports and exports of a binary component, and does not look at its code.
    ///
    /// # Errors
    /// [`Error::Invalid`], if that shows that the bytes are damaged, a core module or a WIT
    /// package.
    pub fn unvalidated(component: &[u8]) -> Result<Self, Error> {
        let mut interfaces = Interfaces::default();
        // The number of nested modules and components that enclose the payload: only the
        // outermost component's sections count.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(component) {
            match payload.map_err(invalid)? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                payload if depth == 0 => interfaces.add(payload)?,
                _ => {}
            }
        }
        interfaces.imports.sort();
        interfaces.exports.sort();
        Ok(interfaces)
    }

    /// Adds the names in a section of the outermost component.
    fn add(&mut self, payload: Payload<'_>) -> Result<(), Error> {
        match payload {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } => return Err(Error::Invalid("a core module".to_owned())),
            Payload::CustomSection(section) if section.name() == WIT_PACKAGE => {
                return Err(Error::Invalid("a WIT package, not a component".to_owned()));
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import.map_err(invalid)?;
                    if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                        self.imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export.map_err(invalid)?;
                    if export.kind != ComponentExternalKind::Type {
                        self.exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns how a host calls the service; `None` if the component is none. One that offers
    /// both styles is called in callback style, which is faster.
    #[must_use]
    pub fn style(&self) -> Option<Style> {
        let exports = |interface: &str| self.exports.iter().any(|name| name == interface);
        if exports(EVENTS) {
            Some(Style::Callback)
        } else if exports(HANDLER) {
            Some(Style::Await)
        } else {
            None
        }
    }

    /// An interface of events that the component does not export, although it imports the
    /// first one of the pair, which calls them.
    pub(crate) fn without_events(&self) -> Option<(&'static str, &'static str)> {
        let has = |names: &[String], name: &str| names.iter().any(|found| found == name);
        [(TIMERS, TIMER_EVENTS), (SUBSCRIBING, TOPIC_EVENTS)]
            .into_iter()
            .find(|(calls, events)| has(&self.imports, calls) && !has(&self.exports, events))
    }

    /// Returns the kind of a component with these imports and exports.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let exports = |prefix: &str| self.exports.iter().any(|name| name.starts_with(prefix));
        if self.style().is_some() {
            Kind::Service
        } else if !exports("wasi:cli/run@0.3.0") && !exports("wasi:cli/run@0.2.") {
            Kind::Other
        } else if self.primitive().is_some() {
            Kind::Program
        } else {
            Kind::Command
        }
    }

    /// Lists the exports for an error message.
    #[must_use]
    pub fn exports_listed(&self) -> String {
        match &self.exports[..] {
            [] => "nothing".to_owned(),
            names => format!("`{}`", names.join("`, `")),
        }
    }

    /// An import that a plain WASI host does not have: one of the package `halfopen:tcp`,
    /// except its types, which have no functions to provide.
    pub(crate) fn primitive(&self) -> Option<&str> {
        self.imports.iter().map(String::as_str).find(|name| {
            name.starts_with("halfopen:tcp/") && !name.starts_with("halfopen:tcp/types@")
        })
    }
}

fn invalid(error: BinaryReaderError) -> Error {
    Error::Invalid(one_line(&error.to_string()))
}
