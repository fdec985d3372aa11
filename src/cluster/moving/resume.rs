//! Where an interrupted move goes on: what the target has is compared with what was noted, and with the source.

use super::{
    super::native::Message,
    notes::{Note, Plan},
    reading::{Read, Reading},
    sides::{Ends, Id, Side},
    topics::Topic,
};
use crate::broker::{Code, Error, Result, random};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    thread,
    time::{Duration, Instant},
};

/// How long a target that was being written to is given for what may still be under way.
const SETTLES: Duration = Duration::from_secs(1);
/// How often it is looked at. What still grows then somebody else writes.
const LOOKS_MAX: u32 = 30;
/// How long either side may be silent while they are compared.
const SILENCE: Duration = Duration::from_secs(60);

/// A partition on both sides.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) from: (String, u32),
    pub(super) to: (String, u32),
    /// The id of the source's topic, if that is told.
    pub(super) id: Option<Id>,
}

/// The partitions of topics.
pub(super) fn pairs(topics: &[Topic]) -> Vec<Pair> {
    let of = |topic: &Topic| {
        let (from, to, id) = (topic.from.clone(), topic.to.clone(), topic.id);
        let pair = move |index| Pair { from: (from.clone(), index), to: (to.clone(), index), id };
        (0..topic.partitions).map(pair)
    };
    topics.iter().flat_map(of).collect()
}

/// Where each partition goes on. `noted` is what the target has of it.
pub(super) fn positions(
    source: &Side,
    target: &Side,
    pairs: &[Pair],
    mut noted: HashMap<(String, u32), Note>,
) -> Result<Vec<Note>> {
    let at_source = source.ends(&pairs.iter().map(|pair| pair.from.clone()).collect::<Vec<_>>())?;
    let noted: Vec<Option<Note>> = pairs.iter().map(|pair| noted.remove(&pair.to)).collect();
    let at_target = settled(target, pairs, &noted)?;
    let mut notes = Vec::with_capacity(pairs.len());
    let mut behind = Vec::new();
    for (((pair, note), source_ends), target_ends) in pairs.iter().zip(noted).zip(at_source).zip(at_target) {
        let (mut note, written) = position(pair, note, source_ends, target_ends)?;
        note.of = pair.id.or(note.of);
        if written > 0 {
            behind.push(Behind {
                pair: pair.clone(),
                to_end: target_ends.end,
                to: note.end,
                plan: note.plan.first(written),
            });
        }
        notes.push(note.written(written));
    }
    compare(source, target, &behind)?;
    Ok(notes)
}

/// Where the target's partitions end, once they have stopped growing.
fn settled(target: &Side, pairs: &[Pair], noted: &[Option<Note>]) -> Result<Vec<Ends>> {
    let places: Vec<_> = pairs.iter().map(|pair| pair.to.clone()).collect();
    match noted.iter().flatten().any(|note| !note.plan.is_empty()) {
        true => until_still(SETTLES, || target.ends(&places)),
        false => target.ends(&places),
    }
}

/// Asks until the answer is the same twice in a row.
fn until_still<T: PartialEq>(pause: Duration, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = ask()?;
    for _ in 0..LOOKS_MAX {
        thread::sleep(pause);
        let now = ask()?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
    let why = "the target goes on growing; a move goes on only where nobody else writes".into();
    Err(Error::OfCluster { code: Code::InvalidRequest, why })
}

/// Where one goes on, and how many records of the plan are at the target already.
fn position(pair: &Pair, note: Option<Note>, source: Ends, target: Ends) -> Result<(Note, i64)> {
    let (topic, partition) = &pair.to;
    let refuse = |why: String| {
        let why = format!("topic '{topic}' partition {partition} of the target {why}");
        Err(Error::OfCluster { code: Code::InvalidRequest, why })
    };
    let Some(note) = note else {
        if target.end > target.first {
            return refuse(format!(
                "has records (offsets {} to {}) that no move from this source has written; move to another name with --rename, or drop it first",
                target.first,
                target.end - 1
            ));
        }
        return Ok((Note { next: source.first, end: target.end, ..Note::default() }, 0));
    };
    if !note.is_of(pair.id) {
        let shown = |id: Option<Id>| id.map_or("-".into(), |id| random::shown(&id));
        return refuse(format!(
            "was copied from another topic of the source than what is '{}' there now (id {}, now {}): that was made anew, or other records \
             are to go to the same name; move to another name with --rename, or drop '{topic}' at the target first",
            pair.from.0,
            shown(note.of),
            shown(pair.id)
        ));
    }
    let written = target.end - note.end;
    if written < 0 {
        return refuse(format!(
            "ends at {}, and the move has written up to {}: it was made anew or lost records",
            target.end, note.end
        ));
    }
    if written > note.plan.count() {
        let other = note.end + note.plan.count();
        return refuse(format!(
            "has records from offset {other} on that this move has not written; it goes on only where nobody else writes"
        ));
    }
    if source.end < note.next {
        return refuse(format!(
            "was copied up to offset {} of the source, which ends at {}: the source was made anew or lost records",
            note.next, source.end
        ));
    }
    Ok((note, written))
}

/// Records that were written behind what was noted.
struct Behind {
    pair: Pair,
    /// The target's offsets of them.
    to: i64,
    to_end: i64,
    plan: Plan,
}

/// Compares them with the source's, record by record, as far as either still has them.
fn compare(source: &Side, target: &Side, behind: &[Behind]) -> Result<()> {
    if behind.is_empty() {
        return Ok(());
    }
    let mut expected: HashMap<(usize, i64), u64> = HashMap::new();
    let from = |one: &Behind| (one.plan.nth(0).unwrap_or(0), one.plan.end().unwrap_or(0));
    read(
        source,
        behind,
        |one| &one.pair.from,
        from,
        |number, message| {
            expected.insert((number, message.offset()), digest(&message));
        },
    )?;
    let mut differs = None;
    read(
        target,
        behind,
        |one| &one.pair.to,
        |one| (one.to, one.to_end),
        |number, message| {
            let one = &behind[number];
            let source_offset = one.plan.nth(message.offset() - one.to).unwrap_or(-1);
            let same = expected.get(&(number, source_offset)).is_none_or(|expected| *expected == digest(&message));
            if !same && differs.is_none() {
                differs = Some((number, message.offset(), source_offset));
            }
        },
    )?;
    let Some((number, at, source_offset)) = differs else { return Ok(()) };
    let (topic, partition) = &behind[number].pair.to;
    Err(Error::OfCluster {
        code: Code::InvalidRequest,
        why: format!(
            "topic '{topic}' partition {partition} of the target has another record at offset {at} than the source at {source_offset}: \
             it was not written by this move; it goes on only where nobody else writes"
        ),
    })
}

/// Reads a range of each.
fn read<'b>(
    side: &Side,
    behind: &'b [Behind],
    place: impl Fn(&'b Behind) -> &'b (String, u32),
    range: impl Fn(&Behind) -> (i64, i64),
    mut each: impl FnMut(usize, Message),
) -> Result<()> {
    let places: Vec<_> = behind.iter().map(|one| (&*place(one).0, place(one).1, range(one).0)).collect();
    let ends: Vec<_> = behind.iter().map(|one| range(one).1).collect();
    let mut is_open = vec![true; ends.len()];
    let mut left = ends.len();
    let mut reading = Reading::open(side)?;
    reading.assign(&places)?;
    let mut heard = Instant::now();
    while left > 0 {
        let (number, next) = match reading.next(Duration::from_millis(100))? {
            None if heard.elapsed() > SILENCE => return Err(side.silent()),
            None => continue,
            Some(Read::End(number, offset)) => (number, offset),
            Some(Read::Record(number, message)) => {
                let offset = message.offset();
                if offset < ends[number] {
                    each(number, message);
                }
                (number, offset + 1)
            }
        };
        heard = Instant::now();
        if next >= ends[number] && is_open[number] {
            is_open[number] = false;
            left -= 1;
        }
    }
    Ok(())
}

/// The same for records that are the same, wherever they stand.
pub(super) fn digest(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    (message.key(), message.value(), message.time().ms.max(1)).hash(&mut hasher);
    message.headers(|name, value| (name, value).hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::Fixture;

    fn pair() -> Pair {
        Pair { from: ("a".into(), 0), to: ("a".into(), 0), id: Some([7; 16]) }
    }

    fn note() -> Note {
        Note::read(10, "end=5 plan=0+3").unwrap()
    }

    #[test]
    fn what_is_behind_the_note_is_part_of_its_plan() {
        let (source, at) = (Ends { first: 0, end: 100 }, |end| Ends { first: 0, end });
        assert_eq!(position(&pair(), None, Ends { first: 7, end: 9 }, Ends { first: 4, end: 4 }).unwrap().0.next, 7);
        for written in 0..=3 {
            assert_eq!(position(&pair(), Some(note()), source, at(5 + written)).unwrap().1, written);
        }
        for (note, source, target, why) in [
            (None, source, at(1), "offsets 0 to 0"),
            (Some(Note { of: Some([8; 16]), ..note() }), source, at(5), "another topic"),
            (Some(note()), source, at(4), "ends at 4"),
            (Some(note()), source, at(9), "from offset 8 on"),
            (Some(note()), Ends { first: 0, end: 9 }, at(5), "which ends at 9"),
        ] {
            let error = position(&pair(), note, source, target).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
    #[test]
    fn a_target_that_was_written_to_is_looked_at_until_nothing_comes_any_more() {
        let mut ends = [1, 2, 3, 3, 4].into_iter();
        assert_eq!(until_still(Duration::ZERO, || Ok(ends.next().unwrap())).unwrap(), 3);
        let mut end = 0;
        let refused = until_still(Duration::ZERO, || {
            end += 1;
            Ok(end)
        });
        assert!(refused.unwrap_err().to_string().contains("nobody else"));
        let fixture = Fixture::new();
        fixture.broker.create_topic("a", 1).unwrap();
        let options = fixture.options();
        let (target, begun) = (Side::open("target", &options).unwrap(), Instant::now());
        assert_eq!(settled(&target, &[pair()], &[Some(note())]).unwrap(), [Ends { first: 0, end: 0 }]);
        assert!(begun.elapsed() >= SETTLES, "what was noted may still be under way");
    }
}
