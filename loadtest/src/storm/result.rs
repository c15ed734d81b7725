//! What a run found: the summary that is printed, and everything behind it that the report draws.
//!
//! A figure that was not measured is absent (`null`), never a zero. A run that ended early keeps what it has and says why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::scenario::Scenario;
use super::tally::{Counts, Stream};
use super::timing::Phase;

/// The summary of a run, as it is printed with `--json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Which scenario.
    pub scenario: String,
    /// Of the server: `buslane`, `static`, `none`, or `unknown` for one that this program did not start.
    pub policy: String,
    /// The same seed makes the same plan of load.
    pub seed: u64,
    /// Whether the figures are the server's: the driver was in time, and the run complete.
    pub valid: bool,
    /// Why it is not valid.
    pub invalid_because: Vec<String>,
    /// Messages of the watched conversations that were due in the storm and received in time, of all of them.
    pub fg_success: Option<f64>,
    /// From when such a message was due to when the other phone had it, 99th percentile.
    pub fg_p99_ms: ByPhase,
    /// Storm to quiet.
    pub fg_p99_ratio: Option<f64>,
    /// Whether background got at least its floor of what the server can do, in every ten seconds of the storm.
    pub bg_floor_kept: Option<bool>,
    /// Logins.
    pub logins: LoginFigures,
    /// From the beginning of the storm to the posture EMERGENCY, as a live client was told; absent: never entered.
    pub enter_ms: Option<f64>,
    /// From the end of the storm to the posture NORMAL; absent: not before the end of the run.
    pub exit_s: Option<f64>,
    /// Messages with a receipt that are not in the log, or did not reach the other phone by the end.
    pub lost: Option<u64>,
    /// Messages that are in the log twice, or were delivered twice under different numbers.
    pub duplicated: Option<u64>,
    /// Deliveries or receipts against the order of the sender or of the room.
    pub reordered: Option<u64>,
    /// Deliveries to somebody who is not a member.
    pub misdelivered: Option<u64>,
    /// Live sessions that the server closed without being asked to.
    pub live_sessions_closed: u64,
    /// The same by what it said.
    #[serde(default)]
    pub closed_because: BTreeMap<String, u64>,
    /// Resident memory of the server.
    pub rss_mib: Memory,
    /// What things cost the server.
    pub server_cpu_us: Costs,
    /// How late the thread of the conversations was itself, 99th percentile.
    pub driver_lateness_p99_ms: Option<f64>,
    /// The same in each phase: a run is valid only if it was in time in all of them.
    #[serde(default)]
    pub driver_lateness_ms: ByPhase,
    /// Share of the server's processors that the host of a virtual machine took away.
    #[serde(default)]
    pub stolen: ByPhase,
    /// What the server was measured to be able to do before the run.
    pub capacity: Capacity,
    /// The same after the run, measured in the same way: what differs is the machine.
    #[serde(default)]
    pub capacity_after: Option<Capacity>,
    /// Every figure that a limit may be set for, by name.
    pub figures: BTreeMap<String, f64>,
    /// What had to hold.
    pub checks: Vec<Check>,
    /// All checks passed in a valid run, one did not, or the run is not valid.
    pub verdict: Verdict,
}

/// One figure for each phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ByPhase {
    /// Before the storm.
    pub quiet: Option<f64>,
    /// In the storm.
    pub storm: Option<f64>,
    /// After it.
    pub after: Option<f64>,
}

impl ByPhase {
    /// The figure of a phase.
    pub fn of(&self, phase: Phase) -> Option<f64> {
        match phase {
            Phase::Quiet => self.quiet,
            Phase::Storm => self.storm,
            Phase::After => self.after,
        }
    }
}

/// Logins of the storm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LoginFigures {
    /// Clients a second that began to come in, in the busiest second.
    pub offered_per_s: Option<f64>,
    /// Logins a second that were completed while more were wanted.
    pub done_per_s: Option<f64>,
    /// The same, of what the server's processors could have done beside the foreground.
    pub done_of_possible: Option<f64>,
    /// Clients that were put off with a slot at least once.
    pub deferred: u64,
    /// Slots that were given out.
    pub slots_promised: u64,
    /// Of the clients that came back in their slot, how many were let in then.
    pub slots_kept: Option<f64>,
    /// Clients that wanted in and were not in at the end.
    pub left_outside: u64,
    /// Tries of a client that was put off, in the mean, the first one counted.
    pub attempts_per_deferred: Option<f64>,
}

/// Resident memory, MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// At the end of the quiet phase.
    pub before: Option<f64>,
    /// The most.
    pub peak: Option<f64>,
    /// At the end of the run.
    pub after: Option<f64>,
}

/// Processor time of the server, microseconds each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// Of a login and the request that every client makes then, measured before the run.
    pub login: Option<f64>,
    /// Of a session that is opened and closed, without a request: what a return takes. Measured before the run.
    #[serde(default)]
    pub session: Option<f64>,
    /// Of a message from one phone to another that comes alone, measured before the run.
    pub message: Option<f64>,
    /// The same on a full server, where it was measured.
    #[serde(default)]
    pub message_full: Option<f64>,
    /// Of a client that is turned away: what is left of the storm's processor time after logins and messages, spread over
    /// those who were turned away. An estimate.
    pub refusal: Option<f64>,
}

/// What the server was measured to be able to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Processors that it may use.
    pub processors: f64,
    /// Logins a second, each with the request that every client makes then.
    pub logins_per_s: f64,
    /// Sessions a second that are only opened and closed.
    #[serde(default)]
    pub sessions_per_s: f64,
    /// Messages a second from one phone to another, where each comes alone.
    pub messages_per_s: f64,
    /// The same of a full server, where they share packets and commits; `None`: not measured, because neither load nor a limit is reckoned by it.
    #[serde(default)]
    pub messages_full_per_s: Option<f64>,
}

impl Capacity {
    /// The most messages a second that it was seen to do.
    pub fn most_messages_per_s(&self) -> f64 {
        self.messages_full_per_s.unwrap_or(self.messages_per_s)
    }

    /// What a server could do in between that could do this before and `after` afterwards: what one thing costs is the mean of both.
    pub fn between(self, after: Option<Self>) -> Self {
        let Some(after) = after else { return self };
        let mean = |before: f64, after: f64| 2.0 / (1.0 / before + 1.0 / after);
        Self {
            processors: self.processors,
            logins_per_s: mean(self.logins_per_s, after.logins_per_s),
            sessions_per_s: mean(self.sessions_per_s, after.sessions_per_s),
            messages_per_s: mean(self.messages_per_s, after.messages_per_s),
            messages_full_per_s: self
                .messages_full_per_s
                .zip(after.messages_full_per_s)
                .map(|(before, after)| mean(before, after)),
        }
    }
}

/// A limit and what was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Name of the figure.
    pub name: String,
    /// The limit, in words: `>= 0.9999`.
    pub limit: String,
    /// What was found; absent: it could not be measured, which does not pass.
    pub value: Option<f64>,
    /// Whether it holds.
    pub pass: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything held.
    Pass,
    /// Something did not.
    Fail,
    /// The driver or the machine was the bottleneck, or the run ended early: nothing is said about the server.
    Invalid,
}

/// A run with everything that the report draws: `run.json` in its folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The summary.
    pub summary: Summary,
    /// The scenario as it was run.
    pub plan: Scenario,
    /// Factor on the load, from the command line.
    pub scale: f64,
    /// What was run, when and where.
    pub origin: Origin,
    /// Each second of the run.
    pub seconds: Vec<Second>,
    /// Each stream as a whole.
    pub streams: BTreeMap<Stream, StreamFigures>,
    /// Posture changes, as a live client was told: seconds from the storm's beginning, and the posture from then on.
    pub postures: Vec<(f64, String)>,
    /// What was done to the server, and when.
    pub marks: Vec<(f64, String)>,
    /// What else is to be known, in sentences: how the driver did, what the checker looked at and found.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What was run, when and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The command that repeats it.
    pub command: String,
    /// When it began, RFC 3339.
    pub began: String,
    /// Version of this program.
    pub version: String,
    /// Processor, number of processors, memory, kernel.
    pub machine: String,
    /// Whether server and driver had processors of their own.
    pub pinned: bool,
}

/// One second of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Its beginning, seconds from the storm's beginning.
    pub at_s: f64,
    /// Which phase it belongs to.
    pub phase: Option<Phase>,
    /// Of each stream.
    pub streams: BTreeMap<Stream, StreamSecond>,
    /// Processors that the server kept busy.
    pub server_processors: Option<f64>,
    /// Processors that the driver kept busy.
    pub driver_processors: Option<f64>,
    /// Resident memory of the server.
    pub server_rss_mib: Option<f64>,
    /// How late the thread of the conversations was itself, the worst of this second.
    pub driver_lateness_ms: Option<f64>,
    /// Packets a second of a flood.
    pub flood_packets: Option<u64>,
}

/// One stream in one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamSecond {
    /// By when things were due.
    pub due: Counts,
    /// Served in this second, whenever due.
    pub served: u64,
    /// Put off or refused in this second.
    pub turned_away: u64,
    /// Of what was due in this second: half of it was faster.
    pub p50_ms: Option<f64>,
    /// 99 of 100.
    pub p99_ms: Option<f64>,
    /// The slowest.
    pub max_ms: Option<f64>,
}

/// One stream as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamFigures {
    /// By phase.
    pub phases: BTreeMap<Phase, PhaseFigures>,
}

/// One stream in one phase.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseFigures {
    /// By when things were due.
    pub counts: Counts,
    /// Refusals and failures by name.
    pub reasons: BTreeMap<String, u64>,
    /// Latencies in milliseconds at the shares of [`QUANTILES`]; empty: nothing was served.
    pub quantiles_ms: Vec<f64>,
}

/// Shares at which latencies are kept.
pub const QUANTILES: [f64; 8] = [0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_measurements_a_thing_costs_the_mean_of_both() {
        let capacity = |messages_per_s| Capacity {
            processors: 1.0,
            logins_per_s: 500.0,
            sessions_per_s: 500.0,
            messages_per_s,
            messages_full_per_s: Some(2.0 * messages_per_s),
        };
        let between = capacity(20_000.0).between(Some(capacity(10_000.0)));
        assert!((between.messages_per_s - 1e6 / 75.0).abs() < 1e-6, "{between:?}: 50 and 100 us a message");
        assert!((between.most_messages_per_s() - 2e6 / 75.0).abs() < 1e-6, "{between:?}");
        let alone = Capacity { messages_full_per_s: None, ..capacity(10_000.0) };
        assert_eq!(alone.most_messages_per_s(), 10_000.0);
        assert!((between.logins_per_s - 500.0).abs() < 1e-9);
        assert_eq!(capacity(20_000.0).between(None), capacity(20_000.0));
    }
}
