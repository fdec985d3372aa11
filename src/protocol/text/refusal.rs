//! `ERROR <CODE> [fields] <sentence>`: what a client is told when a line cannot be carried out.

use crate::{broker, log::record};

/// Why a line is refused: Kafka's name for it, and a sentence that says what to try next.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Kafka's error name, or `INVALID_REQUEST` where Kafka has none.
    pub code: &'static str,
    /// Fields (with a space behind each) and the sentence.
    pub text: String,
}

impl Refusal {
    /// The line is no request.
    pub fn invalid(text: impl Into<String>) -> Refusal {
        Refusal { code: "INVALID_REQUEST", text: text.into() }
    }

    /// Appends the line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"ERROR ");
        out.extend_from_slice(self.code.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'\n');
    }
}

impl From<record::Malformed> for Refusal {
    fn from(error: record::Malformed) -> Refusal {
        Refusal::invalid(error.0)
    }
}

impl From<broker::Error> for Refusal {
    fn from(error: broker::Error) -> Refusal {
        use broker::Error::*;
        let fields = match &error {
            OffsetOutOfRange { first, end } => format!("first:{first} end:{end} "),
            Corrupt { first, next, .. } => format!("first:{first} next:{next} "),
            _ => String::new(),
        };
        let code = match &error {
            UnknownTopic(_) | UnknownPartition { .. } => "UNKNOWN_TOPIC_OR_PARTITION",
            TopicExists(_) => "TOPIC_ALREADY_EXISTS",
            InvalidTopic(_) => "INVALID_TOPIC_EXCEPTION",
            InvalidPartitions(_) => "INVALID_PARTITIONS",
            InvalidConfig(_) => "INVALID_CONFIG",
            OffsetOutOfRange { .. } => "OFFSET_OUT_OF_RANGE",
            Corrupt { .. } => "CORRUPT_MESSAGE",
            TooLarge { .. } => "MESSAGE_TOO_LARGE",
            InvalidRecord(_) => "INVALID_RECORD",
            Sequence(_) => "OUT_OF_ORDER_SEQUENCE_NUMBER",
            ProducerEpoch(_) => "INVALID_PRODUCER_EPOCH",
            Storage(_) => "KAFKA_STORAGE_ERROR",
            UnknownMemberId => "UNKNOWN_MEMBER_ID",
            IllegalGeneration(_) => "ILLEGAL_GENERATION",
            RebalanceInProgress => "REBALANCE_IN_PROGRESS",
            InconsistentGroupProtocol => "INCONSISTENT_GROUP_PROTOCOL",
            MemberIdRequired(_) => "MEMBER_ID_REQUIRED",
            FencedInstanceId => "FENCED_INSTANCE_ID",
            UnknownGroup(_) => "GROUP_ID_NOT_FOUND",
            NonEmptyGroup(_) => "NON_EMPTY_GROUP",
            InvalidSessionTimeout(_) => "INVALID_SESSION_TIMEOUT",
            InvalidGroup(_) => "INVALID_GROUP_ID",
        };
        Refusal { code, text: format!("{fields}{error}") }
    }
}
