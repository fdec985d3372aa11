//! Batches that are produced and fetched.

use super::*;

#[test]
fn what_a_large_batch_took_is_given_back_and_what_a_small_one_takes_is_kept() {
    let talk = Talk::new();
    let stopping = AtomicBool::new(true);
    let (_, mut output) = connection::open(&talk.transport, broker::Waiter::new(), &stopping);
    let mut session = Session::default();
    let mut kept = |key, version, body: &[u8]| {
        output.bytes.clear();
        answer(&talk.broker, &mut session, &mut output, &frame(key, version, body)).unwrap();
        session.shrink();
        session.decompressed.capacity() > 0
    };
    let produce = |value: usize, count| produce(0, vec![batch(&"x".repeat(value), count, 0, Codec::Zstd)]);
    assert!(kept(0, 9, &encoded(produce(10, 10), 9)));
    assert!(!kept(0, 9, &encoded(produce(700_000, 10), 9)), "7 MB of bytes");
    assert!(!kept(0, 9, &encoded(produce(0, 300_000), 9)), "many records of few bytes");
    assert!(kept(0, 9, &encoded(produce(10, 10), 9)));
    let request = FetchRequest::default().with_max_bytes(i32::MAX).with_topics(vec![
        fetch_request::FetchTopic::default()
            .with_topic(s("there").into())
            .with_partitions(vec![fetch_request::FetchPartition::default().with_partition_max_bytes(i32::MAX)]),
    ]);
    assert!(!kept(1, 12, &encoded(request, 12)));
}

#[test]
fn a_thousand_refused_records_are_named_however_many_batches_they_are_in() {
    let talk = Talk::new();
    let batch = batch("", 400, i64::MAX / 2, Codec::None);
    let (response, _) = talk.ask(0, 9, &encoded(produce(0, vec![batch; 4]), 9)).unwrap();
    let response = ProduceResponse::decode(&mut &response[..], 9).unwrap();
    let partitions = &response.responses[0].partition_responses;
    let named: Vec<usize> = partitions.iter().map(|partition| partition.record_errors.len()).collect();
    assert_eq!(named, [400, 400, 200, 0]);
    assert!(partitions.iter().all(|partition| partition.error_code == i16::from(Code::InvalidTimestamp)));
}

#[test]
fn a_client_on_another_machine_gets_a_batch_in_its_codec() {
    let Talk { broker, .. } = &Talk::new();
    let gzipped = produce(0, vec![batch("hello", 3, 1_700_000_000_000, Codec::Gzip)]);
    Talk::to(broker.clone()).ask(0, 9, &encoded(gzipped, 9)).unwrap();
    let request = FetchRequest::default().with_max_bytes(i32::MAX).with_topics(vec![
        fetch_request::FetchTopic::default()
            .with_topic(s("there").into())
            .with_partitions(vec![fetch_request::FetchPartition::default().with_partition_max_bytes(i32::MAX)]),
    ]);
    for (peer, codec) in [
        ("127.0.0.1:1", Codec::None),
        ("127.0.0.2:1", Codec::None),
        ("[::1]:1", Codec::None),
        ("[::ffff:127.0.0.1]:1", Codec::None),
        ("192.0.2.1:1", Codec::Gzip),
        ("[2001:db8::1]:1", Codec::Gzip),
    ] {
        let (response, _) = Talk::from(broker.clone(), peer).ask(1, 12, &encoded(request.clone(), 12)).unwrap();
        let response = FetchResponse::decode(&mut &response[..], 12).unwrap();
        let records = response.responses[0].partitions[0].records.as_ref().unwrap();
        let header = batch::Header::read(records).unwrap();
        assert_eq!((Codec::of_attributes(header.attributes), header.count), (Some(codec), 3), "{peer}");
    }
}

/// A sync failed, and Linux tells that once. A roll synced the same file again, found its pages clean, and published what
/// nobody had made durable: the client was told that it is. The second of these batches asks for a segment of its own.
#[test]
fn a_batch_whose_sync_failed_is_never_acknowledged_though_a_roll_follows() {
    use crate::{
        broker::Clock,
        config::Settings,
        log::disk::{self, Fault, MemoryDisk, Survivors},
    };
    let open = |disk: &MemoryDisk| {
        let topic_defaults = Settings { segment_bytes: 1024, ..Settings::default() };
        let config = Config { topic_defaults, ..Config::new("data") };
        let clock = Clock::Manual(std::sync::Arc::new(1_700_000_000_000.into()));
        Talk::to(Broker::open_on(std::sync::Arc::new(disk.clone()), config, clock).unwrap())
    };
    let codes = |talk: &Talk, batches| {
        let (response, _) = talk.ask(0, 9, &encoded(produce(0, batches), 9)).unwrap();
        let response = ProduceResponse::decode(&mut &response[..], 9).unwrap();
        response.responses[0].partition_responses.iter().map(|partition| partition.error_code).collect::<Vec<_>>()
    };
    let storage = i16::from(Code::KafkaStorageError);
    let mut failed = 0;
    for nth in 1.. {
        let disk = MemoryDisk::crashable();
        let talk = open(&disk);
        talk.broker.create_topic("there", 1).unwrap();
        let [small, large] = [10, 950].map(|bytes| batch(&"x".repeat(bytes), 1, 1_600_000_000_000, Codec::None));
        assert_eq!(codes(&talk, vec![small.clone(), small.clone()]), [0, 0]);
        disk.fault(disk::Call::Sync, nth, Fault::Error);
        let together = codes(&talk, vec![small.clone(), large.clone()]);
        let later = codes(&talk, vec![small, large]);
        let all = [together.clone(), later].concat();
        assert!(all.iter().all(|code| [0, storage].contains(code)), "sync {nth}: {all:?}");
        let acknowledged = 2 + all.iter().filter(|&&code| code == 0).count() as u64;
        let partition = talk.broker.topic("there").unwrap().partition(0).unwrap();
        assert_eq!(partition.high_watermark(), Ok(acknowledged), "sync {nth}: {all:?}");
        drop(talk);
        let talk = open(&disk.reboot(Survivors::Nothing));
        let partition = talk.broker.topic("there").unwrap().partition(0).unwrap();
        assert!(partition.high_watermark().unwrap() >= acknowledged, "sync {nth}: {all:?}");
        if together == [0, 0] {
            break;
        }
        failed += 1;
    }
    assert!(failed >= 5, "two files, then two files and their directory, are synced: {failed}");
}

#[test]
fn a_topic_that_is_named_by_its_id_is_written_to_unless_another_has_its_name_now() {
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    let talk = Talk::new();
    let ask = |id: [u8; 16]| {
        let batch = batch("hello", 1, 1_700_000_000_000, Codec::None);
        let topic = TopicProduceData::default().with_topic_id(of_bytes(id));
        let topic = topic.with_partition_data(vec![PartitionProduceData::default().with_records(Some(batch.into()))]);
        let request = ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]);
        let (response, _) = talk.ask(0, 13, &encoded(request, 13)).unwrap();
        let response = ProduceResponse::decode(&mut &response[..], 13).unwrap().responses.remove(0);
        assert_eq!(response.topic_id.as_bytes(), &id);
        (response.partition_responses[0].error_code, response.partition_responses[0].base_offset)
    };
    let before = talk.broker.topic("there").unwrap().id;
    assert_eq!((ask(before), ask(before)), ((0, 0), (0, 1)));
    talk.broker.drop_topic("there").unwrap();
    talk.broker.create_topic("there", 1).unwrap();
    for unknown in [before, [0; 16]] {
        assert_eq!(ask(unknown), (Code::UnknownTopicId.into(), -1));
    }
}

/// So many records of one value.
pub(super) fn batch(value: &str, count: u64, timestamp: i64, codec: Codec) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = batch::Encoder::new(&mut out, batch::Facts::PLAIN);
    let lines: String = (0..count).map(|offset| format!("offset:{offset} message:{value}\n")).collect();
    encoder.lines(Lines::new(lines.as_bytes(), timestamp, Flags::NONE), usize::MAX).unwrap();
    encoder.finish(count - 1, codec, &mut Codecs::default(), &mut Vec::new());
    out
}

/// Batches for a partition of the topic `there`.
fn produce(index: i32, batches: Vec<Vec<u8>>) -> ProduceRequest {
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    let partition = |batch: Vec<u8>| PartitionProduceData::default().with_index(index).with_records(Some(batch.into()));
    let topic = TopicProduceData::default().with_name(s("there").into());
    let topic = topic.with_partition_data(batches.into_iter().map(partition).collect());
    ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic])
}
