//! What a chat does, whatever language it is written in.

use anyhow::{Result, bail, ensure};

use crate::client::{Client, End};
use crate::server::Server;

/// Sends a request, and checks the answer.
///
/// # Errors
///
/// If the answer is another one.
pub fn asks(client: &mut Client, request: &str, answer: &str) -> Result<()> {
    client.send(request.as_bytes())?;
    let got = client.receive(answer.len())?;
    let same = got == answer.as_bytes();
    ensure!(same, "`{}` instead of `{answer}`", got.escape_ascii());
    Ok(())
}

/// Enters the chat under a name.
///
/// # Errors
///
/// If the chat does not let in.
pub fn enter(server: &Server, name: &str) -> Result<Client> {
    let mut client = Client::connect(server.address())?;
    asks(&mut client, "", "What is your name?\n")?;
    let name = format!("{name}\n");
    asks(&mut client, &name, "Welcome. There are /who and /quit.\n")?;
    Ok(client)
}

/// Checks that each line goes to everybody else, and how one comes and goes.
///
/// # Errors
///
/// If the chat does anything else.
pub fn everybody_hears_the_others(server: &Server) -> Result<()> {
    let mut ann = enter(server, "ann")?;
    let mut bob = enter(server, "bob")?;
    asks(&mut ann, "", "* bob is here\n")?;
    asks(&mut bob, "/who\n", "* here: ann, bob\n")?;
    // Control characters would reach the terminals of the others.
    bob.send(b"he\x1b[2Jllo\r\n")?;
    asks(&mut ann, "", "bob: he[2Jllo\n")?;
    // A name is taken by who has it, and free afterwards.
    let mut other = Client::connect(server.address())?;
    asks(&mut other, "", "What is your name?\n")?;
    asks(&mut other, "a b\n", "Use 1 to 20 letters and digits.\n")?;
    asks(&mut other, "bob\n", "That name is taken.\n")?;
    asks(&mut bob, "/quit\nunheard\n", "Bye.\n")?;
    bob.fin()?;
    ensure!(bob.end()? == (Vec::new(), End::Fin));
    asks(&mut ann, "", "* bob has left\n")?;
    asks(&mut other, "bob\n", "Welcome. There are /who and /quit.\n")?;
    asks(&mut ann, "", "* bob is here\n")?;
    // Who just goes has left as well.
    other.fin()?;
    ensure!(other.end()? == (Vec::new(), End::Fin));
    asks(&mut ann, "/who\n", "* bob has left\n* here: ann\n")
}

/// Checks that a client that does not read is dropped at the chat's bound, and that the others
/// hear everything.
///
/// # Errors
///
/// If the chat does anything else.
pub fn a_slow_reader_harms_nobody_and_is_dropped(server: &Server) -> Result<()> {
    let mut talker = enter(server, "talker")?;
    let mut listener = enter(server, "listener")?;
    asks(&mut talker, "", "* listener is here\n")?;
    let mut slow = enter(server, "slow")?;
    asks(&mut talker, "", "* slow is here\n")?;
    asks(&mut listener, "", "* slow is here\n")?;
    let text = "x".repeat(999);
    let line = format!("{text}\n");
    let heard = format!("talker: {line}");
    // At most 32 MiB: more than the buffers of both kernels and the chat's bound.
    for _ in 0..32 * 1024 {
        talker.send(line.as_bytes())?;
        let first = listener.receive(1)?;
        if first == b"*" {
            asks(&mut listener, "", " slow has left\n")?;
            asks(
                &mut talker,
                "/who\n",
                "* slow has left\n* here: talker, listener\n",
            )?;
            ensure!(slow.end()?.1 == End::Rst, "the slow reader saw FIN");
            return Ok(());
        }
        asks(&mut listener, "", &heard[1..])?;
    }
    bail!("the slow reader was not dropped")
}
