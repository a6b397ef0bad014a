//! The flags for state, `wasi:keyvalue`, and the store that they describe.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use halfopen::Grants;
use halfopen::state::{Durability, OpenError, Quota, RedisOptions, StateStore};

use crate::args::values::{Misfit, positive, positive_seconds, whole};

/// The flag that names the store.
pub(crate) const STATE: &str = "state";
const PASSWORD: &str = "state-password-file";
const CA: &str = "state-ca";

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "State")]
pub(crate) struct StateArgs {
    /// Keeps the component's state (`wasi:keyvalue`) in this file, or on this Redis server
    ///
    /// Write FILE, which is made if it is not there; redis://[USER@]HOST[:PORT][/DATABASE],
    /// rediss://… with TLS, or redis+unix:///PATH. All instances share it, and it outlives
    /// them. [default: none; the component is denied state]
    #[arg(long, value_name = "STORE", hide_short_help = true)]
    state: Option<PathBuf>,
    /// Names the part of the store that the component has [default: the service's name]
    ///
    /// Services with the same store and the same name share their state.
    #[arg(long, value_name = "NAME", value_parser = bucket, hide_short_help = true)]
    state_bucket: Option<String>,
    /// Chooses when a change is on the disk
    ///
    /// Redis has a setting of its own for that.
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        hide_short_help = true
    )]
    state_sync: SyncArg,
    /// Limits the keys and values of the component's state together, in MiB
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = 1024,
        value_parser = whole(1, 1 << 30),
        hide_short_help = true
    )]
    state_max_size: u32,
    /// Limits the keys of the component's state
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000_000,
        value_parser = positive::<u64>,
        hide_short_help = true
    )]
    state_max_keys: u64,
    /// Limits one value of the component's state, in KiB
    #[arg(
        long,
        value_name = "KIB",
        default_value_t = 1024,
        value_parser = whole(1, 64 << 10),
        hide_short_help = true
    )]
    state_max_value: u32,
    /// Reads the password for the Redis server from this file
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    state_password_file: Option<PathBuf>,
    /// Accepts certificates of the Redis server from the authorities in this PEM file
    ///
    /// For rediss:// alone. [default: the authorities of the system]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    state_ca: Option<PathBuf>,
    /// Limits how long a request to the Redis server may take, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "5",
        value_parser = positive_seconds,
        hide_short_help = true
    )]
    state_timeout: Duration,
}

/// A problem with one of the flags.
#[derive(Debug)]
pub(crate) struct StateProblem {
    pub(crate) key: &'static str,
    why: String,
}

impl fmt::Display for StateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for StateProblem {}

/// Where the state is.
enum Place<'a> {
    File(&'a Path),
    Redis(&'a str),
}

impl StateArgs {
    fn place(&self) -> Option<Place<'_>> {
        let store = self.state.as_deref()?;
        Some(match store.to_str().filter(|text| is_address(text)) {
            Some(address) => Place::Redis(address),
            None => Place::File(store),
        })
    }

    /// Checks that the flags fit together.
    pub(crate) fn check(&self) -> Result<(), Misfit> {
        let place = self.place();
        let only = |key, given: bool, fits: bool, why: &str| match given && !fits {
            true => Err(Misfit::new(key, why)),
            false => Ok(()),
        };
        let redis = match place {
            Some(Place::Redis(address)) => Some(self.options(address)?),
            _ => None,
        };
        let tls = redis.as_ref().is_some_and(RedisOptions::is_tls);
        let password = self.state_password_file.is_some();
        only(
            PASSWORD,
            password,
            redis.is_some(),
            "a password is for a Redis server: add `--state redis://HOST`",
        )?;
        only(
            CA,
            self.state_ca.is_some(),
            tls,
            "certificates are for a Redis server with TLS: add `--state rediss://HOST`",
        )?;
        only(
            "state-bucket",
            self.state_bucket.is_some(),
            self.state.is_some(),
            "there is no state: add `--state FILE`",
        )
    }

    fn options(&self, address: &str) -> Result<RedisOptions, Misfit> {
        let options = RedisOptions::new(address);
        let help = "write redis://HOST:PORT, rediss://HOST:PORT or redis+unix:///PATH";
        options.map_err(|error| Misfit::new(STATE, format!("{error}; {help}")))
    }

    /// The store without a password, for people; `None` if there is none.
    pub(crate) fn described(&self) -> Option<String> {
        Some(match self.place()? {
            Place::File(path) => path.display().to_string(),
            Place::Redis(address) => match RedisOptions::new(address) {
                Ok(options) => options.name().to_owned(),
                Err(_) => "a Redis server".to_owned(),
            },
        })
    }

    /// The files that are read, and can be read again.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.state_password_file.iter().chain(&self.state_ca)
    }

    /// Opens the store.
    ///
    /// # Errors
    /// If it cannot be used; the error says which flag to change.
    pub(crate) async fn open(&self) -> anyhow::Result<Option<StateStore>> {
        let opened = match self.place() {
            None => return Ok(None),
            Some(Place::File(path)) => {
                let (path, durability) = (path.to_owned(), self.state_sync.into());
                let open = move || StateStore::file(&path, durability);
                tokio::task::spawn_blocking(open).await?
            }
            Some(Place::Redis(address)) => {
                let mut options = self.options(address)?.timeout(self.state_timeout);
                if let Some(file) = &self.state_password_file {
                    let password = read(PASSWORD, file)?;
                    options = options.password(password.trim_end_matches(['\r', '\n']));
                }
                if let Some(file) = &self.state_ca {
                    options = options.authorities(read(CA, file)?);
                }
                StateStore::redis(options).await
            }
        };
        opened.map(Some).map_err(explained)
    }

    /// Grants the store.
    pub(crate) fn grant(&self, grants: Grants, store: Option<StateStore>) -> Grants {
        let Some(store) = store else {
            return grants;
        };
        let mut quota = Quota::default();
        quota.bytes = u64::from(self.state_max_size) << 20;
        quota.keys = self.state_max_keys;
        quota.value = (self.state_max_value as usize) << 10;
        let grants = grants.state(store).state_quota(quota);
        match &self.state_bucket {
            Some(name) => grants.state_bucket(name),
            None => grants,
        }
    }
}

/// Whether the text is the address of a server, and no path.
pub(crate) fn is_address(text: &str) -> bool {
    text.contains("://")
}

fn read(key: &'static str, file: &Path) -> anyhow::Result<String> {
    let read = fs::read_to_string(file);
    read.map_err(|error| {
        let why = format!("cannot read `{}`: {error}", file.display());
        anyhow!(StateProblem { key, why })
    })
}

/// An error about opening the store, with what to do about it.
fn explained(error: OpenError) -> anyhow::Error {
    let (key, help) = match &error {
        OpenError::InUse { .. } => (
            STATE,
            "stop that process, or give this one another file with `--state`",
        ),
        OpenError::NotState { .. } => (STATE, "name another file with `--state`"),
        OpenError::OtherDurability { .. } => (
            "state-sync",
            "services that share a file have the same `--state-sync`; a new one takes a restart",
        ),
        OpenError::Redis { denied: true, .. } => (
            PASSWORD,
            "the user is in the address, and the password in the file of `--state-password-file`",
        ),
        OpenError::Redis { .. } => (
            STATE,
            "is the server running, and is `--state` its address?",
        ),
        _ => (STATE, ""),
    };
    let why = match help {
        "" => error.to_string(),
        help => format!("{error}; {help}"),
    };
    anyhow!(StateProblem { key, why })
}

/// The name of a bucket.
fn bucket(text: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len()) && !text.contains(char::is_control);
    match fits {
        true => Ok(text.to_owned()),
        false => Err("write a name of 1 to 255 bytes, without control characters".to_owned()),
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum SyncArg {
    /// Before the component hears that it has taken place
    #[default]
    Always,
    /// Once a second: many times as fast, and a crash loses the last second
    EverySecond,
}

impl From<SyncArg> for Durability {
    fn from(sync: SyncArg) -> Self {
        match sync {
            SyncArg::Always => Durability::Always,
            SyncArg::EverySecond => Durability::EverySecond,
        }
    }
}

/// The flag that an error is about.
pub(crate) fn state_problem(error: &anyhow::Error) -> Option<&StateProblem> {
    error.chain().find_map(|cause| cause.downcast_ref())
}
