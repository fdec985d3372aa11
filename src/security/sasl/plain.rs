//! PLAIN (RFC 4616): a name and its password as they are.

/// What a client says.
pub struct Plain<'a> {
    /// Who it is.
    pub user: &'a str,
    /// What it knows.
    pub password: &'a [u8],
}

/// Reads `[authzid] \0 user \0 password`; `None`: it is broken, empty, or somebody wants to act as another.
pub fn parse(message: &[u8]) -> Option<Plain<'_>> {
    let parts: Vec<&[u8]> = message.splitn(4, |&byte| byte == 0).collect();
    let [acts_as, user, password]: [&[u8]; 3] = parts.try_into().ok()?;
    let is_self = acts_as.is_empty() || acts_as == user;
    if !is_self || user.is_empty() || password.is_empty() {
        return None;
    }
    Some(Plain { user: std::str::from_utf8(user).ok()?, password })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_three_parts_and_nobody_acts_as_another() {
        let read = |message: &[u8]| parse(message).map(|plain| (plain.user.to_string(), plain.password.to_vec()));
        let alice = || Some(("alice".into(), b"pw".to_vec()));
        assert_eq!(read(b"\0alice\0pw"), alice());
        assert_eq!(read(b"alice\0alice\0pw"), alice());
        for bad in [
            &b""[..],
            b"\0",
            b"\0\0",
            b"alice",
            b"\0alice",
            b"\0alice\0",
            b"\0\0pw",
            b"bob\0alice\0pw",
            b"\0alice\0pw\0",
            b"\0alice\0pw\0x",
            b"\0\xff\0pw",
            &[0; 100],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
