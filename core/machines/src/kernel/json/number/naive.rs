//! Comparison of numbers over another JSON library: what tests hold the evaluator against.

use std::cmp::Ordering;

/// Compares by value: two integers exactly, else both as binary64 (K264).
pub(crate) fn compare(left: &serde_json::Number, right: &serde_json::Number) -> Ordering {
    let whole = |number: &serde_json::Number| {
        let signed = number.as_i64().map(i128::from);
        signed.or_else(|| number.as_u64().map(i128::from))
    };
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => {
            let real = |number: &serde_json::Number| number.as_f64().unwrap();
            real(left).partial_cmp(&real(right)).unwrap()
        }
    }
}

/// Says whether a number is whole.
pub(crate) fn is_whole(number: &serde_json::Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().unwrap().fract() == 0.0
}
