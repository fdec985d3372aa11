//! The table of routes: the whole interface on one screen. Dispatch, `GET /api` and the OpenAPI document come from it.
//!
//! Address and method are judged before the type of the body: 404, 405, then 415.

use super::{
    api::{self, groups, metrics, records, topics, trial, wire},
    console::{self, HTML, PICTURE, SCRIPT, STYLE},
    exchange::Exchange,
    openapi,
    refusal::{Refusal, Stop},
    request::{Framing, Head},
};
use crate::log::record::shown;

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
    pub(super) run: fn(&mut Exchange<'_, '_>) -> Result<(), Stop>,
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
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub(super) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

const fn parameter(name: &'static str, means: &'static str) -> Parameter {
    Parameter { name, means }
}

const PARTITION: Parameter = parameter("partition", "the partition; without it all");
const FROM: Parameter = parameter(
    "from",
    "earliest, latest, an offset, -N, a time, a time ago such as 15m, or what a page calls next or previous",
);
const TO: Parameter =
    parameter("to", "where to end, exclusively: earliest, latest, an offset, -N, a time or a time ago");
const ISOLATION: Parameter = parameter("isolation", "read_committed, or read_uncommitted");
const MATCH: Parameter = parameter("match", "only records with this in their key, their value or a header");
const KEY: Parameter = parameter("key", "only records with this key");
const HEADER: Parameter = parameter("header.NAME", "only records whose header NAME has this value");

/// What is asked of records.
const READING: [Parameter; 10] = [
    PARTITION,
    FROM,
    TO,
    parameter("count", "how many records at most; a page has 100"),
    parameter("max_bytes", "how many bytes their lines in the log may have together; one is given in any case"),
    parameter("wait", "how long to wait for records, such as 500ms or 30s; not for events, which have no end"),
    ISOLATION,
    MATCH,
    KEY,
    HEADER,
];
const EXPORTING: [Parameter; 8] =
    [PARTITION, FROM, TO, ISOLATION, MATCH, KEY, HEADER, parameter("format", "ndjson or csv")];

macro_rules! routes {
    ($($method:literal $path:literal $does:literal query $query:expr, takes $takes:expr, gives $gives:expr => $run:expr;)*) => {
        &[$(Route { method: $method, path: $path, does: $does, query: &$query, takes: &$takes, gives: &$gives, run: $run }),*]
    };
}

/// All routes.
pub(super) static ROUTES: &[Route] = routes! {
    "GET" "/" "the console, for a browser" query [], takes [], gives [HTML] => console::page;
    "GET" "/console/{file}" "a file of the console" query [], takes [], gives [HTML, PICTURE, SCRIPT, STYLE] => console::file;
    "GET" "/api" "list the routes" query [], takes [], gives [JSON] => api::list;
    "GET" "/api/openapi.json" "describe the routes as OpenAPI 3.1" query [], takes [], gives [JSON] => openapi::document;
    "GET" "/api/topics" "list the topics with their partitions, records and bytes" query [parameter("internal", "true: the broker's own too")], takes [], gives [JSON] => topics::list;
    "POST" "/api/topics" "make a topic: name, partitions, configs" query [], takes [JSON], gives [JSON] => topics::create;
    "GET" "/api/topics/{topic}" "describe a topic and its partitions" query [], takes [], gives [JSON] => topics::describe;
    "PATCH" "/api/topics/{topic}" "add partitions, change configs (null: back to the default)" query [], takes [JSON], gives [JSON] => topics::alter;
    "DELETE" "/api/topics/{topic}" "delete a topic with all its records" query [], takes [], gives [JSON] => topics::delete;
    "POST" "/api/topics/{topic}/records" "store records: an array, an object a line, or a value a line" query [parameter("key", "the key of records that have none"), parameter("partition", "the partition of all")], takes [JSON, NDJSON, BYTES], gives [JSON] => records::write;
    "GET" "/api/topics/{topic}/records" "read or search records: a page, all to the end, or as they come" query READING, takes [], gives [JSON, NDJSON, EVENTS] => records::read;
    "GET" "/api/topics/{topic}/export" "download records as a file" query EXPORTING, takes [], gives [NDJSON, CSV] => records::export;
    "DELETE" "/api/topics/{topic}/records" "delete the records of a partition before a position" query [parameter("partition", "the partition"), parameter("before", "earliest, latest, an offset, -N, a time, or a time ago such as 15m")], takes [], gives [JSON] => topics::trim;
    "GET" "/api/groups" "list the groups" query [parameter("topic", "only groups that read this topic")], takes [], gives [JSON] => groups::list;
    "GET" "/api/groups/{group}" "describe a group: members, assignments, committed offsets, lag" query [], takes [], gives [JSON] => groups::describe;
    "DELETE" "/api/groups/{group}" "forget a group without members" query [], takes [], gives [JSON] => groups::delete;
    "POST" "/api/groups/{group}/offsets" "commit offsets for a group without members" query [], takes [JSON], gives [JSON] => groups::commit;
    "POST" "/api/groups/{group}/reset" "set how far a group without members has read, or tell what that would do" query [], takes [JSON], gives [JSON] => groups::reset;
    "GET" "/api/transactions" "list the transactions that are open or being ended" query [parameter("all", "true: every transactional id")], takes [], gives [JSON] => api::transactions;
    "GET" "/api/cluster" "tell about the broker: version, uptime, flush mode, data directory, features" query [], takes [], gives [JSON] => api::cluster;
    "GET" "/api/connections" "list who is connected: address, protocol, client, requests, bytes" query [], takes [], gives [JSON] => api::connections;
    "GET" "/metrics" "what the broker counts, for Prometheus" query [], takes [], gives [OPENMETRICS, PROMETHEUS] => metrics::scrape;
    "GET" "/api/wire" "show the exchanges of Kafka's protocol and of the text protocol as they happen, with every byte and field" query [], takes [], gives [EVENTS] => wire::watch;
    "POST" "/api/wire" "switch that on or off, for a connection, a client's name, an API or a verb" query [], takes [JSON], gives [JSON] => wire::set;
    "POST" "/api/try" "send a line, or a call of a Kafka client, over a connection to this port, and show its bytes and fields and the answer's" query [], takes [JSON], gives [JSON] => trial::run;
    "GET" "/health" "200 while the broker serves" query [], takes [], gives [JSON] => api::health;
    "GET" "/ready" "200, or 503 with each partition that is offline or read-only" query [], takes [], gives [JSON] => api::ready;
};

/// The number of requests that found no route.
pub(super) const NONE: usize = crate::metrics::ROWS_MAX - 1;

/// A route's number in the table.
pub(super) fn number(route: &'static Route) -> usize {
    ROUTES.iter().position(|one| std::ptr::eq(one, route)).expect("it stands in the table")
}

/// The route of a request, and what stands in its address for the segments in `{}`.
pub(super) fn find(head: &Head) -> Result<(&'static Route, Vec<String>), Refusal> {
    let mut fitting = ROUTES.iter().filter_map(|route| Some((route, fit(route.path, &head.path)?))).peekable();
    if fitting.peek().is_none() {
        let path = shown(head.target.as_bytes());
        return Err(Refusal::new(404, format!("there is nothing at '{path}'; GET /api lists what there is")));
    }
    let asked = if head.method == "HEAD" { "GET" } else { &head.method };
    let found = fitting.find(|(route, _)| route.method == asked);
    let (route, parameters) = found.ok_or_else(|| {
        let methods = methods_of(&head.path).join(", ");
        Refusal::new(405, format!("{} is not for this address; it takes {methods}", shown(head.method.as_bytes())))
    })?;
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
    Ok((route, parameters))
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
pub(super) fn methods_of(path: &[String]) -> Vec<&'static str> {
    let fitting = ROUTES.iter().filter(|route| fit(route.path, path).is_some());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str, headers: &str) -> Result<(&'static Route, Vec<String>), Refusal> {
        let text = format!("{line} HTTP/1.1\r\nHost: localhost:9092\r\n{headers}\r\n");
        find(&Head::parse(text.as_bytes()).unwrap().unwrap().0)
    }

    fn status(line: &str, headers: &str) -> u16 {
        asked(line, headers).err().map_or(200, |refusal| refusal.status)
    }

    #[test]
    fn address_and_method_are_judged_before_the_type() {
        assert_eq!(status("GET /api/topics", ""), 200);
        assert_eq!(status("HEAD /api/topics", ""), 200);
        assert_eq!(status("GET /api/topics/", ""), 404, "a topic has a name");
        assert_eq!(status("GET /api/topics/../groups", ""), 404);
        assert_eq!(status("POST /nowhere", ""), 404);
        assert_eq!(status("PUT /api/topics", ""), 405);
        assert_eq!(status("POST /api/topics", ""), 415);
        assert_eq!(status("POST /api/topics", "Content-Type: text/plain\r\n"), 415);
        assert_eq!(status("POST /api/topics", "Content-Type: Application/JSON; charset=utf-8\r\n"), 200);
        assert_eq!(status("DELETE /api/topics/a", ""), 200);
        assert_eq!(status("DELETE /api/topics/a", "Content-Length: 2\r\n"), 415);
        assert_eq!(status("DELETE /api/topics/a", "Content-Length: 2\r\nContent-Type: application/json\r\n"), 200);
    }

    #[test]
    fn what_stands_for_a_segment_is_handed_over() {
        assert_eq!(asked("GET /api/topics/a%2Fb", "").unwrap().1, ["a/b"]);
        assert_eq!(asked("GET /api/topics", "").unwrap().1, [""; 0]);
    }

    #[test]
    fn a_wrong_type_is_told_with_a_command_that_is_right() {
        let refusal = asked("POST /api/topics?x=1", "").err().unwrap();
        let curl =
            "curl -X POST -H 'Content-Type: application/json' --data-binary @- 'http://localhost:9092/api/topics?x=1'";
        assert!(refusal.message.ends_with(curl), "{}", refusal.message);
    }

    #[test]
    fn routes_have_numbers() {
        assert_eq!(ROUTES[number(asked("GET /api", "").unwrap().0)].path, "/api");
        assert!(ROUTES.len() <= NONE);
    }

    #[test]
    fn a_misspelt_parameter_is_refused() {
        let refusal = asked("GET /api/groups?topc=a", "").err().unwrap();
        assert_eq!(refusal.message, "there is no parameter 'topc'; there are: topic");
    }
}
