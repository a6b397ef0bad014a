//! The commands, and their replies.

use std::{collections::BTreeSet, iter::from_fn, slice::from_ref};

use anyhow::{Context, Result, anyhow, bail, ensure};
use halfopen_guest::resp::{Command, number};
use halfopen_guest::state::open;
use redis_protocol::resp2::encode::encode;
use redis_protocol::resp2::types::{OwnedFrame as Reply, OwnedFrame::*, Resp2Frame};
use wildmatch::WildMatch;

use crate::Client;

/// The most commands that are carried out together: each value that is got may be large.
const GETS: usize = 8;
const SETS: usize = 1000;

/// All commands, for those with the wrong arguments.
const COMMANDS: &str = " append client command config dbsize decr decrby del echo exists get \
    getset hello incr incrby keys mget mset ping quit select set setnx strlen ";

type Value = Option<Vec<u8>>;

const NO_INTEGER: &str = "value is not an integer or out of range";

impl Client {
    /// Carries out a command, and with it those behind it in a row that get or set as it does.
    /// Returns whether it is the last.
    pub(crate) fn obey(&mut self, first: Command) -> bool {
        let most = most_together(&first);
        let alike = |next: &[Vec<u8>]| most_together(next) == most;
        let mut row = vec![first];
        row.extend(from_fn(|| self.commands.next_command_if(alike)).take(most - 1));
        let all = (row.len() > 1).then(|| together(&row));
        if let Some(Ok(all)) = all {
            all.into_iter().for_each(|reply| self.reply(&reply, false));
            return false;
        }
        // One of them is wrong, or together they are too large.
        for command in &row {
            let name = String::from_utf8_lossy(&command[0]).to_ascii_lowercase();
            let reply = self.carry_out(&name, command).unwrap_or_else(refused);
            self.reply(&reply, matches!(&*name, "config" | "hello"));
        }
        row[0][0].eq_ignore_ascii_case(b"quit")
    }

    /// Writes a reply. Version 3 has a null of its own, and maps for arrays of pairs.
    pub(crate) fn reply(&mut self, reply: &Reply, is_map: bool) {
        match reply {
            Null if self.three => self.replies.extend(b"_\r\n"),
            Array(all) if self.three => {
                let (mark, each) = if is_map { ('%', 2) } else { ('*', 1) };
                let head = format!("{mark}{}\r\n", all.len() / each);
                self.replies.extend(head.bytes());
                all.iter().for_each(|reply| self.reply(reply, false));
            }
            _ => {
                let begin = self.replies.len();
                self.replies.resize(begin + reply.encode_len(false), 0);
                let encoded = encode(&mut self.replies[begin..], reply, false);
                encoded.expect("a reply has the length that it says");
            }
        }
    }

    fn carry_out(&mut self, name: &str, command: &Command) -> Result<Reply> {
        Ok(match (name, &command[1..]) {
            _ if most_together(command) > 1 => together(from_ref(command))?.remove(0),
            ("ping", []) => SimpleString("PONG".into()),
            ("ping" | "echo", [text]) => BulkString(text.clone()),
            ("quit", _) | ("client", [_, ..]) => SimpleString("OK".into()),
            ("command", _) => Array(Vec::new()),
            ("config", [get, names @ ..]) if get.eq_ignore_ascii_case(b"get") => {
                let mut settings = vec![["save", ""], ["appendonly", "yes"]];
                settings.retain(|[name, _]| names.iter().any(|other| other == name.as_bytes()));
                Array(settings.concat().into_iter().map(bulk).collect())
            }
            ("select", [database]) => match number(database).context(NO_INTEGER)? {
                0 => SimpleString("OK".into()),
                _ => bail!("DB index is out of range"),
            },
            ("hello", arguments) => {
                match arguments.first().map(|version| number(version)) {
                    None => {}
                    Some(Some(version @ 2..=3)) => self.three = version == 3,
                    _ => return Ok(Error("NOPROTO unsupported protocol version".into())),
                }
                let mut about = Vec::from(["server", "halfopen-kv", "proto"].map(bulk));
                about.push(Integer(if self.three { 3 } else { 2 }));
                Array(about)
            }
            ("set", [key, value, option]) => {
                let exists = option.eq_ignore_ascii_case(b"xx");
                ensure!(exists || option.eq_ignore_ascii_case(b"nx"), "syntax error");
                let set = |old: Option<&[u8]>| (old.is_some() == exists).then(|| value.clone());
                let done = change(key, set)?.is_some() == exists;
                if done {
                    SimpleString("OK".into())
                } else {
                    Null
                }
            }
            ("set", [_, _, _, ..]) => bail!("syntax error"),
            ("setnx", [key, value]) => Integer(open()?.update_if(text(key)?, None, value)?.into()),
            ("getset", [key, value]) => value_or_null(change(key, |_| Some(value.clone()))?),
            ("append", [key, more]) => {
                let append = |old: Option<&[u8]>| Some([old.unwrap_or_default(), more].concat());
                let old = change(key, append)?;
                Integer((old.unwrap_or_default().len() + more.len()) as i64)
            }
            ("strlen", [key]) => Integer(open()?.get(text(key)?)?.unwrap_or_default().len() as i64),
            ("incr", [key]) => add(key, 1)?,
            ("decr", [key]) => add(key, -1)?,
            ("incrby", [key, delta]) => add(key, number(delta).context(NO_INTEGER)?)?,
            ("decrby", [key, delta]) => {
                let delta = number(delta).context(NO_INTEGER)?.checked_neg();
                add(key, delta.context("decrement would overflow")?)?
            }
            ("mget", keys @ [_, ..]) => {
                let values = open()?.get_many(&texts(keys)?)?;
                Array(values.into_iter().map(value_or_null).collect())
            }
            ("exists", keys @ [_, ..]) => count(&texts(keys)?)?,
            ("del", keys @ [_, ..]) => {
                let keys = Vec::from_iter(BTreeSet::from_iter(texts(keys)?));
                let count = count(&keys)?;
                open()?.delete_many(&keys)?;
                count
            }
            ("keys", [pattern]) => {
                let pattern = WildMatch::new(&String::from_utf8_lossy(pattern));
                let mut keys = open()?.keys().collect::<Result<Vec<_>, _>>()?;
                keys.retain(|key| pattern.matches(key));
                Array(keys.iter().map(|key| bulk(key)).collect())
            }
            ("dbsize", []) => {
                let bucket = open()?;
                Integer(bucket.keys().try_fold(0, |sum, key| key.map(|_| sum + 1))?)
            }
            (known, _) if COMMANDS.contains(&format!(" {known} ")) => {
                bail!("wrong number of arguments for '{known}' command")
            }
            (_, arguments) => return Err(unknown(&command[0], arguments)),
        })
    }
}

/// How many commands like this one, in a row, are carried out together.
fn most_together(command: &[Vec<u8>]) -> usize {
    match (&*command[0].to_ascii_lowercase(), command.len()) {
        (b"get", 2) => GETS,
        (b"set", 3) => SETS,
        (b"mset", length) if length > 1 && length % 2 == 1 => SETS,
        _ => 1,
    }
}

/// Carries out commands of which all get or all set.
fn together(row: &[Command]) -> Result<Vec<Reply>> {
    if most_together(&row[0]) == GETS {
        let keys = row.iter().map(|command| text(&command[1]));
        let values = open()?.get_many(&keys.collect::<Result<Vec<_>>>()?)?;
        return Ok(values.into_iter().map(value_or_null).collect());
    }
    let pairs = row.iter().flat_map(|command| command[1..].chunks(2));
    let pairs = pairs.map(|pair| Ok((text(&pair[0])?, pair[1].clone())));
    open()?.set_many(pairs.collect::<Result<Vec<_>>>()?)?;
    Ok(vec![SimpleString("OK".into()); row.len()])
}

/// Sets a key to what the function makes of its value, if that is anything. Returns the old value.
fn change(key: &[u8], new: impl Fn(Option<&[u8]>) -> Value) -> Result<Value> {
    let mut old = None;
    open()?.update(text(key)?, |now| {
        old = now;
        new(old.as_deref())
    })?;
    Ok(old)
}

fn add(key: &[u8], delta: i64) -> Result<Reply> {
    let sum = open()?.increment(text(key)?, delta);
    match sum.map_err(|error| error.to_string()) {
        Ok(sum) => Ok(Integer(sum)),
        Err(why) if why.contains("no whole number") => bail!(NO_INTEGER),
        Err(why) if why.contains("64 bits") => bail!("increment or decrement would overflow"),
        Err(why) => bail!(why),
    }
}

/// How many of these keys there are.
fn count(keys: &[&str]) -> Result<Reply> {
    let bucket = open()?;
    let exists = |key: &&str| Ok(i64::from(bucket.exists(key)?));
    Ok(Integer(keys.iter().map(exists).sum::<Result<i64>>()?))
}

/// The words of Redis, of which no more than 128 bytes are the client's.
fn unknown(name: &[u8], arguments: &[Vec<u8>]) -> anyhow::Error {
    let begin = |text: &[u8], most: usize| text[..text.len().min(most)].escape_ascii().to_string();
    let mut shown = String::new();
    for argument in arguments {
        if shown.len() < 128 {
            shown += &format!("'{}' ", begin(argument, 128 - shown.len()));
        }
    }
    let name = begin(name, 128);
    anyhow!("unknown command '{name}', with args beginning with: {shown}")
}

fn texts(keys: &[Vec<u8>]) -> Result<Vec<&str>> {
    keys.iter().map(|key| text(key)).collect()
}

/// A key of the state is text.
fn text(key: &[u8]) -> Result<&str> {
    str::from_utf8(key).ok().context("a key is UTF-8 here")
}

pub(crate) fn refused(why: anyhow::Error) -> Reply {
    Error(format!("ERR {why}").replace(['\r', '\n'], " "))
}

fn bulk(text: &str) -> Reply {
    BulkString(text.into())
}

fn value_or_null(value: Value) -> Reply {
    value.map_or(Null, BulkString)
}
