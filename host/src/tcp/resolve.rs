//! What looks up names.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};

use tokio::sync::Semaphore;

/// Looks up names, on behalf of guests that are allowed to.
pub trait Resolve: Send + Sync + 'static {
    /// Looks up the addresses of `name`, which is in ASCII, in lower case and without a final
    /// dot, in the order in which they should be tried.
    ///
    /// # Errors
    /// If the name has no address, or cannot be looked up. The text reaches the guest.
    fn resolve(&self, name: &str) -> Resolving;
}

/// The answer to a lookup, later.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Looks up names as the operating system does (getaddrinfo(3)): by its hosts file, its DNS
/// servers, and what else it is configured to ask.
struct System;

/// The most lookups at once, each of which takes a thread for as long as it lasts.
static THREADS: Semaphore = Semaphore::const_new(64);

impl Resolve for System {
    fn resolve(&self, name: &str) -> Resolving {
        let name = name.to_owned();
        Box::pin(async move {
            // The semaphore is never closed.
            let _thread = THREADS.acquire().await;
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// What looks up names; by default, the operating system.
#[derive(Clone)]
pub(super) struct Resolver(pub(super) Arc<dyn Resolve>);

impl Default for Resolver {
    fn default() -> Self {
        static SYSTEM: LazyLock<Arc<System>> = LazyLock::new(|| Arc::new(System));
        Resolver(SYSTEM.clone())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver(..)")
    }
}
