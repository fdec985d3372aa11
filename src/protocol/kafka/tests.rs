//! Every API in every version: requests by another codec of the protocol, whose answers it must be able to read, and the same
//! requests cut, bent and replaced by noise.

mod acls;
mod admin;
mod configs;
mod groups;
mod logins;
mod offsets;
mod oracles;
mod quotas;
mod records;
mod share;
mod transactions;

use super::*;
use crate::{
    broker,
    config::{Config, Settings},
    log::{Lines, batches::Flags},
    protocol::{connection, kafka::compression::Codec, transport::Transport},
};
use kafka_protocol::{
    messages::*,
    protocol::{Decodable, Encodable, Message, StrBytes},
};
use oracles::all;
use proptest::{prelude::*, sample::Index};
use std::{
    net::{TcpListener, TcpStream},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

/// A broker with a topic of two partitions, and a connection to it whose other end does not matter.
struct Talk {
    broker: Broker,
    transport: Transport,
    _other: TcpStream,
}

impl Talk {
    fn new() -> Talk {
        Talk::with(Config::in_memory())
    }

    fn with(config: Config) -> Talk {
        let broker = Broker::open(config).unwrap();
        broker.create_topic("there", 2).unwrap();
        Talk::to(broker)
    }

    fn to(broker: Broker) -> Talk {
        Talk::from(broker, "127.0.0.1:1")
    }

    /// One whose other end seems to be at this address.
    fn from(broker: Broker, peer: &str) -> Talk {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let counted = broker.metrics().connections.connected(peer.parse().unwrap(), 0);
        let transport = Transport::tcp(stream, counted, Duration::from_secs(60)).unwrap();
        Talk { broker, transport, _other: other }
    }

    /// The response to a frame without its size and header, and how much of the frame was not read. It never waits: the
    /// broker is stopping.
    fn ask(&self, key: i16, version: i16, body: &[u8]) -> Result<(Vec<u8>, usize), Stop> {
        let flexible = is_flexible(key, version);
        let stopping = AtomicBool::new(true);
        let (_, mut output) = connection::open(&self.transport, broker::Waiter::new(), &stopping);
        let left = answer(&self.broker, &mut Session::default(), &mut output, &frame(key, version, body))?;
        let response = output.bytes;
        if response.is_empty() {
            return Ok((response, left));
        }
        assert_eq!(response[..4], (response.len() as i32 - 4).to_be_bytes());
        assert_eq!(response[4..8], 7i32.to_be_bytes());
        Ok((response[if flexible && key != 18 { 9 } else { 8 }..].to_vec(), left))
    }
}

fn is_flexible(key: i16, version: i16) -> bool {
    version >= APIS.iter().find(|api| api.key == key).unwrap().flexible_from
}

/// A request without its size.
fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = [key.to_be_bytes(), version.to_be_bytes()].concat();
    frame.extend_from_slice(&7i32.to_be_bytes());
    frame.extend_from_slice(b"\0\x04test");
    // A tagged field that nobody knows.
    frame.extend_from_slice(if is_flexible(key, version) { &[1, 99, 1, 0][..] } else { &[] });
    frame.extend_from_slice(body);
    frame
}

/// What requests are filled with.
#[derive(Clone, Debug)]
struct Values {
    topic: String,
    text: String,
    number: i32,
    long: i64,
    bytes: Vec<u8>,
    flag: bool,
    maybe: Option<String>,
}

fn some_values() -> Values {
    let [topic, text] = ["there", "retention.ms"].map(String::from);
    Values { topic, text, number: 1, long: 0, bytes: b"\0\x01".to_vec(), flag: true, maybe: Some("86400000".into()) }
}

fn encoded<R: Encodable + Message>(request: R, version: i16) -> Vec<u8> {
    let mut out = Vec::new();
    request.encode(&mut out, known::<R>(version)).unwrap();
    out
}

/// The other codec does not know the last version of ListOffsets, whose fields are those of the one before.
fn known<R: Message>(version: i16) -> i16 {
    version.min(R::VERSIONS.max)
}

/// The fields of a response that tell whether it belongs to its request, as the other codec shows them.
fn decoded<R: Decodable + Message + std::fmt::Debug>(bytes: &[u8], version: i16) -> String {
    let mut rest = bytes;
    let response =
        R::decode(&mut rest, known::<R>(version)).unwrap_or_else(|error| panic!("version {version}: {error:#}"));
    assert!(rest.is_empty(), "version {version}: {} bytes behind {response:?}", rest.len());
    format!("{response:?}")
}

fn s(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn of_bytes<U: std::str::FromStr<Err: std::fmt::Debug>>(id: [u8; 16]) -> U {
    format!("{:032x}", u128::from_be_bytes(id)).parse().unwrap()
}

#[test]
fn every_request_is_read_to_its_end_and_its_answer_can_be_read() {
    for ((key, ask, read, _), version) in all() {
        let talk = Talk::new();
        let request = ask(&some_values(), version);
        let (response, left) =
            talk.ask(key, version, &request).unwrap_or_else(|why| panic!("{key} {version}: {why:?}"));
        assert_eq!(left, 0, "API {key} version {version} left bytes of its request");
        let shown = read(&response, version);
        // Whoever is asked about a topic or a group by name says whom he means.
        let by_id = (key == 0 && version >= 13) || (key == 8 && version >= 10);
        let names = !by_id && [0, 2, 3, 8, 19, 20, 21, 23, 24, 27, 28, 33, 37, 44, 61, 65, 75].contains(&key);
        assert!(!names || shown.contains("there") || shown.contains("retention.ms"), "{key} {version}: {shown}");
    }
}

/// A request is watched: its bytes, and those of its answer, each with its fields.
fn watched(talk: &Talk, key: i16, version: i16, body: &[u8]) -> [broker::wire::Message; 2] {
    talk.broker.wire().switch(Some(broker::wire::Filter::default()));
    let (response, _) = talk.ask(key, version, body).unwrap();
    let seen = talk.broker.wire().next(0).unwrap().exchange;
    talk.broker.wire().switch(None);
    let sent = [&seen.request.bytes[..4], &frame(key, version, body)].concat();
    assert_eq!(seen.request.bytes.len(), sent.len());
    for span in seen.request.spans.as_ref().unwrap().iter() {
        let shown = &seen.request.bytes[span.from..span.to];
        match SECRETS.contains(&(key, span.name)) {
            true => assert!(shown.iter().all(|&byte| byte == b'*'), "{key} {version}: {span:?} is shown"),
            false => assert_eq!(shown, &sent[span.from..span.to], "{key} {version}: {span:?}"),
        }
    }
    // What an answer says of a secret nobody may see, either.
    let is_secret = SECRETS.iter().any(|(of, _)| *of == key);
    assert!(is_secret || seen.response.bytes.ends_with(&response), "{key} {version}");
    let Exchange { request, response, .. } = Arc::unwrap_or_clone(seen);
    [request, response]
}

#[test]
fn every_byte_is_a_field_and_every_field_has_kafkas_name() {
    const OF_HEADERS: [&str; 7] =
        ["size", "request_api_key", "request_api_version", "correlation_id", "client_id", "tag", "_tagged_fields"];
    // The topics of an answer have another name in the codec, or stand there as the keys of a map.
    for ((key, ask, read, asked), version) in all() {
        let talk = Talk::new();
        let body = ask(&some_values(), version);
        let (response, _) = talk.ask(key, version, &body).unwrap();
        let messages = watched(&Talk::new(), key, version, &body);
        for (message, told) in messages.iter().zip([asked(&some_values(), version), read(&response, version)]) {
            let spans = message.spans.as_ref().unwrap();
            let mut at = 0;
            for span in spans.iter() {
                assert_eq!(span.from, at, "API {key} version {version}: {span:?}");
                at = span.to;
                let path = spans.path(span);
                for name in path.split('.').map(|name| name.split('[').next().unwrap()) {
                    let known = told.contains(&format!("{name}: ")) || OF_HEADERS.contains(&name);
                    assert!(known, "API {key} version {version}: {path} in {told}");
                }
            }
            assert_eq!(at, message.length, "API {key} version {version}: all bytes are fields");
        }
    }
}

#[test]
fn every_truncation_closes_the_connection_and_harms_nobody() {
    let talk = Talk::new();
    for ((key, ask, ..), version) in all() {
        let request = ask(&some_values(), version);
        for end in 0..request.len() {
            let cut = talk.ask(key, version, &request[..end]);
            assert!(matches!(cut, Err(Stop::Broken(_))), "API {key} version {version} cut at {end}: {cut:?}");
        }
    }
}

#[test]
fn lengths_that_lie_are_survived_wherever_they_stand() {
    for ((key, ask, read, _), version) in all() {
        let talk = Talk::new();
        let request = ask(&some_values(), version);
        for at in 0..request.len() {
            let lies: [&[u8]; 6] = [
                &[0xff, 0xfe],
                &[0xff, 0xff, 0xff, 0xfe],
                &[0x7f, 0xff, 0xff, 0xff],
                &[0x7f, 0xff],
                &[0xff; 5],
                &[0x80],
            ];
            for lie in lies {
                let mut bent = request.clone();
                let end = bent.len().min(at + lie.len());
                bent[at..end].copy_from_slice(&lie[..end - at]);
                check(&talk, key, version, &bent, read);
            }
            let mut bent = request.clone();
            bent[at] = bent[at].wrapping_add(1);
            check(&talk, key, version, &bent, read);
        }
    }
}

/// Whatever is asked, the answer is one that can be read, or the end of the connection.
fn check(talk: &Talk, key: i16, version: i16, body: &[u8], read: fn(&[u8], i16) -> String) {
    match talk.ask(key, version, body) {
        Ok((response, _)) if !response.is_empty() => drop(read(&response, version)),
        Ok(_) | Err(Stop::Broken(_) | Stop::Stranger) => {}
        Err(Stop::Io(error)) => panic!("API {key} version {version}: {error}"),
    }
}

#[test]
fn metadata_goes_by_the_id_where_there_is_one_whatever_name_comes_with_it() {
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    let talk = Talk::new();
    let there = talk.broker.topic("there").unwrap().id;
    let ask = |version, name: Option<&str>, id: [u8; 16]| {
        let asked = MetadataRequestTopic::default().with_name(name.map(|name| s(name).into()));
        let asked = asked.with_topic_id(of_bytes(id));
        let request = MetadataRequest::default().with_topics(Some(vec![asked]));
        let (response, _) = talk.ask(3, version, &encoded(request, version)).unwrap();
        let response = MetadataResponse::decode(&mut &response[..], version).unwrap();
        let topic = response.topics[0].clone();
        (topic.error_code, topic.name.map(|name| name.to_string()), topic.partitions.len())
    };
    for name in [None, Some(""), Some("other")] {
        assert_eq!(ask(12, name, there), (0, Some("there".into()), 2), "{name:?}");
        assert_eq!(ask(12, name, [7; 16]), (Code::UnknownTopicId.into(), None, 0), "{name:?}");
    }
    assert_eq!(ask(12, Some("there"), [0; 16]), (0, Some("there".into()), 2));
    assert_eq!(ask(11, Some("there"), there), (Code::InvalidRequest.into(), Some("there".into()), 0));
}

#[test]
fn what_is_asked_a_thousand_times_is_answered_once() {
    use kafka_protocol::messages::{
        describe_configs_request::DescribeConfigsResource,
        metadata_request::MetadataRequestTopic,
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    };
    let talk = Talk::new();
    let resource = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(s("there"));
    let resource = resource.with_configuration_keys(None);
    let group = OffsetFetchRequestGroup::default().with_group_id(s("g").into());
    let all_of_group = OffsetFetchRequest::default().with_groups(vec![group.clone().with_topics(None)]);
    // Groups, their topics and the partitions of these are many at once.
    let offsets = |times: usize| {
        let times = if times == 1 { 1 } else { 10 };
        let topic = OffsetFetchRequestTopics::default().with_name(s("there").into());
        let topic = topic.with_partition_indexes(vec![0; times]);
        OffsetFetchRequest::default().with_groups(vec![group.clone().with_topics(Some(vec![topic; times])); times])
    };
    let offsets_before_8 = |times: usize| {
        let topic = OffsetFetchRequestTopic::default().with_name(s("there").into());
        let topics = vec![topic.with_partition_indexes(vec![0; times]); 2];
        OffsetFetchRequest::default().with_group_id(s("g").into()).with_topics(Some(topics))
    };
    let with_all = |times: usize| {
        let groups = offsets(times).groups.into_iter().chain(all_of_group.groups.clone());
        OffsetFetchRequest::default().with_groups(groups.collect())
    };
    let topics = |times: usize| {
        let id = of_bytes(talk.broker.topic("there").unwrap().id);
        let topic = MetadataRequestTopic::default().with_topic_id(id);
        let named = |number| topic.clone().with_name(Some(s(&format!("other{number}")).into()));
        MetadataRequest::default().with_topics(Some((0..times).map(named).collect()))
    };
    let all = |times| -> [(i16, i16, Vec<u8>); 6] {
        [
            (3, 12, encoded(topics(times), 12)),
            (9, 7, encoded(offsets_before_8(times), 7)),
            (9, 8, encoded(offsets(times), 8)),
            (9, 8, encoded(with_all(times), 8)),
            (32, 4, encoded(DescribeConfigsRequest::default().with_resources(vec![resource.clone(); times]), 4)),
            (15, 5, encoded(DescribeGroupsRequest::default().with_groups(vec![s("g").into(); times]), 5)),
        ]
    };
    for ((key, version, once), (.., often)) in all(1).into_iter().zip(all(1000)) {
        let [once, often] = [once, often].map(|body| talk.ask(key, version, &body).unwrap().0);
        assert_eq!(once, often, "API {key}");
    }
}

#[test]
fn an_answer_too_large_for_anyone_closes_the_connection() {
    let talk = Talk::new();
    let ask = |count| {
        let keys = vec![s(&"k".repeat(80)); count];
        talk.ask(10, 4, &encoded(FindCoordinatorRequest::default().with_key_type(7).with_coordinator_keys(keys), 4))
    };
    assert!(ask(1000).is_ok());
    let Err(Stop::Broken(why)) = ask(wire::ELEMENTS_MAX) else { panic!("it is answered") };
    assert_eq!(why, "FindCoordinator version 4: the answer is too large");
}

#[test]
fn topics_made_together_do_not_collide_either() {
    use kafka_protocol::messages::create_topics_request::CreatableTopic;
    let talk = Talk::new();
    let topic = |name| CreatableTopic::default().with_name(s(name).into()).with_num_partitions(1);
    let topics = ["a.b", "a_b"].map(|name| topic(name).with_replication_factor(1)).to_vec();
    let request = CreateTopicsRequest::default().with_topics(topics);
    let (response, _) = talk.ask(19, 7, &encoded(request, 7)).unwrap();
    let response = CreateTopicsResponse::decode(&mut &response[..], 7).unwrap();
    let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, Code::InvalidTopicException.into()]);
}

#[test]
fn the_documentation_lists_what_is_served() {
    let table = support_table();
    assert!(include_str!("clients.md").ends_with(&table), "clients.md must end with this table:\n\n{table}");
}

#[test]
fn versions_that_are_not_served_close_the_connection_but_for_api_versions() {
    let talk = Talk::new();
    for api in APIS {
        let asked = talk.ask(api.key, api.versions.end() + 1, b"");
        match api.key {
            18 => assert_eq!(asked.unwrap().0[..2], [0, 35]),
            _ => assert!(matches!(asked, Err(Stop::Broken(_))), "{}", api.name),
        }
    }
    assert!(matches!(talk.ask(0, 2, &[0; 20]), Err(Stop::Broken(_))));
}

#[test]
fn a_request_of_no_api_or_without_a_head_counts_as_none_of_them() {
    let talk = Talk::new();
    let stopping = AtomicBool::new(true);
    let (_, mut output) = connection::open(&talk.transport, broker::Waiter::new(), &stopping);
    let unknown = [&4321i16.to_be_bytes()[..], &[0; 20]].concat();
    for frame in [&unknown[..], b"\0\x03\0", b""] {
        assert!(matches!(answer(&talk.broker, &mut Session::default(), &mut output, frame), Err(Stop::Broken(_))));
    }
    let row = talk.broker.metrics().kafka.row(NONE);
    assert_eq!((row.took.count(), row.errors.get(), output.counted().sum().requests), (3, 3, 3));
}

prop_compose! {
    fn values()(
        topic in prop_oneof![Just("there".to_owned()), "[a-z/. ]{0,9}"],
        text in prop_oneof![Just("cleanup.policy".to_owned()), any::<String>(), "[a-z]{1,9}"],
        number in prop_oneof![-2..4, any::<i32>()],
        long in prop_oneof![-3..4i64, any::<i64>()],
        bytes: Vec<u8>,
        flag: bool,
        maybe in proptest::option::of(prop_oneof![Just("compact".to_owned()), any::<String>()]),
    ) -> Values {
        Values { topic, text, number, long, bytes, flag, maybe }
    }
}

proptest! {
    #[test]
    fn any_values_get_an_answer_that_can_be_read(values in values(), which: Index) {
        let all = all();
        let ((key, ask, read, _), version) = *which.get(&all);
        let talk = Talk::new();
        let (response, left) = talk.ask(key, version, &ask(&values, version)).unwrap();
        prop_assert_eq!(left, 0);
        read(&response, version);
    }

    #[test]
    fn noise_is_answered_or_refused(body: Vec<u8>, which: Index) {
        let all = all();
        let ((key, _, read, _), version) = *which.get(&all);
        check(&Talk::new(), key, version, &body, read);
    }
}
