//! Times and durations as the API writes them.

use api_schema::{SmolStr, Value, format_smolstr};

/// A moment: seconds since 1970 and what is beyond them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds beyond them, below 10^9.
    pub nanos: u32,
}

/// Why a text is no time, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TimeError(pub String);

/// The layout of a Time, as Go names it.
const RFC3339: &str = "2006-01-02T15:04:05Z07:00";
/// The layout of a MicroTime, as Go names it.
const RFC3339_MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";

impl Timestamp {
    /// A whole second.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// Reads a Time: RFC 3339, any fraction.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        Reader { text, rest: text, layout: RFC3339 }.read(None)
    }

    /// Reads a MicroTime: RFC 3339 with exactly six digits of fraction.
    pub fn parse_micro(text: &str) -> Result<Self, TimeError> {
        Reader { text, rest: text, layout: RFC3339_MICRO }.read(Some(6))
    }

    /// A Time: `2006-01-02T15:04:05Z`.
    pub fn to_time(self) -> SmolStr {
        let c = Civil::from_seconds(self.seconds);
        let (hour, minute, second) = c.clock();
        format_smolstr!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", c.year, c.month, c.day)
    }

    /// A MicroTime: `2006-01-02T15:04:05.000000Z`.
    pub fn to_micro_time(self) -> SmolStr {
        let c = Civil::from_seconds(self.seconds);
        let (hour, minute, second) = c.clock();
        let micros = self.nanos / 1000;
        format_smolstr!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z", c.year, c.month, c.day)
    }
}

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    second_of_day: i64,
}

impl Civil {
    fn from_seconds(seconds: i64) -> Self {
        // Days since 0000-03-01, so that a leap day ends a year.
        let days = seconds.div_euclid(86_400) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year, month, day, second_of_day: seconds.rem_euclid(86_400) }
    }

    fn clock(&self) -> (i64, i64, i64) {
        (self.second_of_day / 3600, self.second_of_day / 60 % 60, self.second_of_day % 60)
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 719_469
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Reads along a layout, so that an error names the piece of it that failed, as Go's does.
struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl Reader<'_> {
    fn cannot(&self, piece: &str) -> TimeError {
        let quote = crate::field::quoted;
        TimeError(format!(
            "parsing time {} as {}: cannot parse {} as {}",
            quote(self.text),
            quote(self.layout),
            quote(self.rest),
            quote(piece)
        ))
    }

    fn out_of_range(&self, what: &str) -> TimeError {
        TimeError(format!("parsing time {}: {what} out of range", crate::field::quoted(self.text)))
    }

    fn number(&mut self, width: usize, piece: &str) -> Result<i64, TimeError> {
        match self.rest.as_bytes().get(..width) {
            Some(digits) if digits.iter().all(u8::is_ascii_digit) => {
                self.rest = &self.rest[width..];
                Ok(digits.iter().fold(0, |n, c| n * 10 + i64::from(c - b'0')))
            }
            _ => Err(self.cannot(piece)),
        }
    }

    fn literal(&mut self, literal: &str) -> Result<(), TimeError> {
        self.rest = self.rest.strip_prefix(literal).ok_or_else(|| self.cannot(literal))?;
        Ok(())
    }

    fn read(mut self, fraction_digits: Option<usize>) -> Result<Timestamp, TimeError> {
        let year = self.number(4, "2006")?;
        self.literal("-")?;
        let month = self.number(2, "01")?;
        if !(1..=12).contains(&month) {
            return Err(self.out_of_range("month"));
        }
        self.literal("-")?;
        let day = self.number(2, "02")?;
        self.literal("T")?;
        let hour = self.number(2, "15")?;
        if hour > 23 {
            return Err(self.out_of_range("hour"));
        }
        self.literal(":")?;
        let minute = self.number(2, "04")?;
        if minute > 59 {
            return Err(self.out_of_range("minute"));
        }
        self.literal(":")?;
        let second = self.number(2, "05")?;
        if second > 59 {
            return Err(self.out_of_range("second"));
        }
        let nanos = self.fraction(fraction_digits)?;
        let offset = self.zone()?;
        if !self.rest.is_empty() {
            let quote = crate::field::quoted;
            return Err(TimeError(format!("parsing time {}: extra text: {}", quote(self.text), quote(self.rest))));
        }
        if day < 1 || day > days_in_month(year, month) {
            return Err(self.out_of_range("day"));
        }
        let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
        Ok(Timestamp { seconds, nanos })
    }

    fn fraction(&mut self, wanted: Option<usize>) -> Result<u32, TimeError> {
        let digits = self.rest.strip_prefix(['.', ',']).unwrap_or_default();
        let digits = digits.bytes().take_while(u8::is_ascii_digit).count();
        let count = match wanted {
            Some(wanted) if digits < wanted => return Err(self.cannot(".000000")),
            Some(wanted) => wanted,
            None => digits,
        };
        if count == 0 {
            return Ok(0);
        }
        let digits = &self.rest[1..=count];
        self.rest = &self.rest[1 + count..];
        let nanos = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
        Ok(nanos.fold(0, |n, c| n * 10 + u32::from(c - b'0')))
    }

    fn zone(&mut self) -> Result<i64, TimeError> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let two = |a: u8, b: u8| {
            (a.is_ascii_digit() && b.is_ascii_digit()).then(|| i64::from(a - b'0') * 10 + i64::from(b - b'0'))
        };
        let parsed = match self.rest.as_bytes() {
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2, ..] => {
                two(*h1, *h2).zip(two(*m1, *m2)).map(|(hours, minutes)| (*sign, hours, minutes))
            }
            _ => None,
        };
        let Some((sign, hours, minutes)) = parsed else { return Err(self.cannot("Z07:00")) };
        if hours > 24 {
            return Err(self.out_of_range("time zone offset hour"));
        }
        if minutes > 60 {
            return Err(self.out_of_range("time zone offset minute"));
        }
        self.rest = &self.rest[6..];
        Ok((hours * 3600 + minutes * 60) * if sign == b'+' { 1 } else { -1 })
    }
}

/// The Unix seconds of an RFC 3339 time.
pub fn rfc3339(text: &str) -> Option<i64> {
    Timestamp::parse(text).ok().map(|time| time.seconds)
}

/// The `Age` cell of an object: how long ago it was created.
pub fn age(object: &Value, now: i64) -> Value {
    since(object.str_at(&["metadata", "creationTimestamp"]), now).into()
}

/// How long ago a Time or MicroTime was, as kubectl shows it; `<unknown>` if it is empty.
pub fn since(time: &str, now: i64) -> SmolStr {
    match rfc3339(time) {
        Some(then) => human_duration(now - then).into(),
        None => SmolStr::new_static("<unknown>"),
    }
}

/// A duration in seconds as kubectl shows ages: `45s`, `3m5s`, `5h2m`, `3d4h`, `2y30d`.
pub fn human_duration(seconds: i64) -> String {
    let pair = |big: i64, big_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{big_unit}"),
        _ => format!("{big}{big_unit}{small}{small_unit}"),
    };
    let (minutes, hours, days, years) = (seconds / 60, seconds / 3600, seconds / 86_400, seconds / (86_400 * 365));
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => pair(days, "d", hours % 24, "h"),
        _ if days < 365 * 2 => format!("{days}d"),
        _ if days < 365 * 8 => pair(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

/// Reads a Go duration (`1h30m`, `1.5s`) into nanoseconds; the error is Go's text.
pub fn parse_duration(text: &str) -> Result<i64, TimeError> {
    let quote = crate::field::quoted;
    let invalid = || TimeError(format!("time: invalid duration {}", quote(text)));
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let whole_len = digits(rest);
        let (whole, after) = rest.split_at(whole_len);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_len = after.bytes().take_while(|c| *c != b'.' && !c.is_ascii_digit()).count();
        let (unit, after) = after.split_at(unit_len);
        if unit.is_empty() {
            return Err(TimeError(format!("time: missing unit in duration {}", quote(text))));
        }
        let nanos: u64 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => {
                let why = format!("time: unknown unit {} in duration {}", quote(unit), quote(text));
                return Err(TimeError(why));
            }
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let mut value = whole.checked_mul(nanos).ok_or_else(invalid)?;
        let mut scale = nanos as f64;
        let mut part = 0.0;
        for digit in fraction.bytes() {
            scale /= 10.0;
            part += f64::from(digit - b'0') * scale;
        }
        // Fractions of a unit below a nanosecond are cut off; the epsilon undoes the error of the sum above.
        value = value.checked_add((part + 1e-6) as u64).ok_or_else(invalid)?;
        total = total.checked_add(value).filter(|total| *total <= 1 << 63).ok_or_else(invalid)?;
        rest = after;
    }
    match (negative, i64::try_from(total)) {
        (true, Ok(total)) => Ok(-total),
        (true, Err(_)) => Ok(i64::MIN),
        (false, total) => total.map_err(|_| invalid()),
    }
}

/// Nanoseconds as Go prints a duration: `1h30m0s`, `1.5s`, `0s`.
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let (whole, rest) = (value / unit, value % unit);
        let digits = unit.ilog10() as usize;
        let text = format!("{rest:0digits$}");
        let text = text.trim_end_matches('0');
        if rest == 0 { whole.to_string() } else { format!("{whole}.{text}") }
    };
    let text = match total {
        0 => return "0s".into(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", fraction(total, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(total, 1_000_000)),
        _ => {
            let minutes = total / 60_000_000_000;
            let seconds = fraction(total % 60_000_000_000, 1_000_000_000);
            match minutes {
                0 => format!("{seconds}s"),
                1..60 => format!("{minutes}m{seconds}s"),
                _ => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, expect) in [
            ("2024-02-29T12:34:56Z", "2024-02-29T12:34:56Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2024-01-01T00:30:00.999+01:00", "2023-12-31T23:30:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().to_time(), expect);
        }
        let micro = Timestamp::parse_micro("2024-02-29T12:34:56.000123Z").unwrap();
        assert_eq!(micro.to_micro_time(), "2024-02-29T12:34:56.000123Z");
        assert!(Timestamp::parse_micro("2024-02-29T12:34:56Z").is_err());
        assert!(Timestamp::parse_micro("2024-02-29T12:34:56.0001234Z").is_err());
    }

    #[test]
    fn bad_times_are_refused_in_gos_words() {
        let layout = "\"2006-01-02T15:04:05Z07:00\"";
        for (text, expect) in [
            ("x", format!("parsing time \"x\" as {layout}: cannot parse \"x\" as \"2006\"")),
            ("2024-13-01T00:00:00Z", "parsing time \"2024-13-01T00:00:00Z\": month out of range".into()),
            ("2023-02-29T00:00:00Z", "parsing time \"2023-02-29T00:00:00Z\": day out of range".into()),
            (
                "2023-02-28 00:00:00Z",
                format!("parsing time \"2023-02-28 00:00:00Z\" as {layout}: cannot parse \" 00:00:00Z\" as \"T\""),
            ),
            ("2023-02-28T00:00:00Zx", "parsing time \"2023-02-28T00:00:00Zx\": extra text: \"x\"".into()),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap_err().0, expect);
        }
    }

    #[test]
    fn every_day_of_four_centuries_survives_the_round_trip() {
        for day in -150_000..150_000 {
            let time = Timestamp::from_seconds(day * 86_400 + 3_661);
            assert_eq!(Timestamp::parse(&time.to_time()), Ok(time));
        }
    }

    #[test]
    fn ages_read_as_kubectl_prints_them() {
        for (seconds, expect) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (119, "119s"),
            (120, "2m"),
            (190, "3m10s"),
            (600, "10m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (172_799, "47h"),
            (176_400, "2d1h"),
            (698_400, "8d"),
            (63_072_000, "2y"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(human_duration(seconds), expect);
        }
    }

    #[test]
    fn durations_are_read_and_written_as_in_go() {
        for (text, expect) in [
            ("0", "0s"),
            ("1h30m", "1h30m0s"),
            ("1.5s", "1.5s"),
            ("-1.5h", "-1h30m0s"),
            ("100ms", "100ms"),
            ("1us", "1\u{b5}s"),
            ("1500us", "1.5ms"),
            (".5s", "500ms"),
            ("3ns", "3ns"),
            ("61s", "1m1s"),
        ] {
            assert_eq!(parse_duration(text).map(format_duration), Ok(expect.to_owned()), "{text}");
        }
        for (text, expect) in [
            ("", "time: invalid duration \"\""),
            ("3", "time: missing unit in duration \"3\""),
            ("3x", "time: unknown unit \"x\" in duration \"3x\""),
            ("s", "time: invalid duration \"s\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().0, expect);
        }
    }
}
