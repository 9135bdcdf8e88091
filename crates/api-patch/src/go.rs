//! Values and types as Go's `fmt` prints them, for messages that clients match.

use std::fmt::Write as _;

use api_schema::Value;
use api_semantics::field::quoted;

/// `%v`: maps as `map[k:v]`, lists as `[a b]`, strings bare.
pub(crate) fn plain(value: &Value) -> String {
    let mut out = String::new();
    write_plain(value, &mut out);
    out
}

fn write_plain(value: &Value, out: &mut String) {
    match value {
        Value::Null | Value::Bytes(_) => out.push_str("<nil>"),
        Value::Bool(flag) => {
            let _ = write!(out, "{flag}");
        }
        Value::Int(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Float(number) => out.push_str(&float(*number)),
        Value::Str(text) => out.push_str(text),
        Value::List(items) => write_plain_list(items, out),
        Value::Map(map) => {
            out.push_str("map[");
            for (at, (key, value)) in map.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                let _ = write!(out, "{key}:");
                write_plain(value, out);
            }
            out.push(']');
        }
        Value::Raw(text) => match crate::json::parse(text) {
            Some(value) => write_plain(&value, out),
            None => out.push_str(text),
        },
    }
}

/// `%v` of a list.
pub(crate) fn plain_list(items: &[Value]) -> String {
    let mut out = String::new();
    write_plain_list(items, &mut out);
    out
}

fn write_plain_list(items: &[Value], out: &mut String) {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        write_plain(item, out);
    }
    out.push(']');
}

/// `%#v` of a value as decoded from JSON.
pub(crate) fn syntax(value: &Value) -> String {
    match value {
        Value::Null | Value::Bytes(_) => "interface {}(nil)".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => float(*number),
        Value::Str(text) => quoted(text),
        Value::List(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Map(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{}:{}", quoted(key), syntax(value))).collect();
            format!("map[string]interface {{}}{{{}}}", entries.join(", "))
        }
        Value::Raw(text) => crate::json::parse(text).map_or_else(|| text.to_string(), |value| syntax(&value)),
    }
}

/// `%T` of a value as decoded from JSON.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null | Value::Bytes(_) => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::Str(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) | Value::Raw(_) => "map[string]interface {}",
    }
}

/// A float as `%v` prints it: shortest digits, with an exponent below 1e-4 and from 1e6 on.
pub(crate) fn float(number: f64) -> String {
    let text = format!("{number:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let Ok(exponent) = exponent.parse::<i32>() else { return text };
    if number == 0.0 || (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_go_prints_them() {
        let value = crate::json::parse(r#"{"b":[1,"x",null],"a":{"c":true}}"#).expect("it is well-formed");
        assert_eq!(plain(&value), "map[a:map[c:true] b:[1 x <nil>]]");
        assert_eq!(
            syntax(&value),
            r#"map[string]interface {}{"a":map[string]interface {}{"c":true}, "b":[]interface {}{1, "x", interface {}(nil)}}"#
        );
        assert_eq!(float(1.5), "1.5");
        assert_eq!(float(1_234_567.0), "1.234567e+06");
        assert_eq!(float(123_456.5), "123456.5");
        assert_eq!(float(0.00001), "1e-05");
    }
}
