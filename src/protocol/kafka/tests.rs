//! Every API in every version: requests by another codec of the protocol, whose answers it must be able to read, and the same
//! requests cut, bent and replaced by noise.

mod admin;
mod configs;
mod groups;
mod offsets;
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

/// A topic's id, which is a name where the other codec writes one: it knows no requests of OffsetCommit and OffsetFetch with ids.
const AN_ID: &[u8; 16] = b"\x10topic_id: known";

/// An API, how to ask it, how to read what it says, and what it is asked, with the names of its fields.
type Oracle = (i16, fn(&Values, i16) -> Vec<u8>, fn(&[u8], i16) -> String, fn(&Values, i16) -> String);

macro_rules! oracle {
    ($key:literal $request:ident $response:ident |$v:ident, $version:ident| $fill:expr) => {
        (
            $key,
            |$v: &Values, $version: i16| {
                let fill = |request: $request| -> $request { ($fill)(request) };
                encoded(fill($request::default()), $version)
            },
            decoded::<$response>,
            |$v: &Values, $version: i16| {
                let fill = |request: $request| -> $request { ($fill)(request) };
                format!("{:?}", fill($request::default()))
            },
        )
    };
}

fn s(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(values: &Values) -> TopicName {
    s(&values.topic).into()
}

/// Since version 10 the bytes of the name are an id's.
fn topic_or_id(values: &Values, version: i16) -> TopicName {
    if version < 10 { topic(values) } else { s(std::str::from_utf8(&AN_ID[1..]).unwrap()).into() }
}

fn transactional_id(values: &Values) -> TransactionalId {
    TransactionalId(s(&values.text))
}

fn group(values: &Values) -> GroupId {
    s(&values.text).into()
}

fn maybe(values: &Values, since: bool) -> Option<StrBytes> {
    values.maybe.as_deref().filter(|_| since).map(s)
}

#[rustfmt::skip]
fn oracles() -> Vec<Oracle> {
    use kafka_protocol::messages::{
        add_partitions_to_txn_request as add, alter_configs_request as alter, alter_partition_reassignments_request as reassign, consumer_group_heartbeat_request as beat, create_partitions_request as grow, create_topics_request as create, delete_records_request as trim,
        delete_topics_request as drop_, describe_configs_request as configs, describe_log_dirs_request as dirs, describe_producers_request as producers,
        describe_topic_partitions_request as partitions, fetch_request as fetch, incremental_alter_configs_request as incremental,
        join_group_request as join, leave_group_request as leave, list_offsets_request as list, metadata_request as metadata,
        offset_commit_request as commit, offset_delete_request as forget, offset_fetch_request as committed,
        offset_for_leader_epoch_request as epochs, produce_request as produce, sync_group_request as sync, txn_offset_commit_request as pending,
        alter_client_quotas_request as alter_quotas, alter_user_scram_credentials_request as scram, create_delegation_token_request as create_token, describe_client_quotas_request as quotas, describe_delegation_token_request as tokens, describe_quorum_request as quorum,
        update_features_request as features, write_txn_markers_request as markers,
    };
    vec![
        oracle!(0 ProduceRequest ProduceResponse |v, version| |r: ProduceRequest| {
            let topic_ = produce::TopicProduceData::default().with_partition_data(vec![
                produce::PartitionProduceData::default().with_index(v.number).with_records(Some(v.bytes.clone().into()))]);
            let topic_ = if version < 13 { topic_.with_name(topic(v)) } else { topic_.with_topic_id(uuid(v)) };
            r.with_transactional_id(maybe(v, true).map(TransactionalId)).with_acks(-1).with_timeout_ms(v.number).with_topic_data(vec![topic_])
        }),
        oracle!(1 FetchRequest FetchResponse |v, version| |r: FetchRequest| {
            let partition = fetch::FetchPartition::default().with_partition(v.number).with_fetch_offset(v.long).with_partition_max_bytes(v.number)
                .with_current_leader_epoch(if version >= 9 { v.number } else { -1 });
            let topic_ = fetch::FetchTopic::default().with_partitions(vec![partition]);
            let topic_ = if version < 13 { topic_.with_topic(topic(v)) } else { topic_.with_topic_id(uuid(v)) };
            let forgotten = fetch::ForgottenTopic::default().with_partitions(vec![v.number]);
            let forgotten = if version < 13 { forgotten.with_topic(topic(v)) } else { forgotten.with_topic_id(uuid(v)) };
            let r = r.with_max_wait_ms(v.number).with_min_bytes(v.number).with_max_bytes(v.number).with_isolation_level(v.flag.into()).with_topics(vec![topic_]);
            let r = if version < 15 { r.with_replica_id(v.number.into()) } else { r };
            let r = if version >= 7 { r.with_session_epoch(-1).with_forgotten_topics_data(vec![forgotten]) } else { r };
            if version >= 11 { r.with_rack_id(s(&v.text)) } else { r }
        }),
        oracle!(2 ListOffsetsRequest ListOffsetsResponse |v, version| |r: ListOffsetsRequest| r.with_isolation_level(if version >= 2 { v.flag.into() } else { 0 }).with_topics(vec![
            list::ListOffsetsTopic::default().with_name(topic(v)).with_partitions(vec![list::ListOffsetsPartition::default().with_partition_index(v.number)
                .with_timestamp(v.long).with_current_leader_epoch(if version >= 4 { v.number } else { -1 })])])),
        oracle!(3 MetadataRequest MetadataResponse |v, version| |r: MetadataRequest| {
            let asked = metadata::MetadataRequestTopic::default().with_name(Some(topic(v)));
            let r = r.with_topics(Some(vec![if version >= 10 { asked.with_topic_id(uuid(v)) } else { asked }])).with_allow_auto_topic_creation(version < 4 || v.flag);
            if version >= 8 { r.with_include_topic_authorized_operations(v.flag) } else { r }
        }),
        oracle!(8 OffsetCommitRequest OffsetCommitResponse |v, version| |r: OffsetCommitRequest| {
            let partition = commit::OffsetCommitRequestPartition::default().with_partition_index(v.number).with_committed_offset(v.long)
                .with_committed_leader_epoch(if version >= 6 { v.number } else { -1 }).with_committed_metadata(maybe(v, true));
            let r = r.with_group_id(group(v)).with_generation_id_or_member_epoch(if v.flag { -1 } else { v.number })
                .with_group_instance_id(maybe(v, version >= 7 && !v.flag))
                .with_topics(vec![commit::OffsetCommitRequestTopic::default().with_name(topic_or_id(v, version)).with_partitions(vec![partition])]);
            if version <= 4 { r.with_retention_time_ms(v.long) } else { r }
        }),
        oracle!(9 OffsetFetchRequest OffsetFetchResponse |v, version| |r: OffsetFetchRequest| {
            let r = if version >= 7 { r.with_require_stable(v.flag) } else { r };
            if version < 8 {
                return r.with_group_id(group(v)).with_topics((!v.flag || version < 2).then(|| vec![committed::OffsetFetchRequestTopic::default().with_name(topic(v)).with_partition_indexes(vec![v.number])]));
            }
            let asked = committed::OffsetFetchRequestGroup::default().with_group_id(group(v)).with_topics(
                (!v.flag).then(|| vec![committed::OffsetFetchRequestTopics::default().with_name(topic_or_id(v, version)).with_partition_indexes(vec![v.number])]));
            let asked = if version >= 9 { asked.with_member_id(maybe(v, true)).with_member_epoch(v.number) } else { asked };
            r.with_groups(vec![asked])
        }),
        oracle!(10 FindCoordinatorRequest FindCoordinatorResponse |v, version| |r: FindCoordinatorRequest| {
            let r = if version >= 1 { r.with_key_type(v.flag.into()) } else { r };
            if version >= 4 { r.with_coordinator_keys(vec![s(&v.text), s(&v.topic)]) } else { r.with_key(s(&v.text)) }
        }),
        oracle!(11 JoinGroupRequest JoinGroupResponse |v, version| |r: JoinGroupRequest| r.with_group_id(group(v)).with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(if version >= 1 { v.number } else { -1 }).with_member_id(s(if v.flag { "" } else { &v.text })).with_group_instance_id(maybe(v, version >= 5))
            .with_protocol_type(s("consumer")).with_reason(maybe(v, version >= 8))
            .with_protocols(vec![join::JoinGroupRequestProtocol::default().with_name(s(&v.text)).with_metadata(v.bytes.clone().into())])),
        oracle!(12 HeartbeatRequest HeartbeatResponse |v, version| |r: HeartbeatRequest| r.with_group_id(group(v)).with_generation_id(v.number).with_member_id(s(&v.text))
            .with_group_instance_id(maybe(v, version >= 3))),
        oracle!(13 LeaveGroupRequest LeaveGroupResponse |v, version| |r: LeaveGroupRequest| {
            let r = r.with_group_id(group(v));
            if version < 3 { return r.with_member_id(s(&v.text)) }
            r.with_members(vec![leave::MemberIdentity::default().with_member_id(s(&v.text)).with_group_instance_id(maybe(v, true)).with_reason(maybe(v, version >= 5))])
        }),
        oracle!(14 SyncGroupRequest SyncGroupResponse |v, version| |r: SyncGroupRequest| r.with_group_id(group(v)).with_generation_id(v.number).with_member_id(s(&v.text))
            .with_group_instance_id(maybe(v, version >= 3)).with_protocol_type(maybe(v, version >= 5)).with_protocol_name(maybe(v, version >= 5))
            .with_assignments(vec![sync::SyncGroupRequestAssignment::default().with_member_id(s(&v.text)).with_assignment(v.bytes.clone().into())])),
        oracle!(15 DescribeGroupsRequest DescribeGroupsResponse |v, version| |r: DescribeGroupsRequest| r.with_groups(vec![group(v), s("").into()]).with_include_authorized_operations(version >= 3 && v.flag)),
        oracle!(16 ListGroupsRequest ListGroupsResponse |v, version| |r: ListGroupsRequest| {
            let r = r.with_states_filter(if version >= 4 { vec![s(&v.text)] } else { vec![] });
            if version >= 5 { r.with_types_filter(vec![s(&v.text)]) } else { r }
        }),
        oracle!(17 SaslHandshakeRequest SaslHandshakeResponse |v, _version| |r: SaslHandshakeRequest| r.with_mechanism(s(&v.text))),
        oracle!(18 ApiVersionsRequest ApiVersionsResponse |v, version| |r: ApiVersionsRequest| if version >= 3 { r.with_client_software_name(s(&v.text)).with_client_software_version(s("1.0")) } else { r }),
        oracle!(19 CreateTopicsRequest CreateTopicsResponse |v, _version| |r: CreateTopicsRequest| r.with_timeout_ms(v.number).with_validate_only(v.flag).with_topics(vec![
            create::CreatableTopic::default().with_name(s(&v.text).into()).with_num_partitions(v.number).with_replication_factor(1)
                .with_configs(vec![create::CreatableTopicConfig::default().with_name(s(&v.text)).with_value(maybe(v, true))]),
            create::CreatableTopic::default().with_name(s("by-hand").into()).with_num_partitions(-1).with_replication_factor(-1)
                .with_assignments(vec![create::CreatableReplicaAssignment::default().with_partition_index(0).with_broker_ids(vec![v.number.into()])])])),
        oracle!(20 DeleteTopicsRequest DeleteTopicsResponse |v, version| |r: DeleteTopicsRequest| {
            let r = r.with_timeout_ms(v.number);
            if version < 6 { return r.with_topic_names(vec![s(&v.text).into(), topic(v)]) }
            r.with_topics(vec![drop_::DeleteTopicState::default().with_name(Some(topic(v))), drop_::DeleteTopicState::default().with_name(None).with_topic_id(uuid(v))])
        }),
        oracle!(21 DeleteRecordsRequest DeleteRecordsResponse |v, _version| |r: DeleteRecordsRequest| r.with_timeout_ms(v.number).with_topics(vec![
            trim::DeleteRecordsTopic::default().with_name(topic(v)).with_partitions(vec![trim::DeleteRecordsPartition::default().with_partition_index(v.number).with_offset(v.long)])])),
        oracle!(22 InitProducerIdRequest InitProducerIdResponse |v, version| |r: InitProducerIdRequest| {
            let r = r.with_transactional_id(maybe(v, true).map(TransactionalId)).with_transaction_timeout_ms(v.number);
            if version >= 3 { r.with_producer_id(v.long.into()).with_producer_epoch(v.number as i16) } else { r }
        }),
        oracle!(23 OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse |v, version| |r: OffsetForLeaderEpochRequest| r.with_replica_id(if version >= 3 { v.number.into() } else { (-2).into() }).with_topics(vec![
            epochs::OffsetForLeaderTopic::default().with_topic(topic(v)).with_partitions(vec![epochs::OffsetForLeaderPartition::default()
                .with_partition(v.number).with_current_leader_epoch(v.number).with_leader_epoch(v.number)])])),
        oracle!(24 AddPartitionsToTxnRequest AddPartitionsToTxnResponse |v, version| |r: AddPartitionsToTxnRequest| {
            let topics = vec![add::AddPartitionsToTxnTopic::default().with_name(topic(v)).with_partitions(vec![v.number, 0])];
            if version < 4 {
                return r.with_v3_and_below_transactional_id(transactional_id(v)).with_v3_and_below_producer_id(v.long.into())
                    .with_v3_and_below_producer_epoch(v.number as i16).with_v3_and_below_topics(topics);
            }
            let one = add::AddPartitionsToTxnTransaction::default().with_transactional_id(transactional_id(v)).with_producer_id(v.long.into());
            let one = one.with_producer_epoch(v.number as i16).with_verify_only(v.flag).with_topics(topics);
            r.with_transactions(vec![one.clone(), one.with_transactional_id(TransactionalId(s("other")))])
        }),
        oracle!(25 AddOffsetsToTxnRequest AddOffsetsToTxnResponse |v, _version| |r: AddOffsetsToTxnRequest| r.with_transactional_id(transactional_id(v))
            .with_producer_id(v.long.into()).with_producer_epoch(v.number as i16).with_group_id(group(v))),
        oracle!(26 EndTxnRequest EndTxnResponse |v, _version| |r: EndTxnRequest| r.with_transactional_id(transactional_id(v))
            .with_producer_id(v.long.into()).with_producer_epoch(v.number as i16).with_committed(v.flag)),
        (27, |v, version| {
            let topic = markers::WritableTxnMarkerTopic::default().with_name(topic(v)).with_partition_indexes(vec![v.number]);
            let marker = markers::WritableTxnMarker::default().with_producer_id(v.long.into()).with_producer_epoch(v.number as i16);
            let marker = marker.with_transaction_result(v.flag).with_topics(vec![topic]).with_coordinator_epoch(v.number);
            let mut request = encoded(WriteTxnMarkersRequest::default().with_markers(vec![marker]), 1);
            // The other codec does not know version 2, in which the transaction's version stands before the tagged fields.
            if version == 2 { request.insert(request.len() - 2, 2) }
            request
        }, |response, _version| decoded::<WriteTxnMarkersResponse>(response, 1), |v, _version| {
            let (marker, topic) = (markers::WritableTxnMarker::default(), markers::WritableTxnMarkerTopic::default());
            let request = WriteTxnMarkersRequest::default().with_markers(vec![marker.with_topics(vec![topic.with_name(self::topic(v))])]);
            format!("{request:?} transaction_version: 2")
        }),
        oracle!(28 TxnOffsetCommitRequest TxnOffsetCommitResponse |v, version| |r: TxnOffsetCommitRequest| {
            let partition = pending::TxnOffsetCommitRequestPartition::default().with_partition_index(v.number).with_committed_offset(v.long)
                .with_committed_leader_epoch(if version >= 2 { v.number } else { -1 }).with_committed_metadata(maybe(v, true));
            let r = r.with_transactional_id(transactional_id(v)).with_group_id(group(v)).with_producer_id(v.long.into()).with_producer_epoch(v.number as i16)
                .with_topics(vec![pending::TxnOffsetCommitRequestTopic::default().with_name(topic(v)).with_partitions(vec![partition])]);
            if version < 3 { return r }
            r.with_generation_id(if v.flag { -1 } else { v.number }).with_member_id(s(&v.text)).with_group_instance_id(maybe(v, !v.flag))
        }),
        oracle!(29 DescribeAclsRequest DescribeAclsResponse |v, _version| |r: DescribeAclsRequest| r.with_resource_type_filter(1).with_pattern_type_filter(3)
            .with_resource_name_filter(maybe(v, true)).with_principal_filter(maybe(v, true)).with_host_filter(maybe(v, true)).with_operation(1).with_permission_type(1)),
        oracle!(30 CreateAclsRequest CreateAclsResponse |v, _version| |r: CreateAclsRequest| r.with_creations(vec![
            kafka_protocol::messages::create_acls_request::AclCreation::default().with_resource_type(2).with_resource_name(s(&v.text)).with_principal(s(&v.topic))
                .with_host(s("*")).with_operation(v.number as i8).with_permission_type(3)])),
        oracle!(31 DeleteAclsRequest DeleteAclsResponse |v, _version| |r: DeleteAclsRequest| r.with_filters(vec![
            kafka_protocol::messages::delete_acls_request::DeleteAclsFilter::default().with_resource_type_filter(1).with_pattern_type_filter(3)
                .with_resource_name_filter(maybe(v, true)).with_operation(1).with_permission_type(1)])),
        oracle!(32 DescribeConfigsRequest DescribeConfigsResponse |v, version| |r: DescribeConfigsRequest| r.with_include_synonyms(v.flag).with_include_documentation(version >= 3 && v.flag).with_resources(vec![
            configs::DescribeConfigsResource::default().with_resource_type(2).with_resource_name(s(&v.topic)).with_configuration_keys(v.flag.then(|| vec![s(&v.text)])),
            configs::DescribeConfigsResource::default().with_resource_type(4).with_resource_name(s("1")).with_configuration_keys(None)])),
        oracle!(33 AlterConfigsRequest AlterConfigsResponse |v, _version| |r: AlterConfigsRequest| r.with_validate_only(v.flag).with_resources(vec![
            alter::AlterConfigsResource::default().with_resource_type(2).with_resource_name(s(&v.topic))
                .with_configs(vec![alter::AlterableConfig::default().with_name(s(&v.text)).with_value(maybe(v, true))])])),
        oracle!(34 AlterReplicaLogDirsRequest AlterReplicaLogDirsResponse |v, _version| |r: AlterReplicaLogDirsRequest| r.with_dirs(vec![
            kafka_protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDir::default().with_path(s(&v.text)).with_topics(vec![
                kafka_protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDirTopic::default().with_name(topic(v)).with_partitions(vec![v.number])])])),
        (35, |v, version| {
            let topic = dirs::DescribableLogDirTopic::default().with_topic(topic(v)).with_partitions(vec![v.number]);
            encoded(DescribeLogDirsRequest::default().with_topics((!v.flag).then(|| vec![topic])), version)
        }, |response, version| {
            // The other codec does not know version 5, in which a directory ends with whether it is cordoned off.
            let response = if version < 5 { response } else { response.strip_suffix(&[0]).unwrap() };
            let cordoned = if version < 5 { "" } else { " is_cordoned: false" };
            decoded::<DescribeLogDirsResponse>(response, version) + cordoned
        }, |_, _version| {
            let topic = dirs::DescribableLogDirTopic::default();
            format!("{:?}", DescribeLogDirsRequest::default().with_topics(Some(vec![topic])))
        }),
        oracle!(36 SaslAuthenticateRequest SaslAuthenticateResponse |v, _version| |r: SaslAuthenticateRequest| r.with_auth_bytes(v.bytes.clone().into())),
        oracle!(37 CreatePartitionsRequest CreatePartitionsResponse |v, _version| |r: CreatePartitionsRequest| r.with_timeout_ms(v.number).with_validate_only(v.flag).with_topics(vec![
            grow::CreatePartitionsTopic::default().with_name(topic(v)).with_count(v.number)
                .with_assignments((!v.flag).then(|| vec![grow::CreatePartitionsAssignment::default().with_broker_ids(vec![v.number.into()])]))])),
        oracle!(38 CreateDelegationTokenRequest CreateDelegationTokenResponse |v, version| |r: CreateDelegationTokenRequest| {
            let r = r.with_max_lifetime_ms(v.long).with_renewers(vec![create_token::CreatableRenewers::default().with_principal_type(s("User")).with_principal_name(s(&v.text))]);
            if version >= 3 { r.with_owner_principal_type(maybe(v, true)).with_owner_principal_name(maybe(v, true)) } else { r }
        }),
        oracle!(39 RenewDelegationTokenRequest RenewDelegationTokenResponse |v, _version| |r: RenewDelegationTokenRequest| r.with_hmac(v.bytes.clone().into()).with_renew_period_ms(v.long)),
        oracle!(40 ExpireDelegationTokenRequest ExpireDelegationTokenResponse |v, _version| |r: ExpireDelegationTokenRequest| r.with_hmac(v.bytes.clone().into()).with_expiry_time_period_ms(v.long)),
        oracle!(41 DescribeDelegationTokenRequest DescribeDelegationTokenResponse |v, _version| |r: DescribeDelegationTokenRequest| r.with_owners((!v.flag).then(|| vec![
            tokens::DescribeDelegationTokenOwner::default().with_principal_type(s("User")).with_principal_name(s(&v.text))]))),
        oracle!(42 DeleteGroupsRequest DeleteGroupsResponse |v, _version| |r: DeleteGroupsRequest| r.with_groups_names(vec![group(v)])),
        oracle!(43 ElectLeadersRequest ElectLeadersResponse |v, version| |r: ElectLeadersRequest| r.with_election_type(if version >= 1 { v.number as i8 } else { 0 }).with_timeout_ms(v.number)
            .with_topic_partitions((!v.flag).then(|| vec![kafka_protocol::messages::elect_leaders_request::TopicPartitions::default().with_topic(topic(v)).with_partitions(vec![v.number])]))),
        oracle!(44 IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse |v, _version| |r: IncrementalAlterConfigsRequest| r.with_validate_only(v.flag).with_resources(vec![
            incremental::AlterConfigsResource::default().with_resource_type(2).with_resource_name(s(&v.topic))
                .with_configs(vec![incremental::AlterableConfig::default().with_name(s(&v.text)).with_config_operation(v.number as i8).with_value(maybe(v, true))])])),
        oracle!(45 AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse |v, version| |r: AlterPartitionReassignmentsRequest| r.with_timeout_ms(v.number)
            .with_allow_replication_factor_change(version < 1 || v.flag).with_topics(vec![reassign::ReassignableTopic::default().with_name(topic(v))
                .with_partitions(vec![reassign::ReassignablePartition::default().with_partition_index(v.number).with_replicas((!v.flag).then(|| vec![v.number.into()]))])])),
        oracle!(46 ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse |v, _version| |r: ListPartitionReassignmentsRequest| r.with_timeout_ms(v.number)
            .with_topics((!v.flag).then(|| vec![kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics::default()
                .with_name(topic(v)).with_partition_indexes(vec![v.number])]))),
        oracle!(47 OffsetDeleteRequest OffsetDeleteResponse |v, _version| |r: OffsetDeleteRequest| r.with_group_id(group(v)).with_topics(vec![
            forget::OffsetDeleteRequestTopic::default().with_name(topic(v)).with_partitions(vec![forget::OffsetDeleteRequestPartition::default().with_partition_index(v.number)])])),
        oracle!(48 DescribeClientQuotasRequest DescribeClientQuotasResponse |v, _version| |r: DescribeClientQuotasRequest| r.with_strict(v.flag).with_components(vec![
            quotas::ComponentData::default().with_entity_type(s("user")).with_match_type(v.number as i8).with_match(maybe(v, true))])),
        oracle!(49 AlterClientQuotasRequest AlterClientQuotasResponse |v, _version| |r: AlterClientQuotasRequest| r.with_validate_only(v.flag).with_entries(vec![
            alter_quotas::EntryData::default().with_entity(vec![alter_quotas::EntityData::default().with_entity_type(s("user")).with_entity_name(maybe(v, true))])
                .with_ops(vec![alter_quotas::OpData::default().with_key(s(&v.text)).with_value(f64::from(v.number)).with_remove(!v.flag)])])),
        oracle!(50 DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse |v, _version| |r: DescribeUserScramCredentialsRequest| r.with_users((!v.flag).then(|| vec![
            kafka_protocol::messages::describe_user_scram_credentials_request::UserName::default().with_name(s(&v.text))]))),
        oracle!(51 AlterUserScramCredentialsRequest AlterUserScramCredentialsResponse |v, _version| |r: AlterUserScramCredentialsRequest| {
            let upsertion = scram::ScramCredentialUpsertion::default().with_name(s(&v.text)).with_mechanism(1).with_iterations(v.number);
            let upsertion = upsertion.with_salt(v.bytes.clone().into()).with_salted_password(v.bytes.clone().into());
            r.with_deletions(vec![scram::ScramCredentialDeletion::default().with_name(topic(v).0).with_mechanism(v.number as i8)]).with_upsertions(vec![upsertion])
        }),
        oracle!(55 DescribeQuorumRequest DescribeQuorumResponse |v, _version| |r: DescribeQuorumRequest| {
            let of = |name: &str, index| quorum::TopicData::default().with_topic_name(s(name).into()).with_partitions(vec![quorum::PartitionData::default().with_partition_index(index)]);
            r.with_topics(if v.flag { vec![of("__cluster_metadata", 0)] } else { vec![of(&v.topic, v.number), of(&v.text, 0)] })
        }),
        oracle!(57 UpdateFeaturesRequest UpdateFeaturesResponse |v, version| |r: UpdateFeaturesRequest| {
            let update = features::FeatureUpdateKey::default().with_feature(s("transaction.version")).with_max_version_level(v.number as i16);
            let update = if version < 1 { update.with_allow_downgrade(v.flag) } else { update.with_upgrade_type(v.long as i8) };
            let r = r.with_timeout_ms(v.number).with_feature_updates(vec![update, features::FeatureUpdateKey::default().with_feature(s(&v.text))]);
            if version >= 1 { r.with_validate_only(v.flag) } else { r }
        }),
        oracle!(60 DescribeClusterRequest DescribeClusterResponse |v, version| |r: DescribeClusterRequest| r.with_include_cluster_authorized_operations(v.flag)
            .with_endpoint_type(if version >= 1 { v.number as i8 } else { 1 }).with_include_fenced_brokers(version >= 2 && v.flag)),
        oracle!(61 DescribeProducersRequest DescribeProducersResponse |v, _version| |r: DescribeProducersRequest| r.with_topics(vec![
            producers::TopicRequest::default().with_name(topic(v)).with_partition_indexes(vec![v.number, 0])])),
        oracle!(64 UnregisterBrokerRequest UnregisterBrokerResponse |v, _version| |r: UnregisterBrokerRequest| r.with_broker_id(v.number.into())),
        oracle!(65 DescribeTransactionsRequest DescribeTransactionsResponse |v, _version| |r: DescribeTransactionsRequest| r.with_transactional_ids(vec![
            transactional_id(v), TransactionalId(s("other"))])),
        oracle!(66 ListTransactionsRequest ListTransactionsResponse |v, version| |r: ListTransactionsRequest| r.with_state_filters(vec![s("Ongoing"), s(&v.text)])
            .with_producer_id_filters(vec![v.long.into()]).with_duration_filter(if version >= 1 { v.long } else { -1 })
            .with_transactional_id_pattern(if version >= 2 { maybe(v, true) } else { None })),
        oracle!(68 ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse |v, version| |r: ConsumerGroupHeartbeatRequest| {
            let owned = beat::TopicPartitions::default().with_topic_id(uuid(v)).with_partitions(vec![v.number]);
            let r = r.with_group_id(group(v)).with_member_id(s(&v.text)).with_member_epoch(if v.flag { 0 } else { v.number }).with_rack_id(maybe(v, true))
                .with_rebalance_timeout_ms(v.number).with_subscribed_topic_names(Some(vec![topic(v)])).with_server_assignor(Some(s("range")))
                .with_instance_id(maybe(v, !v.flag)).with_topic_partitions(Some(if v.flag { vec![] } else { vec![owned] }));
            if version >= 1 { r.with_subscribed_topic_regex(maybe(v, true)) } else { r }
        }),
        oracle!(69 ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse |v, _version| |r: ConsumerGroupDescribeRequest| r.with_include_authorized_operations(v.flag)
            .with_group_ids(vec![group(v), s("").into()])),
        oracle!(74 ListConfigResourcesRequest ListConfigResourcesResponse |v, version| |r: ListConfigResourcesRequest|
            if version >= 1 { r.with_resource_types(if v.flag { vec![] } else { vec![v.number as i8] }) } else { r }),
        oracle!(75 DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse |v, _version| |r: DescribeTopicPartitionsRequest| r.with_response_partition_limit(v.number)
            .with_topics(vec![partitions::TopicRequest::default().with_name(topic(v)), partitions::TopicRequest::default().with_name(s(&v.text).into())])
            .with_cursor(v.flag.then(|| partitions::Cursor::default().with_topic_name(topic(v)).with_partition_index(v.number)))),
        oracle!(76 ShareGroupHeartbeatRequest ShareGroupHeartbeatResponse |v, _version| |r: ShareGroupHeartbeatRequest| r.with_group_id(group(v)).with_member_id(s(&v.text))
            .with_member_epoch(if v.flag { 0 } else { v.number }).with_rack_id(maybe(v, true)).with_subscribed_topic_names(Some(vec![topic(v)]))),
        oracle!(77 ShareGroupDescribeRequest ShareGroupDescribeResponse |v, _version| |r: ShareGroupDescribeRequest| r.with_include_authorized_operations(v.flag)
            .with_group_ids(vec![group(v), s("").into()])),
    ]
}

/// A topic's id, of the other codec's type for it, which it does not name.
fn uuid<U: std::str::FromStr<Err: std::fmt::Debug>>(values: &Values) -> U {
    of_bytes((values.long as u128 & 0xffff_ffff_ffff).to_be_bytes())
}

fn of_bytes<U: std::str::FromStr<Err: std::fmt::Debug>>(id: [u8; 16]) -> U {
    format!("{:032x}", u128::from_be_bytes(id)).parse().unwrap()
}

/// Each API of the table in each version that is answered.
fn all() -> Vec<(Oracle, i16)> {
    let oracles = oracles();
    let keys: Vec<i16> = oracles.iter().map(|(key, ..)| *key).collect();
    assert_eq!(keys, APIS.iter().map(|api| api.key).collect::<Vec<_>>(), "each API of the table has its oracle");
    let versions = |api: &Api| if api.key == 0 { 3..=*api.versions.end() } else { api.versions.clone() };
    let each = oracles.into_iter().zip(APIS);
    each.flat_map(|(oracle, api)| versions(api).map(move |version| (oracle, version))).collect()
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
    assert!(seen.response.bytes.ends_with(&response));
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
        Ok(_) | Err(Stop::Broken(_)) => {}
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
