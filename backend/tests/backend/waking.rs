//! What goes out: to whom, in which order, with which notification; links and feeds.

use buslane_chassis::api::BackendApi;
use buslane_shared::id::RoomId;
use buslane_shared::wire::{self, NotifyMode, Role, event::Kind, request::Op, to_manager};
use futures_util::future::join_all;

use crate::support::*;

#[tokio::test]
async fn a_message_goes_to_the_members_devices_but_not_to_the_one_that_sent_it() {
    let (world, _) = World::memory().await;
    let (ann, bob, sam) = (world.enrol("ann").await, world.enrol("bob").await, world.enrol("sam").await);
    let tablet = world.enrol_another(&ann).await;
    let room = ann.direct(&bob).await;
    let (mut near, mut far) = (world.link("near").await, world.link("far").await);
    near.open(&[&ann, &tablet, &sam]).await;
    far.open(&[&bob]).await;
    let receipt = ann.send(room, "hello").await.unwrap();
    let (message, delivered) = far.next_message().await;
    assert_eq!(
        (text(&message).as_str(), message.seq, message.sender.as_str()),
        ("hello", receipt.seq, "ann")
    );
    assert_eq!(message.sent_at_ms, receipt.sent_at_ms);
    assert_eq!(delivered.users(), ["bob"]);
    assert!(delivered.targets[0].notify && delivered.targets[0].except_device.is_empty());
    let (_, own) = near.next_message().await;
    assert_eq!(own.users(), ["ann"]);
    assert_eq!(own.targets[0].except_device, ann.device.to_wire());
    assert!(!own.targets[0].notify, "nobody is notified of his own message");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deliveries_of_a_room_come_in_its_order() {
    let (world, _) = World::memory().await;
    let (ann, bob, eve) = (world.enrol("ann").await, world.enrol("bob").await, world.enrol("eve").await);
    // Linked before there is a room: a receipt comes before the delivery, so whoever links after the founding may get it or not.
    let mut manager = world.link("sm").await;
    manager.open(&[&eve]).await;
    let room = ann.group(&[&bob, &eve]).await;
    let sends = (0..8).map(|worker| {
        let phone = if worker % 2 == 0 { ann.clone() } else { bob.clone() };
        tokio::spawn(async move {
            for n in 0..100 {
                phone.send(room, &n.to_string()).await.unwrap();
            }
        })
    });
    let sends = join_all(sends.collect::<Vec<_>>());
    let received = async {
        let mut seqs = vec![];
        while seqs.len() < 801 {
            let delivered = manager.next().await;
            seqs.extend(delivered.message().map(|m| m.seq));
        }
        seqs
    };
    let (_, seqs) = tokio::join!(sends, received);
    assert_eq!(seqs, (1..=801).collect::<Vec<_>>());
    world.stop().await;
}

#[tokio::test]
async fn nothing_reaches_who_is_not_a_member_at_that_sequence() {
    let (world, _) = World::memory().await;
    let (ann, bob, eve) = (world.enrol("ann").await, world.enrol("bob").await, world.enrol("eve").await);
    let mut manager = world.link("sm").await;
    manager.open(&[&bob, &eve]).await;
    let room = ann.group(&[&bob]).await;
    ann.send(room, "before").await.unwrap();
    ann.done(invite(room, &[&eve])).await;
    ann.send(room, "invited").await.unwrap();
    eve.room(join(room)).await;
    ann.send(room, "with eve").await.unwrap();
    ann.done(kick(room, &bob)).await;
    ann.send(room, "without bob").await.unwrap();
    let (mut to_bob, mut to_eve) = (vec![], vec![]);
    while to_eve.last() != Some(&"8:without bob".to_owned()) {
        let delivered = manager.next().await;
        let what = match &delivered.event {
            Kind::Delivery(d) => {
                let message = d.message.as_ref().unwrap();
                format!("{}:{}", message.seq, text(message))
            }
            Kind::Room(changed) => format!("{:?}", changed.role()),
            Kind::Cursor(_) => continue,
            other => panic!("unexpected: {other:?}"),
        };
        for user in delivered.users() {
            match user {
                "bob" => to_bob.push(what.clone()),
                "eve" => to_eve.push(what.clone()),
                other => panic!("nobody called {other} is connected"),
            }
        }
    }
    let member = format!("{:?}", Role::Member);
    let gone = format!("{:?}", Role::Unspecified);
    assert_eq!(to_bob, [member.as_str(), "1:", "2:before", "3:", "4:invited", "5:", "6:with eve", &gone]);
    let invited = format!("{:?}", Role::Invited);
    assert_eq!(to_eve[..4], [invited, member, "5:".to_owned(), "6:with eve".to_owned()]);
    world.stop().await;
}

#[tokio::test]
async fn settings_decide_about_the_notification_only() {
    let (world, engine) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.group(&[&bob]).await;
    let mut manager = world.link("sm").await;
    manager.open(&[&bob]).await;
    let set = |mode: NotifyMode, quiet_to: u32| {
        let settings = wire::NotifySettings { mode: mode.into(), quiet_from: 0, quiet_to, utc_offset: 0 };
        Op::SetNotify(wire::SetNotify { room: room.to_wire(), settings: Some(settings) })
    };
    let mention = |room: RoomId| {
        Op::Send(wire::Send {
            room: room.to_wire(),
            client_id: fresh_id().to_wire(),
            body: "hey".into(),
            mentions: vec!["bob".into()],
            ..Default::default()
        })
    };
    let notified = async |op: Op, manager: &mut Manager| {
        ann.ask(op).await.unwrap();
        manager.next_message().await.1.targets[0].notify
    };
    assert!(notified(send_op(room, fresh_id(), "x"), &mut manager).await);
    bob.done(set(NotifyMode::Mentions, 0)).await;
    assert!(!notified(send_op(room, fresh_id(), "x"), &mut manager).await);
    assert!(notified(mention(room), &mut manager).await);
    bob.done(set(NotifyMode::None, 0)).await;
    assert!(!notified(mention(room), &mut manager).await);
    assert_eq!(bob.describe(room).await.notify.unwrap().mode(), NotifyMode::None);
    assert_eq!(bob.code_of(set(NotifyMode::All, 1440)).await, buslane_shared::refusal::Code::BadField);
    let world = world.restart_on(engine.reopen().unwrap()).await;
    assert_eq!(bob.at(&world).describe(room).await.notify.unwrap().mode(), NotifyMode::None);
    world.stop().await;
}

#[tokio::test]
async fn a_link_that_reads_nothing_is_told_that_it_is_behind() {
    let (world, _) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    let mut manager = world.link("sm").await;
    manager.open(&[&bob]).await;
    let count = buslane_chassis::api::LINK_QUEUE + 100;
    for n in 0..count {
        ann.send(room, &n.to_string()).await.unwrap();
    }
    let mut delivered = 0;
    loop {
        match manager.next_frame().await {
            to_manager::Kind::Deliver(_) => delivered += 1,
            to_manager::Kind::AllBehind(behind) => break assert!(behind),
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert_eq!(delivered, buslane_chassis::api::LINK_QUEUE);
    ann.send(room, "now").await.unwrap();
    let mut last = manager.next_message().await.0;
    while text(&last) != "now" {
        last = manager.next_message().await.0;
    }
    assert_eq!(bob.all(room).await.len(), count + 1, "the log has them all");
    world.stop().await;
}

#[tokio::test]
async fn session_managers_come_and_go_in_the_feed() {
    let (world, _) = World::memory().await;
    let ann = world.enrol("ann").await;
    let mut feed = world.service.feed(wire::FeedRequest::default()).await.unwrap();
    assert_eq!(feed.recv().await.unwrap().nodes.unwrap().nodes.len(), 0);
    let nodes = async |feed: &mut tokio::sync::mpsc::Receiver<wire::FeedUpdate>| {
        tokio::time::timeout(LIMIT, feed.recv()).await.unwrap().unwrap().nodes.unwrap().nodes
    };
    let manager = world.link("sm").await;
    assert_eq!(nodes(&mut feed).await[0].name, "sm");
    manager.open(&[&ann]).await;
    let draining = wire::Node { name: "sm".into(), draining: true, ..Default::default() };
    manager.say(wire::from_manager::Kind::Announce(draining)).await;
    assert!(nodes(&mut feed).await[0].draining);
    drop(manager);
    assert!(nodes(&mut feed).await.is_empty());
    let devices = ann.ask(Op::ListDevices(wire::ListDevices {})).await.unwrap();
    let wire::answer::Result::Devices(devices) = devices else { panic!("not a list") };
    assert!(!devices.devices[0].connected, "its sessions are gone with it");
    world.stop().await;
}

#[tokio::test]
async fn a_reset_is_the_whole_truth() {
    let (world, _) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    let mut manager = world.link("sm").await;
    manager.open(&[&ann, &bob]).await;
    let reset = wire::SessionChanges { reset: true, opened: vec![bob.session_ref()], ..Default::default() };
    manager.say(wire::from_manager::Kind::Sessions(reset)).await;
    until(async || {
        let devices = ann.ask(Op::ListDevices(wire::ListDevices {})).await.unwrap();
        matches!(devices, wire::answer::Result::Devices(d) if !d.devices[0].connected)
    })
    .await;
    bob.send(room, "x").await.unwrap();
    ann.send(room, "y").await.unwrap();
    let (message, delivered) = manager.next_message().await;
    assert_eq!((text(&message).as_str(), delivered.users()), ("y", vec!["bob"]));
    world.stop().await;
}

#[tokio::test]
async fn what_is_committed_after_a_confirmation_is_delivered() {
    let (world, _) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.direct(&bob).await;
    let mut manager = world.link("sm").await;
    let unnumbered = wire::SessionChanges { opened: vec![ann.session_ref()], ..Default::default() };
    let numbered = wire::SessionChanges { opened: vec![bob.session_ref()], no: 7, ..Default::default() };
    for changes in [unnumbered, numbered] {
        manager.say(wire::from_manager::Kind::Sessions(changes)).await;
    }
    assert_eq!(
        manager.next_frame().await,
        to_manager::Kind::Applied(7),
        "only what has a number is confirmed"
    );
    ann.send(room, "x").await.unwrap();
    let (message, delivered) = manager.next_message().await;
    assert_eq!((text(&message).as_str(), delivered.users()), ("x", vec!["bob"]));
    world.stop().await;
}

#[tokio::test]
async fn a_link_must_begin_with_its_announcement() {
    let (world, _) = World::memory().await;
    let (up, rx) = tokio::sync::mpsc::channel(1);
    let mut down = world.service.link(rx).await.unwrap();
    let frame = wire::from_manager::Kind::Sessions(wire::SessionChanges::default());
    up.send(wire::FromManager { kind: Some(frame) }).await.unwrap();
    assert_eq!(tokio::time::timeout(LIMIT, down.recv()).await.unwrap(), None);
    world.stop().await;
}
