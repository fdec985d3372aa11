//! What members of a share group are handed, one event after the other.

use super::*;

const LIMITS: Limits = Limits { deliveries: 5, locks: 100, lock_ms: 30 };

fn member(name: &str) -> Arc<str> {
    name.into()
}

/// Batches of the log, each of so many records.
fn log(batches: &[u64]) -> Vec<Run> {
    let mut first = 0;
    let run = |&records: &u64| {
        let run = Run { first, last: first + records - 1, goes_on: false };
        first += records;
        run
    };
    batches.iter().map(run).collect()
}

fn wanted(records: u64) -> Wanted {
    Wanted { records, exactly: false, batch: 500 }
}

fn exactly(records: u64) -> Wanted {
    Wanted { exactly: true, ..wanted(records) }
}

/// Acquires what is to be had from where the machine would read on, as `first-last*deliveries`.
fn acquire(partition: &mut SharePartition, now: u64, by: &str, log: &[Run], wanted: Wanted) -> String {
    let Some(from) = partition.next_fetch(LIMITS) else { return "full".into() };
    let end = log.last().map_or(0, |run| run.last + 1);
    let read: Vec<_> = log.iter().copied().filter(|run| run.last >= from).collect();
    let begin = read.first().map_or(from, |run| run.first.min(from));
    let acquired = partition.acquire(now, &member(by), begin..end.max(begin), &read, wanted, LIMITS);
    let told = |one: Acquired| format!("{}-{}*{}", one.first, one.last, one.deliveries);
    acquired.into_iter().map(told).collect::<Vec<_>>().join(" ")
}

fn acknowledge(
    partition: &mut SharePartition,
    now: u64,
    by: &str,
    offsets: Range<u64>,
    how: Acknowledgement,
) -> Result<(), Refused> {
    let batch = Acknowledged { first: offsets.start, last: offsets.end - 1, how };
    partition.acknowledge(now, by, &[batch], LIMITS)?;
    partition.advance();
    Ok(())
}

fn line(partition: &SharePartition) -> String {
    String::from_utf8(partition.saved(0).to_line()).unwrap()
}

#[test]
fn new_records_come_in_whole_batches_unless_a_number_is_asked_for() {
    let log = log(&[10, 10, 10, 10, 10]);
    let mut partition = SharePartition::new(0);
    assert_eq!(acquire(&mut partition, 0, "a", &log, Wanted { batch: 5, ..wanted(5) }), "0-9*1");
    assert_eq!(acquire(&mut partition, 0, "a", &log, Wanted { batch: 3, ..wanted(10) }), "10-19*1");
    assert_eq!(acquire(&mut partition, 0, "b", &log, exactly(4)), "20-23*1");
    assert_eq!(acquire(&mut partition, 0, "b", &log, Wanted { batch: 2, ..exactly(6) }), "24-29*1");
    assert_eq!(acquire(&mut partition, 0, "a", &log, wanted(0)), "");
    assert_eq!(acquire(&mut partition, 0, "a", &log, wanted(11)), "30-49*1");
    assert_eq!(acquire(&mut partition, 0, "a", &log, wanted(11)), "");
    assert_eq!((partition.start(), partition.next(), partition.acquired()), (0, 50, 50));
}

#[test]
fn batches_are_told_together_up_to_the_size_that_is_wanted() {
    let log = log(&[2, 2, 2, 5]);
    let mut partition = SharePartition::new(1);
    assert_eq!(acquire(&mut partition, 0, "a", &log, Wanted { batch: 3, ..wanted(100) }), "1-3*1 4-10*1");
}

#[test]
fn no_more_records_are_on_their_way_than_the_limit_says() {
    let log = log(&[60, 60, 60]);
    let mut partition = SharePartition::new(0);
    assert_eq!(acquire(&mut partition, 0, "a", &log, wanted(1000)), "0-99*1");
    assert_eq!(acquire(&mut partition, 0, "b", &log, wanted(1000)), "full");
    acknowledge(&mut partition, 0, "a", 50..60, Acknowledgement::Accept).unwrap();
    assert_eq!(acquire(&mut partition, 0, "b", &log, wanted(1000)), "full", "the start has not moved");
    acknowledge(&mut partition, 0, "a", 0..50, Acknowledgement::Accept).unwrap();
    assert_eq!(acquire(&mut partition, 0, "b", &log, wanted(1000)), "100-159*1");
}

#[test]
fn what_is_accepted_is_done_and_what_is_released_comes_again() {
    let log = log(&[5, 5, 5]);
    let mut partition = SharePartition::new(0);
    assert_eq!(acquire(&mut partition, 0, "a", &log, wanted(15)), "0-14*1");
    acknowledge(&mut partition, 0, "a", 0..2, Acknowledgement::Accept).unwrap();
    assert_eq!(partition.start(), 2);
    acknowledge(&mut partition, 0, "a", 2..3, Acknowledgement::Release).unwrap();
    acknowledge(&mut partition, 0, "a", 3..4, Acknowledgement::Reject).unwrap();
    acknowledge(&mut partition, 0, "a", 5..6, Acknowledgement::Release).unwrap();
    assert_eq!(partition.take_dead(), [Dead { offsets: 3..4, deliveries: 1, cause: Cause::Rejected }]);
    assert_eq!(line(&partition), "start:2 epoch:0 acked:3 counts:2=1,5=1");
    assert_eq!(acquire(&mut partition, 0, "b", &log, wanted(15)), "2-2*2 5-5*2");
    assert_eq!(line(&partition), "start:2 epoch:0 acked:3 counts:2=1,5=1", "that they were handed out is not kept");
    let twice = acknowledge(&mut partition, 0, "a", 0..2, Acknowledgement::Accept);
    assert_eq!(twice, Ok(()), "what is below the start is done");
    for (offsets, why) in [
        (2..3, Refused::NotAcquired(2)),
        (3..5, Refused::NotAcquired(3)),
        (14..16, Refused::Past(15)),
        (100..101, Refused::Past(100)),
    ] {
        assert_eq!(acknowledge(&mut partition, 0, "a", offsets, Acknowledgement::Accept), Err(why));
    }
}

#[test]
fn a_lock_runs_out_unless_it_is_renewed() {
    let log = log(&[2, 2]);
    let mut partition = SharePartition::new(0);
    assert_eq!(acquire(&mut partition, 0, "a", &log, wanted(4)), "0-3*1");
    assert_eq!(partition.next_deadline(), Some(30));
    acknowledge(&mut partition, 20, "a", 0..2, Acknowledgement::Renew).unwrap();
    assert!(!partition.tick(29, LIMITS));
    assert!(partition.tick(30, LIMITS));
    assert_eq!(acquire(&mut partition, 30, "b", &log, wanted(4)), "2-3*2");
    let late = acknowledge(&mut partition, 31, "a", 2..3, Acknowledgement::Accept);
    assert_eq!(late, Err(Refused::NotAcquired(2)));
    acknowledge(&mut partition, 31, "a", 0..2, Acknowledgement::Accept).unwrap();
    assert_eq!(line(&partition), "start:2 epoch:0 counts:2-3=1");
}

#[test]
fn what_a_member_had_that_is_gone_is_released() {
    let log = log(&[4]);
    let mut partition = SharePartition::new(0);
    assert_eq!(acquire(&mut partition, 0, "a", &log, exactly(2)), "0-1*1");
    assert_eq!(acquire(&mut partition, 0, "b", &log, wanted(2)), "2-3*1");
    assert!(partition.release("a", LIMITS));
    assert!(!partition.release("a", LIMITS));
    assert_eq!(acquire(&mut partition, 0, "c", &log, wanted(4)), "0-1*2");
    assert!(partition.is_acquired("b", &(2..4)) && !partition.is_acquired("b", &(1..3)));
}

/// Records that nobody can process are found by halves, and do not take others with them.
#[test]
fn what_comes_often_comes_in_ever_smaller_numbers_and_then_no_more() {
    let log = log(&[4]);
    let mut partition = SharePartition::new(0);
    let mut seen = vec![];
    for _ in 0..12 {
        let acquired = acquire(&mut partition, 0, "a", &log, wanted(500));
        partition.release("a", LIMITS);
        partition.advance();
        seen.push(acquired);
    }
    let wanted = ["0-3*1", "0-3*2", "0-3*3", "0-1*4", "0-0*5", "1-1*5", "2-3*4", "2-2*5", "3-3*5", "", "", ""];
    assert_eq!(seen, wanted);
    assert_eq!(partition.start(), 4);
    let dead = partition.take_dead();
    assert_eq!(dead.len(), 4);
    assert!(dead.iter().all(|dead| dead.cause == Cause::Deliveries && dead.deliveries == 5), "{dead:?}");
}

#[test]
fn what_is_no_record_is_passed_over() {
    // Compaction has left 2, 3 and 6 of a batch, and nothing of the next one, which ended with 19.
    let runs = [
        Run { first: 2, last: 3, goes_on: true },
        Run { first: 6, last: 6, goes_on: false },
        Run { first: 20, last: 20, goes_on: false },
    ];
    let mut partition = SharePartition::new(0);
    let acquired = partition.acquire(0, &member("a"), 0..25, &runs, wanted(1), LIMITS);
    let ends: Vec<_> = acquired.iter().map(|one| (one.first, one.last)).collect();
    assert_eq!(ends, [(2, 3), (6, 6)], "a batch comes whole");
    assert_eq!(partition.start(), 2);
    assert_eq!(line(&partition), "start:2 epoch:0 acked:4-5");
    let acquired = partition.acquire(0, &member("a"), 7..25, &runs[2..], wanted(1), LIMITS);
    assert_eq!((acquired[0].first, partition.next()), (20, 25));
    partition.release("a", LIMITS);
    // Meanwhile compaction has taken 3.
    let runs = [Run { first: 2, last: 2, goes_on: true }, Run { first: 6, last: 6, goes_on: false }];
    partition.acquire(0, &member("a"), 2..20, &runs, exactly(9), LIMITS);
    assert_eq!(line(&partition), "start:2 epoch:0 acked:3-5,7-19,21-24 counts:2=1,6=1,20=1");
}

#[test]
fn a_gap_of_any_length_is_passed_over_at_once() {
    let mut partition = SharePartition::new(0);
    let run = [Run { first: 1_000_000, last: 1_000_004, goes_on: false }];
    let acquired = partition.acquire(0, &member("a"), 0..2_000_000, &run, wanted(10), LIMITS);
    assert_eq!((acquired[0].first, partition.start(), partition.next()), (1_000_000, 1_000_000, 2_000_000));
}

#[test]
fn what_was_not_handed_out_after_all_is_not_counted() {
    let log = log(&[4]);
    let mut partition = SharePartition::new(0);
    assert_eq!(acquire(&mut partition, 0, "a", &log, wanted(4)), "0-3*1");
    partition.give_back("a", 2..4);
    assert_eq!(acquire(&mut partition, 0, "b", &log, wanted(4)), "2-3*1");
}

#[test]
fn what_the_log_has_not_any_more_is_done_or_forgotten() {
    let log = log(&[10]);
    let mut partition = SharePartition::new(0);
    assert_eq!(acquire(&mut partition, 0, "a", &log, exactly(6)), "0-5*1");
    partition.trim(3);
    assert_eq!((partition.start(), partition.next()), (3, 6));
    partition.cut(5);
    assert_eq!((partition.start(), partition.next()), (3, 5));
    partition.trim(8);
    assert_eq!((partition.start(), partition.next()), (8, 8));
    partition.cut(2);
    assert_eq!((partition.start(), partition.next()), (2, 2));
}
