//! Grants: each denial is counted, and logged with the flag that lifts it; what a component asks
//! for and gets is shown before it runs.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::patience::eventually;
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, Stopped, command, run};
use rustix::process::Signal;

use super::host::{BINARIES, folder, metric, serve, with_admin};

/// Sends a line to a service that asks for grants, and waits for the answer.
fn ask(server: &Server, text: &str, expected: &str) -> Result<()> {
    let mut client = Client::connect(server.address())?;
    client.send(format!("{text}\n").as_bytes())?;
    let expected = format!("{expected}\n");
    let answer = client.receive(expected.len())?;
    ensure!(
        answer == expected.as_bytes(),
        "{text}: {}",
        answer.escape_ascii()
    );
    Ok(())
}

#[test]
fn each_denial_is_counted_and_logged_with_its_flag() -> Result<()> {
    let (server, admin) = with_admin("inquirer", &[], &[])?;
    let denied = |what: &str| {
        metric(
            &admin,
            &format!("halfopen_denied_total{{service=\"inquirer\",what=\"{what}\"}}"),
        )
    };
    for what in ["connect", "listen", "lookup", "files"] {
        ensure!(denied(what)? == 0.0, "{what}");
    }
    // At the start.
    ensure!(denied("running")? == 1.0);
    server.logged("grant it with `--keep-running`")?;
    for (text, what, flag) in [
        ("lookup example.com", "lookup", "--allow-lookup example.com"),
        (
            "address 192.0.2.1:9",
            "connect",
            "--allow-connect 192.0.2.1:9",
        ),
        ("read data/one", "files", "--dir FOLDER::NAME"),
    ] {
        let error = if what == "files" {
            "NotFound"
        } else {
            "EACCES"
        };
        for times in 1..=3 {
            ask(&server, text, &format!("error {error}"))?;
            ensure!(denied(what)? == f64::from(times), "{what}");
        }
        server.logged(&format!("with `{flag}`"))?;
        let lines = server.errors();
        let logged = lines.iter().filter(|line| line.contains(flag)).count();
        ensure!(logged == 1, "{lines:?}");
    }
    let (server, admin) = with_admin("greedy", &[], &[])?;
    let mut client = Client::connect(server.address())?;
    client.send(b"listen\n")?;
    ensure!(client.receive(2)? == b"0:");
    let listens = "halfopen_denied_total{service=\"greedy\",what=\"listen\"}";
    ensure!(metric(&admin, listens)? == 1.0);
    server.logged("grant it with `--allow-listen 127.0.0.1:0`")?;
    let (server, _admin) = with_admin("asker", &[], &[])?;
    ask(&server, "connect example.com 443", "error EACCES")?;
    server.logged("grant it with `--allow-connect example.com:443`")
}

#[test]
fn what_leads_out_of_a_folder_or_changes_it_is_counted() -> Result<()> {
    let folder = folder()?;
    let dir = format!("{}::data:ro", folder.path().display());
    for guest in ["asker", "inquirer"] {
        let (server, admin) = with_admin(guest, &["--dir", &dir], &[])?;
        ask(&server, "read data/../secret", "error PermissionDenied")?;
        server.logged("outside of its folders")?;
        let mut client = Client::connect(server.address())?;
        client.send(b"write data/one x\n")?;
        ensure!(client.receive(6)? == b"error ");
        let name = format!("halfopen_denied_total{{service=\"{guest}\",what=\"files\"}}");
        eventually("both are counted", || Ok(metric(&admin, &name)? == 2.0))?;
    }
    Ok(())
}

#[test]
fn a_folder_that_has_gone_is_missing_for_new_instances() -> Result<()> {
    let folder = folder()?;
    let granted = folder.path().join("granted");
    fs::create_dir(&granted)?;
    fs::write(granted.join("one"), "first")?;
    let dir = format!("{}::data", granted.display());
    let flags = ["--isolation", "connection", "--dir", &dir];
    let (server, admin) = with_admin("asker", &flags, &[])?;
    ask(&server, "read data/one", "data first")?;
    fs::remove_dir_all(&granted)?;
    ask(&server, "read data/one", "error NotFound")?;
    server.logged("which was granted")?;
    let denied = metric(
        &admin,
        "halfopen_denied_total{service=\"asker\",what=\"files\"}",
    )?;
    ensure!(denied == 1.0);
    Ok(())
}

/// The lines of a command that fails.
fn fails(arguments: &[&str]) -> Result<String> {
    let failed = run(command(&BINARIES.halfopen, arguments))?;
    ensure!(!failed.status.success(), "{failed:?}");
    Ok(failed.stderr.join("\n"))
}

#[test]
fn a_folder_that_is_missing_is_one_line_at_the_start_and_for_check() -> Result<()> {
    let folder = folder()?;
    let missing = folder.path().join("missing").display().to_string();
    let guest = guest_path("asker").display().to_string();
    let said = "cannot grant the folder";
    let line = fails(&["serve", &guest, "--dir", &missing])?;
    ensure!(line.contains(said) && line.lines().count() == 1, "{line}");
    let line = fails(&[
        "run",
        "--dir",
        &missing,
        &guest_path("primitives").display().to_string(),
    ])?;
    ensure!(line.contains(said) && line.lines().count() == 1, "{line}");
    let config = folder.path().join("halfopen.toml");
    let text = format!(
        "[services.a]\ncomponent = {guest:?}\ndir = [\n  \".\",\n  \"missing::data:ro\",\n]\n"
    );
    fs::write(&config, text)?;
    let config = config.display().to_string();
    let lines = fails(&["check", &config])?;
    ensure!(
        lines.starts_with(&format!("{config}:5: ")) && lines.contains(said),
        "{lines}"
    );
    ensure!(lines.lines().count() == 1, "{lines}");
    let lines = fails(&["serve", &guest, "--dir", "::"])?;
    ensure!(lines.contains("FOLDER::NAME"), "{lines}");
    Ok(())
}

#[test]
fn grants_change_with_a_reload() -> Result<()> {
    let folder = folder()?;
    fs::create_dir(folder.path().join("data"))?;
    fs::write(folder.path().join("data/one"), "first")?;
    let config = folder.path().join("halfopen.toml");
    let component = guest_path("asker");
    let write = |more: &str| {
        let text = format!(
            "[services.a]\ncomponent = {component:?}\nlisten = [\"127.0.0.1:0\"]\n{more}\n"
        );
        fs::write(&config, text)
    };
    write("")?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&config);
    let server = Server::start(serve, 1)?;
    ask(&server, "read data/one", "error NotFound")?;
    write("dir = [\"data\"]\nkeep-running = true")?;
    server.signal(Signal::HUP)?;
    server.logged("reloaded")?;
    ask(&server, "read data/one", "data first")?;
    ask(&server, "starts", "starts 1")?;
    write("dir = [\"gone\"]")?;
    server.signal(Signal::HUP)?;
    let line = server.logged_line("not reloaded")?;
    ensure!(line.contains("cannot grant the folder"), "{line}");
    ask(&server, "read data/one", "data first")
}

#[test]
fn an_instance_that_is_kept_running_is_shared() -> Result<()> {
    let guest = guest_path("monitor").display().to_string();
    let echo = guest_path("echo").display().to_string();
    for arguments in [
        &[
            "serve",
            &guest,
            "--keep-running",
            "--isolation",
            "connection",
        ][..],
        &["serve", &echo, "--keep-running"],
    ] {
        let line = fails(arguments)?;
        ensure!(line.contains("add `--isolation shared`"), "{line}");
        ensure!(line.lines().count() == 1, "{line}");
    }
    Ok(())
}

/// A server that keeps instances running stops at once all the same.
#[test]
fn what_runs_without_connections_ends_with_the_server() -> Result<()> {
    for guest in ["asker", "inquirer"] {
        let server = serve(guest, &["--keep-running", "--grace", "3600"], &[])?;
        eventually("it runs", || {
            let mut client = Client::connect(server.address())?;
            client.send(b"ticks\n")?;
            Ok(client.receive(7)? != b"ticks 0")
        })?;
        let stopped: Stopped = server.stop(Signal::TERM)?;
        ensure!(stopped.status.success(), "{stopped:?}");
    }
    Ok(())
}

/// `inspect` prints what a component asks for, what it gets, and how to run it.
#[test]
fn inspect_and_check_show_what_is_asked_and_granted() -> Result<()> {
    let inspect = |guest: &str, flags: &[&str]| -> Result<Vec<String>> {
        let mut inspect = command(&BINARIES.halfopen, ["inspect"]);
        inspect.arg(guest_path(guest)).args(flags);
        let shown = run(inspect)?;
        ensure!(shown.status.success(), "{shown:?}");
        Ok(shown.stdout)
    };
    let has = |lines: &[String], parts: &[&str]| -> Result<()> {
        let found = lines
            .iter()
            .any(|line| parts.iter().all(|part| line.contains(part)));
        ensure!(found, "{parts:?}: {lines:#?}");
        Ok(())
    };
    for (guest, what, flag, example) in [
        (
            "finger",
            "folders",
            "--dir FOLDER::NAME",
            &["--dir", "/::people:ro"][..],
        ),
        (
            "monitor",
            "connections to names",
            "--allow-connect NAME:PORT",
            &["--allow-connect", "example.com:443"],
        ),
        (
            "monitor",
            "running without connections",
            "--keep-running",
            &["--keep-running"],
        ),
        (
            "proxy",
            "outgoing connections",
            "--allow-connect IP:PORT",
            &["--inherit-network"],
        ),
        (
            "inquirer",
            "names",
            "--allow-lookup NAME",
            &["--allow-lookup", "*"],
        ),
        (
            "monitor",
            "variables",
            "--env NAME=VALUE",
            &["--env", "EVERY=1"],
        ),
    ] {
        let lines = inspect(guest, &[])?;
        has(&lines, &[what, "not granted: ", flag])?;
        has(&lines, &["halfopen serve ", flag])?;
        let lines = inspect(guest, example)?;
        has(&lines, &[what, " granted: "])?;
    }
    let folder = folder()?;
    let config = folder.path().join("halfopen.toml");
    let text = format!("[services.a]\ncomponent = {:?}\n", guest_path("monitor"));
    fs::write(&config, text)?;
    let mut check = command(&BINARIES.halfopen, ["check"]);
    check.arg(&config);
    let checked = run(check)?;
    ensure!(checked.status.success(), "{checked:?}");
    has(
        &checked.stdout,
        &[
            "`a` asks for running without connections",
            "`--keep-running`",
        ],
    )?;
    has(
        &checked.stdout,
        &[
            "`a` asks for connections to names",
            "`--allow-connect NAME:PORT`",
        ],
    )
}

/// The examples that use grants.
#[test]
fn finger_answers_from_files() -> Result<()> {
    let folder = folder()?;
    fs::write(
        folder.path().join("alice"),
        "At her desk.\n\u{1b}[31mReally.\n",
    )?;
    fs::write(folder.path().join(".hidden"), "no")?;
    let dir = format!("{}::people:ro", folder.path().display());
    let server = serve("finger", &["--dir", &dir], &[])?;
    let answer = |query: &str| -> Result<String> {
        let mut client = Client::connect(server.address())?;
        client.send(query.as_bytes())?;
        let (answer, _) = client.end()?;
        String::from_utf8(answer).context("not UTF-8")
    };
    ensure!(answer("\r\n")? == "alice\r\n");
    ensure!(answer("/W alice\r\n")? == "At her desk.\r\n[31mReally.\r\n");
    ensure!(answer("bob\r\n")? == "There is nobody named bob.\r\n");
    ensure!(answer("../alice\r\n")?.starts_with("There is nobody"));
    ensure!(answer(".hidden\r\n")?.starts_with("There is nobody"));
    ensure!(answer("alice@example.com\r\n")?.starts_with("Queries are not forwarded"));
    ensure!(
        answer(&"a".repeat(600))?.contains("longer than 512 bytes"),
        "a query has a limit"
    );
    Ok(())
}

/// The example for embedders.
#[test]
fn an_embedder_grants_by_the_builder() -> Result<()> {
    let watched = std::net::TcpListener::bind("127.0.0.1:0")?;
    let by_name = format!("localhost:{}", watched.local_addr()?.port());
    let example = BINARIES.embed.with_file_name("grants");
    let mut embedder = command(example, [guest_path("monitor")]);
    embedder.args(["127.0.0.1:0", &by_name, "example.invalid"]);
    let failed = run(embedder)?;
    ensure!(!failed.status.success(), "{failed:?}");
    ensure!(
        failed.stderr.join("\n").contains("example.com:443"),
        "{failed:?}"
    );

    let mut embedder = command(
        BINARIES.embed.with_file_name("grants"),
        [guest_path("monitor")],
    );
    embedder.args(["127.0.0.1:0", &by_name]);
    let server = Server::start(embedder, 1)?;
    let said = server.printed(1);
    ensure!(
        said == [format!("{by_name} accepts connections")],
        "{said:?}"
    );
    let (answer, _) = Client::connect(server.address())?.end()?;
    ensure!(
        answer.ends_with(b"accepts connections\n"),
        "{}",
        answer.escape_ascii()
    );
    Ok(())
}

#[test]
fn monitor_reports_what_it_found_out_alone() -> Result<()> {
    let watched = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = watched.local_addr()?;
    let (port, rule) = (address.port(), address.to_string());
    let by_name = format!("localhost:{port}");
    let flags = [
        "--keep-running",
        "--env",
        "EVERY=1",
        "--allow-connect",
        &rule,
        "--allow-connect",
        &by_name,
    ];
    let server = serve("monitor", &flags, &[&by_name])?;
    // Nobody has connected.
    let said = server.printed(1);
    ensure!(
        said == [format!("{by_name} accepts connections")],
        "{said:?}"
    );
    let report = || -> Result<String> {
        let (answer, _) = Client::connect(server.address())?.end()?;
        String::from_utf8(answer).context("not UTF-8")
    };
    ensure!(report()? == format!("{by_name} accepts connections\n"));
    drop(watched);
    let said = server.printed(2);
    ensure!(
        said[1] == format!("{by_name} fails: connection refused"),
        "{said:?}"
    );
    ensure!(report()?.contains("connection refused"));
    // Not granted, it does nothing, and says so.
    let server = serve("monitor", &[], &[&by_name])?;
    server.logged("grant it with `--keep-running`")?;
    std::thread::sleep(Duration::from_millis(50));
    let (answer, _) = Client::connect(server.address())?.end()?;
    ensure!(
        answer == b"Nothing is known.\n",
        "{}",
        answer.escape_ascii()
    );
    Ok(())
}
