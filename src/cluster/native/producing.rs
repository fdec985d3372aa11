//! Records on their way, with headers whose names are any bytes; and offsets of a group in a transaction, for whoever names a member.

use super::{Answer, Owned, Partitions, Refused, c, c_string};
use crate::log::record::{RecordRef, Records};
use rdkafka::{
    IntoOpaque,
    bindings::{rd_kafka_resp_err_t, rd_kafka_vtype_t},
    client::Client,
    producer::ProducerContext,
    types::RDKafkaErrorCode,
};
use std::{
    ffi::{CStr, c_void},
    ptr,
    time::Duration,
};

/// Who commits a group's offsets.
#[derive(Clone, Copy, Debug)]
pub(in crate::cluster) struct GroupMember<'a> {
    pub(in crate::cluster) group: &'a str,
    /// Empty: nobody of the group.
    pub(in crate::cluster) id: &'a str,
    pub(in crate::cluster) instance_id: Option<&'a str>,
    /// -1 of nobody.
    pub(in crate::cluster) generation: i32,
}

/// Hands a record over. Its bytes are copied; `opaque` comes back with its delivery, or at once with the error.
pub(in crate::cluster) fn send<C: ProducerContext>(
    client: &Client<C>,
    topic: &CStr,
    partition: u32,
    records: &Records<'_>,
    record: &RecordRef<'_>,
    opaque: C::DeliveryOpaque,
) -> Result<(), (RDKafkaErrorCode, C::DeliveryOpaque)> {
    let bytes =
        |field: Option<&[u8]>| field.map_or((ptr::null(), 0), |bytes| (bytes.as_ptr().cast::<c_void>(), bytes.len()));
    let (value, value_size) = bytes(record.value.as_deref());
    let (key, key_size) = bytes(record.key.as_deref());
    let headers = records.headers_of(record);
    let all = if headers.is_empty() {
        ptr::null_mut()
    } else {
        // SAFETY: it makes a list, which belongs to this function.
        unsafe { c::rd_kafka_headers_new(headers.len()) }
    };
    for (name, value) in headers {
        let (value, value_size) = bytes(value.as_deref());
        // SAFETY: the list is there, and so many bytes at both places, which are copied.
        unsafe { c::rd_kafka_header_add(all, name.as_ptr().cast(), name.len() as isize, value, value_size as isize) };
    }
    let opaque = opaque.into_ptr();
    // SAFETY: each tag is followed by what librdkafka takes after it, and END is the last. Key and value are copied before it returns.
    // Where it answers no error it owns the headers, and the delivery's callback of this client gets the opaque, whose type is the
    // context's.
    let code = unsafe {
        c::rd_kafka_producev(
            client.native_ptr(),
            rd_kafka_vtype_t::RD_KAFKA_VTYPE_TOPIC,
            topic.as_ptr(),
            rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION,
            partition as i32,
            rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS,
            c::RD_KAFKA_MSG_F_COPY,
            rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE,
            value,
            value_size,
            rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY,
            key,
            key_size,
            rd_kafka_vtype_t::RD_KAFKA_VTYPE_OPAQUE,
            opaque,
            rd_kafka_vtype_t::RD_KAFKA_VTYPE_TIMESTAMP,
            record.timestamp.unwrap_or(0),
            rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
            all,
            rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
        )
    };
    if code == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    if !all.is_null() {
        // SAFETY: after an error the headers are still this function's.
        unsafe { c::rd_kafka_headers_destroy(all) };
    }
    // SAFETY: it is the pointer from above, which nobody else has after an error.
    Err((code.into(), unsafe { C::DeliveryOpaque::from_ptr(opaque) }))
}

/// Commits offsets of a group in the open transaction of this producer.
pub(in crate::cluster) fn send_offsets<C: ProducerContext>(
    client: &Client<C>,
    member: GroupMember<'_>,
    offsets: &[(&str, u32, u64)],
    timeout: Duration,
) -> Answer<()> {
    let GroupMember { group, id, instance_id, generation } = member;
    let (group, id, instance_id) = (c_string(group)?, c_string(id)?, instance_id.map(c_string).transpose()?);
    let instance_id = instance_id.as_ref().map_or(ptr::null(), |id| id.as_ptr());
    let offsets = Partitions::new(offsets.iter().map(|&(topic, partition, offset)| (topic, partition, offset as i64)))?;
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the member is new and owned, and names are copied into it; member, offsets and client are there during the call. The
    // error is owned, and its reason is copied while it is there.
    unsafe {
        let member =
            c::rd_kafka_consumer_group_metadata_new_with_genid(group.as_ptr(), generation, id.as_ptr(), instance_id);
        let member = Owned::new(member, c::rd_kafka_consumer_group_metadata_destroy)?;
        let error =
            c::rd_kafka_send_offsets_to_transaction(client.native_ptr(), offsets.get(), member.get(), timeout_ms);
        if error.is_null() {
            return Ok(());
        }
        Refused::check_error(Owned::new(error, c::rd_kafka_error_destroy)?.get())
    }
}
