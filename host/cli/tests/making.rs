//! The commands that make services, as a person runs them: what they write, and their messages.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the command in a folder.
fn halfopen(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halfopen"));
    command.args(arguments).current_dir(folder);
    command.env("RUST_BACKTRACE", "0").output().unwrap()
}

/// Checks that the command fails, with one line on standard error that contains `part`.
fn fails(folder: &Path, arguments: &[&str], part: &str) {
    let output = halfopen(folder, arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    assert!(stderr.contains(part), "`{part}` is missing in: {stderr}");
}

/// Makes a service, and returns what the command printed.
fn make(folder: &Path, name: &str, language: &str, template: &str) -> String {
    let arguments = ["new", name, "--lang", language, "--template", template];
    let output = halfopen(folder, &arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_new_service_has_what_it_needs_and_says_what_is_next() {
    let folder = tempfile::tempdir().unwrap();
    let read = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
    let printed = make(folder.path(), "shout", "python", "echo");
    for part in ["cd shout", "requirements.txt", "make", "halfopen dev"] {
        assert!(printed.contains(part), "{printed}");
    }
    assert!(read("shout/service.py").contains("class Echo(Connection)"));
    assert!(read("shout/README.md").starts_with("# shout\n"));
    assert!(read("shout/.gitignore").contains("build/"));
    assert!(read("shout/wit/service.wit").contains("export halfopen:tcp/events@0.1.0;"));
    assert!(read("shout/wit/deps/halfopen-tcp/sockets.wit").contains("interface sockets"));
    make(folder.path(), "loud", "rust", "lines");
    assert!(read("loud/Cargo.toml").contains("name = \"loud\""));
    make(folder.path(), "room", "javascript", "chat");
    assert!(read("room/wit/service.wit").contains("isolation-shared"));
    make(folder.path(), "room-2", "c", "chat");
    assert!(read("room-2/Makefile").contains("COMPONENT = --isolation shared\n"));
}

#[test]
fn nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), "shout", "c", "echo");
    let source = folder.path().join("shout/src/service.c");
    fs::write(&source, "mine").unwrap();
    let again = ["new", "shout", "--lang", "c", "--template", "chat"];
    fails(folder.path(), &again, "`shout` exists already");
    assert_eq!(fs::read_to_string(source).unwrap(), "mine");
    // A file and a link are no folder for a service either.
    fs::write(folder.path().join("file"), "").unwrap();
    fails(
        folder.path(),
        &["new", "file", "--lang", "go"],
        "exists already",
    );
    std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
    fails(
        folder.path(),
        &["new", "link", "--lang", "go"],
        "exists already",
    );
}

#[test]
fn a_bad_name_or_language_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["../up", "a/b", "Shout", "9lives", "a b", "std"] {
        fails(folder.path(), &["new", name, "--lang", "c"], name);
    }
    fails(folder.path(), &["new", "shout", "--lang", "cobol"], "cobol");
    fails(folder.path(), &["new", "shout"], "--lang");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_module_becomes_a_component_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let component = |name| ["component", name, "--output", "out.wasm"];
    fails(folder.path(), &component("none"), "cannot read `none`");
    write("text", b"hello");
    fails(folder.path(), &component("text"), "not a core module");
    let module = r#"(module (import "env" "sin" (func)))"#;
    write("module", &wat::parse_str(module).unwrap());
    fails(folder.path(), &component("module"), "`sin` of `env`");
    assert!(!folder.path().join("out.wasm").exists());
    // A component that is shipped gets a declaration.
    let echo = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/echo.wasm");
    let declare = ["component", echo.to_str().unwrap(), "-o", "out.wasm"];
    let output = halfopen(
        folder.path(),
        &[&declare[..], &["--isolation", "shared"]].concat(),
    );
    assert!(output.status.success());
    let inspected = halfopen(folder.path(), &["inspect", "out.wasm"]).stdout;
    let inspected = String::from_utf8(inspected).unwrap();
    assert!(inspected.contains("shared: one instance"), "{inspected}");
}

#[test]
fn a_folder_that_cannot_be_built_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fails(
        folder.path(),
        &["dev"],
        "no Cargo.toml, package.json or Makefile",
    );
    fails(folder.path(), &["dev", "none"], "cannot build `none`");
}

#[test]
fn variables_come_from_a_file_and_a_flag_overrides_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("env"), "COLOUR\n").unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--env-file", "env"];
    fails(folder.path(), &serve, "`env`: line 1: write NAME=VALUE");
    let config = "[services.echo]\nlisten = [\"127.0.0.1:0\"]\nenv-file = [\"other\"]\n";
    fs::write(folder.path().join("halfopen.toml"), config).unwrap();
    let output = halfopen(folder.path(), &["check", "halfopen.toml"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("halfopen.toml:3: "), "{stderr}");
    assert!(stderr.contains("`other`: No such file"), "{stderr}");
}
