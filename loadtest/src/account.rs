//! The kernel's accounts of a process: CPU time and resident memory, read from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

/// CPU time that all threads of the process have used so far, in nanoseconds' resolution where the kernel keeps it.
///
/// Source: first field of `/proc/PID/task/*/schedstat`. Threads that ended are not in it, so it is meant for servers whose
/// threads stay.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut total_ns = 0u64;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(task?.path().join("schedstat"))?;
        let first = stat.split_ascii_whitespace().next().unwrap_or_default();
        total_ns += first.parse::<u64>().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    }
    Ok(Duration::from_nanos(total_ns))
}

/// Resident memory of the process in bytes (`VmRSS` of `/proc/PID/status`).
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map(|k| k * 1024).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no VmRSS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_time_and_memory() {
        let pid = std::process::id();
        let before = cpu_time(pid).unwrap();
        let mut n = 0u64;
        while cpu_time(pid).unwrap() < before + Duration::from_millis(5) {
            n = std::hint::black_box(n.wrapping_add(1));
        }
        assert!(resident_bytes(pid).unwrap() > 100_000);
    }
}
