//! The page at `/watch`, in a browser. Needs `node`, `chromium`, and `npm ci --prefix tests/node`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use halfopen_tests::runner::{Binaries, guest_path, root};
use halfopen_tests::server::{Server, command};
use halfopen_tests::tools::{is_missing, skipped};

/// Starts a service with the page, and returns the page's address as well.
fn serve(guest: &str, flags: &[&str]) -> Result<(Server, String)> {
    let binaries = Binaries::find(env!("CARGO_BIN_EXE_wasmtime"));
    let address = ["serve", "--listen", "127.0.0.1:0", "--admin", "0"];
    let mut serve = command(&binaries.halfopen, address);
    serve.args(flags).arg(guest_path(guest));
    serve.args(["--", "--quiet"]);
    let server = Server::start(serve, 1)?;
    let line = server.logged_line("metrics on http://")?;
    let address = line
        .split_once("http://")
        .and_then(|(_, rest)| rest.split_once('/'))
        .context("no address")?;
    let address = address.0.to_owned();
    Ok((server, address))
}

/// Whether the check has to be skipped.
fn is_skipped(check: &str, tools: &[&str]) -> Result<bool> {
    let what = format!("the page: {check}");
    for tool in tools {
        if is_missing(tool, &what)? {
            return Ok(true);
        }
    }
    let modules = root().join("tests/node/node_modules");
    if tools.contains(&"chromium") && !modules.join("playwright-core").exists() {
        skipped(&what, "`npm ci --prefix tests/node`")?;
        return Ok(true);
    }
    Ok(false)
}

fn passes(check: &str, mut node: Command) -> Result<()> {
    let output = node.output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{check}:\n{out}\n{errors}");
    Ok(())
}

/// Runs a check in a browser against an echo with these flags.
fn check(name: &str, flags: &[&str]) -> Result<()> {
    check_of("echo", name, flags)
}

/// Runs a check in a browser against a service with these flags.
fn check_of(guest: &str, name: &str, flags: &[&str]) -> Result<()> {
    if is_skipped(name, &["node", "chromium"])? {
        return Ok(());
    }
    let (server, admin) = serve(guest, flags)?;
    let script = root().join(format!("tests/node/page/{name}.mjs"));
    let mut node = command("node", [script]);
    node.args([admin, server.address().to_string()]);
    passes(name, node).with_context(|| server.errors().join("\n"))
}

#[test]
fn connections_are_shown_as_they_are() -> Result<()> {
    check("shows", &["--watch-payload"])
}

#[test]
fn each_side_ends_by_itself_and_the_state_has_its_name() -> Result<()> {
    check_of("strain", "half-open", &[])
}

#[test]
fn directions_that_wait_are_marked_until_they_go_on() -> Result<()> {
    check("blocked", &[])
}

#[test]
fn limits_are_marked_where_they_strike() -> Result<()> {
    check("limits", &["--write-timeout", "1"])
}

#[test]
fn all_of_it_is_printed() -> Result<()> {
    check("prints", &[])
}

#[test]
fn ten_thousand_connections_fit_into_a_tab() -> Result<()> {
    let flags = ["--isolation", "shared", "--max-connections", "10100"];
    check("many", &flags)
}

#[test]
fn a_browser_that_stands_still_harms_nobody_and_is_told_what_it_missed() -> Result<()> {
    let flags = ["--isolation", "shared", "--workers", "1", "--watch-payload"];
    check("frozen", &flags)
}

#[test]
fn connections_are_reset_and_peers_banned() -> Result<()> {
    check("orders", &["--admin-write"])
}

#[test]
fn without_a_flag_the_page_only_shows() -> Result<()> {
    check("read-only", &[])
}

#[test]
fn pages_of_other_sites_get_nothing() -> Result<()> {
    check("sites", &["--admin-write"])
}

#[test]
fn the_page_is_accessible() -> Result<()> {
    check("accessible", &["--watch-payload", "--admin-write"])
}

#[test]
fn the_parts_without_a_browser_do_what_they_should() -> Result<()> {
    if is_skipped("units", &["node"])? {
        return Ok(());
    }
    let script = root().join("tests/node/page/units.mjs");
    let mut node = command("node", ["--test"]);
    node.arg(script);
    passes("units", node)
}
