//! The flags of every command that runs a component: what the component may use.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use halfopen::tls::trusting;
use halfopen::{AddressRule, Grants, Policy};

use crate::args::values::{variable, whole};
use crate::errors::advice;

/// The resources of one component.
#[derive(Clone, Debug, Args)]
pub(crate) struct GuestArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Trusts the authorities in this file for TLS that the component begins as a client
    ///
    /// A file in PEM form. No others count then. [default: the authorities of this system]
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "TLS",
        hide_short_help = true
    )]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Sets an environment variable of the component
    ///
    /// The component does not see the environment of this process. May be given several
    /// times. [default: none]
    #[arg(
        long = "env",
        value_name = "NAME=VALUE",
        value_parser = variable,
        help_heading = "Policy",
        hide_short_help = true
    )]
    pub(crate) env: Vec<(String, String)>,
    /// Limits the memory of an instance, in MiB
    ///
    /// Counts linear memories, tables, and what is set aside for handles. The component's
    /// request for more memory fails.
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = 256,
        value_parser = whole(1, 4096),
        help_heading = "Limits",
        hide_short_help = true
    )]
    pub(crate) max_memory: u32,
    /// Accepts native code that `halfopen compile` wrote
    ///
    /// Native code is not sandboxed before it runs: use this only for files that you
    /// trust as much as this program.
    #[arg(long, help_heading = "Component", hide_short_help = true)]
    pub(crate) allow_precompiled: bool,
    /// Compiles the component at every start, and stores no compiled code on disk
    #[arg(long, help_heading = "Component", hide_short_help = true)]
    pub(crate) no_cache: bool,
}

impl GuestArgs {
    /// The grants that these flags describe; a warning about a denial names the flag that
    /// lifts it.
    ///
    /// # Errors
    /// If the file of `--tls-ca` has no authorities.
    pub(crate) fn grants(&self) -> anyhow::Result<Grants> {
        let mut grants = Grants::new()
            .policy(self.network.policy())
            .max_memory((self.max_memory as usize) << 20)
            .advice(advice);
        if let Some(authorities) = &self.tls_ca {
            grants = grants.tls_client(trusting(authorities).context("cannot set up TLS")?);
        }
        let variables = self.env.iter();
        Ok(variables.fold(grants, |grants, (name, value)| grants.env(name, value)))
    }
}

/// The addresses that a component may use on its own, beyond the connections handed to it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Policy")]
pub(crate) struct NetworkArgs {
    /// Lets the component listen on these addresses
    ///
    /// Write IP:PORT, IP:LOW-HIGH, IP:*, or a CIDR with or without ports. May be given
    /// several times. [default: none]
    #[arg(long, value_name = "ADDRESS", hide_short_help = true)]
    allow_listen: Vec<AddressRule>,
    /// Lets the component connect to these addresses
    ///
    /// Write IP:PORT, IP:LOW-HIGH, IP:*, or a CIDR with or without ports. Private
    /// addresses are allowed only by a rule that covers nothing else. May be given several
    /// times. [default: none]
    #[arg(long, value_name = "ADDRESS", hide_short_help = true)]
    allow_connect: Vec<AddressRule>,
    /// Lets the component listen and connect wherever this process can
    #[arg(long, hide_short_help = true)]
    inherit_network: bool,
}

impl NetworkArgs {
    pub(crate) fn policy(&self) -> Policy {
        if self.inherit_network {
            return Policy::inherit_network();
        }
        let policy = Policy::deny_all();
        let policy = self
            .allow_listen
            .iter()
            .cloned()
            .fold(policy, Policy::allow_listen);
        self.allow_connect
            .iter()
            .cloned()
            .fold(policy, Policy::allow_connect)
    }
}

/// The directories of a program. A service has none.
#[derive(Clone, Debug, Args)]
pub(crate) struct DirArgs {
    /// Grants the program a directory
    ///
    /// Write HOST, or HOST::GUEST to give it another name inside the program. May be given
    /// several times. [default: none]
    #[arg(long = "dir", value_name = "HOST[::GUEST]", help_heading = "Policy")]
    dirs: Vec<String>,
}

impl DirArgs {
    /// Each directory, and the name by which the program opens it.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.dirs
            .iter()
            .map(|dir| dir.split_once("::").unwrap_or((dir, dir)))
    }

    /// Adds the directories to `grants`.
    pub(crate) fn add_to(&self, grants: Grants) -> Grants {
        self.pairs()
            .fold(grants, |grants, (host, guest)| grants.dir(host, guest))
    }
}
