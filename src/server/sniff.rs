//! One port, several protocols: the first byte decides which one a connection speaks.
//!
//! ```text
//! 0x00..=0x06   a Kafka frame: the first byte of its size, which is below 100 MiB
//! 0x16          a TLS handshake (RFC 8446, section 5.1)
//! 0xEF          UTF-8's byte-order mark: text
//! 0x80..        begins no line
//! else          text; HTTP is told by its whole first line, which text reads anyway
//! ```

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Lines.
    Text,
    /// Kafka's frames.
    Kafka,
    /// A TLS hello.
    Tls,
    /// Nothing that is known here.
    Unknown,
}

/// The protocol that begins with `byte`.
pub fn protocol_of(byte: u8) -> Protocol {
    match byte {
        0..=0x06 => Protocol::Kafka,
        0x16 => Protocol::Tls,
        0xef => Protocol::Text,
        0x80.. => Protocol::Unknown,
        _ => Protocol::Text,
    }
}
