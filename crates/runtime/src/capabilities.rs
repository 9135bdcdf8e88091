//! Capabilities by name, and which ones a container has.

use cri::v1::Capability;
use shim::spec::Capabilities;

/// Every capability, at the index that is its number.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container has if nothing is said: containerd's set.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A capability's number. Names are taken in either case, with or without `CAP_`.
pub fn number(name: &str) -> Option<u32> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    NAMES.iter().position(|full| full.strip_prefix("CAP_") == Some(name)).and_then(|index| u32::try_from(index).ok())
}

/// The sets of a container. `known` are the capabilities that this kernel has.
pub(crate) fn plan(privileged: bool, wish: Option<&Capability>, known: u64) -> Result<Capabilities, String> {
    let bit = |name: &str| number(name).map(|bit| 1u64 << bit).ok_or_else(|| format!("unknown capability {name:?}"));
    let mut set = if privileged { known } else { 0 };
    let mut ambient = 0;
    if !privileged {
        for name in DEFAULT {
            set |= bit(name)?;
        }
    }
    if let Some(wish) = wish.filter(|_| !privileged) {
        let is_all = |name: &&String| name.eq_ignore_ascii_case("ALL");
        if wish.add_capabilities.iter().any(|name| is_all(&name)) {
            set = known;
        }
        if wish.drop_capabilities.iter().any(|name| is_all(&name)) {
            set = 0;
        }
        for name in wish.add_capabilities.iter().filter(|name| !is_all(name)) {
            set |= bit(name)?;
        }
        for name in wish.drop_capabilities.iter().filter(|name| !is_all(name)) {
            set &= !bit(name)?;
        }
        for name in &wish.add_ambient_capabilities {
            ambient |= bit(name)?;
        }
        set |= ambient;
    }
    let set = set & known;
    let ambient = ambient & known;
    // Nothing is inheritable but what is ambient: an inheritable set lets programs with file capabilities gain rights.
    Ok(Capabilities { bounding: set, effective: set, permitted: set, inheritable: ambient, ambient })
}

/// The capabilities that this kernel has.
pub(crate) fn known() -> u64 {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
    let last = last.and_then(|text| text.trim().parse::<usize>().ok()).unwrap_or(NAMES.len() - 1);
    (1 << (last.min(NAMES.len() - 1) + 1)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(set: u64) -> String {
        let names = NAMES.iter().enumerate().filter(|(bit, _)| set & (1 << bit) != 0);
        names.map(|(_, name)| name.trim_start_matches("CAP_")).collect::<Vec<_>>().join(" ")
    }

    fn check(privileged: bool, add: &[&str], drop: &[&str], expect: &str) {
        let texts = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect();
        let wish = Capability { add_capabilities: texts(add), drop_capabilities: texts(drop), ..Capability::default() };
        let shown = match plan(privileged, Some(&wish), (1 << NAMES.len()) - 1) {
            Ok(sets) => names(sets.effective),
            Err(e) => e,
        };
        assert_eq!(shown, expect);
    }

    #[test]
    fn additions_come_before_removals_and_all_before_single_ones() {
        check(false, &[], &["ALL"], "");
        check(false, &["NET_ADMIN"], &["ALL"], "NET_ADMIN");
        check(false, &["net_admin"], &["all", "CAP_NET_ADMIN"], "");
        check(false, &["ALL"], &["CHOWN"], names(((1 << NAMES.len()) - 1) & !1).as_str());
        check(true, &[], &["ALL"], names((1 << NAMES.len()) - 1).as_str());
        check(false, &["NONSENSE"], &[], "unknown capability \"NONSENSE\"");
    }
}
