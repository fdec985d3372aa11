//! Nodes that a function is all of, and the sources.

use crate::streams::{
    context::{Context, Done, Process, Slot, Wiring},
    error::Failure,
    event::Event,
    plan::Make,
    serde::Serde,
};
use std::{marker::PhantomData, sync::Arc};

/// Makes nodes that are one function.
pub(in crate::streams) fn each<K: 'static, V: 'static>(
    function: impl Fn(&mut Context, Event<K, V>) -> Done + Send + Sync + 'static,
) -> Make {
    let function = Arc::new(function);
    node(move |_| {
        let function = function.clone();
        move |context: &mut Context, event| function(context, event)
    })
}

/// Makes nodes that are a function of each task's own, which keeps what it knows.
pub(in crate::streams) fn node<K: 'static, V: 'static, F>(
    function: impl Fn(&Wiring<'_>) -> F + Send + Sync + 'static,
) -> Make
where
    F: FnMut(&mut Context, Event<K, V>) -> Done + Send + 'static,
{
    Arc::new(move |wiring| Slot::new(Own(function(wiring))))
}

/// A node that is one function.
struct Own<F>(F);

impl<K, V, F> Process<K, V> for Own<F>
where
    F: FnMut(&mut Context, Event<K, V>) -> Done + Send,
{
    fn process(&mut self, context: &mut Context, event: Event<K, V>) -> Done {
        (self.0)(context, event)
    }
}

/// Makes sources: they read keys and values out of the bytes of records.
pub(in crate::streams) fn source<K: Serde, V: Serde>() -> Make {
    Arc::new(|_| Slot::new(Source::<K, V>(PhantomData)))
}

struct Source<K, V>(PhantomData<fn() -> (K, V)>);

impl<K: Serde, V: Serde> Process<Vec<u8>, Vec<u8>> for Source<K, V> {
    fn process(&mut self, context: &mut Context, event: Event<Vec<u8>, Vec<u8>>) -> Done {
        context.forward(read::<K, V>(event)?)
    }
}

/// Reads the key and the value.
pub(in crate::streams) fn read<K: Serde, V: Serde>(event: Event<Vec<u8>, Vec<u8>>) -> Result<Event<K, V>, Failure> {
    let Event { key, value, timestamp, headers } = event;
    let key = key.map(|key| K::from_bytes(&key)).transpose().map_err(|why| Failure::unreadable("the key", why))?;
    let value = value.map(|value| V::from_bytes(&value)).transpose();
    Ok(Event { key, value: value.map_err(|why| Failure::unreadable("the value", why))?, timestamp, headers })
}
