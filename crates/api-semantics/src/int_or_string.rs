//! Numbers that may be given as a percentage: IntOrString.

use api_schema::Value;

use crate::field::{Error, ErrorList, Path, quoted};
use crate::names;

/// The whole number that a value stands for, a percentage being taken of `total`; the error is upstream's text.
pub fn scaled(value: &Value, total: i64, round_up: bool) -> Result<i64, String> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::Str(text) => {
            let Some(number) = text.strip_suffix('%') else {
                return Err("invalid value for IntOrString: invalid type: string is not a percentage".into());
            };
            let percent: i64 = number.parse().map_err(|_| {
                format!(
                    "invalid value for IntOrString: invalid value {}: strconv.Atoi: parsing {}: invalid syntax",
                    quoted(text),
                    quoted(number)
                )
            })?;
            let product = i128::from(percent) * i128::from(total);
            let floor = product.div_euclid(100);
            let number = if round_up && product.rem_euclid(100) != 0 { floor + 1 } else { floor };
            Ok(number.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
        }
        _ => Err("nil value for IntOrString".into()),
    }
}

/// The number before the `%` of a good percentage.
pub fn percent(value: Option<&Value>) -> Option<i64> {
    let text = value?.as_str()?;
    if !names::percent(text).is_empty() {
        return None;
    }
    text.strip_suffix('%')?.parse().ok()
}

/// The number that a value is; 0 for a percentage or nothing.
pub fn int(value: Option<&Value>) -> i64 {
    match value {
        Some(Value::Int(number)) => *number,
        Some(Value::Str(text)) => text.parse().unwrap_or(0),
        _ => 0,
    }
}

/// Checks that a value is a number from 0 up, or a percentage.
pub fn validate_positive(value: &Value, path: &Path<'_>) -> ErrorList {
    match value {
        Value::Str(text) => {
            names::percent(text).into_iter().map(|message| Error::invalid(path, text.clone(), message)).collect()
        }
        Value::Int(number) if *number < 0 => vec![Error::invalid(path, *number, names::NEGATIVE)],
        _ => ErrorList::new(),
    }
}

/// Checks that a percentage is no more than 100%.
pub fn validate_not_more_than_100_percent(value: &Value, path: &Path<'_>) -> ErrorList {
    match percent(Some(value)) {
        Some(percent) if percent > 100 => {
            vec![Error::invalid(path, value.clone(), "must not be greater than 100%")]
        }
        _ => ErrorList::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_taken_and_rounded_as_asked() {
        for (value, total, up, expect) in [
            (Value::Int(3), 10, false, Ok(3)),
            (Value::from("25%"), 10, false, Ok(2)),
            (Value::from("25%"), 10, true, Ok(3)),
            (Value::from("100%"), 7, true, Ok(7)),
            (Value::from("0%"), 7, true, Ok(0)),
            (
                Value::from("25"),
                7,
                true,
                Err("invalid value for IntOrString: invalid type: string is not a percentage".to_owned()),
            ),
        ] {
            assert_eq!(scaled(&value, total, up), expect);
        }
    }
}
