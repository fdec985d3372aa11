//! The table of routes: the whole interface on one screen. Dispatch, `GET /api` and the OpenAPI document come from it.

#[cfg(feature = "users")]
use super::api::{acls, session, users};
use super::{
    api::{self, groups, metrics, records, topics, trial, wire},
    console::{self, HTML, PICTURE, SCRIPT, STYLE},
    exchange::Exchange,
    openapi,
    refusal::Stop,
    route::{BYTES, CSV, EVENTS, JSON, NDJSON, OPENMETRICS, PROMETHEUS, Parameter, Route, parameter},
};
use crate::protocol::needs::{
    CLUSTER_ALTER, CLUSTER_DESCRIBE, GROUP_DELETE, GROUP_DESCRIBE, MEMBER, NOTHING, SHOWN, TOPIC_ALTER, TOPIC_CREATE,
    TOPIC_DELETE, TOPIC_READ, TOPIC_SHOW, TOPIC_TRIM, TOPIC_WRITE,
};

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

/// What answers a request.
pub(super) type Handler = fn(&mut Exchange<'_, '_>) -> Result<(), Stop>;

macro_rules! routes {
    ($($(#[$if:meta])? $method:literal $path:literal $does:literal query $query:expr, takes $takes:expr, gives $gives:expr, needs $needs:expr => $run:expr;)*) => {
        /// All routes.
        pub(super) static ROUTES: &[Route] =
            &[$($(#[$if])? Route { method: $method, path: $path, does: $does, query: &$query, takes: &$takes, gives: &$gives, needs: $needs }),*];

        /// What answers each of them.
        pub(super) static HANDLERS: &[Handler] = &[$($(#[$if])? $run),*];
    };
}

routes! {
    "GET" "/" "the console, for a browser" query [], takes [], gives [HTML], needs NOTHING => console::page;
    "GET" "/console/{file}" "a file of the console" query [], takes [], gives [HTML, PICTURE, SCRIPT, STYLE], needs NOTHING => console::file;
    "GET" "/api" "list the routes" query [], takes [], gives [JSON], needs NOTHING => api::list;
    "GET" "/api/openapi.json" "describe the routes as OpenAPI 3.1" query [], takes [], gives [JSON], needs NOTHING => openapi::document;
    "GET" "/api/topics" "list the topics with their partitions, records and bytes" query [parameter("internal", "true: the broker's own too")], takes [], gives [JSON], needs SHOWN => topics::list;
    "POST" "/api/topics" "make a topic: name, partitions, configs" query [], takes [JSON], gives [JSON], needs TOPIC_CREATE => topics::create;
    "GET" "/api/topics/{topic}" "describe a topic and its partitions" query [], takes [], gives [JSON], needs TOPIC_SHOW => topics::describe;
    "PATCH" "/api/topics/{topic}" "add partitions, change configs (null: back to the default)" query [], takes [JSON], gives [JSON], needs TOPIC_ALTER => topics::alter;
    "DELETE" "/api/topics/{topic}" "delete a topic with all its records" query [], takes [], gives [JSON], needs TOPIC_DELETE => topics::delete;
    "POST" "/api/topics/{topic}/records" "store records: an array, an object a line, or a value a line" query [parameter("key", "the key of records that have none"), parameter("partition", "the partition of all")], takes [JSON, NDJSON, BYTES], gives [JSON], needs TOPIC_WRITE => records::write;
    "GET" "/api/topics/{topic}/records" "read or search records: a page, all to the end, or as they come" query READING, takes [], gives [JSON, NDJSON, EVENTS], needs TOPIC_READ => records::read;
    "GET" "/api/topics/{topic}/export" "download records as a file" query EXPORTING, takes [], gives [NDJSON, CSV], needs TOPIC_READ => records::export;
    "DELETE" "/api/topics/{topic}/records" "delete the records of a partition before a position" query [parameter("partition", "the partition"), parameter("before", "earliest, latest, an offset, -N, a time, or a time ago such as 15m")], takes [], gives [JSON], needs TOPIC_TRIM => topics::trim;
    "GET" "/api/groups" "list the groups" query [parameter("topic", "only groups that read this topic")], takes [], gives [JSON], needs SHOWN => groups::list;
    "GET" "/api/groups/{group}" "describe a group: members, assignments, committed offsets, lag" query [], takes [], gives [JSON], needs GROUP_DESCRIBE => groups::describe;
    "DELETE" "/api/groups/{group}" "forget a group without members" query [], takes [], gives [JSON], needs GROUP_DELETE => groups::delete;
    "POST" "/api/groups/{group}/offsets" "commit offsets for a group without members" query [], takes [JSON], gives [JSON], needs MEMBER => groups::commit;
    "POST" "/api/groups/{group}/reset" "set how far a group without members has read, or tell what that would do" query [], takes [JSON], gives [JSON], needs MEMBER => groups::reset;
    "GET" "/api/transactions" "list the transactions that are open or being ended" query [parameter("all", "true: every transactional id")], takes [], gives [JSON], needs SHOWN => api::transactions;
    #[cfg(feature = "users")] "GET" "/api/acls" "list the rules that say who may do what" query acls::FILTER, takes [], gives [JSON], needs CLUSTER_DESCRIBE => acls::list;
    #[cfg(feature = "users")] "POST" "/api/acls" "make a rule: resource_type, resource_name, pattern_type, principal, host, operation, permission_type" query [], takes [JSON], gives [JSON], needs CLUSTER_ALTER => acls::create;
    #[cfg(feature = "users")] "DELETE" "/api/acls" "delete rules, and list them" query acls::FILTER, takes [], gives [JSON], needs CLUSTER_ALTER => acls::delete;
    #[cfg(feature = "users")] "GET" "/api/me" "tell who asks, and what one may do: on the cluster, and on a topic or a group" query [parameter("topic", "a topic"), parameter("group", "a group")], takes [], gives [JSON], needs NOTHING => session::me;
    #[cfg(feature = "users")] "POST" "/api/login" "open a session of a browser: user, password" query [], takes [JSON], gives [JSON], needs NOTHING => session::open_session;
    #[cfg(feature = "users")] "POST" "/api/logout" "end that session" query [], takes [JSON], gives [JSON], needs NOTHING => session::close_session;
    #[cfg(feature = "users")] "GET" "/api/users" "list the broker's own users" query [], takes [], gives [JSON], needs CLUSTER_DESCRIBE => users::list;
    #[cfg(feature = "users")] "POST" "/api/users" "make a user: name, password" query [], takes [JSON], gives [JSON], needs CLUSTER_ALTER => users::create;
    #[cfg(feature = "users")] "PATCH" "/api/users/{user}" "give a user another password" query [], takes [JSON], gives [JSON], needs CLUSTER_ALTER => users::alter;
    #[cfg(feature = "users")] "DELETE" "/api/users/{user}" "delete a user, end its connections, and tell how many rules still name it" query [], takes [], gives [JSON], needs CLUSTER_ALTER => users::delete;
    "GET" "/api/cluster" "tell about the broker: version, uptime, flush mode, data directory, features" query [], takes [], gives [JSON], needs SHOWN => api::cluster;
    "GET" "/api/connections" "list who is connected: address, protocol, client, requests, bytes" query [], takes [], gives [JSON], needs CLUSTER_DESCRIBE => api::connections;
    "GET" "/metrics" "what the broker counts, for Prometheus" query [], takes [], gives [OPENMETRICS, PROMETHEUS], needs SHOWN => metrics::scrape;
    "GET" "/api/wire" "show the exchanges of Kafka's protocol and of the text protocol as they happen, with every byte and field" query [parameter("after", "only exchanges with a larger number")], takes [], gives [EVENTS], needs CLUSTER_ALTER => wire::watch;
    "POST" "/api/wire" "switch that on or off, for a connection, a client's name, an API or a verb" query [], takes [JSON], gives [JSON], needs CLUSTER_ALTER => wire::set;
    "POST" "/api/try" "send a line, or a call of a Kafka client, over a connection to this port, and show its bytes and fields and the answer's" query [], takes [JSON], gives [JSON], needs NOTHING => trial::run;
    "GET" "/health" "200 while the broker serves" query [], takes [], gives [JSON], needs NOTHING => api::health;
    "GET" "/ready" "200, or 503 with each partition that is offline or read-only" query [], takes [], gives [JSON], needs SHOWN => api::ready;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http::{refusal::Refusal, request::Head, route};

    fn asked(line: &str, headers: &str) -> Result<(usize, Vec<String>), Refusal> {
        let text = format!("{line} HTTP/1.1\r\nHost: localhost:9092\r\n{headers}\r\n");
        route::find(ROUTES, &Head::parse(text.as_bytes()).unwrap().unwrap().0)
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
        assert_eq!(ROUTES[asked("GET /api", "").unwrap().0].path, "/api");
        assert!(ROUTES.len() <= route::NONE);
    }

    #[test]
    fn a_misspelt_parameter_is_refused() {
        let refusal = asked("GET /api/groups?topc=a", "").err().unwrap();
        assert_eq!(refusal.message, "there is no parameter 'topc'; there are: topic");
    }
}
