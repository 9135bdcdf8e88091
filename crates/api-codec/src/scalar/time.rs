//! Times: RFC 3339 texts as Go's `time.Parse` takes them, and their protobuf form.

use api_schema::{SmolStr, Value};

/// The layout of meta/v1 Time.
pub(crate) const RFC3339: &str = "2006-01-02T15:04:05Z07:00";
/// The layout of meta/v1 MicroTime.
pub(crate) const RFC3339_MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";

/// The first instant of year 1: Go's zero time.
const ZERO_SECONDS: i64 = -62_135_596_800;

/// An instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time {
    /// Since 1970.
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

impl Time {
    /// Reads a text in one of the two layouts; the error is Go's.
    pub(crate) fn parse(text: &str, layout: &'static str) -> Result<Self, String> {
        match quick(text.as_bytes()) {
            Some(seconds) if layout == RFC3339 => Ok(Self { seconds, nanos: 0 }),
            _ => Parser { text, layout, rest: text }.run(),
        }
    }

    /// Reads what a tree has: also years that RFC 3339 has no digits for, as protobuf brings them.
    pub(crate) fn of_tree(text: &str, layout: &'static str) -> Result<Self, String> {
        Self::parse(text, layout).or_else(|error| distant(text).ok_or(error))
    }

    pub(crate) fn is_zero(self) -> bool {
        self == Self { seconds: ZERO_SECONDS, nanos: 0 }
    }

    /// As the tree has it: seconds in UTC; the zero time is null.
    pub(crate) fn to_value(self) -> Value {
        if self.is_zero() {
            return Value::Null;
        }
        let mut text = Text::default();
        self.write(&mut text);
        Value::Str(SmolStr::new(text.as_str()))
    }

    /// As the tree has it: microseconds in UTC; the zero time is null.
    pub(crate) fn to_micro_value(self) -> Value {
        if self.is_zero() {
            return Value::Null;
        }
        let mut text = Text::default();
        self.write_micro(&mut text);
        Value::Str(SmolStr::new(text.as_str()))
    }

    pub(crate) fn write(self, out: &mut Text) {
        self.write_date(out);
        out.push(b'Z');
    }

    pub(crate) fn write_micro(self, out: &mut Text) {
        self.write_date(out);
        out.push(b'.');
        out.digits(self.nanos / 1000, 6);
        out.push(b'Z');
    }

    fn write_date(self, out: &mut Text) {
        let (year, month, day) = civil(self.seconds.div_euclid(86_400));
        let second = self.seconds.rem_euclid(86_400) as u32;
        if year < 0 {
            out.push(b'-');
        }
        let year = u32::try_from(year.unsigned_abs()).unwrap_or(u32::MAX);
        let width = if year < 10_000 { 4 } else { year.ilog10() as usize + 1 };
        out.digits(year, width);
        out.push(b'-');
        out.digits(month, 2);
        out.push(b'-');
        out.digits(day, 2);
        out.push(b'T');
        out.digits(second / 3600, 2);
        out.push(b':');
        out.digits(second / 60 % 60, 2);
        out.push(b':');
        out.digits(second % 60, 2);
    }
}

/// A short text without allocation.
#[derive(Default)]
pub(crate) struct Text {
    bytes: [u8; 32],
    length: usize,
}

impl Text {
    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn digits(&mut self, mut number: u32, width: usize) {
        for at in (self.length..self.length + width).rev() {
            self.bytes[at] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.length += width;
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// The canonical form of the API itself, `2006-01-02T15:04:05Z`, without detours.
fn quick(text: &[u8]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', i1, i2, b':', s1, s2, b'Z'] = text else {
        return None;
    };
    let two = |a: &u8, b: &u8| {
        let (a, b) = (a.wrapping_sub(b'0'), b.wrapping_sub(b'0'));
        (a < 10 && b < 10).then(|| i64::from(a) * 10 + i64::from(b))
    };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(i1, i2)?, two(s1, s2)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// A time as we write it, of a year before 0 or after 9999.
fn distant(text: &str) -> Option<Time> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (year, rest) = digits.split_at_checked(digits.find('-')?)?;
    // The rest is as in a year that has the same days.
    let is_year = (4..=9).contains(&year.len()) && year.bytes().all(|digit| digit.is_ascii_digit());
    let year: i64 = year.parse::<i64>().ok().filter(|_| is_year)? * sign;
    let alike = year.rem_euclid(400) + 2000;
    let time = Time::parse(&format!("{alike}{rest}"), RFC3339).ok()?;
    let days = days(year, 1, 1).checked_sub(days(alike, 1, 1))?;
    Some(Time { seconds: time.seconds.checked_add(days.checked_mul(86_400)?)?, ..time })
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; years are counted from March, so that the leap day is
/// the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day
        - 719_469
}

/// Year, month and day of a day since 1970-01-01.
fn civil(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + i64::from(month >= 10);
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year, month as u32, day as u32)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Reads a time piece by piece, to say which piece is wrong.
struct Parser<'a> {
    text: &'a str,
    layout: &'static str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn cannot(&self, value: &str, element: &str) -> String {
        format!(
            "parsing time {} as {}: cannot parse {} as {}",
            quote(self.text),
            quote(self.layout),
            quote(value),
            quote(element)
        )
    }

    fn wrong(&self, what: &str) -> String {
        format!("parsing time {}: {what}", quote(self.text))
    }

    fn literal(&mut self, literal: &str) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(literal).ok_or_else(|| self.cannot(self.rest, literal))?;
        Ok(())
    }

    /// One or two digits, as `element` of the layout wants.
    fn number(&mut self, element: &str, fixed: bool, range: std::ops::Range<i64>, name: &str) -> Result<i64, String> {
        let bytes = self.rest.as_bytes();
        let digits = bytes.iter().take(2).take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || fixed && digits == 1 {
            return Err(self.cannot(self.rest, element));
        }
        let number = bytes[..digits].iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        self.rest = &self.rest[digits..];
        if range.contains(&number) { Ok(number) } else { Err(self.wrong(&format!("{name} out of range"))) }
    }

    fn run(mut self) -> Result<Time, String> {
        let year = match self.rest.get(..4).filter(|year| year.bytes().all(|byte| byte.is_ascii_digit())) {
            Some(year) => year.parse::<i64>().unwrap_or_default(),
            None => return Err(self.cannot(self.rest, "2006")),
        };
        self.rest = &self.rest[4..];
        self.literal("-")?;
        let month = self.number("01", true, 1..13, "month")?;
        self.literal("-")?;
        let day = self.number("02", true, 0..100, "day")?;
        self.literal("T")?;
        let hour = self.number("15", false, 0..24, "hour")?;
        self.literal(":")?;
        let minute = self.number("04", true, 0..60, "minute")?;
        self.literal(":")?;
        let second = self.number("05", true, 0..60, "second")?;
        let nanos = if self.layout == RFC3339_MICRO { self.six_digits()? } else { self.any_digits() };
        let offset = self.zone()?;
        if !self.rest.is_empty() {
            return Err(self.wrong(&format!("extra text: {}", quote(self.rest))));
        }
        if day < 1 || day > days_in(year, month) {
            return Err(self.wrong("day out of range"));
        }
        let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
        Ok(Time { seconds, nanos })
    }

    /// A fraction that the layout does not have, but Go takes.
    fn any_digits(&mut self) -> u32 {
        let Some(fraction) = self.rest.strip_prefix(['.', ',']) else { return 0 };
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return 0;
        }
        self.rest = &fraction[digits..];
        let nine = fraction.bytes().take(digits).chain(std::iter::repeat(b'0')).take(9);
        nine.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'))
    }

    fn six_digits(&mut self) -> Result<u32, String> {
        let digits = self.rest.strip_prefix(['.', ',']).and_then(|rest| rest.get(..6));
        match digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
            Some(digits) => {
                self.rest = &self.rest[7..];
                Ok(digits.parse::<u32>().unwrap_or_default() * 1000)
            }
            None => Err(self.cannot(self.rest, ".000000")),
        }
    }

    fn zone(&mut self) -> Result<i64, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let hold = self.rest;
        let bad = |parser: &Self| Err(parser.cannot(hold, "Z07:00"));
        let [sign, h1, h2, b':', m1, m2, ..] = hold.as_bytes() else { return bad(self) };
        let two = |a: u8, b: u8| i64::from(a.wrapping_sub(b'0')) * 10 + i64::from(b.wrapping_sub(b'0'));
        if ![h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()) {
            return bad(self);
        }
        let (hours, minutes) = (two(*h1, *h2), two(*m1, *m2));
        if hours > 24 {
            return Err(self.wrong("time zone offset hour out of range"));
        }
        if minutes > 60 {
            return Err(self.wrong("time zone offset minute out of range"));
        }
        let offset = hours * 3600 + minutes * 60;
        let offset = match sign {
            b'+' => offset,
            b'-' => -offset,
            _ => return bad(self),
        };
        // The six bytes are ASCII.
        self.rest = &hold[6..];
        Ok(offset)
    }
}

/// Quotes as Go's time package does: what is no printable ASCII shows as bytes.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='\u{7f}' => quoted.push(c),
            _ => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| quoted.push_str(&format!("\\x{byte:02x}"))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, layout: &'static str, expected: Result<&str, &str>) {
        let show = |time: Time| {
            let value = if layout == RFC3339 { time.to_value() } else { time.to_micro_value() };
            value.as_str().unwrap_or("null").to_owned()
        };
        let result = Time::parse(text, layout).map(show);
        assert_eq!(result.as_ref().map(String::as_str).map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn times_are_read_as_go_reads_them() {
        check("2024-02-29T23:59:59Z", RFC3339, Ok("2024-02-29T23:59:59Z"));
        check("2024-01-01T01:00:00+01:00", RFC3339, Ok("2024-01-01T00:00:00Z"));
        check("2024-01-01T00:00:00.123456789-00:30", RFC3339, Ok("2024-01-01T00:30:00Z"));
        check("2024-01-01T5:00:00Z", RFC3339, Ok("2024-01-01T05:00:00Z"));
        check("0001-01-01T00:00:00Z", RFC3339, Ok("null"));
        check("1969-12-31T23:59:59Z", RFC3339, Ok("1969-12-31T23:59:59Z"));
        check("2024-01-01T00:00:00.123456Z", RFC3339_MICRO, Ok("2024-01-01T00:00:00.123456Z"));
    }

    #[test]
    fn errors_are_those_of_go() {
        let as_rfc = "as \"2006-01-02T15:04:05Z07:00\": cannot parse";
        check("", RFC3339, Err(&format!("parsing time \"\" {as_rfc} \"\" as \"2006\"")));
        check("tomorrow", RFC3339, Err(&format!("parsing time \"tomorrow\" {as_rfc} \"tomorrow\" as \"2006\"")));
        check("2024-01-01", RFC3339, Err(&format!("parsing time \"2024-01-01\" {as_rfc} \"\" as \"T\"")));
        check("2024-13-01T00:00:00Z", RFC3339, Err("parsing time \"2024-13-01T00:00:00Z\": month out of range"));
        check("2023-02-29T00:00:00Z", RFC3339, Err("parsing time \"2023-02-29T00:00:00Z\": day out of range"));
        check("2023-02-20T24:00:00Z", RFC3339, Err("parsing time \"2023-02-20T24:00:00Z\": hour out of range"));
        check("2023-02-20T00:00:00Zx", RFC3339, Err("parsing time \"2023-02-20T00:00:00Zx\": extra text: \"x\""));
        check(
            "2024-01-01T00:00:00Z",
            RFC3339_MICRO,
            Err("parsing time \"2024-01-01T00:00:00Z\" as \"2006-01-02T15:04:05.000000Z07:00\": \
                 cannot parse \"Z\" as \".000000\""),
        );
    }

    #[test]
    fn every_day_of_five_centuries_is_itself() {
        for day in days(1800, 1, 1)..days(2300, 1, 1) {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month.into(), date.into()), day);
        }
    }
}
