//! Lookups of names by `wasi:sockets/ip-name-lookup`, as far as the policy allows.
//!
//! `wasmtime-wasi` allows all names or none, and asks nobody but the operating system, so its
//! functions are replaced.

use std::net::IpAddr;
use std::vec;

use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::network;
use wasmtime_wasi::p2::{DynPollable, Network, Pollable, subscribe};
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup::ErrorCode;
use wasmtime_wasi::p3::bindings::sockets::types::IpAddress;

use super::store::State;
use crate::tcp::LookupError;

impl State {
    /// Looks up a name for the guest, which may be denied.
    fn lookup(
        &mut self,
        name: &str,
    ) -> impl Future<Output = Result<Vec<IpAddr>, LookupError>> + Send + 'static + use<> {
        let looking = self.tcp.names().lookup(name);
        if let Err(denied) = &looking {
            self.tcp.denied(denied);
        }
        async move {
            match looking {
                Ok(looking) => looking.await,
                Err(_) => Err(LookupError::Denied),
            }
        }
    }
}

/// Replaces the function of WASI 0.3.
pub(super) fn limit(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut lookup = linker.instance("wasi:sockets/ip-name-lookup@0.3.0")?;
    lookup.func_wrap_concurrent("resolve-addresses", |accessor, (name,): (String,)| {
        let looking = accessor.with(|mut store| store.data_mut().lookup(&name));
        Box::pin(async move {
            let found = match looking.await {
                Ok(found) => Ok(found.into_iter().map(IpAddress::from).collect::<Vec<_>>()),
                Err(LookupError::Denied) => Err(ErrorCode::AccessDenied),
                Err(LookupError::Invalid) => Err(ErrorCode::InvalidArgument),
                Err(LookupError::Timeout) => Err(ErrorCode::TemporaryResolverFailure),
                Err(LookupError::Failed(_)) => Err(ErrorCode::NameUnresolvable),
            };
            Ok((found,))
        })
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The resource `resolve-address-stream`: a lookup, and then what is left of its answer.
enum Answer {
    Looking(AbortOnDropHandle<Result<Vec<IpAddr>, LookupError>>),
    Found(Result<vec::IntoIter<IpAddr>, network::ErrorCode>),
}

impl Answer {
    fn of(found: Result<Vec<IpAddr>, LookupError>) -> Self {
        Answer::Found(match found {
            Ok(found) => Ok(found.into_iter()),
            Err(LookupError::Denied) => Err(network::ErrorCode::AccessDenied),
            Err(LookupError::Invalid) => Err(network::ErrorCode::InvalidArgument),
            Err(LookupError::Timeout) => Err(network::ErrorCode::TemporaryResolverFailure),
            Err(LookupError::Failed(_)) => Err(network::ErrorCode::NameUnresolvable),
        })
    }
}

#[async_trait]
impl Pollable for Answer {
    async fn ready(&mut self) {
        if let Answer::Looking(looking) = self {
            // It fails only while the runtime shuts down.
            let failed = |_| Err(LookupError::Failed("the host is stopping".to_owned()));
            *self = Answer::of(looking.await.unwrap_or_else(failed));
        }
    }
}

/// Replaces the functions of WASI 0.2, and the resource that they share.
pub(super) fn limit_p2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type Store<'s> = StoreContextMut<'s, State>;
    linker.allow_shadowing(true);
    let mut lookup = linker.instance("wasi:sockets/ip-name-lookup@0.2.12")?;
    lookup.resource(
        "resolve-address-stream",
        ResourceType::host::<Answer>(),
        |mut store: Store<'_>, answer| {
            let table = &mut store.data_mut().table;
            table.delete(Resource::<Answer>::new_own(answer))?;
            Ok(())
        },
    )?;
    lookup.func_wrap(
        "resolve-addresses",
        |mut store: Store<'_>, (network, name): (Resource<Network>, String)| {
            let state = store.data_mut();
            state.table.get(&network)?;
            let looking: JoinHandle<_> = tokio::spawn(state.lookup(&name));
            let answer = Answer::Looking(AbortOnDropHandle::new(looking));
            Ok((Ok::<_, network::ErrorCode>(state.table.push(answer)?),))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store: Store<'_>, (answer,): (Resource<Answer>,)| {
            Ok((match store.data_mut().table.get_mut(&answer)? {
                Answer::Looking(_) => Err(network::ErrorCode::WouldBlock),
                Answer::Found(Ok(rest)) => Ok(rest.next().map(network::IpAddress::from)),
                Answer::Found(Err(error)) => Err(*error),
            },))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: Store<'_>,
         (answer,): (Resource<Answer>,)|
         -> wasmtime::Result<(Resource<DynPollable>,)> {
            Ok((subscribe(&mut store.data_mut().table, answer)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
