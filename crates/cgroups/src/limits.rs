//! What limits mean in either version: a table of files to write.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Limits as the CRI states them; what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Share of the processor time in a contest, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in a period; -1 is no limit.
    pub cpu_quota: Option<i64>,
    /// The period in microseconds.
    pub cpu_period: Option<u64>,
    /// Processors, as a list of ranges.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, as a list of ranges.
    pub cpuset_mems: Option<String>,
    /// Bytes of memory; -1 is no limit.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 is no limit.
    pub memory_swap: Option<i64>,
    /// The greatest number of tasks; -1 is no limit.
    pub pids: Option<i64>,
    /// Bytes of huge pages by page size (`2MB`).
    pub hugepages: BTreeMap<String, u64>,
    /// Files of version 2 to write as they are.
    pub unified: BTreeMap<String, String>,
    /// Which devices may be used (version 1; version 2 has no file for it); none means no change.
    pub devices: Vec<DeviceRule>,
}

/// Devices that may (or may not) be used; a row overrides those above it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allowed, or denied.
    pub allow: bool,
    /// `a` (all), `b` (block) or `c` (character).
    pub kind: char,
    /// Any, if absent.
    pub major: Option<u32>,
    /// Any, if absent.
    pub minor: Option<u32>,
    /// Of `r`, `w` and `m`.
    pub access: String,
}

impl DeviceRule {
    fn text(&self) -> String {
        if self.kind == 'a' {
            return "a".to_owned();
        }
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |n| n.to_string());
        format!("{} {}:{} {}", self.kind, number(self.major), number(self.minor), self.access)
    }
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Whose folder.
    pub controller: String,
    /// The file in it.
    pub file: String,
    /// What to write.
    pub value: String,
    /// Whether the file may be absent.
    pub optional: bool,
}

/// A weight of version 2 (1 to 10000) for shares of version 1 (2 to 262144). KEP-2254's formula since Kubernetes 1.35:
/// 1024 shares become 100, the default of either.
pub fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        _ => {
            #[expect(clippy::cast_precision_loss, reason = "shares are below 2^18")]
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between 1 and 10000")]
            let weight = 10f64.powf(exponent).ceil() as u64;
            weight
        }
    }
}

impl Limits {
    /// The files to write, in order. `memory_swap_now` is version 1's present limit of memory and swap: the two limits
    /// may never cross, so it decides which comes first.
    pub fn writes(&self, v2: bool, memory_swap_now: Option<u64>) -> Vec<Write> {
        let mut out = Vec::new();
        let mut row = |controller: &str, file: &str, value: String, optional: bool| {
            out.push(Write { controller: controller.to_owned(), file: file.to_owned(), value, optional });
        };
        let max_or = |number: i64| if number < 0 { "max".to_owned() } else { number.to_string() };
        if v2 {
            if let Some(shares) = self.cpu_shares {
                row("cpu", "cpu.weight", weight_of_shares(shares).max(1).to_string(), true);
            }
            match (self.cpu_quota, self.cpu_period) {
                (None, None) => {}
                (quota, Some(period)) => {
                    row("cpu", "cpu.max", format!("{} {period}", max_or(quota.unwrap_or(-1))), false)
                }
                (Some(quota), None) => row("cpu", "cpu.max", max_or(quota), false),
            }
            if let Some(memory) = self.memory {
                row("memory", "memory.max", max_or(memory), false);
            }
            if let Some(both) = self.memory_swap {
                let swap = match self.memory {
                    Some(memory) if both >= 0 && memory >= 0 => (both - memory).max(0),
                    _ => both,
                };
                row("memory", "memory.swap.max", max_or(swap), true);
            }
        } else {
            if let Some(shares) = self.cpu_shares {
                row("cpu", "cpu.shares", shares.max(2).to_string(), false);
            }
            if let Some(period) = self.cpu_period {
                row("cpu", "cpu.cfs_period_us", period.to_string(), false);
            }
            if let Some(quota) = self.cpu_quota {
                row("cpu", "cpu.cfs_quota_us", quota.to_string(), false);
            }
            let memory = self.memory.map(|memory| ("memory.limit_in_bytes", memory, false));
            let both = self.memory_swap.map(|both| ("memory.memsw.limit_in_bytes", both, true));
            let grows = match (self.memory, memory_swap_now) {
                (Some(memory), Some(now)) => memory < 0 || u64::try_from(memory).is_ok_and(|memory| memory > now),
                _ => false,
            };
            let order = if grows { [both, memory] } else { [memory, both] };
            for (file, value, optional) in order.into_iter().flatten() {
                row("memory", file, value.to_string(), optional);
            }
        }
        if let Some(cpus) = &self.cpuset_cpus {
            row("cpuset", "cpuset.cpus", cpus.clone(), false);
        }
        if let Some(mems) = &self.cpuset_mems {
            row("cpuset", "cpuset.mems", mems.clone(), false);
        }
        if let Some(pids) = self.pids {
            row("pids", "pids.max", max_or(pids), false);
        }
        for (size, bytes) in &self.hugepages {
            let file = if v2 { format!("hugetlb.{size}.max") } else { format!("hugetlb.{size}.limit_in_bytes") };
            row("hugetlb", &file, bytes.to_string(), true);
        }
        if v2 {
            for (file, value) in &self.unified {
                row("", file, value.clone(), false);
            }
        } else {
            for rule in &self.devices {
                row("devices", if rule.allow { "devices.allow" } else { "devices.deny" }, rule.text(), true);
            }
        }
        out
    }
}
