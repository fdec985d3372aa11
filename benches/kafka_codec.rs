//! Kafka's record batches, a thousand records of a hundred bytes: from the wire to records, from lines to the wire.
//! `cargo bench --bench kafka_codec`

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use plainlog::{
    broker::Rules,
    log::{
        Lines,
        batches::Flags,
        record::{Records, write_line},
    },
    protocol::kafka::{
        batch::{Batch, Encoder, Facts},
        compression::{Codec, Codecs},
    },
};
use std::borrow::Cow;

const RECORDS: u64 = 1000;
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const RULES: Rules = Rules { append_time: false, key_required: false, timestamps: 0..=i64::MAX, bytes_max: usize::MAX };

/// Lines of a hundred bytes of value each; `shape` says what they hold besides.
fn lines(shape: &str) -> Vec<u8> {
    let (mut out, mut records) = (Vec::new(), Records::default());
    for index in 0..RECORDS {
        let mut value = format!("{{\"order\":{index},\"status\":\"placed\",\"note\":\"").into_bytes();
        value.resize(100, b'x');
        if shape == "binary" {
            value[50] = 0xff;
        }
        let key = (shape == "key").then(|| Cow::Owned(format!("user-{index}").into_bytes()));
        let timestamp = (shape == "timestamp").then_some(1_700_000_000_000 + index as i64);
        records.push(timestamp, key, Some(Cow::Owned(value)));
    }
    for (record, offset) in records.iter().zip(0..) {
        write_line(&mut out, offset, record.timestamp, &records, record);
    }
    out
}

fn encode(out: &mut Vec<u8>, lines: &[u8], codec: Codec, codecs: &mut Codecs, scratch: &mut Vec<u8>) {
    out.clear();
    let mut encoder = Encoder::new(out, Facts::PLAIN);
    encoder.lines(Lines::new(lines, 1_700_000_000_000, Flags::NONE), usize::MAX).expect("lines as the log writes them");
    encoder.finish(RECORDS - 1, codec, codecs, scratch);
}

fn codec(criterion: &mut Criterion) {
    let (mut codecs, mut scratch) = (Codecs::default(), Vec::new());
    let mut group = criterion.benchmark_group("kafka");
    group.throughput(Throughput::Elements(RECORDS));
    for codec in CODECS {
        let mut batch = Vec::new();
        encode(&mut batch, &lines("plain"), codec, &mut codecs, &mut scratch);
        group.bench_function(format!("decode {codec:?}"), |bench| {
            let mut kept = Some(Records::default());
            bench.iter(|| {
                let batch = Batch::open(&batch).expect("a batch");
                batch.check(usize::MAX).expect("a sound batch");
                let records = kept.take().expect("given back each time");
                let body = batch.body(&mut codecs, &mut scratch).expect("what the codec wrote");
                let records = batch.records(body, &RULES, records).expect("sound records");
                kept = Some(records.recycle());
            });
        });
    }
    for shape in ["plain", "timestamp", "key", "binary"] {
        let lines = lines(shape);
        let mut out = Vec::new();
        group.bench_function(format!("encode {shape}"), |bench| {
            bench.iter_batched(
                || (),
                |()| encode(&mut out, &lines, Codec::None, &mut codecs, &mut scratch),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
