use proptest::prelude::*;

use super::*;

fn float(text: &str) -> f64 {
    text.parse().unwrap()
}

#[test]
fn decimal_digits_are_numbers_and_nothing_else_is() {
    for (text, expected) in [
        ("0", Numeric::Integer(0)),
        ("-17", Numeric::Integer(-17)),
        ("+080", Numeric::Integer(80)),
        ("9223372036854775807", Numeric::Integer(i64::MAX)),
        ("9223372036854775808", Numeric::Float(float("9223372036854775808"))),
        ("-2.50", Numeric::Float(-2.5)),
    ] {
        assert_eq!(Numeric::read(text), Some(expected), "{text}");
    }
    for text in
        ["", "-", "+", ".5", "5.", "1e3", "inf", "NaN", "1.2.3", "10.0.0.1", "0x10", " 1", "1 ", "--1"]
    {
        assert_eq!(Numeric::read(text), None, "{text:?}");
    }
}

#[test]
fn values_compare_as_numbers_if_both_are() {
    let compare = |left: &Value<'_>, right: &Value<'_>| left.compare(right);
    assert_eq!(compare(&Value::text("80"), &Value::Integer(80)), Some(Ordering::Equal));
    assert_eq!(compare(&Value::text("9"), &Value::text("10")), Some(Ordering::Less));
    assert_eq!(compare(&Value::text("9a"), &Value::text("10a")), Some(Ordering::Greater));
    assert_eq!(compare(&Value::text("-"), &Value::Integer(0)), Some(Ordering::Less));
    assert_eq!(compare(&Value::Null, &Value::Integer(0)), None);
    assert_eq!(compare(&Value::Number(-0.0), &Value::Integer(0)), Some(Ordering::Equal));
}

#[test]
fn results_are_printed() {
    for (value, expected) in [
        (Value::Null, ""),
        (Value::Integer(-5), "-5"),
        (Value::Number(2.5), "2.5"),
        (Value::Number(1.0 / 3.0), "0.3333"),
        (Value::Number(-0.000_01), "0"),
        (Value::Number(1e20), "100000000000000000000"),
        (Value::Timestamp(1_795_842_000_007), "2026-11-28 05:00:00.007"),
        (Value::Timestamp(i64::MAX), "9223372036854775807"),
    ] {
        assert_eq!(value.to_string(), expected, "{value:?}");
    }
}

#[test]
fn whole_numbers_are_integers_and_no_number_is_nothing() {
    assert_eq!(Value::from(Numeric::Float(5.0)), Value::Integer(5));
    assert_eq!(Value::from(Numeric::Float(f64::INFINITY)), Value::Null);
    assert_eq!(Value::from(Numeric::Float(f64::NAN)), Value::Null);
}

proptest! {
    #[test]
    fn what_an_integer_prints_reads_as_it(integer in any::<i64>()) {
        let read = Numeric::read(&integer.to_string());
        // The smallest has no positive counterpart, and reads as a float.
        prop_assert_eq!(read, Some(Numeric::Integer(integer)).filter(|_| integer != i64::MIN).or(read));
    }
}
