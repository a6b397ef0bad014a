//! The interfaces about topics: `topics` in both styles, `topic-streams` in await style. For
//! `subscribing` and `topic-events`, `callbacks` has the rest.

use std::any::{Any, TypeId};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use wasmtime::component::{
    ComponentType, Destination, Lift, Linker, Lower, StreamProducer, StreamReader, StreamResult,
    WasmList, WasmStr,
};
use wasmtime::{AsContextMut as _, StoreContextMut};

use super::{Denied, TcpCtx, TcpView};
use crate::topics::{Delivery, Inbox, Member, PAYLOAD, TOPIC, TopicError};

const TOPICS: &str = "halfopen:tcp/topics@0.1.0";
const TOPIC_STREAMS: &str = "halfopen:tcp/topic-streams@0.1.0";

/// Why a topic cannot be used, for a guest.
#[derive(Clone, Copy, Debug, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(super) enum Failure {
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "invalid-topic")]
    InvalidTopic,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "too-many")]
    TooMany,
    #[component(name = "unavailable")]
    Unavailable,
}

impl From<TopicError> for Failure {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::InvalidTopic => Failure::InvalidTopic,
            TopicError::TooLarge => Failure::TooLarge,
            TopicError::TooMany => Failure::TooMany,
            TopicError::Unavailable => Failure::Unavailable,
        }
    }
}

/// Returns the guest of a store as a member, or reports that it may not be one.
pub(super) fn member(ctx: &TcpCtx) -> Result<Member, Failure> {
    let member = ctx.membership().member();
    member.ok_or_else(|| {
        ctx.denied(&Denied::other("topics", "the component may not use topics"));
        Failure::AccessDenied
    })
}

/// Reads the name of a topic. One that is too long is not copied.
pub(super) fn name<T: 'static>(
    topic: &WasmStr,
    store: &StoreContextMut<'_, T>,
) -> wasmtime::Result<Result<String, Failure>> {
    let topic = topic.to_str(store)?;
    Ok(match topic.len() <= TOPIC {
        true => Ok(topic.into_owned()),
        false => Err(Failure::InvalidTopic),
    })
}

/// Adds the interface `topics`.
pub(super) fn add_to_linker<T: TcpView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.instance(TOPICS)?.func_wrap(
        "publish",
        |mut store: StoreContextMut<'_, T>, (topic, payload): (WasmStr, WasmList<u8>)| {
            let member = match member(store.data_mut().tcp().ctx) {
                Ok(member) => member,
                Err(failure) => return Ok((Err(failure),)),
            };
            let topic = match name(&topic, &store)? {
                Ok(topic) => topic,
                Err(failure) => return Ok((Err(failure),)),
            };
            let payload = payload.as_le_slice(&store);
            if payload.len() > PAYLOAD {
                return Ok((Err(Failure::TooLarge),));
            }
            let published = member.publish(&topic, Bytes::copy_from_slice(payload));
            Ok((published.map_err(Failure::from),))
        },
    )
}

/// Adds the interface `topic-streams`, for components in await style.
pub(super) fn add_streams_to_linker<T: TcpView + 'static>(
    linker: &mut Linker<T>,
) -> wasmtime::Result<()> {
    linker.instance(TOPIC_STREAMS)?.func_wrap(
        "subscribe",
        |mut store: StoreContextMut<'_, T>, (topic,): (WasmStr,)| {
            let topic = name(&topic, &store)?;
            let ctx = store.data_mut().tcp().ctx;
            let moved = ctx.membership().counter();
            let subscribed = member(ctx).and_then(|member| {
                let mut inbox = member.inbox();
                inbox.subscribe(&topic?)?;
                Ok(inbox)
            });
            Ok((match subscribed {
                Ok(inbox) => Ok(StreamReader::new(&mut store, Deliveries { inbox, moved })?),
                Err(failure) => Err(failure),
            },))
        },
    )
}

/// A message, for a guest in await style.
#[derive(Clone, Debug, ComponentType, Lower, Lift)]
#[component(record)]
struct Message {
    payload: Vec<u8>,
    #[component(name = "is-own")]
    is_own: bool,
}

/// What a subscription delivers, to a guest in await style.
#[derive(Clone, Debug, ComponentType, Lower, Lift)]
#[component(variant)]
enum Delivered {
    #[component(name = "subscribed")]
    Subscribed,
    #[component(name = "missed")]
    Missed(u64),
    #[component(name = "message")]
    Message(Message),
}

impl From<Delivery> for Delivered {
    fn from(delivery: Delivery) -> Self {
        match delivery {
            Delivery::Subscribed { .. } => Delivered::Subscribed,
            Delivery::Missed { count, .. } => Delivered::Missed(count),
            Delivery::Message { payload, own, .. } => Delivered::Message(Message {
                payload: payload.into(),
                is_own: own,
            }),
        }
    }
}

/// Produces what a subscription delivers. Dropping it ends the subscription.
struct Deliveries {
    inbox: Inbox,
    moved: Arc<AtomicU64>,
}

impl<D> StreamProducer<D> for Deliveries {
    type Item = Delivered;
    type Buffer = Option<Delivered>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Delivered, Option<Delivered>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        // A read of length 0 waits until there is something to read, and takes nothing.
        let nothing = destination.remaining(store.as_context_mut()) == Some(0);
        let polled = match nothing {
            true => self.inbox.poll_ready(cx).map(|()| None),
            false => self.inbox.poll_next(cx).map(Some),
        };
        match polled {
            Poll::Ready(delivery) => {
                if let Some(delivery) = delivery {
                    self.moved.fetch_add(1, Ordering::Relaxed);
                    destination.set_buffer(Some(delivery.into()));
                }
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn try_into(me: Pin<Box<Self>>, _: TypeId) -> Result<Box<dyn Any>, Pin<Box<Self>>> {
        Err(me)
    }
}
