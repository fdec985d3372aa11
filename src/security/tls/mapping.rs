//! What a certificate's name becomes: Kafka's `ssl.principal.mapping.rules`.
//!
//! ```text
//! RULE:^CN=(.*?),OU=staff.*$/$1/L, DEFAULT      the first rule that matches all of a name says what it becomes; L and U make it
//!      pattern              /replacement/       lower and upper case. DEFAULT leaves it. What no rule matches is nobody.
//! ```
//!
//! Patterns are those of the crate `regex`. A rule's replacement is put in wherever its pattern is found, as Java's `replaceAll`
//! does.

use regex::{Captures, Regex};

/// Rules for names, in order.
#[derive(Clone, Debug)]
pub struct Mapping {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
enum Rule {
    Default,
    Replace(Box<Replace>),
}

#[derive(Clone, Debug)]
struct Replace {
    /// Matches all of a name or nothing of it.
    whole: Regex,
    pattern: Regex,
    replacement: Vec<Part>,
    case: Case,
}

#[derive(Clone, Copy, Debug)]
enum Case {
    Kept,
    Lower,
    Upper,
}

/// A part of a replacement.
#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Group(usize),
}

impl Mapping {
    /// Reads rules; an error says what cannot be read.
    pub fn read(rules: &str) -> Result<Mapping, String> {
        let (mut read, mut rest) = (Vec::new(), rules.trim());
        while !rest.is_empty() {
            let (rule, behind) = one(rest)?;
            read.extend(rule);
            let behind = behind.trim_start();
            rest = match behind.strip_prefix(',') {
                Some(next) => next.trim_start(),
                None if behind.is_empty() => behind,
                None => return Err(format!("'{behind}' stands behind a rule; a comma parts rules")),
            };
        }
        if read.is_empty() {
            Err("there is no rule; DEFAULT leaves names as they are".into())
        } else {
            Ok(Mapping { rules: read })
        }
    }

    /// What a name becomes; `None`: no rule is about it.
    pub fn apply(&self, name: &str) -> Option<String> {
        self.rules.iter().find_map(|rule| match rule {
            Rule::Default => Some(name.to_string()),
            Rule::Replace(replace) => replace.apply(name),
        })
    }
}

/// The rule at the start of `text`, if there is one before the next comma, and what follows it.
fn one(text: &str) -> Result<(Option<Rule>, &str), String> {
    if text.starts_with(',') {
        return Ok((None, text));
    }
    if let Some(behind) = text.strip_prefix("DEFAULT") {
        return Ok((Some(Rule::Default), behind));
    }
    let malformed = || format!("'{text}' is neither DEFAULT nor RULE:pattern/replacement/ with L or U behind it");
    let rule = text.strip_prefix("RULE:").ok_or_else(malformed)?;
    let (pattern, rest) = to_slash(rule).ok_or_else(malformed)?;
    let (replacement, rest) = to_slash(rest).ok_or_else(malformed)?;
    let (case, rest) = match rest.as_bytes().first() {
        Some(b'L') => (Case::Lower, &rest[1..]),
        Some(b'U') => (Case::Upper, &rest[1..]),
        _ => (Case::Kept, rest),
    };
    let unreadable = |error: regex::Error| format!("the pattern '{pattern}': {error}");
    let found = Regex::new(pattern).map_err(unreadable)?;
    let whole = Regex::new(&format!(r"\A(?:{pattern})\z")).map_err(unreadable)?;
    let replacement = parts(replacement, found.captures_len() - 1)?;
    Ok((Some(Rule::Replace(Box::new(Replace { whole, pattern: found, replacement, case }))), rest))
}

/// What stands before the next `/` that has no backslash before it, and what stands behind that.
fn to_slash(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    let end = text.find(|character| {
        let is_end = character == '/' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        is_end
    })?;
    Some((&text[..end], &text[end + 1..]))
}

/// A replacement for a pattern of so many groups: `$1` is a group if there is such a one, a backslash makes what follows it text.
fn parts(replacement: &str, groups: usize) -> Result<Vec<Part>, String> {
    let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), replacement.chars());
    while let Some(character) = rest.next() {
        match character {
            '\\' => text.push(rest.next().ok_or_else(|| format!("'{replacement}' ends with a backslash"))?),
            '$' => {
                let digits = rest.as_str().len() - rest.as_str().trim_start_matches(|c: char| c.is_ascii_digit()).len();
                // As many digits as still name a group.
                let group = |length: &usize| rest.as_str()[..*length].parse().is_ok_and(|group: usize| group <= groups);
                let named = (1..=digits).rev().find(group);
                if digits == 0 {
                    return Err(format!("a '$' in '{replacement}' names no group; '\\$' is the character"));
                }
                let Some(length) = named else {
                    text.push('$');
                    continue;
                };
                parts.push(Part::Text(std::mem::take(&mut text)));
                parts.push(Part::Group(rest.as_str()[..length].parse().map_err(|_| "no group".to_string())?));
                rest = rest.as_str()[length..].chars();
            }
            _ => text.push(character),
        }
    }
    parts.push(Part::Text(text));
    Ok(parts)
}

impl Replace {
    fn apply(&self, name: &str) -> Option<String> {
        if !self.whole.is_match(name) {
            return None;
        }
        let (mut out, mut copied, mut from) = (String::new(), 0, 0);
        // Java finds an empty match behind a match, too, which this crate's `replace_all` does not.
        while from <= name.len()
            && let Some(groups) = self.pattern.captures_at(name, from)
            && let Some(found) = groups.get(0)
        {
            out.push_str(&name[copied..found.start()]);
            self.put(&groups, &mut out);
            copied = found.end();
            let next = name[copied..].chars().next().map_or(1, char::len_utf8);
            from = if found.is_empty() { copied + next } else { copied };
        }
        out.push_str(&name[copied..]);
        Some(match self.case {
            Case::Kept => out,
            Case::Lower => out.to_lowercase(),
            Case::Upper => out.to_uppercase(),
        })
    }

    fn put(&self, groups: &Captures<'_>, out: &mut String) {
        for part in &self.replacement {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Group(group) => out.push_str(groups.get(*group).map_or("", |found| found.as_str())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(rules: &str, name: &str) -> Option<String> {
        Mapping::read(rules).unwrap().apply(name)
    }

    /// The first are those of Kafka's documentation.
    #[test]
    fn the_first_rule_that_matches_all_of_a_name_says_what_it_becomes() {
        let rules = "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/, RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L, \
            RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/L ,DEFAULT";
        for (name, becomes) in [
            ("CN=serviceuser,OU=ServiceUsers,O=Unknown,L=Unknown,ST=Unknown,C=Unknown", "serviceuser"),
            ("CN=adminUser,OU=Admin,O=Unknown,L=Unknown,ST=Unknown,C=Unknown", "adminuser@admin"),
            ("OU=x,CN=Alice", "alice"),
            ("O=nobody", "O=nobody"),
        ] {
            assert_eq!(mapped(rules, name).as_deref(), Some(becomes), "{name}");
        }
        assert_eq!(mapped("RULE:CN=a/b/", "CN=ab"), None);
        assert_eq!(mapped(",,DEFAULT,", "CN=a").as_deref(), Some("CN=a"));
    }

    /// Rules that Kafka's `SslPrincipalMapper` takes, and what it makes of the name.
    #[test]
    fn replacements_are_javas() {
        for (rules, becomes) in [
            ("RULE:CN=(.*?)/$1/", "Abc"),
            ("RULE:.*/x/", "xx"),
            ("RULE:(.*)/$1/U", "CN=ABC"),
            (r"RULE:CN=(.)(.*)/\$1-$2$3\//", "$1-bc$3/"),
            ("RULE:CN=(.*)/$10/", "Abc0"),
            ("RULE:CN=(.*)/$0!/", "CN=Abc!"),
            (r"RULE:C\/?N=(.*)/$1/", "Abc"),
        ] {
            assert_eq!(mapped(rules, "CN=Abc").as_deref(), Some(becomes), "{rules}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for rules in [
            "",
            "RULE:",
            "RULE:a/b",
            "RULE:a/b/X",
            "RULE:(/b/",
            "RULE:a/$/",
            "RULE:a/b/ DEFAULT",
            "DEFAULTS",
            "CN=a",
            "RULE:a)b(/x/",
        ] {
            assert!(Mapping::read(rules).is_err(), "{rules}");
        }
    }
}
