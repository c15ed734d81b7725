//! First packets without end, from many addresses: what a server has to throw away before it can do anything useful.
//!
//! Packets are made before the run and sent one by one, a datagram each (`sendmmsg`). Segmentation offload would send more, but
//! over loopback the server would then be given one large buffer where a country sends single packets. When more are sent
//! than were made, they come again with the same ids: of some 16,000, a server that holds any holds a few hundred.
//!
//! It must never send more than the scenario says: what was not sent in time is counted and left out, not sent later.

mod pace;
mod pool;
mod sources;

use std::time::{Duration, Instant};

use anyhow::Context;
use buslane_shared::mark::{KNOCK_AT, MARK_BYTES};
use tokio_util::sync::CancellationToken;

use self::pace::Pace;
use self::pool::{Imitated, Pool};
use self::sources::Sources;
use super::fleet;
use super::generator::Cue;
use super::net::Net;
use super::raw::answer::Answers;
use super::raw::{goals, host};
use super::scenario::{Flood, Shown, Side};
use super::stage::{Ports, Stage};
use super::timing::Timing;

/// Packets that are made before the run: 20 MB.
const POOL_PACKETS_MAX: usize = 16_384;

/// How long answers are still counted when the last packet has been sent: a server repeats what nobody acknowledges.
const LINGER: Duration = Duration::from_secs(1);

/// Between two looks whether something is due or has come.
const IDLE: Duration = Duration::from_millis(1);

/// What was sent, and what came back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FloodOutcome {
    packets: Vec<u64>,
    /// Packets that were due when the driver had no time, or the system no room for them.
    pub not_sent: u64,
    /// Bytes that were sent.
    pub bytes: u64,
    /// What came back, as far as the driver came to read it.
    pub answers: Answers,
    amplification: Option<f64>,
}

impl FloodOutcome {
    /// Packets sent in each second of the run.
    pub fn packets_by_second(&self) -> &[u64] {
        &self.packets
    }

    /// Bytes that came back for each that was sent, for the address with the most. A server must stay at 3 (RFC 9000, 8.1);
    /// quinn looks before each datagram and not after it, so an address that has sent one packet may see 3.99. Absent: nothing
    /// was sent.
    pub fn amplification(&self) -> Option<f64> {
        self.amplification
    }
}

/// Sends as the scenario says, and returns when it is over. It keeps its thread busy.
pub async fn run(stage: Stage, flood: Flood, ports: Ports, cue: Cue) -> anyhow::Result<FloodOutcome> {
    let imitated = match flood.show {
        Shown::Random => None,
        Shown::ForgedPass | Shown::Mixed => Some(learn(&stage).await?),
    };
    let goals = goals(&ports, flood.port);
    let wanted = match flood.per_s_max {
        0 => POOL_PACKETS_MAX,
        per_s => ((f64::from(per_s) * flood.for_s).ceil() as usize).clamp(1, POOL_PACKETS_MAX),
    };
    let plan = pool::Plan { goals: &goals, show: flood.show, imitated, seed: stage.seed };
    let pool = Pool::make(&plan, host(&stage.target.gate), wanted)?;
    let sources = Sources::bind(ports.gate)?;
    let timing = cue.ready().await?;
    let begin = timing.at(flood.from_s);
    let end = timing.at(flood.from_s + flood.for_s).min(timing.end());
    let mut sending = Sending {
        pool,
        sources,
        pace: Pace::new(flood.per_s_max, begin),
        outcome: FloodOutcome { packets: vec![0; timing.seconds()], ..FloodOutcome::default() },
    };
    tokio::select! {
        () = tokio::time::sleep_until(begin.into()) => sending.send_all(end, &timing, &stage.stop).await?,
        () = stage.stop.cancelled() => {}
    }
    sending.listen(Instant::now() + LINGER, &stage.stop).await;
    Ok(sending.finish())
}

/// What the passes of this time have in common, taken from a real one. It stays so for five minutes at least.
async fn learn(stage: &Stage) -> anyhow::Result<Imitated> {
    let net = Net::new(&stage.target, 1)?;
    let prefix = format!("flood-{}-", stage.seed);
    let phones = fleet::enrol(&net, &stage.target, &prefix, 1, Side::Foreground).await?;
    let mut phone = phones.into_iter().next().context("no phone was enrolled")?;
    let pass = phone.take_pass().context(
        "the gateway gave no pass that could be imitated: is the server one that needs no passes (policy none)?",
    )?;
    let pass: [u8; MARK_BYTES] = pass.as_ref().try_into().context("a pass of another length")?;
    let (head, knock) = pass.split_at_checked(KNOCK_AT).context("a pass without a knock")?;
    let imitated = head.first().zip(knock.first_chunk());
    let (head, knock) = imitated.context("a pass without a knock")?;
    Ok(Imitated { head: *head, knock: *knock })
}

/// What is needed while it lasts.
struct Sending {
    pool: Pool,
    sources: Sources,
    pace: Pace,
    outcome: FloodOutcome,
}

impl Sending {
    async fn send_all(
        &mut self,
        end: Instant,
        timing: &Timing,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        loop {
            let now = Instant::now();
            if now >= end || stop.is_cancelled() {
                return Ok(());
            }
            let due = self.pace.due(now);
            if due == 0 {
                self.sources.read_next(&mut self.outcome.answers);
                tokio::time::sleep(IDLE).await;
                continue;
            }
            let batch = self.pool.next_batch(due);
            let sent = self.sources.send(batch).context("first packets cannot be sent")?;
            self.sources.read_last(&mut self.outcome.answers);
            self.pool.advance(sent);
            self.pace.on_sent(sent);
            if let Some(packets) = self.outcome.packets.get_mut(timing.second(now)) {
                *packets += sent as u64;
            }
        }
    }

    /// Counts what still comes.
    async fn listen(&mut self, until: Instant, stop: &CancellationToken) {
        loop {
            self.sources.read_all(&mut self.outcome.answers);
            if Instant::now() >= until || stop.is_cancelled() {
                return;
            }
            tokio::time::sleep(IDLE).await;
        }
    }

    fn finish(self) -> FloodOutcome {
        FloodOutcome {
            not_sent: self.pace.missed(),
            bytes: self.sources.bytes_sent(),
            amplification: self.sources.amplification(),
            ..self.outcome
        }
    }
}

#[cfg(test)]
mod tests;
