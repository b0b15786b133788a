//! Values and keys.

use std::fmt;

/// Value of a key, or the key itself. Values of different kinds differ: the number 1 is not the text "1".
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Absence of a value: the key does not exist.
    #[default]
    Nil,
    /// Integer. In a file it has 64 bits, signed or unsigned.
    Int(i128),
    /// Text, or any other bytes.
    Text(Vec<u8>),
    /// Any other JSON value, in `serde_json`'s compact form, which is compared as text.
    Json(String),
}

impl Value {
    /// Returns the text that an append to this value extends: a text itself, the empty text for nil, a number in
    /// decimal, and the JSON form of any other value.
    pub(crate) fn as_text(&self) -> Vec<u8> {
        match self {
            Self::Nil => Vec::new(),
            Self::Int(number) => number.to_string().into_bytes(),
            Self::Text(text) => text.clone(),
            Self::Json(json) => json.clone().into_bytes(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{:?}", String::from_utf8_lossy(text)),
            Self::Json(json) => f.write_str(json),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into_bytes())
    }
}

impl From<&[u8]> for Value {
    fn from(text: &[u8]) -> Self {
        Self::Text(text.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(text: Vec<u8>) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(number.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number.into())
    }
}

/// Converts `None` to [`Value::Nil`].
impl<V: Into<Value>> From<Option<V>> for Value {
    fn from(value: Option<V>) -> Self {
        value.map_or(Self::Nil, Into::into)
    }
}
