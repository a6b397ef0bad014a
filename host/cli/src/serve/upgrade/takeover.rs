//! The process before, as its successor sees it.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use halfopen::tls::TicketKeys;

use super::VARIABLE;
use super::channel::Channel;
use super::generations::{Generation, Generations};
use super::message::{FORMAT, Message};
use crate::args::listen::Listen;

/// How long the process before may take to hand over, and to let this one accept. Both need
/// no time unless the machine is overloaded.
const PATIENCE: Duration = Duration::from_secs(60);

/// A listening socket of the process before.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) service: String,
    /// `None` if systemd made it.
    pub(crate) listen: Option<Listen>,
    pub(crate) socket: TcpListener,
}

/// What the process before hands over.
#[derive(Debug)]
pub(crate) struct Takeover {
    channel: Channel,
    /// The process before.
    pub(crate) process: u32,
    /// The number of the process before.
    pub(crate) generation: u32,
    pub(crate) listeners: Vec<Handed>,
    /// The admin address as the configuration wrote it, and its socket.
    pub(crate) admin: Option<(SocketAddr, TcpListener)>,
    /// The path of the control socket, and the socket.
    pub(crate) control: Option<(PathBuf, OwnedFd)>,
    pub(crate) generations: Generations,
    /// The keys of TLS session tickets, once this process may accept.
    pub(crate) tickets: Option<TicketKeys>,
}

impl Takeover {
    /// Receives from the process that started this one for an upgrade. `None` if it was started
    /// in another way. Blocks.
    pub(crate) fn receive() -> anyhow::Result<Option<Self>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let channel = Channel::on_stdin().with_context(|| {
            format!("cannot take over: {VARIABLE} is set; unset it to start afresh")
        })?;
        Self::receive_over(channel)
            .context("cannot take over")
            .map(Some)
    }

    fn receive_over(channel: Channel) -> anyhow::Result<Self> {
        let begin = channel.receive(PATIENCE)?;
        let (
            Message::Begin {
                format,
                process,
                generation,
            },
            _,
        ) = begin
        else {
            bail!("the other process says something unknown");
        };
        let mut takeover = Takeover {
            channel,
            process,
            generation,
            listeners: Vec::new(),
            admin: None,
            control: None,
            generations: Generations::default(),
            tickets: None,
        };
        if format != FORMAT {
            let reason = format!(
                "it speaks version {FORMAT} of the upgrade, and this process version {format}; \
                 restart instead"
            );
            takeover.fail(&reason);
            bail!("{reason}");
        }
        loop {
            let (message, descriptor) = takeover.channel.receive(PATIENCE)?;
            match (message, descriptor) {
                (Message::End, None) => {
                    let line = takeover.channel.try_clone()?;
                    takeover.generations.set_channel(process, line);
                    return Ok(takeover);
                }
                (message, Some(descriptor)) => takeover.keep(message, descriptor)?,
                (message, None) => bail!("{message:?} comes without its descriptor"),
            }
        }
    }

    fn keep(&mut self, message: Message, descriptor: OwnedFd) -> anyhow::Result<()> {
        match message {
            Message::Listener { service, listen } => {
                let listen = listen.map(|listen| listen.parse()).transpose();
                self.listeners.push(Handed {
                    service,
                    listen: listen.map_err(anyhow::Error::msg)?,
                    socket: TcpListener::from(descriptor),
                });
            }
            Message::Admin { address } => {
                self.admin = Some((address.parse()?, TcpListener::from(descriptor)));
            }
            Message::Control { path } => self.control = Some((path.into(), descriptor)),
            Message::Generation {
                process,
                generation,
                since,
                hands_over,
            } => {
                let mut generation = Generation::new(process, generation, since, descriptor);
                generation.hands_over = hands_over;
                self.generations.push(generation);
            }
            Message::Line { process } => {
                let channel = Channel::of(descriptor);
                self.generations.set_channel(process, channel);
            }
            message => bail!("{message:?} comes with a descriptor"),
        }
        Ok(())
    }

    /// Takes the socket of the admin address, if the configuration still writes it so.
    pub(crate) fn take_admin(&mut self, address: SocketAddr) -> Option<TcpListener> {
        self.admin
            .take_if(|(before, _)| *before == address)
            .map(|(_, socket)| socket)
    }

    /// Takes the control socket, if the configuration still has its path.
    pub(crate) fn take_control(&mut self, path: &Path) -> Option<OwnedFd> {
        self.control
            .take_if(|(before, _)| before == path)
            .map(|(_, socket)| socket)
    }

    /// Reports that everything is loaded, and waits until this process may accept. Blocks. If
    /// the process before has ended meanwhile, its sockets are this one's.
    ///
    /// # Errors
    /// If the process before goes on without this one.
    pub(crate) fn prepared(mut self) -> anyhow::Result<Self> {
        let taken = self.channel.send(&Message::Prepared, None);
        if let Err(error) = taken.and_then(|()| self.receive_last()) {
            ensure!(!self.generations.is_alive(self.process), error);
        }
        Ok(self)
    }

    /// Receives what the process before hands over last.
    fn receive_last(&mut self) -> anyhow::Result<()> {
        loop {
            match self.channel.receive(PATIENCE)?.0 {
                Message::Take => return Ok(()),
                Message::Tickets => {
                    self.tickets = Some(self.channel.receive_keys(PATIENCE)?);
                }
                message => self.generations.tells(self.process, message),
            }
        }
    }

    /// Reports that this process accepts.
    pub(crate) fn ready(&self) {
        // If the process before has ended, nobody has to be told.
        let _ = self.channel.send(&Message::Ready, None);
    }

    /// Reports why this process gives up.
    pub(crate) fn fail(&self, reason: &str) {
        let reason = reason.chars().take(4096).collect();
        let _ = self.channel.send(&Message::Failed { reason }, None);
    }
}
