//! The names of time zones.

/// The names of the IANA time zone database, sorted.
const NAMES: &str = include_str!("time_zones.txt");

/// The longest part of a name.
const PART_LEN_MAX: usize = 14;

/// Whether Go's `time.LoadLocation` finds the name; the error is Go's text.
pub(super) fn load(name: &str) -> Result<(), String> {
    if matches!(name, "" | "Local") || NAMES.lines().any(|line| line == name) {
        return Ok(());
    }
    if name.contains("..") || name.starts_with(['/', '\\']) || name.contains('\\') {
        return Err("time: invalid location name".to_owned());
    }
    Err(format!("unknown time zone {name}"))
}

/// What is wrong with the name of an explicit time zone.
pub(super) fn check(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["timeZone must be nil or non-empty string".to_owned()];
    }
    let is_character = |c: u8| c.is_ascii_alphanumeric() || b".-_+".contains(&c);
    let is_part = |part: &str| {
        !part.is_empty()
            && part.len() <= PART_LEN_MAX
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(is_character)
    };
    if !name.split('/').all(is_part) {
        return vec![format!("unknown time zone {name}")];
    }
    let mut wrong = Vec::new();
    if name.eq_ignore_ascii_case("local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        wrong.push(why.to_owned());
    }
    wrong.extend(load(name).err());
    wrong
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn time_zones_are_known_by_name() {
        for (name, expect) in [
            ("Europe/Paris", ""),
            ("UTC", ""),
            ("Etc/GMT+12", ""),
            ("America/Argentina/Buenos_Aires", ""),
            ("", "timeZone must be nil or non-empty string"),
            ("Mars/Olympus", "unknown time zone Mars/Olympus"),
            ("../etc", "unknown time zone ../etc"),
            ("Europe//Paris", "unknown time zone Europe//Paris"),
            ("Local", "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"),
            (
                "local",
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones|unknown time zone local",
            ),
            ("a..b", "time: invalid location name"),
        ] {
            assert_eq!(check(name).join("|"), expect, "{name}");
        }
    }
}
