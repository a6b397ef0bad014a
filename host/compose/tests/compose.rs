//! Composes the shipped components, and checks what is refused.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::fs;
use std::path::Path;

use halfopen_compose::{Error, Interfaces, Kind, Parts, compose, compose_program, compose_service};

fn shipped(name: &str) -> Vec<u8> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read(here.join("../../guest/dist").join(name)).unwrap()
}

fn composed(name: &str) -> Result<Vec<u8>, Error> {
    let (adapter, acceptor) = (shipped("adapter.wasm"), shipped("acceptor.wasm"));
    let parts = Parts {
        adapter: &adapter,
        acceptor: &acceptor,
    };
    compose(&shipped(name), &parts)
}

fn kind(bytes: &[u8]) -> Kind {
    Interfaces::of(bytes).unwrap().kind()
}

#[test]
fn the_shipped_components_have_their_kinds() {
    assert_eq!(kind(&shipped("echo.wasm")), Kind::Service);
    assert_eq!(kind(&shipped("primitives.wasm")), Kind::Program);
    assert_eq!(kind(&shipped("echo-standalone.wasm")), Kind::Command);
    assert_eq!(kind(&shipped("adapter.wasm")), Kind::Other);
}

#[test]
fn services_and_programs_become_commands_that_import_only_wasi() {
    for name in ["echo.wasm", "digest.wasm", "lines.wasm", "primitives.wasm"] {
        let whole = composed(name).unwrap();
        assert_eq!(kind(&whole), Kind::Command, "{name}");
        for import in Interfaces::of(&whole).unwrap().imports {
            // An import of the types has no functions: it only names the types.
            let allowed = import.starts_with("wasi:") || import == "halfopen:tcp/types@0.1.0";
            assert!(allowed, "{name} imports {import}");
        }
    }
}

#[test]
fn composing_a_service_gives_the_shipped_bytes() {
    assert_eq!(
        composed("echo.wasm").unwrap(),
        shipped("echo-standalone.wasm")
    );
}

#[test]
fn a_component_that_cannot_be_composed_is_refused_with_the_reason() {
    let message = |name| composed(name).unwrap_err().to_string();
    assert!(matches!(
        composed("echo-standalone.wasm"),
        Err(Error::NothingToDo(..))
    ));
    assert!(message("adapter.wasm").contains("`halfopen:tcp/handler@0.1.0`"));
    let garbage = Interfaces::of(b"garbage").unwrap_err();
    assert!(matches!(garbage, Error::Invalid(_)), "{garbage}");
    assert_eq!(garbage.to_string().lines().count(), 1);
    // Adapter and acceptor exchanged.
    let (adapter, acceptor) = (shipped("adapter.wasm"), shipped("acceptor.wasm"));
    let parts = Parts {
        adapter: &acceptor,
        acceptor: &adapter,
    };
    assert!(matches!(
        compose_service(&shipped("echo.wasm"), &parts),
        Err(Error::Mismatch(_))
    ));
    assert!(matches!(
        compose_program(&shipped("primitives.wasm"), &acceptor),
        Err(Error::Mismatch(_))
    ));
}
