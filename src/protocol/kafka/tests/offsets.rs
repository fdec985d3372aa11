//! Where records are, and that they go. What is expected was asked of Apache Kafka 4.3.1.

use super::*;
use crate::{
    broker::{Clock, Terms},
    log::{
        disk::{MemoryDisk, make_dir, replace},
        record::Records,
    },
};
use kafka_protocol::messages::{
    delete_records_request as trim, list_offsets_request as list, offset_for_leader_epoch_request as epochs,
};
use std::{borrow::Cow, path::Path, sync::Arc};

/// Writes a batch of these timestamps.
fn write(talk: &Talk, timestamps: &[Option<i64>]) {
    let mut records = Records::default();
    timestamps.iter().for_each(|time| records.push(*time, Some(Cow::Borrowed(b"k")), Some(Cow::Borrowed(b"v"))));
    let partition = talk.broker.topic("there").unwrap().partition(0).unwrap();
    partition.make_durable(&partition.write(&records, Terms::default()).unwrap()).unwrap();
}

/// Partition, error code, timestamp and offset of each answer.
fn list(talk: &Talk, asked: &[(&str, &[i32])], timestamp: i64) -> Vec<(i32, i16, i64, i64)> {
    let partition = |&index: &i32| {
        let partition = list::ListOffsetsPartition::default().with_partition_index(index);
        partition.with_current_leader_epoch(-1).with_timestamp(timestamp)
    };
    let topic = |&(name, partitions): &(&str, &[i32])| {
        let topic = list::ListOffsetsTopic::default().with_name(s(name).into());
        topic.with_partitions(partitions.iter().map(partition).collect())
    };
    let request = ListOffsetsRequest::default().with_topics(asked.iter().map(topic).collect());
    let (response, _) = talk.ask(2, 7, &encoded(request, 7)).unwrap();
    let response = ListOffsetsResponse::decode(&mut &response[..], 7).unwrap();
    let partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
    partitions.map(|it| (it.partition_index, it.error_code, it.timestamp, it.offset)).collect()
}

#[test]
fn a_partition_that_is_asked_for_twice_is_refused_once() {
    let talk = Talk::new();
    assert_eq!(list(&talk, &[("there", &[0, 1, 0])], -1), [(0, 42, -1, -1), (1, 0, -1, 0)]);
    assert_eq!(list(&talk, &[("there", &[0]), ("there", &[0, 1])], -1), [(0, 42, -1, -1), (1, 0, -1, 0)]);
    assert_eq!(list(&talk, &[("not-there", &[0, 0])], -1), [(0, 42, -1, -1)]);
}

#[test]
fn the_largest_timestamp_of_records_without_one_is_none_at_the_start() {
    let talk = Talk::new();
    let largest = || list(&talk, &[("there", &[0])], -3)[0];
    assert_eq!(largest(), (0, 0, -1, -1), "of no records");
    write(&talk, &[Some(-1), Some(-1)]);
    assert_eq!(largest(), (0, 0, -1, 0));
    assert_eq!(list(&talk, &[("there", &[0])], 0)[0], (0, 0, -1, -1));
    talk.broker.trim("there", 0, 1).unwrap();
    assert_eq!(largest(), (0, 0, -1, 0));
    write(&talk, &[Some(-1), Some(5)]);
    assert_eq!(largest(), (0, 0, 5, 3));
}

/// OffsetForLeaderEpoch answered every past epoch with the end of the log, behind records that a crash took and others replaced.
#[test]
fn each_past_epoch_ends_where_the_log_was_cut() {
    let disk = MemoryDisk::default();
    make_dir(&disk, Path::new("data/cut/0")).unwrap();
    let file = "id:bWVzc2FnZXMtdG9waWMtaQ\npartitions:1\npartition:0 start:0 epoch:2\n\
                epoch:0 partition:0 end:1\nepoch:1 partition:0 end:2\n";
    replace(&disk, Path::new("data/cut/topic"), file.as_bytes()).unwrap();
    let broker = Broker::open_on(Arc::new(disk), Config::new("data"), Clock::System).unwrap();
    let talk = Talk::to(broker);
    let epochs = [-1, 0, 1, 2, 3].map(|epoch| {
        let partition =
            epochs::OffsetForLeaderPartition::default().with_current_leader_epoch(-1).with_leader_epoch(epoch);
        let topic =
            epochs::OffsetForLeaderTopic::default().with_topic(s("cut").into()).with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let (response, _) = talk.ask(23, 4, &encoded(request, 4)).unwrap();
        let response = OffsetForLeaderEpochResponse::decode(&mut &response[..], 4).unwrap();
        let end = &response.topics[0].partitions[0];
        (end.error_code, end.leader_epoch, end.end_offset)
    });
    assert_eq!(epochs, [(0, -1, -1), (0, 0, 1), (0, 1, 2), (0, 2, 0), (0, -1, -1)]);
}

#[test]
fn records_of_a_topic_that_is_only_compacted_cannot_be_deleted() {
    let talk = Talk::new();
    write(&talk, &[None, None]);
    let delete = |index: i32, offset: i64| {
        let partition = trim::DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset);
        let topic = trim::DeleteRecordsTopic::default().with_name(s("there").into()).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
        let (response, _) = talk.ask(21, 2, &encoded(request, 2)).unwrap();
        let response = DeleteRecordsResponse::decode(&mut &response[..], 2).unwrap();
        let partition = &response.topics[0].partitions[0];
        (partition.error_code, partition.low_watermark)
    };
    let policy = |value: &str| {
        let named = [("cleanup.policy".to_string(), crate::config::Change::Set(value.into()))].into();
        talk.broker.alter_topic("there", None, &crate::config::Changes { named, reset_others: false }).unwrap();
    };
    policy("compact");
    for offset in [1, 99, -1, -2] {
        assert_eq!(delete(0, offset), (44, -1), "{offset}");
    }
    assert_eq!(delete(5, 1), (3, -1));
    for (value, offset) in [("compact,delete", 0), ("", 1), ("delete", 2)] {
        policy(value);
        assert_eq!(delete(0, offset), (0, offset), "{value}");
        assert_eq!(delete(0, 99), (1, -1), "{value}");
    }
}

/// Burrow, kminion and Kafka's own formatters read the groups there, and know nothing of lines.
#[test]
fn a_client_that_reads_the_brokers_own_topic_gets_kafkas_records() {
    use kafka_protocol::messages::{fetch_request as fetch, offset_commit_request as commit};
    let talk = Talk::new();
    let partition = commit::OffsetCommitRequestPartition::default().with_committed_offset(42);
    let topic = commit::OffsetCommitRequestTopic::default().with_name(s("there").into());
    let request =
        OffsetCommitRequest::default().with_group_id(s("readers").into()).with_generation_id_or_member_epoch(-1);
    let request = request.with_topics(vec![topic.with_partitions(vec![partition])]);
    talk.ask(8, 8, &encoded(request, 8)).unwrap();
    let topic = fetch::FetchTopic::default().with_topic(s("__consumer_offsets").into());
    let topic = topic.with_partitions(vec![fetch::FetchPartition::default().with_partition_max_bytes(i32::MAX)]);
    let request = FetchRequest::default().with_max_bytes(i32::MAX).with_topics(vec![topic]);
    let (response, _) = talk.ask(1, 12, &encoded(request, 12)).unwrap();
    let response = FetchResponse::decode(&mut &response[..], 12).unwrap();
    let records = response.responses[0].partitions[0].records.clone().unwrap();
    let batch = kafka_protocol::records::RecordBatchDecoder::decode(&mut records.clone()).unwrap();
    let record = &batch.records[0];
    assert_eq!(record.key.as_deref(), Some(&b"\0\x01\0\x07readers\0\x05there\0\0\0\0"[..]));
    assert!(record.value.as_ref().unwrap().starts_with(b"\0\x04\0\0\0\0\0\0\0*"), "{:?}", record.value);
}
