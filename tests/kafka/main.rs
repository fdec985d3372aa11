//! Kafka's protocol with a started broker: what only a socket, a restart or a crowd shows.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "users")]
mod differences;
mod explain;
mod settings;
mod share;
mod transactions;

use common::{BROKER, Broker, LONG, until, wait_for};
use kafka_protocol::{
    messages::{
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::DescribeConfigsResourceResult,
        fetch_request::{FetchPartition, FetchTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
        *,
    },
    protocol::{Decodable, Encodable, HeaderVersion, StrBytes},
    records::RecordBatchDecoder,
};
use plainlog::{
    log::{Lines, batches::Flags},
    protocol::kafka::{
        batch::{Encoder, Facts},
        compression::{Codec, Codecs},
    },
};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A Kafka client, as simple as one can be.
struct Client(TcpStream);

impl Client {
    fn connect(broker: &Broker) -> Client {
        Client::to(&broker.address)
    }

    fn to(address: &str) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Client(stream)
    }

    fn send<R: Encodable + HeaderVersion>(&mut self, key: ApiKey, version: i16, request: &R) {
        let header = RequestHeader::default().with_request_api_key(key as i16).with_request_api_version(version);
        let header = header.with_client_id(Some(s("rdkafka")));
        let mut frame = vec![0; 4];
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        let size = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.0.write_all(&frame).unwrap();
    }

    /// `None`: the broker closed.
    fn receive<R: Decodable + HeaderVersion>(&mut self, version: i16) -> Option<R> {
        let mut size = [0; 4];
        self.0.read_exact(&mut size).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        self.0.read_exact(&mut frame).unwrap();
        let mut rest = &frame[..];
        ResponseHeader::decode(&mut rest, R::header_version(version)).unwrap();
        let response = R::decode(&mut rest, version).unwrap();
        assert!(rest.is_empty());
        Some(response)
    }

    fn ask<Q: Encodable + HeaderVersion, R: Decodable + HeaderVersion>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &Q,
    ) -> R {
        self.send(key, version, request);
        self.receive(version).unwrap()
    }

    /// Error code and base offset.
    fn produce(&mut self, topic: &str, batch: Vec<u8>) -> (i16, i64) {
        self.send(ApiKey::Produce, 9, &produce(topic, -1, batch));
        let response: ProduceResponse = self.receive(9).unwrap();
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    }

    /// Values from an offset on, and the high watermark.
    fn fetch(&mut self, topic: &str, offset: i64, max_wait_ms: i32) -> (Vec<Vec<u8>>, i64) {
        let mut request = fetch(topic, &[0], 1 << 20).with_max_wait_ms(max_wait_ms).with_min_bytes(1);
        request.topics[0].partitions[0].fetch_offset = offset;
        self.send(ApiKey::Fetch, 12, &request);
        let response: FetchResponse = self.receive(12).unwrap();
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        let mut bytes = partition.records.clone().unwrap();
        let sets = RecordBatchDecoder::decode_all(&mut bytes).unwrap();
        let records = sets.into_iter().flat_map(|set| set.records);
        (records.map(|record| record.value.unwrap_or_default().to_vec()).collect(), partition.high_watermark)
    }

    /// The batches from an offset on: base offset, codec, count of records.
    fn batches(&mut self, topic: &str, offset: i64, bytes_max: i32) -> Vec<(i64, Codec, i32)> {
        let mut request = fetch(topic, &[0], bytes_max).with_max_bytes(bytes_max);
        request.topics[0].partitions[0].fetch_offset = offset;
        let response: FetchResponse = self.ask(ApiKey::Fetch, 12, &request);
        let mut bytes = &response.responses[0].partitions[0].records.clone().unwrap()[..];
        let mut found = Vec::new();
        while let Some(header) = plainlog::protocol::kafka::batch::Header::read(bytes) {
            let codec = Codec::of_attributes(header.attributes).unwrap();
            found.push((header.base_offset, codec, header.count));
            bytes = &bytes[12 + header.length as usize..];
        }
        found
    }

    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }
}

fn s(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn produce(topic: &str, acks: i16, batch: Vec<u8>) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_records(Some(batch.into()));
    let topic = TopicProduceData::default().with_name(s(topic).into()).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(9000).with_topic_data(vec![topic])
}

/// Asks for a topic, which is made.
fn metadata(topic: &str) -> MetadataRequest {
    let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(s(topic).into()));
    MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true)
}

/// Partitions of a topic from their start.
fn fetch(topic: &str, partitions: &[i32], partition_max_bytes: i32) -> FetchRequest {
    let partition = FetchPartition::default().with_partition_max_bytes(partition_max_bytes);
    let partitions = partitions.iter().map(|&index| partition.clone().with_partition(index)).collect();
    let topic = FetchTopic::default().with_topic(s(topic).into()).with_partitions(partitions);
    FetchRequest::default().with_topics(vec![topic])
}

/// A batch of these values, from a producer with its epoch and sequence.
fn batch(values: &[&str], producer: Option<(i64, i32)>, codec: Codec) -> Vec<u8> {
    let facts = match producer {
        Some((producer_id, base_sequence)) => Facts { producer_id, producer_epoch: 0, base_sequence, ..Facts::PLAIN },
        None => Facts::PLAIN,
    };
    batch_of(facts, values, codec)
}

fn batch_of(facts: Facts, values: &[&str], codec: Codec) -> Vec<u8> {
    let lines: String =
        values.iter().enumerate().map(|(offset, value)| format!("offset:{offset} message:{value}\n")).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, facts);
    encoder.lines(Lines::new(lines.as_bytes(), now, Flags::NONE), usize::MAX).unwrap();
    encoder.finish(values.len() as u64 - 1, codec, &mut Codecs::default(), &mut Vec::new());
    out
}

/// Answers the first line to one line of text.
fn text(broker: &Broker, line: &str) -> String {
    let mut stream = TcpStream::connect(&broker.address).unwrap();
    stream.write_all(format!("{line}\nQUIT\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Creates with Kafka's CreateTopics; answers its error code.
fn create_with(broker: &Broker, topic: &str, configs: &[(&str, &str)]) -> i16 {
    let config =
        |(name, value): &(&str, &str)| CreatableTopicConfig::default().with_name(s(name)).with_value(Some(s(value)));
    let topic = CreatableTopic::default().with_name(s(topic).into()).with_num_partitions(1);
    let topic = topic.with_replication_factor(1).with_configs(configs.iter().map(config).collect());
    let mut client = Client::connect(broker);
    client.send(ApiKey::CreateTopics, 7, &CreateTopicsRequest::default().with_topics(vec![topic]));
    client.receive::<CreateTopicsResponse>(7).unwrap().topics[0].error_code
}

#[test]
fn both_protocols_read_what_the_other_wrote() {
    let broker = Broker::start();
    assert!(text(&broker, "CREATE t").starts_with("OK"));
    assert!(text(&broker, "SEND t key:k message:from netcat").starts_with("ACK"));
    let mut client = Client::connect(&broker);
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        assert_eq!(client.produce("t", batch(&["from Kafka"], None, codec)).0, 0, "{codec:?}");
    }
    assert!(text(&broker, "TAIL t/0 from:1 until:end").contains("message:from Kafka"));
    let (values, end) = client.fetch("t", 0, 0);
    assert_eq!((values[0].as_slice(), values.len(), end), (&b"from netcat"[..], 6, 6));
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        assert!(text(&broker, &format!("ALTER t compression.type:{codec}")).starts_with("OK"));
        assert_eq!(client.fetch("t", 0, 0).0, values, "{codec}");
    }
}

/// What a producer had compressed left uncompressed, and its batches left as one: a consumer that limits, counts or checks
/// batches met some that nobody had sent.
#[test]
fn batches_leave_as_they_came() {
    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let folder = std::env::temp_dir().join(format!("plainlog-codecs-{}", std::process::id()));
    let mut broker = Broker::with(&["--data-dir", folder.to_str().unwrap(), "--fetch-compression", "always"]);
    text(&broker, "CREATE t");
    let mut client = Client::connect(&broker);
    let mut came = Vec::new();
    for (at, codec) in (0..).step_by(5).zip(CODECS) {
        assert_eq!(client.produce("t", batch(&["one", "two", "three"], None, codec)), (0, at));
        assert_eq!(client.produce("t", batch(&["four", "five"], None, codec)), (0, at + 3));
        came.extend([(at, codec, 3), (at + 3, codec, 2)]);
    }
    // Single records become one batch, if they came in one codec.
    for codec in [Codec::Gzip, Codec::Gzip, Codec::None, Codec::None] {
        assert_eq!(client.produce("t", batch(&["alone"], None, codec)).0, 0);
    }
    came.extend([(25, Codec::Gzip, 2), (27, Codec::None, 2)]);
    broker.restart();
    let mut client = Client::connect(&broker);
    assert_eq!(client.batches("t", 0, 1 << 20), came);
    let (values, end) = client.fetch("t", 0, 0);
    assert_eq!((values.len(), end), (29, 29));
    assert!(text(&broker, "TAIL t from:21 until:end").contains("message:two"));
    // The limit counts lines, of which the first batch has about seventy bytes; it comes whole whatever the limit is.
    assert_eq!(client.batches("t", 5, 100), came[2..3]);
    assert_eq!(client.batches("t", 6, 1), came[2..3]);
    // However large it is once it is decompressed, it comes whole: a client can limit that.
    let large = "a".repeat(1 << 20);
    assert_eq!(client.produce("t", batch(&[large.as_str(); 3], None, Codec::Gzip)), (0, 29));
    assert_eq!(client.batches("t", 29, 1 << 20), [(29, Codec::Gzip, 3)]);
    assert_eq!(client.batches("t", 31, 1 << 20), [(29, Codec::Gzip, 3)]);
    // What its topic wants goes before what its producer wanted.
    text(&broker, "ALTER t compression.type:zstd");
    assert!(client.batches("t", 0, 1 << 20).iter().all(|&(_, codec, _)| codec == Codec::Zstd));
    text(&broker, "ALTER t compression.type:uncompressed");
    let bounds = |batches: &[(i64, Codec, i32)]| batches.iter().map(|batch| (batch.0, batch.2)).collect::<Vec<_>>();
    let plain = client.batches("t", 0, 1 << 20);
    assert!(plain.iter().all(|&(_, codec, _)| codec == Codec::None));
    assert_eq!(bounds(&plain)[..10], bounds(&came)[..10]);
    drop(broker);
    let mut dumped = Vec::new();
    plainlog::log::inspect::dump(&folder.join("t/0"), &mut dumped).unwrap();
    let dumped = String::from_utf8(dumped).unwrap();
    assert_eq!(
        ["gzip", "snappy", "lz4", "zstd"].map(|codec| dumped.matches(&format!(" codec:{codec} ")).count()),
        [5, 2, 2, 2]
    );
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_client_on_this_machine_gets_no_compressed_batches_unless_it_is_to() {
    for (options, expected) in [
        (&["--in-memory"][..], Codec::None),
        (&["--in-memory", "--fetch-compression", "auto"], Codec::None),
        (&["--in-memory", "--fetch-compression", "never"], Codec::None),
        (&["--in-memory", "--fetch-compression", "always"], Codec::Lz4),
    ] {
        let broker = Broker::with(options);
        text(&broker, "CREATE t");
        let mut client = Client::connect(&broker);
        assert_eq!(client.produce("t", batch(&["one", "two"], None, Codec::Lz4)).0, 0);
        assert_eq!(client.produce("t", batch(&["three", "four"], None, Codec::Lz4)).0, 0);
        assert_eq!(client.batches("t", 0, 1 << 20), [(0, expected, 2), (2, expected, 2)], "{options:?}");
    }
}

/// A topic that stores batches uncompressed took one of ten thousand bytes, though its limit was a thousand, if it had been
/// compressed on its way.
#[test]
fn a_batch_is_as_large_as_its_topic_would_store_it() {
    const TOO_LARGE: i16 = 10;
    let broker = Broker::start();
    let mut client = Client::connect(&broker);
    let large = "a".repeat(10_000);
    // Half a byte each says what they are, and hardly any four of them come twice: gzip finds the first, snappy only the second.
    let letters =
        std::iter::successors(Some(1u64), |n| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1)));
    let letters: String = letters.take(1_500).map(|n| char::from(b'a' + (n >> 60) as u8)).collect();
    for (setting, codec, value, expected) in [
        ("producer", Codec::Gzip, &large, 0),
        ("producer", Codec::None, &large, TOO_LARGE),
        ("uncompressed", Codec::Gzip, &large, TOO_LARGE),
        ("uncompressed", Codec::Zstd, &large, TOO_LARGE),
        ("gzip", Codec::None, &large, TOO_LARGE),
        ("gzip", Codec::Zstd, &large, 0),
        ("zstd", Codec::Gzip, &large, 0),
        // Small enough in gzip, but not in snappy.
        ("gzip", Codec::Gzip, &letters, 0),
        ("snappy", Codec::Gzip, &letters, TOO_LARGE),
    ] {
        let topic = format!("{setting}-{codec:?}-{}", value.len());
        assert_eq!(create_with(&broker, &topic, &[("compression.type", setting), ("max.message.bytes", "1000")]), 0);
        assert_eq!(client.produce(&topic, batch(&[value], None, codec)).0, expected, "{topic}");
    }
}

#[test]
fn a_fetch_waits_until_something_comes() {
    let broker = Broker::start();
    text(&broker, "CREATE t");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| Client::connect(&broker).fetch("t", 0, 15_000));
        while text(&broker, "INFO").lines().find(|line| line.starts_with("connections:")) != Some("connections:2") {
            thread::yield_now();
        }
        text(&broker, "SEND t message:at last");
        let asked = Instant::now();
        assert_eq!(waiting.join().unwrap(), (vec![b"at last".to_vec()], 1));
        assert!(asked.elapsed() < Duration::from_secs(10), "it was woken, its time did not run out");
    });
}

#[test]
fn a_fetch_does_not_wait_for_more_than_it_takes() {
    let broker = Broker::start();
    text(&broker, "CREATE t");
    text(&broker, "SEND t message:all there is");
    let mut client = Client::connect(&broker);
    let request = fetch("t", &[0], 1 << 20).with_max_wait_ms(i32::MAX).with_min_bytes(i32::MAX).with_max_bytes(50);
    client.send(ApiKey::Fetch, 12, &request);
    let response: FetchResponse = client.receive(12).unwrap();
    assert!(!response.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
}

#[test]
fn a_batch_that_does_not_fit_ends_the_answer_and_no_partition_is_in_it_twice() {
    let broker = Broker::start();
    text(&broker, "CREATE t partitions:3");
    for (partition, value) in ["small", "large".repeat(1000).as_str(), "small"].iter().enumerate() {
        text(&broker, &format!("SEND t/{partition} message:{value}"));
    }
    let mut client = Client::connect(&broker);
    let mut ask = |partitions: &[i32], max_bytes| {
        client.send(ApiKey::Fetch, 12, &fetch("t", partitions, 1 << 20).with_max_bytes(max_bytes));
        let response: FetchResponse = client.receive(12).unwrap();
        let bytes = |partition: &fetch_response::PartitionData| {
            (partition.partition_index, partition.records.as_ref().is_some_and(|records| !records.is_empty()))
        };
        response.responses[0].partitions.iter().map(bytes).collect::<Vec<_>>()
    };
    assert_eq!(ask(&[0, 1, 2], 4000), [(0, true), (1, false), (2, false)]);
    assert_eq!(ask(&[0, 2, 1], 4000), [(0, true), (2, true), (1, false)]);
    assert_eq!(ask(&[1, 0, 0, 1, 2], 1 << 20), [(1, true), (0, true), (2, true)]);
}

#[test]
fn acks_zero_gets_no_answer_and_an_error_ends_the_connection() {
    let broker = Broker::start();
    text(&broker, "CREATE t");
    let mut client = Client::connect(&broker);
    client.send(ApiKey::Produce, 9, &produce("t", 0, batch(&["a", "b"], None, Codec::None)));
    assert_eq!(client.fetch("t", 0, 0).0.len(), 2, "the next answer is that of the next request");
    client.send(ApiKey::Produce, 9, &produce("not-there", 0, batch(&["a"], None, Codec::None)));
    assert!(client.is_closed());
}

#[test]
fn an_idempotent_producer_goes_on_after_a_crash() {
    let mut broker = Broker::on_disk();
    // Segments of 1 KiB: most of what the producer wrote is told by the files beside them.
    assert!(text(&broker, "CREATE t segment.bytes:1024").starts_with("OK"));
    let mut client = Client::connect(&broker);
    let id = new_producer_id(&mut client);
    let value = "x".repeat(100);
    for sequence in 0..40 {
        let numbered = batch(&[&value], Some((id, sequence)), Codec::None);
        assert_eq!(client.produce("t", numbered.clone()), (0, i64::from(sequence)));
        assert_eq!(client.produce("t", numbered), (0, i64::from(sequence)), "a duplicate gets its old offset");
    }
    for crash in 0..3 {
        broker.restart();
        let mut client = Client::connect(&broker);
        let next = 40 + crash;
        for (sequence, offset) in [(next - 1, next - 1), (next - 5, next - 5), (next, next)] {
            let numbered = batch(&[&value], Some((id, sequence)), Codec::None);
            assert_eq!(client.produce("t", numbered), (0, i64::from(offset)));
        }
        assert_eq!(client.produce("t", batch(&[&value], Some((id, next + 2)), Codec::None)).0, 45, "a gap");
        assert!(new_producer_id(&mut client) > id + crash as i64, "an id is given once");
    }
    assert_eq!(Client::connect(&broker).fetch("t", 40, 0).1, 43);
}

/// Kafka Streams counted 102,840 of 100,000 words over one restart: the broker knew of no member any more, and those who joined
/// again were of generation 1.
#[test]
fn members_of_a_group_go_on_over_a_stop_and_a_crash() {
    let mut broker = Broker::on_disk();
    let mut client = Client::connect(&broker);
    client.ask::<_, MetadataResponse>(ApiKey::Metadata, 12, &metadata("words"));
    let join = |client: &mut Client, member: &str| -> JoinGroupResponse {
        let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(s("range"));
        let request = JoinGroupRequest::default().with_group_id(s("counts").into()).with_session_timeout_ms(45_000);
        let request = request.with_rebalance_timeout_ms(60_000).with_protocol_type(s("consumer"));
        client.ask(ApiKey::JoinGroup, 5, &request.with_member_id(s(member)).with_protocols(vec![protocol]))
    };
    let sync = |client: &mut Client, member: &str, generation, assigned: &'static [u8]| -> SyncGroupResponse {
        let assignment = sync_group_request::SyncGroupRequestAssignment::default().with_member_id(s(member));
        let request = SyncGroupRequest::default().with_group_id(s("counts").into()).with_member_id(s(member));
        let request = request.with_generation_id(generation);
        client.ask(ApiKey::SyncGroup, 3, &request.with_assignments(vec![assignment.with_assignment(assigned.into())]))
    };
    let heartbeat = |client: &mut Client, member: &str, generation| {
        let request = HeartbeatRequest::default().with_group_id(s("counts").into()).with_member_id(s(member));
        let response: HeartbeatResponse = client.ask(ApiKey::Heartbeat, 3, &request.with_generation_id(generation));
        response.error_code
    };
    let member = join(&mut client, "").member_id.to_string();
    assert_eq!(join(&mut client, &member).generation_id, 1);
    assert_eq!(sync(&mut client, &member, 1, b"all of it").error_code, 0);
    for generation in 1..4 {
        if generation == 2 {
            assert!(broker.stop().success());
        }
        broker.restart();
        let mut client = Client::connect(&broker);
        assert_eq!(heartbeat(&mut client, &member, generation), 0);
        assert_eq!(heartbeat(&mut client, &member, generation - 1), 22);
        assert_eq!(heartbeat(&mut client, "somebody else", generation), 25);
        assert_eq!(&sync(&mut client, &member, generation, b"").assignment[..], b"all of it");
        // The leader has seen another partition: a rebalance.
        assert_eq!(join(&mut client, &member).generation_id, generation + 1);
        assert_eq!(heartbeat(&mut client, &member, generation), 22);
        assert_eq!(sync(&mut client, &member, generation + 1, b"all of it").error_code, 0);
    }
    assert!(text(&broker, "GROUP counts").contains(" state:Stable generation:4 members:1"));
}

fn new_producer_id(client: &mut Client) -> i64 {
    client.send(ApiKey::InitProducerId, 4, &InitProducerIdRequest::default().with_transactional_id(None));
    let response: InitProducerIdResponse = client.receive(4).unwrap();
    assert_eq!((response.error_code, response.producer_epoch), (0, 0));
    response.producer_id.into()
}

#[test]
fn frames_that_never_come_cost_no_memory() {
    let broker = Broker::start();
    let before = broker.memory();
    let clients: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::connect(&broker);
            client.0.write_all(&(100u32 << 20).to_be_bytes()).unwrap();
            client.0.write_all(&[0; 10_000]).unwrap();
            client
        })
        .collect();
    let mut too_large = Client::connect(&broker);
    too_large.0.write_all(&((100u32 << 20) + 1).to_be_bytes()).unwrap();
    assert!(too_large.is_closed());
    assert!(text(&broker, "PING").starts_with("PONG"));
    let grown = broker.memory().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes for {} frames", clients.len());
}

#[test]
fn five_hundred_clients_at_once_are_all_answered() {
    let broker = Broker::start();
    text(&broker, "CREATE t");
    let mut clients: Vec<Client> = (0..500).map(|_| Client::connect(&broker)).collect();
    for client in &mut clients {
        client.send(ApiKey::Produce, 9, &produce("t", -1, batch(&["a", "b"], None, Codec::Lz4)));
    }
    let mut offsets: Vec<i64> = Vec::new();
    for client in &mut clients {
        let response: ProduceResponse = client.receive(9).unwrap();
        offsets.push(response.responses[0].partition_responses[0].base_offset);
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (0..500).map(|index| index * 2).collect::<Vec<_>>());
}

#[test]
fn a_client_that_hangs_up_while_its_fetch_waits_leaves_nothing_behind() {
    let broker = Broker::start();
    text(&broker, "PRODUCE hello");
    // What it asked behind the Fetch hid that it was gone.
    for more in [0, 1] {
        hangs_up_while_its_fetch_waits(&broker, more);
    }
}

fn hangs_up_while_its_fetch_waits(broker: &Broker, more: usize) {
    let mut client = Client::connect(broker);
    let partition = FetchPartition::default().with_fetch_offset(1).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(s("messages").into()).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_wait_ms(3_600_000).with_min_bytes(1).with_topics(vec![topic]);
    client.send(ApiKey::Fetch, 12, &request);
    let connections = |count: &str| text(broker, "INFO").lines().any(|line| line == format!("connections:{count}"));
    until("both are counted", || connections("2"));
    (0..more).for_each(|_| client.send(ApiKey::Fetch, 12, &request));
    drop(client);
    until("it is gone", || connections("1"));
}

#[test]
fn a_batch_that_no_segment_can_hold_is_refused() {
    let broker = Broker::start();
    assert_eq!(create_with(&broker, "small", &[("segment.bytes", "1024")]), 0);
    let mut client = Client::connect(&broker);
    assert_eq!(client.produce("small", batch(&["x".repeat(1100).as_str()], None, Codec::None)).0, 18);
    assert_eq!(client.produce("small", batch(&["fits"], None, Codec::None)), (0, 0));
}

/// A Fetch that waited for a megabyte read and encoded all that was there at each batch that came, to throw it away.
#[test]
fn a_fetch_that_waits_for_much_does_not_read_it_at_each_batch() {
    const BATCHES: usize = 100;
    let mut child = Command::new(BROKER)
        .args(["--listen", "127.0.0.1:0", "--in-memory", "--explain"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit(' ').next().unwrap();
    let (mut reader, mut writer) = (Client::to(address), Client::to(address));
    writer.send(ApiKey::Metadata, 4, &metadata("t"));
    assert_eq!(writer.receive::<MetadataResponse>(4).unwrap().topics[0].error_code, 0);
    // Nobody sends half of what it waits for, so every batch wakes it in vain, up to the last.
    let large = "x".repeat(1 << 16);
    let request = fetch("t", &[0], 1 << 20).with_max_wait_ms(LONG.as_millis() as i32).with_max_bytes(1 << 20);
    reader.send(ApiKey::Fetch, 12, &request.with_min_bytes(1 << 16));
    for _ in 0..BATCHES {
        assert_eq!(writer.produce("t", batch(&["small"], None, Codec::None)).0, 0);
    }
    assert_eq!(writer.produce("t", batch(&[large.as_str()], None, Codec::None)).0, 0);
    assert!(reader.receive::<FetchResponse>(12).is_some());
    child.kill().unwrap();
    let told = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    let reads = told.lines().filter(|line| line.contains("t/0 from offset 0: up to offset")).count();
    // Once at the end, and before it waits if a batch was there already.
    assert!(reads <= 2, "{told}");
}

#[test]
fn a_silent_client_is_closed_after_the_idle_timeout() {
    let broker = Broker::with(&["--in-memory", "--idle-timeout", "1500ms"]);
    let mut silent = Client::connect(&broker);
    silent.send(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
    assert!(silent.receive::<ApiVersionsResponse>(0).is_some());
    assert!(silent.is_closed());
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key_and_its_holes_are_read_over() {
    let broker = plainlog::Broker::in_memory();
    let server = plainlog::Server::start(broker.clone(), "127.0.0.1:0").unwrap();
    let mut client = Client::to(&format!("127.0.0.1:{}", server.port()));
    let compact = [("cleanup.policy".to_owned(), "compact".to_owned())].into();
    broker.create_topic_with("t", Some(1), compact).unwrap();
    let partition = broker.topic("t").unwrap().partition(0).unwrap();
    client.send(ApiKey::Produce, 9, &produce("t", -1, batch(&["a", "b"], None, Codec::None)));
    let response: ProduceResponse = client.receive(9).unwrap();
    let answer = &response.responses[0].partition_responses[0];
    let named: Vec<i32> = answer.record_errors.iter().map(|error| error.batch_index).collect();
    assert_eq!((answer.error_code, named), (87, vec![0, 1]));
    assert_eq!(partition.high_watermark().unwrap(), 0);

    let mut producer = plainlog::Producer::embedded(&broker);
    for value in ["1", "2", "3"] {
        producer.send("t", plainlog::Record::new(value).key("k")).unwrap();
    }
    producer.send("t", plainlog::Record::tombstone("gone")).unwrap();
    let (log, now_ms) = (partition.log().unwrap(), broker.now_ms());
    let settings = plainlog::log::Compaction { delete_retention_ms: 0, ..Default::default() };
    log.roll_if_old(i64::MAX, 0).unwrap();
    for wait_ms in [0, 2000] {
        log.compact(now_ms + wait_ms, &settings, &|| false).unwrap();
    }
    assert_eq!(client.fetch("t", 0, 0), (vec![b"3".to_vec()], 4));
    assert_eq!(client.fetch("t", 2, 0), (vec![b"3".to_vec()], 4));
    // Only a hole is left: a batch without records says where it ends.
    let fetch = FetchPartition::default().with_fetch_offset(3).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(s("t").into()).with_partitions(vec![fetch]);
    client.send(ApiKey::Fetch, 12, &FetchRequest::default().with_min_bytes(1).with_topics(vec![topic]));
    let response: FetchResponse = client.receive(12).unwrap();
    let bytes = response.responses[0].partitions[0].records.clone().unwrap();
    let header = plainlog::protocol::kafka::batch::Batch::open(&bytes).unwrap().header;
    assert_eq!((header.base_offset, header.last_offset_delta, header.count), (3, 0, 0));
    assert_eq!(client.fetch("t", 4, 0), (vec![], 4));
}

/// A broker that was started on `localhost` told Kafka clients 127.0.0.1, which no certificate has and nobody had typed.
#[test]
fn a_broker_that_listens_by_name_is_known_by_it_over_loopback() {
    for (listen, host) in [("localhost:0", "localhost"), ("127.0.0.1:0", "127.0.0.1")] {
        let server = plainlog::Server::start(plainlog::Broker::in_memory(), listen).unwrap();
        let mut client = Client::to(&server.addresses()[0].to_string());
        let cluster: DescribeClusterResponse =
            client.ask(ApiKey::DescribeCluster, 0, &DescribeClusterRequest::default());
        assert_eq!(cluster.brokers[0].host.as_str(), host);
        assert_eq!(cluster.brokers[0].port, i32::from(server.port()));
        let key = s("readers");
        let request = FindCoordinatorRequest::default().with_key(key);
        let coordinator: FindCoordinatorResponse = client.ask(ApiKey::FindCoordinator, 2, &request);
        assert_eq!(coordinator.host.as_str(), host);
    }
}
