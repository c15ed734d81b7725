//! The surge harness's crowds against a real `up`: they send and fetch, lose their connections or the whole server, come back,
//! and nothing is lost.

use std::time::{Duration, Instant};

use buslane_loadtest::storm::crowd::{self, CrowdOutcome, CrowdPlan};
use buslane_loadtest::storm::generator::Generator;
use buslane_loadtest::storm::history::{Findings, Reader, check, read_logs};
use buslane_loadtest::storm::net::Net;
use buslane_loadtest::storm::scenario::{Crowd, Side};
use buslane_loadtest::storm::stage::{Place, Stage};
use buslane_loadtest::storm::tally::{Counts, Stream};
use buslane_loadtest::storm::timing::{Phase, Timing};
use tokio::sync::watch;

use crate::stage::{runtime, slow_server, stage};
use crate::support::{Home, Server};

const LIMIT: Duration = Duration::from_secs(30);

/// So many things, evenly over the quiet second and the two of the storm.
fn spread(count: u32) -> Vec<f64> {
    (0..count).map(|n| f64::from(n) * 3.0 / f64::from(count) - 1.0).collect()
}

fn plan(name: &str, side: Side, sessions: u32) -> CrowdPlan {
    CrowdPlan {
        crowd: Crowd {
            side,
            sessions,
            messages: None,
            fetches: None,
            burst: 2,
            retries: 5,
            liars: false,
            naive_percent: 30,
        },
        prefix: name.to_owned(),
        messages: spread(150),
        fetches: spread(60),
        drops: Vec::new(),
        opens_per_s: 200.0,
    }
}

fn start(
    stage: &Stage,
    plan: CrowdPlan,
    timing: &watch::Receiver<Option<Timing>>,
) -> Generator<CrowdOutcome> {
    let stage = stage.clone();
    let play = move |cue| crowd::run(stage, plan, cue);
    Generator::start("crowd", Place::default(), timing.clone(), play).unwrap()
}

fn timing(after_s: u64) -> Timing {
    let seconds = Duration::from_secs;
    Timing::new(Instant::now(), seconds(1), seconds(2), seconds(after_s))
}

/// All phases together.
fn counts(outcome: &CrowdOutcome, stream: Stream) -> Counts {
    Phase::ALL.iter().fold(Counts::default(), |mut sum, phase| {
        sum.add(&outcome.tally.counts(stream, *phase));
        sum
    })
}

/// Holds what the members saw against the logs.
async fn findings(stage: &Stage, outcome: CrowdOutcome) -> Findings {
    let CrowdOutcome { record, phones, rooms, .. } = outcome;
    let net = Net::new(&stage.target, 4).unwrap();
    let readers = phones.into_iter().step_by(2).zip(rooms);
    let readers = readers.map(|(phone, room)| Reader { phone, rooms: vec![room] }).collect();
    let logs = read_logs(&net, readers, LIMIT).await;
    net.settle(Duration::from_secs(1)).await;
    check(&record, &logs)
}

#[test]
fn crowds_lose_their_connections_and_nothing_else() {
    let home = Home::new();
    let server = Server::up(&home);
    let stage = stage(&server);
    let (go, begun) = watch::channel(None);
    let people = CrowdPlan { drops: vec![(0.5, 50)], ..plan("people", Side::Foreground, 19) };
    let mut people = start(&stage, people, &begun);
    let mut woken = start(&stage, plan("woken", Side::Background, 10), &begun);
    runtime().block_on(async {
        people.prepared().await.unwrap();
        woken.prepared().await.unwrap();
        go.send_replace(Some(timing(7)));
        let (people, woken) = (people.finish().await.unwrap(), woken.finish().await.unwrap());

        let (sent, looked) = (counts(&people, Stream::Crowd), counts(&people, Stream::Look));
        assert_eq!((sent.offered, sent.done, looked.offered, looked.done), (300, 300, 60, 60), "{people:?}");
        assert_eq!((people.stored, people.received), (300, 300));
        assert_eq!(people.dropped, 10, "half of twenty: an odd one gets company");
        let back_s = people.all_back_s.unwrap();
        assert!((0.0..7.0).contains(&back_s), "{back_s}");
        let fetched = counts(&woken, Stream::CatchUp);
        assert_eq!((fetched.offered, fetched.done), (360, 360), "{woken:?}");
        assert_eq!((woken.dropped, woken.all_back_s), (0, None));

        for outcome in [people, woken] {
            assert!(
                outcome.closed_because.is_empty() && outcome.drained == 0,
                "{:?}",
                outcome.closed_because
            );
            assert!(outcome.broken.is_empty(), "{:?}", outcome.broken);
            let found = findings(&stage, outcome).await;
            assert_eq!(found.violations(), 0, "{:?}", found.examples);
            assert_eq!((found.acknowledged, found.rooms_read), (300, found.rooms));
        }
    });
    server.stop();
}

#[test]
fn phones_that_were_dropped_come_back_as_fast_as_the_server_takes_them() {
    let home = Home::new();
    let server = slow_server(&home, "");
    let stage = stage(&server);
    let (go, begun) = watch::channel(None);
    let plan = CrowdPlan { drops: vec![(0.0, 100)], opens_per_s: 8.0, ..plan("phone", Side::Background, 40) };
    let crowd = Crowd { naive_percent: 0, ..plan.crowd.clone() };
    let mut phones = start(&stage, CrowdPlan { crowd, ..plan }, &begun);
    runtime().block_on(async {
        phones.prepared().await.unwrap();
        go.send_replace(Some(timing(14)));
        let phones = phones.finish().await.unwrap();
        assert_eq!(phones.dropped, 40);
        let back_s = phones.all_back_s.unwrap();
        // 40 clients at 10 a second; what the pace has saved up for a burst goes ahead.
        assert!((1.0..14.0).contains(&back_s), "{back_s}");
        assert!(phones.closed_because.is_empty(), "{:?}", phones.closed_because);
        let found = findings(&stage, phones).await;
        assert_eq!(found.violations(), 0, "{:?}", found.examples);
    });
    server.stop();
}

#[test]
fn a_crowd_outlives_its_server_and_liars_are_counted_apart() {
    let home = Home::new();
    let server = Server::up(&home);
    let stage = stage(&server);
    let (go, begun) = watch::channel(None);
    let mut liars = plan("liars", Side::Background, 6);
    liars.crowd.liars = true;
    let mut liars = start(&stage, liars, &begun);
    runtime().block_on(async {
        liars.prepared().await.unwrap();
        go.send_replace(Some(timing(12)));
    });
    // Stopped in order, in the middle of it, and started again.
    let addresses = server.addresses();
    crate::support::until("the first messages", || {
        (stage.live.counts(Stream::Liar).done >= 60).then_some(())
    });
    server.stop();
    let server = Server::up_with(&home, &addresses.each_ref().map(String::as_str));
    runtime().block_on(async {
        let liars = liars.finish().await.unwrap();
        let lied = counts(&liars, Stream::Liar);
        assert_eq!(lied.offered, 360);
        assert!(lied.done >= 100 && lied.done + lied.failed <= 360, "{liars:?}");
        assert_eq!((liars.closed_because.len(), liars.drained), (0, 6), "{:?}", liars.closed_because);
        let found = findings(&stage, liars).await;
        assert_eq!(found.violations(), 0, "{:?}", found.examples);
        assert_eq!(found.rooms_read, found.rooms);
    });
    server.stop();
}
