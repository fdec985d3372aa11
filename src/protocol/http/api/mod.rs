//! The API: what each route does. A family of routes has its own file.
//!
//! Names are Kafka's, numbers are numbers, times are milliseconds since 1970-01-01 UTC. A list is an object with one array.

#[cfg(feature = "users")]
pub(super) mod acls;
pub(super) mod groups;
pub(super) mod metrics;
pub(super) mod records;
#[cfg(feature = "users")]
pub(super) mod session;
pub(super) mod topics;
pub(super) mod trial;
#[cfg(feature = "users")]
pub(super) mod users;
pub(super) mod wire;

use super::{
    exchange::Exchange,
    refusal::{Refusal, Stop},
    route::Route,
};
use crate::{
    broker::{Fault, Nodes, TransactionSummary},
    metrics::{Connection, TrafficSum},
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The largest body of a request that is one JSON object.
const OBJECT_BYTES_MAX: usize = 1 << 20;

/// `GET /api`
pub(super) fn list(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let route = |route: &Route| {
        let query: Map<_, _> = route.query.iter().map(|known| (known.name.into(), known.means.into())).collect();
        json!({ "method": route.method, "path": route.path, "does": route.does, "query": query, "takes": route.takes, "gives": route.gives, "needs": route.needs.to_string() })
    };
    exchange.json(200, &json!({ "routes": exchange.routes.iter().map(route).collect::<Vec<_>>() }))
}

/// `GET /api/transactions`
pub(super) fn transactions(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let all = truth(exchange, "all")?;
    let transactions = exchange.broker.transactions()?.into_iter().filter(|one| all || one.is_open());
    let described = |one: TransactionSummary| {
        json!({
            "transactional_id": &*one.transactional_id,
            "state": one.state,
            "producer_id": one.producer.id,
            "producer_epoch": one.producer.epoch,
            "timeout_ms": one.timeout_ms,
            "since_ms": one.since_ms,
            "partitions": one.partitions,
        })
    };
    let answer = json!({ "transactions": transactions.map(described).collect::<Vec<_>>() });
    exchange.json(200, &answer)
}

/// `GET /api/cluster`
pub(super) fn cluster(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let (broker, config, metrics) = (exchange.broker, exchange.broker.config(), exchange.broker.metrics());
    let TrafficSum { records_in, bytes_in, records_read, bytes_read } = broker.traffic();
    let features = [("comfort", cfg!(feature = "comfort")), ("http", true), ("kafka", cfg!(feature = "kafka"))];
    let nodes = broker.nodes();
    // Where records live on nodes, it is theirs.
    let is_here = nodes.is_none();
    // What all do together is for those who may see all.
    let sees_all = broker.may_see_cluster().is_ok();
    let count = |count: u64| sees_all.then_some(count);
    let data_dir = config.data_dir.as_ref().filter(|_| sees_all);
    let mut answer = json!({
        "cluster_id": broker.cluster_id(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_ms": metrics.uptime().as_millis() as u64,
        "flush": is_here.then(|| config.flush.to_string()),
        "data_dir": data_dir.map(|dir| dir.display().to_string()),
        "features": features.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| *name).collect::<Vec<_>>(),
        "auto_create": config.auto_create,
        "default_partitions": is_here.then_some(config.default_partitions),
        "topics": broker.topic_count(),
        "connections": count(metrics.connections.count() as u64),
        "text_requests": count(metrics.text.count()),
        "kafka_requests": count(metrics.kafka.count()),
        "http_requests": count(metrics.http.count()),
        "errors": count(metrics.errors()),
        "records_in": records_in,
        "bytes_in": bytes_in,
        "records_read": records_read,
        "bytes_read": bytes_read,
        "syncs": count(broker.syncs().count()),
        "rebalances": count(metrics.rebalances.get()),
        "damaged_batches": count(broker.damaged_batches()),
        "resident_bytes": metrics::resident_bytes().and_then(count),
    });
    if let Some(Nodes { there, missing, leaderless, .. }) = nodes {
        let there = there.iter().map(|node| json!({ "id": node.id, "host": node.host, "port": node.port }));
        answer["nodes"] = there.collect();
        answer["nodes_missing"] = missing.keys().copied().collect();
        answer["partitions_leaderless"] = leaderless.len().into();
    }
    exchange.json(200, &answer)
}

/// `GET /api/connections`
pub(super) fn connections(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let described = |one: Arc<Connection>| {
        let sum = one.sum();
        json!({
            "id": one.id,
            "address": one.address.to_string(),
            "protocol": one.protocol(),
            "client": one.client(),
            "connected_ms": one.connected_ms,
            "last_request_ms": one.last_request_ms(),
            "requests": sum.requests,
            "bytes_in": sum.bytes_in,
            "bytes_out": sum.bytes_out,
        })
    };
    exchange.broker.may_see_cluster()?;
    let all = exchange.broker.metrics().connections.all();
    exchange.json(200, &json!({ "connections": all.into_iter().map(described).collect::<Vec<_>>() }))
}

/// `GET /health`
pub(super) fn health(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    exchange.json(200, &json!({ "status": "serving" }))
}

/// `GET /ready`
pub(super) fn ready(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let faults = exchange.broker.faults();
    let ready = exchange.broker.is_ready();
    let status = if ready { 200 } else { 503 };
    let told =
        |Fault { topic, partition, why }: &Fault| json!({ "topic": topic, "partition": partition, "message": why });
    exchange.json(status, &json!({ "ready": ready, "faults": faults.iter().map(told).collect::<Vec<_>>() }))
}

/// A parameter of the query that is `true` or `false`; without it, false.
fn truth(exchange: &Exchange<'_, '_>, name: &str) -> Result<bool, Refusal> {
    match exchange.head.query.text(name)? {
        None | Some("false") => Ok(false),
        Some("true" | "") => Ok(true),
        Some(other) => Err(Refusal::invalid(format!("{name}= is true or false, not '{other}'"))),
    }
}

/// The members of a JSON object, each of which is taken once and none of which may be left.
struct Object(Map<String, Value>);

impl Object {
    /// The object that a body is.
    fn of(value: Value) -> Result<Object, Refusal> {
        match value {
            Value::Object(members) => Ok(Object(members)),
            _ => Err(Refusal::invalid("the body is a JSON object")),
        }
    }

    /// A member by its name, if it is there and not null, as `read` takes it; `expected` says what it is.
    fn take<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        match self.0.shift_remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let not_it = || Refusal::invalid(format!("\"{name}\" is {expected}"));
                read(value).map(Some).ok_or_else(not_it)
            }
        }
    }

    /// A member that must be there.
    fn expect<T>(&mut self, name: &str, expected: &str, read: impl FnOnce(Value) -> Option<T>) -> Result<T, Refusal> {
        let missing = || Refusal::invalid(format!("\"{name}\" is missing; it is {expected}"));
        self.take(name, expected, read)?.ok_or_else(missing)
    }

    /// An error if there is another member.
    fn end(self) -> Result<(), Refusal> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(Refusal::invalid(format!("nothing is known of \"{name}\""))),
        }
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn number<T: TryFrom<u64>>(value: Value) -> Option<T> {
    value.as_u64().and_then(|number| number.try_into().ok())
}
