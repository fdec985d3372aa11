//! Appending records that their producer numbers one by one, as the text protocol's do.
//!
//! ```text
//! producer 1000 wrote 0 to 4 here, and sends      3    4    5    6
//!                                                 └ known ┘ └ stored as a batch from sequence 5 on
//! ```
//!
//! A Kafka client that sends again sends the same batches. Whoever sends lines may find them gathered otherwise the second
//! time, so what is known is told record by record: all below the producer's next sequence. What is left is stored as any
//! numbered batch, or as several where it is much.

use super::{Partition, Terms};
use crate::{
    broker::{
        Result,
        producer_state::{Numbered, Producers, Stored},
    },
    config::Settings,
    log::{Appended, Content, Log, Numbering, record::Records},
};
use std::ops::Range;

/// What became of records that their producer may have numbered one by one.
#[derive(Debug)]
pub(in crate::broker) struct Sequenced {
    /// The first of them, which had been stored before: the offset that each got, where it is still known.
    pub(in crate::broker) known: Vec<Option<u64>>,
    /// What was stored of the rest; if there is none, an empty range behind what its producer wrote last.
    pub(in crate::broker) appended: Appended,
}

/// Records that nobody numbers are all new.
impl From<Appended> for Sequenced {
    fn from(appended: Appended) -> Sequenced {
        Sequenced { known: Vec::new(), appended }
    }
}

impl Partition {
    /// Writes records whose sequences go on from `numbering`. As with [`write`](Self::write), what it answers is promised only
    /// after [`make_durable`](Self::make_durable).
    pub(in crate::broker) fn write_sequence(
        &self,
        settings: &Settings,
        mut records: Records<'_>,
        numbering: Numbering,
    ) -> Result<Sequenced> {
        // Opened first: opening a log may take the producers' lock.
        let log = self.log()?;
        let mut producers = self.producers.lock().expect("no panic under the producers' lock");
        self.load_producers(log, &mut producers, u64::MAX)?;
        let batch = Numbered { numbering, last_delta: records.len() as u32 - 1 };
        let known = producers.stored_before(batch, self.env.clock.now_ms())?;
        records.remove_first(known.len());
        if records.is_empty() {
            let end = producers.end_of(numbering.producer_id).expect("what was stored before has an end");
            return Ok(Sequenced { known, appended: already_stored(log, end) });
        }
        producers.check_outside(numbering.producer_id)?;
        let numbering = numbering.after(known.len() as u32);
        let appended = self.append_sequence(log, &mut producers, settings, &records, numbering)?;
        Ok(Sequenced { known, appended })
    }

    fn append_sequence(
        &self,
        log: &Log,
        producers: &mut Producers,
        settings: &Settings,
        records: &Records<'_>,
        numbering: Numbering,
    ) -> Result<Appended> {
        let terms = Terms { producer: Some(numbering), ..Terms::default() };
        let appended = self.append(log, settings, Content::Records(records), terms)?;
        let Appended { offsets, now_ms: appended_ms, .. } = &appended;
        let remember = |producers: &mut Producers, part: Range<u64>| {
            let (from, count) = ((part.start - offsets.start) as usize, (part.end - part.start) as usize);
            let own =
                records.iter().skip(from).take(count).map(|record| record.timestamp.unwrap_or(*appended_ms)).max();
            let Some(own) = own else { return };
            let timestamp = if settings.append_time() { *appended_ms } else { own };
            let batch = Numbered { numbering: numbering.after(from as u32), last_delta: count as u32 - 1 };
            producers.stored(batch, Stored { first: part.start, timestamp, appended_ms: *appended_ms });
        };
        // The state beside a new segment is that of its start: it tells of no record that a crash can take with the segment.
        let last_segment = log.active_base().clamp(offsets.start, offsets.end);
        remember(producers, offsets.start..last_segment);
        if appended.rolled {
            self.keep_producers(log, producers, u64::MAX);
        }
        remember(producers, last_segment..offsets.end);
        Ok(appended)
    }
}

/// What is to be made durable where all was stored before: the log up to `end`.
fn already_stored(log: &Log, end: u64) -> Appended {
    Appended::known(end..end, 0, end <= log.high_watermark())
}
