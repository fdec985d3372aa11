//! Steps that know nothing beyond the record in hand, and processors, which know what they want.

use super::{Stream, each};
use crate::streams::{
    context::{Context, Done, Process, Punctuation, Slot},
    error::Failure,
    event::Event,
    graph::lock,
    store::Stores,
};
use std::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::Arc,
};

impl<K: Clone + Send + 'static, V: Clone + Send + 'static> Stream<K, V> {
    /// A node that is one function.
    fn step<L, W>(
        &self,
        what: &str,
        rekeyed: bool,
        step: impl Fn(&mut Context, Event<K, V>) -> Done + Send + Sync + 'static,
    ) -> Stream<L, W> {
        let node = lock(&self.graph).processor(what, &[self.node], &[], each(step));
        Stream::new(&self.graph, node, self.rekeyed || rekeyed)
    }

    /// Keeps the records that `keep` says yes to.
    pub fn filter(&self, keep: impl Fn(Option<&K>, &V) -> bool + Send + Sync + 'static) -> Stream<K, V> {
        self.step("filter", false, move |context, event| match &event.value {
            Some(value) if !keep(event.key.as_ref(), value) => Ok(()),
            _ => context.forward(event),
        })
    }

    /// Keeps the records that `drop` says no to.
    pub fn filter_not(&self, drop: impl Fn(Option<&K>, &V) -> bool + Send + Sync + 'static) -> Stream<K, V> {
        self.filter(move |key, value| !drop(key, value))
    }

    /// Makes one record of each.
    pub fn map<L, W>(&self, map: impl Fn(Option<&K>, &V) -> (L, W) + Send + Sync + 'static) -> Stream<L, W>
    where
        L: Clone + Send + 'static,
        W: Clone + Send + 'static,
    {
        self.flat_map(move |key, value| [map(key, value)])
    }

    /// Makes any number of records of each.
    pub fn flat_map<L, W, I>(&self, map: impl Fn(Option<&K>, &V) -> I + Send + Sync + 'static) -> Stream<L, W>
    where
        L: Clone + Send + 'static,
        W: Clone + Send + 'static,
        I: IntoIterator<Item = (L, W)>,
    {
        self.step("map", true, move |context, event| {
            let Some(value) = &event.value else { return context.skip() };
            for (key, value) in map(event.key.as_ref(), value) {
                let headers = event.headers.clone();
                context.forward(Event { key: Some(key), value: Some(value), timestamp: event.timestamp, headers })?;
            }
            Ok(())
        })
    }

    /// Makes one value of each; keys stay, and so do partitions.
    pub fn map_values<W: Clone + Send + 'static>(&self, map: impl Fn(&V) -> W + Send + Sync + 'static) -> Stream<K, W> {
        self.step("map-values", false, move |context, event| {
            let value = event.value.as_ref().map(&map);
            context.forward(event.with_value(value))
        })
    }

    /// Makes one value of each, or refuses the record: then its handler says what is done about it.
    pub fn try_map_values<W: Clone + Send + 'static>(
        &self,
        map: impl Fn(&V) -> Result<W, Failure> + Send + Sync + 'static,
    ) -> Stream<K, W> {
        self.step("map-values", false, move |context, event| {
            let value = event.value.as_ref().map(&map).transpose()?;
            context.forward(event.with_value(value))
        })
    }

    /// Makes any number of values of each; keys stay, and so do partitions.
    pub fn flat_map_values<W, I>(&self, map: impl Fn(&V) -> I + Send + Sync + 'static) -> Stream<K, W>
    where
        W: Clone + Send + 'static,
        I: IntoIterator<Item = W>,
    {
        self.step("flat-map-values", false, move |context, event| {
            let Some(value) = &event.value else { return context.skip() };
            for value in map(value) {
                let Event { key, timestamp, headers, .. } = &event;
                let (key, headers) = (key.clone(), headers.clone());
                context.forward(Event { key, value: Some(value), timestamp: *timestamp, headers })?;
            }
            Ok(())
        })
    }

    /// Gives each record a new key. What groups or joins the stream then goes through a topic first.
    pub fn select_key<L: Clone + Send + 'static>(
        &self,
        select: impl Fn(Option<&K>, &V) -> L + Send + Sync + 'static,
    ) -> Stream<L, V> {
        self.step("select-key", true, move |context, event| {
            let Some(value) = &event.value else { return context.skip() };
            let key = select(event.key.as_ref(), value);
            context.forward(event.with_key(Some(key)))
        })
    }

    /// Shows each record to `look`.
    pub fn peek(&self, look: impl Fn(Option<&K>, &V) + Send + Sync + 'static) -> Stream<K, V> {
        self.step("peek", false, move |context, event| {
            if let Some(value) = &event.value {
                look(event.key.as_ref(), value);
            }
            context.forward(event)
        })
    }

    /// Hands each record to `take`, where it ends.
    pub fn foreach(&self, take: impl Fn(Option<&K>, &V) + Send + Sync + 'static) {
        self.step::<K, V>("foreach", false, move |_, event| {
            if let Some(value) = &event.value {
                take(event.key.as_ref(), value);
            }
            Ok(())
        });
    }

    /// Two streams: what `first` says yes to, and the rest.
    pub fn branch(
        &self,
        first: impl Fn(Option<&K>, &V) -> bool + Send + Sync + 'static,
    ) -> (Stream<K, V>, Stream<K, V>) {
        let branch: Stream<K, V> = self.step("branch", false, move |context, event: Event<K, V>| {
            let is_first = event.value.as_ref().is_some_and(|value| first(event.key.as_ref(), value));
            context.forward_to(usize::from(!is_first), event)
        });
        let way = || branch.step("way", false, |context, event| context.forward(event));
        (way(), way())
    }

    /// The records of both streams, in the order in which they arrive.
    pub fn merge(&self, other: &Stream<K, V>) -> Stream<K, V> {
        if !Arc::ptr_eq(&self.graph, &other.graph) {
            self.problem("streams of different topologies cannot be merged".into());
            return self.clone();
        }
        let pass = each(|context, event: Event<K, V>| context.forward(event));
        let node = lock(&self.graph).processor("merge", &[self.node, other.node], &[], pass);
        Stream::new(&self.graph, node, self.rekeyed || other.rekeyed)
    }

    /// The same records, with null values shown as `None`.
    pub fn nullable(&self) -> Stream<K, Option<V>> {
        self.step("nullable", false, |context, mut event| {
            let value = event.value.take();
            context.forward(event.with_value(Some(value)))
        })
    }

    /// Hands each record to a processor, of which each task has its own. It may use the stores of these names.
    ///
    /// What it forwards may have other keys: what groups or joins it then goes through a topic first.
    pub fn process<P>(
        &self,
        name: &str,
        stores: &[&str],
        make: impl Fn() -> P + Send + Sync + 'static,
    ) -> Stream<P::Key, P::Value>
    where
        P: Processor<K, V> + 'static,
    {
        let mut graph = lock(&self.graph);
        graph.claim(name);
        for store in stores {
            if !graph.has_store(store) {
                graph.problem(format!("{name} uses the store {store:?}, which there is not"));
            }
        }
        let node = graph.processor(name, &[self.node], stores, Arc::new(move |_| Slot::new(Own(make(), PhantomData))));
        drop(graph);
        Stream::new(&self.graph, node, true)
    }
}

impl<K: Clone + Send + 'static, V: Clone + Send + 'static> Stream<K, Option<V>> {
    /// The same records, with `None` as the null value.
    pub fn flatten(&self) -> Stream<K, V> {
        self.step("flatten", false, |context, mut event| {
            let value = event.value.take().flatten();
            context.forward(event.with_value(value))
        })
    }
}

/// A step of one's own: it keeps what it wants, in stores, and forwards what it wants. Each task has one.
pub trait Processor<K, V>: Send {
    /// The keys of what it forwards.
    type Key: Clone + Send + 'static;
    /// The values of what it forwards.
    type Value: Clone + Send + 'static;

    /// Called before the first record: the place to ask for times with [`Context::schedule`].
    fn init(&mut self, _context: &mut ProcessorContext<'_, Self::Key, Self::Value>) -> Done {
        Ok(())
    }

    /// Takes a record. A failure undoes what the record did, everywhere; its handler says what becomes of it.
    fn process(&mut self, context: &mut ProcessorContext<'_, Self::Key, Self::Value>, event: Event<K, V>) -> Done;

    /// A time that was asked for has come.
    fn punctuate(&mut self, _context: &mut ProcessorContext<'_, Self::Key, Self::Value>, _at: Punctuation) -> Done {
        Ok(())
    }
}

/// What a processor sees of its task; it forwards records of these types.
pub struct ProcessorContext<'a, K, V> {
    context: &'a mut Context,
    types: PhantomData<fn(K, V)>,
}

impl<K: Clone + 'static, V: Clone + 'static> ProcessorContext<'_, K, V> {
    /// Hands a record to what follows.
    pub fn forward(&mut self, event: Event<K, V>) -> Done {
        self.context.forward(event)
    }
}

impl<K, V> Deref for ProcessorContext<'_, K, V> {
    type Target = Context;

    fn deref(&self) -> &Context {
        self.context
    }
}

impl<K, V> DerefMut for ProcessorContext<'_, K, V> {
    fn deref_mut(&mut self) -> &mut Context {
        self.context
    }
}

impl<K, V> AsRef<Stores> for ProcessorContext<'_, K, V> {
    fn as_ref(&self) -> &Stores {
        &self.context.stores
    }
}

impl<K, V> AsMut<Stores> for ProcessorContext<'_, K, V> {
    fn as_mut(&mut self) -> &mut Stores {
        &mut self.context.stores
    }
}

struct Own<P, K, V>(P, PhantomData<fn(K, V)>);

impl<K, V, P: Processor<K, V>> Process<K, V> for Own<P, K, V> {
    fn init(&mut self, context: &mut Context) -> Done {
        self.0.init(&mut ProcessorContext { context, types: PhantomData })
    }

    fn process(&mut self, context: &mut Context, event: Event<K, V>) -> Done {
        self.0.process(&mut ProcessorContext { context, types: PhantomData }, event)
    }

    fn punctuate(&mut self, context: &mut Context, at: Punctuation) -> Done {
        self.0.punctuate(&mut ProcessorContext { context, types: PhantomData }, at)
    }
}
