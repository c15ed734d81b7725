//! Does the checker find a broken server? The real roles in one process over real QUIC, with a defect put between them, and the
//! harness's own conversations. What it finds in a correct one must be nothing.
//!
//! No defect is compiled into the product: they live in wrappers around the backend and around the engine of the store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod bent;
mod forgetful;
mod site;

use std::sync::Arc;
use std::time::{Duration, Instant};

use buslane_loadtest::storm::generator::Generator;
use buslane_loadtest::storm::history::{Findings, Promise, Reader, check, read_logs};
use buslane_loadtest::storm::live::Live;
use buslane_loadtest::storm::net::Net;
use buslane_loadtest::storm::scenario::Talk;
use buslane_loadtest::storm::stage::{Place, Stage};
use buslane_loadtest::storm::talk;
use buslane_loadtest::storm::timing::Timing;
use tokio::sync::watch;

use self::bent::Defect;
use self::site::Site;

/// Nothing in these tests takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(30);

const PAIRS: u32 = 3;

/// Begins the names of the people: they are this and their number.
const PREFIX: &str = "p";

/// A few seconds of conversations; then the server is started again, and its logs are read.
async fn run(site: Site) -> Findings {
    let mut site = site;
    let up = site.up().await;
    let stage =
        Stage { target: site.target(), seed: 1, live: Arc::new(Live::default()), stop: Default::default() };
    let talk = Talk { pairs: PAIRS, messages_per_s: 60.0, ..Talk::default() };
    let plan = talk::Plan { talk, prefix: PREFIX.to_owned() };
    let (go, timing) = watch::channel(None);
    let play = move |cue| talk::run(stage, plan, cue);
    let mut generator = Generator::start("talk", Place::default(), timing, play).unwrap();
    if generator.prepared().await.is_err() {
        panic!("{:#}", generator.finish().await.unwrap_err());
    }
    let second = Duration::from_secs(1);
    go.send_replace(Some(Timing::new(Instant::now(), second, second, second)));
    let seen = tokio::time::timeout(LIMIT, generator.finish()).await.expect("it ends").unwrap();
    assert!(seen.closed_because.is_empty(), "{:?}", seen.closed_because);
    up.stop().await;

    let up = site.up_again().await;
    let net = Net::new(&site.target(), 2).unwrap();
    let phones = seen.phones.into_iter().step_by(2);
    let readers = phones.zip(seen.rooms).map(|(phone, room)| Reader { phone, rooms: vec![room] });
    let logs = read_logs(&net, readers.collect(), LIMIT).await;
    let findings = check(&seen.record, &logs);
    up.stop().await;
    assert_eq!((findings.rooms, findings.rooms_read), (PAIRS.into(), PAIRS.into()), "{findings:?}");
    assert!(findings.notes.is_empty(), "{:?}", findings.notes);
    assert!(findings.checked_messages > 100, "{findings:?}");
    findings
}

async fn found(site: Site, promise: Promise) -> Findings {
    let findings = run(site).await;
    let held = findings.promises.get(&promise).copied().unwrap_or_default();
    assert!(held.broken > 0, "{promise:?} {findings:#?}");
    findings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_server_passes() {
    let findings = run(Site::new()).await;
    assert_eq!(findings.violations(), 0, "{:#?}", findings.examples);
    assert_eq!((findings.unknown, findings.repeated), (0, 0));
    assert_eq!(findings.acknowledged, findings.checked_messages);
    assert_eq!(findings.checked_deliveries, findings.checked_messages, "each has one who hears it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_acknowledges_before_it_has_stored_is_found_after_a_crash() {
    let findings = found(Site::forgetful(), Promise::ReceiptIsStored).await;
    assert!(findings.lost > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_skips_a_sequence_is_found() {
    let findings = found(Site::bent(Defect::SkipsSequence), Promise::RoomIsDense).await;
    assert!(findings.holes > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_delivers_twice_is_found() {
    let findings = found(Site::bent(Defect::DeliversTwice), Promise::DeliveredOnce).await;
    assert!(findings.duplicated > 0 && findings.lost == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_delivers_to_somebody_else_is_found() {
    let findings = found(Site::bent(Defect::DeliversToStranger), Promise::MembersOnly).await;
    assert!(findings.misdelivered > 0 && findings.lost == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_forgets_a_delivery_is_found() {
    let findings = found(Site::bent(Defect::ForgetsDelivery), Promise::ReceiptIsDelivered).await;
    assert!(findings.lost > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_delivers_in_the_wrong_order_is_found() {
    let findings = found(Site::bent(Defect::SwapsDeliveries), Promise::DeliveredInOrder).await;
    assert!(findings.reordered > 0);
}
