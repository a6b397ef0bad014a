//! Makes plain WASI 0.3 commands of halfopen's services and programs, and tells
//! what a component is.
//!
//! A service has no `run` and needs connections; a program needs the primitives.
//! Both are composed with `guest/adapter`, which has the primitives on
//! `wasi:sockets`, and a service also with `guest/acceptor`, which listens and
//! accepts:
//!
//! ```text
//! service:  acceptor ∘ service ∘ adapter     one adapter instance for both
//! program:             program ∘ adapter
//! ```
//!
//! What remains imported is WASI's alone, so that the result runs on any host that
//! has it.

mod kind;

use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, NodeId};

pub use kind::{Interfaces, Kind};

/// What a composed component exports.
pub const RUN: &str = "wasi:cli/run@0.3.0";
/// What a service exports.
pub const HANDLER: &str = "halfopen:tcp/handler@0.1.0";

/// Why a component cannot be composed. The text is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a component, or a damaged one.
    #[error("not a valid component: {0}")]
    Invalid(String),
    /// A component that there is nothing to compose for.
    #[error("it is a {0}, and needs no composing; {1}")]
    NothingToDo(Kind, &'static str),
    /// A component of another world.
    #[error(
        "neither a service (exports `halfopen:tcp/handler@0.1.0`) nor a program on the primitives (exports `wasi:cli/run@0.3.0`, imports `halfopen:tcp`): it exports {0}"
    )]
    OtherWorld(String),
    /// The pieces do not fit.
    #[error("the parts do not fit together: {0}")]
    Mismatch(String),
}

/// The two parts that come with halfopen, as binary components.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// `guest/adapter`: the primitives on `wasi:sockets`.
    pub adapter: &'a [u8],
    /// `guest/acceptor`: listens, accepts, and calls the service.
    pub acceptor: &'a [u8],
}

/// Composes a service or a program, whichever `component` is, into a WASI 0.3
/// command.
///
/// # Errors
/// If it is neither, or does not fit.
pub fn compose(component: &[u8], parts: &Parts<'_>) -> Result<Vec<u8>, Error> {
    let interfaces = Interfaces::of(component)?;
    match interfaces.kind() {
        Kind::Service => compose_service(component, parts),
        Kind::Program => compose_program(component, parts.adapter),
        kind @ Kind::Command => Err(Error::NothingToDo(kind, "run it as it is")),
        Kind::Other => Err(Error::OtherWorld(interfaces.exports_listed())),
    }
}

/// Composes a service with adapter and acceptor.
///
/// # Errors
/// If the component is no service, or imports something of halfopen's that the
/// adapter does not have.
pub fn compose_service(service: &[u8], parts: &Parts<'_>) -> Result<Vec<u8>, Error> {
    let mut graph = Graph::default();
    let adapter = graph.instantiate("halfopen:adapter", parts.adapter, &[])?;
    // The service sees its own arguments, which are those after `--`.
    let service = graph.instantiate("halfopen:service", service, &[(adapter, All)])?;
    let acceptor = graph.instantiate(
        "halfopen:acceptor",
        parts.acceptor,
        &[(service, All), (adapter, Halfopen)],
    )?;
    graph.finish(acceptor)
}

/// Composes a program with the adapter.
///
/// # Errors
/// If the component is no program, or imports something of halfopen's that the
/// adapter does not have.
pub fn compose_program(program: &[u8], adapter: &[u8]) -> Result<Vec<u8>, Error> {
    let mut graph = Graph::default();
    let adapter = graph.instantiate("halfopen:adapter", adapter, &[])?;
    let program = graph.instantiate("halfopen:program", program, &[(adapter, Halfopen)])?;
    graph.finish(program)
}

/// Which exports of an instance are plugged into another.
#[derive(Clone, Copy, PartialEq)]
enum Plugged {
    All,
    /// Those of the package `halfopen:tcp` only.
    Halfopen,
}
use Plugged::{All, Halfopen};

#[derive(Default)]
struct Graph(CompositionGraph);

impl Graph {
    /// Adds a component, and gives it whatever it imports that one of `sources`
    /// exports; the first one counts. Other imports become those of the whole.
    fn instantiate(
        &mut self,
        name: &str,
        component: &[u8],
        sources: &[(NodeId, Plugged)],
    ) -> Result<NodeId, Error> {
        let graph = &mut self.0;
        let package = Package::from_bytes(name, None, component.to_vec(), graph.types_mut())
            .map_err(|error| Error::Invalid(one_line(&error)))?;
        let imports: Vec<String> = graph.types()[package.ty()]
            .imports
            .keys()
            .cloned()
            .collect();
        let package = graph
            .register_package(package)
            .map_err(|error| Error::Mismatch(error.to_string()))?;
        let instance = graph.instantiate(package);
        for import in imports {
            for &(source, plugged) in sources {
                if plugged == Halfopen && !import.starts_with("halfopen:tcp/") {
                    continue;
                }
                let Ok(export) = graph.alias_instance_export(source, &import) else {
                    continue;
                };
                graph
                    .set_instantiation_argument(instance, &import, export)
                    .map_err(|error| Error::Mismatch(one_line(&error.into())))?;
                break;
            }
        }
        Ok(instance)
    }

    /// Exports the `run` of `command`, and encodes the whole.
    fn finish(mut self, command: NodeId) -> Result<Vec<u8>, Error> {
        let mismatch = |error: anyhow::Error| Error::Mismatch(one_line(&error));
        let run = self
            .0
            .alias_instance_export(command, RUN)
            .map_err(|error| mismatch(error.into()))?;
        self.0
            .export(run, RUN)
            .map_err(|error| mismatch(error.into()))?;
        let bytes = self
            .0
            .encode(EncodeOptions {
                define_components: true,
                validate: true,
                processor: None,
            })
            .map_err(|error| mismatch(error.into()))?;
        match Interfaces::of(&bytes)?.missing() {
            None => Ok(bytes),
            Some(import) => Err(Error::Mismatch(format!(
                "it imports `{import}`, which the adapter does not provide"
            ))),
        }
    }
}

fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
