//! Joins with tables: each record of a stream with the value that its key has at that time, and two tables with each other.

use super::{Getter, GlobalTable, MakeGetter, Stream, Table, View, Wiring, node};
use crate::streams::{
    context::Context,
    error::Failure,
    event::{Change, Event},
    graph::lock,
    serde::Serde,
    store::{Stored, read_value},
};
use std::sync::Arc;

impl<K: Serde, V: Serde> Stream<K, V> {
    /// Joins each record with the value that its key has in a table, if it has one. `name` names the topic that a stream whose keys
    /// may have changed goes through first.
    pub fn join_table<W: Clone + Send + Sync + 'static, O: Clone + Send + 'static>(
        &self,
        name: &str,
        table: &Table<K, W>,
        join: impl Fn(&V, &W) -> O + Send + Sync + 'static,
    ) -> Stream<K, O> {
        self.with_table(name, table, false, move |value, other| Some(join(value, other?)))
    }

    /// The same for all records.
    pub fn left_join_table<W: Clone + Send + Sync + 'static, O: Clone + Send + 'static>(
        &self,
        name: &str,
        table: &Table<K, W>,
        join: impl Fn(&V, Option<&W>) -> O + Send + Sync + 'static,
    ) -> Stream<K, O> {
        self.with_table(name, table, true, move |value, other| Some(join(value, other)))
    }

    fn with_table<W: Clone + Send + Sync + 'static, O: Clone + Send + 'static>(
        &self,
        name: &str,
        table: &Table<K, W>,
        left: bool,
        join: impl Fn(&V, Option<&W>) -> Option<O> + Send + Sync + 'static,
    ) -> Stream<K, O> {
        if !Arc::ptr_eq(&self.graph, &table.graph) {
            let problem = format!("{name} joins streams and tables of different topologies");
            return Stream::impossible(&self.graph, problem);
        }
        lock(&self.graph).claim(name);
        let stream = self.keyed_with(name, left);
        lock(&self.graph).join(name, &[stream.node, table.node]);
        stream.look_up(&table.view, left, |key, _| key.cloned(), join)
    }

    /// Joins each record with the value that a global table has for the key that `key` finds in it, if there is one.
    pub fn join_global<L: Serde, W: Serde, O: Clone + Send + 'static>(
        &self,
        table: &GlobalTable<L, W>,
        key: impl Fn(Option<&K>, &V) -> Option<L> + Send + Sync + 'static,
        join: impl Fn(&V, &W) -> O + Send + Sync + 'static,
    ) -> Stream<K, O> {
        self.look_up(&table.view(), false, key, move |value, other| Some(join(value, other?)))
    }

    /// The same for all records.
    pub fn left_join_global<L: Serde, W: Serde, O: Clone + Send + 'static>(
        &self,
        table: &GlobalTable<L, W>,
        key: impl Fn(Option<&K>, &V) -> Option<L> + Send + Sync + 'static,
        join: impl Fn(&V, Option<&W>) -> O + Send + Sync + 'static,
    ) -> Stream<K, O> {
        self.look_up(&table.view(), true, key, move |value, other| Some(join(value, other)))
    }

    /// Looks a value up for each record, and hands on what `join` makes of both.
    fn look_up<L: Serde, W: Clone + Send + Sync + 'static, O: Clone + Send + 'static>(
        &self,
        view: &View<L, W>,
        left: bool,
        key: impl Fn(Option<&K>, &V) -> Option<L> + Send + Sync + 'static,
        join: impl Fn(&V, Option<&W>) -> Option<O> + Send + Sync + 'static,
    ) -> Stream<K, O> {
        let stores: Vec<&str> = view.stores.iter().map(String::as_str).collect();
        let (getter, steps) = (view.make.clone(), Arc::new((key, join)));
        let make = node(move |wiring| {
            let (get, steps) = (getter(wiring), steps.clone());
            move |context: &mut Context, event: Event<K, V>| {
                let (key, join) = &*steps;
                let Some(value) = &event.value else { return context.skip() };
                let other = match key(event.key.as_ref(), value) {
                    Some(key) => get(context, &key)?,
                    None if left => None,
                    None => return context.skip(),
                };
                match join(value, other.as_ref().map(|stored| &stored.value)) {
                    Some(joined) => context.forward(event.with_value(Some(joined))),
                    None => Ok(()),
                }
            }
        });
        let node = lock(&self.graph).processor("join-table", &[self.node], &stores, make);
        Stream::new(&self.graph, node, self.rekeyed)
    }
}

impl<K: Serde, V: Serde> GlobalTable<K, V> {
    /// The values in the state of the whole process.
    fn view(&self) -> View<K, V> {
        let name = self.name.clone();
        let make = move |wiring: &Wiring<'_>| -> Getter<K, V> {
            let state = wiring.global(&name);
            Box::new(move |_, key| {
                let stored = state.get(0, &key.to_bytes()).map_err(Failure::state)?;
                stored.map(|stored| read_value(&stored)).transpose()
            })
        };
        View { stores: Vec::new(), make: Arc::new(make) }
    }
}

impl<K: Serde, V: Clone + Send + Sync + 'static> Table<K, V> {
    /// Joins two tables: the keys that both have.
    pub fn join<W: Clone + Send + Sync + 'static, O: Clone + Send + Sync + 'static>(
        &self,
        name: &str,
        right: &Table<K, W>,
        join: impl Fn(&V, &W) -> O + Send + Sync + 'static,
    ) -> Table<K, O> {
        self.join_tables(name, right, move |left, right| Some(join(left?, right?)))
    }

    /// Joins two tables: the keys that the left has.
    pub fn left_join<W: Clone + Send + Sync + 'static, O: Clone + Send + Sync + 'static>(
        &self,
        name: &str,
        right: &Table<K, W>,
        join: impl Fn(&V, Option<&W>) -> O + Send + Sync + 'static,
    ) -> Table<K, O> {
        self.join_tables(name, right, move |left, right| Some(join(left?, right)))
    }

    /// Joins two tables: the keys that either has.
    pub fn outer_join<W: Clone + Send + Sync + 'static, O: Clone + Send + Sync + 'static>(
        &self,
        name: &str,
        right: &Table<K, W>,
        join: impl Fn(Option<&V>, Option<&W>) -> O + Send + Sync + 'static,
    ) -> Table<K, O> {
        let join =
            move |left: Option<&V>, right: Option<&W>| (left.is_some() || right.is_some()).then(|| join(left, right));
        self.join_tables(name, right, join)
    }

    fn join_tables<W: Clone + Send + Sync + 'static, O: Clone + Send + Sync + 'static>(
        &self,
        name: &str,
        right: &Table<K, W>,
        join: impl Fn(Option<&V>, Option<&W>) -> Option<O> + Send + Sync + 'static,
    ) -> Table<K, O> {
        if !Arc::ptr_eq(&self.graph, &right.graph) {
            return Table::impossible(&self.graph, format!("{name} joins tables of different topologies"));
        }
        let mut graph = lock(&self.graph);
        graph.claim(name);
        graph.join(name, &[self.node, right.node]);
        let join = Arc::new(join);
        let (one, other) = (join.clone(), join.clone());
        let from_left = side(&right.view.make, move |left, right| one(left, right));
        let from_right = side(&self.view.make, move |right, left| other(left, right));
        fn names<K, V>(table: &Table<K, V>) -> Vec<&str> {
            table.view.stores.iter().map(String::as_str).collect()
        }
        let left_node = graph.processor("table-join-left", &[self.node], &names(right), from_left);
        let right_node = graph.processor("table-join-right", &[right.node], &names(self), from_right);
        let merge = super::each(|context, event: Event<K, Change<O>>| context.forward(event));
        let node = graph.processor("table-join", &[left_node, right_node], &[], merge);
        drop(graph);
        let (left, right_getter) = (self.view.make.clone(), right.view.make.clone());
        let make = move |wiring: &Wiring<'_>| -> Getter<K, O> {
            let (left, right, join) = (left(wiring), right_getter(wiring), join.clone());
            Box::new(move |context, key| {
                let (left, right) = (left(context, key)?, right(context, key)?);
                let times = (left.as_ref().map(|one| one.timestamp), right.as_ref().map(|one| one.timestamp));
                let timestamp = times.0.max(times.1).unwrap_or(-1);
                let value = join(left.as_ref().map(|one| &one.value), right.as_ref().map(|one| &one.value));
                Ok(value.map(|value| Stored { value, timestamp }))
            })
        };
        let stores = [self.view.stores.as_slice(), right.view.stores.as_slice()].concat();
        let closes_after = self.closes_after.max(right.closes_after);
        Table::new(&self.graph, node, View { stores, make: Arc::new(make) }).closing(closes_after)
    }
}

/// Joins the changes of one table with the values of the other.
fn side<
    K: Serde,
    X: Clone + Send + Sync + 'static,
    Y: Clone + Send + Sync + 'static,
    O: Clone + Send + Sync + 'static,
>(
    other: &MakeGetter<K, Y>,
    join: impl Fn(Option<&X>, Option<&Y>) -> Option<O> + Send + Sync + 'static,
) -> crate::streams::plan::Make {
    let (other, join) = (other.clone(), Arc::new(join));
    node(move |wiring| {
        let (get, join) = (other(wiring), join.clone());
        move |context: &mut Context, event: Event<K, Change<X>>| {
            let Event { key: Some(key), value: Some(change), timestamp, headers } = event else {
                return context.skip();
            };
            let other = get(context, &key)?;
            let value = other.as_ref().map(|stored| &stored.value);
            let (new, old) = (join(change.new.as_ref(), value), join(change.old.as_ref(), value));
            // A change that cannot have made or unmade a result is none.
            if other.is_none() && new.is_none() && old.is_none() {
                return Ok(());
            }
            let timestamp = timestamp.max(other.as_ref().map_or(-1, |stored| stored.timestamp));
            context.forward(Event { key: Some(key), value: Some(Change { new, old }), timestamp, headers })
        }
    })
}
