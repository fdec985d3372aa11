//! A cluster for tests: a broker in memory and its server, whose Kafka protocol the cluster speaks to.

use super::{Cluster, ClusterOptions};
use crate::{Broker, Server, broker::Terms, config::Config, log::record::Records};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// Dropped in this order: who asks before who answers.
pub(super) struct Fixture {
    pub(super) cluster: Cluster,
    pub(super) broker: Broker,
    pub(super) server: Server,
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        let broker = Broker::in_memory();
        let server = Server::start(broker.clone(), "localhost:0").unwrap();
        let cluster = open(&server, 256);
        Fixture { cluster, broker, server }
    }

    /// Another cluster, with no more than so many clients.
    pub(super) fn limit(&mut self, clients: usize) {
        self.cluster = open(&self.server, clients);
    }

    pub(super) fn write(&self, topic: &str, partition: u32, records: &Records<'_>) {
        write(&self.broker, topic, partition, records);
    }

    pub(super) fn produce(&self, topic: &str, partition: u32, values: &[&str]) {
        produce(&self.broker, topic, partition, values);
    }

    /// A connection to the broker itself.
    pub(super) fn connect(&self) -> TcpStream {
        TcpStream::connect(("localhost", self.server.port())).unwrap()
    }

    /// Says this on a connection and reads so many lines.
    pub(super) fn ask(&self, mut connection: &TcpStream, lines: &str, answers: usize) -> Vec<String> {
        connection.write_all(lines.as_bytes()).unwrap();
        let answers = BufReader::new(connection).lines().take(answers);
        answers.map(Result::unwrap).collect()
    }

    /// Says this to the broker itself, and answers all that it says.
    pub(super) fn say(&self, lines: &str) -> String {
        let (mut connection, mut answer) = (self.connect(), String::new());
        connection.write_all(format!("{lines}QUIT\n").as_bytes()).unwrap();
        connection.read_to_string(&mut answer).unwrap();
        assert!(!answer.contains("ERROR"), "{answer}");
        answer
    }
}

/// A cluster of these nodes, which may not be there, and which may take so long.
pub(super) fn open_within(servers: &str, timeout: Duration) -> Cluster {
    Cluster::open(Config::in_memory(), ClusterOptions { timeout, ..ClusterOptions::new(servers) }).unwrap()
}

fn open(server: &Server, clients_max: usize) -> Cluster {
    let options = ClusterOptions::new(format!("localhost:{}", server.port()));
    Cluster::open(Config::in_memory(), ClusterOptions { clients_max, ..options }).unwrap()
}

pub(super) fn write(broker: &Broker, topic: &str, partition: u32, records: &Records<'_>) {
    let partition = broker.topic(topic).unwrap().partition(partition).unwrap();
    let appended = partition.write(records, Terms::default()).unwrap();
    partition.make_durable(&appended).unwrap();
}

pub(super) fn produce(broker: &Broker, topic: &str, partition: u32, values: &[&str]) {
    let mut records = Records::default();
    values.iter().for_each(|value| records.push(None, None, Some(value.as_bytes().into())));
    write(broker, topic, partition, &records);
}
