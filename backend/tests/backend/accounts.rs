//! Accounts and devices: whose a name is, how a device gets in, and how it is thrown out.

use buslane_chassis::api::BackendApi;
use buslane_chassis::clock;
use buslane_shared::limits::DEVICES_PER_USER_MAX;
use buslane_shared::refusal::Code;
use buslane_shared::token::{KeyRing, Purpose};
use buslane_shared::wire::{self, enrol_device::Right, request::Op};
use tokio::time::timeout;

use crate::support::*;

fn revoke(phone: &Phone) -> Op {
    Op::RevokeDevice(wire::RevokeDevice { device: phone.device.to_wire() })
}

async fn code(phone: &Phone) -> String {
    match phone.ask(Op::MakeCode(wire::MakeCode {})).await.unwrap() {
        wire::answer::Result::Code(code) => code.code,
        other => panic!("not a code: {other:?}"),
    }
}

async fn devices(phone: &Phone) -> Vec<wire::Device> {
    match phone.ask(Op::ListDevices(wire::ListDevices {})).await.unwrap() {
        wire::answer::Result::Devices(list) => list.devices,
        other => panic!("not a list: {other:?}"),
    }
}

#[tokio::test]
async fn a_name_belongs_to_whoever_came_first() {
    let (world, _) = World::memory().await;
    let key = clock::random();
    let ann = world.try_enrol("ann", key, Right::Open(true)).await.unwrap();
    let refused = world.try_enrol("ann", clock::random(), Right::Open(true)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NameTaken);
    let again = world.try_enrol("ann", key, Right::Open(true)).await.unwrap();
    assert_eq!(again.device, ann.device, "who missed the answer may ask again");
    assert_eq!(devices(&ann).await.len(), 1);
    assert_eq!(world.try_enrol("Ann!", key, Right::Open(true)).await.unwrap_err().code(), Code::BadField);
    assert_eq!(
        world.try_enrol("bob", key, Right::Open(false)).await.unwrap_err().code(),
        Code::EnrolmentClosed
    );
    world.stop().await;
}

#[tokio::test]
async fn a_code_enrols_one_device_of_its_user() {
    let (world, engine) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let with = code(&ann).await;
    let stored = buslane_store::Kv::scan(&*engine, buslane_store::Table::System, b"", None, 100).unwrap();
    assert!(
        stored.iter().all(|(k, v)| !contains(k, with.as_bytes()) && !contains(&v.value, with.as_bytes()))
    );
    let (first, second) = (clock::random(), clock::random());
    assert_eq!(
        world.try_enrol("bob", first, Right::Code(with.clone())).await.unwrap_err().code(),
        Code::BadCode
    );
    let typed = with.to_lowercase().replace('-', "");
    let tablet = world.try_enrol("ann", first, Right::Code(typed)).await.unwrap();
    assert_eq!(
        world.try_enrol("ann", second, Right::Code(with.clone())).await.unwrap_err().code(),
        Code::BadCode
    );
    let again = world.try_enrol("ann", first, Right::Code(with)).await.unwrap();
    assert_eq!(again.device, tablet.device, "the same device may repeat its enrolment");
    assert_eq!(
        world.try_enrol("ann", second, Right::Code("nonsense".into())).await.unwrap_err().code(),
        Code::BadCode
    );
    let list = devices(&tablet).await;
    assert_eq!(list.len(), 2);
    assert_eq!(list.iter().filter(|d| d.current).count(), 1);
    assert_eq!(devices(&bob).await.len(), 1);
    world.stop().await;
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

#[tokio::test]
async fn a_used_code_does_not_bring_a_revoked_device_back() {
    let (world, _) = World::memory().await;
    let ann = world.enrol("ann").await;
    let (key, with) = (clock::random(), code(&ann).await);
    let tablet = world.try_enrol("ann", key, Right::Code(with.clone())).await.unwrap();
    ann.done(Op::RevokeDevice(wire::RevokeDevice { device: tablet.device.to_wire() })).await;
    let refused = world.try_enrol("ann", key, Right::Code(with)).await.unwrap_err();
    assert_eq!(refused.code(), Code::BadCode);
    let fresh = code(&ann).await;
    assert!(world.try_enrol("ann", key, Right::Code(fresh)).await.is_ok(), "a new code does");
    world.stop().await;
}

#[tokio::test]
async fn the_operators_code_makes_a_new_user() {
    let (world, _) = World::memory().await;
    let made = world.service.make_code(&user("zoe")).await.unwrap();
    assert!(made.valid_ms > 3_600_000);
    assert!(world.try_enrol("zoe", clock::random(), Right::Code(made.code)).await.is_ok());
    world.stop().await;
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let (world, _) = World::memory().await;
    let mut codes = vec![];
    for _ in 0..20 {
        let guess = world.try_enrol("ann", clock::random(), Right::Code("0000-0000-00000".into())).await;
        codes.push(guess.unwrap_err().code());
    }
    assert_eq!(codes.iter().filter(|c| **c == Code::BadCode).count(), 10);
    assert_eq!(codes.last(), Some(&Code::RateLimited));
    let own = world.service.make_code(&user("ann")).await.unwrap();
    assert!(
        world.try_enrol("ann", clock::random(), Right::Code(own.code)).await.is_ok(),
        "guesses of others do not matter"
    );
    world.stop().await;
}

#[tokio::test]
async fn the_word_of_the_identity_provider_is_enough_and_ends_when_it_says() {
    let (world, _) = World::memory().await;
    let request = |key: [u8; 32], seconds| wire::EnrolDevice {
        user: "ann".into(),
        device_key: bytes::Bytes::copy_from_slice(&key),
        device_name: "laptop".into(),
        right: Some(Right::VouchedS(seconds)),
    };
    let enrolled = world.service.enrol(request([1; 32], 3600)).await.unwrap();
    assert_eq!(enrolled.expires_ms - enrolled.enrolled_at_ms, 3_600_000);
    assert!(world.service.enrol(request([2; 32], u32::MAX)).await.is_ok(), "a second device");
    let mut bad = request([3; 32], 1);
    bad.device_key = bytes::Bytes::from_static(b"short");
    assert_eq!(world.service.enrol(bad).await.unwrap_err().field, "device_key");
    let mut bad = request([3; 32], 1);
    bad.device_name = "x".repeat(65);
    assert_eq!(world.service.enrol(bad).await.unwrap_err().field, "device_name");
    world.stop().await;
}

#[tokio::test]
async fn devices_are_bounded() {
    let (world, _) = World::memory().await;
    for n in 0..DEVICES_PER_USER_MAX {
        world.try_enrol("ann", [n as u8; 32], Right::VouchedS(60)).await.unwrap();
    }
    let refused = world.try_enrol("ann", [99; 32], Right::VouchedS(60)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotAllowed);
    assert!(world.try_enrol("ann", [0; 32], Right::VouchedS(60)).await.is_ok(), "one that is there already");
    world.stop().await;
}

#[tokio::test]
async fn a_revoked_device_is_silent_at_once_and_after_a_restart() {
    let (world, engine) = World::memory().await;
    let ann = world.enrol("ann").await;
    let key = clock::random();
    let lost = world.try_enrol("ann", key, Right::Code(code(&ann).await)).await.unwrap();
    let mut feed = world.service.feed(wire::FeedRequest::default()).await.unwrap();
    assert!(feed.recv().await.unwrap().revoked.unwrap().devices.is_empty());
    ann.done(revoke(&lost)).await;
    let pushed = timeout(LIMIT, feed.recv()).await.unwrap().unwrap().revoked.unwrap().devices;
    assert_eq!((pushed[0].user.as_str(), &pushed[0].device), ("ann", &lost.device.to_wire()));
    assert_eq!(lost.code_of(Op::ListBlocked(wire::ListBlocked {})).await, Code::Revoked);
    assert_eq!(devices(&ann).await.len(), 1);
    ann.done(revoke(&lost)).await;
    let world = world.restart_on(engine.reopen().unwrap()).await;
    let (ann, lost) = (ann.at(&world), lost.at(&world));
    assert_eq!(lost.code_of(Op::ListBlocked(wire::ListBlocked {})).await, Code::Revoked);
    let mut feed = world.service.feed(wire::FeedRequest::default()).await.unwrap();
    assert_eq!(feed.recv().await.unwrap().revoked.unwrap().devices.len(), 1);
    for right in [Right::Open(true), Right::VouchedS(60)] {
        assert_eq!(world.try_enrol("ann", key, right).await.unwrap_err().code(), Code::Revoked);
    }
    let back = world.try_enrol("ann", key, Right::Code(code(&ann).await)).await.unwrap();
    assert_eq!(devices(&back).await.len(), 2, "with a code it may come back");
    let engine = world.engine.clone();
    let world = world.restart_on(engine).await;
    assert_eq!(devices(&back.at(&world)).await.len(), 2);
    world.stop().await;
}

#[tokio::test]
async fn only_own_devices_are_revoked() {
    let (world, _) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    assert_eq!(ann.code_of(revoke(&bob)).await, Code::UnknownDevice);
    let bad = Op::RevokeDevice(wire::RevokeDevice { device: bytes::Bytes::from_static(b"x") });
    assert_eq!(ann.code_of(bad).await, Code::BadField);
    assert_eq!(devices(&bob).await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn token_keys_are_kept_sealed_and_open_what_they_sealed_after_a_restart() {
    let (world, engine) = World::memory().await;
    let keys = async |world: &World| {
        let mut feed = world.service.feed(wire::FeedRequest::default()).await.unwrap();
        feed.recv().await.unwrap().keys.unwrap()
    };
    let set = keys(&world).await;
    let now = clock::unix_ms();
    let body =
        wire::CredentialBody { user: "ann".into(), expires_ms: now + 30 * 86_400_000, ..Default::default() };
    let token = KeyRing::new(&set).seal(Purpose::Credential, &body, [1; 12], now).unwrap();
    for table in [buslane_store::Table::System, buslane_store::Table::Keys] {
        let stored = buslane_store::Kv::scan(&*engine, table, b"", None, 100).unwrap();
        assert!(
            stored.iter().all(|(_, v)| !contains(&v.value, &set.keys[0].secret)),
            "in the clear in {table:?}"
        );
    }
    let world = world.restart_on(engine.reopen().unwrap()).await;
    let again = KeyRing::new(&keys(&world).await);
    assert_eq!(
        again.open::<wire::CredentialBody>(Purpose::Credential, &token, now + 29 * 86_400_000),
        Ok(body)
    );
    world.stop().await;
}
