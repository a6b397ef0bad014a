//! The flags about topics, and the topics that the services of a process share.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use halfopen::topics::{Broker, Topics};

use crate::args::values::Misfit;

/// Where a component's topics are.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Policy")]
pub(crate) struct TopicsArgs {
    /// Lets the component publish and subscribe to topics, and says whom they reach
    ///
    /// `local` connects all services of this process that say so, with all their instances and
    /// workers, and `local:NAME` those that give this name. redis://[USER@]HOST[:PORT][/DATABASE],
    /// or rediss:// for TLS, connects all processes that use this database of a Redis, on any
    /// machine. [default: the component may not use topics]
    #[arg(long, value_name = "WHERE", hide_short_help = true)]
    topics: Option<String>,
    /// Reads the password for the Redis of --topics from this file
    ///
    /// Without its last line end. A password in the URL can be read by everyone who can list
    /// processes.
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    topics_password_file: Option<PathBuf>,
}

/// The topics of a process, which services share, also over reloads.
#[derive(Debug, Default)]
pub(crate) struct Buses {
    before: HashMap<Key, Topics>,
    now: HashMap<Key, Topics>,
}

/// What tells topics apart: the value of the flag, and the password.
type Key = (String, Option<String>);

impl Buses {
    /// The topics for a new version of the services, which may go on with those of this one.
    pub(crate) fn renewed(&self) -> Self {
        Buses {
            before: self.now.clone(),
            now: HashMap::new(),
        }
    }
}

const KEY: &str = "topics";
const PASSWORD_KEY: &str = "topics-password-file";

impl TopicsArgs {
    /// Checks that the flags are right, and fit together.
    pub(crate) fn check(&self) -> Result<(), Misfit> {
        match (self.is_local(), self.topics_password_file.is_some()) {
            (false, _) => self.broker().map(drop),
            (true, false) => Ok(()),
            (true, true) => Err(Misfit::new(
                PASSWORD_KEY,
                "`--topics-password-file` is for a Redis: add `--topics redis://HOST`",
            )),
        }
    }

    /// Whether topics, if there are any, stay within the process.
    fn is_local(&self) -> bool {
        self.topics
            .as_deref()
            .is_none_or(|text| text == "local" || text.starts_with("local:"))
    }

    /// The Redis that the flags name.
    fn broker(&self) -> Result<Broker, Misfit> {
        let url = self.topics.as_deref().unwrap_or_default();
        // The text may hold a password, so no message repeats it.
        let broker = Broker::new(url).map_err(|error| {
            Misfit::new(
                KEY,
                format!("`--topics` is `local`, `local:NAME` or a URL; it is {error}"),
            )
        })?;
        match self.password()? {
            Some(password) => broker
                .password(&password)
                .map_err(|error| Misfit::new(PASSWORD_KEY, error.to_string())),
            None => Ok(broker),
        }
    }

    fn password(&self) -> Result<Option<String>, Misfit> {
        let Some(path) = &self.topics_password_file else {
            return Ok(None);
        };
        match fs::read_to_string(path) {
            Ok(text) => {
                let line = text.strip_suffix('\n').unwrap_or(&text);
                Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned()))
            }
            Err(error) => {
                let path = path.display();
                let why = format!("cannot read the password in `{path}`: {error}");
                Err(Misfit::new(PASSWORD_KEY, why))
            }
        }
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.topics_password_file.iter()
    }

    /// What is granted, for people; `None` if nothing is.
    pub(crate) fn granted(&self) -> Option<String> {
        self.topics.is_some().then(|| self.described())
    }

    /// What the component gets, for people; without a password.
    pub(crate) fn described(&self) -> String {
        match (&self.topics, self.is_local(), self.broker()) {
            (None, ..) => "nothing: every call is denied; `--topics` grants it".to_owned(),
            (Some(_), true, _) => "topics of this process".to_owned(),
            (Some(_), false, Ok(broker)) => format!("topics through Redis at {broker}"),
            (Some(_), false, Err(misfit)) => misfit.to_string(),
        }
    }

    /// Returns the topics that the flags describe, and connects to Redis if nothing is
    /// connected yet.
    ///
    /// # Errors
    /// If the flags are wrong, or there is no connection.
    pub(crate) async fn open(&self, buses: &mut Buses) -> Result<Option<Topics>, Misfit> {
        let Some(text) = &self.topics else {
            return Ok(None);
        };
        let key = (text.clone(), self.password()?);
        if let Some(topics) = buses.now.get(&key) {
            return Ok(Some(topics.clone()));
        }
        let topics = match buses.before.remove(&key) {
            Some(topics) => topics,
            None if self.is_local() => Topics::local(),
            None => Topics::redis(self.broker()?)
                .await
                .map_err(|error| Misfit::new(KEY, format!("`--topics`: {error}")))?,
        };
        buses.now.insert(key, topics.clone());
        Ok(Some(topics))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(topics: Option<&str>) -> TopicsArgs {
        TopicsArgs {
            topics: topics.map(str::to_owned),
            topics_password_file: None,
        }
    }

    #[test]
    fn what_is_neither_local_nor_a_url_is_refused_without_repeating_it() {
        for good in [None, Some("local"), Some("local:chat"), Some("redis://h/1")] {
            args(good).check().unwrap();
        }
        for bad in [
            "",
            "remote",
            "localhost",
            "redis:secret@h",
            "amqp://secret@h",
        ] {
            let error = args(Some(bad)).check().unwrap_err().to_string();
            assert!(error.contains("redis://"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let described = args(Some("redis://u:secret@h:1")).described();
        assert_eq!(described, "topics through Redis at h:1");
    }

    #[tokio::test]
    async fn the_same_value_is_the_same_topics_also_after_a_reload() {
        let counts = |topics: Option<Topics>| topics.unwrap().join();
        let mut buses = Buses::default();
        let one = args(Some("local")).open(&mut buses).await.unwrap();
        let mut inbox = counts(one).inbox();
        inbox.subscribe("t").unwrap();
        inbox.next().await;
        let other = args(Some("local:other")).open(&mut buses).await.unwrap();
        counts(other).publish("t", "unheard".into()).unwrap();
        let mut renewed = buses.renewed();
        let again = args(Some("local")).open(&mut renewed).await.unwrap();
        counts(again).publish("t", "heard".into()).unwrap();
        let delivery = format!("{:?}", inbox.next().await);
        assert!(delivery.contains("\"heard\""), "{delivery}");
    }
}
