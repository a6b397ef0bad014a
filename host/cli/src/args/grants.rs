//! The flags of every command that runs a component: what the component may use.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use halfopen::tls::trusting;
use halfopen::{AddressRule, Grants, HostRule, NameRule, Policy};

use crate::args::folder::FolderArg;
use crate::args::state::StateArgs;
use crate::args::topics::TopicsArgs;
use crate::args::values::{variable, whole};
use crate::errors::advice;

/// The resources of one component.
#[derive(Clone, Debug, Args)]
pub(crate) struct GuestArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) topics: TopicsArgs,
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
    /// Grants the component a folder
    ///
    /// Write FOLDER, or FOLDER::NAME to give it another name inside the component, and :ro
    /// behind it to let the component only read. May be given several times. [default: none]
    #[arg(
        long = "dir",
        value_name = "FOLDER[::NAME][:ro]",
        help_heading = "Policy",
        hide_short_help = true
    )]
    pub(crate) dir: Vec<FolderArg>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
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
        let grants = variables.fold(grants, |grants, (name, value)| grants.env(name, value));
        Ok(self
            .dir
            .iter()
            .fold(grants, |grants, dir| dir.add_to(grants)))
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
    /// Lets the component connect to these addresses or names
    ///
    /// Write IP:PORT, IP:LOW-HIGH, IP:*, or a CIDR with or without ports; or NAME:PORT, where
    /// NAME is example.com or *.example.com, for the addresses that the name has when the
    /// component looks it up. Private addresses are allowed only by a rule for addresses that
    /// covers nothing else. May be given several times. [default: none]
    #[arg(long, value_name = "ADDRESS", value_parser = target, hide_short_help = true)]
    allow_connect: Vec<Target>,
    /// Lets the component look up these names
    ///
    /// Write example.com, *.example.com for all names below it, or * for every name. What
    /// --allow-connect names may be looked up as well. May be given several times.
    /// [default: none]
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    allow_lookup: Vec<NameRule>,
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
        let policy = self
            .allow_lookup
            .iter()
            .cloned()
            .fold(policy, Policy::allow_lookup);
        let connect = self.allow_connect.iter().cloned();
        connect.fold(policy, |policy, target| match target {
            Target::Address(rule) => policy.allow_connect(rule),
            Target::Name(rule) => policy.allow_connect_name(rule),
        })
    }
}

/// What a component may connect to.
#[derive(Clone, Debug)]
enum Target {
    Address(AddressRule),
    Name(HostRule),
}

fn target(text: &str) -> Result<Target, String> {
    let address = || text.parse().map(Target::Address);
    let name = || text.parse().map(Target::Name);
    address().or_else(|error| {
        name().map_err(|_| format!("{error}; or NAME:PORT, such as example.com:443"))
    })
}
