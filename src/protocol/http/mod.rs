//! HTTP/1.1: the API, the metrics and the console, for browsers, curl and scrapers on the same port.
//!
//! ```text
//! head ── guard ── route ── handler ── answer          one connection, one thread, requests answered in their order
//!   │       │        └ the one table of `routes`
//!   │       └ no page of another server
//!   └ parsed by `httparse`, bounded in bytes and time
//! ```
//!
//! - With users each request says who asks (`login`), and is answered on behalf of them.
//! - A head has at most 64 KiB and 100 headers and comes whole within 10 s. A connection is kept for 60 s between requests.
//! - A body is read as it comes, and never buffered because of what a client announces.
//! - After what cannot be read, where the next request would begin is unknown: it is answered, and the connection closed.

mod api;
mod console;
mod exchange;
mod guard;
mod json;
#[cfg(feature = "users")]
mod login;
mod openapi;
mod query;
mod refusal;
mod request;
mod route;
mod routes;

use super::connection::{Input, Output};
use crate::backend::Backend;
use exchange::Exchange;
use guard::Guard;
use refusal::{Refusal, Stop};
use request::Head;
use routes::{HANDLERS, ROUTES};
use std::{
    io::{self, ErrorKind},
    time::{Duration, Instant},
};

/// How long a head may take from its first byte to its last.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a connection may be without a request.
const KEPT_ALIVE: Duration = Duration::from_secs(60);
/// Answers are sent once this many bytes are waiting, even if more requests have arrived.
const UNSENT_BYTES_MAX: usize = 1 << 20;

/// What a connection sends next.
enum Next {
    Request(Head),
    /// It cannot be read; the connection ends.
    Refused(Refusal),
    /// The client is gone, or was silent.
    Nothing,
}

/// Serves a connection until its client leaves. `name` is the host name on which the broker listens, if it listens by name.
pub fn serve<'c>(
    broker: &Backend,
    name: Option<&str>,
    input: &mut Input<'c>,
    output: &mut Output<'c>,
) -> io::Result<()> {
    let guard = Guard::new(broker.config(), name, output.local()?);
    let mut goes_on = true;
    while goes_on && !output.stopping() {
        output.rest()?;
        goes_on = match next_head(input, output)? {
            Next::Request(head) => match answer(broker, &guard, &head, input, output) {
                Ok(goes_on) => goes_on,
                Err(error) => {
                    // What was answered before is no part of it.
                    output.flush()?;
                    return Err(error);
                }
            },
            Next::Refused(refusal) => {
                let counted = broker.metrics().http.row(route::NONE);
                counted.took.add(1, Duration::ZERO);
                counted.errors.add(1);
                output.counted().requested(1, Instant::now());
                // No request was understood, so any will do to carry the answer.
                let head = Head::unreadable();
                let mut exchange = Exchange::new(broker, ROUTES, &head, input, output, None);
                match exchange.refuse(&refusal) {
                    Err(Stop::Broken(error)) => return Err(error),
                    _ => false,
                }
            }
            Next::Nothing => false,
        };
        if output.bytes.len() >= UNSENT_BYTES_MAX {
            output.flush()?;
        }
    }
    output.flush()
}

/// Answers a request. Returns whether the connection takes another.
fn answer<'c>(
    broker: &Backend,
    guard: &Guard,
    head: &Head,
    input: &mut Input<'c>,
    output: &mut Output<'c>,
) -> io::Result<bool> {
    let begun = Instant::now();
    output.counted().set_client(head.header("user-agent").unwrap_or_default());
    output.counted().requested(1, begun);
    let mut number = route::NONE;
    let is_preflight = head.method == "OPTIONS" && guard.allowed_origin(head).is_some();
    let checked = guard.check(head).map_err(Stop::from);
    #[cfg(feature = "users")]
    let (checked, somebody) =
        match checked.and_then(|()| if is_preflight { Ok(None) } else { login::who(broker, head, output) }) {
            Ok(somebody) => (Ok(()), somebody),
            Err(stop) => (Err(stop), None),
        };
    #[cfg(feature = "users")]
    let broker = somebody.as_ref().map_or(broker, |somebody| &somebody.backend);
    let mut exchange = Exchange::new(broker, ROUTES, head, input, output, guard.allowed_origin(head));
    #[cfg(feature = "users")]
    exchange.is_asked_by(somebody.as_ref());
    let answered = match checked {
        Ok(()) if is_preflight => preflight(&mut exchange),
        Ok(()) => route::find(ROUTES, head).map_err(Stop::from).and_then(|(found, parameters)| {
            number = found;
            exchange.parameters = parameters;
            HANDLERS[found](&mut exchange)
        }),
        Err(stop) => Err(stop),
    };
    let is_refused = matches!(answered, Err(Stop::Refused(_)));
    let answered = match answered {
        Err(Stop::Refused(refusal)) => exchange.refuse(&refusal),
        answered => answered,
    };
    let counted = broker.metrics().http.row(number);
    counted.took.add(1, begun.elapsed());
    // What is refused after it has begun breaks off, and its status says nothing of it.
    counted.errors.add((is_refused || exchange.status().is_none_or(|status| status >= 400)).into());
    match answered {
        Ok(()) | Err(Stop::Refused(_)) => Ok(exchange.keeps_alive()),
        Err(Stop::Broken(error)) => Err(error),
    }
}

/// Tells a page that may ask this broker what it may send.
fn preflight(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let methods = route::methods_of(ROUTES, &exchange.head.path).join(", ");
    let headers = "Access-Control-Allow-Headers: Content-Type, Last-Event-ID\r\nAccess-Control-Max-Age: 600\r\n";
    exchange.answer(204, "", &format!("Access-Control-Allow-Methods: {methods}\r\n{headers}"), b"")
}

/// Waits for a whole head.
fn next_head(input: &mut Input<'_>, output: &mut Output<'_>) -> io::Result<Next> {
    let mut begun = None;
    loop {
        if !input.bytes().is_empty() {
            let begun = *begun.get_or_insert_with(Instant::now);
            match Head::parse(input.bytes()) {
                Ok(Some((head, size))) => {
                    input.consume(size);
                    return Ok(Next::Request(head));
                }
                Ok(None) if begun.elapsed() < HEAD_TIME => {}
                Ok(None) => {
                    return Ok(Next::Refused(Refusal::new(408, "the head of the request did not come whole in 10 s")));
                }
                Err(refusal) => return Ok(Next::Refused(refusal)),
            }
        }
        output.flush()?;
        input.silence_max = Some(begun.map_or(KEPT_ALIVE, |begun: Instant| HEAD_TIME.saturating_sub(begun.elapsed())));
        match input.fill(usize::MAX, output, || {}) {
            Ok(0) => return Ok(Next::Nothing),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let late = "the head of the request did not come whole in 10 s";
                return Ok(begun.map_or(Next::Nothing, |_| Next::Refused(Refusal::new(408, late))));
            }
            filled => drop(filled?),
        }
    }
}
