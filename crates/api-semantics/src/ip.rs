//! IP addresses and CIDRs as API fields hold them (apimachinery `util/validation/ip.go`).
//!
//! Fields that are older than strict validation accept any spelling of a good address; addresses with leading zeros
//! and IPv4-mapped IPv6 ones are refused unless the old object has them already.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::field::{Error, ErrorList, Path, quoted};

/// An address, read leniently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedIp {
    /// The address; an IPv4-mapped IPv6 one is taken as IPv4, as Go does.
    pub addr: IpAddr,
    /// Whether it was written as an IPv4-mapped IPv6 address.
    pub is_mapped: bool,
    /// Whether a number in it has leading zeros that other software may read as octal.
    pub has_leading_zeros: bool,
}

/// A CIDR, read leniently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedCidr {
    /// The address before the slash.
    pub ip: ParsedIp,
    /// The prefix length, out of 32 or 128 as the address is written.
    pub prefix: u8,
    /// Whether the prefix length has leading zeros.
    pub prefix_has_leading_zeros: bool,
}

/// Reads an address as apimachinery does (`ParseIPSloppy`).
pub fn parse(text: &str) -> Option<ParsedIp> {
    if !text.contains(':') {
        let (addr, has_leading_zeros) = parse_v4(text)?;
        return Some(ParsedIp { addr: addr.into(), is_mapped: false, has_leading_zeros });
    }
    let (addr, has_leading_zeros) = parse_v6(text)?;
    Some(match addr.to_ipv4_mapped() {
        Some(v4) => ParsedIp { addr: v4.into(), is_mapped: true, has_leading_zeros },
        None => ParsedIp { addr: addr.into(), is_mapped: false, has_leading_zeros },
    })
}

fn parse_v4(text: &str) -> Option<(Ipv4Addr, bool)> {
    let (mut octets, mut count, mut zeros) = ([0u8; 4], 0, false);
    for part in text.split('.') {
        if count == 4 || part.is_empty() || part.len() > 64 || !part.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        zeros |= part.len() > 1 && part.starts_with('0');
        octets[count] = part
            .bytes()
            .try_fold(0u32, |n, c| {
                let n = n * 10 + u32::from(c - b'0');
                (n < 0xFF_FFFF).then_some(n)
            })?
            .try_into()
            .ok()?;
        count += 1;
    }
    (count == 4).then(|| (octets.into(), zeros))
}

fn parse_v6(text: &str) -> Option<(Ipv6Addr, bool)> {
    let mut zeros = false;
    let mut groups = |text: &str| -> Option<Vec<u16>> {
        let mut groups = Vec::new();
        if text.is_empty() {
            return Some(groups);
        }
        let mut parts = text.split(':').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() && part.contains('.') {
                let (v4, has_leading_zeros) = parse_v4(part)?;
                zeros |= has_leading_zeros;
                let [a, b, c, d] = v4.octets();
                groups.extend([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
                break;
            }
            if part.is_empty() || part.len() > 64 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return None;
            }
            zeros |= part.len() > 4;
            groups.push(u16::from_str_radix(part, 16).ok()?);
            if groups.len() > 8 {
                return None;
            }
        }
        Some(groups)
    };
    let all = match text.split_once("::") {
        Some((head, tail)) => {
            if head.contains('.') {
                return None;
            }
            let (head, tail) = (groups(head)?, groups(tail)?);
            // The ellipsis must stand for at least one group.
            let missing = 8usize.checked_sub(head.len() + tail.len()).filter(|missing| *missing > 0)?;
            [head, vec![0; missing], tail].concat()
        }
        None => groups(text)?,
    };
    let segments: [u16; 8] = all.try_into().ok()?;
    Some((segments.into(), zeros))
}

/// Reads a CIDR as apimachinery does (`ParseCIDRSloppy`).
pub fn parse_cidr(text: &str) -> Option<ParsedCidr> {
    let (addr, prefix) = text.split_once('/')?;
    let ip = parse(addr)?;
    if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let number = prefix.trim_start_matches('0');
    let number: u8 = if number.is_empty() { 0 } else { number.parse().ok()? };
    let bits = if ip.addr.is_ipv4() && !ip.is_mapped { 32 } else { 128 };
    (number <= bits).then_some(ParsedCidr {
        ip,
        prefix: number,
        prefix_has_leading_zeros: prefix.len() > 1 && prefix.starts_with('0'),
    })
}

impl ParsedCidr {
    /// The first address of the block.
    pub fn network(&self) -> IpAddr {
        mask(self.ip.addr, self.bits())
    }

    /// The prefix length out of the bits of the address: of a mapped one, what is left of it for IPv4.
    pub fn bits(&self) -> u8 {
        if self.ip.is_mapped { self.prefix.saturating_sub(96) } else { self.prefix }
    }

    /// Whether an address lies in the block.
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.ip.addr.is_ipv4() && mask(addr, self.bits()) == self.network()
    }
}

impl fmt::Display for ParsedCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.bits())
    }
}

fn mask(addr: IpAddr, bits: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            Ipv4Addr::from(u32::from(v4) & keep).into()
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            Ipv6Addr::from(u128::from(v6) & keep).into()
        }
    }
}

/// Whether a text is an IPv4 address.
pub fn is_v4(text: &str) -> bool {
    parse(text).is_some_and(|ip| ip.addr.is_ipv4())
}

/// Whether a text is an IPv6 address.
pub fn is_v6(text: &str) -> bool {
    parse(text).is_some_and(|ip| ip.addr.is_ipv6())
}

/// Whether a text is a CIDR of IPv4 addresses.
pub fn is_v4_cidr(text: &str) -> bool {
    parse_cidr(text).is_some_and(|cidr| cidr.ip.addr.is_ipv4())
}

/// Whether a text is a CIDR of IPv6 addresses.
pub fn is_v6_cidr(text: &str) -> bool {
    parse_cidr(text).is_some_and(|cidr| cidr.ip.addr.is_ipv6())
}

const BAD_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const BAD_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Checks an address in a field that is older than strict validation; `old` are the texts that the old object holds
/// there, which are good as they are.
pub fn validate_legacy(path: &Path<'_>, text: &str, old: &[&str]) -> ErrorList {
    let mut errors = ErrorList::new();
    if old.contains(&text) {
        return errors;
    }
    match parse(text) {
        None => errors.push(Error::invalid(path, text, BAD_IP)),
        Some(ip) => {
            if ip.has_leading_zeros {
                errors.push(Error::invalid(path, text, "must not have leading 0s"));
            } else if ip.is_mapped {
                errors.push(Error::invalid(path, text, "must not be an IPv4-mapped IPv6 address"));
            }
        }
    }
    errors
}

/// Checks an address in a newer field: it must also be in canonical form.
pub fn validate(path: &Path<'_>, text: &str) -> ErrorList {
    let mut errors = validate_legacy(path, text, &[]);
    if let (true, Some(ip)) = (errors.is_empty(), parse(text))
        && ip.addr.to_string() != text
    {
        let why = format!("must be in canonical form ({})", quoted(&ip.addr.to_string()));
        errors.push(Error::invalid(path, text, why));
    }
    errors
}

/// Checks a CIDR in a field that is older than strict validation; `old` as in [`validate_legacy`].
pub fn validate_cidr_legacy(path: &Path<'_>, text: &str, old: &[&str]) -> ErrorList {
    let mut errors = ErrorList::new();
    if old.contains(&text) {
        return errors;
    }
    let why = match parse_cidr(text) {
        None => BAD_CIDR,
        Some(cidr) if cidr.ip.has_leading_zeros || cidr.prefix_has_leading_zeros => {
            "must not have leading 0s in IP or prefix length"
        }
        Some(cidr) if cidr.ip.is_mapped => "must not have an IPv4-mapped IPv6 address",
        Some(cidr) if cidr.network() != cidr.ip.addr => "must not have bits set beyond the prefix length",
        Some(_) => return errors,
    };
    errors.push(Error::invalid(path, text, why));
    errors
}

/// Checks a CIDR in a newer field: it must also be in canonical form.
pub fn validate_cidr(path: &Path<'_>, text: &str) -> ErrorList {
    let mut errors = validate_cidr_legacy(path, text, &[]);
    if let (true, Some(cidr)) = (errors.is_empty(), parse_cidr(text))
        && cidr.to_string() != text
    {
        let why = format!("must be in canonical form ({})", quoted(&cidr.to_string()));
        errors.push(Error::invalid(path, text, why));
    }
    errors
}

/// Warns of an address that is accepted, but written in a way that other software may misread.
pub fn warning(path: &Path<'_>, text: &str) -> Option<String> {
    let ip = parse(text)?;
    if ip.has_leading_zeros || ip.is_mapped {
        return Some(format!(
            "{path}: non-standard IP address {} is invalid: use {}",
            quoted(text),
            quoted(&ip.addr.to_string())
        ));
    }
    (ip.addr.is_ipv6() && ip.addr.to_string() != text).then(|| {
        format!(
            "{path}: IPv6 address {} should be in RFC 5952 canonical format ({})",
            quoted(text),
            quoted(&ip.addr.to_string())
        )
    })
}

/// Warns of a CIDR that is accepted, but written in a way that other software may misread.
pub fn cidr_warnings(path: &Path<'_>, text: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(cidr) = parse_cidr(text) else { return warnings };
    if cidr.network() != cidr.ip.addr {
        let single = format!("{}/{}", cidr.ip.addr, if cidr.ip.addr.is_ipv4() { 32 } else { 128 });
        warnings.push(format!(
            "{path}: CIDR value {} is ambiguous in this context (should be {} or {}?)",
            quoted(text),
            quoted(&cidr.to_string()),
            quoted(&single)
        ));
    }
    if cidr.ip.has_leading_zeros || cidr.prefix_has_leading_zeros || cidr.ip.is_mapped {
        warnings.push(format!(
            "{path}: non-standard CIDR value {} is invalid: use {}",
            quoted(text),
            quoted(&cidr.to_string())
        ));
    }
    if warnings.is_empty() && cidr.ip.addr.is_ipv6() && cidr.to_string() != text {
        warnings.push(format!(
            "{path}: IPv6 CIDR value {} should be in RFC 5952 canonical format ({})",
            quoted(text),
            quoted(&cidr.to_string())
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_leniently_and_judged_strictly() {
        for (text, expect) in [
            ("10.9.8.7", ""),
            ("2001:db8::ffff", ""),
            ("FE80:0:0:0:0:0:0:0abc", ""),
            ("::", ""),
            ("1:2:3:4:5:6:7::", ""),
            ("010.002.003.004", "must not have leading 0s"),
            ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
            ("1.2.3", BAD_IP),
            ("1.2.3.256", BAD_IP),
            ("1.2.3.4.5", BAD_IP),
            ("1::2::3", BAD_IP),
            ("1:2:3:4:5:6:7:8::", BAD_IP),
            ("fe80::1%eth0", BAD_IP),
            ("1:2:3:4:5:6:7:8:9", BAD_IP),
            ("::1.2.3.4:5", BAD_IP),
            ("", BAD_IP),
        ] {
            let errors = validate_legacy(&Path::new("ip"), text, &[]);
            assert_eq!(errors.first().map(|e| e.detail.as_str()).unwrap_or_default(), expect, "{text}");
        }
        assert!(validate_legacy(&Path::new("ip"), "01.2.3.4", &["01.2.3.4"]).is_empty());
        let errors = validate(&Path::new("ip"), "FE80::0abc");
        assert_eq!(errors[0].detail, "must be in canonical form (\"fe80::abc\")");
    }

    #[test]
    fn cidrs_are_read_leniently_and_judged_strictly() {
        for (text, expect) in [
            ("10.9.8.0/24", ""),
            ("0.0.0.0/0", ""),
            ("2001:db8::/64", ""),
            ("10.9.8.7/24", "must not have bits set beyond the prefix length"),
            ("10.9.8.0/024", "must not have leading 0s in IP or prefix length"),
            ("::ffff:1.2.3.0/120", "must not have an IPv4-mapped IPv6 address"),
            ("10.9.8.0/33", BAD_CIDR),
            ("10.9.8.0", BAD_CIDR),
            ("10.9.8.0/", BAD_CIDR),
        ] {
            let errors = validate_cidr_legacy(&Path::new("cidr"), text, &[]);
            assert_eq!(errors.first().map(|e| e.detail.as_str()).unwrap_or_default(), expect, "{text}");
        }
        assert_eq!(parse_cidr("::ffff:1.2.3.4/120").map(|c| c.to_string()).as_deref(), Some("1.2.3.0/24"));
        assert!(parse_cidr("10.0.0.0/8").is_some_and(|c| c.contains("10.1.2.3".parse().unwrap())));
    }
}
