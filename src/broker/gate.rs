//! The gate: what a caller asks for is decided here, and nowhere else.
//!
//! ```text
//! a verb ──► Broker::ask(operation, resource) ──► Permit ──► Broker::state(permit) ──► what the verb does
//!                └ Gate: super users, rules                       └ the only way to it
//! ```
//!
//! A verb that forgets to ask does not compile: the broker's state is reached with a permit only, and permits are made here only.
//! Whoever goes on with what was permitted, a reader or a member, keeps the permit and [checks](Permit::check) it at each step:
//! that costs the look at a counter until rules change. With the token that says who a caller is, all ends that it was permitted.

#[cfg(feature = "users")]
use super::audit::{Audit, Field};
#[cfg(feature = "users")]
use super::{ADMIN, Error, is_internal};
use super::{BrokerState, Caller, Result, Running};
use crate::{
    config::Changes,
    security::{CLUSTER_NAME, Operation, ResourceType},
};
#[cfg(feature = "users")]
use crate::{
    config::SecurityConfig,
    security::{Acl, Acls, Operations, Proof, Question},
};
use std::sync::Arc;
#[cfg(feature = "users")]
use std::{
    collections::BTreeSet,
    sync::{
        Mutex, RwLock,
        atomic::{AtomicU64, Ordering::*},
    },
};

/// A broker in this process, and on whose behalf it is asked. Clones are the same broker; the last one that is dropped
/// stops it.
#[derive(Clone, Debug)]
pub struct Broker {
    running: Arc<Running>,
    caller: Arc<Caller>,
}

/// Decides what callers may do.
#[derive(Debug, Default)]
pub struct Gate {
    #[cfg(feature = "users")]
    rules: Option<Rules>,
    /// Where it is told who was refused what.
    #[cfg(feature = "users")]
    audit: Option<Audit>,
}

/// What it decides by, where callers have to say who they are.
#[cfg(feature = "users")]
#[derive(Debug)]
struct Rules {
    super_users: BTreeSet<String>,
    if_none: bool,
    anonymous_loopback: bool,
    acls: RwLock<Arc<Acls>>,
    /// Held while others are read and take their place.
    replacing: Mutex<()>,
    /// How often the rules changed.
    generation: AtomicU64,
}

/// What a caller was permitted: an operation to a resource, for as long as [`check`](Permit::check) says so.
#[derive(Clone, Debug, Default)]
pub struct Permit(
    /// What was asked, where the answer may change.
    #[cfg(feature = "users")]
    Option<Arc<Asked>>,
);

#[cfg(feature = "users")]
#[derive(Debug)]
struct Asked {
    gate: Arc<Gate>,
    caller: Arc<Caller>,
    operation: Operation,
    resource: Named,
    /// The generation of the rules that said yes.
    seen: AtomicU64,
}

/// A resource that somebody asks for.
#[derive(Clone, Copy, Debug)]
pub struct ResourceName<'a> {
    /// What kind it is.
    pub resource_type: ResourceType,
    /// Its name.
    pub name: &'a str,
}

#[cfg(feature = "users")]
#[derive(Debug)]
struct Named {
    resource_type: ResourceType,
    name: String,
}

impl<'a> ResourceName<'a> {
    /// The broker itself, or all of its cluster.
    pub const CLUSTER: ResourceName<'static> =
        ResourceName { resource_type: ResourceType::Cluster, name: CLUSTER_NAME };

    /// A topic.
    pub fn topic(name: &'a str) -> ResourceName<'a> {
        ResourceName { resource_type: ResourceType::Topic, name }
    }

    /// A group.
    pub fn group(name: &'a str) -> ResourceName<'a> {
        ResourceName { resource_type: ResourceType::Group, name }
    }

    /// A transactional id.
    pub fn transactional_id(name: &'a str) -> ResourceName<'a> {
        ResourceName { resource_type: ResourceType::TransactionalId, name }
    }
}

impl Gate {
    /// A gate that asks for what is configured; without users it lets everybody do everything.
    #[cfg(feature = "users")]
    pub fn new(config: &SecurityConfig) -> Gate {
        let rules = || Rules {
            super_users: config.super_users.clone(),
            if_none: config.allow_if_no_acl,
            anonymous_loopback: config.anonymous_loopback,
            acls: RwLock::default(),
            replacing: Mutex::default(),
            generation: AtomicU64::default(),
        };
        Gate { rules: config.users.then(rules), audit: None }
    }

    /// The same gate, which tells whom it refuses.
    #[cfg(feature = "users")]
    pub(super) fn with_audit(self, audit: Option<Audit>) -> Gate {
        Gate { audit, ..self }
    }

    /// Other rules take effect, for whoever was permitted something before, too: those that are kept by now, so that of two changes
    /// the later one counts.
    #[cfg(feature = "users")]
    pub fn replace_acls(&self, kept: impl FnOnce() -> Arc<BTreeSet<Acl>>) {
        if let Some(rules) = &self.rules {
            let _one = rules.replacing.lock().expect("no panic while rules are replaced");
            let acls = Arc::new(Acls::new(&kept()));
            *rules.acls.write().expect("no panic while rules are replaced") = acls;
            rules.generation.fetch_add(1, Release);
        }
    }

    /// Whether a caller has got past login, or need not.
    #[cfg(feature = "users")]
    fn admits(&self, caller: &Caller) -> bool {
        let Some(rules) = &self.rules else { return true };
        let is_here = || caller.address.is_some_and(|address| address.ip().to_canonical().is_loopback());
        let is_known = caller.principal.proof != Proof::Nothing && !caller.principal.has_ended();
        is_known || rules.anonymous_loopback && is_here()
    }

    /// Whether a caller may do this to the resource.
    #[cfg(feature = "users")]
    pub fn allows(&self, caller: &Caller, operation: Operation, resource: ResourceName<'_>) -> bool {
        self.decide(caller, resource, |acls, question, if_none| acls.allow(question, operation, if_none))
    }

    /// Tells of somebody who may not do this.
    #[cfg(feature = "users")]
    fn tell_refused(&self, caller: &Caller, operation: Operation, resource: ResourceName<'_>) {
        if let Some(audit) = &self.audit {
            audit.refused(caller, operation, resource.resource_type, resource.name);
        }
    }

    /// Whether a caller may do this to any resource of a type (KIP-679).
    #[cfg(feature = "users")]
    pub fn allows_any(&self, caller: &Caller, operation: Operation, resource_type: ResourceType) -> bool {
        let any = ResourceName { resource_type, name: "" };
        self.decide(caller, any, |acls, question, if_none| acls.allow_any(question, operation, if_none))
    }

    #[cfg(feature = "users")]
    fn decide(
        &self,
        caller: &Caller,
        ResourceName { resource_type, name }: ResourceName<'_>,
        decide: impl FnOnce(&Acls, &Question<'_>, bool) -> bool,
    ) -> bool {
        let Some(rules) = &self.rules else { return true };
        let principal = caller.principal.to_string();
        if rules.is_super(caller, &principal) {
            return true;
        }
        let question = Question {
            principal: &principal,
            address: caller.address.map(|address| address.ip()),
            resource_type,
            name,
            by_name_only: resource_type == ResourceType::Topic && is_internal(name),
        };
        let acls = rules.acls.read().expect("no panic while rules are replaced").clone();
        decide(&acls, &question, rules.if_none && !question.by_name_only)
    }

    /// How often the rules changed, if there are any.
    pub(super) fn generation(&self) -> Option<u64> {
        #[cfg(feature = "users")]
        return self.rules.as_ref().map(|rules| rules.generation.load(Acquire));
        #[cfg(not(feature = "users"))]
        None
    }

    /// Whether callers have to say who they are.
    #[cfg(feature = "users")]
    pub fn has_rules(&self) -> bool {
        self.rules.is_some()
    }

    /// Whether a caller may do everything.
    #[cfg(feature = "users")]
    pub fn is_super(&self, caller: &Caller) -> bool {
        self.rules.as_ref().is_none_or(|rules| rules.is_super(caller, &caller.principal.to_string()))
    }
}

#[cfg(feature = "users")]
impl Rules {
    fn is_super(&self, caller: &Caller, principal: &str) -> bool {
        let known = match caller.principal.proof {
            Proof::InProcess => return true,
            // Nobody is somebody who has not logged in.
            Proof::Nothing => return false,
            Proof::Password => &*caller.principal.name == ADMIN,
            Proof::Certificate | Proof::Token => false,
        };
        known || self.super_users.contains(principal)
    }
}

/// Whether a caller may do this, now and later.
fn ask(gate: &Arc<Gate>, caller: &Arc<Caller>, operation: Operation, resource: ResourceName<'_>) -> Result<Permit> {
    #[cfg(not(feature = "users"))]
    {
        let _ = (gate, caller, operation, resource);
        Ok(Permit::default())
    }
    #[cfg(feature = "users")]
    {
        let Some(rules) = &gate.rules else { return Ok(Permit::default()) };
        check_lasts(caller)?;
        if gate.is_super(caller) && caller.principal.ends.is_none() {
            return Ok(Permit::default());
        }
        // Looked at first: rules that change meanwhile are asked again.
        let seen = rules.generation.load(Acquire).into();
        if !gate.allows(caller, operation, resource) {
            return Err(refused(operation, resource));
        }
        let ResourceName { resource_type, name } = resource;
        let resource = Named { resource_type, name: name.into() };
        Ok(Permit(Some(Arc::new(Asked { gate: gate.clone(), caller: caller.clone(), operation, resource, seen }))))
    }
}

#[cfg(feature = "users")]
fn refused(operation: Operation, resource: ResourceName<'_>) -> Error {
    let ResourceName { resource_type, name } = resource;
    Error::NotAuthorized { operation, resource_type, name: name.into() }
}

/// An error if it is over for how long the caller is known.
#[cfg(feature = "users")]
fn check_lasts(caller: &Caller) -> Result<()> {
    if caller.principal.has_ended() { Err(Error::TokenEnded) } else { Ok(()) }
}

#[cfg(feature = "users")]
impl Asked {
    fn ask(&self, operation: Operation) -> Result<()> {
        check_lasts(&self.caller)?;
        let Named { resource_type, ref name } = self.resource;
        let resource = ResourceName { resource_type, name };
        if self.gate.allows(&self.caller, operation, resource) {
            return Ok(());
        }
        self.gate.tell_refused(&self.caller, operation, resource);
        Err(refused(operation, resource))
    }
}

impl Permit {
    /// For what everybody may do: it tells nothing of a resource.
    pub(crate) fn for_everybody() -> Permit {
        Permit::default()
    }

    /// Whether the caller may do this to the same resource, which need not be what was asked for first.
    pub(crate) fn check_for(&self, operation: Operation) -> Result<()> {
        #[cfg(not(feature = "users"))]
        let _ = operation;
        #[cfg(feature = "users")]
        if let Some(asked) = self.0.as_ref().filter(|asked| asked.operation != operation) {
            return asked.ask(operation);
        }
        self.check()
    }

    /// Whether it still holds.
    pub fn check(&self) -> Result<()> {
        #[cfg(feature = "users")]
        if let Some(asked) = &self.0 {
            check_lasts(&asked.caller)?;
            let generation = asked.gate.rules.as_ref().map_or(0, |rules| rules.generation.load(Acquire));
            if asked.seen.load(Relaxed) != generation {
                asked.ask(asked.operation)?;
                asked.seen.store(generation, Relaxed);
            }
        }
        Ok(())
    }
}

impl Broker {
    /// The broker itself: it may do everything.
    pub(super) fn new(running: Running) -> Broker {
        Broker { running: Arc::new(running), caller: Arc::new(Caller::embedded()) }
    }

    /// The same broker, for somebody else.
    pub fn on_behalf_of(&self, caller: Caller) -> Broker {
        Broker { running: self.running.clone(), caller: Arc::new(caller) }
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The same: one caller as long as it is the same `Arc`.
    #[cfg(feature = "cluster")]
    pub(crate) fn caller_itself(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// Whether the caller has got past login, or need not: to others nothing is answered but how to log in.
    pub fn is_admitted(&self) -> bool {
        #[cfg(feature = "users")]
        return self.running.state.gate.admits(&self.caller);
        #[cfg(not(feature = "users"))]
        true
    }

    /// Whether the caller may do this to the resource. Who may not is told of in the audit.
    pub fn ask(&self, operation: Operation, resource: ResourceName<'_>) -> Result<Permit> {
        let may = self.may(operation, resource);
        #[cfg(feature = "users")]
        if matches!(may, Err(Error::NotAuthorized { .. })) {
            self.running.state.gate.tell_refused(&self.caller, operation, resource);
        }
        may
    }

    /// The same where who may not may find another way, or is only not shown something.
    pub(crate) fn may(&self, operation: Operation, resource: ResourceName<'_>) -> Result<Permit> {
        ask(&self.running.state.gate, &self.caller, operation, resource)
    }

    /// The audit, if there is one.
    #[cfg(feature = "users")]
    pub(super) fn audit(&self) -> Option<&Audit> {
        self.running.state.gate.audit.as_ref()
    }

    /// Notes what the caller changed.
    #[cfg(feature = "users")]
    pub(crate) fn note(&self, what: &str, of: &[Field<'_>]) {
        if let Some(audit) = self.audit() {
            audit.done(what, self.caller(), of);
        }
    }

    /// Notes that the caller has shown who it is.
    #[cfg(feature = "users")]
    pub fn note_login(&self) {
        self.note("login", &[]);
    }

    /// Notes what the caller changed; there is no audit without users.
    #[cfg(not(feature = "users"))]
    pub(crate) fn note(&self, _what: &str, _of: &[(&str, &dyn std::fmt::Display)]) {}

    /// Notes that the caller has set where a group goes on in a partition.
    pub(crate) fn note_offset(&self, group: &str, topic: &str, partition: u32, to: Option<u64>) {
        let (place, to) = (format!("{topic}/{partition}"), to.map_or("-".into(), |to| to.to_string()));
        self.note("offset-reset", &[("group", &group), ("partition", &place), ("to", &to)]);
    }

    /// Whether the caller may do this to a topic.
    pub(crate) fn ask_topic(&self, operation: Operation, name: &str) -> Result<Permit> {
        self.ask(operation, ResourceName::topic(name))
    }

    /// Whether the caller may do this to a group.
    pub(crate) fn ask_group(&self, operation: Operation, name: &str) -> Result<Permit> {
        self.ask(operation, ResourceName::group(name))
    }

    /// Whether the caller may do this with a transactional id.
    pub(crate) fn ask_transactional_id(&self, operation: Operation, name: &str) -> Result<Permit> {
        self.ask(operation, ResourceName::transactional_id(name))
    }

    /// Whether the caller may do this to the broker itself.
    pub(crate) fn ask_cluster(&self, operation: Operation) -> Result<Permit> {
        self.ask(operation, ResourceName::CLUSTER)
    }

    /// Whether the caller may make a topic of this name: it may make this one, or any.
    pub(crate) fn ask_to_create(&self, topic: &str) -> Result<Permit> {
        self.may_create(topic).or_else(|_| self.ask_topic(Operation::Create, topic))
    }

    /// The same where who may not is only not helped.
    pub(super) fn may_create(&self, topic: &str) -> Result<Permit> {
        let any = self.may(Operation::Create, ResourceName::CLUSTER);
        any.or_else(|_| self.may(Operation::Create, ResourceName::topic(topic)))
    }

    /// Whether the caller may change a topic so: its partitions, its settings, or both.
    pub(crate) fn ask_to_alter(&self, topic: &str, partitions: Option<u32>, changes: &Changes) -> Result<Permit> {
        let grows = partitions.map(|_| self.ask_topic(Operation::Alter, topic)).transpose()?;
        match grows {
            Some(permit) if !changes.any() => Ok(permit),
            _ => self.ask_topic(Operation::AlterConfigs, topic),
        }
    }

    /// Whether the caller may drop a topic of this name. As in Kafka, whoever may delete whatever the cluster has may drop it.
    pub(crate) fn ask_to_drop(&self, topic: &str) -> Result<Permit> {
        let any = self.may(Operation::Delete, ResourceName::CLUSTER);
        any.or_else(|_| self.ask_topic(Operation::Delete, topic))
    }

    /// Whether the caller may get a producer id: it may number its records, or write some topic (KIP-679).
    pub(super) fn ask_to_number(&self) -> Result<Permit> {
        let may = self.may(Operation::IdempotentWrite, ResourceName::CLUSTER);
        #[cfg(feature = "users")]
        if may.is_err() && self.running.state.gate.allows_any(&self.caller, Operation::Write, ResourceType::Topic) {
            return Ok(Permit::for_everybody());
        }
        may.or_else(|_| self.ask_cluster(Operation::IdempotentWrite))
    }

    /// The broker for whoever may do this to the cluster, whatever what is in it is called.
    #[cfg(feature = "kafka")]
    pub fn for_cluster(&self, operation: Operation) -> Result<Broker> {
        self.ask_cluster(operation)?;
        Ok(self.on_behalf_of(self.caller.permitted()))
    }

    /// The same, and for whoever may not do it to the cluster the broker as far as the caller may do it to what is in it.
    #[cfg(feature = "kafka")]
    pub fn for_cluster_or_self(&self, operation: Operation) -> Broker {
        let may = self.may(operation, ResourceName::CLUSTER);
        may.map_or_else(|_| self.clone(), |_| self.on_behalf_of(self.caller.permitted()))
    }

    /// The broker for whoever looks at what it counts: the caller, or with `--metrics-open` somebody who may see everything.
    pub fn for_metrics(&self) -> Broker {
        #[cfg(feature = "users")]
        if self.config().security.metrics_open {
            return self.on_behalf_of(self.caller.permitted());
        }
        self.clone()
    }

    /// What the caller may do to the resource, of what can be done to such (KIP-430); nothing to a cluster that it may not see.
    #[cfg(feature = "users")]
    pub fn operations(&self, resource: ResourceName<'_>) -> Operations {
        let gate = &self.running.state.gate;
        if resource.resource_type == ResourceType::Cluster && self.ask_cluster(Operation::Describe).is_err() {
            return 0;
        }
        let can = resource.resource_type.operations().iter();
        can.filter(|&&operation| gate.allows(&self.caller, operation, resource)).map(|operation| operation.bit()).sum()
    }

    /// Whether the caller may see that a topic is there.
    pub fn may_describe(&self, topic: &str) -> bool {
        self.ask_topic(Operation::Describe, topic).is_ok()
    }

    /// Whether the caller may see what is set of a topic.
    pub fn may_describe_configs(&self, topic: &str) -> bool {
        self.may(Operation::DescribeConfigs, ResourceName::topic(topic)).is_ok()
    }

    /// What does what was permitted. Verbs pass what they asked for, and [`Permit::for_everybody`] where there is nothing to ask.
    pub(super) fn state(&self, _permit: &Permit) -> &Arc<BrokerState> {
        &self.running.state
    }

    /// What a test looks into.
    #[cfg(test)]
    pub(super) fn inner(&self) -> &Arc<BrokerState> {
        &self.running.state
    }

    /// What a test looks after.
    #[cfg(all(test, not(shuttle)))]
    pub(super) fn running(&self) -> &Running {
        &self.running
    }
}
