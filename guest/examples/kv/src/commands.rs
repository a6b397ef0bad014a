//! The commands.

use std::mem::take;

use halfopen_guest::state::{self, Bucket, Error};

use crate::protocol::{Reply, number};

/// The most commands that are carried out together, and the most bytes of their values.
const TOGETHER: usize = 1000;
const BYTES: usize = 4 << 20;
/// The most values that are got together: each of them may be large.
const GETS: usize = 8;

/// All commands, for those with the wrong arguments.
const COMMANDS: &str = " append client command config dbsize decr decrby del echo exists get \
    getset hello incr incrby keys mget mset ping quit select set setnx strlen ";

/// One client's part of the server, and the replies that are not sent yet.
#[derive(Default)]
pub(crate) struct Session {
    /// Whether the replies are those of version 3 of the protocol.
    three: bool,
    replies: Vec<u8>,
    /// What has come since the replies were taken: commands, and bytes of values.
    count: usize,
    bytes: usize,
    /// What the last commands set, and how many they are; or what they get.
    set: Vec<(String, Vec<u8>)>,
    setting: usize,
    get: Vec<String>,
}

/// A reply, or one that is an error.
type Answer = Result<Reply, Reply>;

impl Session {
    /// Whether it is time to take the replies.
    pub(crate) fn is_long(&self) -> bool {
        self.count >= TOGETHER || self.bytes + self.replies.len() >= BYTES
    }

    /// Does what waits, and takes the replies.
    pub(crate) fn take_replies(&mut self) -> Vec<u8> {
        self.finish();
        (self.count, self.bytes) = (0, 0);
        take(&mut self.replies)
    }

    /// Replies to what is no request.
    pub(crate) fn fail(&mut self, why: String) {
        self.finish();
        self.reply(refused(format!("ERR Protocol error: {why}")));
    }

    fn reply(&mut self, answer: Answer) {
        let reply = answer.unwrap_or_else(|refused| refused);
        reply.encode(self.three, &mut self.replies);
    }

    /// Carries out a request, or lets it wait for the next ones: values that are set in a row
    /// reach the disk together. Returns whether it is the last.
    pub(crate) fn obey(&mut self, request: &[Vec<u8>]) -> bool {
        let Some((name, arguments)) = request.split_first() else {
            return false;
        };
        self.count += 1;
        let command = String::from_utf8_lossy(name).to_ascii_lowercase();
        let (gets, sets) = match (&*command, arguments.len()) {
            ("get", 1) => (true, false),
            ("set", 2) => (false, true),
            ("mset", count) => (false, count > 0 && count % 2 == 0),
            _ => (false, false),
        };
        if !gets && !self.get.is_empty() || !sets && self.setting > 0 {
            self.finish();
        }
        let pairs = || {
            arguments
                .chunks(2)
                .map(|pair| Ok((key(&pair[0])?, pair[1].clone())))
        };
        let waits = match (gets, sets) {
            (true, _) => key(&arguments[0]).map(|key| {
                self.get.push(key);
                if self.get.len() == GETS {
                    self.finish();
                }
            }),
            (_, true) => pairs().collect::<Result<Vec<_>, Reply>>().map(|pairs| {
                self.bytes += pairs.iter().map(|(_, value)| value.len()).sum::<usize>();
                self.set.extend(pairs);
                self.setting += 1;
            }),
            _ => {
                let answer = self.carry_out(name, &command, arguments);
                self.reply(answer);
                return command == "quit";
            }
        };
        if let Err(refused) = waits {
            self.finish();
            self.reply(Err(refused));
        }
        false
    }

    /// Does what waits.
    fn finish(&mut self) {
        let (set, get) = (take(&mut self.set), take(&mut self.get));
        let setting = take(&mut self.setting);
        if setting > 0 {
            let done = state::open().and_then(|bucket| bucket.set_many(set));
            for _ in 0..setting {
                self.reply(
                    done.clone()
                        .map(|()| Reply::Simple("OK"))
                        .map_err(Reply::from),
                );
            }
        }
        let one = |key: &String| Ok(state::open()?.get(key)?.into());
        match state::open().and_then(|bucket| bucket.get_many(&get)) {
            Ok(values) if get.len() > 1 => {
                values
                    .into_iter()
                    .for_each(|value| self.reply(Ok(value.into())));
            }
            // Together the values may be too large.
            _ => get.iter().for_each(|key| self.reply(one(key))),
        }
    }

    /// Carries out a command that does not wait.
    fn carry_out(&mut self, name: &[u8], command: &str, arguments: &[Vec<u8>]) -> Answer {
        let ok = Reply::Simple("OK");
        Ok(match (command, arguments) {
            ("ping", []) => Reply::Simple("PONG"),
            ("ping" | "echo", [text]) => Reply::Bulk(text.clone()),
            ("quit", _) | ("client", [_, ..]) => ok,
            ("command", _) => Reply::Array(Vec::new()),
            ("config", [get, names @ ..]) if get.eq_ignore_ascii_case(b"get") => {
                let settings = [("save", ""), ("appendonly", "yes")].into_iter();
                let named = settings.filter(|(name, _)| names.contains(&name.as_bytes().to_vec()));
                Reply::Map(
                    named
                        .flat_map(|(name, value)| [bulk(name), bulk(value)])
                        .collect(),
                )
            }
            ("select", [database]) => match number(database) {
                Some(0) => ok,
                Some(_) => return refused("ERR DB index is out of range"),
                None => return refused("ERR value is not an integer or out of range"),
            },
            ("hello", _) => self.hello(arguments)?,
            ("set", [name, value, option]) => {
                let new = option.eq_ignore_ascii_case(b"nx");
                if !new && !option.eq_ignore_ascii_case(b"xx") {
                    return refused("ERR syntax error");
                }
                let value = |now: Option<_>| (now.is_none() == new).then(|| value.clone());
                match open()?.update(&key(name)?, value)? {
                    true => ok,
                    false => Reply::Null,
                }
            }
            ("set", [_, _, _, ..]) => return refused("ERR syntax error"),
            ("setnx", [name, value]) => {
                Reply::Number(open()?.update_if(&key(name)?, None, value)?.into())
            }
            ("getset", [name, value]) => {
                let mut old = None;
                open()?.update(&key(name)?, |now| {
                    old = now;
                    Some(value.clone())
                })?;
                old.into()
            }
            ("append", [name, more]) => {
                let mut length = 0;
                open()?.update(&key(name)?, |now| {
                    let value = [&now.unwrap_or_default()[..], more].concat();
                    length = value.len() as i64;
                    Some(value)
                })?;
                Reply::Number(length)
            }
            ("strlen", [name]) => {
                let value = open()?.get(&key(name)?)?;
                Reply::Number(value.map_or(0, |value| value.len() as i64))
            }
            ("incr", [name]) => add(name, Some(1))?,
            ("decr", [name]) => add(name, Some(-1))?,
            ("incrby", [name, delta]) => add(name, number(delta))?,
            ("decrby", [name, delta]) if number(delta) == Some(i64::MIN) => {
                key(name)?;
                return refused("ERR decrement would overflow");
            }
            ("decrby", [name, delta]) => add(name, number(delta).map(|delta| -delta))?,
            ("mget", [_, ..]) => {
                let values = open()?.get_many(&keys(arguments)?)?;
                Reply::Array(values.into_iter().map(Reply::from).collect())
            }
            ("exists", [_, ..]) => Reply::Number(count(&keys(arguments)?)?),
            ("del", [_, ..]) => {
                let mut keys = keys(arguments)?;
                keys.sort();
                keys.dedup();
                let count = count(&keys)?;
                open()?.delete_many(&keys)?;
                Reply::Number(count)
            }
            ("keys", [pattern]) => {
                let keys = open()?.keys().collect::<Result<Vec<_>, _>>()?.into_iter();
                let keys = keys.filter(|key| matches(pattern, key.as_bytes()));
                Reply::Array(keys.map(|key| bulk(&key)).collect())
            }
            ("dbsize", []) => Reply::Number(
                open()?
                    .keys()
                    .try_fold(0, |count, key| key.map(|_| count + 1))?,
            ),
            (known, _) if COMMANDS.contains(&format!(" {known} ")) => {
                return refused(format!(
                    "ERR wrong number of arguments for '{known}' command"
                ));
            }
            _ => return unknown(name, arguments),
        })
    }

    /// Chooses the version of the protocol, and says what the server is.
    fn hello(&mut self, arguments: &[Vec<u8>]) -> Answer {
        match arguments.first().map(|version| number(version)) {
            None => {}
            Some(Some(version @ 2..=3)) => self.three = version == 3,
            _ => return refused("NOPROTO unsupported protocol version"),
        }
        let version = Reply::Number(if self.three { 3 } else { 2 });
        Ok(Reply::Map(vec![
            bulk("server"),
            bulk("halfopen-kv"),
            bulk("proto"),
            version,
        ]))
    }
}

/// The words of Redis, of which no more than 128 bytes are the client's.
fn unknown(name: &[u8], arguments: &[Vec<u8>]) -> Answer {
    let begin = |text: &[u8], most: usize| text[..text.len().min(most)].escape_ascii().to_string();
    let mut shown = String::new();
    for argument in arguments {
        if shown.len() >= 128 {
            break;
        }
        shown += &format!("'{}' ", begin(argument, 128 - shown.len()));
    }
    let name = begin(name, 128);
    refused(format!(
        "ERR unknown command '{name}', with args beginning with: {shown}"
    ))
}

fn add(name: &[u8], delta: Option<i64>) -> Answer {
    let no_number = || refused("ERR value is not an integer or out of range");
    let Some(delta) = delta else {
        return no_number();
    };
    match open()?.increment(&key(name)?, delta) {
        Ok(sum) => Ok(Reply::Number(sum)),
        Err(Error::Other(text)) if text.contains("no whole number") => no_number(),
        Err(Error::Other(text)) if text.contains("64 bits") => {
            refused("ERR increment or decrement would overflow")
        }
        Err(error) => Err(error.into()),
    }
}

/// How many of these keys there are.
fn count(keys: &[String]) -> Result<i64, Reply> {
    let bucket = open()?;
    let exists = |key: &String| bucket.exists(key).map(i64::from);
    let counts = keys.iter().map(exists).collect::<Result<Vec<_>, _>>()?;
    Ok(counts.into_iter().sum())
}

/// Whether a text matches a pattern, where `*` stands for any bytes, and `?` for one.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut next, mut star) = (0, 0, None);
    while at < text.len() {
        match pattern.get(next) {
            Some(b'*') => star = Some((next, at)),
            Some(&byte) if byte == b'?' || byte == text[at] => at += 1,
            // The last star stands for one byte more.
            _ => match &mut star {
                Some((place, from)) => {
                    *from += 1;
                    (next, at) = (*place, *from);
                }
                None => return false,
            },
        }
        next += 1;
    }
    pattern[next.min(pattern.len())..]
        .iter()
        .all(|&byte| byte == b'*')
}

fn keys(names: &[Vec<u8>]) -> Result<Vec<String>, Reply> {
    names.iter().map(|name| key(name)).collect()
}

/// A key of the state is text.
fn key(name: &[u8]) -> Result<String, Reply> {
    let text = std::str::from_utf8(name).map(str::to_owned);
    text.map_err(|_| Reply::Error("ERR a key is UTF-8 here".to_owned()))
}

fn open() -> Result<Bucket, Reply> {
    Ok(state::open()?)
}

impl From<Error> for Reply {
    fn from(error: Error) -> Self {
        Reply::Error(format!("ERR {error}"))
    }
}

fn refused(text: impl Into<String>) -> Answer {
    Err(Reply::Error(text.into()))
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_owned())
}
