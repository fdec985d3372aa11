//! JSON that a client sent: parsed only if it is not nested so deep that reading it would need more stack than a connection has.

use super::refusal::Refusal;
use serde_json::Value;

/// How deep arrays and objects may be nested. What the API takes is nested half as deep.
const DEPTH_MAX: usize = 16;

/// Reads a value.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    check_depth(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| Refusal::invalid(format!("it is no JSON: {error}")))
}

/// Refuses what is nested too deep, before anything reads it. A thread that runs out of stack would end the broker.
fn check_depth(bytes: &[u8]) -> Result<(), Refusal> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if std::mem::take(&mut escaped) => {}
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(Refusal::invalid(format!("the JSON is nested deeper than {DEPTH_MAX} levels")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nested_too_deep_is_not_read() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        for deep in [
            nested(DEPTH_MAX + 1),
            "[".repeat(1 << 20),
            "{\"a\":".repeat(1 << 20),
            format!("[\"\\\"\",{}", "[".repeat(99)),
        ] {
            assert_eq!(parse(deep.as_bytes()).unwrap_err().status, 400);
        }
        let text = format!(r#"{{"name":"{}\"{}"}}"#, "[".repeat(99), "{".repeat(99));
        assert!(parse(text.as_bytes()).is_ok(), "brackets in a text are no nesting");
    }
}
