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
//! Both know the API's version and whether it is flexible. So `r.string()?` reads a string in either encoding, and a field that
//! only some versions have is read where it stands: `if r.version >= 5 { r.i32()? }`.
//!
//! - A length is compared with the bytes that are left before it is used.
//! - The arrays of a request have at most [`ELEMENTS_MAX`] elements in all, so that the size of a frame bounds the memory it takes.
//! - Strings are UTF-8. Unknown tagged fields are skipped.

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
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`.
    pub fn new(bytes: &'a [u8], version: i16, flexible: bool) -> Reader<'a> {
        Reader { bytes, elements_left: ELEMENTS_MAX, version, flexible }
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

    /// INT8.
    pub fn i8(&mut self) -> Result<i8> {
        self.array_of().map(i8::from_be_bytes)
    }

    /// BOOLEAN.
    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.i8()? != 0)
    }

    /// INT16.
    pub fn i16(&mut self) -> Result<i16> {
        self.array_of().map(i16::from_be_bytes)
    }

    /// INT32.
    pub fn i32(&mut self) -> Result<i32> {
        self.array_of().map(i32::from_be_bytes)
    }

    /// INT64.
    pub fn i64(&mut self) -> Result<i64> {
        self.array_of().map(i64::from_be_bytes)
    }

    /// UUID.
    pub fn uuid(&mut self) -> Result<Uuid> {
        self.array_of()
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

    /// VARINT: zigzag, as in records.
    pub fn varint(&mut self) -> Result<i32> {
        let number = self.uvarint()?;
        Ok((number >> 1) as i32 ^ -((number & 1) as i32))
    }

    /// VARLONG: zigzag, as in records.
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
    fn length(&mut self, classic: impl Fn(&mut Self) -> Result<i32>) -> Result<Option<usize>> {
        if self.flexible {
            return Ok((self.uvarint()? as usize).checked_sub(1));
        }
        match classic(self)? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| Malformed("a length is negative")),
        }
    }

    /// NULLABLE_STRING or COMPACT_NULLABLE_STRING.
    pub fn nullable_string(&mut self) -> Result<Option<&'a str>> {
        let Some(length) = self.length(|r| r.i16().map(i32::from))? else { return Ok(None) };
        // A compact string could be longer, but Kafka accepts no more in either form.
        if length > i16::MAX as usize {
            return Err(Malformed("a string is longer than 32767 bytes"));
        }
        std::str::from_utf8(self.take(length)?).map(Some).map_err(|_| Malformed("a string is not UTF-8"))
    }

    /// STRING or COMPACT_STRING.
    pub fn string(&mut self) -> Result<&'a str> {
        self.nullable_string()?.ok_or(Malformed("a string is null"))
    }

    /// NULLABLE_BYTES or COMPACT_NULLABLE_BYTES; also RECORDS.
    pub fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>> {
        let Some(length) = self.length(Self::i32)? else { return Ok(None) };
        self.take(length).map(Some)
    }

    /// BYTES or COMPACT_BYTES.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        self.nullable_bytes()?.ok_or(Malformed("bytes are null"))
    }

    /// How many elements an array has, or `None` where it is null.
    pub fn nullable_count(&mut self) -> Result<Option<usize>> {
        let Some(count) = self.length(Self::i32)? else { return Ok(None) };
        // An element takes at least one byte.
        if count > self.bytes.len() {
            return Err(Malformed("an array counts more elements than there are bytes"));
        }
        self.elements_left = self.elements_left.checked_sub(count).ok_or(Malformed("there are too many elements"))?;
        Ok(Some(count))
    }

    /// How many elements an array has; 0 if it is null.
    pub fn count(&mut self) -> Result<usize> {
        Ok(self.nullable_count()?.unwrap_or(0))
    }

    /// An array of whatever `element` reads, or `None` where it is null.
    pub fn nullable_array<T>(&mut self, mut element: impl FnMut(&mut Self) -> Result<T>) -> Result<Option<Vec<T>>> {
        let Some(count) = self.nullable_count()? else { return Ok(None) };
        (0..count).map(|_| element(self)).collect::<Result<_>>().map(Some)
    }

    /// An array of whatever `element` reads; a null one is empty.
    pub fn array<T>(&mut self, element: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        Ok(self.nullable_array(element)?.unwrap_or_default())
    }

    /// Skips the tagged fields at the end of a struct in flexible versions. None of them is known here.
    pub fn tags(&mut self) -> Result<()> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint()? {
            let _tag = self.uvarint()?;
            let length = self.uvarint()? as usize;
            self.take(length)?;
        }
        Ok(())
    }
}

/// Appends the fields of a response to a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    /// The buffer; what is in it stays.
    pub out: &'a mut Vec<u8>,
    /// The version of the API that the response uses.
    pub version: i16,
    /// Whether that version has compact lengths and tagged fields.
    pub flexible: bool,
}

impl Writer<'_> {
    /// INT8.
    pub fn i8(&mut self, number: i8) {
        self.out.extend_from_slice(&number.to_be_bytes());
    }

    /// BOOLEAN.
    pub fn bool(&mut self, truth: bool) {
        self.i8(truth.into());
    }

    /// INT16.
    pub fn i16(&mut self, number: i16) {
        self.out.extend_from_slice(&number.to_be_bytes());
    }

    /// INT32.
    pub fn i32(&mut self, number: i32) {
        self.out.extend_from_slice(&number.to_be_bytes());
    }

    /// INT64.
    pub fn i64(&mut self, number: i64) {
        self.out.extend_from_slice(&number.to_be_bytes());
    }

    /// UUID.
    pub fn uuid(&mut self, id: &Uuid) {
        self.out.extend_from_slice(id);
    }

    /// UNSIGNED_VARINT.
    pub fn uvarint(&mut self, number: u32) {
        write_uvarint(self.out, number.into());
    }

    /// NULLABLE_STRING or COMPACT_NULLABLE_STRING. What is too long for a classic string is cut off.
    pub fn nullable_string(&mut self, text: Option<&str>) {
        let text = text.map(|text| &text[..text.floor_char_boundary(i16::MAX as usize)]);
        match text {
            _ if self.flexible => self.uvarint(text.map_or(0, |text| text.len() as u32 + 1)),
            _ => self.i16(text.map_or(-1, |text| text.len() as i16)),
        }
        self.out.extend_from_slice(text.unwrap_or_default().as_bytes());
    }

    /// STRING or COMPACT_STRING.
    pub fn string(&mut self, text: &str) {
        self.nullable_string(Some(text));
    }

    /// BYTES or COMPACT_BYTES.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.out.extend_from_slice(bytes);
    }

    /// RECORDS or COMPACT_RECORDS: what `write` appends, which is about `estimate` bytes.
    pub fn records<T>(&mut self, estimate: usize, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if self.flexible {
            return prefixed(self.out, estimate, |length| length as u64 + 1, write);
        }
        let at = self.out.len();
        self.i32(0);
        let done = write(self.out);
        let length = (self.out.len() - at - 4) as i32;
        self.out[at..at + 4].copy_from_slice(&length.to_be_bytes());
        done
    }

    /// How many elements the array that follows has.
    pub fn count(&mut self, count: usize) {
        match count as u32 {
            count if self.flexible => self.uvarint(count + 1),
            count => self.i32(count as i32),
        }
    }

    /// A null array, or null bytes.
    pub fn null_array(&mut self) {
        match self.flexible {
            true => self.uvarint(0),
            false => self.i32(-1),
        }
    }

    /// An array of what `element` writes for each item. It ends early once the answer exceeds [`ANSWER_BYTES_MAX`] bytes: such an
    /// answer is never sent.
    pub fn array<T>(&mut self, items: impl ExactSizeIterator<Item = T>, mut element: impl FnMut(&mut Self, T)) {
        self.count(items.len());
        for item in items {
            if self.out.len() > ANSWER_BYTES_MAX {
                break;
            }
            element(self, item);
        }
    }

    /// Ends a struct, without tagged fields.
    pub fn tags(&mut self) {
        if self.flexible {
            self.out.push(0);
        }
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
        Writer { out, version: 0, flexible }
    }

    #[test]
    fn lengths_that_lie_are_refused_before_they_size_anything() {
        let read = |bytes: &[u8], flexible| Reader::new(bytes, 0, flexible).count();
        for bytes in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xfe], &[0, 0, 0, 2, 0], &[0, 0]] {
            assert!(read(bytes, false).is_err(), "{bytes:x?}");
            assert!(Reader::new(bytes, 0, false).bytes().is_err(), "{bytes:x?}");
        }
        for bytes in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 6], &[0xff, 0xff, 0xff, 0xff, 0x1f], &[3, 0], &[]] {
            assert!(read(bytes, true).is_err(), "{bytes:x?}");
            assert!(Reader::new(bytes, 0, true).bytes().is_err(), "{bytes:x?}");
        }
        for bytes in [&[0x7f, 0xff][..], &[0xff, 0xfe], &[0, 2, b'a'], &[0, 1, 0xff], &[0xff, 0xff]] {
            assert!(Reader::new(bytes, 0, false).string().is_err(), "{bytes:x?}");
        }
        assert_eq!(Reader::new(&[0xff, 0xff], 0, false).nullable_string(), Ok(None));
        assert_eq!(Reader::new(&[0xff; 4], 0, false).nullable_count(), Ok(None));
        assert_eq!(Reader::new(&[0], 0, true).nullable_count(), Ok(None));
    }

    #[test]
    fn arrays_within_arrays_share_one_budget() {
        let mut bytes = Vec::new();
        for _ in 0..2 {
            bytes.extend_from_slice(&(ELEMENTS_MAX as i32 / 2 + 1).to_be_bytes());
        }
        bytes.resize(ELEMENTS_MAX * 2, 0);
        let mut r = Reader::new(&bytes, 0, false);
        assert_eq!(r.count(), Ok(ELEMENTS_MAX / 2 + 1));
        assert_eq!(r.count(), Err(Malformed("there are too many elements")));
    }

    #[test]
    fn tagged_fields_are_skipped() {
        let bytes = [2, 0, 2, 0, 7, 5, 3, 1, 2, 3, 0x2a];
        let mut r = Reader::new(&bytes, 0, true);
        r.tags().unwrap();
        assert_eq!(r.i8(), Ok(0x2a));
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
        writer(&mut out, false).string(&"ö".repeat(20_000));
        assert_eq!(Reader::new(&out, 0, false).string().map(str::len), Ok(32_766));
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
            w.i64(number);
            w.i32(number as i32);
            w.bool(number < 0);
            w.nullable_string(text.as_deref());
            w.bytes(&blob);
            w.null_array();
            w.array(list.iter(), |w, &number| w.i16(number));
            w.records(blob.len(), |out| out.extend_from_slice(&blob));
            w.tags();
            write_varlong(w.out, number);
            write_varlong(w.out, number as i32 as i64);
            write_uvarint(w.out, number as u32 as u64);
            prop_assert_eq!(uvarint_bytes(number as u64), { let mut v = Vec::new(); write_uvarint(&mut v, number as u64); v.len() });
            let mut r = Reader::new(&out, 0, flexible);
            prop_assert_eq!(r.i64(), Ok(number));
            prop_assert_eq!(r.i32(), Ok(number as i32));
            prop_assert_eq!(r.bool(), Ok(number < 0));
            prop_assert_eq!(r.nullable_string(), Ok(text.as_deref()));
            prop_assert_eq!(r.bytes(), Ok(&blob[..]));
            prop_assert_eq!(r.nullable_bytes(), Ok(None));
            prop_assert_eq!(r.array(Reader::i16), Ok(list));
            prop_assert_eq!(r.bytes(), Ok(&blob[..]));
            r.tags().unwrap();
            prop_assert_eq!(r.varlong(), Ok(number));
            prop_assert_eq!(r.varint(), Ok(number as i32));
            prop_assert_eq!(r.uvarint(), Ok(number as u32));
            prop_assert!(r.rest().is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, flexible: bool) {
            let new = || Reader::new(&bytes, 0, flexible);
            let _ = (new().varint(), new().varlong(), new().nullable_string(), new().bytes(), new().tags());
            let _ = new().array(|r| r.array(Reader::string));
        }
    }
}
