//! What a line says to do with the state. `-` stands for no value.

use halfopen_guest::state::{self, Bucket, Error};

/// Obeys a line, and returns the answer.
pub(crate) fn obey(line: &str) -> String {
    try_obey(line).unwrap_or_else(|error| format!("error: {error}"))
}

fn try_obey(line: &str) -> Result<String, Error> {
    let words: Vec<&str> = line.split(' ').collect();
    let bucket = match words[..] {
        ["open", name] => return state::open_named(name).map(|_| "ok".to_owned()),
        ["trap"] => panic!("it was told to"),
        _ => state::open()?,
    };
    let ok = |()| "ok".to_owned();
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    match words[..] {
        ["get", key] => bucket.get(key).map(text),
        ["set", key, value] => bucket.set(key, value).map(ok),
        // A value, or a key, of so many bytes.
        ["large", key, bytes] => bucket.set(key, vec![b'x'; number(bytes)]).map(ok),
        ["long", bytes] => bucket.set(&"k".repeat(number(bytes)), "v").map(ok),
        ["delete", key] => bucket.delete(key).map(ok),
        ["exists", key] => bucket.exists(key).map(yes),
        ["add", key, delta] => {
            let delta = delta.parse().unwrap_or_default();
            bucket.increment(key, delta).map(|sum| sum.to_string())
        }
        ["swap", key, old, new] => {
            let old = (old != "-").then_some(old.as_bytes());
            bucket.update_if(key, old, new).map(yes)
        }
        ["race", key, value] => race(&bucket, key, value),
        ["many", ref keys @ ..] => {
            let values = bucket.get_many(keys)?;
            Ok(values.into_iter().map(text).collect::<Vec<_>>().join(" "))
        }
        ["set-many", ref pairs @ ..] => {
            let pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
            bucket
                .set_many(pairs.map(|(key, value)| (key, value.as_bytes())))
                .map(ok)
        }
        ["delete-many", ref keys @ ..] => bucket.delete_many(keys).map(ok),
        // So many keys, that begin with this word.
        ["fill", word, count] => {
            let keys = (0..number(count)).map(|number| format!("{word}{number:05}"));
            bucket.set_many(keys.map(|key| (key, "v"))).map(ok)
        }
        ["keys"] => keys(&bucket),
        _ => Ok(format!("unknown order {line:?}")),
    }
}

/// Appends to a value that somebody else changes meanwhile, and says how often it tried.
fn race(bucket: &Bucket, key: &str, value: &str) -> Result<String, Error> {
    let mut calls = 0;
    bucket.update(key, |current| {
        calls += 1;
        if calls == 1 {
            bucket.set(key, "between").ok()?;
        }
        let mut value_now = current.unwrap_or_default();
        value_now.extend_from_slice(value.as_bytes());
        Some(value_now)
    })?;
    Ok(format!("{calls} calls"))
}

/// All keys if they are few, or else how many there are, and whether they are in order.
fn keys(bucket: &Bucket) -> Result<String, Error> {
    let keys = bucket.keys().collect::<Result<Vec<_>, _>>()?;
    Ok(match keys.len() {
        0..10 => keys.join(" "),
        count => format!(
            "{count} keys, in order: {}",
            keys.is_sorted_by(|one, next| one < next)
        ),
    })
}

fn text(value: Option<Vec<u8>>) -> String {
    value.map_or("-".to_owned(), |value| {
        String::from_utf8_lossy(&value).into_owned()
    })
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_default()
}
