//! Suppression: of the changes of a window only the last one, once the window has closed.

use super::{Getter, Table, View, Wiring, node};
use crate::streams::{
    context::{Context, Done},
    event::{Change, Event, WindowKey},
    graph::lock,
    serde::Serde,
    store::{Buffer, Entry, Layout, StoreSpec, Times},
};
use std::sync::Arc;

impl<K: WindowKey, V: Serde> Table<K, V> {
    /// The last value of each window, once it has closed: when stream time, that of the table's changes, is its end and the grace
    /// of its windows. Until then it waits in the store `name`. What was deleted by then is left out.
    pub fn until_closed(&self, name: &str) -> Table<K, V> {
        let mut graph = lock(&self.graph);
        graph.claim(name);
        graph.store(StoreSpec { name: name.into(), layout: Layout::Session(Times::in_order()) });
        let (store, wait) = (name.to_string(), self.closes_after);
        if wait.is_none() {
            graph.problem(format!("{name} waits for windows to close, which are not in the key of its table"));
        }
        let wait = wait.unwrap_or(0);
        let buffered = store.clone();
        let make = node(move |wiring| {
            let buffer = Buffer::<K, V>::new(wiring.store(&store));
            // The end of the first window that waits, or a time before it.
            let (mut first, mut undone) = (i64::MIN, 0);
            move |context: &mut Context, event: Event<K, Change<V>>| -> Done {
                let (Some(key), Some(change)) = (&event.key, event.value) else { return context.skip() };
                let stream_time = buffer.advance(context, event.timestamp)?;
                buffer.put(context, key, change.new.as_ref(), event.timestamp);
                first = if undone == context.stores.undone() { first.min(key.end()) } else { i64::MIN };
                undone = context.stores.undone();
                let closed = stream_time.saturating_sub(wait);
                if first > closed {
                    return Ok(());
                }
                for Entry { key, stored } in buffer.take_to(context, closed)? {
                    let change = Change { new: Some(stored.value), old: None };
                    context.forward(Event::new(key, change, stored.timestamp))?;
                }
                first = buffer.first(context)?.unwrap_or(i64::MAX);
                Ok(())
            }
        });
        let node = graph.processor("until-closed", &[self.node], &[name], make);
        drop(graph);
        let parent = self.view.make.clone();
        let look_up = move |wiring: &Wiring<'_>| -> Getter<K, V> {
            let (parent, buffer) = (parent(wiring), Buffer::<K, V>::new(wiring.store(&buffered)));
            Box::new(move |context, key| if buffer.has(context, key)? { Ok(None) } else { parent(context, key) })
        };
        let stores = [self.view.stores.as_slice(), &[name.to_string()]].concat();
        Table::new(&self.graph, node, View { stores, make: Arc::new(look_up) }).closing(self.closes_after)
    }
}
