//! The client with the real roles: gateway, session manager, backend and store, in one process and over real QUIC.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use buslane_chassis::oversee::DrainWish;
use buslane_client::{
    AppState, Change, Client, CloseReason, Content, EnrolRight, Error, Event, NotifyMode, NotifySettings,
    Options, Posture, Role, SendState, State, Storage,
};
use buslane_shared::id::RoomId;
use buslane_shared::overload::orders::Kind;
use buslane_shared::refusal::Code;
use support::relay::Weather;
use support::up::{ADVERTISED, Site};
use support::*;

fn closed_by(code: Code) -> impl FnMut(&State) -> bool {
    move |s| matches!(s, State::Closed { reason: CloseReason::Refused(r) } if r.code == code)
}

/// Where clients look for what listens at `addr`.
fn advertised(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(ADVERTISED.parse().unwrap(), addr.port())
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> &'static str {
    result.unwrap_err().name()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_and_everything_around_it() {
    let folder = tempfile::tempdir().unwrap();
    let up = Site::new(folder.path()).up(|_| {}).await;
    let (alice, bob) = (connected(up.options("alice")).await, connected(up.options("bob")).await);
    let room = alice.room_direct(bob.user()).await.unwrap();
    let (mut of_alice, mut of_bob) = (alice.events(), bob.events());
    let receipt = alice.send(room.id, "hello").await.unwrap().receipt().await.unwrap();
    assert_eq!((receipt.seq, receipt.duplicate), (1, false));
    let heard = messages(&mut of_bob, 1).await.remove(0);
    assert_eq!((heard.text(), heard.notify, heard.sender == *alice.user()), (Some("hello"), true, true));
    bob.mark_read(room.id, 1);
    let read = event(&mut of_alice, |e| match e {
        Event::Outbox { client_id, state: SendState::Read, .. } => Some(client_id),
        _ => None,
    });
    assert_eq!(read.await, receipt.client_id);
    let counts = alice.read_counts(room.id, 1, 1).await.unwrap();
    assert_eq!(counts.unread, [0]);
    bob.send(room.id, "hello yourself").await.unwrap();
    event(&mut of_alice, |e| matches!(e, Event::Message(m) if m.seq == 2).then_some(())).await;
    let history = bob.history(room.id, 0, 10).await.unwrap();
    assert_eq!(texts(&history.messages), ["hello yourself", "hello"]);

    let carol = connected(up.options("carol")).await;
    let group = alice.create_room("trip", &[bob.user().clone()]).await.unwrap().id;
    let joined = event(&mut of_bob, |e| match e {
        Event::Message(m) if m.room == group => Some(m.content),
        _ => None,
    });
    assert!(matches!(joined.await, Content::Membership { change: Change::Created, .. }));
    assert_eq!(refused(carol.history(group, 0, 10).await), "not_a_member");
    assert_eq!(refused(carol.join(group).await), "not_invited");
    alice.invite(group, &[carol.user().clone()]).await.unwrap();
    assert_eq!(carol.join(group).await.unwrap().role, Role::Member);
    let mut names: Vec<_> =
        alice.members(group).await.unwrap().into_iter().map(|m| m.user.to_string()).collect();
    names.sort();
    assert_eq!(names, ["alice", "bob", "carol"]);
    let quiet = NotifySettings { mode: NotifyMode::None.into(), ..Default::default() };
    carol.set_notify(group, quiet).await.unwrap();
    let mut of_carol = carol.events();
    alice.send_mentioning(group, "who drives?", vec!["bob".to_owned()]).await.unwrap();
    let heard = event(&mut of_carol, |e| match e {
        Event::Message(m) if m.text() == Some("who drives?") => Some(m),
        _ => None,
    });
    assert!(!heard.await.notify);
    alice.kick(group, carol.user()).await.unwrap();
    event(&mut of_carol, |e| (e == Event::RoomChanged { room: group, role: None }).then_some(())).await;
    assert_eq!(refused(carol.send(group, "?").await.unwrap().receipt().await), "not_a_member");
    bob.leave(group).await.unwrap();
    assert_eq!(bob.rooms().await.unwrap().len(), 1);

    bob.block(alice.user()).await.unwrap();
    assert_eq!(bob.blocked().await.unwrap(), [alice.user().clone()]);
    assert_eq!(refused(alice.send(room.id, "?").await.unwrap().receipt().await), "blocked");
    bob.unblock(alice.user()).await.unwrap();
    alice.send(room.id, "!").await.unwrap().receipt().await.unwrap();
    assert_eq!(refused(alice.room_direct(&"nobody".parse().unwrap()).await), "unknown_user");
    assert_eq!(refused(alice.describe_room(RoomId::from_bytes([9; 16])).await), "unknown_room");
    for client in [alice, bob, carol] {
        client.close().await;
    }
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_of_a_user_see_the_same_and_a_revoked_one_is_silent() {
    let folder = tempfile::tempdir().unwrap();
    let up = Site::new(folder.path()).up(|_| {}).await;
    let (phone, bob) = (connected(up.options("alice")).await, connected(up.options("bob")).await);
    let code = phone.make_code().await.unwrap().code;
    let tablet = connected(Options { enrol: EnrolRight::Code(code), ..up.options("alice") }).await;
    let room = phone.room_direct(bob.user()).await.unwrap().id;
    let mut of_tablet = tablet.events();
    phone.send(room, "from the phone").await.unwrap();
    let heard = messages(&mut of_tablet, 1).await.remove(0);
    assert_eq!((heard.text(), heard.sender == *phone.user()), (Some("from the phone"), true));
    let devices = phone.devices().await.unwrap();
    assert_eq!(devices.len(), 2);
    assert_eq!(devices.iter().find(|d| d.current).unwrap().id, phone.device());
    let began = std::time::Instant::now();
    phone.revoke_device(tablet.device()).await.unwrap();
    until(&tablet, closed_by(Code::Revoked)).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    phone.ping().await.unwrap();
    for client in [phone, bob, tablet] {
        client.close().await;
    }
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_device_replaces_it_and_the_older_one_stays_away() {
    let folder = tempfile::tempdir().unwrap();
    let up = Site::new(folder.path()).up(|_| {}).await;
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let alice = connected(up.options_in("alice", &first)).await;
    alice.close().await;
    drop(alice);
    std::fs::create_dir(&second).unwrap();
    for file in std::fs::read_dir(&first).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), second.join(file.file_name())).unwrap();
    }
    let older = connected(up.options_in("alice", &first)).await;
    let newer = connected(up.options_in("alice", &second)).await;
    until(&older, closed_by(Code::Replaced)).await;
    newer.ping().await.unwrap();
    newer.close().await;
    older.close().await;
    up.stop().await;
}

/// Two people write to each other while `disturb` happens; in the end both have everything, once, in one order.
async fn converse(alice: &Client, bob: &Client, count: usize, mut disturb: impl AsyncFnMut(usize)) {
    let room = alice.room_direct(bob.user()).await.unwrap().id;
    let (mut of_alice, mut of_bob) = (alice.events(), bob.events());
    let mut receipts = Vec::new();
    for n in 0..count {
        receipts.push(alice.send(room, format!("a{n}")).await.unwrap());
        receipts.push(bob.send(room, format!("b{n}")).await.unwrap());
        disturb(n).await;
    }
    let (one, other) = tokio::join!(messages(&mut of_alice, 2 * count), messages(&mut of_bob, 2 * count));
    for receipt in receipts {
        let id = receipt.client_id();
        let receipt = receipt.receipt().await.unwrap();
        assert_eq!(one[receipt.seq as usize - 1].client_id, id, "a receipt names the place of its message");
    }
    assert_eq!(texts(&one), texts(&other));
    assert_eq!(one.iter().map(|m| m.seq).collect::<Vec<_>>(), (1..=2 * count as u64).collect::<Vec<_>>());
    let different: HashSet<_> = one.iter().map(|m| m.client_id).collect();
    assert_eq!(different.len(), 2 * count);
    for who in ["a", "b"] {
        let own: Vec<_> = texts(&one).into_iter().filter(|t| t.starts_with(who)).collect();
        assert_eq!(
            own,
            (0..count).map(|n| format!("{who}{n}")).collect::<Vec<_>>(),
            "the order of the sends"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped_and_started_again_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path());
    let mut up = Some(site.up(|c| c.times.drain_ms = 100).await);
    let options = |user: &str| up.as_ref().unwrap().options(user);
    let (alice, bob) = (connected(options("alice")).await, connected(options("bob")).await);
    converse(&alice, &bob, 60, async |n| {
        if n % 20 == 10 {
            up.take().unwrap().stop().await;
            up = Some(site.up(|c| c.times.drain_ms = 100).await);
        }
    })
    .await;
    alice.close().await;
    bob.close().await;
    up.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_network_changes_nothing_but_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let up = Site::new(folder.path()).up(|c| c.advertise = Some(ADVERTISED.to_owned())).await;
    let relay = Relay::between(advertised(up.front), up.front, 11).await;
    let watchful = |user| Options { silence_limit: Duration::from_millis(800), ..up.options(user) };
    let (alice, bob) = (connected(watchful("alice")).await, connected(watchful("bob")).await);
    let mut resumed = alice.state();
    let bad = Weather { loss: 0.03, jitter: Duration::from_millis(15), blackhole: false };
    relay.set(bad);
    converse(&alice, &bob, 60, async |n| match n {
        15 => relay.rebind(),
        30 => {
            relay.set(Weather { blackhole: true, ..bad });
            until(&alice, |s| !s.is_up()).await;
            relay.set(bad);
            let up_again =
                tokio::time::timeout(LIMIT, resumed.wait_for(State::is_up)).await.unwrap().unwrap().clone();
            assert!(matches!(up_again, State::Connected { resumed: true, .. }), "{up_again:?}");
        }
        _ => {}
    })
    .await;
    alice.close().await;
    bob.close().await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_held_no_more_is_suspended_and_catches_up() {
    let folder = tempfile::tempdir().unwrap();
    let change = |c: &mut buslane_session_manager::Config| {
        c.advertise = Some(ADVERTISED.to_owned());
        c.times.resume_window_ms = 0;
    };
    let up = Site::new(folder.path()).up(change).await;
    let relay = Relay::between(advertised(up.front), up.front, 3).await;
    let calm = Relay::between(advertised(up.wake), up.wake, 4).await;
    // Longer than a busy machine stands still: a server that answers late is no network that carries nothing.
    let watchful = Options { silence_limit: Duration::from_secs(2), ..up.options("alice") };
    let alice = connected(watchful).await;
    // Bob comes by the other port, where the network is calm. His messages share what is written to the disk, which may be slow.
    let of_bob = Options { app_state: AppState::Background, in_flight_per_room: 64, ..up.options("bob") };
    let bob = connected(of_bob).await;
    let room = bob.room_direct(alice.user()).await.unwrap().id;
    let mut of_alice = alice.events();
    bob.send(room, "0").await.unwrap();
    messages(&mut of_alice, 1).await;
    relay.set(Weather { blackhole: true, ..Weather::default() });
    let ping = tokio::spawn({
        let alice = alice.clone();
        async move { alice.ping().await }
    });
    until(&alice, |s| !s.is_up()).await;
    for n in 1..=400 {
        bob.send(room, n.to_string()).await.unwrap();
    }
    eventually("all sent", || bob.outbox().is_empty()).await;
    let mut states = alice.state();
    relay.set(Weather::default());
    let suspended = tokio::time::timeout(LIMIT, states.wait_for(|s| matches!(s, State::Suspended { .. })));
    drop(suspended.await.unwrap().unwrap());
    let heard = messages(&mut of_alice, 400).await;
    assert_eq!(texts(&heard), (1..=400).map(|n| n.to_string()).collect::<Vec<_>>());
    // She may be back by the other port already, and on her way to this one.
    until(&alice, |s| matches!(s, State::Connected { .. })).await;
    assert!(ping.await.unwrap().is_ok(), "a question is repeated");
    alice.close().await;
    bob.close().await;
    drop(calm);
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_and_cursors_survive_the_app_and_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path());
    let up = site.up(|c| c.times.drain_ms = 100).await;
    let home = folder.path().join("alice");
    let alice = connected(up.options_in("alice", &home)).await;
    let bob = connected(up.options("bob")).await;
    let room = alice.room_direct(bob.user()).await.unwrap().id;
    bob.send(room, "one").await.unwrap().receipt().await.unwrap();
    let mut of_alice = alice.events();
    messages(&mut of_alice, 1).await;
    // To ask for more is to have dealt with it.
    let _ = tokio::time::timeout(Duration::from_millis(100), of_alice.next()).await;
    up.stop().await;
    until(&alice, |s| !s.is_up()).await;
    for n in 0..5 {
        alice.send(room, format!("offline {n}")).await.unwrap();
    }
    alice.close().await;
    drop((alice, of_alice));
    let up = site.up(|_| {}).await;
    let alice = Client::open(up.options_in("alice", &home)).await.unwrap();
    let mut of_alice = alice.events();
    let heard = messages(&mut of_alice, 5).await;
    assert_eq!(texts(&heard), (0..5).map(|n| format!("offline {n}")).collect::<Vec<_>>());
    assert_eq!(heard[0].seq, 2, "what was dealt with does not come again");
    assert!(alice.fetch_pending(LIMIT).await && alice.outbox().is_empty());
    alice.close().await;
    bob.close().await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_does_not_listen_catches_up_when_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let up = Site::new(folder.path()).up(|_| {}).await;
    let pipeline = Options { in_flight: 200, in_flight_per_room: 200, ..up.options("bob") };
    let (alice, bob) = (connected(up.options("alice")).await, connected(pipeline).await);
    let room = alice.room_direct(bob.user()).await.unwrap().id;
    let count = 3_000;
    for n in 0..count {
        bob.send(room, n.to_string()).await.unwrap();
    }
    eventually("all sent", || bob.outbox().is_empty()).await;
    let heard = messages(&mut alice.events(), count).await;
    assert_eq!(texts(&heard), (0..count).map(|n| n.to_string()).collect::<Vec<_>>());
    alice.close().await;
    bob.close().await;
    up.stop().await;
}

/// Those behind a refused message come to a bucket that has filled again meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_refused_for_a_time_is_not_overtaken_by_those_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path());
    site.limits.user_sends_per_s = 500;
    site.limits.user_sends_burst = 20;
    let up = site.up(|_| {}).await;
    let pipeline = Options { in_flight: 200, in_flight_per_room: 200, ..up.options("bob") };
    let (alice, bob) = (connected(up.options("alice")).await, connected(pipeline).await);
    let room = alice.room_direct(bob.user()).await.unwrap().id;
    let count = 400;
    for n in 0..count {
        bob.send(room, n.to_string()).await.unwrap();
    }
    eventually("all sent", || bob.outbox().is_empty()).await;
    let heard = messages(&mut alice.events(), count).await;
    assert_eq!(texts(&heard), (0..count).map(|n| n.to_string()).collect::<Vec<_>>());
    alice.close().await;
    bob.close().await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_whose_state_is_identity_only_is_the_same_device() {
    let folder = tempfile::tempdir().unwrap();
    let up = Site::new(folder.path()).up(|_| {}).await;
    let options =
        || Options { storage: Storage::IdentityOnly(folder.path().join("tool")), ..up.options("tool") };
    let first = connected(options()).await;
    let device = first.device();
    first.close().await;
    drop(first);
    let again = connected(options()).await;
    assert_eq!(again.device(), device);
    assert_eq!(again.devices().await.unwrap().len(), 1);
    again.close().await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_an_emergency_people_talk_and_phones_return_in_their_slots() {
    let folder = tempfile::tempdir().unwrap();
    let up = Site::new(folder.path()).up(|_| {}).await;
    let (alice, bob) = (connected(up.options("alice")).await, connected(up.options("bob")).await);
    let room = alice.room_direct(bob.user()).await.unwrap().id;
    up.order(Kind::Emergency);
    let mut conditions = alice.conditions();
    let told = conditions.wait_for(|c| c.posture == Posture::Emergency);
    assert!(
        !tokio::time::timeout(LIMIT, told).await.expect("the news in time").unwrap().receipt_batch.is_zero()
    );

    // A phone that wakes is put off once, and let in at its time.
    let woken = Options { app_state: AppState::Background, ..up.options("carol") };
    let carol = Client::open(woken).await.unwrap();
    let mut states = carol.state();
    let mut put_off = 0;
    let arrived = async {
        loop {
            let state = states.borrow_and_update().clone();
            match state {
                State::Connecting { cause: Some(cause), .. } => {
                    let overloaded = cause.overloaded().unwrap_or_else(|| panic!("{cause}"));
                    assert!(overloaded.retry_after.is_some());
                    put_off += 1;
                }
                state if state.is_up() => break,
                _ => {}
            }
            states.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LIMIT, arrived).await.expect("in its slot");
    assert!(put_off <= 1, "put off {put_off} times");

    // People come and talk all the while, and nobody loses a session.
    let dora = connected(up.options("dora")).await;
    for n in 0..20 {
        alice.send(room, n.to_string()).await.unwrap().receipt().await.unwrap();
    }
    assert!(alice.state().borrow().is_up() && bob.state().borrow().is_up());

    up.order(Kind::Normal);
    let told = conditions.wait_for(|c| c.posture == Posture::Normal);
    drop(tokio::time::timeout(LIMIT, told).await.expect("the news in time").unwrap());
    for client in [alice, bob, carol, dora] {
        client.close().await;
    }
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_began_at_the_back_is_at_the_front_once_the_app_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let up = Site::new(folder.path()).up(|_| {}).await;
    let woken = Options { app_state: AppState::Background, ..up.options("alice") };
    let (alice, bob) = (connected(woken).await, connected(up.options("bob")).await);
    let room = alice.room_direct(bob.user()).await.unwrap().id;
    let mut of_alice = alice.events();
    let mut states = alice.state();
    alice.enter_foreground();
    for n in 0..50 {
        bob.send(room, n.to_string()).await.unwrap();
    }
    let moved = states.wait_for(|s| matches!(s, State::Connected { resumed: true, .. }));
    drop(tokio::time::timeout(LIMIT, moved).await.expect("it moves").unwrap());
    let heard = messages(&mut of_alice, 50).await;
    assert_eq!(texts(&heard), (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
    alice.send(room, "here").await.unwrap().receipt().await.unwrap();
    alice.close().await;
    bob.close().await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_and_is_taken_back_costs_its_clients_a_wait_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    // The only one there is: nobody else can take them meanwhile.
    let up = Site::new(folder.path()).up(|config| config.times.drain_ms = 500).await;
    let (alice, bob) = (connected(up.options("alice")).await, connected(up.options("bob")).await);
    let room = alice.room_direct(bob.user()).await.unwrap().id;
    let mut of_bob = bob.events();
    up.overseer.drain(DrainWish::Begin { per_s: Some(50.0) }).unwrap();
    for client in [&alice, &bob] {
        until(client, |state| !state.is_up()).await;
    }
    eventually("nobody is left", || up.overseer.drain_state().sessions == 0).await;
    let meanwhile = alice.send(room, "meanwhile").await.unwrap();
    up.overseer.drain(DrainWish::End).unwrap();
    let receipt = meanwhile.receipt().await.unwrap();
    assert_eq!((receipt.seq, receipt.duplicate), (1, false));
    assert_eq!(texts(&messages(&mut of_bob, 1).await), ["meanwhile"]);

    // One session is ended: its client says why, and when it will be back. The drain has cost it the session it had, and what is
    // said of the end of a session comes once it has read what it missed.
    until(&alice, |state| matches!(state, State::Connected { .. })).await;
    let device = up.overseer.sessions("alice").remove(0).device;
    assert!(up.overseer.disconnect("alice", &device));
    let state = until(&alice, |state| !state.is_up()).await;
    let State::Reconnecting { next_in, cause, .. } = &state else { panic!("{state:?}") };
    assert_eq!(cause.name(), "disconnected");
    assert!(*next_in >= Duration::from_secs(5), "{next_in:?}");
    assert!(bob.state().borrow().is_up());
    alice.close().await;
    bob.close().await;
    up.stop().await;
}
