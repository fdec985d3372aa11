//! Rules: listing, making and deleting them.

use super::{OBJECT_BYTES_MAX, Object, text};
use crate::{
    protocol::http::{
        exchange::Exchange,
        refusal::{Refusal, Stop},
        route::{Parameter, parameter},
    },
    security::{Acl, AclFilter, Operation, PatternFilter, Permission, ResourceType},
};
use serde_json::{Value, json};

/// What rules are looked for by.
pub(in crate::protocol::http) const FILTER: [Parameter; 7] = [
    parameter("resource_type", "topic, group, cluster or transactional-id"),
    parameter(
        "resource_name",
        "the name that stands in the rule; with pattern_type=match the name of what it is about",
    ),
    parameter("pattern_type", "literal, prefixed, match, or any"),
    parameter("principal", "such as User:alice"),
    parameter("host", "an address, or *"),
    parameter("operation", "such as write"),
    parameter("permission_type", "allow or deny"),
];

/// `GET /api/acls`
pub(in crate::protocol::http) fn list(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let found = exchange.broker.acls(&filter(exchange)?)?;
    exchange.json(200, &shown(&found))
}

/// `POST /api/acls`: `{"resource_type":"topic","resource_name":"orders","principal":"User:alice","operation":"write"}`
pub(in crate::protocol::http) fn create(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let mut body = Object::of(exchange.json_body(OBJECT_BYTES_MAX)?)?;
    let [resource_type, name, pattern, principal, host, operation, permission] =
        FILTER.map(|known| body.take(known.name, known.means, text));
    body.end()?;
    let rule = asked([resource_type?, name?, pattern?, principal?, host?, operation?, permission?])?;
    let rule = rule.rule().map_err(Refusal::invalid)?;
    exchange.broker.create_acls(std::slice::from_ref(&rule))?;
    exchange.json(201, &one(&rule))
}

/// `DELETE /api/acls`
pub(in crate::protocol::http) fn delete(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let filter = filter(exchange)?;
    if filter.is_any() {
        return Err(Refusal::invalid("say which, such as ?principal=User:alice").into());
    }
    let found = exchange.broker.delete_acls(&[filter])?.concat();
    exchange.json(200, &shown(&found))
}

fn filter(exchange: &Exchange<'_, '_>) -> Result<AclFilter, Refusal> {
    let mut words = [const { None }; FILTER.len()];
    for (word, known) in words.iter_mut().zip(FILTER) {
        *word = exchange.head.query.text(known.name)?.map(String::from);
    }
    asked(words)
}

/// What the words say, in the order of [`FILTER`].
fn asked(words: [Option<String>; FILTER.len()]) -> Result<AclFilter, Refusal> {
    let [resource_type, name, pattern, principal, host, operation, permission] = words;
    Ok(AclFilter {
        resource_type: known("resource_type", resource_type, ResourceType::of_name)?,
        pattern: known("pattern_type", pattern, PatternFilter::of_name)?.unwrap_or_default(),
        name,
        principal,
        host,
        operation: known("operation", operation, Operation::of_name)?,
        permission: known("permission_type", permission, Permission::of_name)?,
    })
}

/// What a word names.
fn known<T>(field: &str, word: Option<String>, of_name: fn(&str) -> Option<T>) -> Result<Option<T>, Refusal> {
    word.map(|word| of_name(&word).ok_or_else(|| Refusal::invalid(format!("'{word}' is no {field} of rules"))))
        .transpose()
}

fn shown(acls: &[Acl]) -> Value {
    json!({ "acls": acls.iter().map(one).collect::<Vec<_>>() })
}

fn one(acl: &Acl) -> Value {
    json!({
        "resource_type": acl.resource_type.name(),
        "resource_name": acl.name,
        "pattern_type": acl.pattern.name(),
        "principal": acl.principal,
        "host": acl.host,
        "operation": acl.operation.name(),
        "permission_type": acl.permission.name(),
    })
}
