//! The example `guard` before a real PostgreSQL.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::databases::Database;
use halfopen_tests::patience::{PATIENCE, eventually};
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command};
use halfopen_tests::tls::Authority;

use super::host::BINARIES;

/// How many random texts are tried.
const TEXTS: usize = 5000;

/// Starts a guard that refuses `DROP`, `TRUNCATE` and deletions without a condition.
fn guard(postgres: &Database, flags: &[&str], arguments: &[&str]) -> Result<Server> {
    let upstream = postgres.address.to_string();
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve.args(["--allow-connect", &upstream]).args(flags);
    serve
        .arg(guest_path("guard"))
        .args(["--", "postgres", &upstream]);
    serve.args(arguments).args(["DROP", "TRUNCATE", "DELETE"]);
    Server::start(serve, 1)
}

/// Runs psql, and returns what it prints on both streams.
fn psql(to: SocketAddr, settings: &str, script: &str) -> Result<String> {
    let port = to.port();
    let connection = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres {settings}");
    let mut psql = Command::new("psql");
    psql.args([
        "-XAtq",
        "-v",
        "ON_ERROR_STOP=0",
        "-v",
        "VERBOSITY=terse",
        "-d",
        &connection,
    ]);
    let output = psql.args(["-c", script]).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A client of the protocol, version 3.
struct Session(TcpStream);

/// What a server has answered to a query: its rows' bytes, its error, and the state of the
/// transaction.
#[derive(Debug)]
struct Answer {
    /// What cancels queries of the session, if it was told.
    key: Vec<u8>,
    rows: String,
    error: Option<String>,
    state: u8,
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[kind], &length[..], body].concat()
}

fn startup() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    [&(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

impl Session {
    fn open(to: SocketAddr) -> Result<Self> {
        let mut session = Session::connect(to)?;
        session.0.write_all(&startup())?;
        session.answer()?;
        Ok(session)
    }

    fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Session(stream))
    }

    fn query(&mut self, text: &[u8]) -> Result<Answer> {
        self.0.write_all(&message(b'Q', &[text, &[0]].concat()))?;
        self.answer()
    }

    /// Receives up to `ReadyForQuery`.
    fn answer(&mut self) -> Result<Answer> {
        let mut answer = Answer {
            key: Vec::new(),
            rows: String::new(),
            error: None,
            state: 0,
        };
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head)?;
            let [kind, length @ ..] = head;
            let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
            self.0.read_exact(&mut body)?;
            match kind {
                b'D' => answer.rows += &String::from_utf8_lossy(body.get(6..).unwrap_or_default()),
                b'K' => answer.key = body,
                b'E' => answer.error = Some(String::from_utf8_lossy(&body).replace('\0', " ")),
                b'Z' => {
                    answer.state = body[0];
                    return Ok(answer);
                }
                _ => {}
            }
        }
    }

    /// Prepares and runs a statement.
    fn prepare(&mut self, text: &str) -> Result<Answer> {
        let parts = [
            message(b'P', format!("name\0{text}\0\0\0").as_bytes()),
            message(b'B', b"\0name\0\0\0\0\0\0\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'C', b"Sname\0"),
            message(b'S', b""),
        ];
        self.0.write_all(&parts.concat())?;
        self.answer()
    }
}

impl Answer {
    fn is_refused(&self) -> bool {
        let error = self.error.as_deref().unwrap_or_default();
        error.contains("refused by guard")
    }
}

#[test]
fn psql_sees_the_refusal_and_goes_on() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("guard", "127.0.0.1")?;
    authority.sign("db", "db.example")?;
    let what = "the guard before PostgreSQL, with TLS";
    let Some(postgres) = Database::postgres(what, Some((&authority, "db")))? else {
        return Ok(());
    };
    let ca = authority.path("ca.pem").display().to_string();
    let mut flags = authority.flags(&["guard"]);
    flags.extend(["--starttls", "--tls-ca", &ca].map(str::to_owned));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let both = guard(&postgres, &flags, &["--tls", "--server-name", "db.example"])?;
    let neither = guard(&postgres, &[], &[])?;
    let verify = format!("sslmode=verify-full sslrootcert={ca} channel_binding=disable");
    for (guard, settings, encrypted) in [
        (&both, &*verify, "t"),
        (&neither, "sslmode=prefer", "f"),
        (&neither, "sslmode=disable", "f"),
    ] {
        let psql = |script| psql(guard.address(), settings, script);
        psql("CREATE TABLE IF NOT EXISTS kept(a int); INSERT INTO kept VALUES (1)")?;
        let refused = psql("DROP TABLE kept")?;
        ensure!(
            refused.starts_with("ERROR:  refused by guard: DROP"),
            "{refused}"
        );
        let refused = psql("SELECT 1; delete from kept")?;
        ensure!(
            refused.starts_with("ERROR:  refused by guard: DELETE"),
            "{refused}"
        );
        let told = psql("DELETE FROM kept WHERE a = 2; SELECT count(*) > 0 FROM kept")?;
        ensure!(told == "t\n", "{told}");
        // The connection from the guard.
        let told = psql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")?;
        ensure!(told == format!("{encrypted}\n"), "{told}");
    }
    // A client that ends as it should is no error.
    for guard in [&both, &neither] {
        ensure!(guard.errors().is_empty(), "{:?}", guard.errors());
    }
    // A client that wants TLS gets it or goes, and one that trusts others goes.
    let told = psql(neither.address(), "sslmode=require", "SELECT 1")?;
    ensure!(told.contains("does not support SSL"), "{told}");
    let stranger = Authority::new()?;
    let foreign = stranger.path("ca.pem").display().to_string();
    let told = psql(
        both.address(),
        &format!("sslmode=verify-full sslrootcert={foreign}"),
        "SELECT 1",
    )?;
    ensure!(told.contains("SSL error"), "{told}");
    // What came with the request in the clear is never taken for data of the session
    // (CVE-2021-23214).
    let mut early = Session::connect(both.address())?;
    let request = [&[0, 0, 0, 8, 4, 210, 22, 47], &startup()[..]].concat();
    early.0.write_all(&request)?;
    ensure!(early.0.read_to_end(&mut Vec::new()).is_err());
    both.logged("data in the clear came behind the request for TLS")?;
    // So does the guard.
    let wrong = guard(
        &postgres,
        &flags,
        &["--tls", "--server-name", "other.example"],
    )?;
    let told = psql(wrong.address(), &verify, "SELECT 1")?;
    ensure!(!told.contains("1\n"), "{told}");
    wrong.logged("invalid peer certificate")?;
    let lines = both.printed(2);
    ensure!(lines[0].ends_with(": refused DROP"), "{lines:?}");
    Ok(())
}

#[test]
fn a_refusal_is_an_answer_like_others() -> Result<()> {
    let Some(postgres) = Database::postgres("the guard before PostgreSQL", None)? else {
        return Ok(());
    };
    let guard = guard(&postgres, &[], &[])?;
    let mut session = Session::open(guard.address())?;
    session.query(b"CREATE TABLE kept(a int); INSERT INTO kept VALUES (1)")?;
    // In a transaction it is the error that ends it.
    ensure!(session.query(b"BEGIN")?.state == b'T');
    let refused = session.query(b"DROP TABLE kept")?;
    ensure!(refused.is_refused() && refused.state == b'E', "{refused:?}");
    ensure!(session.query(b"SELECT 1")?.error.is_some());
    ensure!(session.query(b"ROLLBACK")?.state == b'I');
    // Statements that are prepared.
    let answer = session.prepare("SELECT 'DROP'")?;
    ensure!(
        answer.error.is_none() && answer.rows.contains("DROP"),
        "{answer:?}"
    );
    let refused = session.prepare("DELETE FROM kept")?;
    ensure!(refused.is_refused() && refused.state == b'I', "{refused:?}");
    // Many at once keep their order.
    let mut all = Vec::new();
    for number in 0..500 {
        all.extend(message(b'Q', format!("SELECT {number}\0").as_bytes()));
        all.extend(message(b'Q', b"TRUNCATE kept\0"));
    }
    let sender = session.0.try_clone()?;
    let sending = std::thread::spawn(move || (&sender).write_all(&all));
    for number in 0..500 {
        let answer = session.answer()?;
        ensure!(answer.rows == number.to_string(), "{answer:?}");
        ensure!(session.answer()?.is_refused());
    }
    sending.join().expect("it does not panic")?;
    // Data of COPY is not read as statements.
    let copied = psql(guard.address(), "", "COPY kept FROM STDIN")?;
    ensure!(copied.is_empty(), "{copied}");
    let rows = session.query(b"SELECT count(*) FROM kept")?.rows;
    ensure!(rows.ends_with('1'), "{rows:?}");

    // The first message in any two pieces, also behind a request for TLS.
    for first in [
        startup(),
        [&[0, 0, 0, 8, 4, 210, 22, 47], &startup()[..]].concat(),
    ] {
        for at in 1..first.len() {
            let mut session = Session::connect(guard.address())?;
            session.0.write_all(&first[..at])?;
            std::thread::yield_now();
            session.0.write_all(&first[at..])?;
            if first.len() > startup().len() {
                session.0.read_exact(&mut [0])?;
            }
            session.answer()?;
        }
    }
    // Another connection can cancel a query.
    let mut waiting = Session::connect(guard.address())?;
    waiting.0.write_all(&startup())?;
    let key = waiting.answer()?.key;
    waiting
        .0
        .write_all(&message(b'Q', b"SELECT pg_sleep(600)\0"))?;
    eventually("the query runs", || {
        let rows = session.query(b"SELECT query FROM pg_stat_activity WHERE state = 'active'")?;
        Ok(rows.rows.contains("pg_sleep"))
    })?;
    let mut cancel = Session::connect(guard.address())?;
    let request = [&[0, 0, 0, 16, 4, 210, 22, 46][..], &key].concat();
    cancel.0.write_all(&request)?;
    ensure!(cancel.0.read(&mut [0])? == 0);
    let error = waiting.answer()?.error.unwrap_or_default();
    ensure!(error.contains("canceling statement"), "{error}");

    // What cannot be inspected ends its connection alone.
    for (mistake, why) in [
        (message(b'F', b"\0\0\0\0"), "a function call"),
        (vec![b'Q', 0, 0, 0, 3], "shorter than its length"),
        (vec![b'Q', 0x7f, 0, 0, 0], "a statement of 2130706432 bytes"),
    ] {
        let mut other = Session::open(guard.address())?;
        other.0.write_all(&mistake)?;
        ensure!(other.0.read(&mut [0]).is_err(), "{why}");
        guard.logged(why)?;
    }
    let mut old = Session::connect(guard.address())?;
    old.0.write_all(b"\0\0\x01\x28\0\x02\0\0")?;
    ensure!(old.0.read(&mut [0]).is_err());
    guard.logged("another version of the protocol")?;
    let mut client = Client::connect(guard.address())?;
    client.send(&startup())?;
    let peer = client.address()?;
    client.reset()?;
    guard.logged(&format!("{peer}: connection reset by the peer"))?;
    ensure!(session.query(b"SELECT 1")?.error.is_none());
    Ok(())
}

/// Random texts, some of which hide a statement that would empty a table: none does.
#[test]
fn nothing_gets_past() -> Result<()> {
    let Some(postgres) = Database::postgres("random SQL before the guard", None)? else {
        return Ok(());
    };
    let guard = guard(&postgres, &[], &[])?;
    let mut direct = Session::open(postgres.address)?;
    direct.query(b"CREATE TABLE kept(a int); INSERT INTO kept VALUES (1)")?;
    let seed = std::env::var("HALFOPEN_SEED").map_or(Ok(1), |seed| seed.parse())?;
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut valid, mut harmful) = (0, 0);
    for conforming in ["on", "off"] {
        let setting = format!("SET standard_conforming_strings = {conforming}");
        let mut session = Session::open(guard.address())?;
        for session in [&mut session, &mut direct] {
            ensure!(session.query(setting.as_bytes())?.error.is_none());
        }
        for _ in 0..TEXTS / 2 {
            let harms = random.bool();
            let damaged = random.u8(..4) == 0;
            let text = text(&mut random, harms, damaged);
            let answer = session
                .query(text.as_bytes())
                .with_context(|| text.clone())?;
            let kept = direct.query(b"SELECT count(*) FROM kept")?;
            if !kept.rows.ends_with('1') {
                bail!("seed {seed}, strings {conforming}: it got past: {text}");
            }
            // In a transaction that is given up, PostgreSQL itself says what the text does.
            direct.query(b"BEGIN")?;
            let itself = direct.query(text.as_bytes())?;
            let count = direct.query(b"SELECT count(*) FROM kept")?;
            direct.query(b"ROLLBACK")?;
            if itself.error.is_none() {
                valid += 1;
                let does_harm = !count.rows.ends_with('1');
                harmful += usize::from(does_harm);
                ensure!(
                    does_harm <= answer.is_refused(),
                    "it should be refused: {text}"
                );
                // Where `\` could be a part of a character, the guard refuses everything.
                if !harms && !damaged && !text.contains("é\\") {
                    ensure!(!answer.is_refused(), "seed {seed}: it is harmless: {text}");
                }
            }
        }
    }
    ensure!(
        valid > TEXTS / 5 && harmful > TEXTS / 20,
        "{valid} valid, {harmful} harmful"
    );
    Ok(())
}

/// Strings whose escapes no setting decides, beside one whose escapes it does: read in one way
/// alone, they hide what follows.
#[test]
fn no_mixture_of_strings_hides_a_statement() -> Result<()> {
    let Some(postgres) = Database::postgres("mixed strings before the guard", None)? else {
        return Ok(());
    };
    let guard = guard(&postgres, &[], &[])?;
    let mut direct = Session::open(postgres.address)?;
    direct.query(b"CREATE TABLE kept(a int); INSERT INTO kept VALUES (1)")?;
    let bits = r"CREATE TABLE IF NOT EXISTS kept(a bit DEFAULT B'\', b text DEFAULT 'a\'b'); DROP TABLE kept; SELECT ''--'";
    let space = "SELECT E'a'\n\x0b'\\'x', '\\'; DROP TABLE kept; SELECT ''--'";
    for (setting, text) in [("off", bits), ("on", space)] {
        let set = format!("SET standard_conforming_strings = {setting}");
        let mut session = Session::open(guard.address())?;
        session.query(set.as_bytes())?;
        let answer = session.query(text.as_bytes())?;
        ensure!(answer.is_refused(), "{text}: {answer:?}");
        ensure!(
            direct
                .query(b"SELECT count(*) FROM kept")?
                .rows
                .ends_with('1')
        );
    }
    // The first one does harm, if nobody refuses it.
    direct.query(b"SET standard_conforming_strings = off")?;
    direct.query(bits.as_bytes())?;
    ensure!(direct.query(b"SELECT count(*) FROM kept")?.error.is_some());
    Ok(())
}

/// Statements that empty the table.
const HARM: [&str; 10] = [
    "DROP TABLE kept",
    "drop/**/table kept",
    "DELETE FROM kept",
    "DELETE FROM ONLY kept AS k",
    "WITH gone AS (DELETE FROM kept RETURNING a) SELECT a FROM gone WHERE a > 0",
    "DELETE FROM kept RETURNING a AS where",
    "EXPLAIN ANALYZE DELETE FROM kept",
    "TRUNCATE -- WHERE\n kept",
    // A comment ends an operator, and a carriage return a comment.
    "SELECT 1 +--'\n 1; DROP TABLE kept --'\n",
    "SELECT 1 --'\r; DROP TABLE kept --'\r",
];

/// Where harm would be none, and what could end that too early.
const PIECES: [&str; 16] = [
    "DROP TABLE kept",
    "DELETE FROM kept",
    "; DROP TABLE kept; ",
    "TRUNCATE kept",
    "''",
    "\"",
    "$$",
    "$a$",
    "\\",
    "\n",
    "--",
    "/*",
    "*/",
    "E",
    "é",
    "$",
];

/// A text of some statements.
fn text(random: &mut fastrand::Rng, harms: bool, damaged: bool) -> String {
    let mut statements: Vec<String> = (0..random.usize(1..4))
        .map(|_| format!("SELECT {}", value(random)))
        .collect();
    if harms {
        let harm = HARM[random.usize(..HARM.len())].to_owned();
        statements.insert(random.usize(..=statements.len()), harm);
    }
    let mut text =
        statements.join([";", " ;\n", "; -- DROP\n", "/* DROP ' */;"][random.usize(..4)]);
    if damaged {
        let mut at = random.usize(..=text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.insert_str(at, PIECES[random.usize(..PIECES.len())]);
    }
    text
}

/// An expression, in one of the ways to write a text.
fn value(random: &mut fastrand::Rng) -> String {
    let inner: String = (0..random.usize(..4))
        .map(|_| PIECES[random.usize(..PIECES.len())])
        .collect();
    let plain = inner.replace('\\', "");
    match random.u8(..8) {
        0 => format!("'{plain}'"),
        1 => format!("E'{}\\''", plain.replace("''", "\\'")),
        2 => format!("E'{plain}'\n  '\\' {plain}'"),
        3 => format!("$${}$$", inner.replace('$', "")),
        4 => format!("$tag${}$tag$", inner.replace("$tag", "")),
        5 => format!("1 AS \"x{}\"", plain.replace('"', "\"\"")),
        6 => format!("1 /* {} */", inner.replace("/*", "").replace("*/", "")),
        _ => format!("1 AS a$$ -- {}\n", inner.replace('\n', "")),
    }
}
