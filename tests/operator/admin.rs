//! The page at `/watch` of the admin address, over plain HTTP: who may read it and give orders,
//! and its stream of events. `tests/page.rs` has the page in a browser.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::{PATIENCE, eventually};
use halfopen_tests::server::{Server, command, run};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::host::{BINARIES, connect_from, get, is_refused, is_served, serve, served, with_admin};

/// An answer: its status, its head and its body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Asks with exactly these headers.
fn ask_with(admin: &str, request: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    write!(stream, "{request} HTTP/1.1\r\n{headers}\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("this is not HTTP")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

/// Asks as a program does that names the address.
fn ask(admin: &str, request: &str) -> Result<Answer> {
    ask_with(admin, request, &[("Host", admin)])
}

/// Gives an order as a program does.
fn order(admin: &str, request: &str) -> Result<Answer> {
    ask_with(admin, request, &[("Host", admin), ("X-Halfopen", "test")])
}

/// The text of a denial, which a line must explain.
fn denied(answer: &Answer, status: u16, part: &str) -> Result<()> {
    let Answer {
        status: found,
        body,
        ..
    } = answer;
    ensure!(*found == status, "{found} {body}");
    ensure!(body.contains(part) && body.lines().count() == 1, "{body}");
    Ok(())
}

/// A stream of events.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(admin: &str, more: &[(&str, &str)]) -> Result<Self> {
        Self::over(TcpStream::connect(admin)?, admin, more)
    }

    fn over(mut stream: TcpStream, admin: &str, more: &[(&str, &str)]) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let more: String = more
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        write!(
            stream,
            "GET /events HTTP/1.1\r\nHost: {admin}\r\n{more}\r\n"
        )?;
        let mut events = Events(BufReader::new(stream));
        let status = events.line()?;
        ensure!(status.starts_with("HTTP/1.1 200"), "{status}");
        while !events.line()?.is_empty() {}
        Ok(events)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.0.read_line(&mut line)? > 0, "the stream has ended");
        Ok(line.trim_end().to_owned())
    }

    /// The next event, and its id if it has one. Skips what HTTP puts around chunks.
    fn next(&mut self) -> Result<(Option<String>, Value)> {
        let mut id = None;
        loop {
            let line = self.line()?;
            if let Some(found) = line.strip_prefix("id: ") {
                id = Some(found.to_owned());
            }
            if let Some(json) = line.strip_prefix("data: ") {
                return Ok((id, serde_json::from_str(json)?));
            }
        }
    }

    /// The next event of a kind.
    fn until(&mut self, kind: &str) -> Result<(Option<String>, Value)> {
        loop {
            let next = self.next()?;
            if next.1["event"] == kind {
                return Ok(next);
            }
        }
    }
}

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
fn events_come_as_they_happen_and_go_on_where_they_were() -> Result<()> {
    let (server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let mut old = served(&server)?;
    let mut first = Events::open(&admin, &[])?;
    let (id, hello) = first.next()?;
    ensure!(id.is_none() && hello["event"] == "hello", "{hello}");
    ensure!(
        hello["pid"] == server.id() && hello["may_write"] == false,
        "{hello}"
    );
    let (_, snapshot) = first.next()?;
    ensure!(snapshot["event"] == "connection", "{snapshot}");
    ensure!(snapshot["peer"] == old.address()?.to_string(), "{snapshot}");
    let client = served(&server)?;
    let (_, accepted) = first.until("accepted")?;
    ensure!(
        accepted["peer"] == client.address()?.to_string(),
        "{accepted}"
    );
    let (seen, data) = first.until("data")?;
    ensure!(data["length"] == 1 && data["dir"] == "in", "{data}");
    let (seen, seq) = (
        seen.context("no id")?,
        data["seq"].as_u64().context("no seq")?,
    );

    // What comes after that event, and nothing before it.
    let mut second = Events::open(&admin, &[("Last-Event-ID", &seen)])?;
    let (_, next) = second.until("data")?;
    ensure!(
        next["seq"].as_u64() == Some(seq + 1) && next["dir"] == "out",
        "{next}"
    );
    // Numbers of another process mean nothing.
    let mut third = Events::open(&admin, &[("Last-Event-ID", &format!("1.a-{seq}"))])?;
    let (_, accepted) = third.until("accepted")?;
    ensure!(accepted["seq"].as_u64() < Some(seq), "{accepted}");
    is_served(&mut old)
}

/// Silence is broken by comments, and the limit on other requests does not hold for streams.
#[test]
fn a_stream_stays_open_while_nothing_happens() -> Result<()> {
    let (server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let mut events = Events::open(&admin, &[])?;
    events.until("hello")?;
    let began = Instant::now();
    while !events.line()?.starts_with(':') {}
    ensure!(
        began.elapsed() > Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let client = served(&server)?;
    let (_, accepted) = events.until("accepted")?;
    ensure!(
        accepted["peer"] == client.address()?.to_string(),
        "{accepted}"
    );
    Ok(())
}

#[test]
fn eight_may_watch() -> Result<()> {
    let (server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let mut eight = (0..8)
        .map(|_| Events::open(&admin, &[]))
        .collect::<Result<Vec<_>>>()?;
    denied(&ask(&admin, "GET /events")?, 503, "8 clients watch already")?;
    // Those that watch take no place of others.
    let address: SocketAddr = admin.parse()?;
    let slow = (0..32)
        .map(|_| Client::connect(address))
        .collect::<Result<Vec<_>>>()?;
    ensure!(get(&admin, "/healthz")?.0.contains("200"));
    drop(slow);
    served(&server)?;
    for events in &mut eight {
        events.until("accepted")?;
    }
    // A place is free when the browser has gone.
    eight.pop();
    eventually("a place is free", || Ok(Events::open(&admin, &[]).is_ok()))
}

/// A client that asks for events and reads none of them.
fn stalled(admin: &str) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(&admin.parse::<SocketAddr>()?.into())?;
    Ok(socket.into())
}

#[test]
fn a_browser_that_does_not_read_loses_events_and_holds_up_nobody() -> Result<()> {
    let (server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let mut stalled = Events::over(stalled(&admin)?, &admin, &[])?;
    let mut clients = (0..4)
        .map(|_| served(&server))
        .collect::<Result<Vec<_>>>()?;
    // Some 50,000 events: together more than there is room for in kernel and rings.
    let mut rounds = |server: &Server| -> Result<usize> {
        for _ in 0..6_250 {
            for client in &mut clients {
                client.send(b"x")?;
            }
            for client in &mut clients {
                client.receive(1)?;
            }
        }
        server.resident()
    };
    let before = rounds(&server)?;
    let after = rounds(&server)?;
    ensure!(
        after < before + 16 * 1024,
        "{before} KiB grew to {after} KiB"
    );
    let (_, lost) = stalled.until("lost")?;
    ensure!(lost["count"].as_u64() > Some(0), "{lost}");
    // It goes on with what is there.
    stalled.until("data")?;
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
