//! The limits of a service: connections, time, computing and output.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use clap::{Args, ValueEnum};
use halfopen::tcp::Timeouts;
use halfopen::{AtLimit, Grants, ServerBuilder};

use crate::args::values::{positive, seconds, whole};

/// The default of --max-arriving, unless --max-connections is higher.
const LEAST_ARRIVING: usize = 1024;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Limits the open connections
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = positive::<usize>)]
    max_connections: usize,
    /// Limits the connections whose PROXY header or TLS handshake is not finished
    ///
    /// Only a finished one counts for --max-connections. Beyond the limit, the oldest is
    /// reset. [default: as --max-connections, but at least 1024]
    #[arg(long, value_name = "N", value_parser = positive::<usize>, hide_short_help = true)]
    max_arriving: Option<usize>,
    /// Chooses what happens to connections beyond --max-connections
    #[arg(
        long,
        value_enum,
        value_name = "ACTION",
        default_value_t,
        hide_short_help = true
    )]
    at_limit: AtLimitArg,
    /// Limits the open connections of one peer
    ///
    /// A peer is an IPv4 address or an IPv6 /64 network. Further connections are reset. 0
    /// means no limit. [default: a quarter of --max-connections; no limit for loopback and
    /// --proxy-from]
    #[arg(
        long,
        value_name = "N",
        value_parser = whole(0, u32::MAX),
        hide_short_help = true
    )]
    max_connections_per_peer: Option<u32>,
    /// Limits the new connections of one peer per second
    ///
    /// A peer is an IPv4 address or an IPv6 /64 network. Further connections are reset.
    /// [default: no limit]
    #[arg(
        long,
        value_name = "N",
        value_parser = positive::<NonZeroU32>,
        hide_short_help = true
    )]
    max_rate_per_peer: Option<NonZeroU32>,
    /// Resets a connection after this many seconds without a byte either way
    ///
    /// 0 means no limit.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "600",
        value_parser = seconds,
        hide_short_help = true
    )]
    idle_timeout: Duration,
    /// Resets a connection whose peer takes no data for this many seconds
    ///
    /// Counts only while data waits to be sent. 0 means no limit.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "60",
        value_parser = seconds,
        hide_short_help = true
    )]
    write_timeout: Duration,
    /// Resets a connection this many seconds after one of its directions has ended
    ///
    /// 0 means no limit.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "0",
        value_parser = seconds,
        hide_short_help = true
    )]
    half_open_timeout: Duration,
    /// Resets a connection this many seconds after it was accepted
    ///
    /// 0 means no limit.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "0",
        value_parser = seconds,
        hide_short_help = true
    )]
    max_age: Duration,
    /// Ends an instance this many seconds after its connection has ended
    ///
    /// Until then its service may finish what it does for the connection. A call of a shared
    /// instance cannot be ended alone: --max-instances limits those that go on. 0 means no
    /// limit.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "30",
        value_parser = seconds,
        hide_short_help = true
    )]
    background_timeout: Duration,
    /// Limits the instances, or the calls that outlast their connections
    ///
    /// Where each connection has an instance, further connections wait for one to end; with
    /// --at-limit refuse they are reset. A shared instance ends, like after a trap, when
    /// this many of its calls have outlasted --background-timeout.
    /// [default: as many as --max-connections]
    #[arg(long, value_name = "N", hide_short_help = true)]
    max_instances: Option<NonZeroUsize>,
    /// Limits the sockets that an instance opens itself
    ///
    /// Counts listeners, and connections that the service makes or accepts itself. Further
    /// calls fail. [default: 64; --max-connections for a shared instance]
    #[arg(long, value_name = "N", hide_short_help = true)]
    max_sockets: Option<NonZeroUsize>,
    /// Limits the sockets that all instances of the service open themselves
    ///
    /// [default: as many as --max-connections]
    #[arg(long, value_name = "N", hide_short_help = true)]
    max_sockets_total: Option<NonZeroUsize>,
    /// Limits how long the service's own connecting takes, in seconds
    ///
    /// The service then sees `timeout`. 0 means no limit but the system's.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "10",
        value_parser = seconds,
        hide_short_help = true
    )]
    connect_timeout: Duration,
    /// Limits computing without a pause, in seconds
    ///
    /// A service that computes for longer without waiting or moving data traps. 0 means no
    /// limit.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "10",
        value_parser = seconds,
        hide_short_help = true
    )]
    max_compute: Duration,
    /// Limits what the instances of the service print together, in KiB per second
    ///
    /// Excess output is dropped, and a summary line is printed. 0 means no limit.
    #[arg(
        long,
        value_name = "KIB",
        default_value_t = 1024,
        value_parser = whole(0, 4_000_000),
        hide_short_help = true
    )]
    max_output: u32,
}

impl LimitArgs {
    /// Limits the connections of a server.
    pub(crate) fn apply(&self, server: ServerBuilder) -> ServerBuilder {
        let limit = |time: Duration| (!time.is_zero()).then_some(time);
        let mut timeouts = Timeouts::NONE;
        timeouts.idle = limit(self.idle_timeout);
        timeouts.write = limit(self.write_timeout);
        timeouts.half_open = limit(self.half_open_timeout);
        timeouts.age = limit(self.max_age);
        let mut server = server
            .max_connections(self.max_connections)
            .max_arriving(self.max_arriving())
            .at_limit(self.at_limit.into())
            .timeouts(timeouts)
            .background_timeout(limit(self.background_timeout));
        if let Some(most) = self.max_instances {
            server = server.max_instances(most);
        }
        if let Some(most) = self.max_connections_per_peer {
            server = server.max_connections_per_peer(NonZeroU32::new(most));
        }
        if let Some(rate) = self.max_rate_per_peer {
            server = server.max_rate_per_peer(rate);
        }
        server
    }

    /// The most connections that may be open at once; with `arriving`, those whose peer has
    /// something to do first are counted as well.
    pub(crate) fn connections(&self, arriving: bool) -> usize {
        let arriving = if arriving { self.max_arriving() } else { 0 };
        self.max_connections.saturating_add(arriving)
    }

    fn max_arriving(&self) -> usize {
        let default = self.max_connections.max(LEAST_ARRIVING);
        self.max_arriving.unwrap_or(default)
    }

    /// Limits the instances of a service.
    pub(crate) fn limit(&self, grants: Grants) -> Grants {
        let mut grants = grants
            .max_compute(self.max_compute)
            .max_output(NonZeroU32::new(self.max_output * 1024))
            .connect_timeout(self.connect_timeout);
        if let Some(most) = self.max_sockets {
            grants = grants.max_sockets(most.get());
        }
        if let Some(most) = self.max_sockets_total {
            grants = grants.max_sockets_total(most.get());
        }
        grants
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum AtLimitArg {
    /// They wait in the listener's backlog
    #[default]
    Wait,
    /// They are accepted and reset
    Refuse,
    /// The connection that has been least active is reset for each
    LeastActive,
}

impl From<AtLimitArg> for AtLimit {
    fn from(at_limit: AtLimitArg) -> Self {
        match at_limit {
            AtLimitArg::Wait => AtLimit::Wait,
            AtLimitArg::Refuse => AtLimit::Refuse,
            AtLimitArg::LeastActive => AtLimit::LeastActive,
        }
    }
}
