//! Requests to the admin address, with exactly the headers that a test wants.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use halfopen_tests::patience::PATIENCE;

/// An answer: its status, its head and its body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Asks with exactly these headers.
pub(super) fn ask_with(admin: &str, request: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    write!(stream, "{request} HTTP/1.1\r\n{headers}\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("this is not HTTP")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

/// Asks as a program does that names the address.
pub(super) fn ask(admin: &str, request: &str) -> Result<Answer> {
    ask_with(admin, request, &[("Host", admin)])
}

/// Gives an order as a program does.
pub(super) fn order(admin: &str, request: &str) -> Result<Answer> {
    ask_with(admin, request, &[("Host", admin), ("X-Halfopen", "test")])
}

/// The text of a denial, which a line must explain.
pub(super) fn denied(answer: &Answer, status: u16, part: &str) -> Result<()> {
    let Answer {
        status: found,
        body,
        ..
    } = answer;
    ensure!(*found == status, "{found} {body}");
    ensure!(body.contains(part) && body.lines().count() == 1, "{body}");
    Ok(())
}
