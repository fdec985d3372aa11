//! Sliding windows: a window for every set of records of a key that are within a distance of each other.
//!
//! A record at `t` has a left window, which ends at `t` (included), and a right one, which begins at `t + 1` and is made once
//! a record falls in it. A window's value has the time of its last record. What is earlier than the distance shares the
//! window that begins at 0. It is done as Kafka Streams does it, in the same order.

use super::fold::{Fold, Folded, forward};
use crate::streams::{
    context::{Context, Done},
    event::{Event, Windowed},
    serde::Serde,
    store::{Entry, Stored, WindowStore},
    window::Around,
};

pub(super) struct SlidingWindows<K, V, A> {
    store: WindowStore<K, A>,
    fold: Fold<K, V, A>,
    windows: Around,
}

/// What the windows around a record tell of its neighbours.
struct Found<A> {
    /// The starts of all windows that were found.
    starts: Vec<i64>,
    /// The value of the last window before the left one of the record.
    left: Option<Stored<A>>,
    /// The value of the last window that both the record and later ones may fall in.
    right: Option<Stored<A>>,
    has_left: bool,
    has_right: bool,
    /// The time of the last record before this one.
    previous: Option<i64>,
}

impl<K: Serde, V: Serde, A: Serde> SlidingWindows<K, V, A> {
    pub(super) fn new(store: WindowStore<K, A>, fold: Fold<K, V, A>, windows: Around) -> Self {
        SlidingWindows { store, fold, windows }
    }

    pub(super) fn process(&self, context: &mut Context, event: Event<K, V>) -> Done {
        let (Some(key), Some(_)) = (&event.key, &event.value) else { return context.skip() };
        let (time, difference) = (event.timestamp, self.windows.difference);
        let closed = self.store.advance(context, time)?.saturating_sub(self.windows.grace);
        if time.saturating_add(difference) < closed {
            return context.late();
        }
        if time < difference {
            self.early(context, &event, key, closed)
        } else {
            self.later(context, &event, key, closed)
        }
    }

    fn later(&self, context: &mut Context, event: &Event<K, V>, key: &K, closed: i64) -> Done {
        let (time, difference) = (event.timestamp, self.windows.difference);
        let from = time.saturating_sub(difference.saturating_mul(2)).max(0);
        let mut found =
            Found { starts: vec![], left: None, right: None, has_left: false, has_right: false, previous: None };
        // From the latest window back to the first that ends before the record.
        for Entry { key: Windowed { start, .. }, stored } in
            self.store.fetch(context, key, from, time.saturating_add(1))?.into_iter().rev()
        {
            found.starts.push(start);
            let (end, last) = (start.saturating_add(difference), stored.timestamp);
            if start == time.saturating_add(1) {
                found.has_right = true;
            } else if end > time {
                if found.right.is_none() {
                    found.right = Some(stored.clone());
                }
                self.update(context, event, key, start, Some(stored), closed)?;
            } else if end == time {
                found.has_left = true;
                self.update(context, event, key, start, Some(stored), closed)?;
                if last >= time {
                    // There was a record of this time: it has its windows.
                    return Ok(());
                }
                found.previous = Some(last);
            } else {
                found.previous = Some(last);
                found.left = Some(stored);
                break;
            }
        }
        if let Some(previous) = found.previous {
            let start = previous.saturating_add(1);
            if !found.starts.contains(&start) && start.saturating_add(difference) >= time {
                self.update(context, event, key, start, None, closed)?;
            }
        }
        if !found.has_left {
            let reaches = found.previous.is_some_and(|previous| time - difference <= previous);
            let left = found.left.filter(|_| reaches).map(|left| Stored { timestamp: time, ..left });
            self.update(context, event, key, time - difference, left, closed)?;
        }
        if !found.has_right {
            self.make_right(context, event, key, found.right)?;
        }
        Ok(())
    }

    /// A record before the first full window: all such share the window from 0.
    fn early(&self, context: &mut Context, event: &Event<K, V>, key: &K, closed: i64) -> Done {
        let time = event.timestamp;
        let (mut shared, mut right, mut has_right, mut previous) = (None, None, false, None);
        let mut starts = Vec::new();
        for Entry { key: Windowed { start, .. }, stored } in
            self.store.fetch(context, key, 0, time.saturating_add(1))?
        {
            starts.push(start);
            if start == 0 {
                previous = Some(stored.timestamp).filter(|last| *last < time);
                shared = Some(stored);
            } else if start <= time {
                right = Some(stored.clone());
                self.update(context, event, key, start, Some(stored), closed)?;
            } else {
                has_right = true;
            }
        }
        let right = right.or_else(|| shared.clone().filter(|shared| shared.timestamp > time));
        if !has_right {
            self.make_right(context, event, key, right)?;
        }
        if let Some(start) = previous.map(|previous| previous.saturating_add(1)).filter(|start| !starts.contains(start))
        {
            self.update(context, event, key, start, None, closed)?;
        }
        self.update(context, event, key, 0, shared, closed)
    }

    /// Makes the window behind the record, where later ones fall in it.
    fn make_right(&self, context: &mut Context, event: &Event<K, V>, key: &K, right: Option<Stored<A>>) -> Done {
        let Some(right) = right.filter(|right| right.timestamp > event.timestamp) else { return Ok(()) };
        let start = event.timestamp.saturating_add(1);
        self.store.put(context, key, start, Some(&right.value), right.timestamp);
        self.forward(context, event, key, start, Folded { new: right.value, old: None }, right.timestamp)
    }

    /// Adds the record to a window.
    fn update(
        &self,
        context: &mut Context,
        event: &Event<K, V>,
        key: &K,
        start: i64,
        before: Option<Stored<A>>,
        closed: i64,
    ) -> Done {
        if start.saturating_add(self.windows.difference) < closed {
            return context.late();
        }
        let timestamp = before.as_ref().map_or(event.timestamp, |stored| stored.timestamp.max(event.timestamp));
        let Some(folded) = (self.fold)(key, event.value.as_ref(), before.map(|stored| stored.value)) else {
            return context.skip();
        };
        self.store.put(context, key, start, Some(&folded.new), timestamp);
        self.forward(context, event, key, start, folded, timestamp)
    }

    fn forward(
        &self,
        context: &mut Context,
        event: &Event<K, V>,
        key: &K,
        start: i64,
        folded: Folded<A>,
        timestamp: i64,
    ) -> Done {
        let end = start.saturating_add(self.windows.difference);
        forward(context, event, Windowed { key: key.clone(), start, end }, folded, timestamp)
    }
}
