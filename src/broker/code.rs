//! Error codes: Kafka's numbers and names, in one table for all protocols.

macro_rules! codes {
    ($($code:ident $number:literal $name:literal;)*) => {
        /// The outcome of a request, or of one topic, partition or group in it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i16)]
        #[expect(missing_docs, reason = "the names are Kafka's, and so is what they mean")]
        pub enum Code {
            $($code = $number,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Code] = &[$(Code::$code,)*];

            /// The code of this number.
            pub fn numbered(number: i32) -> Option<Code> {
                Code::ALL.iter().copied().find(|code| i32::from(*code as i16) == number)
            }

            /// Kafka's name, as the text protocol writes it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Code::$code => $name,)*
                }
            }
        }
    };
}

codes! {
    UnknownServerError -1 "UNKNOWN_SERVER_ERROR";
    None 0 "NONE";
    OffsetOutOfRange 1 "OFFSET_OUT_OF_RANGE";
    CorruptMessage 2 "CORRUPT_MESSAGE";
    UnknownTopicOrPartition 3 "UNKNOWN_TOPIC_OR_PARTITION";
    LeaderNotAvailable 5 "LEADER_NOT_AVAILABLE";
    NotLeaderOrFollower 6 "NOT_LEADER_OR_FOLLOWER";
    RequestTimedOut 7 "REQUEST_TIMED_OUT";
    BrokerNotAvailable 8 "BROKER_NOT_AVAILABLE";
    MessageTooLarge 10 "MESSAGE_TOO_LARGE";
    OffsetMetadataTooLarge 12 "OFFSET_METADATA_TOO_LARGE";
    NetworkException 13 "NETWORK_EXCEPTION";
    CoordinatorLoadInProgress 14 "COORDINATOR_LOAD_IN_PROGRESS";
    CoordinatorNotAvailable 15 "COORDINATOR_NOT_AVAILABLE";
    NotCoordinator 16 "NOT_COORDINATOR";
    InvalidTopicException 17 "INVALID_TOPIC_EXCEPTION";
    RecordListTooLarge 18 "RECORD_LIST_TOO_LARGE";
    NotEnoughReplicas 19 "NOT_ENOUGH_REPLICAS";
    NotEnoughReplicasAfterAppend 20 "NOT_ENOUGH_REPLICAS_AFTER_APPEND";
    InvalidRequiredAcks 21 "INVALID_REQUIRED_ACKS";
    IllegalGeneration 22 "ILLEGAL_GENERATION";
    InconsistentGroupProtocol 23 "INCONSISTENT_GROUP_PROTOCOL";
    InvalidGroupId 24 "INVALID_GROUP_ID";
    UnknownMemberId 25 "UNKNOWN_MEMBER_ID";
    InvalidSessionTimeout 26 "INVALID_SESSION_TIMEOUT";
    RebalanceInProgress 27 "REBALANCE_IN_PROGRESS";
    InvalidCommitOffsetSize 28 "INVALID_COMMIT_OFFSET_SIZE";
    TopicAuthorizationFailed 29 "TOPIC_AUTHORIZATION_FAILED";
    GroupAuthorizationFailed 30 "GROUP_AUTHORIZATION_FAILED";
    ClusterAuthorizationFailed 31 "CLUSTER_AUTHORIZATION_FAILED";
    InvalidTimestamp 32 "INVALID_TIMESTAMP";
    UnsupportedSaslMechanism 33 "UNSUPPORTED_SASL_MECHANISM";
    IllegalSaslState 34 "ILLEGAL_SASL_STATE";
    UnsupportedVersion 35 "UNSUPPORTED_VERSION";
    TopicAlreadyExists 36 "TOPIC_ALREADY_EXISTS";
    InvalidPartitions 37 "INVALID_PARTITIONS";
    InvalidReplicationFactor 38 "INVALID_REPLICATION_FACTOR";
    InvalidReplicaAssignment 39 "INVALID_REPLICA_ASSIGNMENT";
    InvalidConfig 40 "INVALID_CONFIG";
    NotController 41 "NOT_CONTROLLER";
    InvalidRequest 42 "INVALID_REQUEST";
    PolicyViolation 44 "POLICY_VIOLATION";
    OutOfOrderSequenceNumber 45 "OUT_OF_ORDER_SEQUENCE_NUMBER";
    InvalidProducerEpoch 47 "INVALID_PRODUCER_EPOCH";
    InvalidTxnState 48 "INVALID_TXN_STATE";
    InvalidProducerIdMapping 49 "INVALID_PRODUCER_ID_MAPPING";
    InvalidTransactionTimeout 50 "INVALID_TRANSACTION_TIMEOUT";
    ConcurrentTransactions 51 "CONCURRENT_TRANSACTIONS";
    TransactionCoordinatorFenced 52 "TRANSACTION_COORDINATOR_FENCED";
    TransactionalIdAuthorizationFailed 53 "TRANSACTIONAL_ID_AUTHORIZATION_FAILED";
    SecurityDisabled 54 "SECURITY_DISABLED";
    OperationNotAttempted 55 "OPERATION_NOT_ATTEMPTED";
    KafkaStorageError 56 "KAFKA_STORAGE_ERROR";
    LogDirNotFound 57 "LOG_DIR_NOT_FOUND";
    SaslAuthenticationFailed 58 "SASL_AUTHENTICATION_FAILED";
    UnknownProducerId 59 "UNKNOWN_PRODUCER_ID";
    DelegationTokenAuthDisabled 61 "DELEGATION_TOKEN_AUTH_DISABLED";
    DelegationTokenRequestNotAllowed 64 "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED";
    NonEmptyGroup 68 "NON_EMPTY_GROUP";
    GroupIdNotFound 69 "GROUP_ID_NOT_FOUND";
    FetchSessionIdNotFound 70 "FETCH_SESSION_ID_NOT_FOUND";
    FencedLeaderEpoch 74 "FENCED_LEADER_EPOCH";
    UnknownLeaderEpoch 75 "UNKNOWN_LEADER_EPOCH";
    UnsupportedCompressionType 76 "UNSUPPORTED_COMPRESSION_TYPE";
    MemberIdRequired 79 "MEMBER_ID_REQUIRED";
    GroupMaxSizeReached 81 "GROUP_MAX_SIZE_REACHED";
    FencedInstanceId 82 "FENCED_INSTANCE_ID";
    ElectionNotNeeded 84 "ELECTION_NOT_NEEDED";
    NoReassignmentInProgress 85 "NO_REASSIGNMENT_IN_PROGRESS";
    GroupSubscribedToTopic 86 "GROUP_SUBSCRIBED_TO_TOPIC";
    InvalidRecord 87 "INVALID_RECORD";
    UnstableOffsetCommit 88 "UNSTABLE_OFFSET_COMMIT";
    ThrottlingQuotaExceeded 89 "THROTTLING_QUOTA_EXCEEDED";
    ProducerFenced 90 "PRODUCER_FENCED";
    ResourceNotFound 91 "RESOURCE_NOT_FOUND";
    DuplicateResource 92 "DUPLICATE_RESOURCE";
    UnacceptableCredential 93 "UNACCEPTABLE_CREDENTIAL";
    InvalidUpdateVersion 95 "INVALID_UPDATE_VERSION";
    UnknownTopicId 100 "UNKNOWN_TOPIC_ID";
    BrokerIdNotRegistered 102 "BROKER_ID_NOT_REGISTERED";
    TransactionalIdNotFound 105 "TRANSACTIONAL_ID_NOT_FOUND";
    FencedMemberEpoch 110 "FENCED_MEMBER_EPOCH";
    UnreleasedInstanceId 111 "UNRELEASED_INSTANCE_ID";
    UnsupportedAssignor 112 "UNSUPPORTED_ASSIGNOR";
    StaleMemberEpoch 113 "STALE_MEMBER_EPOCH";
    MismatchedEndpointType 114 "MISMATCHED_ENDPOINT_TYPE";
    TransactionAbortable 120 "TRANSACTION_ABORTABLE";
    InvalidRecordState 121 "INVALID_RECORD_STATE";
    ShareSessionNotFound 122 "SHARE_SESSION_NOT_FOUND";
    InvalidShareSessionEpoch 123 "INVALID_SHARE_SESSION_EPOCH";
    InvalidRegularExpression 128 "INVALID_REGULAR_EXPRESSION";
    ShareSessionLimitReached 133 "SHARE_SESSION_LIMIT_REACHED";
}

impl From<Code> for i16 {
    fn from(code: Code) -> i16 {
        code as i16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_code_in_capitals() {
        for code in Code::ALL {
            let mut name = String::new();
            for (index, letter) in format!("{code:?}").chars().enumerate() {
                name.push_str(if index > 0 && letter.is_uppercase() { "_" } else { "" });
                name.push(letter.to_ascii_uppercase());
            }
            assert_eq!(code.name(), name);
        }
    }
}
