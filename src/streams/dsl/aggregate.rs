//! Streams that are grouped: one value for each key, made of all its records.
//!
//! A record without a key or a value is left out and counted. The time of a result is the highest of its records.

use super::{GroupedStream, SessionStream, Stream, Table, View, WindowedStream, each, node, table::forward_change};
use crate::streams::{
    context::Context,
    event::Event,
    graph::lock,
    serde::Serde,
    store::{KeyValue, StoreSpec},
    window::{Sessions, Windows},
};
use std::sync::Arc;

impl<K: Serde, V: Serde> Stream<K, V> {
    /// Groups the records by their keys. Where those may have changed, they go through a topic, named by what is made of the
    /// groups.
    pub fn group_by_key(&self) -> GroupedStream<K, V> {
        GroupedStream { stream: self.clone() }
    }

    /// Groups the records by a new key, through a topic that is named by what is made of the groups.
    pub fn group_by<L: Serde>(&self, key: impl Fn(Option<&K>, &V) -> L + Send + Sync + 'static) -> GroupedStream<L, V> {
        self.select_key(key).group_by_key()
    }

    /// The stream in the partitions of its keys, under a name that has been claimed; without those that have no key.
    pub(super) fn keyed(&self, name: &str) -> Stream<K, V> {
        self.keyed_with(name, false)
    }

    /// The same, with those that have no key or without them.
    pub(super) fn keyed_with(&self, name: &str, without_key: bool) -> Stream<K, V> {
        if !self.rekeyed {
            return self.clone();
        }
        if without_key {
            return self.repartition_as(name, None);
        }
        let with_key = each(|context, event: Event<K, V>| match event.key {
            Some(_) => context.forward(event),
            None => context.skip(),
        });
        let node = lock(&self.graph).processor("with-key", &[self.node], &[], with_key);
        Stream::new(&self.graph, node, true).repartition_as(name, None)
    }
}

impl<K: Serde, V: Serde> GroupedStream<K, V> {
    /// Windows of time for each key.
    pub fn window(&self, windows: impl Into<Windows>) -> WindowedStream<K, V> {
        WindowedStream { stream: self.stream.clone(), windows: windows.into() }
    }

    /// Sessions of each key.
    pub fn sessions(&self, sessions: Sessions) -> SessionStream<K, V> {
        SessionStream { stream: self.stream.clone(), sessions }
    }

    /// How many records each key has, in the store `name`.
    pub fn count(&self, name: &str) -> Table<K, i64> {
        self.aggregate(name, || 0, |_, _, count| count + 1)
    }

    /// The records of each key made into one value by twos, in the store `name`: `reduce` gets what was made so far, and the next.
    pub fn reduce(&self, name: &str, reduce: impl Fn(&V, &V) -> V + Send + Sync + 'static) -> Table<K, V> {
        self.fold(name, move |_, value, so_far| match so_far {
            Some(so_far) => Folded { new: reduce(&so_far, value), old: Some(so_far) },
            None => Folded { new: value.clone(), old: None },
        })
    }

    /// The records of each key gathered into a value that begins as `initial`, in the store `name`.
    pub fn aggregate<A: Serde>(
        &self,
        name: &str,
        initial: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
    ) -> Table<K, A> {
        self.fold(name, move |key, value, so_far| {
            // The first change is one of the initial value, as in Kafka Streams.
            let old = so_far.unwrap_or_else(&initial);
            Folded { new: add(key, value, old.clone()), old: Some(old) }
        })
    }

    fn fold<A: Serde>(
        &self,
        name: &str,
        fold: impl Fn(&K, &V, Option<A>) -> Folded<A> + Send + Sync + 'static,
    ) -> Table<K, A> {
        lock(&self.stream.graph).claim(name);
        let stream = self.stream.keyed(name);
        let mut graph = lock(&stream.graph);
        graph.store(StoreSpec::key_value(name));
        let (store, fold) = (name.to_string(), Arc::new(fold));
        let make = node(move |wiring| {
            let (store, fold) = (KeyValue::<K, A>::new(wiring.store(&store)), fold.clone());
            move |context: &mut Context, event: Event<K, V>| {
                let (Some(key), Some(value)) = (&event.key, &event.value) else { return context.skip() };
                let before = store.get(context, key)?;
                let timestamp = before.as_ref().map_or(event.timestamp, |stored| stored.timestamp.max(event.timestamp));
                let Folded { new, old } = fold(key, value, before.map(|stored| stored.value));
                store.put(context, key, Some(&new), timestamp);
                forward_change(context, Event { timestamp, ..event.with_value(Some(new)) }, old)
            }
        });
        let node = graph.processor("aggregate", &[stream.node], &[name], make);
        drop(graph);
        Table::new(&stream.graph, node, View::stored(name))
    }
}

/// What becomes of a key's value with a record.
struct Folded<A> {
    new: A,
    old: Option<A>,
}
