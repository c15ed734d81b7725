//! Made-up runs. Every number comes from a formula, so that the same run is the same every time.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::storm::result::{
    ByPhase, Capacity, Check, Costs, LoginFigures, Memory, Origin, PhaseFigures, Run, Second, StreamFigures,
    StreamSecond, Summary, Verdict,
};
use crate::storm::scenario::Scenario;
use crate::storm::tally::{Counts, Stream};
use crate::storm::timing::Phase;

const TALK_PER_S: u64 = 200;
const PEAK_PER_S: u64 = 29_000;

/// How a policy does in the storm.
struct Nature {
    policy: &'static str,
    logins_per_s: u64,
    success: f64,
    p99_storm_ms: f64,
    postures: &'static [(f64, &'static str)],
    deferring: bool,
}

/// The storm of an earthquake, and a server that holds.
pub fn storm() -> Run {
    earthquake(Nature {
        policy: "buslane",
        logins_per_s: 2_024,
        success: 0.999_833,
        p99_storm_ms: 0.66,
        postures: &[
            (-15.0, "normal"),
            (0.004, "guard"),
            (0.011, "emergency"),
            (44.0, "recovery"),
            (54.0, "normal"),
        ],
        deferring: true,
    })
}

/// The same with fixed limits.
pub fn fixed() -> Run {
    earthquake(Nature {
        policy: "static",
        logins_per_s: 1_700,
        success: 0.982,
        p99_storm_ms: 38.0,
        postures: &[(-15.0, "normal")],
        deferring: true,
    })
}

/// The same without any control of load.
pub fn collapsed() -> Run {
    let mut run = earthquake(Nature {
        policy: "none",
        logins_per_s: 433,
        success: 0.412,
        p99_storm_ms: 1_830.0,
        postures: &[(-15.0, "normal")],
        deferring: false,
    });
    run.summary.lost = Some(3);
    run.summary.figures.insert("lost".to_owned(), 3.0);
    run.summary.logins.left_outside = 61_000;
    run
}

/// A run so long.
pub fn long(seconds: u32) -> Run {
    let mut run = storm();
    let after = seconds - 45;
    run.plan.phases.after_s = after;
    run.seconds.extend((90..i64::from(seconds) - 15).map(|at_s| Second {
        at_s: at_s as f64,
        phase: Some(Phase::After),
        ..calm_second(at_s)
    }));
    run
}

/// No storm at all, of a server that this program did not start.
pub fn calm() -> Run {
    let mut run = storm();
    run.plan.name = "calm".to_owned();
    run.plan.logins.clear();
    run.plan.events.clear();
    run.marks.clear();
    run.postures.truncate(1);
    run.streams.retain(|stream, _| *stream == Stream::Talk);
    run.seconds = (-15..30).map(calm_second).collect();
    for second in &mut run.seconds {
        second.server_processors = None;
        second.server_rss_mib = None;
    }
    run.summary.logins = LoginFigures::default();
    run.summary.rss_mib = Memory::default();
    run.summary.checks.clear();
    rounded(&run)
}

/// Nothing was measured.
pub fn empty() -> Run {
    let mut run = storm();
    run.seconds.clear();
    run.streams.clear();
    run.postures.clear();
    run.marks.clear();
    let summary = &mut run.summary;
    summary.valid = false;
    summary.verdict = Verdict::Invalid;
    summary.invalid_because =
        vec!["the server ended in the middle of the run: killed by signal 9".to_owned()];
    summary.fg_success = None;
    summary.fg_p99_ms = ByPhase::default();
    summary.fg_p99_ratio = None;
    summary.logins = LoginFigures::default();
    (summary.lost, summary.duplicated, summary.reordered, summary.misdelivered) = (None, None, None, None);
    summary.rss_mib = Memory::default();
    summary.server_cpu_us = Costs::default();
    summary.driver_lateness_p99_ms = None;
    summary.driver_lateness_ms = ByPhase::default();
    summary.figures.clear();
    for check in &mut summary.checks {
        (check.value, check.pass) = (None, false);
    }
    run
}

/// One second, and no more.
pub fn one_second() -> Run {
    let mut run = storm();
    run.seconds = run.seconds.drain(15..16).collect();
    run.postures = vec![(0.0, "emergency".to_owned())];
    run
}

/// With few digits: a JSON reader may miss the last one of many.
fn rounded(run: &Run) -> Run {
    fn round(value: &mut Value) {
        match value {
            Value::Number(number) if number.is_f64() => {
                *value = Value::from((number.as_f64().unwrap() * 1e6).round() / 1e6);
            }
            Value::Array(values) => values.iter_mut().for_each(round),
            Value::Object(fields) => fields.values_mut().for_each(round),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(run).unwrap();
    round(&mut value);
    serde_json::from_value(value).unwrap()
}

/// A number between 0 and 1 that looks like chance.
fn jitter(seed: u64) -> f64 {
    let mixed = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / f64::from(1 << 24)
}

fn calm_second(at_s: i64) -> Second {
    let chance = jitter((at_s + 100) as u64);
    let talk = StreamSecond {
        due: Counts { offered: TALK_PER_S, done: TALK_PER_S, ..Counts::default() },
        served: TALK_PER_S,
        turned_away: 0,
        p50_ms: Some(0.31 + 0.02 * chance),
        p99_ms: Some(0.55 + 0.1 * chance),
        max_ms: Some(0.8 + 2.0 * chance * chance),
    };
    Second {
        at_s: at_s as f64,
        phase: Some(if at_s < 0 {
            Phase::Quiet
        } else if at_s < 30 {
            Phase::Storm
        } else {
            Phase::After
        }),
        streams: BTreeMap::from([(Stream::Talk, talk)]),
        server_processors: Some(0.06 + 0.02 * chance),
        driver_processors: Some(0.10 + 0.02 * chance),
        server_rss_mib: Some(61.0),
        driver_lateness_ms: Some(0.05 + 0.1 * chance),
        flood_packets: None,
    }
}

fn earthquake(nature: Nature) -> Run {
    let mut waiting = 0;
    let seconds: Vec<Second> = (-15..90).map(|at_s| stormy_second(at_s, &nature, &mut waiting)).collect();
    let run = Run {
        summary: summary(&nature),
        plan: plan(),
        scale: 1.0,
        origin: Origin {
            command: format!("buslane load run gyeongju --policy {} --pin --seed 7", nature.policy),
            began: "2026-11-21T12:00:00Z".to_owned(),
            version: "0.1.0".to_owned(),
            machine: "2 x Example Processor 3.1 GHz, 24 GiB, Linux 6.1".to_owned(),
            pinned: true,
        },
        streams: streams(&seconds, &nature),
        seconds,
        postures: nature.postures.iter().map(|(at_s, name)| (*at_s, (*name).to_owned())).collect(),
        notes: vec!["What no server held was sent.".to_owned()],
        marks: vec![
            (12.0, "17 % of the sessions are lost".to_owned()),
            (14.0, "another program takes half of the processors for 10 s".to_owned()),
        ],
    };
    rounded(&run)
}

fn stormy_second(at_s: i64, nature: &Nature, waiting: &mut u64) -> Second {
    let mut second = calm_second(at_s);
    if at_s < 0 {
        return second;
    }
    let chance = jitter((at_s + 7_000) as u64);
    let offered = if at_s < 3 { PEAK_PER_S } else { 0 };
    *waiting += offered;
    let served = nature.logins_per_s.min(*waiting);
    *waiting -= served;
    let away = if nature.deferring { offered.saturating_sub(served) + *waiting / 25 } else { *waiting / 80 };
    let wait_ms = if served > 0 { at_s as f64 * 900.0 + 40.0 } else { 0.0 };
    let busy = *waiting > 0;
    second.streams.insert(
        Stream::WakeLogin,
        StreamSecond {
            due: Counts { offered, done: offered, put_off: away, ..Counts::default() },
            served,
            turned_away: away,
            p50_ms: (offered > 0).then_some(wait_ms * 8.0 + 9_000.0),
            p99_ms: (offered > 0).then_some(40_000.0),
            max_ms: (offered > 0).then_some(43_000.0),
        },
    );
    if let Some(talk) = second.streams.get_mut(&Stream::Talk).filter(|_| busy) {
        let done = (TALK_PER_S as f64 * nature.success).round() as u64;
        talk.due = Counts { offered: TALK_PER_S, done, failed: TALK_PER_S - done, ..Counts::default() };
        talk.served = done;
        talk.p50_ms = Some(nature.p99_storm_ms * 0.5 * (0.9 + 0.2 * chance));
        talk.p99_ms = Some(nature.p99_storm_ms * (0.9 + 0.2 * chance));
        talk.max_ms = Some(nature.p99_storm_ms * (1.2 + 2.0 * chance));
    }
    second.server_processors = Some(if busy { 0.97 + 0.03 * chance } else { 0.07 });
    second.driver_processors = Some(if busy { 0.6 + 0.2 * chance } else { 0.1 });
    second.server_rss_mib = Some(if busy { 120.0 + 92.0 * (at_s as f64 / 43.0) } else { 66.0 });
    second
}

fn streams(seconds: &[Second], nature: &Nature) -> BTreeMap<Stream, StreamFigures> {
    let mut streams: BTreeMap<Stream, StreamFigures> = BTreeMap::new();
    for second in seconds {
        for (stream, of) in &second.streams {
            let phase = streams.entry(*stream).or_default().phases.entry(second.phase.unwrap()).or_default();
            add(phase, of, nature, *stream);
        }
    }
    let talk = streams.get_mut(&Stream::Talk).unwrap();
    for (phase, p99) in [(Phase::Quiet, 0.61), (Phase::Storm, nature.p99_storm_ms), (Phase::After, 0.63)] {
        talk.phases.get_mut(&phase).unwrap().quantiles_ms =
            [0.5, 0.6, 0.8, 0.9, 1.0, 2.0, 3.5, 4.0].map(|part| part * p99).to_vec();
    }
    streams
}

fn add(phase: &mut PhaseFigures, of: &StreamSecond, nature: &Nature, stream: Stream) {
    phase.counts.offered += of.due.offered;
    phase.counts.done += of.due.done;
    phase.counts.put_off += of.due.put_off;
    phase.counts.failed += of.due.failed;
    if stream == Stream::WakeLogin && of.turned_away > 0 {
        let (why, part) = if nature.deferring { ("put off", 1) } else { ("no answer", 1) };
        *phase.reasons.entry(why.to_owned()).or_default() += of.turned_away * part;
        *phase.reasons.entry("RATE_LIMITED".to_owned()).or_default() += of.turned_away / 9;
    }
    if of.due.failed > 0 {
        *phase.reasons.entry("too late".to_owned()).or_default() += of.due.failed;
    }
}

fn summary(nature: &Nature) -> Summary {
    let possible = nature.logins_per_s as f64 / 2_060.0;
    let (quiet, ratio) = (0.61, nature.p99_storm_ms / 0.61);
    let figures: BTreeMap<String, f64> = [
        ("fg_success", nature.success),
        ("fg_p99_ratio", ratio),
        ("fg_p99_ms_storm", nature.p99_storm_ms),
        ("logins_of_possible", possible),
        ("lost", 0.0),
        ("duplicated", 0.0),
        ("reordered", 0.0),
        ("memory_ratio", 1.082),
        ("posture_changes", nature.postures.len() as f64 - 1.0),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let check = |name: &str, limit: &str, pass: fn(f64) -> bool| {
        let value = figures.get(name).copied();
        Check { name: name.to_owned(), limit: limit.to_owned(), value, pass: value.is_some_and(pass) }
    };
    let checks = vec![
        check("fg_success", ">= 0.9995", |value| value >= 0.9995),
        check("fg_p99_ratio", "<= 1.5", |value| value <= 1.5),
        check("logins_of_possible", ">= 0.8", |value| value >= 0.8),
        check("lost", "<= 0", |value| value <= 0.0),
        check("memory_ratio", "<= 1.15", |value| value <= 1.15),
    ];
    let pass = checks.iter().all(|check| check.pass);
    let entered = nature.postures.len() > 1;
    Summary {
        scenario: "gyeongju".to_owned(),
        policy: nature.policy.to_owned(),
        seed: 7,
        valid: true,
        invalid_because: Vec::new(),
        fg_success: Some(nature.success),
        fg_p99_ms: ByPhase { quiet: Some(quiet), storm: Some(nature.p99_storm_ms), after: Some(0.63) },
        fg_p99_ratio: Some(ratio),
        bg_floor_kept: Some(true),
        logins: LoginFigures {
            offered_per_s: Some(PEAK_PER_S as f64),
            done_per_s: Some(nature.logins_per_s as f64),
            done_of_possible: Some(possible),
            deferred: if nature.deferring { 84_976 } else { 0 },
            slots_promised: if nature.deferring { 131_200 } else { 0 },
            slots_kept: nature.deferring.then_some(0.9931),
            left_outside: 0,
            attempts_per_deferred: nature.deferring.then_some(2.04),
        },
        enter_ms: entered.then_some(11.0),
        exit_s: entered.then_some(24.0),
        lost: Some(0),
        duplicated: Some(0),
        reordered: Some(0),
        misdelivered: Some(0),
        live_sessions_closed: 0,
        closed_because: BTreeMap::new(),
        rss_mib: Memory { before: Some(61.0), peak: Some(212.0), after: Some(66.0) },
        server_cpu_us: Costs {
            login: Some(452.0),
            session: None,
            message: Some(41.3),
            message_full: None,
            refusal: Some(9.8),
        },
        driver_lateness_p99_ms: Some(0.09),
        stolen: ByPhase { quiet: Some(0.02), storm: Some(0.05), after: None },
        driver_lateness_ms: ByPhase { quiet: Some(0.08), storm: Some(0.1), after: Some(0.08) },
        capacity: Capacity {
            processors: 1.0,
            logins_per_s: 2_230.0,
            sessions_per_s: 2_400.0,
            messages_per_s: 9_800.0,
            messages_full_per_s: Some(17_800.0),
        },
        capacity_after: None,
        figures,
        checks,
        verdict: if pass { Verdict::Pass } else { Verdict::Fail },
    }
}

fn plan() -> Scenario {
    toml::from_str(
        r#"
        name = "gyeongju"
        title = "An earthquake wakes every phone at once"
        history = "On 12 September 2016 an earthquake of magnitude 5.8 shook Gyeongju. Within seconds a whole country looked at its phones, and the messengers that everybody used stood still for two hours."
        source = "Reports of the press of that day"
        hypothesis = "People in conversations notice nothing, and everybody else is in within a minute."
        phases = { quiet_s = 15, storm_s = 30, after_s = 45 }
        logins = [{ rate = { points = [[0, 13], [3, 13]] }, naive_percent = 50 }]
        limits = { fg_success = { at_least = 0.9995 }, fg_p99_ratio = { at_most = 1.5 } }
        "#,
    )
    .unwrap()
}
