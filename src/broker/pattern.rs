//! Regular expressions that clients write: of topics that they subscribe to (KIP-848), of transactional ids that they list.

use super::{Error, Result};
#[cfg(feature = "kafka")]
use regex::{Regex, RegexBuilder};

/// The most that a compiled pattern may take.
#[cfg(feature = "kafka")]
const COMPILED_BYTES_MAX: usize = 256 << 10;

/// A pattern that matches a whole name or nothing.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    #[cfg(feature = "kafka")]
    whole: Regex,
}

impl Pattern {
    /// The pattern that a client wrote, in RE2's syntax.
    #[cfg(feature = "kafka")]
    pub fn new(text: &str) -> Result<Pattern> {
        // Each may take as much again while it searches.
        let compiled = |text: &str| {
            RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build()
        };
        // By itself first: `a)(b` is none, and would be one in parentheses.
        let whole = compiled(text).and_then(|_| compiled(&format!("^(?:{text})$")));
        let whole = whole.map_err(|error| Error::InvalidPattern(error.to_string()))?;
        Ok(Pattern { text: text.into(), whole })
    }

    /// Only Kafka's clients write patterns, and they are not served.
    #[cfg(not(feature = "kafka"))]
    pub fn new(_: &str) -> Result<Pattern> {
        Err(Error::InvalidPattern("patterns are not served here".into()))
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches the whole name.
    pub fn matches(&self, name: &str) -> bool {
        #[cfg(feature = "kafka")]
        return self.whole.is_match(name);
        #[cfg(not(feature = "kafka"))]
        return name.is_empty() && self.text.is_empty();
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

#[cfg(all(test, feature = "kafka"))]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        let pattern = Pattern::new("orders|pay.*").unwrap();
        let matched = ["orders", "payments", "orders2", "repay"].map(|topic| pattern.matches(topic));
        assert_eq!(matched, [true, true, false, false]);
        assert_eq!(pattern.text(), "orders|pay.*");
    }

    #[test]
    fn what_is_no_pattern_or_takes_too_much_is_refused() {
        for bad in ["(", "a)(b", "[", r"(\w{200}){200}"] {
            assert!(matches!(Pattern::new(bad), Err(Error::InvalidPattern(_))), "{bad}");
        }
    }
}
