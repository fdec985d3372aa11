//! What there is to be permitted: resources and operations, with Kafka's names and numbers (KIP-11).

use std::fmt;

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

            /// The one of this name, in any case, and as Kafka writes it: `DESCRIBE_CONFIGS`, `DescribeConfigs`.
            pub fn of_name(name: &str) -> Option<$type> {
                $type::ALL.iter().copied().find(|one| same_letters(one.name(), name))
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

#[cfg(feature = "users")]
pub(super) use kafka_enum;

/// Whether two names are the same but for case and what stands between their words.
pub(super) fn same_letters(a: &str, b: &str) -> bool {
    let letters = |name: &str| {
        let letters = name.bytes().filter(|letter| !b"-_".contains(letter));
        letters.map(|letter| letter.to_ascii_lowercase()).collect::<Vec<_>>()
    };
    letters(a) == letters(b)
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

/// A set of operations: a bit for each number.
pub type Operations = u32;

impl Operation {
    /// The set that holds just this one.
    pub const fn bit(self) -> Operations {
        1 << self.number()
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
