//! Batches both ways: against themselves, against another codec, and against everything that is no batch.

use super::*;
use crate::{
    log::{Lines, batches::Flags, record::write_line},
    protocol::kafka::wire::write_varlong,
};
use kafka_protocol::records::{
    self as oracle, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

const RULES: Rules = Rules { append_time: false, key_required: false, timestamps: 0..=i64::MAX, bytes_max: usize::MAX };
type Named<'a> = (&'a [u8], Option<&'a [u8]>);

/// A record to build batches from.
#[derive(Clone, Debug, PartialEq)]
struct Given {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn given(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Named<'_>]) -> Given {
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let headers = headers.iter().map(|(name, value)| (name.to_vec(), owned(*value))).collect();
    Given { timestamp: 1_700_000_000_000, key: owned(key), value: owned(value), headers }
}

fn sample() -> Vec<Given> {
    let headers: [Named<'_>; 3] = [(b"h", Some(b"1")), (b"h", None), (b"", Some(b""))];
    vec![
        given(None, Some(b"a plain value"), &[]),
        given(Some(b"key"), None, &[]),
        given(Some(b""), Some(b""), &headers),
        given(Some(b"\xff "), Some(b"\0\xff\n"), &[]),
        given(None, Some("zwei\nZeilen \u{2028}ö".as_bytes()), &[]),
    ]
}

fn records(given: &[Given]) -> Records<'_> {
    let mut records = Records::default();
    for record in given {
        records.push(
            Some(record.timestamp),
            record.key.as_deref().map(Cow::Borrowed),
            record.value.as_deref().map(Cow::Borrowed),
        );
        for (name, value) in &record.headers {
            records.header(Cow::Borrowed(name), value.as_deref().map(Cow::Borrowed));
        }
    }
    records
}

fn givens(records: &Records<'_>) -> Vec<Given> {
    let owned = |bytes: &Option<Cow<'_, [u8]>>| bytes.as_ref().map(|bytes| bytes.to_vec());
    let given = |record: &crate::log::record::RecordRef<'_>| Given {
        timestamp: record.timestamp.unwrap(),
        key: owned(&record.key),
        value: owned(&record.value),
        headers: records.headers_of(record).iter().map(|(name, value)| (name.to_vec(), owned(value))).collect(),
    };
    records.iter().map(given).collect()
}

/// The records as the log's lines at `offsets`.
fn lines(given: &[Given], offsets: impl IntoIterator<Item = u64>, timestamp: i64) -> Vec<u8> {
    let (mut out, records) = (Vec::new(), records(given));
    for (record, offset) in records.iter().zip(offsets) {
        let differs = record.timestamp.filter(|&own| own != timestamp);
        write_line(&mut out, offset, differs, &records, record);
    }
    out
}

fn encoded(facts: Facts, lines: &[u8], timestamp: i64, last: u64, codec: Codec) -> Vec<u8> {
    let mut out = b"before".to_vec();
    let mut encoder = Encoder::new(&mut out, facts);
    let flags = if facts.append_time { Flags::APPEND_TIME } else { Flags::NONE };
    encoder.lines(Lines::new(lines, timestamp, flags), usize::MAX).unwrap();
    encoder.finish(last, codec, &mut Codecs::default(), &mut Vec::new());
    out.split_off(6)
}

/// A batch as a producer sends it.
fn produced(given: &[Given], codec: Codec) -> Vec<u8> {
    encoded(Facts::PLAIN, &lines(given, 0.., 0), 0, given.len() as u64 - 1, codec)
}

/// What a produce request does with a batch.
fn decode(bytes: &[u8], rules: &Rules) -> Result<Vec<Given>, Error> {
    let batch = Batch::open(bytes)?;
    batch.check(usize::MAX)?;
    let mut scratch = Vec::new();
    let body = batch.body(&mut Codecs::default(), &mut scratch)?;
    batch.records(body, rules, Records::default()).map(|records| givens(&records))
}

/// Sets the length and the CRC as they should be.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn with(batch: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = batch.to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    batch
}

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

#[test]
fn what_producers_send_becomes_records_in_every_codec() {
    for codec in CODECS {
        assert_eq!(decode(&produced(&sample(), codec), &RULES), Ok(sample()), "{codec:?}");
    }
}

#[test]
fn what_kafka_refuses_is_refused_with_its_code() {
    let good = produced(&sample(), Codec::None);
    let empty = sealed(with(&with(&good[..HEADER_BYTES], 57, &[0; 4]), 23, &[0xff; 4]));
    let code = |bytes: &[u8]| decode(bytes, &RULES).map_or_else(|error| error.answer().0, |_| Code::None);
    for (what, bytes, expected) in [
        ("good", good.clone(), Code::None),
        ("nothing", vec![], Code::InvalidRecord),
        ("cut short", good[..good.len() - 3].to_vec(), Code::InvalidRecord),
        ("two batches", [&good[..], &good].concat(), Code::InvalidRecord),
        ("no records", empty, Code::InvalidRecord),
        ("magic 1", with(&good, 16, &[1]), Code::InvalidRecord),
        ("magic 3", with(&good, 16, &[3]), Code::CorruptMessage),
        ("wrong CRC", with(&good, 17, &[0; 4]), Code::CorruptMessage),
        ("length of a message without a key", with(&good, 8, &[0, 0, 0, 13]), Code::CorruptMessage),
        ("base offset 500", with(&good, 0, &500i64.to_be_bytes()), Code::InvalidRecord),
        ("count one too few", sealed(with(&good, 57, &4i32.to_be_bytes())), Code::InvalidRecord),
        ("count one too many", sealed(with(&good, 57, &6i32.to_be_bytes())), Code::InvalidRecord),
        ("last offset 5", sealed(with(&good, 23, &5i32.to_be_bytes())), Code::InvalidRecord),
        ("last offset -1", sealed(with(&good, 23, &(-1i32).to_be_bytes())), Code::InvalidRecord),
        ("control bit", sealed(with(&good, 21, &[0, 0x20])), Code::InvalidRecord),
        ("codec 7", sealed(with(&good, 21, &[0, 7])), Code::UnsupportedCompressionType),
        ("no gzip", sealed(with(&good, 21, &[0, 1])), Code::InvalidRecord),
        ("append time", sealed(with(&good, 21, &[0, 8])), Code::InvalidTimestamp),
        ("producer without sequence", sealed(with(&good, 43, &5i64.to_be_bytes())), Code::InvalidRecord),
        ("a byte behind", sealed([&good[..], b"x"].concat()), Code::InvalidRecord),
        ("transactional", sealed(with(&good, 21, &[0, 0x10])), Code::None),
        ("before 1970", sealed(with(&good, 27, &(-9i64).to_be_bytes())), Code::InvalidTimestamp),
        ("no timestamp", sealed(with(&good, 27, &(-1i64).to_be_bytes())), Code::None),
    ] {
        assert_eq!(code(&bytes), expected, "{what}");
    }
    // A count of records that would pass, with fewer or more records behind it.
    for (count, expected) in [(4, Code::InvalidRecord), (5, Code::None), (6, Code::InvalidRecord)] {
        let counted = with(&with(&good, 57, &i32::to_be_bytes(count)), 23, &(count - 1).to_be_bytes());
        assert_eq!(code(&sealed(counted)), expected, "{count} records");
    }
    let batch = Batch::open(&good).unwrap();
    assert_eq!(batch.check(good.len()), Ok(()));
    assert!(matches!(batch.check(good.len() - 1), Err(Error::TooLarge(_))));
}

#[test]
fn records_that_break_the_topics_rules_are_named() {
    let bytes = produced(&sample(), Codec::None);
    let compacted = decode(&bytes, &Rules { key_required: true, ..RULES });
    let Err(Error::Records(Code::InvalidRecord, _, named)) = compacted else { panic!("{compacted:?}") };
    assert_eq!(named, [0, 4]);
    let mut records = sample();
    records[1].timestamp += 1;
    let bytes = produced(&records, Codec::None);
    let late = Rules { timestamps: 0..=1_700_000_000_000, ..RULES };
    let refused = decode(&bytes, &late);
    let Err(Error::Records(Code::InvalidTimestamp, _, named)) = refused else { panic!("{refused:?}") };
    assert_eq!(named, [1]);
    let batch = Batch::open(&bytes).unwrap();
    let mut scratch = Vec::new();
    let stamped = Rules { append_time: true, ..late };
    let body = batch.body(&mut Codecs::default(), &mut scratch).unwrap();
    let stamped = batch.records(body, &stamped, Records::default()).unwrap();
    assert!(stamped.iter().all(|record| record.timestamp.is_none()));
}

#[test]
fn every_truncation_is_refused() {
    for codec in CODECS {
        let good = produced(&sample(), codec);
        for end in 0..good.len() {
            assert!(decode(&good[..end], &RULES).is_err(), "{codec:?} cut at {end}");
            // Length and CRC fit what is left: the records themselves are short. (An lz4 frame may lack its end mark.)
            if end >= HEADER_BYTES {
                let records = decode(&sealed(good[..end].to_vec()), &RULES);
                let whole = codec == Codec::Lz4 && records == Ok(sample());
                assert!(records.is_err() || whole, "{codec:?} sealed at {end}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for codec in CODECS {
        let good = produced(&sample(), codec);
        for bit in 0..good.len() * 8 {
            let at = bit / 8;
            let bytes = with(&good, at, &[good[at] ^ 1 << (bit % 8)]);
            // A producer's leader epoch means nothing, and the CRC leaves it out.
            assert_eq!(decode(&bytes, &RULES).is_err(), !(12..16).contains(&at), "{codec:?} bit {bit}");
            // What a CRC does not catch: no panic, and never a record more.
            if at >= HEADER_BYTES {
                let records = decode(&sealed(bytes), &RULES).unwrap_or_default();
                assert!(records.len() <= sample().len());
            }
        }
    }
}

/// A record with its `lie`-th length field changed by `change`; `None`: it has fewer.
fn lying(record: &Given, lie: usize, change: impl Fn(i64) -> i64) -> Option<Vec<u8>> {
    let mut fields = 0;
    let mut length = |out: &mut Vec<u8>, true_length: Option<usize>| {
        let true_length = true_length.map_or(-1, |length| length as i64);
        write_varlong(out, if fields == lie { change(true_length) } else { true_length });
        fields += 1;
    };
    let mut body = vec![0, 0, 0];
    for bytes in [&record.key, &record.value] {
        length(&mut body, bytes.as_ref().map(Vec::len));
        body.extend_from_slice(bytes.as_deref().unwrap_or_default());
    }
    length(&mut body, Some(record.headers.len()));
    for (name, value) in &record.headers {
        length(&mut body, Some(name.len()));
        body.extend_from_slice(name);
        length(&mut body, value.as_ref().map(Vec::len));
        body.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    let mut out = Vec::new();
    length(&mut out, Some(body.len()));
    out.extend_from_slice(&body);
    (lie < fields).then_some(out)
}

#[test]
fn every_length_that_lies_is_refused() {
    let headers: [Named<'_>; 2] = [(b"name", Some(b"value")), (b"n", Some(b"v"))];
    let record = given(Some(b"key"), Some(b"value"), &headers);
    let one = produced(std::slice::from_ref(&record), Codec::None);
    let batch = |record: Vec<u8>| sealed([&one[..HEADER_BYTES], &record].concat());
    assert_eq!(decode(&batch(lying(&record, 0, |length| length).unwrap()), &RULES), Ok(vec![record.clone()]));
    for lie in 0..8 {
        for what in [-2, 0x7fff_ffff, i64::MAX, i64::MIN] {
            let bytes = batch(lying(&record, lie, |_| what).unwrap());
            assert!(decode(&bytes, &RULES).is_err(), "length {lie} is {what}");
        }
        let bytes = batch(lying(&record, lie, |length| length + 1).unwrap());
        assert!(decode(&bytes, &RULES).is_err(), "length {lie} is one too large");
    }
    assert!(lying(&record, 8, |length| length).is_none());
    for at in [8, 23, 57] {
        for what in [-2, 0x7fff_ffff, 1 + i32::from_be_bytes(one[at..at + 4].try_into().unwrap())] {
            let bytes = with(&one, at, &what.to_be_bytes());
            assert!(decode(&bytes, &RULES).is_err(), "{at} is {what}");
            let crc = crc32c(&bytes[21..]);
            assert!(decode(&with(&bytes, 17, &crc.to_be_bytes()), &RULES).is_err(), "{at} is {what}, with its CRC");
        }
    }
}

#[test]
fn a_bomb_of_any_codec_is_refused() {
    let zeros = vec![0; DECOMPRESSED_MAX + 1];
    let one = produced(&[given(None, Some(b"x"), &[])], Codec::None);
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut bomb = Vec::new();
        Codecs::default().compress(codec, &zeros, &mut bomb);
        let bytes = sealed([&with(&one[..HEADER_BYTES], 21, &[0, codec as u8]), &bomb[..]].concat());
        assert!(matches!(decode(&bytes, &RULES), Err(Error::TooLarge(_))), "{codec:?}");
    }
    // Seven bytes a record, two bytes a header: small where they are sent, large where they are parsed.
    let count = RECORDS_MAX + 1;
    let header = with(&with(&one[..HEADER_BYTES], 57, &count.to_be_bytes()), 23, &(count - 1).to_be_bytes());
    let tiny = [12, 0, 0, 0, 1, 1, 0].repeat(count as usize);
    assert!(matches!(decode(&sealed([&header[..], &tiny].concat()), &RULES), Err(Error::TooLarge(_))));
    let mut record = vec![0, 0, 0, 1, 1];
    write_varlong(&mut record, HEADERS_MAX as i64 + 1);
    record.extend_from_slice(&[0, 1].repeat(HEADERS_MAX + 1));
    let mut bytes = one[..HEADER_BYTES].to_vec();
    write_varlong(&mut bytes, record.len() as i64);
    bytes.extend_from_slice(&record);
    assert!(matches!(decode(&sealed(bytes), &RULES), Err(Error::TooLarge(_))));
}

#[test]
fn a_batch_covers_the_offsets_of_records_that_are_gone() {
    let facts = Facts { first: 10, producer_id: 7, producer_epoch: 1, base_sequence: i32::MAX - 2, ..Facts::PLAIN };
    let given = &sample()[..3];
    // Offsets 10 and 11 were trimmed, 13 and 16 compacted away.
    let bytes = encoded(facts, &lines(given, [12, 14, 15], 0), 0, 16, Codec::None);
    let header = Header::read(&bytes).unwrap();
    assert_eq!((header.base_offset, header.last_offset_delta, header.count), (12, 4, 3));
    assert_eq!(header.base_sequence, i32::MAX);
    let trimmed = encoded(facts, &lines(given, [14, 15, 16], 0), 0, 16, Codec::None);
    assert_eq!(Header::read(&trimmed).unwrap().base_sequence, 1, "sequences go round");
    let decoded = RecordBatchDecoder::decode(&mut &bytes[..]).unwrap().records;
    assert_eq!(decoded.iter().map(|record| record.offset).collect::<Vec<_>>(), [12, 14, 15]);
}

#[test]
fn neighbours_become_one_batch_and_a_batch_can_end_early() {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, Facts::PLAIN);
    encoder
        .lines(Lines::new(b"offset:5 message:a\noffset:6 timestamp:70 message:b\n", 50, Flags::NONE), usize::MAX)
        .unwrap();
    encoder.lines(Lines::new(b"offset:7 message:c\n", 60, Flags::NONE), usize::MAX).unwrap();
    let full = encoder.size();
    encoder.lines(Lines::new(b"offset:8 message:d\n", 80, Flags::NONE), full).unwrap();
    assert_eq!(encoder.finish(7, Codec::None, &mut Codecs::default(), &mut Vec::new()), 3);
    let header = Header::read(&out).unwrap();
    assert_eq!((header.base_offset, header.base_timestamp, header.max_timestamp), (5, 50, 70));
    let decoded = RecordBatchDecoder::decode(&mut &out[..]).unwrap().records;
    let found: Vec<_> = decoded.iter().map(|record| (record.offset, record.timestamp)).collect();
    assert_eq!(found, [(5, 50), (6, 70), (7, 60)]);
    // However small the limit, one record is there.
    let mut encoder = Encoder::new(&mut out, Facts::PLAIN);
    encoder.lines(Lines::new(b"offset:5 message:a\noffset:6 message:b\n", 50, Flags::NONE), 0).unwrap();
    assert_eq!(encoder.finish(5, Codec::None, &mut Codecs::default(), &mut Vec::new()), 1);
}

#[test]
fn append_time_hides_what_a_line_says() {
    let facts = Facts { append_time: true, ..Facts::PLAIN };
    let bytes = encoded(facts, b"offset:0 timestamp:5 message:a\noffset:1 message:b\n", 99, 1, Codec::None);
    let header = Header::read(&bytes).unwrap();
    assert_eq!((header.attributes, header.base_timestamp, header.max_timestamp), (8, 99, 99));
    let decoded = RecordBatchDecoder::decode(&mut &bytes[..]).unwrap().records;
    assert!(decoded.iter().all(|record| record.timestamp == 99 && record.timestamp_type == TimestampType::LogAppend));
}

#[test]
fn records_share_a_time_or_have_their_own() {
    let times = [5, 5, 12, 1, 12, 12, 7, 123, 12];
    let text: String =
        times.iter().enumerate().map(|(at, time)| format!("offset:{at} timestamp:{time} message:x\n")).collect();
    let text = text.replace("timestamp:7 ", "");
    let batch = encoded(Facts::PLAIN, text.as_bytes(), 7, 8, Codec::None);
    let found: Vec<_> = decode(&batch, &RULES).unwrap().iter().map(|given| given.timestamp).collect();
    assert_eq!(found, times);
}

#[test]
fn markers_are_control_records() {
    let facts = Facts { first: 9, control: true, producer_id: 3, producer_epoch: 2, ..Facts::PLAIN };
    for (line, kind, epoch) in [
        (&b"offset:9 control:commit\n"[..], 1, 0),
        (b"offset:9 control:abort first:3\n", 0, 0),
        (b"offset:9 control:commit coordinator:258\n", 1, 258_i32),
    ] {
        let bytes = encoded(facts, line, 50, 9, Codec::None);
        let header = Header::read(&bytes).unwrap();
        assert_eq!((header.attributes, header.base_offset, header.last_offset_delta, header.count), (0x30, 9, 0, 1));
        let record = &RecordBatchDecoder::decode(&mut &bytes[..]).unwrap().records[0];
        assert_eq!(record.key.as_deref(), Some(&[0, 0, 0, kind][..]));
        assert_eq!(record.value.as_deref(), Some(&[&[0, 0], &epoch.to_be_bytes()[..]].concat()[..]));
        assert!(record.control && record.transactional);
    }
    let mut out = Vec::new();
    assert!(
        Encoder::new(&mut out, facts)
            .lines(Lines::new(b"offset:9 message:commit\n", 50, Flags::NONE), usize::MAX)
            .is_err()
    );
}

#[test]
fn lines_that_are_damaged_are_no_batch() {
    for lines in [
        &b"offset:1 message:a"[..],
        b"message:a\n",
        b"offset:1 massage:a\n",
        b"offset:2 message:a\noffset:2 message:b\n",
        b"offset:1 escaped:\\q\n",
        b"offset:1 base64:%\n",
        b"offset:1 key:\\x message:a\n",
        b"offset:1 header.\\:a message:a\n",
    ] {
        let mut out = Vec::new();
        let shown = String::from_utf8_lossy(lines);
        assert!(
            Encoder::new(&mut out, Facts::PLAIN).lines(Lines::new(lines, 0, Flags::NONE), usize::MAX).is_err(),
            "{shown}"
        );
    }
    let mut out = b"before".to_vec();
    assert_eq!(Encoder::new(&mut out, Facts::PLAIN).finish(9, Codec::None, &mut Codecs::default(), &mut Vec::new()), 0);
    assert_eq!(out, b"before", "a batch without records is none");
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    option::of(prop_oneof![
        "[ -~\t]{0,200}".prop_map(String::into_bytes),
        any::<String>().prop_map(String::into_bytes),
        vec(any::<u8>(), 0..200),
    ])
}

prop_compose! {
    /// Header names are text, each once: what the oracle can hold.
    fn record()(
        timestamp in -1..1_800_000_000_000i64,
        key in bytes(),
        value in bytes(),
        headers in proptest::collection::btree_map("[a-zö :]{0,8}", bytes(), 0..4),
    ) -> Given {
        let headers = headers.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
        Given { timestamp, key, value, headers }
    }
}

prop_compose! {
    fn facts()(first in 0..1u64 << 40, transactional: bool, producer in option::of((0..i64::MAX, 0..i16::MAX, 0..1 << 30)), leader_epoch in 0..9) -> Facts {
        let (producer_id, producer_epoch, base_sequence) = producer.unwrap_or((-1, -1, -1));
        Facts { first, append_time: false, transactional, control: false, producer_id, producer_epoch, base_sequence, leader_epoch }
    }
}

fn oracle_codec(codec: Codec) -> oracle::Compression {
    match codec {
        Codec::None => oracle::Compression::None,
        Codec::Gzip => oracle::Compression::Gzip,
        Codec::Snappy => oracle::Compression::Snappy,
        Codec::Lz4 => oracle::Compression::Lz4,
        Codec::Zstd => oracle::Compression::Zstd,
    }
}

proptest! {
    #[test]
    fn the_oracle_reads_what_we_write(
        records in vec((record(), 1..5u64), 1..20),
        facts in facts(),
        timestamp in -1..1_800_000_000_000i64,
        codec in select(&CODECS[..]),
    ) {
        let mut offset = facts.first;
        let offsets: Vec<u64> = records.iter().map(|(_, step)| { offset += step; offset - step }).collect();
        let given: Vec<Given> = records.into_iter().map(|(record, _)| record).collect();
        let bytes = encoded(facts, &lines(&given, offsets.iter().copied(), timestamp), timestamp, offset, codec);
        let set = RecordBatchDecoder::decode(&mut &bytes[..]).unwrap();
        prop_assert_eq!(set.compression, oracle_codec(codec));
        prop_assert_eq!(set.records.len(), given.len());
        for ((theirs, ours), offset) in set.records.iter().zip(&given).zip(offsets) {
            prop_assert_eq!(theirs.offset as u64, offset);
            prop_assert_eq!(theirs.timestamp, ours.timestamp);
            prop_assert_eq!(theirs.key.as_deref(), ours.key.as_deref());
            prop_assert_eq!(theirs.value.as_deref(), ours.value.as_deref());
            let headers: Vec<Named<'_>> = theirs.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_deref())).collect();
            let expected: Vec<Named<'_>> = ours.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
            prop_assert_eq!(headers, expected);
            prop_assert_eq!((theirs.producer_id, theirs.producer_epoch), (facts.producer_id, facts.producer_epoch));
            prop_assert_eq!((theirs.transactional, theirs.control), (facts.transactional, false));
            prop_assert_eq!(theirs.partition_leader_epoch, facts.leader_epoch);
            let sequence = i64::from(facts.base_sequence) + (offset - facts.first) as i64;
            prop_assert!(facts.base_sequence < 0 || i64::from(theirs.sequence) == sequence);
        }
    }

    #[test]
    fn we_read_what_the_oracle_writes(
        given in vec(record(), 1..20),
        transactional: bool,
        codec in select(&CODECS[..]),
    ) {
        let records: Vec<oracle::Record> = given.iter().enumerate().map(|(index, record)| oracle::Record {
            transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: 5,
            producer_epoch: 1,
            sequence: index as i32,
            timestamp_type: TimestampType::Creation,
            offset: index as i64,
            timestamp: record.timestamp,
            key: record.key.clone().map(Into::into),
            value: record.value.clone().map(Into::into),
            headers: record.headers.iter().map(|(name, value)| {
                (String::from_utf8(name.clone()).unwrap().into(), value.clone().map(Into::into))
            }).collect(),
        }).collect();
        let mut bytes = Vec::new();
        let options = RecordEncodeOptions { version: 2, compression: oracle_codec(codec) };
        RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
        let header = Batch::open(&bytes).unwrap().header;
        prop_assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (5, 1, 0));
        prop_assert_eq!(Batch::open(&bytes).unwrap().is_transactional(), transactional);
        prop_assert_eq!(Header::read(&header.encode()), Some(header));
        prop_assert_eq!(decode(&bytes, &RULES), Ok(given));
    }

    #[test]
    fn any_records_survive_the_way_through_the_log(
        given in vec((-1..i64::MAX, bytes(), bytes(), vec((bytes(), bytes()), 0..4)), 1..20),
        codec in select(&CODECS[..]),
    ) {
        let record = |(timestamp, key, value, headers): (_, _, _, Vec<(Option<Vec<u8>>, _)>)| {
            let headers = headers.into_iter().map(|(name, value)| (name.unwrap_or_default(), value)).collect();
            Given { timestamp, key, value, headers }
        };
        let given: Vec<Given> = given.into_iter().map(record).collect();
        prop_assert_eq!(decode(&produced(&given, codec), &RULES), Ok(given));
    }

    #[test]
    fn any_bytes_are_a_batch_or_refused(header in vec(any::<u8>(), 0..HEADER_BYTES + 1), bytes: Vec<u8>, codec in 0..8u8) {
        let _ = decode(&[&header[..], &bytes].concat(), &RULES);
        let good = produced(&sample()[..1], Codec::None);
        let _ = decode(&sealed([&with(&good[..HEADER_BYTES], 21, &[0, codec]), &bytes[..]].concat()), &RULES);
        let mut out = Vec::new();
        let _ = Encoder::new(&mut out, Facts::PLAIN).lines(Lines::new(&bytes, 0, Flags::NONE), usize::MAX);
    }
}

/// Each field with its bytes, but for the header's.
fn explained(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut spans = Spans::new(usize::MAX);
    explain(bytes, &mut spans);
    let mut at = 0;
    for span in spans.iter() {
        assert_eq!(span.from, at, "{span:?}");
        at = span.to;
    }
    assert!(at <= bytes.len());
    spans.iter().map(|span| (spans.path(span), bytes[span.from..span.to].to_vec())).collect()
}

#[test]
fn each_field_of_each_record_is_explained() {
    let batch = produced(&sample(), Codec::None);
    let fields = explained(&[&batch[..], &batch].concat());
    assert_eq!(fields.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(), 2 * batch.len(), "every byte is a field");
    let value = |path: &str| fields.iter().find(|(name, _)| name == path).unwrap_or_else(|| panic!("{path}")).1.clone();
    assert_eq!(value("batches[0].magic"), [2]);
    assert_eq!(value("batches[1].records_count"), 5i32.to_be_bytes());
    assert_eq!(value("batches[0].records[1].key"), b"\x06key");
    assert_eq!(value("batches[1].records[1].value"), [1], "null");
    assert_eq!(value("batches[0].records[2].header_key"), b"\x02h");
    assert_eq!(value("batches[0].records[2].headers_count"), [6]);
}

#[test]
fn what_was_cut_is_explained_as_far_as_it_goes_and_what_is_compressed_is_one_field() {
    let batch = produced(&sample(), Codec::None);
    for end in 0..batch.len() {
        explained(&batch[..end]);
    }
    let batch = produced(&sample(), Codec::Gzip);
    let fields = explained(&batch);
    assert_eq!(fields.last().unwrap(), &("batches[0].records".to_string(), batch[HEADER_BYTES..].to_vec()));
}

/// What came behind them had the positions of other bytes.
#[test]
fn what_is_no_record_is_one_field_and_the_next_batch_is_explained() {
    let batch = produced(&sample(), Codec::None);
    let fewer = sealed(with(&batch, 57, &2i32.to_be_bytes()));
    // The length of the second record's key.
    let fields = explained(&batch);
    let before = fields.iter().take_while(|(name, _)| name != "batches[0].records[1].key");
    let at = before.map(|(_, bytes)| bytes.len()).sum();
    let bent = sealed(with(&batch, at, &[0x7f]));
    for first in [fewer, bent] {
        let fields = explained(&[&first[..], &batch].concat());
        assert_eq!(
            fields.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(),
            2 * batch.len(),
            "every byte is a field"
        );
        let rest = fields.iter().position(|(name, _)| name == "batches[0].rest").unwrap();
        let behind =
            explained(&batch).into_iter().map(|(name, bytes)| (name.replace("batches[0]", "batches[1]"), bytes));
        assert!(behind.eq(fields[rest + 1..].iter().cloned()));
    }
}
