//! The broker, as somebody sees it who looks after topics and groups: at an address, or in this process.

use crate::{
    broker::Broker,
    client::{
        Connection, Error, Producer, Target,
        answer::{UNKNOWN_TOPIC, field},
        endpoint::Endpoint,
        record::check_topic,
    },
    log::record::{as_word, parse_u63},
};

/// Where the broker is.
#[derive(Clone, Debug)]
pub(crate) enum Site {
    /// At an address, spoken with so.
    Network(Target),
    /// In this process.
    Embedded(Broker),
}

/// What is asked about a topic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopicFacts {
    /// Another one once the topic was made anew.
    pub(crate) id: String,
    pub(crate) partitions: u32,
}

/// Where a group has come to in a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct CommittedAt {
    /// The offset to go on at; `None`: it has not read there.
    pub(crate) offset: Option<u64>,
    /// An open transaction may change that.
    pub(crate) is_pending: bool,
    /// How many offsets are left, if it has read there.
    pub(crate) lag: Option<u64>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MemberFacts {
    pub(crate) id: String,
    /// What it, or the broker, calls its client.
    pub(crate) client: String,
    pub(crate) assigned: Vec<(String, u32)>,
}

/// Kafka's name for a group that is not there.
const NO_GROUP: &str = "GROUP_ID_NOT_FOUND";

impl Site {
    pub(crate) fn producer(&self) -> Result<Producer, Error> {
        match self {
            Site::Network(target) => Producer::connect(target),
            Site::Embedded(broker) => Ok(Producer::embedded(broker)),
        }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        match self {
            Site::Network(target) => Endpoint::Network { target: target.clone(), connection: None },
            Site::Embedded(broker) => Endpoint::Embedded(broker.into()),
        }
    }

    /// A topic, if there is one of this name.
    pub(crate) fn topic(&self, topic: &str) -> Result<Option<TopicFacts>, Error> {
        check_topic(topic)?;
        let found = match self {
            Site::Network(target) => {
                Connection::open(target)?.ask(&format!("TOPIC {topic}")).and_then(|a| facts(&a.first))
            }
            Site::Embedded(broker) => broker
                .describe_topic(topic)
                .map_err(Error::from)
                .map(|topic| TopicFacts { id: hex(&topic.id), partitions: topic.leader_epochs.len() as u32 }),
        };
        unless(found, UNKNOWN_TOPIC)
    }

    /// Makes a topic; with as many partitions as the broker gives unasked, if it does not matter. Settings are named as Kafka's.
    pub(crate) fn create(
        &self,
        topic: &str,
        partitions: Option<u32>,
        settings: &[(&str, String)],
    ) -> Result<TopicFacts, Error> {
        check_topic(topic)?;
        match self {
            Site::Network(target) => {
                let mut line = format!("CREATE {topic}");
                partitions.iter().for_each(|count| line += &format!(" partitions:{count}"));
                settings.iter().for_each(|(name, value)| line += &format!(" {name}:{}", as_word(value)));
                facts(&Connection::open(target)?.ask(&line)?.first)
            }
            Site::Embedded(broker) => {
                let settings = settings.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
                let topic = broker.create_topic_with(topic, partitions, settings)?;
                Ok(TopicFacts { id: hex(&topic.id), partitions: topic.leader_epochs.len() as u32 })
            }
        }
    }

    /// Drops a topic; whether it was there.
    pub(crate) fn drop_topic(&self, topic: &str) -> Result<bool, Error> {
        check_topic(topic)?;
        let dropped = match self {
            Site::Network(target) => Connection::open(target)?.ask(&format!("DROP {topic}")).map(drop),
            Site::Embedded(broker) => broker.drop_topic(topic).map_err(Error::from),
        };
        Ok(unless(dropped, UNKNOWN_TOPIC)?.is_some())
    }

    /// Deletes the records of a partition below an offset.
    pub(crate) fn trim(&self, topic: &str, partition: u32, offset: u64) -> Result<(), Error> {
        match self {
            Site::Network(target) => {
                Connection::open(target)?.ask(&format!("TRIM {topic}/{partition} {offset}")).map(drop)
            }
            Site::Embedded(broker) => Ok(broker.trim(topic, partition, offset).map(drop)?),
        }
    }

    /// Forgets a group without members and all that it committed.
    pub(crate) fn delete_group(&self, group: &str) -> Result<(), Error> {
        let deleted = match self {
            Site::Network(target) => Connection::open(target)?.ask(&format!("RESET {}", as_word(group))).map(drop),
            Site::Embedded(broker) => broker.delete_group(group).map_err(Error::from),
        };
        unless(deleted, NO_GROUP).map(drop)
    }

    /// The members of a group.
    pub(crate) fn members(&self, group: &str) -> Result<Vec<MemberFacts>, Error> {
        match self {
            Site::Network(target) => {
                let answer = Connection::open(target)?.ask(&format!("GROUP {}", as_word(group)))?;
                answer.lines.iter().filter(|line| line.starts_with("member:")).map(|line| member_in(line)).collect()
            }
            Site::Embedded(broker) => {
                let members = broker.group(group)?.into_iter().flat_map(|group| group.members);
                let facts = members.map(|member| MemberFacts {
                    id: member.member_id,
                    client: member.client_id,
                    assigned: member.owned.iter().map(|owned| (owned.topic.to_string(), owned.partition)).collect(),
                });
                Ok(facts.collect())
            }
        }
    }

    /// Where a group has come to, in each partition that it committed or that a member has.
    pub(crate) fn committed(&self, group: &str) -> Result<Vec<(String, u32, CommittedAt)>, Error> {
        match self {
            Site::Network(target) => {
                let answer = Connection::open(target)?.ask(&format!("GROUP {}", as_word(group)))?;
                let lines = answer.lines.iter().filter(|line| line.starts_with("topic:"));
                lines.map(|line| committed_in(line)).collect()
            }
            Site::Embedded(broker) => Ok(broker
                .lag(group)?
                .into_iter()
                .map(|lag| {
                    let left = lag.lag();
                    let offset = lag.committed.and_then(|committed| u64::try_from(committed.offset).ok());
                    let at = CommittedAt { offset, is_pending: lag.is_pending, lag: left };
                    (lag.topic.to_string(), lag.partition, at)
                })
                .collect()),
        }
    }
}

/// `member: client: [epoch:] assigned: [target:]`
fn member_in(line: &str) -> Result<MemberFacts, Error> {
    let malformed = || Error::Answer(format!("'{line}' tells no member"));
    let place = |place: &str| {
        let (topic, partition) = place.rsplit_once('/')?;
        Some((topic.into(), partition.parse().ok()?))
    };
    let text = |name| word(line, name).map(str::to_owned).ok_or_else(malformed);
    let assigned = text("assigned")?.split(',').filter_map(place).collect();
    Ok(MemberFacts { id: text("member")?, client: text("client")?, assigned })
}

/// `Ok(None)` for a refusal of this name.
fn unless<T>(answered: Result<T, Error>, code: &str) -> Result<Option<T>, Error> {
    match answered {
        Err(Error::Refused(refused)) if refused.code == code => Ok(None),
        answered => answered.map(Some),
    }
}

/// `id: partitions:` of a line.
fn facts(line: &str) -> Result<TopicFacts, Error> {
    let malformed = || Error::Answer(format!("'{line}' tells no topic"));
    let id = word(line, "id").ok_or_else(malformed)?.to_owned();
    let partitions = word(line, "partitions").and_then(|count| count.parse().ok()).ok_or_else(malformed)?;
    Ok(TopicFacts { id, partitions })
}

/// `topic: partition: committed: end: lag: [pending:yes]`
fn committed_in(line: &str) -> Result<(String, u32, CommittedAt), Error> {
    let malformed = || Error::Answer(format!("'{line}' tells no committed offset"));
    let topic = word(line, "topic").ok_or_else(malformed)?.to_owned();
    let partition = word(line, "partition").and_then(|number| number.parse().ok()).ok_or_else(malformed)?;
    let committed = word(line, "committed").ok_or_else(malformed)?;
    // Any offset can be committed; one below 0 is none that can be read.
    let offset = parse_u63(committed.as_bytes());
    let lag = word(line, "lag").and_then(|lag| parse_u63(lag.as_bytes()));
    Ok((topic, partition, CommittedAt { offset, is_pending: word(line, "pending") == Some("yes"), lag }))
}

fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    field(line.as_bytes(), name).and_then(|word| std::str::from_utf8(word).ok())
}

fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
