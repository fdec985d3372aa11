//! Tables: of a topic, of a stream, and what is made of their values.

use super::{Getter, Stream, Table, View, Wiring, each, node};
use crate::streams::{
    context::{Context, Done},
    event::{Change, Event},
    graph::lock,
    serde::Serde,
    store::{KeyValue, StoreSpec, Stored},
};
use std::sync::Arc;

impl<K: Serde, V: Serde> Stream<K, V> {
    /// The table of the last value of each key, in the store `name`. A null value deletes, a null key is left out.
    pub fn table(&self, name: &str) -> Table<K, V> {
        lock(&self.graph).claim(name);
        self.keyed(name).table_as(name)
    }

    /// The table in the store of a name that has been claimed.
    pub(super) fn table_as(&self, name: &str) -> Table<K, V> {
        let mut graph = lock(&self.graph);
        graph.store(StoreSpec::key_value(name));
        let store = name.to_string();
        let make = node(move |wiring| {
            let store = KeyValue::<K, V>::new(wiring.store(&store));
            move |context: &mut Context, event: Event<K, V>| {
                let Some(key) = &event.key else { return context.skip() };
                let old = store.get(context, key)?.map(|stored| stored.value);
                store.put(context, key, event.value.as_ref(), event.timestamp);
                forward_change(context, event, old)
            }
        });
        let node = graph.processor("table", &[self.node], &[name], make);
        drop(graph);
        Table::new(&self.graph, node, View::stored(name))
    }
}

/// Hands on that a key's value is the event's now.
pub(super) fn forward_change<K: Serde, V: Serde>(
    context: &mut Context,
    mut event: Event<K, V>,
    old: Option<V>,
) -> Done {
    let new = event.value.take();
    context.forward(event.with_value(Some(Change { new, old })))
}

impl<K: Serde, V: Serde> View<K, V> {
    /// The values of a store.
    pub(super) fn stored(name: &str) -> View<K, V> {
        let store = name.to_string();
        let make = move |wiring: &Wiring<'_>| -> Getter<K, V> {
            let store = KeyValue::new(wiring.store(&store));
            Box::new(move |context, key| store.get(context, key))
        };
        View { stores: vec![name.into()], make: Arc::new(make) }
    }
}

impl<K: Serde, V: Clone + Send + Sync + 'static> Table<K, V> {
    /// A table whose values are made of those of this one.
    fn derive<W: Clone + Send + Sync + 'static>(
        &self,
        what: &str,
        derive: impl Fn(&K, V) -> Option<W> + Send + Sync + 'static,
        forwards_nothing: bool,
    ) -> Table<K, W> {
        let derive = Arc::new(derive);
        let (here, view) = (derive.clone(), self.view.make.clone());
        let step = each(move |context, event: Event<K, Change<V>>| {
            let Event { key: Some(key), value: Some(Change { new, old }), timestamp, headers } = event else {
                return context.skip();
            };
            let of = |value: Option<V>| value.and_then(|value| here(&key, value));
            let (new, old) = (of(new), of(old));
            if new.is_none() && old.is_none() && !forwards_nothing {
                return Ok(());
            }
            context.forward(Event { key: Some(key), value: Some(Change { new, old }), timestamp, headers })
        });
        let stores: Vec<&str> = self.view.stores.iter().map(String::as_str).collect();
        let node = lock(&self.graph).processor(what, &[self.node], &stores, step);
        let make = move |wiring: &Wiring<'_>| -> Getter<K, W> {
            let (parent, derive) = (view(wiring), derive.clone());
            Box::new(move |context, key| {
                let stored = parent(context, key)?;
                Ok(stored.and_then(|Stored { value, timestamp }| {
                    derive(key, value).map(|value| Stored { value, timestamp })
                }))
            })
        };
        Table::new(&self.graph, node, View { stores: self.view.stores.clone(), make: Arc::new(make) })
            .closing(self.closes_after)
    }

    /// The entries that `keep` says yes to. One that no longer is among them is deleted.
    pub fn filter(&self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Table<K, V> {
        self.derive("table-filter", move |key, value| keep(key, &value).then_some(value), false)
    }

    /// The same keys with other values.
    pub fn map_values<W: Clone + Send + Sync + 'static>(
        &self,
        map: impl Fn(&K, &V) -> W + Send + Sync + 'static,
    ) -> Table<K, W> {
        self.derive("table-map-values", move |key, value| Some(map(key, &value)), true)
    }

    /// Its changes: the new value of each key, null where it was deleted.
    pub fn to_stream(&self) -> Stream<K, V> {
        let step = each(|context, event: Event<K, Change<V>>| {
            let Event { key, value, timestamp, headers } = event;
            context.forward(Event { key, value: value.and_then(|change| change.new), timestamp, headers })
        });
        let node = lock(&self.graph).processor("to-stream", &[self.node], &[], step);
        Stream::new(&self.graph, node, false)
    }
}

impl<K: Serde, V: Serde> Table<K, V> {
    /// Writes its changes to a topic: `to_stream().to(topic)`.
    pub fn to(&self, topic: &str) {
        self.to_stream().to(topic);
    }

    /// The same table with its values in the store `name`, where they can be looked up.
    pub fn stored(&self, name: &str) -> Table<K, V> {
        let mut graph = lock(&self.graph);
        graph.claim(name);
        graph.store(StoreSpec::key_value(name));
        let store = name.to_string();
        let make = node(move |wiring| {
            let store = KeyValue::<K, V>::new(wiring.store(&store));
            move |context: &mut Context, event: Event<K, Change<V>>| {
                let (Some(key), Some(change)) = (&event.key, &event.value) else { return context.skip() };
                store.put(context, key, change.new.as_ref(), event.timestamp);
                context.forward(event)
            }
        });
        let node = graph.processor("stored", &[self.node], &[name], make);
        drop(graph);
        Table::new(&self.graph, node, View::stored(name)).closing(self.closes_after)
    }
}
