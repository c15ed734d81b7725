//! A process that works is seen, and so is its end.

use super::*;
use std::process::{Child, Command};

/// Ends with the test.
struct Burner(Child);

impl Burner {
    fn start() -> Self {
        Self(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_process_that_works_is_seen_until_it_ends() {
    let first = Burner::start();
    let (pids, seen) = watch::channel(vec![first.0.id()]);
    let mut account = Account::default();
    let begin = Instant::now();
    let limit = begin + Duration::from_secs(60);
    let used = |account: &Account| {
        let all = account.busy(begin, Instant::now(), |sample| sample.server);
        all.unwrap_or_default() * begin.elapsed().as_secs_f64()
    };
    let mut look_until = |pids: &[u32], used_s: f64| {
        while used(&account) < used_s {
            assert!(Instant::now() < limit, "not seen");
            account.look(pids, Instant::now());
            std::thread::yield_now();
        }
        used(&account)
    };
    let before = look_until(&seen.borrow().clone(), 0.2);
    // Another one takes its place: what the first one has used stays.
    drop(first);
    let second = Burner::start();
    pids.send_replace(vec![second.0.id()]);
    let after = look_until(&seen.borrow().clone(), before + 0.1);
    assert!(after >= before + 0.1);
    let memory = account.resident_at(Instant::now()).unwrap();
    assert!(memory > 100_000, "{memory}");
    drop(second);
    account.look(&seen.borrow().clone(), Instant::now());
    assert_eq!(account.resident_at(Instant::now()), None);
}

#[test]
fn the_thread_looks_at_once_and_ends_when_it_is_told() {
    let burner = Burner::start();
    let (_pids, seen) = watch::channel(vec![burner.0.id()]);
    let watch = Watch::start(seen, Vec::new(), Place::default()).unwrap();
    let timing = Timing::new(Instant::now() + Duration::from_millis(500), LOOK_EVERY, LOOK_EVERY, LOOK_EVERY);
    let watched = watch.finish(&timing);
    assert!(watched.rss_mib_before().unwrap() > 0.1);
    // It was not looked at for long enough to say more.
    assert_eq!(watched.processors_in(Phase::Quiet), None);
    assert_eq!(
        watched.seconds(),
        [WatchedSecond { server_rss_mib: watched.rss_mib_before(), ..Default::default() }]
    );
}

#[test]
fn a_run_is_told_by_its_phases() {
    let s = Duration::from_secs;
    let timing = Timing::new(Instant::now() + s(60), s(2), s(3), s(2));
    let mut account = Account::new(Vec::new());
    let empty = Watched::of(&account, &timing);
    assert_eq!(empty.stolen_in(Phase::Storm), None, "nothing was read");
    // What is read now is not used: its samples are made below.
    account.look(&[], timing.begin() - Duration::from_secs(60));
    assert!(account.knows_stolen());
    // Ten looks a second; the server uses nothing, then two processors, then one; in the end nobody looks.
    for look in 0u32..=60 {
        let server = Duration::from_millis(match look {
            0..20 => 0,
            20..50 => 200 * u64::from(look - 20),
            _ => 6_000 + 100 * u64::from(look - 50),
        });
        let resident = Some(u64::from(10 + look % 50) << 20);
        let at = timing.begin() + LOOK_EVERY * look;
        let stolen = at.saturating_duration_since(timing.storm_begin()) / 4;
        account.add(Sample { at, server, driver: LOOK_EVERY * look, stolen, resident });
    }
    let watched = Watched::of(&account, &timing);
    let rounded = |busy: Option<f64>| busy.map(|busy| (busy * 1e3).round() / 1e3);
    assert_eq!(
        Phase::ALL.map(|phase| rounded(watched.processors_in(phase))),
        [Some(0.0), Some(2.0), Some(1.0)]
    );
    assert_eq!(
        Phase::ALL.map(|phase| rounded(watched.stolen_in(phase))),
        [Some(0.0), Some(0.25), Some(0.25)]
    );
    assert_eq!((watched.rss_mib_before(), watched.rss_mib_peak()), (Some(30.0), Some(59.0)));
    assert_eq!(watched.rss_mib_after(), Some(20.0));
    let by_second = watched.seconds().iter().map(|second| rounded(second.server_processors));
    let expected = [Some(0.0), Some(0.0), Some(2.0), Some(2.0), Some(2.0), Some(1.0), None];
    assert_eq!(by_second.collect::<Vec<_>>(), expected);
    assert!(watched.seconds().iter().take(6).all(|second| rounded(second.driver_processors) == Some(1.0)));
}

#[test]
fn looking_costs_little() {
    let burner = Burner::start();
    let mut account = Account::default();
    let pids = [burner.0.id(), std::process::id()];
    let before = crate::account::process_time(std::process::id()).unwrap();
    for _ in 0..600 {
        account.look(&pids, Instant::now());
    }
    // A minute of looks, in a build without optimisation, in a process with other tests beside it: 1 % of a minute is allowed.
    let cost = crate::account::process_time(std::process::id()).unwrap() - before;
    assert!(cost < Duration::from_millis(600), "{cost:?}");
}
