//! One service: what can be said of it, and the server made of that.

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use halfopen::tcp::Timeouts;
use halfopen::{
    AtLimit, Isolation, Output, Peers, ProxyProtocol, Server, ServerBuilder, Source, Tls,
};
use ipnet::IpNet;

use super::address::Listen;
use super::args::{GuestArgs, NetworkArgs, seconds, some_seconds};

/// The service that runs when none is named.
const ECHO: &[u8] = include_bytes!("../../dist/echo.wasm");

/// One service: what it is, where it listens, what it is granted.
#[derive(Clone, Debug, Args)]
pub(super) struct ServiceArgs {
    /// The service, a component that exports `halfopen:tcp/handler`; the built-in
    /// echo if not given.
    pub(super) component: Option<PathBuf>,
    /// Address to listen on: IP:PORT, or *:PORT for IPv4 and IPv6 alike; port 0 takes any
    /// free one. May be given several times. [default: 127.0.0.1:1234, or the sockets of
    /// systemd]
    #[arg(long, value_name = "ADDR", value_parser = Listen::parse)]
    pub(super) listen: Vec<Listen>,
    /// One instance per connection, or one for all.
    #[arg(long, value_enum, default_value_t)]
    isolation: IsolationArg,
    /// With `--isolation shared`, that many instances, each on a thread of its own;
    /// without this, one, so that the service's state is one.
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    #[command(flatten)]
    front: FrontArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Seconds that live connections get to finish after Ctrl-C or SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(super) grace: Duration,
    /// Seconds that the service may compute without waiting or moving data; then it
    /// traps. 0 is no limit.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    max_compute: Duration,
    /// KiB that an instance may print in a second; what is more is thrown away, and a line
    /// says how much. 0 is no limit.
    #[arg(long, value_name = "KIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(..=4_000_000))]
    max_output: u32,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    guest: GuestArgs,
    /// Arguments for the service.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

impl ServiceArgs {
    /// What it is called: as its file is.
    pub(super) fn name(&self) -> String {
        match &self.component {
            Some(path) => name_of(path),
            None => "echo".to_owned(),
        }
    }

    /// Whether what is asked for goes together.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.workers.is_none() || matches!(self.isolation, IsolationArg::Shared),
            "`--workers` spreads connections over instances that have many: add `--isolation shared`"
        );
        self.front.check()
    }

    /// The files that it is made of.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let component = self.component.iter();
        component.chain(self.front.files()).cloned().collect()
    }

    /// Loads the component. What it prints goes to `stdout` and `stderr`.
    pub(super) fn server(
        &self,
        stdout: Output,
        stderr: Output,
        observe: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> anyhow::Result<Server> {
        self.check()?;
        let source = match &self.component {
            Some(path) => Source::from(path.as_path()),
            None => Source::from(ECHO),
        };
        let mut builder = Server::builder()
            .name(self.name())
            .args(self.args.clone())
            .isolation(self.isolation.into())
            .grace(self.grace)
            .policy(self.network.policy())
            .max_memory((self.guest.max_memory as usize) << 20)
            .max_compute(self.max_compute)
            .max_output(NonZeroU32::new(self.max_output * 1024))
            .allow_precompiled(self.guest.allow_precompiled)
            .cache(!self.guest.no_cache)
            .stdout(stdout)
            .stderr(stderr);
        if let Some(workers) = self.workers {
            builder = builder.workers(workers);
        }
        for (name, value) in &self.guest.env {
            builder = builder.env(name, value);
        }
        let builder = observe(self.front.apply(self.limits.apply(builder)));
        builder
            .build(source)
            .with_context(|| match &self.component {
                Some(path) => format!("cannot serve `{}`", path.display()),
                None => "cannot serve the built-in echo".to_owned(),
            })
    }
}

/// The name of a component among its own arguments: that of its file.
pub(super) fn name_of(path: &Path) -> String {
    path.file_stem()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// What stands between accept and the service.
#[derive(Clone, Debug, Args)]
struct FrontArgs {
    /// Serves TLS with this certificate chain, a file in PEM form. May be given several
    /// times, each with its `--tls-key`: a client gets the certificate that has the name
    /// that it asks for, and otherwise the first.
    #[arg(long, value_name = "FILE")]
    tls_cert: Vec<PathBuf>,
    /// The private key of the certificate, a file in PEM form; as often as `--tls-cert`,
    /// in the same order.
    #[arg(long, value_name = "FILE")]
    tls_key: Vec<PathBuf>,
    /// Serves only clients that have a certificate of one of the authorities in this
    /// file, in PEM form.
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Offers this application protocol to TLS clients (ALPN). May be given several
    /// times, the preferred one first.
    #[arg(long, value_name = "NAME")]
    tls_alpn: Vec<String>,
    /// Seconds that a TLS handshake may take.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = some_seconds)]
    tls_timeout: Duration,
    /// Takes the peer's address from the PROXY protocol header (version 1 or 2) that
    /// load balancers of this address or CIDR send, and serves nobody else. May be given
    /// several times.
    #[arg(long, value_name = "CIDR", value_parser = network)]
    proxy_from: Vec<IpNet>,
    /// Seconds within which such a header has to be there.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = some_seconds)]
    proxy_timeout: Duration,
}

impl FrontArgs {
    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.tls_cert.len() == self.tls_key.len(),
            "each `--tls-cert` needs its `--tls-key`: there are {} and {}",
            self.tls_cert.len(),
            self.tls_key.len()
        );
        ensure!(
            !self.tls_cert.is_empty() || (self.tls_client_ca.is_none() && self.tls_alpn.is_empty()),
            "without a certificate there is no TLS: add `--tls-cert` and `--tls-key`"
        );
        Ok(())
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let certificates = self.tls_cert.iter().chain(&self.tls_key);
        certificates.chain(&self.tls_client_ca)
    }

    fn apply(&self, mut server: ServerBuilder) -> ServerBuilder {
        if !self.proxy_from.is_empty() {
            let trusted = self.proxy_from.iter().copied();
            server =
                server.proxy_protocol(ProxyProtocol::from_trusted(trusted, self.proxy_timeout));
        }
        let mut certificates = self.tls_cert.iter().zip(&self.tls_key);
        let Some((chain, key)) = certificates.next() else {
            return server;
        };
        let tls = certificates.fold(Tls::new(chain, key), |tls, (chain, key)| {
            tls.and(chain, key)
        });
        let tls = tls.alpn(&self.tls_alpn).handshake_timeout(self.tls_timeout);
        server.tls(match &self.tls_client_ca {
            Some(authorities) => tls.client_ca(authorities),
            None => tls,
        })
    }
}

/// What connections may take. A peer is an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Clone, Debug, Args)]
struct LimitArgs {
    /// Connections open at once.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = at_least_one)]
    max_connections: usize,
    /// What becomes of further ones: they wait in the backlog, or are reset.
    #[arg(long, value_enum, default_value_t)]
    at_limit: AtLimitArg,
    /// Connections that one peer may have open; further ones are reset.
    #[arg(long, value_name = "N")]
    max_connections_per_peer: Option<NonZeroU32>,
    /// Connections that one peer may open in a second; further ones are reset.
    #[arg(long, value_name = "N")]
    max_rate_per_peer: Option<NonZeroU32>,
    /// Serves peers of this address or CIDR only. May be given several times.
    #[arg(long, value_name = "CIDR", value_parser = network)]
    allow_peer: Vec<IpNet>,
    /// Resets connections of this address or CIDR, even if a wider one is allowed. May
    /// be given several times.
    #[arg(long, value_name = "CIDR", value_parser = network)]
    deny_peer: Vec<IpNet>,
    /// Seconds without a byte in either direction after which a connection is reset.
    /// 0 is no limit.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    idle_timeout: Duration,
    /// Seconds for which a peer may take nothing of what is to be sent; then its
    /// connection is reset. 0 is no limit.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    write_timeout: Duration,
    /// Seconds for which one direction may stay open after the other has ended; then
    /// the connection is reset. 0 is no limit.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    half_open_timeout: Duration,
    /// Seconds after which a connection is reset, whatever goes on. 0 is no limit.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    max_age: Duration,
}

impl LimitArgs {
    fn apply(&self, server: ServerBuilder) -> ServerBuilder {
        let limit = |time: Duration| (!time.is_zero()).then_some(time);
        let mut timeouts = Timeouts::NONE;
        timeouts.idle = limit(self.idle_timeout);
        timeouts.write = limit(self.write_timeout);
        timeouts.half_open = limit(self.half_open_timeout);
        timeouts.age = limit(self.max_age);
        let mut server = server
            .max_connections(self.max_connections)
            .at_limit(self.at_limit.into())
            .peers(self.peers())
            .timeouts(timeouts);
        if let Some(most) = self.max_connections_per_peer {
            server = server.max_connections_per_peer(most);
        }
        if let Some(rate) = self.max_rate_per_peer {
            server = server.max_rate_per_peer(rate);
        }
        server
    }

    fn peers(&self) -> Peers {
        let allowed = self.allow_peer.iter().copied();
        let peers = allowed.fold(Peers::everyone(), Peers::allow);
        self.deny_peer.iter().copied().fold(peers, Peers::deny)
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum AtLimitArg {
    /// They wait in the listener's backlog.
    #[default]
    Wait,
    /// They are accepted and reset.
    Refuse,
}

impl From<AtLimitArg> for AtLimit {
    fn from(at_limit: AtLimitArg) -> Self {
        match at_limit {
            AtLimitArg::Wait => AtLimit::Wait,
            AtLimitArg::Refuse => AtLimit::Refuse,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum IsolationArg {
    /// A new instance for each connection.
    #[default]
    Connection,
    /// One instance for all connections.
    Shared,
}

impl From<IsolationArg> for Isolation {
    fn from(isolation: IsolationArg) -> Self {
        match isolation {
            IsolationArg::Connection => Isolation::Connection,
            IsolationArg::Shared => Isolation::Shared,
        }
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse().map(|address: IpAddr| address.into());
    text.parse().or_else(|_| address()).map_err(|_| {
        "write an address or a network, such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32".to_owned()
    })
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("write a whole number from 1 on".to_owned()),
    }
}
