//! The example `guard` before a real Redis.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use anyhow::{Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::patience::PATIENCE;
use halfopen_tests::redis::Redis;
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command};
use halfopen_tests::tools::is_missing;

use super::host::BINARIES;

/// A guard before a Redis, which refuses `FLUSHALL` and `CONFIG`.
struct Guarded {
    redis: Redis,
    guard: Server,
}

fn guarded() -> Result<Option<Guarded>> {
    const WHAT: &str = "the guard before Redis";
    if is_missing("redis-cli", WHAT)? {
        return Ok(None);
    }
    let Some(redis) = Redis::start(WHAT, &[])? else {
        return Ok(None);
    };
    let upstream = redis.address().to_string();
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve
        .args(["--allow-connect", &upstream])
        .arg(guest_path("guard"));
    serve.args(["--", "redis", &upstream, "FLUSHALL", "CONFIG"]);
    let guard = Server::start(serve, 1)?;
    Ok(Some(Guarded { redis, guard }))
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A command, as a client sends it.
fn resp(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
    }
    bytes
}

fn answers(stream: &mut TcpStream, expected: &str) -> Result<()> {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes)?;
    let answer = String::from_utf8_lossy(&bytes);
    ensure!(answer == expected, "{answer:?}, not {expected:?}");
    Ok(())
}

fn refusal(what: &str) -> String {
    format!("-ERR unknown command 'refused by guard: {what}', with args beginning with: \r\n")
}

#[test]
fn redis_cli_sees_the_refusal_and_goes_on() -> Result<()> {
    let Some(host) = guarded()? else {
        return Ok(());
    };
    let cli = |words: &[&str]| -> Result<String> {
        let port = host.guard.address().port().to_string();
        let output = Command::new("redis-cli")
            .args(["-p", &port])
            .args(words)
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    ensure!(cli(&["set", "a", "1"])? == "OK");
    let refused = cli(&["flushall"])?;
    ensure!(refused.contains("refused by guard: FLUSHALL"), "{refused}");
    ensure!(cli(&["config", "get", "*"])?.contains("refused by guard: CONFIG"));
    ensure!(cli(&["eval", "redis.call('flushall')", "0"])?.contains("refused by guard: EVAL"));
    ensure!(cli(&["get", "a"])? == "1");
    let lines = host.guard.printed(3);
    ensure!(
        lines.len() == 3 && lines[0].ends_with(": refused FLUSHALL"),
        "{lines:?}"
    );
    Ok(())
}

/// A refusal takes its place among the answers, and ends a transaction as an error does.
#[test]
fn answers_keep_their_order() -> Result<()> {
    let Some(host) = guarded()? else {
        return Ok(());
    };
    let mut stream = connect(host.guard.address())?;
    let flushall = resp(&["FlushAll", "ASYNC"]);
    let mut all = Vec::new();
    for number in 0..2000 {
        all.extend(resp(&["ECHO", &number.to_string()]));
        all.extend_from_slice(&flushall);
    }
    let sender = stream.try_clone()?;
    let sending = std::thread::spawn(move || (&sender).write_all(&all));
    for number in 0..2000 {
        let number = number.to_string();
        answers(&mut stream, &format!("${}\r\n{number}\r\n", number.len()))?;
        answers(&mut stream, &refusal("FLUSHALL"))?;
    }
    sending.join().expect("it does not panic")?;
    // In a transaction.
    for words in [
        &["MULTI"][..],
        &["SET", "b", "2"],
        &["FLUSHALL"],
        &["EXEC"],
        &["GET", "b"],
    ] {
        stream.write_all(&resp(words))?;
    }
    answers(&mut stream, "+OK\r\n+QUEUED\r\n")?;
    answers(&mut stream, &refusal("FLUSHALL"))?;
    answers(
        &mut stream,
        "-EXECABORT Transaction discarded because of previous errors.\r\n$-1\r\n",
    )?;
    // A line of words, in which quotes and escapes could hide a command.
    stream.write_all(b"\r\n\"\\x46LUSHALL\"\r\nPING\r\n*0\r\n")?;
    answers(
        &mut stream,
        &refusal("a command without its length").repeat(2),
    )?;
    stream.write_all(&resp(&["PING"]))?;
    answers(&mut stream, "+PONG\r\n")?;
    // Each direction ends on its own.
    stream.write_all(&resp(&["QUIT"]))?;
    answers(&mut stream, "+OK\r\n")?;
    ensure!(stream.read(&mut [0])? == 0);
    Ok(())
}

#[test]
fn commands_may_come_in_any_pieces() -> Result<()> {
    let Some(host) = guarded()? else {
        return Ok(());
    };
    let mut stream = connect(host.guard.address())?;
    let commands = [
        resp(&["ECHO", "x"]),
        resp(&["CONFIG", "GET", "*"]),
        resp(&["ECHO", "y"]),
    ];
    let commands = commands.concat();
    let expected = format!("$1\r\nx\r\n{}$1\r\ny\r\n", refusal("CONFIG"));
    for at in 1..commands.len() {
        stream.write_all(&commands[..at])?;
        std::thread::yield_now();
        stream.write_all(&commands[at..])?;
        answers(&mut stream, &expected)?;
    }
    for byte in &commands {
        stream.write_all(&[*byte])?;
    }
    answers(&mut stream, &expected)?;
    // Values of any size pass, and cost no memory of their size.
    let value = "v".repeat(32 << 20);
    stream.write_all(&resp(&["SET", "big", &value]))?;
    answers(&mut stream, "+OK\r\n")?;
    stream.write_all(&resp(&["STRLEN", "big"]))?;
    answers(&mut stream, ":33554432\r\n")?;
    stream.write_all(&resp(&["GET", "big"]))?;
    answers(&mut stream, &format!("$33554432\r\n{value}\r\n"))
}

/// What is no command ends its connection alone, and so does a reset, which is logged.
#[test]
fn mistakes_end_their_connection() -> Result<()> {
    let Some(host) = guarded()? else {
        return Ok(());
    };
    let address = host.guard.address();
    let mut good = connect(address)?;
    for mistake in [
        "*x\r\n",
        "*1\r\n$-1\r\n",
        "*1\r\n$99\r\n",
        "*1\r\n+PING\r\n",
    ] {
        let mut stream = connect(address)?;
        stream.write_all(mistake.as_bytes())?;
        ensure!(stream.read(&mut [0]).is_err(), "{mistake:?}");
    }
    host.guard.logged("no number behind `*`")?;
    let client = Client::connect(address)?;
    let peer = client.address()?;
    client.reset()?;
    host.guard
        .logged(&format!("{peer}: connection reset by the peer"))?;
    good.write_all(&resp(&["PING"]))?;
    answers(&mut good, "+PONG\r\n")?;
    // Without a server there is nothing to guard.
    drop(host.redis);
    let mut stream = connect(address)?;
    ensure!(stream.read(&mut [0]).is_err());
    host.guard.logged("connection refused")
}
