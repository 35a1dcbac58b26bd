//! Numbers of JSON: exact where they are whole, else the nearest binary64 (K9, K24, K264).
//!
//! This is the one file of the kernel with floating point: values are compared and spelled, and
//! never computed with. A number is one of
//!
//! | form    | which numbers                                       | spelled                |
//! |---------|-----------------------------------------------------|------------------------|
//! | integer | whole, and fits `i64` or `u64`                      | its digits: `-7`       |
//! | real    | any other: the binary64 nearest to what was written | as RFC 8785, see below |
//!
//! so that every value has one form and one spelling: `1`, `1.0`, `10e-1` are the integer 1, and
//! `-0` and `-0.0` are the integer 0. What is written without point and exponent and fits an
//! integer is taken exactly, with all its digits; all else is first rounded to the nearest binary64
//! (ties to even), and then becomes an integer if it is whole and fits.
//!
//! A real is spelled by the fewest digits that read back as the same binary64, placed as
//! ECMAScript's `Number.prototype.toString` and RFC 8785 place them: plain if the point then stands
//! within 21 digits and after at most 6 zeros (`0.000001`, `100000000000000000000`), else with an
//! exponent that has a sign (`1e-7`, `1.5e+300`).

#[cfg(test)]
pub(crate) mod naive;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;

/// A JSON number: finite, and equal to another exactly if the spelling is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Number(Form);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    /// Whole, and fits.
    Integer(i64),
    /// Whole, above `i64::MAX`, and fits.
    Natural(u64),
    /// The bits of any other finite binary64.
    Real(u64),
}

/// 2⁶³, the first that `i64` does not hold.
const ABOVE_INTEGER: f64 = 9_223_372_036_854_775_808.0;
/// 2⁶⁴, the first that `u64` does not hold.
const ABOVE_NATURAL: f64 = 18_446_744_073_709_551_616.0;

impl Number {
    /// Reads a literal that has the form of a JSON number. `None` if it is too large.
    pub(super) fn of_literal(literal: &str) -> Option<Self> {
        let whole = !literal.contains(['.', 'e', 'E']);
        if whole && let Ok(integer) = literal.parse::<i64>() {
            return Some(Self::from(integer));
        }
        if whole && let Ok(natural) = literal.parse::<u64>() {
            return Some(Self::from(natural));
        }
        literal.parse::<f64>().ok().and_then(Self::of_real)
    }

    /// Makes the number of `real`: an integer if it is whole and fits.
    #[expect(clippy::cast_possible_truncation, reason = "the value is whole and fits")]
    fn of_real(real: f64) -> Option<Self> {
        if !real.is_finite() {
            return None;
        }
        let whole = real.trunc() == real;
        Some(match real {
            _ if whole && (-ABOVE_INTEGER..ABOVE_INTEGER).contains(&real) => {
                Self(Form::Integer(real as i64))
            }
            _ if whole && (ABOVE_INTEGER..ABOVE_NATURAL).contains(&real) => {
                Self(Form::Natural(real as u64))
            }
            _ => Self(Form::Real(real.to_bits())),
        })
    }

    fn real(self) -> f64 {
        match self.0 {
            Form::Integer(integer) => integer as f64,
            Form::Natural(natural) => natural as f64,
            Form::Real(bits) => f64::from_bits(bits),
        }
    }

    /// Returns it as a signed integer, if it is one.
    #[must_use]
    pub const fn as_i64(self) -> Option<i64> {
        match self.0 {
            Form::Integer(integer) => Some(integer),
            Form::Natural(_) | Form::Real(_) => None,
        }
    }

    /// Returns it as an unsigned integer, if it is one.
    #[must_use]
    pub fn as_u64(self) -> Option<u64> {
        match self.0 {
            Form::Integer(integer) => u64::try_from(integer).ok(),
            Form::Natural(natural) => Some(natural),
            Form::Real(_) => None,
        }
    }

    /// Says whether it is whole, however large.
    #[must_use]
    pub fn is_whole(self) -> bool {
        match self.0 {
            Form::Integer(_) | Form::Natural(_) => true,
            Form::Real(bits) => f64::from_bits(bits).fract() == 0.0,
        }
    }

    /// Compares by value: two integers exactly, else both as binary64 (K264).
    ///
    /// So an integer and a real are equal if they are as binary64: the integer 2⁶⁴ − 1 and the real
    /// 2⁶⁴ are. Numbers that are spelled the same are equal always.
    #[must_use]
    pub fn compare(self, other: Self) -> Ordering {
        match (self.0, other.0) {
            (Form::Integer(left), Form::Integer(right)) => left.cmp(&right),
            (Form::Natural(left), Form::Natural(right)) => left.cmp(&right),
            (Form::Integer(_), Form::Natural(_)) => Ordering::Less,
            (Form::Natural(_), Form::Integer(_)) => Ordering::Greater,
            (Form::Real(_), _) | (_, Form::Real(_)) => {
                self.real().partial_cmp(&other.real()).expect("numbers are finite")
            }
        }
    }

    /// Returns how many bytes its spelling has.
    pub(super) fn length(self) -> usize {
        let digits = |natural: u64| natural.checked_ilog10().map_or(1, |log| log as usize + 1);
        match self.0 {
            Form::Integer(integer) => usize::from(integer < 0) + digits(integer.unsigned_abs()),
            Form::Natural(natural) => digits(natural),
            Form::Real(_) => self.to_string().len(),
        }
    }
}

impl From<i64> for Number {
    fn from(integer: i64) -> Self {
        Self(Form::Integer(integer))
    }
}

impl From<u64> for Number {
    fn from(natural: u64) -> Self {
        match i64::try_from(natural) {
            Ok(integer) => Self(Form::Integer(integer)),
            Err(_) => Self(Form::Natural(natural)),
        }
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Form::Integer(integer) => write!(f, "{integer}"),
            Form::Natural(natural) => write!(f, "{natural}"),
            Form::Real(bits) => spell(f64::from_bits(bits), f),
        }
    }
}

/// Returns the fewest digits that read back as `real`, as `d.ddde-7`. Of several with so few the
/// nearest, and of two as near the even one, which the standard library does not promise.
fn shortest(real: f64) -> String {
    let short = format!("{real:e}");
    let places = short.find('e').expect("it has an exponent").saturating_sub("d.".len());
    let rounded = format!("{real:.places$e}");
    match rounded.parse() == Ok(real) {
        true => rounded,
        false => short,
    }
}

/// Spells a real as RFC 8785 does.
fn spell(real: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let short = shortest(real.abs());
    let (mantissa, exponent) = short.split_once('e').expect("it has an exponent");
    let exponent: i32 = exponent.parse().expect("it is a small integer");
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    if real.is_sign_negative() {
        f.write_str("-")?;
    }
    // The point stands after so many digits; a binary64 has at most 17 of them.
    let point = exponent + 1;
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let place = usize::try_from(point).unwrap_or(0);
    match point {
        1..=21 if place >= digits.len() => {
            write!(f, "{digits}{}", "0".repeat(place - digits.len()))
        }
        1..=21 => write!(f, "{}.{}", &digits[..place], &digits[place..]),
        -5..=0 => write!(f, "0.{}{digits}", zeros(-point)),
        _ if digits.len() == 1 => write!(f, "{digits}e{exponent:+}"),
        _ => write!(f, "{}.{}e{exponent:+}", &digits[..1], &digits[1..]),
    }
}
