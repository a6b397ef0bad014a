//! A service in await style that uses topics as its clients say, and reports what comes of it.
//! `herald` is the same in callback style, and lists the lines that a client may send.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use halfopen_guest::futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use halfopen_guest::futures::future::{AbortHandle, abortable, try_join};
use halfopen_guest::futures::{AsyncWriteExt, StreamExt};
use halfopen_guest::topics::{self, Deliveries, Delivery, TopicError};
use halfopen_guest::{Connection, ReadHalf, WriteHalf, service, spawn};

service!(handle);

type Failed = Box<dyn std::error::Error>;

async fn handle(connection: Connection) -> Result<(), Failed> {
    let (receive, send) = connection.split();
    let (tell, told) = unbounded();
    try_join(listen(receive, tell), write(send, told)).await?;
    Ok(())
}

/// Writes what a client is told.
async fn write(mut send: WriteHalf, mut told: UnboundedReceiver<String>) -> Result<(), Failed> {
    while let Some(text) = told.next().await {
        send.write_all(text.as_bytes()).await?;
    }
    Ok(send.close().await?)
}

/// Does what the lines of a client say, until its FIN.
async fn listen(receive: ReadHalf, tell: UnboundedSender<String>) -> Result<(), Failed> {
    let subscriptions = Subscriptions::default();
    let mut lines = receive.lines();
    while let Some(line) = lines.next().await {
        let answer = match call(&line?, &tell, &subscriptions) {
            Ok(answer) => answer.to_owned(),
            Err(error) => format!("{error:?}"),
        };
        tell.unbounded_send(format!("{answer}\n"))?;
    }
    for subscription in subscriptions.borrow().values() {
        subscription.abort();
    }
    Ok(())
}

/// Ends the task of a subscription, by its topic.
type Subscriptions = Rc<RefCell<BTreeMap<String, AbortHandle>>>;

fn call(
    line: &str,
    tell: &UnboundedSender<String>,
    subscriptions: &Subscriptions,
) -> Result<&'static str, TopicError> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (topic, text) = rest.split_once(' ').unwrap_or((rest, ""));
    match word {
        "subscribe" => {
            let deliveries = topics::stream(topic)?;
            let (forward, end) = abortable(forward(topic.to_owned(), deliveries, tell.clone()));
            subscriptions.borrow_mut().insert(topic.to_owned(), end);
            spawn(async move { _ = forward.await });
            Ok("subscribing")
        }
        "unsubscribe" => {
            if let Some(end) = subscriptions.borrow_mut().remove(topic) {
                end.abort();
            }
            Ok("unsubscribed")
        }
        "publish" => topics::publish(topic, text).map(|()| "published"),
        "bytes" => {
            let length = text.parse().unwrap_or(0);
            topics::publish(topic, vec![b'x'; length]).map(|()| "published")
        }
        "flood" => {
            let (count, name) = text.split_once(' ').unwrap_or((text, ""));
            for number in 0..count.parse().unwrap_or(0) {
                topics::publish(topic, format!("{name} {number}"))?;
            }
            Ok("flooded")
        }
        _ => Ok("what?"),
    }
}

/// Tells a client what is delivered.
async fn forward(topic: String, mut deliveries: Deliveries, tell: UnboundedSender<String>) {
    loop {
        let text = match deliveries.next().await {
            Delivery::Subscribed => format!("{topic}: subscribed\n"),
            Delivery::Missed(count) => format!("{topic}: missed {count}\n"),
            Delivery::Message(message) => {
                let whose = if message.own { "own" } else { "other" };
                let text = String::from_utf8_lossy(&message.payload);
                match text.len() {
                    0..=100 => format!("{topic}: {whose} {text}\n"),
                    length => format!("{topic}: {whose} {length} bytes\n"),
                }
            }
        };
        if tell.unbounded_send(text).is_err() {
            return;
        }
    }
}
