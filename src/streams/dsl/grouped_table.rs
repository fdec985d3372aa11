//! Tables that are grouped by other keys: when a value changes, the old one is taken out of its group, and the new one put into its.
//!
//! Both go through a topic to the partition of their group; there a value is a line of what comes and what goes.

use super::{GroupedTable, Table, View, each, node};
use crate::streams::{
    context::{Context, Done},
    event::{Change, Event},
    graph::{Kind, lock},
    serde::Serde,
    store::{KeyValue, StoreSpec},
};
use std::{any::TypeId, marker::PhantomData, sync::Arc};

impl<K: Serde, V: Clone + Send + Sync + 'static> Table<K, V> {
    /// Groups the entries by a new key, with a new value.
    pub fn group_by<L: Serde, W: Serde>(
        &self,
        map: impl Fn(&K, &V) -> (L, W) + Send + Sync + 'static,
    ) -> GroupedTable<L, W> {
        let step = each(move |context, event: Event<K, Change<V>>| {
            let Event { key: Some(key), value: Some(Change { new, old }), timestamp, headers } = event else {
                return context.skip();
            };
            let of = |value: Option<V>| {
                value.map(|value| map(&key, &value)).map(|(key, value)| (key.to_bytes(), key, value))
            };
            let send = |context: &mut Context, key: L, new: Option<W>, old: Option<W>| {
                let value = Some(Change { new, old });
                context.forward(Event { key: Some(key), value, timestamp, headers: headers.clone() })
            };
            match (of(old), of(new)) {
                (Some((was, _, old)), Some((is, key, new))) if was == is => send(context, key, Some(new), Some(old)),
                (old, new) => {
                    if let Some((_, key, old)) = old {
                        send(context, key, None, Some(old))?;
                    }
                    match new {
                        Some((_, key, new)) => send(context, key, Some(new), None),
                        None => Ok(()),
                    }
                }
            }
        });
        let node = lock(&self.graph).processor("regroup", &[self.node], &[], step);
        GroupedTable { graph: self.graph.clone(), node, types: PhantomData }
    }
}

impl<K: Serde, V: Serde> GroupedTable<K, V> {
    /// How many entries each group has, in the store `name`.
    pub fn count(&self, name: &str) -> Table<K, i64> {
        self.aggregate(name, || 0, |_, _, count| count + 1, |_, _, count| count - 1)
    }

    /// The values of each group made into one, in the store `name`: `add` puts a value to what is there, `subtract` takes one out.
    pub fn reduce(
        &self,
        name: &str,
        add: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        subtract: impl Fn(&V, &V) -> V + Send + Sync + 'static,
    ) -> Table<K, V> {
        self.fold(
            name,
            move |_, value, so_far| so_far.map_or_else(|| value.clone(), |so_far| add(&so_far, value)),
            move |_, value, so_far| subtract(&so_far, value),
        )
    }

    /// The values of each group gathered into one that begins as `initial`, in the store `name`: `add` puts a value to it,
    /// `subtract` takes one out.
    pub fn aggregate<A: Serde>(
        &self,
        name: &str,
        initial: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        subtract: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
    ) -> Table<K, A> {
        self.fold(name, move |key, value, so_far| add(key, value, so_far.unwrap_or_else(&initial)), subtract)
    }

    fn fold<A: Serde>(
        &self,
        name: &str,
        add: impl Fn(&K, &V, Option<A>) -> A + Send + Sync + 'static,
        subtract: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
    ) -> Table<K, A> {
        let mut graph = lock(&self.graph);
        graph.claim(name);
        let topic = graph.repartition(name, None);
        let sink = Kind::Sink { topic: Some(topic.clone()) };
        let to = topic.clone();
        let send = move |context: &mut Context, event| super::sink::send::<K, Change<V>>(context, to.clone(), event);
        graph.add("sink", sink, &[self.node], &[], each(send));
        let types = TypeId::of::<(K, Change<V>)>();
        let source = graph.source(&topic, types, None, super::source::<K, Change<V>>());
        graph.store(StoreSpec::key_value(name));
        let (store, steps) = (name.to_string(), Arc::new((add, subtract)));
        let make = node(move |wiring| {
            let (store, steps) = (KeyValue::<K, A>::new(wiring.store(&store)), steps.clone());
            move |context: &mut Context, event: Event<K, Change<V>>| -> Done {
                let (add, subtract) = &*steps;
                let Event { key: Some(key), value: Some(change), timestamp, headers } = event else {
                    return context.skip();
                };
                let before = store.get(context, &key)?;
                let (old, then) = before.map_or((None, -1), |stored| (Some(stored.value), stored.timestamp));
                let timestamp = timestamp.max(then);
                let mut new = old.clone();
                if let (Some(value), Some(so_far)) = (&change.old, new.take_if(|_| change.old.is_some())) {
                    new = Some(subtract(&key, value, so_far));
                }
                if let Some(value) = &change.new {
                    new = Some(add(&key, value, new));
                }
                store.put(context, &key, new.as_ref(), timestamp);
                context.forward(Event { key: Some(key), value: Some(Change { new, old }), timestamp, headers })
            }
        });
        let node = graph.processor("table-aggregate", &[source], &[name], make);
        drop(graph);
        Table::new(&self.graph, node, View::stored(name))
    }
}
