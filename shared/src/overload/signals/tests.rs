use super::*;
use proptest::prelude::*;

const TICK: Nanos = 10_000_000;

fn calm(now: Nanos) -> Readings {
    Readings {
        now,
        sojourn_min: Some(10_000),
        lateness_p95: Some(100_000),
        seats_busy: 0.2,
        login_budget_per_s: 1_000.0,
        dependency: Some(Dependency { rtt_min: 2_000_000, rtt: 3_000_000, timeouts_share: 0.0 }),
        memory: 0.3,
        descriptors: 0.1,
        ..Readings::default()
    }
}

fn judged(change: impl FnOnce(&mut Readings)) -> String {
    let mut readings = calm(0);
    change(&mut readings);
    let judgement = Watch::new(&Thresholds::default()).judge(&readings);
    let why = judgement
        .cause
        .map_or(String::new(), |c| format!(" {} {} over {}", c.signal.name(), c.value, c.limit));
    format!("{} foreground {}{why}", judgement.severity.name(), judgement.foreground.name())
}

const fn ms(ms: Nanos) -> Nanos {
    ms * 1_000_000
}

/// Each signal alone suffices, and says so.
#[test]
fn every_signal_at_its_limits() {
    let slow = |rtt_ms, timeouts_share| Some(Dependency { rtt_min: ms(20), rtt: ms(rtt_ms), timeouts_share });
    let rows = [
        judged(|_| ()),
        judged(|r| r.foreground_wait = ms(1)),
        judged(|r| r.foreground_wait = ms(2)),
        judged(|r| r.foreground_wait = ms(5)),
        judged(|r| r.background_wait = ms(49)),
        judged(|r| r.background_wait = ms(60)),
        judged(|r| r.background_wait = ms(200)),
        judged(|r| r.sojourn_min = Some(ms(3))),
        judged(|r| r.sojourn_min = Some(ms(6))),
        judged(|r| r.lateness_p95 = Some(ms(4))),
        judged(|r| r.lateness_p95 = Some(ms(50))),
        judged(|r| r.seats_busy = 0.5),
        judged(|r| r.seats_busy = 0.8),
        judged(|r| r.seats_busy = 1.0),
        judged(|r| r.logins_100ms = 70),
        judged(|r| r.logins_100ms = 71),
        judged(|r| r.logins_100ms = 101),
        judged(|r| r.dependency = slow(22, 0.0)),
        judged(|r| r.dependency = slow(25, 0.0)),
        judged(|r| r.dependency = slow(32, 0.0)),
        judged(|r| r.dependency = slow(100, 0.0)),
        judged(|r| r.dependency = slow(20, 0.004)),
        judged(|r| r.dependency = slow(20, 0.02)),
        judged(|r| r.memory = 0.7),
        judged(|r| r.memory = 0.75),
        judged(|r| r.memory = 0.9),
        judged(|r| r.descriptors = 0.95),
        judged(|r| r.handshakes = 0.5),
        judged(|r| r.handshakes = 1.0),
    ];
    let expected = [
        "calm foreground calm",
        "easy foreground easy",
        "guard foreground guard foreground_wait_ms 2 over 2",
        "hard foreground hard foreground_wait_ms 5 over 5",
        "easy foreground calm",
        "guard foreground calm background_wait_ms 60 over 50",
        "hard foreground calm background_wait_ms 200 over 200",
        "guard foreground guard sojourn_ms 3 over 2",
        "hard foreground hard sojourn_ms 6 over 5",
        "guard foreground guard lateness_ms 4 over 2",
        "guard foreground hard lateness_ms 50 over 2",
        "easy foreground calm",
        "guard foreground calm seats_busy 0.8 over 0.8",
        "hard foreground calm seats_busy 1 over 0.95",
        "calm foreground calm",
        "guard foreground calm logins 2.97 over 2",
        "hard foreground calm logins 1010 over 3",
        "calm foreground calm",
        "easy foreground calm",
        "guard foreground calm dependency 0.625 over 0.7",
        "hard foreground calm dependency 0.2 over 0.5",
        "calm foreground calm",
        "hard foreground calm timeouts 0.02 over 0.01",
        "calm foreground calm",
        "easy foreground calm",
        "guard foreground calm memory 0.9 over 0.8",
        "hard foreground calm descriptors 0.95 over 0.92",
        "easy foreground calm",
        "hard foreground calm handshakes 1 over 0.92",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn the_cause_is_the_worst_and_a_hard_one_before_any_other() {
    let cause = |change: fn(&mut Readings)| {
        let mut readings = calm(0);
        change(&mut readings);
        Watch::new(&Thresholds::default()).judge(&readings).cause.unwrap().signal
    };
    let both = |r: &mut Readings| {
        // Twice its guard value, and not hard yet.
        r.foreground_wait = ms(4);
        r.seats_busy = 0.96;
    };
    assert_eq!(cause(both), Signal::SeatsBusy);
    let delays = |r: &mut Readings| {
        r.foreground_wait = ms(6);
        r.background_wait = ms(900);
    };
    assert_eq!(cause(delays), Signal::BackgroundWait);
}

#[test]
fn what_was_not_measured_or_is_no_number_raises_nothing() {
    let nan = f64::NAN;
    let readings = Readings {
        logins_100ms: 1_000,
        login_budget_per_s: nan,
        seats_busy: nan,
        memory: f64::INFINITY,
        descriptors: nan,
        handshakes: nan,
        dependency: Some(Dependency { rtt_min: 0, rtt: ms(900), timeouts_share: nan }),
        ..Readings::default()
    };
    assert_eq!(Watch::new(&Thresholds::default()).judge(&readings), Judgement::default());
}

#[test]
fn a_quick_backend_is_not_slow_because_its_cache_is_quicker() {
    let readings = Readings {
        dependency: Some(Dependency { rtt_min: 50_000, rtt: ms(5), timeouts_share: 0.0 }),
        ..Readings::default()
    };
    assert_eq!(Watch::new(&Thresholds::default()).judge(&readings).severity, Severity::Calm);
}

struct Run {
    watch: Watch,
    now: Nanos,
}

impl Run {
    fn new(thresholds: &Thresholds) -> Self {
        Self { watch: Watch::new(thresholds), now: 0 }
    }

    /// Lets these readings hold for some time; the last judgement.
    fn hold(&mut self, seconds: u64, change: impl Fn(&mut Readings)) -> Judgement {
        let mut last = Judgement::default();
        for _ in 0..seconds * 100 {
            self.now += TICK;
            let mut readings = calm(self.now);
            change(&mut readings);
            last = self.watch.judge(&readings);
        }
        last
    }
}

#[test]
fn a_surge_of_logins_is_seen_at_once_and_a_load_that_stays_is_none() {
    let mut run = Run::new(&Thresholds::default());
    assert_eq!(run.hold(300, |r| r.logins_100ms = 10).severity, Severity::Calm);
    // Few in absolute terms: six times as many, and still within the budget.
    assert_eq!(run.hold(1, |r| r.logins_100ms = 60).severity, Severity::Calm);
    let surge = |r: &mut Readings| r.logins_100ms = 500;
    run.now += TICK;
    let first = run.watch.judge(&Readings { logins_100ms: 500, ..calm(run.now) });
    assert_eq!(first.cause.map(|c| c.signal), Some(Signal::Logins));
    assert_eq!(first.severity, Severity::Hard);
    assert_eq!(run.hold(120, surge).severity, Severity::Hard, "the surge does not become its own measure");
    assert_eq!(run.hold(3_600, surge).severity, Severity::Calm, "what lasts is not a surge");
}

#[test]
fn guard_values_of_delay_are_learnt_from_the_calm_after_a_minute() {
    let mut run = Run::new(&Thresholds::default());
    let late = |r: &mut Readings| r.lateness_p95 = Some(ms(3));
    assert_eq!(run.hold(59, late).severity, Severity::Guard);
    assert_eq!(run.watch.limits(Signal::Lateness).guard, 2.0);
    assert!(run.hold(2, late).severity < Severity::Guard, "this machine is always 3 ms late");
    let learnt = run.watch.limits(Signal::Lateness);
    assert!((3.0..=3.6).contains(&learnt.guard), "{learnt:?}");
    assert_eq!(learnt.hard, 2.0 * learnt.guard);
    // What was hardly there gets the smallest guard value.
    assert_eq!(run.watch.limits(Signal::Sojourn), Limits { guard: 1.0, hard: 2.0 });
    assert_eq!(run.hold(1, |r| r.sojourn_min = Some(ms(2))).foreground, Severity::Hard);
}

#[test]
fn lateness_is_hard_when_it_lasts() {
    let late = |r: &mut Readings| r.lateness_p95 = Some(ms(50));
    let severity = |run: &mut Run, held_s| run.hold(held_s, late).severity;
    let mut run = Run::new(&Thresholds::default());
    assert_eq!(severity(&mut run, 2), Severity::Guard);
    run.hold(1, |r| r.lateness_p95 = Some(ms(4)));
    assert_eq!(severity(&mut run, 2), Severity::Guard, "it had ended in between");
    run.hold(2, |r| r.lateness_p95 = None);
    assert_eq!(severity(&mut run, 2), Severity::Guard, "what was not measured was not seen to last");
    run.hold(1, |r| r.lateness_p95 = Some(ms(4)));
    assert_eq!(severity(&mut run, 2), Severity::Guard);
    let lasting = run.hold(2, late);
    assert_eq!((lasting.severity, lasting.foreground), (Severity::Hard, Severity::Hard));
    assert_eq!(lasting.cause.map(|c| (c.signal, c.limit)), Some((Signal::Lateness, 5.0)));
    // Nothing is known of the time for which a node was suspended.
    let mut suspended = Watch::new(&Thresholds::default());
    for at_s in [0, 60, 120, 180] {
        let mut readings = calm(at_s * ms(1_000));
        late(&mut readings);
        assert_eq!(suspended.judge(&readings).severity, Severity::Guard);
    }
}

#[test]
fn nothing_is_learnt_under_load_nor_from_a_broken_machine_nor_against_the_operator() {
    let mut loaded = Run::new(&Thresholds::default());
    loaded.hold(200, |r| {
        r.seats_busy = 0.6;
        r.lateness_p95 = Some(ms(4));
    });
    assert_eq!(loaded.watch.limits(Signal::Lateness).guard, 2.0);

    let mut broken = Run::new(&Thresholds::default());
    broken.hold(70, |r| r.lateness_p95 = Some(ms(100)));
    assert_eq!(broken.watch.limits(Signal::Lateness), Limits { guard: 8.0, hard: 16.0 });

    let set = Limits { guard: 50.0, hard: 100.0 };
    let mut told = Run::new(&Thresholds { lateness_ms: set, ..Thresholds::default() });
    told.hold(70, |_| ());
    assert_eq!(told.watch.limits(Signal::Lateness), set);
    told.watch.reconfigure(&Thresholds::default());
    assert_eq!(told.watch.limits(Signal::Lateness).guard, 1.0, "what was learnt meanwhile holds now");
}

proptest! {
    /// More of anything bad is never judged better, whatever else is read.
    #[test]
    fn worse_readings_are_never_judged_better(
        wait in 0u64..10_000_000, sojourn in 0u64..10_000_000, busy in 0.0f64..1.2, memory in 0.0f64..1.2,
        logins in 0u32..400, which in 0usize..5, more in 1.0f64..3.0,
    ) {
        let before = Readings {
            foreground_wait: wait, sojourn_min: Some(sojourn), seats_busy: busy, memory, logins_100ms: logins, ..calm(0)
        };
        let mut after = before;
        let times = |n: u64| (n as f64 * more) as u64;
        match which {
            0 => after.foreground_wait = times(wait),
            1 => after.sojourn_min = Some(times(sojourn)),
            2 => after.seats_busy *= more,
            3 => after.memory *= more,
            _ => after.logins_100ms = times(logins.into()) as u32,
        }
        let judge = |r| Watch::new(&Thresholds::default()).judge(r);
        prop_assert!(judge(&after).severity >= judge(&before).severity);
        prop_assert!(judge(&before).foreground <= judge(&before).severity);
        prop_assert_eq!(judge(&before).cause.is_some(), judge(&before).severity >= Severity::Guard);
    }
}
