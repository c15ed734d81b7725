//! Lane passes: who gets which, and what they are worth at the gateway's own door.

use buslane_chassis::clock;
use buslane_gateway::Config;
use buslane_gateway::config::{Door, Enrolment, Limits, Passes, Rate};
use buslane_shared::mark::{Kind, Lane, Mark, PASS_LIFE_MS};
use buslane_shared::refusal::Code;
use buslane_shared::wire;

use crate::stand::{Client, Device, Stand, key};

async fn stand(change: impl FnOnce(&mut Config)) -> Stand {
    let mut config = Config { enrolment: Enrolment::Open, ..Config::default() };
    change(&mut config);
    Stand::with(config).await
}

async fn enter(client: &Client, device: &Device, app_state: wire::AppState) -> wire::Ticket {
    let entry = wire::Enter { app_state: app_state.into(), ..client.entry(device) };
    client.enter_as(entry).await.unwrap()
}

fn read(stand: &Stand, passes: &wire::Passes) -> Vec<Mark> {
    let ring = stand.backend.ring();
    passes.marks.iter().map(|mark| ring.marks().read(mark, clock::unix_ms()).unwrap()).collect()
}

#[tokio::test]
async fn a_ticket_brings_passes_of_the_class_that_was_asked_for() {
    let stand = stand(|config| config.passes = Passes { batch: 4 }).await;
    let alice = stand.enrol("alice").await;
    let client = stand.connect().await;
    for (app_state, lane) in [
        (wire::AppState::Foreground, Lane::Front),
        (wire::AppState::Background, Lane::Wake),
        (wire::AppState::Unspecified, Lane::Wake),
    ] {
        let passes = enter(&client, &alice, app_state).await.passes.unwrap();
        assert_eq!(u64::from(passes.valid_ms), PASS_LIFE_MS);
        let marks = read(&stand, &passes);
        assert_eq!(marks.len(), 4);
        assert!(marks.iter().all(|m| m.kind == Kind::Pass && m.lane() == lane && m.node.is_none()));
        let mut bytes: Vec<_> = passes.marks.iter().map(|mark| mark[4..].to_vec()).collect();
        bytes.sort_unstable();
        bytes.dedup();
        assert_eq!(bytes.len(), 4, "no two are alike");
    }
    stand.finish().await;
}

#[tokio::test]
async fn who_claims_too_often_that_somebody_looks_is_background() {
    let stand = stand(|config| config.limits.claims = Rate { burst: 2, per_minute: 1 }).await;
    let (alice, bob) = (stand.enrol("alice").await, stand.enrol("bob").await);
    let client = stand.connect().await;
    let mut lanes = Vec::new();
    for _ in 0..4 {
        let passes = enter(&client, &alice, wire::AppState::Foreground).await.passes.unwrap();
        lanes.push(read(&stand, &passes)[0].lane());
    }
    assert_eq!(lanes, [Lane::Front, Lane::Front, Lane::Wake, Lane::Wake]);
    let passes = enter(&client, &bob, wire::AppState::Foreground).await.passes.unwrap();
    assert_eq!(read(&stand, &passes)[0].lane(), Lane::Front, "another user has claims of his own");
    stand.finish().await;
}

#[tokio::test]
async fn what_phones_ask_by_themselves_does_not_use_up_what_their_user_may_ask() {
    let stand = stand(|config| config.limits.user_background = Rate { burst: 2, per_minute: 1 }).await;
    let alice = stand.enrol("alice").await;
    let client = stand.connect().await;
    let woken = || wire::Enter { app_state: wire::AppState::Background.into(), ..client.entry(&alice) };
    for _ in 0..2 {
        client.enter_as(woken()).await.unwrap();
    }
    assert_eq!(client.enter_as(woken()).await.unwrap_err().code(), Code::RateLimited);
    assert!(client.enter(&alice).await.is_ok());
    stand.finish().await;
}

#[tokio::test]
async fn with_a_pass_there_is_room_where_strangers_meet_silence_and_once_only() {
    let stand = stand(|config| {
        config.door = Door { connections_max: 4, reserve_percent: 50, ..Door::default() };
    })
    .await;
    let alice = stand.enrol("alice").await;
    let (first, second) = (stand.connect().await, stand.connect().await);
    let ticket = enter(&first, &alice, wire::AppState::Foreground).await;
    enter(&second, &alice, wire::AppState::Background).await;
    let passes = ticket.passes.unwrap().marks;
    assert!(stand.connect_with(&[9; 20]).await.is_none(), "what is not a pass is worth nothing");
    let foreign = buslane_shared::token::KeyRing::new(&wire::KeySet { keys: vec![key(1, 99)] });
    let now_ms = clock::unix_ms();
    let forged = Mark::pass(buslane_shared::class::Class::Look, now_ms, 1);
    let forged = foreign.marks().make(&forged, now_ms).unwrap();
    assert!(stand.connect_with(&forged).await.is_none());
    let third = stand.connect_with(&passes[0]).await.expect("the places that are kept");
    assert!(third.enter(&alice).await.is_ok());
    assert!(stand.connect_with(&passes[0]).await.is_none(), "it was used");
    assert!(stand.connect_with(&passes[1]).await.is_some());
    drop((first, second, third));
    stand.finish().await;
}

#[tokio::test]
async fn a_person_is_not_held_off_for_the_phones_at_the_same_address() {
    let limits = Limits { address: Rate { burst: 6, per_minute: 1 }, ..Limits::default() };
    let stand = stand(|config| config.limits = limits).await;
    let alice = stand.enrol("alice").await;
    let client = stand.connect().await;
    let passes = enter(&client, &alice, wire::AppState::Foreground).await.passes.unwrap().marks;
    // The phones next to her use up what the address has, and are held off.
    for _ in 0..30 {
        let _ = client.exchange(&[0, 0, 0, 0]).await;
    }
    let nobody = stand.connect_with(&[9; 20]).await;
    assert!(nobody.is_none());
    let hers = stand.connect_with(&passes[0]).await.expect("she is heard");
    assert!(hers.enter(&alice).await.is_ok());
    stand.finish().await;
}
