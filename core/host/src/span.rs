//! Durations, numbers and sizes as people write them: `200ms`, `1h`, `16`, `64KiB`.
//!
//! Each may come as text, too: flags and the environment have nothing else.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// The longest duration that makes sense anywhere, so that sums of some cannot overflow (C108).
const SPAN_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

/// A duration with its unit, a year at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A number of bytes, plain or with a unit: `4096`, `64KiB`, `16 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u32);

/// A number of something: `16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u32);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, like \"200ms\" or \"1h\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                match humantime::parse_duration(text).map_err(|_| wrong())? {
                    span if span > SPAN_MAX => {
                        Err(E::custom(format!("\"{text}\" is too long; at most 365days")))
                    }
                    span => Ok(Span(span)),
                }
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number below 2^32, like 16")
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Count, E> {
                u32::try_from(count)
                    .map(Count)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(count), &self))
            }

            fn visit_i64<E: Error>(self, count: i64) -> Result<Count, E> {
                u32::try_from(count)
                    .map(Count)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(count), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Count, E> {
                text.parse()
                    .map(Count)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes below 4 GiB, like 4096, \"64KiB\" or \"16MiB\"")
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Bytes, E> {
                u32::try_from(count)
                    .map(Bytes)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(count), &self))
            }

            fn visit_i64<E: Error>(self, count: i64) -> Result<Bytes, E> {
                u32::try_from(count)
                    .map(Bytes)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(count), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                parse_bytes(text)
                    .map(Bytes)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

fn parse_bytes(text: &str) -> Option<u32> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let count: u32 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    count.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_bounds() {
        assert_eq!(parse_bytes("64KiB"), Some(65_536));
        assert_eq!(parse_bytes("16 MiB"), Some(16 << 20));
        assert_eq!(parse_bytes("4096"), Some(4_096));
        for wrong in ["", "KiB", "1KB", "-1", "4GiB", "1.5MiB"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_duration_without_a_unit_is_refused() {
        let span = |text: &str| serde_json::from_str::<Span>(text);
        assert_eq!(span("\"1s 500ms\"").unwrap().0, Duration::from_millis(1_500));
        for wrong in ["\"200\"", "200", "\"soon\"", "\"\""] {
            let error = span(wrong).expect_err(wrong).to_string();
            assert!(error.contains("like \"200ms\""), "{error}");
        }
    }
}
