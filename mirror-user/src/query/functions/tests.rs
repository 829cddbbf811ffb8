use super::*;

fn call(name: &str, arguments: &[Value<'static>]) -> String {
    Function::named(name).unwrap().call(arguments.to_vec()).to_string()
}

fn text(text: &'static str) -> Value<'static> {
    Value::text(text)
}

#[test]
fn examples_of_the_guide_hold() {
    assert_eq!(call("ltrim", &[text("xyZxyfooxyZ"), text("xyZ")]), "fooxyZ");
    assert_eq!(call("rtrim", &[text("xyZfooxyxyZ"), text("xyZ")]), "xyZfoo");
    assert_eq!(call("trim", &[text("xyZxyfooxyxyZ"), text("xyZ")]), "foo");
    assert_eq!(call("substr", &[text("xyZfooxyZ"), Value::Integer(3), Value::Integer(3)]), "foo");
    assert_eq!(call("replace", &[text("smoke_test"), text("smoke_test"), text("Smoke")]), "Smoke");
    assert_eq!(call("toMillis", &[Value::Timestamp(1_642_195_111_000)]), "1642195111000");
}

#[test]
fn functions_of_text() {
    for (name, arguments, expected) in [
        ("trim", vec![text(" \ta ")], "a"),
        ("strlen", vec![text("äb")], "2"),
        ("toupper", vec![text("äb")], "ÄB"),
        ("tolower", vec![text("ÄB")], "äb"),
        ("substr", vec![text("äöü"), Value::Integer(1)], "öü"),
        ("substr", vec![text("äöü"), Value::Integer(9)], ""),
        ("substr", vec![text("äöü"), Value::Integer(-1)], ""),
        ("replace", vec![text("aaa"), text(""), text("x")], "aaa"),
        ("strcontains", vec![text("abc"), text("b")], "1"),
        ("strcontains", vec![text("abc"), text("B")], "0"),
        ("strcontains", vec![text("abc"), text("B"), Value::Integer(1)], "1"),
        ("startsWith", vec![text("abc"), text("ab")], "1"),
        ("endsWith", vec![text("abc"), text("ab")], "0"),
        ("concat", vec![text("a"), Value::Null, Value::Integer(1)], "a1"),
        ("isempty", vec![Value::Null], "1"),
        ("isempty", vec![text(" ")], "0"),
        ("isblank", vec![text(" ")], "1"),
        ("strlen", vec![Value::Null], ""),
        ("strlen", vec![Value::Integer(443)], "3"),
    ] {
        assert_eq!(call(name, &arguments), expected, "{name} of {arguments:?}");
    }
}

#[test]
fn functions_of_numbers() {
    for (name, arguments, expected) in [
        ("abs", vec![text("-5")], "5"),
        ("abs", vec![Value::Number(-2.5)], "2.5"),
        ("abs", vec![Value::Integer(i64::MIN)], ""),
        ("ceil", vec![Value::Number(2.1)], "3"),
        ("floor", vec![Value::Number(-2.1)], "-3"),
        ("sqrt", vec![Value::Integer(16)], "4"),
        ("sqrt", vec![Value::Integer(-1)], ""),
        ("log", vec![Value::Integer(1)], "0"),
        ("greatest", vec![text("9"), text("-"), Value::Integer(10)], "10"),
        ("least", vec![text("9"), text("-"), Value::Integer(10)], "9"),
        ("least", vec![text("-")], ""),
        ("isNumeric", vec![text("1.5")], "1"),
        ("if", vec![Value::Integer(0), text("a"), text("b")], "b"),
        ("coalesce", vec![Value::Null, text("b")], "b"),
        ("unmask", vec![text("b")], "b"),
        ("ispresent", vec![text("-")], "1"),
        ("ispresent", vec![Value::Null], "0"),
    ] {
        assert_eq!(call(name, &arguments), expected, "{name} of {arguments:?}");
    }
}

#[test]
fn functions_of_addresses() {
    for (name, arguments, expected) in [
        ("isValidIp", vec![text("2001:db8::1")], "1"),
        ("isValidIp", vec![text("10.0.0.256")], "0"),
        ("isValidIp", vec![Value::Null], "0"),
        ("isValidIpV4", vec![text("2001:db8::1")], "0"),
        ("isValidIpV6", vec![text("2001:db8::1")], "1"),
        ("isPrivateIP", vec![text("172.31.0.1")], "1"),
        ("isPrivateIP", vec![text("172.32.0.1")], "0"),
        ("isIpInSubnet", vec![text("10.1.2.3"), text("10.0.0.0/8")], "1"),
        ("isIpInSubnet", vec![text("2001:db8::1"), text("2001:db8::/32")], "1"),
        ("isIpv4InSubnet", vec![text("10.1.2.3"), text("10.1.3.0/24")], "0"),
        ("isIpv6InSubnet", vec![text("10.1.2.3"), text("10.0.0.0/8")], "0"),
    ] {
        assert_eq!(call(name, &arguments), expected, "{name} of {arguments:?}");
    }
}

#[test]
fn arithmetic_is_exact_where_it_can_be() {
    use crate::query::ast::Operator;

    for (left, operator, right, expected) in [
        (Value::Integer(7), Operator::Divide, Value::Integer(2), "3.5"),
        (Value::Integer(8), Operator::Divide, text("2"), "4"),
        (Value::Integer(7), Operator::Divide, Value::Integer(0), ""),
        (Value::Integer(7), Operator::Remainder, Value::Integer(0), ""),
        (Value::Integer(10), Operator::Remainder, Value::Integer(3), "1"),
        (Value::Integer(2), Operator::Power, Value::Integer(3), "8"),
        (Value::Integer(2), Operator::Power, Value::Integer(-1), "0.5"),
        (Value::Integer(i64::MAX), Operator::Add, Value::Integer(1), "9223372036854775808"),
        (Value::Integer(i64::MIN), Operator::Divide, Value::Integer(-1), "9223372036854775808"),
        (text("-"), Operator::Add, Value::Integer(1), ""),
    ] {
        assert_eq!(
            arithmetic(operator, &left, &right).to_string(),
            expected,
            "{left:?} {operator:?} {right:?}"
        );
    }
}

#[test]
fn every_function_has_its_entry() {
    let mut names: Vec<_> = Function::names().map(str::to_lowercase).collect();
    assert!(
        names
            .iter()
            .all(|name| Function::named(name).is_some_and(|found| found.name().to_lowercase() == *name))
    );
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(NOT_SUPPORTED.iter().all(|name| Function::named(name).is_none()));
}
