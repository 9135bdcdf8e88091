//! Command lines as Kubernetes' programs take them: the spelling, the forms of values and the complaints are those of
//! upstream's flags; what flags mean is said by tables.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `true` or `false`; `true` if nothing follows.
    Bool,
    /// A whole number.
    Int,
    /// A whole number that is not negative.
    Uint,
    /// A number.
    Float,
    /// `1h30m`, `10s`, `250ms`.
    Duration,
    /// Any text.
    Text,
    /// An address; empty for none.
    Ip,
    /// Texts with commas between; may be given several times.
    List,
    /// Whole numbers with commas between; may be given several times.
    Ints,
    /// A text; may be given several times.
    Repeated,
    /// `key=value`, with commas between; may be given several times.
    Pairs,
    /// `key=value` or `key`, with commas between; may be given several times.
    Switches,
    /// `first-last`.
    Ports,
    /// `certificate,key` and perhaps `:name,name`; may be given several times.
    CertKey,
    /// `pattern=N`, with commas between.
    Levels,
    /// A number of bytes.
    Quantity,
    /// `raw`, or a version; the version in use if nothing follows.
    Version,
}

/// What becomes of a flag.
pub(crate) enum Verdict<T: 'static> {
    /// It does what it says.
    Honoured(fn(&mut T, &Given) -> Result<(), String>),
    /// It may only say what is done anyway; the text says why.
    Only(fn(&Given) -> bool, &'static str),
    /// It may say anything, for what it is about does not happen here; the text says why.
    Moot(&'static str),
    /// It asks for what is not there; the text says what to do.
    Refused(&'static str),
}

/// One flag.
pub(crate) struct Flag<T: 'static> {
    /// Its name, without dashes.
    pub(crate) name: &'static str,
    /// How its value is written.
    pub(crate) form: Form,
    /// What it does, for `--help`.
    pub(crate) help: &'static str,
    /// What becomes of it.
    pub(crate) verdict: Verdict<T>,
}

/// Flags about one thing.
pub(crate) struct Section<T: 'static> {
    /// The thing.
    pub(crate) title: &'static str,
    /// The flags.
    pub(crate) flags: &'static [Flag<T>],
}

/// The values that a flag was given, in order; there is at least one.
#[derive(Clone, Debug)]
pub(crate) struct Given(Vec<String>);

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// The program is to run.
    Run,
    /// `--help`.
    Help,
    /// `--version`, and its value.
    Version(String),
}

// === values ===

impl Given {
    /// The value that counts where only one can: the last one.
    pub(crate) fn text(&self) -> &str {
        self.0.last().map(String::as_str).unwrap_or_default()
    }

    /// All values.
    pub(crate) fn all(&self) -> &[String] {
        &self.0
    }

    /// The parts of all values.
    pub(crate) fn list(&self) -> Vec<String> {
        self.0.iter().flat_map(|value| split_csv(value).unwrap_or_default()).collect()
    }

    /// A whole number.
    pub(crate) fn int(&self) -> i64 {
        int(self.text()).unwrap_or_default()
    }

    /// A number.
    pub(crate) fn float(&self) -> f64 {
        self.text().parse().unwrap_or_default()
    }

    /// A switch.
    pub(crate) fn bool(&self) -> bool {
        bool(self.text()).unwrap_or_default()
    }

    /// A duration, in nanoseconds: it may be negative.
    pub(crate) fn nanos(&self) -> i64 {
        nanos(self.text()).unwrap_or_default()
    }

    /// A duration; nothing if it is negative.
    pub(crate) fn duration(&self) -> Option<Duration> {
        u64::try_from(self.nanos()).ok().map(Duration::from_nanos)
    }

    /// An address, if there is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.text().trim().parse().ok()
    }

    /// `first-last`.
    pub(crate) fn ports(&self) -> (i64, i64) {
        ports(self.text()).unwrap_or_default()
    }

    /// Keys, and their values where there is one.
    pub(crate) fn switches(&self) -> Vec<(String, Option<String>)> {
        let parts = self.0.iter().flat_map(|value| value.split(',')).filter(|part| !part.is_empty());
        parts
            .map(|part| match part.split_once('=') {
                Some((key, value)) => (key.trim().to_owned(), Some(value.trim().to_owned())),
                None => (part.trim().to_owned(), None),
            })
            .collect()
    }
}

/// Go's words for what `strconv` cannot read.
fn unread(function: &str, value: &str, what: &str) -> String {
    format!("strconv.{function}: parsing {value:?}: {what}")
}

fn bool(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(unread("ParseBool", value, "invalid syntax")),
    }
}

/// A whole number as Go's literals write it.
fn int(value: &str) -> Result<i64, String> {
    let (sign, digits) = match value.as_bytes() {
        [b'-', ..] => ("-", &value[1..]),
        [b'+', ..] => ("", &value[1..]),
        _ => ("", value),
    };
    let (base, digits) = match digits.to_ascii_lowercase().get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    i64::from_str_radix(&format!("{sign}{}", if plain { digits } else { "" }), base).map_err(|error| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let what = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        unread("ParseInt", value, what)
    })
}

fn uint(value: &str) -> Result<u64, String> {
    match int(value) {
        Ok(number) if !value.starts_with(['-', '+']) => Ok(number.unsigned_abs()),
        Err(why) if why.ends_with("value out of range") => Err(unread("ParseUint", value, "value out of range")),
        _ => Err(unread("ParseUint", value, "invalid syntax")),
    }
}

fn nanos(value: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {value:?}");
    let (negative, mut rest) = match value.as_bytes() {
        [b'-', ..] => (true, &value[1..]),
        [b'+', ..] => (false, &value[1..]),
        _ => (false, value),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (figures, after) = rest.split_at(number);
        let unit = after.len() - after.trim_start_matches(|c: char| !(c.is_ascii_digit() || c == '.')).len();
        let (unit, after) = after.split_at(unit);
        let (whole, part) = figures.split_once('.').unwrap_or((figures, ""));
        if whole.len() + part.len() == 0 || part.contains('.') {
            return Err(invalid());
        }
        let scale: i128 = match unit {
            "" => return Err(format!("time: missing unit in duration {value:?}")),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            other => return Err(format!("time: unknown unit {other:?} in duration {value:?}")),
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        total = whole.checked_mul(scale).and_then(|more| total.checked_add(more)).ok_or_else(invalid)?;
        // More figures than nanoseconds have say nothing.
        let part = &part[..part.len().min(18)];
        if !part.is_empty() {
            let figures: i128 = part.parse().map_err(|_| invalid())?;
            total += figures * scale / 10_i128.pow(u32::try_from(part.len()).unwrap_or_default());
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

fn ports(value: &str) -> Result<(i64, i64), String> {
    let value = value.trim();
    let port = |text: &str| {
        let plain = text.strip_prefix(['-', '+']).unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|_| plain).ok_or_else(|| unread("Atoi", text, "invalid syntax"))
    };
    let (first, last) = match (value.split_once('-'), value.split_once('+')) {
        _ if value.is_empty() => return Ok((0, 0)),
        (None, None) => (port(value)?, port(value)?),
        (Some((first, last)), None) => (port(first)?, port(last)?),
        (None, Some((first, more))) => (port(first)?, port(first)?.saturating_add(port(more)?)),
        (Some(_), Some(_)) => return Err(format!("unable to parse port range: {value}")),
    };
    if first > 65535 || last > 65535 {
        return Err(format!("the port range cannot be greater than 65535: {value}"));
    }
    if last < first {
        return Err(format!("end port cannot be less than start port: {value}"));
    }
    Ok((first, last))
}

/// One line of comma-separated values: a part in double quotes may hold commas, and `""` in it is one quote.
fn split_csv(line: &str) -> Result<Vec<String>, String> {
    let mut parts = Vec::new();
    if line.is_empty() {
        return Ok(parts);
    }
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (part, after) = rest.split_once(',').map_or((rest, None), |(part, after)| (part, Some(after)));
            if part.contains('"') {
                return Err(format!(
                    "parse error on line 1, column {}: bare \" in non-quoted field",
                    column(line, part)
                ));
            }
            parts.push(part.to_owned());
            match after {
                Some(after) => rest = after,
                None => return Ok(parts),
            }
            continue;
        };
        let mut part = String::new();
        let mut inside = quoted;
        loop {
            let Some((text, after)) = inside.split_once('"') else {
                return Err(format!(
                    "parse error on line 1, column {}: extraneous or missing \" in quoted-field",
                    line.len() + 1
                ));
            };
            part.push_str(text);
            match after.strip_prefix('"') {
                Some(after) => {
                    part.push('"');
                    inside = after;
                }
                None => {
                    inside = after;
                    break;
                }
            }
        }
        parts.push(part);
        match inside.strip_prefix(',') {
            Some(after) => rest = after,
            None if inside.is_empty() => return Ok(parts),
            None => {
                let at = line.len() - inside.len();
                return Err(format!("parse error on line 1, column {at}: extraneous or missing \" in quoted-field"));
            }
        }
    }
}

/// The column of a part's first quote, counted from one.
fn column(line: &str, part: &str) -> usize {
    let start = part.as_ptr() as usize - line.as_ptr() as usize;
    start + part.find('"').unwrap_or_default() + 1
}

impl Form {
    /// Whether a value is of this form; if not, Go's complaint.
    fn check(self, value: &str) -> Result<(), String> {
        match self {
            Self::Bool => bool(value).map(drop),
            Self::Int => int(value).map(drop),
            Self::Uint => uint(value).map(drop),
            Self::Float => value.parse::<f64>().map(drop).map_err(|_| unread("ParseFloat", value, "invalid syntax")),
            Self::Duration => nanos(value).map(drop),
            Self::Text | Self::Repeated | Self::Switches | Self::Version => Ok(()),
            Self::Ip => match value.trim() {
                "" => Ok(()),
                text => text.parse::<IpAddr>().map(drop).map_err(|_| format!("failed to parse IP: {value:?}")),
            },
            Self::List => split_csv(value).map(drop),
            Self::Ints => value.split(',').try_for_each(|part| int(part).map(drop)),
            Self::Pairs => match value.split(',').find(|part| !part.contains('=')) {
                Some(_) => Err("malformed pair, expect string=string".into()),
                None => Ok(()),
            },
            Self::Ports => ports(value).map(drop),
            Self::CertKey => {
                let files = value.trim().split_once(':').map_or(value.trim(), |(files, _)| files);
                let mut parts = files.split(',').map(str::trim);
                match (parts.next(), parts.next(), parts.next()) {
                    (Some(certificate), Some(key), None) if !certificate.is_empty() && !key.is_empty() => Ok(()),
                    _ => Err("expected comma separated certificate and key file paths".into()),
                }
            }
            Self::Levels => {
                let bad = |part: &&str| {
                    let level = part.split_once('=').map(|(_, level)| level);
                    level.is_none_or(|level| level.is_empty() || int(level).is_err())
                };
                match value.split(',').filter(|part| !part.is_empty()).find(bad) {
                    Some(part) => Err(format!("{part:?} does not have the pattern=N format")),
                    None => Ok(()),
                }
            }
            Self::Quantity => {
                let number = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
                match number.parse::<f64>() {
                    Ok(_) => Ok(()),
                    Err(_) => Err("quantities must match the regular expression \
                                   '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                        .into()),
                }
            }
        }
    }

    /// What a value is called in `--help`.
    fn word(self) -> &'static str {
        match self {
            Self::Bool => "",
            Self::Int | Self::Uint => " N",
            Self::Float => " X",
            Self::Duration => " DURATION",
            Self::Text | Self::Repeated => " TEXT",
            Self::Ip => " IP",
            Self::List => " A,B",
            Self::Ints => " N,N",
            Self::Pairs | Self::Switches => " KEY=VALUE,...",
            Self::Ports => " FIRST-LAST",
            Self::CertKey => " CERT,KEY[:NAMES]",
            Self::Levels => " PATTERN=N,...",
            Self::Quantity => " BYTES",
            Self::Version => "[=raw]",
        }
    }

    /// What a flag means if no value follows it.
    fn without_value(self) -> Option<&'static str> {
        match self {
            Self::Bool | Self::Version => Some("true"),
            _ => None,
        }
    }
}

// === command lines ===

/// A part of a command line.
struct Word<'a, T: 'static> {
    flag: &'a Flag<T>,
    value: String,
    /// How complaints name the flag.
    shown: String,
}

/// Reads a command line into `target`. `program` is what complaints call the program.
pub(crate) fn parse<T>(
    program: &str,
    sections: &'static [Section<T>],
    args: &[String],
    target: &mut T,
) -> Result<Command, String> {
    let all = || sections.iter().flat_map(|section| section.flags);
    let mut given: Vec<(&Flag<T>, Given)> = Vec::new();
    let (mut command, mut others) = (Command::Run, Vec::new());
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        let word = match arg.strip_prefix("--") {
            Some("") => {
                others.extend(args.by_ref());
                break;
            }
            Some(body) => long(all(), arg, body, &mut args)?,
            None => match arg.strip_prefix('-').filter(|letters| !letters.is_empty()) {
                Some(letters) => short(all(), letters, &mut args)?,
                None => {
                    others.push(arg);
                    continue;
                }
            },
        };
        let Some(Word { flag, value, shown }) = word else { return Ok(Command::Help) };
        flag.form.check(&value).map_err(|why| format!("invalid argument {value:?} for {shown:?} flag: {why}"))?;
        if flag.form == Form::Version {
            command = if bool(&value) == Ok(false) { Command::Run } else { Command::Version(value) };
            continue;
        }
        match given.iter_mut().find(|(known, _)| known.name == flag.name) {
            Some((_, Given(values))) => values.push(value),
            None => given.push((flag, Given(vec![value]))),
        }
    }
    if !others.is_empty() {
        let shown: Vec<String> = others.iter().map(|other| format!("{other:?}")).collect();
        return Err(format!("{program:?} does not take any arguments, got [{}]", shown.join(" ")));
    }
    if !matches!(command, Command::Run) {
        return Ok(command);
    }
    let complaints: Vec<String> = given.iter().filter_map(|(flag, given)| judge(flag, given, target).err()).collect();
    match complaints.as_slice() {
        [] => Ok(Command::Run),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

/// `--name`, `--name=value` or `--name value`. Nothing for `--help`.
fn long<'a, T>(
    mut all: impl Iterator<Item = &'a Flag<T>>,
    arg: &str,
    body: &str,
    rest: &mut dyn Iterator<Item = &str>,
) -> Result<Option<Word<'a, T>>, String> {
    if body.starts_with(['-', '=']) {
        return Err(format!("bad flag syntax: {arg}"));
    }
    let (name, stated) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
    // Words may be parted by underscores as well.
    let normal = name.replace('_', "-");
    let Some(flag) = all.find(|flag| flag.name == normal) else {
        return if normal == "help" { Ok(None) } else { Err(format!("unknown flag: --{name}")) };
    };
    let value = match (stated, flag.form.without_value()) {
        (Some(value), _) | (None, Some(value)) => value,
        (None, None) => rest.next().ok_or_else(|| format!("flag needs an argument: --{normal}"))?,
    };
    let shown = if flag.name == "v" { "-v, --v".to_owned() } else { format!("--{normal}") };
    Ok(Some(Word { flag, value: value.to_owned(), shown }))
}

/// `-v 2`, `-v=2`, `-v2` or `-h`, the only flags of one letter. Nothing for `-h`.
fn short<'a, T>(
    mut all: impl Iterator<Item = &'a Flag<T>>,
    letters: &str,
    rest: &mut dyn Iterator<Item = &str>,
) -> Result<Option<Word<'a, T>>, String> {
    if letters.starts_with('h') {
        return Ok(None);
    }
    let unknown = || {
        let letter: String = letters.chars().take(1).collect();
        format!("unknown shorthand flag: '{letter}' in -{letters}")
    };
    let value = letters.strip_prefix('v').ok_or_else(unknown)?;
    let flag = all.find(|flag| flag.name == "v").ok_or_else(unknown)?;
    let value = match value {
        "" => rest.next().ok_or_else(|| "flag needs an argument: 'v' in -v".to_owned())?,
        value => value.strip_prefix('=').unwrap_or(value),
    };
    Ok(Some(Word { flag, value: value.to_owned(), shown: "-v, --v".to_owned() }))
}

fn judge<T>(flag: &Flag<T>, given: &Given, target: &mut T) -> Result<(), String> {
    let name = flag.name;
    match flag.verdict {
        Verdict::Honoured(set) => set(target, given),
        Verdict::Only(is_done, _) if is_done(given) => Ok(()),
        Verdict::Only(_, why) => Err(format!("--{name}={} cannot be honoured: {why}", given.text())),
        Verdict::Moot(_) => Ok(()),
        Verdict::Refused(why) => Err(format!("--{name} cannot be honoured: {why}")),
    }
}

/// The text of `--help`.
pub(crate) fn help<T>(usage: &str, sections: &[Section<T>]) -> String {
    let mut out = format!("{usage}\n");
    for section in sections {
        let _ = write!(out, "\n{}:\n\n", section.title);
        for flag in section.flags {
            let dashes = if flag.name == "v" { "-v, --v".to_owned() } else { format!("--{}", flag.name) };
            let text = match flag.verdict {
                Verdict::Honoured(_) => flag.help.to_owned(),
                Verdict::Only(_, why) => format!("cannot be changed: {why}"),
                Verdict::Moot(why) => format!("accepted; changes nothing: {why}"),
                Verdict::Refused(why) => format!("refused: {why}"),
            };
            let _ = write!(out, "  {dashes}{}\n        {text}\n", flag.form.word());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("1h30m", Ok(5_400_000_000_000)),
            ("1.5s", Ok(1_500_000_000)),
            (".5s", Ok(500_000_000)),
            ("250ms", Ok(250_000_000)),
            ("3µs", Ok(3_000)),
            ("-2m", Ok(-120_000_000_000)),
            ("x", Err("time: invalid duration \"x\"")),
            ("", Err("time: invalid duration \"\"")),
            ("5", Err("time: missing unit in duration \"5\"")),
            ("5d", Err("time: unknown unit \"d\" in duration \"5d\"")),
            ("1..5s", Err("time: invalid duration \"1..5s\"")),
            ("9999999h", Err("time: invalid duration \"9999999h\"")),
        ] {
            assert_eq!(nanos(text), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("10", Ok(10)),
            ("-10", Ok(-10)),
            ("+3", Ok(3)),
            ("0x1f", Ok(31)),
            ("010", Ok(8)),
            ("0", Ok(0)),
            ("", Err("strconv.ParseInt: parsing \"\": invalid syntax")),
            ("--1", Err("strconv.ParseInt: parsing \"--1\": invalid syntax")),
            ("9999999999999999999", Err("strconv.ParseInt: parsing \"9999999999999999999\": value out of range")),
        ] {
            assert_eq!(int(text), expected.map_err(str::to_owned), "{text}");
        }
        assert_eq!(uint("-1"), Err("strconv.ParseUint: parsing \"-1\": invalid syntax".into()));
    }

    #[test]
    fn ranges_of_ports_have_three_notations() {
        for (text, expected) in [
            ("30000-32767", Ok((30_000, 32_767))),
            ("30000+10", Ok((30_000, 30_010))),
            ("80", Ok((80, 80))),
            ("1-x", Err("strconv.Atoi: parsing \"x\": invalid syntax")),
            ("2-1", Err("end port cannot be less than start port: 2-1")),
            ("1-70000", Err("the port range cannot be greater than 65535: 1-70000")),
            ("1-2+3", Err("unable to parse port range: 1-2+3")),
        ] {
            assert_eq!(ports(text), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn parts_of_lists_may_be_quoted() {
        let parts = |list: &[&str]| Ok(list.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>());
        assert_eq!(split_csv(""), parts(&[]));
        assert_eq!(split_csv("a,b"), parts(&["a", "b"]));
        assert_eq!(split_csv("a,"), parts(&["a", ""]));
        assert_eq!(split_csv(r#""a,b",c"#), parts(&["a,b", "c"]));
        assert_eq!(split_csv(r#""a""b""#), parts(&["a\"b"]));
        assert!(split_csv(r#"a"b"#).is_err());
        assert!(split_csv(r#""a"b"#).is_err());
        assert!(split_csv(r#""a"#).is_err());
    }

    #[derive(Default)]
    struct Set {
        names: Vec<String>,
        on: bool,
    }

    const SECTIONS: &[Section<Set>] = &[Section {
        title: "All",
        flags: &[
            Flag {
                name: "some-names",
                form: Form::List,
                help: "names",
                verdict: Verdict::Honoured(|set, given| {
                    set.names = given.list();
                    Ok(())
                }),
            },
            Flag {
                name: "on",
                form: Form::Bool,
                help: "a switch",
                verdict: Verdict::Honoured(|set, given| {
                    set.on = given.bool();
                    Ok(())
                }),
            },
            Flag { name: "v", form: Form::Uint, help: "", verdict: Verdict::Moot("silence") },
            Flag { name: "wait", form: Form::Duration, help: "", verdict: Verdict::Moot("nobody waits") },
            Flag { name: "fixed", form: Form::Bool, help: "", verdict: Verdict::Only(Given::bool, "it is so") },
            Flag { name: "never", form: Form::Text, help: "", verdict: Verdict::Refused("do without") },
            Flag { name: "version", form: Form::Version, help: "", verdict: Verdict::Moot("") },
        ],
    }];

    fn read(line: &str) -> Result<(Command, Set), String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let mut set = Set::default();
        parse("kube-thing", SECTIONS, &args, &mut set).map(|command| (command, set))
    }

    #[test]
    fn flags_are_spelled_as_upstream_spells_them() {
        for line in ["--some-names=a,b --on", "--some_names a,b --on=true", "--some-names a --some-names=b --on=1"] {
            let (_, set) = read(line).expect(line);
            assert_eq!((set.names.join(" ").as_str(), set.on), ("a b", true), "{line}");
        }
        for line in ["-v 2", "-v=2", "-v2", "--v=2", "--wait 5s", "--fixed"] {
            assert!(matches!(read(line), Ok((Command::Run, _))), "{line}");
        }
        for line in ["--help", "-h", "--wait 5s -h"] {
            assert!(matches!(read(line), Ok((Command::Help, _))), "{line}");
        }
        assert!(matches!(read("--version"), Ok((Command::Version(value), _)) if value == "true"));
        assert!(matches!(read("--version=raw --never=x"), Ok((Command::Version(value), _)) if value == "raw"));
    }

    #[test]
    fn complaints_are_upstreams() {
        for (line, complaint) in [
            ("--nothing", "unknown flag: --nothing"),
            ("--no_thing=1", "unknown flag: --no_thing"),
            ("---on", "bad flag syntax: ---on"),
            ("--=on", "bad flag syntax: --=on"),
            ("-x", "unknown shorthand flag: 'x' in -x"),
            ("-v", "flag needs an argument: 'v' in -v"),
            ("--wait", "flag needs an argument: --wait"),
            ("--on=x", "invalid argument \"x\" for \"--on\" flag: strconv.ParseBool: parsing \"x\": invalid syntax"),
            ("-vx", "invalid argument \"x\" for \"-v, --v\" flag: strconv.ParseUint: parsing \"x\": invalid syntax"),
            ("--wait=1", "invalid argument \"1\" for \"--wait\" flag: time: missing unit in duration \"1\""),
            ("--on true", "\"kube-thing\" does not take any arguments, got [\"true\"]"),
            ("-- --on", "\"kube-thing\" does not take any arguments, got [\"--on\"]"),
            ("--never x", "--never cannot be honoured: do without"),
            ("--fixed=false", "--fixed=false cannot be honoured: it is so"),
            (
                "--fixed=false --never=",
                "[--fixed=false cannot be honoured: it is so, --never cannot be honoured: do without]",
            ),
        ] {
            assert_eq!(read(line).map(|_| ()), Err(complaint.to_owned()), "{line}");
        }
    }
}
