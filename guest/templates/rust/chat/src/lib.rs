//! A chat: each line that a client sends goes to all others, those of other instances included,
//! as far as the host grants topics.

use halfopen_guest::callbacks::set_interval;
use halfopen_guest::topics::{Delivery, publish, subscribe};
use halfopen_guest::{Events, LineBuffer, Socket, callbacks};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most bytes in a line and in a name, and the most unsent bytes of a client: one that
/// reads too slowly is dropped, and keeps nobody waiting.
const LINE: usize = 1000;
const NAME: usize = 20;
const BEHIND: usize = 1 << 20;

/// The topic. A message begins with its kind: `?` asks who is there, `=` names who is, `+` and
/// `-` somebody who comes and goes, and `:` is for all to read.
const CHAT: &str = "chat";
/// How often an instance says who is there, how many names it says at once, and for how many
/// times the others remember them: it may have been killed.
const BEAT: Duration = Duration::from_secs(2);
const NAMES: usize = 1000;
const BEATS: u32 = 3;

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

callbacks!(Client::new, timers, topics, isolation = shared);

#[derive(Default)]
struct Room {
    here: Vec<(String, Socket)>,
    /// Who is in other instances, with the number of beats since that was heard.
    elsewhere: BTreeMap<String, u32>,
    /// Whether this instance has tried to meet the others, and whether it may.
    open: bool,
    connected: bool,
}

struct Client {
    lines: LineBuffer,
    name: Option<String>,
}

impl Client {
    fn new(socket: &Socket) -> Self {
        if !ROOM.with_borrow_mut(|room| std::mem::replace(&mut room.open, true)) {
            meet();
        }
        tell(socket, "What is your name?\n");
        Client {
            lines: LineBuffer::new().limit(LINE),
            name: None,
        }
    }

    fn enter(&mut self, socket: &Socket, name: &str) {
        if name.is_empty() || name.len() > NAME || !name.chars().all(char::is_alphanumeric) {
            return tell(socket, "Use 1 to 20 letters and digits.\n");
        }
        if who().iter().any(|other| other == name) {
            return tell(socket, "That name is taken.\n");
        }
        self.name = Some(name.to_owned());
        ROOM.with_borrow_mut(|room| room.here.push((name.to_owned(), socket.clone())));
        tell(socket, "Welcome. There are /who and /quit.\n");
        tell_others(socket, &format!("* {name} is here\n"));
        spread('+', name);
    }

    fn leave(&mut self, socket: &Socket) {
        if let Some(name) = self.name.take() {
            ROOM.with_borrow_mut(|room| room.here.retain(|(_, other)| other != socket));
            tell_others(socket, &format!("* {name} has left\n"));
            spread('-', &name);
        }
    }

    fn line(&mut self, socket: &Socket, line: &str) {
        match (&self.name, line) {
            (_, "/quit") => {
                self.leave(socket);
                tell(socket, "Bye.\n");
                socket.end();
            }
            (None, name) => self.enter(socket, name),
            (_, "/who") => tell(socket, &format!("* here: {}\n", who().join(", "))),
            // Without control characters, which terminals obey.
            (Some(name), text) => {
                let text = format!("{name}: {}\n", text.replace(char::is_control, ""));
                tell_others(socket, &text);
                spread(':', &text);
            }
        }
    }
}

impl Events for Client {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        if !socket.is_writable() {
            return; // what follows `/quit`
        }
        self.lines.push(&chunk);
        while let Some(line) = self.lines.next_line() {
            match line {
                Ok(line) => self.line(socket, &line),
                Err(error) => {
                    tell(socket, &format!("error: {error}\n"));
                    socket.destroy();
                }
            }
            if !socket.is_writable() {
                return;
            }
        }
    }

    fn close(&mut self, socket: &Socket, _: bool) {
        self.leave(socket);
    }
}

/// Meets the other instances, if the host grants it. Otherwise the chat is within this one.
fn meet() {
    let Ok(subscription) = subscribe(CHAT, hear) else {
        return;
    };
    subscription.forget();
    ROOM.with_borrow_mut(|room| room.connected = true);
    if let Some(timer) = set_interval(BEAT, beat) {
        timer.forget();
    }
}

/// Tells the other instances something. What cannot be told is lost, as it is without them.
fn spread(kind: char, text: &str) {
    if ROOM.with_borrow(|room| room.connected) {
        let _ = publish(CHAT, format!("{kind}{text}"));
    }
}

fn hear(delivery: Delivery) {
    let message = match delivery {
        Delivery::Message(message) if message.own => return,
        Delivery::Message(message) => message.payload,
        Delivery::Missed(count) => return tell_all(&format!("* {count} messages were lost\n")),
        Delivery::Subscribed => {
            spread('?', "");
            return say_who();
        }
    };
    let text = String::from_utf8_lossy(&message);
    let mut letters = text.chars();
    let (kind, text) = (letters.next(), letters.as_str());
    match kind {
        Some('?') => say_who(),
        Some(':') => tell_all(text),
        Some('-') => left(&[text.to_owned()]),
        Some(kind @ ('+' | '=')) => {
            let names = text.split(' ').filter(|name| !name.is_empty());
            ROOM.with_borrow_mut(|room| {
                room.elsewhere
                    .extend(names.map(|name| (name.to_owned(), 0)))
            });
            if kind == '+' {
                tell_all(&format!("* {text} is here\n"));
            }
        }
        _ => {}
    }
}

/// Says who is here.
fn say_who() {
    let here = ROOM.with_borrow(|room| -> Vec<String> {
        room.here.iter().map(|(name, _)| name.clone()).collect()
    });
    for names in here.chunks(NAMES) {
        spread('=', &names.join(" "));
    }
}

/// Says who is here, and forgets those of whom nothing is heard any more.
fn beat() {
    say_who();
    let silent = ROOM.with_borrow_mut(|room| -> Vec<String> {
        room.elsewhere.values_mut().for_each(|beats| *beats += 1);
        let silent = room.elsewhere.iter().filter(|(_, beats)| **beats > BEATS);
        silent.map(|(name, _)| name.clone()).collect()
    });
    left(&silent);
}

/// Somebody elsewhere has left.
fn left(names: &[String]) {
    for name in names {
        if ROOM
            .with_borrow_mut(|room| room.elsewhere.remove(name))
            .is_some()
        {
            tell_all(&format!("* {name} has left\n"));
        }
    }
}

fn who() -> Vec<String> {
    ROOM.with_borrow(|room| {
        let here = room.here.iter().map(|(name, _)| name);
        here.chain(room.elsewhere.keys()).cloned().collect()
    })
}

fn tell(socket: &Socket, text: &str) {
    socket.write(text);
    if socket.unsent() > BEHIND {
        socket.reset();
    }
}

fn tell_others(socket: &Socket, text: &str) {
    ROOM.with_borrow(|room| {
        for (_, other) in room.here.iter().filter(|(_, other)| other != socket) {
            tell(other, text);
        }
    });
}

fn tell_all(text: &str) {
    ROOM.with_borrow(|room| room.here.iter().for_each(|(_, socket)| tell(socket, text)));
}
