//! The way out: topics of others, and the application's own between its sub-topologies.

use super::{Stream, each, source};
use crate::{
    client::Record,
    streams::{
        context::{Context, Done, Outgoing},
        event::Event,
        graph::{Kind, lock},
        serde::Serde,
    },
};
use std::{any::TypeId, sync::Arc};

impl<K: Serde, V: Serde> Stream<K, V> {
    /// Writes the records to a topic.
    pub fn to(&self, topic: &str) {
        let topic: Arc<str> = topic.into();
        let mut graph = lock(&self.graph);
        if let Err(error) = crate::client::check_topic(&topic) {
            graph.problem(error.to_string());
        }
        let sink = Kind::Sink { topic: Some(topic.clone()) };
        graph.add(
            "sink",
            sink,
            &[self.node],
            &[],
            each(move |context, event| send::<K, V>(context, topic.clone(), event)),
        );
    }

    /// Writes each record to the topic that `choose` names.
    pub fn to_by(&self, choose: impl Fn(Option<&K>, Option<&V>) -> String + Send + Sync + 'static) {
        let sink = each(move |context, event: Event<K, V>| {
            let topic = choose(event.key.as_ref(), event.value.as_ref());
            crate::client::check_topic(&topic)?;
            send(context, topic.into(), event)
        });
        lock(&self.graph).add("sink", Kind::Sink { topic: None }, &[self.node], &[], sink);
    }

    /// Writes the records to a topic and goes on with what is in it, also from others.
    pub fn through(&self, topic: &str) -> Stream<K, V> {
        self.to(topic);
        let node = lock(&self.graph).source(topic, TypeId::of::<(K, V)>(), None, source::<K, V>());
        Stream::new(&self.graph, node, false)
    }

    /// Brings each record to the partition of its key, through a topic of the application's own: `<app>-<name>-repartition`.
    pub fn repartition(&self, name: &str) -> Stream<K, V> {
        lock(&self.graph).claim(name);
        self.repartition_as(name, None)
    }

    /// The same, with so many partitions.
    pub fn repartition_into(&self, name: &str, partitions: u32) -> Stream<K, V> {
        lock(&self.graph).claim(name);
        if partitions == 0 {
            self.problem(format!("{name} cannot have no partitions"));
        }
        self.repartition_as(name, Some(partitions))
    }

    /// Repartitions under a name that has been claimed.
    pub(super) fn repartition_as(&self, name: &str, partitions: Option<u32>) -> Stream<K, V> {
        let mut graph = lock(&self.graph);
        let topic = graph.repartition(name, partitions);
        let sink = Kind::Sink { topic: Some(topic.clone()) };
        let to = topic.clone();
        graph.add(
            "sink",
            sink,
            &[self.node],
            &[],
            each(move |context, event| send::<K, V>(context, to.clone(), event)),
        );
        let node = graph.source(&topic, TypeId::of::<(K, V)>(), None, source::<K, V>());
        drop(graph);
        Stream::new(&self.graph, node, false)
    }
}

/// Sends an event to a topic.
pub(super) fn send<K: Serde, V: Serde>(context: &mut Context, topic: Arc<str>, event: Event<K, V>) -> Done {
    let Event { key, value, timestamp, headers } = event;
    let (key, value) = (key.map(|key| key.to_bytes()), value.map(|value| value.to_bytes()));
    let record = Record { key, value, headers, timestamp: Some(timestamp), partition: None };
    context.outbox.push(Outgoing { topic, record });
    Ok(())
}
