//! TOPICS, TOPIC, CREATE, ALTER, DROP, TRIM.

use super::{
    Answered, Flow, Refusal, Session, Stop,
    words::{Place, Position, Words, topic_name},
};
use crate::{
    broker::{self, Copies, Isolation, PartitionDescription, REPLICATION_FACTOR, TopicDescription, is_internal},
    config::{Change, Changes, Overrides, Setting, Settings},
    log::record::{as_word, parse_u63, shown, unescape},
    protocol::connection::Output,
    security::Operation,
};
use std::fmt::Write;

impl Session {
    /// `TOPICS [all]`
    pub(super) fn topics(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let all = match words.next() {
            None => false,
            Some(b"all") => true,
            Some(word) => {
                return Err(Refusal::invalid(format!("TOPICS does not take '{}'; it takes all", shown(word))).into());
            }
        };
        words.end()?;
        let mut topics = self.broker.describe_topics()?;
        topics.retain(|name, _| all || !is_internal(name));
        let there: Vec<_> = topics.iter().filter(|(_, topic)| topic.is_ok()).map(|(name, _)| &**name).collect();
        let mut sizes = self.broker.topic_sizes(&there).into_iter();
        let mut lines = String::new();
        for (name, topic) in &topics {
            // A topic dropped meanwhile, or one whose disk fails, is no reason to hide the others.
            let topic = topic.as_ref().ok();
            let size = topic.and_then(|_| sizes.next()).and_then(Result::ok);
            let partitions = or_dash(topic.map(|topic| topic.partition_count()));
            let (records, bytes) = (or_dash(size.map(|size| size.records)), or_dash(size.and_then(|size| size.bytes)));
            let _ = writeln!(lines, "topic:{name} partitions:{partitions} records:{records} bytes:{bytes}");
        }
        output.bytes.extend_from_slice(format!("TOPICS count:{}\n{lines}", topics.len()).as_bytes());
        Ok(Flow::Next)
    }

    /// `TOPIC <topic>`
    pub(super) fn topic(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let topic = self.broker.describe_topic(topic_name(words.expect("TOPIC takes a topic; its name")?)?)?;
        words.end()?;
        let mut text = format!("TOPIC count:{} {}", topic.partition_count(), identity(&topic));
        for (name, value) in topic.overrides.iter().filter(|_| self.broker.may_describe_configs(&topic.name)) {
            let _ = write!(text, " {name}:{}", as_word(value));
        }
        text.push('\n');
        for (index, partition) in self.broker.describe_partitions(&topic.name)?.into_iter().enumerate() {
            let PartitionDescription { start: first, high_watermark: end, bytes, segments, copies, .. } = partition;
            let (stable, bytes, segments) = (partition.last_stable_offset, or_dash(bytes), or_dash(segments));
            let _ = write!(
                text,
                "partition:{index} first:{first} end:{end} stable:{stable} bytes:{bytes} segments:{segments}"
            );
            if let Some(Copies { leader, replicas, in_sync }) = copies {
                let (leader, replicas, in_sync) = (or_dash(leader), nodes(&replicas), nodes(&in_sync));
                let _ = write!(text, " leader:{leader} replicas:{replicas} isr:{in_sync}");
            }
            text.push('\n');
        }
        output.bytes.extend_from_slice(text.as_bytes());
        Ok(Flow::Next)
    }

    /// `CREATE <topic> [partitions:<n>] [<setting>:<value>]...`
    pub(super) fn create(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let (name, partitions, settings) = wishes("CREATE", words)?;
        // An empty value asks for the default, which a new topic has anyway.
        let own: Overrides = settings.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let topic = self.broker.create_topic_with(name, partitions, own)?;
        output.bytes.extend_from_slice(format!("OK {}\n", identity(&topic)).as_bytes());
        Ok(Flow::Next)
    }

    /// `ALTER <topic> [partitions:<n>] [<setting>:<value>]...`
    pub(super) fn alter(&mut self, words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let (name, partitions, settings) = wishes("ALTER", words)?;
        let change = |value: String| if value.is_empty() { Change::Default } else { Change::Set(value) };
        let named = settings.into_iter().map(|(name, value)| (name, change(value))).collect();
        let topic = self.broker.alter_topic(name, partitions, &Changes { named, reset_others: false })?;
        output.bytes.extend_from_slice(format!("OK {}\n", identity(&topic)).as_bytes());
        Ok(Flow::Next)
    }

    /// `DROP <topic>`
    pub(super) fn drop_topic(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let name = topic_name(words.expect("DROP takes a topic; its name")?)?;
        words.end()?;
        self.broker.drop_topic(name)?;
        output.bytes.extend_from_slice(b"OK\n");
        Ok(Flow::Next)
    }

    /// `TRIM <tp> <position>`
    pub(super) fn trim(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let place = words.expect("TRIM takes <topic>/<p> and a position; the partition")?;
        let position = Position::parse(words.expect("TRIM takes <topic>/<p> and a position; the position")?)?;
        words.end()?;
        let partition = self.partition_named_to(Operation::Delete, place)?;
        let offset = self.read.resolve(Isolation::ReadUncommitted, position, &partition)?;
        let first = self.broker.trim(Place::parse(place)?.topic, partition.index(), offset)?;
        output.bytes.extend_from_slice(format!("OK first:{first}\n").as_bytes());
        Ok(Flow::Next)
    }
}

/// A value, or the sign that it is not told.
fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("-".into(), |value| value.to_string())
}

/// Ids of nodes in a word.
fn nodes(ids: &[i32]) -> String {
    let ids: Vec<_> = ids.iter().map(i32::to_string).collect();
    or_dash(Some(ids.join(",")).filter(|ids| !ids.is_empty()))
}

fn identity(topic: &TopicDescription) -> String {
    format!("topic:{} id:{} partitions:{}", topic.name, or_dash(topic.shown_id()), topic.partition_count())
}

/// Topic, partitions and settings that CREATE or ALTER asks for.
fn wishes<'a>(verb: &str, mut words: Words<'a>) -> Result<(&'a str, Option<u32>, Overrides), Stop> {
    let name = topic_name(words.expect(&format!("{verb} takes a topic; its name"))?)?;
    let (mut partitions, mut settings) = (None, Overrides::new());
    while let Some(word) = words.next() {
        let bad = || Refusal::invalid(format!("'{}' is no setting; say name:value", shown(word)));
        let (name, value) = std::str::from_utf8(word).ok().and_then(|word| word.split_once(':')).ok_or_else(bad)?;
        let twice = if name == "partitions" {
            let count = parse_u63(value.as_bytes()).and_then(|count| u32::try_from(count).ok());
            let why = || {
                broker::Error::InvalidPartitions(format!("'{}' is no number of partitions", shown(value.as_bytes())))
            };
            partitions.replace(count.ok_or_else(why)?).is_some()
        } else if name != REPLICATION_FACTOR && Setting::<Settings>::named(name).is_none() {
            let why = format!("'{}' is no setting of a topic; HELP SETTINGS lists them", shown(name.as_bytes()));
            return Err(broker::Error::InvalidConfig(why).into());
        } else {
            let value = String::from_utf8(unescape(value.as_bytes())?.into_owned()).map_err(|_| bad())?;
            settings.insert(name.into(), value).is_some()
        };
        if twice {
            return Err(Refusal::invalid(format!("{}: is given twice", shown(name.as_bytes()))).into());
        }
    }
    Ok((name, partitions, settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_a_cluster_without_ids_has_a_dash_for_one() {
        let broker = broker::Broker::in_memory();
        let mut topic = broker.create_topic("t", 1).unwrap();
        let id = broker::random::shown(&topic.id);
        assert_eq!(identity(&topic), format!("topic:t id:{id} partitions:1"));
        topic.id = [0; 16];
        assert_eq!(identity(&topic), "topic:t id:- partitions:1");
    }
}
