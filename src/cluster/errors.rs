//! What librdkafka says went wrong, as errors of the verbs.

use crate::broker::{Code, Error};
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
    use RDKafkaErrorCode::*;
    let code = match error {
        BrokerTransportFailure | AllBrokersDown | Resolve => Code::BrokerNotAvailable,
        MessageTimedOut | OperationTimedOut | TimedOutQueue => Code::RequestTimedOut,
        UnknownTopic | UnknownPartition => Code::UnknownTopicOrPartition,
        Authentication => Code::SaslAuthenticationFailed,
        other => Code::numbered(other as i32).unwrap_or(Code::UnknownServerError),
    };
    Error::OfCluster { code, why: format!("{what}: {error}") }
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
        assert_eq!(of_code("x", RDKafkaErrorCode::InvalidArgument).code(), Code::UnknownServerError);
    }
}
