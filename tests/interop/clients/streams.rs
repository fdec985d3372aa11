//! The topologies of `clients/java/SameStreams.java`, in ours: each case reads the same inputs, and writes what it makes of them to a topic
//! of its own. Started with the prefix of the inputs, a folder for its state, and the broker's address; ends when its input does.

use plainlog::streams::{Hopping, JoinWindow, Options, Sessions, Sliding, Topology, Tumbling};
use std::{env, io, time::Duration};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [prefix, state_dir, address] = &arguments[..] else { return Err("a prefix, a folder, and an address".into()) };
    let topology = topology(prefix);
    let app = topology.start(address, Options { state_dir: state_dir.into(), ..Options::default() })?;
    let stop = app.stopper();
    std::thread::spawn(move || {
        let _ = io::stdin().read_line(&mut String::new());
        stop();
    });
    Ok(app.wait()?)
}

const SECOND: Duration = Duration::from_secs(1);

fn joined(left: &str, right: &str) -> String {
    format!("{left}+{right}")
}

fn either(left: Option<&String>, right: Option<&String>) -> String {
    let text = |value: Option<&String>| value.map_or("null".to_string(), String::clone);
    joined(&text(left), &text(right))
}

fn chain(so_far: &String, next: &String) -> String {
    format!("{so_far}{next}.")
}

fn topology(prefix: &str) -> Topology {
    let topology = Topology::new(&format!("{prefix}-ours"));
    let input = |name: &str| format!("{prefix}-{name}");
    let to = |case: &str| format!("{prefix}-{case}-ours");

    let words =
        topology.stream(&input("lines")).flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    words.group_by(|_, word| word.clone()).count("words").to(&to("word-count"));

    let events = topology.stream(&input("events"));
    let valued = events.flat_map_values(|value| [value.clone()]);
    let (all, by_key) = (events.group_by_key(), valued.group_by_key());
    by_key.count("count").to(&to("count"));
    by_key.reduce("reduce", chain).to(&to("reduce"));
    by_key.aggregate("aggregate", || "<".to_string(), |_, value, so_far| chain(&so_far, value)).to(&to("aggregate"));

    let tumbling = Tumbling::of(10 * SECOND).grace(3 * SECOND);
    let counts = all.window(tumbling).count("tumbling");
    counts.to(&to("tumbling"));
    counts.until_closed("tumbling-closed").to(&to("tumbling-closed"));
    by_key
        .window(tumbling)
        .aggregate("tumbling-text", String::new, |_, value, so_far| chain(&so_far, value))
        .to(&to("tumbling-text"));
    let hopping = Hopping::of(10 * SECOND, 4 * SECOND).grace(2 * SECOND);
    by_key.window(hopping).reduce("hopping", chain).to(&to("hopping"));
    let sliding = Sliding::of(5 * SECOND).grace(3 * SECOND);
    all.window(sliding).count("sliding").to(&to("sliding"));
    by_key.window(sliding).reduce("sliding-text", chain).to(&to("sliding-text"));
    let sessions = Sessions::of(2 * SECOND).grace(5 * SECOND);
    let counts = all.sessions(sessions).count("sessions");
    counts.to(&to("sessions"));
    counts.until_closed("sessions-closed").to(&to("sessions-closed"));
    by_key
        .sessions(sessions)
        .aggregate(
            "sessions-text",
            String::new,
            |_, value, so_far| chain(&so_far, value),
            |_, a, b| format!("({a}|{b})"),
        )
        .to(&to("sessions-text"));
    by_key.sessions(sessions).reduce("sessions-reduce", chain).to(&to("sessions-reduce"));
    let parity = valued.group_by(|_, value| if value.len() % 2 == 0 { "even".to_string() } else { "odd".to_string() });
    parity.window(tumbling).count("parity").to(&to("regrouped-tumbling"));
    parity.sessions(sessions).count("parity-sessions").to(&to("regrouped-sessions"));

    let (people, homes) = (topology.table(&input("people"), "people"), topology.table(&input("homes"), "homes"));
    people.to(&to("table"));
    people.filter(|_, value| value.len() > 1).to(&to("table-filter"));
    people.map_values(|key, value| format!("{key}:{value}")).to(&to("table-map"));
    let regrouped = people.group_by(|_, value| (value[..1].to_string(), value.clone()));
    regrouped.count("table-count").to(&to("table-count"));
    let number = |text: &String| text.parse::<i64>().unwrap_or(0);
    regrouped
        .aggregate(
            "table-sum",
            || 0,
            move |_, value, sum: i64| sum + number(value),
            move |_, value, sum| sum - number(value),
        )
        .to(&to("table-sum"));
    regrouped
        .reduce(
            "table-reduce",
            move |a, b| (number(a) + number(b)).to_string(),
            move |a, b| (number(a) - number(b)).to_string(),
        )
        .to(&to("table-reduce"));

    let (left, right) = (topology.stream(&input("left")), topology.stream(&input("right")));
    let near = JoinWindow::of(2 * SECOND).grace(SECOND);
    left.join("inner", &right, near, |left, right| joined(left, right)).to(&to("stream-inner"));
    left.left_join("left", &right, near, |left, right| either(Some(left), right)).to(&to("stream-left"));
    left.outer_join("outer", &right, near, either).to(&to("stream-outer"));
    let after = JoinWindow::of(Duration::ZERO).after(3 * SECOND).grace(SECOND);
    left.outer_join("after", &right, after, either).to(&to("stream-after"));
    left.join_table("with-people", &people, |left, right| joined(left, right)).to(&to("stream-table"));
    left.left_join_table("with-all", &people, |left, right| either(Some(left), right)).to(&to("stream-table-left"));

    people.join("tables-inner", &homes, |left, right| joined(left, right)).to(&to("tables-inner"));
    people.left_join("tables-left", &homes, |left, right| either(Some(left), right)).to(&to("tables-left"));
    people.outer_join("tables-outer", &homes, either).to(&to("tables-outer"));
    // One of six has none.
    let home = move |value: &String| "abcde".chars().nth(number(value) as usize % 6).map(String::from);
    let places = topology.global_table(&input("places"), "places");
    let found = move |_: Option<&String>, value: &String| home(value);
    left.join_global(&places, found, |left, right| joined(left, right)).to(&to("global"));
    left.left_join_global(&places, found, |left, right| either(Some(left), right)).to(&to("global-left"));
    let home = move |_: &String, value: &String| home(value);
    people.join_by("foreign", &homes, home, |left, right| joined(left, right)).to(&to("foreign"));
    people.left_join_by("foreign-left", &homes, home, |left, right| either(Some(left), right)).to(&to("foreign-left"));
    topology
}
