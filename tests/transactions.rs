//! Transactions of the library, the programs and the example: whole or not at all, whatever breaks on the way.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{Broker, LONG, example, is_in_front, text};
use plainlog::client::{Consumer, Error, Message, Producer, Record};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// The committed values of a topic, in the order of its partitions.
fn committed(broker: &Broker, topic: &str) -> Vec<String> {
    let mut consumer = Consumer::connect(&broker.address).unwrap().subscribe(&[topic]).unwrap();
    let mut found = Vec::new();
    while !consumer.at_end() {
        found.extend(consumer.poll(LONG, usize::MAX).unwrap());
    }
    found.sort_by_key(|message| (message.partition, message.offset));
    found.iter().map(value).collect()
}

fn value(message: &Message) -> String {
    text(message.value.as_deref().unwrap()).to_string()
}

/// A producer over the network, and one in the process of a broker, each with what reads there.
fn both(each: impl Fn(Producer, &dyn Fn(&str) -> Vec<String>)) {
    let broker = Broker::start();
    broker.expect("CREATE a\nCREATE b\n", &["OK", "OK"]);
    each(Producer::connect(&broker.address).unwrap().idempotent(!is_in_front()), &|topic| committed(&broker, topic));
    let embedded = plainlog::Broker::in_memory();
    embedded.create_topic("a", 1).unwrap();
    embedded.create_topic("b", 1).unwrap();
    let read = |topic: &str| {
        let mut consumer = Consumer::embedded(&embedded).subscribe(&[topic]).unwrap();
        let mut found = Vec::new();
        while !consumer.at_end() {
            // It ends where everything was read, though all of it had been aborted.
            found.extend(consumer.poll(Duration::MAX, usize::MAX).unwrap().iter().map(value));
        }
        found
    };
    each(Producer::embedded(&embedded), &read);
}

#[test]
fn what_is_committed_is_read_and_what_is_not_never_is() {
    both(|producer, read| {
        let mut producer = producer.transactional("t").timeout(Duration::from_secs(30));
        let mut transaction = producer.begin().unwrap();
        assert_eq!(transaction.send("a", "1").unwrap().offset, Some(0));
        transaction.push("b", &Record::new("2"), 7).unwrap();
        transaction.flush().unwrap();
        assert_eq!(
            transaction.outcomes().map(|(tag, outcome)| (tag, outcome.unwrap().offset)).collect::<Vec<_>>(),
            [(7, Some(0))]
        );
        assert_eq!((read("a").len(), read("b").len()), (0, 0));
        transaction.commit().unwrap();
        assert_eq!((read("a"), read("b")), (vec!["1".to_string()], vec!["2".to_string()]));

        let mut transaction = producer.begin().unwrap();
        transaction.send("a", "3").unwrap();
        transaction.abort().unwrap();
        let mut transaction = producer.begin().unwrap();
        transaction.push("a", &Record::new("4"), 0).unwrap();
        drop(transaction);
        producer.begin().unwrap().commit().unwrap();
        let mut transaction = producer.begin().unwrap();
        transaction.send("a", "5").unwrap();
        transaction.commit().unwrap();
        assert_eq!(read("a"), ["1", "5"]);
    });
}

#[test]
fn a_record_that_is_refused_takes_the_transaction_with_it() {
    both(|producer, read| {
        let mut producer = producer.transactional("t");
        let mut transaction = producer.begin().unwrap();
        transaction.send("a", "1").unwrap();
        let refused = transaction.send("a", Record::new("2").partition(7)).unwrap_err();
        assert!(refused.to_string().starts_with("ERROR UNKNOWN_TOPIC_OR_PARTITION "), "{refused}");
        let refused = transaction.commit().unwrap_err();
        assert!(
            refused.to_string().starts_with("ERROR INVALID_TXN_STATE ")
                && refused.to_string().contains("no partition 7"),
            "{refused}"
        );
        assert_eq!(read("a").len(), 0);
    });
}

/// A record that could not be sent at all, or offsets that could not be told, were overlooked by commit, which made the rest take effect.
#[test]
fn whatever_call_fails_takes_the_transaction_with_it() {
    both(|producer, read| {
        let mut producer = producer.transactional("t");
        let mut transaction = producer.begin().unwrap();
        transaction.send("a", "1").unwrap();
        assert!(matches!(transaction.send("no topic", "2"), Err(Error::Invalid(_))));
        let refused = transaction.commit().unwrap_err().to_string();
        assert!(refused.starts_with("ERROR INVALID_TXN_STATE ") && refused.contains("no topic"), "{refused}");

        let reader = Consumer::embedded(plainlog::Broker::in_memory()).auto_commit(false);
        let mut transaction = producer.begin().unwrap();
        transaction.send("a", "3").unwrap();
        assert!(matches!(transaction.send_offsets(&reader), Err(Error::Invalid(_))));
        let refused = transaction.commit().unwrap_err().to_string();
        assert!(refused.starts_with("ERROR INVALID_TXN_STATE ") && refused.contains("group"), "{refused}");
        assert_eq!(read("a").len(), 0);
    });
}

/// One that had numbered its records went on to do so, which the broker refuses in a transaction; to a topic that it did not know it
/// panicked.
#[test]
fn a_producer_that_has_sent_without_transactions_goes_on_in_them() {
    both(|mut producer, read| {
        producer.send("a", "0").unwrap();
        let mut producer = producer.transactional("t");
        let mut transaction = producer.begin().unwrap();
        transaction.send("a", "1").unwrap();
        transaction.send("b", "2").unwrap();
        transaction.commit().unwrap();
        assert_eq!((read("a"), read("b")), (vec!["0".into(), "1".into()], vec!["2".to_string()]));
    });
}

#[test]
fn whoever_begins_with_the_same_id_fences_who_had_it() {
    let broker = Broker::start();
    let connect = || Producer::connect(&broker.address).unwrap().transactional("t");
    let (mut first, mut second) = (connect(), connect());
    let mut old = first.begin().unwrap();
    old.send("a", "old").unwrap();
    let mut new = second.begin().unwrap();
    new.send("a", "new").unwrap();
    let fenced = old.commit().unwrap_err();
    assert!(matches!(&fenced, Error::Refused(refused) if refused.code == "PRODUCER_FENCED"), "{fenced}");
    new.commit().unwrap();
    assert_eq!(committed(&broker, "a"), ["new"]);
}

/// Workers read, work and write, each input once, while the broker is killed and their transactions fail.
#[test]
fn each_input_is_worked_on_once_though_the_broker_is_killed() {
    const COUNT: usize = 300;
    let mut broker = Broker::on_disk();
    broker.expect("CREATE in partitions:4\nCREATE out partitions:2\n", &["OK", "OK"]);
    Producer::connect(&broker.address)
        .unwrap()
        .idempotent(!is_in_front())
        .send_batch("in", (0..COUNT).map(|n| (n.to_string(), n.to_string())))
        .unwrap();
    let work = |worker: usize, address: String| {
        let mut producer = Producer::connect(&address).unwrap().transactional(&format!("worker-{worker}"));
        let mut consumer =
            Consumer::connect(&address).unwrap().group("workers").auto_commit(false).subscribe(&["in"]).unwrap();
        let mut idle = 0;
        while idle < 3 {
            let Ok(messages) = consumer.poll(Duration::from_millis(300), 7) else { continue };
            idle = if messages.is_empty() { idle + 1 } else { 0 };
            let done = producer.begin().and_then(|mut transaction| {
                for message in &messages {
                    transaction.push("out", &Record::new(value(message)).key(value(message)), 0)?;
                }
                transaction.send_offsets(&consumer)?;
                transaction.commit()
            });
            if done.is_err() {
                idle = 0;
                let _ = consumer.rejoin();
            }
        }
    };
    let workers: Vec<_> = (0..2).map(|worker| (worker, broker.address.clone())).collect();
    let workers: Vec<_> =
        workers.into_iter().map(|(worker, address)| thread::spawn(move || work(worker, address))).collect();
    for progress in [COUNT / 4, COUNT / 2] {
        while committed(&broker, "out").len() < progress {
            thread::yield_now();
        }
        broker.restart();
    }
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    let mut found: Vec<usize> = committed(&broker, "out").iter().map(|value| value.parse().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn the_program_sends_an_input_whole_or_not_at_all() {
    let broker = Broker::start();
    let output = broker.produce(&["--transactional-id", "load", "-v"], "a\nb\n");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "ACK topic:messages partition:0 offset:0\nACK topic:messages partition:0 offset:1\n"
    );
    assert!(text(&output.stderr).starts_with("2 messages, offsets 0-1; "), "{}", text(&output.stderr));
    let output = broker.produce(&["--transactional-id", "load"], format!("c\n{}\nd\n", "x".repeat(2 << 20)));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).starts_with("producer: nothing was sent: line 2: ERROR MESSAGE_TOO_LARGE "),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(committed(&broker, "messages"), ["a", "b"]);
    let input: String = (0..10).map(|n| format!("{n}\n")).collect();
    let output = broker.produce(&["--transactional-id", "load", "--transaction-messages", "4", "-t", "n"], input);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(committed(&broker, "n").len(), 10);
    // Three transactions, a marker behind each.
    broker.expect("TOPIC n\n", &["TOPIC count:1 topic:n", "partition:0 first:0 end:13 stable:13 "]);
}

#[test]
fn an_interrupted_input_leaves_nothing() {
    let broker = Broker::start();
    broker.expect("CREATE messages\n", &["OK"]);
    let mut child =
        broker.command(common::PRODUCER, &["--transactional-id", "load"]).stdin(Stdio::piped()).spawn().unwrap();
    // It stays open: its end would be that of the input.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"a\n").unwrap();
    let mut connection = broker.connect();
    while connection.say("TRANSACTIONS\n").line() == "TRANSACTIONS count:0" {
        thread::yield_now();
    }
    common::signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "producer: nothing was sent: the input was interrupted\n");
    assert_eq!(committed(&broker, "messages"), Vec::<String>::new());
}

#[test]
fn transactions_are_listed_described_and_aborted() {
    let broker = Broker::start();
    let mut open = broker.connect();
    open.say("BEGIN my\\x20transfer\nSEND a message:1\n");
    assert!(open.line().starts_with("OK producer_id:") && open.line().starts_with("ACK"));
    let run =
        |arguments: &[&str]| broker.command(common::BROKER, &[&["transaction"], arguments].concat()).output().unwrap();
    let listed = run(&["list"]);
    let rows: Vec<Vec<&str>> = text(&listed.stdout).lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["transaction", "state", "producer_id", "epoch", "timeout", "age", "partitions"]);
    assert_eq!(rows[1][..2], ["my\\x20transfer", "ongoing"]);
    let described = run(&["describe", "my transfer"]);
    assert!(
        text(&described.stdout).contains("state: ongoing\n")
            && text(&described.stdout).ends_with("a      0          0\n"),
        "{described:?}"
    );
    if cfg!(feature = "comfort") {
        let described = run(&["describe", "my transfer", "--json"]);
        let json = text(&described.stdout).split_whitespace().collect::<String>();
        assert!(json.contains(r#""transactionalId":"mytransfer""#) && json.contains(r#""firstOffset":0"#), "{json}");
    }
    assert!(run(&["abort", "my transfer"]).status.success());
    let again = run(&["abort", "my transfer"]);
    assert!(!again.status.success() && text(&again.stderr).contains("INVALID_TXN_STATE"), "{again:?}");
    assert!(
        open.say("END\n").line().starts_with("ERROR INVALID_TXN_STATE the transaction was aborted by somebody else")
    );
}

/// A commit whose answer is lost is known all the same: each transfer is made once, and none is missing.
#[test]
fn each_transfer_is_made_once_though_the_broker_is_killed() {
    const COUNT: usize = 100;
    let mut broker = Broker::on_disk();
    broker.expect("CREATE accounts partitions:3\n", &["OK"]);
    let mut bank = Producer::connect(&broker.address).unwrap().transactional("bank");
    let (told, done) = mpsc::channel();
    let transfers = thread::spawn(move || {
        for nth in 0..COUNT {
            let mut transfer = || {
                let mut transaction = bank.begin()?;
                for (account, amount) in [("alice", "-"), ("bob", "")] {
                    transaction.send("accounts", (account, format!("{amount}{nth}").as_str()))?;
                }
                transaction.commit()
            };
            while let Err(error) = transfer() {
                assert!(matches!(error, Error::Aborted(_)), "{error}");
            }
            told.send(nth).unwrap();
        }
    });
    for nth in done {
        if nth % 13 == 5 {
            broker.restart();
        }
    }
    transfers.join().unwrap();
    let mut found: Vec<i64> = committed(&broker, "accounts").iter().map(|amount| amount.parse().unwrap()).collect();
    found.sort_unstable();
    let mut made: Vec<i64> = (0..COUNT as i64).flat_map(|amount| [-amount, amount]).collect();
    made.sort_unstable();
    assert_eq!(found, made);
}

/// The sum of all accounts stays nought, whenever the program that moves money is killed.
#[test]
fn money_is_neither_made_nor_lost() {
    let mut broker = Broker::on_disk();
    broker.expect("CREATE accounts partitions:3\n", &["OK"]);
    let program = example("transfer");
    for transfers in [1, 5, 3, 9, 2, 7] {
        let mut child = Command::new(&program)
            .args([&broker.address, "1000000"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..transfers {
            lines.next().unwrap().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if transfers > 5 {
            broker.restart();
        }
        let shown = Command::new(&program).arg(&broker.address).output().unwrap();
        let shown = text(&shown.stdout).lines().last().unwrap().to_string();
        assert!(shown.ends_with(", sum 0"), "{shown}");
    }
    let balances: BTreeMap<_, _> =
        committed(&broker, "accounts").into_iter().map(|amount| (amount.clone(), amount)).collect();
    assert!(balances.len() > 4, "{balances:?}");
}
