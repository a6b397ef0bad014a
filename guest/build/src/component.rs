//! From compiled modules to components.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use halfopen_compose::{Parts, compose};
use wit_component::ComponentEncoder;

use crate::guests::{GUESTS, Set};

/// The components of one set, by file name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Makes a component of each compiled guest, and a standalone component of each guest
/// that is not a part.
///
/// `compiled` returns the compiler's output for a crate, given the crate's name.
///
/// # Errors
/// If an output cannot be read, is not WebAssembly, or does not compose.
pub fn assemble(compiled: impl Fn(&str) -> Result<Vec<u8>>) -> Result<BTreeMap<Set, Files>> {
    let mut components = BTreeMap::new();
    for guest in GUESTS {
        let package = guest.package();
        let component = compiled(&package).and_then(componentize);
        let component = component.with_context(|| format!("cannot make `{package}`"))?;
        components.insert(guest.name, component);
    }
    let parts = Parts {
        adapter: &components["adapter"],
        acceptor: &components["acceptor"],
        state: &components["state"],
        driver: &components["driver"],
        resolver: &components["resolver"],
    };
    let mut sets = BTreeMap::<Set, Files>::new();
    for guest in GUESTS {
        let component = &components[guest.name];
        let files = sets.entry(guest.set()).or_default();
        if let Some(name) = guest.standalone() {
            let standalone = compose(component, &parts)
                .with_context(|| format!("cannot compose `{}`", guest.name))?;
            files.insert(name, standalone);
        }
        files.insert(guest.component(), component.clone());
    }
    Ok(sets)
}

/// Encodes a core module that carries the types of its imports and exports as a
/// component; returns a component as it is.
fn componentize(bytes: Vec<u8>) -> Result<Vec<u8>> {
    match bytes.get(4..8) {
        Some([0x0d, 0, 1, 0]) => Ok(bytes),
        Some([1, 0, 0, 0]) => ComponentEncoder::default()
            .validate(true)
            .module(&bytes)?
            .encode(),
        _ => bail!("the compiler's output is not WebAssembly"),
    }
}
