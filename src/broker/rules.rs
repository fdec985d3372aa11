//! Rules: how they are kept, made, found and deleted. What they decide says [`security`](crate::security).
//!
//! ```text
//! rule resource:topic pattern:literal name:orders principal:User:alice host:* operation:write permission:allow crc:5f3c09aa
//! ```
//!
//! A change is on disk before it takes effect, and takes effect before it is answered.

use super::{
    Broker, Error, Permit, Result,
    kept::Kind,
    small_file::{Line, Lines},
};
use crate::security::{Acl, AclFilter, Operation, PatternType, Permission, ResourceType};
use std::{collections::BTreeSet, sync::Arc};

/// All rules.
pub(super) type Rules = BTreeSet<Acl>;

/// How many there may be.
const RULES_MAX: usize = if cfg!(test) { 20 } else { 50_000 };
/// How many changes one request may ask for; as many as Kafka takes.
const CHANGES_MAX: usize = if cfg!(test) { 10 } else { 10_000 };

impl Kind for Rules {
    const NAME: &str = "rule";

    fn add(&mut self, line: &Line<'_>) -> Option<()> {
        let names = ["resource", "pattern", "name", "principal", "host", "operation", "permission"];
        let [resource_type, pattern, name, principal, host, operation, permission] = line.fields(names)?;
        let acl = Acl {
            resource_type: ResourceType::of_name(&resource_type)?,
            pattern: PatternType::of_name(&pattern)?,
            name,
            principal,
            host,
            operation: Operation::of_name(&operation)?,
            permission: Permission::of_name(&permission)?,
        };
        self.insert(acl).then_some(())
    }

    fn write(&self, lines: &mut Lines) {
        for Acl { resource_type, pattern, name, principal, host, operation, permission } in self {
            lines.push_kind(
                Self::NAME,
                &[
                    ("resource", resource_type),
                    ("pattern", pattern),
                    ("name", name),
                    ("principal", principal),
                    ("host", host),
                    ("operation", operation),
                    ("permission", permission),
                ],
            );
        }
    }
}

impl Broker {
    /// The rules that a filter finds, in order.
    pub fn acls(&self, filter: &AclFilter) -> Result<Vec<Acl>> {
        let rules = self.env(&self.ask_for_rules(Operation::Describe)?).security.get().rules.clone();
        Ok(rules.iter().filter(|acl| filter.matches(acl)).cloned().collect())
    }

    /// Makes rules, durably, all of these or none. One that is there already stays.
    pub fn create_acls(&self, acls: &[Acl]) -> Result<()> {
        let permit = self.ask_for_rules(Operation::Alter)?;
        check_count(acls.len(), CHANGES_MAX)?;
        acls.iter().try_for_each(Acl::check).map_err(Error::InvalidAcl)?;
        self.change_rules(&permit, |rules| {
            rules.extend(acls.iter().cloned());
            check_count(rules.len(), RULES_MAX)
        })?;
        acls.iter().for_each(|acl| self.note("rule-made", &[("rule", acl)]));
        Ok(())
    }

    /// Deletes the rules that filters find, durably, all or none. Answers what each found; a rule may be found by several.
    pub fn delete_acls(&self, filters: &[AclFilter]) -> Result<Vec<Vec<Acl>>> {
        let permit = self.ask_for_rules(Operation::Alter)?;
        check_count(filters.len(), CHANGES_MAX)?;
        let deleted = self.change_rules(&permit, |rules| {
            let (mut all, mut count) = (Vec::with_capacity(filters.len()), 0);
            for filter in filters {
                let found: Vec<Acl> = rules.iter().filter(|acl| filter.matches(acl)).cloned().collect();
                count += found.len();
                // Each filter could find all.
                check_count(count, 2 * RULES_MAX)?;
                all.push(found);
            }
            for acl in all.iter().flatten() {
                rules.remove(acl);
            }
            Ok(all)
        })?;
        let once: BTreeSet<&Acl> = deleted.iter().flatten().collect();
        once.into_iter().for_each(|acl| self.note("rule-deleted", &[("rule", acl)]));
        Ok(deleted)
    }

    fn ask_for_rules(&self, operation: Operation) -> Result<Permit> {
        if !self.state(&Permit::for_everybody()).gate.has_rules() {
            return Err(Error::SecurityDisabled);
        }
        self.ask_cluster(operation)
    }

    fn change_rules<R>(&self, permit: &Permit, change: impl FnOnce(&mut Rules) -> Result<R>) -> Result<R> {
        let state = self.state(permit);
        let env = &state.env;
        let changed = env.try_change_kept(&env.security, |security| change(Arc::make_mut(&mut security.rules)))?;
        state.gate.replace_acls(|| env.security.get().rules.clone());
        // Who reads on may do so no more.
        state.topic_waiters.wake();
        Ok(changed)
    }
}

fn check_count(count: usize, limit: usize) -> Result<()> {
    if count > limit { Err(Error::TooManyAcls(limit)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Caller, Clock, Protocol, ResourceName, kept::Content, security_file::Security, small_file::Text},
        config::Config,
        log::disk::{self, Call, Disk, Fault, MemoryDisk, Survivors},
        security::{ANY_HOST, PatternFilter, Principal, Proof},
    };
    use proptest::prelude::*;
    use std::path::Path;

    fn open(disk: &MemoryDisk) -> Broker {
        let mut config = Config::in_memory();
        config.security.users = true;
        Broker::open_on(Arc::new(disk.clone()), config, Clock::System).unwrap()
    }

    fn acl(name: &str) -> Acl {
        Acl {
            resource_type: ResourceType::Topic,
            pattern: PatternType::Literal,
            name: name.into(),
            principal: "User:alice".into(),
            host: ANY_HOST.into(),
            operation: Operation::Read,
            permission: Permission::Allow,
        }
    }

    fn may_read(broker: &Broker, topic: &str) -> bool {
        let alice = Caller { principal: Principal::new("alice", Proof::Password), ..Caller::embedded() };
        let alice = Caller { protocol: Protocol::Text, ..alice };
        broker.on_behalf_of(alice).ask(Operation::Read, ResourceName::topic(topic)).is_ok()
    }

    fn all(broker: &Broker) -> Vec<Acl> {
        broker.acls(&AclFilter::default()).unwrap()
    }

    #[test]
    fn rules_take_effect_at_once_and_outlive_a_restart() {
        let disk = MemoryDisk::default();
        let broker = open(&disk);
        assert!(!may_read(&broker, "orders"));
        broker.create_acls(&[acl("orders"), acl("old")]).unwrap();
        broker.create_acls(&[acl("orders")]).unwrap();
        assert!(may_read(&broker, "orders"));
        let old = AclFilter { name: Some("old".into()), pattern: PatternFilter::Match, ..AclFilter::default() };
        assert_eq!(broker.delete_acls(&[old.clone(), old]).unwrap(), [[acl("old")], [acl("old")]]);
        assert!(!may_read(&broker, "old"));
        drop(broker);
        let text = disk::read_small(&disk, Path::new("memory/~security"), Security::BYTES_MAX).unwrap();
        let line = "\nrule resource:topic pattern:literal name:orders principal:User:alice host:* operation:read permission:allow crc:";
        assert!(String::from_utf8(text).unwrap().contains(line));
        let broker = open(&disk);
        assert_eq!(all(&broker), [acl("orders")]);
        assert!(may_read(&broker, "orders"));
    }

    #[test]
    fn rules_that_say_nothing_and_too_many_of_them_are_refused_whole() {
        let broker = open(&MemoryDisk::default());
        let wrong = Acl { principal: "alice".into(), ..acl("b") };
        assert!(matches!(broker.create_acls(&[acl("a"), wrong]), Err(Error::InvalidAcl(_))));
        assert!(all(&broker).is_empty());
        let names: Vec<Acl> = (0..RULES_MAX + 1).map(|name| acl(&name.to_string())).collect();
        names[..RULES_MAX].chunks(CHANGES_MAX).for_each(|some| broker.create_acls(some).unwrap());
        assert_eq!(broker.create_acls(&names[RULES_MAX..]), Err(Error::TooManyAcls(RULES_MAX)));
        assert_eq!(broker.create_acls(&names), Err(Error::TooManyAcls(CHANGES_MAX)));
        let any = |count| vec![AclFilter::default(); count];
        assert_eq!(broker.delete_acls(&any(3)), Err(Error::TooManyAcls(2 * RULES_MAX)));
        assert_eq!(broker.delete_acls(&any(CHANGES_MAX + 1)), Err(Error::TooManyAcls(CHANGES_MAX)));
        assert_eq!(all(&broker).len(), RULES_MAX);
        assert!(broker.delete_acls(&any(2)).unwrap().iter().all(|found| found.len() == RULES_MAX));
        assert!(all(&broker).is_empty());
    }

    #[test]
    fn without_users_there_are_no_rules() {
        let broker = Broker::in_memory();
        assert_eq!(broker.acls(&AclFilter::default()), Err(Error::SecurityDisabled));
        assert_eq!(broker.create_acls(&[acl("a")]), Err(Error::SecurityDisabled));
        assert_eq!(broker.delete_acls(&[AclFilter::default()]), Err(Error::SecurityDisabled));
    }

    #[test]
    fn what_is_not_on_disk_is_not_in_force() {
        for fault in [Fault::Error, Fault::Full] {
            for nth in 1.. {
                let disk = MemoryDisk::crashable();
                let broker = open(&disk);
                broker.create_acls(&[acl("old")]).unwrap();
                disk.fault(Call::Any, nth, fault);
                let changed = broker.create_acls(&[acl("new")]).is_ok();
                assert_eq!((may_read(&broker, "old"), may_read(&broker, "new")), (true, changed), "call {nth}");
                let survives = open(&disk.reboot(Survivors::Nothing));
                assert_eq!(all(&survives), all(&broker), "call {nth}, after a crash");
                assert_eq!(may_read(&survives, "new"), changed, "call {nth}, after a crash");
                if changed {
                    assert!(nth > 3, "a file is made, written, synced and renamed");
                    break;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_rule_is_read_back(
            rules in prop::collection::btree_set(
                (any::<String>(), any::<String>(), any::<String>(), 0..6usize, 0..14usize, any::<[bool; 2]>()), 0..5),
        ) {
            let rules: Rules = rules.into_iter().map(|(name, principal, host, kind, operation, [prefixed, allow])| Acl {
                resource_type: ResourceType::ALL[kind],
                pattern: if prefixed { PatternType::Prefixed } else { PatternType::Literal },
                name,
                principal,
                host,
                operation: Operation::ALL[operation],
                permission: if allow { Permission::Allow } else { Permission::Deny },
            }).collect();
            let security = Security { rules: Arc::new(rules), ..Security::default() };
            let (disk, path) = (MemoryDisk::default(), Path::new("file"));
            disk.create(path).unwrap().write_at(security.lines().bytes(Security::BYTES_MAX).unwrap(), 0).unwrap();
            let text = Text::read(&disk, path, Security::BYTES_MAX).unwrap().unwrap();
            prop_assert_eq!(Security::parse(&text, path).unwrap().rules, security.rules);
        }
    }
}
