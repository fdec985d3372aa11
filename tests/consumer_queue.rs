//! `consumer --queue` and the library's queues, run against the real broker.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{Broker, CONSUMER, signal, text, until};
use plainlog::{
    broker::Position,
    client::{Error, Isolation, Producer, Queue, Record, ShareOptions},
};
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::mpsc,
    thread,
    time::Duration,
};

fn start(broker: &Broker, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = broker.command(CONSUMER, arguments).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// Waits until the group's only partition is done up to here.
fn await_done(broker: &Broker, group: &str, end: u64) {
    let wanted = format!("topic:messages partition:0 committed:{end} end:{end} lag:0 in_flight:0");
    let mut connection = broker.connect();
    until(&wanted, || {
        let first = connection.say(&format!("GROUP {group}\n")).line();
        let count =
            first.strip_prefix("GROUP count:").map_or(0, |rest| rest.split(' ').next().unwrap().parse().unwrap());
        let lines: Vec<_> = (0..count).map(|_| connection.line()).collect();
        lines.contains(&wanted)
    });
}

fn send_with_key(broker: &Broker, length: usize) {
    let record = Record::new("keyed").key("k".repeat(length));
    Producer::connect(&broker.address).unwrap().send("messages", record).unwrap();
}

#[test]
fn what_is_printed_is_done() {
    let broker = Broker::start();
    broker.produce(&[], "a\nb\nc\n");
    let output = broker.consume(&["--queue", "jobs", "-c", "2"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "Consumed: a (offset: 0)\nConsumed: b (offset: 1)\n");
    let output = broker.consume(&["--queue", "jobs", "-c", "1", "-f", "%s\\n"]);
    assert_eq!(text(&output.stdout), "c\n");
    await_done(&broker, "jobs", 3);
    let output = broker.consume(&["--queue", "jobs", "-c", "1", "--timeout", "10ms"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    let output = broker.consume(&["--queue", "jobs", "--lock", "7s", "-c", "1"]);
    assert!(text(&output.stderr).contains("share.record.lock.duration.ms of this group is '30000'"), "{output:?}");
}

/// Two terminals share a topic's jobs, and one of them is killed at work: nothing is lost, and nothing that succeeded is done twice.
#[test]
fn two_workers_share_the_jobs_and_one_is_killed() {
    let broker = Broker::on_disk();
    let [work, hung, stop] = ["work.sh", "hung", "stop"].map(|name| broker.folder().join(name));
    // The job that is named so hangs in whoever has it first.
    let script = format!(
        "read job\nif [ \"$job\" = 7 ] && mkdir {hung} 2>/dev/null; then\necho hangs\nuntil [ -e {stop} ]; do sleep 0.05; done\nfi\n\
         echo \"$job\"\n",
        hung = hung.display(),
        stop = stop.display(),
    );
    fs::write(&work, script).unwrap();
    let exec = format!("sh {}", work.display());
    let arguments = ["--queue", "jobs", "--exec", &exec];
    let (heard, hear) = mpsc::channel();
    let workers = [0, 1].map(|number| {
        let (child, lines) = start(&broker, &arguments);
        let heard = heard.clone();
        let reader = thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| heard.send((number, line)).unwrap());
        });
        (child, reader)
    });
    drop(heard);
    let jobs: String = (0..40).map(|job| format!("{job}\n")).collect();
    broker.produce(&[], &jobs);
    let mut done = vec![];
    while done.len() < 40 {
        match hear.recv_timeout(common::LONG).unwrap() {
            (worker, line) if line == "hangs" => signal(&workers[worker].0, "KILL"),
            (_, job) => done.push(job),
        }
    }
    await_done(&broker, "jobs", 40);
    fs::write(&stop, "").unwrap();
    for (mut child, reader) in workers {
        signal(&child, "INT");
        child.wait().unwrap();
        reader.join().unwrap();
    }
    assert!(hung.exists());
    let distinct: BTreeSet<_> = done.iter().collect();
    assert_eq!(distinct.len(), 40, "{done:?}");
}

#[test]
fn a_job_that_fails_comes_again_and_is_given_up_at_last() {
    let broker = Broker::start();
    broker.produce(&[], "poison\n");
    let exec = "cat; echo \" $PLAINLOG_TOPIC/$PLAINLOG_PARTITION $PLAINLOG_OFFSET $PLAINLOG_DELIVERY\"; exit 3";
    let arguments = ["--queue", "jobs", "--deliveries", "3", "--dead", "failed", "-c", "3", "--exec", exec];
    let output = broker.consume(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let wanted = "poison messages/0 0 1\npoison messages/0 0 2\npoison messages/0 0 3\n";
    assert_eq!(text(&output.stdout), wanted);
    assert!(text(&output.stderr).contains("messages/0 0, delivery 3"), "{}", text(&output.stderr));
    let dead = broker.consume(&["-t", "failed", "-c", "1", "-f", "%s"]);
    assert_eq!(text(&dead.stdout), "poison");
    let wrong = broker.consume(&["--exec", "true"]);
    assert_eq!(wrong.status.code(), Some(2));
}

/// A command may take longer than the lock: nobody else gets its message.
#[test]
fn a_message_stays_with_the_command_that_works_on_it() {
    let broker = Broker::on_disk();
    broker.produce(&[], "long\n");
    let begun = broker.folder().join("begun");
    let go_on = broker.folder().join("go_on");
    let (begun_at, go_on_at) = (begun.display(), go_on.display());
    let exec = format!("touch {begun_at}; until [ -e {go_on_at} ]; do sleep 0.01; done; cat");
    let (mut worker, mut lines) = start(&broker, &["--queue", "jobs", "--lock", "100ms", "-c", "1", "--exec", &exec]);
    until("it works", || begun.exists());
    let mut other = Queue::connect(&broker.address).unwrap().join("jobs", &["messages"]).unwrap();
    assert_eq!(other.lock(), Duration::from_millis(100));
    assert_eq!(other.poll(Duration::from_millis(500), 1).unwrap(), []);
    fs::write(&go_on, "").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "long");
    assert!(worker.wait().unwrap().success());
    await_done(&broker, "jobs", 1);
}

/// A variable cannot be longer than Linux allows: a long key is left out, and the command runs.
#[test]
fn a_long_key_is_not_in_the_environment() {
    let broker = Broker::start();
    send_with_key(&broker, 200_000);
    send_with_key(&broker, 100 << 10);
    let exec = "printf '%s\\n' \"${PLAINLOG_KEY-none}\" | wc -c";
    let output = broker.consume(&["--queue", "jobs", "-c", "2", "--exec", exec]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lengths: Vec<usize> = text(&output.stdout).lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!(lengths, ["none\n".len(), (100 << 10) + 1]);
}

/// A command that cannot be started for one message is started for the next.
#[test]
fn a_command_that_does_not_start_has_failed() {
    let broker = Broker::start();
    send_with_key(&broker, 100_000);
    broker.produce(&[], "fine\n");
    // A quarter of so small a stack, 128 KiB, is left for the environment, of which most is taken.
    let script = "ulimit -s 512; exec \"$0\" \"$@\"";
    let arguments = ["-c", script, CONSUMER, "--queue", "jobs", "--deliveries", "2", "-c", "3", "--exec", "cat"];
    let output = broker.command("sh", &arguments).env("FILLER", "x".repeat(50_000)).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "fine");
    let told = text(&output.stderr);
    assert!(told.contains("messages/0 0, delivery 2: cannot run 'cat': Argument list too long"), "{told}");
}

/// A command may leave a process behind that has its input and never reads it: nobody waits for that one.
#[test]
fn a_command_is_over_when_its_shell_has_ended() {
    let broker = Broker::start();
    broker.produce(&[], "x".repeat(500_000) + "\n");
    let exec = "exec 3<&0; sleep 20 >/dev/null 2>&1 & echo $!";
    let output = broker.consume(&["--queue", "jobs", "-c", "1", "--exec", exec]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let is_there = Command::new("kill").arg(text(&output.stdout).trim()).status().unwrap();
    assert!(is_there.success());
    await_done(&broker, "jobs", 1);
}

#[test]
fn the_library_has_queues_over_the_network_and_in_this_process() {
    let broker = Broker::start();
    broker.produce(&[], "a\nb\n");
    let embedded = plainlog::broker::Broker::in_memory();
    embedded.create_topic("messages", 1).unwrap();
    let mut producer = Producer::embedded(&embedded);
    for value in ["a", "b"] {
        producer.send("messages", Record::new(value)).unwrap();
    }
    for queue in [Queue::connect(&broker.address).unwrap(), Queue::embedded(&embedded)] {
        let options = ShareOptions { deliveries: Some(2), lock_ms: Some(60_000), ..ShareOptions::default() };
        let mut queue = queue.options(options).join("jobs", &["messages"]).unwrap();
        let polled = queue.poll(common::LONG, 10).unwrap();
        let told: Vec<_> = polled.iter().map(|one| (one.message.value.as_deref().unwrap(), one.deliveries)).collect();
        assert_eq!(told, [(b"a".as_slice(), 1), (b"b".as_slice(), 1)]);
        queue.renew(&polled[0]).unwrap();
        queue.release(&polled[0]).unwrap();
        let again = queue.poll(common::LONG, 10).unwrap();
        assert_eq!((again.len(), again[0].deliveries), (1, 2));
        queue.accept(&again[0]).unwrap();
        let twice = queue.accept(&again[0]).unwrap_err();
        assert!(matches!(twice, Error::Refused(refused) if refused.code == "INVALID_RECORD_STATE"));
        queue.reject(&polled[1]).unwrap();
        assert_eq!(queue.poll(Duration::ZERO, 10).unwrap(), []);
        assert_eq!(queue.partitions(), 1);
        queue.close().unwrap();
    }
}

#[test]
fn a_queue_goes_on_after_a_restart_of_the_broker() {
    let mut broker = Broker::on_disk();
    broker.produce(&[], "a\nb\n");
    let mut queue = Queue::connect(&broker.address).unwrap().join("jobs", &["messages"]).unwrap();
    let polled = queue.poll(common::LONG, 10).unwrap();
    queue.accept(&polled[0]).unwrap();
    broker.restart();
    let again = queue.poll(common::LONG, 10).unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].message.value.as_deref(), Some(b"b".as_slice()));
    queue.accept_all(&again).unwrap();
    await_done(&broker, "jobs", 2);
}

#[test]
fn what_is_damaged_is_passed_over() {
    let mut broker = Broker::on_disk();
    for number in 0..4 {
        broker.expect(&format!("PRODUCE record-{number}\n"), &["ACK"]);
    }
    broker.stop();
    let log = broker.folder().join("messages/0/00000000000000000000.log");
    let lines = fs::read_to_string(&log).unwrap();
    fs::write(&log, lines.replace("record-1", "record-x")).unwrap();
    broker.restart();
    let output = broker.consume(&["--queue", "jobs", "-c", "3", "-f", "%s "]);
    assert_eq!(text(&output.stdout), "record-0 record-2 record-3 ");
    await_done(&broker, "jobs", 4);
}

#[test]
fn a_queue_from_the_end_gets_the_record_that_makes_its_topic() {
    let broker = Broker::start();
    let options = ShareOptions { from: Some(Position::Latest), ..ShareOptions::default() };
    let mut queue = Queue::connect(&broker.address).unwrap().options(options).join("jobs", &["later"]).unwrap();
    assert_eq!(Vec::from_iter(queue.missing()), ["later"]);
    broker.expect("SEND later message:first\n", &["ACK"]);
    let polled = queue.poll(common::LONG, 1).unwrap();
    assert_eq!(polled[0].message.value.as_deref(), Some(b"first".as_slice()));
}

#[test]
fn what_a_queue_cannot_be_like_is_refused_over_the_network_and_in_this_process() {
    let broker = Broker::start();
    broker.produce(&[], "a\n");
    let embedded = plainlog::broker::Broker::in_memory();
    embedded.create_topic("messages", 1).unwrap();
    for is_near in [false, true] {
        let queue = || if is_near { Queue::embedded(&embedded) } else { Queue::connect(&broker.address).unwrap() };
        let join = |options| queue().options(options).join("jobs", &["messages"]);
        let refused = |options| matches!(join(options), Err(Error::Refused(why)) if why.code == "INVALID_CONFIG");
        let uncommitted = ShareOptions { isolation: Some(Isolation::ReadUncommitted), ..ShareOptions::default() };
        let _first = join(uncommitted.clone()).unwrap();
        assert!(join(uncommitted).is_ok());
        assert!(refused(ShareOptions { isolation: Some(Isolation::ReadCommitted), ..ShareOptions::default() }));
        assert!(refused(ShareOptions { from: Some(Position::At(7)), ..ShareOptions::default() }));
    }
}
