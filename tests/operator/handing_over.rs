//! What goes along with an upgrade besides sockets: TLS sessions, and what peers have used up.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::patience::{PATIENCE_SECONDS, eventually};
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command};
use halfopen_tests::tls::Authority;
use halfopen_tests::tools::is_missing;
use rustix::process::Signal;

use super::host::{BINARIES, connect_from, echo, folder, is_refused, is_served, served};
use super::successor::Successor;

/// A client of `openssl`, which keeps its session in a file.
struct Openssl<'a> {
    authority: &'a Authority,
    address: SocketAddr,
    version: &'static str,
    session: PathBuf,
}

impl Openssl<'_> {
    /// Makes a session, and keeps it.
    fn begins(&self) -> Result<()> {
        let handshake = self.exchanges("-sess_out")?;
        ensure!(handshake.starts_with("New, "), "{handshake}");
        Ok(())
    }

    /// Resumes the session, and returns whether the server has.
    fn resumes(&self) -> Result<bool> {
        Ok(self.exchanges("-sess_in")?.starts_with("Reused, "))
    }

    /// Connects, and sends a line that comes back. Returns what is said of the handshake.
    fn exchanges(&self, session: &str) -> Result<String> {
        let mut client = Command::new("openssl");
        client
            .args(["s_client", "-connect", &self.address.to_string()])
            .args(["-servername", "a.example", self.version, session])
            .arg(&self.session)
            .arg("-CAfile")
            .arg(self.authority.path("ca.pem"));
        client.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = client.stderr(Stdio::null()).spawn()?;
        let mut stdin = client.stdin.take().context("no stdin")?;
        // The server may end the connection first.
        let _ = stdin.write_all(b"halfopen-line\n");
        let stdout = BufReader::new(client.stdout.take().context("no stdout")?);
        let mut handshake = None;
        for line in stdout.lines() {
            let line = line?;
            if line.starts_with("New, ") || line.starts_with("Reused, ") {
                handshake.get_or_insert(line);
            } else if line == "halfopen-line" {
                break;
            }
        }
        // The end of its input ends the client.
        drop(stdin);
        client.wait()?;
        handshake.context("no handshake")
    }
}

/// Starts a server with TLS by a configuration, which the test may change.
fn secure(authority: &Authority, config: &Path, more: &str) -> Result<Server> {
    authority.sign("server", "a.example")?;
    configure(authority, config, more)?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(config);
    Server::start(serve, 1)
}

fn configure(authority: &Authority, config: &Path, more: &str) -> Result<()> {
    let (component, certificate, key) = (
        guest_path("echo"),
        authority.path("server.pem"),
        authority.path("server.key"),
    );
    let text = format!(
        "upgrade-timeout = {PATIENCE_SECONDS}\n[services.echo]\ncomponent = {component:?}\nlisten = [\"127.0.0.1:0\"]\n\
         tls-cert = {certificate:?}\ntls-key = {key:?}\n{more}\n"
    );
    Ok(fs::write(config, text)?)
}

#[test]
fn a_tls_session_is_resumed_after_a_reload_and_upgrades() -> Result<()> {
    if is_missing("openssl", "resuming TLS sessions")? {
        return Ok(());
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let (authority, folder) = (Authority::new()?, folder()?);
        let config = folder.path().join("halfopen.toml");
        let server = secure(&authority, &config, "")?;
        let client = Openssl {
            authority: &authority,
            address: server.address(),
            version,
            session: folder.path().join("session"),
        };
        client.begins()?;
        ensure!(client.resumes()?, "{version}: not without an upgrade");
        server.signal(Signal::HUP)?;
        server.logged("reloaded; ")?;
        ensure!(client.resumes()?, "{version}: not after a reload");
        server.signal(Signal::USR2)?;
        let first = Successor::after(&server, 1)?;
        ensure!(client.resumes()?, "{version}: not after an upgrade");
        first.signal(Signal::USR2)?;
        let second = Successor::after(&server, 2)?;
        ensure!(client.resumes()?, "{version}: not after two upgrades");
        second.stop()?;
    }
    Ok(())
}

/// The certificate of a client that resumes is not asked for again, so a ticket of a server that
/// asked for none opens nothing where one is needed.
#[test]
fn a_ticket_is_no_way_around_a_client_certificate() -> Result<()> {
    if is_missing("openssl", "tickets and client certificates")? {
        return Ok(());
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let (authority, folder) = (Authority::new()?, folder()?);
        let config = folder.path().join("halfopen.toml");
        let server = secure(&authority, &config, "")?;
        let client = Openssl {
            authority: &authority,
            address: server.address(),
            version,
            session: folder.path().join("session"),
        };
        client.begins()?;
        ensure!(client.resumes()?);
        let ca = authority.path("ca.pem");
        configure(&authority, &config, &format!("tls-client-ca = {ca:?}"))?;
        server.signal(Signal::HUP)?;
        server.logged("reloaded; ")?;
        // Without a certificate, some versions of TLS tell the client nothing of a handshake.
        ensure!(!client.resumes().unwrap_or(false), "{version}: reload");
        server.signal(Signal::USR2)?;
        let successor = Successor::after(&server, 1)?;
        ensure!(!client.resumes().unwrap_or(false), "{version}: upgrade");
        successor.stop()?;
    }
    Ok(())
}

const PEER: [u8; 4] = [127, 0, 77, 1];

fn refused(server: &Server) -> Result<bool> {
    is_refused(connect_from(PEER, server.address())?)
}

fn open(server: &Server) -> Result<Client> {
    let mut client = Client::from(connect_from(PEER, server.address())?);
    is_served(&mut client)?;
    Ok(client)
}

/// Waits until the peer has a place for another connection.
fn opens(server: &Server) -> Result<Client> {
    let mut opened = None;
    eventually("the peer has a place", || {
        opened = open(server).ok();
        Ok(opened.is_some())
    })?;
    opened.context("no connection")
}

/// A server whose upgrades may take as long as the test waits.
fn patient(flags: &[&str]) -> Result<Server> {
    echo(&[&["--upgrade-timeout", PATIENCE_SECONDS], flags].concat())
}

/// Connections count in the limit of their peer, in whatever process they are.
#[test]
fn connections_of_earlier_processes_count_in_the_limit_of_their_peer() -> Result<()> {
    let server = patient(&["--max-connections-per-peer", "3"])?;
    let mut oldest = open(&server)?;
    let second = open(&server)?;
    server.signal(Signal::USR2)?;
    let first = Successor::after(&server, 1)?;
    let mut third = open(&server)?;
    ensure!(refused(&server)?, "the limit is not kept after an upgrade");
    is_served(&mut Client::connect(server.address())?)?;
    drop(second);
    let fourth = opens(&server)?;
    // The newest process hears of the first one, past the one between.
    first.signal(Signal::USR2)?;
    let newest = Successor::after(&server, 2)?;
    ensure!(
        refused(&server)?,
        "the limit is not kept after two upgrades"
    );
    is_served(&mut oldest)?;
    is_served(&mut third)?;
    drop(oldest);
    drop(opens(&server)?);
    // A reload begins to count anew, but not what is elsewhere.
    newest.signal(Signal::HUP)?;
    server.logged("reloaded; ")?;
    let fifth = opens(&server)?;
    ensure!(refused(&server)?, "the limit is not kept after a reload");
    // A process that is killed tells nothing, and has no connections.
    first.signal(Signal::KILL)?;
    drop(opens(&server)?);
    drop((third, fourth, fifth));
    newest.stop()
}

/// A peer that has used up its rate has no more of it after an upgrade.
#[test]
fn the_rate_of_a_peer_goes_along() -> Result<()> {
    let server = patient(&["--max-rate-per-peer", "1"])?;
    let mut newest: Option<Successor> = None;
    let mut admitted: Option<Instant> = None;
    for upgrade in 1..=6 {
        for _ in 0..2 {
            let began = Instant::now();
            let refused = refused(&server)?;
            if refused {
                continue;
            }
            // The first one was admitted after this time, and this one before now.
            if let Some(before) = admitted.replace(began) {
                let apart = before.elapsed();
                ensure!(apart >= Duration::from_millis(999), "{apart:?} apart");
            }
        }
        match &newest {
            None => server.signal(Signal::USR2)?,
            Some(newest) => newest.signal(Signal::USR2)?,
        }
        newest = Some(Successor::after(&server, upgrade)?);
    }
    ensure!(admitted.is_some(), "nobody was ever admitted");
    newest.context("no upgrade")?.stop()
}

/// Connections of an earlier process are shown until they end.
#[test]
fn the_status_shows_every_process_with_its_connections() -> Result<()> {
    let folder = folder()?;
    let control = folder.path().join("control");
    let path = control.to_str().context("not UTF-8")?;
    let server = patient(&["--control", path])?;
    let status = || -> Result<serde_json::Value> {
        let mut status = Command::new(&BINARIES.halfopen);
        status.args(["ctl", "--control", path, "status", "--json"]);
        Ok(serde_json::from_slice(&status.output()?.stdout)?)
    };
    let shown = |generations: &[(u32, &str, u64)]| -> Result<bool> {
        let status = status()?;
        let all = status["generations"].as_array().context("no list")?;
        let all = all.iter().map(|one| {
            (
                one["generation"].as_u64(),
                one["state"].as_str(),
                one["connections"].as_u64(),
            )
        });
        Ok(all.eq(generations
            .iter()
            .map(|&(number, state, open)| (Some(number.into()), Some(state), Some(open)))))
    };
    ensure!(shown(&[(1, "serving", 0)])?, "{}", status()?);
    let (one, two) = (served(&server)?, served(&server)?);
    ensure!(shown(&[(1, "serving", 2)])?, "{}", status()?);
    server.signal(Signal::USR2)?;
    let first = Successor::after(&server, 1)?;
    let three = served(&server)?;
    let expected = [(1, "draining", 2), (2, "serving", 1)];
    eventually("both are shown", || shown(&expected))?;
    let process = &status()?["generations"][0]["process"];
    ensure!(*process == server.id(), "{process}");
    first.signal(Signal::USR2)?;
    let second = Successor::after(&server, 2)?;
    let expected = [(1, "draining", 2), (2, "draining", 1), (3, "serving", 0)];
    eventually("all three are shown", || shown(&expected))?;
    drop(one);
    let expected = [(1, "draining", 1), (2, "draining", 1), (3, "serving", 0)];
    eventually("an end is shown", || shown(&expected))?;
    drop((two, three));
    eventually("only the newest is left", || shown(&[(3, "serving", 0)]))?;
    second.stop()
}
