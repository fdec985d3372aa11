//! What callers need for what they ask, as it is told to them: `HELP acl` and `GET /api` print it from the tables of verbs and routes.
//! The [gate](crate::broker::Gate) decides; tests ask each verb and route with these rights and without each of them.

use crate::security::{Operation, Operation::*, ResourceType, ResourceType::*};
use std::fmt;

/// What somebody has to be allowed to do what a verb, or a route, does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// All of these.
    pub(super) rights: &'static [Right],
    /// What else there is to say.
    pub(super) note: &'static str,
}

/// A right: an operation on a resource of a type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Right(pub(super) Operation, pub(super) ResourceType);

const fn needs(rights: &'static [Right]) -> Needs {
    Needs { rights, note: "" }
}

const fn noted(rights: &'static [Right], note: &'static str) -> Needs {
    Needs { rights, note }
}

pub(super) const NOTHING: Needs = needs(&[]);
pub(super) const SHOWN: Needs = noted(&[], "it shows what one may describe");
pub(super) const TOPIC_READ: Needs = needs(&[Right(Read, Topic)]);
pub(super) const TOPIC_WRITE: Needs = needs(&[Right(Write, Topic)]);
pub(super) const TOPIC_DESCRIBE: Needs = needs(&[Right(Describe, Topic)]);
pub(super) const TOPIC_SHOW: Needs =
    noted(&[Right(Describe, Topic)], "it shows the settings to who may describe-configs on the topic");
pub(super) const TOPIC_CREATE: Needs = noted(&[Right(Create, Topic)], "or create on the cluster");
pub(super) const TOPIC_ALTER: Needs =
    noted(&[Right(Alter, Topic), Right(AlterConfigs, Topic)], "the first for partitions, the second for settings");
pub(super) const TOPIC_DELETE: Needs = noted(&[Right(Delete, Topic)], "or delete on the cluster");
pub(super) const TOPIC_TRIM: Needs = needs(&[Right(Delete, Topic)]);
pub(super) const NUMBER: Needs = noted(&[Right(IdempotentWrite, Cluster)], "or write on some topic");
pub(super) const TRANSACTION_WRITE: Needs = needs(&[Right(Write, TransactionalId)]);
pub(super) const TRANSACTION_DESCRIBE: Needs = needs(&[Right(Describe, TransactionalId)]);
pub(super) const MEMBER: Needs = needs(&[Right(Read, Group), Right(Read, Topic)]);
pub(super) const JOINING: Needs = noted(
    &[Right(Read, Group), Right(Read, Topic)],
    "for dead: write on that topic, and create where first use makes it",
);
pub(super) const GROUP_DESCRIBE: Needs = noted(&[Right(Describe, Group)], "it shows the topics that one may describe");
pub(super) const GROUP_RESET: Needs =
    noted(&[Right(Read, Group), Right(Read, Topic)], "to forget the group: delete on it");
#[cfg(feature = "http")]
pub(super) const GROUP_DELETE: Needs = needs(&[Right(Delete, Group)]);
#[cfg(feature = "users")]
pub(super) const RULES: Needs = noted(&[Right(Alter, Cluster)], "to list them: describe on the cluster");
#[cfg(feature = "http")]
pub(super) const CLUSTER_DESCRIBE: Needs = needs(&[Right(Describe, Cluster)]);
#[cfg(feature = "http")]
pub(super) const CLUSTER_ALTER: Needs = needs(&[Right(Alter, Cluster)]);

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights: Vec<_> = self.rights.iter().map(Right::to_string).collect();
        let rights = if rights.is_empty() { "nothing".into() } else { rights.join(", ") };
        let comma = if self.note.is_empty() { "" } else { "; " };
        write!(f, "{rights}{comma}{}", self.note)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on the {}", self.0, self.1)
    }
}
