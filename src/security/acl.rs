//! Rules that say who may do what, with Kafka's names and numbers (KIP-11, KIP-290).

use std::{fmt, net::IpAddr};

/// A rule: whether a principal may do an operation to the resources that a pattern names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl {
    /// What kind of resource.
    pub resource_type: ResourceType,
    /// How `name` is meant.
    pub pattern: PatternType,
    /// The resource's name, how it begins, or [`ANY_NAME`].
    pub name: String,
    /// Whom it is about: `User:alice`, or [`ANY_USER`].
    pub principal: String,
    /// From where: an IP address, or `*`.
    pub host: String,
    /// What it is about.
    pub operation: Operation,
    /// Whether it is allowed.
    pub permission: Permission,
}

/// The literal name that stands for all resources of a type.
pub const ANY_NAME: &str = "*";
/// The principal that stands for all of them.
pub const ANY_USER: &str = "User:*";
/// The host that stands for all of them.
pub const ANY_HOST: &str = "*";
/// The name of the one resource of the type cluster.
pub const CLUSTER_NAME: &str = "kafka-cluster";

/// An enumeration of Kafka's: its numbers, and the names that are written in files and lines.
macro_rules! kafka_enum {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i8)]
        pub enum $type { $($(#[$variant_doc])* $variant = $number,)* }

        impl $type {
            /// All of them.
            pub const ALL: &[$type] = &[$($type::$variant,)*];

            /// The one with Kafka's number.
            pub fn of_number(number: i8) -> Option<$type> {
                $type::ALL.iter().copied().find(|one| one.number() == number)
            }

            /// Kafka's number of it.
            pub const fn number(self) -> i8 {
                self as i8
            }

            /// The one of this name, in any case.
            pub fn of_name(name: &str) -> Option<$type> {
                $type::ALL.iter().copied().find(|one| one.name().eq_ignore_ascii_case(name))
            }

            /// Its name, in small letters.
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

kafka_enum! {
    /// The kinds of resources.
    ResourceType {
        /// A topic.
        Topic = 2 "topic",
        /// A group, of any type.
        Group = 3 "group",
        /// The broker itself, or all of its cluster: [`CLUSTER_NAME`].
        Cluster = 4 "cluster",
        /// An id of a transactional producer.
        TransactionalId = 5 "transactional-id",
        /// A delegation token; none are given out.
        DelegationToken = 6 "delegation-token",
        /// A user, whose tokens somebody may ask for; none are given out.
        User = 7 "user",
    }
}

kafka_enum! {
    /// What may be done to a resource.
    Operation {
        /// Whatever can be done.
        All = 2 "all",
        /// Reading.
        Read = 3 "read",
        /// Writing.
        Write = 4 "write",
        /// Making.
        Create = 5 "create",
        /// Removing it, or records of it.
        Delete = 6 "delete",
        /// Changing.
        Alter = 7 "alter",
        /// Seeing that it is there, and how it is.
        Describe = 8 "describe",
        /// What brokers ask of each other.
        ClusterAction = 9 "cluster-action",
        /// Seeing its settings.
        DescribeConfigs = 10 "describe-configs",
        /// Changing its settings.
        AlterConfigs = 11 "alter-configs",
        /// Writing with sequences.
        IdempotentWrite = 12 "idempotent-write",
        /// Making tokens for a user.
        CreateTokens = 13 "create-tokens",
        /// Seeing the tokens of a user.
        DescribeTokens = 14 "describe-tokens",
        /// Transactions that another system decides.
        TwoPhaseCommit = 15 "two-phase-commit",
    }
}

kafka_enum! {
    /// How the name of a rule is meant.
    PatternType {
        /// As the whole name, or all names where it is [`ANY_NAME`].
        Literal = 3 "literal",
        /// As how names begin.
        Prefixed = 4 "prefixed",
    }
}

kafka_enum! {
    /// What a rule says. A denial counts more than any number of allowances.
    Permission {
        /// It may not.
        Deny = 2 "deny",
        /// It may.
        Allow = 3 "allow",
    }
}

/// A set of operations: a bit for each number.
pub type Operations = u32;

impl Operation {
    /// The set that holds just this one.
    pub const fn bit(self) -> Operations {
        1 << self.number()
    }

    /// The operations one of which has to be allowed so that this one is.
    pub(super) fn allowed_by(self) -> Operations {
        let implied = match self {
            Operation::Describe => {
                Operation::Read.bit() | Operation::Write.bit() | Operation::Delete.bit() | Operation::Alter.bit()
            }
            Operation::DescribeConfigs => Operation::AlterConfigs.bit(),
            _ => 0,
        };
        self.denied_by() | implied
    }

    /// The operations one of which has to be denied so that this one is.
    pub(super) fn denied_by(self) -> Operations {
        self.bit() | Operation::All.bit()
    }
}

impl ResourceType {
    /// What can be done to resources of this type, as far as Kafka tells clients.
    pub fn operations(self) -> &'static [Operation] {
        use Operation::*;
        match self {
            ResourceType::Topic => &[Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs],
            ResourceType::Group => &[Read, Delete, Describe, DescribeConfigs, AlterConfigs],
            ResourceType::Cluster => {
                &[Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite]
            }
            ResourceType::TransactionalId => &[Describe, Write, TwoPhaseCommit],
            ResourceType::DelegationToken => &[Describe],
            ResourceType::User => &[CreateTokens, DescribeTokens],
        }
    }
}

/// Where a rule's principal has to ask from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Any,
    Address(IpAddr),
    /// What is no address matches none.
    Nowhere,
}

impl Host {
    pub(super) fn of(text: &str) -> Host {
        match text.parse::<IpAddr>() {
            _ if text == ANY_HOST => Host::Any,
            Ok(address) => Host::Address(address.to_canonical()),
            Err(_) => Host::Nowhere,
        }
    }

    pub(super) fn matches(self, address: Option<IpAddr>) -> bool {
        match self {
            Host::Any => true,
            Host::Address(own) => address.is_some_and(|address| address.to_canonical() == own),
            Host::Nowhere => false,
        }
    }
}
