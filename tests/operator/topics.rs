//! Topics as an operator grants them: the chat over workers, reloads and processes; Redis, with
//! the mistakes that one can make; what is counted and logged.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use halfopen_tests::patience::{PATIENCE, PATIENCE_SECONDS, eventually};
use halfopen_tests::redis::Redis;
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command, run};
use rustix::process::Signal;

use super::host::{BINARIES, folder, metric, serve, with_admin};

/// A client that reads lines.
struct Talker(BufReader<TcpStream>);

impl Talker {
    fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Talker(BufReader::new(stream)))
    }

    /// Enters the chat.
    fn enter(address: SocketAddr, name: &str) -> Result<Self> {
        let mut client = Talker::connect(address)?;
        client.expect("What is your name?")?;
        client.say(name)?;
        client.expect("Welcome. There are /who and /quit.")?;
        Ok(client)
    }

    fn say(&mut self, line: &str) -> Result<()> {
        Ok(self.0.get_mut().write_all(format!("{line}\n").as_bytes())?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.0.read_line(&mut line)? > 0, "the connection has ended");
        Ok(line.trim_end().to_owned())
    }

    fn expect(&mut self, expected: &str) -> Result<()> {
        let line = self.line()?;
        ensure!(line == expected, "`{line}`, not `{expected}`");
        Ok(())
    }

    /// Reads until this line.
    fn until(&mut self, expected: &str) -> Result<()> {
        while self.line()? != expected {}
        Ok(())
    }

    /// The next line that somebody has said.
    fn said(&mut self) -> Result<String> {
        loop {
            let line = self.line()?;
            if !line.starts_with("* ") {
                return Ok(line);
            }
        }
    }

    /// Asks until somebody is in the chat, or is not.
    fn sees(&mut self, name: &str, there: bool) -> Result<()> {
        eventually(&format!("{name} is there: {there}"), || {
            self.say("/who")?;
            let who = loop {
                let line = self.line()?;
                if let Some(who) = line.strip_prefix("* here: ") {
                    break who.to_owned();
                }
            };
            Ok(who.split(", ").any(|other| other == name) == there)
        })
    }
}

/// A thousand clients on two workers hear every line once, and each speaker in order.
#[test]
fn a_thousand_clients_on_two_workers_hear_every_line_once() -> Result<()> {
    // One event writes to five hundred clients, which takes as long as the machine is busy.
    let flags = ["--max-compute", PATIENCE_SECONDS];
    let flags = [&["--workers", "2", "--topics", "local"], &flags[..]].concat();
    let server = serve("chat", &flags, &[])?;
    a_thousand_clients_hear_every_line_once(&server).with_context(|| server.errors().join("\n"))
}

fn a_thousand_clients_hear_every_line_once(server: &Server) -> Result<()> {
    const CLIENTS: usize = 1000;
    const SPEAKERS: usize = 10;
    const LINES: usize = 20;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(Talker::enter(server.address(), &format!("c{number}"))?);
    }
    // Those of the other worker are known as soon as their message is there.
    let last = format!("c{}", CLIENTS - 1);
    for client in &mut clients[..2] {
        client.sees(&last, true)?;
    }
    for line in 0..LINES {
        for (speaker, client) in clients[..SPEAKERS].iter_mut().enumerate() {
            client.say(&format!("{speaker} {line}"))?;
        }
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let mut next = [0; SPEAKERS];
        let own = if number < SPEAKERS { LINES } else { 0 };
        for _ in 0..SPEAKERS * LINES - own {
            let line = client.said()?;
            let (name, text) = line.split_once(": ").context("nobody has said it")?;
            let (speaker, line) = text.split_once(' ').context("an unknown line")?;
            ensure!(name == format!("c{speaker}"), "{name} says `{text}`");
            let speaker: usize = speaker.parse()?;
            ensure!(line.parse() == Ok(next[speaker]), "c{number} hears {text}");
            next[speaker] += 1;
        }
    }
    // Nothing comes for the second time.
    clients[0].say("the end")?;
    for client in &mut clients[1..] {
        let line = client.said()?;
        ensure!(line == "c0: the end", "{line}");
    }
    Ok(())
}

/// Connections that go on with an older version talk to those of the new one.
#[test]
fn the_chat_goes_on_over_a_reload() -> Result<()> {
    let server = serve("chat", &["--topics", "local"], &[])?;
    let mut ann = Talker::enter(server.address(), "ann")?;
    server.signal(Signal::HUP)?;
    server.logged("reloaded; 1 connections go on")?;
    let mut bob = Talker::enter(server.address(), "bob")?;
    ann.expect("* bob is here")?;
    bob.sees("ann", true)?;
    bob.say("hello")?;
    ann.expect("bob: hello")?;
    ann.say("hi")?;
    bob.until("ann: hi")
}

/// Without the grant the chat is within one instance, and the log says so once.
#[test]
fn without_the_grant_the_chat_is_within_one_instance() -> Result<()> {
    let server = serve("chat", &[], &[])?;
    let mut ann = Talker::enter(server.address(), "ann")?;
    let mut bob = Talker::enter(server.address(), "bob")?;
    ann.expect("* bob is here")?;
    bob.say("hello")?;
    ann.expect("bob: hello")?;
    let line = server.logged_line("denied: the component may not use topics")?;
    ensure!(line.contains("--topics local"), "{line}");
    // On two workers each has its own.
    let server = serve("chat", &["--workers", "2"], &[])?;
    let mut ann = Talker::enter(server.address(), "ann")?;
    let _bob = Talker::enter(server.address(), "bob")?;
    ann.sees("bob", false)?;
    let denials = server.errors();
    let denials = denials.iter().filter(|line| line.contains("denied"));
    ensure!(denials.count() == 1, "{:?}", server.errors());
    Ok(())
}

/// Services of one process share topics if their grants are the same.
#[test]
fn services_share_the_topics_that_have_the_same_name() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("halfopen.toml");
    let service = |name: &str, topics: &str| {
        let chat = guest_path("chat");
        let chat = chat.display();
        format!(
            "[services.{name}]\ncomponent = \"{chat}\"\nlisten = [\"127.0.0.1:0\"]\ntopics = \"{topics}\"\n"
        )
    };
    let services = [("a", "local"), ("b", "local"), ("c", "local:c")];
    let config: String = services
        .map(|(name, topics)| service(name, topics))
        .concat();
    fs::write(&file, config)?;
    let mut serve = command(&BINARIES.halfopen, ["serve", "--config"]);
    serve.arg(&file);
    let server = Server::start(serve, 3)?;
    let [a, b, c] = server.addresses[..] else {
        anyhow::bail!("{:?}", server.addresses)
    };
    let mut ann = Talker::enter(a, "ann")?;
    let mut carl = Talker::enter(c, "carl")?;
    let mut bob = Talker::enter(b, "bob")?;
    ann.expect("* bob is here")?;
    bob.sees("ann", true)?;
    carl.say("/who")?;
    carl.expect("* here: carl")
}

/// Two processes share a chat through Redis. One is killed: the other forgets its clients, and
/// goes on.
#[test]
fn a_chat_of_two_processes_outlives_one_of_them() -> Result<()> {
    let Some(redis) = Redis::start("a chat of two processes", &[])? else {
        return Ok(());
    };
    let url = redis.url();
    let flags = ["--topics", &url];
    let one = serve("chat", &flags, &[])?;
    let other = serve("chat", &flags, &[])?;
    let mut ann = Talker::enter(one.address(), "ann")?;
    let mut bob = Talker::enter(other.address(), "bob")?;
    ann.sees("bob", true)?;
    bob.sees("ann", true)?;
    bob.say("hello")?;
    ann.until("bob: hello")?;
    let mut second = Talker::connect(one.address())?;
    second.expect("What is your name?")?;
    second.say("bob")?;
    second.expect("That name is taken.")?;
    other.signal(Signal::KILL)?;
    ann.until("* bob has left")?;
    second.say("bob")?;
    second.expect("Welcome. There are /who and /quit.")?;
    second.say("again")?;
    ann.until("bob: again")
}

/// Redis is restarted: the chat goes on within each process, and then between them.
#[test]
fn a_chat_outlives_its_redis() -> Result<()> {
    let Some(mut redis) = Redis::start("a restart of Redis", &[])? else {
        return Ok(());
    };
    let url = redis.url();
    let flags = ["--topics", &url];
    let servers = [serve("chat", &flags, &[])?, serve("chat", &flags, &[])?];
    let mut ann = Talker::enter(servers[0].address(), "ann")?;
    let mut ada = Talker::enter(servers[0].address(), "ada")?;
    let mut bob = Talker::enter(servers[1].address(), "bob")?;
    for client in [&mut ann, &mut ada] {
        client.sees("bob", true)?;
    }
    bob.sees("ada", true)?;
    redis.kill()?;
    for server in &servers {
        let line = server.logged_line("the connection to Redis")?;
        ensure!(line.contains(&redis.address().to_string()), "{line}");
    }
    ann.say("alone?")?;
    ada.until("ann: alone?")?;
    redis.start_again()?;
    for server in &servers {
        server.logged("again")?;
    }
    // Whoever has come meanwhile is known.
    let mut eve = Talker::enter(servers[1].address(), "eve")?;
    ada.sees("eve", true)?;
    bob.sees("ann", true)?;
    eve.say("back")?;
    ada.until("eve: back")
}

/// What is published, delivered and missed is counted for each service.
#[test]
fn messages_are_counted() -> Result<()> {
    let (server, admin) = with_admin("herald", &["--topics", "local"], &[])?;
    let count = |outcome: &str| {
        let name =
            format!("halfopen_topic_messages_total{{service=\"herald\",outcome=\"{outcome}\"}}");
        metric(&admin, &name)
    };
    for outcome in ["published", "delivered", "missed"] {
        ensure!(count(outcome)? == 0.0, "{outcome}");
    }
    let mut slow = Talker::connect(server.address())?;
    slow.say("subscribe t")?;
    slow.until("t: subscribed")?;
    slow.say("flood t 3000 0")?;
    slow.until("t: own 0 2999")?;
    ensure!(count("published")? == 3000.0);
    ensure!(count("missed")? == 1976.0);
    ensure!(count("delivered")? == 1024.0);
    // A subscription keeps no instance.
    drop(slow);
    eventually("no instance is left", || {
        Ok(metric(&admin, "halfopen_instances{service=\"herald\"}")? == 0.0)
    })
}

/// Runs `halfopen serve` with flags that are wrong. It must say so in one line.
fn refused(flags: &[&str]) -> Result<String> {
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve.args(flags).arg(guest_path("chat"));
    let refused = run(serve)?;
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    let [line] = &refused.stderr[..] else {
        anyhow::bail!("{refused:?}")
    };
    ensure!(!line.contains("secret"), "{line}");
    Ok(line.clone())
}

#[test]
fn what_is_wrong_with_topics_is_one_line() -> Result<()> {
    for bad in ["remote", "redis:secret", "http://127.0.0.1/secret"] {
        let line = refused(&["--topics", bad])?;
        ensure!(
            line.contains("`--topics` is `local`, `local:NAME` or a URL"),
            "{line}"
        );
    }
    let line = refused(&["--topics", "local", "--topics-password-file", "x"])?;
    ensure!(line.contains("--topics redis://HOST"), "{line}");
    let url = "redis://127.0.0.1:1/";
    let line = refused(&["--topics", url, "--topics-password-file", "missing"])?;
    ensure!(
        line.contains("cannot read the password in `missing`"),
        "{line}"
    );
    // Nobody listens on port 1.
    let line = refused(&["--topics", url])?;
    ensure!(
        line.contains("cannot connect to Redis at 127.0.0.1:1"),
        "{line}"
    );
    let Some(redis) = Redis::start("a password for Redis", &["--requirepass", "secret"])? else {
        return Ok(());
    };
    let url = redis.url();
    let line = refused(&["--topics", &url])?;
    ensure!(line.contains("cannot connect to Redis"), "{line}");
    let folder = folder()?;
    let file = folder.path().join("password");
    let path = file.to_str().context("a folder with an odd name")?;
    let flags = ["--topics", &*url, "--topics-password-file", path];
    fs::write(&file, "secreter\n")?;
    let line = refused(&flags)?;
    ensure!(line.contains("cannot connect to Redis"), "{line}");
    fs::write(&file, "secret\n")?;
    let server = serve("chat", &flags, &[])?;
    let _ann = Talker::enter(server.address(), "ann")?;
    // In a file the mistake has a line.
    let config = folder.path().join("halfopen.toml");
    fs::write(
        &config,
        "[services.echo]\nlisten = [\"127.0.0.1:0\"]\ntopics = \"remote\"\n",
    )?;
    let mut check = command(&BINARIES.halfopen, ["check"]);
    check.arg(&config);
    let checked = run(check)?;
    ensure!(!checked.status.success(), "{checked:?}");
    ensure!(
        checked.stderr[0].contains("halfopen.toml:3: "),
        "{checked:?}"
    );
    Ok(())
}

#[test]
fn inspect_says_what_a_component_gets_of_topics() -> Result<()> {
    let inspect = |flags: &[&str]| -> Result<String> {
        let mut inspect = command(&BINARIES.halfopen, ["inspect"]);
        inspect.args(flags).arg(guest_path("chat"));
        let inspected = run(inspect)?;
        ensure!(inspected.status.success(), "{inspected:?}");
        let line = inspected
            .stdout
            .into_iter()
            .find(|line| line.contains("tcp/subscribing@"));
        line.context("no such import")
    };
    for (flags, gets) in [
        (
            &[][..],
            "nothing: every call is denied; `--topics` grants it",
        ),
        (&["--topics", "local"], "topics of this process"),
        (
            &["--topics", "redis://u:secret@h:7/1"],
            "topics through Redis at h:7",
        ),
    ] {
        let line = inspect(flags)?;
        ensure!(line.ends_with(gets), "{line}");
    }
    Ok(())
}
