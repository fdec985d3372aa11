//! What a route is, and which one a request asks for.
//!
//! Address and method are judged before the type of the body: 404, 405, then 415.

use super::{
    refusal::Refusal,
    request::{Framing, Head},
};
use crate::{log::record::shown, protocol::needs::Needs};

/// A row of the table.
pub(super) struct Route {
    pub(super) method: &'static str,
    /// Segments in `{}` stand for any.
    pub(super) path: &'static str,
    /// What it does, in plain words.
    pub(super) does: &'static str,
    pub(super) query: &'static [Parameter],
    /// The types of body that it takes; none: it has no body.
    pub(super) takes: &'static [&'static str],
    /// The types in which it answers.
    pub(super) gives: &'static [&'static str],
    /// What its caller has to be allowed.
    pub(super) needs: Needs,
}

/// A parameter of a query.
pub(super) struct Parameter {
    /// Its name; behind `header.` any.
    pub(super) name: &'static str,
    pub(super) means: &'static str,
}

pub(super) const JSON: &str = "application/json";
pub(super) const NDJSON: &str = "application/x-ndjson";
pub(super) const BYTES: &str = "application/octet-stream";
pub(super) const EVENTS: &str = "text/event-stream";
pub(super) const CSV: &str = "text/csv; charset=utf-8";
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub(super) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) const fn parameter(name: &'static str, means: &'static str) -> Parameter {
    Parameter { name, means }
}

/// The number of requests that found no route.
pub(super) const NONE: usize = crate::metrics::ROWS_MAX - 1;

/// The number of a request's route in the table, and what stands in its address for the segments in `{}`.
pub(super) fn find(routes: &[Route], head: &Head) -> Result<(usize, Vec<String>), Refusal> {
    let fitting = routes.iter().enumerate().filter_map(|(number, route)| Some((number, fit(route.path, &head.path)?)));
    let mut fitting = fitting.peekable();
    if fitting.peek().is_none() {
        let path = shown(head.target.as_bytes());
        return Err(Refusal::new(404, format!("there is nothing at '{path}'; GET /api lists what there is")));
    }
    let asked = if head.method == "HEAD" { "GET" } else { &head.method };
    let found = fitting.find(|(number, _)| routes[*number].method == asked);
    let (number, parameters) = found.ok_or_else(|| {
        let methods = methods_of(routes, &head.path).join(", ");
        Refusal::new(405, format!("{} is not for this address; it takes {methods}", shown(head.method.as_bytes())))
    })?;
    let route = &routes[number];
    check_type(route, head)?;
    let known = |name: &str| {
        route.query.iter().any(|known| match known.name.strip_suffix("NAME") {
            Some(prefix) => name.starts_with(prefix),
            None => known.name == name,
        })
    };
    if let Some(name) = head.query.names().find(|name| !known(name)) {
        let names: Vec<_> = route.query.iter().map(|known| known.name).collect();
        let there = if names.is_empty() { "none here".into() } else { names.join(", ") };
        return Err(Refusal::invalid(format!(
            "there is no parameter '{}'; there are: {there}",
            shown(name.as_bytes())
        )));
    }
    Ok((number, parameters))
}

/// What stands in a path for the segments in `{}`; `None`: it is another address.
fn fit(pattern: &str, path: &[String]) -> Option<Vec<String>> {
    let segments: Vec<_> = pattern.split('/').skip(1).collect();
    let fits =
        |(pattern, segment): (&&str, &String)| *pattern == segment || pattern.starts_with('{') && !segment.is_empty();
    let all = segments.len() == path.len() && segments.iter().zip(path).all(fits);
    let parameters = segments.iter().zip(path).filter(|(pattern, _)| pattern.starts_with('{'));
    all.then(|| parameters.map(|(_, segment)| segment.clone()).collect())
}

/// The methods that an address takes.
pub(super) fn methods_of(routes: &[Route], path: &[String]) -> Vec<&'static str> {
    let fitting = routes.iter().filter(|route| fit(route.path, path).is_some());
    fitting.flat_map(|route| if route.method == "GET" { vec!["GET", "HEAD"] } else { vec![route.method] }).collect()
}

/// Whatever changes something has a type that no plain form of another page can send.
fn check_type(route: &Route, head: &Head) -> Result<(), Refusal> {
    let has_no_body = matches!(head.framing, Framing::Nothing | Framing::Length(0));
    if route.method == "GET" || route.takes.is_empty() && has_no_body {
        return Ok(());
    }
    let taken = if route.takes.is_empty() { &[JSON, NDJSON, BYTES] } else { route.takes };
    let sent = head.content_type();
    if sent.as_deref().is_some_and(|sent| taken.contains(&sent)) {
        return Ok(());
    }
    let host = shown(head.header("host").unwrap_or("localhost:9092").as_bytes());
    let (method, target, first) = (&head.method, shown(head.target.as_bytes()), taken[0]);
    let body = if route.takes.is_empty() { "" } else { " --data-binary @-" };
    let curl = format!("curl -X {method} -H 'Content-Type: {first}'{body} 'http://{host}{target}'");
    Err(Refusal::new(415, format!("the body's type is {}: {curl}", taken.join(" or "))))
}
