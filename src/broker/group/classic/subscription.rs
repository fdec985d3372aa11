//! What a classic consumer subscribes to, read from its metadata: the one place that reads it.
//!
//! ```text
//! version i16 │ topics: count i32, each i16 length and bytes │ user data, and more since version 1
//! ```
//!
//! The beginning is the same in every version, and only that is read. Metadata is the client's: it may be anything.

/// The topics of a subscription; `None`: this is none.
pub(super) fn topics(metadata: &[u8]) -> Option<Vec<&str>> {
    let (version, rest) = metadata.split_first_chunk()?;
    let (count, mut rest) = rest.split_first_chunk()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let count = u32::try_from(i32::from_be_bytes(*count)).ok()?;
    // Not collected by the count, which is the client's: each topic takes two bytes at least.
    let mut topics = Vec::new();
    for _ in 0..count {
        let (length, behind) = rest.split_first_chunk()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (topic, behind) = behind.split_at_checked(length)?;
        topics.push(std::str::from_utf8(topic).ok()?);
        rest = behind;
    }
    Some(topics)
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
        }
    }
}
