//! OAUTHBEARER (RFC 7628): a token that somebody else has signed.
//!
//! A client whose token is bad is told so in a challenge, answers it with ^A, and is refused then.

/// What a client is told whose token is bad.
pub const INVALID: &[u8] = br#"{"status":"invalid_token"}"#;

/// What a client says.
pub struct Bearer<'a> {
    /// The token.
    pub token: &'a str,
    /// As whom it wants to act; `None`: as whom the token names.
    pub acts_as: Option<String>,
}

/// Reads `n,[a=name],^Aauth=Bearer <token>^A[key=value^A]...^A`; `None`: it is broken.
pub fn parse(message: &[u8]) -> Option<Bearer<'_>> {
    let text = std::str::from_utf8(message).ok()?;
    let (acts_as, rest) = text.strip_prefix("n,")?.split_once(',')?;
    let acts_as = match acts_as {
        "" => None,
        named => Some(super::name(named.strip_prefix("a=")?)?),
    };
    let pairs = rest.strip_prefix('\u{1}')?.strip_suffix("\u{1}\u{1}")?;
    let mut token = None;
    for pair in pairs.split('\u{1}') {
        let (key, value) = pair.split_once('=')?;
        let is_printable = value.bytes().all(|byte| matches!(byte, 0x20..=0x7e | b'\t' | b'\r' | b'\n'));
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphabetic()) || value.is_empty() || !is_printable {
            return None;
        }
        if key == "auth" {
            let (scheme, given) = value.split_once(' ')?;
            let given = given.trim_start_matches(' ');
            let is_token =
                !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if !scheme.eq_ignore_ascii_case("bearer") || !is_token || token.replace(given).is_some() {
                return None;
            }
        }
    }
    Some(Bearer { token: token?, acts_as })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_one_token() {
        let read = |message: &str| parse(message.as_bytes()).map(|bearer| (bearer.token.to_string(), bearer.acts_as));
        let token = |acts_as: Option<&str>| Some(("a.b-_.C1".to_string(), acts_as.map(String::from)));
        assert_eq!(read("n,,\u{1}auth=Bearer a.b-_.C1\u{1}\u{1}"), token(None));
        assert_eq!(
            read("n,a=al=2Cice,\u{1}host=h\u{1}auth=bearer  a.b-_.C1\u{1}port=1\u{1}\u{1}"),
            token(Some("al,ice"))
        );
        for bad in [
            "",
            "n,,",
            "n,,\u{1}",
            "n,,\u{1}\u{1}",
            "y,,\u{1}auth=Bearer a\u{1}\u{1}",
            "n,,\u{1}auth=Basic a\u{1}\u{1}",
            "n,,\u{1}auth=Bearer \u{1}\u{1}",
            "n,,\u{1}auth=Bearer a\u{1}",
            "n,,\u{1}auth=Bearer a b\u{1}\u{1}",
            "n,x,\u{1}auth=Bearer a\u{1}\u{1}",
            "n,a=,\u{1}auth=Bearer a\u{1}\u{1}",
            "n,,auth=Bearer a\u{1}\u{1}",
            "n,,\u{1}auth=Bearer a\u{1}auth=Bearer b\u{1}\u{1}",
            "n,,\u{1}=x\u{1}auth=Bearer a\u{1}\u{1}",
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
