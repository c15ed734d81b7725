//! Any history of sends, changes, marks, failures and restarts: what was acknowledged is there once and for ever, what was
//! refused is not, the sequence has no hole, members are the fold of the log, and cursors only move forward.

use std::collections::BTreeMap;

use buslane_shared::id::{ClientId, RoomId, UserId};
use buslane_shared::membership::{Event, RoomState};
use buslane_shared::wire::{self, Role, message::Content};
use proptest::prelude::*;

use crate::support::*;

#[derive(Debug, Clone)]
enum Step {
    Send { who: usize, id: u8 },
    Invite { who: usize, whom: usize },
    Join { who: usize },
    Leave { who: usize },
    Kick { whom: usize },
    Mark { who: usize, delivered: u64, read: u64 },
    FailAppend { n: u64 },
    Restart,
}

/// Phones that come and go; the one at 0 made the group and stays.
const PHONES: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    let guest = 1..PHONES;
    prop_oneof![
        12 => (0..PHONES, 0u8..40).prop_map(|(who, id)| Step::Send { who, id }),
        3 => (0..PHONES, guest.clone()).prop_map(|(who, whom)| Step::Invite { who, whom }),
        3 => guest.clone().prop_map(|who| Step::Join { who }),
        1 => guest.clone().prop_map(|who| Step::Leave { who }),
        1 => guest.prop_map(|whom| Step::Kick { whom }),
        3 => (0..PHONES, 0u64..20, 0u64..20).prop_map(|(who, delivered, read)| Step::Mark { who, delivered, read }),
        1 => (1u64..3).prop_map(|n| Step::FailAppend { n }),
        1 => Just(Step::Restart),
    ]
}

fn client_id(id: u8) -> ClientId {
    ClientId::from_bytes([id; 16])
}

/// What a history has promised so far.
#[derive(Default)]
struct Promises {
    receipts: BTreeMap<(UserId, ClientId), u64>,
    cursors: BTreeMap<usize, (u64, u64)>,
}

impl Promises {
    fn receipt(&mut self, phone: &Phone, id: u8, receipt: &wire::Receipt) {
        let key = (phone.user.clone(), client_id(id));
        let known = self.receipts.get(&key).copied();
        assert_eq!(receipt.duplicate, known.is_some(), "{key:?}");
        assert_eq!(*self.receipts.entry(key).or_insert(receipt.seq), receipt.seq);
    }

    async fn check(&self, phones: &[Phone], room: RoomId) {
        let log = phones[0].all(room).await;
        assert_eq!(log.iter().map(|m| m.seq).collect::<Vec<_>>(), (1..=log.len() as u64).collect::<Vec<_>>());
        let mut found = BTreeMap::new();
        let mut state = RoomState::empty_group();
        for message in &log {
            match message.content.as_ref().unwrap() {
                Content::Body(_) => {
                    let key = (user(&message.sender), ClientId::try_from(&message.client_id).unwrap());
                    assert_eq!(found.insert(key, message.seq), None, "twice");
                }
                Content::Membership(change) => state.apply(message.seq, &Event::from_wire(change).unwrap()),
            }
        }
        assert_eq!(found, self.receipts, "the messages are those that were acknowledged");
        let members: Vec<_> = state.everybody().map(|(u, m)| (u.to_string(), m.role)).collect();
        assert_eq!(phones[0].members(room).await, members, "members are the fold of the log");
        for phone in phones {
            self.check_reader(phone, room, &state, log.len() as u64).await;
        }
    }

    async fn check_reader(&self, phone: &Phone, room: RoomId, state: &RoomState, head: u64) {
        let listed = phone.rooms().await.into_iter().find(|r| r.room == room.to_wire()).map(|r| r.role());
        let role = Some(state.role(&phone.user)).filter(|r| *r != Role::Unspecified);
        assert_eq!(listed, role);
        match state.may_read(&phone.user) {
            Ok(first) => {
                let seen: Vec<_> = phone.all(room).await.iter().map(|m| m.seq).collect();
                assert_eq!(seen, (first..=head).collect::<Vec<_>>());
            }
            Err(refusal) => assert_eq!(phone.sync(room, 0, 0).await.unwrap_err().code(), refusal.code),
        }
    }
}

async fn run(steps: Vec<Step>) {
    let (mut world, mut engine) = World::faulty().await;
    let mut phones = vec![];
    for n in 0..PHONES {
        phones.push(world.enrol(&format!("u{n}")).await);
    }
    let room = phones[0].group(&[]).await;
    let mut promises = Promises::default();
    for step in steps {
        match step {
            Step::Send { who, id } => {
                if let Ok(receipt) = phones[who].send_as(room, client_id(id), "x").await {
                    promises.receipt(&phones[who], id, &receipt);
                }
            }
            // Whether they may is decided by the backend; the log is compared in the end.
            Step::Invite { who, whom } => drop(phones[who].ask(invite(room, &[&phones[whom]])).await),
            Step::Join { who } => drop(phones[who].ask(join(room)).await),
            Step::Leave { who } => drop(phones[who].ask(leave(room)).await),
            Step::Kick { whom } => drop(phones[0].ask(kick(room, &phones[whom])).await),
            Step::Mark { who, delivered, read } => {
                if phones[who].ask(mark(room, delivered, read)).await.is_ok() {
                    let now = phones[who].describe(room).await;
                    let before = promises.cursors.insert(who, (now.delivered, now.read)).unwrap_or_default();
                    assert!(now.delivered >= before.0 && now.read >= before.1, "a cursor moved back");
                    assert!(now.delivered >= delivered && now.read >= read);
                }
            }
            Step::FailAppend { n } => engine.fail_append(n),
            Step::Restart => {
                engine = Faulty::over(engine.inner.reopen().unwrap());
                world = world.restart_on(engine.clone()).await;
                phones = phones.iter().map(|p| p.at(&world)).collect();
            }
        }
    }
    promises.check(&phones, room).await;
    world = world.restart_on(Faulty::over(engine.inner.reopen().unwrap())).await;
    phones = phones.iter().map(|p| p.at(&world)).collect();
    promises.check(&phones, room).await;
    world.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn what_was_promised_holds(steps in proptest::collection::vec(step(), 1..150)) {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(run(steps));
    }
}
