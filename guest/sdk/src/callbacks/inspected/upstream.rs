//! The server of a relay, and the connection to it.

use std::net::SocketAddr;

use super::give_up;
use crate::callbacks::{pipe, secure_as_client};
use crate::{Error, Events, Socket};

/// The server of an [`Inspected`](super::Inspected) relay.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub(super) address: SocketAddr,
    /// The name in the server's certificate, if the connection has TLS.
    tls: Option<String>,
    protocols: &'static [&'static str],
    /// What asks the server for TLS, and its consent.
    asking: Option<(&'static [u8], &'static [u8])>,
    pipe_later: bool,
}

impl Upstream {
    /// A server at `address`, without TLS.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Upstream {
            address,
            tls: None,
            protocols: &[],
            asking: None,
            pipe_later: false,
        }
    }

    /// The connection has TLS, for which the server has a certificate for `server_name`
    /// ([`secure_as_client`]).
    #[must_use]
    pub fn tls(mut self, server_name: String) -> Self {
        self.tls = Some(server_name);
        self
    }

    /// The protocols that TLS offers to the server (ALPN), where the connection has TLS.
    #[must_use]
    pub fn protocols(mut self, protocols: &'static [&'static str]) -> Self {
        self.protocols = protocols;
        self
    }

    /// Where the connection has TLS, it begins when the server has answered to `request` by
    /// `consent`; any other answer is an error.
    #[must_use]
    pub fn asking(mut self, request: &'static [u8], consent: &'static [u8]) -> Self {
        self.asking = Some((request, consent));
        self
    }

    /// The server's answers are piped from [`Flow::pipe_answers`](super::Flow::pipe_answers) on,
    /// and the relay can answer before. Otherwise they are piped from the beginning.
    #[must_use]
    pub fn pipe_later(mut self) -> Self {
        self.pipe_later = true;
        self
    }

    pub(super) fn of(self, client: &Socket) -> Server {
        Server {
            upstream: self,
            client: client.clone(),
            answer: Vec::new(),
        }
    }
}

/// The connection to the server, for one client.
pub(super) struct Server {
    upstream: Upstream,
    client: Socket,
    /// What the server has answered to the request for TLS.
    answer: Vec<u8>,
}

impl Server {
    fn secure(&self, server: &Socket, unprocessed: &[u8]) {
        let Some(name) = &self.upstream.tls else {
            return self.ready(server);
        };
        let protocols = self.upstream.protocols;
        if let Err(error) = secure_as_client(server, name, protocols, unprocessed) {
            self.fail(server, &error.to_string());
        }
    }

    fn ready(&self, server: &Socket) {
        if !self.upstream.pipe_later
            && let Err(error) = pipe(server, &self.client)
        {
            return self.fail(server, &error.to_string());
        }
        self.client.resume();
    }

    fn fail(&self, server: &Socket, error: &str) {
        server.reset();
        give_up(&self.client, &format!("{}: {error}", self.upstream.address));
    }
}

impl Events for Server {
    fn connect(&mut self, server: &Socket) {
        match (&self.upstream.tls, self.upstream.asking) {
            (Some(_), Some((request, _))) => _ = server.write(request),
            _ => self.secure(server, &[]),
        }
    }

    /// Comes before the answers are piped: what a server says to a request for TLS.
    fn data(&mut self, server: &Socket, chunk: Vec<u8>) {
        self.answer.extend(chunk);
        match self.upstream.asking {
            Some((_, consent)) if self.upstream.tls.is_some() => {
                if let Some(rest) = self.answer.strip_prefix(consent) {
                    self.secure(server, rest);
                } else if !consent.starts_with(&self.answer) {
                    self.fail(server, "it has no TLS");
                }
            }
            _ => self.fail(server, "it answers before it is asked"),
        }
    }

    fn secured(&mut self, server: &Socket) {
        self.answer.clear();
        self.ready(server);
    }

    fn drain(&mut self, _: &Socket) {
        self.client.resume();
    }

    fn error(&mut self, server: &Socket, error: &Error) {
        self.fail(server, &error.to_string());
    }

    fn close(&mut self, _: &Socket, _: bool) {
        self.client.resume();
    }
}
