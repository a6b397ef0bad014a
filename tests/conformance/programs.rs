//! Programs, which listen and accept themselves.

use anyhow::{Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::server::{Server, run};

use crate::{Case, Run};

const ELSEWHERE: &str = "a program, not a service";

pub(crate) const CASES: &[Case] = &[
    case("primitives", &["L1", "L2", "R2", "W2"], echoes),
    case("primitives-reset", &["E3"], reset),
    case("primitives-once", &["L7", "C5"], once),
    case("primitives-listener-errors", &["L3"], listener_errors),
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

fn start(runner: Runner, binaries: &Binaries, arguments: &[&str]) -> Result<Server> {
    let arguments = [&["--listen", "127.0.0.1:0"], arguments].concat();
    Server::start(runner.program(binaries, "primitives", &arguments), 1)
}

/// Half-close in both orders.
fn echoes(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries, &[])?;
    let mut first = Client::connect(server.address())?;
    first.send(b"hi")?;
    first.fin()?;
    ensure!(first.end()? == (b"hi".to_vec(), End::Fin));
    server.printed(3);
    // The second connection opens after the first has printed all its lines.
    let mut second = Client::connect(server.address())?;
    second.send(b"q")?;
    ensure!(second.end()? == (b"q".to_vec(), End::Fin));
    second.send(b"late")?;
    server.printed(7);
    second.fin()?;
    let expected = [
        format!("new connection 127.0.0.1 {}", first.address()?.port()),
        "data: <Buffer 68 69>".to_owned(),
        "EOF.".to_owned(),
        format!("new connection 127.0.0.1 {}", second.address()?.port()),
        "data: <Buffer 71>".to_owned(),
        "closing.".to_owned(),
        "data: <Buffer 6c 61 74 65>".to_owned(),
        "EOF.".to_owned(),
    ];
    let printed = server.printed(expected.len());
    ensure!(printed == expected, "{printed:#?}");
    Ok(())
}

fn reset(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries, &[])?;
    let mut first = Client::connect(server.address())?;
    first.send(b"x")?;
    first.receive(1)?;
    let mut second = Client::connect(server.address())?;
    first.reset()?;
    server.logged("error: connection reset by the peer")?;
    second.exchange(100_000, 1)
}

/// The program ends with its only connection.
fn once(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries, &["--once"])?;
    let mut client = Client::connect(server.address())?;
    client.send(b"x")?;
    ensure!(client.receive(1)? == b"x");
    ensure!(
        Client::connect(server.address()).is_err(),
        "the program still listens"
    );
    client.fin()?;
    ensure!(client.end()? == (Vec::new(), End::Fin));
    let stopped = server.wait()?;
    ensure!(stopped.status.success(), "{stopped:?}");
    ensure!(stopped.stdout.last().is_some_and(|line| line == "EOF."));
    Ok(())
}

fn listener_errors(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries, &[])?;
    let taken = server.address().to_string();
    let cases = [
        (vec!["--listen", &taken], "address already in use"),
        (vec!["--listen", "nowhere"], "bad address `nowhere`"),
        (vec!["--listne"], "unknown argument `--listne`"),
    ];
    for (arguments, why) in cases {
        let stopped = run(runner.program(binaries, "primitives", &arguments))?;
        ensure!(
            !stopped.status.success(),
            "{arguments:?}: the program succeeded"
        );
        let found = stopped
            .stderr
            .iter()
            .any(|line| line.starts_with("error: ") && line.contains(why));
        ensure!(found, "{arguments:?}: {:?}", stopped.stderr);
    }
    Ok(())
}
