//! The components in `guest/dist` are those that the sources give, and import nothing
//! beyond what they need. Needs no wasm target: the manifest says what they were made
//! from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use halfopen_guest_build::guests::GUESTS;
use halfopen_guest_build::manifest::{Component, Manifest, dependencies, inputs};
use halfopen_guest_build::{dist, root};

const REBUILD: &str = "run `cargo guests` and commit guest/dist";

#[test]
fn the_sources_are_those_of_the_manifest() {
    let manifest = Manifest::read(&dist()).unwrap();
    let now = inputs(&root()).unwrap();
    let changed: BTreeSet<_> = differing(&manifest.inputs, &now);
    assert!(changed.is_empty(), "changed since: {changed:?}; {REBUILD}");
    assert_eq!(
        manifest.dependencies,
        dependencies(&root()).unwrap(),
        "the guests' dependencies have changed since; {REBUILD}"
    );
}

fn differing<'a>(
    one: &'a BTreeMap<String, String>,
    other: &'a BTreeMap<String, String>,
) -> BTreeSet<&'a String> {
    one.keys()
        .chain(other.keys())
        .filter(|path| one.get(*path) != other.get(*path))
        .collect()
}

#[test]
fn the_components_are_those_of_the_manifest() {
    let manifest = Manifest::read(&dist()).unwrap();
    for (name, expected) in &manifest.components {
        let bytes = fs::read(dist().join(name)).unwrap();
        assert_eq!(
            Component::of(&bytes).unwrap(),
            *expected,
            "{name}; {REBUILD}"
        );
    }
    let mut files: BTreeSet<String> = fs::read_dir(dist())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(files.remove("manifest.json"));
    let listed: BTreeSet<String> = manifest.components.into_keys().collect();
    assert_eq!(files, listed);
    let wanted: BTreeSet<String> = GUESTS
        .iter()
        .flat_map(|guest| {
            let standalone = guest
                .standalone
                .then(|| format!("{}-standalone.wasm", guest.name));
            [Some(format!("{}.wasm", guest.name)), standalone]
        })
        .flatten()
        .collect();
    assert_eq!(listed, wanted);
}

/// What each may import. The `types` interfaces have no functions: an interface that
/// uses a type of theirs brings them along.
#[test]
fn no_component_imports_more_than_it_needs() {
    const PRINTING: [&str; 3] = [
        "wasi:cli/stderr@0.3.0",
        "wasi:cli/stdout@0.3.0",
        "wasi:cli/types@0.3.0",
    ];
    const CONNECTIONS: [&str; 2] = ["halfopen:tcp/connections@0.1.0", "halfopen:tcp/types@0.1.0"];
    const SOCKETS: [&str; 3] = [
        "halfopen:tcp/types@0.1.0",
        "wasi:clocks/types@0.3.0",
        "wasi:sockets/types@0.3.0",
    ];
    const CLOCK: [&str; 2] = [
        "wasi:clocks/monotonic-clock@0.3.0",
        "wasi:clocks/types@0.3.0",
    ];
    const ENVIRONMENT: &str = "wasi:cli/environment@0.3.0";
    const LISTENERS: &str = "halfopen:tcp/listeners@0.1.0";
    const OUTBOUND: &str = "halfopen:tcp/outbound@0.1.0";

    let manifest = Manifest::read(&dist()).unwrap();
    for (name, component) in &manifest.components {
        let may: Vec<&str> = match name.as_str() {
            "acceptor.wasm" => [
                &CLOCK[..],
                &PRINTING,
                &SOCKETS,
                &[
                    ENVIRONMENT,
                    "halfopen:tcp/bridge@0.1.0",
                    "halfopen:tcp/connections@0.1.0",
                    "halfopen:tcp/handler@0.1.0",
                ],
            ]
            .concat(),
            "adapter.wasm" => [&CLOCK[..], &SOCKETS, &[ENVIRONMENT]].concat(),
            "digest.wasm" | "lines.wasm" | "pass.wasm" => [&CONNECTIONS[..], &PRINTING].concat(),
            "strain.wasm" => [&CONNECTIONS[..], &PRINTING, &CLOCK].concat(),
            "cases.wasm" => [&CONNECTIONS[..], &PRINTING, &CLOCK, &[ENVIRONMENT]].concat(),
            "broadcast.wasm" | "echo.wasm" => {
                [&CONNECTIONS[..], &PRINTING, &[ENVIRONMENT]].concat()
            }
            "whoami.wasm" => [&CONNECTIONS[..], &PRINTING, &["halfopen:tcp/peer@0.1.0"]].concat(),
            "hostile.wasm" => [&CONNECTIONS[..], &PRINTING, &[OUTBOUND]].concat(),
            "proxy.wasm" => [&CONNECTIONS[..], &PRINTING, &[ENVIRONMENT, OUTBOUND]].concat(),
            "primitives.wasm" => [&CONNECTIONS[..], &PRINTING, &[ENVIRONMENT, LISTENERS]].concat(),
            "raw.wasm" => [
                &CONNECTIONS[..],
                &PRINTING,
                &CLOCK,
                &[
                    ENVIRONMENT,
                    LISTENERS,
                    OUTBOUND,
                    "halfopen:tcp/options@0.1.0",
                ],
            ]
            .concat(),
            standalone => {
                assert!(
                    standalone.ends_with("-standalone.wasm"),
                    "{standalone} is not in this list"
                );
                [&CLOCK[..], &SOCKETS, &PRINTING, &[ENVIRONMENT]].concat()
            }
        };
        for import in &component.imports {
            assert!(may.contains(&import.as_str()), "{name} imports {import}");
        }
    }
}
