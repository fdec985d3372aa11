//! What is asked of any bytes: that they are answered or refused, and that what is answered is whole.

use plainlog::{
    broker::{Broker, Rules, Waiter},
    log::{
        Lines,
        batches::{Flags, crc32c},
        record::{Records, write_line},
    },
    protocol::{
        connection,
        kafka::{
            self, Session,
            batch::{Batch, Encoder, Facts, HEADER_BYTES},
            compression::{Codec, Codecs},
        },
        transport::Transport,
    },
};
use std::{
    net::{TcpListener, TcpStream},
    sync::{OnceLock, atomic::AtomicBool},
    time::Duration,
};

/// A request without its size goes to a new broker with the topic `there` of two partitions, which is stopping, so that
/// nothing waits. Answers the response without its size; empty: the connection is closed, or no answer was asked for.
pub(crate) fn request(bytes: &[u8]) -> Vec<u8> {
    static TRANSPORT: OnceLock<(Transport, TcpStream)> = OnceLock::new();
    let broker = Broker::in_memory();
    broker.create_topic("there", 2).expect("a broker in memory");
    // The client says no more and hears nothing: what is answered is looked at before it is sent.
    let (transport, _client) = TRANSPORT.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("a connection");
        let (stream, peer) = listener.accept().expect("the client");
        let counted = broker.metrics().connections.connected(peer, 0);
        (Transport::tcp(stream, counted, Duration::from_secs(60)).expect("it is connected"), client)
    });
    let stopping = AtomicBool::new(true);
    let (_, mut output) = connection::open(transport, Waiter::new(), &stopping);
    let answered = kafka::answer(&broker, &mut Session::default(), &mut output, bytes);
    let responses = output.bytes;
    let Some((size, response)) = responses.split_first_chunk().filter(|_| answered.is_ok()) else { return Vec::new() };
    assert_eq!(u32::from_be_bytes(*size) as usize, response.len(), "one request, one response");
    assert_eq!(response.get(..4), bytes.get(4..8), "the request's correlation id");
    response.to_vec()
}

/// A batch as a producer sends it. Its length and its CRC are made right first, for nothing else would get further than
/// these. What is taken goes on to lines and back to a batch, where the same number of records must arrive. Answers it.
pub(crate) fn batch(bytes: &[u8]) -> Option<usize> {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= HEADER_BYTES {
        let length = (bytes.len() - 12) as u32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    let taken = |bytes: &[u8], count: &mut dyn FnMut(&Records<'_>)| {
        let rules = Rules { append_time: false, key_required: false, timestamps: 0..=i64::MAX, bytes_max: usize::MAX };
        let batch = Batch::open(bytes).ok()?;
        batch.check(usize::MAX).ok()?;
        let mut decompressed = Vec::new();
        let body = batch.body(&mut Codecs::default(), &mut decompressed).ok()?;
        let records = batch.records(body, &rules, Records::default()).ok()?;
        count(&records);
        Some(records.len())
    };
    let mut lines = Vec::new();
    let count = taken(&bytes, &mut |records| {
        for (offset, record) in (0..).zip(records.iter()) {
            write_line(&mut lines, offset, record.timestamp, records, record);
        }
    })?;
    let mut again = Vec::new();
    let mut encoder = Encoder::new(&mut again, Facts::PLAIN);
    encoder.lines(Lines::new(&lines, 0, Flags::NONE), usize::MAX).expect("lines as the log writes them");
    encoder.finish(count as u64 - 1, Codec::None, &mut Codecs::default(), &mut Vec::new());
    assert_eq!(taken(&again, &mut |_| {}), Some(count), "records that were taken are served");
    Some(count)
}
