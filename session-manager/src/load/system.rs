//! What the system says about this process and its machine: memory, descriptors, and where processor time goes.
//!
//! Why it exists: the wake port's threads run only when nothing else wants to, so "how busy is the machine" has two answers,
//! and the difference is what background may have. Where there is no `/proc` the readings are absent, never invented: an
//! absent reading raises no signal. It costs some 50 us and is asked for ten times a second.

use std::fs;
use std::time::Duration;

use buslane_shared::Nanos;
use rustix::time::{ClockId, clock_gettime};

/// Page size on every system that has `/proc/self/statm` and that Buslane is built for.
const PAGE_BYTES: f64 = 4096.0;

/// Unit of `/proc/stat` on every such system.
const STAT_TICK: Nanos = 10_000_000;

/// Thread names in `/proc` have at most 15 bytes.
const WAKE_THREADS: &str = "buslane-wake";

/// Processor time since the sample before.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Processors {
    /// How much of it there was: all processors, whether used or not.
    pub(crate) all: Nanos,
    /// Nobody wanted it.
    pub(crate) idle: Nanos,
    /// The wake port's threads.
    pub(crate) wake: Nanos,
    /// This process, without the wake port's threads.
    pub(crate) own: Nanos,
}

impl Processors {
    /// Share that is busy, without what runs only when nothing else wants to.
    pub(crate) fn busy_share(&self) -> f64 {
        share(self.all.saturating_sub(self.idle).saturating_sub(self.wake), self.all)
    }

    /// Share that this process uses, without the wake port.
    pub(crate) fn own_share(&self) -> f64 {
        share(self.own, self.all)
    }
}

impl std::ops::Add for Processors {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            all: self.all + other.all,
            idle: self.idle + other.idle,
            wake: self.wake + other.wake,
            own: self.own + other.own,
        }
    }
}

fn share(part: Nanos, all: Nanos) -> f64 {
    if all == 0 { 0.0 } else { (part as f64 / all as f64).min(1.0) }
}

/// Memory and descriptors, as shares of what there is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Stocks {
    pub(crate) memory: f64,
    pub(crate) descriptors: f64,
}

/// Running totals.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    all: Nanos,
    idle: Nanos,
    wake: Nanos,
    process: Nanos,
}

/// Takes samples.
pub(crate) struct System {
    before: Option<Totals>,
    memory_bytes_max: Option<f64>,
    descriptors_max: Option<f64>,
}

impl System {
    pub(crate) fn new() -> Self {
        Self { before: None, memory_bytes_max: memory_bytes_max(), descriptors_max: descriptors_max() }
    }

    /// Processor time since the last call. `None`: the first call, or nothing is known here.
    pub(crate) fn processors(&mut self) -> Option<Processors> {
        let now = totals()?;
        let before = self.before.replace(now)?;
        let wake = now.wake.saturating_sub(before.wake);
        Some(Processors {
            all: now.all.saturating_sub(before.all),
            idle: now.idle.saturating_sub(before.idle),
            wake,
            own: now.process.saturating_sub(before.process).saturating_sub(wake),
        })
    }

    /// Memory and descriptors now; 0 where nothing is known.
    pub(crate) fn stocks(&self) -> Stocks {
        let of = |used: Option<f64>, max: Option<f64>| match (used, max) {
            (Some(used), Some(max)) if max > 0.0 => used / max,
            _ => 0.0,
        };
        Stocks {
            memory: of(resident_bytes(), self.memory_bytes_max),
            descriptors: of(descriptors(), self.descriptors_max),
        }
    }
}

fn totals() -> Option<Totals> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let (all, idle) = all_and_idle(&stat)?;
    let process = clock_gettime(ClockId::ProcessCPUTime);
    let process = Duration::try_from(process).ok()?;
    Some(Totals { all, idle, wake: wake_time(), process: Nanos::try_from(process.as_nanos()).ok()? })
}

/// From the first line of `/proc/stat`: `cpu user nice system idle iowait irq softirq steal ...`.
fn all_and_idle(stat: &str) -> Option<(Nanos, Nanos)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).filter_map(|n| n.parse().ok()).collect();
    let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks[..] else { return None };
    let idle = idle + iowait;
    Some(((user + nice + system + idle + irq + softirq + steal) * STAT_TICK, idle * STAT_TICK))
}

/// Time of all threads with the wake port's name. One that ended takes its time with it, which reads as none.
fn wake_time() -> Nanos {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0 };
    tasks
        .filter_map(|task| {
            let folder = task.ok()?.path();
            let name = fs::read_to_string(folder.join("comm")).ok()?;
            if name.trim_end() != WAKE_THREADS {
                return None;
            }
            let stat = fs::read_to_string(folder.join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<Nanos>().ok()
        })
        .sum()
}

fn resident_bytes() -> Option<f64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

fn descriptors() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

/// That of the machine, or that of the container if it is less.
fn memory_bytes_max() -> Option<f64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let total: f64 = line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0;
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    Some(limit.and_then(|l| l.trim().parse::<f64>().ok()).map_or(total, |limit| limit.min(total)))
}

fn descriptors_max() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_kernel_is_read() {
        let stat = "cpu  100 5 50 800 20 1 4 20 0 0\ncpu0 1 2 3\n";
        assert_eq!(all_and_idle(stat), Some((1_000 * STAT_TICK, 820 * STAT_TICK)));
        assert_eq!(all_and_idle("intr 1 2 3\n"), None);
        assert_eq!(all_and_idle("cpu  1 2\n"), None);
    }

    #[test]
    fn shares_leave_out_what_only_takes_what_is_left() {
        let processors = Processors { all: 1_000, idle: 300, wake: 500, own: 150 };
        assert!((processors.busy_share() - 0.2).abs() < 1e-9);
        assert!((processors.own_share() - 0.15).abs() < 1e-9);
        assert_eq!(Processors::default().busy_share(), 0.0);
    }

    #[test]
    fn this_machine_answers() {
        let mut system = System::new();
        let stocks = system.stocks();
        if cfg!(target_os = "linux") {
            assert!(stocks.memory > 0.0 && stocks.memory < 1.0, "{stocks:?}");
            assert!(stocks.descriptors > 0.0 && stocks.descriptors < 1.0, "{stocks:?}");
            assert_eq!(system.processors(), None, "the first has nothing before it");
            assert!(system.processors().is_some());
        }
    }
}
