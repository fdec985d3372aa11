//! Which bytes of a message are which field, as its protocol's own reader or writer noted it.
//!
//! ```text
//! bytes    00 13 00 00 00 02 │ 00 06 o r d e r s │ 00 00 00 03 ...
//! spans    ... topics (ARRAY)   name (STRING)      num_partitions (INT32)
//! element                       topics[0]          topics[0]
//! ```
//!
//! Fields are noted in the order in which they stand, each by its length. So spans have no gap and no overlap.

/// The most fields of a message that are noted, whatever its size.
const SPANS_MAX: usize = 16 << 10;

/// A field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The position of its first byte.
    pub from: usize,
    /// The position behind its last byte.
    pub to: usize,
    /// Its name; an array's own element has none.
    pub name: &'static str,
    /// How it is encoded.
    pub kind: Kind,
    /// Whether its length is an unsigned varint, as in the flexible versions of Kafka's protocol.
    pub compact: bool,
    /// The element that it is in, by its place in the list of elements.
    element: Option<usize>,
}

/// How a field is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they have the names of Kafka's protocol")]
pub enum Kind {
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint16,
    Uint32,
    Float64,
    Uuid,
    UnsignedVarint,
    Varint,
    Varlong,
    String,
    NullableString,
    Bytes,
    /// A varint length, and so many bytes; -1 is null.
    VarintBytes,
    /// The count of an array's elements.
    Array,
    /// Record batches behind their length.
    Records,
    /// The records of a batch that are compressed.
    Compressed,
    /// What could not be read.
    Unread,
    /// The tagged fields at the end of a struct.
    Tags,
}

impl Span {
    /// The name of its type, as Kafka's protocol guide has it.
    pub fn type_name(&self) -> &'static str {
        match (self.kind, self.compact) {
            (Kind::Boolean, _) => "BOOLEAN",
            (Kind::Int8, _) => "INT8",
            (Kind::Int16, _) => "INT16",
            (Kind::Int32, _) => "INT32",
            (Kind::Int64, _) => "INT64",
            (Kind::Uint16, _) => "UINT16",
            (Kind::Uint32, _) => "UINT32",
            (Kind::Float64, _) => "FLOAT64",
            (Kind::Uuid, _) => "UUID",
            (Kind::UnsignedVarint, _) => "UNSIGNED_VARINT",
            (Kind::Varint, _) => "VARINT",
            (Kind::Varlong, _) => "VARLONG",
            (Kind::String, false) => "STRING",
            (Kind::String, true) => "COMPACT_STRING",
            (Kind::NullableString, false) => "NULLABLE_STRING",
            (Kind::NullableString, true) => "COMPACT_NULLABLE_STRING",
            (Kind::Bytes, false) => "BYTES",
            (Kind::Bytes, true) => "COMPACT_BYTES",
            (Kind::VarintBytes, _) => "VARINT_BYTES",
            (Kind::Array, false) => "ARRAY",
            (Kind::Array, true) => "COMPACT_ARRAY",
            (Kind::Records, false) => "RECORDS",
            (Kind::Records, true) => "COMPACT_RECORDS",
            (Kind::Compressed, _) => "COMPRESSED_RECORDS",
            (Kind::Unread, _) => "not read",
            (Kind::Tags, _) => "TAG_BUFFER",
        }
    }
}

/// One of an array's elements.
#[derive(Clone, Debug)]
struct Element {
    array: &'static str,
    index: usize,
    /// The element that it is in.
    outer: Option<usize>,
}

/// The spans of one message.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    spans: Vec<Span>,
    elements: Vec<Element>,
    /// The element whose fields come now.
    element: Option<usize>,
    /// Where the next field begins.
    at: usize,
    /// Fields that begin behind this are not noted.
    bytes_max: usize,
}

impl Spans {
    /// None yet; those of the first `bytes_max` bytes will be noted.
    pub fn new(bytes_max: usize) -> Spans {
        Spans { bytes_max, ..Spans::default() }
    }

    /// Notes that the next `bytes` are this field.
    pub fn field(&mut self, name: &'static str, kind: Kind, compact: bool, bytes: usize) {
        let (from, to) = (self.at, self.at + bytes);
        self.at = to;
        if bytes > 0 && from < self.bytes_max && self.spans.len() < SPANS_MAX {
            self.spans.push(Span { from, to, name, kind, compact, element: self.element });
        }
    }

    /// Where the next field begins.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Begins an element of an array. Answers what [`leave`](Self::leave) takes.
    pub fn enter(&mut self, array: &'static str, index: usize) -> Option<usize> {
        let outer = self.element;
        if self.at < self.bytes_max && self.elements.len() < SPANS_MAX {
            self.elements.push(Element { array, index, outer });
            self.element = Some(self.elements.len() - 1);
        }
        outer
    }

    /// Ends an element.
    pub fn leave(&mut self, outer: Option<usize>) {
        self.element = outer;
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter()
    }

    /// A field's name behind those of the arrays it is in: `topics[0].partitions[2].offset`.
    pub fn path(&self, span: &Span) -> String {
        let mut parts = Vec::new();
        let mut next = span.element;
        while let Some(Element { array, index, outer }) = next.map(|element| &self.elements[element]) {
            parts.push(format!("{array}[{index}]"));
            next = *outer;
        }
        parts.reverse();
        parts.extend((!span.name.is_empty()).then(|| span.name.to_string()));
        parts.join(".")
    }

    /// About how much memory they take.
    pub fn memory(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.elements.capacity() * size_of::<Element>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_with_the_elements_it_is_in() {
        let mut spans = Spans::new(100);
        spans.field("topics", Kind::Array, false, 4);
        for index in 0..2 {
            let outer = spans.enter("topics", index);
            spans.field("name", Kind::String, false, 3);
            let inner = spans.enter("ids", 7);
            spans.field("", Kind::Int32, false, 4);
            spans.leave(inner);
            spans.leave(outer);
        }
        spans.field("", Kind::Tags, true, 0);
        spans.field("last", Kind::Int8, false, 1);
        let told: Vec<_> = spans.iter().map(|span| (span.from, span.to, spans.path(span))).collect();
        let expected = [
            (0, 4, "topics"),
            (4, 7, "topics[0].name"),
            (7, 11, "topics[0].ids[7]"),
            (11, 14, "topics[1].name"),
            (14, 18, "topics[1].ids[7]"),
            (18, 19, "last"),
        ];
        assert_eq!(told, expected.map(|(from, to, path)| (from, to, path.to_string())));
    }

    #[test]
    fn what_is_noted_is_bounded_in_bytes_and_in_fields() {
        let mut spans = Spans::new(8);
        (0..100).for_each(|_| spans.field("a", Kind::Int32, false, 4));
        assert_eq!(spans.iter().count(), 2);
        let mut spans = Spans::new(usize::MAX);
        for index in 0..10 * SPANS_MAX {
            let outer = spans.enter("all", index);
            spans.field("", Kind::Int8, false, 1);
            spans.leave(outer);
        }
        assert!(spans.memory() < 4 << 20, "{}", spans.memory());
        assert_eq!(spans.iter().count(), SPANS_MAX);
    }
}
