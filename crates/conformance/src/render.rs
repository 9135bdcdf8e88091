//! JSON for people: what fits on a line stays on one.

use serde_json::Value;

/// Widest line that is not broken up.
const WIDTH_MAX: usize = 116;

/// Prints a value with two spaces of indentation, each small object or list on one line.
pub(crate) fn pretty(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, 0, 0);
    text
}

/// Prints a value on one line.
pub(crate) fn line(value: &Value) -> String {
    let mut text = String::new();
    inline(&mut text, value);
    text
}

fn write(text: &mut String, value: &Value, indent: usize, prefix: usize) {
    let short = line(value);
    if prefix + short.chars().count() <= WIDTH_MAX {
        text.push_str(&short);
        return;
    }
    let pad = |text: &mut String, indent: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', indent));
    };
    match value {
        Value::Object(fields) => {
            text.push('{');
            for (i, (name, value)) in fields.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                pad(text, indent + 2);
                let name = Value::from(name.as_str()).to_string();
                text.push_str(&name);
                text.push_str(": ");
                write(text, value, indent + 2, indent + 4 + name.len());
            }
            pad(text, indent);
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                pad(text, indent + 2);
                write(text, item, indent + 2, indent + 2);
            }
            pad(text, indent);
            text.push(']');
        }
        _ => text.push_str(&short),
    }
}

fn inline(text: &mut String, value: &Value) {
    match value {
        Value::Object(fields) => {
            text.push('{');
            for (i, (name, value)) in fields.iter().enumerate() {
                if i > 0 {
                    text.push_str(", ");
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push_str(": ");
                inline(text, value);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push_str(", ");
                }
                inline(text, item);
            }
            text.push(']');
        }
        _ => text.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(json: &str, expect: Expect) {
        let value: Value = serde_json::from_str(json).unwrap();
        let text = pretty(&value);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        expect.assert_eq(&text);
    }

    #[test]
    fn small_values_stay_on_one_line() {
        check(r#"{"a":[1,"b"],"c":{}}"#, expect![[r#"{"a": [1, "b"], "c": {}}"#]]);
    }

    #[test]
    fn wide_values_are_broken_up_from_outside() {
        let wide = "x".repeat(100);
        check(
            &format!(r#"{{"a":["{wide}",{{"b":2}}],"c":{{}}}}"#),
            expect![[r#"
                {
                  "a": [
                    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                    {"b": 2}
                  ],
                  "c": {}
                }"#]],
        );
    }
}
