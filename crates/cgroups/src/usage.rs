//! What a cgroup uses, read from the files of either version.

use std::path::Path;

use crate::{Cgroup, read_number};

/// What a cgroup uses now and has used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor time in nanoseconds since the cgroup was made.
    pub cpu_nanos: Option<u64>,
    /// Processor time in user mode, in nanoseconds.
    pub cpu_user_nanos: Option<u64>,
    /// Processor time in the kernel, in nanoseconds.
    pub cpu_system_nanos: Option<u64>,
    /// How often the quota ended a turn.
    pub throttling: Option<CpuThrottling>,
    /// Bytes of memory, caches included.
    pub memory_bytes: Option<u64>,
    /// Bytes of memory without what could be dropped at once.
    pub memory_working_set_bytes: Option<u64>,
    /// Bytes of anonymous memory.
    pub memory_rss_bytes: Option<u64>,
    /// Bytes of the page cache.
    pub memory_cache_bytes: Option<u64>,
    /// Bytes of mapped files.
    pub memory_mapped_file_bytes: Option<u64>,
    /// The limit in bytes; absent if there is none.
    pub memory_limit_bytes: Option<u64>,
    /// The most that was used at once.
    pub memory_peak_bytes: Option<u64>,
    /// How often the limit was hit.
    pub memory_failures: Option<u64>,
    /// Page faults.
    pub page_faults: Option<u64>,
    /// Page faults that read from a disk.
    pub major_page_faults: Option<u64>,
    /// Bytes of swap.
    pub swap_bytes: Option<u64>,
    /// Tasks now.
    pub pids: Option<u64>,
    /// Waiting for processors (version 2).
    pub cpu_pressure: Option<Pressure>,
    /// Waiting for memory (version 2).
    pub memory_pressure: Option<Pressure>,
    /// Waiting for disks (version 2).
    pub io_pressure: Option<Pressure>,
}

/// How often a processor quota ended a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuThrottling {
    /// Periods that have passed.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Nanoseconds for which tasks were held back.
    pub throttled_nanos: u64,
}

/// Pressure stall information.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: PressureLine,
    /// All tasks waited.
    pub full: PressureLine,
}

/// One line of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PressureLine {
    /// Percent of the last ten seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Microseconds in all.
    pub total: u64,
}

/// Limits at or above this are version 1's way to say that there is none.
const NO_LIMIT: u64 = 1 << 62;

pub(crate) fn read_v1(cgroup: &Cgroup) -> Usage {
    let file = |controller: &str, name: &str| cgroup.folder(controller).map(|folder| folder.join(name));
    let number = |controller: &str, name: &str| file(controller, name).and_then(|path| read_number(&path));
    let text =
        |controller: &str, name: &str| file(controller, name).and_then(|path| std::fs::read_to_string(path).ok());
    let stat = text("memory", "memory.stat").unwrap_or_default();
    let memory = number("memory", "memory.usage_in_bytes");
    let cpu_stat = text("cpu", "cpu.stat");
    let both = number("memory", "memory.memsw.usage_in_bytes");
    Usage {
        cpu_nanos: number("cpuacct", "cpuacct.usage"),
        cpu_user_nanos: number("cpuacct", "cpuacct.usage_user"),
        cpu_system_nanos: number("cpuacct", "cpuacct.usage_sys"),
        throttling: cpu_stat.map(|text| CpuThrottling {
            periods: field(&text, "nr_periods").unwrap_or_default(),
            throttled_periods: field(&text, "nr_throttled").unwrap_or_default(),
            throttled_nanos: field(&text, "throttled_time").unwrap_or_default(),
        }),
        memory_bytes: memory,
        memory_working_set_bytes: memory
            .map(|bytes| bytes.saturating_sub(field(&stat, "total_inactive_file").unwrap_or_default())),
        memory_rss_bytes: field(&stat, "total_rss"),
        memory_cache_bytes: field(&stat, "total_cache"),
        memory_mapped_file_bytes: field(&stat, "total_mapped_file"),
        memory_limit_bytes: number("memory", "memory.limit_in_bytes").filter(|limit| *limit < NO_LIMIT),
        memory_peak_bytes: number("memory", "memory.max_usage_in_bytes"),
        memory_failures: number("memory", "memory.failcnt"),
        page_faults: field(&stat, "total_pgfault"),
        major_page_faults: field(&stat, "total_pgmajfault"),
        swap_bytes: field(&stat, "total_swap").or_else(|| Some(both?.saturating_sub(memory?))),
        pids: number("pids", "pids.current"),
        cpu_pressure: None,
        memory_pressure: None,
        io_pressure: None,
    }
}

pub(crate) fn read_v2(cgroup: &Cgroup) -> Usage {
    let Some(folder) = cgroup.folder("") else { return Usage::default() };
    let number = |name: &str| read_number(&folder.join(name));
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let cpu = text("cpu.stat").unwrap_or_default();
    let stat = text("memory.stat").unwrap_or_default();
    let memory = number("memory.current");
    let micros = |name: &str| field(&cpu, name).map(|micros| micros.saturating_mul(1000));
    Usage {
        cpu_nanos: micros("usage_usec"),
        cpu_user_nanos: micros("user_usec"),
        cpu_system_nanos: micros("system_usec"),
        throttling: field(&cpu, "nr_periods").map(|periods| CpuThrottling {
            periods,
            throttled_periods: field(&cpu, "nr_throttled").unwrap_or_default(),
            throttled_nanos: micros("throttled_usec").unwrap_or_default(),
        }),
        memory_bytes: memory,
        memory_working_set_bytes: memory
            .map(|bytes| bytes.saturating_sub(field(&stat, "inactive_file").unwrap_or_default())),
        memory_rss_bytes: field(&stat, "anon"),
        memory_cache_bytes: field(&stat, "file"),
        memory_mapped_file_bytes: field(&stat, "file_mapped"),
        memory_limit_bytes: number("memory.max"),
        memory_peak_bytes: number("memory.peak"),
        memory_failures: text("memory.events").and_then(|text| field(&text, "max")),
        page_faults: field(&stat, "pgfault"),
        major_page_faults: field(&stat, "pgmajfault"),
        swap_bytes: number("memory.swap.current"),
        pids: number("pids.current"),
        cpu_pressure: pressure(&folder.join("cpu.pressure")),
        memory_pressure: pressure(&folder.join("memory.pressure")),
        io_pressure: pressure(&folder.join("io.pressure")),
    }
}

/// The number after a name at the start of a line.
pub(crate) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn pressure(path: &Path) -> Option<Pressure> {
    parse_pressure(&std::fs::read_to_string(path).ok()?)
}

fn parse_pressure(text: &str) -> Option<Pressure> {
    let mut out = Pressure::default();
    for line in text.lines() {
        let (which, rest) = line.split_once(' ')?;
        let mut row = PressureLine::default();
        for (name, value) in rest.split(' ').filter_map(|pair| pair.split_once('=')) {
            match name {
                "avg10" => row.avg10 = value.parse().ok()?,
                "avg60" => row.avg60 = value.parse().ok()?,
                "avg300" => row.avg300 = value.parse().ok()?,
                "total" => row.total = value.parse().ok()?,
                _ => {}
            }
        }
        match which {
            "some" => out.some = row,
            "full" => out.full = row,
            _ => {}
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_lines_are_read_by_name() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let pressure = parse_pressure(text).expect("two lines");
        assert_eq!((pressure.some.avg10, pressure.some.total, pressure.full.total), (1.5, 77, 7));
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        assert_eq!(field("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
    }
}
