//! The command: results can be shown again. (That there is a test of the command also means that
//! `cargo test` builds it, for the tests which simulate devices with it.)

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn show(file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_halfopen-bench"))
        .arg("show")
        .arg(file)
        .output()
        .unwrap()
}

#[test]
fn every_result_can_be_shown() {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    let mut shown = 0;
    for entry in fs::read_dir(results).unwrap() {
        let file = entry.unwrap().path();
        if file
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let output = show(&file);
            assert!(output.status.success(), "{}: {output:?}", file.display());
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains("tokio"), "{}: {text}", file.display());
            shown += 1;
        }
    }
    assert!(shown > 0);
}

#[test]
fn a_file_that_is_missing_is_one_line() {
    let output = show(Path::new("nowhere.json"));
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("nowhere.json"), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
}
