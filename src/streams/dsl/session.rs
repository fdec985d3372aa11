//! Sessions: one value for each key and session. A record that brings sessions together deletes them and makes one of them.
//!
//! The time of a result is the end of its session. A record whose session has closed is left out and counted.

use super::{Getter, SessionStream, Table, View, Wiring, node};
use crate::streams::{
    context::{Context, Done},
    event::{Change, Event, Session},
    graph::lock,
    serde::Serde,
    store::{Entry, Layout, SessionStore, StoreSpec, Times},
    window,
};
use std::sync::Arc;

impl<K: Serde, V: Serde> SessionStream<K, V> {
    /// How many records each session has, in the store `name`.
    pub fn count(&self, name: &str) -> Table<Session<K>, i64> {
        self.fold(name, || Some(0), |_, _, count| count.map(|count| count + 1), |_, a, b| Some(a? + b?))
    }

    /// The records of each session made into one value by twos, in the store `name`: `reduce` gets what was made so far, and the next.
    pub fn reduce(&self, name: &str, reduce: impl Fn(&V, &V) -> V + Send + Sync + 'static) -> Table<Session<K>, V> {
        let reduce = Arc::new(reduce);
        let merge = reduce.clone();
        let add = move |_: &K, value: Option<&V>, so_far: Option<V>| match (so_far, value) {
            (Some(so_far), Some(value)) => Some(reduce(&so_far, value)),
            (None, value) => value.cloned(),
            (_, None) => None,
        };
        self.fold(
            name,
            || None,
            add,
            move |_, a, b| match (a, b) {
                (Some(a), Some(b)) => Some(merge(&a, &b)),
                (a, b) => a.or(b),
            },
        )
    }

    /// The records of each session gathered into a value that begins as `initial`, in the store `name`. `merge` makes one value
    /// of those of two sessions.
    pub fn aggregate<A: Serde>(
        &self,
        name: &str,
        initial: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        merge: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
    ) -> Table<Session<K>, A> {
        let add = move |key: &K, value: Option<&V>, so_far: Option<A>| Some(add(key, value?, so_far?));
        self.fold(name, move || Some(initial()), add, move |key, a, b| Some(merge(key, a?, b?)))
    }

    /// `add` answers `None` where a record has no value, and it needs one.
    fn fold<A: Serde>(
        &self,
        name: &str,
        initial: impl Fn() -> Option<A> + Send + Sync + 'static,
        add: impl Fn(&K, Option<&V>, Option<A>) -> Option<A> + Send + Sync + 'static,
        merge: impl Fn(&K, Option<A>, Option<A>) -> Option<A> + Send + Sync + 'static,
    ) -> Table<Session<K>, A> {
        lock(&self.stream.graph).claim(name);
        let stream = self.stream.keyed(name);
        let window::Sessions { gap, grace } = self.sessions;
        let mut graph = lock(&stream.graph);
        let times = Times::keeping(gap.saturating_add(grace));
        graph.store(StoreSpec { name: name.into(), layout: Layout::Session(times) });
        let (store, steps) = (name.to_string(), Arc::new((initial, add, merge)));
        let make = node(move |wiring| {
            let (store, steps) = (SessionStore::<K, A>::new(wiring.store(&store)), steps.clone());
            move |context: &mut Context, event: Event<K, V>| {
                let (initial, add, merge) = &*steps;
                let Some(key) = event.key else { return context.skip() };
                let time = event.timestamp;
                let closed = store.advance(context, time)?.saturating_sub(grace).saturating_sub(gap);
                let found = store.find(context, &key, time.saturating_sub(gap), time.saturating_add(gap))?;
                let (mut session, mut so_far) = (Session { key: key.clone(), start: time, end: time }, initial());
                for Entry { key: other, stored } in &found {
                    session.start = session.start.min(other.start);
                    session.end = session.end.max(other.end);
                    so_far = merge(&key, so_far, Some(stored.value.clone()));
                }
                if session.end < closed {
                    return context.late();
                }
                let Some(value) = add(&key, event.value.as_ref(), so_far) else { return context.skip() };
                // One that is of this time alone stays, and gets another value.
                if (session.start, session.end) != (time, time) {
                    for Entry { key: other, stored } in found {
                        store.put(context, &other, None);
                        forward(context, other, None, Some(stored.value))?;
                    }
                }
                store.put(context, &session, Some(&value));
                forward(context, session, Some(value), None)
            }
        });
        let node = graph.processor("session", &[stream.node], &[name], make);
        drop(graph);
        Table::new(&stream.graph, node, View::sessions(name)).closing(Some(gap.saturating_add(grace)))
    }
}

/// Hands on the change of a session.
fn forward<K: Serde, A: Serde>(context: &mut Context, session: Session<K>, new: Option<A>, old: Option<A>) -> Done {
    let timestamp = session.end;
    context.forward(Event::new(session, Change { new, old }, timestamp))
}

impl<K: Serde, V: Serde> View<Session<K>, V> {
    /// The values of a store of sessions.
    fn sessions(name: &str) -> View<Session<K>, V> {
        let store = name.to_string();
        let make = move |wiring: &Wiring<'_>| -> Getter<Session<K>, V> {
            let store = SessionStore::new(wiring.store(&store));
            Box::new(move |context, session| store.get(context, session))
        };
        View { stores: vec![name.into()], make: Arc::new(make) }
    }
}
