//! The Kafka wire protocol: every Kafka client on the same port.
//!
//! ```text
//! request     size i32 │ api key i16, version i16, correlation id i32, client id, [tags] │ body
//! response    size i32 │ correlation id i32, [tags]                                      │ body
//!                                                 └ only in an API's flexible versions ┘
//! ```
//!
//! [`APIS`] is the one table of what is served: dispatch, the answer to ApiVersions and the list below come from it. Each
//! family of APIs has its own file, which reads like the protocol's grammar: read the request, ask the broker, write the response.
//!
//! - A connection's requests are served one at a time, and answered in order. While a Fetch waits, the requests behind it wait
//!   too, as in Kafka.
//! - A frame whose size is negative or above [`FRAME_BYTES_MAX`] closes the connection before any memory is set aside for it.
//! - A request that cannot be read, or whose API is not in the table, closes the connection with one line on stderr: from there
//!   on the bytes have no meaning. So does a request whose answer would exceed [`ANSWER_BYTES_MAX`].
//! - Who uses up a quota is told so by `throttle_time_ms`, and nothing of its connection is read until then (`throttle`).
//! - Not served: fetch sessions (the session id is always 0, which every client accepts), telemetry.
//!
#![doc = include_str!("clients.md")]

mod acls;
mod api_versions;
mod authentication;
pub mod batch;
pub mod compression;
mod configs;
mod consumer_groups;
mod controller;
mod fetch;
mod groups;
mod internal_records;
mod list_offsets;
mod login;
mod metadata;
mod offsets;
mod produce;
mod quotas;
mod replicas;
pub mod requests;
mod scram;
mod share_fetch;
mod share_groups;
mod share_offsets;
mod throttle;
mod topic_ref;
mod topics;
mod transaction_admin;
mod transactions;
pub mod wire;

use crate::{
    broker::{
        self, Broker, Caller, Code, Isolation, ReadSession, ResourceName,
        spans::{Kind, Spans},
        wire::{Asker, Exchange, FileRange, Message, SEEN_BYTES_MAX},
    },
    config::Address,
    log::record::{Records, shown, write_visible},
    metrics::ROWS_MAX,
    protocol::connection::{Input, Output},
    security::Quota,
};
use compression::Codecs;
use offsets::PendingCommits;
use std::{
    io,
    net::SocketAddr,
    ops::{Range, RangeInclusive},
    path::PathBuf,
    time::{Duration, Instant},
};
use wire::{ANSWER_BYTES_MAX, Malformed, Reader, Writer};

/// The largest request: Kafka's `socket.request.max.bytes`.
pub const FRAME_BYTES_MAX: i32 = 100 << 20;
/// Responses are sent once this many bytes are waiting, even if more requests have arrived.
const UNSENT_BYTES_MAX: usize = 1 << 20;
/// The largest buffer that a connection keeps from one request to the next.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// This broker's id. It leads every partition, coordinates every group, and is the controller.
const NODE_ID: i32 = 1;
/// The authorized operations in a response to a client that did not ask for them.
const NO_OPERATIONS: i32 = i32::MIN;

/// What a client may do with a resource, a bit for each of Kafka's operations (KIP-430), where it `asked` for that.
fn operations(broker: &Broker, asked: bool, resource: ResourceName<'_>) -> i32 {
    if asked { broker.operations(resource) as i32 } else { NO_OPERATIONS }
}

/// A row of the table.
#[derive(Debug)]
pub struct Api {
    /// Its number.
    pub key: i16,
    /// Its name.
    pub name: &'static str,
    /// The versions that ApiVersions advertises.
    pub versions: RangeInclusive<i16>,
    /// The first flexible version.
    flexible_from: i16,
    handle: Handler,
}

/// The key of Produce.
const PRODUCE: i16 = 0;

/// The key of OffsetCommit: requests of this kind that arrive together share one sync.
const OFFSET_COMMIT: i16 = 8;

/// What nobody may see who watches: fields of these APIs' requests, by which one could log in.
const SECRETS: [(i16, &str); 4] =
    [(SASL_AUTHENTICATE, "auth_bytes"), (39, "hmac"), (40, "hmac"), (51, "salted_password")];

/// The keys of those by which one logs in, and of the one that is answered in a login, too.
const SASL_HANDSHAKE: i16 = 17;
const SASL_AUTHENTICATE: i16 = 36;
const METADATA: i16 = 3;
/// The key of ApiVersions, which is answered in whatever version it is asked.
const API_VERSIONS: i16 = 18;

type Handler = fn(&mut Call<'_, '_>, &mut Reader<'_>) -> Result<(), Stop>;

const fn api(key: i16, name: &'static str, versions: (i16, i16), flexible_from: i16, handle: Handler) -> Api {
    Api { key, name, versions: versions.0..=versions.1, flexible_from, handle }
}

/// Every API that is served.
pub static APIS: &[Api] = &[
    // 0 to 2 are advertised but refused: without them librdkafka 2.0 silently stops compressing.
    api(PRODUCE, "Produce", (0, 13), 9, produce::produce),
    api(1, "Fetch", (4, 18), 12, fetch::fetch),
    api(2, "ListOffsets", (1, 11), 6, list_offsets::list_offsets),
    api(METADATA, "Metadata", (0, 13), 9, metadata::metadata),
    api(OFFSET_COMMIT, "OffsetCommit", (2, 10), 8, offsets::offset_commit),
    api(9, "OffsetFetch", (1, 10), 6, offsets::offset_fetch),
    api(10, "FindCoordinator", (0, 6), 3, groups::find_coordinator),
    api(11, "JoinGroup", (0, 9), 6, groups::join_group),
    api(12, "Heartbeat", (0, 4), 4, groups::heartbeat),
    api(13, "LeaveGroup", (0, 5), 4, groups::leave_group),
    api(14, "SyncGroup", (0, 5), 4, groups::sync_group),
    api(15, "DescribeGroups", (0, 6), 5, groups::describe_groups),
    api(16, "ListGroups", (0, 5), 3, groups::list_groups),
    // It has no flexible version.
    api(SASL_HANDSHAKE, "SaslHandshake", (0, 1), 2, authentication::sasl_handshake),
    api(API_VERSIONS, "ApiVersions", (0, 4), 3, api_versions::api_versions),
    api(19, "CreateTopics", (2, 7), 5, topics::create_topics),
    api(20, "DeleteTopics", (1, 6), 4, topics::delete_topics),
    api(21, "DeleteRecords", (0, 2), 2, topics::delete_records),
    api(22, "InitProducerId", (0, 5), 2, transactions::init_producer_id),
    api(23, "OffsetForLeaderEpoch", (2, 4), 4, list_offsets::offset_for_leader_epoch),
    api(24, "AddPartitionsToTxn", (0, 5), 3, transactions::add_partitions_to_txn),
    api(25, "AddOffsetsToTxn", (0, 4), 3, transactions::add_offsets_to_txn),
    api(26, "EndTxn", (0, 5), 3, transactions::end_txn),
    api(27, "WriteTxnMarkers", (1, 2), 1, transaction_admin::write_txn_markers),
    api(28, "TxnOffsetCommit", (0, 5), 3, offsets::txn_offset_commit),
    api(29, "DescribeAcls", (1, 3), 2, acls::describe_acls),
    api(30, "CreateAcls", (1, 3), 2, acls::create_acls),
    api(31, "DeleteAcls", (1, 3), 2, acls::delete_acls),
    api(32, "DescribeConfigs", (1, 4), 4, configs::describe_configs),
    api(33, "AlterConfigs", (0, 2), 2, configs::alter_configs),
    api(34, "AlterReplicaLogDirs", (1, 2), 2, replicas::alter_replica_log_dirs),
    api(35, "DescribeLogDirs", (1, 5), 2, topics::describe_log_dirs),
    api(SASL_AUTHENTICATE, "SaslAuthenticate", (0, 2), 2, authentication::sasl_authenticate),
    api(37, "CreatePartitions", (0, 3), 2, topics::create_partitions),
    api(38, "CreateDelegationToken", (1, 3), 2, authentication::create_delegation_token),
    api(39, "RenewDelegationToken", (1, 2), 2, authentication::renew_delegation_token),
    api(40, "ExpireDelegationToken", (1, 2), 2, authentication::expire_delegation_token),
    api(41, "DescribeDelegationToken", (1, 3), 2, authentication::describe_delegation_token),
    api(42, "DeleteGroups", (0, 2), 2, groups::delete_groups),
    api(43, "ElectLeaders", (0, 2), 2, replicas::elect_leaders),
    api(44, "IncrementalAlterConfigs", (0, 1), 1, configs::incremental_alter_configs),
    api(45, "AlterPartitionReassignments", (0, 1), 0, replicas::alter_partition_reassignments),
    api(46, "ListPartitionReassignments", (0, 0), 0, replicas::list_partition_reassignments),
    // It has no flexible version.
    api(47, "OffsetDelete", (0, 0), 1, offsets::offset_delete),
    api(48, "DescribeClientQuotas", (0, 1), 1, quotas::describe_client_quotas),
    api(49, "AlterClientQuotas", (0, 1), 1, quotas::alter_client_quotas),
    api(50, "DescribeUserScramCredentials", (0, 0), 0, scram::describe_user_scram_credentials),
    api(51, "AlterUserScramCredentials", (0, 0), 0, scram::alter_user_scram_credentials),
    api(55, "DescribeQuorum", (0, 2), 0, controller::describe_quorum),
    api(57, "UpdateFeatures", (0, 2), 0, controller::update_features),
    api(60, "DescribeCluster", (0, 2), 0, metadata::describe_cluster),
    api(61, "DescribeProducers", (0, 0), 0, transaction_admin::describe_producers),
    api(64, "UnregisterBroker", (0, 0), 0, controller::unregister_broker),
    api(65, "DescribeTransactions", (0, 0), 0, transaction_admin::describe_transactions),
    api(66, "ListTransactions", (0, 2), 0, transaction_admin::list_transactions),
    api(68, "ConsumerGroupHeartbeat", (0, 1), 0, consumer_groups::consumer_group_heartbeat),
    api(69, "ConsumerGroupDescribe", (0, 1), 0, consumer_groups::consumer_group_describe),
    api(74, "ListConfigResources", (0, 1), 0, configs::list_config_resources),
    api(75, "DescribeTopicPartitions", (0, 0), 0, metadata::describe_topic_partitions),
    api(76, "ShareGroupHeartbeat", (1, 1), 0, share_groups::share_group_heartbeat),
    api(77, "ShareGroupDescribe", (1, 1), 0, share_groups::share_group_describe),
    api(78, "ShareFetch", (1, 2), 0, share_fetch::share_fetch),
    api(79, "ShareAcknowledge", (1, 2), 0, share_fetch::share_acknowledge),
    api(90, "DescribeShareGroupOffsets", (0, 1), 0, share_offsets::describe_share_group_offsets),
    api(91, "AlterShareGroupOffsets", (0, 0), 0, share_offsets::alter_share_group_offsets),
    api(92, "DeleteShareGroupOffsets", (0, 0), 0, share_offsets::delete_share_group_offsets),
];

/// The number in the table of the API with this key.
fn number_of(key: i16) -> Option<usize> {
    APIS.iter().position(|api| api.key == key)
}

/// The number of requests that are of no API in the table, or cannot be read that far.
const NONE: usize = APIS.len();

const _: () = assert!(NONE < ROWS_MAX);

/// Why a connection has to end.
#[derive(Debug)]
pub enum Stop {
    /// Its client broke the protocol.
    Broken(String),
    /// Nobody knows who its client is, and what it sent was none of what such a one may.
    Stranger,
    /// Its socket is broken.
    Io(io::Error),
}

impl From<Malformed> for Stop {
    fn from(error: Malformed) -> Stop {
        Stop::Broken(error.to_string())
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Io(error)
    }
}

/// Why part of a request is refused.
#[derive(Clone, Debug)]
struct Refusal {
    code: Code,
    why: String,
}

impl Refusal {
    fn new(code: Code, why: String) -> Refusal {
        Refusal { code, why }
    }

    /// Of what no request may ask.
    fn invalid(why: impl Into<String>) -> Refusal {
        Refusal::new(Code::InvalidRequest, why.into())
    }
}

/// Writes whether something is refused, and why: the fields `error_code` and `error_message`.
fn write_code(w: &mut Writer<'_>, refusal: Option<&Refusal>) {
    w.i16("error_code", refusal.map_or(Code::None, |refusal| refusal.code).into());
    w.nullable_string("error_message", refusal.map(|refusal| refusal.why.as_str()));
}

impl From<broker::Error> for Refusal {
    fn from(error: broker::Error) -> Refusal {
        Refusal::new(error.code(), error.to_string())
    }
}

/// What a connection keeps from one request to the next, mostly buffers to be used again.
#[derive(Debug, Default)]
pub struct Session {
    /// The name by which the broker listens, if it does.
    name: Option<String>,
    login: login::Login,
    codecs: Codecs,
    decompressed: Vec<u8>,
    compressed: Vec<u8>,
    records: Records<'static>,
    read: ReadSession,
    /// Whether the last request made one of the buffers large.
    large: bool,
    /// Commits whose answers are written but not sent, since they are not durable yet.
    commits: PendingCommits,
    /// Whether the next request has arrived already and is an OffsetCommit, which can share the sync.
    commits_follow: bool,
}

impl Session {
    /// Frees the buffers after a large request or a large answer: there may never be another.
    fn shrink(&mut self) {
        let buffers = [self.decompressed.capacity(), self.compressed.capacity(), self.read.batches().bytes().len()];
        if self.large || buffers.iter().any(|&bytes| bytes > KEPT_BYTES_MAX) {
            self.forget();
        }
    }

    /// Frees the buffers, and keeps the commits that have yet to be made durable.
    fn forget(&mut self) {
        let Session { name, login, commits, commits_follow, .. } = std::mem::take(self);
        *self = Session { name, login, commits, commits_follow, ..Session::default() };
    }
}

/// A request while its handler works on it.
struct Call<'c, 's> {
    broker: &'c Broker,
    session: &'c mut Session,
    output: &'c mut Output<'s>,
    api: &'static Api,
    version: i16,
    correlation_id: i32,
    /// The name that the client gave itself.
    client_id: &'c str,
    /// Where in the output the response begins, once it has begun.
    response_at: Option<usize>,
    /// The fields of the response, if somebody watches.
    spans: Option<Spans>,
    /// Whether something of the request was refused.
    refused: bool,
    /// Where in the output the response tells how long its client is to wait, if it does.
    throttle_at: Option<usize>,
    /// How long that is, as far as the request itself has found out.
    wait: Duration,
    /// Which lines of a log it wrote or read, if somebody watches.
    file: Option<FileRange>,
    /// With `--explain`, the client to name on stderr.
    explained: Explained,
}

/// With `--explain`, the client whose requests are explained on stderr.
type Explained = Option<SocketAddr>;

/// Explains one step. Control characters in names that clients sent are made visible, so they cannot steer a terminal.
fn tell(explained: Explained, step: impl FnOnce() -> String) {
    if let Some(peer) = explained {
        let mut visible = Vec::new();
        write_visible(&mut visible, step().as_bytes());
        crate::tell::tell(format_args!("{peer}   {}", String::from_utf8_lossy(&visible)));
    }
}

/// Serves a connection until its client leaves. `name` is the host name on which the broker listens, if it listens by name.
pub fn serve(broker: &Broker, name: Option<&str>, input: &mut Input<'_>, output: &mut Output<'_>) -> io::Result<()> {
    let mut session = Session { name: name.map(String::from), ..Session::default() };
    input.silence_max = Some(broker.config().idle_timeout);
    let _ends = ShareSessionsEnd { broker, connection: output.counted().id };
    while !output.stopping() {
        match serve_one(broker, &mut session, input, output) {
            Ok(true) => {}
            Ok(false) => break,
            Err(Stop::Io(error)) => return Err(error),
            Err(Stop::Stranger) => break,
            // Whoever reaches the port could fill the operator's terminal so.
            Err(Stop::Broken(_)) if session.login.is_stranger(broker) => break,
            Err(Stop::Broken(why)) => {
                crate::tell::tell_of_client(format_args!(
                    "{} breaks Kafka's protocol and is closed: {why}",
                    output.peer
                ));
                break;
            }
        }
    }
    session.commits.make_durable(broker, output);
    output.flush()
}

/// Ends the share sessions of a connection, however it ends.
struct ShareSessionsEnd<'b> {
    broker: &'b Broker,
    connection: u64,
}

impl Drop for ShareSessionsEnd<'_> {
    fn drop(&mut self) {
        self.broker.end_share_sessions_of(self.connection);
    }
}

/// Serves one request; false: the client is gone.
fn serve_one(
    broker: &Broker,
    session: &mut Session,
    input: &mut Input<'_>,
    output: &mut Output<'_>,
) -> Result<bool, Stop> {
    output.rest_while_connected()?;
    let Some(size) = next_frame(broker, input, output, session)? else { return Ok(false) };
    let (frame, behind) = input.bytes()[4..].split_at(size);
    session.commits_follow = is_whole_offset_commit(behind) && output.bytes.len() < UNSENT_BYTES_MAX;
    answer(broker, session, output, frame)?;
    session.shrink();
    input.consume(4 + size);
    if output.bytes.len() >= UNSENT_BYTES_MAX && !session.commits_follow {
        output.flush()?;
    }
    Ok(!session.login.is_over)
}

/// Whether these bytes begin with a whole OffsetCommit request.
fn is_whole_offset_commit(bytes: &[u8]) -> bool {
    let Some((size, frame)) = bytes.split_first_chunk() else { return false };
    let is_whole = usize::try_from(i32::from_be_bytes(*size)).is_ok_and(|size| size <= frame.len());
    is_whole && frame.starts_with(&OFFSET_COMMIT.to_be_bytes())
}

/// Waits for a whole frame and returns its size, without the four bytes that tell it; `None`: the client is gone.
fn next_frame(
    broker: &Broker,
    input: &mut Input<'_>,
    output: &mut Output<'_>,
    session: &mut Session,
) -> Result<Option<usize>, Stop> {
    loop {
        if let Some(size) = input.bytes().first_chunk() {
            let size = i32::from_be_bytes(*size);
            let is_stranger = session.login.is_stranger(broker);
            let most = if is_stranger { login::FRAME_BYTES_MAX } else { FRAME_BYTES_MAX };
            if !(0..=most).contains(&size) {
                count_unread(broker, output, Instant::now());
                let why = format!("a frame of {size} bytes; the limit is {most}");
                return Err(if is_stranger { Stop::Stranger } else { Stop::Broken(why) });
            }
            if input.bytes().len() - 4 >= size as usize {
                return Ok(Some(size as usize));
            }
        }
        output.flush()?;
        match input.fill(usize::MAX, output, || session.forget()) {
            Ok(0) => return Ok(None),
            // The client was silent for too long. It is owed no answer.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(None);
            }
            filled => drop(filled?),
        }
    }
}

/// The first few of a list, and how many more there are.
fn shown_list(items: impl ExactSizeIterator<Item = String>) -> String {
    const FEW: usize = 5;
    let more = items.len().saturating_sub(FEW);
    let few = items.take(FEW).map(|item| shown(item.as_bytes())).collect::<Vec<_>>().join(", ");
    match more {
        0 => few,
        _ => format!("{few} and {more} more"),
    }
}

/// What was asked of, with the reason if that was refused.
fn with_code(asked: String, code: Code) -> String {
    if code == Code::None { asked } else { format!("{asked} refused with {code:?}") }
}

/// What is to be added to what was asked where it was refused.
fn refused<T>(asked: &broker::Result<T>) -> String {
    asked.as_ref().err().map_or(String::new(), |error| format!(", refused: {error}"))
}

/// Counts a request that is of no API in the table, or that cannot be read that far.
fn count_unread(broker: &Broker, output: &Output<'_>, begun: Instant) {
    output.counted().requested(1, begun);
    count(broker, NONE, begun, true);
}

/// Counts a request by the number of its API, whether it was refused or answered.
fn count(broker: &Broker, number: usize, begun: Instant, refused: bool) {
    let counted = broker.metrics().kafka.row(number);
    counted.took.add(1, begun.elapsed());
    counted.errors.add(refused.into());
}

/// What a request begins with.
struct Head<'a> {
    /// The number of its API.
    number: usize,
    correlation_id: i32,
    /// The name that the client gave itself.
    client_id: &'a str,
}

impl<'a> Head<'a> {
    /// Reads it. From then on `r` reads its version of its API.
    fn read(r: &mut Reader<'a>) -> Result<Head<'a>, Stop> {
        let (key, version) = (r.i16("request_api_key")?, r.i16("request_api_version")?);
        let correlation_id = r.i32("correlation_id")?;
        let number = number_of(key).ok_or_else(|| Stop::Broken(format!("there is no API {key} here")))?;
        let client_id = r.nullable_string("client_id")?.unwrap_or_default();
        (r.version, r.flexible) = (version, version >= APIS[number].flexible_from);
        r.tags()?;
        Ok(Head { number, correlation_id, client_id })
    }
}

/// Answers one request: `frame` is the frame without its size, and the response is appended to `output`. Returns how many bytes
/// were left over behind the request, which Kafka ignores. After an error, `output` may hold part of a response.
pub fn answer(broker: &Broker, session: &mut Session, output: &mut Output<'_>, frame: &[u8]) -> Result<usize, Stop> {
    if session.login.takes_tokens() {
        return login::token(broker, &mut session.login, output, frame).map(|()| 0);
    }
    let (begun, mut r) = (Instant::now(), Reader::new(frame, 0, false));
    if broker.wire().is_on() {
        let mut spans = Box::new(Spans::new(SEEN_BYTES_MAX));
        spans.field("size", Kind::Int32, false, 4);
        r.spans = Some(spans);
    }
    let head = Head::read(&mut r).inspect_err(|_| count_unread(broker, output, begun))?;
    let Head { number, correlation_id, client_id } = head;
    let (api, version) = (&APIS[number], r.version);
    let explained = broker.config().explain.then_some(output.peer);
    if let Some(peer) = explained {
        let (name, client, size) = (api.name, shown(client_id.as_bytes()), frame.len());
        let request = format!("request {correlation_id} of '{client}', {size} bytes");
        crate::tell::tell(format_args!("{peer} asks: {name} version {version}, {request}"));
    }
    output.counted().set_client(client_id);
    output.counted().requested(1, begun);
    let mut caller = Caller { client_id: client_id.into(), ..broker.caller().clone() };
    session.login.principal().into_iter().for_each(|principal| caller.principal = principal.clone());
    let broker = &broker.on_behalf_of(caller);
    let watched = r.spans.is_some().then(|| Asker {
        connection: output.counted().id,
        address: output.peer,
        client: client_id.into(),
        api: api.name,
    });
    let watched = watched.filter(|asker| broker.wire().wants(asker));
    r.spans.take_if(|_| watched.is_none());
    let spans = watched.as_ref().map(|_| Spans::default());
    // Who watches sees the answer as it is sent, which others that follow would put off.
    session.commits_follow &= watched.is_none();
    let mut call = Call {
        broker,
        session,
        output,
        api,
        version,
        correlation_id,
        client_id,
        response_at: None,
        spans,
        file: None,
        refused: false,
        throttle_at: None,
        wait: Duration::ZERO,
        explained,
    };
    let processor = broker.is_limited(Quota::RequestTime).then(throttle::processor_time);
    let mut done = call.carry_out(&mut r);
    if done.is_ok() {
        done = call.slow_down(4 + frame.len(), processor);
    }
    count(broker, number, begun, call.refused || done.is_err());
    let done = done.map_err(|stop| match stop {
        Stop::Broken(why) => Stop::Broken(format!("{} version {version}: {why}", api.name)),
        stop => stop,
    });
    if let Some(asker) = watched {
        let (spans, file) = (call.spans.take(), call.file.take());
        let response = call.response().filter(|_| done.is_ok()).unwrap_or_default();
        let mut response = message(&[response], spans);
        let mut request = message(&[&(frame.len() as u32).to_be_bytes(), frame], r.spans.take().map(|spans| *spans));
        if let Some((_, secret)) = SECRETS.iter().find(|(key, _)| *key == api.key) {
            request.withhold(secret);
            response.withhold(secret);
        }
        broker.seen(Exchange {
            asker,
            version: Some(version),
            time_ms: broker.now_ms(),
            request,
            response,
            file,
            took: begun.elapsed(),
        });
    }
    done.map(|()| if api.versions.contains(&version) { r.rest().len() } else { 0 })
}

/// A message for whoever watches.
fn message(parts: &[&[u8]], spans: Option<Spans>) -> Message {
    let mut message = Message { spans, ..Message::default() };
    parts.iter().for_each(|part| message.add(part));
    message
}

impl Call<'_, '_> {
    /// Has the request handled, and completes the response.
    fn carry_out(&mut self, r: &mut Reader<'_>) -> Result<(), Stop> {
        if self.broker.asks_who() {
            self.session.login.check(self.broker, self.api.key)?;
        }
        if !self.api.versions.contains(&self.version) {
            self.unsupported_version()?;
        } else {
            if self.api.key != OFFSET_COMMIT {
                self.session.commits.make_durable(self.broker, self.output);
            }
            (self.api.handle)(self, r)?;
        }
        let bytes = &mut self.output.bytes;
        if let Some(at) = self.response_at {
            if bytes.len() > ANSWER_BYTES_MAX {
                bytes.truncate(at);
                return Err(Stop::Broken("the answer is too large".into()));
            }
            let size = (bytes.len() - at - 4) as i32;
            bytes[at..at + 4].copy_from_slice(&size.to_be_bytes());
        }
        if !self.session.commits_follow {
            self.session.commits.make_durable(self.broker, self.output);
        }
        tell(self.explained, || match self.response() {
            Some(response) => format!("answers: {} bytes", response.len()),
            None => "answers nothing, as it was asked to".into(),
        });
        Ok(())
    }

    /// The response, once it is written.
    fn response(&self) -> Option<&[u8]> {
        self.output.bytes.get(self.response_at?..)
    }

    /// Notes which lines of a log were written or read, where somebody watches. The first ones count.
    fn touched(&mut self, place: Option<(impl Into<PathBuf>, Range<impl Into<u64>>)>) {
        if self.spans.is_some() && self.file.is_none() {
            self.file = place.map(|(path, positions)| FileRange::new(path, positions));
        }
    }

    /// Begins the response. Handlers do this last, since a handler that waits first sends the responses written before.
    fn respond(&mut self) -> Writer<'_> {
        let flexible = self.version >= self.api.flexible_from;
        self.response_at = Some(self.output.bytes.len());
        self.throttle_at = None;
        self.spans = self.spans.take().map(|_| Spans::new(SEEN_BYTES_MAX));
        let mut w = Writer {
            out: &mut self.output.bytes,
            version: self.version,
            flexible,
            spans: self.spans.as_mut(),
            refused: Some(&mut self.refused),
            throttle_at: Some(&mut self.throttle_at),
        };
        w.i32("size", 0);
        w.i32("correlation_id", self.correlation_id);
        // KIP-511: a client that does not know this version must still be able to read the header.
        if self.api.key != API_VERSIONS {
            w.tags();
        }
        w
    }

    /// Handles a version that is not served: ApiVersions answers in version 0 with what is; any other API closes the connection
    /// (KIP-511).
    fn unsupported_version(&mut self) -> Result<(), Stop> {
        if self.api.key != API_VERSIONS {
            return Err(Stop::Broken("it is not served here".into()));
        }
        self.version = 0;
        let levels = self.broker.feature_levels();
        api_versions::write(&mut self.respond(), Code::UnsupportedVersion, &levels);
        Ok(())
    }

    /// The address of the client, as Kafka writes it.
    fn client_host(&self) -> String {
        format!("/{}", self.output.peer.ip().to_canonical())
    }

    /// The host and port that the client is told to connect to: those of `--advertise`, or those at which it reached the broker.
    /// Over loopback the host is the name on which the broker listens, if it has one: that is what a user typed and what a
    /// certificate names.
    fn advertised(&self) -> Result<(String, i32), Stop> {
        if let Some(Address { host, port }) = &self.broker.config().advertise {
            return Ok((host.clone(), i32::from(*port)));
        }
        let local: SocketAddr = self.output.local()?;
        let ip = local.ip().to_canonical();
        let name = self.session.name.clone().filter(|_| ip.is_loopback());
        Ok((name.unwrap_or_else(|| ip.to_string()), i32::from(local.port())))
    }
}

/// [`APIS`] as the table in `clients.md`.
pub fn support_table() -> String {
    let row = |api: &Api| format!("| {} | {} | {}-{} |\n", api.key, api.name, api.versions.start(), api.versions.end());
    format!("| key | API | versions |\n| --- | --- | --- |\n{}", APIS.iter().map(row).collect::<String>())
}

/// Which records a client wants to see, as it says it (KIP-98).
fn isolation(level: i8) -> Result<Isolation, Code> {
    match level {
        0 => Ok(Isolation::ReadUncommitted),
        1 => Ok(Isolation::ReadCommitted),
        _ => Err(Code::InvalidRequest),
    }
}

/// A partition's number as a client sent it.
fn partition_index(index: i32) -> u32 {
    // No topic has that many partitions, so a negative number is simply unknown.
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Compares the leader epoch that a client knows, -1 if none, with the partition's (KIP-320).
fn check_leader_epoch(asked: i32, leader_epoch: u32) -> Result<(), Code> {
    match asked {
        -1 => Ok(()),
        _ if i64::from(asked) < i64::from(leader_epoch) => Err(Code::FencedLeaderEpoch),
        _ if i64::from(asked) > i64::from(leader_epoch) => Err(Code::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
