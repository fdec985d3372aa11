//! The messages of one partition as they come, with headers whose names are any bytes.
//!
//! Pointers stay in this file: what leaves it are owned values, and slices that live no longer than these.

use rdkafka::{
    bindings::{self as rd, rd_kafka_message_t, rd_kafka_queue_t, rd_kafka_resp_err_t, rd_kafka_timestamp_type_t},
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    types::RDKafkaErrorCode,
};
use std::{
    collections::VecDeque,
    ffi::{CStr, CString, c_int, c_void},
    marker::PhantomData,
    ptr::{self, NonNull},
    sync::Arc,
    time::Duration,
};

/// Messages that are taken out of a queue at once.
const MESSAGES_AT_ONCE: usize = 512;
/// The librdkafka whose headers are laid out as [`header_name`] believes: 2.12.1.
const KNOWN_LAYOUT: i32 = 0x020c_01ff;

/// A message of a partition, or an error in its place. Its bytes are librdkafka's.
pub(in crate::cluster) struct Message(pub(super) NonNull<rd_kafka_message_t>);

// SAFETY: nobody else has the message, and librdkafka lets any thread read it and give it back.
unsafe impl Send for Message {}

/// When a message was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct Time {
    /// Milliseconds since 1970-01-01 UTC; -1: it has none.
    pub(in crate::cluster) ms: i64,
    /// Whether the cluster's clock said so when it was appended.
    pub(in crate::cluster) of_append: bool,
}

impl Message {
    /// Its offset. Of an error that tells the end of the partition, that end.
    pub(in crate::cluster) fn offset(&self) -> i64 {
        self.get().offset
    }

    /// Its topic and partition; an error may concern none.
    pub(in crate::cluster) fn place(&self) -> Option<(MessageTopic<'_>, i32)> {
        let message = self.get();
        let topic = NonNull::new(message.rkt)?;
        Some((MessageTopic { topic, _message: PhantomData }, message.partition))
    }

    /// What stands here instead of a record.
    pub(in crate::cluster) fn error(&self) -> Option<RDKafkaErrorCode> {
        // SAFETY: the message is whole, and the bindings' enum is a C int, which may hold what a newer node says.
        let number = unsafe { (&raw const (*self.0.as_ptr()).err).cast::<c_int>().read() };
        match number {
            0 => None,
            ..=97 | 100 | 110..=113 | 117 | 118 | 129 => Some(self.get().err.into()),
            // The bindings' enum has no such code.
            _ => Some(RDKafkaErrorCode::Unknown),
        }
    }

    /// The key; `None` is null.
    pub(in crate::cluster) fn key(&self) -> Option<&[u8]> {
        let message = self.get();
        // SAFETY: so many bytes stand there as long as the message.
        unsafe { slice(message.key, message.key_len) }
    }

    /// The value; `None` is a tombstone.
    pub(in crate::cluster) fn value(&self) -> Option<&[u8]> {
        let message = self.get();
        // SAFETY: so many bytes stand there as long as the message.
        unsafe { slice(message.payload, message.len) }
    }

    pub(in crate::cluster) fn time(&self) -> Time {
        let mut kind = rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is whole, and `kind` outlives the call.
        let ms = unsafe { rd::rd_kafka_message_timestamp(self.0.as_ptr(), &mut kind) };
        Time { ms, of_append: kind == rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME }
    }

    /// Hands its headers to `each`, in order: name, and value (`None` is null).
    pub(in crate::cluster) fn headers<'a>(&'a self, mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is whole; the headers stay its own.
        let found = unsafe { rd::rd_kafka_message_headers(self.0.as_ptr(), &mut headers) };
        if found != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers are the message's, and the three places outlive the call.
            let got = unsafe { rd::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size) };
            if got != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            // SAFETY: both are of a header that lives as long as the message.
            unsafe { each(header_name(name), slice(value.cast_mut(), size)) };
        }
    }

    pub(super) fn get(&self) -> &rd_kafka_message_t {
        // SAFETY: librdkafka keeps the message until it is given back, which is when this is dropped.
        unsafe { self.0.as_ref() }
    }
}

/// The topic of a message.
pub(in crate::cluster) struct MessageTopic<'m> {
    topic: NonNull<rd::rd_kafka_topic_t>,
    _message: PhantomData<&'m Message>,
}

impl MessageTopic<'_> {
    /// A number that is the same for all messages of this topic while they are there, and no other topic's.
    pub(in crate::cluster) fn id(&self) -> usize {
        self.topic.as_ptr().addr()
    }

    pub(in crate::cluster) fn name(&self) -> String {
        // SAFETY: the topic is there as long as the message, and its name as long as the topic.
        unsafe { CStr::from_ptr(rd::rd_kafka_topic_name(self.topic.as_ptr())) }.to_string_lossy().into_owned()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: it is given back once, and nothing borrows from it any more.
        unsafe { rd::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// Bytes that librdkafka keeps; null is none.
///
/// # Safety
/// Unless it is null, `size` bytes stand at `start` for as long as `'a`, and nobody writes there.
unsafe fn slice<'a>(start: *mut c_void, size: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), size) })
}

/// A header's name with the NULs in it. librdkafka tells where it begins and not how long it is.
///
/// # Safety
/// `name` is what `rd_kafka_header_get_all` gave, of a header that lives as long as `'a`.
unsafe fn header_name<'a>(name: *const std::ffi::c_char) -> &'a [u8] {
    // SAFETY: a header is one allocation that is never changed. In the version that is looked for, which is built from its
    // source together with this program, its last fields are the name's size, a pointer to the value, and the name, which is
    // followed by a NUL. In any other version the name is read up to its first NUL.
    unsafe {
        if rd::rd_kafka_version() != KNOWN_LAYOUT {
            return CStr::from_ptr(name).to_bytes();
        }
        let size = name.cast::<usize>().sub(2).read_unaligned();
        std::slice::from_raw_parts(name.cast::<u8>(), size)
    }
}

type Wake = Box<dyn Fn() + Send + Sync>;

/// What a client has fetched of one partition and nobody has taken yet. Messages of a partition come here, and no more to the
/// client's own queue, from the first assignment on that follows.
pub(in crate::cluster) struct PartitionQueue<C: ConsumerContext> {
    queue: NonNull<rd_kafka_queue_t>,
    /// Called where the queue is not empty any more. librdkafka has its address: it stays where it is.
    _wake: Box<Wake>,
    /// The queue is no longer there than its client.
    _client: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's queues may be used by any thread, and `Wake` can be called from any.
unsafe impl<C: ConsumerContext> Send for PartitionQueue<C> {}

impl<C: ConsumerContext> PartitionQueue<C> {
    /// `wake` is called on librdkafka's threads, under the queue's lock: it must not touch the queue, nor wait.
    pub(in crate::cluster) fn new(
        client: &Arc<BaseConsumer<C>>,
        topic: &str,
        partition: u32,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Option<PartitionQueue<C>> {
        let (topic, partition) = (CString::new(topic).ok()?, i32::try_from(partition).ok()?);
        let native = client.client().native_ptr();
        // SAFETY: the client lives as long as what is made here, and the name outlives the call.
        let queue = unsafe { rd::rd_kafka_queue_get_partition(native, topic.as_ptr(), partition) };
        let (queue, wake) = (NonNull::new(queue)?, Box::new(Box::new(wake) as Wake));
        let opaque = ptr::from_ref::<Wake>(&wake).cast_mut().cast::<c_void>();
        // SAFETY: the queue is ours until it is dropped, and until then `wake` stays at its address.
        unsafe {
            rd::rd_kafka_queue_forward(queue.as_ptr(), ptr::null_mut());
            rd::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(not_empty), opaque);
        }
        Some(PartitionQueue { queue, _wake: wake, _client: client.clone() })
    }

    /// Takes what is there, as far as it is taken at once.
    pub(in crate::cluster) fn take(&mut self, into: &mut VecDeque<Message>) {
        let mut taken = [ptr::null_mut(); MESSAGES_AT_ONCE];
        // SAFETY: there is room for as many pointers as are asked for.
        let count =
            unsafe { rd::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, taken.as_mut_ptr(), taken.len()) };
        let taken = &taken[..usize::try_from(count).unwrap_or(0)];
        into.extend(taken.iter().filter_map(|message| NonNull::new(*message)).map(Message));
    }

    /// Waits for one.
    pub(in crate::cluster) fn wait(&mut self, time: Duration) -> Option<Message> {
        let ms = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is ours; what it gives is nobody else's.
        NonNull::new(unsafe { rd::rd_kafka_consume_queue(self.queue.as_ptr(), ms) }).map(Message)
    }
}

impl<C: ConsumerContext> Drop for PartitionQueue<C> {
    fn drop(&mut self) {
        // SAFETY: librdkafka calls `wake` under the lock that this takes, so it is not called any more when this returns. The
        // queue is given back once.
        unsafe {
            rd::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            rd::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

unsafe extern "C" fn not_empty(_: *mut rd::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: it is the address that the queue was given, and is good until the queue is dropped.
    let wake = unsafe { &*opaque.cast::<Wake>() };
    wake();
}
