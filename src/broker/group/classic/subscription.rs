//! What a classic consumer subscribes to, and what it is assigned, as bytes: the one place that reads and writes them.
//!
//! ```text
//! subscription   version i16 │ topics: count i32, each i16 length and bytes │ user data │ since 1: owned │ since 2, 3: more
//! assignment     version i16 │ assigned                                     │ user data
//! owned, assigned: count i32, each a topic and its partitions, count i32 and i32 each     user data: i32 length, -1 null
//! ```
//!
//! The beginning is the same in every version, and only what is needed is read. The bytes are the client's: they may be anything.

/// A consumer's subscription.
#[derive(Debug, PartialEq)]
pub(in crate::broker::group) struct Subscription<'a> {
    /// The version of its form.
    pub(in crate::broker::group) version: i16,
    /// What it subscribes to.
    pub(in crate::broker::group) topics: Vec<&'a str>,
    /// The partitions that it has not let go.
    pub(in crate::broker::group) owned: Vec<(&'a str, u32)>,
}

/// The topics of a subscription; `None`: this is none.
pub(super) fn topics(metadata: &[u8]) -> Option<Vec<&str>> {
    Bytes(metadata).subscribed().map(|(_, topics)| topics)
}

/// A subscription; `None`: this is none.
pub(in crate::broker::group) fn read(metadata: &[u8]) -> Option<Subscription<'_>> {
    let mut bytes = Bytes(metadata);
    let (version, topics) = bytes.subscribed()?;
    let owned = if version >= 1 { bytes.user_data().and_then(|()| bytes.partitions())? } else { vec![] };
    Some(Subscription { version, topics, owned })
}

/// The partitions of an assignment; `None`: this is none.
pub(in crate::broker::group) fn assignment(bytes: &[u8]) -> Option<Vec<(&str, u32)>> {
    let mut bytes = Bytes(bytes);
    (bytes.i16()? >= 0).then(|| bytes.partitions())?
}

/// An assignment of these partitions, which are in order.
pub(in crate::broker::group) fn write_assignment<'a>(
    version: i16,
    partitions: impl Iterator<Item = (&'a str, u32)>,
) -> Vec<u8> {
    let mut topics: Vec<(&str, Vec<u32>)> = Vec::new();
    for (topic, partition) in partitions {
        match topics.last_mut() {
            Some((last, all)) if *last == topic => all.push(partition),
            _ => topics.push((topic, vec![partition])),
        }
    }
    let mut out = version.to_be_bytes().to_vec();
    out.extend((topics.len() as i32).to_be_bytes());
    for (topic, partitions) in topics {
        out.extend((topic.len() as i16).to_be_bytes());
        out.extend(topic.as_bytes());
        out.extend((partitions.len() as i32).to_be_bytes());
        partitions.iter().for_each(|partition| out.extend(partition.to_be_bytes()));
    }
    out.extend((-1i32).to_be_bytes());
    out
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take().map(i16::from_be_bytes)
    }

    /// How many elements follow. Nothing is collected by it, since it is the client's.
    fn count(&mut self) -> Option<u32> {
        u32::try_from(self.take().map(i32::from_be_bytes)?).ok()
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn string(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.i16()?).ok()?;
        std::str::from_utf8(self.slice(length)?).ok()
    }

    fn subscribed(&mut self) -> Option<(i16, Vec<&'a str>)> {
        let version = self.i16().filter(|&version| version >= 0)?;
        let count = self.count()?;
        let mut topics = Vec::new();
        for _ in 0..count {
            topics.push(self.string()?);
        }
        Some((version, topics))
    }

    fn user_data(&mut self) -> Option<()> {
        match self.take().map(i32::from_be_bytes)? {
            -1 => Some(()),
            length => self.slice(usize::try_from(length).ok()?).map(|_| ()),
        }
    }

    fn partitions(&mut self) -> Option<Vec<(&'a str, u32)>> {
        let count = self.count()?;
        let mut partitions = Vec::new();
        for _ in 0..count {
            let topic = self.string()?;
            for _ in 0..self.count()? {
                partitions.push((topic, self.count()?));
            }
        }
        Some(partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn topics_are_read_from_every_version() {
        assert_eq!(topics(b"\0\0\0\0\0\x02\0\x01a\0\x06orders\xff\xff\xff\xff"), Some(vec!["a", "orders"]));
        assert_eq!(topics(b"\0\x03\0\0\0\0 and what else comes"), Some(vec![]));
    }

    #[test]
    fn what_a_client_has_is_read_and_what_it_is_to_have_is_written() {
        let owned = b"\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x07";
        let begin = b"\0\x01\0\0\0\x01\0\x01a\0\0\0\x02!!";
        let metadata = [&begin[..], owned].concat();
        let partitions = vec![("a", 0), ("a", 7)];
        let read_back = Subscription { version: 1, topics: vec!["a"], owned: partitions.clone() };
        assert_eq!(read(&metadata), Some(read_back));
        assert_eq!(read(begin), None, "it ends too early");
        let written = write_assignment(1, partitions.iter().copied());
        assert_eq!(written, [&b"\0\x01"[..], owned, &[0xff; 4]].concat());
        assert_eq!(assignment(&written), Some(partitions));
        assert_eq!(assignment(&[]), None);
    }

    #[test]
    fn what_is_no_subscription_is_told() {
        let broken: [&[u8]; 6] = [
            b"",
            b"\0\x01",
            b"\xff\xff\0\0\0\0",
            b"\0\0\xff\xff\xff\xff",
            b"\0\0\x7f\xff\xff\xff\0\x01a",
            b"\0\0\0\0\0\x01\0\x01\xff",
        ];
        broken.into_iter().for_each(|metadata| assert_eq!(topics(metadata), None, "{metadata:?}"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(metadata: Vec<u8>) {
            topics(&metadata);
            read(&metadata);
            assignment(&metadata);
        }
    }
}
