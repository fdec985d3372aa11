//! Transactions as Kafka's clients drive and see them. What is expected was asked of Apache Kafka 4.3.1.

use super::*;
use kafka_protocol::messages::{
    add_partitions_to_txn_request as add, describe_producers_request as producers, fetch_request as fetch,
    list_offsets_request as list, offset_fetch_request as committed, produce_request as produce,
    txn_offset_commit_request as pending, write_txn_markers_request as markers,
};

const ID: &str = "transfer";

/// A producer with the transactional id [`ID`].
#[derive(Clone, Copy, Debug, PartialEq)]
struct Producer {
    id: i64,
    epoch: i16,
}

impl Producer {
    fn new(talk: &Talk) -> Producer {
        let (code, producer) = init(talk, 4, ID, None);
        assert_eq!(code, 0);
        producer
    }

    fn in_epoch(self, epoch: i16) -> Producer {
        Producer { epoch, ..self }
    }

    /// A transactional batch of one record.
    fn batch(self, sequence: i32) -> Vec<u8> {
        encode(batch::Facts {
            transactional: true,
            producer_id: self.id,
            producer_epoch: self.epoch,
            base_sequence: sequence,
            ..batch::Facts::PLAIN
        })
    }
}

pub(super) fn encode(facts: batch::Facts) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = batch::Encoder::new(&mut out, facts);
    let lines = Lines::new(b"offset:0 message:hello\n", 1_700_000_000_000, Flags::NONE);
    encoder.lines(lines, usize::MAX).unwrap();
    encoder.finish(0, Codec::None, &mut Codecs::default(), &mut Vec::new());
    out
}

fn asked<Q: Encodable + Message, R: Decodable>(talk: &Talk, key: i16, version: i16, request: Q) -> R {
    let (response, left) = talk.ask(key, version, &encoded(request, version)).unwrap();
    assert_eq!(left, 0);
    R::decode(&mut &response[..], version).unwrap()
}

fn id(text: &str) -> TransactionalId {
    TransactionalId(s(text))
}

fn init(talk: &Talk, version: i16, transactional_id: &str, known: Option<Producer>) -> (i16, Producer) {
    let request = InitProducerIdRequest::default().with_transactional_id(Some(id(transactional_id)));
    let request = request.with_transaction_timeout_ms(60_000);
    let request = match known {
        Some(known) => request.with_producer_id(known.id.into()).with_producer_epoch(known.epoch),
        None => request,
    };
    let response: InitProducerIdResponse = asked(talk, 22, version, request);
    (response.error_code, Producer { id: *response.producer_id, epoch: response.producer_epoch })
}

/// The codes of these partitions of the topic `there`.
fn add(talk: &Talk, version: i16, producer: Producer, name: &str, partitions: &[i32]) -> Vec<i16> {
    let topic = add::AddPartitionsToTxnTopic::default().with_name(s(name).into()).with_partitions(partitions.to_vec());
    let request = AddPartitionsToTxnRequest::default().with_v3_and_below_transactional_id(id(ID));
    let request = request.with_v3_and_below_producer_id(producer.id.into());
    let request = request.with_v3_and_below_producer_epoch(producer.epoch).with_v3_and_below_topics(vec![topic]);
    let response: AddPartitionsToTxnResponse = asked(talk, 24, version, request);
    let partitions = response.results_by_topic_v3_and_below.into_iter().flat_map(|topic| topic.results_by_partition);
    partitions.map(|partition| partition.partition_error_code).collect()
}

/// Writes a batch to partition 0 of the topic `there`; answers the code.
pub(super) fn put(talk: &Talk, version: i16, transactional_id: Option<&str>, batch: Vec<u8>) -> i16 {
    let partition = produce::PartitionProduceData::default().with_records(Some(batch.into()));
    let topic = produce::TopicProduceData::default().with_name(s("there").into()).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_transactional_id(transactional_id.map(id)).with_acks(-1);
    let response: ProduceResponse = asked(talk, 0, version, request.with_topic_data(vec![topic]));
    response.responses[0].partition_responses[0].error_code
}

/// The code, and the pair to go on with where the version tells it.
fn end(talk: &Talk, version: i16, producer: Producer, commits: bool) -> (i16, Producer) {
    let request = EndTxnRequest::default().with_transactional_id(id(ID)).with_producer_id(producer.id.into());
    let request = request.with_producer_epoch(producer.epoch).with_committed(commits);
    let response: EndTxnResponse = asked(talk, 26, version, request);
    (response.error_code, Producer { id: *response.producer_id, epoch: response.producer_epoch })
}

/// Writes one record in a transaction of the first protocol and ends it.
fn transaction(talk: &Talk, producer: Producer, sequence: i32, commits: bool) {
    assert_eq!(add(talk, 3, producer, "there", &[0]), [0]);
    assert_eq!(put(talk, 9, Some(ID), producer.batch(sequence)), 0);
    assert_eq!(end(talk, 4, producer, commits).0, 0);
}

fn code(code: Code) -> i16 {
    code.into()
}

#[test]
fn the_features_that_a_version_can_read_are_told() {
    let talk = Talk::new();
    let ask = |version| -> ApiVersionsResponse {
        let request = ApiVersionsRequest::default();
        let request = match version {
            3.. => request.with_client_software_name(s("test")).with_client_software_version(s("1")),
            _ => request,
        };
        asked(&talk, 18, version, request)
    };
    for version in 0..=4 {
        let told = ask(version);
        let supported: Vec<_> =
            told.supported_features.iter().map(|it| (it.name.as_str(), it.min_version, it.max_version)).collect();
        let finalized: Vec<_> = told
            .finalized_features
            .iter()
            .map(|it| (it.name.as_str(), it.max_version_level, it.min_version_level))
            .collect();
        // A first level of 0 cannot be told before version 4 (KIP-1022).
        let (groups, metadata, shares) =
            (("group.version", 0, 1), ("metadata.version", 7, 30), ("share.version", 0, 1));
        let known = match version {
            4.. => vec![groups, metadata, shares, ("transaction.version", 0, 2)],
            3 => vec![metadata],
            _ => vec![],
        };
        assert_eq!(supported, known);
        let in_force =
            [("group.version", 1), ("metadata.version", 30), ("share.version", 1), ("transaction.version", 2)];
        let in_force = in_force.map(|(name, level)| (name, level, level));
        assert_eq!(finalized, if version >= 3 { in_force.to_vec() } else { vec![] });
        assert_eq!(told.finalized_features_epoch, if version >= 3 { 0 } else { -1 });
    }
}

#[test]
fn a_producer_id_and_an_epoch_are_known_together_and_old_versions_know_no_fence() {
    let talk = Talk::new();
    let first = Producer::new(&talk);
    assert_eq!(init(&talk, 4, "", None).0, code(Code::InvalidRequest));
    for half in [Producer { id: -1, epoch: 3 }, first.in_epoch(-1)] {
        assert_eq!(init(&talk, 4, ID, Some(half)).0, code(Code::InvalidRequest));
    }
    let (raised, next) = init(&talk, 3, ID, Some(first));
    assert_eq!((raised, next), (0, first.in_epoch(first.epoch + 1)));
    assert_eq!(init(&talk, 3, ID, Some(first)), (0, next), "the answer was lost");
    let stranger = first.in_epoch(next.epoch + 7);
    assert_eq!(init(&talk, 3, ID, Some(stranger)).0, code(Code::InvalidProducerEpoch));
    assert_eq!(init(&talk, 4, ID, Some(stranger)).0, code(Code::ProducerFenced));
}

#[test]
fn partitions_are_added_together_or_not_at_all() {
    let talk = Talk::new();
    let producer = Producer::new(&talk);
    assert_eq!(
        add(&talk, 3, producer, "there", &[0, 9]),
        [code(Code::OperationNotAttempted), code(Code::UnknownTopicOrPartition)]
    );
    assert_eq!(add(&talk, 3, producer, "not-there", &[0]), [code(Code::UnknownTopicOrPartition)]);
    assert_eq!(add(&talk, 3, producer, "__consumer_offsets", &[0]), [code(Code::InvalidTopicException)]);
    assert_eq!(put(&talk, 9, Some(ID), producer.batch(0)), code(Code::InvalidTxnState), "nothing was added");
    assert_eq!(add(&talk, 3, producer, "there", &[0, 1]), [0, 0]);
    for (version, fenced) in
        [(0, Code::InvalidProducerEpoch), (1, Code::InvalidProducerEpoch), (2, Code::ProducerFenced)]
    {
        assert_eq!(add(&talk, version, producer.in_epoch(7), "there", &[0]), [code(fenced)]);
    }
    assert_eq!(add(&talk, 3, Producer { id: 77, ..producer }, "there", &[0]), [code(Code::InvalidProducerIdMapping)]);
}

#[test]
fn brokers_ask_about_several_transactions_and_may_only_verify() {
    let talk = Talk::new();
    let producer = Producer::new(&talk);
    let ask = |verify_only, partitions: &[i32]| {
        let topic =
            add::AddPartitionsToTxnTopic::default().with_name(s("there").into()).with_partitions(partitions.to_vec());
        let of = |name: &str| {
            let one = add::AddPartitionsToTxnTransaction::default().with_transactional_id(id(name));
            let one = one.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch);
            one.with_verify_only(verify_only).with_topics(vec![topic.clone()])
        };
        let request = AddPartitionsToTxnRequest::default().with_transactions(vec![of(ID), of("other")]);
        let response: AddPartitionsToTxnResponse = asked(&talk, 24, 5, request);
        assert_eq!(response.error_code, 0);
        let codes = |one: &add_partitions_to_txn_response::AddPartitionsToTxnResult| -> Vec<i16> {
            one.topic_results[0].results_by_partition.iter().map(|partition| partition.partition_error_code).collect()
        };
        assert_eq!(codes(&response.results_by_transaction[1])[0], code(Code::InvalidProducerIdMapping));
        codes(&response.results_by_transaction[0])
    };
    assert_eq!(ask(true, &[0]), [code(Code::TransactionAbortable)]);
    assert_eq!(ask(false, &[0]), [0]);
    assert_eq!(ask(true, &[0, 1]), [0, code(Code::TransactionAbortable)]);
}

#[test]
fn a_batch_whose_partition_is_not_in_the_transaction_is_refused_and_by_the_second_protocol_added() {
    for (version, expected) in [(3, 48), (10, 48), (11, 120), (12, 0)] {
        let talk = Talk::new();
        let producer = Producer::new(&talk);
        let others = put(&talk, version, Some("other"), producer.batch(0));
        assert_eq!(others, code(Code::InvalidProducerIdMapping), "version {version}");
        assert_eq!(put(&talk, version, Some(ID), producer.batch(0)), expected, "version {version}");
    }
}

#[test]
fn what_a_transactional_batch_must_say_is_looked_at_before_its_sequence() {
    let talk = Talk::new();
    let producer = Producer::new(&talk);
    add(&talk, 3, producer, "there", &[0]);
    assert_eq!(put(&talk, 9, None, producer.batch(0)), code(Code::TransactionalIdAuthorizationFailed));
    assert_eq!(put(&talk, 9, Some(ID), producer.in_epoch(9).batch(5)), code(Code::InvalidProducerEpoch));
    assert_eq!(put(&talk, 9, Some(ID), Producer { id: 77, ..producer }.batch(5)), code(Code::InvalidProducerIdMapping));
    assert_eq!(put(&talk, 9, Some(ID), producer.batch(0)), 0);
    assert_eq!(put(&talk, 9, Some(ID), producer.batch(0)), 0, "the same once more");
    assert_eq!(put(&talk, 9, Some(ID), producer.batch(5)), code(Code::OutOfOrderSequenceNumber));
    let plain = batch::Facts {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        base_sequence: 1,
        ..batch::Facts::PLAIN
    };
    assert_eq!(put(&talk, 9, None, encode(plain)), code(Code::InvalidTxnState), "it would land outside");
    // A batch that says it is transactional, of nobody, is in no transaction: Kafka takes it.
    assert_eq!(put(&talk, 9, Some(ID), encode(batch::Facts { transactional: true, ..batch::Facts::PLAIN })), 0);
    assert_eq!(end(&talk, 4, producer, false).0, 0);
    let read = fetch(&talk, 1, 0);
    let aborted: Vec<i64> =
        read.records.iter().filter(|one| one.transactional && !one.control).map(|one| one.first).collect();
    assert_eq!((aborted, read.aborted), (vec![0], vec![(producer.id, 0)]));
}

#[test]
fn the_second_protocol_raises_the_epoch_at_each_end_and_knows_a_repeat() {
    let talk = Talk::new();
    let first = Producer::new(&talk);
    assert_eq!(end(&talk, 5, first, true), (code(Code::InvalidTxnState), Producer { id: -1, epoch: -1 }));
    assert_eq!(put(&talk, 12, Some(ID), first.batch(0)), 0);
    let second = first.in_epoch(first.epoch + 1);
    assert_eq!(end(&talk, 5, first, true), (0, second));
    assert_eq!(end(&talk, 5, first, true), (0, second), "the answer was lost");
    assert_eq!(end(&talk, 5, first, false).0, code(Code::InvalidTxnState));
    // What was delayed does not touch the next transaction.
    assert_eq!(put(&talk, 12, Some(ID), second.batch(0)), 0);
    assert_eq!(end(&talk, 5, first, true).0, code(Code::ProducerFenced));
    assert_eq!(put(&talk, 12, Some(ID), first.batch(1)), code(Code::InvalidProducerEpoch));
    assert_eq!(end(&talk, 1, first, true).0, code(Code::InvalidProducerEpoch), "version 1 knows no fence");
    assert_eq!(end(&talk, 5, second, false), (0, first.in_epoch(first.epoch + 2)));
}

#[test]
fn the_first_protocol_keeps_the_epoch_and_takes_the_same_end_twice() {
    let talk = Talk::new();
    let producer = Producer::new(&talk);
    assert_eq!(end(&talk, 4, producer, true).0, code(Code::InvalidTxnState));
    for (sequence, commits) in [(0, true), (1, false)] {
        transaction(&talk, producer, sequence, commits);
        assert_eq!(end(&talk, 4, producer, commits).0, 0);
        assert_eq!(end(&talk, 4, producer, !commits).0, code(Code::InvalidTxnState));
    }
}

/// A batch of a Fetch.
#[derive(Debug, PartialEq)]
struct Read {
    first: i64,
    transactional: bool,
    control: bool,
}

/// What a Fetch says of partition 0.
#[derive(Debug)]
struct Fetched {
    code: i16,
    high_watermark: i64,
    last_stable: i64,
    /// Producer ids and first offsets; empty where they are null.
    aborted: Vec<(i64, i64)>,
    aborted_is_null: bool,
    records: Vec<Read>,
}

fn fetch(talk: &Talk, isolation: i8, offset: i64) -> Fetched {
    fetch_bytes(talk, isolation, offset, 1 << 20)
}

fn fetch_bytes(talk: &Talk, isolation: i8, offset: i64, bytes_max: i32) -> Fetched {
    let partition = fetch::FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(bytes_max);
    let topic = fetch::FetchTopic::default().with_topic(s("there").into()).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_bytes(1 << 20).with_isolation_level(isolation);
    let mut response: FetchResponse = asked(talk, 1, 12, request.with_topics(vec![topic]));
    let partition = response.responses.remove(0).partitions.remove(0);
    let mut bytes = &partition.records.unwrap_or_default()[..];
    let mut records = Vec::new();
    while let Some(header) = batch::Header::read(bytes) {
        let has = |bit: i16| header.attributes & bit != 0;
        records.push(Read { first: header.base_offset, transactional: has(0x10), control: has(0x20) });
        bytes = &bytes[12 + header.length as usize..];
    }
    let aborted = partition.aborted_transactions;
    Fetched {
        code: partition.error_code,
        high_watermark: partition.high_watermark,
        last_stable: partition.last_stable_offset,
        aborted_is_null: aborted.is_none(),
        aborted: aborted.into_iter().flatten().map(|one| (*one.producer_id, one.first_offset)).collect(),
        records,
    }
}

#[test]
fn a_fetch_of_what_is_committed_ends_at_the_last_stable_offset_and_names_what_was_aborted() {
    let talk = Talk::new();
    let producer = Producer::new(&talk);
    let firsts = |read: &Fetched| -> Vec<i64> { read.records.iter().map(|one| one.first).collect() };
    assert_eq!(put(&talk, 9, None, encode(batch::Facts::PLAIN)), 0);
    add(&talk, 3, producer, "there", &[0]);
    assert_eq!(fetch(&talk, 1, 1).last_stable, 1, "adding alone holds nothing");
    assert_eq!(put(&talk, 9, Some(ID), producer.batch(0)), 0);
    assert_eq!(put(&talk, 9, None, encode(batch::Facts::PLAIN)), 0);
    let (uncommitted, committed) = (fetch(&talk, 0, 0), fetch(&talk, 1, 0));
    assert_eq!((firsts(&uncommitted), uncommitted.aborted_is_null), (vec![0, 1, 2], true));
    assert_eq!((firsts(&committed), committed.aborted_is_null), (vec![0], false));
    for read in [uncommitted, committed] {
        assert_eq!((read.high_watermark, read.last_stable, read.aborted), (3, 1, vec![]));
    }
    // Behind it and up to the high watermark is nothing yet; beyond that is nowhere.
    for offset in 1..=3 {
        let read = fetch(&talk, 1, offset);
        assert_eq!((read.code, firsts(&read)), (0, vec![]));
    }
    let nowhere = fetch(&talk, 1, 4);
    assert_eq!((nowhere.code, nowhere.high_watermark, nowhere.last_stable), (code(Code::OffsetOutOfRange), -1, -1));
    assert_eq!(end(&talk, 4, producer, false).0, 0);
    transaction(&talk, producer, 1, true);
    // 1 is aborted by 3, 4 is committed by 5.
    let read = fetch(&talk, 1, 0);
    assert_eq!(
        (firsts(&read), &read.aborted[..], read.last_stable),
        (vec![0, 1, 2, 3, 4, 5], &[(producer.id, 1)][..], 6)
    );
    let is_marker: Vec<bool> = read.records.iter().map(|one| one.control).collect();
    assert_eq!(is_marker, [false, false, false, true, false, true]);
    assert_eq!(fetch(&talk, 1, 3).aborted, [(producer.id, 1)], "its marker is to be read yet");
    assert_eq!(fetch(&talk, 1, 4).aborted, []);
}

/// As in Kafka, whose index of a log is too coarse to tell the two apart.
#[test]
fn a_fetch_ends_before_the_batch_that_is_too_much_and_names_what_was_aborted_a_little_behind_it() {
    let talk = Talk::new();
    let producer = Producer::new(&talk);
    for sequence in 0..3 {
        transaction(&talk, producer, sequence, false);
    }
    let whole = fetch(&talk, 1, 0);
    assert_eq!((whole.records.len(), whole.aborted.len()), (6, 3));
    // Each of the batches takes more than half of this.
    let read = fetch_bytes(&talk, 1, 0, 100);
    assert_eq!((read.records.len(), &read.aborted), (1, &whole.aborted));
    assert_eq!(fetch_bytes(&talk, 1, 0, 1).records.len(), 1, "the first comes whole");
    assert_eq!(fetch_bytes(&talk, 0, 0, 100).records.len(), 1);
}

#[test]
fn offsets_of_what_is_committed_end_at_the_last_stable_offset() {
    let talk = Talk::new();
    let producer = Producer::new(&talk);
    let at = |isolation: i8, timestamp| {
        let partition = list::ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(timestamp);
        let topic = list::ListOffsetsTopic::default().with_name(s("there").into()).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_isolation_level(isolation).with_topics(vec![topic]);
        // Version 11 has the fields of version 10, which is the last that the other codec knows.
        let (response, _) = talk.ask(2, 11, &encoded(request, 10)).unwrap();
        let response = ListOffsetsResponse::decode(&mut &response[..], 10).unwrap();
        response.topics[0].partitions[0].offset
    };
    assert_eq!(put(&talk, 9, None, encode(batch::Facts::PLAIN)), 0);
    add(&talk, 3, producer, "there", &[0]);
    assert_eq!(put(&talk, 9, Some(ID), producer.batch(0)), 0);
    // All three records have the same time, which is that of the first.
    for (timestamp, uncommitted, committed) in
        [(-1, 2, 1), (-2, 0, 0), (-3, 0, 0), (-4, 0, 0), (-5, -1, -1), (-6, -1, -1), (0, 0, 0)]
    {
        assert_eq!((at(0, timestamp), at(1, timestamp)), (uncommitted, committed), "{timestamp}");
    }
    talk.broker.trim("there", 0, 1).unwrap();
    for timestamp in [-3, 0] {
        assert_eq!((at(0, timestamp), at(1, timestamp)), (1, -1), "{timestamp}");
    }
    assert_eq!(end(&talk, 4, producer, true).0, 0);
    assert_eq!((at(1, -1), at(1, 0)), (3, 1));
}

/// The code of an offset that is committed in the transaction.
fn commit(talk: &Talk, version: i16, producer: Producer, group: &str, generation: i32) -> i16 {
    let partition = pending::TxnOffsetCommitRequestPartition::default().with_committed_offset(5);
    let partition = partition.with_committed_metadata(Some(s("m")));
    let topic =
        pending::TxnOffsetCommitRequestTopic::default().with_name(s("there").into()).with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default().with_transactional_id(id(ID)).with_group_id(s(group).into());
    let request =
        request.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch).with_topics(vec![topic]);
    let request = if version >= 3 { request.with_generation_id(generation) } else { request };
    let response: TxnOffsetCommitResponse = asked(talk, 28, version, request);
    response.topics[0].partitions[0].error_code
}

/// Code and offset of what the group has committed of partition 0.
fn committed(talk: &Talk, group: &str, require_stable: bool) -> (i16, i64) {
    let topic =
        committed::OffsetFetchRequestTopics::default().with_name(s("there").into()).with_partition_indexes(vec![0]);
    let group =
        committed::OffsetFetchRequestGroup::default().with_group_id(s(group).into()).with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_require_stable(require_stable).with_groups(vec![group]);
    let response: OffsetFetchResponse = asked(talk, 9, 8, request);
    let partition = &response.groups[0].topics[0].partitions[0];
    (partition.error_code, partition.committed_offset)
}

#[test]
fn offsets_of_a_transaction_are_pending_until_it_ends() {
    let talk = Talk::new();
    let mut producer = Producer::new(&talk);
    assert_eq!(commit(&talk, 3, producer, "g", -1), code(Code::InvalidTxnState), "the group was not added");
    assert_eq!(commit(&talk, 4, producer, "g", -1), code(Code::TransactionAbortable));
    assert_eq!(commit(&talk, 5, producer, "", -1), code(Code::InvalidGroupId));
    assert_eq!(commit(&talk, 5, producer, "g", 3), code(Code::IllegalGeneration), "no such group has members");
    for (commits, after) in [(false, -1), (true, 5)] {
        assert_eq!(commit(&talk, 5, producer, "g", -1), 0);
        assert_eq!(committed(&talk, "g", true), (code(Code::UnstableOffsetCommit), -1));
        assert_eq!(committed(&talk, "g", false), (0, -1));
        let (ended, next) = end(&talk, 5, producer, commits);
        assert_eq!((ended, committed(&talk, "g", true)), (0, (0, after)));
        producer = next;
    }
    let request = AddOffsetsToTxnRequest::default().with_transactional_id(id(ID)).with_group_id(s("g").into());
    let request = request.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch);
    let response: AddOffsetsToTxnResponse = asked(&talk, 25, 3, request);
    assert_eq!(response.error_code, 0);
    assert_eq!(commit(&talk, 2, producer, "g", -1), 0);
}

#[test]
fn administrators_see_a_transaction_that_hangs_and_end_it() {
    let talk = Talk::new();
    let producer = Producer::new(&talk);
    let describe = |name: &str| {
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id(name)]);
        let response: DescribeTransactionsResponse = asked(&talk, 65, 0, request);
        let one = &response.transaction_states[0];
        (
            one.error_code,
            one.transaction_state.to_string(),
            one.topics.iter().map(|topic| topic.partitions.clone()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(describe(""), (code(Code::InvalidRequest), String::new(), vec![]));
    assert_eq!(describe("not-there"), (code(Code::TransactionalIdNotFound), String::new(), vec![]));
    assert_eq!(describe(ID), (0, "Empty".into(), vec![]));
    add(&talk, 3, producer, "there", &[0, 1]);
    assert_eq!(put(&talk, 9, Some(ID), producer.batch(0)), 0);
    assert_eq!(describe(ID), (0, "Ongoing".into(), vec![vec![0, 1]]));

    let listed = |states: &[&str], ids: &[i64], duration_ms| {
        let request =
            ListTransactionsRequest::default().with_state_filters(states.iter().map(|name| s(name)).collect());
        let request = request.with_producer_id_filters(ids.iter().map(|&id| id.into()).collect());
        let response: ListTransactionsResponse = asked(&talk, 66, 1, request.with_duration_filter(duration_ms));
        let states =
            response.transaction_states.iter().map(|one| one.transaction_state.to_string()).collect::<Vec<_>>();
        (states, response.unknown_state_filters.iter().map(|name| name.to_string()).collect::<Vec<_>>())
    };
    let (one, none, nobody): (Vec<String>, Vec<String>, Vec<String>) = (vec!["Ongoing".into()], vec![], vec![]);
    assert_eq!(listed(&[], &[], -1), (one.clone(), nobody.clone()));
    assert_eq!(listed(&["Ongoing"], &[producer.id], 0), (one, nobody.clone()));
    assert_eq!(listed(&["Empty", "ongoing"], &[], -1), (none.clone(), vec!["ongoing".into()]));
    assert_eq!(listed(&[], &[producer.id + 1], -1), (none.clone(), nobody.clone()));
    assert_eq!(listed(&[], &[], 600_000), (none, nobody));

    let named = |pattern: &str| {
        let request = ListTransactionsRequest::default().with_transactional_id_pattern(Some(s(pattern)));
        let response: ListTransactionsResponse = asked(&talk, 66, 2, request);
        (response.error_code, response.transaction_states.len())
    };
    for whole in ["", ID, "transfer|other", ".+"] {
        assert_eq!(named(whole), (0, 1), "'{whole}' names {ID}");
    }
    for other in ["x", "other", &ID[1..]] {
        assert_eq!(named(other), (0, 0), "'{other}' does not name the whole of {ID}");
    }
    for broken in ["(", "a)(b", "[", "a{1000}{1000}{1000}"] {
        assert_eq!(named(broken), (code(Code::InvalidRegularExpression), 0), "'{broken}'");
    }

    let writes = |name: &str, index| {
        let topic = producers::TopicRequest::default().with_name(s(name).into()).with_partition_indexes(vec![index]);
        let response: DescribeProducersResponse =
            asked(&talk, 61, 0, DescribeProducersRequest::default().with_topics(vec![topic]));
        let partition = response.topics[0].partitions[0].clone();
        let shown = |one: &describe_producers_response::ProducerState| {
            (*one.producer_id, one.last_sequence, one.coordinator_epoch, one.current_txn_start_offset)
        };
        (partition.error_code, partition.active_producers.iter().map(shown).collect::<Vec<_>>())
    };
    assert_eq!(writes("bad name", 0), (code(Code::InvalidTopicException), vec![]));
    assert_eq!(writes("there", 7), (code(Code::UnknownTopicOrPartition), vec![]));
    assert_eq!(writes("there", 0), (0, vec![(producer.id, 0, -1, 0)]));

    let mark_in = |name: &str, coordinator_epoch, partitions: &[i32]| {
        let topic = markers::WritableTxnMarkerTopic::default()
            .with_name(s(name).into())
            .with_partition_indexes(partitions.to_vec());
        let marker = markers::WritableTxnMarker::default()
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch);
        let marker = marker.with_topics(vec![topic]).with_coordinator_epoch(coordinator_epoch);
        let response: WriteTxnMarkersResponse =
            asked(&talk, 27, 1, WriteTxnMarkersRequest::default().with_markers(vec![marker]));
        let topics = response.markers.into_iter().flat_map(|marker| marker.topics);
        topics.flat_map(|topic| topic.partitions).map(|partition| partition.error_code).collect::<Vec<_>>()
    };
    let mark = |coordinator_epoch, partitions: &[i32]| mark_in("there", coordinator_epoch, partitions);
    assert_eq!(mark_in("__transaction_state", 0, &[0]), [code(Code::InvalidTopicException)]);
    assert_eq!(fetch(&talk, 1, 0).last_stable, 0);
    assert_eq!(mark(3, &[0, 7]), [0, code(Code::UnknownTopicOrPartition)]);
    let read = fetch(&talk, 1, 0);
    assert_eq!((read.last_stable, read.aborted), (2, vec![(producer.id, 0)]));
    assert_eq!(writes("there", 0), (0, vec![(producer.id, 0, 3, -1)]));
    assert_eq!(mark(2, &[0]), [code(Code::TransactionCoordinatorFenced)]);
    assert_eq!(mark(3, &[]), [0; 0]);
}
