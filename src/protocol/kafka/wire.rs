//! Kafka's primitive types: a reader of requests, which trusts no byte of them, and a writer of responses.
//!
//! ```text
//!                 classic versions                flexible versions (KIP-482)
//! string          i16 length, -1 null             uvarint length + 1, 0 null
//! bytes           i32 length, -1 null             uvarint length + 1, 0 null
//! array           i32 count, -1 null              uvarint count + 1, 0 null
//! end of a struct nothing                         tagged fields: uvarint count, then tag, length, bytes of each
//! ```
//!
//! Both know the API's version and whether it is flexible. So `r.string("name")?` reads a string in either encoding, and a field
//! that only some versions have is read where it stands: `if r.version >= 5 { r.i32("leader_epoch")? }`.
//!
//! - Each field is read and written by its name in Kafka's protocol. Where somebody watches, [`Spans`] note which bytes it is.
//! - A length is compared with the bytes that are left before it is used.
//! - The arrays of a request have at most [`ELEMENTS_MAX`] elements in all, so that the size of a frame bounds the memory it takes.
//! - Strings are UTF-8. Unknown tagged fields are skipped.

use crate::broker::spans::{Kind, Spans};
use std::fmt;

/// The most elements that the arrays of one request may have in all. Kafka has no such limit; without it 100 MiB of one-byte
/// elements would become gigabytes of structs.
pub const ELEMENTS_MAX: usize = 1 << 20;
/// The largest answer: twice what a Fetch may hold, and a batch. Otherwise a small request could ask for gigabytes.
pub const ANSWER_BYTES_MAX: usize = 128 << 20;

/// Why bytes cannot be read as a request. The connection has to end, since nobody can tell where the next request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// What reading returns.
pub type Result<T> = std::result::Result<T, Malformed>;

/// The name of an array's element that is no struct: it is called by the array's name and its index.
pub const ITEM: &str = "";

/// A topic's id.
pub type Uuid = [u8; 16];

/// A cursor over the bytes of a request, or of a batch's records.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    elements_left: usize,
    /// The version of the API that the request uses.
    pub version: i16,
    /// Whether that version has compact lengths and tagged fields.
    pub flexible: bool,
    /// Where the fields are noted, if somebody watches.
    pub spans: Option<Box<Spans>>,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`.
    pub fn new(bytes: &'a [u8], version: i16, flexible: bool) -> Reader<'a> {
        Reader { bytes, elements_left: ELEMENTS_MAX, version, flexible, spans: None }
    }

    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(Malformed("it ends too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// Reads a field, and notes it where somebody watches.
    #[inline]
    fn field<T>(
        &mut self,
        name: &'static str,
        kind: Kind,
        compact: bool,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let before = self.bytes.len();
        let value = read(self)?;
        if let Some(spans) = &mut self.spans {
            spans.field(name, kind, compact, before - self.bytes.len());
        }
        Ok(value)
    }

    fn fixed<const N: usize>(&mut self, name: &'static str, kind: Kind) -> Result<[u8; N]> {
        self.field(name, kind, false, Self::array_of)
    }

    /// INT8.
    pub fn i8(&mut self, name: &'static str) -> Result<i8> {
        self.fixed(name, Kind::Int8).map(i8::from_be_bytes)
    }

    /// BOOLEAN.
    pub fn bool(&mut self, name: &'static str) -> Result<bool> {
        self.fixed(name, Kind::Boolean).map(|[byte]| byte != 0)
    }

    /// INT16.
    pub fn i16(&mut self, name: &'static str) -> Result<i16> {
        self.fixed(name, Kind::Int16).map(i16::from_be_bytes)
    }

    /// INT32.
    pub fn i32(&mut self, name: &'static str) -> Result<i32> {
        self.fixed(name, Kind::Int32).map(i32::from_be_bytes)
    }

    /// UINT16.
    pub fn u16(&mut self, name: &'static str) -> Result<u16> {
        self.fixed(name, Kind::Uint16).map(u16::from_be_bytes)
    }

    /// UINT32.
    pub fn u32(&mut self, name: &'static str) -> Result<u32> {
        self.fixed(name, Kind::Uint32).map(u32::from_be_bytes)
    }

    /// INT64.
    pub fn i64(&mut self, name: &'static str) -> Result<i64> {
        self.fixed(name, Kind::Int64).map(i64::from_be_bytes)
    }

    /// FLOAT64.
    pub fn f64(&mut self, name: &'static str) -> Result<f64> {
        self.fixed(name, Kind::Float64).map(f64::from_be_bytes)
    }

    /// UUID.
    pub fn uuid(&mut self, name: &'static str) -> Result<Uuid> {
        self.fixed(name, Kind::Uuid)
    }

    /// UNSIGNED_VARINT: seven bits a byte, the lowest first.
    pub fn uvarint(&mut self) -> Result<u32> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array_of()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(number).map_err(|_| Malformed("a varint has more than 32 bits"));
            }
        }
        Err(Malformed("a varint has more than five bytes"))
    }

    /// VARINT or VARLONG: zigzag, as in records.
    pub fn varlong(&mut self) -> Result<i64> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let [byte] = self.array_of()?;
            // The tenth byte has only one bit left.
            if shift == 63 && byte > 1 {
                return Err(Malformed("a varlong has more than 64 bits"));
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        unreachable!("the tenth byte is at most 1")
    }

    /// A length; `None`: null. It is not yet compared with the bytes that are left.
    fn length<const N: usize>(&mut self, classic: impl Fn([u8; N]) -> i32) -> Result<Option<usize>> {
        if self.flexible {
            return Ok((self.uvarint()? as usize).checked_sub(1));
        }
        match classic(self.array_of()?) {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| Malformed("a length is negative")),
        }
    }

    /// NULLABLE_STRING or COMPACT_NULLABLE_STRING.
    pub fn nullable_string(&mut self, name: &'static str) -> Result<Option<&'a str>> {
        self.field(name, Kind::NullableString, self.flexible, Self::text)
    }

    /// STRING or COMPACT_STRING.
    pub fn string(&mut self, name: &'static str) -> Result<&'a str> {
        self.field(name, Kind::String, self.flexible, Self::text)?.ok_or(Malformed("a string is null"))
    }

    fn text(&mut self) -> Result<Option<&'a str>> {
        let Some(length) = self.length(|bytes| i16::from_be_bytes(bytes).into())? else { return Ok(None) };
        // A compact string could be longer, but Kafka accepts no more in either form.
        if length > i16::MAX as usize {
            return Err(Malformed("a string is longer than 32767 bytes"));
        }
        std::str::from_utf8(self.take(length)?).map(Some).map_err(|_| Malformed("a string is not UTF-8"))
    }

    /// BYTES or COMPACT_BYTES.
    pub fn bytes(&mut self, name: &'static str) -> Result<&'a [u8]> {
        self.field(name, Kind::Bytes, self.flexible, Self::blob)?.ok_or(Malformed("bytes are null"))
    }

    /// RECORDS or COMPACT_RECORDS.
    pub fn records(&mut self, name: &'static str) -> Result<Option<&'a [u8]>> {
        self.field(name, Kind::Records, self.flexible, Self::blob)
    }

    fn blob(&mut self) -> Result<Option<&'a [u8]>> {
        let Some(length) = self.length(i32::from_be_bytes)? else { return Ok(None) };
        self.take(length).map(Some)
    }

    /// How many elements an array has, or `None` where it is null.
    fn nullable_count(&mut self, name: &'static str) -> Result<Option<usize>> {
        let count = self.field(name, Kind::Array, self.flexible, |r| r.length(i32::from_be_bytes))?;
        let Some(count) = count else { return Ok(None) };
        // An element takes at least one byte.
        if count > self.bytes.len() {
            return Err(Malformed("an array counts more elements than there are bytes"));
        }
        self.elements_left = self.elements_left.checked_sub(count).ok_or(Malformed("there are too many elements"))?;
        Ok(Some(count))
    }

    /// An array of whatever `element` reads, or `None` where it is null.
    pub fn nullable_array<T>(
        &mut self,
        name: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(count) = self.nullable_count(name)? else { return Ok(None) };
        let read = |index| {
            let outer = self.spans.as_mut().map(|spans| spans.enter(name, index));
            let read = element(self);
            if let (Some(spans), Some(outer)) = (&mut self.spans, outer) {
                spans.leave(outer);
            }
            read
        };
        (0..count).map(read).collect::<Result<_>>().map(Some)
    }

    /// An array of whatever `element` reads; a null one is empty.
    pub fn array<T>(&mut self, name: &'static str, element: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        Ok(self.nullable_array(name, element)?.unwrap_or_default())
    }

    /// Skips the tagged fields at the end of a struct in flexible versions. None of them is known here.
    pub fn tags(&mut self) -> Result<()> {
        if !self.flexible {
            return Ok(());
        }
        self.field(TAGS, Kind::Tags, true, |r| {
            for _ in 0..r.uvarint()? {
                let _tag = r.uvarint()?;
                let length = r.uvarint()? as usize;
                r.take(length)?;
            }
            Ok(())
        })
    }
}

/// What the end of a struct is called in a flexible version.
const TAGS: &str = "_tagged_fields";

/// Appends the fields of a response to a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    /// The buffer; what is in it stays.
    pub out: &'a mut Vec<u8>,
    /// The version of the API that the response uses.
    pub version: i16,
    /// Whether that version has compact lengths and tagged fields.
    pub flexible: bool,
    /// Where the fields are noted, if somebody watches.
    pub spans: Option<&'a mut Spans>,
    /// Where it is noted that an error code was written.
    pub refused: Option<&'a mut bool>,
    /// Where it is noted where the response tells how long its client is to wait.
    pub throttle_at: Option<&'a mut Option<usize>>,
}

impl Writer<'_> {
    /// Writes a field, and notes it where somebody watches.
    #[inline]
    fn field<T>(&mut self, name: &'static str, kind: Kind, compact: bool, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let before = self.out.len();
        let done = write(self.out);
        if let Some(spans) = &mut self.spans {
            spans.field(name, kind, compact, self.out.len() - before);
        }
        done
    }

    fn fixed<const N: usize>(&mut self, name: &'static str, kind: Kind, bytes: [u8; N]) {
        self.field(name, kind, false, |out| out.extend_from_slice(&bytes));
    }

    /// INT8.
    pub fn i8(&mut self, name: &'static str, number: i8) {
        self.fixed(name, Kind::Int8, number.to_be_bytes());
    }

    /// BOOLEAN.
    pub fn bool(&mut self, name: &'static str, truth: bool) {
        self.fixed(name, Kind::Boolean, [truth.into()]);
    }

    /// INT16.
    pub fn i16(&mut self, name: &'static str, number: i16) {
        if name.ends_with("error_code") {
            self.note_code(number);
        }
        self.fixed(name, Kind::Int16, number.to_be_bytes());
    }

    /// Changes an error code that was written at this place.
    pub fn change_code(&mut self, at: usize, code: i16) {
        self.note_code(code);
        self.out[at..at + 2].copy_from_slice(&code.to_be_bytes());
    }

    fn note_code(&mut self, code: i16) {
        if let Some(refused) = self.refused.as_mut().filter(|_| code != 0) {
            **refused = true;
        }
    }

    /// UINT16.
    pub fn u16(&mut self, name: &'static str, number: u16) {
        self.fixed(name, Kind::Uint16, number.to_be_bytes());
    }

    /// How long the client is to wait, in ms (INT32). It is known when the response is whole.
    pub fn throttle_time(&mut self) {
        if let Some(at) = self.throttle_at.as_mut() {
            **at = Some(self.out.len());
        }
        self.i32("throttle_time_ms", 0);
    }

    /// INT32.
    pub fn i32(&mut self, name: &'static str, number: i32) {
        self.fixed(name, Kind::Int32, number.to_be_bytes());
    }

    /// INT64.
    pub fn i64(&mut self, name: &'static str, number: i64) {
        self.fixed(name, Kind::Int64, number.to_be_bytes());
    }

    /// FLOAT64.
    pub fn f64(&mut self, name: &'static str, number: f64) {
        self.fixed(name, Kind::Float64, number.to_be_bytes());
    }

    /// UUID.
    pub fn uuid(&mut self, name: &'static str, id: &Uuid) {
        self.fixed(name, Kind::Uuid, *id);
    }

    /// UNSIGNED_VARINT.
    pub fn uvarint(&mut self, name: &'static str, number: u32) {
        self.field(name, Kind::UnsignedVarint, false, |out| write_uvarint(out, number.into()));
    }

    /// NULLABLE_STRING or COMPACT_NULLABLE_STRING. What is too long for a classic string is cut off.
    pub fn nullable_string(&mut self, name: &'static str, text: Option<&str>) {
        self.text(name, Kind::NullableString, text);
    }

    /// STRING or COMPACT_STRING.
    pub fn string(&mut self, name: &'static str, text: &str) {
        self.text(name, Kind::String, Some(text));
    }

    fn text(&mut self, name: &'static str, kind: Kind, text: Option<&str>) {
        let text = text.map(|text| &text[..text.floor_char_boundary(i16::MAX as usize)]);
        let flexible = self.flexible;
        self.field(name, kind, flexible, |out| {
            match text {
                _ if flexible => write_uvarint(out, text.map_or(0, |text| text.len() as u64 + 1)),
                _ => out.extend_from_slice(&text.map_or(-1, |text| text.len() as i16).to_be_bytes()),
            }
            out.extend_from_slice(text.unwrap_or_default().as_bytes());
        });
    }

    /// BYTES or COMPACT_BYTES.
    pub fn bytes(&mut self, name: &'static str, bytes: &[u8]) {
        let flexible = self.flexible;
        self.field(name, Kind::Bytes, flexible, |out| {
            write_length(out, flexible, Some(bytes.len()));
            out.extend_from_slice(bytes);
        });
    }

    /// RECORDS or COMPACT_RECORDS: what `write` appends, which is about `estimate` bytes.
    pub fn records<T>(&mut self, name: &'static str, estimate: usize, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let flexible = self.flexible;
        self.field(name, Kind::Records, flexible, |out| {
            if flexible {
                return prefixed(out, estimate, |length| length as u64 + 1, write);
            }
            let at = out.len();
            out.extend_from_slice(&[0; 4]);
            let done = write(out);
            let length = (out.len() - at - 4) as i32;
            out[at..at + 4].copy_from_slice(&length.to_be_bytes());
            done
        })
    }

    /// How many elements the array that follows has.
    fn count(&mut self, name: &'static str, count: Option<usize>) {
        let flexible = self.flexible;
        self.field(name, Kind::Array, flexible, |out| write_length(out, flexible, count));
    }

    /// A null array.
    pub fn null_array(&mut self, name: &'static str) {
        self.count(name, None);
    }

    /// An array without elements.
    pub fn empty_array(&mut self, name: &'static str) {
        self.count(name, Some(0));
    }

    /// An array of what `element` writes for each item. It ends early once the answer exceeds [`ANSWER_BYTES_MAX`] bytes: such an
    /// answer is never sent.
    pub fn array<T>(
        &mut self,
        name: &'static str,
        items: impl ExactSizeIterator<Item = T>,
        mut element: impl FnMut(&mut Self, T),
    ) {
        self.count(name, Some(items.len()));
        for (index, item) in items.enumerate() {
            if self.out.len() > ANSWER_BYTES_MAX {
                break;
            }
            let outer = self.spans.as_mut().map(|spans| spans.enter(name, index));
            element(self, item);
            if let (Some(spans), Some(outer)) = (&mut self.spans, outer) {
                spans.leave(outer);
            }
        }
    }

    /// A tagged field: its tag, its length, its value.
    pub fn tagged(&mut self, tag: u32, value: impl Fn(&mut Writer<'_>)) {
        let (version, flexible) = (self.version, self.flexible);
        let mut measured = Vec::new();
        value(&mut Writer { out: &mut measured, version, flexible, spans: None, refused: None, throttle_at: None });
        self.uvarint("tag", tag);
        self.uvarint("size", measured.len() as u32);
        value(self);
    }

    /// Ends a struct, without tagged fields.
    pub fn tags(&mut self) {
        if self.flexible {
            self.field(TAGS, Kind::Tags, true, |out| out.push(0));
        }
    }
}

/// Appends the length of bytes, or the count of an array; `None`: it is null.
fn write_length(out: &mut Vec<u8>, flexible: bool, length: Option<usize>) {
    match flexible {
        true => write_uvarint(out, length.map_or(0, |length| length as u64 + 1)),
        false => out.extend_from_slice(&length.map_or(-1, |length| length as i32).to_be_bytes()),
    }
}

/// Appends an unsigned varint.
pub fn write_uvarint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a zigzag varint; VARINT and VARLONG look alike.
pub fn write_varlong(out: &mut Vec<u8>, number: i64) {
    write_uvarint(out, zigzag(number));
}

/// The number whose unsigned varint is the zigzag varint of `number`.
pub fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// How many bytes an unsigned varint takes.
pub fn uvarint_bytes(number: u64) -> usize {
    // A byte for every seven bits, and one for 0.
    (70 - (number | 1).leading_zeros() as usize) / 7
}

/// Appends what `write` writes behind its length, which `encode` makes an unsigned varint. Room is left for the varint of
/// `estimate`; only if that was wrong do the bytes have to move.
pub fn prefixed<T>(
    out: &mut Vec<u8>,
    estimate: usize,
    encode: impl Fn(usize) -> u64,
    write: impl FnOnce(&mut Vec<u8>) -> T,
) -> T {
    let at = out.len();
    let room = uvarint_bytes(encode(estimate));
    out.extend_from_slice(&[0; 10][..room]);
    let done = write(out);
    let mut number = encode(out.len() - at - room);
    let width = uvarint_bytes(number);
    if width != room {
        out.splice(at..at + room, std::iter::repeat_n(0, width));
    }
    for byte in &mut out[at..at + width - 1] {
        *byte = number as u8 | 0x80;
        number >>= 7;
    }
    out[at + width - 1] = number as u8;
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn writer(out: &mut Vec<u8>, flexible: bool) -> Writer<'_> {
        Writer { out, version: 0, flexible, spans: None, refused: None, throttle_at: None }
    }

    #[test]
    fn lengths_that_lie_are_refused_before_they_size_anything() {
        let read = |bytes: &[u8], flexible| Reader::new(bytes, 0, flexible).nullable_count(ITEM);
        for bytes in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xfe], &[0, 0, 0, 2, 0], &[0, 0]] {
            assert!(read(bytes, false).is_err(), "{bytes:x?}");
            assert!(Reader::new(bytes, 0, false).bytes(ITEM).is_err(), "{bytes:x?}");
        }
        for bytes in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 6], &[0xff, 0xff, 0xff, 0xff, 0x1f], &[3, 0], &[]] {
            assert!(read(bytes, true).is_err(), "{bytes:x?}");
            assert!(Reader::new(bytes, 0, true).bytes(ITEM).is_err(), "{bytes:x?}");
        }
        for bytes in [&[0x7f, 0xff][..], &[0xff, 0xfe], &[0, 2, b'a'], &[0, 1, 0xff], &[0xff, 0xff]] {
            assert!(Reader::new(bytes, 0, false).string(ITEM).is_err(), "{bytes:x?}");
        }
        assert_eq!(Reader::new(&[0xff, 0xff], 0, false).nullable_string(ITEM), Ok(None));
        assert_eq!(Reader::new(&[0xff; 4], 0, false).nullable_count(ITEM), Ok(None));
        assert_eq!(Reader::new(&[0], 0, true).nullable_count(ITEM), Ok(None));
    }

    #[test]
    fn arrays_within_arrays_share_one_budget() {
        let mut bytes = Vec::new();
        for _ in 0..2 {
            bytes.extend_from_slice(&(ELEMENTS_MAX as i32 / 2 + 1).to_be_bytes());
        }
        bytes.resize(ELEMENTS_MAX * 2, 0);
        let mut r = Reader::new(&bytes, 0, false);
        assert_eq!(r.nullable_count(ITEM), Ok(Some(ELEMENTS_MAX / 2 + 1)));
        assert_eq!(r.nullable_count(ITEM), Err(Malformed("there are too many elements")));
    }

    #[test]
    fn tagged_fields_are_skipped() {
        let bytes = [2, 0, 2, 0, 7, 5, 3, 1, 2, 3, 0x2a];
        let mut r = Reader::new(&bytes, 0, true);
        r.tags().unwrap();
        assert_eq!(r.i8(ITEM), Ok(0x2a));
        let mut r = Reader::new(&bytes, 0, false);
        r.tags().unwrap();
        assert_eq!(r.rest().len(), bytes.len());
        assert!(Reader::new(&[1, 0, 2, 0], 0, true).tags().is_err());
    }

    #[test]
    fn a_prefix_has_the_shortest_form_whatever_was_estimated() {
        for length in [0, 1, 126, 127, 128, 20_000] {
            for estimate in [0, 63, 64, 200, 1 << 20] {
                let mut out = vec![9];
                prefixed(
                    &mut out,
                    estimate,
                    |length| length as u64 + 1,
                    |out| out.extend(std::iter::repeat_n(7, length)),
                );
                let mut expected = vec![9];
                write_uvarint(&mut expected, length as u64 + 1);
                expected.extend(std::iter::repeat_n(7, length));
                assert_eq!(out, expected, "{length} estimated as {estimate}");
            }
        }
    }

    #[test]
    fn a_string_too_long_for_its_length_field_is_cut_between_characters() {
        let mut out = Vec::new();
        writer(&mut out, false).string(ITEM, &"ö".repeat(20_000));
        assert_eq!(Reader::new(&out, 0, false).string(ITEM).map(str::len), Ok(32_766));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            flexible: bool,
            number: i64,
            text: Option<String>,
            blob: Vec<u8>,
            list: Vec<i16>,
        ) {
            let mut out = Vec::new();
            let mut w = writer(&mut out, flexible);
            w.i64(ITEM, number);
            w.i32(ITEM, number as i32);
            w.bool(ITEM, number < 0);
            w.nullable_string(ITEM, text.as_deref());
            w.bytes(ITEM, &blob);
            w.null_array(ITEM);
            w.array(ITEM, list.iter(), |w, &number| w.i16(ITEM, number));
            w.records(ITEM, blob.len(), |out| out.extend_from_slice(&blob));
            w.tags();
            write_varlong(w.out, number);
            write_varlong(w.out, number as i32 as i64);
            write_uvarint(w.out, number as u32 as u64);
            prop_assert_eq!(uvarint_bytes(number as u64), { let mut v = Vec::new(); write_uvarint(&mut v, number as u64); v.len() });
            let mut r = Reader::new(&out, 0, flexible);
            prop_assert_eq!(r.i64(ITEM), Ok(number));
            prop_assert_eq!(r.i32(ITEM), Ok(number as i32));
            prop_assert_eq!(r.bool(ITEM), Ok(number < 0));
            prop_assert_eq!(r.nullable_string(ITEM), Ok(text.as_deref()));
            prop_assert_eq!(r.bytes(ITEM), Ok(&blob[..]));
            prop_assert_eq!(r.records(ITEM), Ok(None));
            prop_assert_eq!(r.array(ITEM, |r| r.i16(ITEM)), Ok(list));
            prop_assert_eq!(r.bytes(ITEM), Ok(&blob[..]));
            r.tags().unwrap();
            prop_assert_eq!(r.varlong(), Ok(number));
            prop_assert_eq!(r.varlong(), Ok((number as i32).into()));
            prop_assert_eq!(r.uvarint(), Ok(number as u32));
            prop_assert!(r.rest().is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, flexible: bool) {
            let new = || Reader::new(&bytes, 0, flexible);
            let _ = (new().uvarint(), new().varlong(), new().nullable_string(ITEM), new().bytes(ITEM), new().tags());
            let _ = new().array(ITEM, |r| r.array(ITEM, |r| r.string(ITEM)));
        }
    }
}
