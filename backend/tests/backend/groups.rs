//! Groups: who comes, who goes, who reads what, and that the log says the same as the members.

use buslane_shared::id::RoomId;
use buslane_shared::limits::TITLE_CHARS_MAX;
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, Role, RoomKind, membership::Change, request::Op};

use crate::support::*;

fn create(id: buslane_shared::id::ClientId, title: &str, members: &[&str]) -> Op {
    let members = members.iter().map(|m| (*m).to_owned()).collect();
    Op::CreateRoom(wire::CreateRoom { client_id: id.to_wire(), title: title.to_owned(), members })
}

fn change(message: &wire::Message) -> Option<Change> {
    match &message.content {
        Some(wire::message::Content::Membership(m)) => Some(m.change()),
        _ => None,
    }
}

#[tokio::test]
async fn a_group_from_its_beginning_to_its_end() {
    let (world, _) = World::memory().await;
    let (ann, bob, eve) = (world.enrol("ann").await, world.enrol("bob").await, world.enrol("eve").await);
    let room = ann.group(&[&bob]).await;
    assert_eq!(ann.describe(room).await.role(), Role::Owner);
    let info = bob.describe(room).await;
    assert_eq!(
        (info.kind(), info.role(), info.members, info.title.as_str()),
        (RoomKind::Group, Role::Member, 2, "group")
    );
    bob.done(invite(room, &[&eve, &ann])).await;
    let invited = eve.describe(room).await;
    assert_eq!((invited.role(), invited.head), (Role::Invited, 0));
    assert_eq!(eve.sync(room, 0, 0).await.unwrap_err().code(), Code::NotAMember);
    bob.send(room, "before eve").await.unwrap();
    let joined = eve.room(join(room)).await;
    assert_eq!((joined.role(), joined.first, joined.head), (Role::Member, 4, 4));
    bob.send(room, "with eve").await.unwrap();
    let seen = eve.all(room).await;
    assert_eq!(seen.iter().map(|m| m.seq).collect::<Vec<_>>(), [4, 5], "from her own joining on");
    assert_eq!(eve.history(room, 0, 0).await.unwrap().messages.len(), 2);

    ann.done(leave(room)).await;
    assert_eq!(ann.send(room, "x").await.unwrap_err().code(), Code::NotAMember);
    assert_eq!(ann.sync(room, 0, 0).await.unwrap_err().code(), Code::NotAMember);
    assert_eq!(bob.members(room).await, [("bob".into(), Role::Owner), ("eve".into(), Role::Member)]);
    bob.done(kick(room, &eve)).await;
    assert_eq!(eve.code_of(join(room)).await, Code::NotInvited);
    assert!(eve.rooms().await.is_empty() && ann.rooms().await.is_empty());
    let changes: Vec<_> = bob.all(room).await.iter().filter_map(change).collect();
    assert_eq!(changes, [Change::Created, Change::Invited, Change::Joined, Change::Left, Change::Kicked]);
    world.stop().await;
}

#[tokio::test]
async fn who_may_not_is_told_why() {
    let (world, _) = World::memory().await;
    let (ann, bob, sam) = (world.enrol("ann").await, world.enrol("bob").await, world.enrol("sam").await);
    let room = ann.group(&[&bob]).await;
    let direct = ann.direct(&bob).await;
    assert_eq!(bob.code_of(kick(room, &ann)).await, Code::NotAllowed);
    assert_eq!(ann.code_of(kick(room, &sam)).await, Code::UnknownUser);
    assert_eq!(ann.code_of(kick(room, &ann)).await, Code::BadField);
    assert_eq!(sam.code_of(kick(room, &ann)).await, Code::NotAMember);
    assert_eq!(sam.code_of(invite(room, &[&sam])).await, Code::NotAMember);
    assert_eq!(sam.code_of(join(room)).await, Code::NotInvited);
    assert_eq!(sam.code_of(leave(room)).await, Code::NotAMember);
    assert_eq!(
        sam.code_of(Op::DescribeRoom(wire::DescribeRoom { room: room.to_wire() })).await,
        Code::NotAMember
    );
    assert_eq!(
        sam.code_of(Op::DescribeRoom(wire::DescribeRoom { room: direct.to_wire() })).await,
        Code::UnknownRoom
    );
    let members =
        |room: RoomId| Op::ListMembers(wire::ListMembers { room: room.to_wire(), ..Default::default() });
    assert_eq!(sam.code_of(members(room)).await, Code::NotAMember);
    for op in [invite(direct, &[&sam]), leave(direct), kick(direct, &bob)] {
        assert_eq!(ann.code_of(op).await, Code::NotAllowed);
    }
    let nobody = Op::Invite(wire::Invite { room: room.to_wire(), users: vec!["nobody".into()] });
    assert_eq!(ann.code_of(nobody).await, Code::UnknownUser);
    assert_eq!(ann.code_of(create(fresh_id(), "", &[])).await, Code::BadField);
    assert_eq!(ann.code_of(create(fresh_id(), "a\nb", &[])).await, Code::BadField);
    assert_eq!(ann.code_of(create(fresh_id(), &"x".repeat(TITLE_CHARS_MAX + 1), &[])).await, Code::TooLong);
    assert_eq!(ann.code_of(create(fresh_id(), "t", &["nobody"])).await, Code::UnknownUser);
    assert_eq!(ann.all(room).await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn making_a_group_is_repeatable() {
    let (world, engine) = World::memory().await;
    let (ann, _bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let id = fresh_id();
    let first = ann.room(create(id, "one", &["bob", "ann", "bob"])).await;
    assert_eq!(first.members, 2);
    let again = ann.room(create(id, "one", &["bob"])).await;
    assert_eq!((again.room.clone(), again.head), (first.room, 1));
    let world = world.restart_on(engine.reopen().unwrap()).await;
    assert_eq!(ann.at(&world).room(create(id, "one", &["bob"])).await.head, 1);
    assert_eq!(ann.at(&world).rooms().await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_repeated_change_is_done_and_writes_nothing() {
    let (world, _) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.group(&[]).await;
    ann.done(invite(room, &[&bob])).await;
    ann.done(invite(room, &[&bob])).await;
    bob.room(join(room)).await;
    assert_eq!(bob.room(join(room)).await.head, 3);
    ann.done(invite(room, &[&bob])).await;
    assert_eq!(ann.describe(room).await.head, 3);
    world.stop().await;
}

#[tokio::test]
async fn an_invitation_is_declined_and_withdrawn() {
    let (world, _) = World::memory().await;
    let (ann, bob) = (world.enrol("ann").await, world.enrol("bob").await);
    let room = ann.group(&[]).await;
    ann.done(invite(room, &[&bob])).await;
    assert_eq!(bob.rooms().await[0].role(), Role::Invited);
    bob.done(leave(room)).await;
    assert_eq!(bob.code_of(join(room)).await, Code::NotInvited);
    ann.done(invite(room, &[&bob])).await;
    ann.done(kick(room, &bob)).await;
    assert_eq!(bob.code_of(join(room)).await, Code::NotInvited);
    assert!(bob.rooms().await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn members_are_the_fold_of_the_log_whatever_was_stored() {
    let (world, engine) = World::memory().await;
    let (ann, bob, eve) = (world.enrol("ann").await, world.enrol("bob").await, world.enrol("eve").await);
    let room = ann.group(&[&bob]).await;
    let stored_early = engine_state(&*world.engine, room);
    ann.done(invite(room, &[&eve])).await;
    eve.room(join(room)).await;
    for n in 0..700 {
        eve.send(room, &n.to_string()).await.unwrap();
    }
    bob.done(leave(room)).await;
    let members = ann.members(room).await;
    let world = world.restart_on(engine.reopen().unwrap()).await;
    assert_eq!(ann.at(&world).members(room).await, members);
    // The stored state is only a shortcut: an old one, and none at all, lead to the same members.
    for stored in [Some(stored_early), None] {
        let mutation = match stored {
            Some(value) => buslane_store::Mutation::Put {
                table: buslane_store::Table::Rooms,
                key: room.to_wire(),
                value,
            },
            None => {
                buslane_store::Mutation::Delete { table: buslane_store::Table::Rooms, key: room.to_wire() }
            }
        };
        let engine = engine.reopen().unwrap();
        buslane_store::Kv::write(&*engine, vec![mutation]).await.unwrap();
        let keys = world.keys.clone();
        let again = World::on(engine, keys, config()).await;
        assert_eq!(ann.at(&again).members(room).await, members);
        assert_eq!(bob.at(&again).send(room, "x").await.unwrap_err().code(), Code::NotAMember);
        again.stop().await;
    }
    world.stop().await;
}

fn engine_state(engine: &dyn buslane_store::Engine, room: RoomId) -> bytes::Bytes {
    engine.get(buslane_store::Table::Rooms, room.as_bytes()).unwrap().unwrap().value
}

#[tokio::test]
async fn a_busy_group_is_stored_now_and_then() {
    let (world, _) = World::memory().await;
    let ann = world.enrol("ann").await;
    let room = ann.group(&[]).await;
    let before = engine_state(&*world.engine, room);
    for n in 0..1_100 {
        ann.send(room, &n.to_string()).await.unwrap();
    }
    until(async || engine_state(&*world.engine, room) != before).await;
    world.stop().await;
}

#[tokio::test]
async fn members_are_listed_page_by_page() {
    let (world, _) = World::memory().await;
    let ann = world.enrol("ann").await;
    let mut others = vec![];
    for n in 0..5 {
        others.push(world.enrol(&format!("user{n}")).await);
    }
    let room = ann.group(&others.iter().collect::<Vec<_>>()).await;
    let page = async |after: &str| {
        let op =
            Op::ListMembers(wire::ListMembers { room: room.to_wire(), after: after.to_owned(), limit: 4 });
        match ann.ask(op).await.unwrap() {
            wire::answer::Result::Members(list) => {
                (list.members.into_iter().map(|m| m.user).collect::<Vec<_>>(), list.more)
            }
            other => panic!("not a list: {other:?}"),
        }
    };
    assert_eq!(page("").await, (vec!["ann".into(), "user0".into(), "user1".into(), "user2".into()], true));
    assert_eq!(page("user2").await, (vec!["user3".into(), "user4".into()], false));
    world.stop().await;
}
