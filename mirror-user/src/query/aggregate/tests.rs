use super::*;

fn of(name: &str, values: &[Value<'_>]) -> Value<'static> {
    let mut state = State::new(Aggregate::named(name).unwrap(), 90.0);
    for (time, value) in (0..).zip(values) {
        // Later ones first.
        state.add(value, &Value::Timestamp(1000 - time));
    }
    state.finish()
}

#[test]
fn what_is_no_number_is_left_out_of_aggregates_of_numbers() {
    let values = [Value::text("5"), Value::text("-"), Value::Null, Value::Integer(7), Value::text("-3")];
    for (name, expected) in [
        ("sum", "9"),
        ("avg", "3"),
        ("min", "-3"),
        ("max", "7"),
        ("median", "5"),
        ("pct", "7"),
        ("stddev", "4.3205"),
        ("count", "4"),
        ("count_distinct", "4"),
        ("earliest", "-3"),
        ("latest", "5"),
        ("sortsFirst", "-"),
        ("sortsLast", "7"),
    ] {
        assert_eq!(of(name, &values).to_string(), expected, "{name}");
    }
}

#[test]
fn of_nothing_there_is_nothing_but_a_count() {
    for name in Aggregate::names() {
        let expected = if name.starts_with("count") { Value::Integer(0) } else { Value::Null };
        assert_eq!(of(name, &[Value::Null]), expected, "{name}");
    }
}

#[test]
fn a_sum_beyond_64_bits_goes_on_as_a_float() {
    assert_eq!(
        of("sum", &[Value::Integer(i64::MAX), Value::Integer(i64::MAX)]).to_string(),
        "18446744073709551616"
    );
    assert_eq!(of("sum", &[Value::Integer(1), Value::Number(0.5)]), Value::Number(1.5));
}

#[test]
fn times_remain_times() {
    assert_eq!(of("max", &[Value::Timestamp(5), Value::Timestamp(9)]), Value::Timestamp(9));
}

#[test]
fn numbers_of_text_and_of_parquet_are_one() {
    assert_eq!(of("count_distinct", &[Value::text("443"), Value::Integer(443)]), Value::Integer(1));
}

#[test]
fn growth_is_reported() {
    let mut state = State::new(Aggregate::CountDistinct, 0.0);
    assert!(state.add(&Value::text("abc"), &Value::Null) >= 3);
    assert_eq!(state.add(&Value::text("abc"), &Value::Null), 0);
    let mut state = State::new(Aggregate::Median, 0.0);
    assert!(state.add(&Value::Integer(1), &Value::Null) >= 8);
}
