//! The subscriptions of a service in callback style.

use wasmtime::component::{Instance, InstancePre, Linker, WasmStr};
use wasmtime::{Store, StoreContextMut};

use super::Sockets;
use super::bindings::topics::exports::halfopen::tcp::topic_events::Guest as Events;
use super::bindings::topics::{Subscribing, SubscribingIndices};
use crate::tcp::TcpView;
use crate::tcp::topics::{Failure, member, name};
use crate::topics::{Delivery, Inbox};

const SUBSCRIBING: &str = "halfopen:tcp/subscribing@0.1.0";
const TOPIC_EVENTS: &str = "halfopen:tcp/topic-events@0.1.0";

/// Adds the interface `subscribing`.
pub(super) fn add_to_linker<T: TcpView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut subscribing = linker.instance(SUBSCRIBING)?;
    subscribing.func_wrap(
        "subscribe",
        |mut store: StoreContextMut<'_, T>, (topic,): (WasmStr,)| {
            let topic = name(&topic, &store)?;
            let ctx = store.data_mut().tcp().ctx;
            let subscribed = member(ctx).and_then(|member| {
                let inbox = ctx.sockets().inbox(|| member.inbox());
                Ok::<_, Failure>(inbox.subscribe(&topic?)?)
            });
            Ok((subscribed,))
        },
    )?;
    subscribing.func_wrap(
        "unsubscribe",
        |mut store: StoreContextMut<'_, T>, (topic,): (WasmStr,)| {
            // A name that is too long has no subscription.
            if let Ok(topic) = name(&topic, &store)?
                && let Some(inbox) = &mut store.data_mut().tcp().ctx.sockets().inbox
            {
                inbox.unsubscribe(&topic);
            }
            Ok(())
        },
    )
}

impl Sockets {
    fn inbox(&mut self, new: impl FnOnce() -> Inbox) -> &mut Inbox {
        self.inbox.get_or_insert_with(|| Box::new(new()))
    }

    /// Takes the next delivery.
    pub(super) fn delivery(&mut self) -> Option<Delivery> {
        let delivery = self.inbox.as_mut()?.take()?;
        self.events += 1;
        Some(delivery)
    }
}

/// Where a component has the events of topics, if it has.
pub(super) fn find<T: 'static>(
    pre: &InstancePre<T>,
) -> wasmtime::Result<Option<SubscribingIndices>> {
    let component = pre.component();
    let exports = component.get_export_index(None, TOPIC_EVENTS).is_some();
    if exports {
        return SubscribingIndices::new(pre).map(Some);
    }
    let ty = component.component_type();
    let imports = ty
        .imports(pre.engine())
        .any(|(name, _)| name == SUBSCRIBING);
    if imports {
        wasmtime::bail!(
            "the component imports `{SUBSCRIBING}` and does not export `{TOPIC_EVENTS}`, which subscriptions call; export it as well"
        );
    }
    Ok(None)
}

/// Finds the events of topics among the exports of an instance.
pub(super) fn find_in<T: Send + 'static>(
    store: &mut Store<T>,
    instance: &Instance,
) -> wasmtime::Result<Option<Subscribing>> {
    match instance.get_export_index(&mut *store, None, TOPIC_EVENTS) {
        Some(_) => Subscribing::new(&mut *store, instance).map(Some),
        None => Ok(None),
    }
}

/// Calls the event of a delivery.
pub(super) async fn call<T: Send + 'static>(
    events: &Events,
    store: &mut Store<T>,
    delivery: Delivery,
) -> wasmtime::Result<()> {
    match delivery {
        Delivery::Subscribed { topic } => events.call_subscribed(store, &topic).await,
        Delivery::Missed { topic, count } => events.call_missed(store, &topic, count).await,
        Delivery::Message {
            topic,
            payload,
            own,
        } => events.call_message(store, &topic, &payload, own).await,
    }
}
