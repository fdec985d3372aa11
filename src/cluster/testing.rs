//! A cluster for tests: a broker in memory and its server, whose Kafka protocol the cluster speaks to.

use super::{Cluster, ClusterOptions};
use crate::{
    Broker, Server,
    broker::Terms,
    config::{Address, Config},
    log::record::Records,
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
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

    /// The same whose only node can be made to say nothing, as a paused one does.
    pub(super) fn behind_a_valve(timeout: Duration) -> (Fixture, Valve) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut config = Config::in_memory();
        config.advertise = Some(Address::to_advertise(&address).unwrap());
        let broker = Broker::open(config).unwrap();
        let server = Server::start(broker.clone(), "localhost:0").unwrap();
        let valve = Valve::open(listener, server.port());
        (Fixture { cluster: open_within(&address, timeout), broker, server }, valve)
    }

    /// Another cluster, with no more than so many clients.
    pub(super) fn limit(&mut self, clients: usize) {
        self.cluster = open(&self.server, clients);
    }

    /// How others reach the broker.
    pub(super) fn options(&self) -> ClusterOptions {
        options(&self.server)
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

/// What all connections to a node go through.
pub(super) struct Valve(Arc<(Mutex<bool>, Condvar)>);

impl Valve {
    fn open(listener: TcpListener, port: u16) -> Valve {
        let valve = Valve(Arc::default());
        let closed = valve.0.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(node) = TcpStream::connect(("localhost", port)) else { return };
                for (mut from, mut to) in [(client.try_clone().unwrap(), node.try_clone().unwrap()), (node, client)] {
                    let closed = closed.clone();
                    thread::spawn(move || {
                        let mut bytes = [0; 16 << 10];
                        while let Ok(count @ 1..) = from.read(&mut bytes) {
                            drop(closed.1.wait_while(closed.0.lock().unwrap(), |is_closed| *is_closed));
                            if to.write_all(&bytes[..count]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        valve
    }

    /// Whether nothing comes through from now on.
    pub(super) fn close(&self, is_closed: bool) {
        *self.0.0.lock().unwrap() = is_closed;
        self.0.1.notify_all();
    }
}

impl Drop for Valve {
    fn drop(&mut self) {
        self.close(false);
    }
}

/// A cluster of these nodes, which may not be there, and which may take so long.
pub(super) fn open_within(servers: &str, timeout: Duration) -> Cluster {
    Cluster::open(Config::in_memory(), ClusterOptions { timeout, ..ClusterOptions::new(servers) }).unwrap()
}

/// How others reach a broker, as a cluster.
pub(super) fn options(server: &Server) -> ClusterOptions {
    ClusterOptions::new(format!("localhost:{}", server.port()))
}

/// A cluster that the broker is the only node of, with no more than so many clients.
pub(super) fn open(server: &Server, clients_max: usize) -> Cluster {
    Cluster::open(Config::in_memory(), ClusterOptions { clients_max, ..options(server) }).unwrap()
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
