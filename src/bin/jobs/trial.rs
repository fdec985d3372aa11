//! `broker try`: asks a running broker what every client asks first, in both of its protocols, and tells what came of each step.
//!
//! Each step is a `POST /api/try`: the broker sends it to itself over a connection, and shows the bytes and the fields. What is
//! written goes to a topic of its own, which is dropped at the end.

use anyhow::{Context, Result, bail};
use clap::Args;
use plainlog::{
    broker::Code,
    client::{Target, Wire},
};
use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct Job {
    #[command(flatten)]
    at: crate::addressing::At,
    /// Print every field of every request and answer, with its bytes
    #[arg(long)]
    fields: bool,
}

pub(crate) fn run(job: &Job) -> Result<ExitCode> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let topic = format!("try-{}-{}", std::process::id(), now.as_nanos());
    let target = job.at.target()?;
    let tried = all(job, &target, &topic);
    if tried.is_err() {
        // Whatever went wrong, nothing shall stay behind; the reason is told already.
        drop(ask(&target, &json!({ "text": format!("DROP {topic}") })));
    }
    match tried? {
        0 => Ok(ExitCode::SUCCESS),
        1 => bail!("1 step failed"),
        failed => bail!("{failed} steps failed"),
    }
}

/// Tries each step. Answers how many failed.
fn all(job: &Job, target: &Target, topic: &str) -> Result<usize> {
    let mut failed = 0;
    for step in steps(topic) {
        let seen = ask(target, &step.asked)?;
        let outcome = step.outcome(&seen);
        let (word, told) = match &outcome {
            Ok(told) => ("ok    ", told),
            Err(why) => ("FAILED", why),
        };
        failed += usize::from(outcome.is_err());
        let name = step.name(&seen);
        let length = |side: &str| seen[side]["length"].as_u64().unwrap_or_default();
        let (asked, answered) = (length("request"), length("response"));
        let took_ms = seen["took_us"].as_f64().unwrap_or(0.0) / 1000.0;
        let mut out = io::stdout().lock();
        writeln!(out, "{word} {name:<26} {asked:>4} bytes, {answered:>5} back, {took_ms:>7.2} ms  {told}")?;
        for side in ["request", "response"].into_iter().filter(|_| job.fields) {
            writeln!(out, "       {side}")?;
            tell_fields(&mut out, &seen[side])?;
        }
    }
    Ok(failed)
}

/// Something to be tried.
struct Step {
    asked: Value,
    /// What the answer must hold: a text in its lines, or the value of a field by the end of its name.
    expects: Expects,
}

enum Expects {
    Line(&'static str),
    Field(&'static str, Value),
}

/// The six calls of a Kafka client, and verbs that do the same by lines.
fn steps(topic: &str) -> Vec<Step> {
    use Expects::{Field, Line};
    let key = "key-of-both";
    let line = |text: String, expects| Step { asked: json!({ "text": text }), expects: Line(expects) };
    let call = |asked, name, value| Step { asked, expects: Field(name, value) };
    vec![
        line("PING".into(), "PONG"),
        line("INFO".into(), "version:"),
        call(json!({ "kafka": "ApiVersions" }), "api_keys[0].api_key", json!(0)),
        call(json!({ "kafka": "Metadata" }), "brokers[0].node_id", json!(1)),
        call(json!({ "kafka": "CreateTopics", "topic": topic, "partitions": 2 }), "topics[0].num_partitions", json!(2)),
        call(json!({ "kafka": "Metadata", "topic": topic }), "topics[0].partitions[1].partition_index", json!(1)),
        call(
            json!({ "kafka": "DescribeTopicPartitions", "topic": topic }),
            "topics[0].partitions[1].partition_index",
            json!(1),
        ),
        call(
            json!({ "kafka": "Produce", "topic": topic, "partition": 1, "key": key, "value": "by a call" }),
            "partition_responses[0].base_offset",
            json!(0),
        ),
        line(format!("SEND {topic}/1 key:{key} message:by a line"), "offset:1"),
        call(
            json!({ "kafka": "Fetch", "topic": topic, "partition": 1, "offset": 1 }),
            "records[0].value",
            json!("by a line"),
        ),
        line(format!("FETCH {topic}/1 0"), "message:by a call"),
        line(format!("TAIL {topic} from:earliest until:end"), "message:by a line"),
        line(format!("TOPIC {topic}"), "end:2"),
        line(format!("DROP {topic}"), "OK"),
    ]
}

impl Step {
    fn name(&self, seen: &Value) -> String {
        let text = |value: &Value| value.as_str().map(String::from);
        let verb = self.asked["text"].as_str().and_then(|line| line.split(' ').next()).map(String::from);
        verb.or_else(|| text(&seen["api"])).or_else(|| text(&self.asked["kafka"])).unwrap_or_default()
    }

    /// What the answer says in short, or why it is not as it should be.
    fn outcome(&self, seen: &Value) -> Result<String, String> {
        let answer = &seen["response"];
        if answer["length"] == 0 || seen["whole"] == false {
            return Err("it was not answered to its end".into());
        }
        match &self.expects {
            Expects::Line(expected) => {
                let text = text_of(answer);
                let first = text.lines().next().unwrap_or_default().to_string();
                let is_right = !first.starts_with("ERROR") && text.contains(expected);
                if is_right { Ok(first) } else { Err(first) }
            }
            Expects::Field(name, expected) => {
                let spans = answer["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
                let is = |span: &&Value, end: &str| span["name"].as_str().is_some_and(|name| name.ends_with(end));
                let code = spans.iter().filter(|span| is(span, "error_code")).find(|span| span["value"] != 0);
                if let Some(code) = code {
                    let number = code["value"].as_i64().unwrap_or_default();
                    let known = Code::ALL.iter().find(|code| i64::from(i16::from(**code)) == number);
                    let known = known.map_or(String::new(), |code| format!(" {}", code.name()));
                    return Err(format!("{} {number}{known}", code["name"].as_str().unwrap_or_default()));
                }
                let found = spans.iter().find(|span| is(span, name)).map(|span| &span["value"]);
                let told = |value: &Value| format!("{name} {value}");
                match found {
                    Some(value) if value == expected => Ok(told(value)),
                    Some(value) => Err(format!("{}, not {expected}", told(value))),
                    None => Err(format!("the answer has no {name}")),
                }
            }
        }
    }
}

/// The bytes of a message as text.
fn text_of(message: &Value) -> String {
    let digits = message["hex"].as_str().unwrap_or_default().as_bytes();
    let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
    let bytes: Vec<u8> = digits.chunks(2).filter_map(byte).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tell_fields(out: &mut impl Write, message: &Value) -> io::Result<()> {
    let hex = message["hex"].as_str().unwrap_or_default();
    for span in message["spans"].as_array().into_iter().flatten() {
        let at = |name: &str| span[name].as_u64().unwrap_or_default() as usize;
        let (from, to) = (at("from"), at("to"));
        let bytes = hex.get(2 * from..2 * to).unwrap_or_default();
        let bytes = if bytes.len() > 32 { format!("{}...", &bytes[..32]) } else { bytes.into() };
        let (name, kind) = (span["name"].as_str().unwrap_or_default(), span["type"].as_str().unwrap_or_default());
        writeln!(out, "       {from:>6}  {bytes:<35}  {name} ({kind}): {}", span["value"])?;
    }
    Ok(())
}

/// What the broker answers to one request.
fn ask(target: &Target, asked: &Value) -> Result<Value> {
    let broker = target.address();
    let unreachable = || format!("cannot ask the broker at {broker}");
    let wire = Wire::connect(target).with_context(unreachable)?;
    let mut stream = &wire;
    wire.tcp().set_read_timeout(Some(PATIENCE))?;
    let body = asked.to_string();
    let who = wire.authorization(target)?;
    let says_who = who.as_ref().map_or(String::new(), |who| format!("\r\nAuthorization: {who}"));
    let head = format!(
        "POST /api/try HTTP/1.1\r\nHost: {broker}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close{says_who}",
        body.len()
    );
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).with_context(unreachable)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(unreachable)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) =
        answer.split_once("\r\n\r\n").context("the broker does not speak HTTP; is its feature 'http' on?")?;
    let body: Value = serde_json::from_str(body).context("the broker's answer is no JSON")?;
    if head.starts_with("HTTP/1.1 401 ") && who.is_none() {
        bail!("the broker asks who you are; --user says it");
    }
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("the broker refuses: {}", body["message"].as_str().unwrap_or(head));
    }
    Ok(body)
}
