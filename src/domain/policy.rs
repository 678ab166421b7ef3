//! Which automatic BEs stay.

use crate::error::{Error, Result};
use serde::Deserialize;

/// An amount of space: so much, or a part of all there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// Of the store's size.
    Percent(u8),
}

impl Amount {
    /// `20G`, `800M`, `10%`.
    pub fn parse(text: &str) -> Result<Amount> {
        let Some(number) = text.strip_suffix('%') else { return bytes(text).map(Amount::Bytes) };
        match number.parse::<u8>() {
            Ok(percent @ 0..=100) => Ok(Amount::Percent(percent)),
            _ => Err(Error::usage(format!("{text:?} is no part of the whole")).hint("write it as 10%")),
        }
    }

    /// In bytes, of a store of this size.
    pub fn of(self, size: u64) -> u64 {
        match self {
            Amount::Bytes(bytes) => bytes,
            Amount::Percent(percent) => size / 100 * u64::from(percent),
        }
    }
}

impl TryFrom<String> for Amount {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Amount, String> {
        Amount::parse(&text).map_err(|e| e.message)
    }
}

/// `4G`, `800M`, `1048576`: bytes, with binary multiples.
pub fn bytes(text: &str) -> Result<u64> {
    let bad = || Error::usage(format!("{text:?} is no size")).hint("write it as 4G, 800M or a number of bytes");
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match text[digits.len()..].to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B') {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1u64 << 40,
        _ => return Err(bad()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|n| *n > 0).ok_or_else(bad)?;
    if bytes > 1 << 56 { Err(bad()) } else { Ok(bytes) }
}

/// Bytes as people read them.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "K", "M", "G"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes}B") } else { format!("{value:.1}{unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1}T")
}

/// Which automatic BEs stay: the newest, the young, and not too many where space is short.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The newest ones, so many.
    pub keep: usize,
    /// Those that are no older than this, in days.
    pub keep_days: u32,
    /// Unless less than this is free: then the oldest of them go too, but never the newest of all.
    pub keep_free: Option<Amount>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { keep: 10, keep_days: 0, keep_free: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes("4G").unwrap(), 4 << 30);
        assert_eq!(bytes("800MiB").unwrap(), 800 << 20);
        assert_eq!(bytes("4096").unwrap(), 4096);
        for bad in ["", "G", "-1", "4X", "1.5G", "99999999999T", "0"] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn amounts() {
        assert_eq!(Amount::parse("10%").unwrap().of(4000), 400);
        assert_eq!(Amount::parse("1K").unwrap().of(4000), 1024);
        for bad in ["%", "101%", "-1%", "1.5%", "10 %", ""] {
            assert!(Amount::parse(bad).is_err(), "{bad:?}");
        }
    }
}
