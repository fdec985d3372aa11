//! Share sessions (KIP-932): which partitions each of Kafka's members reads, kept from one of its requests to the next.
//!
//! | epoch of the request | session | then |
//! | --- | --- | --- |
//! | 0 | any | a new one, whose next epoch is 1 |
//! | the next one | there | the one after is the next |
//! | -1 | there | it ends, and what the member holds is free |
//! | another | there | `ShareSessionEpoch` |
//! | | none | `NoShareSession` |
//!
//! A member has one session on the broker, whichever connection it asks on: its requests may come on several. The session ends with the
//! connection that opened it. Whoever acquires in a session looks [afterwards](SessionRef::is_over) whether it is over: what its end
//! released it cannot have acquired later.

use crate::broker::{
    Broker, Error, Permit, Registered, Result, Waiter, Waiters,
    sync::{Mutex, MutexGuard},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::*},
    },
};

/// Kafka's `group.share.max.share.sessions`.
const SESSIONS_MAX: usize = 2000;
/// So many partitions all sessions have at most.
const PARTITIONS_MAX: usize = if cfg!(test) { 1000 } else { 1 << 20 };

/// A partition as a session has it: the id of its topic, and its number as the client sent it.
pub type SessionPlace = ([u8; 16], i32);

/// All share sessions, by group and member.
#[derive(Debug, Default)]
pub(in crate::broker) struct ShareSessions(Mutex<Sessions>);

type Sessions = BTreeMap<(Arc<str>, Arc<str>), ShareSession>;

#[derive(Debug)]
struct ShareSession {
    /// The number of the connection that opened it.
    connection: u64,
    next_epoch: i32,
    /// In the order in which they came.
    places: Vec<SessionPlace>,
    life: Arc<Life>,
}

/// Whether a session is over, and who is to hear of it.
#[derive(Debug, Default)]
struct Life {
    is_over: AtomicBool,
    waiters: Waiters,
}

/// A session as a request that acquires in it has it. One that takes its place is the same; one that the member has after its end is
/// another.
#[derive(Debug)]
pub struct SessionRef(Arc<Life>);

/// A session as a request finds it that opens it or goes on in it.
#[derive(Debug)]
pub struct SessionTurn {
    /// Its partitions, in the order in which they are to be asked.
    pub places: Vec<SessionPlace>,
    /// The session itself.
    pub session: SessionRef,
}

impl SessionRef {
    /// Whether it has ended since. What the member acquires in it from then on is to be released by who acquires it.
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Acquire)
    }

    /// Wakes `waiter` when it ends, until the answer is dropped.
    pub fn register(&self, waiter: &Arc<Waiter>) -> Registered<'_> {
        self.0.waiters.register(waiter)
    }
}

/// What a request changes of a session's partitions.
#[derive(Clone, Debug, Default)]
pub struct SessionChange {
    /// These are read from here on.
    pub added: Vec<SessionPlace>,
    /// These are not any more.
    pub forgotten: BTreeSet<SessionPlace>,
}

impl ShareSessions {
    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.0.lock().expect("no panic under the sessions' lock")
    }
}

impl ShareSession {
    /// It is over, before what the member holds is released: who acquires later than that sees it.
    fn end(&self) {
        self.life.is_over.store(true, Release);
        self.life.waiters.wake();
    }

    fn turn(&self, places: Vec<SessionPlace>) -> SessionTurn {
        SessionTurn { places, session: SessionRef(self.life.clone()) }
    }

    fn apply(&mut self, change: SessionChange) {
        let mut known: BTreeSet<_> = self.places.iter().copied().collect();
        let mut added = change.added;
        added.retain(|place| known.insert(*place));
        self.places.append(&mut added);
        self.places.retain(|place| !change.forgotten.contains(place));
    }
}

impl Broker {
    /// Opens a session, on the connection of this number; one that the member has already is no more.
    pub fn open_share_session(
        &self,
        (group, member): (&str, &str),
        connection: u64,
        change: SessionChange,
    ) -> Result<SessionTurn> {
        let key = (Arc::from(group), Arc::from(member));
        let mut session = ShareSession { connection, next_epoch: 1, places: vec![], life: Arc::default() };
        session.apply(change);
        let mut sessions = self.state(&Permit::for_everybody()).share_sessions.lock();
        // One that is refused leaves the one before as it is: what the member holds is still somebody's.
        let before = sessions.get(&key);
        let others = sessions.len() - usize::from(before.is_some());
        let others_places = count(&sessions) - before.map_or(0, |before| before.places.len());
        if others >= SESSIONS_MAX || others_places + session.places.len() > PARTITIONS_MAX {
            return Err(Error::TooManyShareSessions);
        }
        // What the member holds is the new one's, and who waits in the one before waits in this.
        if let Some(before) = before {
            session.life = before.life.clone();
        }
        let turn = session.turn(session.places.clone());
        sessions.insert(key, session);
        Ok(turn)
    }

    /// A session goes on. Its partitions begin with another one each time.
    pub fn go_on_in_share_session(
        &self,
        (group, member): (&str, &str),
        epoch: i32,
        change: SessionChange,
    ) -> Result<SessionTurn> {
        let key = (Arc::from(group), Arc::from(member));
        let mut sessions = self.state(&Permit::for_everybody()).share_sessions.lock();
        // All are counted only for who wants more.
        let all = if change.added.is_empty() { 0 } else { count(&sessions) };
        let session = sessions.get_mut(&key).ok_or(Error::NoShareSession)?;
        if epoch != session.next_epoch {
            return Err(Error::ShareSessionEpoch { named: epoch, next: session.next_epoch });
        }
        if all + change.added.len() > PARTITIONS_MAX {
            return Err(Error::TooManyShareSessions);
        }
        session.next_epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.apply(change);
        let mut places = session.places.clone();
        let turn = epoch as usize % places.len().max(1);
        places.rotate_left(turn);
        Ok(session.turn(places))
    }

    /// The session that a member has now.
    pub fn share_session(&self, (group, member): (&str, &str)) -> Result<SessionRef> {
        let sessions = self.state(&Permit::for_everybody()).share_sessions.lock();
        let session = sessions.get(&(group.into(), member.into())).ok_or(Error::NoShareSession)?;
        Ok(SessionRef(session.life.clone()))
    }

    /// Ends a session, if it is there: what the member holds is free.
    pub fn end_share_session(&self, (group, member): (&str, &str)) {
        let key = (Arc::from(group), Arc::from(member));
        let mut sessions = self.state(&Permit::for_everybody()).share_sessions.lock();
        let ended = sessions.remove(&key);
        drop(sessions);
        if let Some(ended) = ended {
            ended.end();
            self.state(&Permit::for_everybody()).release_member(group, member);
        }
    }

    /// A connection has ended, and with it the sessions that were opened on it.
    pub fn end_share_sessions_of(&self, connection: u64) {
        let mut sessions = self.state(&Permit::for_everybody()).share_sessions.lock();
        let ended: Vec<_> = sessions.extract_if(.., |_, session| session.connection == connection).collect();
        drop(sessions);
        for ((group, member), session) in &ended {
            session.end();
            self.state(&Permit::for_everybody()).release_member(group, member);
        }
    }
}

/// How many partitions all sessions have.
fn count(sessions: &Sessions) -> usize {
    sessions.values().map(|session| session.places.len()).sum()
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn places(indices: &[i32]) -> Vec<SessionPlace> {
        indices.iter().map(|&index| ([0; 16], index)).collect()
    }

    fn change(added: &[i32], forgotten: &[i32]) -> SessionChange {
        SessionChange { added: places(added), forgotten: places(forgotten).into_iter().collect() }
    }

    #[test]
    fn a_session_goes_from_epoch_to_epoch_and_knows_its_partitions() {
        let broker = Broker::in_memory();
        let key = ("jobs", "a");
        let next = |epoch, change| broker.go_on_in_share_session(key, epoch, change).map(|turn| turn.places);
        let has = |member| broker.share_session(("jobs", member)).map(drop);
        assert_eq!(next(1, change(&[], &[])), Err(Error::NoShareSession));
        let opened = broker.open_share_session(key, 1, change(&[0, 1, 1, 2], &[]));
        assert_eq!(opened.map(|turn| turn.places), Ok(places(&[0, 1, 2])));
        assert_eq!(next(2, change(&[], &[])), Err(Error::ShareSessionEpoch { named: 2, next: 1 }));
        assert_eq!(next(1, change(&[2, 3], &[0, 1])), Ok(places(&[3, 2])));
        assert_eq!(next(2, change(&[], &[])), Ok(places(&[2, 3])));
        assert_eq!(has("b"), Err(Error::NoShareSession));
        broker.end_share_session(key);
        assert_eq!(has("a"), Err(Error::NoShareSession));
    }

    #[test]
    fn sessions_end_with_the_connection_that_opened_them() {
        let broker = Broker::in_memory();
        let there = |member| broker.share_session(("jobs", member)).is_ok();
        for (member, connection) in [("a", 1), ("b", 2), ("c", 1), ("c", 2)] {
            broker.open_share_session(("jobs", member), connection, change(&[0], &[])).unwrap();
        }
        broker.end_share_sessions_of(1);
        assert_eq!(["a", "b", "c"].map(there), [false, true, true], "c has another one");
        broker.end_share_sessions_of(2);
        assert_eq!(["a", "b", "c"].map(there), [false; 3]);
    }

    #[test]
    fn who_waits_in_a_session_hears_of_its_end() {
        let broker = Broker::in_memory();
        let (key, waiter) = (("jobs", "a"), Waiter::new());
        let opens = |connection| broker.open_share_session(key, connection, change(&[0], &[])).unwrap();
        assert!(broker.share_session(key).is_err());
        let session = opens(1).session;
        let registered = session.register(&waiter);
        let after = opens(2).session;
        assert!(!session.is_over() && !after.is_over(), "another has taken its place");
        broker.end_share_sessions_of(2);
        assert!(session.is_over() && after.is_over() && waiter.wait(None));
        drop(registered);
        opens(1);
        assert!(session.is_over() && !broker.share_session(key).unwrap().is_over());
        broker.end_share_session(key);
    }

    #[test]
    fn sessions_and_their_partitions_have_bounds() {
        let broker = Broker::in_memory();
        let all: Vec<i32> = (0..1000).collect();
        broker.open_share_session(("jobs", "a"), 1, change(&all[..999], &[])).unwrap();
        let refused = Err(Error::TooManyShareSessions);
        let opens =
            |member, added: &[i32]| broker.open_share_session(("jobs", member), 1, change(added, &[])).map(drop);
        let goes_on = broker.go_on_in_share_session(("jobs", "a"), 1, change(&[1000, 1001], &[]));
        assert_eq!(goes_on.map(drop), refused);
        assert_eq!(opens("b", &[0, 1]), refused);
        broker.open_share_session(("jobs", "a"), 1, change(&all, &[])).unwrap();
        let more: Vec<i32> = (0..1001).collect();
        assert_eq!(opens("a", &more), refused);
        assert_eq!(broker.share_session(("jobs", "a")).map(drop), Ok(()), "the one before goes on");
        broker.end_share_session(("jobs", "a"));
        for member in 0..2000 {
            broker.open_share_session(("jobs", &member.to_string()), 1, change(&[], &[])).unwrap();
        }
        assert_eq!(opens("b", &[]), refused);
    }
}
