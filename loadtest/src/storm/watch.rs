//! The kernel's accounts by second: processors that server and driver kept busy, and the server's memory.
//!
//! A thread of its own, at the usual priority, looks ten times a second and does nothing else: a look reads two small files for
//! each process and one of the kernel. Processor time is that of whole processes, threads that ended included, in ticks of 10 ms; a
//! process that ends takes with it what it used since the last look.
//!
//! It must never fill a hole: where no process was there to be looked at, memory is unknown.

mod account;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::watch;

use self::account::{Account, Sample};
use super::stage::Place;
use super::timing::{Phase, Timing};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const MIB: f64 = (1 << 20) as f64;

/// The thread that looks. It ends with the value.
#[derive(Debug)]
pub struct Watch {
    until: Sender<()>,
    thread: JoinHandle<Account>,
}

impl Watch {
    /// Begins to look at these processes, whichever they are at the time, at their processors (empty: all), and at this process.
    pub fn start(
        server_pids: watch::Receiver<Vec<u32>>,
        server_processors: Vec<usize>,
        place: Place,
    ) -> anyhow::Result<Self> {
        let (until, ended) = channel();
        let (is_placed, placed) = channel();
        let thread = std::thread::Builder::new()
            .name("load-watch".to_owned())
            .spawn(move || {
                let _ = is_placed.send(place.take());
                look(&server_pids, server_processors, &ended)
            })
            .context("no thread to watch the server")?;
        placed.recv().context("the thread that watches the server has ended")??;
        Ok(Self { until, thread })
    }

    /// Ends it. What was seen is told by the phases of the run.
    pub fn finish(self, timing: &Timing) -> Watched {
        drop(self.until);
        // A thread that has failed has seen nothing.
        let account = self.thread.join().unwrap_or_default();
        Watched::of(&account, timing)
    }
}

fn look(
    server_pids: &watch::Receiver<Vec<u32>>,
    server_processors: Vec<usize>,
    ended: &Receiver<()>,
) -> Account {
    let mut account = Account::new(server_processors);
    let mut next = Instant::now();
    loop {
        let pids = server_pids.borrow().clone();
        account.look(&pids, Instant::now());
        next += LOOK_EVERY;
        let now = Instant::now();
        // After a pause of the whole machine the looks that were missed are not made up for.
        next = next.max(now);
        match ended.recv_timeout(next - now) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return account,
        }
    }
}

/// One second of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WatchedSecond {
    /// Processors that the server kept busy.
    pub server_processors: Option<f64>,
    /// Processors that the driver kept busy.
    pub driver_processors: Option<f64>,
    /// Resident memory of the server, at the second's end.
    pub server_rss_mib: Option<f64>,
}

/// What was seen in a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watched {
    seconds: Vec<WatchedSecond>,
    processors: [Option<f64>; Phase::ALL.len()],
    stolen: [Option<f64>; Phase::ALL.len()],
    rss_mib_before: Option<f64>,
    rss_mib_peak: Option<f64>,
    rss_mib_after: Option<f64>,
}

impl Watched {
    fn of(account: &Account, timing: &Timing) -> Self {
        let busy = |from, to, of: fn(&Sample) -> Duration| account.busy(from, to, of);
        let mib = |bytes: u64| bytes as f64 / MIB;
        let second = |n: usize| {
            let from = timing.begin() + Duration::from_secs(n as u64);
            let to = (from + Duration::from_secs(1)).min(timing.end());
            WatchedSecond {
                server_processors: busy(from, to, |sample| sample.server),
                driver_processors: busy(from, to, |sample| sample.driver),
                server_rss_mib: account.resident_at(to).map(mib),
            }
        };
        let phase = |phase, of| {
            let (from, to) = match phase {
                Phase::Quiet => (timing.begin(), timing.storm_begin()),
                Phase::Storm => (timing.storm_begin(), timing.storm_end()),
                Phase::After => (timing.storm_end(), timing.end()),
            };
            busy(from, to, of)
        };
        Self {
            seconds: (0..timing.seconds()).map(second).collect(),
            processors: Phase::ALL.map(|of| phase(of, |sample| sample.server)),
            stolen: Phase::ALL.map(|of| phase(of, |sample| sample.stolen).filter(|_| account.knows_stolen())),
            rss_mib_before: account.resident_at(timing.storm_begin()).map(mib),
            rss_mib_peak: account.resident_peak(timing.begin(), timing.end()).map(mib),
            rss_mib_after: account.resident_at(timing.end()).map(mib),
        }
    }

    /// Each second of the run; one that was not seen to its end says nothing.
    pub fn seconds(&self) -> &[WatchedSecond] {
        &self.seconds
    }

    /// Processors that the server kept busy in a phase, in the mean. Of a phase that was cut short: in what there was of it.
    pub fn processors_in(&self, phase: Phase) -> Option<f64> {
        self.processors.get(phase as usize).copied().flatten()
    }

    /// Of the server's processors, how many the host of a virtual machine took away in a phase, in the mean.
    pub fn stolen_in(&self, phase: Phase) -> Option<f64> {
        self.stolen.get(phase as usize).copied().flatten()
    }

    /// Resident memory of the server at the end of the quiet phase.
    pub fn rss_mib_before(&self) -> Option<f64> {
        self.rss_mib_before
    }

    /// The most in the run.
    pub fn rss_mib_peak(&self) -> Option<f64> {
        self.rss_mib_peak
    }

    /// At the end of the run.
    pub fn rss_mib_after(&self) -> Option<f64> {
        self.rss_mib_after
    }
}

#[cfg(test)]
mod tests;
