use proptest::prelude::*;

use super::*;

fn spelled(literal: &str) -> String {
    Number::of_literal(literal).unwrap().to_string()
}

fn compared(left: &str, right: &str) -> Ordering {
    let number = |literal| Number::of_literal(literal).unwrap();
    number(left).compare(number(right))
}

#[test]
fn a_whole_number_that_fits_has_the_spelling_of_an_integer() {
    for literal in ["1", "1.0", "1e0", "10e-1", "1.000"] {
        assert_eq!(spelled(literal), "1");
    }
    for literal in ["0", "-0", "-0.0", "0e99", "-0e-99", "1e-999"] {
        assert_eq!(spelled(literal), "0");
    }
    assert_eq!(spelled("-9223372036854775808"), "-9223372036854775808");
    assert_eq!(spelled("18446744073709551615"), "18446744073709551615");
    assert_eq!(spelled("1e19"), "10000000000000000000");
    assert_eq!(spelled("-1E3"), "-1000");
    // Two different integers of which binary64 has only one.
    assert_eq!(spelled("9007199254740993"), "9007199254740993");
    assert_eq!(spelled("9007199254740993.0"), "9007199254740992");
}

/// The samples of RFC 8785, appendix B, and the edges of the plain form.
#[test]
fn a_real_is_spelled_as_rfc_8785_spells_it() {
    let samples: &[(u64, &str)] = &[
        (0x0000_0000_0000_0001, "5e-324"),
        (0x8000_0000_0000_0001, "-5e-324"),
        (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
        (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
        (0x4430_0000_0000_0000, "295147905179352830000"),
        (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
        (0x44b5_2d02_c7e1_4af6, "1e+23"),
        (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
        (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
        (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
        (0x444b_1ae4_d6e2_ef50, "1e+21"),
        (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
        (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
        (0x41b3_de43_5555_5553, "333333333.3333332"),
        (0x41b3_de43_5555_5557, "333333333.33333343"),
        (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
        (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
    ];
    for (bits, spelling) in samples {
        let number = Number::of_real(f64::from_bits(*bits)).unwrap();
        assert_eq!(number.to_string(), *spelling);
    }
    assert_eq!(spelled("18446744073709551616"), "18446744073709552000");
    assert_eq!(spelled("100000000000000000000"), "100000000000000000000");
    assert_eq!(spelled("0.10"), "0.1");
    assert_eq!(spelled("-12.50e-1"), "-1.25");
    assert_eq!(spelled("15e-8"), "1.5e-7");
}

#[test]
fn what_binary64_cannot_hold_is_no_number() {
    assert_eq!(Number::of_literal("1e309"), None);
    assert_eq!(Number::of_literal("-1e309"), None);
    assert_eq!(Number::of_literal(&"9".repeat(400)), None);
    assert_eq!(Number::of_real(f64::NAN), None);
}

#[test]
fn integers_compare_exactly_and_others_as_reals() {
    assert_eq!(compared("9007199254740993", "9007199254740992"), Ordering::Greater);
    assert_eq!(compared("1", "1.0"), Ordering::Equal);
    assert_eq!(compared("0.5", "1"), Ordering::Less);
    assert_eq!(compared("-1", "18446744073709551615"), Ordering::Less);
    assert_eq!(compared("18446744073709551615", "-1"), Ordering::Greater);
    // As binary64 both are 2⁶⁴.
    assert_eq!(compared("18446744073709551615", "18446744073709551616"), Ordering::Equal);
    assert_eq!(compared("1e300", "18446744073709551615"), Ordering::Greater);
}

#[test]
fn integers_are_had_in_the_type_that_holds_them() {
    let number = |literal| Number::of_literal(literal).unwrap();
    assert_eq!(number("-1").as_i64(), Some(-1));
    assert_eq!(number("-1").as_u64(), None);
    assert_eq!(number("18446744073709551615").as_i64(), None);
    assert_eq!(number("18446744073709551615").as_u64(), Some(u64::MAX));
    assert_eq!(number("1.5").as_i64(), None);
    assert!(!number("1.5").is_whole());
    assert!(number("1e300").is_whole());
    assert!(number("7").is_whole());
}

proptest! {
    /// Every real reads back from its spelling, bit by bit, and the length told is right.
    #[test]
    fn a_spelling_reads_back(bits in any::<u64>(), integer in any::<i64>(), natural: u64) {
        let mut numbers = vec![Number::from(integer), Number::from(natural)];
        numbers.extend(Number::of_real(f64::from_bits(bits)));
        for number in numbers {
            let spelling = number.to_string();
            prop_assert_eq!(Number::of_literal(&spelling), Some(number));
            prop_assert_eq!(spelling.len(), number.length());
        }
    }

    /// The spelling is no longer than the standard library's own shortest.
    #[test]
    fn no_spelling_is_longer_than_need_be(bits in any::<u64>()) {
        if let Some(number) = Number::of_real(f64::from_bits(bits)) {
            let digits = |text: &str| {
                let mantissa = text.split('e').next().unwrap();
                let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
                digits.trim_matches('0').len()
            };
            let shortest = format!("{:e}", f64::from_bits(bits));
            if number.as_i64().is_none() && number.as_u64().is_none() {
                prop_assert_eq!(digits(&number.to_string()), digits(&shortest));
            }
        }
    }
}
