//! What a poll hands out, and how much of it, in groups and in share groups.

/// A record that a poll hands out.
#[derive(Debug)]
pub struct PolledRecord<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
    /// The timestamp.
    pub timestamp: i64,
    /// Key, headers and value as the log has them, without a timestamp.
    pub fields: &'a [u8],
}

/// How much a poll hands out at most. A record that is larger than the bytes is handed out alone.
#[derive(Clone, Copy, Debug)]
pub struct PollLimits {
    /// Records.
    pub records: usize,
    /// Bytes of their lines, about.
    pub bytes: usize,
}
