//! `GET /metrics`: what the broker counts, as Prometheus and OpenMetrics have it.
//!
//! ```text
//! kafka_...      the names and labels of kafka_exporter, which dashboards know
//! plainlog_...   what is this broker's own
//! process_...    what every program tells
//! ```
//!
//! A scrape opens no log. A partition whose numbers only opening it would tell has no row until somebody has used it. What groups
//! have committed is read back at the first scrape, as at any other first use of a group.
//!
//! Each is told of the topics and groups that it may describe; what all do together is told to those who may describe the cluster. With
//! `--metrics-open` everybody is told everything, without a login, too.

#[cfg(feature = "kafka")]
use crate::protocol::kafka;
use crate::{
    backend::Backend,
    broker::{ObservedGroup, ObservedPartition, ObservedTopic, ShareCounts},
    metrics::{ConnectionSum, LatencySum, Metrics, Requested, Requests, TrafficSum},
    protocol::{
        http::{
            exchange::Exchange,
            refusal::Stop,
            route::{OPENMETRICS, PROMETHEUS, Route},
        },
        text,
    },
};
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, LabelSetEncoder, prometheus_text, text as open_text,
    },
    metrics::MetricType,
    registry::Registry,
};
use std::{collections::HashMap, fmt, time::Duration};

/// `GET /metrics`
pub(in crate::protocol::http) fn scrape(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Observed::of(&exchange.broker.for_metrics(), exchange.routes)?));
    let (mut text, is_open) = (String::new(), exchange.head.accepts("accept", "application/openmetrics-text"));
    let (content_type, encoded) = match is_open {
        true => (OPENMETRICS, open_text::encode(&mut text, &registry)),
        false => (PROMETHEUS, prometheus_text::encode(&mut text, &registry)),
    };
    encoded.expect("a string takes everything");
    exchange.answer(200, content_type, "", text.as_bytes())
}

/// All that a scrape tells, at one moment.
#[derive(Debug)]
struct Observed {
    topics: Vec<ObservedTopic>,
    groups: Vec<ObservedGroup>,
    open_transactions: usize,
    faults: usize,
    /// How many brokers there are.
    nodes: usize,
    uptime: Duration,
    /// What all do together, for those who may see it.
    of_all: Option<OfAll>,
}

/// What is counted of all together.
#[derive(Debug)]
struct OfAll {
    requests: Vec<ObservedRequests>,
    connections: Vec<(&'static str, ConnectionSum)>,
    syncs: LatencySum,
    produce_to_sync: LatencySum,
    rebalances: u64,
    shares_in_flight: u64,
    /// What was done with records of share groups, each by a word.
    shared: [(&'static str, u64); 6],
    damaged_batches: u64,
    resident_bytes: Option<u64>,
}

/// Requests that ask for the same.
#[derive(Debug)]
struct ObservedRequests {
    protocol: &'static str,
    /// The verb, the API, or method and path of the route.
    request: String,
    took: LatencySum,
    errors: u64,
}

impl Observed {
    fn of(broker: &Backend, routes: &[Route]) -> Result<Observed, Stop> {
        let metrics = broker.metrics();
        Ok(Observed {
            topics: broker.observe_topics(),
            groups: broker.observe_groups()?,
            open_transactions: broker.transactions()?.iter().filter(|one| one.is_open()).count(),
            faults: broker.faults().len(),
            nodes: broker.nodes().map_or(1, |nodes| nodes.there.len()),
            uptime: metrics.uptime(),
            of_all: broker.may_see_cluster().is_ok().then(|| OfAll::of(broker, routes)),
        })
    }
}

impl OfAll {
    fn of(broker: &Backend, routes: &[Route]) -> OfAll {
        let metrics = broker.metrics();
        OfAll {
            requests: requests(metrics, routes),
            connections: metrics.connections.sums().into_iter().collect(),
            syncs: broker.syncs(),
            produce_to_sync: metrics.produce_to_sync.get(),
            rebalances: metrics.rebalances.get(),
            shares_in_flight: broker.shares_in_flight(),
            shared: shared(broker.share_counts()),
            damaged_batches: broker.damaged_batches(),
            resident_bytes: resident_bytes(),
        }
    }
}

fn shared(counts: &ShareCounts) -> [(&'static str, u64); 6] {
    [
        ("delivered", counts.delivered.get()),
        ("redelivered", counts.redelivered.get()),
        ("accepted", counts.accepted.get()),
        ("released", counts.released.get()),
        ("rejected", counts.rejected.get()),
        ("exhausted", counts.exhausted.get()),
    ]
}

/// The requests of all protocols, those for what stands in no table too.
fn requests(metrics: &Metrics, routes: &[Route]) -> Vec<ObservedRequests> {
    let of = |protocol, requests: &Requests, name: &dyn Fn(usize) -> Option<String>| {
        let row = |(number, row): (usize, &Requested)| ObservedRequests {
            protocol,
            request: name(number).unwrap_or_else(|| "none".into()),
            took: row.took.get(),
            errors: row.errors.get(),
        };
        requests.rows().map(row).collect::<Vec<_>>()
    };
    let route = |number: usize| routes.get(number).map(|route| format!("{} {}", route.method, route.path));
    let mut all = of("text", &metrics.text, &|number| text::verb_name(number).map(String::from));
    #[cfg(feature = "kafka")]
    all.extend(of("kafka", &metrics.kafka, &|number| kafka::APIS.get(number).map(|api| api.name.into())));
    all.extend(of("http", &metrics.http, &route));
    all
}

/// The memory that this process has, where the system tells it.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    kibibytes.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

impl Collector for Observed {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.encode_topics(&mut out)?;
        self.encode_groups(&mut out)?;
        self.of_all.iter().try_for_each(|of_all| of_all.encode(&mut out))?;
        self.encode_broker(&mut out)
    }
}

impl Observed {
    fn encode_topics(&self, out: &mut Out<'_>) -> fmt::Result {
        let topics = || self.topics.iter();
        let of_topic = |topic: &'_ ObservedTopic| [("topic", topic.name.clone())];
        let partitions = |number: fn(&ObservedPartition) -> u64| {
            topics().flat_map(move |topic| {
                let known =
                    topic.partitions.iter().enumerate().filter_map(|(index, size)| Some((index, size.as_ref()?)));
                known.map(move |(index, size)| {
                    (([("topic", &*topic.name)], [("partition", index as u64)]), number(size))
                })
            })
        };
        // What only the disk tells has no row where that is another's.
        let sizes = |number: fn(&ObservedPartition) -> Option<u64>| {
            topics().filter_map(move |topic| {
                let sum: Option<u64> = topic.partitions.iter().flatten().map(number).sum();
                Some((of_topic(topic), sum?))
            })
        };
        let traffic =
            |number: fn(&TrafficSum) -> u64| topics().map(move |topic| (of_topic(topic), number(&topic.traffic)));
        let count = topics().map(|topic| (of_topic(topic), topic.partitions.len() as u64));
        out.gauges("kafka_brokers", "Brokers", [(NoLabels, self.nodes as u64)])?;
        out.gauges("kafka_topic_partitions", "Partitions of a topic", count)?;
        let name = "kafka_topic_partition_current_offset";
        out.gauges(name, "Offset behind the last record of a partition that readers see", partitions(|size| size.end))?;
        let name = "kafka_topic_partition_oldest_offset";
        out.gauges(name, "Offset of the first record of a partition", partitions(|size| size.start))?;
        out.gauges("plainlog_topic_size_bytes", "Bytes of lines that a topic has on disk", sizes(|size| size.bytes))?;
        out.gauges(
            "plainlog_topic_segments",
            "Segments of a topic",
            sizes(|size| size.segments.map(|count| count as u64)),
        )?;
        out.counters("plainlog_topic_records_in", "Records that were stored", traffic(|sum| sum.records_in))?;
        out.counters("plainlog_topic_bytes_in", "Bytes of the lines that were stored", traffic(|sum| sum.bytes_in))?;
        out.counters(
            "plainlog_topic_records_out",
            "Records of the batches that were read for clients",
            traffic(|sum| sum.records_read),
        )?;
        out.counters(
            "plainlog_topic_bytes_out",
            "Bytes of the lines that were read for clients",
            traffic(|sum| sum.bytes_read),
        )
    }

    fn encode_groups(&self, out: &mut Out<'_>) -> fmt::Result {
        let topics: HashMap<&str, &ObservedTopic> = self.topics.iter().map(|topic| (&*topic.name, topic)).collect();
        let members = self.groups.iter().map(|group| ([("consumergroup", &*group.name)], group.members as u64));
        out.gauges("kafka_consumergroup_members", "Members of a group", members)?;
        let offsets = || {
            self.groups.iter().flat_map(|group| {
                group.offsets.iter().map(|offset| {
                    let names = [("consumergroup", &*group.name), ("topic", &*offset.topic)];
                    ((names, [("partition", u64::from(offset.partition))]), offset)
                })
            })
        };
        let committed = offsets().map(|(labels, offset)| (labels, offset.committed));
        out.gauges("kafka_consumergroup_current_offset", "Offset that a group has committed", committed)?;
        let lag = offsets().filter_map(|(labels, offset)| {
            let partition = topics.get(&*offset.topic)?.partitions.get(offset.partition as usize)?;
            let behind = partition.as_ref()?.end.saturating_sub(offset.committed.max(0) as u64);
            Some((labels, behind.saturating_sub(offset.done)))
        });
        out.gauges("kafka_consumergroup_lag", "Offsets that a group has still to read", lag)
    }

    fn encode_broker(&self, out: &mut Out<'_>) -> fmt::Result {
        let open = self.open_transactions as u64;
        out.gauges("plainlog_open_transactions", "Transactions that are open or being ended", [(NoLabels, open)])?;
        let help = "Topics and partitions that are offline or read-only";
        out.gauges("plainlog_faults", help, [(NoLabels, self.faults as u64)])?;
        let version = [([("version", env!("CARGO_PKG_VERSION"))], 1)];
        out.gauges("plainlog_build_info", "The version that runs", version)?;
        out.gauges("plainlog_uptime_seconds", "Time since the start", [(NoLabels, self.uptime.as_secs())])
    }
}

impl OfAll {
    fn encode(&self, out: &mut Out<'_>) -> fmt::Result {
        self.encode_requests(out)?;
        self.encode_work(out)
    }

    fn encode_requests(&self, out: &mut Out<'_>) -> fmt::Result {
        let labels =
            |row: &'_ ObservedRequests| [("protocol", row.protocol.to_owned()), ("request", row.request.clone())];
        let rows = || self.requests.iter();
        let count = rows().map(|row| (labels(row), row.took.count()));
        out.counters("plainlog_requests", "Requests that were carried out or refused", count)?;
        let errors = rows().map(|row| (labels(row), row.errors));
        out.counters("plainlog_request_errors", "Requests that were refused, wholly or in part", errors)?;
        let took = rows().map(|row| (labels(row), &row.took));
        out.latencies("plainlog_request_duration_seconds", "Time that requests took, their waits included", took)
    }

    fn encode_work(&self, out: &mut Out<'_>) -> fmt::Result {
        let connections = |number: fn(&ConnectionSum) -> u64| {
            self.connections.iter().map(move |(protocol, sum)| ([("protocol", *protocol)], number(sum)))
        };
        out.gauges("plainlog_open_connections", "Connections that there are", connections(|sum| sum.open))?;
        out.counters("plainlog_connections", "Connections that came", connections(|sum| sum.connections))?;
        out.counters("plainlog_received_bytes", "Bytes that clients sent", connections(|sum| sum.bytes_in))?;
        out.counters("plainlog_sent_bytes", "Bytes that were sent to clients", connections(|sum| sum.bytes_out))?;
        let name = "plainlog_produce_to_sync_duration_seconds";
        let help = "Time from when records began to be written until they were synced, where that is promised";
        out.latencies(name, help, [(NoLabels, &self.produce_to_sync)])?;
        let help = "Time that syncs of segments took";
        out.latencies("plainlog_sync_duration_seconds", help, [(NoLabels, &self.syncs)])?;
        out.counters("plainlog_rebalances", "Generations that groups began", [(NoLabels, self.rebalances)])?;
        let help =
            "Records of share groups that were delivered (redelivered is part of it), accepted, released or given up";
        let shared = self.shared.iter().map(|(event, count)| ([("event", *event)], *count));
        out.counters("plainlog_shared_records", help, shared)?;
        let help = "Records that members of share groups hold";
        out.gauges("plainlog_shared_records_in_flight", help, [(NoLabels, self.shares_in_flight)])?;
        let help = "Times that a batch was met that is not what its checksum says";
        out.counters("plainlog_damaged_batches", help, [(NoLabels, self.damaged_batches)])?;
        let resident = self.resident_bytes.map(|bytes| (NoLabels, bytes));
        out.gauges("process_resident_memory_bytes", "Memory that the process has", resident)
    }
}

/// The labels of what has none.
#[derive(Clone, Copy, Debug)]
struct NoLabels;

impl EncodeLabelSet for NoLabels {
    fn encode(&self, _: &mut LabelSetEncoder<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Where metrics go: each has a name, a sentence, and a row for each set of labels.
struct Out<'e>(DescriptorEncoder<'e>);

impl Out<'_> {
    fn gauges<L: EncodeLabelSet, N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, N)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        rows.into_iter().try_for_each(|(labels, number)| metric.encode_family(&labels)?.encode_gauge(&number))
    }

    /// The name gets the end `_total`.
    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        let count = |(labels, number): (L, u64)| {
            metric.encode_family(&labels)?.encode_counter::<NoLabels, _, u64>(&number, None)
        };
        rows.into_iter().try_for_each(count)
    }

    fn latencies<'r, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, &'r LatencySum)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        rows.into_iter().try_for_each(|(labels, took)| {
            let (sum, count, buckets) = (took.sum.as_secs_f64(), took.count(), took.in_seconds());
            metric.encode_family(&labels)?.encode_histogram::<NoLabels>(sum, count, &buckets, None)
        })
    }
}
