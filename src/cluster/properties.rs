//! Files of settings, as Java's clients have them (`java.util.Properties`): the same file serves both.
//!
//! ```text
//! # a comment, as is what begins with !
//! sasl.username=me          name and value may be apart by = or : or a space
//! sasl.password = a\
//!     b                     ab: a line that ends in \ goes on in the next, behind its spaces
//! ```

use std::{collections::BTreeMap, iter::Peekable, str::Chars};

/// The settings in `text`; an error names the line. The last of a name holds.
pub fn properties(text: &str) -> Result<BTreeMap<String, String>, String> {
    let (mut settings, mut lines) = (BTreeMap::new(), text.lines().enumerate());
    while let Some((number, line)) = lines.next() {
        let mut line = line.trim_start().to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        while goes_on(&line) {
            line.pop();
            line += lines.next().map_or("", |(_, more)| more.trim_start());
        }
        let (name, value) = name_and_value(&line).ok_or_else(|| format!("line {}: \\u takes 4 digits", number + 1))?;
        if name.is_empty() {
            return Err(format!("line {}: the name is missing", number + 1));
        }
        settings.insert(name, value);
    }
    Ok(settings)
}

/// Whether it ends in a `\` that no other one escapes.
fn goes_on(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn name_and_value(line: &str) -> Option<(String, String)> {
    let mut rest = line.trim_end_matches('\r').chars().peekable();
    let name = unescaped(&mut rest, |c| c.is_whitespace() || c == '=' || c == ':')?;
    let skip_spaces = |rest: &mut Peekable<Chars<'_>>| while rest.next_if(|c| c.is_whitespace()).is_some() {};
    skip_spaces(&mut rest);
    if rest.next_if(|c| *c == '=' || *c == ':').is_some() {
        skip_spaces(&mut rest);
    }
    Some((name, unescaped(&mut rest, |_| false)?))
}

/// Up to a character that ends it and is not escaped; `None`: an escape is none.
fn unescaped(rest: &mut Peekable<Chars<'_>>, ends: impl Fn(char) -> bool) -> Option<String> {
    let mut text = String::new();
    while let Some(c) = rest.next_if(|c| !ends(*c)) {
        text.push(match c {
            '\\' => match rest.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('u') => {
                    let digits: String = rest.by_ref().take(4).collect();
                    let is_whole = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                    char::from_u32(u32::from_str_radix(&digits, 16).ok().filter(|_| is_whole)?)?
                }
                Some(other) => other,
                None => continue,
            },
            c => c,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        properties(text).unwrap().into_iter().collect()
    }

    #[test]
    fn a_file_is_read_as_java_reads_it() {
        let one = |name: &str, value: &str| vec![(name.to_string(), value.to_string())];
        assert_eq!(read("# c\n! d\n\n  a=b\r\n"), one("a", "b"));
        for line in ["a=b", "a = b", "a:b", "a b", "  a   :  b"] {
            assert_eq!(read(line), one("a", "b"), "{line}");
        }
        assert_eq!(read("a=b c = d "), one("a", "b c = d "));
        assert_eq!(read("a=b\\\n   c"), one("a", "bc"));
        assert_eq!(read("a=b\\\\\nc=d").len(), 2);
        assert_eq!(read("a\\=b=\\u00e9\\t\\\\"), one("a=b", "é\t\\"));
        assert_eq!(read("a"), one("a", ""));
        assert_eq!(read("a=1\na=2"), one("a", "2"));
    }

    #[test]
    fn what_is_none_is_named_by_its_line() {
        assert_eq!(properties("a=b\n=c").unwrap_err(), "line 2: the name is missing");
        assert_eq!(properties("\na=\\u12").unwrap_err(), "line 2: \\u takes 4 digits");
    }
}
