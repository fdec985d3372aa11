//! Members of share groups: a queue of which each record goes to whoever is free.
//!
//! ```text
//! poll ─► joined? ─no─► join ─► the broker hands out records, which are this member's for the time of a lock
//!                                  │ accept: done        │ release: for somebody else, again
//!                                  │ reject: never again │ renew: still at work
//! ```
//!
//! - A member that lost its connection joins again when it is polled. What it held then is handed out again, to it or to another, and
//!   can be acknowledged no more by who had it before.
//! - A poll waits in the broker for one slice of its time after the other, so that it can be woken.

mod embedded;
mod network;

use super::{
    Error, Message, Target,
    answer::UNKNOWN_TOPIC,
    consuming::{Lookout, SLICE},
    endpoint::{RETRY_FOR, connect_within},
    membership::{Troubles, UNKNOWN_MEMBER, is_loss},
    record::check_topic,
};
use crate::broker::{Broker, ShareOptions, share_partition::Acknowledgement};
use embedded::EmbeddedMember;
use network::NetworkMember;
use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::*},
    },
    thread,
    time::{Duration, Instant},
};

/// A record that was handed out.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The record.
    pub message: Message,
    /// How often it was handed out, this time included.
    pub deliveries: u32,
}

/// A member of a share group.
///
/// ```no_run
/// use plainlog::client::Queue;
/// use std::time::Duration;
///
/// let mut queue = Queue::connect("localhost:9092")?.join("jobs", &["orders"])?;
/// for delivery in queue.poll(Duration::from_secs(1), 10)? {
///     println!("{}", String::from_utf8_lossy(delivery.message.value.as_deref().unwrap_or(b"")));
///     queue.accept(&delivery)?;
/// }
/// # Ok::<(), plainlog::client::Error>(())
/// ```
#[derive(Debug)]
pub struct Queue {
    member: Box<dyn QueueMember>,
    subscription: Subscription,
    troubles: Troubles,
    joined: bool,
    /// The topics are waited for.
    missing: bool,
    lookout: Lookout,
    woken: Arc<AtomicBool>,
}

/// What a member joins for.
#[derive(Clone, Debug, Default)]
struct Subscription {
    group: String,
    topics: Vec<String>,
    options: ShareOptions,
}

/// Records of a partition that follow one another.
struct Part<'a> {
    topic: &'a str,
    partition: u32,
    first: u64,
    last: u64,
}

impl Part<'_> {
    fn of(Delivery { message, .. }: &Delivery) -> Part<'_> {
        let Message { topic, partition, offset, .. } = message;
        Part { topic, partition: *partition, first: *offset, last: *offset }
    }

    fn is_before(&self, next: &Part<'_>) -> bool {
        (next.topic, next.partition, next.first) == (self.topic, self.partition, self.last + 1)
    }
}

/// What a member can do: lines over a connection, or calls to a broker in this process. Neither joins by itself.
trait QueueMember: Debug + Send {
    fn join(&mut self, subscription: &Subscription) -> Result<(), Error>;
    fn poll(&mut self, wait: Duration, max: usize) -> Result<Vec<Delivery>, Error>;
    fn acknowledge(&mut self, how: Acknowledgement, of: &Part<'_>) -> Result<(), Error>;
    fn leave(&mut self) -> Result<(), Error>;
    fn address(&self) -> &str;
    fn partitions(&self) -> usize;
    /// How long a record is the member's.
    fn lock(&self) -> Duration;
}

impl Queue {
    /// Connects to a broker, `host:port`, or fails at once.
    pub fn connect(target: impl Into<Target>) -> Result<Queue, Error> {
        Ok(Queue::connect_within(target, Duration::ZERO)?.retry_for(RETRY_FOR))
    }

    /// Connects to a broker, which may take until `retry_for` to appear. Later outages that last as long are reported too.
    pub fn connect_within(target: impl Into<Target>, retry_for: Duration) -> Result<Queue, Error> {
        Ok(Queue::of(NetworkMember::new(connect_within(&target.into(), retry_for)?)).retry_for(retry_for))
    }

    /// A queue of a broker in this process.
    pub fn embedded(broker: &Broker) -> Queue {
        Queue::of(EmbeddedMember::new(broker.clone()))
    }

    fn of(member: impl QueueMember + 'static) -> Queue {
        Queue {
            member: Box::new(member),
            subscription: Subscription::default(),
            troubles: Troubles::new(RETRY_FOR),
            joined: false,
            missing: false,
            lookout: Lookout::begin(),
            woken: Arc::default(),
        }
    }

    /// How long a broker may be gone before [`poll`](Self::poll) says so; 30 seconds unless this says otherwise.
    pub fn retry_for(mut self, retry_for: Duration) -> Queue {
        self.troubles.retry_for = retry_for;
        self
    }

    /// What the group is to be like, if it is new.
    pub fn options(mut self, options: ShareOptions) -> Queue {
        self.subscription.options = options;
        self
    }

    /// Joins a share group, which is made if need be. A topic that is not there is waited for by [`poll`](Self::poll).
    pub fn join(mut self, group: &str, topics: &[&str]) -> Result<Queue, Error> {
        topics.iter().try_for_each(|topic| check_topic(topic))?;
        self.subscription.options.check_from()?;
        self.subscription.group = group.into();
        self.subscription.topics = topics.iter().map(|&topic| topic.into()).collect();
        match self.join_if_lost() {
            Err(Error::Refused(refused)) if refused.code == UNKNOWN_TOPIC => self.wait_for_topics(),
            joined => joined?,
        }
        Ok(self)
    }

    /// What is not there yet is read whole when it comes: a new group begins with its first record.
    fn wait_for_topics(&mut self) {
        self.missing = true;
        self.subscription.options.from = None;
    }

    fn join_if_lost(&mut self) -> Result<(), Error> {
        if !self.joined {
            self.member.join(&self.subscription)?;
            (self.joined, self.missing, self.lookout) = (true, false, Lookout::begin());
        }
        Ok(())
    }

    /// The next records: at most `max`, as soon as there is one, or none when `timeout` is over. It returns early, with nothing, when it
    /// is woken.
    ///
    /// An error is news, not the end: polling again goes on, but for [`Error::Answer`].
    pub fn poll(&mut self, timeout: Duration, max: usize) -> Result<Vec<Delivery>, Error> {
        let begun = Instant::now();
        loop {
            let left = timeout.saturating_sub(begun.elapsed()).min(SLICE);
            match self.join_if_lost().and_then(|()| self.member.poll(left, max.max(1))) {
                Ok(deliveries) => {
                    self.troubles.are_over();
                    if !deliveries.is_empty() {
                        return Ok(deliveries);
                    }
                }
                Err(error) => self.recover(error, left)?,
            }
            if self.woken.swap(false, AcqRel) || begun.elapsed() >= timeout {
                return Ok(Vec::new());
            }
        }
    }

    /// What to do about an error: an answer for the caller, or another attempt after a pause.
    fn recover(&mut self, error: Error, left: Duration) -> Result<(), Error> {
        let pause = match &error {
            Error::Refused(refused) if refused.code == UNKNOWN_MEMBER => {
                self.joined = false;
                return Ok(());
            }
            Error::Refused(refused) if refused.code == UNKNOWN_TOPIC && !self.joined => {
                self.wait_for_topics();
                self.lookout.next_pause()
            }
            _ => {
                self.joined &= !is_loss(&error);
                self.troubles.pause_after(error)?
            }
        };
        thread::sleep(pause.min(left));
        Ok(())
    }

    /// The record is processed. When this returns, that is as durable as an acknowledged record. An error says that it is not, as far as
    /// is known; the record may come again then.
    pub fn accept(&mut self, delivery: &Delivery) -> Result<(), Error> {
        self.acknowledge(Acknowledgement::Accept, delivery)
    }

    /// Somebody may have the record again.
    pub fn release(&mut self, delivery: &Delivery) -> Result<(), Error> {
        self.acknowledge(Acknowledgement::Release, delivery)
    }

    /// Nobody can process the record.
    pub fn reject(&mut self, delivery: &Delivery) -> Result<(), Error> {
        self.acknowledge(Acknowledgement::Reject, delivery)
    }

    /// The record is still being processed: its lock starts anew.
    pub fn renew(&mut self, delivery: &Delivery) -> Result<(), Error> {
        self.acknowledge(Acknowledgement::Renew, delivery)
    }

    /// All these records are processed, which were polled together. After an error some of them may be accepted.
    pub fn accept_all(&mut self, deliveries: &[Delivery]) -> Result<(), Error> {
        let mut parts = deliveries.iter().map(Part::of).peekable();
        while let Some(mut part) = parts.next() {
            while let Some(next) = parts.next_if(|next| part.is_before(next)) {
                part.last = next.last;
            }
            self.acknowledge_part(Acknowledgement::Accept, &part)?;
        }
        Ok(())
    }

    fn acknowledge(&mut self, how: Acknowledgement, delivery: &Delivery) -> Result<(), Error> {
        self.acknowledge_part(how, &Part::of(delivery))
    }

    fn acknowledge_part(&mut self, how: Acknowledgement, part: &Part<'_>) -> Result<(), Error> {
        if !self.joined {
            return Err(Error::Refused(crate::broker::Error::UnknownMemberId.into()));
        }
        let done = self.member.acknowledge(how, part);
        if done.as_ref().is_err_and(is_loss) {
            self.joined = false;
        }
        done
    }

    /// Leaves the group; what it holds is released. (Dropping it does the same.)
    pub fn close(mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.joined) { self.member.leave() } else { Ok(()) }
    }

    /// The broker's address.
    pub fn address(&self) -> &str {
        self.member.address()
    }

    /// Topics that are waited for.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        self.subscription.topics.iter().filter(|_| self.missing).map(|topic| &**topic)
    }

    /// How many partitions the queue has.
    pub fn partitions(&self) -> usize {
        self.member.partitions()
    }

    /// How long a record is this member's, unless it [renews](Self::renew) it.
    pub fn lock(&self) -> Duration {
        self.member.lock()
    }

    /// What makes a waiting [`poll`](Self::poll) return early, from another thread.
    pub fn waker(&self) -> impl Fn() + Send + 'static {
        let woken = self.woken.clone();
        move || woken.store(true, Release)
    }
}
