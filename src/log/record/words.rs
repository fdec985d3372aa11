//! What a line is made of: words with their escapes, text that stands as it is, numbers.

use std::{borrow::Cow, fmt};

/// Why a piece of text is no record: a sentence for its author.
#[derive(Debug, PartialEq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// The first word, and what follows the space behind it.
pub fn split_word(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b' ', text) {
        Some(space) => (&text[..space], Some(&text[space + 1..])),
        None => (text, None),
    }
}

/// Whether a value can stand behind `message:` as it is: UTF-8 and no control character but TAB.
pub fn stands_verbatim(value: &[u8]) -> bool {
    // Printable ASCII is what most values are; the fold has no branch, so the compiler makes vectors of it.
    let is_low = |byte: u8| (byte < 0x20) & (byte != b'\t') | (byte == 0x7f);
    let (low, all) = value.iter().fold((false, 0), |(low, all), &byte| (low | is_low(byte), all | byte));
    !low && (all < 0x80 || std::str::from_utf8(value).is_ok() && !has_wide_control(value))
}

/// The first bytes of `line` that cannot stand there as they are, and where: a control character but TAB, or what is no
/// UTF-8.
pub fn first_unprintable(line: &[u8]) -> Option<(usize, &[u8])> {
    if stands_verbatim(line) {
        return None;
    }
    let mut at = 0;
    for chunk in line.utf8_chunks() {
        let text = chunk.valid();
        if let Some((index, char)) = text.char_indices().find(|&(_, char)| char != '\t' && is_control(char)) {
            return Some((at + index, &text.as_bytes()[index..index + char.len_utf8()]));
        }
        at += text.len();
        if !chunk.invalid().is_empty() {
            return Some((at, chunk.invalid()));
        }
    }
    None
}

/// Whether UTF-8 text has one of the controls that take more than a byte: C1, LINE and PARAGRAPH SEPARATOR.
fn has_wide_control(text: &[u8]) -> bool {
    memchr::memchr_iter(0xc2, text).any(|at| text[at + 1] < 0xa0)
        || memchr::memchr_iter(0xe2, text).any(|at| matches!(text[at + 1..at + 3], [0x80, 0xa8 | 0xa9]))
}

/// What would steer a terminal or split a line: C0, DEL, C1, LINE and PARAGRAPH SEPARATOR.
pub(super) fn is_control(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}' | '\u{2029}')
}

/// Appends `bytes` as a word: printable, without a space.
pub fn write_word(out: &mut Vec<u8>, bytes: &[u8]) {
    escape(out, bytes, b" ");
}

/// `text` as a word.
pub fn as_word(text: &str) -> String {
    let mut word = Vec::new();
    write_word(&mut word, text.as_bytes());
    String::from_utf8_lossy(&word).into_owned()
}

/// Appends one of a list of words: a word without a comma.
pub fn write_listed(out: &mut Vec<u8>, bytes: &[u8]) {
    escape(out, bytes, b" ,");
}

/// Appends a header's name: a word without a colon.
pub fn write_header_name(out: &mut Vec<u8>, bytes: &[u8]) {
    escape(out, bytes, b" :");
}

/// Bytes as they may stand in a message to a person: escaped, and cut at 64 characters.
pub fn shown(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    escape(&mut out, &bytes[..bytes.len().min(256)], b"");
    let text = String::from_utf8(out).expect("escaping leaves UTF-8");
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Appends `bytes` as a person may see them: as they are if they can stand verbatim, else escaped.
pub fn write_visible(out: &mut Vec<u8>, bytes: &[u8]) {
    match stands_verbatim(bytes) {
        true => out.extend_from_slice(bytes),
        false => escape(out, bytes, b""),
    }
}

pub(super) fn escape(out: &mut Vec<u8>, bytes: &[u8], also: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            let mut utf8 = [0; 4];
            let utf8 = char.encode_utf8(&mut utf8).as_bytes();
            match char {
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                _ if is_control(char) || utf8.len() == 1 && also.contains(&utf8[0]) => escape_bytes(out, utf8),
                _ => out.extend_from_slice(utf8),
            }
        }
        escape_bytes(out, chunk.invalid());
    }
}

fn escape_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// The bytes that an escaped word or value stands for.
pub fn unescape(text: &[u8]) -> Result<Cow<'_, [u8]>, Malformed> {
    if memchr::memchr(b'\\', text).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    unescape_to(&mut out, text)?;
    Ok(Cow::Owned(out))
}

/// Appends the bytes that an escaped word or value stands for.
pub fn unescape_to(out: &mut Vec<u8>, mut text: &[u8]) -> Result<(), Malformed> {
    while let Some(backslash) = memchr::memchr(b'\\', text) {
        out.extend_from_slice(&text[..backslash]);
        let rest = &text[backslash + 1..];
        let (byte, used) = match *rest {
            [b'\\', ..] => (b'\\', 1),
            [b'n', ..] => (b'\n', 1),
            [b'r', ..] => (b'\r', 1),
            [b't', ..] => (b'\t', 1),
            [b'x', high, low, ..] => match (hex_digit(high), hex_digit(low)) {
                (Some(high), Some(low)) => (high << 4 | low, 3),
                _ => return Err(bad_escape(rest)),
            },
            _ => return Err(bad_escape(rest)),
        };
        out.push(byte);
        text = &rest[used..];
    }
    out.extend_from_slice(text);
    Ok(())
}

fn bad_escape(rest: &[u8]) -> Malformed {
    let what = shown(&rest[..rest.len().min(3)]);
    Malformed(format!("'\\{what}' is no escape; there are \\\\ \\n \\r \\t and \\xHH in lower-case hex"))
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// A decimal number from 0 to 2^63-1, digits only.
pub fn parse_u63(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let mut number: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    (number <= i64::MAX as u64).then_some(number)
}

/// A decimal number of 32 bits: digits, and a sign if it is negative.
pub(super) fn parse_i32(text: &[u8]) -> Option<i32> {
    let number = match text.strip_prefix(b"-") {
        Some(digits) => -i64::try_from(parse_u63(digits)?).ok()?,
        None => i64::try_from(parse_u63(text)?).ok()?,
    };
    number.try_into().ok()
}

/// The digits of 0 to 99, two each.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// Appends a number in decimal. (Formatting machinery costs as much as the rest of a short line.)
pub fn write_u64(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    while number >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
    }
    at -= 2;
    digits[at..at + 2].copy_from_slice(&PAIRS[number as usize]);
    out.extend_from_slice(&digits[at + usize::from(number < 10)..]);
}

/// Appends a number in decimal, with its sign if it is negative.
pub fn write_i64(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    write_u64(out, number.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_verbatim_is_text_without_controls() {
        for code in 0..=u32::from(char::MAX) {
            let Some(char) = char::from_u32(code) else { continue };
            let text = format!("a{char}b");
            assert_eq!(stands_verbatim(text.as_bytes()), char == '\t' || !is_control(char), "{code:x}");
        }
        assert!(!stands_verbatim(b"caf\xe9"));
        assert!(!stands_verbatim(b"\xe2\x80"));
    }

    #[test]
    fn what_cannot_stand_in_a_line_is_found() {
        for (line, found) in [
            (&b"plain \tand \xc3\xb6"[..], None),
            (b"a\x1b[2J", Some((1, &b"\x1b"[..]))),
            (b"\xc3\xb6\xff\x1b", Some((2, b"\xff"))),
            (b"\xe2\x80\xa8", Some((0, b"\xe2\x80\xa8"))),
            (b"end\r", Some((3, b"\r"))),
            (b"cut \xe2\x80", Some((4, b"\xe2\x80"))),
        ] {
            assert_eq!(first_unprintable(line), found, "{line:?}");
        }
    }

    #[test]
    fn echoed_input_is_cut_and_escaped() {
        assert_eq!(shown(b"a\x1bb"), "a\\x1bb");
        assert_eq!(shown(&[b'x'; 65]), format!("{}...", "x".repeat(64)));
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        let powers = (0..20).map(|digits| 10_u64.pow(digits));
        for number in (0..1000).chain(powers.flat_map(|power| [power - 1, power, power + 1])).chain([u64::MAX]) {
            let mut out = Vec::new();
            write_u64(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
