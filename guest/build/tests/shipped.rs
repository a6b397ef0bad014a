//! The committed components match the sources, and import nothing beyond what they need.
//! Needs no WebAssembly target: the manifests record what the components were made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use halfopen_guest_build::guests::{GUESTS, Set};
use halfopen_guest_build::inputs::Inputs;
use halfopen_guest_build::manifest::{Component, Manifest};
use halfopen_guest_build::root;

fn manifest(set: Set) -> Manifest {
    Manifest::read(&root().join(set.folder())).expect("a set has a manifest")
}

#[test]
fn the_sources_are_those_of_the_manifests() {
    for set in Set::ALL {
        let built = manifest(set).inputs;
        let now = Inputs::of(&root(), set).unwrap();
        let rebuild = format!("run `cargo guests` and commit {set}");
        let changed = differing(&built.sources, &now.sources);
        assert!(changed.is_empty(), "changed since: {changed:?}; {rebuild}");
        assert_eq!(
            built.dependencies, now.dependencies,
            "the guests' dependencies have changed since; {rebuild}"
        );
    }
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
fn the_components_are_those_of_the_manifests() {
    for set in Set::ALL {
        let folder = root().join(set.folder());
        let manifest = manifest(set);
        for (name, expected) in &manifest.components {
            let bytes = fs::read(folder.join(name)).unwrap();
            assert_eq!(
                Component::of(&bytes).unwrap(),
                *expected,
                "{set}/{name}; run `cargo guests` and commit {set}"
            );
        }
        let mut files: BTreeSet<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(files.remove("manifest.json"));
        let listed: BTreeSet<String> = manifest.components.into_keys().collect();
        assert_eq!(files, listed);
        let wanted: BTreeSet<String> = GUESTS
            .iter()
            .filter(|guest| guest.set() == set)
            .flat_map(|guest| [Some(guest.component()), guest.standalone()])
            .flatten()
            .collect();
        assert_eq!(listed, wanted);
    }
}

#[test]
fn a_guest_lies_in_the_folder_of_its_role() {
    for guest in GUESTS {
        let text = fs::read_to_string(root().join(guest.folder()).join("Cargo.toml")).unwrap();
        assert!(text.contains(&format!("name = \"{}\"", guest.package())));
    }
}

/// What a manifest covers follows from the dependencies of the crates, without a list.
#[test]
fn the_inputs_are_what_a_set_is_made_from() {
    let of = |set| Inputs::of(&root(), set).unwrap().sources;
    let (shipped, tests) = (of(Set::Shipped), of(Set::Tests));
    for inputs in [&shipped, &tests] {
        for path in [
            "Cargo.toml [profile.guest]",
            "Cargo.toml [workspace.dependencies] wit-bindgen",
            "guest/build/src/toolchain.rs",
            "guest/parts/adapter/Cargo.toml",
            "guest/parts/shared/src/listening.rs",
            "guest/sdk/src/task/mod.rs",
            "host/compose/src/lib.rs",
            "host/model/src/lib.rs",
            "rust-toolchain.toml",
            "wit/connections.wit",
        ] {
            assert!(inputs.contains_key(path), "{path}");
        }
        for path in ["Cargo.toml", "guest/sdk/README.md", "wit/SEMANTICS.md"] {
            assert!(!inputs.contains_key(path), "{path}");
        }
    }
    for (path, is_shipped) in [
        ("Cargo.toml [workspace.dependencies] sha2", true),
        ("guest/examples/echo/src/lib.rs", true),
        ("tests/guests/raw/src/lib.rs", false),
    ] {
        assert_eq!(shipped.contains_key(path), is_shipped, "{path}");
        assert_eq!(tests.contains_key(path), !is_shipped, "{path}");
    }
}

/// The imports that each component may have. The `types` interfaces have no functions;
/// they come with any interface that uses a type of theirs.
#[test]
fn no_component_imports_more_than_it_needs() {
    const PRINTING: [&str; 3] = [
        "wasi:cli/stderr@0.3.0",
        "wasi:cli/stdout@0.3.0",
        "wasi:cli/types@0.3.0",
    ];
    const CONNECTIONS: [&str; 2] = ["halfopen:tcp/connections@0.1.0", "halfopen:tcp/types@0.1.0"];
    const CALLBACKS: [&str; 2] = ["halfopen:tcp/sockets@0.1.0", "halfopen:tcp/types@0.1.0"];
    const PRINTING_0_2: [&str; 4] = [
        "wasi:cli/stderr@0.2.0",
        "wasi:cli/stdout@0.2.0",
        "wasi:io/error@0.2.0",
        "wasi:io/streams@0.2.0",
    ];
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
    const PEER: &str = "halfopen:tcp/peer@0.1.0";
    const ENVIRONMENT_0_2: &str = "wasi:cli/environment@0.2.0";
    const FILES_0_2: [&str; 2] = [
        "wasi:filesystem/preopens@0.2.0",
        "wasi:filesystem/types@0.2.0",
    ];
    const LOOKUP: &str = "wasi:sockets/ip-name-lookup@0.3.0";
    const LISTENERS: &str = "halfopen:tcp/listeners@0.1.0";
    const TIMERS: &str = "halfopen:tcp/timers@0.1.0";
    const SUBSCRIBING: [&str; 2] = [
        "halfopen:tcp/subscribing@0.1.0",
        "halfopen:tcp/topics@0.1.0",
    ];
    const TOPIC_STREAMS: [&str; 2] = [
        "halfopen:tcp/topic-streams@0.1.0",
        "halfopen:tcp/topics@0.1.0",
    ];
    const OUTBOUND: &str = "halfopen:tcp/outbound@0.1.0";
    const STATE: [&str; 3] = [
        "wasi:keyvalue/atomics@0.2.0-draft2",
        "wasi:keyvalue/batch@0.2.0-draft2",
        "wasi:keyvalue/store@0.2.0-draft2",
    ];

    let components = Set::ALL.map(|set| manifest(set).components);
    for (name, component) in components.into_iter().flatten() {
        let may: Vec<&str> = match name.as_str() {
            "acceptor.wasm" => [
                &CLOCK[..],
                &PRINTING,
                &SOCKETS,
                &[
                    ENVIRONMENT,
                    "halfopen:tcp/background@0.1.0",
                    "halfopen:tcp/bridge@0.1.0",
                    "halfopen:tcp/connections@0.1.0",
                    "halfopen:tcp/handler@0.1.0",
                ],
            ]
            .concat(),
            "adapter.wasm" => [&CLOCK[..], &SOCKETS, &[ENVIRONMENT]].concat(),
            "chat.wasm" => [&CALLBACKS[..], &PRINTING_0_2, &SUBSCRIBING, &[TIMERS]].concat(),
            "gateway.wasm" => [
                &CALLBACKS[..],
                &PRINTING_0_2,
                &FILES_0_2,
                &SUBSCRIBING,
                &STATE,
                &[ENVIRONMENT_0_2],
            ]
            .concat(),
            "herald.wasm" => [&CALLBACKS[..], &PRINTING_0_2, &SUBSCRIBING].concat(),
            "crier.wasm" => [&CONNECTIONS[..], &PRINTING, &TOPIC_STREAMS].concat(),
            "lines.wasm" => [&CALLBACKS[..], &PRINTING_0_2].concat(),
            "counter.wasm" | "digest.wasm" | "pass.wasm" | "solo.wasm" | "store.wasm" => {
                [&CONNECTIONS[..], &PRINTING].concat()
            }
            "kv.wasm" | "ledger.wasm" => [&CALLBACKS[..], &PRINTING_0_2, &STATE].concat(),
            "passbook.wasm" => [&CONNECTIONS[..], &PRINTING, &STATE].concat(),
            "keeper.wasm" | "strain.wasm" => [&CONNECTIONS[..], &PRINTING, &CLOCK].concat(),
            "alarm.wasm" | "pinger.wasm" => [
                &CALLBACKS[..],
                &PRINTING_0_2,
                &["halfopen:tcp/timers@0.1.0"],
            ]
            .concat(),
            "guard.wasm" => [
                &CALLBACKS[..],
                &PRINTING_0_2,
                &[
                    ENVIRONMENT_0_2,
                    "halfopen:tcp/connecting@0.1.0",
                    "halfopen:tcp/piping@0.1.0",
                    "halfopen:tcp/socket-secure@0.1.0",
                ],
            ]
            .concat(),
            "mirror.wasm" => [
                &CALLBACKS[..],
                &PRINTING_0_2,
                &["halfopen:tcp/piping@0.1.0"],
            ]
            .concat(),
            "relay.wasm" => [
                &CALLBACKS[..],
                &PRINTING_0_2,
                &[
                    ENVIRONMENT_0_2,
                    "halfopen:tcp/connecting@0.1.0",
                    "halfopen:tcp/piping@0.1.0",
                ],
            ]
            .concat(),
            "lift.wasm" => [
                &CALLBACKS[..],
                &PRINTING_0_2,
                &[
                    PEER,
                    "halfopen:tcp/connecting@0.1.0",
                    "halfopen:tcp/connections@0.1.0",
                    "halfopen:tcp/piping@0.1.0",
                    "halfopen:tcp/socket-peer@0.1.0",
                    "halfopen:tcp/socket-secure@0.1.0",
                ],
            ]
            .concat(),
            "upgrade.wasm" => [
                &CONNECTIONS[..],
                &PRINTING,
                &[OUTBOUND, PEER, "halfopen:tcp/secure@0.1.0"],
            ]
            .concat(),
            "orders.wasm" => vec![
                "halfopen:tcp/sockets@0.1.0",
                "halfopen:tcp/timers@0.1.0",
                "halfopen:tcp/types@0.1.0",
                "wasi:cli/environment@0.2.0",
                "wasi:cli/stderr@0.2.0",
                "wasi:cli/stdout@0.2.0",
                "wasi:io/error@0.2.0",
                "wasi:io/streams@0.2.0",
            ],
            "cases.wasm" => [
                &CONNECTIONS[..],
                &PRINTING,
                &CLOCK,
                &[ENVIRONMENT_0_2, PEER],
            ]
            .concat(),
            "driver.wasm" => [
                &CONNECTIONS[..],
                &CALLBACKS,
                &CLOCK,
                &[
                    OUTBOUND,
                    "halfopen:tcp/control@0.1.0",
                    "halfopen:tcp/events@0.1.0",
                    "halfopen:tcp/lookups@0.1.0",
                    "halfopen:tcp/starting@0.1.0",
                    "halfopen:tcp/timer-events@0.1.0",
                    "halfopen:tcp/timers@0.1.0",
                ],
            ]
            .concat(),
            "resolver.wasm" => vec![
                "halfopen:tcp/types@0.1.0",
                "wasi:sockets/ip-name-lookup@0.3.0",
                "wasi:sockets/types@0.3.0",
                "wasi:clocks/types@0.3.0",
            ],
            "state.wasm" => [&CLOCK[..], &[PEER, "halfopen:tcp/types@0.1.0"]].concat(),
            "echo.wasm" => [&CALLBACKS[..], &PRINTING_0_2, &[ENVIRONMENT_0_2]].concat(),
            "bare.wasm" => [&CONNECTIONS[..], &PRINTING, &CLOCK, &[ENVIRONMENT_0_2]].concat(),
            "broadcast.wasm" | "parrot.wasm" => {
                [&CONNECTIONS[..], &PRINTING, &[ENVIRONMENT_0_2, PEER]].concat()
            }
            "finger.wasm" => [&CALLBACKS[..], &PRINTING_0_2, &FILES_0_2].concat(),
            "monitor.wasm" => [
                &CALLBACKS[..],
                &PRINTING_0_2,
                &[
                    ENVIRONMENT_0_2,
                    "halfopen:tcp/naming@0.1.0",
                    "halfopen:tcp/timers@0.1.0",
                ],
            ]
            .concat(),
            "asker.wasm" => [
                &CALLBACKS[..],
                &PRINTING_0_2,
                &FILES_0_2,
                &[
                    ENVIRONMENT_0_2,
                    "halfopen:tcp/connecting@0.1.0",
                    "halfopen:tcp/naming@0.1.0",
                    "halfopen:tcp/timers@0.1.0",
                ],
            ]
            .concat(),
            "inquirer.wasm" => [
                &CONNECTIONS[..],
                &PRINTING,
                &CLOCK,
                &FILES_0_2,
                &[
                    ENVIRONMENT_0_2,
                    OUTBOUND,
                    PEER,
                    LOOKUP,
                    "wasi:sockets/types@0.3.0",
                ],
            ]
            .concat(),
            "whoami.wasm" => [&CONNECTIONS[..], &PRINTING, &[PEER]].concat(),
            "erratic.wasm" => [&CALLBACKS[..], &PRINTING_0_2].concat(),
            "fitful.wasm" => [
                &CALLBACKS[..],
                &PRINTING_0_2,
                &[
                    "halfopen:tcp/naming@0.1.0",
                    "halfopen:tcp/socket-secure@0.1.0",
                    "halfopen:tcp/subscribing@0.1.0",
                    "halfopen:tcp/topics@0.1.0",
                ],
            ]
            .concat(),
            "rogue.wasm" => CALLBACKS.to_vec(),
            "greedy.wasm" => [&CONNECTIONS[..], &PRINTING, &CLOCK, &[OUTBOUND, LISTENERS]].concat(),
            "hostile.wasm" => [&CONNECTIONS[..], &PRINTING, &[OUTBOUND]].concat(),
            "proxy.wasm" | "tap.wasm" => {
                [&CONNECTIONS[..], &PRINTING, &[ENVIRONMENT_0_2, OUTBOUND]].concat()
            }
            "primitives.wasm" => {
                [&CONNECTIONS[..], &PRINTING, &[ENVIRONMENT_0_2, LISTENERS]].concat()
            }
            "raw.wasm" => [
                &CONNECTIONS[..],
                &PRINTING,
                &CLOCK,
                &[
                    ENVIRONMENT_0_2,
                    LISTENERS,
                    OUTBOUND,
                    "halfopen:tcp/options@0.1.0",
                ],
            ]
            .concat(),
            "wheel.wasm" => vec![
                "halfopen:tcp/connecting@0.1.0",
                "halfopen:tcp/peer@0.1.0",
                "halfopen:tcp/piping@0.1.0",
                "halfopen:tcp/socket-peer@0.1.0",
                "halfopen:tcp/sockets@0.1.0",
                "halfopen:tcp/timers@0.1.0",
                "halfopen:tcp/types@0.1.0",
            ],
            standalone => {
                assert!(
                    standalone.ends_with("-standalone.wasm"),
                    "{standalone} is not in this list"
                );
                let more = match name.as_str() {
                    "chat-standalone.wasm"
                    | "echo-standalone.wasm"
                    | "erratic-standalone.wasm"
                    | "herald-standalone.wasm"
                    | "lines-standalone.wasm" => &PRINTING_0_2[..],
                    // A program is not called by an acceptor, which takes some of the arguments.
                    "primitives-standalone.wasm" | "raw-standalone.wasm" => &[ENVIRONMENT_0_2],
                    "asker-standalone.wasm"
                    | "finger-standalone.wasm"
                    | "monitor-standalone.wasm" => &PRINTING_0_2[..],
                    _ => &[],
                };
                let is = |guests: &[&str]| guests.iter().any(|guest| name.starts_with(guest));
                let files: &[&str] = match is(&["asker", "finger", "inquirer"]) {
                    true => &FILES_0_2,
                    false => &[],
                };
                let names: &[&str] = match is(&["asker", "inquirer", "monitor"]) {
                    true => &[LOOKUP],
                    false => &[],
                };
                let every = [&CLOCK[..], &SOCKETS, &PRINTING, &[ENVIRONMENT]].concat();
                [&every[..], more, files, names].concat()
            }
        };
        for import in &component.imports {
            assert!(may.contains(&import.as_str()), "{name} imports {import}");
        }
    }
}
