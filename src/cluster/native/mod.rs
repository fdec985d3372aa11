//! Calls of librdkafka that its Rust wrapper lacks, or whose reasons it drops: the only place with unsafe code.
//!
//! ```text
//! Asking ── options, a queue of its own ──► librdkafka ── event ──► copied out at once
//!   topics.rs    make, alter, drop, trim, describe; first and last offsets
//!   groups.rs    list, describe; offsets listed, altered, deleted
//!
//! PartitionQueue ── messages.rs: a partition's messages with their headers
//! seat ── seat.rs: what a group knows a member by
//! Sender ── producing.rs: records on their way, and a group's offsets in a transaction
//! Fetched, Forwarding ── forwarding.rs: a client's messages, handed on as they are
//! ```
//!
//! - What librdkafka gives is [`Owned`] and freed when that is dropped, or borrowed of something that is. Nothing borrowed leaves this
//!   module: names, numbers and reasons are copied.
//! - Codes are read as plain numbers. The bindings' enums cannot hold one that a newer node sends.
//! - Each call waits on a queue of its own, in the thread that asks.
#![allow(unsafe_code)]

mod forwarding;
mod groups;
mod messages;
mod producing;
mod seat;
mod topics;

pub(super) use forwarding::{Fetched, Forwarding};
pub(super) use groups::{GroupOffset, Kind, Listed, Member};
pub(super) use messages::{Message, PartitionQueue};
pub(super) use producing::{GroupMember, send, send_offsets};
pub(super) use seat::{Seat, seat};
pub(super) use topics::{Found, Setting, Topic};

use rdkafka::{
    ClientContext,
    bindings::{self as c, rd_kafka_admin_op_t as Op},
    client::Client,
};
use std::{
    ffi::{CStr, CString, c_char, c_int},
    ptr::{self, NonNull},
    slice,
    time::{Duration, Instant},
};

/// What a node or librdkafka itself refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Kafka's number; librdkafka's own are below 0.
    pub(super) number: i32,
    /// The reason in words.
    pub(super) why: String,
}

pub(super) type Answer<T> = Result<T, Refused>;

/// Asks the nodes by a client's connections.
pub(super) struct Asking<'c, C: ClientContext> {
    client: &'c Client<C>,
    timeout: Duration,
    is_vain: &'c dyn Fn() -> bool,
}

/// How often it is looked whether an answer is still waited for.
const LOOKS: Duration = Duration::from_millis(100);

/// Something of librdkafka's that is to be freed.
struct Owned<T> {
    pointer: NonNull<T>,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// Takes over what `free` frees; librdkafka answers null for what it does not take.
    fn new(pointer: *mut T, free: unsafe extern "C" fn(*mut T)) -> Answer<Owned<T>> {
        let refused = || Refused::own("librdkafka does not take it");
        Ok(Owned { pointer: NonNull::new(pointer).ok_or_else(refused)?, free })
    }

    fn get(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // Sound: the pointer came from the function that belongs to `free`, and nobody else frees it.
        unsafe { (self.free)(self.pointer.as_ptr()) }
    }
}

impl Refused {
    fn own(why: &str) -> Refused {
        Refused { number: c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__INVALID_ARG as i32, why: why.into() }
    }

    /// `Ok` if the number is that of no error.
    ///
    /// # Safety
    /// `why` is null or a string.
    unsafe fn check(number: i32, why: *const c_char) -> Answer<()> {
        match number {
            0 => Ok(()),
            // Sound: the caller says so.
            _ => Err(Refused { number, why: unsafe { text(why) } }),
        }
    }

    /// # Safety
    /// `error` is null or an error that is there.
    unsafe fn check_error(error: *const c::rd_kafka_error_t) -> Answer<()> {
        if error.is_null() {
            return Ok(());
        }
        // Sound: the error is there, and its string lives as long.
        unsafe { Refused::check(codes::rd_kafka_error_code(error), c::rd_kafka_error_string(error)) }
    }
}

/// The functions whose answer is a code, with that as a number.
mod codes {
    #![allow(clashing_extern_declarations, reason = "an enum of the bindings is a C int")]
    use super::{c, c_int};

    unsafe extern "C" {
        pub(super) fn rd_kafka_error_code(error: *const c::rd_kafka_error_t) -> c_int;
        pub(super) fn rd_kafka_event_error(event: *mut c::rd_kafka_event_t) -> c_int;
        pub(super) fn rd_kafka_topic_result_error(result: *const c::rd_kafka_topic_result_t) -> c_int;
        pub(super) fn rd_kafka_ConfigResource_error(resource: *const c::rd_kafka_ConfigResource_t) -> c_int;
        pub(super) fn rd_kafka_ConfigEntry_source(entry: *const c::rd_kafka_ConfigEntry_t) -> c_int;
        pub(super) fn rd_kafka_ConsumerGroupListing_state(group: *const c::rd_kafka_ConsumerGroupListing_t) -> c_int;
        pub(super) fn rd_kafka_ConsumerGroupListing_type(group: *const c::rd_kafka_ConsumerGroupListing_t) -> c_int;
        pub(super) fn rd_kafka_ConsumerGroupDescription_state(
            group: *const c::rd_kafka_ConsumerGroupDescription_t,
        ) -> c_int;
        pub(super) fn rd_kafka_ConsumerGroupDescription_type(
            group: *const c::rd_kafka_ConsumerGroupDescription_t,
        ) -> c_int;
    }
}

impl<'c, C: ClientContext> Asking<'c, C> {
    /// Each question may take `timeout`, unless it is in vain.
    pub(super) fn new(client: &'c Client<C>, timeout: Duration, is_vain: &'c dyn Fn() -> bool) -> Asking<'c, C> {
        Asking { client, timeout, is_vain }
    }

    fn options(&self, op: Op) -> Answer<Owned<c::rd_kafka_AdminOptions_t>> {
        let timeout = self.timeout.as_millis().clamp(1, 3_600_000) as c_int;
        // Sound: the client is there as long as `self`; without room for a reason none is written.
        unsafe {
            let made = c::rd_kafka_AdminOptions_new(self.client.native_ptr(), op);
            let options = Owned::new(made, c::rd_kafka_AdminOptions_destroy)?;
            c::rd_kafka_AdminOptions_set_request_timeout(options.get(), timeout, ptr::null_mut(), 0);
            Ok(options)
        }
    }

    /// Asks by `request`, which gets the client, these options and the queue for the answer, and waits for it.
    fn ask(
        &self,
        options: &Owned<c::rd_kafka_AdminOptions_t>,
        request: impl FnOnce(*mut c::rd_kafka_t, *const c::rd_kafka_AdminOptions_t, *mut c::rd_kafka_queue_t),
    ) -> Answer<Owned<c::rd_kafka_event_t>> {
        let queue = self.queue()?;
        request(self.client.native_ptr(), options.get(), queue.get());
        self.answer(&queue)?.checked()
    }

    /// A queue for answers. One that is freed before its answer comes stays until then, since librdkafka counts who uses it.
    fn queue(&self) -> Answer<Owned<c::rd_kafka_queue_t>> {
        // Sound: the client is there as long as `self`.
        let made = unsafe { c::rd_kafka_queue_new(self.client.native_ptr()) };
        Owned::new(made, c::rd_kafka_queue_destroy)
    }

    /// Waits for an answer.
    fn answer(&self, queue: &Owned<c::rd_kafka_queue_t>) -> Answer<Event> {
        // librdkafka always answers, at the latest when its own time is over.
        let deadline = Instant::now() + self.timeout + Duration::from_secs(5);
        let event = loop {
            // Sound: the queue is there.
            let event = unsafe { c::rd_kafka_queue_poll(queue.get(), LOOKS.as_millis() as c_int) };
            if !event.is_null() || Instant::now() >= deadline || (self.is_vain)() {
                break event;
            }
        };
        if event.is_null() {
            let number = c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT as i32;
            return Err(Refused { number, why: "no answer".into() });
        }
        Ok(Event(Owned::new(event, c::rd_kafka_event_destroy)?))
    }
}

/// An answer, or an error in its place.
struct Event(Owned<c::rd_kafka_event_t>);

impl Event {
    /// What the question was marked with.
    fn mark(&self) -> usize {
        // Sound: the event is there.
        unsafe { c::rd_kafka_event_opaque(self.0.get()) }.addr()
    }

    fn checked(self) -> Answer<Owned<c::rd_kafka_event_t>> {
        let event = self.0.get();
        // Sound: the event is there, and its error string lives as long.
        unsafe { Refused::check(codes::rd_kafka_event_error(event), c::rd_kafka_event_error_string(event))? };
        Ok(self.0)
    }
}

/// A copy of a string; empty where there is none.
///
/// # Safety
/// `string` is null or ends with a NUL.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // Sound: the caller says so, and it is copied at once.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

fn c_string(text: &str) -> Answer<CString> {
    CString::new(text).map_err(|_| Refused::own("it has a NUL within"))
}

/// An array of librdkafka's, which may be null where it is empty.
///
/// # Safety
/// `array` has `count` pointers for as long as `'a`.
unsafe fn all<'a, T>(array: *mut *const T, count: usize) -> &'a [*const T] {
    // Sound: the caller says so.
    if count == 0 { &[] } else { unsafe { slice::from_raw_parts(array, count) } }
}

/// Partitions, each with an offset.
struct Partitions(Owned<c::rd_kafka_topic_partition_list_t>);

impl Partitions {
    fn new<'a>(all: impl IntoIterator<Item = (&'a str, u32, i64)>) -> Answer<Partitions> {
        // Sound: a new list is owned; the name is copied by the call; the entry is one of the list's own.
        unsafe {
            let made = c::rd_kafka_topic_partition_list_new(1);
            let list = Owned::new(made, c::rd_kafka_topic_partition_list_destroy)?;
            for (topic, partition, offset) in all {
                let topic = c_string(topic)?;
                let partition = i32::try_from(partition).map_err(|_| Refused::own("no partition has this number"))?;
                let entry = c::rd_kafka_topic_partition_list_add(list.get(), topic.as_ptr(), partition);
                (*entry).offset = offset;
            }
            Ok(Partitions(list))
        }
    }

    fn get(&self) -> *mut c::rd_kafka_topic_partition_list_t {
        self.0.get()
    }
}

/// A partition in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) offset: i64,
    /// The leader epoch of the record before it, if that is told.
    pub(super) leader_epoch: Option<i32>,
    pub(super) metadata: String,
    pub(super) refused: Option<Refused>,
}

/// The entries of a list.
///
/// # Safety
/// `list` is null or a list that is there.
unsafe fn entries(list: *const c::rd_kafka_topic_partition_list_t) -> Vec<At> {
    // Sound: the caller says so; a list has `cnt` entries, and is not changed while they are copied.
    unsafe {
        match list.as_ref() {
            Some(list) if list.cnt > 0 => {
                slice::from_raw_parts(list.elems.cast_const().cast::<Entry>(), list.cnt as usize)
                    .iter()
                    .map(|entry| entry.copied())
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

/// An entry of a list, as the bindings lay it out, but for the code.
#[repr(C)]
struct Entry {
    topic: *mut c_char,
    partition: i32,
    offset: i64,
    metadata: *mut std::ffi::c_void,
    metadata_size: usize,
    opaque: *mut std::ffi::c_void,
    error: c_int,
    private: *mut std::ffi::c_void,
}

const _: () = assert!(size_of::<Entry>() == size_of::<c::rd_kafka_topic_partition_t>());

impl Entry {
    /// # Safety
    /// It is an entry of a list that is there.
    unsafe fn copied(&self) -> At {
        // Sound: the caller says so; the metadata has as many bytes as it says, and what an error is called is never freed.
        unsafe {
            let epoch = c::rd_kafka_topic_partition_get_leader_epoch(ptr::from_ref(self).cast());
            let metadata = match self.metadata_size {
                0 => &[],
                size => slice::from_raw_parts(self.metadata.cast_const().cast::<u8>(), size),
            };
            let refused = (self.error != 0).then(|| Refused { number: self.error, why: name_of(self.error) });
            At {
                topic: text(self.topic),
                partition: self.partition.max(0) as u32,
                offset: self.offset,
                leader_epoch: Some(epoch).filter(|epoch| *epoch >= 0),
                metadata: String::from_utf8_lossy(metadata).into_owned(),
                refused,
            }
        }
    }
}

/// What an error is called whose reason is not told.
fn name_of(number: i32) -> String {
    crate::broker::Code::numbered(number).map_or_else(|| format!("error {number}"), |code| code.name().into())
}
