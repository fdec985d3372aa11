//! Joins of two streams: each record of one with those of the other that have its key and are near in time.
//!
//! Both sides keep their records for as long as others may come to them. In a left or outer join a record that has found no
//! other waits until none can come any more. A record without a key or a value joins nothing; one without a key is a
//! result of its own on a side whose records are all in the result.

use super::{Stream, node};
use crate::streams::{
    context::{Context, Done},
    error::Failure,
    event::Event,
    graph::lock,
    plan::Make,
    serde::Serde,
    store::{Duplicates, Layout, StoreSpec, Times, Waiting, read_value},
    window::JoinWindow,
};
use std::{marker::PhantomData, sync::Arc};

impl<K: Serde, V: Serde> Stream<K, V> {
    /// Joins two streams: a result for each pair of records of one key that are near in time. `name` names its stores and topics.
    pub fn join<W: Serde, O: Clone + Send + 'static>(
        &self,
        name: &str,
        right: &Stream<K, W>,
        window: JoinWindow,
        join: impl Fn(&V, &W) -> O + Send + Sync + 'static,
    ) -> Stream<K, O> {
        let outer = Outer { left: false, right: false };
        self.join_streams(name, right, window, outer, move |left, right| Some(join(left?, right?)))
    }

    /// The same, and a result for each record of the left that found none of the right.
    pub fn left_join<W: Serde, O: Clone + Send + 'static>(
        &self,
        name: &str,
        right: &Stream<K, W>,
        window: JoinWindow,
        join: impl Fn(&V, Option<&W>) -> O + Send + Sync + 'static,
    ) -> Stream<K, O> {
        let outer = Outer { left: true, right: false };
        self.join_streams(name, right, window, outer, move |left, right| Some(join(left?, right)))
    }

    /// The same, and a result for each record of either that found none of the other.
    pub fn outer_join<W: Serde, O: Clone + Send + 'static>(
        &self,
        name: &str,
        right: &Stream<K, W>,
        window: JoinWindow,
        join: impl Fn(Option<&V>, Option<&W>) -> O + Send + Sync + 'static,
    ) -> Stream<K, O> {
        let outer = Outer { left: true, right: true };
        self.join_streams(name, right, window, outer, move |left, right| Some(join(left, right)))
    }

    fn join_streams<W: Serde, O: Clone + Send + 'static>(
        &self,
        name: &str,
        right: &Stream<K, W>,
        window: JoinWindow,
        outer: Outer,
        join: impl Fn(Option<&V>, Option<&W>) -> Option<O> + Send + Sync + 'static,
    ) -> Stream<K, O> {
        if !Arc::ptr_eq(&self.graph, &right.graph) {
            return Stream::impossible(&self.graph, format!("{name} joins streams of different topologies"));
        }
        let [left_name, right_name, outer_name] = ["left", "right", "outer"].map(|side| format!("{name}-{side}"));
        {
            let mut graph = lock(&self.graph);
            [name, &left_name, &right_name, &outer_name].iter().for_each(|name| graph.claim(name));
        }
        let left = self.keyed_with(&left_name, outer.left);
        let right = right.keyed_with(&right_name, outer.right);
        let mut graph = lock(&self.graph);
        graph.join(name, &[left.node, right.node]);
        // Kafka Streams keeps no more than the first of these, so that without a grace it loses what is at the edge of the window:
        // all of it, where only equal times are joined.
        let kept = window.before.saturating_add(window.after).saturating_add(window.grace);
        let kept = kept.max(window.before.max(window.after).saturating_add(1));
        for store in [&left_name, &right_name] {
            graph.store(StoreSpec { name: store.clone(), layout: Layout::Duplicates(Times::keeping(kept)) });
        }
        let waits = outer.left || outer.right;
        let mut stores = vec![left_name.as_str(), &right_name];
        if waits {
            graph.store(StoreSpec { name: outer_name.clone(), layout: Layout::Duplicates(Times::in_order()) });
            stores.push(&outer_name);
        }
        let to_left = with_side::<K, V, V, W>(&left_name, Side::<V, W>::Left);
        let left = graph.processor("join-left", &[left.node], &[&left_name], to_left);
        let to_right = with_side::<K, W, V, W>(&right_name, Side::<V, W>::Right);
        let right = graph.processor("join-right", &[right.node], &[&right_name], to_right);
        let join: Join<V, W, O> = Arc::new(join);
        let names = [left_name.clone(), right_name.clone(), outer_name.clone()];
        let make = node(move |wiring| {
            let [left, right, outer_store] = &names;
            let mut joining = Joining::<K, V, W, O> {
                left: Duplicates(wiring.store(left)),
                right: Duplicates(wiring.store(right)),
                waiting: waits.then(|| Duplicates(wiring.store(outer_store))),
                outer,
                window,
                join: join.clone(),
                stream_time: -1,
                types: PhantomData,
            };
            move |context: &mut Context, event: Event<K, Side<V, W>>| joining.process(context, event)
        });
        let node = graph.processor("join", &[left, right], &stores, make);
        drop(graph);
        Stream::new(&self.graph, node, false)
    }
}

/// A record of one of two streams.
#[derive(Clone)]
enum Side<V, W> {
    Left(V),
    Right(W),
}

/// Says which side records are from. One without a value is not kept, but tells its side's store the time, as in Kafka Streams.
fn with_side<K: Serde, X: Serde, V: Serde, W: Serde>(store: &str, side: fn(X) -> Side<V, W>) -> Make {
    let store = store.to_string();
    node(move |wiring| {
        let store = wiring.store(&store);
        move |context: &mut Context, mut event: Event<K, X>| {
            let value = event.value.take().map(side);
            if event.key.is_some() && value.is_none() {
                context.stores.observe(store, event.timestamp);
            }
            context.forward(event.with_value(value))
        }
    })
}

/// On which side all records are in the result.
#[derive(Clone, Copy)]
struct Outer {
    left: bool,
    right: bool,
}

type Join<V, W, O> = Arc<dyn Fn(Option<&V>, Option<&W>) -> Option<O> + Send + Sync>;

/// What the keys of waiting records begin with, by their side: the right comes first where times are equal.
const RIGHT: u8 = b'0';
const LEFT: u8 = b'1';

struct Joining<K, V, W, O> {
    left: Duplicates,
    right: Duplicates,
    /// Records of outer sides that have found no other.
    waiting: Option<Duplicates>,
    outer: Outer,
    window: JoinWindow,
    join: Join<V, W, O>,
    stream_time: i64,
    types: PhantomData<fn(K)>,
}

impl<K: Serde, V: Serde, W: Serde, O: Clone + Send + 'static> Joining<K, V, W, O> {
    fn process(&mut self, context: &mut Context, mut event: Event<K, Side<V, W>>) -> Done {
        self.stream_time = self.left.advance(context, event.timestamp)?;
        match event.value.take() {
            None => context.skip(),
            Some(Side::Left(value)) => self.process_left(context, event.with_value(Some(value))),
            Some(Side::Right(value)) => self.process_right(context, event.with_value(Some(value))),
        }
    }

    fn process_left(&mut self, context: &mut Context, event: Event<K, V>) -> Done {
        let (window, outer) = (self.window, self.outer.left);
        let join = self.join.clone();
        let one = move |value: &V, other: Option<&W>| join(Some(value), other);
        let sides = Sides { this: self.left, other: self.right, this_tag: LEFT, other_tag: RIGHT, outer };
        self.process_side(context, event, sides, window.before, window.after, one)
    }

    fn process_right(&mut self, context: &mut Context, event: Event<K, W>) -> Done {
        let (window, outer) = (self.window, self.outer.right);
        let join = self.join.clone();
        let one = move |value: &W, other: Option<&V>| join(other, Some(value));
        let sides = Sides { this: self.right, other: self.left, this_tag: RIGHT, other_tag: LEFT, outer };
        self.process_side(context, event, sides, window.after, window.before, one)
    }

    /// Joins a record with those of the other side that are at most so much `before` and `after` it.
    fn process_side<X: Serde, Y: Serde>(
        &mut self,
        context: &mut Context,
        event: Event<K, X>,
        sides: Sides,
        before: i64,
        after: i64,
        join: impl Fn(&X, Option<&Y>) -> Option<O>,
    ) -> Done {
        let Event { key, value: Some(value), timestamp, headers } = event else { return context.skip() };
        let forward = |context: &mut Context, key: Option<K>, value: Option<O>, timestamp| match value {
            Some(_) => context.forward(Event { key, value, timestamp, headers: headers.clone() }),
            None => Ok(()),
        };
        let Some(key) = key else {
            return if sides.outer { forward(context, None, join(&value, None), timestamp) } else { context.skip() };
        };
        if timestamp == self.stream_time {
            self.give_up_waiting(context, after, &|context, key, value, time| {
                forward(context, Some(key), value, time)
            })?;
        }
        let bytes = key.to_bytes();
        let until = timestamp.saturating_add(after);
        let others = sides.other.fetch::<Y>(context, &bytes, timestamp.saturating_sub(before), until)?;
        let alone = others.is_empty();
        for other in others {
            if let Some(waiting) = self.waiting {
                waiting.delete(context, &tagged(sides.other_tag, &bytes), other.timestamp)?;
            }
            let time = timestamp.max(other.timestamp);
            forward(context, Some(key.clone()), join(&value, Some(&other.value)), time)?;
        }
        match self.waiting.filter(|_| alone && sides.outer) {
            Some(waiting) if until >= self.stream_time => {
                let first = waiting.time(context)?.map_or(timestamp, |first| first.min(timestamp));
                waiting.set_time(context, Some(first))?;
                waiting.add(context, &tagged(sides.this_tag, &bytes), timestamp, &value)?;
            }
            Some(_) => forward(context, Some(key), join(&value, None), timestamp)?,
            None => {}
        }
        sides.this.add(context, &bytes, timestamp, &value)
    }

    /// Makes results of those that wait and that no other can come to any more. Where both sides wait, the order and the
    /// moments are those of Kafka Streams.
    fn give_up_waiting(&mut self, context: &mut Context, after: i64, forward: &Forward<'_, K, O>) -> Done {
        let Some(waiting) = self.waiting else { return Ok(()) };
        let JoinWindow { before: window_before, after: window_after, grace } = self.window;
        let open = |time: i64, look: i64| time.saturating_add(look).saturating_add(grace) >= self.stream_time;
        // Kafka Streams keeps the time of the last record that it looked at, before which others may wait.
        if waiting.time(context)?.is_none_or(|first| open(first, after)) {
            return Ok(());
        }
        let (mut left_open, mut right_open, mut last, mut given_up) = (false, false, None, Vec::new());
        waiting.all(context, |one| {
            last = Some(one.time);
            if left_open && right_open {
                return false;
            }
            let is_left = one.key.first() == Some(&LEFT);
            let (side_open, look) =
                if is_left { (&mut left_open, window_after) } else { (&mut right_open, window_before) };
            if open(one.time, look) {
                *side_open = true;
            } else {
                given_up.push(one);
            }
            true
        })?;
        waiting.set_time(context, last)?;
        for one in given_up {
            let (key, value) = self.alone(&one)?;
            let time = one.time;
            waiting.take(context, one);
            forward(context, key, value, time)?;
        }
        Ok(())
    }

    /// The result of a record that found no other.
    fn alone(&self, one: &Waiting) -> Result<(K, Option<O>), Failure> {
        let (tag, key) = one.key.split_first().ok_or_else(|| Failure::state("a waiting record of no side".into()))?;
        let key = K::from_bytes(key).map_err(Failure::state)?;
        let value = match *tag {
            LEFT => (self.join)(Some(&read_value::<V>(&one.value)?.value), None),
            _ => (self.join)(None, Some(&read_value::<W>(&one.value)?.value)),
        };
        Ok((key, value))
    }
}

type Forward<'a, K, O> = dyn Fn(&mut Context, K, Option<O>, i64) -> Done + 'a;

/// The side that a record came from, and the other one.
struct Sides {
    this: Duplicates,
    other: Duplicates,
    this_tag: u8,
    other_tag: u8,
    outer: bool,
}

fn tagged(tag: u8, key: &[u8]) -> Vec<u8> {
    [&[tag], key].concat()
}
