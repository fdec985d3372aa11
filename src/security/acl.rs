//! Rules that say who may do what, with Kafka's names and numbers (KIP-11, KIP-290).

use super::resource::{Operation, Operations, ResourceType, kafka_enum};
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

impl Operation {
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
