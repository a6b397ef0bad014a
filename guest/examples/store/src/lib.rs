//! A key/value store: state behind a line protocol.

use halfopen_guest::futures::{AsyncWriteExt, StreamExt};
use halfopen_guest::{Connection, service};
use std::{cell::RefCell, collections::HashMap};

thread_local! {
    static STORE: RefCell<HashMap<String, String>> = RefCell::default();
}

service!(handle, isolation = shared);

async fn handle(connection: Connection) -> std::io::Result<()> {
    let (receive, mut send) = connection.split();
    let mut lines = receive.lines(); // of at most 8 KiB each
    while let Some(line) = lines.next().await {
        send.write_all((answer(&line?) + "\n").as_bytes()).await?;
    }
    send.close().await
}

fn answer(line: &str) -> String {
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    match words[..] {
        ["get", key] => STORE.with_borrow(|store| store.get(key).cloned().unwrap_or_default()),
        ["set", key, value] => STORE.with_borrow_mut(|store| {
            if store.len() >= 100_000 && !store.contains_key(key) {
                return "error: the store is full".to_owned();
            }
            store.insert(key.to_owned(), value.to_owned());
            "ok".to_owned()
        }),
        _ => "error: `get KEY` or `set KEY VALUE`".to_owned(),
    }
}
