//! People and phones that come in: each does what the protocol says (or, if it is naive, what a bad app does) until it is in,
//! then does what it came for and leaves.
//!
//! A phone that waits is an entry in an `agenda` and nothing else; only a try that goes on has a task and a
//! connection. How many tries go on at a time is bounded by nothing: whoever is due comes.
//!
//! It must never come later than it was due without saying so ([`PhonesOutcome::started_late`]), nor leave out a try
//! from its counts.

mod agenda;
mod counts;
mod errand;
mod patience;
mod play;
mod pool;

use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::task::LocalSet;

use self::play::{Coming, Play};
use super::fleet::{self, Phone};
use super::generator::Cue;
use super::lateness::Lateness;
use super::net::Net;
use super::scenario::{Logins, Side};
use super::stage::Stage;
use super::tally::Tally;

/// Phones that are enrolled for one `[[logins]]` at most: at some 3 KiB each they are 300 MB. When more come than this, those who
/// have left come again.
const PHONES_MAX: usize = 100_000;

/// Counted over all clients of all `[[logins]]` of a scenario.
#[derive(Debug)]
pub struct PhonesOutcome {
    /// By stream.
    pub tally: Tally,
    /// Clients that were put off with a slot at least once.
    pub deferred: u64,
    /// Slots that were given out.
    pub slots_promised: u64,
    /// Tries that showed a slot in its time.
    pub came_in_slot: u64,
    /// Of them, those that were let in.
    pub slots_kept: u64,
    /// Tries of the clients in `deferred`, the first one counted.
    pub tries_of_deferred: u64,
    /// Of the clients in `deferred`, those that listen.
    pub obedient_deferred: u64,
    /// Tries of those: what a server can do something about.
    pub tries_of_obedient_deferred: u64,
    /// Clients that wanted in and were not in at the end.
    pub left_outside: u64,
    /// Sessions that the server ended before the client wanted to leave, without being stopped itself, by what it said.
    pub closed_because: BTreeMap<&'static str, u64>,
    /// The same because it was being stopped.
    pub drained: u64,
    /// Sessions that broke without a word from the server.
    pub broken: u64,
    /// From when a client was due to when its first try began, or to the end where none did: the driver's own delay.
    pub started_late: Lateness,
    /// How far the thread's network was behind.
    pub network_late: Lateness,
    /// Seconds of the run in which a try began more than 100 ms late: the driver's processor was the bottleneck.
    pub saturated_s: u64,
}

/// Plays all of them. `plan`: each kind with the times at which one of it comes, in seconds from the storm's beginning.
pub async fn run(stage: Stage, plan: Vec<(Logins, Vec<f64>)>, cue: Cue) -> anyhow::Result<PhonesOutcome> {
    LocalSet::new().run_until(prepare_and_play(stage, plan, cue)).await
}

async fn prepare_and_play(
    stage: Stage,
    plan: Vec<(Logins, Vec<f64>)>,
    cue: Cue,
) -> anyhow::Result<PhonesOutcome> {
    let count = |due: &[f64]| due.len().min(PHONES_MAX);
    let all = plan.iter().map(|(_, due)| count(due)).sum();
    let net = Rc::new(Net::new(&stage.target, fleet::addresses_for(all))?);
    let mut coming = Vec::with_capacity(plan.len());
    for (n, (logins, due)) in plan.into_iter().enumerate() {
        let prefix = format!("phone-{}-{n}-", stage.seed);
        let phones = enrol(&stage, &net, &prefix, count(&due), logins.side).await?;
        coming.push(Coming { logins, due, phones });
    }
    let timing = cue.ready().await?;
    Play::new(stage, net, timing, coming).run().await
}

/// Enrols, unless the run is given up meanwhile.
async fn enrol(
    stage: &Stage,
    net: &Net,
    prefix: &str,
    count: usize,
    side: Side,
) -> anyhow::Result<Vec<Phone>> {
    tokio::select! {
        phones = fleet::enrol(net, &stage.target, prefix, count, side) => phones,
        () = stage.stop.cancelled() => anyhow::bail!("the run was given up"),
    }
}
