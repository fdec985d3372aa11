//! Wire: the exchanges of Kafka's protocol and of the text protocol as they happen, as events; and the switch.
//!
//! ```text
//! event: filter    what is wanted: when somebody begins to look, and whenever it changes
//! id: 17           an exchange; who comes again with this id reads on behind it
//! event: missed    {"count":23} went unseen before the next one: more came than is kept
//! event: refused   {"error":"...","message":"..."}: whoever looks may not any more
//! ```

use super::{OBJECT_BYTES_MAX, Object, number, text};
use crate::{
    broker::wire::{Filter, Numbered, Wire},
    protocol::{
        http::{
            exchange::{COMMENT_EVERY, EVENT_HEADERS, Exchange, Stream},
            refusal::{Refusal, Stop},
            route::EVENTS,
        },
        wire_view,
    },
};
use serde_json::{Value, json};
use std::{io::Write, time::Instant};

/// `GET /api/wire`
pub(in crate::protocol::http) fn watch(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let last = exchange.head.header("last-event-id").map(|id| {
        id.parse().map_err(|_| Refusal::invalid("Last-Event-ID is the number of an exchange, as the events have it"))
    });
    let last: u64 = last.transpose()?.or(exchange.head.query.number("after")?).unwrap_or(0);
    let (broker, waiter) = (exchange.broker, exchange.output.waiter.clone());
    broker.may_watch()?;
    // Registered before anything is looked at, so that nothing comes unseen in between.
    let _registered = broker.wire().register(&waiter);
    let mut stream = exchange.stream(EVENTS, EVENT_HEADERS);
    match show(&mut stream, broker.wire(), last) {
        Ok(()) => stream.finish(),
        Err(stop) => {
            if let Stop::Refused(refusal) = &stop {
                write!(stream.bytes, "event: refused\ndata: {}\n\n", refusal.json())?;
                stream.flush()?;
            }
            Err(stop)
        }
    }
}

/// Shows what happens behind the exchange with the number `last`, until the reader is gone or may not look any more.
fn show(stream: &mut Stream<'_, '_, '_>, wire: &Wire, mut last: u64) -> Result<(), Stop> {
    let mut told = None;
    loop {
        let filter = wire.filter();
        if told.as_ref() != Some(&filter) {
            write!(stream.bytes, "event: filter\ndata: {}\n\n", switch(filter.as_ref()))?;
            told = Some(filter);
        }
        while let Some(seen) = wire.next(last) {
            check(stream)?;
            event(stream, &seen, last)?;
            last = seen.number;
            stream.send_much()?;
            if !stream.goes_on()? {
                return Ok(());
            }
        }
        let goes_on = stream.wait(Some(Instant::now() + COMMENT_EVERY))?;
        check(stream)?;
        if !goes_on {
            if !stream.goes_on()? {
                return Ok(());
            }
            stream.bytes.extend_from_slice(b":\n\n");
        }
    }
}

/// Whether its reader may look: it may have been allowed no longer than until now.
fn check(stream: &Stream<'_, '_, '_>) -> Result<(), Stop> {
    stream.exchange.check_login()?;
    Ok(stream.exchange.broker.may_watch()?)
}

/// An exchange as an event; before it, what went unseen since the one with the number `last`, if there was one.
fn event(stream: &mut Stream<'_, '_, '_>, seen: &Numbered, last: u64) -> Result<(), Stop> {
    if (1..seen.number - 1).contains(&last) {
        write!(stream.bytes, "event: missed\ndata: {}\n\n", json!({ "count": seen.number - last - 1 }))?;
    }
    let mut shown = wire_view::shown(&seen.exchange);
    shown.insert("number".into(), seen.number.into());
    write!(stream.bytes, "id: {}\ndata: {}\n\n", seen.number, Value::Object(shown))?;
    Ok(())
}

/// `POST /api/wire`: `{"on":true,"connection":7,"client":"name","api":"Produce"}`
pub(in crate::protocol::http) fn set(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let mut body = Object::of(exchange.json_body(OBJECT_BYTES_MAX)?)?;
    let on = body.expect("on", "true or false", |value| value.as_bool())?;
    let filter = Filter {
        connection: body.take("connection", "a connection's id", number)?,
        client: body.take("client", "a client's name", text)?,
        api: body.take("api", "the name of an API or a verb", text)?,
    };
    body.end()?;
    let filter = on.then_some(filter);
    exchange.broker.switch_wire(filter.clone())?;
    exchange.json(200, &switch(filter.as_ref()))
}

/// The switch, and what is wanted.
fn switch(filter: Option<&Filter>) -> Value {
    let on = filter.is_some();
    let Filter { connection, client, api } = filter.cloned().unwrap_or_default();
    json!({ "on": on, "connection": connection, "client": client, "api": api })
}
