//! One run, from the calibration to the verdict: the order of things on one screen.
//!
//! What was measured so far is never thrown away: a server that dies, an interruption or a full disk end the run early, and
//! the result says so.

mod cast;
mod gathered;
mod machine;
mod trail;
mod validity;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::cast::{Cast, Outcomes};
use self::gathered::Gathered;
use self::trail::Trail;
use super::calibrate;
use super::fleet::Phone;
use super::generator::Generator;
use super::history::{self, Findings, Reader, Record};
use super::live::Live;
use super::net::Net;
use super::place::Layout;
use super::result::{Capacity, Costs, Origin, Run};
use super::scenario::{Event, Scenario};
use super::stage::{Stage, Target};
use super::system::{System, SystemPlan};
use super::timing::Timing;
use super::watch::Watch;

/// Between the end of the preparation and the beginning: what was opened comes to rest.
const SETTLE: Duration = Duration::from_secs(2);

/// How long a server may take to come to rest after the preparation: sessions that are open meanwhile are not pinged, so less than
/// their idle limit.
const REST_WITHIN: Duration = Duration::from_secs(60);

/// The same without a processor of its own: beside whatever else there is it may never come to rest. Longer than GUARD lasts after
/// one moment of the preparation.
const REST_WITHIN_SHARED: Duration = Duration::from_secs(15);

/// How often the server is asked whether it is at rest.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What happens.
    pub scenario: Scenario,
    /// `overload.policy` of the server; `None`: as it is by itself.
    pub policy: Option<String>,
    /// Factor on the load.
    pub scale: f64,
    /// The same seed makes the same plan of load.
    pub seed: u64,
    /// Whether server and driver get processors of their own.
    pub layout: Layout,
    /// The program that is measured.
    pub program: PathBuf,
    /// A folder for its data; it belongs to the caller.
    pub work: PathBuf,
    /// A system that runs already, in place of one that is started.
    pub against: Option<Target>,
    /// What was measured before, in place of a calibration: several policies are held against the same.
    pub capacity: Option<(Capacity, Costs)>,
    /// The command that repeats this.
    pub command: String,
}

/// What the control of load is called in the results, of a server that is started with `policy` or of one that runs already.
pub fn policy_name<'a>(scenario: &'a Scenario, policy: Option<&'a str>, against: Option<&Target>) -> &'a str {
    match (policy, against) {
        (Some(policy), _) => policy,
        (None, None) => scenario.policy(),
        (None, Some(_)) => UNKNOWN_POLICY,
    }
}

/// Nobody can see how somebody else's server decides.
const UNKNOWN_POLICY: &str = "unknown";

/// What the caller is told while it goes on.
#[derive(Debug, Clone)]
pub enum Progress {
    /// The next step of the preparation or the end.
    Step(&'static str),
    /// What the server was measured to be able to do.
    Calibrated(Capacity),
    /// The load begins.
    Begun(Timing, Arc<Live>),
}

/// Runs it. `Err`: nothing was measured at all.
pub async fn run(
    plan: &Plan,
    stop: CancellationToken,
    mut progress: impl FnMut(Progress),
) -> anyhow::Result<Run> {
    let (capacity, costs) = match plan.capacity {
        Some(known) => known,
        None => {
            progress(Progress::Step("measuring what this server can do"));
            unless_stopped(&stop, calibration(plan)).await?
        }
    };
    let capacity = allowed(capacity, &plan.scenario.settings);
    progress(Progress::Calibrated(capacity));
    progress(Progress::Step("starting the server"));
    let mut tested = Tested::start(plan, "run").await?;
    let live = Arc::new(Live::default());
    let stage = Stage {
        target: tested.target.clone(),
        seed: plan.seed,
        live: live.clone(),
        stop: stop.child_token(),
    };
    let (go, timing) = watch::channel(None);
    progress(Progress::Step("enrolling phones, opening sessions"));
    let mut cast = Cast::start(plan, &capacity, &stage, &tested, timing)?;
    let prepared = async {
        tokio::select! {
            prepared = cast.prepared() => prepared,
            why = tested.until_unwell() => Err(anyhow::anyhow!(why)),
        }
    };
    if let Err(error) = unless_stopped(&stop, prepared).await {
        stage.stop.cancel();
        drop(go);
        // Who was interrupted has not failed, and nobody waits for it.
        if stop.is_cancelled() {
            return Err(error);
        }
        // The generator that failed knows why.
        let why = match cast.finish().await {
            Err(error) => error,
            Ok((_, failures)) => failures.into_iter().next().unwrap_or(error),
        };
        return Err(why).context("the load could not be prepared");
    }
    tokio::time::sleep(SETTLE).await;
    progress(Progress::Step("waiting until the server is at rest"));
    let restless = unless_stopped(&stop, rest(plan, &mut tested)).await?;
    let phases = plan.scenario.phases;
    let seconds = |s: u32| Duration::from_secs(s.into());
    let begin = Instant::now() + Duration::from_millis(100);
    let timing =
        Timing::new(begin, seconds(phases.quiet_s), seconds(phases.storm_s), seconds(phases.after_s));
    let origin = Origin {
        command: plan.command.clone(),
        began: machine::now_text(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine: machine::describe(),
        pinned: plan.layout.is_pinned(),
    };
    go.send_replace(Some(timing));
    let trail = tested.system.as_ref().map(|system| Trail::start(system.admin().clone(), live.clone()));
    progress(Progress::Begun(timing, live));
    let (marks, mut ended_early) = play(plan, &timing, &stage, &mut tested).await;
    if ended_early.is_some() {
        stage.stop.cancel();
    }
    let postures = match trail {
        Some(trail) => trail.finish().await,
        None => Vec::new(),
    };
    progress(Progress::Step("waiting for what is on its way"));
    let (mut outcomes, failures) = cast.finish().await?;
    if let Some(error) = failures.first() {
        ended_early.get_or_insert_with(|| format!("{error:#}"));
    }
    progress(Progress::Step("reading the log back"));
    let findings = match tested.system.as_mut().map(System::is_alive) {
        Some(Err(how)) => Err(format!("nobody is left to read the log from: {how}")),
        Some(Ok(())) | None => check_history(plan, &stage, &mut outcomes).await,
    };
    let watched = tested.watch.take().map(|watch| watch.finish(&timing));
    progress(Progress::Step("stopping the server"));
    let (mut notes, mut remarks) = (Vec::new(), Vec::new());
    if let Some(posture) = restless {
        let restless = format!(
            "the server was in {posture} when the run began: its figures before the storm are no quiet ones"
        );
        if validity::spoils(&posture, &plan.scenario) {
            notes.push(restless);
        } else {
            remarks.push(format!("As a remark: {restless}."));
        }
    }
    if tested.system.is_some() && postures.is_empty() {
        notes.push(
            "the node never said which posture holds: what is said of it is what clients were told"
                .to_owned(),
        );
    }
    if let Some(system) = tested.system.take()
        && let Err(error) = system.stop().await
        && ended_early.is_none()
    {
        notes.push(format!("the server did not stop in order: {error:#}"));
    }
    let (mut capacity_after, mut costs_after) = (None, None);
    if plan.against.is_none() && ended_early.is_none() && validity::needs_capacity(&plan.scenario) {
        progress(Progress::Step("measuring once more what this server can do"));
        match unless_stopped(&stop, calibration(plan)).await {
            Ok((after, costs)) => {
                capacity_after = Some(allowed(after, &plan.scenario.settings));
                costs_after = Some(costs);
            }
            Err(error) => remarks.push(format!("What the server can do was not measured again: {error:#}")),
        }
    }
    let gathered = Gathered {
        timing,
        capacity,
        costs,
        capacity_after,
        costs_after,
        remarks,
        outcomes,
        postures,
        marks,
        ended_early,
        notes,
        findings,
        watched,
    };
    Ok(gathered.into_run(plan, origin))
}

/// Waits until nothing of the preparation is felt any more. The posture that still holds, if that took too long.
async fn rest(plan: &Plan, tested: &mut Tested) -> anyhow::Result<Option<String>> {
    // Whoever operates somebody else's system chooses the moment.
    let Some(system) = &mut tested.system else { return Ok(None) };
    let patience = if plan.layout.is_pinned() { REST_WITHIN } else { REST_WITHIN_SHARED };
    let until = Instant::now() + patience;
    loop {
        system.is_well().map_err(anyhow::Error::msg)?;
        let posture = system.posture().await?;
        if posture == "normal" {
            return Ok(None);
        }
        if Instant::now() >= until {
            return Ok(Some(posture));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Gives up when the caller does.
async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        () = stop.cancelled() => anyhow::bail!("interrupted before anything was measured"),
    }
}

/// Capacity is measured on a server of its own, without any control of load.
async fn calibration(plan: &Plan) -> anyhow::Result<(Capacity, Costs)> {
    anyhow::ensure!(
        plan.against.is_none(),
        "the cost of work on a server that this program did not start cannot be seen: say what it can do with \
         --logins-per-s and --messages-per-s"
    );
    let system_plan = system_plan(plan, "calibration", Some("none"))?;
    let work = system_plan.work.clone();
    let mut system = System::start(system_plan).await?;
    let burst = plan.scenario.crowd.iter().map(|crowd| crowd.burst).max().unwrap_or(1);
    let measured = calibrate::Plan {
        target: system.target(),
        pids: system.pids(),
        processors: plan.layout.server_processors(),
        burst: burst as usize,
        full: validity::needs_full(&plan.scenario, plan.scale),
    };
    let (_go, timing) = watch::channel(None);
    // It is never told to begin: calibrating is all preparation.
    let generator =
        Generator::start("calibration", plan.layout.driver(), timing, move |_cue| calibrate::run(measured))?;
    let found = tokio::select! {
        found = generator.finish() => found,
        why = system.until_unwell() => Err(anyhow::anyhow!(why)),
    };
    let stopped = system.stop().await;
    // Its data would only take room from the run.
    let _ = std::fs::remove_dir_all(work);
    let found = found?;
    stopped.map(|()| found)
}

/// What a node lets in is bounded by its settings as well: whatever is less counts as its capacity for logins.
fn allowed(capacity: Capacity, settings: &toml::Table) -> Capacity {
    let path = ["session_manager", "overload", "background", "logins_per_s_max"];
    let mut value = Some(settings);
    let (last, tables) = path.split_last().unwrap_or((&"", &[]));
    for name in tables {
        value = value.and_then(|table| table.get(*name)).and_then(toml::Value::as_table);
    }
    let set = value.and_then(|table| table.get(*last)).and_then(toml::Value::as_integer);
    let most = set.map_or(f64::INFINITY, |most| most as f64);
    Capacity {
        logins_per_s: capacity.logins_per_s.min(most),
        sessions_per_s: capacity.sessions_per_s.min(most),
        ..capacity
    }
}

fn system_plan(plan: &Plan, folder: &str, policy: Option<&str>) -> anyhow::Result<SystemPlan> {
    let work = plan.work.join(folder);
    std::fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    Ok(SystemPlan {
        program: plan.program.clone(),
        work,
        policy: policy.map(str::to_owned),
        settings: plan.scenario.settings.clone(),
        kind: plan.scenario.system,
        processors: plan.layout.server(),
    })
}

/// The system that is measured: one of ours, or somebody else's.
struct Tested {
    target: Target,
    system: Option<System>,
    watch: Option<Watch>,
}

impl Tested {
    async fn start(plan: &Plan, folder: &str) -> anyhow::Result<Self> {
        if let Some(target) = &plan.against {
            return Ok(Self { target: target.clone(), system: None, watch: None });
        }
        let system = System::start(system_plan(plan, folder, plan.policy.as_deref())?).await?;
        let watch = Watch::start(system.pids(), plan.layout.server_may_use()?, plan.layout.driver())?;
        Ok(Self { target: system.target(), system: Some(system), watch: Some(watch) })
    }

    /// Ready when the server cannot go on, with why. Never, for one that is not ours.
    async fn until_unwell(&mut self) -> String {
        match &mut self.system {
            Some(system) => system.until_unwell().await,
            None => std::future::pending().await,
        }
    }
}

/// Lets time pass and does to the server what the scenario says. Answers what was done, and why the run ended early.
async fn play(
    plan: &Plan,
    timing: &Timing,
    stage: &Stage,
    tested: &mut Tested,
) -> (Vec<(f64, String)>, Option<String>) {
    let mut marks = Vec::new();
    let mut events: Vec<&Event> = plan.scenario.events.iter().collect();
    events.sort_by(|a, b| a.at_s().total_cmp(&b.at_s()));
    for event in events {
        if let Some(why) = wait(timing.at(event.at_s()), stage, tested).await {
            return (marks, Some(why));
        }
        marks.push((timing.offset_s(Instant::now()), event.title()));
        if let Err(error) = act(event, plan, tested).await {
            return (marks, Some(format!("{}: {error:#}", event.title())));
        }
    }
    let ended = wait(timing.end(), stage, tested).await;
    (marks, ended)
}

/// Waits for a moment; answers why the run ends before it.
async fn wait(until: Instant, stage: &Stage, tested: &mut Tested) -> Option<String> {
    tokio::select! {
        () = tokio::time::sleep_until(until.into()) => None,
        why = tested.until_unwell() => Some(why),
        () = stage.stop.cancelled() => Some("the run was interrupted".to_owned()),
    }
}

async fn act(event: &Event, plan: &Plan, tested: &mut Tested) -> anyhow::Result<()> {
    // The crowd does this one itself.
    if matches!(event, Event::Drop { .. }) {
        return Ok(());
    }
    let Some(system) = &mut tested.system else {
        anyhow::bail!("this can only be done to a server that this program has started");
    };
    let seconds = |s: f64| Duration::try_from_secs_f64(s).unwrap_or_default();
    match event {
        Event::Drop { .. } => Ok(()),
        Event::BusyNeighbour { for_s, .. } => {
            system.busy_neighbour(&plan.layout.server(), seconds(*for_s)).await
        }
        Event::BusyDisk { for_s, .. } => system.busy_disk(seconds(*for_s)).await,
        Event::Restart { .. } => system.restart().await,
        Event::Order { at_s, begins_s, for_s } => {
            let begins_in = seconds(begins_s.unwrap_or(*at_s) - at_s);
            system.order("a storm that was announced", begins_in, seconds(*for_s)).await
        }
    }
}

/// How long the logs may take to be read back.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// Reads the logs back and holds what was seen against them.
async fn check_history(plan: &Plan, stage: &Stage, outcomes: &mut Outcomes) -> Result<Findings, String> {
    let talk = &mut outcomes.talk;
    let mut record = std::mem::replace(&mut talk.record, Record::new(Instant::now()));
    let mut readers = readers(std::mem::take(&mut talk.phones), &talk.rooms);
    for crowd in &mut outcomes.crowds {
        record.merge(std::mem::replace(&mut crowd.record, Record::new(Instant::now())));
        readers.extend(self::readers(std::mem::take(&mut crowd.phones), &crowd.rooms));
    }
    let (_go, timing) = watch::channel(None);
    let target = stage.target.clone();
    let reading = Generator::start("checker", plan.layout.driver(), timing, move |_cue| async move {
        let net = Net::new(&target, READ_ADDRESSES)?;
        let logs = history::read_logs(&net, readers, READ_WITHIN).await;
        Ok(history::check(&record, &logs))
    });
    let found = match reading {
        Ok(reading) => reading.finish().await,
        Err(error) => Err(error),
    };
    found.map_err(|error| format!("{error:#}"))
}

/// Source addresses of the readers.
const READ_ADDRESSES: usize = 16;

/// The first of each two people reads the room of both.
fn readers(phones: Vec<Phone>, rooms: &[Bytes]) -> Vec<Reader> {
    let first = phones.into_iter().step_by(2);
    first.zip(rooms).map(|(phone, room)| Reader { phone, rooms: vec![room.clone()] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_held_against_what_it_is_allowed_to_do() {
        let capacity = Capacity {
            processors: 1.0,
            logins_per_s: 4_000.0,
            sessions_per_s: 5_000.0,
            messages_per_s: 10_000.0,
            messages_full_per_s: Some(20_000.0),
        };
        let set = "[session_manager.overload.background]\nlogins_per_s_max = 500";
        assert_eq!(allowed(capacity, &toml::from_str(set).unwrap()).logins_per_s, 500.0);
        let more = set.replace("500", "5000");
        assert_eq!(allowed(capacity, &toml::from_str(&more).unwrap()).logins_per_s, 4_000.0);
        assert_eq!(allowed(capacity, &toml::Table::new()).logins_per_s, 4_000.0);
    }
}
