//! Records: writing them, and reading them as pages, as streams and as files.
//!
//! ```text
//! writing   a body as it comes ──► batches ──► how many were stored, or where each was
//! asked     a query ──► from where to where, and which records (filter)
//! reading   one cursor for each partition: what is read next of it
//! pages     JSON: the next records by time, and where the page before and the page behind begin
//! streams   NDJSON, events, CSV: all records as they come, partition by partition in turn
//! ```

mod asked;
mod csv;
mod filter;
mod pages;
mod reading;
mod streams;
mod writing;

pub(in crate::protocol::http) use writing::write;

use crate::protocol::http::{
    exchange::Exchange,
    refusal::{Refusal, Stop},
    route::{CSV, EVENTS, NDJSON},
};
use asked::Asked;
use streams::Form;

/// `GET /api/topics/{topic}/records`: JSON, NDJSON or events.
pub(in crate::protocol::http) fn read(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    if exchange.head.accepts("accept", EVENTS) {
        return streams::events(exchange);
    }
    let asked = Asked::parse(exchange)?;
    match exchange.head.accepts("accept", NDJSON) {
        true => streams::stream(exchange, asked, Form::Lines, NDJSON, ""),
        false => pages::page(exchange, asked),
    }
}

/// `GET /api/topics/{topic}/export`: a file of what is there now.
pub(in crate::protocol::http) fn export(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let (form, content_type, ending) = match exchange.head.query.text("format")? {
        None | Some("ndjson") => (Form::Lines, NDJSON, "ndjson"),
        Some("csv") => (Form::Csv, CSV, "csv"),
        Some(other) => return Err(Refusal::invalid(format!("format= is ndjson or csv, not '{other}'")).into()),
    };
    let asked = Asked::parse(exchange)?;
    // A topic's name needs no quoting.
    let name = format!("{}.{ending}", exchange.parameters[0]);
    let headers = format!("Content-Disposition: attachment; filename=\"{name}\"\r\n");
    streams::stream(exchange, asked, form, content_type, &headers)
}
