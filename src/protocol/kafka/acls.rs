//! Access control lists: CreateAcls, DescribeAcls, DeleteAcls. Nobody is refused anything here, so there are none, and each call is
//! answered as by a Kafka without an authorizer.

use super::{
    Call, Code, Stop, tell,
    wire::{self, Malformed, Reader, Writer},
};

const WHY: &str = "this broker has no access control";

/// CreateAcls (key 30).
pub(super) fn create_acls(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let creations = r.array("creations", |r| {
        r.i8("resource_type")?;
        r.string("resource_name")?;
        r.i8("resource_pattern_type")?;
        r.string("principal")?;
        r.string("host")?;
        r.i8("operation")?;
        r.i8("permission_type")?;
        r.tags()
    })?;
    r.tags()?;
    tell(call.explained, || "to make access control lists".into());
    let mut w = call.respond();
    w.i32("throttle_time_ms", 0);
    w.array("results", creations.iter(), |w, ()| {
        refuse(w);
        w.tags();
    });
    w.tags();
    Ok(())
}

/// DescribeAcls (key 29).
pub(super) fn describe_acls(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    filter(r)?;
    r.tags()?;
    tell(call.explained, || "which access control lists there are".into());
    let mut w = call.respond();
    w.i32("throttle_time_ms", 0);
    refuse(&mut w);
    w.empty_array("resources");
    w.tags();
    Ok(())
}

/// DeleteAcls (key 31).
pub(super) fn delete_acls(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let filters = r.array("filters", |r| {
        filter(r)?;
        r.tags()
    })?;
    r.tags()?;
    tell(call.explained, || "to delete access control lists".into());
    let mut w = call.respond();
    w.i32("throttle_time_ms", 0);
    w.array("filter_results", filters.iter(), |w, ()| {
        refuse(w);
        w.empty_array("matching_acls");
        w.tags();
    });
    w.tags();
    Ok(())
}

fn filter(r: &mut Reader<'_>) -> wire::Result<()> {
    let mut known = r.i8("resource_type_filter")? != 0;
    r.nullable_string("resource_name_filter")?;
    known &= r.i8("pattern_type_filter")? != 0;
    r.nullable_string("principal_filter")?;
    r.nullable_string("host_filter")?;
    known &= r.i8("operation")? != 0;
    known &= r.i8("permission_type")? != 0;
    // As in Kafka: 0 is what its clients read where they do not know a number, and send never.
    if known { Ok(()) } else { Err(Malformed("a filter has something unknown")) }
}

fn refuse(w: &mut Writer<'_>) {
    w.i16("error_code", Code::SecurityDisabled.into());
    w.nullable_string("error_message", Some(WHY));
}
