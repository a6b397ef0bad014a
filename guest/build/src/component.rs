//! From what the compiler gives to what is shipped.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use halfopen_compose::{Parts, compose};
use wit_component::ComponentEncoder;

use crate::guests::GUESTS;

/// The shipped files and their content, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Makes components of the compiled guests, which `compiled` gives by crate name, and
/// composes those that are shipped standalone.
///
/// # Errors
/// If one is no component and cannot be made one, or does not compose.
pub fn assemble(compiled: impl Fn(&str) -> Result<Vec<u8>>) -> Result<Files> {
    let mut files = Files::new();
    for guest in GUESTS {
        let package = guest.package();
        let component = compiled(&package).and_then(componentize);
        let component = component.with_context(|| format!("cannot make `{package}`"))?;
        files.insert(format!("{}.wasm", guest.name), component);
    }
    let composed = GUESTS
        .iter()
        .filter(|guest| guest.standalone)
        .map(|guest| {
            let parts = Parts {
                adapter: &files["adapter.wasm"],
                acceptor: &files["acceptor.wasm"],
            };
            let component = compose(&files[&format!("{}.wasm", guest.name)], &parts)
                .with_context(|| format!("cannot compose `{}`", guest.name))?;
            Ok((format!("{}-standalone.wasm", guest.name), component))
        })
        .collect::<Result<Vec<_>>>()?;
    files.extend(composed);
    Ok(files)
}

/// A core module with the types of its imports and exports becomes a component; a
/// component stays as it is.
fn componentize(bytes: Vec<u8>) -> Result<Vec<u8>> {
    match bytes.get(4..8) {
        Some([0x0d, 0, 1, 0]) => Ok(bytes),
        Some([1, 0, 0, 0]) => ComponentEncoder::default()
            .validate(true)
            .module(&bytes)?
            .encode(),
        _ => bail!("the compiler gave no WebAssembly"),
    }
}
