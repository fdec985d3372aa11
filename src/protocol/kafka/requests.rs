//! The six calls that every client of Kafka makes first, written as a client writes them: for trying out a broker.
//!
//! They are asked in the latest versions that name topics by their names.

use super::{
    APIS, Api,
    batch::{Encoder, Facts},
    compression::{Codec, Codecs},
    wire::Writer,
};
use crate::log::{
    Lines,
    batches::Flags,
    record::{Records, write_line},
};
use std::borrow::Cow;

/// The name that the client gives itself.
const CLIENT_ID: &str = "plainlog-try";
/// How long the broker may take, in ms.
const TIMEOUT_MS: i32 = 5000;
/// The most bytes that a Fetch asks for.
const FETCH_BYTES: i32 = 1 << 20;

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// What is served.
    ApiVersions,
    /// Which topics there are, or where one is; asking makes none.
    Metadata {
        /// The topic; `None`: all.
        topic: Option<String>,
    },
    /// Makes a topic.
    CreateTopics {
        /// Its name.
        topic: String,
        /// How many partitions it has; -1: as many as the broker likes.
        partitions: i32,
    },
    /// The partitions of a topic.
    DescribeTopicPartitions {
        /// Its name.
        topic: String,
    },
    /// Writes a record.
    Produce {
        /// Where to.
        topic: String,
        /// Which partition.
        partition: i32,
        /// The record's key.
        key: Option<String>,
        /// The record's value.
        value: String,
    },
    /// Reads records.
    Fetch {
        /// Where from.
        topic: String,
        /// Which partition.
        partition: i32,
        /// From this offset on.
        offset: i64,
    },
}

impl Request {
    /// The API's name, and the version in which it is asked.
    fn api(&self) -> (&'static str, i16) {
        match self {
            Request::ApiVersions => ("ApiVersions", 4),
            Request::Metadata { .. } => ("Metadata", 12),
            Request::CreateTopics { .. } => ("CreateTopics", 7),
            Request::DescribeTopicPartitions { .. } => ("DescribeTopicPartitions", 0),
            Request::Produce { .. } => ("Produce", 12),
            Request::Fetch { .. } => ("Fetch", 12),
        }
    }

    /// The whole frame. `now_ms` is the time of a record that it writes.
    pub fn encode(&self, now_ms: i64) -> Vec<u8> {
        let (name, version) = self.api();
        let api: &Api = APIS.iter().find(|api| api.name == name).expect("it is in the table");
        let mut out = Vec::new();
        // The header's one string has no compact form in any version.
        let mut w = Writer { out: &mut out, version, flexible: false, spans: None, refused: None, throttle_at: None };
        w.i32("size", 0);
        w.i16("request_api_key", api.key);
        w.i16("request_api_version", version);
        w.i32("correlation_id", 1);
        w.nullable_string("client_id", Some(CLIENT_ID));
        w.flexible = true;
        w.tags();
        self.body(&mut w, now_ms);
        w.tags();
        let size = (out.len() - 4) as i32;
        out[..4].copy_from_slice(&size.to_be_bytes());
        out
    }

    fn body(&self, w: &mut Writer<'_>, now_ms: i64) {
        match self {
            Request::ApiVersions => {
                w.string("client_software_name", CLIENT_ID);
                w.string("client_software_version", env!("CARGO_PKG_VERSION"));
            }
            Request::Metadata { topic } => {
                match topic {
                    None => w.null_array("topics"),
                    Some(topic) => w.array("topics", [topic].iter(), |w, topic| {
                        w.uuid("topic_id", &[0; 16]);
                        w.nullable_string("name", Some(topic));
                        w.tags();
                    }),
                }
                w.bool("allow_auto_topic_creation", false);
                w.bool("include_topic_authorized_operations", false);
            }
            Request::CreateTopics { topic, partitions } => {
                w.array("topics", [topic].iter(), |w, topic| {
                    w.string("name", topic);
                    w.i32("num_partitions", *partitions);
                    w.i16("replication_factor", -1);
                    w.empty_array("assignments");
                    w.empty_array("configs");
                    w.tags();
                });
                w.i32("timeout_ms", TIMEOUT_MS);
                w.bool("validate_only", false);
            }
            Request::DescribeTopicPartitions { topic } => {
                w.array("topics", [topic].iter(), |w, topic| {
                    w.string("name", topic);
                    w.tags();
                });
                w.i32("response_partition_limit", 2000);
                w.i8("cursor", -1);
            }
            Request::Produce { topic, partition, key, value } => {
                w.nullable_string("transactional_id", None);
                w.i16("acks", -1);
                w.i32("timeout_ms", TIMEOUT_MS);
                w.array("topic_data", [topic].iter(), |w, topic| {
                    w.string("name", topic);
                    w.array("partition_data", [partition].iter(), |w, partition| {
                        w.i32("index", **partition);
                        w.records("records", 0, |out| batch_of_one(out, key.as_deref(), value, now_ms));
                        w.tags();
                    });
                    w.tags();
                });
            }
            Request::Fetch { topic, partition, offset } => {
                w.i32("replica_id", -1);
                w.i32("max_wait_ms", 0);
                w.i32("min_bytes", 0);
                w.i32("max_bytes", FETCH_BYTES);
                w.i8("isolation_level", 1);
                w.i32("session_id", 0);
                w.i32("session_epoch", -1);
                w.array("topics", [topic].iter(), |w, topic| {
                    w.string("topic", topic);
                    w.array("partitions", [partition].iter(), |w, partition| {
                        w.i32("partition", **partition);
                        w.i32("current_leader_epoch", -1);
                        w.i64("fetch_offset", *offset);
                        w.i32("last_fetched_epoch", -1);
                        w.i64("log_start_offset", -1);
                        w.i32("partition_max_bytes", FETCH_BYTES);
                        w.tags();
                    });
                    w.tags();
                });
                w.empty_array("forgotten_topics_data");
                w.string("rack_id", "");
            }
        }
    }
}

/// A batch of one record.
fn batch_of_one(out: &mut Vec<u8>, key: Option<&str>, value: &str, now_ms: i64) {
    let (mut records, mut line) = (Records::default(), Vec::new());
    let bytes = |text: &str| Cow::Owned(text.as_bytes().to_vec());
    records.push(None, key.map(bytes), Some(bytes(value)));
    records.iter().for_each(|record| write_line(&mut line, 0, None, &records, record));
    let mut encoder = Encoder::new(out, Facts::PLAIN);
    encoder.lines(Lines::new(&line, now_ms, Flags::NONE), usize::MAX).expect("the line was just written");
    encoder.finish(0, Codec::None, &mut Codecs::default(), &mut Vec::new());
}
