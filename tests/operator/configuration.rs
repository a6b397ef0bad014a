//! The configuration file.

use std::fs;

use anyhow::{Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command, run};

use super::host::{BINARIES, folder, is_served};

#[test]
fn several_services_run_in_one_process() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    let config = format!(
        r#"
        no-status = true

        [services.echo]
        listen = ["127.0.0.1:0"]
        isolation = "shared"
        workers = 2
        args = ["--quiet"]

        [services.sums]
        component = "{}"
        listen = ["127.0.0.1:0", "[::1]:0"]
        max-connections = 10
        "#,
        guest_path("digest").display()
    );
    fs::write(&file, config)?;
    let mut check = command(&BINARIES.halfopen, ["check"]);
    check.arg(&file);
    let checked = run(check)?;
    ensure!(checked.status.success(), "{checked:?}");
    ensure!(checked.stdout.len() == 2, "{checked:?}");

    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&file);
    let server = Server::start(serve, 3)?;
    let [echo, v4, v6] = server.addresses[..] else {
        anyhow::bail!("{:?}", server.addresses)
    };
    is_served(&mut Client::connect(echo)?)?;
    for address in [v4, v6] {
        let mut client = Client::connect(address)?;
        client.fin()?;
        let (answer, _) = client.end()?;
        ensure!(answer.starts_with(b"0 bytes, SHA-256"), "{answer:?}");
    }
    Ok(())
}

#[test]
fn every_mistake_is_reported_with_its_line() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("bad.toml");
    fs::write(
        &file,
        "wacth = true\n\n[services.a]\nlisten = \"127.0.0.1\"\nmax-conections = 3\n\
         [services.b]\ncomponent = \"missing.wasm\"\ntls-cert = \"cert.pem\"\n",
    )?;
    let mut check = command(&BINARIES.halfopen, ["check"]);
    check.arg(&file);
    let checked = run(check)?;
    ensure!(checked.status.code() == Some(1), "{checked:?}");
    for (line, what) in [
        (1, "did you mean `watch`?"),
        (4, "the port is missing"),
        (5, "did you mean `max-connections`?"),
        (8, "each `--tls-cert` needs its `--tls-key`"),
    ] {
        let start = format!("{}:{line}: ", file.display());
        ensure!(
            checked
                .stderr
                .iter()
                .any(|error| error.starts_with(&start) && error.contains(what)),
            "{line} {what}: {checked:#?}"
        );
    }
    // `serve` reports the same, and serves nothing.
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&file);
    let served = run(serve)?;
    ensure!(
        !served.status.success() && served.stdout.is_empty(),
        "{served:?}"
    );
    ensure!(
        served.stderr.join("\n").contains(":4: `listen`"),
        "{served:?}"
    );

    fs::write(&file, "[services.b]\ncomponent = \"missing.wasm\"\n")?;
    let mut check = command(&BINARIES.halfopen, ["check"]);
    check.arg(&file);
    let checked = run(check)?;
    ensure!(
        checked
            .stderr
            .join("\n")
            .contains("bad.toml:2: cannot serve"),
        "{checked:?}"
    );
    ensure!(
        checked.stderr.join("\n").contains("missing.wasm"),
        "{checked:?}"
    );
    Ok(())
}

#[test]
fn the_environment_overrides_the_file() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    fs::write(&file, "[services.my-echo]\nlisten = [\"192.0.2.1:7\"]\n")?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&file);
    serve.env("HALFOPEN_MY_ECHO_LISTEN", "127.0.0.1:0");
    serve.env("HALFOPEN_ACCESS_LOG", "true");
    let server = Server::start(serve, 1)?;
    is_served(&mut Client::connect(server.address())?)?;
    server.logged("service=\"my-echo\"")?;

    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&file);
    serve.env("HALFOPEN_MY_ECHO_MAX_CONNECTIONS", "many");
    let served = run(serve)?;
    ensure!(!served.status.success(), "{served:?}");
    let errors = served.stderr.join("\n");
    ensure!(
        errors.contains("HALFOPEN_MY_ECHO_MAX_CONNECTIONS"),
        "{errors}"
    );
    Ok(())
}
