//! Roles in processes of their own, over real TCP and real certificates.

use std::net::SocketAddr;

use buslane_shared::class::Class;
use buslane_shared::refusal::Code;
use buslane_shared::wire;
use buslane_shared::wire::answer::Result as Answer;
use buslane_shared::wire::request::Op;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::api::BackendApi;
use crate::shutdown::Shutdown;
use crate::testing::{self, Recorder, call, mtls, mtls_named, request, send, until};
use crate::tls::{Authority, Mtls, Role};

/// A backend that is served, and everything to reach it.
struct World {
    backend: std::sync::Arc<Recorder>,
    authority: Authority,
    shutdown: Shutdown,
    addr: SocketAddr,
}

impl World {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let world = Self {
            backend: Recorder::new(),
            authority: Authority::generate().unwrap(),
            shutdown: Shutdown::new(),
            addr,
        };
        world.serve(listener);
        world
    }

    fn serve(&self, listener: TcpListener) {
        let (backend, shutdown) = (self.backend.shared(), self.shutdown.clone());
        let mtls = mtls(&self.authority, Role::Backend);
        self.shutdown
            .tracker()
            .spawn(async move { serve(listener, &mtls, backend, &shutdown).await.unwrap() });
    }

    fn remote(&self, mtls: &Mtls) -> RemoteBackend {
        RemoteBackend::new(&self.addr.to_string(), mtls).unwrap()
    }

    fn manager(&self) -> RemoteBackend {
        self.remote(&mtls(&self.authority, Role::SessionManager))
    }

    async fn end(self) {
        assert!(self.shutdown.finish(Duration::from_secs(10)).await, "a task of the server never ended");
    }
}

fn refusal(answer: wire::Answer) -> wire::Refusal {
    match answer.result {
        Some(Answer::Refusal(refusal)) => refusal,
        other => panic!("no refusal: {other:?}"),
    }
}

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_request_is_relayed_with_its_terms() {
    let world = World::new().await;
    let remote = world.manager();
    let answer = remote.relay(call(SOON), request(77, Op::Ping(wire::Ping {}))).await;
    let Some(Answer::Pong(pong)) = answer.result else { panic!("{answer:?}") };
    assert_eq!(answer.id, 77);
    assert!((1..=5000).contains(&pong.now_ms), "{} ms were left at the backend", pong.now_ms);
    let (seen, _) = world.backend.calls.lock().pop().unwrap();
    let sent = call(SOON);
    assert_eq!((seen.user, seen.device, seen.session), (sent.user, sent.device, sent.session));
    assert_eq!((seen.class, seen.trace), (Class::Talk, 7));
    drop(remote);
    world.end().await;
}

#[tokio::test]
async fn background_is_relayed_as_well() {
    let world = World::new().await;
    let remote = world.manager();
    let wake = crate::api::Call { class: Class::Wake, ..call(SOON) };
    let answer = remote.relay(wake, send(1)).await;
    assert!(matches!(answer.result, Some(Answer::Receipt(_))), "{answer:?}");
    assert_eq!(world.backend.calls.lock().pop().unwrap().0.class, Class::Wake);
    drop(remote);
    world.end().await;
}

#[tokio::test]
async fn requests_of_a_session_reach_the_backend_in_their_order() {
    let world = World::new().await;
    let remote = world.manager();
    let calls = (0..2000).map(|id| remote.relay(call(SOON), send(id)));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|a| matches!(a.result, Some(Answer::Receipt(_)))));
    let seen: Vec<u64> = world.backend.calls.lock().iter().map(|(_, request)| request.id).collect();
    assert!(seen.is_sorted() && seen.len() == 2000, "{} of 2000, shuffled", seen.len());
    drop(remote);
    world.end().await;
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_refused_at_the_deadline_and_given_up_at_the_backend() {
    let world = World::new().await;
    let remote = world.manager();
    let began = std::time::Instant::now();
    let answer = remote
        .relay(call(Duration::from_millis(150)), request(5, Op::ListDevices(wire::ListDevices {})))
        .await;
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(answer.id, 5);
    let refusal = refusal(answer);
    assert_eq!((refusal.code(), refusal.maybe_applied), (Code::Deadline, false));
    until("the backend's work is dropped", || *world.backend.given_up.lock() == 1).await;
    drop(remote);
    world.end().await;
}

#[tokio::test]
async fn a_call_without_time_left_is_not_made() {
    let world = World::new().await;
    let remote = world.manager();
    let refusal = refusal(remote.relay(call(Duration::ZERO), send(1)).await);
    assert_eq!((refusal.code(), refusal.maybe_applied), (Code::Deadline, false));
    assert!(world.backend.calls.lock().is_empty());
    drop(remote);
    world.end().await;
}

#[tokio::test]
async fn a_backend_that_is_away_is_a_typed_and_certain_no() {
    let world = World::new().await;
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let remote =
        RemoteBackend::new(&nowhere.to_string(), &mtls(&world.authority, Role::SessionManager)).unwrap();
    let refusal = refusal(remote.relay(call(SOON), send(1)).await);
    assert_eq!((refusal.code(), refusal.retryable, refusal.maybe_applied), (Code::Unavailable, true, false));
    assert!(refusal.retry_after_ms > 0);
    world.end().await;
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_may_have_been_done() {
    let world = World::new().await;
    let remote = std::sync::Arc::new(world.manager());
    let asking = remote.clone();
    let kick = request(1, Op::Kick(wire::Kick::default()));
    let write = tokio::spawn(async move { asking.relay(call(Duration::from_secs(30)), kick).await });
    let asking = remote.clone();
    let list = request(2, Op::ListDevices(wire::ListDevices {}));
    let read = tokio::spawn(async move { asking.relay(call(Duration::from_secs(30)), list).await });
    until("both are at work", || world.backend.calls.lock().len() == 2).await;
    world.end().await;
    let (write, read) = (refusal(write.await.unwrap()), refusal(read.await.unwrap()));
    assert_eq!((write.code(), write.maybe_applied), (Code::Unavailable, true));
    assert_eq!((read.code(), read.maybe_applied), (Code::Unavailable, false));
}

#[tokio::test]
async fn a_request_that_is_dropped_is_given_up_at_the_backend() {
    let world = World::new().await;
    let remote = world.manager();
    let waiting = remote.relay(call(SOON), request(1, Op::ListDevices(wire::ListDevices {})));
    let gone = tokio::time::timeout(Duration::from_millis(100), waiting).await;
    assert!(gone.is_err());
    until("the backend's work is dropped", || *world.backend.given_up.lock() == 1).await;
    assert!(matches!(remote.relay(call(SOON), send(1)).await.result, Some(Answer::Receipt(_))));
    drop(remote);
    world.end().await;
}

#[tokio::test]
async fn a_panic_ends_one_request_and_not_its_neighbours() {
    let world = World::new().await;
    let remote = world.manager();
    let (bad, good) = tokio::join!(
        remote.relay(call(SOON), request(1, Op::MakeCode(wire::MakeCode {}))),
        remote.relay(call(SOON), send(2)),
    );
    assert_eq!(bad.id, 1);
    assert_eq!(refusal(bad).code(), Code::Internal);
    assert!(matches!(good.result, Some(Answer::Receipt(_))), "{good:?}");
    drop(remote);
    world.end().await;
}

#[tokio::test]
async fn enrolments_and_their_refusals_keep_their_types() {
    let world = World::new().await;
    let gateway = world.remote(&mtls(&world.authority, Role::Gateway));
    let enrol = |user: &str| wire::EnrolDevice { user: user.to_owned(), ..Default::default() };
    assert_eq!(gateway.enrol(enrol("alice")).await.unwrap().enrolled_at_ms, 5);
    assert_eq!(gateway.enrol(enrol("taken")).await.unwrap_err().code, Code::NameTaken);
    let bad = gateway.enrol(enrol("Bad")).await.unwrap_err();
    assert_eq!((bad.code, bad.field), (Code::BadField, "user"));
    drop(gateway);
    world.end().await;
}

#[tokio::test]
async fn roles_may_make_their_own_calls_only() {
    let world = World::new().await;
    let gateway = world.remote(&mtls(&world.authority, Role::Gateway));
    let relayed = refusal(gateway.relay(call(SOON), request(1, Op::Ping(wire::Ping {}))).await);
    assert_eq!(relayed.code(), Code::Unavailable);
    let (_up, reports) = mpsc::channel(1);
    assert!(gateway.link(reports).await.is_err());
    let manager = world.manager();
    assert!(manager.enrol(wire::EnrolDevice { user: "alice".into(), ..Default::default() }).await.is_err());
    assert!(world.backend.calls.lock().is_empty());
    assert!(world.backend.links.lock().is_empty());
    drop((gateway, manager));
    world.end().await;
}

#[tokio::test]
async fn strangers_stay_outside() {
    let world = World::new().await;
    let elsewhere = Authority::generate().unwrap();
    // A certificate of another system; one of ours without a role; a right one that believes another authority.
    let mut doubter = mtls(&world.authority, Role::SessionManager);
    doubter.roots = mtls(&elsewhere, Role::SessionManager).roots;
    let mut foreign = mtls(&elsewhere, Role::SessionManager);
    foreign.roots = mtls(&world.authority, Role::Backend).roots;
    for stranger in [foreign, mtls_named(&world.authority, "localhost"), doubter] {
        let remote = world.remote(&stranger);
        let refusal = refusal(remote.relay(call(SOON), request(1, Op::Ping(wire::Ping {}))).await);
        assert_eq!(refusal.code(), Code::Unavailable);
    }
    assert!(world.backend.calls.lock().is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_role_that_is_not_the_backend_is_not_believed() {
    let authority = Authority::generate().unwrap();
    let backend = Recorder::new();
    let shutdown = Shutdown::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let impostor = mtls(&authority, Role::Gateway);
    let (shared, ending) = (backend.shared(), shutdown.clone());
    shutdown.tracker().spawn(async move { serve(listener, &impostor, shared, &ending).await.unwrap() });
    let remote = RemoteBackend::new(&addr, &mtls(&authority, Role::SessionManager)).unwrap();
    let answer = remote.relay(call(SOON), send(1)).await;
    assert_eq!(refusal(answer).code(), Code::Unavailable);
    assert!(backend.calls.lock().is_empty());
    assert!(shutdown.finish(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_silent_connection_does_not_keep_others_out() {
    let world = World::new().await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(tokio::net::TcpStream::connect(world.addr).await.unwrap());
    }
    let answer = world.manager().relay(call(SOON), send(1)).await;
    assert!(matches!(answer.result, Some(Answer::Receipt(_))), "{answer:?}");
    world.end().await;
}

fn announce(name: &str) -> wire::FromManager {
    let node = wire::Node { name: name.to_owned(), ..Default::default() };
    wire::FromManager { kind: Some(wire::from_manager::Kind::Announce(node)) }
}

fn behind() -> wire::ToManager {
    wire::ToManager { kind: Some(wire::to_manager::Kind::AllBehind(true)) }
}

#[tokio::test]
async fn a_link_carries_both_ways_and_ends_for_the_manager_when_the_backend_drops_it() {
    let world = World::new().await;
    let remote = world.manager();
    let (up, reports) = mpsc::channel(4);
    up.send(announce("sm-1")).await.unwrap();
    let mut deliveries = remote.link(reports).await.unwrap();
    let (mut seen, down) = world.backend.take_link().unwrap();
    assert_eq!(seen.recv().await, Some(announce("sm-1")));
    down.send(behind()).await.unwrap();
    assert_eq!(deliveries.recv().await, Some(behind()));
    drop((down, seen));
    assert_eq!(deliveries.recv().await, None);
    up.closed().await;
    drop(remote);
    world.end().await;
}

#[tokio::test]
async fn a_link_ends_for_the_backend_when_the_manager_drops_either_end() {
    let world = World::new().await;
    let remote = world.manager();

    let (up, reports) = mpsc::channel(4);
    let deliveries = remote.link(reports).await.unwrap();
    let (mut seen, down) = world.backend.take_link().unwrap();
    drop(deliveries);
    tokio::time::timeout(SOON, down.closed()).await.expect("the backend is told");
    assert_eq!(tokio::time::timeout(SOON, seen.recv()).await.unwrap(), None);
    tokio::time::timeout(SOON, up.closed()).await.expect("the manager's own end is closed");

    let (up, reports) = mpsc::channel(4);
    let _deliveries = remote.link(reports).await.unwrap();
    let (mut seen, _down) = world.backend.take_link().unwrap();
    drop(up);
    assert_eq!(tokio::time::timeout(SOON, seen.recv()).await.unwrap(), None);
    drop((remote, _down));
    world.end().await;
}

#[tokio::test]
async fn a_slow_backend_slows_the_link_down_and_loses_nothing() {
    let world = World::new().await;
    let remote = world.manager();
    let (up, reports) = mpsc::channel(1);
    let _deliveries = remote.link(reports).await.unwrap();
    let (mut seen, _down) = world.backend.take_link().unwrap();
    let sender = tokio::spawn(async move {
        for n in 0..20_000u32 {
            up.send(announce(&n.to_string())).await.unwrap();
        }
    });
    for n in 0..20_000u32 {
        assert_eq!(seen.recv().await, Some(announce(&n.to_string())));
    }
    sender.await.unwrap();
    drop((remote, _down));
    world.end().await;
}

#[tokio::test]
async fn the_shutdown_ends_links_and_feeds() {
    let world = World::new().await;
    let remote = world.manager();
    let (_up, reports) = mpsc::channel(4);
    let mut deliveries = remote.link(reports).await.unwrap();
    let mut updates = remote.feed(wire::FeedRequest::default()).await.unwrap();
    assert!(updates.recv().await.is_some());
    world.end().await;
    assert_eq!(deliveries.recv().await, None);
    assert_eq!(updates.recv().await, None);
}

#[tokio::test]
async fn a_refused_feed_says_why() {
    let world = World::new().await;
    let remote = world.manager();
    let request = wire::FeedRequest { node: "unwelcome".into(), ..Default::default() };
    let refusal = remote.feed(request).await.unwrap_err();
    assert_eq!((refusal.code, refusal.retry_after_ms), (Code::Draining, 250));
    drop(remote);
    world.end().await;
}

#[tokio::test]
async fn after_a_restart_of_the_backend_calls_work_again() {
    let world = World::new().await;
    let remote = world.manager();
    assert!(matches!(remote.relay(call(SOON), send(1)).await.result, Some(Answer::Receipt(_))));
    let World { backend, authority, shutdown, addr } = world;
    assert!(shutdown.finish(Duration::from_secs(10)).await);
    let down = refusal(remote.relay(call(SOON), send(2)).await);
    assert_eq!(down.code(), Code::Unavailable);
    let world = World { backend, authority, shutdown: Shutdown::new(), addr };
    world.serve(TcpListener::bind(addr).await.unwrap());
    let limit = tokio::time::Instant::now() + SOON;
    while !matches!(remote.relay(call(SOON), send(3)).await.result, Some(Answer::Receipt(_))) {
        assert!(tokio::time::Instant::now() < limit, "the backend is back and not found");
    }
    drop(remote);
    world.end().await;
}

#[tokio::test]
async fn addresses_are_checked_at_once() {
    let mtls = mtls(&Authority::generate().unwrap(), Role::Gateway);
    for bad in ["", "backend", "http://backend:1", "a b:1"] {
        assert!(matches!(RemoteBackend::new(bad, &mtls), Err(RpcError::BadAddress(_))), "{bad:?}");
    }
    for good in ["backend:7410", "127.0.0.1:7410", "[::1]:7410"] {
        assert!(RemoteBackend::new(good, &mtls).is_ok(), "{good:?}");
    }
}

#[tokio::test]
async fn keys_reach_a_feed_over_the_network() {
    let world = World::new().await;
    world.backend.state.send_replace(wire::FeedUpdate { keys: Some(testing::keys(3)), ..Default::default() });
    let remote: crate::api::Backend = std::sync::Arc::new(world.manager());
    let mine = Shutdown::new();
    let feed = crate::feed::Feed::follow(remote, wire::RoleKind::SessionManager, "sm-1", &mine);
    assert!(feed.ready(SOON).await);
    assert!(mine.finish(SOON).await);
    drop(feed);
    world.end().await;
}

/// A cable between a caller and the backend that can be cut without either side hearing of it.
struct Cable {
    addr: SocketAddr,
    cut: tokio::sync::watch::Sender<bool>,
    carrying: tokio::task::JoinHandle<()>,
}

impl Cable {
    async fn to(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let cut = tokio::sync::watch::Sender::new(false);
        let watched = cut.clone();
        let carrying = tokio::spawn(async move {
            let mut ends = tokio::task::JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = tokio::net::TcpStream::connect(backend).await.unwrap();
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                ends.spawn(carry(near_in, far_out, watched.subscribe()));
                ends.spawn(carry(far_in, near_out, watched.subscribe()));
            }
        });
        Self { addr, cut, carrying }
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut cut: tokio::sync::watch::Receiver<bool>,
) {
    let cut = async { cut.wait_for(|cut| *cut).await.is_ok() };
    tokio::select! {
        _ = tokio::io::copy(&mut from, &mut to) => return,
        _ = cut => {}
    }
    // Both sockets stay open, and nothing moves any more.
    std::future::pending().await
}

#[tokio::test]
async fn a_cut_cable_is_noticed_by_both_sides_within_seconds() {
    let world = World::new().await;
    let cable = Cable::to(world.addr).await;
    let mtls = mtls(&world.authority, Role::SessionManager);
    let remote = RemoteBackend::new(&cable.addr.to_string(), &mtls).unwrap();
    let (up, reports) = mpsc::channel(4);
    let mut deliveries = remote.link(reports).await.unwrap();
    let (mut seen, down) = world.backend.take_link().unwrap();
    assert!(matches!(remote.relay(call(SOON), send(1)).await.result, Some(Answer::Receipt(_))));

    cable.cut.send_replace(true);
    let began = std::time::Instant::now();
    let limit = Duration::from_secs(15);
    let lost = refusal(remote.relay(call(limit), send(2)).await);
    assert_eq!((lost.code(), lost.maybe_applied), (Code::Unavailable, true));
    assert_eq!(tokio::time::timeout(limit, deliveries.recv()).await.unwrap(), None);
    assert_eq!(tokio::time::timeout(limit, seen.recv()).await.unwrap(), None);
    assert!(began.elapsed() < Duration::from_secs(12), "it took {:?}", began.elapsed());
    cable.carrying.abort();
    drop((up, down, remote));
    world.end().await;
}
