//! Records as CSV (RFC 4180): a row each, nothing lost.
//!
//! ```text
//! topic,partition,offset,timestamp,key,key_base64,value,value_base64,headers
//! orders,0,7,1700000000000,k,,"say ""hi""",,"[[""a"",""1""]]"
//! ```
//!
//! What is null is nothing between the commas; what is empty is `""`. Bytes that are no UTF-8 stand in the `_base64` column, and
//! headers are JSON.

use crate::{
    log::{
        Line,
        record::{Decoded, Malformed, write_i64, write_u64},
    },
    protocol::record_json,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

/// The first row.
pub(super) const NAMES: &[u8] = b"topic,partition,offset,timestamp,key,key_base64,value,value_base64,headers\r\n";

/// Appends the row of a record.
pub(super) fn write_row(out: &mut Vec<u8>, topic: &str, partition: u32, line: &Line<'_>) -> Result<(), Malformed> {
    let Decoded { key, headers, value } = line.split()?.decode()?;
    write_field(out, topic.as_bytes());
    out.push(b',');
    write_u64(out, partition.into());
    out.push(b',');
    write_u64(out, line.offset);
    out.push(b',');
    write_i64(out, line.timestamp);
    write_text_or_base64(out, key.as_deref());
    write_text_or_base64(out, value.as_deref());
    out.push(b',');
    if !headers.is_empty() {
        let mut json = Vec::new();
        record_json::write_headers(&mut json, &headers);
        write_field(out, &json);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Two columns, of which one is empty at least.
fn write_text_or_base64(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.push(b',');
    let text = bytes.filter(|bytes| std::str::from_utf8(bytes).is_ok());
    if let Some(text) = text {
        write_field(out, text);
    }
    out.push(b',');
    if let (Some(bytes), None) = (bytes, text) {
        out.extend_from_slice(BASE64.encode(bytes).as_bytes());
    }
}

fn write_field(out: &mut Vec<u8>, text: &[u8]) {
    if !text.is_empty() && !text.iter().any(|byte| b"\",\r\n".contains(byte)) {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for part in text.split_inclusive(|&byte| byte == b'"') {
        out.extend_from_slice(part);
        if part.ends_with(b"\"") {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Lines, batches::Flags};

    #[test]
    fn a_row_tells_null_from_empty_and_text_from_bytes() {
        let lines =
            b"offset:7 timestamp:5 key:k header.a:1 message:say \"hi\", all\noffset:8 timestamp:5 key: tombstone\n\
                      offset:9 timestamp:5 base64:AP8=\noffset:10 timestamp:5 escaped:a\\nb\n";
        let mut out = Vec::new();
        for line in Lines::new(lines, 0, Flags::NONE) {
            write_row(&mut out, "t", 2, &line.unwrap()).unwrap();
        }
        let expected = "t,2,7,5,k,,\"say \"\"hi\"\", all\",,\"[[\"\"a\"\",\"\"1\"\"]]\"\r\nt,2,8,5,\"\",,,,\r\n\
                        t,2,9,5,,,,AP8=,\r\nt,2,10,5,,,\"a\nb\",,\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
