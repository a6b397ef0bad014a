//! The isolation that a component declares: `serve` follows it, and warns where its flags say
//! otherwise.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command, run};
use rustix::process::Signal;

use super::host::{BINARIES, folder, make};

/// The warning about a service that is not run as it declares.
const WARNING: &str = " declares the isolation `shared`";

fn serve(component: &Path, flags: &[&str]) -> Result<Server> {
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve.args(flags).arg(component);
    Server::start(serve, 1)
}

/// Enters the chat under a name.
fn enter(server: &Server, name: &str) -> Result<Client> {
    let mut client = Client::connect(server.address())?;
    client.send(format!("{name}\n").as_bytes())?;
    hears(&mut client, "What is your name?\n")?;
    hears(&mut client, "Welcome. There are /who and /quit.\n")?;
    Ok(client)
}

fn hears(client: &mut Client, text: &str) -> Result<()> {
    let heard = client.receive(text.len())?;
    let same = heard == text.as_bytes();
    ensure!(same, "`{}` instead of `{text}`", heard.escape_ascii());
    Ok(())
}

/// What one client says, another one hears.
fn shares(server: &Server) -> Result<()> {
    let mut one = enter(server, "one")?;
    let mut other = enter(server, "other")?;
    other.send(b"hi\n")?;
    hears(&mut one, "* other is here\nother: hi\n").context("the connections share nothing")
}

/// Stops the server, and checks that it has warned or not.
fn warned(server: Server, what: Option<&str>) -> Result<()> {
    if let Some(what) = what {
        let line = server.logged_line(WARNING)?;
        ensure!(line.contains(what), "{line}");
    }
    let stopped = server.stop(Signal::TERM)?;
    let log = stopped.stderr.join("\n");
    ensure!(log.contains(WARNING) == what.is_some(), "{log}");
    Ok(())
}

#[test]
fn a_service_that_declares_it_shares_one_instance_without_flags() -> Result<()> {
    for flags in [&[][..], &["--isolation", "shared"], &["--workers", "1"]] {
        let server = serve(&guest_path("chat"), flags)?;
        shares(&server)?;
        warned(server, None)?;
    }
    Ok(())
}

#[test]
fn flags_that_contradict_the_declaration_are_obeyed_with_a_warning() -> Result<()> {
    for (flags, what) in [
        (
            &["--isolation", "connection"][..],
            "each connection has an instance of its own",
        ),
        (
            &["--isolation", "shared", "--workers", "2"],
            "2 instances share the connections",
        ),
        (&["--workers", "2"], "2 instances share the connections"),
    ] {
        let server = serve(&guest_path("chat"), flags)?;
        let mut one = enter(&server, "one")?;
        let mut other = enter(&server, "other")?;
        other.send(b"hi\n/who\n")?;
        hears(&mut other, "* here: other\n")?;
        // Behind what `other` said, if they shared it.
        one.send(b"/who\n")?;
        hears(&mut one, "* here: one\n").with_context(|| format!("{flags:?} was not obeyed"))?;
        warned(server, Some(what))?;
    }
    Ok(())
}

/// The other declaration: an instance for each connection.
#[test]
fn a_service_that_declares_it_has_an_instance_for_each_connection() -> Result<()> {
    let warning = "declares the isolation `connection`";
    for (flags, second) in [
        (&[][..], "1\n"),
        (&["--isolation", "connection"], "1\n"),
        (&["--isolation", "shared"], "2\n"),
    ] {
        let server = serve(&guest_path("solo"), flags)?;
        for answer in ["1\n", second] {
            let mut client = Client::connect(server.address())?;
            client.send(b"line\n")?;
            ensure!(client.receive(2)? == answer.as_bytes(), "{flags:?}");
        }
        let stopped = server.stop(Signal::TERM)?;
        let log = stopped.stderr.join("\n");
        ensure!(log.contains(warning) == (second == "2\n"), "{log}");
    }
    Ok(())
}

/// A component of any kind without a declaration is served as before.
#[test]
fn without_a_declaration_nothing_is_shared_and_workers_need_the_flag() -> Result<()> {
    let server = serve(&guest_path("echo"), &["--isolation", "shared"])?;
    Client::connect(server.address())?.exchange(1000, 1)?;
    warned(server, None)?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--workers", "2"]);
    serve
        .args(["--listen", "127.0.0.1:0"])
        .arg(guest_path("echo"));
    let refused = run(serve)?;
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure!(
        refused
            .stderr
            .join("\n")
            .contains("add `--isolation shared`"),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn precompiled_code_declares_what_its_component_declares() -> Result<()> {
    let folder = folder()?;
    let native = folder.path().join("chat.cwasm");
    make("compile", &guest_path("chat"), &native)?;
    let server = serve(&native, &["--allow-precompiled"])?;
    shares(&server)?;
    warned(server, None)?;
    let flags = ["--allow-precompiled", "--isolation", "connection"];
    let server = serve(&native, &flags)?;
    warned(server, Some("each connection has an instance of its own"))
}

/// A composed service has one instance, and still says what it declares.
#[test]
fn a_composed_service_shares_and_declares_it() -> Result<()> {
    let folder = folder()?;
    let composed = folder.path().join("composed.wasm");
    make("compose", &guest_path("chat"), &composed)?;
    for (component, declared) in [
        (
            &guest_path("chat"),
            "shared: one instance for all connections",
        ),
        (&composed, "shared: one instance for all connections"),
        (&guest_path("echo"), "not declared"),
    ] {
        let mut inspect = command(&BINARIES.halfopen, ["inspect"]);
        inspect.arg(component);
        let text = run(inspect)?.stdout.join("\n");
        ensure!(text.contains(declared), "{text}");
    }
    for program in [&BINARIES.halfopen, &BINARIES.wasmtime] {
        let mut command = command(program, ["run"]);
        match program == &BINARIES.halfopen {
            true => command.args(["--allow-listen", "127.0.0.1:*"]),
            false => command.args(["-S", "inherit-network"]),
        };
        command.arg(&composed).args(["--listen", "127.0.0.1:0"]);
        shares(&Server::start(command, 1)?)?;
    }
    Ok(())
}

#[test]
fn check_shows_the_isolation_and_the_contradiction() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    let config = |name: &str, more: &str| {
        let component = guest_path("chat");
        format!(
            "[services.{name}]\ncomponent = \"{}\"\nlisten = [\"127.0.0.1:0\"]\n{more}\n",
            component.display()
        )
    };
    let more = "isolation = \"shared\"\nworkers = 2";
    std::fs::write(&file, config("room", "") + &config("split", more))?;
    let mut check = command(&BINARIES.halfopen, ["check"]);
    check.arg(&file);
    let checked = run(check)?;
    ensure!(checked.status.success(), "{checked:?}");
    // What a service asks for has a line as well.
    let served = |line: &&String| line.contains("can be served");
    let served: Vec<_> = checked.stdout.iter().filter(served).collect();
    let [room, split] = served[..] else {
        anyhow::bail!("{checked:?}")
    };
    ensure!(
        room.ends_with("`room` can be served, isolation shared"),
        "{room}"
    );
    ensure!(
        split.ends_with("`split` can be served, isolation shared, 2 workers"),
        "{split}"
    );
    let [warning] = &checked.stderr[..] else {
        anyhow::bail!("{checked:?}")
    };
    ensure!(
        warning.contains("`split`") && warning.contains(WARNING),
        "{warning}"
    );
    Ok(())
}

/// A new version of a component may declare something else.
#[test]
fn a_reload_follows_the_declaration_of_the_new_version() -> Result<()> {
    let folder = folder()?;
    let component = folder.path().join("service.wasm");
    std::fs::copy(guest_path("echo"), &component)?;
    let server = serve(&component, &[])?;
    let new = folder.path().join("new.wasm");
    std::fs::copy(guest_path("chat"), &new)?;
    std::fs::rename(&new, &component)?;
    server.signal(Signal::HUP)?;
    server.logged("reloaded;")?;
    shares(&server)?;
    warned(server, None)
}
