//! Who gets what, and what happens when a link is slow.

use super::*;

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

fn device(n: u8) -> DeviceId {
    DeviceId::from_bytes([n; 16])
}

fn session(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

fn node(name: &str) -> wire::Node {
    wire::Node { name: name.to_owned(), ..Default::default() }
}

fn registry() -> Registry {
    Registry::new(Tasks::here(tokio_util::task::TaskTracker::new()))
}

fn attach(registry: &Registry, name: &str, queue: usize) -> (Arc<Link>, mpsc::Receiver<wire::ToManager>) {
    let (down, rx) = mpsc::channel(queue);
    (registry.attach(node(name), down).unwrap(), rx)
}

fn to(name: &UserId) -> Recipient<'_> {
    Recipient { user: name, except: None, notify: true }
}

fn deliver(frame: wire::ToManager) -> wire::Deliver {
    match frame.kind {
        Some(Kind::Deliver(d)) => d,
        other => panic!("not a delivery: {other:?}"),
    }
}

#[tokio::test]
async fn one_frame_for_each_manager_and_none_for_who_is_not_there() {
    let registry = registry();
    let (ann, bob, sam) = (user("ann"), user("bob"), user("sam"));
    let (a, mut a_rx) = attach(&registry, "a", 8);
    let (b, mut b_rx) = attach(&registry, "b", 8);
    registry.opened(&a, ann.clone(), device(1), session(1));
    registry.opened(&a, bob.clone(), device(2), session(2));
    registry.opened(&b, bob.clone(), device(3), session(3));
    registry.deliver([to(&ann), to(&bob), to(&sam)], Context::NONE, || Bytes::from_static(b"e"));
    let users = |d: wire::Deliver| d.targets.into_iter().map(|t| t.user).collect::<Vec<_>>();
    assert_eq!(users(deliver(a_rx.try_recv().unwrap())), ["ann", "bob"]);
    assert_eq!(users(deliver(b_rx.try_recv().unwrap())), ["bob"]);
    assert!(a_rx.try_recv().is_err());
    registry.deliver([to(&sam)], Context::NONE, || panic!("nobody is there to encode it for"));
}

#[tokio::test]
async fn the_device_that_made_the_event_is_left_out() {
    let registry = registry();
    let ann = user("ann");
    let (a, mut rx) = attach(&registry, "a", 8);
    registry.opened(&a, ann.clone(), device(1), session(1));
    let except = |device| Recipient { user: &ann, except: Some(device), notify: false };
    registry.deliver([except(device(1))], Context::NONE, Bytes::new);
    assert!(rx.try_recv().is_err(), "it is the only one");
    registry.opened(&a, ann.clone(), device(2), session(2));
    registry.deliver([except(device(1))], Context::NONE, Bytes::new);
    assert_eq!(deliver(rx.try_recv().unwrap()).targets[0].except_device, device(1).to_wire());
}

#[tokio::test]
async fn a_full_link_is_told_that_it_is_behind_and_nobody_waits() {
    let registry = registry();
    let ann = user("ann");
    let (a, mut rx) = attach(&registry, "a", 2);
    registry.opened(&a, ann.clone(), device(1), session(1));
    for n in 0..10u8 {
        registry.deliver([to(&ann)], Context::NONE, || Bytes::copy_from_slice(&[n]));
    }
    assert_eq!(deliver(rx.recv().await.unwrap()).event[..], [0]);
    assert_eq!(deliver(rx.recv().await.unwrap()).event[..], [1]);
    assert_eq!(rx.recv().await.unwrap().kind, Some(Kind::AllBehind(true)));
    registry.deliver([to(&ann)], Context::NONE, || Bytes::from_static(b"n"));
    assert_eq!(deliver(rx.recv().await.unwrap()).event[..], *b"n");
}

#[tokio::test]
async fn a_newer_session_at_another_manager_is_told_to_the_older() {
    let registry = registry();
    let (a, mut a_rx) = attach(&registry, "a", 8);
    let (b, _b_rx) = attach(&registry, "b", 8);
    registry.opened(&a, user("ann"), device(1), session(1));
    registry.opened(&b, user("ann"), device(1), session(2));
    let Some(Kind::Replaced(older)) = a_rx.recv().await.unwrap().kind else { panic!("not told") };
    assert_eq!((older.user.as_str(), older.session), ("ann", session(1).to_wire()));
    registry.closed(&a, &user("ann"), device(1), session(1));
    assert!(registry.is_connected(&user("ann"), device(1)), "the newer one stays");
    registry.closed(&b, &user("ann"), device(1), session(2));
    assert!(!registry.is_connected(&user("ann"), device(1)));
    assert!(registry.users.is_empty());
}

#[tokio::test]
async fn the_end_of_a_link_takes_its_sessions_and_its_node() {
    let registry = registry();
    let (a, _rx) = attach(&registry, "a", 8);
    registry.opened(&a, user("ann"), device(1), session(1));
    assert_eq!(registry.nodes().len(), 1);
    registry.detach(&a);
    assert!(!registry.is_connected(&user("ann"), device(1)));
    assert!(registry.nodes().is_empty() && a.over.is_cancelled());
}

#[tokio::test]
async fn a_node_that_links_again_ends_its_older_link() {
    let registry = registry();
    let (older, _rx) = attach(&registry, "a", 8);
    let (newer, _rx2) = attach(&registry, "a", 8);
    assert!(older.over.is_cancelled() && !newer.over.is_cancelled());
    assert_eq!(registry.nodes().len(), 1);
}
