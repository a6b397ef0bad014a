//! The flags about connections before a service sees them: TLS, load balancers, peers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use halfopen::tls::{Tickets, TlsFiles};
use halfopen::{Grants, Peers, ProxyProtocol, ServerBuilder};
use ipnet::IpNet;

use crate::args::values::{Misfit, network, positive_seconds};

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsArgs {
    /// Serves TLS with this certificate chain; needs --tls-key
    ///
    /// A file in PEM form. May be given several times, each with its own --tls-key: a
    /// client gets the certificate for the name that it requests (SNI), or else the first
    /// one.
    #[arg(long, value_name = "FILE")]
    tls_cert: Vec<PathBuf>,
    /// Private key of the certificate
    ///
    /// A file in PEM form. Must be given as often as --tls-cert, in the same order.
    #[arg(long, value_name = "FILE")]
    tls_key: Vec<PathBuf>,
    /// Requires a client certificate signed by an authority in this file
    ///
    /// A file in PEM form. By default clients need no certificate.
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    tls_client_ca: Option<PathBuf>,
    /// Offers an application protocol to TLS clients (ALPN)
    ///
    /// May be given several times, the preferred protocol first. [default: none]
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    tls_alpn: Vec<String>,
    /// Lets the service begin TLS itself, on connections that begin in the clear (STARTTLS)
    ///
    /// With the certificates of --tls-cert, which are for that alone then. By default TLS begins
    /// each connection, and the service may begin none as the server.
    #[arg(long, hide_short_help = true)]
    starttls: bool,
    /// Limits the TLS handshake, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "10",
        value_parser = positive_seconds,
        hide_short_help = true
    )]
    tls_timeout: Duration,
}

impl TlsArgs {
    /// Checks that the flags fit together.
    pub(crate) fn check(&self) -> Result<(), Misfit> {
        let (certificates, keys) = (self.tls_cert.len(), self.tls_key.len());
        if certificates != keys {
            let key = if keys > 0 { "tls-key" } else { "tls-cert" };
            let why = format!(
                "each `--tls-cert` needs its `--tls-key`: there are {certificates} and {keys}"
            );
            return Err(Misfit::new(key, why));
        }
        let without = match () {
            () if certificates > 0 => None,
            () if self.tls_client_ca.is_some() => Some("tls-client-ca"),
            () if self.starttls => Some("starttls"),
            () => (!self.tls_alpn.is_empty()).then_some("tls-alpn"),
        };
        without.map_or(Ok(()), |key| {
            let why = "without a certificate there is no TLS: add `--tls-cert` and `--tls-key`";
            Err(Misfit::new(key, why))
        })
    }

    /// Checks that a service to which TLS is left begins it.
    pub(crate) fn check_starttls(&self, begins_tls: bool) -> Result<(), Misfit> {
        if begins_tls || !self.starttls {
            return Ok(());
        }
        let why = "`--starttls` leaves TLS to the service, and this one begins none: it imports \
            neither `halfopen:tcp/secure` nor `socket-secure`; without the flag, TLS begins each connection";
        Err(Misfit::new("starttls", why))
    }

    /// The flag that names a file, and its place among several such flags.
    pub(crate) fn key_of(&self, file: &Path) -> Option<(&'static str, usize)> {
        let place = |files: &[PathBuf]| files.iter().position(|path| path == file);
        let certificate = place(&self.tls_cert).map(|index| ("tls-cert", index));
        certificate
            .or_else(|| place(&self.tls_key).map(|index| ("tls-key", index)))
            .or_else(|| place(self.tls_client_ca.as_slice()).map(|_| ("tls-client-ca", 0)))
    }

    /// Whether TLS is left to the service.
    pub(crate) fn leaves_tls(&self) -> bool {
        self.starttls
    }

    /// Whether connections begin with a handshake.
    pub(crate) fn is_on(&self) -> bool {
        !self.tls_cert.is_empty() && !self.starttls
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let certificates = self.tls_cert.iter().chain(&self.tls_key);
        certificates.chain(&self.tls_client_ca)
    }

    /// Reads the files, and sets up TLS if there is a certificate: at the begin of each
    /// connection, or for the service to begin. Sessions are resumed by these `tickets`, those
    /// of the service of that name.
    pub(crate) fn apply(
        &self,
        server: ServerBuilder,
        grants: Grants,
        tickets: Option<(&Tickets, &str)>,
    ) -> anyhow::Result<(ServerBuilder, Grants)> {
        let server = server.handshake_timeout(self.tls_timeout);
        let mut certificates = self.tls_cert.iter().zip(&self.tls_key);
        let Some((chain, key)) = certificates.next() else {
            return Ok((server, grants));
        };
        let mut files = certificates
            .fold(TlsFiles::new(chain, key), |files, (chain, key)| {
                files.and(chain, key)
            })
            .alpn(&self.tls_alpn);
        if let Some(authorities) = &self.tls_client_ca {
            files = files.client_ca(authorities);
        }
        if let Some((tickets, name)) = tickets {
            files = files.tickets(tickets, name);
        }
        let config = files.load().context("cannot set up TLS")?;
        Ok(match self.starttls {
            true => (server, grants.tls_server(config)),
            false => (server.tls(config), grants),
        })
    }
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Load balancers")]
pub(crate) struct BalancerArgs {
    /// Requires a PROXY protocol header, from load balancers of this address or CIDR
    ///
    /// The header (version 1 or 2) names the peer of the connection. Connections from
    /// other addresses are reset. May be given several times. [default: no header]
    #[arg(long, value_name = "CIDR", value_parser = network, hide_short_help = true)]
    proxy_from: Vec<IpNet>,
    /// Limits the wait for the PROXY protocol header, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "5",
        value_parser = positive_seconds,
        hide_short_help = true
    )]
    proxy_timeout: Duration,
}

impl BalancerArgs {
    /// Whether connections begin with a header.
    pub(crate) fn is_on(&self) -> bool {
        !self.proxy_from.is_empty()
    }

    pub(crate) fn apply(&self, server: ServerBuilder) -> ServerBuilder {
        if self.proxy_from.is_empty() {
            return server;
        }
        let trusted = self.proxy_from.iter().copied();
        server.proxy_protocol(ProxyProtocol::from_trusted(trusted, self.proxy_timeout))
    }
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Policy")]
pub(crate) struct PeerArgs {
    /// Serves only peers of this address or CIDR
    ///
    /// Other connections are reset. May be given several times. [default: every peer]
    #[arg(long, value_name = "CIDR", value_parser = network, hide_short_help = true)]
    allow_peer: Vec<IpNet>,
    /// Resets connections from this address or CIDR
    ///
    /// Takes precedence over --allow-peer. May be given several times. [default: none]
    #[arg(long, value_name = "CIDR", value_parser = network, hide_short_help = true)]
    deny_peer: Vec<IpNet>,
}

impl PeerArgs {
    pub(crate) fn apply(&self, server: ServerBuilder) -> ServerBuilder {
        let allowed = self.allow_peer.iter().copied();
        let peers = allowed.fold(Peers::everyone(), Peers::allow);
        server.peers(self.deny_peer.iter().copied().fold(peers, Peers::deny))
    }
}
