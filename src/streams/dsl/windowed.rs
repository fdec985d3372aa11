//! Tumbling and hopping windows: one value for each key and window.
//!
//! Stream time is that of the records that come here. A record whose window has closed is left out and counted.

use super::{
    Getter, Table, View, WindowedStream, Wiring,
    fold::{Fold, Folded, forward},
    node,
    sliding::SlidingWindows,
};
use crate::streams::{
    context::{Context, Done},
    event::{Event, Windowed},
    graph::lock,
    serde::Serde,
    store::{Layout, StoreSpec, Times, WindowStore},
    window::{Aligned, Windows},
};
use std::sync::Arc;

impl<K: Serde, V: Serde> WindowedStream<K, V> {
    /// How many records each window has, in the store `name`.
    pub fn count(&self, name: &str) -> Table<Windowed<K>, i64> {
        self.fold(name, |_, _, so_far| {
            let count = so_far.unwrap_or(0);
            Some(Folded { new: count + 1, old: Some(count) })
        })
    }

    /// The records of each window made into one value by twos, in the store `name`: `reduce` gets what was made so far, and the next.
    pub fn reduce(&self, name: &str, reduce: impl Fn(&V, &V) -> V + Send + Sync + 'static) -> Table<Windowed<K>, V> {
        self.fold(name, move |_, value, so_far| {
            let value = value?;
            let new = so_far.as_ref().map_or_else(|| value.clone(), |so_far| reduce(so_far, value));
            Some(Folded { new, old: so_far })
        })
    }

    /// The records of each window gathered into a value that begins as `initial`, in the store `name`.
    pub fn aggregate<A: Serde>(
        &self,
        name: &str,
        initial: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
    ) -> Table<Windowed<K>, A> {
        self.fold(name, move |key, value, so_far| {
            let value = value?;
            // The first change is one of the initial value, as in Kafka Streams.
            let old = so_far.unwrap_or_else(&initial);
            Some(Folded { new: add(key, value, old.clone()), old: Some(old) })
        })
    }

    /// `fold` answers `None` where a record has no value, and it needs one.
    fn fold<A: Serde>(
        &self,
        name: &str,
        fold: impl Fn(&K, Option<&V>, Option<A>) -> Option<Folded<A>> + Send + Sync + 'static,
    ) -> Table<Windowed<K>, A> {
        lock(&self.stream.graph).claim(name);
        let stream = self.stream.keyed(name);
        let mut graph = lock(&stream.graph);
        if let Some(problem) = self.windows.problem() {
            graph.problem(format!("{name} {problem}"));
        }
        let times = Times::keeping(self.windows.retention());
        graph.store(StoreSpec { name: name.into(), layout: Layout::Window(times) });
        let fold: Fold<K, V, A> = Arc::new(fold);
        let (store, windows) = (name.to_string(), self.windows);
        let make = match windows {
            Windows::Aligned(windows) => node(move |wiring| {
                let windows =
                    AlignedWindows { store: WindowStore::new(wiring.store(&store)), fold: fold.clone(), windows };
                move |context: &mut Context, event: Event<K, V>| windows.process(context, event)
            }),
            Windows::Around(windows) => node(move |wiring| {
                let windows = SlidingWindows::new(WindowStore::new(wiring.store(&store)), fold.clone(), windows);
                move |context: &mut Context, event: Event<K, V>| windows.process(context, event)
            }),
        };
        let what = if matches!(self.windows, Windows::Aligned(_)) { "window" } else { "sliding-window" };
        let node = graph.processor(what, &[stream.node], &[name], make);
        drop(graph);
        Table::new(&stream.graph, node, View::windows(name)).closing(Some(self.windows.grace()))
    }
}

impl<K: Serde, V: Serde> View<Windowed<K>, V> {
    /// The values of a store of windows.
    fn windows(name: &str) -> View<Windowed<K>, V> {
        let store = name.to_string();
        let make = move |wiring: &Wiring<'_>| -> Getter<Windowed<K>, V> {
            let store = WindowStore::new(wiring.store(&store));
            Box::new(move |context, window| store.get(context, &window.key, window.start))
        };
        View { stores: vec![name.into()], make: Arc::new(make) }
    }
}

struct AlignedWindows<K, V, A> {
    store: WindowStore<K, A>,
    fold: Fold<K, V, A>,
    windows: Aligned,
}

impl<K: Serde, V: Serde, A: Serde> AlignedWindows<K, V, A> {
    fn process(&self, context: &mut Context, event: Event<K, V>) -> Done {
        let Some(key) = &event.key else { return context.skip() };
        let closed = self.store.advance(context, event.timestamp)?.saturating_sub(self.windows.grace);
        for start in self.windows.starts(event.timestamp) {
            let end = start.saturating_add(self.windows.size);
            if end <= closed {
                context.late()?;
                continue;
            }
            let before = self.store.get(context, key, start)?;
            let timestamp = before.as_ref().map_or(event.timestamp, |stored| stored.timestamp.max(event.timestamp));
            let Some(folded) = (self.fold)(key, event.value.as_ref(), before.map(|stored| stored.value)) else {
                return context.skip();
            };
            self.store.put(context, key, start, Some(&folded.new), timestamp);
            let window = Windowed { key: key.clone(), start, end };
            forward(context, &event, window, folded, timestamp)?;
        }
        Ok(())
    }
}
