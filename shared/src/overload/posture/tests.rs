use super::*;
use crate::overload::orders::Wish;
use crate::overload::signals::Signal;
use proptest::prelude::*;
use prost::Message;

const NOW: UnixMs = 1_800_000_000_000;
const USUAL: Usual = Usual { ping_interval_ms: 20_000, idle_limit_ms: 60_000 };
const ALL: [Posture; 4] = [Posture::Normal, Posture::Guard, Posture::Emergency, Posture::Recovery];

fn ordered(kind: Kind, duration_ms: u64) -> Orders {
    let wish = Wish {
        kind,
        reason: "drill".into(),
        author: "kim".into(),
        from_ms: None,
        duration_ms: Some(duration_ms),
    };
    let mut orders = Orders::default();
    let order = orders.plan(wish, NOW).unwrap();
    orders.give(order, NOW);
    orders
}

/// Every measured posture with every order.
#[test]
fn orders_win_over_what_is_measured() {
    let mut rows = Vec::new();
    for measured in ALL {
        let mut seen = Vec::new();
        for kind in [None, Some(Kind::Automatic), Some(Kind::Emergency), Some(Kind::Normal)] {
            let orders = kind.map_or_else(Orders::default, |kind| ordered(kind, 1_000));
            let mut stance = Stance::default();
            stance.update(measured, None, &orders, NOW);
            seen.push(format!("{} {}", name(stance.posture()), stance.source().name()));
        }
        rows.push(format!("{}: {}", name(measured), seen.join(", ")));
    }
    let expected = [
        "normal: normal measured, normal measured, emergency ordered, normal ordered",
        "guard: guard measured, guard measured, emergency ordered, normal ordered",
        "emergency: emergency measured, emergency measured, emergency ordered, normal ordered",
        "recovery: recovery measured, recovery measured, emergency ordered, normal ordered",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn when_an_order_ends_what_is_measured_holds_again() {
    let orders = ordered(Kind::Emergency, 1_000);
    let id = orders.in_force(NOW).unwrap().id;
    let cause = Cause { signal: Signal::SeatsBusy, value: 0.9, limit: 0.8 };
    let mut stance = Stance::default();
    let change = stance.update(Posture::Normal, None, &orders, NOW).unwrap();
    let to_emergency = Change { from: Posture::Normal, to: Posture::Emergency, why: Source::Ordered(id) };
    assert_eq!(change, to_emergency);
    assert_eq!(stance.source().order(), Some(id));
    assert_eq!(stance.background_share(1.0, 0.05), 0.05);
    assert_eq!(stance.update(Posture::Guard, Some(cause), &orders, NOW + 999), None);
    let change = stance.update(Posture::Guard, Some(cause), &orders, NOW + 1_000).unwrap();
    let to_guard =
        Change { from: Posture::Emergency, to: Posture::Guard, why: Source::Measured(Some(cause)) };
    assert_eq!(change, to_guard);
    assert_eq!(stance.background_share(0.35, 0.05), 0.35);
    // The same posture for another reason is no change.
    assert_eq!(stance.update(Posture::Guard, None, &Orders::default(), NOW + 2_000), None);
    assert_eq!(stance.source(), Source::Measured(None));
}

#[test]
fn forced_to_be_normal_background_has_everything() {
    let mut stance = Stance::default();
    stance.update(Posture::Emergency, None, &ordered(Kind::Normal, 1_000), NOW);
    assert_eq!(stance.background_share(0.05, 0.05), 1.0);
}

fn told(posture: Posture, app_state: AppState) -> String {
    let mut classes = Classes::default();
    let spare = crate::class::ByAppState { foreground: Class::Look, background: Class::Spare };
    classes.set(Protocol::MessageHistory, spare);
    let advice = advice(posture, &Times::default(), USUAL, &classes, app_state);
    let wire::Advice { ping_interval_ms, idle_limit_ms, receipt_batch_ms, off, .. } = advice;
    format!("{} {ping_interval_ms} {idle_limit_ms} {receipt_batch_ms} {off:?}", name(posture))
}

/// What a client is told, with `message.history` made a spare thing of phones that act alone.
#[test]
fn advice_by_posture() {
    let rows = ALL.map(|p| told(p, AppState::Background));
    let expected = [
        "normal 20000 60000 0 []",
        "guard 20000 60000 0 []",
        "emergency 80000 240000 2000 [\"message.history\"]",
        "recovery 20000 60000 0 []",
    ];
    assert_eq!(rows, expected);
    assert_eq!(told(Posture::Emergency, AppState::Foreground), "emergency 80000 240000 2000 []");
}

#[test]
fn emergency_refuses_what_nobody_waits_for_and_nothing_that_keeps_a_session() {
    let classes = Classes::default();
    let refused = |state| -> Vec<&str> {
        let refused = |p: &Protocol| refuses(Posture::Emergency, *p, classes.of(*p, state));
        Protocol::ALL.into_iter().filter(refused).map(Protocol::name).collect()
    };
    assert_eq!(refused(AppState::Foreground), ["unknown"]);
    assert_eq!(refused(AppState::Background), ["login", "unknown"]);
}

#[test]
fn a_report_is_read_back_and_small() {
    let report = Report {
        posture: Posture::Emergency,
        level: 1_024,
        background_per_s: 5_000.5,
        background_later_per_s: 20_000.25,
        ledger_ms: 250_000,
        order: Some(1_800_000_000_000),
        no: 100_000,
    };
    let load = wire::Load::from(report);
    assert_eq!(Report::from(&load), report);
    assert!(load.encoded_len() <= 40, "{} bytes", load.encoded_len());
    let odd = Report { background_per_s: f64::NAN, ..Report::default() };
    assert_eq!(wire::Load::from(odd).background_rate_milli, 0);
}

#[test]
fn capacity_in_emergency_is_weighed() {
    assert_eq!(emergency_share([]), 0.0);
    assert_eq!(emergency_share([(0, Posture::Emergency)]), 0.0);
    let nodes = [(3, Posture::Normal), (1, Posture::Emergency)];
    assert_eq!(emergency_share(nodes), 0.25);
}

proptest! {
    /// I31: whatever the posture and its settings, nobody is asked to be quicker, and nobody has less time, than usual; and a
    /// ping still comes within the idle limit.
    #[test]
    fn no_posture_shortens_the_life_of_a_session(
        factor in 0u32..=20, ping in 1_000u32..600_000, slack in 2u32..10, state in 0i32..3,
    ) {
        let times = Times { ping_factor: factor, ..Times::default() };
        let usual = Usual { ping_interval_ms: ping, idle_limit_ms: ping * slack };
        let app_state = AppState::try_from(state).unwrap();
        for posture in ALL {
            let advice = advice(posture, &times, usual, &Classes::default(), app_state);
            prop_assert!(advice.idle_limit_ms >= usual.idle_limit_ms);
            prop_assert!(advice.ping_interval_ms >= usual.ping_interval_ms);
            prop_assert!(advice.ping_interval_ms < advice.idle_limit_ms);
            for protocol in [Protocol::Ping, Protocol::AppState, Protocol::MessageSend, Protocol::Resume] {
                let class = Classes::default().of(protocol, app_state);
                prop_assert!(!refuses(posture, protocol, class));
            }
        }
    }

    /// I32: orders win, and without one in force nothing but what is measured counts.
    #[test]
    fn orders_win(measured in 0i32..4, kind in 0usize..3, at in 0u64..2_000) {
        let measured = Posture::try_from(measured).unwrap();
        let kind = [Kind::Automatic, Kind::Emergency, Kind::Normal][kind];
        let mut stance = Stance::default();
        stance.update(measured, None, &ordered(kind, 1_000), NOW + at);
        let expected = match kind {
            Kind::Emergency if at < 1_000 => Posture::Emergency,
            Kind::Normal if at < 1_000 => Posture::Normal,
            _ => measured,
        };
        prop_assert_eq!(stance.posture(), expected);
    }
}
