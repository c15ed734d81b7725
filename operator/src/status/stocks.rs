//! How much of its memory and descriptors the process has used. Where the system does not say it is unknown, never invented.

use std::fs;

use super::facts::Stocks;

/// Page size on every system that has `/proc/self/statm` and that Buslane is built for.
const PAGE_BYTES: f64 = 4096.0;

/// Reads it. Some 100 us, more where thousands of descriptors are open.
pub fn read() -> Stocks {
    Stocks {
        memory: share(resident_bytes(), memory_bytes_max()),
        descriptors: share(descriptors(), descriptors_max()),
    }
}

fn share(used: Option<f64>, max: Option<f64>) -> Option<f64> {
    let max = max.filter(|max| *max > 0.0)?;
    used.map(|used| used / max)
}

fn resident_bytes() -> Option<f64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

/// What the machine has, or less where a control group allows less.
fn memory_bytes_max() -> Option<f64> {
    let machine = machine_bytes(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<f64>().ok());
    Some(group.map_or(machine, |group| group.min(machine)))
}

fn machine_bytes(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}

fn descriptors() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

fn descriptors_max() -> Option<f64> {
    limit(&fs::read_to_string("/proc/self/limits").ok()?)
}

/// The soft limit: the one that is met.
fn limit(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_understood_and_nothing_is_invented() {
        assert_eq!(machine_bytes("MemTotal:       2048 kB\nMemFree: 1 kB\n"), Some(2_097_152.0));
        assert_eq!(machine_bytes("nonsense"), None);
        let limits = "Limit  Soft  Hard  Units\nMax open files            1024                 4096                 files\n";
        assert_eq!(limit(limits), Some(1_024.0));
        assert_eq!(limit("Max open files unlimited unlimited files"), None);
        assert_eq!(share(Some(1.0), None), None);
        assert_eq!(share(Some(1.0), Some(0.0)), None);
        let here = read();
        if cfg!(target_os = "linux") {
            assert!(here.memory.is_some_and(|share| share > 0.0 && share < 1.0), "{here:?}");
        }
    }
}
