//! Components from core modules.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use halfopen_compose::{Declared, Interfaces, Kind, Style, componentize};

/// The events, and the types of their functions.
const EVENTS: [(&str, &str); 7] = [
    ("connection", "(param i32)"),
    ("data", "(param i32 i32 i32)"),
    ("end", "(param i32)"),
    ("drain", "(param i32)"),
    ("timeout", "(param i32)"),
    ("error", "(param i32 i32 i32 i32 i32)"),
    ("close", "(param i32 i32)"),
];

const REALLOC: &str =
    r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)"#;

/// A module with these imports, and all events but those that `without` names.
fn module(imports: &str, without: &str) -> Vec<u8> {
    let mut text = format!("(module {imports} (memory (export \"memory\") 1) {REALLOC}");
    for (name, types) in EVENTS.iter().filter(|(name, _)| *name != without) {
        text += &format!(r#"(func (export "halfopen:tcp/events@0.1.0#{name}") {types})"#);
    }
    wat::parse_str(text + ")").unwrap()
}

fn import(module: &str, name: &str, types: &str) -> String {
    format!(r#"(import "{module}" "{name}" (func {types}))"#)
}

fn refused(module: &[u8], why: &str) {
    let error = componentize(module, None).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn the_names_of_imports_and_exports_say_what_a_module_is() {
    let end = import("halfopen:tcp/sockets@0.1.0", "end", "(param i32)");
    let component = componentize(&module(&end, ""), None).unwrap();
    let interfaces = Interfaces::of(&component).unwrap();
    assert_eq!(interfaces.kind(), Kind::Service);
    assert_eq!(interfaces.style(), Some(Style::Callback));
    assert_eq!(interfaces.isolation().unwrap(), None);
    assert!(
        interfaces
            .imports
            .contains(&"halfopen:tcp/sockets@0.1.0".to_owned())
    );
}

#[test]
fn a_module_may_use_wasi_0_1() {
    let import = import("wasi_snapshot_preview1", "sched_yield", "(result i32)");
    let component = componentize(&module(&import, ""), None).unwrap();
    let interfaces = Interfaces::of(&component).unwrap();
    let names = interfaces.imports.iter();
    assert!(names.clone().all(|name| !name.contains("preview1")));
    assert_eq!(interfaces.kind(), Kind::Service);
}

#[test]
fn a_component_declares_its_isolation() {
    for declared in [Declared::Shared, Declared::Connection] {
        let component = componentize(&module("", ""), Some(declared)).unwrap();
        let found = Interfaces::of(&component).unwrap().isolation().unwrap();
        assert_eq!(found, Some(declared));
    }
}

#[test]
fn a_component_is_declared_as_well() {
    let component = componentize(&module("", ""), None).unwrap();
    assert_eq!(componentize(&component, None).unwrap(), component);
    let shared = componentize(&component, Some(Declared::Shared)).unwrap();
    let interfaces = Interfaces::of(&shared).unwrap();
    assert_eq!(interfaces.isolation().unwrap(), Some(Declared::Shared));
    assert_eq!(interfaces.style(), Some(Style::Callback));
    assert_eq!(
        componentize(&shared, Some(Declared::Shared)).unwrap(),
        shared
    );
    assert!(componentize(&shared, Some(Declared::Connection)).is_err());
    assert!(componentize(&component[..component.len() / 2], Some(Declared::Shared)).is_err());
}

#[test]
fn the_reason_why_there_is_no_component_is_named() {
    refused(b"text", "not a core module");
    refused(&wat::parse_str("(module)").unwrap(), "neither a service");
    refused(
        &module(&import("env", "open_door", ""), ""),
        "`open_door` of `env`",
    );
    refused(&module(&import("door", "open", ""), ""), "`door`");
    let door = import("acme:door/handle@1.0.0", "open", "");
    refused(&module(&door, ""), "acme:door");
    let other = import("halfopen:tcp/doors@0.1.0", "open", "");
    refused(&module(&other, ""), "doors");
    refused(&module("", "drain"), "`halfopen:tcp/events@0.1.0#drain`");
    let wrong = import("halfopen:tcp/sockets@0.1.0", "end", "(param i64)");
    refused(&module(&wrong, ""), "end");
    let unknown = import("halfopen:tcp/sockets@0.1.0", "ends", "");
    refused(&module(&unknown, ""), "ends");
}

/// The text that a module chooses as a name becomes part of WIT.
#[test]
fn a_name_that_is_no_name_is_an_error() {
    let odd = import("a:b/c; } world d {", "e", "");
    assert!(componentize(&module(&odd, ""), None).is_err());
}
