//! Tickets: who gets one, what is in it, and every reason for getting none.

use buslane_chassis::clock;
use buslane_shared::refusal::Code;
use buslane_shared::token::{KeyRing, Purpose};
use buslane_shared::wire;

use crate::stand::{Device, HOUR_MS, Stand, key, node};

/// A credential as the gateway would have sealed it, changed in one respect.
fn credential(
    ring: &KeyRing,
    device: &Device,
    change: impl FnOnce(&mut wire::CredentialBody),
) -> (wire::CredentialBody, bytes::Bytes) {
    let now_ms = clock::unix_ms();
    let mut body = wire::CredentialBody {
        user: device.user.clone(),
        device: device.id().to_wire(),
        device_key: device.key(),
        issued_at_ms: now_ms - HOUR_MS,
        expires_ms: now_ms + 20 * HOUR_MS,
        renew_s: 20 * 3_600,
    };
    change(&mut body);
    let sealed_at_ms = now_ms.min(body.expires_ms - 1);
    (body.clone(), ring.seal(Purpose::Credential, &body, [9; 12], sealed_at_ms).unwrap())
}

#[tokio::test]
async fn an_enrolled_device_gets_a_ticket_that_session_managers_can_check_alone() {
    let stand = Stand::open().await;
    let alice = stand.enrol("alice").await;
    let ticket = stand.connect().await.enter(&alice).await.unwrap();

    let body: wire::TicketBody =
        stand.backend.ring().open(Purpose::Ticket, &ticket.ticket, clock::unix_ms()).unwrap();
    assert_eq!(body.user, "alice");
    assert_eq!(body.device, alice.id().to_wire());
    assert_eq!(body.proof_key, ticket.proof_key);
    assert_eq!(body.proof_key.len(), 32);
    assert_eq!(ticket.valid_ms, 3_600_000);
    let left_ms = body.expires_ms - clock::unix_ms();
    assert!((3_500_000..=3_600_000).contains(&left_ms), "{left_ms}");
    let names: Vec<_> = ticket.addresses.iter().map(|a| a.server_name.clone()).collect();
    assert_eq!(body.nodes.iter().map(|n| format!("{n}.example")).collect::<Vec<_>>(), names);
    assert_eq!(ticket.addresses.len(), 2);
    assert!(ticket.addresses[0].front.ends_with(":7401") && ticket.addresses[0].wake.ends_with(":7402"));
    assert!(ticket.credential.is_empty(), "a fresh credential is kept");

    // All devices of a user meet on one manager; each ticket has a key of its own.
    let again = stand.connect().await.enter(&alice).await.unwrap();
    assert_eq!(again.addresses, ticket.addresses);
    assert_ne!(again.proof_key, ticket.proof_key);
    stand.finish().await;
}

#[tokio::test]
async fn the_backend_is_not_needed() {
    let stand = Stand::open().await;
    let alice = stand.enrol("alice").await;
    *stand.backend.stall.lock() = true;
    assert!(stand.connect().await.enter(&alice).await.is_ok());
    stand.finish().await;
}

#[tokio::test]
async fn a_ticket_is_refused_to_whoever_cannot_prove_to_be_the_device() {
    let stand = Stand::open().await;
    let alice = stand.enrol("alice").await;
    let mallory = Device::new("alice");
    let client = stand.connect().await;
    let good = client.entry(&alice);
    let refused = async |entry: wire::Enter| {
        let refusal = stand.connect().await.enter_as(entry).await.unwrap_err();
        assert!(!refusal.retryable);
        refusal.code()
    };

    assert_eq!(client.enter_as(good.clone()).await.map(|t| t.addresses.len()), Ok(2));
    // Exactly what was good on its own connection.
    assert_eq!(refused(good.clone()).await, Code::BadProof);
    assert_eq!(refused(wire::Enter { proof: "".into(), ..good.clone() }).await, Code::BadProof);
    assert_eq!(refused(wire::Enter { proof: vec![0; 64].into(), ..good.clone() }).await, Code::BadProof);
    let thief = stand.connect().await;
    let stolen = wire::Enter { proof: mallory.sign(&thief.exporter()), ..good };
    assert_eq!(thief.enter_as(stolen).await.unwrap_err().code(), Code::BadProof);
    stand.finish().await;
}

#[tokio::test]
async fn a_credential_is_of_this_system_unaltered_and_in_time() {
    let stand = Stand::open().await;
    let ring = stand.backend.ring();
    let foreign = KeyRing::new(&wire::KeySet { keys: vec![key(1, 99)] });
    let unknown = KeyRing::new(&wire::KeySet { keys: vec![key(2, 7)] });
    let mut alice = Device::new("alice");
    let (_, good) = credential(&ring, &alice, |_| {});
    let (body, expired) = credential(&ring, &alice, |c| c.expires_ms = clock::unix_ms() - 1);
    let as_ticket = ring.seal(Purpose::Ticket, &body, [3; 12], body.expires_ms - 1).unwrap();
    let mut flipped = good.to_vec();
    flipped[30] ^= 1;
    let rows = [
        (good, None),
        (expired, Some(Code::CredentialExpired)),
        (credential(&foreign, &alice, |_| {}).1, Some(Code::BadCredential)),
        (credential(&unknown, &alice, |_| {}).1, Some(Code::BadCredential)),
        (as_ticket, Some(Code::BadCredential)),
        (flipped.into(), Some(Code::BadCredential)),
        (vec![1; 2_000].into(), Some(Code::BadCredential)),
        (bytes::Bytes::new(), Some(Code::BadCredential)),
    ];
    for (at, (credential, expected)) in rows.into_iter().enumerate() {
        alice.credential = credential;
        let outcome = stand.connect().await.enter(&alice).await;
        assert_eq!(outcome.err().map(|r| r.code()), expected, "row {at}");
    }
    let told = stand.refusals.of("alice");
    let [why] = &told[..] else { panic!("only that it came too late says who she is: {told:?}") };
    assert_eq!((why.what, why.code), ("enter", "credential_expired"));
    stand.finish().await;
}

#[tokio::test]
async fn a_revoked_device_stays_out_also_with_a_renewed_credential_and_may_enrol_again() {
    let stand = Stand::open().await;
    let mut alice = Device::new("alice");
    // Old enough to be renewed at the next ticket.
    let old = credential(&stand.backend.ring(), &alice, |c| c.expires_ms = clock::unix_ms() + HOUR_MS).1;
    alice.credential = old;
    let ticket = stand.connect().await.enter(&alice).await.unwrap();
    assert!(!ticket.credential.is_empty());
    // The revocation is after the enrolment and, by the backend's clock, before the renewal.
    let revoked = wire::RevokedDevice {
        user: "alice".to_owned(),
        device: alice.id().to_wire(),
        revoked_at_ms: clock::unix_ms() - HOUR_MS / 2,
    };
    stand.feed(|feed| feed.revoked = Some(wire::RevokedSet { devices: vec![revoked.clone()] })).await;
    assert_eq!(stand.connect().await.enter(&alice).await.unwrap_err().code(), Code::Revoked);
    alice.credential = ticket.credential;
    assert_eq!(stand.connect().await.enter(&alice).await.unwrap_err().code(), Code::Revoked);
    // The same key, enrolled again later.
    alice.credential = credential(&stand.backend.ring(), &alice, |c| c.issued_at_ms = clock::unix_ms()).1;
    assert!(stand.connect().await.enter(&alice).await.is_ok());
    stand.finish().await;
}

#[tokio::test]
async fn a_credential_is_renewed_in_time_and_never_when_a_provider_vouched() {
    let stand = Stand::open().await;
    let ring = stand.backend.ring();
    let mut alice = Device::new("alice");
    let (old, sealed) = credential(&ring, &alice, |c| c.expires_ms = clock::unix_ms() + 9 * HOUR_MS);
    alice.credential = sealed;
    let ticket = stand.connect().await.enter(&alice).await.unwrap();
    let renewed: wire::CredentialBody =
        ring.open(Purpose::Credential, &ticket.credential, clock::unix_ms()).unwrap();
    assert_eq!(renewed.expires_ms, ticket.credential_expires_ms);
    assert!(renewed.expires_ms > old.expires_ms + 10 * HOUR_MS);
    assert_eq!(wire::CredentialBody { expires_ms: old.expires_ms, ..renewed }, old);
    alice.credential = ticket.credential;
    assert!(stand.connect().await.enter(&alice).await.unwrap().credential.is_empty());

    // Half an hour is left of what a provider vouched for: the ticket ends with it.
    alice.credential = credential(&ring, &alice, |c| {
        c.expires_ms = clock::unix_ms() + HOUR_MS / 2;
        c.renew_s = 0;
    })
    .1;
    let ticket = stand.connect().await.enter(&alice).await.unwrap();
    assert!(ticket.credential.is_empty());
    assert!(u64::from(ticket.valid_ms) <= HOUR_MS / 2, "{}", ticket.valid_ms);
    stand.finish().await;
}

#[tokio::test]
async fn keys_rotate_under_the_feet_of_nobody() {
    let stand = Stand::open().await;
    let alice = stand.enrol("alice").await;
    let next = wire::TokenKey { not_before_ms: clock::unix_ms() - 1, ..key(2, 8) };
    stand.feed(|feed| feed.keys = Some(wire::KeySet { keys: vec![key(1, 7), next.clone()] })).await;
    let ticket = stand.connect().await.enter(&alice).await.unwrap();
    let newest = KeyRing::new(&wire::KeySet { keys: vec![next] });
    assert!(newest.open::<wire::TicketBody>(Purpose::Ticket, &ticket.ticket, clock::unix_ms()).is_ok());
    stand.finish().await;
}

#[tokio::test]
async fn without_a_session_manager_there_is_a_time_to_come_back() {
    let stand = Stand::open().await;
    let alice = stand.enrol("alice").await;
    stand
        .feed(|feed| {
            let draining = wire::Node { draining: true, ..node("m1") };
            feed.nodes = Some(wire::NodeSet { nodes: vec![draining] });
        })
        .await;
    let refusal = stand.connect().await.enter(&alice).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    assert!(refusal.retryable && refusal.retry_after_ms > 0);
    stand.feed(|feed| feed.nodes = Some(wire::NodeSet { nodes: vec![node("m2")] })).await;
    let ticket = stand.connect().await.enter(&alice).await.unwrap();
    assert_eq!(ticket.addresses[0].server_name, "m2.example");
    stand.finish().await;
}

#[tokio::test]
async fn before_the_first_word_of_the_backend_everything_is_refused_for_now() {
    let config = buslane_gateway::Config {
        enrolment: buslane_gateway::config::Enrolment::Open,
        ..buslane_gateway::Config::default()
    };
    let stand = Stand::on(config, Default::default()).await;
    let client = stand.connect().await;
    let device = Device::new("alice");
    for refusal in [
        client.enter(&device).await.unwrap_err(),
        client.enrol(&device, wire::enrol::Right::Open(true)).await.unwrap_err(),
    ] {
        assert_eq!(refusal.code(), Code::Unavailable);
        assert!(refusal.retryable && refusal.retry_after_ms > 0);
    }
    assert!(stand.backend.asked.lock().is_empty());
    stand.finish().await;
}
