//! The broker's errors. [`Error::code`] is the one table of their codes; each protocol turns an error into its own reply and
//! adds a hint in its own words.

use super::{ADMIN, Code};
use crate::{
    log::{self, disk::is_full, record::shown},
    security::{Operation, ResourceType},
};
use std::{fmt, io, time::Duration};

/// What went wrong. `Display` is the sentence for the client, without a hint: that is for the protocol that it speaks.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// No topic of this name.
    UnknownTopic(String),
    /// The topic has no partition of this number.
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The number asked for.
        partition: u32,
        /// How many it has.
        partitions: u32,
    },
    /// A topic of this name is there.
    TopicExists(String),
    /// The name is no topic's, or the broker's own.
    InvalidTopic(String),
    /// The number of partitions is out of range.
    InvalidPartitions(String),
    /// A setting is unknown, or its value out of range.
    InvalidConfig(String),
    /// The offset is below the start or beyond the end.
    OffsetOutOfRange {
        /// The start offset.
        first: u64,
        /// The end offset.
        end: u64,
    },
    /// The batch there is damaged.
    Corrupt {
        /// First offset that cannot be read.
        first: u64,
        /// First offset that may be readable again.
        next: u64,
        /// Where on disk.
        place: String,
    },
    /// The record is larger than `max.message.bytes`.
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The lines of a batch are more than a batch, or a segment, may hold.
    BatchTooLarge {
        /// Their bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The topic is compacted, and a record has no key.
    KeyRequired,
    /// A record's time is negative.
    NoTime(i64),
    /// A record's time is further in the past or the future than the topic takes.
    InvalidTimestamp {
        /// The time, in ms.
        timestamp: i64,
        /// The earliest that is taken now.
        least: i64,
        /// The latest.
        most: i64,
    },
    /// An idempotent producer's batch is neither the next one nor one of the last.
    Sequence(String),
    /// A producer writes in an epoch that is over.
    ProducerEpoch(String),
    /// This broker never gave a producer this id.
    UnknownProducerId(i64),
    /// Another producer has taken over the transactional id (KIP-360).
    ProducerFenced(String),
    /// The transaction is not in a state in which this can be done, or there is none.
    InvalidTxnState(String),
    /// The transactional id is unknown, or another producer id belongs to it.
    InvalidProducerIdMapping(String),
    /// A transaction cannot be allowed so much time, or so little.
    InvalidTransactionTimeout(String),
    /// The last transaction of this id is still being ended.
    ConcurrentTransactions(String),
    /// A marker comes from a coordinator that another one has replaced.
    TransactionCoordinatorFenced(String),
    /// The name is no transactional id.
    InvalidTransactionalId(String),
    /// Nothing is known of this transactional id.
    UnknownTransactionalId(String),
    /// There are so many transactional ids that no new one is taken.
    TooManyTransactionalIds(usize),
    /// The transaction would have more partitions and groups than its line takes.
    TransactionTooLarge,
    /// The transaction can only be aborted, and the producer may go on afterwards (KIP-890).
    TransactionAbortable(String),
    /// Offsets of a transaction that is still open are pending here (KIP-447).
    UnstableOffsetCommit,
    /// What was asked goes on, and was not done in time.
    TimedOut(String),
    /// The disk does not do what it must.
    Storage(String),
    /// No such member of the group: its session is over, it left, or it never was one. It may join again.
    UnknownMemberId,
    /// A request of another generation.
    IllegalGeneration(String),
    /// The member does not hold this partition.
    NotAssigned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
    },
    /// The group rebalances: join again.
    RebalanceInProgress,
    /// The group is of another kind, or no protocol is known to all.
    InconsistentGroupProtocol,
    /// Join again, with this member id (KIP-394).
    MemberIdRequired(String),
    /// Another member took over this `group.instance.id` (KIP-345).
    FencedInstanceId,
    /// Another member has this `group.instance.id`, and did not leave it (KIP-848).
    UnreleasedInstanceId(String),
    /// A member's epoch is not the one that it was told: it is to give its partitions up and join anew (KIP-848).
    FencedMemberEpoch {
        /// The epoch that it named.
        named: i32,
        /// The epoch that it is in.
        known: i32,
    },
    /// An offset is to be committed or fetched in another epoch than the member's (KIP-848).
    StaleMemberEpoch {
        /// The epoch that was named.
        named: i32,
        /// The epoch that the member is in.
        known: i32,
    },
    /// A member with an epoch asks in a version of the protocol that has none (KIP-848).
    EpochUnknown,
    /// The group is not one whose partitions the broker assigns, and cannot become one.
    NotConsumerGroup,
    /// The group is no share group, and cannot become one.
    NotShareGroup,
    /// The group is a share group, whose members acknowledge records and commit no offsets.
    ShareGroup,
    /// The member has no share session (KIP-932).
    NoShareSession,
    /// A request of a share session is not the next one.
    ShareSessionEpoch {
        /// The epoch that it named.
        named: i32,
        /// The next one.
        next: i32,
    },
    /// There are so many share sessions, or partitions in them, that no more are taken.
    TooManyShareSessions,
    /// The text is no regular expression, or one that would take too much.
    InvalidPattern(String),
    /// No group of this name has members or committed offsets.
    UnknownGroup(String),
    /// What was asked takes a group without members.
    NonEmptyGroup(String),
    /// The session timeout is out of range.
    InvalidSessionTimeout(String),
    /// What the log would have to keep of the group is more than a batch of it holds.
    GroupTooLarge,
    /// The share group has so many members that no new one joins.
    GroupFull(usize),
    /// There are so many groups that no new one is made.
    TooManyGroups(usize),
    /// What is to be committed at once is more than a batch of the log holds.
    CommitTooLarge,
    /// It takes a feature of Kafka's that an administrator has turned off.
    FeatureOff(&'static str),
    /// The name is no group's.
    InvalidGroup(String),
    /// A record is not the member's to acknowledge (KIP-932).
    InvalidRecordState(String),
    /// What is acknowledged was never handed out (KIP-932).
    PastAcquired,
    /// The caller has changed topics faster than its quota allows; for how long it is to wait.
    TooFast(Duration),
    /// The caller may not do this to the resource. It is told the same whether that is there or not.
    NotAuthorized {
        /// What it may not do.
        operation: Operation,
        /// What kind of resource it is.
        resource_type: ResourceType,
        /// The resource's name.
        name: String,
    },
    /// The broker has no users, so there are no rules.
    SecurityDisabled,
    /// The rule says nothing, or too much.
    InvalidAcl(String),
    /// There would be so many rules, or so many are found at once.
    TooManyAcls(usize),
    /// There is no such user, or it has another password. Which of the two is told to nobody.
    LoginFailed,
    /// The token is not one that says who somebody is. Why is told to nobody.
    TokenRefused,
    /// The time is over for which the caller's token said who it is.
    TokenEnded,
    /// There is a user of this name.
    UserExists(String),
    /// There is no user of this name.
    UnknownUser(String),
    /// The name can be no user's, or the password is none that all clients can send.
    InvalidUser(String),
    /// A node of the cluster behind this program said so, or what speaks to the nodes.
    OfCluster {
        /// Its code.
        code: Code,
        /// What was done, and what came of it.
        why: String,
    },
    /// The verb is not for a Kafka cluster behind this program, or only for one.
    NotHere(&'static str),
    /// What a client notes with a committed offset is too long.
    MetadataTooLong {
        /// Its length, in UTF-16 units.
        units: usize,
        /// The limit.
        limit: usize,
    },
}

/// Every result of the broker.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What the disk answered, and what can be done where it is full. The error names the file.
    pub(super) fn of_disk(error: &io::Error) -> Error {
        if is_full(error) { Error::disk_full(error) } else { Error::Storage(error.to_string()) }
    }

    /// The disk is full: that names the file.
    pub(super) fn disk_full(error: impl fmt::Display) -> Error {
        Error::Storage(format!("the disk is full: {error}; trim or delete topics, or make room"))
    }

    /// Without [`ADMIN`] there might be nobody who lets others do anything.
    pub(crate) fn admin_stays() -> Error {
        Error::InvalidUser(format!("{ADMIN} stays, so that somebody may do everything"))
    }

    /// Kafka's number and name for it.
    pub fn code(&self) -> Code {
        match self {
            Error::OfCluster { code, .. } => *code,
            Error::NotAuthorized { resource_type, .. } => match resource_type {
                ResourceType::Topic => Code::TopicAuthorizationFailed,
                ResourceType::Group => Code::GroupAuthorizationFailed,
                ResourceType::TransactionalId => Code::TransactionalIdAuthorizationFailed,
                _ => Code::ClusterAuthorizationFailed,
            },
            Error::TooFast(_) => Code::ThrottlingQuotaExceeded,
            Error::SecurityDisabled => Code::SecurityDisabled,
            Error::TooManyAcls(_) => Code::PolicyViolation,
            Error::NotHere(_) | Error::InvalidAcl(_) => Code::InvalidRequest,
            Error::LoginFailed | Error::TokenRefused | Error::TokenEnded => Code::SaslAuthenticationFailed,
            Error::UserExists(_) => Code::DuplicateResource,
            Error::UnknownUser(_) => Code::ResourceNotFound,
            Error::InvalidUser(_) => Code::UnacceptableCredential,
            Error::UnknownTopic(_) => Code::UnknownTopicOrPartition,
            Error::UnknownPartition { .. } => Code::UnknownTopicOrPartition,
            Error::TopicExists(_) => Code::TopicAlreadyExists,
            Error::InvalidTopic(_) => Code::InvalidTopicException,
            Error::InvalidPartitions(_) => Code::InvalidPartitions,
            Error::InvalidConfig(_) => Code::InvalidConfig,
            Error::OffsetOutOfRange { .. } => Code::OffsetOutOfRange,
            Error::Corrupt { .. } => Code::CorruptMessage,
            Error::TooLarge { .. } => Code::MessageTooLarge,
            Error::BatchTooLarge { .. } => Code::MessageTooLarge,
            Error::KeyRequired => Code::InvalidRecord,
            Error::NoTime(_) => Code::InvalidRequest,
            Error::InvalidTimestamp { .. } => Code::InvalidTimestamp,
            Error::Sequence(_) => Code::OutOfOrderSequenceNumber,
            Error::ProducerEpoch(_) => Code::InvalidProducerEpoch,
            Error::UnknownProducerId(_) => Code::UnknownProducerId,
            Error::ProducerFenced(_) => Code::ProducerFenced,
            Error::InvalidTxnState(_) => Code::InvalidTxnState,
            Error::InvalidProducerIdMapping(_) => Code::InvalidProducerIdMapping,
            Error::InvalidTransactionTimeout(_) => Code::InvalidTransactionTimeout,
            Error::ConcurrentTransactions(_) => Code::ConcurrentTransactions,
            Error::TransactionCoordinatorFenced(_) => Code::TransactionCoordinatorFenced,
            Error::InvalidTransactionalId(_) => Code::InvalidRequest,
            Error::UnknownTransactionalId(_) => Code::TransactionalIdNotFound,
            Error::TransactionTooLarge => Code::PolicyViolation,
            Error::TooManyTransactionalIds(_) => Code::CoordinatorNotAvailable,
            Error::TransactionAbortable(_) => Code::TransactionAbortable,
            Error::UnstableOffsetCommit => Code::UnstableOffsetCommit,
            Error::TimedOut(_) => Code::RequestTimedOut,
            Error::Storage(_) => Code::KafkaStorageError,
            Error::UnknownMemberId => Code::UnknownMemberId,
            Error::IllegalGeneration(_) => Code::IllegalGeneration,
            Error::NotAssigned { .. } => Code::IllegalGeneration,
            Error::RebalanceInProgress => Code::RebalanceInProgress,
            Error::InconsistentGroupProtocol => Code::InconsistentGroupProtocol,
            Error::MemberIdRequired(_) => Code::MemberIdRequired,
            Error::FencedInstanceId => Code::FencedInstanceId,
            Error::UnreleasedInstanceId(_) => Code::UnreleasedInstanceId,
            Error::FencedMemberEpoch { .. } => Code::FencedMemberEpoch,
            Error::StaleMemberEpoch { .. } => Code::StaleMemberEpoch,
            Error::EpochUnknown | Error::FeatureOff(_) => Code::UnsupportedVersion,
            Error::NotConsumerGroup => Code::GroupIdNotFound,
            Error::NotShareGroup | Error::ShareGroup => Code::GroupIdNotFound,
            Error::NoShareSession => Code::ShareSessionNotFound,
            Error::ShareSessionEpoch { .. } => Code::InvalidShareSessionEpoch,
            Error::TooManyShareSessions => Code::ShareSessionLimitReached,
            Error::InvalidPattern(_) => Code::InvalidRegularExpression,
            Error::UnknownGroup(_) => Code::GroupIdNotFound,
            Error::NonEmptyGroup(_) => Code::NonEmptyGroup,
            Error::InvalidSessionTimeout(_) => Code::InvalidSessionTimeout,
            Error::GroupTooLarge | Error::GroupFull(_) => Code::GroupMaxSizeReached,
            Error::TooManyGroups(_) => Code::CoordinatorNotAvailable,
            Error::CommitTooLarge => Code::InvalidCommitOffsetSize,
            Error::InvalidGroup(_) => Code::InvalidGroupId,
            Error::InvalidRecordState(_) => Code::InvalidRecordState,
            Error::PastAcquired => Code::InvalidRequest,
            Error::MetadataTooLong { .. } => Code::OffsetMetadataTooLarge,
        }
    }

    /// Whether a write that was refused so may succeed later: Kafka clients then send the same batch again. A topic that is unknown
    /// while it is being dropped is there again if that fails.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Error::Storage(_) | Error::UnknownTopic(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::UnknownTopic(topic) => write!(f, "no topic '{topic}'"),
            Error::UnknownPartition { topic, partition, partitions } => {
                write!(f, "'{topic}' has no partition {partition}; it has 0 to {}", partitions - 1)
            }
            Error::TopicExists(topic) => write!(f, "topic '{topic}' is already there"),
            Error::LoginFailed => f.write_str("no user of this name has this password"),
            Error::TokenRefused => f.write_str("this token says to nobody here who you are"),
            Error::TokenEnded => f.write_str("the token has ended; come again with another"),
            Error::UserExists(name) => write!(f, "user '{name}' is already there"),
            Error::UnknownUser(name) => write!(f, "no user '{name}'"),
            Error::InvalidTopic(why)
            | Error::InvalidPartitions(why)
            | Error::InvalidConfig(why)
            | Error::Sequence(why)
            | Error::ProducerEpoch(why)
            | Error::ProducerFenced(why)
            | Error::InvalidTxnState(why)
            | Error::InvalidProducerIdMapping(why)
            | Error::InvalidTransactionTimeout(why)
            | Error::ConcurrentTransactions(why)
            | Error::TransactionCoordinatorFenced(why)
            | Error::InvalidTransactionalId(why)
            | Error::TransactionAbortable(why)
            | Error::TimedOut(why)
            | Error::Storage(why)
            | Error::IllegalGeneration(why)
            | Error::InvalidSessionTimeout(why)
            | Error::InvalidGroup(why)
            | Error::InvalidUser(why)
            | Error::InvalidRecordState(why) => f.write_str(why),
            Error::OfCluster { why, .. } | Error::InvalidAcl(why) => f.write_str(why),
            Error::SecurityDisabled => f.write_str("this broker has no users, so everybody may do everything"),
            Error::TooManyAcls(limit) => write!(f, "it would be more than {limit} rules at once, which is the limit"),
            Error::NotAuthorized { operation, resource_type: ResourceType::Cluster, .. } => {
                write!(f, "you may not do this: it takes '{operation}' on the cluster")
            }
            Error::NotAuthorized { operation, resource_type, name } => {
                write!(f, "you may not do this: it takes '{operation}' on the {resource_type} '{}'", shown(name.as_bytes()))
            }
            Error::TooFast(wait) => {
                write!(f, "topics were changed faster than your quota allows; try again in {} ms", wait.as_millis())
            }
            Error::NotHere(why) => f.write_str(why),
            Error::UnknownProducerId(id) => write!(f, "no producer was given the id {id} here"),
            Error::OffsetOutOfRange { first, end } => write!(f, "the partition holds {first} up to its end {end}"),
            Error::Corrupt { first, next, place } => {
                write!(f, "offsets {first} to {} are damaged in {place}; go on at {next}", next - 1)
            }
            Error::TooLarge { bytes, limit } => {
                write!(f, "the record has {bytes} bytes, and max.message.bytes is {limit}")
            }
            Error::BatchTooLarge { bytes, limit } => {
                write!(f, "as lines the batch has {bytes} bytes; the partition takes {limit} at once")
            }
            Error::KeyRequired => f.write_str("the topic is compacted, which keeps the latest record of each key"),
            Error::NoTime(time) => write!(f, "'{time}' is no time in milliseconds"),
            Error::InvalidTimestamp { timestamp, most, .. } if timestamp > most => {
                write!(f, "{timestamp} is later than message.timestamp.after.max.ms allows, which is {most} now")
            }
            Error::InvalidTimestamp { timestamp, least, .. } => {
                write!(f, "{timestamp} is earlier than message.timestamp.before.max.ms allows, which is {least} now")
            }
            Error::UnknownMemberId => {
                f.write_str("this connection is not a member: it never joined, has left, or was silent for longer than its session")
            }
            Error::NotAssigned { topic, partition } => write!(f, "this member does not hold {topic}/{partition}"),
            Error::RebalanceInProgress => f.write_str("the group rebalances; join again"),
            Error::InconsistentGroupProtocol => f.write_str(
                "the group is of another kind, its members and this one have no protocol in common, or the broker cannot read what they subscribe to; use another group",
            ),
            Error::MemberIdRequired(id) => write!(f, "join again with the member id {id}"),
            Error::FencedInstanceId => f.write_str("another member has taken over this group.instance.id"),
            Error::UnreleasedInstanceId(id) => write!(f, "the instance id '{id}' is a member's that has not left"),
            Error::FencedMemberEpoch { named, known } => {
                write!(f, "the member is in epoch {known}, not {named}; it is to give its partitions up and join again")
            }
            Error::StaleMemberEpoch { named, known } => write!(f, "the member is in epoch {known}, not {named}"),
            Error::EpochUnknown => f.write_str("the member has an epoch, which this version of the request cannot name"),
            Error::NotConsumerGroup => f.write_str("there is no group of this name whose partitions the broker assigns"),
            Error::NotShareGroup => f.write_str("there is no share group of this name"),
            Error::ShareGroup => f.write_str("this is a share group: its members acknowledge records, and commit no offsets"),
            Error::NoShareSession => f.write_str("the member has no share session; it is to open one"),
            Error::ShareSessionEpoch { named, next } => write!(f, "the share session is at epoch {next}, not {named}"),
            Error::TooManyShareSessions => f.write_str("there are too many share sessions, or partitions in them"),
            Error::InvalidPattern(why) => write!(f, "this is no pattern: {why}"),
            Error::UnknownTransactionalId(id) => write!(f, "nothing is known of the transactional id '{id}'"),
            Error::TransactionTooLarge => {
                f.write_str("the transaction would have more partitions and groups than its state takes, 1 MiB; end it sooner")
            }
            Error::TooManyTransactionalIds(count) => {
                write!(f, "there are {count} transactional ids, which is the limit; those that nobody uses expire")
            }
            Error::UnstableOffsetCommit => f.write_str("a transaction that is still open has committed an offset here"),
            Error::UnknownGroup(group) => write!(f, "no group '{group}'"),
            Error::NonEmptyGroup(group) => write!(f, "the group '{group}' has members; this takes one without"),
            Error::GroupTooLarge => {
                f.write_str("the members' subscriptions and assignments are more than the log takes of a group, 64 MiB")
            }
            Error::FeatureOff(name) => write!(f, "it takes {name}, which was put to level 0 here"),
            Error::GroupFull(count) => write!(f, "the group has {count} members, which is the limit"),
            Error::TooManyGroups(count) => write!(f, "there are {count} groups, which is the limit (--max-groups)"),
            Error::CommitTooLarge => {
                f.write_str("the offsets are more than the log takes at once, 64 MiB; commit them in parts")
            }
            Error::PastAcquired => {
                f.write_str("Batch record not found. The first offset in request is past acquired records.")
            }
            Error::MetadataTooLong { units, limit } => {
                write!(f, "the metadata of an offset has {units} characters; the limit is {limit}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<log::Error> for Error {
    fn from(error: log::Error) -> Error {
        match error {
            log::Error::OutOfRange { start: first, high_watermark: end } => Error::OffsetOutOfRange { first, end },
            log::Error::Corrupt { first, next, place } => Error::Corrupt { first, next, place },
            log::Error::TooLarge { bytes, limit } => Error::BatchTooLarge { bytes, limit },
            log::Error::DiskFull(why) => Error::disk_full(why),
            log::Error::ReadOnly(_) | log::Error::Unreadable(_) | log::Error::Closed => {
                Error::Storage(error.to_string())
            }
        }
    }
}
