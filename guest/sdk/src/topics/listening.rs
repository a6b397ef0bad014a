//! Subscriptions in callback style.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::{Delivery, Message, TopicError};
use crate::bindings::sockets::halfopen::tcp::subscribing;

/// A subscription of a service in callback style, made by [`subscribe`].
///
/// Dropping it ends it: nothing is called any more. So a value that implements
/// [`Events`](crate::Events) and keeps its subscriptions ends them with its connection.
#[derive(Debug)]
#[must_use = "dropping a subscription ends it"]
pub struct Subscription {
    topic: String,
    number: u64,
}

impl Subscription {
    /// Lets the subscription go on without a value that can end it.
    pub fn forget(self) {
        std::mem::forget(self);
    }

    /// Returns whether the subscription is in force, so that each message from now on is
    /// delivered, or counted as missed.
    #[must_use]
    pub fn is_in_force(&self) -> bool {
        TOPICS.with_borrow(|topics| topics.get(&self.topic).is_some_and(|topic| topic.in_force))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // The function is dropped outside of the table: it may own subscriptions.
        let (listener, last) = TOPICS.with_borrow_mut(|topics| {
            let Some(topic) = topics.get_mut(&self.topic) else {
                return (None, false);
            };
            let place = topic
                .listeners
                .iter()
                .position(|(number, _)| *number == self.number);
            let listener = place.map(|place| topic.listeners.remove(place));
            let last = topic.listeners.is_empty();
            if last {
                topics.remove(&self.topic);
            }
            (listener, last)
        });
        if last {
            subscribing::unsubscribe(&self.topic);
        }
        drop(listener);
    }
}

type Listener = Box<dyn FnMut(Delivery)>;

#[derive(Default)]
struct Topic {
    in_force: bool,
    /// The functions, each with the number of its subscription; `None` while one runs.
    listeners: Vec<(u64, Option<Listener>)>,
}

thread_local! {
    /// The topics of the instance. The table is not in use while a function runs, which may add
    /// and end subscriptions.
    static TOPICS: RefCell<HashMap<String, Topic>> = RefCell::default();
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// Subscribes to a topic, in callback style: calls `listener` with what is delivered.
///
/// Needs [`callbacks!(…, topics)`](macro@crate::callbacks). [`Delivery::Subscribed`] comes when
/// the subscription is in force, and not before the event that is being handled has returned;
/// where the instance had subscribed to the topic before, it may be in force already
/// ([`Subscription::is_in_force`]). A subscription keeps no instance alive.
///
/// ```no_run
/// use halfopen_guest::topics::{self, Delivery, Subscription};
/// use halfopen_guest::{Events, Socket, callbacks};
///
/// callbacks!(Reader::new, topics);
///
/// /// Sends its client all news, from now on.
/// struct Reader {
///     /// Ends with the connection.
///     _news: Option<Subscription>,
/// }
///
/// impl Reader {
///     fn new(socket: &Socket) -> Self {
///         let client = socket.clone();
///         let news = topics::subscribe("news", move |delivery| {
///             if let Delivery::Message(message) = delivery {
///                 client.write(message.payload);
///             }
///         });
///         Reader { _news: news.ok() }
///     }
/// }
///
/// impl Events for Reader {}
/// ```
///
/// # Errors
/// [`TopicError::AccessDenied`], [`TopicError::InvalidTopic`] and [`TopicError::TooMany`].
pub fn subscribe(
    topic: &str,
    listener: impl FnMut(Delivery) + 'static,
) -> Result<Subscription, TopicError> {
    subscribing::subscribe(topic)?;
    let number = LAST.get() + 1;
    LAST.set(number);
    TOPICS.with_borrow_mut(|topics| {
        let topic = topics.entry(topic.to_owned()).or_default();
        topic.listeners.push((number, Some(Box::new(listener))));
    });
    Ok(Subscription {
        topic: topic.to_owned(),
        number,
    })
}

#[doc(hidden)]
pub fn subscribed(topic: &str) {
    TOPICS.with_borrow_mut(|topics| {
        if let Some(topic) = topics.get_mut(topic) {
            topic.in_force = true;
        }
    });
    call(topic, &Delivery::Subscribed);
}

#[doc(hidden)]
pub fn message(topic: &str, payload: Vec<u8>, own: bool) {
    call(topic, &Delivery::Message(Message { payload, own }));
}

#[doc(hidden)]
pub fn missed(topic: &str, count: u64) {
    call(topic, &Delivery::Missed(count));
}

/// Calls all functions of a topic that are there now.
fn call(topic: &str, delivery: &Delivery) {
    let numbers = TOPICS.with_borrow(|topics| -> Vec<u64> {
        let topic = topics.get(topic);
        topic.map_or_else(Vec::new, |topic| {
            topic.listeners.iter().map(|(number, _)| *number).collect()
        })
    });
    for number in numbers {
        let place = |topics: &mut HashMap<String, Topic>, listener: &mut Option<Listener>| {
            let listeners = &mut topics.get_mut(topic)?.listeners;
            let (_, place) = listeners.iter_mut().find(|(other, _)| *other == number)?;
            std::mem::swap(place, listener);
            Some(())
        };
        let mut listener = None;
        TOPICS.with_borrow_mut(|topics| place(topics, &mut listener));
        if let Some(listener) = &mut listener {
            listener(delivery.clone());
        }
        // It stays outside, and is dropped here, if its own subscription has ended meanwhile.
        TOPICS.with_borrow_mut(|topics| place(topics, &mut listener));
    }
}
