//! Settings as Kafka's clients see and change them. What is expected was asked of Apache Kafka 4.3.1.

use super::*;
use kafka_protocol::messages::{
    alter_configs_request as all, create_topics_request as create, describe_configs_request::DescribeConfigsResource,
    describe_configs_response::DescribeConfigsResourceResult, incremental_alter_configs_request as incremental,
};

fn describe(talk: &Talk, topic: &str) -> Vec<DescribeConfigsResourceResult> {
    let (code, configs) = describe_any(talk, 2, topic);
    assert_eq!(code, 0);
    configs
}

fn describe_any(talk: &Talk, kind: i8, name: &str) -> (i16, Vec<DescribeConfigsResourceResult>) {
    let resource = DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(s(name));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource.with_configuration_keys(None)]);
    let request = request.with_include_synonyms(true).with_include_documentation(true);
    let (response, _) = talk.ask(32, 4, &encoded(request, 4)).unwrap();
    let result = DescribeConfigsResponse::decode(&mut &response[..], 4).unwrap().results.remove(0);
    (result.error_code, result.configs)
}

/// Value and source of a config, and name, value and source of what it could be otherwise.
type Told = (String, i8, Vec<(String, String, i8)>);

fn told(talk: &Talk, topic: &str, name: &str) -> Told {
    let config = describe(talk, topic).into_iter().find(|config| config.name.as_str() == name).unwrap();
    let value = |value: Option<StrBytes>| value.unwrap().to_string();
    let synonyms = config.synonyms.into_iter().map(|it| (it.name.to_string(), value(it.value), it.source));
    (value(config.value), config.config_source, synonyms.collect())
}

/// Name, operation and value.
type Change<'a> = (&'a str, i8, Option<&'a str>);

fn alter(talk: &Talk, topic: &str, changes: &[Change<'_>]) -> i16 {
    alter_any(talk, 2, topic, changes)
}

fn alter_any(talk: &Talk, kind: i8, name: &str, changes: &[Change<'_>]) -> i16 {
    let change = |&(name, operation, value): &Change<'_>| {
        let config = incremental::AlterableConfig::default().with_name(s(name)).with_config_operation(operation);
        config.with_value(value.map(s))
    };
    let resource = incremental::AlterConfigsResource::default().with_resource_type(kind).with_resource_name(s(name));
    let resource = resource.with_configs(changes.iter().map(change).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let (response, _) = talk.ask(44, 1, &encoded(request, 1)).unwrap();
    IncrementalAlterConfigsResponse::decode(&mut &response[..], 1).unwrap().responses[0].error_code
}

/// A topic as CreateTopics asks for it.
#[derive(Debug)]
struct New<'a> {
    partitions: i32,
    factor: i16,
    /// Partition and the brokers that shall have it.
    assignments: &'a [(i32, &'a [i32])],
    configs: &'a [(&'a str, Option<&'a str>)],
}

fn of(partitions: i32, factor: i16) -> New<'static> {
    New { partitions, factor, assignments: &[], configs: &[] }
}

fn assigned<'a>(assignments: &'a [(i32, &'a [i32])]) -> New<'a> {
    New { assignments, ..of(-1, -1) }
}

fn make(talk: &Talk, name: &str, new: &New<'_>) -> i16 {
    make_all(talk, &[name], new)[0]
}

/// Asks for topics that are alike in one request; their error codes.
fn make_all(talk: &Talk, names: &[&str], new: &New<'_>) -> Vec<i16> {
    let topics = names.iter().map(|name| creatable(name, new)).collect();
    let (response, _) = talk.ask(19, 7, &encoded(CreateTopicsRequest::default().with_topics(topics), 7)).unwrap();
    CreateTopicsResponse::decode(&mut &response[..], 7).unwrap().topics.iter().map(|topic| topic.error_code).collect()
}

fn creatable(name: &str, new: &New<'_>) -> create::CreatableTopic {
    let topic = create::CreatableTopic::default().with_name(s(name).into()).with_num_partitions(new.partitions);
    let assignment = |(index, brokers): &(i32, &[i32])| {
        let assignment = create::CreatableReplicaAssignment::default().with_partition_index(*index);
        assignment.with_broker_ids(brokers.iter().map(|&id| id.into()).collect())
    };
    let config = |&(name, value): &(&str, Option<&str>)| {
        create::CreatableTopicConfig::default().with_name(s(name)).with_value(value.map(s))
    };
    let topic = topic.with_assignments(new.assignments.iter().map(assignment).collect());
    topic.with_replication_factor(new.factor).with_configs(new.configs.iter().map(config).collect())
}

const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

#[test]
fn a_config_is_told_with_where_it_comes_from_and_what_it_means() {
    let config = Config {
        topic_defaults: Settings { segment_bytes: 4096, retention_ms: 5, ..Settings::default() },
        ..Config::in_memory()
    };
    let talk = Talk::with(config);
    let one = |name: &str, value: &str, source| vec![(name.to_string(), value.to_string(), source)];
    assert_eq!(told(&talk, "there", "preallocate"), ("false".into(), 5, one("log.preallocate", "false", 5)));
    assert_eq!(told(&talk, "there", "segment.ms"), ("604800000".into(), 5, vec![]));
    assert_eq!(told(&talk, "there", "retention.ms"), ("5".into(), 4, one("log.retention.ms", "5", 4)));
    let both = [one("log.segment.bytes", "4096", 4), one("log.segment.bytes", "1073741824", 5)].concat();
    assert_eq!(told(&talk, "there", "segment.bytes"), ("4096".into(), 4, both.clone()));
    assert_eq!(alter(&talk, "there", &[("segment.bytes", SET, Some(" +2048 "))]), 0);
    let all = [one("segment.bytes", "2048", 1), both].concat();
    assert_eq!(told(&talk, "there", "segment.bytes"), ("2048".into(), 1, all));
    for config in describe(&talk, "there") {
        assert!(config.documentation.is_some_and(|text| !text.is_empty()), "{:?}", config.name);
    }
}

/// A client set `cleanup.policy` to "compact\n": it went into the topic's file as it was, the file was then none, and the topic was
/// gone after the next start.
#[test]
fn values_are_kept_in_canonical_form_however_they_are_set() {
    let talk = Talk::new();
    let value = |topic: &str, name: &str| told(&talk, topic, name).0;
    let own = [("cleanup.policy", Some("compact,\ndelete\n")), ("retention.ms", Some(" +02000000\t"))];
    assert_eq!(make(&talk, "created", &New { configs: &own, ..of(1, 1) }), 0);
    assert_eq!(value("created", "cleanup.policy"), "compact,delete");
    assert_eq!(value("created", "retention.ms"), "2000000");
    let ratio = "min.cleanable.dirty.ratio";
    for (change, kept) in [
        (("cleanup.policy", SET, Some("compact\n")), "compact"),
        (("cleanup.policy", APPEND, Some("delete\n")), "compact,delete"),
        (("cleanup.policy", SUBTRACT, Some(" compact ")), "delete"),
        (("cleanup.policy", SET, Some("")), ""),
        (("cleanup.policy", DELETE, None), "delete"),
        (("cleanup.policy", APPEND, Some("compact")), "delete,compact"),
        ((ratio, SET, Some(".25")), "0.25"),
        ((ratio, SET, Some("0x1p-1")), "0.5"),
        ((ratio, SET, Some("1")), "1.0"),
        (("retention.bytes", SET, Some("-7")), "-7"),
        (("preallocate", SET, Some("TRUE")), "true"),
    ] {
        assert_eq!(alter(&talk, "there", &[change]), 0, "{change:?}");
        assert_eq!(value("there", change.0), kept, "{change:?}");
    }
    let resource = all::AlterConfigsResource::default().with_resource_type(2).with_resource_name(s("there"));
    let policy =
        all::AlterableConfig::default().with_name(s("cleanup.policy")).with_value(Some(s("delete,\u{b}compact")));
    let request = AlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![policy])]);
    talk.ask(33, 1, &encoded(request, 1)).unwrap();
    assert_eq!(value("there", "cleanup.policy"), "delete,compact");
    assert_eq!(value("there", ratio), "0.5", "what AlterConfigs does not name returns to its default");
}

#[test]
fn changes_are_refused_in_kafkas_order() {
    let talk = Talk::new();
    let set = |name, value| (name, SET, Some(value));
    let (good, bad) = (set("retention.ms", "5"), set("retention.ms", "x"));
    for (topic, changes, code) in [
        ("there", vec![bad], 40),
        ("there", vec![set("nonsense", "1")], 40),
        ("there", vec![("nonsense", DELETE, None)], 0),
        ("there", vec![("retention.ms", APPEND, Some("5"))], 40),
        ("there", vec![("retention.ms", SET, None)], 42),
        ("there", vec![good, ("retention.ms", DELETE, None)], 42),
        ("there", vec![set("remote.storage.enable", "true")], 40),
        ("there", vec![], 0),
        // The name before the configs, these before the topic's existence.
        ("not-there", vec![bad], 40),
        ("not-there", vec![good], 3),
        ("not-there", vec![("nonsense", DELETE, None)], 3),
        ("not-there", vec![], 3),
        ("bad name", vec![bad], 17),
        ("bad name", vec![], 17),
        ("", vec![bad], 42),
        // What the request itself has wrong before the name.
        ("bad name", vec![("retention.ms", SET, None)], 42),
        ("bad name", vec![("retention.ms", APPEND, Some("5"))], 40),
        ("not-there", vec![good, good], 42),
    ] {
        assert_eq!(alter(&talk, topic, &changes), code, "'{topic}' {changes:?}");
    }
    assert_eq!(told(&talk, "there", "retention.ms").1, 5, "what was refused changed nothing");
}

#[test]
fn a_resource_that_stands_twice_is_refused_twice() {
    let talk = Talk::new();
    let config = incremental::AlterableConfig::default().with_name(s("retention.ms")).with_value(Some(s("5")));
    let resource = incremental::AlterConfigsResource::default().with_resource_type(2).with_resource_name(s("there"));
    let resource = resource.with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource.clone(), resource]);
    let (response, _) = talk.ask(44, 1, &encoded(request, 1)).unwrap();
    let response = IncrementalAlterConfigsResponse::decode(&mut &response[..], 1).unwrap();
    assert_eq!(response.responses.iter().map(|one| one.error_code).collect::<Vec<_>>(), [42, 42]);
}

#[test]
fn a_brokers_configs_are_set_while_it_runs() {
    let talk = Talk::new();
    let set = |name, value| (name, SET, Some(value));
    let of_broker = |broker: &str, name: &str| {
        let config = describe_any(&talk, BROKER, broker).1.into_iter().find(|config| config.name.as_str() == name);
        config.map(|config| (config.value.map(|value| value.to_string()), config.config_source, config.is_sensitive))
    };
    let told_of = |value: &str, source| Some((Some(value.to_string()), source, false));
    assert_eq!(of_broker("1", "log.retention.ms"), told_of("604800000", 5));
    assert_eq!(alter_any(&talk, BROKER, "", &[set("log.retention.ms", "100")]), 0);
    assert_eq!(
        told(&talk, "there", "retention.ms"),
        ("100".into(), 3, vec![("log.retention.ms".into(), "100".into(), 3)])
    );
    assert_eq!(alter_any(&talk, BROKER, "1", &[set("log.retention.ms", "200"), set("of.a.plugin", "secret")]), 0);
    let both = [("200", 2), ("100", 3)].map(|(value, source)| ("log.retention.ms".into(), value.into(), source));
    assert_eq!(told(&talk, "there", "retention.ms"), ("200".into(), 2, both.into()));
    assert_eq!(
        [of_broker("", "log.retention.ms"), of_broker("1", "log.retention.ms")],
        [told_of("100", 3), told_of("200", 2)]
    );
    assert_eq!(of_broker("1", "of.a.plugin"), Some((None, 2, true)));
    assert_eq!(of_broker("1", "log.cleaner.backoff.ms"), told_of("15000", 5));
    assert_eq!(alter_any(&talk, BROKER, "1", &[set("log.cleaner.backoff.ms", "15001")]), 0);
    assert_eq!(of_broker("1", "log.cleaner.backoff.ms"), told_of("15001", 2));
    for (broker, changes, code) in [
        ("", vec![set("log.dirs", "/x")], 42),
        ("1", vec![set("num.io.threads", "0")], 42),
        ("", vec![set("log.retention.ms", "x")], 42),
        ("1", vec![set("log.index.interval.bytes", "-5")], 42),
        ("1", vec![("log.retention.ms", APPEND, Some("1"))], 40),
        ("1", vec![("log.retention.ms", SET, None)], 42),
        ("2", vec![set("log.retention.ms", "1")], 42),
        ("x", vec![set("log.retention.ms", "1")], 42),
        ("1", vec![("log.retention.ms", DELETE, None), ("of.a.plugin", DELETE, None)], 0),
        ("", vec![("log.dirs", DELETE, None), ("log.retention.ms", DELETE, None)], 0),
    ] {
        assert_eq!(alter_any(&talk, BROKER, broker, &changes), code, "'{broker}' {changes:?}");
    }
    assert_eq!(told(&talk, "there", "retention.ms"), ("604800000".into(), 5, vec![]));
    assert_eq!([describe_any(&talk, BROKER, "2").0, describe_any(&talk, BROKER, "x").0], [42, 42]);
}

#[test]
fn groups_and_subscriptions_have_configs_and_the_logger_is_as_it_is() {
    let talk = Talk::new();
    let set = |name, value| (name, SET, Some(value));
    let value = |kind, name: &str, config: &str| {
        let (code, configs) = describe_any(&talk, kind, name);
        let config = configs.into_iter().find(|one| one.name.as_str() == config);
        (code, config.map(|config| (config.value.unwrap().to_string(), config.config_source)))
    };
    let found = |value: &str, source| (0, Some((value.to_string(), source)));
    assert_eq!(value(GROUP, "g", "share.isolation.level"), found("read_uncommitted", 5));
    assert_eq!(alter_any(&talk, GROUP, "g", &[set("share.isolation.level", "read_committed")]), 0);
    assert_eq!(value(GROUP, "g", "share.isolation.level"), found("read_committed", 8));
    assert_eq!(alter_any(&talk, CLIENT_METRICS, "m", &[set("interval.ms", "500"), set("match", "client_id=x.*")]), 0);
    assert_eq!(value(CLIENT_METRICS, "m", "interval.ms"), found("500", 7));
    assert_eq!(value(LOGGER, "1", "root"), found("ERROR", 6));
    for (kind, name, change, code) in [
        (GROUP, "g", set("share.isolation.level", "other"), 40),
        (GROUP, "g", set("nonsense", "1"), 40),
        (GROUP, "g", set("consumer.session.timeout.ms", "44999"), 40),
        (GROUP, "g", ("share.isolation.level", APPEND, Some("x")), 40),
        (GROUP, "g", ("share.isolation.level", SET, None), 42),
        (GROUP, "", set("share.isolation.level", "read_committed"), 42),
        (CLIENT_METRICS, "m", set("match", "client_id=["), 40),
        (CLIENT_METRICS, "", set("interval.ms", "500"), 42),
        (LOGGER, "1", set("root", "DEBUG"), 42),
        (LOGGER, "1", set("kafka.server.KafkaApis", "DEBUG"), 40),
        (LOGGER, "2", set("root", "DEBUG"), 42),
        (1, "x", set("a", "b"), 42),
    ] {
        assert_eq!(alter_any(&talk, kind, name, &[change]), code, "{kind} '{name}' {change:?}");
    }
    let listed = |kinds: Vec<i8>| {
        let request = ListConfigResourcesRequest::default().with_resource_types(kinds);
        let (response, _) = talk.ask(74, 1, &encoded(request, 1)).unwrap();
        let response = ListConfigResourcesResponse::decode(&mut &response[..], 1).unwrap();
        let names = response.config_resources.iter().map(|one| (one.resource_type, one.resource_name.to_string()));
        (response.error_code, names.collect::<Vec<_>>())
    };
    let all = [(32, "g"), (16, "m"), (8, "1"), (4, "1"), (2, "there")].map(|(kind, name)| (kind, name.to_string()));
    assert_eq!(listed(vec![]), (0, all.to_vec()));
    assert_eq!(listed(vec![32, 2]), (0, vec![all[0].clone(), all[4].clone()]));
    assert_eq!(listed(vec![2, 99]), (35, vec![]));
}

#[test]
fn new_topics_are_refused_in_kafkas_order() {
    let talk = Talk::new();
    let bad = [("retention.ms", Some("x"))];
    let with = |configs, new| New { configs, ..new };
    for (name, new, code) in [
        ("bad name", with(&bad, of(0, 0)), 17),
        ("", with(&bad, of(0, 0)), 17),
        ("there", with(&bad, of(0, 0)), 36),
        ("__cluster_metadata", of(0, 0), 42),
        ("new", with(&bad, of(0, 0)), 40),
        ("new", with(&[("retention.ms", None)], of(0, 0)), 40),
        ("new", with(&bad, assigned(&[(0, &[9])])), 40),
        ("new", of(0, 0), 38),
        ("new", of(1, -2), 38),
        ("new", of(-2, -1), 37),
        ("new", of(0, 2), 37),
        ("new", of(10_001, 1), 44),
        ("new", New { partitions: 3, ..assigned(&[(0, &[1])]) }, 42),
        ("new", New { factor: 3, ..assigned(&[(0, &[1])]) }, 42),
        ("new", assigned(&[(0, &[9])]), 39),
        ("new", assigned(&[(0, &[])]), 39),
        ("new", assigned(&[(1, &[1])]), 39),
        ("new", assigned(&[(0, &[1]), (0, &[1])]), 39),
        ("new", assigned(&[(1, &[1]), (0, &[1])]), 0),
    ] {
        assert_eq!(make(&talk, name, &new), code, "'{name}' {new:?}");
    }
}

/// Each topic had the limit to itself, so that one small request could ask for any number of partitions.
#[test]
fn the_limit_of_partitions_is_the_requests() {
    let talk = Talk::new();
    assert_eq!(make_all(&talk, &["a", "b"], &of(6000, 1)), [44, 44]);
    assert_eq!(make_all(&talk, &["a", "b"], &of(2, 1)), [0, 0]);
}

#[test]
fn a_replication_factor_above_one_is_refused_if_the_operator_is_strict() {
    let talk = Talk::with(Config { strict_replication: true, ..Config::in_memory() });
    assert_eq!(make(&talk, "new", &of(1, 2)), 38);
    assert_eq!(make(&talk, "new", &of(0, 2)), 37);
    assert_eq!(make(&Talk::new(), "new", &of(1, 2)), 0);
}

/// What tools ask that move partitions about. What is expected was asked of Apache Kafka 4.3.1.
#[test]
fn a_partition_is_where_it_can_be_and_goes_nowhere_else() {
    use kafka_protocol::messages::{
        alter_partition_reassignments_request as reassign, alter_replica_log_dirs_request as dirs,
        elect_leaders_request as elect,
    };
    let talk = Talk::new();
    let ask = |key, version, request: Vec<u8>| talk.ask(key, version, &request).unwrap().0;
    let elected = |kind: i8, topic: &str, partition| {
        let topics = elect::TopicPartitions::default().with_topic(s(topic).into()).with_partitions(vec![partition]);
        let request = ElectLeadersRequest::default().with_election_type(kind).with_topic_partitions(Some(vec![topics]));
        let response = ElectLeadersResponse::decode(&mut &ask(43, 2, encoded(request, 2))[..], 2).unwrap();
        (response.error_code, response.replica_election_results[0].partition_result[0].error_code)
    };
    assert_eq!([elected(0, "there", 0), elected(1, "there", 0)], [(0, 84), (0, 84)]);
    assert_eq!([elected(0, "there", 9), elected(0, "not", 0), elected(2, "there", 0)], [(0, 3), (0, 3), (42, 42)]);
    let reassigned = |topic: &str, partition, replicas: Option<&[i32]>| {
        let replicas = replicas.map(|ids| ids.iter().map(|&id| id.into()).collect());
        let partition =
            reassign::ReassignablePartition::default().with_partition_index(partition).with_replicas(replicas);
        let topic = reassign::ReassignableTopic::default().with_name(s(topic).into()).with_partitions(vec![partition]);
        let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
        let response = ask(45, 0, encoded(request, 0));
        AlterPartitionReassignmentsResponse::decode(&mut &response[..], 0).unwrap().responses[0].partitions[0]
            .error_code
    };
    assert_eq!([reassigned("there", 0, Some(&[1])), reassigned("there", 0, None)], [0, 85]);
    let refused = [&[][..], &[9], &[1, 9], &[1, 1]].map(|replicas| reassigned("there", 0, Some(replicas)));
    assert_eq!((refused, reassigned("there", 9, Some(&[1])), reassigned("not", 0, None)), ([39; 4], 3, 3));
    let moved = |path: &str, partition| {
        let topic =
            dirs::AlterReplicaLogDirTopic::default().with_name(s("there").into()).with_partitions(vec![partition]);
        let dir = dirs::AlterReplicaLogDir::default().with_path(s(path)).with_topics(vec![topic]);
        let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]);
        let response = ask(34, 2, encoded(request, 2));
        AlterReplicaLogDirsResponse::decode(&mut &response[..], 2).unwrap().results[0].partitions[0].error_code
    };
    let own = talk.broker.config().log_dir();
    assert_eq!([moved(&own, 0), moved(&own, 9), moved("/nowhere", 0)], [0, 3, 57]);
}

#[cfg(feature = "tls")]
#[test]
fn the_listener_says_how_it_is_spoken_to() {
    let listener = |users: bool, by_tls: bool| {
        let mut config = Config::in_memory();
        config.security.users = users;
        config.security.tls = by_tls.then(|| crate::config::TlsConfig::new("certificate", "key"));
        let (_, told) = describe_any(&Talk::to(Broker::open(config).unwrap()), 4, "1");
        let listener = told.iter().find(|config| config.name.as_str() == "advertised.listeners").unwrap();
        listener.value.clone().unwrap().split_once("://").unwrap().0.to_string()
    };
    let told = [(false, false), (false, true), (true, false), (true, true)].map(|(users, tls)| listener(users, tls));
    assert_eq!(told, ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]);
}

#[test]
fn the_brokers_configs_have_kafkas_types_and_the_listener_is_the_one_that_metadata_advertises() {
    use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
    let talk = Talk::new();
    let broker = DescribeConfigsResource::default().with_resource_type(4).with_resource_name(s("1"));
    let request = DescribeConfigsRequest::default().with_resources(vec![broker.with_configuration_keys(None)]);
    let (response, _) = talk.ask(32, 4, &encoded(request, 4)).unwrap();
    let configs = DescribeConfigsResponse::decode(&mut &response[..], 4).unwrap().results.remove(0).configs;
    let (response, _) = talk.ask(3, 12, &encoded(MetadataRequest::default(), 12)).unwrap();
    let node = MetadataResponse::decode(&mut &response[..], 12).unwrap().brokers.remove(0);
    let listener = configs.iter().find(|config| config.name.as_str() == "advertised.listeners").unwrap();
    assert_eq!(listener.value, Some(s(&format!("PLAINTEXT://{}:{}", node.host.as_str(), node.port))));
    // As Apache Kafka 4.3 tells them: 1 boolean, 2 string, 3 int, 5 long, 6 double, 7 list.
    let types: Vec<(&str, i8)> = configs.iter().map(|config| (config.name.as_str(), config.config_type)).collect();
    let expected = [
        ("broker.id", 3),
        ("node.id", 3),
        ("advertised.listeners", 7),
        ("num.partitions", 3),
        ("default.replication.factor", 3),
        ("auto.create.topics.enable", 1),
        ("log.dirs", 7),
        ("log.retention.check.interval.ms", 5),
        ("max.connections", 3),
        ("connections.max.idle.ms", 5),
        ("connections.max.reauth.ms", 5),
        ("log.cleanup.policy", 7),
        ("compression.gzip.level", 3),
        ("compression.lz4.level", 3),
        ("compression.type", 2),
        ("compression.zstd.level", 3),
        ("log.cleaner.delete.retention.ms", 5),
        ("log.segment.delete.delay.ms", 5),
        ("log.flush.interval.messages", 5),
        ("log.flush.interval.ms", 5),
        ("log.index.interval.bytes", 3),
        ("log.local.retention.bytes", 5),
        ("log.local.retention.ms", 5),
        ("log.cleaner.max.compaction.lag.ms", 5),
        ("message.max.bytes", 3),
        ("log.message.timestamp.after.max.ms", 5),
        ("log.message.timestamp.before.max.ms", 5),
        ("log.message.timestamp.type", 2),
        ("log.cleaner.min.cleanable.ratio", 6),
        ("log.cleaner.min.compaction.lag.ms", 5),
        ("min.insync.replicas", 3),
        ("log.preallocate", 1),
        ("log.retention.bytes", 5),
        ("log.retention.ms", 5),
        ("log.segment.bytes", 3),
        ("log.index.size.max.bytes", 3),
        ("log.roll.jitter.ms", 5),
        ("log.roll.ms", 5),
        ("unclean.leader.election.enable", 1),
        ("background.threads", 3),
        ("log.cleaner.backoff.ms", 5),
        ("log.cleaner.dedupe.buffer.size", 5),
        ("log.cleaner.io.buffer.load.factor", 6),
        ("log.cleaner.io.buffer.size", 3),
        ("log.cleaner.threads", 3),
        ("max.connection.creation.rate", 3),
        ("max.connections.per.ip", 3),
        ("num.io.threads", 3),
        ("num.network.threads", 3),
        ("num.recovery.threads.per.data.dir", 3),
        ("num.replica.fetchers", 3),
        ("producer.id.expiration.ms", 3),
        ("transaction.partition.verification.enable", 1),
    ];
    assert_eq!(types, expected);
}

#[test]
fn an_empty_list_of_configs_asks_for_all() {
    use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
    let talk = Talk::new();
    let count = |keys: Option<Vec<StrBytes>>| {
        let resource = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(s("there"));
        let resource = resource.with_configuration_keys(keys);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let (response, _) = talk.ask(32, 4, &encoded(request, 4)).unwrap();
        DescribeConfigsResponse::decode(&mut &response[..], 4).unwrap().results[0].configs.len()
    };
    assert_eq!(count(Some(vec![s("retention.ms"), s("no.such")])), 1);
    assert!(count(None) > 1);
    assert_eq!(count(Some(vec![])), count(None));
}
