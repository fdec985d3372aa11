//! How many clients of librdkafka this program may have at once: readers, members of groups, transactional producers.
//!
//! Each is some threads and megabytes. What all connections share is not counted.

use crate::broker::{Code, Error, Result};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::*},
    },
    thread::{self, Builder},
};

/// Counts them.
#[derive(Debug)]
pub(super) struct Clients {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// The right to one client; it is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Taken(Arc<AtomicUsize>);

impl Clients {
    pub(super) fn new(most: usize) -> Clients {
        Clients { taken: Arc::default(), most }
    }

    /// Room for one more, or an error that says how many there are.
    pub(super) fn take(&self) -> Result<Taken> {
        let more = |taken| (taken < self.most).then_some(taken + 1);
        match self.taken.fetch_update(AcqRel, Acquire, more) {
            Ok(_) => Ok(Taken(self.taken.clone())),
            Err(taken) => Err(Error::OfCluster {
                code: Code::PolicyViolation,
                why: format!(
                    "there are {taken} readers, members of groups and transactions here, which is the limit (--cluster-clients); \
                     try again when one has ended"
                ),
            }),
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}

/// How many clients end side by side.
const END_AT_ONCE: usize = 64;

/// Drops what has a client each, side by side: one takes a tenth of a second to end, most of which it waits.
pub(super) fn end_all<T: Send>(mut clients: Vec<T>) {
    while !clients.is_empty() {
        let some = clients.split_off(clients.len().saturating_sub(END_AT_ONCE));
        thread::scope(|scope| {
            for client in some {
                // Where there is no thread it ends here.
                let _ = Builder::new().stack_size(256 << 10).spawn_scoped(scope, move || drop(client));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn whatever_ends_waits_for_nothing_but_itself() {
        struct Ends(Arc<Barrier>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.wait();
            }
        }
        let together = Arc::new(Barrier::new(END_AT_ONCE));
        end_all((0..2 * END_AT_ONCE).map(|_| Ends(together.clone())).collect());
        assert_eq!(Arc::strong_count(&together), 1);
    }

    #[test]
    fn there_are_no_more_than_the_limit_and_who_ends_makes_room() {
        let clients = Clients::new(2);
        let (first, _second) = (clients.take().unwrap(), clients.take().unwrap());
        let refused = clients.take().unwrap_err();
        assert_eq!(refused.code(), Code::PolicyViolation);
        assert!(refused.to_string().contains("there are 2 readers"), "{refused}");
        drop(first);
        clients.take().unwrap();
    }
}
