//! Quotas of clients: DescribeClientQuotas, AlterClientQuotas (KIP-546). What they are for and how they are kept is said in
//! `broker/quotas.rs`; which there may be is said here, as Kafka says it.

use super::{
    Call, Code, Refusal, Stop, shown_list, tell,
    wire::{self, Reader, Writer},
    write_code,
};
use crate::{
    broker::ResourceName,
    security::{Operation, QuotaEntity, QuotaValues},
};
use std::collections::{BTreeMap, BTreeSet};

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

/// A quota that there is.
struct Quota {
    name: &'static str,
    /// Whether it is an address's, and otherwise of users and clients.
    of_address: bool,
    /// Whether it has no fraction; then the largest value.
    whole_max: Option<f64>,
}

const fn quota(name: &'static str, of_address: bool, whole_max: Option<f64>) -> Quota {
    Quota { name, of_address, whole_max }
}

const QUOTAS: [Quota; 5] = [
    quota("connection_creation_rate", true, Some(i32::MAX as f64)),
    quota("consumer_byte_rate", false, Some(i64::MAX as f64)),
    quota("controller_mutation_rate", false, None),
    quota("producer_byte_rate", false, Some(i64::MAX as f64)),
    quota("request_percentage", false, None),
];

/// How far a value may be from a whole number and still be taken for it.
const WHOLE_WITHIN: f64 = 1e-6;

/// How a component of a filter is matched.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

/// What a filter says of one kind of entity.
struct Component<'a> {
    kind: &'a str,
    how: i8,
    name: Option<&'a str>,
}

impl Component<'_> {
    fn check(&self) -> Result<(), Refusal> {
        match (self.how, self.name) {
            (EXACT, None) => Err(Refusal::invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.")),
            (DEFAULT | ANY, Some(_)) => {
                Err(Refusal::invalid("Request specified a match string that its match type has not."))
            }
            (EXACT | DEFAULT | ANY, _) => Ok(()),
            (how, _) => Err(Refusal::invalid(format!("Unknown match type {how}"))),
        }?;
        match self.kind {
            "" => Err(Refusal::invalid("Invalid empty entity type.")),
            USER | CLIENT_ID | IP => Ok(()),
            kind => Err(Refusal::new(Code::UnsupportedVersion, format!("Unsupported entity type {kind}"))),
        }
    }

    fn matches(&self, entity: &QuotaEntity) -> bool {
        entity.get(self.kind).is_some_and(|name| self.how == ANY || name.as_deref() == self.name)
    }
}

fn check_filter(components: &[Component<'_>]) -> Result<(), Refusal> {
    components.iter().try_for_each(Component::check)?;
    let kinds: BTreeSet<&str> = components.iter().map(|component| component.kind).collect();
    if kinds.len() < components.len() {
        return Err(Refusal::invalid("An entity type cannot appear more than once in the filter."));
    }
    if kinds.contains(IP) && kinds.len() > 1 {
        return Err(Refusal::invalid("An ip stands in a filter alone."));
    }
    Ok(())
}

/// DescribeClientQuotas (key 48).
pub(super) fn describe_client_quotas(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let components = r.array("components", |r| {
        let component =
            Component { kind: r.string("entity_type")?, how: r.i8("match_type")?, name: r.nullable_string("match")? };
        r.tags()?;
        Ok(component)
    })?;
    let strict = r.bool("strict")?;
    r.tags()?;
    tell(call.explained, || "which quotas there are".into());
    let asked = call.broker.quotas();
    let matches = |(entity, _): &(&QuotaEntity, &QuotaValues)| {
        components.iter().all(|component| component.matches(entity)) && (!strict || entity.len() == components.len())
    };
    let quotas = asked.clone().unwrap_or_default();
    let checked = asked.map_err(Refusal::from).and_then(|_| check_filter(&components));
    let found = checked.map(|()| quotas.iter().filter(matches).collect::<Vec<_>>());
    let mut w = call.respond();
    w.throttle_time();
    write_code(&mut w, found.as_ref().err());
    match found {
        Err(_) => w.null_array("entries"),
        Ok(found) => w.array("entries", found.into_iter(), |w, (entity, values)| {
            write_entity(w, entity);
            w.array("values", values.iter(), |w, (name, value)| {
                w.string("key", name);
                w.f64("value", *value);
                w.tags();
            });
            w.tags();
        }),
    }
    w.tags();
    Ok(())
}

fn write_entity(w: &mut Writer<'_>, entity: &QuotaEntity) {
    w.array("entity", entity.iter(), |w, (kind, name)| {
        w.string("entity_type", kind);
        w.nullable_string("entity_name", name.as_deref());
        w.tags();
    });
}

/// Quotas of an entity that are to be others; those without a value are to go.
struct Change {
    entity: QuotaEntity,
    quotas: Vec<(String, Option<f64>)>,
}

/// AlterClientQuotas (key 49).
pub(super) fn alter_client_quotas(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let changes = r.array("entries", |r| {
        let entity = r.array("entity", |r| {
            let one = (r.string("entity_type")?.to_string(), r.nullable_string("entity_name")?.map(String::from));
            r.tags()?;
            Ok(one)
        })?;
        let quotas = r.array("ops", quota_change)?;
        r.tags()?;
        Ok(Change { entity: entity.into_iter().collect(), quotas })
    })?;
    let dry = r.bool("validate_only")?;
    r.tags()?;
    let broker = call.broker;
    let mut asked: BTreeMap<&QuotaEntity, Vec<&Change>> = BTreeMap::new();
    changes.iter().for_each(|change| asked.entry(&change.entity).or_default().push(change));
    let apply = |entity: &QuotaEntity, changes: &[&Change]| {
        broker.ask(Operation::AlterConfigs, ResourceName::CLUSTER)?;
        // As in Kafka, an entity that stands there twice is answered once, and refused.
        let [change] = changes else { return Err(Refusal::invalid("the entity stands in the request more than once")) };
        let named = change.check()?;
        if dry { Ok(()) } else { broker.alter_quotas(entity, &named).map_err(Refusal::from) }
    };
    let done: Vec<_> = asked.iter().map(|(entity, changes)| (*entity, apply(entity, changes))).collect();
    tell(call.explained, || {
        let names = |(entity, _): &(&QuotaEntity, Result<(), Refusal>)| {
            let names = entity.iter().map(|(kind, name)| format!("{kind} {}", name.as_deref().unwrap_or("by default")));
            names.collect::<Vec<_>>().join(" with ")
        };
        format!("quotas of {}", shown_list(done.iter().map(names)))
    });
    let mut w = call.respond();
    w.throttle_time();
    w.array("entries", done.iter(), |w, (entity, done)| {
        write_code(w, done.as_ref().err());
        write_entity(w, entity);
        w.tags();
    });
    w.tags();
    Ok(())
}

fn quota_change(r: &mut Reader<'_>) -> wire::Result<(String, Option<f64>)> {
    let (name, value, remove) = (r.string("key")?.to_string(), r.f64("value")?, r.bool("remove")?);
    r.tags()?;
    Ok((name, (!remove).then_some(value)))
}

impl Change {
    /// The changes by name, if they can be.
    fn check(&self) -> Result<BTreeMap<String, Option<f64>>, Refusal> {
        let of_address = self.check_entity()?;
        let mut named = BTreeMap::new();
        for (name, value) in &self.quotas {
            if named.insert(name.clone(), *value).is_some() {
                return Err(Refusal::invalid(format!("{name} stands in the request more than once")));
            }
            let quota = QUOTAS.iter().find(|quota| quota.name == name && quota.of_address == of_address);
            let quota = quota.ok_or_else(|| Refusal::invalid(format!("Invalid configuration key {name}")))?;
            if let Some(value) = *value {
                quota.check(value)?;
            }
        }
        Ok(named)
    }

    /// Whether it is an address, and otherwise a user or a client.
    fn check_entity(&self) -> Result<bool, Refusal> {
        if self.entity.is_empty() {
            return Err(Refusal::invalid("Invalid empty client quota entity"));
        }
        for (kind, name) in &self.entity {
            if ![USER, CLIENT_ID, IP].contains(&kind.as_str()) {
                return Err(Refusal::invalid(format!("Unhandled client quota entity type: {kind}")));
            }
            if name.as_deref() == Some("") {
                return Err(Refusal::invalid(format!("Empty {kind} not supported")));
            }
        }
        let Some(address) = self.entity.get(IP) else { return Ok(false) };
        if self.entity.len() > 1 {
            return Err(Refusal::invalid("Invalid quota entity combination: an ip stands alone"));
        }
        let is_host = |name: &str| {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-:_".contains(&byte);
            name.len() <= 255 && name.bytes().all(legal)
        };
        match address {
            Some(name) if !is_host(name) => {
                Err(Refusal::invalid(format!("{name} is not a valid IP or resolvable host.")))
            }
            _ => Ok(true),
        }
    }
}

impl Quota {
    fn check(&self, value: f64) -> Result<(), Refusal> {
        let name = self.name;
        if value.is_nan() || value <= 0.0 {
            return Err(Refusal::invalid(format!("Quota {name} must be greater than 0")));
        }
        let Some(max) = self.whole_max else { return Ok(()) };
        if value > max {
            return Err(Refusal::invalid(format!("Proposed value for {name} is too large.")));
        }
        if (value - value.round()).abs() > WHOLE_WITHIN {
            return Err(Refusal::invalid(format!("{name} cannot be a fractional value.")));
        }
        Ok(())
    }
}
