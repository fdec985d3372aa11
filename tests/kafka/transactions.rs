//! Transactions of Kafka's second protocol over crashes, waits and clocks.

use super::*;

/// A producer in transactions of the second protocol: producing adds the partition, and each end raises the epoch.
struct Transactions {
    id: &'static str,
    producer_id: i64,
    epoch: i16,
}

impl Transactions {
    fn begin(client: &mut Client, id: &'static str, timeout_ms: i32) -> Transactions {
        let request = InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(s(id))));
        let request = request.with_transaction_timeout_ms(timeout_ms);
        let response: InitProducerIdResponse = client.ask(ApiKey::InitProducerId, 4, &request);
        assert_eq!(response.error_code, 0);
        Transactions { id, producer_id: response.producer_id.into(), epoch: response.producer_epoch }
    }

    /// Sends a record; answers the code.
    fn send(&self, client: &mut Client, topic: &str, value: &str, sequence: i32) -> i16 {
        let (producer_id, producer_epoch, base_sequence) = (self.producer_id, self.epoch, sequence);
        let facts = Facts { transactional: true, producer_id, producer_epoch, base_sequence, ..Facts::PLAIN };
        let request = produce(topic, -1, batch_of(facts, &[value], Codec::None));
        let request = request.with_transactional_id(Some(TransactionalId(s(self.id))));
        let response: ProduceResponse = client.ask(ApiKey::Produce, 12, &request);
        response.responses[0].partition_responses[0].error_code
    }

    /// Ends the transaction; answers the code.
    fn end(&mut self, client: &mut Client, commits: bool) -> i16 {
        let request = EndTxnRequest::default().with_transactional_id(TransactionalId(s(self.id)));
        let request = request.with_producer_id(self.producer_id.into()).with_producer_epoch(self.epoch);
        let response: EndTxnResponse = client.ask(ApiKey::EndTxn, 5, &request.with_committed(commits));
        if response.error_code == 0 {
            (self.producer_id, self.epoch) = (response.producer_id.into(), response.producer_epoch);
        }
        response.error_code
    }
}

/// The last stable offset, once there is a record or a marker below it from this offset on. A Fetch waits for that.
fn last_stable_beyond(client: &mut Client, topic: &str, offset: i64) -> i64 {
    let mut request = fetch(topic, &[0], 1 << 20).with_isolation_level(1).with_max_wait_ms(60_000).with_min_bytes(1);
    request.topics[0].partitions[0].fetch_offset = offset;
    let response: FetchResponse = client.ask(ApiKey::Fetch, 12, &request);
    response.responses[0].partitions[0].last_stable_offset
}

/// A stream processor that was restarted goes on by EndTxn alone: what it wrote and committed before must be as it left it.
#[test]
fn a_transaction_that_is_open_over_a_crash_is_ended_by_its_producer() {
    let mut broker = Broker::on_disk();
    assert!(text(&broker, "CREATE t").starts_with("OK"));
    let mut client = Client::connect(&broker);
    let mut transactions = Transactions::begin(&mut client, "flink", 60_000);
    for (round, commits) in [(0, true), (1, false), (2, true)] {
        assert_eq!(transactions.send(&mut client, "t", &format!("{round}"), 0), 0);
        broker.restart();
        client = Client::connect(&broker);
        let (values, _) = client.fetch("t", 2 * round, 0);
        assert_eq!(values.len(), 1, "it is there, for who reads what is not committed");
        assert_eq!(transactions.send(&mut client, "t", "more", 0), 0, "the same batch once more");
        assert_eq!(transactions.end(&mut client, commits), 0);
        assert_eq!(last_stable_beyond(&mut client, "t", 2 * round), 2 * round + 2);
    }
    let told = text(&broker, "TAIL t/0 from:0 until:end");
    let told: Vec<&str> = told.lines().filter_map(|line| line.split_once("message:")).map(|(_, value)| value).collect();
    assert_eq!(told, ["0", "2"]);
}

#[test]
fn a_fetch_of_what_is_committed_waits_for_the_end_of_the_transaction() {
    let broker = Broker::start();
    text(&broker, "CREATE t");
    let mut client = Client::connect(&broker);
    let mut transactions = Transactions::begin(&mut client, "one", 60_000);
    assert_eq!(transactions.send(&mut client, "t", "hello", 0), 0);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| last_stable_beyond(&mut Client::connect(&broker), "t", 0));
        while text(&broker, "INFO").lines().find(|line| line.starts_with("connections:")) != Some("connections:3") {
            thread::yield_now();
        }
        // More records do not end the wait; the marker does.
        text(&broker, "SEND t message:outside");
        assert!(!waiting.is_finished());
        assert_eq!(transactions.end(&mut client, true), 0);
        assert_eq!(waiting.join().unwrap(), 3);
    });
}

/// Nobody looked at the clock for a transaction that AddPartitionsToTxn or Produce had begun: it stayed open for ever.
#[test]
fn a_transaction_that_takes_too_long_is_aborted_though_nobody_asks() {
    let broker = Broker::start();
    text(&broker, "CREATE t");
    let mut client = Client::connect(&broker);
    // Time enough to write the record, and little enough to be waited for.
    let mut transactions = Transactions::begin(&mut client, "slow", 500);
    assert_eq!(transactions.send(&mut client, "t", "hello", 0), 0);
    assert_eq!(last_stable_beyond(&mut client, "t", 0), 2, "a marker stands behind it");
    assert_eq!(transactions.send(&mut client, "t", "more", 1), 47);
    assert_eq!(transactions.end(&mut client, true), 48);
    assert!(!text(&broker, "TAIL t/0 from:0 until:end").contains("hello"));
}
