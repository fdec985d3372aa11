//! What a group knows a member by.

use rdkafka::{
    bindings as rd,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
};
use std::ffi::CStr;

/// What a group knows a member by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cluster) struct Seat {
    pub(in crate::cluster) member_id: String,
    pub(in crate::cluster) generation: i32,
}

/// A member's id and generation; none: it is in no group now.
pub(in crate::cluster) fn seat<C: ConsumerContext>(client: &BaseConsumer<C>) -> Option<Seat> {
    // SAFETY: the client is there during the call. What it gives is read, and then given back once.
    unsafe {
        let metadata = rd::rd_kafka_consumer_group_metadata(client.client().native_ptr());
        if metadata.is_null() {
            return None;
        }
        let member_id = rd::rd_kafka_consumer_group_metadata_member_id(metadata);
        let member_id = (!member_id.is_null()).then(|| CStr::from_ptr(member_id).to_string_lossy().into_owned());
        let generation = rd::rd_kafka_consumer_group_metadata_generation_id(metadata);
        rd::rd_kafka_consumer_group_metadata_destroy(metadata);
        member_id.filter(|id| !id.is_empty()).map(|member_id| Seat { member_id, generation })
    }
}
