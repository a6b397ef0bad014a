//! Calls of topics, and the events that come of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::bindings::halfopen::tcp::subscribing;
use crate::bindings::halfopen::tcp::topics::{TopicError, publish};
use crate::source::Source;

/// Names that topics may have, and the first of those that they may not.
const TOPICS: [&str; 5] = ["a", "b", "a topic with spaces", "", "a\nb"];
const FIRST_WRONG: u32 = 3;

/// The longest message.
const LONGEST: usize = 65_536;

thread_local! {
    static TOPICS_OF_INSTANCE: RefCell<Topics> = RefCell::default();
}

/// What the instance has done with topics.
#[derive(Default)]
struct Topics {
    subscribed: BTreeSet<String>,
    /// Whether the host grants topics, once that is known.
    granted: Option<bool>,
    /// The number of the next message.
    next: u64,
    /// The number of the last own message that has come of a topic.
    heard: BTreeMap<String, u64>,
}

/// Publishes, subscribes or unsubscribes.
pub(crate) fn call(source: &mut Source) -> Result<(), String> {
    TOPICS_OF_INSTANCE.with_borrow_mut(|topics| {
        let index = source.below(TOPICS.len() as u32 + 1);
        let topic = match TOPICS.get(index as usize) {
            Some(topic) => (*topic).to_owned(),
            None => "x".repeat(129 + source.below(300) as usize),
        };
        let wrong = index >= FIRST_WRONG;
        match source.below(3) {
            0 => topics.publish(source, &topic, wrong),
            1 => topics.subscribe(&topic, wrong),
            _ => {
                subscribing::unsubscribe(&topic);
                topics.subscribed.remove(&topic);
                Ok(())
            }
        }
    })
}

/// Checks that an event of a topic may come.
pub(crate) fn came(topic: &str, event: &str) -> Result<(), String> {
    TOPICS_OF_INSTANCE.with_borrow(|topics| match topics.subscribed.contains(topic) {
        true => Ok(()),
        false => Err(format!("{event} of {topic:?}, without a subscription")),
    })
}

/// Checks a message.
pub(crate) fn message(topic: &str, payload: &[u8], is_own: bool) -> Result<(), String> {
    came(topic, "a message")?;
    let number = payload.first_chunk().copied().map(u64::from_le_bytes);
    let number = number.ok_or("a message was cut")?;
    TOPICS_OF_INSTANCE.with_borrow_mut(|topics| {
        if !is_own {
            return Ok(());
        }
        let before = topics.heard.insert(topic.to_owned(), number);
        match number < topics.next && before.is_none_or(|before| before < number) {
            true => Ok(()),
            false => Err(format!(
                "the own message {number} of {topic:?} follows {before:?}"
            )),
        }
    })
}

/// Checks a count of messages that were lost.
pub(crate) fn missed(topic: &str, count: u64) -> Result<(), String> {
    came(topic, "missed")?;
    match count {
        0 => Err(format!("0 messages of {topic:?} were missed")),
        _ => Ok(()),
    }
}

impl Topics {
    fn publish(&mut self, source: &mut Source, topic: &str, wrong: bool) -> Result<(), String> {
        let length = match source.below(8) {
            0 => LONGEST - 1 + source.below(3) as usize,
            1 => source.below(5_000) as usize,
            _ => source.below(100) as usize,
        };
        let mut payload = self.next.to_le_bytes().to_vec();
        payload.resize(length.max(payload.len()), 0);
        let published = publish(topic, &payload);
        let too_large = payload.len() > LONGEST;
        if published.is_ok() {
            self.next += 1;
        }
        self.check(published, wrong, too_large)
            .map_err(|what| format!("publish {length} bytes to {topic:?}: {what}"))
    }

    fn subscribe(&mut self, topic: &str, wrong: bool) -> Result<(), String> {
        let subscribed = subscribing::subscribe(topic);
        if subscribed.is_ok() {
            self.subscribed.insert(topic.to_owned());
        }
        self.check(subscribed, wrong, false)
            .map_err(|what| format!("subscribe to {topic:?}: {what}"))
    }

    /// Checks a result. The host grants topics from the beginning, or never.
    fn check(
        &mut self,
        result: Result<(), TopicError>,
        wrong: bool,
        too_large: bool,
    ) -> Result<(), String> {
        let right = match result {
            Ok(()) => !wrong && !too_large,
            Err(TopicError::InvalidTopic) => wrong,
            Err(TopicError::TooLarge) => too_large,
            Err(TopicError::AccessDenied) => true,
            Err(TopicError::TooMany | TopicError::Unavailable) => false,
        };
        let granted = result != Err(TopicError::AccessDenied);
        if right && *self.granted.get_or_insert(granted) == granted {
            return Ok(());
        }
        Err(format!("{result:?}, granted before: {:?}", self.granted))
    }
}
