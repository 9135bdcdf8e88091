//! What names, labels and keys may look like (apimachinery `util/validation` and `api/validate/content`). Each check
//! gives upstream's messages, and none if the text is good.

/// The message for a negative number where none is allowed.
pub const NEGATIVE: &str = "must be greater than or equal to 0";

/// The message for a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";

const DNS1123_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// The longest DNS subdomain, in bytes.
pub const DNS1123_SUBDOMAIN_LEN_MAX: usize = 253;
/// The longest DNS label, in bytes.
pub const DNS1123_LABEL_LEN_MAX: usize = 63;

/// "Too long" as most checks say it.
pub fn max_len_error(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// "Too long" as the checks of labels and their keys say it.
fn max_len_bytes_error(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// The message for an empty text.
pub fn empty_error() -> String {
    "must be non-empty".to_owned()
}

/// The message for a number outside of a range.
pub fn inclusive_range_error(min: i64, max: i64) -> String {
    format!("must be between {min} and {max}, inclusive")
}

/// The message for a text that does not match a pattern.
pub fn regex_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    let mut text = message.to_owned();
    if examples.is_empty() {
        text.push_str(" (regex used for validation is '");
    } else {
        let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
        text.push_str(" (e.g. ");
        text.push_str(&examples.join(" or "));
        text.push_str("regex used for validation is '");
    }
    text.push_str(pattern);
    text.push_str("')");
    text
}

/// Stands in for what will follow a generateName: its last two bytes count as one good one if it ends with a dash.
fn mask_trailing_dash(name: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    match name.strip_suffix('-') {
        Some(rest) if prefix && !rest.is_empty() => {
            let mut bytes = rest.as_bytes().to_vec();
            bytes.pop();
            bytes.push(b'a');
            String::from_utf8_lossy(&bytes).into_owned().into()
        }
        _ => name.into(),
    }
}

fn is_lower_alphanumeric(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_dns1123_label(text: &str) -> bool {
    let edge = |c: Option<u8>| c.is_some_and(is_lower_alphanumeric);
    edge(text.bytes().next())
        && edge(text.bytes().next_back())
        && text.bytes().all(|c| is_lower_alphanumeric(c) || c == b'-')
}

fn is_dns1123_subdomain(text: &str) -> bool {
    text.split('.').all(is_dns1123_label)
}

fn is_dns1035_label(text: &str) -> bool {
    is_dns1123_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

fn is_qualified_name_part(text: &str) -> bool {
    let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.bytes().next())
        && edge(text.bytes().next_back())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}

fn subdomain_pattern_error() -> String {
    regex_error(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
         and end with an alphanumeric character",
        DNS1123_SUBDOMAIN,
        &["example.com"],
    )
}

/// A DNS-1123 subdomain: the name of most objects. With `prefix`, a trailing dash is allowed (generateName).
pub fn dns1123_subdomain(name: &str, prefix: bool) -> Vec<String> {
    let name = mask_trailing_dash(name, prefix);
    let mut messages = Vec::new();
    if name.len() > DNS1123_SUBDOMAIN_LEN_MAX {
        messages.push(max_len_error(DNS1123_SUBDOMAIN_LEN_MAX));
    }
    if !is_dns1123_subdomain(&name) {
        messages.push(subdomain_pattern_error());
    }
    messages
}

/// A DNS-1123 subdomain in which labels may also have underscores (DNS search domains).
pub fn dns1123_subdomain_with_underscore(name: &str) -> Vec<String> {
    let label = |text: &str| {
        let text = text.strip_prefix('_').unwrap_or(text);
        let edge = |c: Option<u8>| c.is_some_and(is_lower_alphanumeric);
        edge(text.bytes().next())
            && edge(text.bytes().next_back())
            && text.bytes().all(|c| is_lower_alphanumeric(c) || c == b'-' || c == b'_')
    };
    let mut messages = Vec::new();
    if name.len() > DNS1123_SUBDOMAIN_LEN_MAX {
        messages.push(max_len_error(DNS1123_SUBDOMAIN_LEN_MAX));
    }
    if !name.split('.').all(label) {
        messages.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and \
             must start and end with an alphanumeric character",
            "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    messages
}

/// A DNS-1123 label: the name of a Namespace or container. With `prefix`, a trailing dash is allowed (generateName).
pub fn dns1123_label(name: &str, prefix: bool) -> Vec<String> {
    let name = mask_trailing_dash(name, prefix);
    let mut messages = Vec::new();
    if name.len() > DNS1123_LABEL_LEN_MAX {
        messages.push(max_len_error(DNS1123_LABEL_LEN_MAX));
    }
    if !is_dns1123_label(&name) {
        messages.push(if is_dns1123_subdomain(&name) {
            "must not contain dots".to_owned()
        } else {
            regex_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character",
                DNS1123_LABEL,
                &["my-name", "123-abc"],
            )
        });
    }
    messages
}

/// A DNS-1035 label: the name of a Service before 1.34. With `prefix`, a trailing dash is allowed (generateName).
pub fn dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    let name = mask_trailing_dash(name, prefix);
    let mut messages = Vec::new();
    if name.len() > DNS1123_LABEL_LEN_MAX {
        messages.push(max_len_error(DNS1123_LABEL_LEN_MAX));
    }
    if !is_dns1035_label(&name) {
        messages.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    messages
}

/// A wildcard subdomain such as `*.example.com` (Ingress hosts).
pub fn wildcard_dns1123_subdomain(name: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if name.len() > DNS1123_SUBDOMAIN_LEN_MAX {
        messages.push(max_len_error(DNS1123_SUBDOMAIN_LEN_MAX));
    }
    if !name.strip_prefix("*.").is_some_and(is_dns1123_subdomain) {
        messages.push(regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
             consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            "\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
            &["*.example.com"],
        ));
    }
    messages
}

/// The key of a label, annotation, finalizer, taint or resource: `name`, or `example.com/name`.
pub fn qualified_name(name: &str) -> Vec<String> {
    const WHY: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                       alphanumeric character";
    const EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];
    let mut messages = Vec::new();
    let name = match name.split_once('/') {
        None => name,
        Some((_, rest)) if rest.contains('/') => {
            return vec![format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                regex_error(WHY, QUALIFIED_NAME, EXAMPLES)
            )];
        }
        Some((prefix, rest)) => {
            if prefix.is_empty() {
                messages.push(format!("prefix part {}", empty_error()));
            } else {
                if prefix.len() > DNS1123_SUBDOMAIN_LEN_MAX {
                    messages.push(format!("prefix part {}", max_len_bytes_error(DNS1123_SUBDOMAIN_LEN_MAX)));
                }
                if !is_dns1123_subdomain(prefix) {
                    messages.push(format!("prefix part {}", subdomain_pattern_error()));
                }
            }
            rest
        }
    };
    if name.is_empty() {
        messages.push(format!("name part {}", empty_error()));
    } else if name.len() > 63 {
        messages.push(format!("name part {}", max_len_bytes_error(63)));
    }
    if !is_qualified_name_part(name) {
        messages.push(format!("name part {}", regex_error(WHY, QUALIFIED_NAME, EXAMPLES)));
    }
    messages
}

/// The value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > 63 {
        messages.push(max_len_bytes_error(63));
    }
    if !value.is_empty() && !is_qualified_name_part(value) {
        messages.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    messages
}

/// A name that can stand in a URL path as one segment (RBAC names). With `prefix`, it is a generateName.
pub fn path_segment_name(name: &str, prefix: bool) -> Vec<String> {
    if !prefix && (name == "." || name == "..") {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"].iter().filter(|bad| name.contains(**bad)).map(|bad| format!("may not contain '{bad}'")).collect()
}

/// A C identifier.
pub fn c_identifier(text: &str) -> Vec<String> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts_well && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_') {
        return Vec::new();
    }
    vec![regex_error(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
         characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// The name of an environment variable, by the rule that containers keep since 1.32: any printable ASCII but `=`.
pub fn env_var_name(name: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if name.is_empty() {
        messages.push(format!("environment variable name {}", empty_error()));
    }
    if !name.bytes().all(|c| (b' '..=b'~').contains(&c) && c != b'=') {
        messages.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    messages
}

/// The name of an environment variable, by the older, stricter rule.
pub fn strict_env_var_name(name: &str) -> Vec<String> {
    let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    let mut messages = Vec::new();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.bytes().all(good) {
        messages.push(regex_error(
            "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and \
             must not start with a digit",
            "[-._a-zA-Z][-._a-zA-Z0-9]*",
            &["my.env-name", "MY_ENV.NAME", "MyEnvName1"],
        ));
    }
    messages.extend(dot_dot_prefix(name));
    messages
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(key: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if key.len() > DNS1123_SUBDOMAIN_LEN_MAX {
        messages.push(max_len_error(DNS1123_SUBDOMAIN_LEN_MAX));
    }
    if key.is_empty() || !key.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.')) {
        messages.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    messages.extend(dot_dot_prefix(key));
    messages
}

fn dot_dot_prefix(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if text.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// The name of an HTTP header.
pub fn http_header_name(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
        return Vec::new();
    }
    vec![regex_error(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// A port number.
pub fn port_num(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

/// A number within a range.
pub fn in_range(value: i64, min: i64, max: i64) -> Vec<String> {
    if (min..=max).contains(&value) { Vec::new() } else { vec![inclusive_range_error(min, max)] }
}

/// A user id.
pub fn user_id(id: i64) -> Vec<String> {
    in_range(id, 0, i64::from(i32::MAX))
}

/// A group id.
pub fn group_id(id: i64) -> Vec<String> {
    in_range(id, 0, i64::from(i32::MAX))
}

/// The name of a port (IANA service name).
pub fn port_name(name: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if name.len() > 15 {
        messages.push(max_len_error(15));
    }
    if name.is_empty() || !name.bytes().all(|c| is_lower_alphanumeric(c) || c == b'-') {
        messages.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|c| c.is_ascii_lowercase()) {
        messages.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        messages.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        messages.push("must not begin or end with a hyphen".to_owned());
    }
    messages
}

/// A percentage such as `25%`.
pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) {
        return Vec::new();
    }
    vec![regex_error(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// The reason of a condition.
pub fn condition_reason(reason: &str) -> Vec<String> {
    let tail = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let good = reason.starts_with(|c: char| c.is_ascii_alphabetic())
        && reason.bytes().next_back().is_some_and(tail)
        && reason.bytes().all(|c| tail(c) || c == b',' || c == b':');
    if good {
        return Vec::new();
    }
    vec![regex_error(
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric \
         characters or '_,:', and must end with an alphanumeric character or '_'",
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
    )]
}

/// A name with at least three segments (`a.b.c`): one message at most; an empty name is the caller's to refuse.
pub fn fully_qualified_name(name: &str) -> Option<String> {
    let messages = dns1123_subdomain(name, false);
    if !messages.is_empty() {
        return Some(messages.join(","));
    }
    (name.split('.').count() < 3)
        .then(|| "should be a domain with at least three segments separated by dots".to_owned())
}

/// A domain name with at least two segments, a trailing dot allowed: the offending text and the message.
pub fn fully_qualified_domain_name(name: &str) -> Option<(&str, String)> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let messages = dns1123_subdomain(name, false);
    if !messages.is_empty() {
        return Some((name, messages.join(",")));
    }
    if name.split('.').count() < 2 {
        return Some((name, "should be a domain with at least two segments separated by dots".to_owned()));
    }
    name.split('.').find_map(|label| {
        let messages = dns1123_label(label, false);
        (!messages.is_empty()).then(|| (label, messages.join(",")))
    })
}

/// A path with a domain before it (`example.com/path`): the offending texts and messages; an empty one is the
/// caller's to refuse.
pub fn domain_prefixed_path(path: &str) -> Vec<(&str, String)> {
    let Some((host, rest)) = path.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty()) else {
        return vec![(path, "must be a domain-prefixed path (such as \"acme.io/foo\")".to_owned())];
    };
    let mut messages: Vec<(&str, String)> =
        dns1123_subdomain(host, false).into_iter().map(|message| (host, message)).collect();
    let good = |c: u8| c.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&c);
    if !rest.bytes().all(good) {
        messages.push((rest, regex_error("Invalid path", "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+", &[])));
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_good_give_no_message() {
        let long = "a".repeat(63);
        for name in ["a", "ab", "abc", "a1", "a-1", "a--1--2--b", "0", "01", "1a", long.as_str()] {
            assert!(dns1123_label(name, false).is_empty(), "{name}");
            assert!(dns1123_subdomain(name, false).is_empty(), "{name}");
            assert_eq!(dns1035_label(name, false).is_empty(), name.starts_with('a'), "{name}");
        }
        for name in ["simple", "1234", "now.with.dots/simple", "Uppercase_Is_OK_123", "1.2.3.4/5678"] {
            assert!(qualified_name(name).is_empty(), "{name}");
        }
        for name in ["", "simple", "end-with-num-1", long.as_str()] {
            assert!(label_value(name).is_empty(), "{name}");
        }
        for name in ["telnet", "re-mail-ck", "pop3", "a", "a-1", "1-a"] {
            assert!(port_name(name).is_empty(), "{name}");
        }
        for name in ["a b", "MY.VAR", "1", "-", "a\"b"] {
            assert!(env_var_name(name).is_empty(), "{name}");
        }
    }

    #[test]
    fn names_that_are_bad_give_upstreams_messages() {
        let long = "a".repeat(64);
        for (messages, expect) in [
            (dns1123_label("a.b", false), vec!["must not contain dots"]),
            (dns1123_label(&long, false), vec!["must be no more than 63 characters"]),
            (label_value(&long), vec!["must be no more than 63 bytes"]),
            (qualified_name(&format!("a/{long}")), vec!["name part must be no more than 63 bytes"]),
            (path_segment_name("..", false), vec!["may not be '..'"]),
            (path_segment_name("a/b%", false), vec!["may not contain '/'", "may not contain '%'"]),
            (port_num(0), vec!["must be between 1 and 65535, inclusive"]),
            (user_id(-1), vec!["must be between 0 and 2147483647, inclusive"]),
            (
                port_name("1--"),
                vec![
                    "must contain at least one letter (a-z)",
                    "must not contain consecutive hyphens",
                    "must not begin or end with a hyphen",
                ],
            ),
            (
                http_header_name("a_b"),
                vec![
                    "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used \
                 for validation is '[-A-Za-z0-9]+')",
                ],
            ),
            (
                percent("5"),
                vec![
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
                 regex used for validation is '[0-9]+%')",
                ],
            ),
            (config_map_key("..a"), vec!["must not start with '..'"]),
            (
                env_var_name("a=b"),
                vec![
                    "a valid environment variable name must consist only of printable ASCII characters other than '='",
                ],
            ),
        ] {
            assert_eq!(messages, expect);
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "ä"] {
            assert!(!dns1123_subdomain(bad, false).is_empty(), "{bad}");
        }
        for bad in ["nospecialchars%^=@", "only/one/slash", "Example.com/abc", "example.com/", "/simple", "-a"] {
            assert!(!qualified_name(bad).is_empty(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_may_end_with_a_dash() {
        for (name, good) in [("a-", true), ("ab-", true), ("a--", true), ("-", false), ("a.-", true), ("A-", true)] {
            assert_eq!(dns1123_subdomain(name, true).is_empty(), good, "{name}");
        }
        assert!(!dns1123_subdomain("a-", false).is_empty());
    }
}
