//! A service in callback style that uses topics as its clients say, and reports what comes of
//! it. `crier` is the same in await style.
//!
//! A client sends lines, see `call`. Each answer is a line, and so is each delivery of a
//! subscription that the client has made.

use std::collections::BTreeMap;

use halfopen_guest::topics::{self, Delivery, Subscription, TopicError};
use halfopen_guest::{Events, LineBuffer, Socket, callbacks};

callbacks!(|_socket| Herald::default(), topics);

#[derive(Default)]
struct Herald {
    lines: LineBuffer,
    subscriptions: BTreeMap<String, Subscription>,
}

impl Events for Herald {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        self.lines.push(&chunk);
        while let Some(Ok(line)) = self.lines.next_line() {
            let answer = match self.call(socket, &line) {
                Ok(answer) => answer,
                Err(error) => format!("{error:?}"),
            };
            socket.write(format!("{answer}\n"));
        }
    }
}

impl Herald {
    /// Does what a line says: `subscribe TOPIC`, `unsubscribe TOPIC`, `publish TOPIC TEXT`, `bytes
    /// TOPIC LENGTH`, or `flood TOPIC COUNT NAME`, which publishes numbered messages in one event.
    fn call(&mut self, socket: &Socket, line: &str) -> Result<String, TopicError> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (topic, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let answer = match word {
            "subscribe" => {
                let client = socket.clone();
                let name = topic.to_owned();
                let tell = move |delivery| _ = client.write(told(&name, delivery));
                let subscription = topics::subscribe(topic, tell)?;
                let answer = match subscription.is_in_force() {
                    // Another connection of the instance has subscribed before.
                    true => format!("subscribing\n{topic}: subscribed"),
                    false => "subscribing".to_owned(),
                };
                self.subscriptions.insert(topic.to_owned(), subscription);
                return Ok(answer);
            }
            "unsubscribe" => {
                self.subscriptions.remove(topic);
                "unsubscribed"
            }
            "publish" => {
                topics::publish(topic, text)?;
                "published"
            }
            "bytes" => {
                topics::publish(topic, vec![b'x'; text.parse().unwrap_or(0)])?;
                "published"
            }
            "flood" => {
                let (count, name) = text.split_once(' ').unwrap_or((text, ""));
                for number in 0..count.parse().unwrap_or(0) {
                    topics::publish(topic, format!("{name} {number}"))?;
                }
                "flooded"
            }
            _ => "what?",
        };
        Ok(answer.to_owned())
    }
}

fn told(topic: &str, delivery: Delivery) -> String {
    match delivery {
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
    }
}
