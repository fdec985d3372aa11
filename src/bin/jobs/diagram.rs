//! `broker diagram`: the topics, partitions and groups of a running broker as a picture, and who reads what. It asks over the text
//! protocol.
//!
//! ```text
//! ┌ orders ─────────┐              ┌ analytics ┐
//! │ 0  12 records   │── lag 2 ────►│ reader-1  │    a line to a member: it has the partition
//! │ 1   3 records   │╌╌ lag 0 ╌╌╌╌►│           │    to the group: it has committed, and nobody has the partition
//! └─────────────────┘              └───────────┘
//! ```

use super::show::fields;
use anyhow::Result;
use clap::{Args, ValueEnum};
use plainlog::client::{Connection, Error};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    io::{self, Write as _},
    process::ExitCode,
};

#[derive(Args)]
pub(crate) struct Job {
    #[command(flatten)]
    at: crate::addressing::At,
    /// What to draw: text for Mermaid, which many Markdown viewers draw, or a picture
    #[arg(long, default_value = "mermaid")]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Mermaid,
    Svg,
}

pub(crate) fn run(job: &Job) -> Result<ExitCode> {
    let picture = Picture::of(&mut Connection::open(job.at.target()?)?)?;
    let text = match job.format {
        Format::Mermaid => picture.mermaid(),
        Format::Svg => picture.svg(),
    };
    io::stdout().write_all(text.expect("a string takes everything").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What is drawn.
#[derive(Debug, Default)]
struct Picture {
    topics: Vec<Topic>,
    groups: Vec<Group>,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Topic {
    name: String,
    partitions: Vec<Partition>,
}

#[derive(Debug)]
struct Partition {
    number: String,
    /// How many records it has; `None`: it is offline.
    records: Option<u64>,
}

#[derive(Debug)]
struct Group {
    name: String,
    state: String,
    /// What the clients of its members call themselves, or their ids.
    members: Vec<String>,
}

/// A partition is read.
#[derive(Debug)]
struct Line {
    topic: usize,
    partition: usize,
    group: usize,
    /// The member that has it; `None`: nobody has.
    member: Option<usize>,
    /// How many records the group has not read; `-`: it has committed nothing.
    lag: String,
}

/// A line's fields by their names.
fn named(line: &str) -> BTreeMap<&str, &str> {
    fields(line).into_iter().collect()
}

/// What was there a moment ago may be gone: then there is nothing to draw of it.
fn ask(broker: &mut Connection, line: &str) -> Result<Option<(String, Vec<String>)>> {
    match broker.ask(line) {
        Ok(answer) => Ok(Some((answer.first, answer.lines))),
        Err(Error::Refused(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Picture {
    fn of(broker: &mut Connection) -> Result<Picture> {
        let mut picture = Picture::default();
        let (_, topics) = ask(broker, "TOPICS")?.unwrap_or_default();
        for name in topics.iter().filter_map(|line| named(line).remove("topic")) {
            let lines = match broker.ask(&format!("TOPIC {name}")) {
                Ok(answer) => answer.lines,
                Err(Error::Refused(refused)) if refused.code == "UNKNOWN_TOPIC_OR_PARTITION" => continue,
                // It is offline.
                Err(Error::Refused(_)) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            let partition = |line: &String| {
                let line = named(line);
                let at = |name: &str| line.get(name)?.parse::<u64>().ok();
                let records = at("end").zip(at("first")).map(|(end, first)| end.saturating_sub(first));
                Some(Partition { number: line.get("partition")?.to_string(), records })
            };
            picture.topics.push(Topic { name: name.into(), partitions: lines.iter().filter_map(partition).collect() });
        }
        let (_, groups) = ask(broker, "GROUPS")?.unwrap_or_default();
        for name in groups.iter().filter_map(|line| named(line).remove("group")) {
            if let Some((first, lines)) = ask(broker, &format!("GROUP {name}"))? {
                picture.add_group(name, &first, &lines);
            }
        }
        Ok(picture)
    }

    /// Adds a group, with a line for each partition that it reads.
    fn add_group(&mut self, name: &str, first: &str, lines: &[String]) {
        let (group, mut members, mut assigned) = (self.groups.len(), Vec::new(), BTreeMap::new());
        for line in lines.iter().map(|line| named(line)) {
            if let Some(id) = line.get("member") {
                let places = line.get("assigned").unwrap_or(&"").split(',').filter(|place| place.contains('/'));
                assigned.extend(places.map(|place| (place.to_string(), members.len())));
                let client = line.get("client").filter(|client| !client.is_empty()).unwrap_or(id);
                members.push(client.to_string());
            }
        }
        let lags: BTreeMap<String, &str> = lines
            .iter()
            .map(|line| named(line))
            .filter_map(|line| Some((format!("{}/{}", line.get("topic")?, line.get("partition")?), *line.get("lag")?)))
            .collect();
        let read: BTreeSet<&String> = assigned.keys().chain(lags.keys()).collect();
        for place in read {
            let member = assigned.get(place).copied();
            let lag = lags.get(place).unwrap_or(&"-").to_string();
            // Nobody reads what has no member and was never committed.
            if let Some((topic, partition)) = self.place(place).filter(|_| member.is_some() || lag != "-") {
                self.lines.push(Line { topic, partition, group, member, lag });
            }
        }
        let state = named(first).remove("state").unwrap_or_default().into();
        self.groups.push(Group { name: name.into(), state, members });
    }

    fn place(&self, place: &str) -> Option<(usize, usize)> {
        let (topic, number) = place.rsplit_once('/')?;
        let topic = self.topics.iter().position(|known| known.name == topic)?;
        let partition = self.topics[topic].partitions.iter().position(|known| known.number == number)?;
        Some((topic, partition))
    }

    fn mermaid(&self) -> Result<String, fmt::Error> {
        let quoted =
            |text: &str| text.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;");
        let mut out = "flowchart LR\n".to_string();
        for (t, topic) in self.topics.iter().enumerate() {
            writeln!(out, "  subgraph t{t} [\"{}\"]", quoted(&topic.name))?;
            for (p, partition) in topic.partitions.iter().enumerate() {
                writeln!(out, "    t{t}p{p}[\"{partition}\"]")?;
            }
            if topic.partitions.is_empty() {
                writeln!(out, "    t{t}p[\"offline\"]")?;
            }
            writeln!(out, "  end")?;
        }
        for (g, group) in self.groups.iter().enumerate() {
            writeln!(out, "  subgraph g{g} [\"{}\"]", quoted(&group.name))?;
            for (m, member) in group.members.iter().enumerate() {
                writeln!(out, "    g{g}m{m}([\"{}\"])", quoted(member))?;
            }
            if group.members.is_empty() {
                writeln!(out, "    g{g}m([\"{}\"])", quoted(&group.state))?;
            }
            writeln!(out, "  end")?;
        }
        for Line { topic, partition, group, member, lag } in &self.lines {
            match member {
                Some(member) => writeln!(out, "  t{topic}p{partition} -->|lag {lag}| g{group}m{member}")?,
                None => writeln!(out, "  t{topic}p{partition} -.->|lag {lag}| g{group}")?,
            }
        }
        Ok(out)
    }

    /// Each line goes to a row of its own in the card of its group, where its lag stands.
    fn svg(&self) -> Result<String, fmt::Error> {
        let partitions = |topic: &Topic| topic.partitions.iter().map(Partition::to_string).collect();
        let topics: Vec<_> =
            self.topics.iter().map(|topic| Card::new(&topic.name, partitions(topic), "offline")).collect();
        let read = |group: usize| self.lines.iter().filter(move |line| line.group == group);
        let groups: Vec<_> = (0..self.groups.len())
            .map(|group| {
                let rows = read(group).map(|line| self.told(line)).collect();
                Card::new(&self.groups[group].name, rows, &self.groups[group].state)
            })
            .collect();
        let (left, right) = (stacked(&topics), stacked(&groups));
        let end =
            |stack: &[u32], cards: &[Card<'_>]| stack.last().zip(cards.last()).map_or(0, |(y, card)| y + card.height());
        let (width, height) = (2 * CARD_WIDTH + GAP_WIDTH, end(&left, &topics).max(end(&right, &groups)).max(ROW));
        let mut out =
            format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-10 -10 {} {}\" ", width + 20, height + 20);
        out += "font-family=\"sans-serif\" font-size=\"13\" fill=\"none\" stroke=\"#678\">\n<title>plainlog</title>\n";
        for (x, stack, cards) in [(0, &left, &topics), (CARD_WIDTH + GAP_WIDTH, &right, &groups)] {
            cards.iter().zip(stack).try_for_each(|(card, &y)| card.draw(&mut out, x, y))?;
        }
        for (group, top) in right.iter().enumerate() {
            for (row, line) in read(group).enumerate() {
                let (from, into) = (left[line.topic] + row_middle(line.partition + 1), top + row_middle(row + 1));
                let (x, middle, to) = (CARD_WIDTH, CARD_WIDTH + GAP_WIDTH / 2, CARD_WIDTH + GAP_WIDTH);
                let dashes = if line.member.is_some() { "" } else { " stroke-dasharray=\"4 4\"" };
                writeln!(out, "<path d=\"M{x} {from}C{middle} {from} {middle} {into} {to} {into}\"{dashes}/>")?;
            }
        }
        out += "</svg>\n";
        Ok(out)
    }

    /// A partition that a group reads, its lag, and who has it.
    fn told(&self, Line { topic, partition, group, member, lag }: &Line) -> String {
        let topic = &self.topics[*topic];
        let place = format!("{}/{}", topic.name, topic.partitions[*partition].number);
        let member = member.map_or(String::new(), |member| format!(", {}", self.groups[*group].members[member]));
        format!("{place}: lag {lag}{member}")
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = &self.number;
        match self.records {
            Some(1) => write!(f, "{number}: 1 record"),
            Some(records) => write!(f, "{number}: {records} records"),
            None => write!(f, "{number}: offline"),
        }
    }
}

/// Sizes in the picture.
const CARD_WIDTH: u32 = 300;
const GAP_WIDTH: u32 = 160;
const ROW: u32 = 24;

/// A box with a name above its rows.
struct Card<'p> {
    name: &'p str,
    rows: Vec<String>,
}

impl Card<'_> {
    /// One with these rows, or with this one if there are none.
    fn new<'p>(name: &'p str, rows: Vec<String>, otherwise: &str) -> Card<'p> {
        let rows = if rows.is_empty() { vec![otherwise.into()] } else { rows };
        Card { name, rows }
    }

    fn height(&self) -> u32 {
        ROW * (self.rows.len() as u32 + 1) + 8
    }

    fn draw(&self, out: &mut String, x: u32, y: u32) -> fmt::Result {
        writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{CARD_WIDTH}\" height=\"{}\" rx=\"5\"/>", self.height())?;
        for (n, (text, weight)) in
            [(self.name, "bold")].into_iter().chain(self.rows.iter().map(|row| (row.as_str(), "normal"))).enumerate()
        {
            let (x, y) = (x + 12, y + row_middle(n) + 5);
            let text = escaped(text);
            writeln!(
                out,
                "<text x=\"{x}\" y=\"{y}\" font-weight=\"{weight}\" fill=\"#678\" stroke=\"none\">{text}</text>"
            )?;
        }
        Ok(())
    }
}

/// Where the middle of a card's row is, below its top; row 0 is its name.
fn row_middle(row: usize) -> u32 {
    4 + ROW * row as u32 + ROW / 2
}

/// The tops of cards one below the other.
fn stacked(cards: &[Card<'_>]) -> Vec<u32> {
    let next = |y: &mut u32, card: &Card<'_>| {
        let top = *y;
        *y += card.height() + ROW;
        Some(top)
    };
    cards.iter().scan(0, next).collect()
}

/// Text as it stands in XML, cut to fit a card. Control characters are escaped by the protocol.
fn escaped(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    let cut: String = text.chars().take(CHARS_MAX).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    cut.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;") + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader},
        net::TcpListener,
        thread,
    };

    /// It was drawn as a topic that is offline.
    #[test]
    fn a_topic_that_is_gone_when_it_is_asked_about_is_not_drawn() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let broker = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            for line in BufReader::new(&stream).lines() {
                let answer: &[u8] = match line.unwrap().as_str() {
                    "PING" => b"PONG\n",
                    "TOPICS" => b"TOPICS count:2\ntopic:gone partitions:1\ntopic:torn partitions:-\n",
                    "TOPIC gone" => b"ERROR UNKNOWN_TOPIC_OR_PARTITION there is no topic 'gone'\n",
                    "TOPIC torn" => b"ERROR KAFKA_STORAGE_ERROR topic 'torn' is offline\n",
                    _ => b"GROUPS count:0\n",
                };
                (&stream).write_all(answer).unwrap();
            }
        });
        let picture = Picture::of(&mut Connection::open(&address).unwrap()).unwrap();
        broker.join().unwrap();
        let expected = "flowchart LR\n  subgraph t0 [\"torn\"]\n    t0p[\"offline\"]\n  end\n";
        assert_eq!(picture.mermaid().unwrap(), expected);
    }
}
