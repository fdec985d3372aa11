//! How keys and values become the bytes of records, and back.
//!
//! What plainlog stores is read with `cat`, so numbers are written as decimal text, and the keys of windows as `key@start`.

use std::{fmt::Display, str, str::FromStr};

/// A type that keys or values of topics and stores can have.
///
/// Two keys are the same where their bytes are. A type of one's own implements this in two functions, or is wrapped in
/// [`Json`].
pub trait Serde: Clone + Send + Sync + 'static {
    /// The bytes of a record's key or value.
    fn to_bytes(&self) -> Vec<u8>;

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; otherwise says why it cannot be.
    fn from_bytes(bytes: &[u8]) -> Result<Self, String>;
}

impl Serde for Vec<u8> {
    fn to_bytes(&self) -> Vec<u8> {
        self.clone()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        Ok(bytes.into())
    }
}

impl Serde for String {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().into()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        text(bytes).map(str::to_owned)
    }
}

/// Types that are written as their `Display` and read as their `FromStr`.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serde for $type {
            fn to_bytes(&self) -> Vec<u8> {
                self.to_string().into()
            }

            fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
                parse(bytes)
            }
        }
    )*};
}

as_text!(i8, i16, i32, i64, u8, u16, u32, u64, usize, f32, f64, bool, char);

/// Reads a word by its `FromStr`.
pub(super) fn parse<T: FromStr<Err: Display>>(bytes: &[u8]) -> Result<T, String> {
    let word = text(bytes)?;
    word.parse().map_err(|why| format!("{word:?}: {why}"))
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|why| why.to_string())
}

/// A value that is written as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Json<T>(pub T);

impl<T> Serde for Json<T>
where
    T: serde_core::Serialize + serde_core::de::DeserializeOwned + Clone + Send + Sync + 'static,
{
    /// What cannot be written as JSON, such as a map whose keys are no strings, is written as `null`.
    fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).unwrap_or_else(|_| b"null".into())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map(Json).map_err(|why| why.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    fn there_and_back<T: Serde + PartialEq + Debug>(value: T, text: &str) {
        assert_eq!(value.to_bytes(), text.as_bytes());
        assert_eq!(T::from_bytes(text.as_bytes()), Ok(value));
    }

    #[test]
    fn values_are_written_as_they_are_read() {
        there_and_back("héllo".to_string(), "héllo");
        there_and_back(b"bytes".to_vec(), "bytes");
        there_and_back(-12i64, "-12");
        there_and_back(2.5f64, "2.5");
        there_and_back(true, "true");
        there_and_back(Json(vec![1, 2]), "[1,2]");
    }

    #[test]
    fn what_does_not_parse_says_why() {
        assert_eq!(i64::from_bytes(b"1x"), Err("\"1x\": invalid digit found in string".into()));
        assert!(String::from_bytes(b"\xff").unwrap_err().contains("utf-8"));
        assert!(Json::<Vec<u32>>::from_bytes(b"[1,").unwrap_err().contains("EOF"));
    }
}
