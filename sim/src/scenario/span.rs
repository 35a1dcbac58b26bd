//! Spans of time, ranges and shares as scenario files write them.

/// The longest span, 36 years: sums of a few spans fit a moment.
const SPAN_MAX: u64 = 1 << 60;

/// Parses a span such as `250ms`, `10s` or `1h30m`, in nanoseconds.
///
/// # Errors
///
/// What would be right.
pub fn span(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("{text:?} is no span of time; write it like \"250ms\", \"10s\" or \"1h30m\"");
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let count: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit());
        let unit_end = unit_end.map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000_u64,
            _ => return Err(wrong()),
        };
        sum = count.checked_mul(unit).and_then(|span| sum.checked_add(span)).ok_or_else(wrong)?;
        rest = &rest[unit_end..];
    }
    if text.is_empty() || sum > SPAN_MAX { Err(wrong()) } else { Ok(sum) }
}

/// Parses a signed span such as `-3s`, in nanoseconds.
///
/// # Errors
///
/// What would be right.
pub fn signed(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let size = i64::try_from(span(digits)?).map_err(|_| format!("{text:?} is too long"))?;
    Ok(if negative { -size } else { size })
}

/// Parses `5ms` or `1ms..20ms` as the least and what can be added to it.
///
/// # Errors
///
/// What would be right.
pub fn range(text: &str) -> Result<(u64, u64), String> {
    match text.split_once("..") {
        None => Ok((span(text)?, 0)),
        Some((least, most)) => {
            let (least, most) = (span(least)?, span(most)?);
            let more = most.checked_sub(least);
            let more = more.ok_or_else(|| format!("{text:?} ends before it begins"))?;
            Ok((least, more))
        }
    }
}

/// Turns a share between 0 and 1 into millionths.
///
/// # Errors
///
/// What would be right.
pub fn share(share: f64) -> Result<u32, String> {
    if !(0.0..=1.0).contains(&share) {
        return Err(format!("{share} is no share; it must be between 0 and 1"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to a million")]
    Ok((share * 1_000_000.0).round() as u32)
}

/// Writes a span so that [`span`] reads it.
#[must_use]
pub fn write(nanos: u64) -> String {
    let units = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ];
    let fits = units.iter().find(|(unit, _)| nanos > 0 && nanos.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{nanos}ns"), |(unit, name)| format!("{}{name}", nanos / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        assert_eq!(span("250ms"), Ok(250_000_000));
        assert_eq!(span("1h30m"), Ok(5_400_000_000_000));
        assert_eq!(signed("-3s"), Ok(-3_000_000_000));
        assert_eq!(range("1ms..20ms"), Ok((1_000_000, 19_000_000)));
        for nanos in [0, 1, 1_500, 90_000_000_000, 3_600_000_000_000] {
            assert_eq!(span(&write(nanos)), Ok(nanos));
        }
        for wrong in ["", "5", "s", "5 s", "5d", "-5s", "99999999999h"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert!(range("5s..1s").is_err());
        assert!(share(1.5).is_err() && share(-0.1).is_err() && share(f64::NAN).is_err());
    }
}
