//! How a request names a topic: by its name, in later versions of some APIs by its id (KIP-516).
//!
//! The answer names it in the same way, whether there is such a topic or not.

use super::{
    Code, Refusal,
    wire::{Reader, Result, Uuid, Writer},
};
use crate::{
    broker::{Broker, TopicHandle, random},
    security::Operation,
};
use std::fmt;

/// A topic as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum TopicRef<'a> {
    Name(&'a str),
    Id(Uuid),
}

impl<'a> TopicRef<'a> {
    /// Reads an id from version `ids_from` on, and before a name, whose field is called `name`.
    pub(super) fn read(r: &mut Reader<'a>, name: &'static str, ids_from: i16) -> Result<TopicRef<'a>> {
        if r.version < ids_from { r.string(name).map(TopicRef::Name) } else { r.uuid("topic_id").map(TopicRef::Id) }
    }

    pub(super) fn write(&self, w: &mut Writer<'_>, field: &'static str) {
        match self {
            TopicRef::Name(name) => w.string(field, name),
            TopicRef::Id(id) => w.uuid("topic_id", id),
        }
    }

    /// The topic, for a caller that wants to do this to it.
    pub(super) fn find(&self, broker: &Broker, operation: Operation) -> std::result::Result<TopicHandle, Refusal> {
        match self {
            TopicRef::Name(name) => broker.find_topic_to(operation, name).map_err(Refusal::from),
            TopicRef::Id(id) => broker
                .find_topic_by_id_to(operation, id)?
                .ok_or_else(|| Refusal::new(Code::UnknownTopicId, format!("no topic has the id {self}"))),
        }
    }
}

impl fmt::Display for TopicRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicRef::Name(name) => f.write_str(name),
            TopicRef::Id(id) => f.write_str(&random::shown(id)),
        }
    }
}
