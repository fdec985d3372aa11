//! Who a client says it is, and the files where that stands.

use super::Error;
use crate::log::record::as_word;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{fmt, fs::File, io::Read, path::Path};

/// The largest file that is read for a password.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Who a client says it is. The password is shown to nobody.
#[derive(Clone)]
pub(super) struct Login {
    user: String,
    password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Login {
    pub(super) fn new(user: &str, password: &str) -> Result<Login, Error> {
        if user.is_empty() || password.is_empty() || password.contains(['\n', '\r']) {
            return Err(Error::Invalid("a user has a name, and a password of one line".into()));
        }
        Ok(Login { user: user.into(), password: password.into() })
    }

    /// The line that says it.
    pub(super) fn line(&self) -> String {
        format!("AUTH {} {}", as_word(&self.user), self.password)
    }

    /// The header's value that says it in HTTP, where a colon ends the name.
    pub(super) fn authorization(&self) -> Result<String, Error> {
        if self.user.contains(':') {
            return Err(Error::Invalid("a user whose name has a colon cannot log in by HTTP".into()));
        }
        Ok(format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password))))
    }
}

/// The password in a file: its first line.
pub fn read_password(path: &Path) -> Result<String, Error> {
    let told = |why: &dyn fmt::Display| Error::Invalid(format!("{}: {why}", path.display()));
    let mut text = String::new();
    let file = File::open(path).map_err(|error| told(&error))?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| told(&error))?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(password.into()),
        _ => Err(told(&"its first line is the password, and is empty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_one_line_and_shows_its_password_to_nobody() {
        let login = Login::new("al ice", "two words").unwrap();
        assert_eq!(login.line(), "AUTH al\\x20ice two words");
        assert!(!format!("{login:?}").contains("two"));
        assert!(Login::new("a:b", "x").unwrap().authorization().is_err());
        for (user, password) in [("", "x"), ("x", ""), ("x", "a\nPRODUCE b"), ("x", "a\r")] {
            assert!(Login::new(user, password).is_err(), "{user:?} {password:?}");
        }
    }

    #[test]
    fn the_first_line_of_a_file_is_the_password() {
        let path = std::env::temp_dir().join(format!("plainlog-password-{}", std::process::id()));
        for (text, password) in
            [("a b\n", Some("a b")), ("x", Some("x")), ("x\r\ny", Some("x")), ("", None), ("\nx", None)]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_password(&path).ok().as_deref(), password, "{text:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(read_password(&path).unwrap_err().to_string().contains("plainlog-password"));
    }
}
