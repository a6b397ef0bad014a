//! Composes the shipped components, and checks what is refused.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::fs;
use std::path::Path;

use halfopen_compose::{
    Error, Interfaces, Kind, Parts, Style, compose, compose_program, compose_service,
};

fn shipped(name: &str) -> Vec<u8> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read(here.join("../../guest/dist").join(name)).unwrap()
}

fn composed(name: &str) -> Result<Vec<u8>, Error> {
    compose(&shipped(name), &shipped_parts().parts())
}

struct OwnedParts {
    adapter: Vec<u8>,
    acceptor: Vec<u8>,
    state: Vec<u8>,
    driver: Vec<u8>,
    resolver: Vec<u8>,
}

impl OwnedParts {
    fn parts(&self) -> Parts<'_> {
        Parts {
            adapter: &self.adapter,
            acceptor: &self.acceptor,
            state: &self.state,
            driver: &self.driver,
            resolver: &self.resolver,
        }
    }
}

fn shipped_parts() -> OwnedParts {
    OwnedParts {
        adapter: shipped("adapter.wasm"),
        acceptor: shipped("acceptor.wasm"),
        state: shipped("state.wasm"),
        driver: shipped("driver.wasm"),
        resolver: shipped("resolver.wasm"),
    }
}

/// A composed service asks for lookups only if it connects to names.
#[test]
fn only_a_service_that_connects_to_names_asks_for_lookups() {
    for (service, asks) in [("monitor.wasm", true), ("chat.wasm", false)] {
        let composed = Interfaces::of(&composed(service).unwrap()).unwrap();
        let lookup = "wasi:sockets/ip-name-lookup@0.3.0".to_owned();
        assert_eq!(composed.imports.contains(&lookup), asks, "{service}");
    }
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
    for (name, style) in [
        ("echo.wasm", Some(Style::Callback)),
        ("digest.wasm", Some(Style::Await)),
        ("primitives.wasm", None),
    ] {
        assert_eq!(Interfaces::of(&shipped(name)).unwrap().style(), style);
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
    for name in ["echo", "digest"] {
        let whole = composed(&format!("{name}.wasm")).unwrap();
        assert!(
            whole == shipped(&format!("{name}-standalone.wasm")),
            "{name}"
        );
    }
}

/// A language's tools name the version of WASI that they were made for. Whichever it is, the
/// service gets the adapter's environment, without the arguments of the acceptor.
#[test]
fn the_environment_is_the_adapters_in_every_version_of_wasi_0_2() {
    let echo = shipped("echo.wasm");
    let first = b"wasi:cli/environment@0.2.0";
    let at: Vec<usize> = (0..echo.len() - first.len())
        .filter(|&at| echo[at..].starts_with(first))
        .collect();
    assert!(!at.is_empty());
    for patch in [b'0', b'6'] {
        let mut service = echo.clone();
        for at in &at {
            service[at + first.len() - 1] = patch;
        }
        let whole = compose(&service, &shipped_parts().parts()).unwrap();
        let imports = Interfaces::of(&whole).unwrap().imports;
        let environment: Vec<_> = imports
            .iter()
            .filter(|import| import.starts_with("wasi:cli/environment@"))
            .collect();
        assert_eq!(environment, ["wasi:cli/environment@0.3.0"]);
    }
}

/// Replaces a name wherever it is.
fn renamed(component: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut renamed = component.to_vec();
    let mut found = false;
    for at in 0..component.len() - from.len() {
        if component[at..].starts_with(from) {
            renamed[at..at + to.len()].copy_from_slice(to);
            found = true;
        }
    }
    assert!(found);
    renamed
}

#[test]
fn a_service_that_imports_what_no_part_has_is_refused_by_name() {
    let wheel = include_bytes!("../../../tests/guests/dist/wheel.wasm");
    let parts = shipped_parts();
    assert_eq!(
        kind(&compose(wheel, &parts.parts()).unwrap()),
        Kind::Command
    );
    for (from, to, message) in [
        (
            "halfopen:tcp/piping@",
            "halfopen:tcp/pipers@",
            "it imports `halfopen:tcp/pipers@0.1.0`, which none of the parts provides",
        ),
        (
            "halfopen:tcp/timer-events@",
            "halfopen:tcp/timer-evenly@",
            "does not export `halfopen:tcp/timer-events@0.1.0`, which it calls",
        ),
    ] {
        let service = renamed(wheel, from.as_bytes(), to.as_bytes());
        let error = compose(&service, &parts.parts()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
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
    // Adapter and acceptor exchanged, and state and driver.
    let parts = shipped_parts();
    let exchanged = Parts {
        adapter: &parts.acceptor,
        acceptor: &parts.adapter,
        ..parts.parts()
    };
    for service in ["digest.wasm", "echo.wasm"] {
        let mismatch = compose_service(&shipped(service), &exchanged);
        assert!(matches!(mismatch, Err(Error::Mismatch(_))), "{service}");
    }
    let exchanged = Parts {
        state: &parts.driver,
        driver: &parts.state,
        ..parts.parts()
    };
    let mismatch = compose_service(&shipped("echo.wasm"), &exchanged);
    assert!(matches!(mismatch, Err(Error::Mismatch(_))));
    assert!(matches!(
        compose_program(&shipped("primitives.wasm"), &parts.acceptor),
        Err(Error::Mismatch(_))
    ));
}
