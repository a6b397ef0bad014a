//! A component that is a service as well as a program.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::process::Command;

/// Exports a handler, which no one calls here, and a `run` that succeeds.
const BOTH: &str = r#"(component
    (component $run
        (core module $m (func (export "f") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func (export "run") (result (result)) (canon lift (core func $i "f"))))
    (instance $r (instantiate $run))
    (export "wasi:cli/run@0.2.0" (instance $r))
    (component $empty)
    (instance $h (instantiate $empty))
    (export "halfopen:tcp/handler@0.1.0" (instance $h)))"#;

#[test]
fn a_component_with_handler_and_run_can_be_served_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both.wasm");
    std::fs::write(&path, wat::parse_str(BOTH).unwrap()).unwrap();
    let halfopen = |command: &str| {
        let mut halfopen = Command::new(env!("CARGO_BIN_EXE_halfopen"));
        halfopen.arg(command).arg(&path).output().unwrap()
    };
    let run = halfopen("run");
    assert!(run.status.success(), "{run:?}");
    let inspected = String::from_utf8(halfopen("inspect").stdout).unwrap();
    for part in [
        "service in await style and program",
        "halfopen serve",
        "halfopen run",
    ] {
        assert!(inspected.contains(part), "{inspected}");
    }
}
