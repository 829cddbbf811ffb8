//! Functions and operators of numbers.

use std::cmp::Ordering;

use super::{super::ast::Operator, Function, Numeric, Value};

/// A function of one number.
pub(super) fn unary<'a>(function: Function, value: &Value<'_>) -> Value<'a> {
    let Some(numeric) = value.number() else { return Value::Null };
    match (function, numeric) {
        (Function::Abs, Numeric::Integer(integer)) => {
            integer.checked_abs().map_or(Value::Null, Value::Integer)
        }
        (Function::Ceil | Function::Floor, Numeric::Integer(integer)) => Value::Integer(integer),
        (Function::Abs, Numeric::Float(float)) => Numeric::Float(float.abs()).into(),
        (Function::Ceil, Numeric::Float(float)) => Numeric::Float(float.ceil()).into(),
        (Function::Floor, Numeric::Float(float)) => Numeric::Float(float.floor()).into(),
        (Function::Log, numeric) => Numeric::Float(numeric.float().ln()).into(),
        (_, numeric) => Numeric::Float(numeric.float().sqrt()).into(),
    }
}

/// The largest or smallest of the numbers among values.
pub(super) fn extreme<'a>(
    function: Function,
    first: Value<'a>,
    others: impl Iterator<Item = Value<'a>>,
) -> Value<'a> {
    let wanted = if function == Function::Greatest { Ordering::Greater } else { Ordering::Less };
    let numbers = [first].into_iter().chain(others).filter_map(|value| Some((value.number()?, value)));
    let best = numbers.reduce(|best, next| if next.0.total_cmp(best.0) == wanted { next } else { best });
    best.map_or(Value::Null, |(_, value)| value)
}

/// An operator between values; [`Value::Null`] if one is no number, or the result is none.
pub(in super::super) fn arithmetic<'a>(operator: Operator, left: &Value<'_>, right: &Value<'_>) -> Value<'a> {
    let (Some(left), Some(right)) = (left.number(), right.number()) else { return Value::Null };
    if let (Numeric::Integer(left), Numeric::Integer(right)) = (left, right) {
        let exact = match operator {
            Operator::Add => left.checked_add(right),
            Operator::Subtract => left.checked_sub(right),
            Operator::Multiply => left.checked_mul(right),
            Operator::Divide => {
                left.checked_rem(right).filter(|&rest| rest == 0).and(left.checked_div(right))
            }
            Operator::Remainder => left.checked_rem(right),
            Operator::Power => u32::try_from(right).ok().and_then(|right| left.checked_pow(right)),
        };
        if let Some(exact) = exact {
            return Value::Integer(exact);
        }
    }
    let (left, right) = (left.float(), right.float());
    let float = match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        Operator::Remainder => left % right,
        Operator::Power => left.powf(right),
    };
    Numeric::Float(float).into()
}
