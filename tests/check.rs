//! The kit for writers of hosts: it accepts hosts that keep the rules, and names the rule that
//! another one breaks.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

use serde_json::Value;

/// Runs the kit with these options on a command.
fn check(options: &[&str], command: &[&str]) -> (Output, Value) {
    let mut check = Command::new(env!("CARGO_BIN_EXE_check"));
    check.arg("--json").args(options).arg("--").args(command);
    let output = check.output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, report)
}

/// Returns the rules of a report with this result.
fn rules(report: &Value, result: &str) -> Vec<String> {
    let rules = report["rules"].as_array().unwrap().iter();
    let rules = rules.filter(|rule| rule["result"] == result);
    rules
        .map(|rule| rule["name"].as_str().unwrap().to_owned())
        .collect()
}

fn halfopen() -> String {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_check")).with_file_name("halfopen");
    assert!(beside.exists(), "run `cargo build --bins` first");
    beside.to_str().unwrap().to_owned()
}

const WRONG: &str = env!("CARGO_BIN_EXE_wrong-echo");

/// What is played of the suite here; `conformance` plays all of it.
const SOME: &str = "half-close,passed-through-resets,broadcast,two-listeners,whoami,timers,destroy";

#[test]
fn our_host_keeps_the_rules() {
    let command = [
        &halfopen(),
        "serve",
        "--isolation",
        "connection",
        "--allow-connect",
        "127.0.0.1:*",
        "{component}",
        "--listen",
        "{listen}",
        "--",
        "{args}",
    ];
    let options = ["--isolation", "connection", "--only", SOME];
    let (output, report) = check(&options, &command);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    for rule in ["R2", "W2", "W9", "K5", "K9", "K13", "L1", "P1"] {
        assert!(
            rules(&report, "pass").contains(&rule.to_owned()),
            "{rule}: {report:#}"
        );
    }
    assert_eq!(rules(&report, "fail"), [""; 0]);
}

#[test]
fn what_is_said_wrongly_of_a_host_fails() {
    let command = [
        &halfopen(),
        "serve",
        "--isolation",
        "shared",
        "{component}",
        "--listen",
        "{listen}",
    ];
    let options = [
        "--isolation",
        "connection",
        "--only",
        "broadcast",
        "--patience",
        "5",
    ];
    let (output, report) = check(&options, &command);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!(rules(&report, "fail"), ["K9"]);
}

#[test]
fn what_a_host_does_not_have_is_skipped() {
    let command = [&halfopen(), "serve", "{component}", "--listen", "{listen}"];
    for (options, passes) in [
        (&["--no-connect"][..], &["K13"][..]),
        (&["--without", "piping"], &[]),
        (&["--style", "await"], &[]),
    ] {
        let options = [options, &["--only", "timers,K15"]].concat();
        let (output, report) = check(&options, &command);
        let nothing = passes.is_empty();
        assert_eq!(
            output.status.code(),
            Some(if nothing { 2 } else { 0 }),
            "{report:#}"
        );
        if !nothing {
            assert_eq!(rules(&report, "pass"), passes);
            assert_eq!(rules(&report, "skipped"), ["K15"]);
        }
    }
}

#[test]
fn the_composed_services_keep_what_wasi_promises() {
    let command = [
        &halfopen(),
        "run",
        "--inherit-network",
        "{standalone}",
        "--listen",
        "{listen}",
        "--",
        "{args}",
    ];
    let (output, report) = check(&["--only", "half-close,reset-by-us,whoami"], &command);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert!(
        rules(&report, "pass").contains(&"C3".to_owned()),
        "{report:#}"
    );
}

#[test]
fn a_service_that_is_no_component_is_checked_as_well() {
    let (output, report) = check(&["--native", "pass"], &[WRONG, "none"]);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    for rule in ["R1", "R2", "R3", "W6", "W9", "E3"] {
        assert!(
            rules(&report, "pass").contains(&rule.to_owned()),
            "{rule}: {report:#}"
        );
    }
}

#[test]
fn a_host_that_breaks_a_rule_is_told_which() {
    let finds = |fault: &str, rule: &str| {
        let (output, report) = check(&["--native", "pass", "--patience", "5"], &[WRONG, fault]);
        assert_eq!(output.status.code(), Some(1), "{fault}: {report:#}");
        let failed = rules(&report, "fail");
        assert!(failed.contains(&rule.to_owned()), "{fault}: {failed:?}");
    };
    // All at once: a scenario that fails takes the kit's patience.
    thread::scope(|scope| {
        for (fault, rule) in [
            ("early-fin", "R2"),
            ("loses-the-rest", "W6"),
            ("reset", "R2"),
            ("swaps", "R1"),
            ("dies", "E3"),
        ] {
            scope.spawn(move || finds(fault, rule));
        }
    });
}

#[test]
fn a_command_that_cannot_be_checked_is_refused_in_one_line() {
    for (options, command, says) in [
        (&[][..], &["true"][..], "`{component}`"),
        (&[], &["true", "{component}"], "did not start"),
        (
            &["--native-echo"],
            &["true", "{component}"],
            "leave one of them out",
        ),
        (
            &["--only", "nothing-of-this-name"],
            &["true", "{component}"],
            "nothing to play",
        ),
        (
            &["--allow-half-open"],
            &["true", "{component}", "{args}"],
            "leave one of them out",
        ),
    ] {
        let (output, _) = check(options, command);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(
            error.starts_with("error: ") && error.contains(says),
            "{error}"
        );
    }
}
