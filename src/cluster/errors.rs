//! What librdkafka says went wrong, as errors of the verbs.

use super::native::Refused;
use crate::{
    broker::{Code, Error},
    log::record::shown,
};
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};
use std::time::Duration;

/// An error of librdkafka's, met while `what` was done.
pub(super) fn refused(what: &str, error: &KafkaError) -> Error {
    match error.rdkafka_error_code() {
        Some(code) => of_code(what, code),
        None => Error::OfCluster { code: Code::UnknownServerError, why: format!("{what}: {error}") },
    }
}

/// The same by its code. Codes of librdkafka's own are below 0, the nodes' are Kafka's.
pub(super) fn of_code(what: &str, error: RDKafkaErrorCode) -> Error {
    Error::OfCluster { code: code(error as i32), why: format!("{what}: {error}") }
}

/// The same with the reason that was given.
pub(super) fn of_refusal(what: &str, refused: &Refused) -> Error {
    Error::OfCluster { code: code(refused.number), why: format!("{what}: {}", refused.why) }
}

/// The same about a topic or its partitions: what this broker says too, it says in the same way.
pub(super) fn of_topic(name: &str, refused: Refused) -> Error {
    match code(refused.number) {
        Code::UnknownTopicOrPartition => Error::UnknownTopic(name.into()),
        Code::TopicAlreadyExists => Error::TopicExists(name.into()),
        Code::InvalidTopicException => Error::InvalidTopic(refused.why),
        Code::InvalidPartitions => Error::InvalidPartitions(refused.why),
        Code::InvalidConfig => Error::InvalidConfig(refused.why),
        _ => of_refusal(&format!("topic '{name}'"), &refused),
    }
}

/// The same about a group.
pub(super) fn of_group(name: &str, refused: Refused) -> Error {
    match code(refused.number) {
        Code::GroupIdNotFound => Error::UnknownGroup(shown(name.as_bytes())),
        Code::NonEmptyGroup => Error::NonEmptyGroup(shown(name.as_bytes())),
        // So a node answers who commits from outside while there are members.
        Code::UnknownMemberId => Error::NonEmptyGroup(shown(name.as_bytes())),
        Code::InvalidGroupId => Error::InvalidGroup(refused.why),
        _ => of_refusal(&format!("group '{}'", shown(name.as_bytes())), &refused),
    }
}

/// Whether nothing was reached, or nothing came back.
pub(super) fn is_silence(number: i32) -> bool {
    use RDKafkaErrorCode::*;
    [BrokerTransportFailure, AllBrokersDown, OperationTimedOut, Resolve].iter().any(|code| *code as i32 == number)
}

/// What was answered, and may be answered otherwise soon.
pub(super) trait Passes {
    fn passes(&self) -> bool;
}

impl Passes for KafkaError {
    fn passes(&self) -> bool {
        match self {
            // Its time was over, whatever was heard last.
            KafkaError::Transaction(error) if error.is_retriable() => true,
            _ => self.rdkafka_error_code().is_some_and(|code| is_silence(code as i32)),
        }
    }
}

/// Nodes' refusals come from whoever led a partition or coordinated a group when it was last heard of.
impl Passes for Refused {
    fn passes(&self) -> bool {
        use RDKafkaErrorCode::*;
        let passing = [
            LeaderNotAvailable,
            NotLeaderForPartition,
            ReplicaNotAvailable,
            KafkaStorageError,
            FencedLeaderEpoch,
            UnknownLeaderEpoch,
            OffsetNotAvailable,
            CoordinatorLoadInProgress,
            CoordinatorNotAvailable,
            NotCoordinator,
            UnknownTopicOrPartition,
            UnknownPartition,
            UnknownTopic,
            // "No leaders found": a topic that was just made is not everywhere yet.
            NoEnt,
            RequestTimedOut,
            NetworkException,
        ];
        is_silence(self.number) || passing.iter().any(|code| *code as i32 == self.number)
    }
}

/// Kafka's code of a number, or for librdkafka's own the nearest.
fn code(number: i32) -> Code {
    use RDKafkaErrorCode::*;
    let is = |codes: &[RDKafkaErrorCode]| codes.iter().any(|code| *code as i32 == number);
    match number {
        _ if is(&[BrokerTransportFailure, AllBrokersDown, Resolve]) => Code::BrokerNotAvailable,
        _ if is(&[MessageTimedOut, OperationTimedOut, TimedOutQueue]) => Code::RequestTimedOut,
        _ if is(&[UnknownTopic, UnknownPartition]) => Code::UnknownTopicOrPartition,
        _ if is(&[Authentication]) => Code::SaslAuthenticationFailed,
        _ if is(&[InvalidArgument]) => Code::InvalidRequest,
        _ => Code::numbered(number).unwrap_or(Code::UnknownServerError),
    }
}

/// No node answered within the time.
pub(super) fn unreachable(servers: &str, time: Duration, why: Option<String>) -> Error {
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    let why = format!("no node of the cluster ({servers}) answered within {} ms{why}", time.as_millis());
    Error::OfCluster { code: Code::BrokerNotAvailable, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_error_has_kafkas_name_and_librdkafkas_own_the_nearest() {
        assert_eq!(of_code("x", RDKafkaErrorCode::TopicAuthorizationFailed).code(), Code::TopicAuthorizationFailed);
        assert_eq!(of_code("x", RDKafkaErrorCode::MessageSizeTooLarge).code(), Code::MessageTooLarge);
        assert_eq!(of_code("x", RDKafkaErrorCode::AllBrokersDown).code(), Code::BrokerNotAvailable);
        assert_eq!(of_code("x", RDKafkaErrorCode::InvalidArgument).code(), Code::InvalidRequest);
    }
}
