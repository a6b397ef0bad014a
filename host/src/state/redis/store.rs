//! What a bucket does with a Redis server.

use redis::{Cmd, cmd};

use super::link::{Failure, Link};
use super::options::RedisOptions;
use crate::state::bounds::{BATCH_BYTES, PAGE};
use crate::state::request::{Change, Changed, Keys};
use crate::state::{OpenError, Quota, StateError};

/// All changes, and the reading of many values.
const SCRIPT: &str = include_str!("bucket.lua");

pub(in crate::state) struct RedisStore {
    name: String,
    link: Link,
}

/// The answer of the script: what came of it, and more.
type Answer = (String, Option<Vec<u8>>);

impl RedisStore {
    pub(in crate::state) async fn connect(options: RedisOptions) -> Result<Self, OpenError> {
        let name = options.name().to_owned();
        let unusable = |failure: Failure| OpenError::Redis {
            server: name.clone(),
            denied: failure.is_denial(),
            why: failure.to_string(),
        };
        let client = options
            .client()
            .map_err(|error| unusable(Failure::Redis(error)))?;
        let link = Link::new(client, options.timeout);
        let _: String = link.ask(&cmd("PING")).await.map_err(unusable)?;
        Ok(RedisStore { name, link })
    }

    pub(in crate::state) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::state) async fn get(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Option<Vec<u8>>, StateError> {
        self.ask(cmd("HGET").arg(values(bucket)).arg(key)).await
    }

    pub(in crate::state) async fn exists(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<bool, StateError> {
        self.ask(cmd("HEXISTS").arg(values(bucket)).arg(key)).await
    }

    pub(in crate::state) async fn keys(
        &self,
        bucket: &str,
        after: Option<&str>,
    ) -> Result<Keys, StateError> {
        let from = after.map_or("-".to_owned(), |after| format!("({after}"));
        let mut range = cmd("ZRANGEBYLEX");
        range.arg(names(bucket)).arg(from).arg("+");
        range.arg("LIMIT").arg(0).arg(PAGE + 1);
        let mut keys: Vec<String> = self.ask(&range).await?;
        let more = keys.len() > PAGE;
        keys.truncate(PAGE);
        Ok(Keys { keys, more })
    }

    pub(in crate::state) async fn get_many(
        &self,
        bucket: &str,
        keys: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        let most = if keys.len() > 1 {
            BATCH_BYTES as u64
        } else {
            u64::from(u32::MAX)
        };
        let mut script = script(bucket, "get", u64::MAX, most);
        script.arg(keys);
        let (what, values): (String, Vec<Option<Vec<u8>>>) = self.ask(&script).await?;
        match &*what {
            "large" => Err(StateError::LargeBatch),
            _ => Ok(values),
        }
    }

    pub(in crate::state) async fn change(
        &self,
        bucket: &str,
        quota: Quota,
        change: Change,
    ) -> Result<Changed, StateError> {
        let script = |operation| script(bucket, operation, quota.keys, quota.bytes);
        let command = match &change {
            Change::Set(pairs) => {
                let mut script = script("set");
                for (key, value) in pairs {
                    script.arg(key).arg(&value[..]);
                }
                script
            }
            Change::Delete(keys) => {
                let mut script = script("delete");
                for key in keys {
                    script.arg(key);
                }
                script
            }
            Change::Increment { key, delta } => {
                let mut script = script("increment");
                script.arg(key).arg(*delta);
                script
            }
            Change::Swap {
                key,
                expected,
                value,
            } => {
                let mut script = script("swap");
                script.arg(key).arg(&value[..]);
                if let Some(expected) = expected {
                    script.arg(&expected[..]);
                }
                script
            }
        };
        let (what, value): Answer = self.ask(&command).await?;
        match &*what {
            "done" => Ok(Changed::Done),
            "otherwise" => Ok(Changed::Otherwise(value)),
            "sum" => {
                let sum = value.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
                sum.map(Changed::Number).ok_or(StateError::NotANumber)
            }
            "number" => Err(StateError::NotANumber),
            "overflow" => Err(StateError::Overflow),
            "keys" => Err(StateError::TooManyKeys(quota.keys)),
            "bytes" => Err(StateError::TooManyBytes(quota.bytes)),
            other => Err(StateError::failed(format_args!("it answers `{other}`"))),
        }
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &Cmd) -> Result<T, StateError> {
        let answer = self.link.ask(command).await;
        answer.map_err(|failure| StateError::Failed(format!("{}: {failure}", self.name)))
    }
}

/// Braces keep the keys of a bucket in one slot of a cluster.
fn key(bucket: &str, part: &str) -> String {
    format!("{{halfopen:{bucket}}}:{part}")
}

fn values(bucket: &str) -> String {
    key(bucket, "values")
}

fn names(bucket: &str) -> String {
    key(bucket, "names")
}

/// Begins a call of the script.
fn script(bucket: &str, operation: &str, keys: u64, bytes: u64) -> Cmd {
    let mut script = cmd("EVAL");
    script.arg(SCRIPT).arg(3);
    script
        .arg(values(bucket))
        .arg(names(bucket))
        .arg(key(bucket, "bytes"));
    script.arg(operation).arg(keys).arg(bytes);
    script
}
