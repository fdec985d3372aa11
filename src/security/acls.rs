//! What all rules decide.
//!
//! ```text
//! type ─┬─ any        *                    ┐
//!       ├─ literal    orders, payments     ├─ each with its principals: what they are allowed and denied, from where
//!       └─ prefixed   o, ord, p  (sorted)  ┘
//! ```
//!
//! All prefixes of a name stand on one path: they are the last one that sorts before the name, what that one begins with, and so on.
//! So a decision costs two lookups by name and a binary search, however many rules there are.

use super::{
    acl::{ANY_NAME, ANY_USER, Acl, Host, PatternType, Permission},
    resource::{Operation, Operations, ResourceType},
};
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

/// All rules, by what they are about. They change as a whole: a changed set is made, and takes the other's place.
#[derive(Clone, Debug, Default)]
pub struct Acls {
    types: HashMap<ResourceType, OfType>,
}

/// Who asks, of which resource.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// `User:alice`.
    pub principal: &'a str,
    /// From where; `None`: from within.
    pub address: Option<IpAddr>,
    /// The resource's type.
    pub resource_type: ResourceType,
    /// Its name.
    pub name: &'a str,
    /// Whether only rules count that name it wholly: the broker's own topics are nobody's by a pattern.
    pub by_name_only: bool,
}

/// What rules say of a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    allowed: Operations,
    denied: Operations,
    /// Whether there is any rule about the resource, whoever it is about.
    any: bool,
}

#[derive(Clone, Debug, Default)]
struct OfType {
    any: Principals,
    literal: HashMap<String, Principals>,
    prefixed: Vec<Prefix>,
}

#[derive(Clone, Debug)]
struct Prefix {
    name: String,
    /// The longest other one that this one begins with, by its place.
    shorter: Option<usize>,
    principals: Principals,
}

#[derive(Clone, Debug, Default)]
struct Principals(HashMap<String, Hosts>);

/// What is said of a principal: wherever it asks from, and from single addresses.
#[derive(Clone, Debug, Default)]
struct Hosts {
    any: Says,
    single: HashMap<IpAddr, Says>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Says {
    allowed: Operations,
    denied: Operations,
}

impl Principals {
    fn add(&mut self, acl: &Acl) {
        let hosts = self.0.entry(acl.principal.clone()).or_default();
        let says = match Host::of(&acl.host) {
            Host::Any => &mut hosts.any,
            Host::Address(address) => hosts.single.entry(address).or_default(),
            Host::Nowhere => return,
        };
        match acl.permission {
            Permission::Allow => says.allowed |= acl.operation.bit(),
            Permission::Deny => says.denied |= acl.operation.bit(),
        }
    }

    fn ask(&self, question: &Question<'_>, said: &mut Said) {
        said.any |= !self.0.is_empty();
        let address = question.address.map(|address| address.to_canonical());
        for hosts in [question.principal, ANY_USER].into_iter().filter_map(|principal| self.0.get(principal)) {
            for says in [Some(&hosts.any), address.and_then(|address| hosts.single.get(&address))].into_iter().flatten()
            {
                said.allowed |= says.allowed;
                said.denied |= says.denied;
            }
        }
    }
}

impl Acls {
    /// What these rules decide.
    pub fn new(all: &BTreeSet<Acl>) -> Acls {
        let mut types: HashMap<ResourceType, OfType> = HashMap::new();
        for acl in all {
            let of_type = types.entry(acl.resource_type).or_default();
            match acl.pattern {
                PatternType::Literal if acl.name == ANY_NAME => of_type.any.add(acl),
                PatternType::Literal => of_type.literal.entry(acl.name.clone()).or_default().add(acl),
                PatternType::Prefixed => of_type.add_prefixed(acl),
            }
        }
        Acls { types }
    }
}

impl OfType {
    /// Adds a rule whose name sorts behind all that were added.
    fn add_prefixed(&mut self, acl: &Acl) {
        if self.prefixed.last().is_none_or(|last| last.name != acl.name) {
            let shorter = self.prefixes(&acl.name).next();
            self.prefixed.push(Prefix { name: acl.name.clone(), shorter, principals: Principals::default() });
        }
        self.prefixed.last_mut().expect("it was just pushed").principals.add(acl);
    }

    /// The places of what `name` begins with, the longest first.
    fn prefixes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = usize> + 'a {
        let before = self.prefixed.partition_point(|prefix| &*prefix.name <= name).checked_sub(1);
        let path = std::iter::successors(before, |&at| self.prefixed[at].shorter);
        path.filter(move |&at| name.starts_with(&self.prefixed[at].name))
    }
}

impl Acls {
    /// What they say of a question.
    fn ask(&self, question: &Question<'_>) -> Said {
        let mut said = Said::default();
        let Some(of_type) = self.types.get(&question.resource_type) else { return said };
        if let Some(principals) = of_type.literal.get(question.name) {
            principals.ask(question, &mut said);
        }
        if !question.by_name_only {
            of_type.any.ask(question, &mut said);
            of_type.prefixes(question.name).for_each(|at| of_type.prefixed[at].principals.ask(question, &mut said));
        }
        said
    }

    /// Whether somebody may do `operation`: an allowance says so, and no denial speaks against it. Where no rule is about the
    /// resource, `if_none` decides.
    pub fn allow(&self, question: &Question<'_>, operation: Operation, if_none: bool) -> bool {
        self.ask(question).allows(operation, if_none)
    }

    /// Whether there is a name, of resources of a type, for which [`allow`](Self::allow) says yes; the question's own name does
    /// not count (KIP-679).
    pub fn allow_any(&self, question: &Question<'_>, operation: Operation, if_none: bool) -> bool {
        let allows = |name: &str| self.allow(&Question { name, ..*question }, operation, if_none);
        let Some(of_type) = self.types.get(&question.resource_type) else { return if_none };
        let names = of_type.literal.keys().chain(of_type.prefixed.iter().map(|prefix| &prefix.name));
        // A name that no rule mentions stands for all others.
        allows("\0") || names.into_iter().any(|name| allows(name))
    }
}

impl Said {
    fn allows(self, operation: Operation, if_none: bool) -> bool {
        self.denied & operation.denied_by() == 0 && (self.allowed & operation.allowed_by() != 0 || if_none && !self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::acl::ANY_HOST;
    use proptest::prelude::*;

    fn acl(principal: &str, permission: Permission, operation: Operation, pattern: PatternType, name: &str) -> Acl {
        Acl {
            resource_type: ResourceType::Topic,
            pattern,
            name: name.into(),
            principal: principal.into(),
            host: ANY_HOST.into(),
            operation,
            permission,
        }
    }

    fn decide(rules: impl IntoIterator<Item = Acl>) -> Acls {
        Acls::new(&rules.into_iter().collect())
    }

    fn alice(name: &str) -> Question<'_> {
        Question {
            principal: "User:alice",
            address: Some([127, 0, 0, 1].into()),
            resource_type: ResourceType::Topic,
            name,
            by_name_only: false,
        }
    }

    use Operation::*;
    use PatternType::*;
    use Permission::*;

    #[test]
    fn nothing_is_allowed_without_a_rule_unless_that_is_said() {
        let acls = decide([acl("User:bob", Allow, Read, Literal, "orders")]);
        assert!(!acls.allow(&alice("orders"), Read, true), "there is a rule about it");
        assert!(acls.allow(&alice("others"), Read, true));
        assert!(!acls.allow(&alice("others"), Read, false));
    }

    #[test]
    fn a_denial_counts_more_than_whatever_is_more_specific() {
        let acls =
            decide([acl("User:alice", Allow, All, Literal, "orders"), acl("User:*", Deny, Write, Prefixed, "o")]);
        assert!(acls.allow(&alice("orders"), Read, false));
        assert!(!acls.allow(&alice("orders"), Write, false));
    }

    #[test]
    fn a_denied_write_that_was_allowed_still_describes() {
        let rules = [Allow, Deny].map(|permission| acl("User:alice", permission, Write, Literal, "orders"));
        let acls = decide(rules);
        assert!(!acls.allow(&alice("orders"), Write, false));
        assert!(acls.allow(&alice("orders"), Describe, false));
    }

    #[test]
    fn the_sets_of_all_that_can_be_done_are_those_that_kafka_tells() {
        let all = |of: ResourceType| of.operations().iter().map(|operation| operation.bit()).sum::<Operations>();
        assert_eq!([ResourceType::Topic, ResourceType::Group, ResourceType::Cluster].map(all), [3576, 3400, 8096]);
    }

    #[test]
    fn a_rule_holds_for_its_address_however_that_is_written() {
        let mut rule = acl("User:alice", Allow, Read, Literal, "*");
        rule.host = "10.0.0.1".into();
        let acls = decide([rule]);
        let from = |address: &str| Question { address: Some(address.parse().unwrap()), ..alice("t") };
        assert!(acls.allow(&from("10.0.0.1"), Read, false));
        assert!(acls.allow(&from("::ffff:10.0.0.1"), Read, false));
        assert!(!acls.allow(&from("10.0.0.2"), Read, false));
    }

    #[test]
    fn patterns_do_not_reach_what_is_asked_by_name_only() {
        let patterns = [acl("User:alice", Allow, Read, Literal, "*"), acl("User:alice", Allow, Read, Prefixed, "__")];
        let own = Question { by_name_only: true, ..alice("__consumer_offsets") };
        assert!(!decide(patterns.clone()).allow(&own, Read, false));
        let named = acl("User:alice", Allow, Read, Literal, "__consumer_offsets");
        assert!(decide(patterns.into_iter().chain([named])).allow(&own, Read, false));
    }

    #[test]
    fn any_name_will_do_where_any_is_asked() {
        let allows = |rules: &[Acl]| decide(rules.iter().cloned()).allow_any(&alice(""), Write, false);
        let some = acl("User:alice", Allow, Write, Literal, "orders");
        assert!(allows(std::slice::from_ref(&some)));
        assert!(allows(&[acl("User:*", Allow, Write, Prefixed, "o")]));
        assert!(!allows(&[some.clone(), acl("User:alice", Deny, Write, Prefixed, "ord")]));
        assert!(!allows(&[some, acl("User:alice", Deny, All, Literal, "*")]));
        assert!(!allows(&[acl("User:bob", Allow, Write, Literal, "*")]));
    }

    /// What rules decide, read one by one.
    fn plainly(acls: &[Acl], question: &Question<'_>, operation: Operation) -> bool {
        let about = |acl: &&Acl| match acl.pattern {
            Literal => acl.name == question.name || acl.name == "*",
            Prefixed => question.name.starts_with(&acl.name),
        };
        let whom = |acl: &&Acl| acl.principal == question.principal || acl.principal == "User:*";
        let matching: Vec<&Acl> = acls.iter().filter(about).filter(whom).collect();
        let says = |permission, operations: Operations| {
            matching.iter().any(|acl| acl.permission == permission && acl.operation.bit() & operations != 0)
        };
        says(Allow, operation.allowed_by()) && !says(Deny, operation.denied_by())
    }

    proptest! {
        #[test]
        fn the_index_decides_as_all_rules_read_one_by_one(
            rules in prop::collection::vec(
                ("[ab]{1,5}|\\*", any::<bool>(), 0..3usize, 0..14usize, any::<bool>()), 0..30),
            names in prop::collection::vec("[ab]{1,6}", 1..10),
        ) {
            let rules: Vec<Acl> = rules.into_iter().map(|(name, prefixed, principal, operation, allow)| acl(
                ["User:alice", "User:bob", "User:*"][principal],
                if allow { Allow } else { Deny },
                Operation::ALL[operation],
                if prefixed { Prefixed } else { Literal },
                &name,
            )).collect();
            let acls = decide(rules.clone());
            for name in &names {
                for operation in Operation::ALL.iter().filter(|operation| **operation != All) {
                    prop_assert_eq!(
                        acls.allow(&alice(name), *operation, false),
                        plainly(&rules, &alice(name), *operation),
                        "{} {}", operation, name
                    );
                }
            }
        }
    }
}
