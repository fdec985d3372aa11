//! The machine beside one that has a cell for every offset: whatever happens, both say the same.

use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { deliveries: 4, locks: 20, lock_ms: 10 };

#[derive(Clone, Debug)]
enum Event {
    /// The log grows by a batch: which of its offsets are records.
    Append(Vec<bool>),
    Acquire {
        member: usize,
        records: u64,
        exactly: bool,
    },
    Acknowledge {
        member: usize,
        first: u64,
        records: u64,
        how: Acknowledgement,
    },
    Leave {
        member: usize,
    },
    Wait(u64),
    Restart,
    Trim(u64),
}

fn event() -> impl Strategy<Value = Event> {
    use Acknowledgement::*;
    let how = prop_oneof![Just(Gap), Just(Accept), Just(Release), Just(Reject), Just(Renew)];
    prop_oneof![
        2 => proptest::collection::vec(proptest::bool::weighted(0.8), 1..8).prop_map(Event::Append),
        6 => (0..3usize, 0..9u64, any::<bool>())
            .prop_map(|(member, records, exactly)| Event::Acquire { member, records, exactly }),
        6 => (0..3usize, 0..20u64, 1..6u64, how)
            .prop_map(|(member, first, records, how)| Event::Acknowledge { member, first, records, how }),
        1 => (0..3usize).prop_map(|member| Event::Leave { member }),
        1 => (0..12u64).prop_map(Event::Wait),
        1 => Just(Event::Restart),
        1 => (0..4u64).prop_map(Event::Trim),
    ]
}

/// What is known of one offset.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cell {
    is_record: bool,
    is_done: bool,
    deliveries: u32,
    /// What of them a restart will know.
    kept: u32,
    holder: Option<(usize, u64)>,
}

fn name(member: usize) -> Arc<str> {
    ["a", "b", "c"][member].into()
}

/// Whether an offset is done, how often it was handed out, and who has it until when.
type Told = (bool, u32, Option<(Arc<str>, u64)>);

/// The cells as the machine has them.
fn cells_of(partition: &SharePartition, like: &[Cell]) -> Vec<Told> {
    let cell = |offset: u64| {
        if offset < partition.start() {
            return (true, 0, None);
        }
        let found = partition.spans_in(&(offset..offset + 1)).next();
        let Some((_, span)) = found else { return (false, 0, None) };
        match &span.state {
            State::Available => (false, span.deliveries, None),
            State::Acquired { by, until } => (false, span.deliveries, Some((by.clone(), *until))),
            State::Done => (true, 0, None),
            State::Dead { .. } => panic!("nothing is held back here"),
        }
    };
    (0..like.len() as u64).map(cell).collect()
}

fn check_spans(partition: &SharePartition) {
    let mut at = partition.start();
    for (&first, span) in &partition.spans {
        assert_eq!(first, at, "spans follow one another");
        assert!(span.end > first);
        at = span.end;
    }
    assert_eq!(at, partition.next());
    let spans: Vec<_> = partition.spans.values().collect();
    assert!(spans.windows(2).all(|pair| !pair[0].goes_on_in(pair[1])), "what belongs together is together: {spans:?}");
    assert!(spans.first().is_none_or(|first| !first.is_done()), "the start moves as far as it can");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn each_record_is_one_members_until_it_is_done(events in proptest::collection::vec(event(), 1..60)) {
        let (mut partition, mut cells, mut batches) = (SharePartition::new(0), Vec::<Cell>::new(), Vec::<Range<u64>>::new());
        let (mut now, mut dead) = (0, Vec::<(u64, u32, Cause)>::new());
        for event in events {
            match event {
                Event::Append(records) => {
                    let first = cells.len() as u64;
                    batches.push(first..first + records.len() as u64);
                    cells.extend(records.into_iter().map(|is_record| Cell { is_record, ..Cell::default() }));
                }
                Event::Acquire { member, records, exactly } => {
                    let Some(from) = partition.next_fetch(LIMITS) else { continue };
                    let (mut runs, mut begin) = (Vec::<Run>::new(), from);
                    for batch in batches.iter().filter(|batch| batch.end > from) {
                        begin = begin.min(batch.start);
                        for offset in batch.clone().filter(|&offset| cells[offset as usize].is_record) {
                            match runs.last_mut() {
                                Some(run) if run.last + 1 == offset && offset > batch.start => run.last = offset,
                                last => {
                                    last.into_iter().for_each(|run| run.goes_on = run.first >= batch.start);
                                    runs.push(Run { first: offset, last: offset, goes_on: false });
                                }
                            }
                        }
                    }
                    let end = (cells.len() as u64).max(begin);
                    let room = (partition.start() + LIMITS.locks).min(end);
                    let is_free = |cell: &Cell| cell.is_record && !cell.is_done && cell.holder.is_none();
                    let is_any = from < room && cells[from as usize..room as usize].iter().any(is_free);
                    let wanted = Wanted { records, exactly, batch: 3 };
                    let acquired = partition.acquire(now, &name(member), begin..end, &runs, wanted, LIMITS);
                    let count: u64 = acquired.iter().map(|one| one.count()).sum();
                    prop_assert!(!exactly || count <= records);
                    prop_assert!(count > 0 || records == 0 || !is_any, "something is free, and nobody gets it");
                    prop_assert!(acquired.windows(2).all(|pair| pair[0].last < pair[1].first));
                    for one in acquired {
                        for offset in one.first..=one.last {
                            let cell = &mut cells[offset as usize];
                            prop_assert!(cell.is_record && !cell.is_done && cell.holder.is_none(), "{offset}: {cell:?}");
                            cell.deliveries += 1;
                            prop_assert_eq!(cell.deliveries, one.deliveries);
                            prop_assert!(cell.deliveries <= LIMITS.deliveries);
                            cell.holder = Some((member, now + LIMITS.lock_ms));
                        }
                    }
                }
                Event::Acknowledge { member, first, records, how } => {
                    let first = partition.start().saturating_sub(2) + first;
                    let offsets = first..first + records;
                    let mut next = partition.clone();
                    let batch = Acknowledged { first, last: first + records - 1, how };
                    let taken = next.acknowledge(now, &name(member), &[batch], LIMITS);
                    let is_his = |offset: u64| {
                        offset < partition.start() || cells.get(offset as usize).is_some_and(|cell| cell.holder.is_some_and(|(by, _)| by == member))
                    };
                    prop_assert_eq!(taken.is_ok(), offsets.clone().all(is_his) || offsets.end <= partition.start());
                    if taken.is_err() {
                        continue;
                    }
                    for offset in offsets.filter(|&offset| offset >= partition.start()) {
                        dead.extend(end(&mut cells[offset as usize], how, now).map(|(count, why)| (offset, count, why)));
                    }
                    partition = next;
                    partition.advance();
                }
                Event::Leave { member } => {
                    partition.release(&name(member), LIMITS);
                    dead.extend(release(&mut cells, now, |(by, _)| by == member));
                    partition.advance();
                }
                Event::Wait(ms) => {
                    now += ms;
                    partition.tick(now, LIMITS);
                    dead.extend(release(&mut cells, now, |(_, until)| until <= now));
                    partition.advance();
                }
                Event::Restart => {
                    let saved = partition.saved(0);
                    prop_assert_eq!(SavedShare::parse(&saved.to_line()), Some(saved.clone()));
                    partition = SharePartition::restore(&saved).unwrap();
                    for cell in &mut cells {
                        (cell.holder, cell.deliveries) = (None, if cell.is_done { 0 } else { cell.kept });
                    }
                }
                Event::Trim(records) => {
                    let start = (partition.start() + records).min(cells.len() as u64);
                    partition.trim(start);
                    for cell in &mut cells[..start as usize] {
                        (cell.is_done, cell.holder) = (true, None);
                    }
                }
            }
            check_spans(&partition);
            let each = |one: Dead| one.offsets.map(move |offset| (offset, one.deliveries, one.cause));
            let mut told: Vec<_> = partition.take_dead().into_iter().flat_map(each).collect();
            told.sort_by_key(|&(offset, ..)| offset);
            dead.sort_by_key(|&(offset, ..)| offset);
            prop_assert_eq!(told, std::mem::take(&mut dead));
            for (offset, (cell, (is_done, deliveries, holder))) in cells.iter().zip(cells_of(&partition, &cells)).enumerate() {
                if cell.is_record {
                    prop_assert_eq!(is_done, cell.is_done, "{}", offset);
                    prop_assert_eq!(holder.as_ref().map(|(by, until)| (&**by, *until)), cell.holder.map(|(by, until)| (["a", "b", "c"][by], until)));
                    prop_assert!(is_done || deliveries == cell.deliveries, "{}: {:?} {}", offset, cell, deliveries);
                }
            }
        }
    }
}

/// Ends acquisitions by these. Answers which records are dead by that.
fn release(cells: &mut [Cell], now: u64, of: impl Fn((usize, u64)) -> bool) -> Vec<(u64, u32, Cause)> {
    let his = (0..).zip(cells).filter(|(_, cell)| cell.holder.is_some_and(&of));
    let dead = |(offset, cell): (u64, &mut Cell)| {
        end(cell, Acknowledgement::Release, now).map(|(deliveries, cause)| (offset, deliveries, cause))
    };
    his.filter_map(dead).collect()
}

/// Ends an acquisition. Answers how often the record was handed out, and why it is dead, if it is.
fn end(cell: &mut Cell, how: Acknowledgement, now: u64) -> Option<(u32, Cause)> {
    if how == Acknowledgement::Renew {
        cell.holder = cell.holder.map(|(by, _)| (by, now + LIMITS.lock_ms));
        return None;
    }
    let cause = match how {
        Acknowledgement::Reject => Some(Cause::Rejected),
        Acknowledgement::Release if cell.deliveries >= LIMITS.deliveries => Some(Cause::Deliveries),
        _ => None,
    };
    cell.is_done |= how != Acknowledgement::Release || cause.is_some();
    (cell.holder, cell.kept) = (None, cell.deliveries);
    cause.map(|cause| (cell.deliveries, cause))
}
