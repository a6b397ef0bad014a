//! The replies of the example `kv` beside those of Redis, byte for byte.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

use anyhow::{Result, ensure};
use halfopen_tests::patience::PATIENCE;

use super::kv::{connect, exchange, line, request, start};
use super::redis::{Redis, skipped};

/// Both servers answer these bytes with the same bytes.
fn same(kv: SocketAddr, redis: &Redis, bytes: &[u8]) -> Result<()> {
    let ours = exchange(connect(kv)?, bytes)?;
    let unix = UnixStream::connect(redis.path("socket"))?;
    unix.set_read_timeout(Some(PATIENCE))?;
    let theirs = exchange(unix, bytes)?;
    let show = |bytes: &[u8]| bytes[..bytes.len().min(2000)].escape_ascii().to_string();
    let asked = show(bytes);
    ensure!(
        ours == theirs,
        "{asked}:\n{}\nRedis: {}",
        show(&ours),
        show(&theirs)
    );
    Ok(())
}

#[test]
fn its_replies_are_those_of_redis() -> Result<()> {
    if skipped("replies beside those of Redis")? {
        return Ok(());
    }
    let redis = Redis::start(&[])?;
    let (server, _folder) = start(&[])?;
    let mut all = Vec::new();
    for command in [
        "PING",
        "ping hello",
        "PING a b",
        "ECHO hello",
        "ECHO",
        "GET k",
        "SET k v",
        "GET k",
        "SET k v2 NX",
        "GET k",
        "SET k v3 xx",
        "GET k",
        "SET new v XX",
        "SET new v nx",
        "SET k",
        "SET k v BAD",
        "SETNX new again",
        "SETNX newer v",
        "GETSET k v4",
        "GETSET none v",
        "GETSET k",
        "APPEND k more",
        "APPEND fresh x",
        "STRLEN k",
        "STRLEN nothing",
        "INCR n",
        "INCRBY n 41",
        "DECR n",
        "DECRBY n 2",
        "INCR k",
        "INCRBY n x",
        "INCRBY n",
        "SET n 9223372036854775807",
        "INCR n",
        "DECRBY n -1",
        "DECRBY n -9223372036854775808",
        "SET n 007",
        "INCR n",
        "GET n",
        "MSET a 1 b 2 a 3",
        "MGET a b nothing a",
        "MSET a",
        "MSET",
        "MSET a 1 b",
        "MGET",
        "EXISTS a b a nothing",
        "EXISTS",
        "DEL a a nothing b",
        "DEL",
        "EXISTS a b",
        "DBSIZE",
        "DBSIZE x",
        "KEYS ne?",
        "KEYS n*r",
        "KEYS *ew*r*",
        "KEYS z*",
        "SELECT 0",
        "SELECT x",
        "SELECT 99",
        "HELLO 9",
        "FROB",
        "Frob x y",
        "GET",
        "get a b",
    ] {
        all.extend(line(command));
    }
    let binary: Vec<u8> = (0..=255).collect();
    all.extend(request(&[b"SET", b"binary", &binary]));
    all.extend(request(&[b"GET", b"binary"]));
    all.extend(request(&[b"SET", b"", b""]));
    all.extend(request(&[b"GET", b""]));
    all.extend(request(&[b"FROB", &[b'x'; 300], b"y"]));
    // Lines, and what is no request at all.
    all.extend(b"PING\r\n\r\n   \r\nSET  words \"two words\"\nGET words\r\nGET 'words'\r\n");
    all.extend(b"*0\r\n*-1\r\nPING\r\n");
    all.extend(line("QUIT"));
    same(server.address(), &redis, &all)?;
    // The same, however it is cut, and one at a time.
    let mut stream = connect(server.address())?;
    stream.set_nodelay(true)?;
    let whole = [
        line("SET cut 1"),
        line("GET cut"),
        line("INCR cut"),
        line("QUIT"),
    ]
    .concat();
    for byte in &whole {
        stream.write_all(&[*byte])?;
    }
    let answer = exchange(stream, b"")?;
    ensure!(
        answer == b"+OK\r\n$1\r\n1\r\n:2\r\n+OK\r\n",
        "{}",
        answer.escape_ascii()
    );
    Ok(())
}

#[test]
fn what_is_malformed_ends_the_connection_as_redis_does() -> Result<()> {
    if skipped("malformed requests beside Redis")? {
        return Ok(());
    }
    let redis = Redis::start(&[])?;
    let (server, _folder) = start(&[])?;
    let before = line("SET k v");
    for malformed in [
        &b"*x\r\n"[..],
        b"*1x\r\n",
        b"*2147483648\r\n",
        b"*99999999999999999999\r\n",
        b"*1\r\nPING\r\n",
        b"*1\r\n\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$600000000\r\n",
        b"*2\r\n$3\r\nGET\r\n$\r\n",
        b"GET 'k\r\n",
        b"GET \"k\r\n",
        &[b'x'; 70_000],
        &[&b"*"[..], &[b'1'; 70_000]].concat(),
        &[&b"*1\r\n$"[..], &[b'1'; 70_000]].concat(),
    ] {
        same(server.address(), &redis, &[&before[..], malformed].concat())?;
    }
    // Others are served all the while.
    let answer = exchange(
        connect(server.address())?,
        &[line("GET k"), line("QUIT")].concat(),
    )?;
    ensure!(answer == b"$1\r\nv\r\n+OK\r\n");
    Ok(())
}

/// A value that would never expire is not stored in place of one that should.
#[test]
fn what_should_expire_is_refused() -> Result<()> {
    let (server, _folder) = start(&[])?;
    let commands = [
        "SET k v EX 10",
        "SET k v PX 10",
        "SET k v NX EX 10",
        "SETEX k 10 v",
        "EXPIRE k 10",
        "GET k",
        "QUIT",
    ];
    let requests = commands.map(line).concat();
    let answer = exchange(connect(server.address())?, &requests)?;
    let answer = String::from_utf8(answer)?;
    let lines: Vec<_> = answer.lines().collect();
    ensure!(lines[..3] == ["-ERR syntax error"; 3], "{lines:#?}");
    let unknown = |line: &&str| line.starts_with("-ERR unknown command");
    ensure!(lines[3..5].iter().all(unknown), "{lines:#?}");
    ensure!(lines[5..] == ["$-1", "+OK"], "{lines:#?}");
    Ok(())
}

#[test]
fn version_3_of_the_protocol_has_maps_and_a_null() -> Result<()> {
    let (server, _folder) = start(&[])?;
    let commands = [
        "HELLO 3",
        "CONFIG GET save",
        "GET none",
        "MGET none",
        "HELLO 2",
        "GET none",
        "QUIT",
    ];
    let requests = commands.map(line).concat();
    let answer = exchange(connect(server.address())?, &requests)?;
    let about = "$6\r\nserver\r\n$11\r\nhalfopen-kv\r\n$5\r\nproto\r\n";
    let expected = format!(
        "%2\r\n{about}:3\r\n%1\r\n$4\r\nsave\r\n$0\r\n\r\n_\r\n*1\r\n_\r\n\
         *4\r\n{about}:2\r\n$-1\r\n+OK\r\n"
    );
    ensure!(answer == expected.as_bytes(), "{}", answer.escape_ascii());
    Ok(())
}
