//! Tasks that crash at any record: what counts in the end is what would have counted without a crash.

use crate::client::Message;
use crate::streams::{
    Error, Failure, Globals, Handler, Handlers, JoinWindow, MemoryState, Outgoing, Output, Sessions, Sliding, State,
    Task, TaskId, TaskOptions, Topology, Tumbling,
};
use proptest::{collection::vec, prelude::*};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// What counts: topics, and how far their one reader is.
#[derive(Default)]
struct Broker {
    topics: BTreeMap<Arc<str>, Vec<Message>>,
    committed: BTreeMap<Arc<str>, u64>,
}

/// A transaction: what is sent counts when it is committed.
#[derive(Default)]
struct Transaction(Vec<Outgoing>);

impl Output for Transaction {
    fn send(&mut self, record: Outgoing) -> Result<(), Error> {
        self.0.push(record);
        Ok(())
    }
}

impl Broker {
    fn append(&mut self, Outgoing { topic, record }: Outgoing) {
        let log = self.topics.entry(topic.clone()).or_default();
        let offset = log.len() as u64;
        let (key, value, headers) = (record.key, record.value, record.headers);
        log.push(Message { topic, partition: 0, offset, timestamp: record.timestamp.unwrap(), key, value, headers });
    }

    fn end(&self, topic: &str) -> u64 {
        self.topics.get(topic).map_or(0, |log| log.len() as u64)
    }

    fn from(&self, topic: &str, offset: u64) -> &[Message] {
        self.topics.get(topic).map_or(&[], |log| &log[offset as usize..])
    }
}

/// What happens behind a record.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    GoesOn,
    Commits,
    /// The process dies after what was sent counts and before the state followed.
    DiesInCommit,
    /// The transaction is aborted; the task goes back.
    RollsBack,
    /// The process dies, its state lives.
    Dies,
    /// The process dies and takes its state along.
    LosesAll,
}

struct Run {
    topology: Topology,
    options: TaskOptions,
    broker: Broker,
}

impl Run {
    fn new(build: fn(&Topology), inputs: &[Input]) -> Run {
        let topology = Topology::new("app");
        build(&topology);
        let handlers = Handlers { refused: Handler::DeadLetter("dead".into()), ..Handlers::default() };
        let mut broker = Broker::default();
        for input in inputs {
            let (topic, record) = (if input.right { "right" } else { "left" }, input.value.to_string());
            let record = crate::Record::new(record).key(format!("k{}", input.key)).timestamp(input.time);
            broker.append(Outgoing { topic: topic.into(), record });
        }
        Run { topology, options: TaskOptions { handlers, max_idle: 0 }, broker }
    }

    fn task(&self, state: &Arc<dyn State>) -> Task {
        let plan = Arc::new(self.topology.plan().unwrap());
        let id = TaskId { subtopology: 0, partition: 0 };
        let mut task = Task::new(&plan, id, &self.options, state.clone(), &Globals::new());
        for changelog in task.changelogs().unwrap() {
            let missing = self.broker.from(&changelog.topic, changelog.next.unwrap_or(0));
            task.restore(changelog.store, missing, self.broker.end(&changelog.topic)).unwrap();
        }
        self.begin(&mut task);
        task
    }

    /// Starts a task, and hands it all that is not committed.
    fn begin(&self, task: &mut Task) {
        task.start(0).unwrap();
        for topic in task.inputs().cloned().collect::<Vec<_>>() {
            let committed = self.broker.committed.get(&topic).copied().unwrap_or(0);
            self.broker.from(&topic, committed).iter().for_each(|message| task.add(message.clone()));
            task.set_at_end(&topic, true);
        }
    }

    fn state(&self) -> Arc<dyn State> {
        Arc::new(MemoryState::new(self.topology.plan().unwrap().subtopologies[0].stores.len()))
    }

    /// What is in the topics at the end.
    fn run(mut self, thens: &[Then]) -> Vec<String> {
        let mut state = self.state();
        let mut task = self.task(&state);
        let mut transaction = Transaction::default();
        let mut thens = thens.iter().copied();
        loop {
            let any = task.ready(0) && task.process(0, &mut transaction).unwrap();
            let then = if any { thens.next().unwrap_or(Then::GoesOn) } else { Then::Commits };
            match then {
                Then::GoesOn => {}
                Then::Commits | Then::DiesInCommit => {
                    task.flush(&mut transaction).unwrap();
                    std::mem::take(&mut transaction).0.into_iter().for_each(|record| self.broker.append(record));
                    self.broker.committed.extend(task.offsets().map(|(topic, next)| (topic.clone(), next)));
                    if then == Then::DiesInCommit {
                        task = self.task(&state);
                    } else {
                        let ends = task.changelogs().unwrap().into_iter().map(|log| Some(self.broker.end(&log.topic)));
                        task.commit(&ends.collect::<Vec<_>>(), true).unwrap();
                    }
                }
                Then::RollsBack | Then::Dies | Then::LosesAll => {
                    transaction = Transaction::default();
                    match then {
                        Then::RollsBack => {
                            task.rollback();
                            self.begin(&mut task);
                        }
                        Then::Dies => task = self.task(&state),
                        _ => {
                            state = self.state();
                            task = self.task(&state);
                        }
                    }
                }
            }
            if !any {
                break;
            }
        }
        let shown = |bytes: &Option<Vec<u8>>| String::from_utf8_lossy(bytes.as_deref().unwrap_or(b"-")).into_owned();
        ["out", "dead"]
            .iter()
            .flat_map(|topic| self.broker.from(topic, 0))
            .map(|one| format!("{} {}={} @{}", one.topic, shown(&one.key), shown(&one.value), one.timestamp))
            .collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Input {
    right: bool,
    key: u8,
    value: i64,
    time: i64,
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let one = (any::<bool>(), 0..3u8, -9..10i64, 0..6i64, prop_oneof![3 => Just(0i64), 1 => 0..30i64]);
    vec(one, 1..60).prop_map(|steps| {
        let mut now = 0;
        let input = |(right, key, value, step, late): (bool, u8, i64, i64, i64)| {
            now += step;
            Input { right, key, value, time: (now - late).max(0) }
        };
        steps.into_iter().map(input).collect()
    })
}

fn thens() -> impl Strategy<Value = Vec<Then>> {
    vec(
        prop_oneof![
            6 => Just(Then::GoesOn),
            3 => Just(Then::Commits),
            1 => Just(Then::DiesInCommit),
            1 => Just(Then::RollsBack),
            1 => Just(Then::Dies),
            1 => Just(Then::LosesAll),
        ],
        0..80,
    )
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Topologies of one sub-topology; some refuse records after they have stored something of them.
const TOPOLOGIES: [fn(&Topology); 6] = [
    |topology| {
        let sums = topology.stream_of::<String, i64>("left").group_by_key().reduce("sums", |a, b| a + b);
        let refuse = |sum: &i64| if sum % 5 == 0 { Err(Failure::new("five")) } else { Ok(*sum) };
        sums.to_stream().try_map_values(refuse).to("out");
    },
    |topology| {
        let windows =
            topology.stream_of::<String, i64>("left").group_by_key().window(Tumbling::of(ms(10)).grace(ms(5)));
        let refuse = |sum: &i64| if sum % 5 == 0 { Err(Failure::new("five")) } else { Ok(*sum) };
        let sums = windows.reduce("sums", |a, b| a + b);
        sums.to_stream().try_map_values(refuse).foreach(|_, _| ());
        sums.until_closed("closed").to_stream().try_map_values(refuse).to("out");
    },
    |topology| {
        let numbers = topology.stream_of::<String, i64>("left").group_by_key();
        numbers.window(Sliding::of(ms(10)).grace(ms(5))).reduce("sums", |a, b| a + b).to("out");
    },
    |topology| {
        let numbers = topology.stream_of::<String, i64>("left").group_by_key();
        let counts = numbers.sessions(Sessions::of(ms(4)).grace(ms(6))).count("counts");
        counts.to("out");
        counts.until_closed("closed").to("out");
    },
    |topology| {
        let (left, right) = (topology.stream_of::<String, i64>("left"), topology.stream_of::<String, i64>("right"));
        let join = |l: Option<&i64>, r: Option<&i64>| format!("{l:?}/{r:?}");
        let joined = left.outer_join("pairs", &right, JoinWindow::of(ms(5)).grace(ms(5)), join);
        let refuse = |pair: &String| if pair.contains("(5)") { Err(Failure::new("five")) } else { Ok(pair.clone()) };
        joined.try_map_values(refuse).to("out");
    },
    |topology| {
        let left = topology.table_of::<String, i64>("left", "left").filter(|_, n| *n % 2 == 0);
        let right = topology.table_of::<String, i64>("right", "right");
        left.left_join("joined", &right, |l, r| l + r.unwrap_or(&100)).stored("sums").to("out");
    },
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_crash_at_any_record_changes_nothing(inputs in inputs(), thens in thens()) {
        for (number, build) in TOPOLOGIES.into_iter().enumerate() {
            let expected = Run::new(build, &inputs).run(&[]);
            prop_assert_eq!(Run::new(build, &inputs).run(&thens), expected, "topology {}", number);
        }
    }
}

#[test]
fn a_record_that_panicked_goes_where_its_handler_says_when_it_comes_again() {
    let input = |value| Input { right: false, key: 1, value, time: 5 };
    let run = Run::new(|topology| topology.stream("left").to("out"), &[input(1), input(2)]);
    let mut task = run.task(&run.state());
    let mut transaction = Transaction::default();
    task.process(0, &mut transaction).unwrap();
    let place = crate::streams::Place { topic: "left".into(), partition: 0, offset: 1 };
    task.rollback();
    task.refuse(place, "it panicked".into());
    run.begin(&mut task);
    let mut transaction = Transaction::default();
    while task.process(0, &mut transaction).unwrap() {}
    let sent: Vec<_> = transaction.0.iter().map(|record| &*record.topic).collect();
    assert_eq!(sent, ["out", "dead"]);
    assert_eq!(task.counts().failed, 1);
}

#[test]
fn tasks_go_from_thread_to_thread() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Task>();
    is_send::<crate::streams::Plan>();
    is_sync::<crate::streams::Plan>();
}
