//! From what the threads have seen to the figures of a run: pure arithmetic over tallies.
//!
//! It must never turn what was not measured into a number.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use buslane_shared::wire::Posture;

use super::result::{ByPhase, Capacity, LoginFigures, PhaseFigures, QUANTILES, StreamFigures, StreamSecond};
use super::tally::{Slice, Stream, Tally};
use super::timing::{Phase, Timing};
use crate::latency::Latencies;

/// Background gets at least this share of what the server can do.
const FLOOR: f64 = 0.05;

/// Over so many seconds at a time the floor is looked at.
const FLOOR_WINDOW_S: usize = 10;

/// A login storm keeps the server busy while more clients wait than it lets in within this time.
const BACKLOG: f64 = 0.5;

const LOGINS: [Stream; 2] = [Stream::LookLogin, Stream::WakeLogin];

/// Milliseconds.
pub fn ms(latency: Duration) -> f64 {
    latency.as_secs_f64() * 1e3
}

/// The 99th percentile of a stream in each phase.
pub fn p99_ms(tally: &Tally, stream: Stream) -> ByPhase {
    let of = |phase| tally.latencies(stream, phase).map(|latencies| ms(latencies.quantile(0.99)));
    ByPhase { quiet: of(Phase::Quiet), storm: of(Phase::Storm), after: of(Phase::After) }
}

/// Served in time, of what was due in a phase.
pub fn success(tally: &Tally, streams: &[Stream], phase: Phase) -> Option<f64> {
    let (mut offered, mut done) = (0, 0);
    for stream in streams {
        let counts = tally.counts(*stream, phase);
        offered += counts.offered;
        done += counts.done;
    }
    share(done as f64, offered as f64)
}

/// Tries of what was due in a phase that were refused or put off.
pub fn refused(tally: &Tally, streams: &[Stream], phase: Phase) -> u64 {
    let counts = streams.iter().map(|stream| tally.counts(*stream, phase));
    counts.map(|counts| counts.refused + counts.put_off).sum()
}

/// `part` of `whole`, if there is any.
pub fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// What clients that wanted in came to, apart from the slots, which the phones count themselves. `possible` is how
/// many a second the server could let in beside the foreground.
pub fn logins(tally: &Tally, capacity: &Capacity, possible: f64) -> LoginFigures {
    let offered = by_second(tally, &LOGINS, |slice| slice.due.offered);
    let served = by_second(tally, &LOGINS, |slice| slice.served);
    let busy = busy_seconds(tally.timing(), &offered, &served, capacity.logins_per_s);
    let in_busy = |counts: &[u64]| -> f64 { busy.iter().filter_map(|s| counts.get(*s)).sum::<u64>() as f64 };
    let done_per_s = share(in_busy(&served), busy.len() as f64);
    let all = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
    // Where nobody ever had to wait, the server has done what was wanted of it.
    let of_possible = match done_per_s {
        Some(done) => share(done, possible),
        None => share(all(&served), all(&offered)),
    };
    LoginFigures {
        offered_per_s: offered.iter().max().filter(|most| **most > 0).map(|most| *most as f64),
        done_per_s,
        done_of_possible: of_possible,
        ..LoginFigures::default()
    }
}

/// Seconds from the storm on in which clients waited the whole time.
fn busy_seconds(timing: &Timing, offered: &[u64], served: &[u64], per_s: f64) -> Vec<usize> {
    let mut busy = Vec::new();
    let mut waiting = 0.0;
    for (second, (came, went)) in offered.iter().zip(served).enumerate() {
        let at_begin: f64 = waiting;
        waiting += *came as f64 - *went as f64;
        let in_storm = timing.second_offset_s(second) >= 0.0;
        if in_storm && at_begin.min(waiting) > per_s * BACKLOG {
            busy.push(second);
        }
    }
    busy
}

fn by_second(tally: &Tally, streams: &[Stream], count: impl Fn(&Slice) -> u64) -> Vec<u64> {
    let mut sums = vec![0; tally.timing().seconds()];
    for track in streams.iter().filter_map(|stream| tally.tracks().get(stream)) {
        for (sum, slice) in sums.iter_mut().zip(&track.slices) {
            *sum += count(slice);
        }
    }
    sums
}

/// Whether phones that act by themselves always had their floor of the logins, in every ten seconds in which enough of them
/// wanted in. `None`: there never were that many.
pub fn floor_kept(tally: &Tally, capacity: &Capacity) -> Option<bool> {
    let offered = by_second(tally, &[Stream::WakeLogin], |slice| slice.due.offered);
    let served = by_second(tally, &[Stream::WakeLogin], |slice| slice.served);
    let busy = busy_seconds(tally.timing(), &offered, &served, capacity.logins_per_s);
    let windows = busy.windows(FLOOR_WINDOW_S).filter(|window| contiguous(window));
    let kept = windows.map(|window| {
        let done: u64 = window.iter().filter_map(|second| served.get(*second)).sum();
        done as f64 >= FLOOR * capacity.logins_per_s * FLOOR_WINDOW_S as f64
    });
    kept.reduce(|all, this| all && this)
}

fn contiguous(window: &[usize]) -> bool {
    match (window.first(), window.last()) {
        (Some(first), Some(last)) => last - first + 1 == window.len(),
        _ => false,
    }
}

/// Messages a second that were served in the storm, its first second left out, of what the server could do between `before` the run and
/// after it. Where less was offered than that, of the capacity in whose multiples it was offered (`of_full`: of a full server): a server can
/// do no more than what is asked.
pub fn goodput(tally: &Tally, before: &Capacity, meanwhile: &Capacity, of_full: bool) -> Option<f64> {
    let offered = messages_per_s(tally, |slice| slice.due.offered)?;
    let capacity = if offered > before.most_messages_per_s() {
        meanwhile.most_messages_per_s()
    } else if of_full {
        before.most_messages_per_s()
    } else {
        before.messages_per_s
    };
    share(messages_per_s(tally, |slice| slice.served)?, capacity)
}

/// Messages a second in the storm, its first second left out; `None`: no crowd sends any.
fn messages_per_s(tally: &Tally, count: impl Fn(&Slice) -> u64) -> Option<f64> {
    let timing = tally.timing();
    let counts = by_second(tally, &[Stream::Crowd, Stream::Receipt], count);
    let first = timing.second(timing.storm_begin()) + 1;
    let end = timing.second(timing.storm_end());
    let storm = counts.get(first..end)?;
    tally.tracks().contains_key(&Stream::Crowd).then_some(())?;
    share(storm.iter().sum::<u64>() as f64, storm.len() as f64)
}

/// How the postures relate to the storm.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PostureFigures {
    /// From the beginning of the storm to EMERGENCY; negative: it held already when the storm began. One that was over before the storm is
    /// no answer to it.
    pub enter_ms: Option<f64>,
    /// From its end to NORMAL, where no EMERGENCY came after it.
    pub exit_s: Option<f64>,
    /// Changes that clients were told from the storm's beginning on.
    pub changes: u64,
}

/// The same from what clients were told and what the node itself said.
pub fn postures(
    timing: &Timing,
    heard: &[(Instant, Posture)],
    of_node: &[(Instant, Posture)],
) -> PostureFigures {
    let from_storm = |at: &Instant| timing.offset_s(*at);
    let before = heard.partition_point(|(at, _)| *at < timing.storm_begin());
    let in_storm = heard.get(before.saturating_sub(1)..).unwrap_or_default();
    let enter = in_storm.iter().find(|(_, posture)| *posture == Posture::Emergency);
    let is_storm = |posture| matches!(posture, Posture::Emergency | Posture::Recovery);
    let after = of_node.iter().rposition(|(_, posture)| is_storm(*posture)).map(|last| last + 1);
    let normal = after
        .and_then(|after| of_node.get(after..))
        .and_then(|after| after.iter().find(|(_, posture)| *posture == Posture::Normal));
    let exit = normal
        .filter(|_| enter.is_some())
        .map(|(at, _)| at.saturating_duration_since(timing.storm_end()).as_secs_f64());
    PostureFigures {
        enter_ms: enter.map(|(at, _)| from_storm(at) * 1e3),
        exit_s: exit,
        changes: heard.iter().skip(1).filter(|(at, _)| *at >= timing.storm_begin()).count() as u64,
    }
}

/// Every second of every stream.
pub fn seconds(tally: &Tally) -> Vec<BTreeMap<Stream, StreamSecond>> {
    let mut seconds = vec![BTreeMap::new(); tally.timing().seconds()];
    for (stream, track) in tally.tracks() {
        for (second, slice) in seconds.iter_mut().zip(&track.slices) {
            second.insert(*stream, stream_second(slice));
        }
    }
    seconds
}

fn stream_second(slice: &Slice) -> StreamSecond {
    let quantile = |share| slice.latencies.as_ref().map(|latencies| ms(latencies.quantile(share)));
    StreamSecond {
        due: slice.due,
        served: slice.served,
        turned_away: slice.turned_away,
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
        max_ms: slice.latencies.as_ref().map(|latencies| ms(latencies.max())),
    }
}

/// Every stream as a whole.
pub fn streams(tally: &Tally) -> BTreeMap<Stream, StreamFigures> {
    let of = |stream: &Stream| StreamFigures {
        phases: Phase::ALL.into_iter().map(|phase| (phase, phase_figures(tally, *stream, phase))).collect(),
    };
    tally.tracks().keys().map(|stream| (*stream, of(stream))).collect()
}

fn phase_figures(tally: &Tally, stream: Stream, phase: Phase) -> PhaseFigures {
    let track = tally.tracks().get(&stream);
    let reasons = track.into_iter().flat_map(|track| &track.reasons);
    PhaseFigures {
        counts: tally.counts(stream, phase),
        reasons: reasons
            .filter(|((of, _), _)| *of == phase)
            .map(|((_, why), count)| ((*why).to_owned(), *count))
            .collect(),
        quantiles_ms: tally.latencies(stream, phase).map(quantiles).unwrap_or_default(),
    }
}

fn quantiles(latencies: &Latencies) -> Vec<f64> {
    QUANTILES.iter().map(|share| ms(latencies.quantile(*share))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::tally::Outcome;
    use std::sync::Arc;

    const S: Duration = Duration::from_secs(1);

    fn tally() -> Tally {
        let timing = Timing::new(Instant::now(), 2 * S, 12 * S, 10 * S);
        Tally::new(timing, Arc::default())
    }

    /// `per_s` offered in each second of the storm's first `seconds`; `served` of them in each second until all are in.
    fn storm(tally: &mut Tally, seconds: u64, per_s: u64, served: u64) {
        let begin = tally.timing().storm_begin();
        let mut waiting = 0;
        for second in 0..22 {
            let now = begin + second as u32 * S;
            if second < seconds {
                waiting += per_s;
                (0..per_s).for_each(|_| tally.on_offered(Stream::WakeLogin, now));
            }
            for _ in 0..served.min(waiting) {
                tally.on_outcome(Stream::WakeLogin, begin, now, Outcome::Done(now - begin));
            }
            waiting -= served.min(waiting);
        }
    }

    fn capacity() -> Capacity {
        Capacity {
            processors: 1.0,
            logins_per_s: 100.0,
            sessions_per_s: 100.0,
            messages_per_s: 1_000.0,
            messages_full_per_s: None,
        }
    }

    #[test]
    fn logins_are_held_against_what_was_possible_while_clients_waited() {
        let mut tally = tally();
        storm(&mut tally, 3, 500, 80);
        let figures = logins(&tally, &capacity(), 80.0);
        assert_eq!(figures.offered_per_s, Some(500.0));
        assert_eq!((figures.done_per_s, figures.done_of_possible), (Some(80.0), Some(1.0)));
        assert_eq!(floor_kept(&tally, &capacity()), Some(true));
    }

    #[test]
    fn a_background_that_stands_still_has_lost_its_floor() {
        let mut tally = tally();
        storm(&mut tally, 3, 500, 4);
        assert_eq!(floor_kept(&tally, &capacity()), Some(false));
    }

    #[test]
    fn where_nobody_waits_nothing_is_missing() {
        let mut tally = tally();
        storm(&mut tally, 3, 20, 80);
        let figures = logins(&tally, &capacity(), 80.0);
        assert_eq!((figures.done_per_s, figures.done_of_possible), (None, Some(1.0)));
        assert_eq!(floor_kept(&tally, &capacity()), None);
        assert_eq!(goodput(&tally, &capacity(), &capacity(), false), None);
        assert_eq!(success(&tally, &[Stream::Talk], Phase::Storm), None);
    }

    #[test]
    fn what_is_served_is_held_against_a_full_server_only_where_more_was_offered() {
        let full = |full| Capacity { messages_full_per_s: Some(full), ..capacity() };
        let share = |offered: u64, served: u64, of_full| {
            let mut tally = tally();
            for second in 0..12 {
                let due = tally.timing().at(f64::from(second) + 0.5);
                (0..offered).for_each(|_| tally.on_offered(Stream::Crowd, due));
                for _ in 0..served {
                    tally.on_outcome(Stream::Crowd, due, due, Outcome::Done(Duration::ZERO));
                }
            }
            goodput(&tally, &full(2_000.0), &full(1_600.0), of_full).unwrap()
        };
        assert!(
            (share(500, 500, false) - 0.5).abs() < 1e-9,
            "of the capacity in whose multiples it is offered"
        );
        assert!((share(1_500, 1_500, false) - 1.5).abs() < 1e-9);
        assert!((share(1_500, 1_500, true) - 0.75).abs() < 1e-9);
        assert!((share(2_500, 800, false) - 0.5).abs() < 1e-9, "of what it could do meanwhile");
    }

    #[test]
    fn postures_are_reckoned_from_the_storm() {
        let timing = Timing::new(Instant::now(), 2 * S, 12 * S, 10 * S);
        // Clients are not told of NORMAL after RECOVERY: there is nothing that they would do differently.
        let heard = [
            (timing.begin(), Posture::Normal),
            (timing.at(0.05), Posture::Emergency),
            (timing.at(14.0), Posture::Recovery),
        ];
        let mut of_node = vec![
            (timing.begin(), Posture::Normal),
            (timing.at(0.03), Posture::Emergency),
            (timing.at(14.0), Posture::Recovery),
            (timing.at(15.0), Posture::Normal),
            (timing.at(17.0), Posture::Guard),
        ];
        let figures = postures(&timing, &heard, &of_node);
        assert!((figures.enter_ms.unwrap() - 50.0).abs() < 0.01, "{figures:?}");
        assert!((figures.exit_s.unwrap() - 3.0).abs() < 0.01, "being on its guard is no emergency");
        assert_eq!(figures.changes, 2);
        of_node.push((timing.at(18.0), Posture::Emergency));
        assert_eq!(postures(&timing, &heard, &of_node).exit_s, None, "a relapse");
        let early = [
            (timing.begin(), Posture::Emergency),
            (timing.at(-1.0), Posture::Normal),
            (timing.at(0.05), Posture::Emergency),
        ];
        let enter = |heard: &[(Instant, Posture)]| postures(&timing, heard, heard).enter_ms;
        assert!((enter(&early).unwrap() - 50.0).abs() < 0.01, "one that was over is no answer");
        assert_eq!(enter(early.get(..2).unwrap()), None);
        assert!((enter(early.get(..1).unwrap()).unwrap() + 2_000.0).abs() < 0.01, "it holds still");
        let calm = postures(&timing, heard.get(..1).unwrap(), heard.get(..1).unwrap());
        assert_eq!(calm, PostureFigures::default());
    }
}
