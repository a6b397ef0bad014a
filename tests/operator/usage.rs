//! Mistakes of the first hour: each is answered by one line that names what to write instead.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::server::{Server, Stopped, command, run};

use super::host::{BINARIES, folder, get, is_served};

/// Runs `halfopen check` on a configuration.
fn check(text: &str, variables: &[(&str, &str)]) -> Result<Stopped> {
    let folder = folder()?;
    let file = written(&folder, "c.toml", text)?;
    let mut check = command(&BINARIES.halfopen, ["check"]);
    check.arg(file).envs(variables.iter().copied());
    run(check)
}

fn written(folder: &tempfile::TempDir, name: &str, text: &str) -> Result<PathBuf> {
    let file = folder.path().join(name);
    fs::write(&file, text)?;
    Ok(file)
}

/// Checks that a configuration is refused with these lines, and no other.
fn is_refused(text: &str, lines: &[(usize, &str)]) -> Result<()> {
    let checked = check(text, &[])?;
    let matches = |(error, (line, part)): (&String, &(usize, &str))| {
        error.contains(&format!("c.toml:{line}: ")) && error.contains(part)
    };
    ensure!(
        checked.status.code() == Some(1)
            && checked.stderr.len() == lines.len()
            && checked.stderr.iter().zip(lines).all(matches),
        "{text}: {checked:#?}"
    );
    Ok(())
}

/// Checks that a configuration is accepted with this warning.
fn is_doubted(text: &str, variables: &[(&str, &str)], warning: &str) -> Result<()> {
    let checked = check(text, variables)?;
    ensure!(
        checked.status.success() && checked.stderr.join("\n").contains(warning),
        "{text}: {checked:#?}"
    );
    Ok(())
}

#[test]
fn an_address_that_is_taken_twice_is_refused() -> Result<()> {
    let two = |first: &str, second: &str| {
        format!("[services.a]\nlisten = {first}\n[services.b]\nlisten = [\n  {second}]\n")
    };
    let taken = "the service `a` listens on";
    is_refused(&two("[\"127.0.0.1:4\"]", "\"localhost:4\""), &[(5, taken)])?;
    is_refused(&two("[\"*:4\"]", "\"[::1]:4\""), &[(5, taken)])?;
    is_refused(
        "admin = \"127.0.0.1:4\"\n[services.a]\nlisten = [\"0.0.0.0:4\"]\n",
        &[(1, "`admin` cannot listen on 127.0.0.1:4")],
    )?;
    for (first, second) in [
        ("0", "0"),
        ("\"127.0.0.2:4\"", "4"),
        ("\"[::]:4\"", "\"0.0.0.0:4\""),
    ] {
        let checked = check(&two(first, second), &[])?;
        ensure!(
            checked.status.success() && checked.stderr.is_empty(),
            "{checked:?}"
        );
    }
    // Without a file, too.
    let serve = ["serve", "--listen", ":4", "--admin", "4"];
    let served = run(command(&BINARIES.halfopen, serve))?;
    let error = served.stderr.join("\n");
    ensure!(
        error.contains("`admin` cannot listen on 127.0.0.1:4"),
        "{error}"
    );
    // These may be right, elsewhere or with sockets from systemd.
    is_doubted(
        "[services.a]\nlisten = [\"192.0.2.1:4\"]\n",
        &[],
        "c.toml:2: warning: 192.0.2.1 is not an address of this machine",
    )?;
    is_doubted(
        "[services.a]\n[services.b]\n",
        &[],
        "c.toml:2: warning: the service `a` and the service `b` would both listen",
    )
}

#[test]
fn a_file_of_tls_is_named_once_with_the_line_of_its_key() -> Result<()> {
    let folder = folder()?;
    let named = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let chain = written(&folder, "chain.pem", &named.cert.pem())?;
    let key = written(&folder, "key.pem", &named.signing_key.serialize_pem())?;
    let wrong = written(&folder, "other.pem", &other.signing_key.serialize_pem())?;
    let none = folder.path().join("none.pem");
    let show = |path: &Path| path.display().to_string();
    let config = |chain: &Path, key: &Path, more: &str| {
        format!(
            "[services.a]\nlisten = \"127.0.0.1:0\"\ntls-cert = \"{}\"\ntls-key = \"{}\"\n{more}",
            show(chain),
            show(key)
        )
    };
    let authorities = format!("tls-client-ca = \"{}\"\n", show(&none));
    for (text, line, file, why) in [
        (config(&none, &key, ""), 3, &none, "No such file"),
        (config(&chain, &none, ""), 4, &none, "No such file"),
        (
            config(&chain, &chain, ""),
            3,
            &chain,
            "no private key in it",
        ),
        (config(&key, &key, ""), 3, &key, "no certificate in it"),
        (
            config(&chain, &wrong, ""),
            4,
            &wrong,
            "not the private key of the certificate",
        ),
        (config(&chain, &key, &authorities), 5, &none, "No such file"),
    ] {
        is_refused(&text, &[(line, why)])?;
        let checked = check(&text, &[])?.stderr.join("\n");
        ensure!(checked.matches(&*show(file)).count() == 1, "{checked}");
    }
    let file = written(&folder, "c.toml", &config(&chain, &wrong, ""))?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(file);
    let served = run(serve)?.stderr.join("\n");
    ensure!(
        served.contains("line 4 of the configuration: `tls-key`: "),
        "{served}"
    );
    Ok(())
}

#[test]
fn a_mistake_in_the_file_is_told_what_was_meant() -> Result<()> {
    for (text, line, part) in [
        (
            "[service.a]\nlisten = 0\n",
            1,
            "did you mean `services`, as in `[services.echo]`?",
        ),
        (
            "[echo]\nlisten = 0\n",
            1,
            "a service is a table such as `[services.echo]`",
        ),
        (
            "listen = 0\n[services.a]\n",
            1,
            "`listen` belongs to a service",
        ),
        (
            "[services]\nlisten = 0\n",
            2,
            "`listen` belongs to a service",
        ),
        (
            "[services.a]\naccess-log = true\n",
            2,
            "`access-log` belongs to the whole process",
        ),
        (
            "[services.a]\nidle-timeout = -1\n",
            2,
            "`idle-timeout`: a time is not negative",
        ),
        (
            "[services.a]\nisolation = \"share\"\n",
            2,
            "write one of: connection, shared",
        ),
        (
            "[services.a]\n\nworkers = 2\n",
            3,
            "add `--isolation shared`",
        ),
    ] {
        is_refused(text, &[(line, part)])?;
    }
    Ok(())
}

#[test]
fn a_variable_that_overrides_nothing_is_reported() -> Result<()> {
    let file = "[services.echo]\nlisten = 0\n";
    for (name, part) in [
        (
            "HALFOPEN_ECHOO_LISTEN",
            "did you mean HALFOPEN_ECHO_LISTEN?",
        ),
        ("HALFOPEN_ACCESSLOG", "did you mean HALFOPEN_ACCESS_LOG?"),
        (
            "HALFOPEN_FROBNICATE",
            "HALFOPEN_FROBNICATE overrides no key",
        ),
    ] {
        is_doubted(file, &[(name, "1")], part)?;
    }
    // What Kubernetes sets for a Service of this name is no mistake.
    let checked = check(file, &[("HALFOPEN_PORT", "x"), ("HALFOPEN_LOG", "info")])?;
    ensure!(
        !checked.stderr.join("\n").contains("overrides"),
        "{checked:?}"
    );
    let folder = folder()?;
    let file = written(&folder, "c.toml", file)?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(file).env("HALFOPEN_ECHOO_LISTEN", "1");
    Server::start(serve, 1)?.logged("did you mean HALFOPEN_ECHO_LISTEN?")?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "0"]);
    serve.env("HALFOPEN_ADMIN", "0");
    Server::start(serve, 1)?.logged("use the flag `--admin`")
}

#[test]
fn flags_of_the_process_override_the_file() -> Result<()> {
    let folder = folder()?;
    let text = "admin = \"192.0.2.1:9\"\nlog-format = \"text\"\n[services.echo]\nlisten = 0\n";
    let file = written(&folder, "c.toml", text)?;
    let mut serve = command(
        &BINARIES.halfopen,
        ["serve", "--admin", "0", "--access-log"],
    );
    serve.args(["--log-format", "json", "--config"]).arg(&file);
    let server = Server::start(serve, 1)?;
    let mut client = Client::connect(server.address())?;
    is_served(&mut client)?;
    client.fin()?;
    client.end()?;
    let line = server.logged_line("\"ending\"")?;
    ensure!(line.starts_with('{'), "{line}");
    let line = server.logged_line("metrics on http://127.0.0.1:")?;
    let address = line
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    let (status, _) = get(address.context("no address")?, "/healthz")?;
    ensure!(status.contains("200"), "{status}");

    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve
        .arg(&file)
        .args(["--workers", "2", "--idle-timeout", "3"]);
    let served = run(serve)?;
    let error = served.stderr.join("\n");
    for part in [
        "'--config <FILE>' cannot be used with",
        "--workers",
        "--idle-timeout",
    ] {
        ensure!(error.contains(part), "{part}: {error}");
    }
    ensure!(served.status.code() == Some(2), "{served:?}");
    Ok(())
}

#[test]
fn a_port_alone_is_on_loopback() -> Result<()> {
    for address in ["0", ":0", "localhost:0"] {
        let serve = ["serve", "--listen", address];
        let server = Server::start(command(&BINARIES.halfopen, serve), 1)?;
        ensure!(
            server.address().ip().is_loopback(),
            "{:?}",
            server.addresses
        );
        is_served(&mut Client::connect(server.address())?)?;
    }
    Ok(())
}

#[test]
fn a_mistake_on_the_command_line_is_told_what_was_meant() -> Result<()> {
    for (arguments, part) in [
        ("srve", "did you mean `halfopen serve`?"),
        ("srve x.wasm --listen 0", "did you mean `halfopen serve`?"),
        ("serve --idle-timeout -1", "a time is not negative"),
        (
            "serve --max-rate-per-peer 0",
            "a whole number of at least 1",
        ),
        (
            "run --listen 0 x.wasm",
            "`--listen` is not a flag of `halfopen run`",
        ),
        (
            "serve --listen example.org:80",
            "`example.org` is not an IP address",
        ),
        (
            "inspect Cargo.toml",
            "cannot inspect `Cargo.toml`: not a WebAssembly component",
        ),
        (
            "serve nothing.wasm",
            "cannot serve `nothing.wasm`: No such file",
        ),
    ] {
        let arguments = arguments.split_whitespace();
        let mut wrong = command(&BINARIES.halfopen, arguments);
        wrong.current_dir(halfopen_tests::runner::root());
        let wrong = run(wrong)?;
        ensure!(
            !wrong.status.success()
                && wrong.stderr.len() == 1
                && wrong.stderr[0].starts_with("error: ")
                && wrong.stderr[0].contains(part),
            "{part}: {wrong:?}"
        );
    }
    Ok(())
}
