//! What the system says of this process: processor time and memory. Where there is no `/proc`, both are 0.

use std::fs;
use std::time::Duration;

/// Ticks of a second in `/proc`, the same on every Linux that Buslane is built for.
const TICKS_PER_S: u64 = 100;

/// Page size on every system that has `/proc/self/stat` and that Buslane is built for.
const PAGE_BYTES: u64 = 4_096;

/// Where the fields lie behind the name of the program, which may hold spaces: proc_pid_stat(5).
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const RESIDENT_PAGES: usize = 21;

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time of all of its threads since its start.
    pub processor_time: Duration,
    /// Resident memory.
    pub resident_bytes: u64,
}

/// What this process uses.
pub fn usage() -> Usage {
    fs::read_to_string("/proc/self/stat").ok().and_then(|stat| parse(&stat)).unwrap_or_default()
}

fn parse(stat: &str) -> Option<Usage> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = number(USER_TICKS)?.saturating_add(number(SYSTEM_TICKS)?);
    Some(Usage {
        processor_time: Duration::from_millis(ticks.saturating_mul(1_000 / TICKS_PER_S)),
        resident_bytes: number(RESIDENT_PAGES)?.saturating_mul(PAGE_BYTES),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_hides_nothing() {
        let stat =
            "7 (bus) lane (1)) S 1 7 7 0 -1 4194560 500 0 0 0 250 50 0 0 20 0 9 0 100 1000000 25 184 1 1";
        let usage = parse(stat).unwrap();
        assert_eq!(usage.processor_time, Duration::from_secs(3));
        assert_eq!(usage.resident_bytes, 25 * PAGE_BYTES);
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(usage().resident_bytes > 1_000_000);
    }
}
