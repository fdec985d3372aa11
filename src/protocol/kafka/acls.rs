//! Rules: CreateAcls, DescribeAcls, DeleteAcls (KIP-140, KIP-290). A broker without users has none, and answers as a Kafka without an
//! authorizer.
//!
//! ```text
//! rule     type i8 │ name │ pattern i8 │ principal │ host │ operation i8 │ permission i8
//! filter   the same; 1 and null are any; pattern 1: by the name that stands there, 2: by what the rule is about
//! ```

use super::{
    Call, Refusal, Stop, refused, shown_list, tell,
    wire::{self, Malformed, Reader, Writer},
    write_code,
};
use crate::{
    broker::{self, Error},
    security::{Acl, AclFilter, Operation, PatternFilter, PatternType, Permission, ResourceType},
};

/// Any of a kind, in a filter.
const ANY: i8 = 1;
/// A pattern by what it is about, in a filter.
const MATCH: i8 = 2;

/// CreateAcls (key 30). What is right is made together, and what is wrong is not.
pub(super) fn create_acls(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let asked = r.array("creations", |r| {
        let kind = ResourceType::of_number(r.i8("resource_type")?);
        let name = r.string("resource_name")?;
        let pattern = PatternType::of_number(r.i8("resource_pattern_type")?);
        let (principal, host) = (r.string("principal")?, r.string("host")?);
        let operation = Operation::of_number(r.i8("operation")?);
        let permission = Permission::of_number(r.i8("permission_type")?);
        r.tags()?;
        let (Some(resource_type), Some(pattern), Some(operation), Some(permission)) =
            (kind, pattern, operation, permission)
        else {
            return Ok(Err(Refusal::invalid("a type, pattern, operation or permission of the rule is unknown")));
        };
        let (name, principal, host) = (name.into(), principal.into(), host.into());
        let acl = Acl { resource_type, pattern, name, principal, host, operation, permission };
        Ok(acl.check().map(|()| acl).map_err(Refusal::invalid))
    })?;
    r.tags()?;
    let good: Vec<Acl> = asked.iter().flatten().cloned().collect();
    let made = call.broker.create_acls(&good);
    tell(call.explained, || format!("make rules: {}{}", shown_list(good.iter().map(Acl::to_string)), refused(&made)));
    let made = made.map_err(Outcome::of);
    let refusal = |asked: &Result<Acl, Refusal>| match (&made, asked) {
        (Err(Outcome { of_all: true, refusal }), _) | (Err(Outcome { refusal, .. }), Ok(_)) => Some(refusal.clone()),
        (_, asked) => asked.as_ref().err().cloned(),
    };
    let mut w = call.respond();
    w.throttle_time();
    w.array("results", asked.iter().map(refusal), |w, refusal| {
        write_code(w, refusal.as_ref());
        w.tags();
    });
    w.tags();
    Ok(())
}

/// Why nothing of a request was done.
struct Outcome {
    /// Whether that is so whatever was asked.
    of_all: bool,
    refusal: Refusal,
}

impl Outcome {
    fn of(error: Error) -> Outcome {
        let of_all = matches!(error, Error::NotAuthorized { .. } | Error::SecurityDisabled);
        Outcome { of_all, refusal: error.into() }
    }
}

/// DescribeAcls (key 29).
pub(super) fn describe_acls(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let filter = filter(r)?;
    r.tags()?;
    let broker = call.broker;
    let found: broker::Result<Vec<Acl>> = broker.acls(filter.as_ref().unwrap_or(&AclFilter::default()));
    let found = found.map(|found| if filter.is_some() { found } else { Vec::new() });
    tell(call.explained, || format!("which rules there are{}", refused(&found)));
    let refusal = found.as_ref().err().cloned().map(Refusal::from);
    let found = found.unwrap_or_default();
    // They are ordered so that those of one pattern stand together.
    let of_one = |a: &Acl, b: &Acl| (a.resource_type, a.pattern, &a.name) == (b.resource_type, b.pattern, &b.name);
    let resources: Vec<&[Acl]> = found.chunk_by(of_one).collect();
    let mut w = call.respond();
    w.throttle_time();
    write_code(&mut w, refusal.as_ref());
    w.array("resources", resources.iter(), |w, acls| {
        write_pattern(w, &acls[0]);
        w.array("acls", acls.iter(), |w, acl| {
            write_entry(w, acl);
            w.tags();
        });
        w.tags();
    });
    w.tags();
    Ok(())
}

/// DeleteAcls (key 31).
pub(super) fn delete_acls(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let asked = r.array("filters", |r| {
        let filter = filter(r)?;
        r.tags()?;
        Ok(filter)
    })?;
    r.tags()?;
    let known: Vec<AclFilter> = asked.iter().flatten().cloned().collect();
    let deleted = call.broker.delete_acls(&known);
    tell(call.explained, || match &deleted {
        Ok(found) => format!("delete rules: {}", shown_list(found.concat().iter().map(Acl::to_string))),
        Err(error) => format!("delete rules, refused: {error}"),
    });
    let refusal = deleted.as_ref().err().cloned().map(Refusal::from);
    let mut found = deleted.unwrap_or_default().into_iter();
    let mut w = call.respond();
    w.throttle_time();
    w.array("filter_results", asked.iter(), |w, filter| {
        // A filter with what is unknown finds nothing.
        let found = filter.as_ref().and_then(|_| found.next()).unwrap_or_default();
        write_code(w, refusal.as_ref());
        w.array("matching_acls", found.iter(), |w, acl| {
            write_code(w, None);
            write_pattern(w, acl);
            write_entry(w, acl);
            w.tags();
        });
        w.tags();
    });
    w.tags();
    Ok(())
}

fn write_pattern(w: &mut Writer<'_>, acl: &Acl) {
    w.i8("resource_type", acl.resource_type.number());
    w.string("resource_name", &acl.name);
    w.i8("pattern_type", acl.pattern.number());
}

fn write_entry(w: &mut Writer<'_>, acl: &Acl) {
    w.string("principal", &acl.principal);
    w.string("host", &acl.host);
    w.i8("operation", acl.operation.number());
    w.i8("permission_type", acl.permission.number());
}

/// Reads a filter; `None`: it has a number that nobody knows, so it finds nothing.
fn filter(r: &mut Reader<'_>) -> wire::Result<Option<AclFilter>> {
    let resource_type = number(r.i8("resource_type_filter")?, ResourceType::of_number)?;
    let name = r.nullable_string("resource_name_filter")?.map(String::from);
    let exactly = |number| PatternType::of_number(number).map(PatternFilter::Exactly);
    let pattern = number(r.i8("pattern_type_filter")?, |number| match number {
        MATCH => Some(PatternFilter::Match),
        _ => exactly(number),
    })?;
    let principal = r.nullable_string("principal_filter")?.map(String::from);
    let host = r.nullable_string("host_filter")?.map(String::from);
    let operation = number(r.i8("operation")?, Operation::of_number)?;
    let permission = number(r.i8("permission_type")?, Permission::of_number)?;
    let (Some(resource_type), Some(pattern), Some(operation), Some(permission)) =
        (resource_type, pattern, operation, permission)
    else {
        return Ok(None);
    };
    let pattern = pattern.unwrap_or(PatternFilter::Any);
    Ok(Some(AclFilter { resource_type, pattern, name, principal, host, operation, permission }))
}

/// What a number of a filter stands for: unknown, any, or one.
fn number<T>(number: i8, of_number: impl Fn(i8) -> Option<T>) -> wire::Result<Option<Option<T>>> {
    match number {
        // As in Kafka: 0 is what its clients read where they do not know a number, and send never.
        0 => Err(Malformed("a filter has something unknown")),
        ANY => Ok(Some(None)),
        _ => Ok(of_number(number).map(Some)),
    }
}
