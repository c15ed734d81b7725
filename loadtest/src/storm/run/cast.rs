//! Who plays in a run: the generators that a scenario asks for, each with its part of the load.

use tokio::sync::watch;

use super::{Plan, Tested};
use crate::storm::crowd::{self, CrowdOutcome, CrowdPlan};
use crate::storm::flood::{self, FloodOutcome};
use crate::storm::generator::{Generator, GivenUp};
use crate::storm::phones::{self, PhonesOutcome};
use crate::storm::result::Capacity;
use crate::storm::scenario::{Event, Rate, Silent, Unit, rate};
use crate::storm::silent::{self, SilentOutcome};
use crate::storm::stage::{Place, Stage};
use crate::storm::talk;
use crate::storm::timing::Timing;

/// Sessions of the crowd are opened at this share of what the server can do.
const OPENING: f64 = 0.4;

/// The generators of a run.
pub struct Cast {
    talk: Generator<talk::Seen>,
    phones: Option<Generator<PhonesOutcome>>,
    crowds: Vec<Generator<CrowdOutcome>>,
    flood: Option<Generator<FloodOutcome>>,
    silent: Option<Generator<SilentOutcome>>,
    /// Sessions are opened when all phones are enrolled: while tens of thousands are, the wake port hardly runs.
    may_open: watch::Sender<bool>,
}

/// What they have seen.
#[derive(Debug)]
pub struct Outcomes {
    /// Of the conversations.
    pub talk: talk::Seen,
    /// Of clients that come in.
    pub phones: Option<PhonesOutcome>,
    /// Of live sessions that do something.
    pub crowds: Vec<CrowdOutcome>,
    /// Of first packets.
    pub flood: Option<FloodOutcome>,
    /// Of half-open handshakes.
    pub silent: Option<SilentOutcome>,
}

impl Cast {
    /// Starts the threads; each prepares at once.
    pub fn start(
        plan: &Plan,
        capacity: &Capacity,
        stage: &Stage,
        tested: &Tested,
        timing: watch::Receiver<Option<Timing>>,
    ) -> anyhow::Result<Self> {
        let scenario = &plan.scenario;
        let urgent = plan.layout.driver();
        let last = Place { runs_last: true, ..urgent.clone() };
        let talk_plan = talk::Plan { talk: scenario.talk, prefix: format!("talk-{}-", plan.seed) };
        let (of_talk, at) = (stage.clone(), timing.clone());
        let (may_open, opens) = watch::channel(false);
        let may_talk = opens.clone();
        let talk = Generator::start("talk", urgent, at, move |cue| async move {
            allowed(may_talk).await?;
            talk::run(of_talk, talk_plan, cue).await
        })?;

        let mut coming = Vec::new();
        for (n, logins) in scenario.logins.iter().enumerate() {
            let per_unit = match logins.rate.unit {
                Unit::PerS => 1.0,
                Unit::Capacity | Unit::Full => capacity.logins_per_s,
            };
            let due = rate::due_offsets(&logins.rate, per_unit, plan.scale, plan.seed + n as u64)?;
            coming.push((logins.clone(), due));
        }
        let phones = (!coming.is_empty())
            .then(|| {
                let stage = stage.clone();
                Generator::start("phones", last.clone(), timing.clone(), move |cue| {
                    phones::run(stage, coming, cue)
                })
            })
            .transpose()?;

        let drops: Vec<(f64, u8)> = scenario
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Drop { at_s, percent } => Some((*at_s, *percent)),
                _ => None,
            })
            .collect();
        let mut crowds = Vec::new();
        for (n, crowd) in scenario.crowd.iter().enumerate() {
            // A burst is due at once.
            let due = |rate: &Option<Rate>, at_once: u32, seed: u64| match rate {
                Some(rate) => {
                    let per_unit = match rate.unit {
                        Unit::PerS => 1.0,
                        Unit::Capacity => capacity.messages_per_s,
                        Unit::Full => capacity.most_messages_per_s(),
                    };
                    rate::due_offsets(rate, per_unit / f64::from(at_once.max(1)), plan.scale, seed)
                }
                None => Ok(Vec::new()),
            };
            let seed = plan.seed + 100 + n as u64;
            let plan = CrowdPlan {
                crowd: crowd.clone(),
                prefix: format!("crowd-{}-{n}-", plan.seed),
                messages: due(&crowd.messages, crowd.burst, seed)?,
                fetches: due(&crowd.fetches, 1, seed + 1)?,
                drops: drops.clone(),
                opens_per_s: capacity.logins_per_s * OPENING,
            };
            let (stage, may_open) = (stage.clone(), opens.clone());
            let play = move |cue| async move {
                allowed(may_open).await?;
                crowd::run(stage, plan, cue).await
            };
            crowds.push(Generator::start("crowd", last.clone(), timing.clone(), play)?);
        }

        let ports = tested.system.as_ref().map(|system| system.ports());
        let flood = match (&scenario.flood, ports) {
            (Some(flood), Some(ports)) => {
                let (stage, flood) = (stage.clone(), flood.clone());
                let play = move |cue| flood::run(stage, flood, ports, cue);
                Some(Generator::start("flood", last.clone(), timing.clone(), play)?)
            }
            (Some(_), None) => {
                anyhow::bail!("a flood is only sent to a server that this program has started")
            }
            (None, _) => None,
        };
        let silent = match (&scenario.silent, ports) {
            (Some(silent), Some(ports)) => {
                let stage = stage.clone();
                let clients = (f64::from(silent.clients) * plan.scale).round() as u32;
                let silent = Silent { clients: clients.max(1), ..silent.clone() };
                let play = move |cue| silent::run(stage, silent, ports, cue);
                Some(Generator::start("silent", last, timing, play)?)
            }
            (Some(_), None) => {
                anyhow::bail!("half-open handshakes are only made at a server that this program has started")
            }
            (None, _) => None,
        };
        Ok(Self { talk, phones, crowds, flood, silent, may_open })
    }

    /// Waits until all of them are prepared.
    pub async fn prepared(&mut self) -> anyhow::Result<()> {
        if let Some(phones) = &mut self.phones {
            phones.prepared().await?;
        }
        self.may_open.send_replace(true);
        self.talk.prepared().await?;
        for crowd in &mut self.crowds {
            crowd.prepared().await?;
        }
        if let Some(flood) = &mut self.flood {
            flood.prepared().await?;
        }
        if let Some(silent) = &mut self.silent {
            silent.prepared().await?;
        }
        Ok(())
    }

    /// Waits for the end of all of them. A part that has failed is left out, with its reason; without the conversations nothing
    /// was measured.
    pub async fn finish(self) -> anyhow::Result<(Outcomes, Vec<anyhow::Error>)> {
        // Whoever waits for it still waits in vain.
        drop(self.may_open);
        let talk = self.talk.finish().await;
        let mut failures = Failures::default();
        let mut crowds = Vec::new();
        for crowd in self.crowds {
            crowds.extend(failures.unless(finished(Some(crowd)).await));
        }
        let phones = failures.unless(finished(self.phones).await);
        let flood = failures.unless(finished(self.flood).await);
        let silent = failures.unless(finished(self.silent).await);
        // All have ended before the first error is looked at: no thread is left behind.
        match talk {
            Ok(talk) => Ok((Outcomes { talk, phones, crowds, flood, silent }, failures.0)),
            // One that gave up does not know why; the one that failed does.
            Err(error) if error.is::<GivenUp>() => Err(failures.cause().unwrap_or(error)),
            Err(error) => Err(error),
        }
    }
}

/// Waits until sessions may be opened.
async fn allowed(mut may_open: watch::Receiver<bool>) -> Result<(), GivenUp> {
    may_open.wait_for(|may| *may).await.map(drop).map_err(|_| GivenUp)
}

/// Why parts have failed.
#[derive(Default)]
struct Failures(Vec<anyhow::Error>);

impl Failures {
    fn unless<T>(&mut self, finished: anyhow::Result<Option<T>>) -> Option<T> {
        finished.unwrap_or_else(|error| {
            self.0.push(error);
            None
        })
    }

    /// The first that is no consequence of another.
    fn cause(self) -> Option<anyhow::Error> {
        self.0.into_iter().find(|error| !error.is::<GivenUp>())
    }
}

async fn finished<T: Send + 'static>(generator: Option<Generator<T>>) -> anyhow::Result<Option<T>> {
    match generator {
        Some(generator) => generator.finish().await.map(Some),
        None => Ok(None),
    }
}
