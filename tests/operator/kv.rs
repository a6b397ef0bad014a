//! The example `kv`, which speaks the protocol of Redis: its replies beside those of Redis, its
//! clients, and what it promises.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::memory;
use halfopen_tests::patience::{PATIENCE, eventually};
use halfopen_tests::server::Server;
use halfopen_tests::tools::is_missing;
use rustix::process::Signal;
use tempfile::TempDir;

use super::host::{folder, serve};
use super::redis::skipped;
use super::state::text;

/// A server with state in a new file.
pub(super) fn start(flags: &[&str]) -> Result<(Server, TempDir)> {
    let folder = folder()?;
    Ok((start_in(&folder, flags)?, folder))
}

fn start_in(folder: &TempDir, flags: &[&str]) -> Result<Server> {
    let state = folder.path().join("state");
    serve("kv", &[&["--state", text(&state)?], flags].concat(), &[])
}

/// A request as clients send it.
pub(super) fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend(format!("${}\r\n", word.len()).bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    request
}

/// A line of words, without spaces in them, as a request.
pub(super) fn line(line: &str) -> Vec<u8> {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    request(&words)
}

/// Sends bytes, and receives until the server has ended the connection.
pub(super) fn exchange(mut stream: impl Read + Write, bytes: &[u8]) -> Result<Vec<u8>> {
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    // A server that closes with unread data resets, behind its answer.
    let _ = stream.read_to_end(&mut answer);
    Ok(answer)
}

pub(super) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

#[test]
fn the_clients_of_redis_work() -> Result<()> {
    if skipped("the clients of Redis")? || is_missing("redis-benchmark", "the clients of Redis")? {
        return Ok(());
    }
    let (server, _folder) = start(&[])?;
    let port = server.address().port().to_string();
    let ask = |program: &str, arguments: &[&str]| -> Result<String> {
        let output = Command::new(program)
            .args(["-p", &port])
            .args(arguments)
            .output()?;
        ensure!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    };
    for (arguments, expected) in [
        (&["SET", "k", "two words"][..], "OK"),
        (&["GET", "k"], "two words"),
        (&["-3", "GET", "nothing"], ""),
        (&["-3", "INCR", "n"], "1"),
        (&["-3", "MGET", "k", "n"], "two words\n1"),
        (&["CONFIG", "GET", "appendonly"], "appendonly\nyes"),
        (&["-n", "0", "DEL", "k", "n"], "2"),
        (&["KEYS", "*"], ""),
    ] {
        let answer = ask("redis-cli", arguments)?;
        ensure!(answer == expected, "{arguments:?}: {answer:?}");
    }
    for pipeline in ["1", "16"] {
        let tests = "ping_inline,ping_mbulk,set,get,incr,mset";
        let arguments = [
            "-t", tests, "-n", "500", "-c", "10", "-P", pipeline, "--csv",
        ];
        let measured = ask("redis-benchmark", &arguments)?;
        ensure!(measured.lines().count() == 7, "{measured}");
        ensure!(!measured.contains("rror"), "{measured}");
    }
    ensure!(ask("redis-cli", &["GET", "key:__rand_int__"])? == "VXK");
    Ok(())
}

/// Many requests before anything is read, and FIN behind them: every one is answered, in order,
/// and then comes FIN.
#[test]
fn what_is_pipelined_before_fin_is_answered() -> Result<()> {
    const MANY: usize = 4000;
    let (server, _folder) = start(&[])?;
    let mut requests = Vec::new();
    let mut answers = Vec::new();
    for number in 0..MANY {
        match number % 4 {
            0 | 1 => {
                requests.extend(line(&format!("SET key{} {number}", number % 100)));
                answers.extend(b"+OK\r\n");
            }
            2 => {
                requests.extend(line(&format!("GET key{}", (number - 1) % 100)));
                let value = (number - 1).to_string();
                answers.extend(format!("${}\r\n{value}\r\n", value.len()).bytes());
            }
            _ => {
                requests.extend(line(&format!("GET nothing{number}")));
                answers.extend(b"$-1\r\n");
            }
        }
    }
    let stream = connect(server.address())?;
    let mut sending = stream.try_clone()?;
    let sender = thread::spawn(move || -> Result<()> {
        sending.write_all(&requests)?;
        Ok(sending.shutdown(Shutdown::Write)?)
    });
    let mut answer = Vec::new();
    (&stream).read_to_end(&mut answer)?;
    sender
        .join()
        .map_err(|_| anyhow!("the sender panicked"))??;
    let at = answer
        .iter()
        .zip(&answers)
        .position(|(one, other)| one != other);
    ensure!(
        answer == answers,
        "{} of {} bytes, other at {at:?}",
        answer.len(),
        answers.len()
    );
    Ok(())
}

/// A client that asks for a hundred times the memory that an instance may have, and reads
/// nothing meanwhile, gets it bit by bit.
#[test]
fn a_client_that_does_not_read_costs_no_memory() -> Result<()> {
    const VALUE: usize = 1 << 20;
    const TIMES: usize = 400;
    let (server, _folder) = start(&["--max-memory", "64"])?;
    let value = vec![b'v'; VALUE];
    let mut client = Client::connect(server.address())?;
    client.send(&request(&[b"SET", b"k", &value]))?;
    ensure!(client.receive(5)? == b"+OK\r\n");
    let before = server.resident()?;
    let (peak, read) = memory::peak(&server, || {
        client.send(&line("GET k").repeat(TIMES))?;
        client.fin()?;
        let (answer, end) = client.end()?;
        Ok((answer.len(), end))
    })?;
    let length = format!("${VALUE}\r\n\r\n").len() + VALUE;
    ensure!(read == (TIMES * length, End::Fin), "{read:?}");
    let most = (64 << 10) + memory::bound(1);
    ensure!(
        peak - before <= most,
        "memory grew by {} KiB",
        peak - before
    );
    Ok(())
}

#[test]
fn what_is_too_large_is_an_error_and_the_connection_goes_on() -> Result<()> {
    let (server, _folder) = start(&["--state-max-value", "64", "--state-max-keys", "2"])?;
    let mut client = Client::connect(server.address())?;
    let mut expect = |request: &[u8], expected: &str| -> Result<()> {
        client.send(request)?;
        let answer = client.receive(expected.len())?;
        ensure!(answer == expected.as_bytes(), "{}", answer.escape_ascii());
        Ok(())
    };
    let value = vec![b'v'; 65_537];
    let large = "-ERR the value has 65537 bytes, and may have 65536\r\n";
    expect(&request(&[b"SET", b"k", &value]), large)?;
    expect(&request(&[b"SET", b"k", &value[1..]]), "+OK\r\n")?;
    expect(&request(&[b"APPEND", b"k", b"x"]), large)?;
    expect(&line("STRLEN k"), ":65536\r\n")?;
    expect(&line("SET l v"), "+OK\r\n")?;
    expect(
        &line("SET m v"),
        "-ERR the bucket is full: it may have 2 keys\r\n",
    )?;
    expect(&request(&[b"GET", b"\xff"]), "-ERR a key is UTF-8 here\r\n")?;
    expect(
        &request(&[b"GET", &[b'k'; 1025]]),
        "-ERR the key has 1025 bytes, and may have 1024\r\n",
    )?;
    // What no service would keep in memory ends the connection.
    let begin = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8388609\r\n";
    expect(begin, "-ERR Protocol error: invalid bulk length\r\n")?;
    let end = client.end()?;
    ensure!(end == (Vec::new(), End::Fin), "{end:?}");
    Ok(())
}

/// What was answered is there after a kill.
#[test]
fn nothing_that_was_answered_is_lost_by_a_kill() -> Result<()> {
    let folder = folder()?;
    let server = start_in(&folder, &[])?;
    let address = server.address();
    let clients: Vec<_> = (0..4)
        .map(|client| {
            thread::spawn(move || -> Result<usize> {
                let mut stream = connect(address)?;
                let mut count = 0;
                let mut answer = [0; 5];
                loop {
                    let set = line(&format!("SET key{client} {}", count + 1));
                    let asked = stream
                        .write_all(&set)
                        .and_then(|()| stream.read_exact(&mut answer));
                    if asked.is_err() {
                        return Ok(count);
                    }
                    ensure!(answer == *b"+OK\r\n", "{}", answer.escape_ascii());
                    count += 1;
                }
            })
        })
        .collect();
    let progress = || -> Result<usize> {
        let answer = exchange(
            connect(address)?,
            &[line("GET key0"), line("QUIT")].concat(),
        )?;
        Ok(value(&answer).unwrap_or(0))
    };
    eventually("the clients set values", || Ok(progress()? > 50))?;
    server.signal(Signal::KILL)?;
    let counts = clients
        .into_iter()
        .map(|thread| thread.join().map_err(|_| anyhow!("a client panicked"))?);
    let counts = counts.collect::<Result<Vec<_>>>()?;
    drop(server);
    let server = start_in(&folder, &[])?;
    for (client, count) in counts.into_iter().enumerate() {
        let ask = [line(&format!("GET key{client}")), line("QUIT")].concat();
        let answer = exchange(connect(server.address())?, &ask)?;
        let now = value(&answer).context("the key is lost")?;
        ensure!(now == count || now == count + 1, "{now} after {count}");
    }
    Ok(())
}

/// The number in the reply to `GET`.
fn value(answer: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(answer).ok()?;
    text.split("\r\n").nth(1)?.parse().ok()
}
