//! What consumer groups have committed at the source is committed at the target, with the target's offsets.
//!
//! A group that is live at the target is its own, and one that has come further there is not put back.

use super::{
    super::native::GroupOffset,
    Told,
    map::Translated,
    notes::Note,
    progress::{self, GROUPS},
    reading::{Read, Reading},
    resume::Pair,
    sides::{Place, Side, settled},
};
use crate::broker::{Code, Error, Result};
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

/// As many groups are described at once.
const AT_ONCE: usize = 100;
/// How long the source may be silent while its records are counted.
const SILENCE: Duration = Duration::from_secs(60);

/// Groups that were live at the target, and have been told.
#[derive(Default)]
pub(super) struct Live(std::collections::BTreeSet<String>);

impl Live {
    fn tell(&mut self, name: &str, tell: &mut dyn FnMut(Told<'_>)) {
        if self.0.insert(name.into()) {
            tell(Told::Note(format!("group '{name}' is live at the target and is left alone")));
        }
    }
}

/// Whether a commit from outside was refused since the group has members.
fn is_live(error: &Error) -> bool {
    [Code::UnknownMemberId, Code::NonEmptyGroup, Code::RebalanceInProgress].contains(&error.code())
}

/// Commits the offsets of all groups of the source; how many.
pub(super) fn commit(
    source: &Side,
    target: &Side,
    pairs: &[Pair],
    notes: &[Note],
    live: &mut Live,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<u64> {
    let places: HashMap<&Place, usize> = pairs.iter().enumerate().map(|(number, pair)| (&pair.from, number)).collect();
    let names: Vec<String> =
        source.ask("asking for groups", |asking| asking.groups())?.into_iter().map(|group| group.name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| !name.starts_with(GROUPS)).collect();
    let mut committed = 0;
    for names in names.chunks(AT_ONCE) {
        let members = members(target, names)?;
        for name in names {
            if members.get(*name).copied().unwrap_or(0) > 0 {
                live.tell(name, tell);
                continue;
            }
            let theirs = offsets(target, name)?;
            let mut wanted = Vec::new();
            for (place, offset) in offsets(source, name)? {
                let Some(number) = places.get(&place).copied() else { continue };
                let (topic, partition) = pairs[number].to.clone();
                let to = translated(source, &place, &notes[number], offset.offset)?;
                if theirs.get(&pairs[number].to).is_none_or(|theirs| theirs.offset < to) {
                    let GroupOffset { metadata, .. } = offset;
                    wanted.push(GroupOffset { topic, partition, offset: to, leader_epoch: None, metadata });
                }
            }
            if !wanted.is_empty() {
                match progress::commit(target, name, &wanted) {
                    Ok(()) => committed += wanted.len() as u64,
                    // It has got members since it was asked.
                    Err(error) if is_live(&error) => live.tell(name, tell),
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(committed)
}

/// How many members groups have; of those that are not there nothing is said.
fn members(side: &Side, names: &[&str]) -> Result<BTreeMap<String, usize>> {
    let described = side.ask("asking for groups", |asking| settled(asking.describe_groups(names)?))?;
    let mut members = BTreeMap::new();
    for (name, group) in described {
        match group {
            Ok(group) => drop(members.insert(name, group.members.len())),
            Err(refused) if refused.number == Code::GroupIdNotFound as i32 => {}
            Err(refused) => return Err(side.explain(&format!("asking for group '{name}'"), refused)),
        }
    }
    Ok(members)
}

/// What a group has committed.
fn offsets(side: &Side, name: &str) -> Result<BTreeMap<Place, GroupOffset>> {
    let found = side.ask(&format!("asking for what group '{name}' has committed"), |asking| {
        match asking.group_offsets(name) {
            Err(refused) if refused.number == Code::GroupIdNotFound as i32 => Ok(Vec::new()),
            answer => answer,
        }
    })?;
    Ok(found.into_iter().map(|offset| ((offset.topic.clone(), offset.partition), offset)).collect())
}

/// Where a group goes on at the target: at the first record that it has not seen. What is not copied yet is the end of what is.
fn translated(source: &Side, place: &Place, note: &Note, offset: i64) -> Result<i64> {
    if offset >= note.next {
        return Ok(note.end);
    }
    let at = match note.map.translate(offset) {
        None => note.end,
        Some(Translated::At(at)) => at,
        Some(Translated::Within { since, before }) => {
            // Records that the source does not have any more are not counted: the group sees some twice rather than none.
            let there = since.to + count(source, place, since.from, offset)?;
            before.map_or(there, |before| there.min(before))
        }
    };
    Ok(at.min(note.end))
}

/// How many records the source has between these offsets.
fn count(source: &Side, place: &Place, first: i64, end: i64) -> Result<i64> {
    let mut reading = Reading::open(source)?;
    reading.assign(&[(&place.0, place.1, first)])?;
    let (mut count, mut heard) = (0, Instant::now());
    loop {
        match reading.next(Duration::from_millis(100))? {
            None if heard.elapsed() > SILENCE => return Err(source.silent()),
            None => continue,
            Some(Read::Record(_, message)) if message.offset() < end => count += 1,
            Some(Read::End(_, offset)) if offset < end => {}
            Some(_) => return Ok(count),
        }
        heard = Instant::now();
    }
}
