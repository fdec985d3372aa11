//! Try it: a line of the text protocol, or one of the calls of a Kafka client, sent over a connection to this very port.
//!
//! What came of it is seen as [`Wire`](crate::broker::wire) sees it, whether that is switched on or not.

use super::{OBJECT_BYTES_MAX, Object, text};
#[cfg(feature = "kafka")]
use crate::protocol::kafka::requests::Request;
use crate::{
    backend::Backend,
    broker::{spans::Spans, wire::Message},
    protocol::{
        http::{
            exchange::Exchange,
            refusal::{Refusal, Stop},
        },
        wire_view::{self, Side},
    },
};
use serde_json::{Map, Value, json};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// `POST /api/try`: `{"text":"SEND orders message:hi"}` or `{"kafka":"Fetch","topic":"orders","partition":0,"offset":17}`
pub(in crate::protocol::http) fn run(exchange: &mut Exchange<'_, '_>) -> Result<(), Stop> {
    let mut body = Object::of(exchange.json_body(OBJECT_BYTES_MAX)?)?;
    let frame = match body.take("text", "a line", text)? {
        Some(line) => line_of(line)?,
        None => frame_of(&mut body, exchange.broker.now_ms())?,
    };
    body.end()?;
    let broken = |error: io::Error| Refusal::new(503, format!("the connection to this port: {error}"));
    let address = exchange.output.local()?;
    let answer = ask(exchange, address, &frame).map_err(broken)?;
    exchange.json(200, &answer)
}

/// A line with its end, if it is one and begins no other protocol.
fn line_of(line: String) -> Result<Vec<u8>, Refusal> {
    let is_line = line.starts_with(|first: char| first.is_ascii_alphabetic()) && !line.contains(['\n', '\r']);
    if !is_line || line.ends_with(" HTTP/1.0") || line.ends_with(" HTTP/1.1") {
        return Err(Refusal::invalid("\"text\" is one line, without its end, that begins with a verb; try HELP"));
    }
    Ok((line + "\n").into_bytes())
}

#[cfg(feature = "kafka")]
fn frame_of(body: &mut Object, now_ms: i64) -> Result<Vec<u8>, Refusal> {
    let name = body.expect("kafka", "the name of a call, unless there is \"text\"", text)?;
    let mut topic = || body.expect("topic", "a topic's name", text);
    let whole = |value: Value| value.as_i64();
    let index = |value: Value| value.as_i64().and_then(|number| i32::try_from(number).ok());
    let request = match name.as_str() {
        "ApiVersions" => Request::ApiVersions,
        "Metadata" => Request::Metadata { topic: body.take("topic", "a topic's name", text)? },
        "CreateTopics" => Request::CreateTopics {
            topic: topic()?,
            partitions: body.take("partitions", "a number of partitions", index)?.unwrap_or(-1),
        },
        "DescribeTopicPartitions" => Request::DescribeTopicPartitions { topic: topic()? },
        "Produce" => Request::Produce {
            topic: topic()?,
            partition: body.take("partition", "a partition's number", index)?.unwrap_or(0),
            key: body.take("key", "a text", text)?,
            value: body.expect("value", "a text", text)?,
        },
        "Fetch" => Request::Fetch {
            topic: topic()?,
            partition: body.take("partition", "a partition's number", index)?.unwrap_or(0),
            offset: body.take("offset", "an offset", whole)?.unwrap_or(0),
        },
        _ => {
            let calls = "ApiVersions, Metadata, CreateTopics, DescribeTopicPartitions, Produce or Fetch";
            return Err(Refusal::invalid(format!("\"kafka\" is {calls}")));
        }
    };
    Ok(request.encode(now_ms))
}

#[cfg(not(feature = "kafka"))]
fn frame_of(_: &mut Object, _: i64) -> Result<Vec<u8>, Refusal> {
    Err(Refusal::invalid("\"text\" is missing; it is a line (this build does not speak Kafka's protocol)"))
}

/// Sends a request as the only one of a connection. Answers the exchange, and whether the answer was read to its end.
fn ask(exchange: &Exchange<'_, '_>, address: SocketAddr, request: &[u8]) -> io::Result<Value> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    let by = exchange.broker.caller().clone();
    let expected = exchange.broker.wire().expect(stream.local_addr()?, address, by);
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    stream.shutdown(Shutdown::Write)?;
    let (response, whole) = read(&mut stream, begun + PATIENCE)?;
    let answer = match expected.take() {
        Some(seen) => {
            let mut shown = wire_view::shown(&seen);
            hide_place(exchange.broker, &mut shown);
            shown
        }
        // It was not answered to its end, or by nobody who could be watched.
        None => {
            // What is no text has no fields that anybody noted.
            let spans = (!request[0].is_ascii_alphabetic()).then(Spans::default);
            let [mut sent, mut received] = [spans.clone(), spans].map(|spans| Message { spans, ..Message::default() });
            sent.add(request);
            received.add(&response);
            let shown = json!({
                "request": wire_view::message(&sent, Side::Request),
                "response": wire_view::message(&received, Side::Response),
                "took_us": begun.elapsed().as_micros() as u64,
            });
            shown.as_object().cloned().unwrap_or_default()
        }
    };
    let mut answer = Value::Object(answer);
    answer["whole"] = whole.into();
    Ok(answer)
}

/// Leaves of a file's path what is within the data directory, unless the caller may know where that is.
fn hide_place(broker: &Backend, shown: &mut Map<String, Value>) {
    let Some(data_dir) = broker.config().data_dir.as_ref().filter(|_| broker.may_see_cluster().is_err()) else {
        return;
    };
    if let Some(Value::String(path)) = shown.get_mut("file").and_then(|file| file.get_mut("path")) {
        let within = Path::new(path.as_str()).strip_prefix(data_dir).unwrap_or(Path::new("")).display().to_string();
        *path = within;
    }
}

/// What comes until the other end closes (true), or until the time or the room is over.
fn read(stream: &mut TcpStream, deadline: Instant) -> io::Result<(Vec<u8>, bool)> {
    let (mut bytes, mut some) = (Vec::new(), [0; 16 << 10]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || bytes.len() > ANSWER_BYTES_MAX {
            return Ok((bytes, false));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut some) {
            Ok(0) => return Ok((bytes, true)),
            Ok(read) => bytes.extend_from_slice(&some[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok((bytes, false));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
