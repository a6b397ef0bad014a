//! The page at `/watch` of the admin address, over plain HTTP: who may read it and give orders.
//! `streams` has its events, and `tests/page.rs` the page in a browser.

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::server::{command, run};
use serde_json::Value;

use super::host::{BINARIES, connect_from, is_refused, is_served, serve, served, with_admin};
use super::requests::{ask, ask_with, denied, order};

#[test]
fn the_page_and_its_files_are_there() -> Result<()> {
    let (_server, admin) = with_admin("echo", &[], &["--quiet"])?;
    for (path, kind) in [
        ("/watch", "text/html; charset=utf-8"),
        ("/watch/page.css", "text/css; charset=utf-8"),
        ("/watch/main.js", "text/javascript; charset=utf-8"),
        ("/connections", "application/json"),
    ] {
        let answer = ask(&admin, &format!("GET {path}"))?;
        ensure!(
            answer.status == 200 && !answer.body.is_empty(),
            "{path}: {}",
            answer.head
        );
        let policy = answer.header("content-security-policy").unwrap_or_default();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
        ] {
            ensure!(policy.contains(part), "{path}: {policy}");
        }
        for (name, value) in [
            ("content-type", kind),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            ensure!(
                answer.header(name) == Some(value),
                "{path}: {}",
                answer.head
            );
        }
        let head = ask(&admin, &format!("HEAD {path}"))?;
        ensure!(head.status == 200 && head.body.is_empty(), "{path}");
    }
    ensure!(ask(&admin, "GET /watch/nothing.js")?.status == 404);
    // Without an admin address there is no page.
    let server = serve("echo", &[], &["--quiet"])?;
    served(&server)?;
    ensure!(
        !server.errors().join("").contains("http://"),
        "{:?}",
        server.errors()
    );
    Ok(())
}

#[test]
fn names_of_others_lead_nowhere() -> Result<()> {
    let flags = ["--admin-host", "admin.example", "--admin-write"];
    let (_server, admin) = with_admin("echo", &flags, &["--quiet"])?;
    let paths = [
        "GET /watch",
        "GET /watch/main.js",
        "GET /events",
        "GET /connections",
        "GET /bans",
        "POST /connections/1/reset",
        "POST /peers/127.0.0.1/ban?seconds=1",
        "DELETE /peers/127.0.0.1/ban",
    ];
    for path in paths {
        let header = ("X-Halfopen", "1");
        let attacker = ask_with(&admin, path, &[("Host", "attacker.example"), header])?;
        denied(&attacker, 403, "--admin-host attacker.example").context(path)?;
        denied(&ask_with(&admin, path, &[header])?, 403, "Host").context(path)?;
    }
    for host in [
        "admin.example",
        "ADMIN.EXAMPLE:80",
        "localhost:1",
        "127.0.0.1",
        "[::1]:9",
    ] {
        ensure!(
            ask_with(&admin, "GET /watch", &[("Host", host)])?.status == 200,
            "{host}"
        );
    }
    // Whoever scrapes uses any name.
    for path in ["/metrics", "/healthz", "/readyz"] {
        let headers = [
            ("Host", "attacker.example"),
            ("Origin", "http://attacker.example"),
        ];
        ensure!(
            ask_with(&admin, &format!("GET {path}"), &headers)?.status == 200,
            "{path}"
        );
    }
    Ok(())
}

#[test]
fn pages_of_other_sites_are_denied() -> Result<()> {
    let (server, admin) = with_admin("echo", &["--admin-write"], &["--quiet"])?;
    let mut client = served(&server)?;
    let host = ("Host", &*admin);
    let own = format!("http://{admin}");
    for (name, value) in [
        ("Origin", "http://attacker.example"),
        ("Origin", "http://127.0.0.1:1"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        for request in [
            "GET /watch",
            "GET /watch/main.js",
            "GET /events",
            "GET /connections",
            "GET /bans",
            "POST /connections/1/reset",
            "POST /peers/127.0.0.1/ban?seconds=1",
            "DELETE /peers/127.0.0.1/ban",
        ] {
            let headers = [host, (name, value), ("X-Halfopen", "1")];
            let answer = ask_with(&admin, request, &headers)?;
            denied(&answer, 403, "another site").with_context(|| format!("{request} {value}"))?;
        }
    }
    let headers = [host, ("Origin", &own), ("Sec-Fetch-Site", "same-origin")];
    ensure!(ask_with(&admin, "GET /connections", &headers)?.status == 200);
    // The question that a browser asks before another site may set a header.
    let preflight = [
        host,
        ("Origin", "http://attacker.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "x-halfopen"),
    ];
    let answer = ask_with(&admin, "OPTIONS /connections/1/reset", &preflight)?;
    denied(&answer, 403, "another site")?;
    ensure!(answer.header("access-control-allow-origin").is_none());
    // A form of another site sends neither header in an old browser.
    let form = [host, ("Content-Type", "text/plain")];
    let answer = ask_with(&admin, "POST /connections/1/reset", &form)?;
    denied(&answer, 403, "x-halfopen")?;
    is_served(&mut client)
}

#[test]
fn orders_need_a_flag() -> Result<()> {
    let (server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let mut client = served(&server)?;
    for request in [
        "POST /connections/1/reset",
        "POST /peers/127.0.0.1/ban?seconds=60",
        "DELETE /peers/127.0.0.1/ban",
    ] {
        denied(&order(&admin, request)?, 403, "--admin-write")?;
    }
    is_served(&mut client)?;
    served(&server)?;
    Ok(())
}

#[test]
fn orders_that_make_no_sense_are_refused() -> Result<()> {
    let (server, admin) = with_admin("echo", &["--admin-write"], &["--quiet"])?;
    let mut client = served(&server)?;
    for (request, status, part) in [
        ("POST /connections/x/reset", 400, "`x` is not the number"),
        ("POST /connections/-1/reset", 400, "`-1` is not the number"),
        (
            "POST /connections/999999/reset",
            404,
            "no connection 999999 is open",
        ),
        ("GET /connections/1/reset", 405, "use POST"),
        ("POST /connections", 405, "use GET"),
        ("POST /events", 405, "use GET"),
        ("POST /watch", 405, "use GET"),
        ("GET /peers/127.0.0.1/ban", 405, "use POST or DELETE"),
        (
            "POST /peers/nobody/ban?seconds=1",
            400,
            "`nobody`: write an address or a network",
        ),
        ("POST /peers/127.0.0.1/ban?seconds=0", 400, "?seconds=N"),
        ("POST /peers/127.0.0.1/ban?seconds=-1", 400, "?seconds=N"),
        ("POST /peers/127.0.0.1/ban?seconds=1e300", 400, "?seconds=N"),
        ("POST /bans", 405, "use GET or HEAD"),
        (
            "DELETE /peers/127.0.0.1/ban",
            404,
            "127.0.0.1/32 is not banned",
        ),
    ] {
        denied(&order(&admin, request)?, status, part).context(request)?;
    }
    is_served(&mut client)
}

/// The number of the connection of a client.
fn number(admin: &str, client: &Client) -> Result<u64> {
    let list: Value = serde_json::from_str(&ask(admin, "GET /connections")?.body)?;
    let list = list.as_array().context("the answer is no list")?;
    let peer = client.address()?.to_string();
    let found = list.iter().find(|connection| connection["peer"] == *peer);
    found
        .and_then(|connection| connection["id"].as_u64())
        .with_context(|| format!("{peer} is not in {list:?}"))
}

#[test]
fn a_connection_is_reset() -> Result<()> {
    let (server, admin) = with_admin("echo", &["--admin-write"], &["--quiet"])?;
    let mut other = served(&server)?;
    let mut client = served(&server)?;
    let id = number(&admin, &client)?;
    ensure!(order(&admin, &format!("POST /connections/{id}/reset"))?.status == 200);
    ensure!(client.end()?.1 == End::Rst);
    is_served(&mut other)?;
    // The page's own request has no header of ours, and its own origin.
    let id = number(&admin, &other)?;
    let origin = format!("http://{admin}");
    let headers = [("Host", &*admin), ("Origin", &origin)];
    let answer = ask_with(&admin, &format!("POST /connections/{id}/reset"), &headers)?;
    ensure!(answer.status == 200, "{}", answer.body);
    ensure!(other.end()?.1 == End::Rst);
    Ok(())
}

#[test]
fn peers_are_banned_and_served_again() -> Result<()> {
    let (server, admin) = with_admin("echo", &["--admin-write"], &["--quiet"])?;
    let mut bystander = served(&server)?;
    let banned = connect_from([127, 0, 0, 2], server.address())?;
    ensure!(!is_refused(banned.try_clone()?)?);
    let answer = order(&admin, "POST /peers/127.0.0.2/31/ban?seconds=3600")?;
    ensure!(
        answer.status == 200 && answer.body.contains("127.0.0.2/31"),
        "{}",
        answer.body
    );
    ensure!(is_refused(banned)?, "its open connection goes on");
    for from in [[127, 0, 0, 2], [127, 0, 0, 3]] {
        ensure!(
            is_refused(connect_from(from, server.address())?)?,
            "{from:?}"
        );
    }
    is_served(&mut bystander)?;
    let bans = ask(&admin, "GET /bans")?.body;
    ensure!(bans.starts_with("127.0.0.2/31 "), "{bans}");
    ensure!(order(&admin, "DELETE /peers/127.0.0.2%2F31/ban")?.status == 200);
    ensure!(!is_refused(connect_from(
        [127, 0, 0, 2],
        server.address()
    )?)?);
    Ok(())
}

#[test]
fn flags_without_an_admin_address_are_odd() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("halfopen.toml");
    let config = |top: &str| format!("{top}[services.echo]\nlisten = \"127.0.0.1:0\"\n");
    let check = || -> Result<String> {
        let mut check = command(&BINARIES.halfopen, ["check"]);
        check.arg(&file);
        let checked = run(check)?;
        ensure!(checked.status.success() || !checked.stderr.is_empty());
        Ok(checked.stderr.join("\n"))
    };
    for flag in ["admin-write = true\n", "admin-host = [\"a.example\"]\n"] {
        std::fs::write(&file, config(flag))?;
        let key = flag.split(' ').next().context("no key")?;
        let warned = check()?;
        ensure!(
            warned.contains(&format!("`{key}` has no effect without `admin`")),
            "{warned}"
        );
        std::fs::write(&file, config(&format!("admin = \"0\"\n{flag}")))?;
        ensure!(!check()?.contains("no effect"));
    }
    std::fs::write(&file, config("admin-host = [\"http://a.example\"]\n"))?;
    let mistake = check()?;
    ensure!(
        mistake.contains("write a name without scheme and port"),
        "{mistake}"
    );
    Ok(())
}
