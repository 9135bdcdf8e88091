//! Resource quantities: `500m`, `1Gi`, `1e3`. Exact decimal arithmetic, Go's canonical texts (`resource.Quantity`).

use std::cmp::Ordering;
use std::fmt;

use api_schema::{SmolStr, ToSmolStr, format_smolstr};

/// How a quantity is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Powers of 1000: `12M`.
    #[default]
    DecimalSi,
    /// Powers of 1024: `12Mi`.
    BinarySi,
    /// A power of ten: `12e6`.
    DecimalExponent,
}

/// A fixed-point number with the way it is written. It never holds a fraction finer than a billionth.
#[derive(Clone, Debug, Default)]
pub struct Quantity {
    /// The value is `mantissa * 10^exponent`.
    mantissa: i128,
    exponent: i32,
    format: Format,
    /// The text it was read from, where Go keeps that instead of making a canonical one; else empty.
    text: SmolStr,
}

/// Why a text is no quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It has not the shape of one.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number before the suffix is none.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// There is no such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i32 = -9;
/// The most decimal digits that a mantissa keeps; more are rounded up, and sums end at 2^127 units of the finer
/// operand. Upstream keeps all digits; nobody writes them.
const DIGITS_MAX: usize = 36;

/// The pieces of a quantity's text.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
    /// Whether there is any digit before the suffix, zeros included.
    has_digits: bool,
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let number = rest;
    let rest = rest.trim_start_matches('0');
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let letters = rest.bytes().take_while(|c| b"eEinumkKMGTP".contains(c)).count();
    let tail = &rest[letters..];
    let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
    if digits(tail) != tail.len() {
        return Err(QuantityError::Format);
    }
    let has_digits = number[..number.len() - rest.len()].bytes().any(|c| c.is_ascii_digit());
    Ok(Parts { negative, whole: if whole.is_empty() { "0" } else { whole }, fraction, suffix: rest, has_digits })
}

/// The power (of ten, or of two for [`Format::BinarySi`]) that a suffix stands for.
fn interpret(suffix: &str) -> Option<(i32, Format)> {
    Some(match suffix {
        "" => (0, Format::DecimalSi),
        "n" => (-9, Format::DecimalSi),
        "u" => (-6, Format::DecimalSi),
        "m" => (-3, Format::DecimalSi),
        "k" => (3, Format::DecimalSi),
        "M" => (6, Format::DecimalSi),
        "G" => (9, Format::DecimalSi),
        "T" => (12, Format::DecimalSi),
        "P" => (15, Format::DecimalSi),
        "E" => (18, Format::DecimalSi),
        "Ki" => (10, Format::BinarySi),
        "Mi" => (20, Format::BinarySi),
        "Gi" => (30, Format::BinarySi),
        "Ti" => (40, Format::BinarySi),
        "Pi" => (50, Format::BinarySi),
        "Ei" => (60, Format::BinarySi),
        _ => {
            let number = suffix.strip_prefix(['e', 'E'])?;
            // Go reads 64 bits and keeps 32 of them.
            #[expect(clippy::cast_possible_truncation, reason = "upstream's own truncation")]
            let power = number.parse::<i64>().ok()? as i32;
            (power, Format::DecimalExponent)
        }
    })
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

impl Quantity {
    /// The quantity nothing.
    pub const ZERO: Self = Self { mantissa: 0, exponent: 0, format: Format::DecimalSi, text: SmolStr::new_static("") };

    /// Reads a quantity. Fractions below a billionth are rounded away from zero; binary ones are capped at 2^63-1.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let parts = split(text)?;
        let (power, format) = interpret(parts.suffix).ok_or(QuantityError::Suffix)?;
        let length = parts.whole.len() + parts.fraction.len();
        let quick = match format {
            Format::BinarySi => parts.fraction.is_empty() && parts.whole.len() as i32 + power * 3 / 10 < 15,
            _ => length <= 18,
        };
        let scale = if format == Format::BinarySi { 0 } else { power.saturating_sub(parts.fraction.len() as i32) };
        if quick && scale >= NANO {
            let number = parts
                .whole
                .bytes()
                .chain(parts.fraction.bytes())
                .fold(0i128, |number, digit| number * 10 + i128::from(digit - b'0'));
            // Where Go takes the text for canonical it keeps it, even if it is not (`+1`, `1.234`).
            let keeps_text = match format {
                Format::BinarySi => number & 7 != 0,
                _ => {
                    let last = [parts.whole, parts.fraction].concat();
                    scale % 3 == 0 && !last.ends_with("000") && !last.starts_with('0')
                }
            };
            let mantissa = if format == Format::BinarySi { number << power } else { number };
            return Ok(Self {
                mantissa: if parts.negative { -mantissa } else { mantissa },
                exponent: scale,
                format,
                text: if keeps_text { text.into() } else { SmolStr::default() },
            });
        }
        // Only the slow way of upstream minds that there is no number at all.
        if !parts.has_digits {
            return Err(QuantityError::Numeric);
        }
        Ok(Self::parse_slowly(&parts, power, format))
    }

    /// The way for many digits: on the decimal digits themselves.
    fn parse_slowly(parts: &Parts<'_>, power: i32, mut format: Format) -> Self {
        let mut digits: Vec<u8> = parts.whole.bytes().chain(parts.fraction.bytes()).map(|c| c - b'0').collect();
        let mut exponent = -(parts.fraction.len() as i64);
        if format == Format::BinarySi {
            for _ in 0..power {
                double(&mut digits);
            }
        } else {
            exponent += i64::from(power);
        }
        // Round up to nano: who wants some gets some.
        if exponent < i64::from(NANO) {
            let drop = usize::try_from(i64::from(NANO) - exponent).unwrap_or(usize::MAX);
            round_up(&mut digits, drop);
            exponent = i64::from(NANO);
        }
        trim(&mut digits, &mut exponent);
        if digits.len() > DIGITS_MAX {
            let drop = digits.len() - DIGITS_MAX;
            round_up(&mut digits, drop);
            exponent += drop as i64;
            trim(&mut digits, &mut exponent);
        }
        let magnitude = digits.iter().fold(0i128, |number, digit| number * 10 + i128::from(*digit));
        let exponent = i32::try_from(exponent).unwrap_or(if exponent > 0 { i32::MAX } else { 0 });
        let mut amount = Self { mantissa: magnitude, exponent, format, text: SmolStr::default() };
        if format == Format::BinarySi {
            if amount.compare_parts(i128::from(i64::MAX), 0) == Ordering::Greater {
                (amount.mantissa, amount.exponent) = (i64::MAX.into(), 0);
            }
            if magnitude > 0 && amount.compare_parts(1, 0) == Ordering::Less {
                format = Format::DecimalSi;
            }
        }
        amount.format = format;
        if parts.negative {
            amount.mantissa = -amount.mantissa;
        }
        amount
    }

    /// A whole number.
    pub fn new(value: i64, format: Format) -> Self {
        Self { mantissa: value.into(), exponent: 0, format, text: SmolStr::default() }
    }

    /// So many thousandths.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Self { mantissa: value.into(), exponent: -3, format, text: SmolStr::default() }
    }

    /// How it is written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.mantissa.signum() as i32
    }

    /// The value as a whole number: rounded away from zero, held within `i64`.
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// The value in thousandths: rounded away from zero, held within `i64`.
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// The value in units of `10^scale`: rounded away from zero, held within `i64`.
    pub fn scaled_value(&self, scale: i32) -> i64 {
        let shift = i64::from(self.exponent) - i64::from(scale);
        let number = if shift >= 0 { shift_up(self.mantissa, shift) } else { shift_down(self.mantissa, -shift).0 };
        number.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    /// Whether it is a whole number.
    pub fn is_whole(&self) -> bool {
        self.exponent >= 0 || shift_down(self.mantissa, -i64::from(self.exponent)).1
    }

    /// The value as the nearest floating point number, for metrics and scores.
    pub fn to_f64(&self) -> f64 {
        self.mantissa as f64 * 10f64.powi(self.exponent)
    }

    /// Adds another. If this is zero, the other's format is taken.
    pub fn add(&mut self, other: &Self) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.add_parts(other.mantissa, other.exponent);
    }

    /// Subtracts another. If this is zero, the other's format is taken.
    pub fn sub(&mut self, other: &Self) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.add_parts(-other.mantissa, other.exponent);
    }

    /// Multiplies by a whole number.
    pub fn mul(&mut self, factor: i64) {
        self.text = SmolStr::default();
        self.mantissa = self.mantissa.saturating_mul(factor.into());
    }

    /// Turns the sign around.
    pub fn neg(&mut self) {
        self.text = SmolStr::default();
        self.mantissa = -self.mantissa;
    }

    fn add_parts(&mut self, mantissa: i128, exponent: i32) {
        self.text = SmolStr::default();
        if mantissa == 0 {
            return;
        }
        if self.mantissa == 0 {
            (self.mantissa, self.exponent) = (mantissa, exponent);
            return;
        }
        let low = self.exponent.min(exponent);
        let left = shift_up(self.mantissa, i64::from(self.exponent) - i64::from(low));
        let right = shift_up(mantissa, i64::from(exponent) - i64::from(low));
        (self.mantissa, self.exponent) = (left.saturating_add(right), low);
    }

    fn compare_parts(&self, mantissa: i128, exponent: i32) -> Ordering {
        let (a, b) = (self.mantissa, mantissa);
        if a.signum() != b.signum() || a == 0 {
            return a.signum().cmp(&b.signum());
        }
        let shift = i64::from(self.exponent) - i64::from(exponent);
        // Exact while it fits; where it does not, the side that overflows is the larger in magnitude.
        let (larger, left, right) = if shift >= 0 {
            (Ordering::Greater, checked_shift_up(a, shift), Some(b))
        } else {
            (Ordering::Less, Some(a), checked_shift_up(b, -shift))
        };
        match (left, right) {
            (Some(left), Some(right)) => left.cmp(&right),
            _ if a > 0 => larger,
            _ => larger.reverse(),
        }
    }

    fn exceeds_kibi(&self) -> bool {
        self.compare_parts(1024, 0) != Ordering::Less || self.compare_parts(-1024, 0) != Ordering::Greater
    }

    /// The text that the API shows.
    pub fn canonical(&self) -> SmolStr {
        if !self.text.is_empty() {
            return self.text.clone();
        }
        if self.is_zero() {
            return SmolStr::new_static("0");
        }
        if self.format == Format::BinarySi && self.exceeds_kibi() && self.is_whole() {
            return self.binary_text();
        }
        let (mut mantissa, mut exponent) = (self.mantissa, self.exponent);
        while mantissa % 10 == 0 {
            mantissa /= 10;
            exponent = exponent.saturating_add(1);
        }
        let zeros = exponent.rem_euclid(3);
        let exponent = exponent - zeros;
        let zeros = &"00"[..zeros as usize];
        match self.format {
            Format::DecimalExponent if exponent == 0 => format_smolstr!("{mantissa}{zeros}"),
            Format::DecimalExponent => format_smolstr!("{mantissa}{zeros}e{exponent}"),
            _ => {
                let suffix = match exponent {
                    -9 => "n",
                    -6 => "u",
                    -3 => "m",
                    3 => "k",
                    6 => "M",
                    9 => "G",
                    12 => "T",
                    15 => "P",
                    18 => "E",
                    // Upstream has no suffix beyond E, and writes none.
                    _ => "",
                };
                format_smolstr!("{mantissa}{zeros}{suffix}")
            }
        }
    }

    fn binary_text(&self) -> SmolStr {
        let exponent = i64::from(self.exponent);
        let mut number =
            if exponent >= 0 { shift_up(self.mantissa, exponent) } else { shift_down(self.mantissa, -exponent).0 };
        let mut power = 0;
        while number % 1024 == 0 {
            number /= 1024;
            power += 1;
        }
        let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].get(power).copied().unwrap_or_default();
        format_smolstr!("{number}{suffix}")
    }
}

/// The canonical text of a quantity as a client may write it (blanks around it allowed); `None` if it is none.
pub fn canonical(text: &str) -> Option<SmolStr> {
    let text = text.trim();
    // The common cases: a few digits that do not end in zeros, with one letter at most.
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let is_plain = (1..=15).contains(&digits)
        && !text.starts_with('0')
        && !text[..digits].ends_with("000")
        && matches!(&text[digits..], "" | "m" | "k" | "M" | "G" | "T" | "u" | "n");
    if is_plain {
        return Some(text.to_smolstr());
    }
    Quantity::parse(text).ok().map(|quantity| quantity.canonical())
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.compare_parts(other.mantissa, other.exponent)
    }
}

fn checked_shift_up(mantissa: i128, places: i64) -> Option<i128> {
    let factor = 10i128.checked_pow(u32::try_from(places).ok()?)?;
    mantissa.checked_mul(factor)
}

/// Times `10^places`, held within `i128`.
fn shift_up(mantissa: i128, places: i64) -> i128 {
    match mantissa {
        0 => 0,
        _ => checked_shift_up(mantissa, places).unwrap_or(if mantissa > 0 { i128::MAX } else { -i128::MAX }),
    }
}

/// Divided by `10^places`, rounded away from zero, and whether that was exact.
fn shift_down(mantissa: i128, places: i64) -> (i128, bool) {
    let divisor = u32::try_from(places).ok().and_then(|places| 10i128.checked_pow(places));
    match divisor {
        Some(divisor) if mantissa % divisor == 0 => (mantissa / divisor, true),
        Some(divisor) => (mantissa / divisor + mantissa.signum(), false),
        None => (mantissa.signum(), mantissa == 0),
    }
}

/// Doubles a number of decimal digits.
fn double(digits: &mut Vec<u8>) {
    let mut carry = 0;
    for digit in digits.iter_mut().rev() {
        let twice = *digit * 2 + carry;
        (*digit, carry) = (twice % 10, twice / 10);
    }
    if carry > 0 {
        digits.insert(0, carry);
    }
}

/// Drops the last digits, and adds one to what is left if any of them was not zero.
fn round_up(digits: &mut Vec<u8>, drop: usize) {
    let keep = digits.len().saturating_sub(drop);
    let mut carry = digits[keep..].iter().any(|digit| *digit != 0);
    digits.truncate(keep);
    for digit in digits.iter_mut().rev() {
        if !carry {
            break;
        }
        carry = *digit == 9;
        *digit = if carry { 0 } else { *digit + 1 };
    }
    if carry || digits.is_empty() {
        digits.insert(0, u8::from(carry));
    }
}

/// Moves zeros at the end into the exponent, and drops those at the start.
fn trim(digits: &mut Vec<u8>, exponent: &mut i64) {
    while digits.len() > 1 && digits.last() == Some(&0) {
        digits.pop();
        *exponent += 1;
    }
    let zeros = digits.iter().take_while(|digit| **digit == 0).count().min(digits.len() - 1);
    digits.drain(..zeros);
    if digits == &[0] {
        *exponent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    #[test]
    fn texts_become_canonical_as_in_go() {
        for (text, expect) in [
            ("0", "0"),
            ("-0", "0"),
            ("0n", "0"),
            ("100", "100"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1024Ki", "1Mi"),
            ("0.5Gi", "512Mi"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1e3"),
            ("1E3", "1E3"),
            ("1000", "1k"),
            ("10000000", "10M"),
            ("1000m", "1"),
            ("1.1Ki", "1126400m"),
            ("0.00001Ki", "10240u"),
            ("0.1n", "1n"),
            ("0.0000000001", "1n"),
            ("512Ki", "512Ki"),
            ("1023", "1023"),
            ("8Ki", "8Ki"),
            ("100000Ei", "9223372036854775807"),
            ("-100000Ei", "-9223372036854775807"),
            ("9223372036854775808", "9223372036854775808"),
            ("1.0000000000000000000000001", "1000000001n"),
            ("-5", "-5"),
            ("+5", "+5"),
            ("1.234", "1.234"),
            ("12345678901234567890123456789", "12345678901234567890123456789"),
            (" 1 ", "1"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expect), "{text}");
        }
    }

    #[test]
    fn bad_texts_are_refused_as_in_go() {
        for (text, expect) in [
            ("", QuantityError::Format),
            ("1.5.5", QuantityError::Format),
            ("abc", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("1Kii", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1mE", QuantityError::Suffix),
            ("1Ki5", QuantityError::Suffix),
        ] {
            assert_eq!(Quantity::parse(text).err(), Some(expect), "{text}");
        }
    }

    #[test]
    fn values_round_away_from_zero() {
        assert_eq!(quantity("1500m").value(), 2);
        assert_eq!(quantity("-1500m").value(), -2);
        assert_eq!(quantity("1Gi").value(), 1 << 30);
        assert_eq!(quantity("0.0001").milli_value(), 1);
        assert_eq!(quantity("1e100").value(), i64::MAX);
    }

    #[test]
    fn sums_and_comparisons_are_exact() {
        let mut sum = Quantity::ZERO;
        for text in ["1Gi", "512Mi", "100m"] {
            sum.add(&quantity(text));
        }
        assert_eq!(sum.canonical(), "1610612736100m");
        sum.sub(&quantity("100m"));
        assert_eq!(sum.canonical(), "1536Mi");
        for (a, b, expect) in [
            ("1", "1000m", Ordering::Equal),
            ("1Ki", "1k", Ordering::Greater),
            ("-1", "1n", Ordering::Less),
            ("1e300", "1e299", Ordering::Greater),
            ("-1e300", "1", Ordering::Less),
            ("-1e300", "-1", Ordering::Less),
            ("1n", "1e300", Ordering::Less),
        ] {
            assert_eq!(quantity(a).cmp(&quantity(b)), expect, "{a} {b}");
        }
    }
}
