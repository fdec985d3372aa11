//! A transactional id under random requests, beside a plain model: which pairs were given, and what each transaction held.

use super::*;
use crate::broker::Code;
use proptest::prelude::*;
use std::collections::HashSet;

const TOPIC_ID: [u8; 16] = [1; 16];

/// With which of the pairs that were given so far a request comes: the present one, the one before, or any.
#[derive(Clone, Copy, Debug)]
enum By {
    Present,
    Before,
    Any(usize),
}

#[derive(Clone, Debug)]
enum Event {
    Init(Option<By>),
    Begin,
    Add(By, u32),
    AddGroup(By),
    Write(By, u32),
    End(By, Outcome, Epochs),
    Abort,
    Complete,
    /// A start after a crash that may have lost something.
    Crash,
}

fn event() -> impl Strategy<Value = Event> {
    let by = || prop_oneof![6 => Just(By::Present), 2 => Just(By::Before), 1 => (0..9usize).prop_map(By::Any)];
    let outcome = prop_oneof![Just(Outcome::Commit), Just(Outcome::Abort)];
    let epochs = prop_oneof![Just(Epochs::Kept), Just(Epochs::Raised)];
    prop_oneof![
        2 => prop::option::of(by()).prop_map(Event::Init),
        2 => Just(Event::Begin),
        4 => (by(), 0..3u32).prop_map(|(by, partition)| Event::Add(by, partition)),
        1 => by().prop_map(Event::AddGroup),
        4 => (by(), 0..3u32).prop_map(|(by, partition)| Event::Write(by, partition)),
        4 => (by(), outcome, epochs).prop_map(|(by, outcome, epochs)| Event::End(by, outcome, epochs)),
        1 => Just(Event::Abort),
        5 => Just(Event::Complete),
        1 => Just(Event::Crash),
    ]
}

#[derive(Debug)]
struct Model {
    state: TransactionState,
    /// All pairs that a producer was given, in order.
    given: Vec<ProducerIdentity>,
    ids: i64,
    /// What the open transaction holds, and who has it.
    open: Option<(ProducerIdentity, Parts)>,
    last: Option<LastTransaction>,
    now_ms: i64,
}

impl Model {
    fn new(epoch: i16) -> Model {
        let mut state = TransactionState::first_init(Init { timeout_ms: 10, known: None }, 0);
        state.producer.epoch = epoch;
        Model { given: vec![state.producer], state, ids: 1, open: None, last: None, now_ms: 0 }
    }

    fn pair(&self, by: By) -> ProducerIdentity {
        match by {
            By::Present => self.state.producer,
            By::Before => self.given[self.given.len().saturating_sub(2)],
            By::Any(index) => self.given[index % self.given.len()],
        }
    }

    fn parts(partition: u32) -> Parts {
        let mut parts = Parts::default();
        parts.add_partition(&"orders".into(), TOPIC_ID, partition);
        parts
    }

    fn carry_out(&mut self, event: Event) {
        self.now_ms += 1;
        let (state, mut ids) = (self.state.clone(), self.ids);
        let new_id = || {
            ids += 1;
            Ok(ids - 1)
        };
        match event {
            Event::Init(by) => {
                let known = by.map(|by| self.pair(by));
                match state.init(Init { timeout_ms: 10, known }, new_id) {
                    Ok(start) => self.start(start, known),
                    Err(error) => self.refused(known, &error, Code::ProducerFenced),
                }
            }
            Event::Begin => match state.begin(self.now_ms, 10, new_id) {
                Ok(start) => {
                    assert_ne!(start, Start::Repeated);
                    self.start(start, None);
                    if self.open.is_none() && matches!(self.state.phase, Phase::Ongoing { .. }) {
                        self.open = Some((self.state.producer, Parts::default()));
                        assert_eq!(self.state.previous, None, "who was fenced gets nothing");
                    }
                }
                Err(error) => self.refused(None, &error, Code::ProducerFenced),
            },
            Event::Add(by, partition) => self.add(self.pair(by), &Model::parts(partition)),
            Event::AddGroup(by) => {
                self.add(self.pair(by), &Parts { groups: ["g".into()].into(), ..Parts::default() });
            }
            Event::Write(by, partition) => {
                let (pair, wanted) = (self.pair(by), Model::parts(partition));
                let held = self.open.as_ref().is_some_and(|(of, parts)| *of == pair && parts.includes(&wanted));
                match state.holds(pair, &wanted) {
                    Ok(holds) => assert_eq!(holds, held),
                    Err(error) => self.refused(Some(pair), &error, Code::InvalidProducerEpoch),
                }
            }
            Event::End(by, outcome, epochs) => self.end(self.pair(by), outcome, epochs, new_id),
            Event::Abort => match state.abort(Cause::TimedOut, new_id) {
                Ok(next) => self.ended(next, Outcome::Abort),
                Err(_) => assert!(self.open.is_none()),
            },
            Event::Complete => {
                if let Phase::Prepared { .. } = state.phase {
                    self.to(state.complete());
                }
                assert_eq!(self.state.complete(), self.state, "what is complete stays so");
            }
            Event::Crash => self.state.renew = self.state.is_at_rest(),
        }
        self.ids = ids;
        let line = self.state.to_line();
        let read = TransactionState::parse(&line).map(|read| TransactionState { cause: self.state.cause, ..read });
        assert_eq!(read.as_ref(), Some(&self.state), "{}", String::from_utf8_lossy(&line));
        assert_eq!(self.state.last, self.last);
        assert_eq!(self.state.times_out_ms().is_some(), self.open.is_some());
    }

    /// The next state. A pair that comes with it was never given before.
    fn to(&mut self, next: TransactionState) {
        if next.producer != self.state.producer && next.producer.epoch < i16::MAX {
            assert!(!self.given.contains(&next.producer), "{:?} twice", next.producer);
            self.given.push(next.producer);
        }
        self.state = next;
    }

    fn start(&mut self, start: Start, known: Option<ProducerIdentity>) {
        match start {
            Start::Ready(next) => {
                assert!(self.open.is_none() && self.state.is_at_rest());
                if self.state.renew {
                    assert_ne!(next.producer.id, self.state.producer.id);
                }
                assert_ne!(next.producer, self.state.producer);
                self.to(next);
            }
            Start::Repeated => {
                assert_eq!(known, self.state.previous, "only the pair before asks again");
                // After an unclean start the one before may have been asked with an older pair than the last.
                assert_eq!(self.given.last(), Some(&self.state.producer));
            }
            Start::AbortFirst(next) => self.ended(next, Outcome::Abort),
        }
    }

    fn add(&mut self, pair: ProducerIdentity, added: &Parts) {
        match self.state.add(pair, added, self.now_ms) {
            Ok(None) => assert!(self.open.as_ref().is_some_and(|(of, parts)| *of == pair && parts.includes(added))),
            Ok(Some(next)) => {
                self.to(next);
                let (of, parts) = self.open.get_or_insert((pair, Parts::default()));
                assert_eq!((*of, pair), (self.state.producer, self.state.producer));
                parts.add(added);
                assert_eq!(self.state.phase.parts(), Some(&*parts));
            }
            Err(error) => self.refused(Some(pair), &error, Code::ProducerFenced),
        }
    }

    fn end(&mut self, pair: ProducerIdentity, outcome: Outcome, epochs: Epochs, new_id: impl FnOnce() -> Result<i64>) {
        let is_present = pair == self.state.producer;
        match self.state.end(pair, outcome, epochs, new_id) {
            Ok(End::Prepare(next)) => {
                assert!(is_present);
                let raised = next.producer != self.state.producer;
                assert_eq!(raised, epochs == Epochs::Raised);
                self.ended(next, outcome);
            }
            Ok(End::Nothing(next)) => {
                assert!(is_present && self.open.as_ref().is_none_or(|(_, parts)| parts.is_empty()));
                self.ended(next, outcome);
            }
            Ok(End::Repeated) => {
                assert!(matches!(self.state.phase, Phase::Completed { outcome: was, .. } if was == outcome));
                assert!(is_present && epochs == Epochs::Kept || self.state.previous == Some(pair));
            }
            Err(Error::InvalidTxnState(_)) => {
                let other = |was: &Phase| !matches!(was, Phase::Ongoing { .. });
                assert!(self.open.is_none() && other(&self.state.phase));
            }
            Err(error) => self.refused(Some(pair), &error, Code::ProducerFenced),
        }
    }

    /// The open transaction, if there is one, has ended; markers may be left to be written.
    fn ended(&mut self, next: TransactionState, outcome: Outcome) {
        if let Some((identity, parts)) = self.open.take().filter(|(_, parts)| !parts.is_empty()) {
            self.last = Some(LastTransaction { identity, outcome });
            let Phase::Prepared { outcome: prepared, parts: left, .. } = &next.phase else { panic!("{next:?}") };
            assert_eq!((*prepared, left), (outcome, &parts), "a marker for all that it held");
        } else {
            assert!(next.is_at_rest());
        }
        self.to(next);
    }

    /// A request was refused: because of who asked, or because the last transaction is being ended.
    fn refused(&self, by: Option<ProducerIdentity>, error: &Error, stale: Code) {
        match error.code() {
            Code::ConcurrentTransactions => assert!(matches!(self.state.phase, Phase::Prepared { .. })),
            Code::InvalidProducerIdMapping => assert_ne!(by.map(|by| by.id), Some(self.state.producer.id)),
            code => {
                assert_eq!(code, stale);
                assert_ne!(by, Some(self.state.producer));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn each_transaction_ends_once_and_no_pair_is_given_twice(
        epoch in prop_oneof![Just(0), (EPOCH_MAX - 4)..=EPOCH_MAX],
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut model = Model::new(epoch);
        events.into_iter().for_each(|event| model.carry_out(event));
        let unique: HashSet<_> = model.given.iter().collect();
        prop_assert_eq!(unique.len(), model.given.len());
    }
}

/// A client that ended a transaction in the last epoch and lost the answer asks once more.
#[test]
fn the_last_epoch_is_followed_by_a_new_producer_id() {
    let mut state = TransactionState::first_init(Init { timeout_ms: 10, known: None }, 5);
    state.producer.epoch = EPOCH_MAX;
    let (old, new) = (state.producer, ProducerIdentity { id: 6, epoch: 0 });
    let state = state.add(old, &Model::parts(0), 3).unwrap().unwrap();
    let Ok(End::Prepare(prepared)) = state.end(old, Outcome::Commit, Epochs::Raised, || Ok(6)) else { panic!() };
    assert_eq!(prepared.producer, ProducerIdentity { id: 5, epoch: i16::MAX }, "its markers bear this");
    let code = |error: Error| error.code();
    let none = || Err(Error::Storage("no id is wanted".into()));
    assert_eq!(
        prepared.end(old, Outcome::Commit, Epochs::Raised, none).map_err(code),
        Err(Code::ConcurrentTransactions)
    );
    assert_eq!(prepared.add(new, &Model::parts(0), 4).map_err(code), Err(Code::ConcurrentTransactions));
    let complete = prepared.complete();
    assert_eq!((complete.producer, complete.previous), (new, Some(old)));
    assert_eq!(complete.end(old, Outcome::Commit, Epochs::Raised, none), Ok(End::Repeated));
    assert_eq!(complete.end(old, Outcome::Abort, Epochs::Raised, none).map_err(code), Err(Code::InvalidTxnState));
    assert_eq!(complete.init(Init { timeout_ms: 10, known: Some(old) }, none), Ok(Start::Repeated));
    assert_eq!(complete.holds(old, &Model::parts(0)).map_err(code), Err(Code::InvalidProducerIdMapping));
}

/// As a real Kafka answers once a transaction has outlived its timeout.
#[test]
fn the_epoch_before_a_timeout_may_abort_and_begin_anew_and_do_nothing_else() {
    let state = TransactionState::first_init(Init { timeout_ms: 10, known: None }, 5);
    let old = state.producer;
    let state = state.add(old, &Model::parts(0), 3).unwrap().unwrap();
    assert_eq!(state.times_out_ms(), Some(13));
    let none = || Err(Error::Storage("no id is wanted".into()));
    let over = state.abort(Cause::TimedOut, none).unwrap().complete();
    let end = |outcome, epochs| over.end(old, outcome, epochs, none).map_err(|error| error.code());
    assert_eq!(over.holds(old, &Model::parts(0)).unwrap_err().code(), Code::InvalidProducerEpoch);
    assert_eq!(over.add(old, &Model::parts(0), 20).unwrap_err().code(), Code::ProducerFenced);
    assert_eq!(end(Outcome::Abort, Epochs::Kept), Err(Code::ProducerFenced));
    assert_eq!(end(Outcome::Commit, Epochs::Raised), Err(Code::InvalidTxnState));
    assert_eq!(end(Outcome::Abort, Epochs::Raised), Ok(End::Repeated));
    assert_eq!(over.init(Init { timeout_ms: 10, known: Some(old) }, none), Ok(Start::Repeated));
    assert_eq!(over.producer.epoch, 1);
    assert_eq!(over.lost(old).code(), Code::InvalidTxnState);
    let Ok(Start::Ready(begun)) = over.begin(30, 10, none) else { panic!() };
    assert_eq!(begun.lost(old).code(), Code::ProducerFenced);
}

/// A delayed EndTxn ended the transaction that its producer had begun meanwhile.
#[test]
fn a_repeat_that_comes_late_does_not_touch_the_next_transaction() {
    let state = TransactionState::first_init(Init { timeout_ms: 10, known: None }, 5);
    let (old, none) = (state.producer, || Err(Error::Storage("no id is wanted".into())));
    let state = state.add(old, &Model::parts(0), 3).unwrap().unwrap();
    let Ok(End::Prepare(prepared)) = state.end(old, Outcome::Commit, Epochs::Raised, none) else { panic!() };
    let state = prepared.complete();
    let state = state.add(state.producer, &Model::parts(0), 4).unwrap().unwrap();
    for outcome in [Outcome::Commit, Outcome::Abort] {
        let late = state.end(old, outcome, Epochs::Raised, none);
        assert_eq!(late.unwrap_err().code(), Code::ProducerFenced);
    }
    let again = state.init(Init { timeout_ms: 10, known: Some(old) }, none);
    assert_eq!(again.unwrap_err().code(), Code::ProducerFenced);
}
