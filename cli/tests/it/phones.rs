//! The surge harness's phones against a real `up`: enrolled by the hundred, let in on both ports, put off and let in at their times.

use std::time::{Duration, Instant};

use buslane_loadtest::storm::fleet;
use buslane_loadtest::storm::generator::Generator;
use buslane_loadtest::storm::net::{Net, Turned};
use buslane_loadtest::storm::phones;
use buslane_loadtest::storm::scenario::{Logins, Rate, Side};
use buslane_loadtest::storm::stage::Place;
use buslane_loadtest::storm::tally::Stream;
use buslane_loadtest::storm::timing::{Phase, Timing};
use tokio::sync::watch;

use crate::stage::{runtime, slow_server, stage, target};
use crate::support::{Home, Server};

const LIMIT: Duration = Duration::from_secs(30);

/// It goes back to normal sooner than anybody would want in earnest: those who do not listen wait for that.
const SOON: &str = r#"
[session_manager.overload.posture]
dwell_ms = 2_000
calm_ms = 500
ledger_ms = 1_000
reopen_percent_per_s = 50
"#;

#[test]
fn a_phone_comes_in_on_both_ports_and_goes_on_where_it_was() {
    let home = Home::new();
    let server = Server::up(&home);
    let target = target(&server);
    runtime().block_on(async {
        let net = Net::new(&target, 8).unwrap();
        let mut woken = fleet::enrol(&net, &target, "woken", 250, Side::Background).await.unwrap();
        let mut looked = fleet::enrol(&net, &target, "looked", 1, Side::Foreground).await.unwrap();
        assert_eq!((woken.len(), woken[249].user.to_string().as_str()), (250, "woken249"));

        let (person, phone) = (&mut looked[0], &mut woken[0]);
        let first = person.open(&net, Side::Foreground, None, LIMIT).await.unwrap();
        assert_eq!(first.connection.remote_address().to_string(), server.address("front"));
        // Lost, and continued with what the welcome brought.
        first.connection.close(0u32.into(), b"");
        let again = person.open(&net, Side::Foreground, None, LIMIT).await.unwrap();
        assert!(again.welcome.resumed);
        assert_eq!(again.welcome.session, first.welcome.session);
        again.close();
        person.forget_session();
        let other = person.open(&net, Side::Foreground, None, LIMIT).await.unwrap();
        assert!(!other.welcome.resumed);

        let session = phone.open(&net, Side::Background, None, LIMIT).await.unwrap();
        assert_eq!(session.connection.remote_address().to_string(), server.address("wake"));
        session.close();
        // Without a ticket it asks the gateway by itself, and a made-up slot is refused there.
        phone.forget_ticket();
        let made_up = Some(vec![0x45; 20].into());
        let turned = phone.open(&net, Side::Background, made_up, LIMIT).await.map(|_| ());
        assert!(matches!(turned, Err(Turned::Refused { name: "bad_slot", .. })), "{turned:?}");
        phone.open(&net, Side::Background, None, LIMIT).await.unwrap();
        net.settle(Duration::from_secs(1)).await;
    });
    server.stop();
}

#[test]
fn a_storm_is_counted_client_by_client() {
    let home = Home::new();
    let server = slow_server(&home, SOON);
    let stage = stage(&server);
    let logins = |side, naive_percent, gate_percent| Logins {
        side,
        rate: Rate { unit: Default::default(), points: Vec::new() },
        naive_percent,
        gate_percent,
        stay_s: 0.5,
    };
    let spread = |count: u32| (0..count).map(|n| f64::from(n) * 0.5 / f64::from(count)).collect::<Vec<_>>();
    let plan =
        vec![(logins(Side::Background, 25, 20), spread(80)), (logins(Side::Foreground, 0, 50), spread(10))];
    let (go, timing) = watch::channel(None);
    let live = stage.live.clone();
    let play = move |cue| phones::run(stage, plan, cue);
    let mut generator = Generator::start("phones", Place::default(), timing, play).unwrap();
    let outcome = runtime().block_on(async {
        generator.prepared().await.unwrap();
        let seconds = Duration::from_secs;
        go.send_replace(Some(Timing::new(Instant::now(), seconds(1), seconds(2), seconds(40))));
        generator.finish().await.unwrap()
    });
    let counts = |stream| outcome.tally.counts(stream, Phase::Storm);
    let (woken, looked) = (counts(Stream::WakeLogin), counts(Stream::LookLogin));
    assert_eq!((woken.offered, looked.offered), (80, 10));
    assert_eq!(woken.done + looked.done + outcome.left_outside, 90, "{outcome:?}");
    assert_eq!(outcome.left_outside, 0, "{outcome:?}");
    assert_eq!(live.counts(Stream::WakeLogin).done, 80);
    // Eight seconds of work at once: most are told to come back, and who listens is let in then.
    assert!(outcome.deferred > 20 && outcome.slots_promised >= outcome.deferred, "{outcome:?}");
    assert!(outcome.obedient_deferred < outcome.deferred, "{outcome:?}");
    assert!(outcome.came_in_slot > 10, "{outcome:?}");
    assert!(outcome.slots_kept * 10 >= outcome.came_in_slot * 9, "{outcome:?}");
    assert!(outcome.tries_of_deferred >= 2 * outcome.deferred, "{outcome:?}");
    assert!(outcome.closed_because.is_empty(), "{:?}", outcome.closed_because);
    let errands = counts(Stream::CatchUp).offered + counts(Stream::Look).offered;
    let later = [Stream::CatchUp, Stream::Look].map(|s| outcome.tally.counts(s, Phase::After).offered);
    assert_eq!(errands + later.iter().sum::<u64>(), 90);
    server.stop();
}

#[test]
fn a_run_that_is_given_up_ends_at_once_and_says_who_is_outside() {
    let home = Home::new();
    let server = Server::up(&home);
    let stage = stage(&server);
    let stop = stage.stop.clone();
    let logins = Logins {
        side: Side::Background,
        rate: Rate { unit: Default::default(), points: Vec::new() },
        naive_percent: 0,
        gate_percent: 0,
        stay_s: 600.0,
    };
    let (go, timing) = watch::channel(None);
    let live = stage.live.clone();
    let play = move |cue| phones::run(stage, vec![(logins, vec![0.0, 0.0, 500.0])], cue);
    let mut generator = Generator::start("phones", Place::default(), timing, play).unwrap();
    let outcome = runtime().block_on(async {
        generator.prepared().await.unwrap();
        let seconds = Duration::from_secs;
        go.send_replace(Some(Timing::new(Instant::now(), seconds(0), seconds(600), seconds(0))));
        let both = async {
            while live.counts(Stream::WakeLogin).done < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, both).await.unwrap();
        stop.cancel();
        tokio::time::timeout(LIMIT, generator.finish()).await.unwrap().unwrap()
    });
    let counts = outcome.tally.counts(Stream::WakeLogin, Phase::Storm);
    assert_eq!(
        (counts.offered, counts.done, outcome.left_outside),
        (2, 2, 0),
        "what was not due is not missed"
    );
    server.stop();
}
