//! Making a topic that somebody writes to for the first time.

use super::{Cluster, KnownTopic, errors::of_code, options::ClusterOptions};
use crate::broker::{Error, Result};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    types::RDKafkaErrorCode,
};
use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// How often it is looked whether all nodes know the topic.
const LOOKS: Duration = Duration::from_millis(20);

impl Cluster {
    /// Makes a topic as the cluster makes them by itself, and waits until its partitions have leaders. It may be there meanwhile.
    pub(super) fn make_topic(&self, name: &str) -> Result<Arc<KnownTopic>> {
        let options = &self.shared.options;
        let client: AdminClient<DefaultClientContext> =
            options.client(&[]).create().map_err(|error| ClusterOptions::refused(&error))?;
        let what = format!("making the topic '{name}'");
        let by_default = NewTopic::new(name, -1, TopicReplication::Fixed(-1));
        let admin = AdminOptions::new().request_timeout(Some(options.timeout)).operation_timeout(Some(options.timeout));
        let made = block_on(client.create_topics([&by_default], &admin));
        let made = made.map_err(|error| self.shared.known.explain(&what, &error))?;
        match made.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) | None => {}
            Some(Err((_, RDKafkaErrorCode::InvalidTopic))) => {
                return Err(Error::InvalidTopic(format!("the cluster takes no topic of the name '{name}'")));
            }
            Some(Err((_, code))) => return Err(of_code(&what, code)),
        }
        let deadline = Instant::now() + options.timeout;
        loop {
            match self.shared.known.topic_now(name) {
                Ok(topic) if topic.partitions.iter().all(|partition| partition.leader.is_some()) => return Ok(topic),
                Err(error) if !matches!(error, Error::UnknownTopic(_)) => return Err(error),
                found if Instant::now() > deadline => return found,
                _ => thread::sleep(LOOKS),
            }
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

/// Waits on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let (waker, mut future) = (Waker::from(Arc::new(Unpark(thread::current()))), pin!(future));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
