//! Enrolment: codes, open names, tokens of a provider, and every way in which it is refused.

use std::time::{Duration, Instant};

use buslane_chassis::clock;
use buslane_gateway::Config;
use buslane_gateway::config::Enrolment;
use buslane_shared::frame::frame;
use buslane_shared::id::DeviceId;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::token::Purpose;
use buslane_shared::wire;
use buslane_shared::wire::enrol::Right;
use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::provider::{AUDIENCE, Behaviour, ISSUER, Server, SigningKey, claims, claims_but, set};
use crate::stand::{ALICES_CODE, Device, Stand, refusal};

fn code(text: &str) -> Right {
    Right::Code(text.to_owned())
}

fn config(enrolment: Enrolment) -> Config {
    Config { enrolment, ..Config::default() }
}

#[tokio::test]
async fn a_code_enrols_a_device_and_its_credential_says_so() {
    let stand = Stand::with(config(Enrolment::Code)).await;
    let alice = Device::new("alice");
    let enrolled = stand.connect().await.enrol(&alice, code(ALICES_CODE)).await.unwrap();
    assert_eq!(enrolled.user, "alice");
    assert_eq!(enrolled.device, DeviceId::of_key(&alice.key()).to_wire());
    let body: wire::CredentialBody =
        stand.backend.ring().open(Purpose::Credential, &enrolled.credential, clock::unix_ms()).unwrap();
    assert_eq!(body.user, "alice");
    assert_eq!(body.device, enrolled.device);
    assert_eq!(body.device_key, alice.key());
    assert_eq!(body.expires_ms, enrolled.credential_expires_ms);
    assert_eq!(body.renew_s, 30 * 24 * 3_600);
    let asked = stand.backend.asked.lock().clone();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].device_name, "a phone");
    stand.finish().await;
}

#[tokio::test]
async fn open_enrolment_takes_new_names_only() {
    let stand = Stand::open().await;
    stand.enrol("alice").await;
    let refused = stand.connect().await.enrol(&Device::new("alice"), Right::Open(true)).await;
    assert_eq!(refused.unwrap_err().code(), Code::NameTaken);
    assert!(stand.connect().await.enrol(&Device::new("alice"), code(ALICES_CODE)).await.is_ok());
    stand.finish().await;
}

#[tokio::test]
async fn the_policy_decides_which_right_counts() {
    let jwt = Right::Jwt("x.y.z".to_owned());
    let rows = [
        (Enrolment::Code, Right::Open(true), Code::EnrolmentClosed),
        (Enrolment::Code, Right::Open(false), Code::BadField),
        (Enrolment::Open, Right::Open(false), Code::BadField),
        (Enrolment::Open, jwt.clone(), Code::EnrolmentClosed),
        (Enrolment::Code, jwt, Code::EnrolmentClosed),
    ];
    for (policy, right, expected) in rows {
        let stand = Stand::with(config(policy)).await;
        let refused = stand.connect().await.enrol(&Device::new("alice"), right.clone()).await.unwrap_err();
        assert_eq!(refused.code(), expected, "{policy:?} {right:?}");
        assert!(stand.backend.asked.lock().is_empty(), "the backend need not hear of it");
        stand.finish().await;
    }
}

#[tokio::test]
async fn fields_are_checked_before_anything_else() {
    let stand = Stand::open().await;
    let client = stand.connect().await;
    let good = client.enrolment(&Device::new("alice"), Right::Open(true));
    let with = |change: fn(&mut wire::Enrol)| {
        let mut enrol = good.clone();
        change(&mut enrol);
        enrol
    };
    let rows = [
        (with(|e| e.user = "Alice".into()), "user"),
        (with(|e| e.user = String::new()), "user"),
        (with(|e| e.user = "a".repeat(65)), "user"),
        (with(|e| e.user = "../etc".into()), "user"),
        (with(|e| e.device_key = vec![1; 31].into()), "device_key"),
        (with(|e| e.device_key = vec![1; 33].into()), "device_key"),
        (with(|e| e.device_key = bytes::Bytes::new()), "device_key"),
        (with(|e| e.device_name = "n".repeat(65)), "device_name"),
        (with(|e| e.device_name = "a\nb".into()), "device_name"),
        (with(|e| e.right = None), "right"),
    ];
    for (enrol, field) in rows {
        let refused = client.enrol_as(enrol).await.unwrap_err();
        assert_eq!((refused.code(), refused.field.as_str()), (Code::BadField, field));
        assert!(!refused.retryable && refused.detail.len() > 10);
    }
    assert!(client.enrol_as(with(|e| e.device_name = "é".repeat(64))).await.is_ok(), "characters, not bytes");
    assert_eq!(stand.backend.asked.lock().len(), 1);
    stand.finish().await;
}

#[tokio::test]
async fn a_key_is_enrolled_by_its_holder_only() {
    let stand = Stand::open().await;
    let alice = Device::new("alice");
    let first = stand.connect().await;
    let good = first.enrolment(&alice, Right::Open(true));
    // The same bytes on another connection, another's key, a key that is no point of the curve, no proof.
    let rows = [
        good.clone(),
        wire::Enrol { device_key: Device::new("alice").key(), ..good.clone() },
        wire::Enrol { device_key: vec![0xff; 32].into(), ..good.clone() },
        wire::Enrol { proof: bytes::Bytes::new(), ..good.clone() },
    ];
    for enrol in rows {
        let refused = stand.connect().await.enrol_as(enrol).await.unwrap_err();
        assert_eq!(refused.code(), Code::BadProof);
    }
    assert!(stand.backend.asked.lock().is_empty());
    assert!(first.enrol_as(good).await.is_ok());
    stand.finish().await;
}

#[tokio::test]
async fn wrong_codes_look_all_the_same() {
    let stand = Stand::with(config(Enrolment::Code)).await;
    let client = stand.connect().await;
    client.enrol(&Device::new("alice"), code(ALICES_CODE)).await.unwrap();
    let mut seen = Vec::new();
    let long = "x".repeat(1_000);
    // A name that exists, a name that does not, and what is no code at all.
    for (user, wrong) in [("alice", "guess"), ("nobody", "guess"), ("alice", ""), ("alice", long.as_str())] {
        let began = Instant::now();
        let mut refused = client.enrol(&Device::new(user), code(wrong)).await.unwrap_err();
        assert!(began.elapsed() >= Duration::from_millis(100), "{user}: {:?}", began.elapsed());
        refused.retry_after_ms = 0;
        seen.push(refused);
    }
    assert_eq!(seen[0].code(), Code::BadCode);
    assert!(seen.iter().all(|r| *r == seen[0]), "{seen:?}");
    let passed_on: Vec<_> = stand.backend.asked.lock().iter().map(|a| a.right.clone()).collect();
    assert!(!format!("{passed_on:?}").contains(&long));
    stand.finish().await;
}

#[tokio::test]
async fn what_the_backend_says_is_passed_on() {
    let stand = Stand::open().await;
    *stand.backend.refuse.lock() = Some(Refusal::of(Code::DiskFull).retry_after_ms(1_234));
    let refused = stand.connect().await.enrol(&Device::new("alice"), Right::Open(true)).await.unwrap_err();
    assert_eq!((refused.code(), refused.retryable, refused.retry_after_ms), (Code::DiskFull, true, 1_234));
    stand.finish().await;
}

#[tokio::test]
async fn a_backend_that_does_not_answer_costs_the_client_its_deadline_and_no_more() {
    let stand = Stand::open().await;
    *stand.backend.stall.lock() = true;
    let client = stand.connect().await;
    let enrol = client.enrolment(&Device::new("alice"), Right::Open(true));
    let request =
        wire::GateRequest { version: 1, deadline_ms: 200, op: Some(wire::gate_request::Op::Enrol(enrol)) };
    let began = Instant::now();
    let refused = refusal(client.exchange(&frame(&request)).await);
    assert_eq!(refused.code(), Code::Deadline);
    assert!(refused.maybe_applied && refused.retryable);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    stand.finish().await;
}

fn with_provider(enrolment: Enrolment, url: &str) -> Config {
    let jwt = json!({
        "issuer": ISSUER, "audience": [AUDIENCE], "jwks_url": url, "refetch_s": 1, "credential_life_s": 7_200
    });
    Config { jwt: Some(serde_json::from_value(jwt).unwrap()), ..config(enrolment) }
}

#[tokio::test]
async fn a_token_of_the_provider_enrols_its_own_subject() {
    let key = SigningKey::new("k1", Algorithm::ES256);
    let provider = Server::start(Behaviour::Serve(set(&[&key]))).await;
    let stand = Stand::with(with_provider(Enrolment::Code, &provider.url())).await;
    let client = stand.connect().await;
    let alice = Device::new("alice");
    let enrolled = client.enrol(&alice, Right::Jwt(key.sign(&claims("alice")))).await.unwrap();
    let body: wire::CredentialBody =
        stand.backend.ring().open(Purpose::Credential, &enrolled.credential, clock::unix_ms()).unwrap();
    assert_eq!(body.renew_s, 0, "it ends, and the provider is asked again");
    let asked = stand.backend.asked.lock().last().cloned().unwrap();
    assert_eq!(asked.right, Some(wire::enrol_device::Right::VouchedS(7_200)));

    let stranger = SigningKey::new("k1", Algorithm::ES256);
    let rows = [
        key.sign(&claims("bob")),
        key.sign(&claims_but("alice", "exp", json!(1_000))),
        key.sign(&claims_but("alice", "aud", json!("another app"))),
        stranger.sign(&claims("alice")),
        "nonsense".to_owned(),
    ];
    for token in rows {
        let refused = client.enrol(&Device::new("alice"), Right::Jwt(token)).await.unwrap_err();
        assert_eq!(refused.code(), Code::BadToken);
        assert!(!refused.retryable);
    }
    assert_eq!(stand.backend.asked.lock().len(), 1);
    stand.finish().await;
}

#[tokio::test]
async fn when_only_the_provider_decides_codes_and_open_names_do_not_count() {
    let key = SigningKey::new("k1", Algorithm::EdDSA);
    let provider = Server::start(Behaviour::Serve(set(&[&key]))).await;
    let stand = Stand::with(with_provider(Enrolment::Jwt, &provider.url())).await;
    let client = stand.connect().await;
    for right in [code(ALICES_CODE), Right::Open(true)] {
        let refused = client.enrol(&Device::new("alice"), right).await.unwrap_err();
        assert_eq!(refused.code(), Code::EnrolmentClosed);
        assert!(refused.detail.contains("identity provider"), "{}", refused.detail);
    }
    assert!(client.enrol(&Device::new("alice"), Right::Jwt(key.sign(&claims("alice")))).await.is_ok());
    stand.finish().await;
}

#[tokio::test]
async fn a_provider_that_is_away_delays_enrolments_and_nothing_else() {
    let key = SigningKey::new("k1", Algorithm::EdDSA);
    let provider = Server::start(Behaviour::Status(503)).await;
    let stand = Stand::with(with_provider(Enrolment::Open, &provider.url())).await;
    let alice = stand.enrol("alice").await;
    let client = stand.connect().await;
    let token = Right::Jwt(key.sign(&claims("bob")));
    let refused = client.enrol(&Device::new("bob"), token.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.retryable && refused.retry_after_ms > 0);
    assert!(client.enter(&alice).await.is_ok());
    // It comes back: whoever asks again, more often than he was told to, gets in.
    provider.behave(Behaviour::Serve(set(&[&key])));
    tokio::time::timeout(crate::stand::LIMIT, async {
        while client.enrol(&Device::new("bob"), token.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(refused.retry_after_ms.into()) / 4).await;
        }
    })
    .await
    .unwrap();
    stand.finish().await;
}
