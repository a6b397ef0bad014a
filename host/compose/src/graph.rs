//! Composition: which export of a component becomes which import of another.

use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, NodeId};

use crate::kind::NAMING;
use crate::{Error, Interfaces, Kind, Style, one_line};

/// The interface that a composed component exports.
pub const RUN: &str = "wasi:cli/run@0.3.0";

/// How the names of all versions 0.2 of this interface begin.
const ENVIRONMENT_0_2: &str = "wasi:cli/environment@0.2.";

/// The parts that are composed with a component, as binary components.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// `guest/parts/adapter`: implements the primitives on `wasi:sockets`.
    pub adapter: &'a [u8],
    /// `guest/parts/acceptor`: listens, accepts, and calls the service.
    pub acceptor: &'a [u8],
    /// `guest/parts/state`: implements the imports of a service in callback style.
    pub state: &'a [u8],
    /// `guest/parts/driver`: calls the exports of a service in callback style.
    pub driver: &'a [u8],
    /// `guest/parts/resolver`: looks up names for a service in callback style that has any.
    pub resolver: &'a [u8],
}

/// Composes a service or a program into a plain WASI 0.3 command.
///
/// # Errors
/// [`Error::NothingToDo`] for a component that is such a command already,
/// [`Error::OtherWorld`] for one that is neither, and the errors of [`compose_service`] and
/// [`compose_program`].
pub fn compose(component: &[u8], parts: &Parts<'_>) -> Result<Vec<u8>, Error> {
    let interfaces = Interfaces::of(component)?;
    match interfaces.kind() {
        Kind::Service => compose_service(component, parts),
        Kind::Program => compose_program(component, parts.adapter),
        kind @ Kind::Command => Err(Error::NothingToDo(kind, "run it as it is")),
        Kind::Other => Err(Error::OtherWorld(interfaces.exports_listed())),
    }
}

/// Composes a service of either style with the adapter and the acceptor; one in callback
/// style with state and driver as well.
///
/// # Errors
/// [`Error::Invalid`] if a component is damaged, and [`Error::Mismatch`] if the component is
/// not a service or imports an interface of `halfopen:tcp` that the parts do not have.
pub fn compose_service(service: &[u8], parts: &Parts<'_>) -> Result<Vec<u8>, Error> {
    let interfaces = Interfaces::of(service)?;
    let declared = interfaces.isolation()?;
    if let Some((calls, events)) = interfaces.without_events() {
        return Err(Error::Mismatch(format!(
            "it imports `{calls}` and does not export `{events}`, which it calls; export it as well"
        )));
    }
    let mut graph = Graph::default();
    let adapter = graph.instantiate("halfopen:adapter", parts.adapter, &[])?;
    // All exports, because the adapter also exports `wasi:cli/environment`: there the service
    // sees its own arguments, after `--`, without the acceptor's before it.
    let (service, handler) = if interfaces.style() == Some(Style::Callback) {
        // For the types of `peer`.
        let state = graph.instantiate("halfopen:state", parts.state, &[(adapter, Primitives)])?;
        let provided = [(state, All), (adapter, All)];
        let service = graph.instantiate("halfopen:service", service, &provided)?;
        // The service first: the state's `timer-events` are for services that have none. The
        // same holds for the resolver and the adapter's `lookups`.
        let mut provided = vec![(service, All), (state, All)];
        if interfaces.imports.iter().any(|import| import == NAMING) {
            let resolver = graph.instantiate("halfopen:resolver", parts.resolver, &[])?;
            provided.push((resolver, Primitives));
        }
        provided.push((adapter, Primitives));
        let driver = graph.instantiate("halfopen:driver", parts.driver, &provided)?;
        (service, driver)
    } else {
        let service = graph.instantiate("halfopen:service", service, &[(adapter, All)])?;
        (service, service)
    };
    let acceptor = graph.instantiate(
        "halfopen:acceptor",
        parts.acceptor,
        &[(handler, All), (adapter, Primitives)],
    )?;
    // A command always has one instance. The declaration is for people, and for tools that
    // run several copies of the command.
    if let Some(declared) = declared {
        graph.export(service, declared.interface())?;
    }
    graph.finish(acceptor)
}

/// Composes a program with the adapter.
///
/// # Errors
/// [`Error::Invalid`] if a component is damaged, and [`Error::Mismatch`] if the component is
/// not a program or imports an interface of `halfopen:tcp` that the adapter does not have.
pub fn compose_program(program: &[u8], adapter: &[u8]) -> Result<Vec<u8>, Error> {
    let mut graph = Graph::default();
    let adapter = graph.instantiate("halfopen:adapter", adapter, &[])?;
    let program = graph.instantiate("halfopen:program", program, &[(adapter, Primitives)])?;
    graph.finish(program)
}

/// The exports of an instance that become imports of another.
#[derive(Clone, Copy, PartialEq)]
enum Plugged {
    /// All exports.
    All,
    /// The exports of the package `halfopen:tcp`.
    Primitives,
}
use Plugged::{All, Primitives};

#[derive(Default)]
struct Graph(CompositionGraph);

impl Graph {
    /// Adds an instance of a component. Each import comes from the first of `sources` that
    /// exports it; an import that none exports becomes an import of the whole.
    fn instantiate(
        &mut self,
        name: &str,
        component: &[u8],
        sources: &[(NodeId, Plugged)],
    ) -> Result<NodeId, Error> {
        let graph = &mut self.0;
        let package = Package::from_bytes(name, None, component.to_vec(), graph.types_mut())
            .map_err(|error| Error::Invalid(causes(&error)))?;
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
                if plugged == Primitives && !import.starts_with("halfopen:tcp/") {
                    continue;
                }
                let Ok(export) = graph.alias_instance_export(source, exported(&import)) else {
                    continue;
                };
                graph
                    .set_instantiation_argument(instance, &import, export)
                    .map_err(|error| Error::Mismatch(causes(&error.into())))?;
                break;
            }
        }
        Ok(instance)
    }

    /// Exports an export of an instance from the whole.
    fn export(&mut self, instance: NodeId, name: &str) -> Result<(), Error> {
        let mismatch = |error: anyhow::Error| Error::Mismatch(causes(&error));
        let export = self
            .0
            .alias_instance_export(instance, name)
            .map_err(|error| mismatch(error.into()))?;
        self.0
            .export(export, name)
            .map_err(|error| mismatch(error.into()))
    }

    /// Exports the `run` of an instance, and encodes the whole as a component.
    fn finish(mut self, command: NodeId) -> Result<Vec<u8>, Error> {
        self.export(command, RUN)?;
        let bytes = self
            .0
            .encode(EncodeOptions {
                define_components: true,
                validate: true,
                processor: None,
            })
            .map_err(|error| Error::Mismatch(causes(&error.into())))?;
        match Interfaces::of(&bytes)?.primitive() {
            None => Ok(bytes),
            Some(import) => Err(Error::Mismatch(format!(
                "it imports `{import}`, which none of the parts provides{}",
                reason(import)
            ))),
        }
    }
}

/// Why no part provides an interface, if that is known.
fn reason(import: &str) -> &'static str {
    let secure = ["halfopen:tcp/secure@", "halfopen:tcp/socket-secure@"];
    match secure.iter().any(|name| import.starts_with(name)) {
        true => ": plain WASI hosts have no TLS; serve it with `halfopen serve`",
        false => "",
    }
}

/// Returns the name by which a part exports what a component imports.
///
/// The versions 0.2.0, 0.2.1 and so on of a WASI interface differ in what they have beside
/// it. A component names the one that its language was built with; the adapter exports the
/// first.
fn exported(import: &str) -> &str {
    match import.strip_prefix(ENVIRONMENT_0_2) {
        Some(_) => "wasi:cli/environment@0.2.0",
        None => import,
    }
}

/// The chain of causes on one line.
fn causes(error: &anyhow::Error) -> String {
    one_line(&format!("{error:#}"))
}
