//! Rules that say who may do what, with Kafka's names and numbers (KIP-11, KIP-290).

use super::resource::{CLUSTER_NAME, Operation, Operations, ResourceType, kafka_enum, same_letters};
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

/// As one says it: `allow User:alice from * write on topic orders`.
impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Acl { resource_type, pattern, name, principal, host, operation, permission } = self;
        let prefixed = if *pattern == PatternType::Prefixed { "..." } else { "" };
        write!(f, "{permission} {principal} from {host} {operation} on {resource_type} {name}{prefixed}")
    }
}

/// The bytes that the names of a rule may take together: resource, principal and host.
const NAMES_BYTES_MAX: usize = 4096;

impl Acl {
    /// Whether it can be kept; an error says what is wrong. As in Kafka, it may be of operations that its resource does not have, and
    /// of hosts that are none: then it matches nothing.
    pub fn check(&self) -> Result<(), String> {
        let Acl { resource_type, name, principal, host, .. } = self;
        let why = if name.is_empty() {
            "a rule names what it is about".into()
        } else if *resource_type == ResourceType::Cluster && name != CLUSTER_NAME {
            format!("the one resource of the type cluster is '{CLUSTER_NAME}'")
        } else if !principal.contains(':') {
            "a principal is a type and a name, such as 'User:alice'".into()
        } else if name.len() + principal.len() + host.len() > NAMES_BYTES_MAX {
            format!("what a rule names takes at most {NAMES_BYTES_MAX} bytes")
        } else {
            return Ok(());
        };
        Err(why)
    }
}

/// Which rules are looked for; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclFilter {
    /// What kind of resource.
    pub resource_type: Option<ResourceType>,
    /// How `name` is meant, by the rule and here.
    pub pattern: PatternFilter,
    /// The resource's name.
    pub name: Option<String>,
    /// Whom it is about.
    pub principal: Option<String>,
    /// From where.
    pub host: Option<String>,
    /// What it is about.
    pub operation: Option<Operation>,
    /// What it says.
    pub permission: Option<Permission>,
}

/// How the name of a filter is meant (KIP-290).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PatternFilter {
    /// As the name that stands in the rule, however the rule means it.
    #[default]
    Any,
    /// As a resource that the rule is about.
    Match,
    /// As the name that stands in a rule that means it so.
    Exactly(PatternType),
}

impl PatternFilter {
    const NAMES: [(&str, PatternFilter); 4] = [
        ("any", PatternFilter::Any),
        ("match", PatternFilter::Match),
        (PatternType::Literal.name(), PatternFilter::Exactly(PatternType::Literal)),
        (PatternType::Prefixed.name(), PatternFilter::Exactly(PatternType::Prefixed)),
    ];

    /// The one of this name, in any case.
    pub fn of_name(name: &str) -> Option<PatternFilter> {
        let found = PatternFilter::NAMES.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, pattern)| pattern)
    }
}

impl AclFilter {
    /// Whether it asks for nothing but a pattern.
    pub fn is_any(&self) -> bool {
        *self == AclFilter { pattern: self.pattern, ..AclFilter::default() }
    }

    /// The rule that somebody makes who says this much: literal, for all hosts and an allowance unless something else is said.
    pub fn rule(self) -> Result<Acl, String> {
        fn there<T>(field: Option<T>, name: &str) -> Result<T, String> {
            field.ok_or_else(|| {
                format!("a rule has a resource, a name, a principal and an operation; the {name} is missing")
            })
        }
        let resource_type = there(self.resource_type, "resource")?;
        let only = (resource_type == ResourceType::Cluster).then(|| CLUSTER_NAME.to_string());
        Ok(Acl {
            resource_type,
            pattern: match self.pattern {
                PatternFilter::Any => PatternType::Literal,
                PatternFilter::Exactly(pattern) => pattern,
                PatternFilter::Match => return Err("the pattern of a rule is literal or prefixed".into()),
            },
            name: there(self.name.or(only), "name")?,
            principal: there(self.principal, "principal")?,
            host: self.host.unwrap_or_else(|| ANY_HOST.into()),
            operation: there(self.operation, "operation")?,
            permission: self.permission.unwrap_or(Permission::Allow),
        })
    }

    /// Whether this is one of the rules.
    pub fn matches(&self, acl: &Acl) -> bool {
        fn is<T: PartialEq>(asked: &Option<T>, one: &T) -> bool {
            asked.as_ref().is_none_or(|asked| asked == one)
        }
        let about = |name: &String| match acl.pattern {
            PatternType::Literal => acl.name == *name || acl.name == ANY_NAME,
            PatternType::Prefixed => name.starts_with(&acl.name),
        };
        let named = match self.pattern {
            PatternFilter::Any => is(&self.name, &acl.name),
            PatternFilter::Match => self.name.as_ref().is_none_or(about),
            PatternFilter::Exactly(pattern) => pattern == acl.pattern && is(&self.name, &acl.name),
        };
        named
            && is(&self.resource_type, &acl.resource_type)
            && is(&self.principal, &acl.principal)
            && is(&self.host, &acl.host)
            && is(&self.operation, &acl.operation)
            && is(&self.permission, &acl.permission)
    }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(pattern: PatternType, name: &str) -> Acl {
        Acl {
            resource_type: ResourceType::Topic,
            pattern,
            name: name.into(),
            principal: "User:alice".into(),
            host: ANY_HOST.into(),
            operation: Operation::Read,
            permission: Permission::Allow,
        }
    }

    use PatternType::*;

    #[test]
    fn filters_find_by_name_what_kafka_finds() {
        let rules = [(Literal, "orders"), (Prefixed, "orders"), (Prefixed, "ord"), (Literal, "*")]
            .map(|(p, name)| acl(p, name));
        let found = |pattern, name: &str| {
            let filter = AclFilter { pattern, name: Some(name.into()), ..AclFilter::default() };
            rules.iter().map(|acl| u8::from(filter.matches(acl))).collect::<Vec<_>>()
        };
        for (pattern, name, expected) in [
            (PatternFilter::Exactly(Literal), "orders", [1, 0, 0, 0]),
            (PatternFilter::Exactly(Literal), "orders-2", [0, 0, 0, 0]),
            (PatternFilter::Exactly(Literal), "*", [0, 0, 0, 1]),
            (PatternFilter::Exactly(Prefixed), "orders", [0, 1, 0, 0]),
            (PatternFilter::Exactly(Prefixed), "ord", [0, 0, 1, 0]),
            (PatternFilter::Match, "orders", [1, 1, 1, 1]),
            (PatternFilter::Match, "orders-2", [0, 1, 1, 1]),
            (PatternFilter::Match, "ord", [0, 0, 1, 1]),
            (PatternFilter::Match, "*", [0, 0, 0, 1]),
            (PatternFilter::Any, "orders", [1, 1, 0, 0]),
            (PatternFilter::Any, "*", [0, 0, 0, 1]),
        ] {
            assert_eq!(found(pattern, name), expected, "{pattern:?} {name}");
        }
    }

    #[test]
    fn a_rule_is_made_of_what_is_said_of_it() {
        let said = AclFilter {
            resource_type: Some(ResourceType::Topic),
            name: Some("orders".into()),
            principal: Some("User:alice".into()),
            operation: Some(Operation::Read),
            ..AclFilter::default()
        };
        assert_eq!(said.clone().rule(), Ok(acl(Literal, "orders")));
        assert!(AclFilter { pattern: PatternFilter::Match, ..said.clone() }.rule().is_err());
        let cluster = AclFilter { resource_type: Some(ResourceType::Cluster), name: None, ..said.clone() };
        assert_eq!(cluster.rule().unwrap().name, CLUSTER_NAME);
        let why = AclFilter { principal: None, ..said.clone() }.rule().unwrap_err();
        assert!(why.ends_with("the principal is missing"), "{why}");
        assert!(!said.is_any() && AclFilter { pattern: PatternFilter::Match, ..AclFilter::default() }.is_any());
    }

    #[test]
    fn every_field_of_a_filter_counts() {
        let one = acl(Literal, "orders");
        let any = AclFilter::default;
        assert!(any().matches(&one));
        let exact = AclFilter {
            resource_type: Some(one.resource_type),
            pattern: PatternFilter::Exactly(one.pattern),
            name: Some(one.name.clone()),
            principal: Some(one.principal.clone()),
            host: Some(one.host.clone()),
            operation: Some(one.operation),
            permission: Some(one.permission),
        };
        assert!(exact.matches(&one));
        for filter in [
            AclFilter { resource_type: Some(ResourceType::Group), ..any() },
            AclFilter { pattern: PatternFilter::Exactly(Prefixed), ..any() },
            AclFilter { name: Some("order".into()), ..any() },
            AclFilter { principal: Some("User:*".into()), ..any() },
            AclFilter { host: Some("127.0.0.1".into()), ..any() },
            AclFilter { operation: Some(Operation::All), ..any() },
            AclFilter { permission: Some(Permission::Deny), ..any() },
        ] {
            assert!(!filter.matches(&one), "{filter:?}");
        }
    }

    #[test]
    fn a_rule_that_says_nothing_is_refused() {
        let with = |change: fn(&mut Acl)| {
            let mut acl = acl(Literal, "orders");
            change(&mut acl);
            acl.check().is_ok()
        };
        assert!(with(|_| ()) && with(|acl| acl.principal = ":x".into()) && with(|acl| acl.host = "nowhere".into()));
        assert!(with(|acl| (acl.resource_type, acl.name) = (ResourceType::Cluster, CLUSTER_NAME.into())));
        assert!(!with(|acl| acl.name.clear()));
        assert!(!with(|acl| acl.principal = "alice".into()));
        assert!(!with(|acl| acl.resource_type = ResourceType::Cluster));
        assert!(!with(|acl| acl.host = "x".repeat(NAMES_BYTES_MAX)));
    }
}
