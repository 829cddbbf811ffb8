//! The order of `sort`, as
//! [CloudWatch documents it](https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax-Sort.html).

use std::cmp::Ordering;

use super::value::Value;

/// Ascending order: what is no number before all numbers; text by chunks of digits, which compare by length
/// and then by value, and of others, which compare by Unicode. What is missing comes first; that is
/// not documented.
pub(super) fn natural(left: &Value<'_>, right: &Value<'_>) -> Ordering {
    match (left.number(), right.number()) {
        (Some(left), Some(right)) => left.total_cmp(right),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => match (left, right) {
            (Value::Text(left), Value::Text(right)) => text(left, right),
            (left, right) => (*left != Value::Null).cmp(&(*right != Value::Null)),
        },
    }
}

/// Byte by byte, which for UTF-8 is the order of Unicode, but digits in runs.
fn text(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        let (ours, theirs) = (digits(left), digits(right));
        let order = if ours.is_empty() || theirs.is_empty() {
            match (left.split_first(), right.split_first()) {
                (Some((our, our_rest)), Some((their, their_rest))) => {
                    (left, right) = (our_rest, their_rest);
                    our.cmp(their)
                }
                _ => return left.len().cmp(&right.len()),
            }
        } else {
            (left, right) = (&left[ours.len()..], &right[theirs.len()..]);
            ours.len().cmp(&theirs.len()).then_with(|| ours.cmp(theirs))
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// The digits that a text begins with.
fn digits(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests;
