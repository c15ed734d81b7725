//! Asks the node once a second what it does, and makes of it what is shown, kept and told.
//!
//! Why it exists: the node counts; it does not remember. The posture is looked at ten times a second, because one that holds for half a
//! second is part of the story too. A process that controls no load has nothing to sample. It asks for nothing that waits, and where
//! it comes late (a machine that sleeps) the span is longer and says so.

pub mod notice;
mod process;
mod reading;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::clock;
use buslane_chassis::oversee::{Overseer, PostureView};
use buslane_chassis::shutdown::Shutdown;
use buslane_shared::UnixMs;
use buslane_shared::class::CLASSES;
use tokio::time::{Instant, MissedTickBehavior};

use crate::history::Stretch;
use crate::seat::Seat;
use crate::trend::Compared;
use crate::view::{Sample, Trend};

use notice::{OrderNotice, PostureNotice};
#[cfg(test)]
pub(crate) use reading::between;
pub use reading::{Picture, Reading};
use steps::Steps;

/// How often the posture is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Looks from one reading to the next.
const LOOKS: u32 = 10;

/// How often what is usual is written to the disk.
const KEEP_EVERY: Duration = Duration::from_secs(600);

/// Samples until the shutdown; orders are noticed in every process.
pub fn run(seat: &Arc<Seat>, shutdown: &Shutdown) {
    let (noticing, token) = (Arc::clone(seat), shutdown.token().clone());
    shutdown.tracker().spawn(async move {
        token.run_until_cancelled(notice_orders(&noticing)).await;
    });
    let Some(overseer) = seat.desk.overseer.clone() else { return };
    let (seat, token) = (Arc::clone(seat), shutdown.token().clone());
    shutdown.tracker().spawn(async move {
        token.run_until_cancelled(sample(&seat, overseer.as_ref())).await;
        keep(&seat).await;
    });
}

async fn notice_orders(seat: &Seat) {
    let (mut orders, mut notice) = (seat.desk.book.watch(), OrderNotice::default());
    loop {
        let now = Arc::clone(&orders.borrow_and_update());
        notice.on(&now).into_iter().for_each(|what| seat.tell(what));
        if orders.changed().await.is_err() {
            return;
        }
    }
}

async fn sample(seat: &Arc<Seat>, overseer: &dyn Overseer) {
    let begun = Instant::now();
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut postures = PostureNotice::default();
    let (reading, picture) = read(overseer, begun);
    let mut steps = Steps::begin(&Arc::new(reading), picture);
    let (mut looks, mut kept) = (0, begun);
    loop {
        tick.tick().await;
        let view = overseer.posture();
        if let Some(what) = postures.on(&view) {
            seat.tell(what);
        }
        steps.on_look(&view);
        looks += 1;
        if looks < LOOKS {
            continue;
        }
        looks = 0;
        on_second(seat, &mut steps, read(overseer, begun));
        if kept.elapsed() >= KEEP_EVERY {
            kept = Instant::now();
            keep(seat).await;
        }
    }
}

fn on_second(seat: &Seat, steps: &mut Steps, (reading, picture): (Reading, Picture)) {
    let at_ms = reading.at_ms;
    seat.turned_away.on_reading(at_ms, &reading.traffic);
    let ended = steps.on_reading(&Arc::new(reading), picture);
    let compared = compare(seat, steps, at_ms);
    for (stretch, mut sample) in ended {
        sample.logins.trend = compared.logins;
        sample.messages_trend = compared.messages;
        on_sample(seat, stretch, sample);
    }
}

fn on_sample(seat: &Seat, stretch: Stretch, sample: Sample) {
    match stretch {
        Stretch::TenMinutes => seat.live.tell("sample", &sample),
        Stretch::ThreeHours => {}
        Stretch::Day => {
            seat.trends.on_minute(sample.at_ms, sample.logins.offered_per_s, sample.messages_per_s)
        }
    }
    seat.history.on_sample(stretch, Arc::new(sample));
}

fn compare(seat: &Seat, steps: &Steps, now_ms: UnixMs) -> Compared {
    let Some(present) = steps.present() else { return Compared::default() };
    let compared = seat.trends.compare(now_ms, present.logins_per_s, present.messages_per_s);
    for (of, trend) in [("logins", compared.logins), ("messages", compared.messages)] {
        if let Some(Trend { usual_per_s, score, .. }) = trend {
            metrics::gauge!("buslane_trend_usual_per_second", "of" => of).set(usual_per_s);
            metrics::gauge!("buslane_trend_score", "of" => of).set(score);
        }
    }
    compared
}

fn read(overseer: &dyn Overseer, begun: Instant) -> (Reading, Picture) {
    let used = process::usage();
    let PostureView { posture, measured, order, level, background_per_s, ledger_ms, .. } = overseer.posture();
    let node = overseer.node();
    let mut waiting = [0; CLASSES];
    for (waiting, lane) in waiting.iter_mut().zip(overseer.lanes().lanes) {
        *waiting = lane.waiting;
    }
    let reading = Reading {
        at_ms: clock::unix_ms(),
        at: begun.elapsed(),
        traffic: overseer.traffic(),
        processor_time: used.processor_time,
    };
    let picture = Picture {
        posture,
        measured,
        order,
        level,
        background_per_s,
        ledger_ms,
        waiting,
        resident_bytes: used.resident_bytes,
        sessions_front: node.sessions_front,
        sessions_wake: node.sessions_wake,
    };
    (reading, picture)
}

/// Writes what is usual. That it cannot be written is no reason to stop: it is learnt again.
async fn keep(seat: &Arc<Seat>) {
    let seat = Arc::clone(seat);
    let kept = tokio::task::spawn_blocking(move || seat.trends.keep()).await;
    if let Err(error) = kept.unwrap_or_else(|failed| Err(std::io::Error::other(failed))) {
        tracing::warn!(%error, "what is usual was not written: a restart forgets what was learnt since the last time");
    }
}
