//! Session managers that are full: who is put off, until when, and what his slot is worth when he returns.

use std::time::Duration;

use buslane_chassis::clock;
use buslane_gateway::Config;
use buslane_gateway::config::{Enrolment, Slots};
use buslane_shared::class::Class;
use buslane_shared::mark::{Kind, Mark, NodeTag};
use buslane_shared::refusal::Code;
use buslane_shared::token::KeyRing;
use buslane_shared::wire::{self, Posture};
use bytes::Bytes;

use crate::stand::{Client, Device, Stand, key, node};

/// One manager, and a tolerance that lets a test run in no time.
async fn stand() -> Stand {
    let slots = Slots { tolerance_ms: 100, ..Slots::default() };
    let stand = Stand::with(Config { enrolment: Enrolment::Open, slots, ..Config::default() }).await;
    stand.feed(|feed| feed.nodes = Some(wire::NodeSet { nodes: vec![node("m1")] })).await;
    stand
}

/// The manager reports.
async fn report(stand: &Stand, posture: Posture, background_per_s: u64, ledger_ms: u32) {
    let load = wire::Load {
        posture: posture.into(),
        level: 512,
        background_rate_milli: background_per_s * 1_000,
        ledger_ms,
        no: 1,
        ..Default::default()
    };
    let nodes = vec![wire::NodeLoad { node: "m1".to_owned(), load: Some(load) }];
    stand.feed(|feed| feed.loads = Some(wire::LoadSet { nodes, gateways: 1 })).await;
}

async fn woken(client: &Client, device: &Device, slot: Bytes) -> Result<wire::Ticket, wire::Refusal> {
    let app_state = wire::AppState::Background.into();
    client.enter_as(wire::Enter { app_state, slot, ..client.entry(device) }).await
}

fn slot(ring: &KeyRing, node: &str, in_ms: i64) -> Bytes {
    let now_ms = clock::unix_ms();
    let at_ms = now_ms.saturating_add_signed(in_ms);
    let mark = Mark::slot(Class::Wake, NodeTag::of(node), at_ms, 100, in_ms as u32);
    Bytes::copy_from_slice(&ring.marks().make(&mark, now_ms).unwrap())
}

#[tokio::test]
async fn a_full_manager_costs_the_phones_a_wait_and_the_people_nothing() {
    let stand = stand().await;
    let alice = stand.enrol("alice").await;
    let mut phones = Vec::new();
    for n in 0..20 {
        phones.push(stand.enrol(&format!("phone{n}")).await);
    }
    let client = stand.connect().await;
    let enrolled = stand.backend.asked.lock().len();
    report(&stand, Posture::Emergency, 10, 0).await;
    let mut waits = Vec::new();
    for phone in &phones {
        let refusal = woken(&client, phone, Bytes::new()).await.unwrap_err();
        assert_eq!((refusal.code(), refusal.retryable), (Code::Busy, true));
        assert_eq!((refusal.class, refusal.level, refusal.posture()), (5, 512, Posture::Emergency));
        let mark = stand.backend.ring().marks().read(&refusal.slot, clock::unix_ms());
        let early = matches!(mark, Err(buslane_shared::mark::MarkError::Early { .. }));
        assert!(early || mark.is_ok_and(|m| m.kind == Kind::Slot && m.node == Some(NodeTag::of("m1"))));
        waits.push(refusal.retry_after_ms);
    }
    // Ten a second, filled to 95 %: one each 105 ms.
    assert!(waits.is_sorted() && (1_500..=2_300).contains(waits.last().unwrap()), "{waits:?}");
    // Who asks again before his time is told the same one.
    let again = woken(&client, &phones[19], Bytes::new()).await.unwrap_err().retry_after_ms;
    assert!(again <= waits[19] + 250 && again + 2_000 > waits[19], "{again} {waits:?}");
    for _ in 0..3 {
        assert!(client.enter(&alice).await.is_ok(), "a person has opened the app");
    }
    assert_eq!(stand.backend.asked.lock().len(), enrolled, "nobody behind the gateway heard of it");
    stand.finish().await;
}

#[tokio::test]
async fn the_slot_is_honoured_in_its_time_and_only_once_and_never_deferred_again() {
    let stand = stand().await;
    let alice = stand.enrol("alice").await;
    report(&stand, Posture::Emergency, 10, 0).await;
    let client = stand.connect().await;
    let refusal = woken(&client, &alice, Bytes::new()).await.unwrap_err();
    let slot = refusal.slot.clone();
    tokio::time::sleep(Duration::from_millis(refusal.retry_after_ms.into())).await;
    report(&stand, Posture::Emergency, 10, 60_000).await;
    // It is shown in the first packet and named in the request: that is one use.
    let back = stand.connect_with(&slot).await.unwrap();
    let ticket = woken(&back, &alice, slot.clone()).await.unwrap();
    assert_eq!(ticket.passes.unwrap().marks.len(), 6);
    let again = woken(&stand.connect().await, &alice, slot).await.unwrap_err();
    assert_eq!(again.code(), Code::BadSlot);
    stand.finish().await;
}

#[tokio::test]
async fn every_other_slot_has_its_answer() {
    let stand = stand().await;
    let alice = stand.enrol("alice").await;
    report(&stand, Posture::Recovery, 10, 5_000).await;
    let client = stand.connect().await;
    let ring = stand.backend.ring();

    let early = slot(&ring, "m1", 3_000);
    let refusal = woken(&client, &alice, early.clone()).await.unwrap_err();
    assert_eq!((refusal.code(), &refusal.slot), (Code::Busy, &early), "it keeps its place");
    assert!((2_500..=3_000).contains(&refusal.retry_after_ms), "{}", refusal.retry_after_ms);

    let late = woken(&client, &alice, slot(&ring, "m1", -3_000)).await.unwrap_err();
    assert_eq!(late.code(), Code::Busy);
    assert!(late.retry_after_ms > 5_000, "a new one, behind those that the manager gave");

    let foreign = KeyRing::new(&wire::KeySet { keys: vec![key(1, 99)] });
    let pass = Mark::pass(Class::Wake, clock::unix_ms(), 1);
    let pass = Bytes::copy_from_slice(&ring.marks().make(&pass, clock::unix_ms()).unwrap());
    let rows = [
        slot(&foreign, "m1", 0),
        slot(&ring, "m2", 0),
        Bytes::from_static(b"nonsense"),
        vec![0; 1_000].into(),
        pass,
    ];
    for (at, bad) in rows.into_iter().enumerate() {
        let refusal = woken(&client, &alice, bad).await.unwrap_err();
        assert_eq!(refusal.code(), Code::BadSlot, "row {at}");
        assert!(refusal.detail.contains("connect without it"));
    }

    // Of no interest to somebody who looks at the app.
    let entry = wire::Enter { slot: Bytes::from_static(b"nonsense"), ..client.entry(&alice) };
    assert!(client.enter_as(entry).await.is_ok());
    // And where nobody waits, an early slot is as good as none.
    report(&stand, Posture::Normal, 10, 0).await;
    assert!(woken(&client, &alice, slot(&ring, "m1", 3_000)).await.is_ok());
    assert!(woken(&client, &alice, Bytes::new()).await.is_ok());
    stand.finish().await;
}

#[tokio::test]
async fn a_manager_of_which_nothing_is_heard_judges_for_itself() {
    let stand = stand().await;
    let alice = stand.enrol("alice").await;
    let client = stand.connect().await;
    report(&stand, Posture::Emergency, 10, 0).await;
    assert!(woken(&client, &alice, Bytes::new()).await.is_err());
    let let_in = async {
        while woken(&client, &alice, Bytes::new()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::stand::LIMIT, let_in).await.expect("an old report counts for nothing");
    stand.finish().await;
}

#[tokio::test]
async fn somebody_who_has_not_proved_anything_gets_no_slot() {
    let stand = stand().await;
    let alice = stand.enrol("alice").await;
    report(&stand, Posture::Emergency, 10, 0).await;
    let thief = Device { credential: alice.credential.clone(), ..Device::new("alice") };
    let refusal = woken(&stand.connect().await, &thief, Bytes::new()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::BadProof);
    assert!(refusal.slot.is_empty());
    stand.finish().await;
}

#[tokio::test]
async fn a_manager_that_takes_nobody_has_no_slots_but_everybody_has_a_time() {
    let stand = stand().await;
    let alice = stand.enrol("alice").await;
    report(&stand, Posture::Emergency, 0, 0).await;
    let refusal = woken(&stand.connect().await, &alice, Bytes::new()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Busy);
    assert!(refusal.slot.is_empty() && refusal.retry_after_ms >= 150_000, "{}", refusal.retry_after_ms);
    stand.finish().await;
}

#[tokio::test]
async fn an_operator_is_told_who_got_no_ticket_and_why() {
    let stand = stand().await;
    let alice = stand.enrol("alice").await;
    report(&stand, Posture::Emergency, 10, 0).await;
    let client = stand.connect().await;
    let refusal = woken(&client, &alice, Bytes::new()).await.unwrap_err();
    let told = stand.refusals.of("alice");
    let [why] = &told[..] else { panic!("one refusal: {told:?}") };
    assert_eq!((why.what, why.code, why.class, why.posture), ("enter", "busy", Some("C5"), "emergency"));
    assert_eq!((why.level, why.cut), (None, Some(512)));
    assert_eq!(why.device, Some(alice.id().to_string()));
    assert_eq!(why.slot_at_ms, Some(why.at_ms + u64::from(refusal.retry_after_ms)));
    stand.finish().await;
}
