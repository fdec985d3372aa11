//! Errors: `{"error":"UNKNOWN_TOPIC_OR_PARTITION","message":"..."}`, with the codes of the text protocol and HTTP's status.

use crate::broker::{self, Code};
use serde_json::{Value, json};
use std::io;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    /// HTTP's status.
    pub(super) status: u16,
    /// Kafka's name of the error; `INVALID_REQUEST` for what is no request of this API.
    pub(super) code: Code,
    /// A sentence for whoever sent it.
    pub(super) message: String,
}

impl Refusal {
    /// The request itself is at fault.
    pub(super) fn new(status: u16, message: impl Into<String>) -> Refusal {
        Refusal { status, code: Code::InvalidRequest, message: message.into() }
    }

    /// It cannot be understood.
    pub(super) fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(400, message)
    }

    /// The refusal as it is told.
    pub(super) fn json(&self) -> Value {
        json!({ "error": self.code.name(), "message": self.message })
    }

    /// The answer's body.
    pub(super) fn body(&self) -> Vec<u8> {
        let mut body = self.json().to_string().into_bytes();
        body.push(b'\n');
        body
    }
}

impl From<broker::Error> for Refusal {
    fn from(error: broker::Error) -> Refusal {
        let code = error.code();
        Refusal { status: status_of(code), code, message: error.to_string() }
    }
}

/// The status of what the broker refuses.
fn status_of(code: Code) -> u16 {
    match code {
        Code::UnknownTopicOrPartition | Code::GroupIdNotFound | Code::TransactionalIdNotFound => 404,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => 403,
        Code::SaslAuthenticationFailed => 401,
        Code::ResourceNotFound => 404,
        Code::SecurityDisabled | Code::DuplicateResource => 409,
        Code::ThrottlingQuotaExceeded => 429,
        Code::TopicAlreadyExists | Code::NonEmptyGroup | Code::ConcurrentTransactions | Code::InvalidTxnState => 409,
        Code::MessageTooLarge | Code::RecordListTooLarge => 413,
        Code::CorruptMessage => 500,
        Code::KafkaStorageError | Code::CoordinatorNotAvailable => 503,
        Code::RequestTimedOut => 504,
        _ => 400,
    }
}

/// Why a request did not end as asked.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client is told why.
    Refused(Refusal),
    /// The connection is broken.
    Broken(io::Error),
}

impl<E: Into<Refusal>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Refused(error.into())
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Broken(error)
    }
}
