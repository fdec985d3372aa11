//! Small text files beside a segment, whose last line is the CRC-32C of those before it.
//!
//! ```text
//! producer:7 first:3 marker:12
//! crc32c:0a1b2c3d
//! ```
//!
//! All that they tell follows from the segment too. So one that is damaged is as good as none.

use super::batches::crc32c;

/// Bytes of the last line.
pub const CRC_BYTES: usize = "crc32c:00000000\n".len();

/// Adds the last line.
pub fn seal(mut lines: String) -> String {
    lines += &last_line(lines.as_bytes());
    lines
}

/// The lines before the last; `None`: they are not what was written.
pub fn open(bytes: &[u8]) -> Option<&str> {
    let (lines, last) = bytes.split_at_checked(bytes.len().checked_sub(CRC_BYTES)?)?;
    if last == last_line(lines).as_bytes() { str::from_utf8(lines).ok() } else { None }
}

fn last_line(lines: &[u8]) -> String {
    format!("crc32c:{:08x}\n", crc32c(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_which_any_bit_differs_is_none() {
        for lines in ["", "producer:7 first:3 marker:12\n"] {
            let whole = seal(lines.into()).into_bytes();
            assert_eq!(open(&whole), Some(lines));
            for bit in 0..8 * whole.len() {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(open(&bytes), None, "bit {bit}");
            }
            for length in 0..whole.len() {
                assert_eq!(open(&whole[..length]), None, "{length} bytes");
            }
        }
    }
}
