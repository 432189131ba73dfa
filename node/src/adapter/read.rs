//! What stands in a field of an answer?
//!
//! Fields are named by JSON pointers (RFC 6901). Old systems write one thing in many ways: a word may
//! come as a string, a number or a truth value, a number as a string.

use serde_json::Value;

/// The field as a word; `None`: it is not there, or it is no single value.
pub(super) fn word(answer: &Value, pointer: &str) -> Option<String> {
    match answer.pointer(pointer)? {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The field as a whole number.
pub(super) fn number(answer: &Value, pointer: &str) -> Option<i64> {
    match answer.pointer(pointer)? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_read_in_many_ways() {
        let answer = serde_json::json!({
            "a": {"text": " 绿 ", "number": 0, "truth": true, "none": null, "list": [1], "digits": "17"}
        });
        let check = |field: &str, expected: Option<&str>, number_expected: Option<i64>| {
            let pointer = format!("/a/{field}");
            assert_eq!(word(&answer, &pointer).as_deref(), expected, "{field}");
            assert_eq!(number(&answer, &pointer), number_expected, "{field}");
        };
        check("text", Some("绿"), None);
        check("number", Some("0"), Some(0));
        check("truth", Some("true"), None);
        check("none", None, None);
        check("list", None, None);
        check("digits", Some("17"), Some(17));
        check("missing", None, None);
    }
}
