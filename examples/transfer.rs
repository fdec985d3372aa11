//! Moves money between accounts: each transfer is one transaction of two records, so that however the program ends, the sum stays.
//!
//! `cargo run --example transfer` plays it with a broker in this process. `transfer ADDRESS COUNT` moves money over the network until it has
//! done so COUNT times; kill it and start it again, at any moment. `transfer ADDRESS` shows what is there.

use plainlog::{
    Broker, Consumer, Producer, Record,
    client::{Error, TransactionalProducer},
};
use std::{collections::BTreeMap, env, time::Duration};

const ACCOUNTS: [&str; 4] = ["alice", "bob", "carol", "dave"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => {
            let broker = Broker::in_memory();
            broker.create_topic("accounts", 3)?;
            transfer(Producer::embedded(&broker).transactional("bank"), 10)?;
            show(Consumer::embedded(&broker))
        }
        [address] => show(Consumer::connect(address)?),
        [address, count] => {
            let producer = Producer::connect(address)?.transactional("bank");
            Ok(transfer(producer, count.parse()?)?)
        }
        _ => Err("say: transfer [ADDRESS [COUNT]]".into()),
    }
}

/// Moves money so many times. A transfer that was aborted is tried again.
fn transfer(mut bank: TransactionalProducer, count: usize) -> Result<(), Error> {
    for nth in 0..count {
        let (from, to) = (ACCOUNTS[nth % ACCOUNTS.len()], ACCOUNTS[(nth * 7 + 1) % ACCOUNTS.len()]);
        let amount = nth as i64 % 90 + 10;
        while let Err(Error::Aborted(why)) = move_money(&mut bank, from, to, amount) {
            eprintln!("once more: {why}");
        }
        println!("{amount} from {from} to {to}");
    }
    Ok(())
}

fn move_money(bank: &mut TransactionalProducer, from: &str, to: &str, amount: i64) -> Result<(), Error> {
    let mut transfer = bank.begin()?;
    transfer.send("accounts", Record::new((-amount).to_string()).key(from))?;
    transfer.send("accounts", Record::new(amount.to_string()).key(to))?;
    transfer.commit()
}

/// Adds up what was committed.
fn show(consumer: Consumer) -> Result<(), Box<dyn std::error::Error>> {
    let (mut accounts, mut records) = (BTreeMap::<String, i64>::new(), 0);
    let mut consumer = consumer.subscribe(&["accounts"])?;
    while !consumer.at_end() {
        for message in consumer.poll(Duration::from_secs(1), 1000)? {
            let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default());
            *accounts.entry(text(message.key)?).or_default() += text(message.value)?.parse::<i64>()?;
            records += 1;
        }
    }
    accounts.iter().for_each(|(account, balance)| println!("{account}: {balance}"));
    println!("{} transfers, sum {}", records / 2, accounts.values().sum::<i64>());
    Ok(())
}
