//! What the machine is: read from the kernel's files, so that it works wherever those are.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use smol_str::SmolStr;

/// The machine that the node runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The name that it gives itself, in lower case.
    pub hostname: String,
    /// Processors that are online.
    pub cpus: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Swap in bytes.
    pub swap_bytes: u64,
    /// Huge pages: the size in KiB of each kind that the kernel has, and their number.
    pub huge_pages: Vec<(u64, u64)>,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The firmware's number for it.
    pub system_uuid: String,
    /// A number that changes when it is started.
    pub boot_id: String,
    /// The kernel's release.
    pub kernel_version: String,
    /// What the distribution calls itself.
    pub os_image: String,
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

impl Machine {
    /// Looks.
    pub fn look() -> Machine {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        Machine {
            hostname: line("/proc/sys/kernel/hostname").to_lowercase(),
            cpus: cpus(&line("/sys/devices/system/cpu/online")),
            memory_bytes: kib("MemTotal") * 1024,
            swap_bytes: kib("SwapTotal") * 1024,
            huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages")),
            machine_id: line("/etc/machine-id"),
            system_uuid: Some(line("/sys/class/dmi/id/product_uuid"))
                .filter(|id| !id.is_empty())
                .unwrap_or_else(|| line("/etc/machine-id")),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel_version: line("/proc/sys/kernel/osrelease"),
            os_image: os_image(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        }
    }
}

/// The number of processors in a list such as `0-3,8`.
fn cpus(list: &str) -> u64 {
    let count = |range: &str| -> Option<u64> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.trim().parse::<u64>().ok()?.checked_sub(first.trim().parse().ok()?)? + 1)
    };
    let listed: u64 = list.split(',').filter_map(count).sum();
    if listed > 0 { listed } else { std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64) }
}

fn huge_pages(folder: &Path) -> Vec<(u64, u64)> {
    let mut pages: Vec<(u64, u64)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let size = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
            Some((size, count))
        })
        .collect();
    pages.sort_unstable();
    pages
}

fn os_image(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// The node's own addresses: the one from which it reaches others, IPv4 first.
///
/// No packet is sent: the kernel is only asked which address it would use. Without a route to anywhere, the first address
/// of the routing table that is not loopback serves.
pub fn own_ips() -> Vec<SmolStr> {
    let towards = |local: &str, remote: &str| -> Option<IpAddr> {
        let socket = UdpSocket::bind(local).ok()?;
        socket.connect(remote).ok()?;
        let address = socket.local_addr().ok()?.ip();
        (!address.is_loopback() && !address.is_unspecified()).then_some(address)
    };
    // Addresses that documents use as examples (RFC 5737, RFC 3849): they are routed like any foreign one.
    let mut ips: Vec<IpAddr> = towards("0.0.0.0:0", "192.0.2.1:9").into_iter().collect();
    if ips.is_empty() {
        ips.extend(local_ipv4(&fs::read_to_string("/proc/net/fib_trie").unwrap_or_default()));
    }
    ips.extend(towards("[::]:0", "[2001:db8::1]:9"));
    ips.iter().map(|ip| SmolStr::new(ip.to_string())).collect()
}

/// The first address in the kernel's routing tree that is a host's own and not loopback.
fn local_ipv4(fib_trie: &str) -> Option<IpAddr> {
    let mut last = None;
    for line in fib_trie.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<IpAddr>().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = last.filter(|address| !address.is_loopback())
        {
            return Some(address);
        }
    }
    None
}

/// The size of the disk that holds a path, and what is left of it for anybody: bytes, then inodes.
pub fn disk(path: &Path) -> Option<Disk> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(Disk {
        capacity_bytes: stat.f_blocks * stat.f_frsize,
        available_bytes: stat.f_bavail * stat.f_frsize,
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    })
}

/// A file system's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Its size in bytes.
    pub capacity_bytes: u64,
    /// Bytes that are left.
    pub available_bytes: u64,
    /// How many files it can hold.
    pub inodes: u64,
    /// How many more.
    pub inodes_free: u64,
}

/// What the whole machine uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineUsage {
    /// Processor time since its start, in nanoseconds, over all processors.
    pub cpu_nanoseconds: u64,
    /// Memory that programs can still get, in bytes.
    pub memory_available_bytes: u64,
    /// The rest.
    pub memory_used_bytes: u64,
}

/// Looks at what the machine uses.
pub fn usage() -> MachineUsage {
    /// The kernel's unit for processor time in `/proc/stat`.
    const TICK_NANOSECONDS: u64 = 10_000_000;
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let words = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal: all but the idle ones.
    let busy: u64 =
        ticks.iter().take(8).enumerate().filter(|(place, _)| !matches!(place, 3 | 4)).map(|(_, ticks)| ticks).sum();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let (total, available) = (kib("MemTotal") * 1024, kib("MemAvailable") * 1024);
    MachineUsage {
        cpu_nanoseconds: busy * TICK_NANOSECONDS,
        memory_available_bytes: available,
        memory_used_bytes: total.saturating_sub(available),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_counted() {
        for (list, expected) in [("0", 1), ("0-3", 4), ("0-1,4-7", 6), ("0,2,4", 3)] {
            assert_eq!(cpus(list), expected, "{list}");
        }
    }

    #[test]
    fn the_own_address_is_found_in_the_routing_tree() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.1.2.0\n        \
                    /24 link UNICAST\n     |-- 10.1.2.3\n        /32 host LOCAL\n";
        assert_eq!(local_ipv4(trie).map(|ip| ip.to_string()).as_deref(), Some("10.1.2.3"));
        assert_eq!(local_ipv4("|-- 127.0.0.1\n/32 host LOCAL\n"), None);
    }

    #[test]
    fn the_distribution_names_itself() {
        assert_eq!(
            os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(os_image(""), "Linux");
    }
}
