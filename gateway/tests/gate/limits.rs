//! Who comes too often is told when to return, and disturbs nobody else.

use std::net::Ipv4Addr;
use std::time::Duration;

use buslane_gateway::Config;
use buslane_gateway::config::{Enrolment, Limits, Rate};
use buslane_shared::refusal::Code;
use buslane_shared::wire;
use buslane_shared::wire::enrol::Right;
use tokio::time::timeout;

use crate::stand::{Device, LIMIT, Stand, refusal};

const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

async fn stand(change: impl FnOnce(&mut Limits)) -> Stand {
    let mut limits = Limits::default();
    change(&mut limits);
    Stand::with(Config { enrolment: Enrolment::Open, limits, ..Config::default() }).await
}

/// Refused for coming too often, and for how many milliseconds.
fn wait_ms<T: std::fmt::Debug>(outcome: Result<T, wire::Refusal>) -> u32 {
    let refusal = outcome.unwrap_err();
    assert_eq!(refusal.code(), Code::RateLimited, "{refusal:?}");
    assert!(refusal.retryable && refusal.retry_after_ms > 0);
    refusal.retry_after_ms
}

#[tokio::test]
async fn an_address_has_its_share_and_gets_it_back() {
    let stand = stand(|l| l.address = Rate { burst: 6, per_minute: 60 }).await;
    // Enrolling takes two of the six: a connection and a request.
    let alice = stand.enrol("alice").await;
    let client = stand.connect().await;
    for _ in 0..3 {
        assert!(client.enter(&alice).await.is_ok());
    }
    let wait = wait_ms(client.enter(&alice).await);
    assert!((1..=1_250).contains(&wait), "{wait}");
    assert!(stand.connect_from(OTHER).await.enter(&alice).await.is_ok(), "another address has its own");
    timeout(LIMIT, async {
        while client.enter(&alice).await.is_err() {
            tokio::time::sleep(Duration::from_millis(wait.into())).await;
        }
    })
    .await
    .unwrap();
    stand.finish().await;
}

#[tokio::test]
async fn an_address_that_does_not_listen_meets_silence() {
    let stand = stand(|l| l.address = Rate { burst: 3, per_minute: 1 }).await;
    let alice = stand.enrol("alice").await;
    // The third of the three is this connection; from here on everything is refused, and then not even that.
    let client = stand.connect().await;
    let mut refused = 0;
    while let Some(answer) = client.exchange(&[0, 0, 0, 0]).await {
        assert_eq!(refusal(Some(answer)).code(), Code::RateLimited);
        refused += 1;
        assert!(refused < 100, "it is answered for ever");
    }
    assert_eq!(refused, 21, "the one that begins the hold, and twenty within it");
    assert_eq!(client.closed_with().await, Code::RateLimited);
    let endpoint = stand.endpoint(Ipv4Addr::LOCALHOST);
    let ignored = endpoint.connect(stand.address, "localhost").unwrap();
    assert!(timeout(Duration::from_millis(400), ignored).await.is_err(), "it is not even heard");
    assert!(stand.connect_from(OTHER).await.enter(&alice).await.is_ok());
    stand.finish().await;
}

#[tokio::test]
async fn an_address_that_only_opens_connections_meets_silence_too() {
    let stand = stand(|l| l.address = Rate { burst: 3, per_minute: 1 }).await;
    let mut open = Vec::new();
    // Three within the rate, and as many as would have been answered.
    for _ in 0..23 {
        open.push(stand.connect().await);
    }
    let endpoint = stand.endpoint(Ipv4Addr::LOCALHOST);
    let refused = async {
        loop {
            let connecting = endpoint.connect(stand.address, "localhost").unwrap();
            if timeout(Duration::from_millis(400), connecting).await.is_err() {
                return;
            }
        }
    };
    timeout(LIMIT, refused).await.expect("it is not even heard in the end");
    drop(stand.connect_from(OTHER).await);
    stand.finish().await;
}

#[tokio::test]
async fn a_user_has_a_share_wherever_he_comes_from_and_nobody_else_can_use_it_up() {
    let stand = stand(|l| l.user = Rate { burst: 2, per_minute: 1 }).await;
    let alice = stand.enrol("alice").await;
    let bob = stand.enrol("bob").await;
    // Somebody has alice's credential and not her key.
    let thief = Device { credential: alice.credential.clone(), ..Device::new("alice") };
    for _ in 0..4 {
        let refused = stand.connect().await.enter(&thief).await.unwrap_err();
        assert_eq!(refused.code(), Code::BadProof);
    }
    assert!(stand.connect().await.enter(&alice).await.is_ok());
    assert!(stand.connect_from(OTHER).await.enter(&alice).await.is_ok());
    let wait = wait_ms(stand.connect_from(OTHER).await.enter(&alice).await);
    assert!(wait > 30_000 && wait <= 75_000, "{wait}");
    assert!(stand.connect().await.enter(&bob).await.is_ok());
    stand.finish().await;
}

#[tokio::test]
async fn a_name_is_not_guessed_at_for_long() {
    let stand = stand(|l| l.enrol_name = Rate { burst: 3, per_minute: 1 }).await;
    for n in 0..3 {
        let guess = Right::Code(format!("guess{n}"));
        // From a new address each time.
        let client = stand.connect_from(Ipv4Addr::new(127, 0, 1, n)).await;
        assert_eq!(client.enrol(&Device::new("alice"), guess).await.unwrap_err().code(), Code::BadCode);
    }
    let client = stand.connect().await;
    wait_ms(client.enrol(&Device::new("alice"), Right::Code("guess".to_owned())).await);
    assert!(client.enrol(&Device::new("bob"), Right::Open(true)).await.is_ok());
    stand.finish().await;
}

#[tokio::test]
async fn an_address_that_fails_again_and_again_is_held_off() {
    let stand = stand(|l| {
        l.failures = Rate { burst: 3, per_minute: 1 };
        l.hold_s = 90;
    })
    .await;
    let alice = stand.enrol("alice").await;
    let client = stand.connect().await;
    for _ in 0..4 {
        let forged = wire::Enter { proof: vec![1; 64].into(), ..client.entry(&alice) };
        assert_eq!(client.enter_as(forged).await.unwrap_err().code(), Code::BadProof);
    }
    let wait = wait_ms(client.enter(&alice).await);
    assert!(wait > 80_000 && wait <= 112_500, "{wait}");
    assert!(stand.connect_from(OTHER).await.enter(&alice).await.is_ok());
    stand.finish().await;
}
