use proptest::prelude::*;

use super::*;

#[test]
fn the_documented_order_holds() {
    let ascending = [
        "!",
        "#",
        "*%04",
        "0#",
        "5A",
        "111A",
        "2345_",
        "@",
        "@_",
        "A",
        "A9876fghj",
        "a12345hfh",
        "0",
        "01",
        "1",
        "2",
        "3",
    ];
    let mut sorted: Vec<_> = ascending.into_iter().rev().map(Value::text).collect();
    sorted.sort_by(natural);
    // 01 and 1 are one number, so their order is that in which they were.
    let numbers = sorted.split_off(12);
    assert_eq!(sorted, ascending[..12].iter().copied().map(Value::text).collect::<Vec<_>>());
    assert_eq!(numbers, ["0", "1", "01", "2", "3"].map(Value::text));
}

#[test]
fn what_is_missing_comes_first() {
    let mut values = [Value::Integer(1), Value::text(""), Value::Null, Value::text("-")];
    values.sort_by(natural);
    assert_eq!(values, [Value::Null, Value::text(""), Value::text("-"), Value::Integer(1)]);
}

proptest! {
    #[test]
    fn the_order_is_one(texts in prop::collection::vec("[0-9a.-]{0,5}", 3)) {
        let [a, b, c] = [0, 1, 2].map(|index| Value::text(&texts[index]));
        prop_assert_eq!(natural(&a, &b), natural(&b, &a).reverse());
        if natural(&a, &b).is_le() && natural(&b, &c).is_le() {
            prop_assert!(natural(&a, &c).is_le());
        }
    }
}
