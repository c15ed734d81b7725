use super::*;
use crate::slots::LEAD;

const MS: Nanos = 1_000_000;

/// 2,000 logins a second.
fn logins() -> Logins {
    let mut logins = Logins::new(&Background::default(), 2);
    for _ in 0..100 {
        logins.step(
            Window { elapsed: 100 * MS, completed: 200, spent: 100 * MS, available: 100 * MS, floor: 0 },
            1.0,
            Posture::Normal,
        );
    }
    logins
}

fn comer(ask: Ask) -> Comer {
    Comer { ask, asker: None, places: Places::Free, came: None }
}

fn many(logins: &mut Logins, count: u32, now: Nanos, ask: Ask, posture: Posture) -> [u32; 4] {
    let [seen @ .., held] = many_of(logins, count, now, comer(ask), posture);
    assert_eq!(held, 0);
    seen
}

/// Admitted, put off, put off without a time, told nothing, held.
fn many_of(logins: &mut Logins, count: u32, now: Nanos, who: Comer, posture: Posture) -> [u32; 5] {
    let mut seen = [0; 5];
    for n in 0..count {
        let at = match logins.decide(now, who, posture, n.wrapping_mul(0x9e37_79b9)) {
            Verdict::Admit => 0,
            Verdict::Defer(_) => 1,
            Verdict::Later => 2,
            Verdict::Silence => 3,
            Verdict::Hold(_) => 4,
            Verdict::Wait => panic!("every place is free"),
        };
        seen[at] += 1;
    }
    seen
}

#[test]
fn a_moment_of_the_calm_is_let_in_and_a_storm_gets_slots() {
    let mut logins = logins();
    let [admitted, deferred, later, silent] = many(&mut logins, 1_000, 0, Ask::Pass, Posture::Normal);
    assert!((195..=205).contains(&admitted), "100 ms of the rate: {admitted}");
    assert_eq!((admitted + deferred, later, silent), (1_000, 0, 0));
    let length = logins.ledger_length(0) as f64 / 1e9;
    assert!((0.38..0.48).contains(&length), "800 slots at 1,900 a second: {length} s");
}

#[test]
fn who_has_not_long_to_wait_is_held_and_the_others_are_told_when_to_come() {
    let who = Comer { came: Some(0), ..comer(Ask::Resume) };
    let mut settings = Background { hold_ms_max: 400, ..Background::default() };
    let mut logins = logins();
    logins.reconfigure(&settings);
    let [admitted, deferred, .., held] = many_of(&mut logins, 3_000, 0, who, Posture::Normal);
    assert!((195..=205).contains(&admitted), "100 ms of the rate: {admitted}");
    assert!((700..=760).contains(&held), "400 ms of 1,900 a second, but for the lead: {held}");
    assert_eq!(admitted + deferred + held, 3_000);
    for who in [comer(Ask::Stranger), comer(Ask::Pass)] {
        let [.., held] = many_of(&mut logins, 10, 0, who, Posture::Normal);
        assert_eq!(held, 0, "{who:?}");
    }
    let full = Comer { places: Places::ForSlots, ..who };
    assert!(matches!(logins.decide(0, full, Posture::Normal, 0), Verdict::Defer(_)), "nor where it is full");
    let late = Comer { came: Some(4_550 * MS), ..comer(Ask::Resume) };
    many(&mut logins, 205, 4_900 * MS, Ask::Pass, Posture::Normal);
    let [.., held] = many_of(&mut logins, 100, 4_900 * MS, late, Posture::Normal);
    assert!((25..=60).contains(&held), "50 ms are left to those who came 350 ms ago: {held}");
    settings.hold_ms_max = 0;
    logins.reconfigure(&settings);
    let who = Comer { came: Some(9_000 * MS), ..who };
    let [.., held] = many_of(&mut logins, 10, 9_000 * MS, who, Posture::Emergency);
    assert_eq!(held, 0, "nobody is");
    settings.hold_ms_max = 400;
    logins.reconfigure(&settings);
    many(&mut logins, 250, 9_000 * MS, Ask::Pass, Posture::Normal);
    let [.., held] = many_of(&mut logins, 10, 9_000 * MS, who, Posture::Normal);
    assert_eq!(held, 10);
}

#[test]
fn who_is_held_has_his_time_and_is_let_in_then() {
    let mut logins = logins();
    many(&mut logins, 300, 0, Ask::Pass, Posture::Normal);
    let asker = Some(Asker::from_bits(7));
    let who = Comer { asker, came: Some(0), ..comer(Ask::Pass) };
    let Verdict::Hold(at) = logins.decide(0, who, Posture::Normal, 0) else { panic!("it is near") };
    assert!((LEAD..200 * MS).contains(&at), "{at}");
    many(&mut logins, 20_000, MS, Ask::Slot, Posture::Normal);
    let full = Comer { ask: Ask::Slot, places: Places::None, ..who };
    assert_eq!(
        logins.decide(at, full, Posture::Normal, 0),
        Verdict::Hold(at + MOMENT / MOMENT_HELD),
        "there is no place yet"
    );
    assert_eq!(logins.decide(190 * MS, full, Posture::Normal, 0), Verdict::Wait, "he has been held for long");
    let pass = Comer { ask: Ask::Pass, ..full };
    assert_eq!(logins.decide(at, pass, Posture::Normal, 0), Verdict::Hold(at + MOMENT / MOMENT_HELD));
    // He has come with two passes.
    assert_eq!(logins.decide(at, who, Posture::Normal, 0), Verdict::Admit);
    let Verdict::Hold(next) = logins.decide(at, who, Posture::Normal, 0) else {
        panic!("one promise is one login")
    };
    assert!(next > at, "behind all that were given before");
}

#[test]
fn who_returns_in_his_slot_is_never_deferred_again() {
    let mut logins = logins();
    many(&mut logins, 1_000, 0, Ask::Pass, Posture::Emergency);
    assert_eq!(many(&mut logins, 5_000, 0, Ask::Slot, Posture::Emergency), [5_000, 0, 0, 0]);
    assert_eq!(many(&mut logins, 1, 0, Ask::Pass, Posture::Normal)[0], 0, "others pay for it");
}

#[test]
fn who_comes_in_his_time_with_a_pass_has_his_place_once() {
    let mut logins = logins();
    many(&mut logins, 2_500, 0, Ask::Pass, Posture::Emergency);
    let asker = Some(Asker::from_bits(7));
    let Verdict::Defer(grant) = logins.decide(0, Comer { asker, ..comer(Ask::Pass) }, Posture::Emergency, 0)
    else {
        panic!("it is full")
    };
    let at = grant.at - 900 * MS;
    many(&mut logins, 5_000, at, Ask::Slot, Posture::Emergency);
    assert_eq!(logins.decide(at, Comer { asker, ..comer(Ask::Pass) }, Posture::Emergency, 0), Verdict::Admit);
    assert_ne!(logins.decide(at, Comer { asker, ..comer(Ask::Pass) }, Posture::Emergency, 0), Verdict::Admit);
}

#[test]
fn in_an_emergency_slots_go_first_and_new_logins_get_what_is_left() {
    let mut logins = logins();
    let [admitted, deferred, ..] = many(&mut logins, 200, 0, Ask::Pass, Posture::Emergency);
    assert!((48..=52).contains(&admitted), "{admitted}");
    assert_eq!(admitted + deferred, 200);
    assert!(many(&mut logins, 200, 0, Ask::Resume, Posture::Emergency)[0] >= 145, "sessions go on");
    assert_eq!(many(&mut logins, 100, 0, Ask::Slot, Posture::Emergency)[0], 100);
    assert_eq!(many(&mut logins, 100, 0, Ask::Pass, Posture::Emergency)[0], 0, "nothing is left");
}

/// Let in where no place is free he would be heard by nobody, and would use up what others could have.
#[test]
fn without_a_place_there_is_a_time_and_nothing_is_used_up() {
    let mut logins = logins();
    let full = |ask| Comer { places: Places::ForSlots, ..comer(ask) };
    for (n, ask) in [Ask::Pass, Ask::Resume].into_iter().enumerate() {
        let verdict = logins.decide(0, full(ask), Posture::Normal, n as u32);
        assert!(matches!(verdict, Verdict::Defer(_)), "{ask:?}: {verdict:?}");
    }
    assert_eq!(logins.decide(0, full(Ask::Stranger), Posture::Normal, 0), Verdict::Silence);
    assert_eq!(logins.used_until, 0);
    assert_eq!(
        logins.decide(0, full(Ask::Slot), Posture::Normal, 0),
        Verdict::Admit,
        "a place is kept for it"
    );
}

#[test]
fn who_comes_in_his_time_and_finds_no_place_keeps_his_time() {
    let mut logins = logins();
    let asker = Some(Asker::from_bits(7));
    let full = |ask| Comer { ask, asker, places: Places::None, came: None };
    let Verdict::Defer(first) = logins.decide(0, full(Ask::Pass), Posture::Emergency, 0x0700_0007) else {
        panic!("it was no time of his yet")
    };
    let length = logins.ledger_length(0);
    assert_eq!(logins.decide(first.at, full(Ask::Slot), Posture::Emergency, 0), Verdict::Wait);
    let Verdict::Defer(again) = logins.decide(first.at, full(Ask::Pass), Posture::Emergency, 0) else {
        panic!("he has a time")
    };
    assert_eq!((again.number, again.at, again.wait_ms(first.at)), (7, first.at, 150));
    assert_eq!(logins.ledger_length(0), length, "nobody else's time is taken");
    let free = Comer { ask: Ask::Pass, asker, places: Places::Free, came: None };
    assert_eq!(logins.decide(again.told, free, Posture::Emergency, 0), Verdict::Admit);
    assert_eq!([0, u32::MAX].map(|random| moment(random) / MS), [150, 300]);
}

/// A storm is over before slots that are a minute away; spaced as if it lasted, they would leave the node idle then.
#[test]
fn slots_that_are_far_away_are_spaced_by_the_usual_rate() {
    let mut logins = logins();
    let busy = Window { elapsed: 100 * MS, completed: 20, spent: 10 * MS, available: 10 * MS, floor: 0 };
    for _ in 0..50 {
        logins.step(busy, 1.0, Posture::Normal);
    }
    assert!(logins.rates().now < 250.0, "{}", logins.rates().now);
    let length = |logins: &mut Logins, count: u32| {
        for n in 0..count {
            logins.defer(0, None, n);
        }
        logins.ledger_length(0) as f64 / 1e9
    };
    let near = length(&mut logins, 3_000);
    assert!((14.0..17.0).contains(&near), "3,000 at 190 a second: {near} s");
    let far = length(&mut logins, 30_000) - 20.0;
    assert!((13.0..18.0).contains(&far), "some 29,000 at about 1,800 a second: {far} s");
}

#[test]
fn turning_many_away_does_not_make_a_login_dear() {
    let mut logins = logins();
    many(&mut logins, 10_000, 0, Ask::Stranger, Posture::Normal);
    let before = logins.rates().now;
    let away = 9_900 * SILENCE_COST;
    let window = Window {
        elapsed: 100 * MS,
        completed: 150,
        spent: 75 * MS + away,
        available: 100 * MS + away,
        floor: 0,
    };
    logins.step(window, 1.0, Posture::Normal);
    assert!((logins.rates().now / before - 1.0).abs() < 0.05, "{} {before}", logins.rates().now);
}

#[test]
fn a_recovery_lets_those_without_a_slot_back_in_by_its_own_measure() {
    for (open, expected) in [(1.0, 2_000), (0.5, 1_000), (0.1, 200)] {
        let mut logins = logins();
        let window =
            Window { elapsed: 100 * MS, completed: 200, spent: 100 * MS, available: 100 * MS, floor: 0 };
        let mut admitted = 0;
        for tick in 0..20 {
            logins.step(window, open, Posture::Recovery);
            let seen = many(&mut logins, 1_000, tick * 100 * MS, Ask::Pass, Posture::Recovery);
            admitted += if tick >= 10 { seen[0] } else { 0 };
        }
        let error = f64::from(admitted) / f64::from(expected) - 1.0;
        assert!(error.abs() < 0.12, "{open}: {admitted} of {expected} in a second");
    }
}

#[test]
fn strangers_get_what_is_left_and_otherwise_silence() {
    let mut logins = logins();
    let [admitted, deferred, _, silent] = many(&mut logins, 1_000, 0, Ask::Stranger, Posture::Normal);
    assert!((48..=52).contains(&admitted), "{admitted}");
    assert_eq!((deferred, silent), (0, 1_000 - admitted));
    assert!(many(&mut logins, 1_000, 0, Ask::Pass, Posture::Normal)[0] >= 145, "passes go first");
}

#[test]
fn answers_are_bounded_and_what_is_left_is_silence() {
    let mut logins = logins();
    let [_, deferred, _, silent] = many(&mut logins, 100_000, 0, Ask::Pass, Posture::Emergency);
    // 100 ms of 15 % of two processors at 11 us.
    assert!((2_700..2_740).contains(&deferred), "{deferred}");
    assert_eq!(silent, 100_000 - 50 - deferred, "but for those who got what was left");
}

#[test]
fn beyond_the_horizon_nobody_is_given_a_time() {
    let mut logins = logins();
    logins.advance(299_999 * MS);
    let verdicts = [0, 1, 2].map(|random| matches!(logins.defer(0, None, random), Verdict::Defer(_)));
    assert_eq!(verdicts, [true, false, false]);
}
