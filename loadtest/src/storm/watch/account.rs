//! What was read at each look, and what it says about the time between two moments.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::account::{process_time, resident_bytes, stolen_time};

/// Looks that are kept: 54 minutes at ten a second. Then every second one is given up, again and again, so that a run of a week
/// takes no more memory than one of an hour.
const SAMPLES_MAX: usize = 32_768;

/// How far the nearest look may lie from a moment that is asked for.
const GAP_MAX: Duration = Duration::from_secs(1);

/// One look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub at: Instant,
    /// Processor time of all processes of the server so far.
    pub server: Duration,
    /// Of this process.
    pub driver: Duration,
    /// What the host took of the server's processors so far.
    pub stolen: Duration,
    /// Resident memory of the server's processes in bytes; none was there: unknown.
    pub resident: Option<u64>,
}

/// All looks so far.
#[derive(Debug, Default)]
pub struct Account {
    samples: Vec<Sample>,
    /// Between two samples that are kept lie so many that are not: 2^n - 1.
    thinned: u32,
    looks: u64,
    /// Processor time of each process when it was last seen. There is one entry for each process that ever was.
    used: BTreeMap<u32, Duration>,
    /// The server's processors; empty: all.
    processors: Vec<usize>,
    stolen: Option<Duration>,
    peak: Option<u64>,
}

impl Account {
    /// Of a server that has these processors; empty: all.
    pub fn new(processors: Vec<usize>) -> Self {
        Self { processors, ..Self::default() }
    }

    /// Reads the accounts of the server's processes and of this one.
    pub fn look(&mut self, pids: &[u32], at: Instant) {
        let mut resident = None;
        for pid in pids {
            // A process that has ended between two looks is no error: it has used what it had used.
            if let Ok(used) = process_time(*pid) {
                self.used.insert(*pid, used);
            }
            if let Ok(bytes) = resident_bytes(*pid) {
                *resident.get_or_insert(0) += bytes;
            }
        }
        let server = self.used.values().sum();
        let driver = process_time(std::process::id()).unwrap_or_default();
        self.stolen = stolen_time(&self.processors).ok().or(self.stolen);
        self.add(Sample { at, server, driver, stolen: self.stolen.unwrap_or_default(), resident });
    }

    /// Whether the kernel says what the host takes away.
    pub fn knows_stolen(&self) -> bool {
        self.stolen.is_some()
    }

    /// Keeps it, unless it is one of those that are given up. The highest memory of those goes into the next one.
    pub fn add(&mut self, sample: Sample) {
        self.peak = self.peak.max(sample.resident);
        self.looks += 1;
        if self.looks.trailing_zeros() < self.thinned {
            return;
        }
        let resident = sample.resident.and(self.peak.take());
        self.samples.push(Sample { resident, ..sample });
        if self.samples.len() >= SAMPLES_MAX {
            self.thin();
        }
    }

    /// Gives up every second one.
    fn thin(&mut self) {
        self.thinned += 1;
        self.samples = self
            .samples
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [first, second] => {
                    let resident = second.resident.and(first.resident.max(second.resident));
                    Some(Sample { resident, ..*second })
                }
                _ => None,
            })
            .collect();
    }

    /// Processors that were kept busy (or taken away) between two moments, in the mean. A time that was not seen to its end counts as far as it
    /// was seen. `None`: less than half of it was.
    pub fn busy(&self, from: Instant, to: Instant, of: fn(&Sample) -> Duration) -> Option<f64> {
        let (first, last) = (self.samples.first()?.at, self.samples.last()?.at);
        let (begin, end) = (from.max(first), to.min(last));
        let seen = end.checked_duration_since(begin)?.as_secs_f64();
        if seen <= 0.0 || seen < (to - from).as_secs_f64() / 2.0 {
            return None;
        }
        Some((self.used_at(end, of)? - self.used_at(begin, of)?).max(0.0) / seen)
    }

    /// Seconds of processor time at a moment, between two looks in proportion.
    fn used_at(&self, at: Instant, of: fn(&Sample) -> Duration) -> Option<f64> {
        let behind = self.samples.partition_point(|sample| sample.at < at);
        let next = self.samples.get(behind)?;
        let Some(before) = behind.checked_sub(1).and_then(|n| self.samples.get(n)) else {
            return Some(of(next).as_secs_f64());
        };
        let share = (at - before.at).as_secs_f64() / (next.at - before.at).as_secs_f64();
        let (low, high) = (of(before).as_secs_f64(), of(next).as_secs_f64());
        Some(low + (high - low) * share)
    }

    /// Resident memory at the last look before a moment.
    pub fn resident_at(&self, at: Instant) -> Option<u64> {
        let behind = self.samples.partition_point(|sample| sample.at <= at);
        let last = self.samples.get(behind.checked_sub(1)?)?;
        (at - last.at <= self.gap_max()).then_some(last.resident)?
    }

    /// The most between two moments.
    pub fn resident_peak(&self, from: Instant, to: Instant) -> Option<u64> {
        let within = |sample: &&Sample| (from..=to).contains(&sample.at);
        self.samples.iter().filter(within).filter_map(|sample| sample.resident).max()
    }

    /// Looks that were given up lie between those that are left.
    fn gap_max(&self) -> Duration {
        GAP_MAX * 2u32.saturating_pow(self.thinned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(begin: Instant, ms: u64, server_ms: u64, resident: Option<u64>) -> Sample {
        let ms_of = Duration::from_millis;
        Sample {
            at: begin + ms_of(ms),
            server: ms_of(server_ms),
            driver: ms_of(ms),
            stolen: ms_of(ms / 4),
            resident,
        }
    }

    #[test]
    fn what_is_between_two_looks_is_taken_in_proportion() {
        let begin = Instant::now();
        let mut account = Account::default();
        for (ms, server_ms, resident) in
            [(0, 0, Some(10)), (1_000, 500, Some(30)), (2_000, 2_500, None), (3_000, 2_500, Some(20))]
        {
            account.add(sample(begin, ms, server_ms, resident));
        }
        let at = |ms| begin + Duration::from_millis(ms);
        for (from, to, processors) in [
            (0, 1_000, Some(0.5)),
            (1_000, 2_000, Some(2.0)),
            (500, 1_500, Some(1.25)),
            (2_000, 3_000, Some(0.0)),
            // Seen for the greater part, and not.
            (2_500, 3_200, Some(0.0)),
            (2_500, 4_000, None),
            (3_000, 4_000, None),
        ] {
            let busy = account.busy(at(from), at(to), |sample| sample.server);
            assert_eq!(busy.map(|p| (p * 1e6).round() / 1e6), processors, "{from} to {to}");
        }
        for (ms, resident) in [
            (0, Some(10)),
            (999, Some(10)),
            (1_000, Some(30)),
            (2_500, None),
            (3_900, Some(20)),
            (4_100, None),
        ] {
            assert_eq!(account.resident_at(at(ms)), resident, "{ms}");
        }
        assert_eq!(account.busy(at(0), at(2_000), |sample| sample.stolen), Some(0.25));
        assert_eq!(account.resident_peak(at(0), at(3_000)), Some(30));
        assert_eq!(account.resident_peak(at(1_500), at(3_000)), Some(20));
        assert_eq!(account.resident_peak(at(1_500), at(2_900)), None);
        assert_eq!(Account::default().busy(at(0), at(1), |sample| sample.server), None);
    }

    #[test]
    fn a_run_of_a_week_takes_no_more_memory_and_keeps_its_peak() {
        let begin = Instant::now();
        let mut account = Account::default();
        let looks = 6_000_000;
        for n in 0..looks {
            let resident = if n == 3_000_001 { 99 } else { 7 };
            account.add(sample(begin, 100 * n, 50 * n, Some(resident)));
        }
        assert!(account.samples.len() <= SAMPLES_MAX && account.samples.len() > SAMPLES_MAX / 4);
        let end = begin + Duration::from_millis(100 * (looks - 1));
        assert_eq!(account.resident_peak(begin, end), Some(99));
        assert_eq!(account.resident_at(end), Some(7));
        let busy = account.busy(begin, end, |sample| sample.server).unwrap();
        assert!((busy - 0.5).abs() < 1e-3, "{busy}");
    }
}
