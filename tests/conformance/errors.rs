//! Every error of TCP, from the bare primitives: `tests/guests/raw` calls them and prints
//! what they return, in the words that a user sees. `out-of-memory` is left out, and so is
//! `datagram-too-large`, which TCP does not have.

use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::PATIENCE;
use halfopen_tests::port::Port;
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::server::{Server, command, run};
use socket2::SockRef;

use crate::{Case, Run};

const ELSEWHERE: &str = "a program, not a service";

pub(crate) const CASES: &[Case] = &[
    case("error-connection-refused", &["E3"], |runner, binaries| {
        let port = Port::reserve()?;
        let nobody = port.address()?;
        says(
            &granted(runner, binaries, &[&format!("connect={nobody}")]),
            &["connect: ECONNREFUSED (connection refused)"],
        )
    }),
    case("error-remote-unreachable", &["E3"], |runner, binaries| {
        // Linux does not route TCP to the broadcast address of loopback.
        says(
            &granted(runner, binaries, &["connect=127.255.255.255:80"]),
            &["connect: EHOSTUNREACH (no route to the peer)"],
        )
    }),
    case("error-address-in-use", &["L3", "L4"], |runner, binaries| {
        let port = Port::reserve()?;
        let free = port.address()?;
        let listen = format!("listen={free}");
        let once = format!("listen: {free}");
        says(
            &granted(runner, binaries, &[&listen, &listen, "drop", &listen]),
            &[
                &once,
                "listen: EADDRINUSE (address already in use)",
                "drop: done",
                &once,
            ],
        )
    }),
    case(
        "error-address-not-available",
        &["L3"],
        |runner, binaries| {
            says(
                &granted(runner, binaries, &["listen=192.0.2.1:0"]),
                &["listen: EADDRNOTAVAIL (address not available: not one of this host's)"],
            )
        },
    ),
    case("error-access-denied", &["L3"], access_denied),
    case("error-invalid-argument", &["L3"], |runner, binaries| {
        let connects = |to: &str| {
            let call = format!("connect={to}");
            says(
                &granted(runner, binaries, &[&call]),
                &["connect: EINVAL (invalid argument)"],
            )
        };
        connects("127.0.0.1:0")?;
        connects("0.0.0.0:80")?;
        connects("224.0.0.1:80")?;
        connects("[::ffff:127.0.0.1]:80")?;
        says(
            &granted(
                runner,
                binaries,
                &[
                    "listen=224.0.0.1:0",
                    "listen=[::ffff:127.0.0.1]:0",
                    "backlog=0",
                    "listen=127.0.0.1:0",
                ],
            ),
            &[
                "listen: EINVAL (invalid argument)",
                "listen: EINVAL (invalid argument)",
                "backlog: set",
                "listen: EINVAL (invalid argument)",
            ],
        )
    }),
    case(
        "error-connection-reset",
        &["R4", "E1"],
        |runner, binaries| {
            let calls = ["read", "write=x", "read-all", "ended", "write=y"];
            let written = if runner.is_native() {
                "write: ECONNRESET (connection reset by the peer), bytes left: true"
            } else {
                // Each direction reports what its own system call returned.
                "write: EPIPE (broken pipe: the peer has gone), bytes left: true"
            };
            against(
                runner,
                binaries,
                Peer::Resets,
                &calls,
                &[
                    "read: taken",
                    "write: ok",
                    "read-all: 0 bytes",
                    "ended: ECONNRESET (connection reset by the peer)",
                    written,
                ],
            )
        },
    ),
    case("error-broken-pipe", &["W4", "E2"], |runner, binaries| {
        let calls = [
            "read", "read-all", "ended", "sleep", "write=x", "sleep", "write=y",
        ];
        let broken = "write: EPIPE (broken pipe: the peer has gone), bytes left: true";
        against(
            runner,
            binaries,
            Peer::Closes,
            &calls,
            &[
                "read: taken",
                "read-all: 0 bytes",
                "ended: ok",
                "sleep: done",
                // The first write only provokes the peer's RST.
                "write: ok",
                "sleep: done",
                broken,
            ],
        )
    }),
    case("error-connection-aborted", &["C3"], |runner, binaries| {
        let calls = ["read", "write=x", "reset", "drop-read", "ended", "finish"];
        let lines = |ended: &str| {
            let ended = ended.to_owned();
            [
                "read: taken",
                "write: ok",
                "reset: done",
                "drop-read: dropped",
            ]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("ended: {ended}"), format!("finish: {ended}")])
            .collect::<Vec<_>>()
        };
        let lines = if runner.is_native() {
            lines("ECONNABORTED (connection aborted on this side)")
        } else {
            // WASI 0.3.0 has no reset: the streams that were taken live on.
            lines("ok")
        };
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        against(runner, binaries, Peer::Silent, &calls, &lines)
    }),
    case("error-invalid-state", &["R1"], |runner, binaries| {
        let calls = [
            "read",
            "read-again",
            "write=x",
            "write-again",
            "finish",
            "read-all",
            "ended",
        ];
        against(
            runner,
            binaries,
            Peer::Echoes,
            &calls,
            &[
                "read: taken",
                "read-again: 0 bytes, EINVAL (invalid state: it was used or has ended before)",
                "write: ok",
                "write-again: 5 bytes left, EINVAL (invalid state: it was used or has ended before)",
                "finish: ok",
                "read-all: 1 bytes",
                "ended: ok",
            ],
        )
    }),
    case("error-not-supported", &["E3"], |runner, binaries| {
        let no_delay = if runner.is_native() {
            "no-delay: ok"
        } else {
            "no-delay: EOPNOTSUPP (not supported by this host)"
        };
        against(
            runner,
            binaries,
            Peer::Echoes,
            &["keep-alive", "bad-keep-alive", "no-delay"],
            &[
                "keep-alive: ok",
                "bad-keep-alive: EINVAL (invalid argument)",
                no_delay,
            ],
        )
    }),
    case("error-too-many-files", &["L3", "E3"], |runner, binaries| {
        let why = if runner.is_native() {
            "EIO (Too many open files (os error 24))"
        } else {
            // WASI's code `other` comes without a message.
            "EIO (input/output error)"
        };
        let lines = [
            format!("hoard-listeners: {why}"),
            "hoard-connections: ECONNREFUSED (connection refused)".to_owned(),
        ];
        let port = Port::reserve()?;
        let nobody = port.address()?;
        let hoard = format!("hoard-connections={nobody}");
        let program = granted(runner, binaries, &["hoard-listeners", &hoard]);
        // The hoarded listeners are closed first, so that there are descriptors again.
        says(
            &within(&["sh", "-c", "ulimit -n 40; exec \"$@\"", "sh"], &program),
            &[&lines[0], &lines[1]],
        )
    }),
    case("error-timeout", &["E1"], timeouts),
    case("finish-is-not-delivery", &["W3"], |runner, binaries| {
        // The peer never reads, and yet the kernel has everything, FIN behind it.
        against(
            runner,
            binaries,
            Peer::Silent,
            &["write=unread", "finish"],
            &["write: ok", "finish: ok"],
        )
    }),
    case("zero-length-read", &["R7"], |runner, binaries| {
        let calls = [
            "read",
            "write=abc",
            "ready",
            "ready",
            "finish",
            "read-all",
            "ended",
        ];
        against(
            runner,
            binaries,
            Peer::Echoes,
            &calls,
            &[
                "read: taken",
                "write: ok",
                "ready: 0 bytes taken",
                "ready: 0 bytes taken",
                "finish: ok",
                "read-all: 3 bytes",
                "ended: ok",
            ],
        )
    }),
    case("a-read-given-up", &["R6"], given_up),
    case("random-calls", &["C2", "W5", "W7"], |runner, binaries| {
        // In random order; half of the calls are given up before they return.
        let seed = fastrand::u32(..);
        let calls = [
            format!("random={seed},3000"),
            format!("random={},3000", seed / 2),
        ];
        let line = "random: 3000 calls survived";
        let program = granted(runner, binaries, &[&calls[0], &calls[1]]);
        says(&program, &[line, line]).with_context(|| calls.join(" "))
    }),
    case("two-accepts-at-once", &["L6"], two_accepts),
    case(
        "an-accept-that-is-cancelled",
        &["L6"],
        an_accept_that_is_cancelled,
    ),
];

const fn case(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        name,
        rules,
        runners: Runner::runs_programs,
        elsewhere: ELSEWHERE,
        run,
    }
}

/// Returns the command that makes these calls, with the network granted.
fn granted(runner: Runner, binaries: &Binaries, calls: &[&str]) -> Command {
    runner.program_with(binaries, "raw", &["--inherit-network"], calls)
}

/// Runs the command to its end, and compares what it printed.
fn says(program: &Command, lines: &[&str]) -> Result<()> {
    let stopped = run(copy(program))?;
    ensure!(stopped.stdout == lines, "expected {lines:#?}, {stopped:#?}");
    ensure!(stopped.status.success(), "{stopped:#?}");
    Ok(())
}

fn copy(of: &Command) -> Command {
    command(of.get_program(), of.get_args())
}

/// Returns the same command, started by another command.
fn within(outer: &[&str], program: &Command) -> Command {
    let mut command = command(outer[0], &outer[1..]);
    command.arg(program.get_program()).args(program.get_args());
    command
}

/// What the peer of a connection does once it has accepted it.
#[derive(Clone, Copy)]
enum Peer {
    /// Reads a byte, and resets.
    Resets,
    /// Closes at once.
    Closes,
    /// Sends back what it receives.
    Echoes,
    /// Keeps the connection open for as long as the program runs.
    Silent,
}

/// Connects to a peer, makes `calls`, and compares the printed lines.
fn against(
    runner: Runner,
    binaries: &Binaries,
    peer: Peer,
    calls: &[&str],
    lines: &[&str],
) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let peer = thread::spawn(move || serve(&listener, peer));
    let connect = format!("connect={address}");
    let calls = [&[connect.as_str()], calls].concat();
    let connected = format!("connect: {address}");
    let lines = [&[connected.as_str()], lines].concat();
    says(&granted(runner, binaries, &calls), &lines)?;
    // The peer's end may fail, and it is not what is tested. A silent peer's connection has
    // been open until here.
    let _ = peer.join().expect("a peer does not panic");
    Ok(())
}

/// Accepts one connection. Returns it if it must stay open.
fn serve(listener: &TcpListener, how: Peer) -> std::io::Result<Option<TcpStream>> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    match how {
        Peer::Resets => {
            stream.read_exact(&mut [0])?;
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        Peer::Closes => {}
        Peer::Echoes => {
            let mut writer = stream.try_clone()?;
            std::io::copy(&mut stream, &mut writer)?;
            writer.shutdown(Shutdown::Write)?;
        }
        Peer::Silent => return Ok(Some(stream)),
    }
    Ok(None)
}

/// The host denies an address that is not granted, and the system a privileged port.
fn access_denied(runner: Runner, binaries: &Binaries) -> Result<()> {
    let denied = "EACCES (access denied: the host does not grant this address, or the system does not permit it)";
    let lines = [format!("listen: {denied}"), format!("connect: {denied}")];
    let calls = ["listen=127.0.0.1:0", "connect=127.0.0.1:80"];
    let program = runner.program_with(binaries, "raw", &[], &calls);
    says(&program, &[&lines[0], &lines[1]])?;
    if !is_root() {
        println!("!!! SKIPPED: a privileged port (only root can drop the capability for it)");
        return Ok(());
    }
    let program = granted(runner, binaries, &["listen=127.0.0.1:99"]);
    let without = "--bounding-set=-net_bind_service";
    let inherited = "--inh-caps=-net_bind_service";
    says(
        &within(&["setpriv", without, inherited], &program),
        &[&lines[0]],
    )
}

/// Nobody answers: to a SYN, because the listener's queue is full, and to a keep-alive,
/// because the network is down. The program gets a network namespace of its own.
fn timeouts(runner: Runner, binaries: &Binaries) -> Result<()> {
    if !is_root() {
        println!("!!! SKIPPED: timeouts (only root can make a network namespace)");
        return Ok(());
    }
    let network = |script: &str, program: &Command| {
        let script = format!("ip link set lo up; {script} exec \"$@\"");
        within(&["unshare", "-n", "sh", "-c", &script, "sh"], program)
    };
    let fewer_retries = "echo 1 >/proc/sys/net/ipv4/tcp_syn_retries;";
    let calls = [
        "backlog=1",
        "listen=127.0.0.1:5555",
        "hoard-connections=127.0.0.1:5555",
    ];
    says(
        &network(fewer_retries, &granted(runner, binaries, &calls)),
        &[
            "backlog: set",
            "listen: 127.0.0.1:5555",
            "hoard-connections: ETIMEDOUT (timed out)",
        ],
    )?;
    let calls = [
        "listen=127.0.0.1:5555",
        "connect=127.0.0.1:5555",
        "keep-alive",
        "read",
        "read-all",
        "ended",
    ];
    // State 01 is ESTABLISHED. The network goes down once there is a connection.
    let then_down = "(for look in $(seq 1200); do grep -q ' 01 0' /proc/net/tcp && break; \
                     sleep 0.1; done; sleep 0.5; ip link set lo down) >/dev/null 2>&1 &";
    says(
        &network(then_down, &granted(runner, binaries, &calls)),
        &[
            "listen: 127.0.0.1:5555",
            "connect: 127.0.0.1:5555",
            "keep-alive: ok",
            "read: taken",
            "read-all: 0 bytes",
            "ended: ETIMEDOUT (timed out)",
        ],
    )
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(
        root || std::env::var_os("CI").is_none(),
        "with CI set, these tests need root"
    );
    root
}

/// Starts the program, which listens and then makes `calls`. Returns it and its address.
fn listening(runner: Runner, binaries: &Binaries, calls: &[&str]) -> Result<(Server, SocketAddr)> {
    let calls = [&["listen=127.0.0.1:0"], calls].concat();
    let mut program = granted(runner, binaries, &calls);
    program.stdin(Stdio::null());
    let server = Server::start(program, 0)?;
    let printed = server.printed(1);
    let first = printed.first().context("no line")?;
    let address = first.strip_prefix("listen: ").context("no address")?;
    let address = address.parse()?;
    Ok((server, address))
}

/// A read that is given up does not tell the peer: it can send until buffers are full, is
/// then held up, and still receives.
fn given_up(runner: Runner, binaries: &Binaries) -> Result<()> {
    // Each of them is 200 ms. The test ends the program long before their end.
    let pauses = ["sleep"; 1000];
    let calls = [&["accept", "read", "drop-read", "write=still"], &pauses[..]].concat();
    let (_server, address) = listening(runner, binaries, &calls)?;
    let mut client = Client::connect(address)?;
    client.send(b"unread")?;
    ensure!(client.receive(5)? == b"still");
    let taken = client.fill(1, 64 << 20)?;
    ensure!(taken > 0, "the peer could send nothing");
    client.silence(Duration::from_millis(100))?;
    Ok(())
}

/// Of two calls at the same time, the first one gets the first connection.
fn two_accepts(runner: Runner, binaries: &Binaries) -> Result<()> {
    let (server, address) = listening(runner, binaries, &["accept-twice"])?;
    let first = Client::connect(address)?;
    let mut second = Client::connect(address)?;
    let expected = format!("accept-twice: {} {}", first.address()?, second.address()?);
    let printed = server.printed(2);
    ensure!(printed.get(1) == Some(&expected), "{printed:?}");
    ensure!(second.end()?.1 == End::Fin);
    Ok(())
}

/// A call that is given up while it waits for its turn holds up no call behind it.
fn an_accept_that_is_cancelled(runner: Runner, binaries: &Binaries) -> Result<()> {
    let (server, address) = listening(runner, binaries, &["accept-cancelled"])?;
    server.printed(2);
    let first = Client::connect(address)?;
    let mut second = Client::connect(address)?;
    let peers = (first.address()?, second.address()?);
    let expected = format!("accept-cancelled: {} {}", peers.0, peers.1);
    let printed = server.printed(3);
    ensure!(printed.get(2) == Some(&expected), "{printed:?}");
    ensure!(second.end()?.1 == End::Fin);
    Ok(())
}
