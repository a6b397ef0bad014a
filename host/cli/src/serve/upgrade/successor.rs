//! The process that takes over, as the one before sees it.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use halfopen::tls::TicketKeys;

use super::channel::Channel;
use super::generations::Generation;
use super::message::{FORMAT, Message};
use super::{Generations, Report, VARIABLE};
use crate::args::listen::Listen;

/// How long a successor that is prepared may take to accept.
const ACCEPT: Duration = Duration::from_secs(30);

/// What a process hands over.
#[derive(Debug, Default)]
pub(crate) struct Offer(Vec<(Message, OwnedFd)>);

/// What a process hands over just before its successor accepts.
pub(crate) struct Last {
    pub(crate) tickets: TicketKeys,
    pub(crate) report: Report,
}

/// A successor that accepts.
pub(crate) struct Accepting {
    pub(crate) process: u32,
    channel: Channel,
    report: Report,
}

/// A successor that has been started. It is killed on drop, unless it has been told to accept.
#[derive(Debug)]
pub(crate) struct Successor {
    channel: Channel,
    child: Option<Child>,
    process: u32,
}

/// What has been done of an upgrade.
pub(crate) enum Step {
    /// The successor is prepared, and accepts nothing yet.
    Prepared(Successor),
    Accepts(Accepting),
}

impl Offer {
    /// Adds a listening socket of a service. Without `listen`, systemd made it.
    pub(crate) fn listener(
        &mut self,
        service: &str,
        listen: Option<Listen>,
        socket: &TcpListener,
    ) -> anyhow::Result<()> {
        let message = Message::Listener {
            service: service.to_owned(),
            listen: listen.map(|listen| listen.to_string()),
        };
        self.0.push((message, socket.try_clone()?.into()));
        Ok(())
    }

    /// Adds the listening socket of the admin address, which the configuration writes as
    /// `address`.
    pub(crate) fn admin(&mut self, address: SocketAddr, socket: OwnedFd) {
        let address = address.to_string();
        self.0.push((Message::Admin { address }, socket));
    }

    /// Adds the listening socket of the control path.
    pub(crate) fn control(&mut self, path: &Path, socket: OwnedFd) -> anyhow::Result<()> {
        let path = path.to_str().context("the control path is not UTF-8")?;
        let path = path.to_owned();
        self.0.push((Message::Control { path }, socket));
        Ok(())
    }

    /// Adds this process, which has this number, and the earlier ones that still drain.
    pub(crate) fn generations(&mut self, earlier: &Generations, this: u32) -> anyhow::Result<()> {
        let this = Generation::this(this)?;
        for generation in earlier.iter().chain([&this]) {
            let process = generation.process;
            let message = Message::Generation {
                process,
                generation: generation.number,
                since: generation.since,
                hands_over: generation.hands_over,
            };
            self.0.push((message, generation.descriptor().try_clone()?));
            if let Some(channel) = generation.channel() {
                let descriptor = channel.as_fd().try_clone_to_owned()?;
                self.0.push((Message::Line { process }, descriptor));
            }
        }
        Ok(())
    }
}

impl Successor {
    /// Starts a binary with these arguments.
    pub(crate) fn start(binary: &Path, arguments: Vec<OsString>) -> anyhow::Result<Self> {
        let (channel, theirs) = Channel::pair()?;
        let child = Command::new(binary)
            .args(arguments)
            .env(VARIABLE, "stdin")
            // Of the sockets that systemd passed and of its watchdog, for this process alone.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_FDNAMES")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(theirs))
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Successor {
            channel,
            process: child.id(),
            child: Some(child),
        })
    }

    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    /// Hands over, as the process of this number, and waits until the successor is prepared.
    /// Blocks.
    ///
    /// # Errors
    /// If the successor gives up, ends or is not prepared within the limit. It has ended then.
    pub(crate) fn prepare(
        self,
        offer: Offer,
        generation: u32,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let begin = Message::Begin {
            format: FORMAT,
            process: std::process::id(),
            generation,
        };
        self.channel.send(&begin, None)?;
        for (message, descriptor) in offer.0 {
            self.channel.send(&message, Some(descriptor.as_fd()))?;
        }
        self.channel.send(&Message::End, None)?;
        self.expect(limit, |message| matches!(message, Message::Prepared))?;
        Ok(self)
    }

    /// Lets the successor accept, and waits until it does. Blocks.
    ///
    /// # Errors
    /// If the successor ends instead, or does not answer in time.
    pub(crate) fn let_accept(mut self, last: Last) -> anyhow::Result<Accepting> {
        let Last {
            tickets,
            mut report,
        } = last;
        self.channel.send(&Message::Tickets, None)?;
        self.channel.send_keys(&tickets)?;
        for message in report.spent().iter().chain(&report.news()) {
            self.channel.send(message, None)?;
        }
        self.channel.send(&Message::Take, None)?;
        let channel = self.channel.try_clone()?;
        self.expect(ACCEPT, |message| matches!(message, Message::Ready))?;
        // From now on it serves, whatever becomes of this process.
        self.child = None;
        Ok(Accepting {
            process: self.process,
            channel,
            report,
        })
    }

    fn expect(&self, limit: Duration, expected: impl Fn(&Message) -> bool) -> anyhow::Result<()> {
        let (message, _) = self.channel.receive(limit)?;
        match message {
            message if expected(&message) => Ok(()),
            Message::Failed { reason } => bail!("{reason}"),
            message => bail!("the other process says {message:?}"),
        }
    }
}

impl Accepting {
    /// Tells the successor what becomes of the connections of this process, and hands over those
    /// that it takes.
    pub(crate) async fn tell(self) {
        self.report.tell(self.channel).await;
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail if it has been waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
