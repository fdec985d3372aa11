//! Records from one cluster to another as they are: bytes and headers are handed on without being looked at.

use super::{Answer, Message, Owned, Refused, c, c_string};
use rdkafka::{
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    producer::{BaseProducer, Producer, ProducerContext},
};
use std::{
    ffi::c_void,
    ptr::{self, NonNull},
    sync::Arc,
    time::Duration,
};

/// What a client has fetched of all its partitions.
pub(in crate::cluster) struct Fetched<C: ConsumerContext> {
    queue: Owned<c::rd_kafka_queue_t>,
    /// The queue is no longer there than its client.
    _client: Arc<BaseConsumer<C>>,
}

impl<C: ConsumerContext> Fetched<C> {
    pub(in crate::cluster) fn of(client: &Arc<BaseConsumer<C>>) -> Answer<Fetched<C>> {
        // Sound: the client is there as long as what is made here.
        let queue = unsafe { c::rd_kafka_queue_get_consumer(client.client().native_ptr()) };
        Ok(Fetched { queue: Owned::new(queue, c::rd_kafka_queue_destroy)?, _client: client.clone() })
    }

    /// Waits for one.
    pub(in crate::cluster) fn wait(&self, time: Duration) -> Option<Message> {
        let ms = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // Sound: the queue is ours; what it gives is nobody else's.
        NonNull::new(unsafe { c::rd_kafka_consume_queue(self.queue.get(), ms) }).map(Message)
    }

    /// Those that are there, at most so many at once.
    pub(in crate::cluster) fn take(&self) -> impl Iterator<Item = Message> + use<C> {
        let mut taken = [ptr::null_mut(); 512];
        // Sound: there is room for as many pointers as are asked for.
        let count = unsafe { c::rd_kafka_consume_batch_queue(self.queue.get(), 0, taken.as_mut_ptr(), taken.len()) };
        taken.into_iter().take(usize::try_from(count).unwrap_or(0)).filter_map(NonNull::new).map(Message)
    }
}

/// Topics of a producer that are written to.
pub(in crate::cluster) struct Forwarding<C: ProducerContext<DeliveryOpaque = usize>> {
    topics: Vec<Owned<c::rd_kafka_topic_t>>,
    /// It is there as long as its topics.
    producer: BaseProducer<C>,
}

// Sound: librdkafka's topics may be used by any thread.
unsafe impl<C: ProducerContext<DeliveryOpaque = usize>> Send for Forwarding<C> {}

impl<C: ProducerContext<DeliveryOpaque = usize>> Forwarding<C> {
    pub(in crate::cluster) fn new(producer: BaseProducer<C>) -> Forwarding<C> {
        Forwarding { topics: Vec::new(), producer }
    }

    pub(in crate::cluster) fn producer(&self) -> &BaseProducer<C> {
        &self.producer
    }

    /// A topic's number here.
    pub(in crate::cluster) fn topic(&mut self, name: &str) -> Answer<usize> {
        let name = c_string(name)?;
        // Sound: the producer is there, the name is copied, and no settings of its own are given.
        let topic =
            unsafe { c::rd_kafka_topic_new(self.producer.client().native_ptr(), name.as_ptr(), ptr::null_mut()) };
        self.topics.push(Owned::new(topic, c::rd_kafka_topic_destroy)?);
        Ok(self.topics.len() - 1)
    }

    /// Sends a message's key, value and headers to a partition of the topic with this number, with this time in ms, which must
    /// not be 0. `told` comes back with what became of it, unless it was refused here.
    pub(in crate::cluster) fn send(
        &self,
        topic: usize,
        partition: u32,
        message: &Message,
        time_ms: i64,
        told: usize,
    ) -> Answer<()> {
        use c::rd_kafka_vtype_t::*;
        let bytes = |bytes: Option<&[u8]>| match bytes {
            None => (ptr::null(), 0),
            Some(bytes) => (bytes.as_ptr(), bytes.len()),
        };
        let ((value, value_size), (key, key_size)) = (bytes(message.value()), bytes(message.key()));
        // Sound: the arguments are as each kind of them asks, and end with the end; librdkafka copies key and value. Headers are a
        // copy, which is librdkafka's unless it refuses.
        unsafe {
            let mut headers = ptr::null_mut();
            let found = c::rd_kafka_message_headers(message.get(), &mut headers);
            let has_headers = found == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            let headers = if has_headers { c::rd_kafka_headers_copy(headers) } else { ptr::null_mut() };
            let refused = c::rd_kafka_producev(
                self.producer.client().native_ptr(),
                RD_KAFKA_VTYPE_RKT,
                self.topics[topic].get(),
                RD_KAFKA_VTYPE_PARTITION,
                partition as i32,
                RD_KAFKA_VTYPE_MSGFLAGS,
                c::RD_KAFKA_MSG_F_COPY,
                RD_KAFKA_VTYPE_VALUE,
                value,
                value_size,
                RD_KAFKA_VTYPE_KEY,
                key,
                key_size,
                RD_KAFKA_VTYPE_OPAQUE,
                told as *mut c_void,
                RD_KAFKA_VTYPE_TIMESTAMP,
                time_ms,
                RD_KAFKA_VTYPE_HEADERS,
                headers,
                RD_KAFKA_VTYPE_END,
            );
            let number = refused as i32;
            if number != 0 && !headers.is_null() {
                c::rd_kafka_headers_destroy(headers);
            }
            Refused::check(number, c::rd_kafka_err2str(refused))
        }
    }
}
