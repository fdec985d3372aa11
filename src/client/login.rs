//! Files with passwords.

use super::Error;
use std::{fs::File, io::Read, path::Path};

/// The largest file that is read for a password.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The password in a file: its first line.
pub fn read_password(path: &Path) -> Result<String, Error> {
    let told = |why: &dyn std::fmt::Display| Error::Invalid(format!("{}: {why}", path.display()));
    let mut text = String::new();
    let file = File::open(path).map_err(|error| told(&error))?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| told(&error))?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() {
        return Err(told(&"its first line is the password, and is empty"));
    }
    Ok(password.into())
}
