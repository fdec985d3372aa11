//! Lines that somebody watches: each is carried out by itself, so that its answer is seen. What streams is seen in parts, each
//! before a wait.

use super::{
    Session,
    verbs::{self, VERBS},
};
use crate::{
    broker::wire::{Asker, Exchange, FileRange, Message},
    log::record::split_word,
    protocol::connection::Output,
};
use std::{ops::Range, path::PathBuf, time::Instant};

/// The line at hand, if somebody watches it.
#[derive(Debug)]
pub(super) struct Watched {
    asker: Asker,
    request: Message,
    begun: Instant,
    /// The lines of a log that it wrote or read first, since it was last told.
    touched: Option<FileRange>,
    /// Whether a part of its answer was told.
    told: bool,
}

impl Session {
    /// Whose line it is, if somebody wants to see it.
    pub(super) fn watcher(&self, line: &[u8], output: &Output<'_>) -> Option<Asker> {
        let wire = self.broker.wire();
        if !wire.is_on() {
            return None;
        }
        let (connection, address) = (output.counted().id, output.peer);
        let api = verbs::find(split_word(line).0).map_or("no verb", |number| VERBS[number].name);
        Some(Asker { connection, address, client: String::new(), api }).filter(|asker| wire.wants(asker))
    }

    /// Begins to watch a line, `whole` with its end.
    pub(super) fn begin_watch(&mut self, asker: Asker, whole: &[u8], output: &mut Output<'_>) {
        let mut request = Message::default();
        request.add(whole);
        self.watched = Some(Watched { asker, request, begun: Instant::now(), touched: None, told: false });
        output.watch();
    }

    /// Notes which lines of a log were written or read.
    pub(super) fn touched(&mut self, place: Option<(impl Into<PathBuf>, Range<impl Into<u64>>)>) {
        if let Some(watched) = self.watched.as_mut().filter(|watched| watched.touched.is_none()) {
            watched.touched = place.map(|(path, positions)| FileRange::new(path, positions));
        }
    }

    /// Shows what was answered so far, if it was anything. What nobody wants to see any more is watched no longer: it may stream for
    /// days.
    pub(super) fn tell_part(&mut self, output: &mut Output<'_>) {
        let Some(watched) = &self.watched else { return };
        if self.broker.wire().wants(&watched.asker) {
            self.tell_watched(output);
            output.watch();
        } else {
            drop(output.watched());
            self.watched = None;
        }
    }

    /// Ends to watch.
    pub(super) fn end_watch(&mut self, output: &mut Output<'_>) {
        self.tell_watched(output);
        self.watched = None;
    }

    fn tell_watched(&mut self, output: &mut Output<'_>) {
        let (response, time_ms) = (output.watched(), self.broker.now_ms());
        let Some(watched) = &mut self.watched else { return };
        // Of what was told in parts, an end without a word is none.
        if response.length == 0 && watched.told {
            return;
        }
        watched.told = true;
        let Watched { asker, request, begun, touched, .. } = watched;
        let (asker, request, file, took) = (asker.clone(), request.clone(), touched.take(), begun.elapsed());
        self.broker.seen(Exchange { asker, version: None, time_ms, request, response, file, took });
    }
}
