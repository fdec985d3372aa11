//! A member that talks to its broker over a connection.

use super::member::{GroupMember, Subscription};
use crate::{
    client::{
        Connection, Error, Message, Target,
        answer::field,
        connection::number,
        consuming::position::PartitionOffset,
        endpoint::Endpoint,
        membership::MemberLine,
        record::{check_topic, isolation_word},
    },
    log::record::as_word,
};
use std::time::Duration;

/// A member at the other end of a connection.
#[derive(Debug)]
pub(super) struct NetworkMember {
    line: MemberLine,
    /// `<topic>/<p>,...`
    assigned: String,
    id: String,
    generation: i32,
}

impl NetworkMember {
    pub(super) fn new(target: Target, connection: Option<Connection>) -> NetworkMember {
        let line = MemberLine { target, connection };
        NetworkMember { line, assigned: String::new(), id: String::new(), generation: 0 }
    }

    /// ` generation: assigned:` of a line.
    fn take_up(&mut self, line: &[u8]) -> Result<(), Error> {
        self.generation = i32::try_from(number(line, "generation")?).unwrap_or(i32::MAX);
        self.assigned = word(line, "assigned");
        Ok(())
    }

    fn held(&self) -> impl Iterator<Item = &str> {
        self.assigned.split(',').filter(|held| !held.is_empty())
    }
}

impl GroupMember for NetworkMember {
    fn join(&mut self, subscription: &Subscription) -> Result<(), Error> {
        let group = as_word(&subscription.group);
        let commit = if subscription.auto_commit { "auto" } else { "manual" };
        let (topics, from, isolation) =
            (subscription.topics.join(","), subscription.from, isolation_word(subscription.isolation));
        let assignor = subscription.assignor.map_or(String::new(), |assignor| format!(" assignor:{}", assignor.name()));
        let line = format!("JOIN {group} {topics} from:{from} commit:{commit}{isolation}{assignor}");
        let answer = self.line.talk(|connection| connection.ask(&line))?;
        let line = answer.first.as_bytes();
        self.id = word(line, "member");
        self.take_up(line)
    }

    fn poll(&mut self, wait: Duration, max: usize) -> Result<Vec<Message>, Error> {
        let (first, records) = self.line.poll(wait, max)?;
        self.take_up(&first)?;
        Ok(records.into_iter().map(|polled| polled.message).collect())
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.line.talk(|connection| connection.ask("COMMIT")).map(drop)
    }

    #[cfg(feature = "streams")]
    fn commit_at(&mut self, offsets: &[PartitionOffset]) -> Result<(), Error> {
        let line = format!("COMMIT{}", words_of(offsets));
        self.line.talk(|connection| connection.ask(&line)).map(drop)
    }

    fn seek(&mut self, topic: &str, partition: u32, offset: u64) -> Result<(), Error> {
        check_topic(topic)?;
        self.line.talk(|connection| connection.ask(&format!("SEEK {topic}/{partition} {offset}"))).map(drop)
    }

    fn leave(&mut self) -> Result<(), Error> {
        self.line.talk(|connection| connection.ask("LEAVE")).map(drop)
    }

    fn address(&self) -> &str {
        self.line.target.address()
    }

    fn partitions(&self) -> usize {
        self.held().count()
    }

    fn identity(&self) -> (String, i32) {
        (self.id.clone(), self.generation)
    }

    #[cfg(feature = "streams")]
    fn assigned(&self) -> Vec<(String, u32)> {
        let place = |held: &str| {
            held.rsplit_once('/').and_then(|(topic, partition)| Some((topic.into(), partition.parse().ok()?)))
        };
        self.held().filter_map(place).collect()
    }

    fn holds(&self, topic: &str, partition: u32) -> bool {
        self.held().any(|held| held.strip_prefix(topic).is_some_and(|rest| rest == format!("/{partition}")))
    }

    fn into_endpoint(self: Box<Self>) -> Endpoint {
        let MemberLine { target, connection } = self.line;
        Endpoint::Network { target, connection }
    }
}

/// ` <topic>/<p> <offset>` for each.
pub(in crate::client) fn words_of(offsets: &[PartitionOffset]) -> String {
    offsets.iter().map(|(topic, partition, offset)| format!(" {topic}/{partition} {offset}")).collect()
}

/// The word of this name, as it stands.
fn word(line: &[u8], name: &str) -> String {
    String::from_utf8_lossy(field(line, name).unwrap_or_default()).into_owned()
}
