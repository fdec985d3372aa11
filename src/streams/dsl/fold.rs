//! What windows of every kind do with a record: the next value out of the last one.

use crate::streams::{
    context::{Context, Done},
    event::{Change, Event, Windowed},
    serde::Serde,
};
use std::sync::Arc;

/// Makes the next value of a window.
pub(super) type Fold<K, V, A> = Arc<dyn Fn(&K, Option<&V>, Option<A>) -> Option<Folded<A>> + Send + Sync>;

/// What becomes of a window's value with a record.
pub(super) struct Folded<A> {
    pub(super) new: A,
    pub(super) old: Option<A>,
}

/// Hands on the change of a window.
pub(super) fn forward<K: Serde, V, A: Serde>(
    context: &mut Context,
    event: &Event<K, V>,
    window: Windowed<K>,
    Folded { new, old }: Folded<A>,
    timestamp: i64,
) -> Done {
    let value = Some(Change { new: Some(new), old });
    context.forward(Event { key: Some(window), value, timestamp, headers: event.headers.clone() })
}
