use super::*;
use proptest::prelude::*;

const TICK: Nanos = 10 * MS;
const S: Nanos = 1_000 * MS;

fn surge() -> Surge {
    Surge::new(&Times::default(), 5)
}

/// A machine and its time.
struct Run {
    surge: Surge,
    now: Nanos,
    changes: Vec<(Nanos, Posture)>,
}

impl Run {
    fn new() -> Self {
        Self { surge: surge(), now: 0, changes: Vec::new() }
    }

    fn tick(&mut self, severity: Severity, ledger_ms: u64) -> Posture {
        self.now += TICK;
        if let Some(change) = self.surge.step(self.now, severity, ledger_ms) {
            self.changes.push((self.now, change.to));
        }
        self.surge.posture()
    }

    fn hold(&mut self, time: Nanos, severity: Severity) -> Posture {
        let end = self.now + time;
        while self.now < end {
            self.tick(severity, 0);
        }
        self.surge.posture()
    }

    /// Until this posture holds; how long it took.
    fn until(&mut self, posture: Posture, severity: Severity) -> Nanos {
        let begin = self.now;
        while self.tick(severity, 0) != posture {
            assert!(self.now - begin < 1_000 * S, "{posture:?} never came");
        }
        self.now - begin
    }
}

/// A machine in each of its phases, as it is a moment after it got there.
fn in_phase(posture: Posture) -> Run {
    let mut run = Run::new();
    match posture {
        Posture::Normal => {}
        Posture::Guard => _ = run.until(Posture::Guard, Severity::Guard),
        Posture::Emergency => _ = run.until(Posture::Emergency, Severity::Hard),
        Posture::Recovery => {
            run.until(Posture::Emergency, Severity::Hard);
            run.until(Posture::Recovery, Severity::Calm);
        }
    }
    run
}

/// Every state with every event: where it is after one tick, three ticks, 9 s, 11 s, 40 s and 100 s of the same.
#[test]
fn the_whole_machine() {
    let name = crate::overload::posture::name;
    let mut rows = Vec::new();
    for from in [Posture::Normal, Posture::Guard, Posture::Emergency, Posture::Recovery] {
        for severity in Severity::ALL {
            let mut run = in_phase(from);
            let mut seen = vec![name(run.tick(severity, 0))];
            for time in [2 * TICK, 9 * S - 3 * TICK, 2 * S, 29 * S, 60 * S] {
                seen.push(name(run.hold(time, severity)));
            }
            rows.push(format!("{} + {}: {}", name(from), severity.name(), seen.join(" ")));
        }
    }
    let expected = [
        "normal + calm: normal normal normal normal normal normal",
        "normal + easy: normal normal normal normal normal normal",
        "normal + guard: normal guard guard guard guard guard",
        "normal + hard: emergency emergency emergency emergency emergency emergency",
        "guard + calm: guard guard guard normal normal normal",
        "guard + easy: guard guard guard guard guard normal",
        "guard + guard: guard guard guard guard guard guard",
        "guard + hard: emergency emergency emergency emergency emergency emergency",
        "emergency + calm: emergency emergency emergency emergency normal normal",
        "emergency + easy: emergency emergency emergency emergency emergency normal",
        "emergency + guard: emergency emergency emergency emergency emergency emergency",
        "emergency + hard: emergency emergency emergency emergency emergency emergency",
        "recovery + calm: recovery recovery recovery normal normal normal",
        "recovery + easy: recovery recovery recovery normal normal normal",
        "recovery + guard: recovery recovery recovery recovery recovery recovery",
        "recovery + hard: emergency emergency emergency emergency emergency emergency",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn two_ticks_over_guard_are_an_accident() {
    let mut run = Run::new();
    for _ in 0..100 {
        run.tick(Severity::Guard, 0);
        run.tick(Severity::Guard, 0);
        run.tick(Severity::Easy, 0);
    }
    assert_eq!(run.changes, []);
}

#[test]
fn emergency_ends_when_dwell_calm_and_ledger_allow_it() {
    // The dwell: calm at once.
    let mut dwell = in_phase(Posture::Emergency);
    assert_eq!(dwell.until(Posture::Recovery, Severity::Calm), 30 * S);
    // The calm: hard for a minute.
    let mut calm = in_phase(Posture::Emergency);
    calm.hold(60 * S, Severity::Hard);
    assert_eq!(calm.until(Posture::Recovery, Severity::Calm), 10 * S);
    // The ledger: calm for a minute.
    let mut ledger = in_phase(Posture::Emergency);
    for _ in 0..6_000 {
        assert_eq!(ledger.tick(Severity::Calm, 10_000), Posture::Emergency);
    }
    assert_eq!(ledger.tick(Severity::Calm, 9_999), Posture::Recovery);
    // A single tick that is not calm does not begin the ten seconds anew, one over guard does.
    let mut nearly = in_phase(Posture::Emergency);
    nearly.hold(25 * S, Severity::Calm);
    nearly.tick(Severity::Easy, 0);
    assert_eq!(nearly.until(Posture::Recovery, Severity::Calm), 5 * S - TICK);
    let mut again = in_phase(Posture::Emergency);
    again.hold(25 * S, Severity::Calm);
    again.tick(Severity::Guard, 0);
    assert_eq!(again.until(Posture::Recovery, Severity::Calm), 10 * S);
}

#[test]
fn recovery_lets_background_in_by_ten_percent_a_second() {
    let mut run = in_phase(Posture::Recovery);
    assert!((run.surge.background_share() - 0.05).abs() < 1e-9);
    run.hold(2 * S, Severity::Calm);
    assert!((run.surge.background_share() - 0.25).abs() < 1e-6);
    run.hold(5 * S, Severity::Guard);
    assert!((run.surge.background_share() - 0.25).abs() < 1e-6, "over guard nothing more is let in");
    assert_eq!(run.until(Posture::Normal, Severity::Calm), 7_500 * MS);
    assert_eq!(run.surge.background_share(), 1.0);
}

#[test]
fn a_relapse_doubles_the_dwell_up_to_five_minutes_and_a_quiet_time_forgets_it() {
    let mut run = in_phase(Posture::Emergency);
    let mut dwells = Vec::new();
    for _ in 0..6 {
        dwells.push(run.until(Posture::Recovery, Severity::Calm) / S);
        run.until(Posture::Emergency, Severity::Hard);
    }
    assert_eq!(dwells, [30, 60, 120, 240, 300, 300]);
    run.until(Posture::Normal, Severity::Calm);
    run.hold(300 * S, Severity::Calm);
    run.until(Posture::Emergency, Severity::Hard);
    assert_eq!(run.until(Posture::Recovery, Severity::Calm), 30 * S);
}

#[test]
fn a_quarter_of_the_other_nodes_in_emergency_is_a_warning() {
    let mut run = Run::new();
    run.surge.on_peers(0.24);
    assert_eq!(run.tick(Severity::Calm, 0), Posture::Normal);
    run.surge.on_peers(0.25);
    assert_eq!(run.tick(Severity::Calm, 0), Posture::Guard);
    assert_eq!(run.hold(60 * S, Severity::Calm), Posture::Guard, "they are still in trouble");
    run.surge.on_peers(0.0);
    assert_eq!(run.tick(Severity::Calm, 0), Posture::Normal);
    // Nobody is dragged out of, or into, anything worse.
    for posture in [Posture::Emergency, Posture::Recovery] {
        let mut run = in_phase(posture);
        run.surge.on_peers(1.0);
        assert_eq!(run.tick(Severity::Calm, 0), posture);
    }
}

fn severities() -> impl Strategy<Value = Vec<(Severity, u16)>> {
    let severity = prop::sample::select(Severity::ALL.to_vec());
    prop::collection::vec((severity, 1u16..2_000), 1..40)
}

/// No storm gives a node more emergencies than dwells fit into it: 30 s, 60 s, ... 300 s, each with its ten seconds of calm.
fn emergencies_max(seconds: u64) -> u64 {
    let (mut at, mut dwell, mut count) = (0, 30, 0);
    while at <= seconds {
        (at, dwell, count) = (at + dwell, (dwell * 2).min(300), count + 1);
    }
    count
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// I29: a hard tick is an emergency in that tick, whatever came before.
    #[test]
    fn a_hard_signal_is_an_emergency_in_its_tick(history in severities()) {
        let mut run = Run::new();
        for (severity, ticks) in history {
            run.hold(Nanos::from(ticks) * TICK, severity);
        }
        prop_assert_eq!(run.tick(Severity::Hard, 0), Posture::Emergency);
        prop_assert!((run.surge.background_share() - 0.05).abs() < 1e-9);
    }

    /// I30: the dwell is respected, and a storm that goes on and off makes few emergencies.
    #[test]
    fn an_emergency_dwells(history in severities()) {
        let mut run = Run::new();
        for (severity, ticks) in history {
            run.hold(Nanos::from(ticks) * TICK, severity);
        }
        let mut entered = None;
        for (at, to) in &run.changes {
            if let Some(since) = entered.take() {
                prop_assert!(at - since >= 30 * S, "{:?}", run.changes);
                prop_assert_eq!(*to, Posture::Recovery);
            }
            entered = (*to == Posture::Emergency).then_some(*at);
        }
        let count = run.changes.iter().filter(|(_, to)| *to == Posture::Emergency).count() as u64;
        prop_assert!(count <= emergencies_max(run.now / S), "{:?}", run.changes);
    }

    /// I33: when the load is gone, it is normal again: at most the dwell, the calm and the reopening later.
    #[test]
    fn after_the_load_it_is_normal_again(history in severities()) {
        let mut run = Run::new();
        for (severity, ticks) in history {
            run.hold(Nanos::from(ticks) * TICK, severity);
        }
        let dwell = run.surge.dwell.max(10 * S);
        run.hold(dwell + 10 * S, Severity::Calm);
        prop_assert_eq!(run.surge.posture(), Posture::Normal);
        prop_assert_eq!(run.surge.background_share(), 1.0);
    }

    /// A storm that comes and goes with any period around the ten seconds changes the posture less and less.
    #[test]
    fn load_at_the_edge_does_not_flap(period_ms in 100u64..10_000) {
        let mut run = Run::new();
        while run.now < 600 * S {
            run.hold(period_ms / 2 * MS, Severity::Guard);
            run.hold(period_ms / 2 * MS, Severity::Easy);
        }
        prop_assert!(run.changes.len() <= 1, "{:?}", run.changes);
    }
}
