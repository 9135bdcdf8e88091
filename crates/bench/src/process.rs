//! What the kernel says about a process and about the machine (`/proc`).

use std::fs::read_to_string;

use anyhow::{Context as _, Result};

/// Clock ticks in a second, as `/proc` counts them: 100 on every Linux that user space sees (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds (user and system) a process has used so far, to the tick.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = read_to_string(format!("/proc/{pid}/stat")).context("read the process's times")?;
    cpu_of_stat(&text).context("understand the process's times")
}

/// utime and stime of a `stat` line; the program's name before them may hold spaces and brackets.
fn cpu_of_stat(text: &str) -> Option<f64> {
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// CPU seconds that all cores together have been busy since boot.
pub(crate) fn machine_busy_seconds() -> Result<f64> {
    let text = read_to_string("/proc/stat").context("read the machine's times")?;
    let line = text.lines().next().context("the machine's times are empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, (idle, iowait,) irq, softirq; steal is nobody's here, guest is part of user.
    let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|&index| ticks.get(index)).sum();
    Ok(busy / TICKS_PER_SECOND)
}

/// A memory figure of a process in MiB, by its name in `status` (`VmRSS`, `VmHWM`).
pub(crate) fn memory_mib(pid: u32, name: &str) -> Result<f64> {
    let text = read_to_string(format!("/proc/{pid}/status")).context("read the process's status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).context("the status lacks the figure")?;
    Ok(kib.parse::<f64>().context("read the figure")? / 1024.0)
}

/// The machine in a line: processor, cores, memory, kernel.
pub(crate) fn machine() -> String {
    let cpuinfo = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let meminfo = read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: f64 = meminfo.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or_default();
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = model.map_or("unknown processor", |(_, model)| model);
    format!("{model}, {cores} cores, {:.0} GiB, Linux {}", kib / 1024.0 / 1024.0, kernel.trim())
}

/// The load averages.
pub(crate) fn load_average() -> String {
    let text = read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{cpu_of_stat, cpu_seconds};

    fn check(stat: &str, expect: Option<f64>) {
        assert_eq!(cpu_of_stat(stat), expect, "{stat}");
    }

    #[test]
    fn times_are_found_behind_any_program_name() {
        check("7 (kubox) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0", Some(3.0));
        check("7 (a) b) (c) S 1 7 7 0 -1 4194304 100 0 0 0 1 2 0 0 20 0", Some(0.03));
        check("7 (kubox) S 1 7", None);
        check("", None);
    }

    #[test]
    fn this_process_has_times() {
        assert!(cpu_seconds(std::process::id()).is_ok());
        assert!(cpu_seconds(0).is_err());
    }
}
