//! The table of who may do what, and the properties of the fold.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn u(name: &str) -> UserId {
    name.parse().unwrap()
}

fn codes(state: &RoomState, who: &str) -> [Option<Code>; 6] {
    let who = u(who);
    let code = |r: Result<(), Refusal>| r.err().map(|r| r.code);
    [
        code(state.may_send(&who, &[])),
        code(state.may_read(&who).map(drop)),
        code(state.may_invite(&who, &[u("zoe")]).map(drop)),
        code(state.may_join(&who).map(drop)),
        code(state.may_leave(&who).map(drop)),
        code(state.may_kick(&who, &u("mia")).map(drop)),
    ]
}

#[test]
fn who_may_do_what_in_a_group() {
    let mut state = group("owen", &["mia"]);
    state.apply(2, &Event::Invited(vec![u("ivy")]));
    let no = Some(Code::NotAMember);
    assert_eq!(codes(&state, "owen"), [None, None, None, None, None, None]);
    assert_eq!(codes(&state, "mia"), [None, None, None, None, None, Some(Code::NotAllowed)]);
    assert_eq!(codes(&state, "ivy"), [no, no, no, None, None, no]);
    assert_eq!(codes(&state, "sam"), [no, no, no, Some(Code::NotInvited), no, no]);
}

#[test]
fn who_may_do_what_in_a_direct_room() {
    let state = RoomState::direct(u("ann"), u("bob"));
    let fixed = Some(Code::NotAllowed);
    assert_eq!(codes(&state, "ann"), [None, None, fixed, None, fixed, fixed]);
    assert_eq!(
        codes(&state, "sam"),
        [Some(Code::UnknownRoom); 6],
        "a stranger does not learn that it exists"
    );
    assert_eq!(state.peer(&u("ann")), Some(&u("bob")));
    assert_eq!(state.may_read(&u("bob")), Ok(1));
}

#[test]
fn only_members_may_be_mentioned() {
    let state = group("owen", &["mia"]);
    assert!(state.may_send(&u("owen"), &[u("mia")]).is_ok());
    let refusal = state.may_send(&u("owen"), &[u("mia"), u("sam")]).unwrap_err();
    assert_eq!((refusal.code, refusal.field), (Code::BadField, "mentions"));
}

#[test]
fn a_member_reads_from_his_latest_join() {
    let mut state = group("owen", &["mia"]);
    assert_eq!(state.may_read(&u("mia")), Ok(1));
    state.apply(5, &Event::Left(u("mia")));
    state.apply(9, &Event::Invited(vec![u("mia")]));
    assert!(state.may_read(&u("mia")).is_err());
    state.apply(12, &Event::Joined(u("mia")));
    assert_eq!(state.may_read(&u("mia")), Ok(12));
}

#[test]
fn the_longest_member_inherits() {
    let mut state = group("owen", &["mia"]);
    state.apply(2, &Event::Invited(vec![u("abe")]));
    state.apply(3, &Event::Joined(u("abe")));
    state.apply(4, &Event::Left(u("owen")));
    assert_eq!((state.role(&u("mia")), state.role(&u("abe"))), (Role::Owner, Role::Member));
}

#[test]
fn a_full_room_takes_nobody() {
    let many: Vec<String> = (0..ROOM_MEMBERS_MAX - 1).map(|n| format!("m{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let state = group("owen", &many);
    assert_eq!(state.may_invite(&u("owen"), &[u("zoe")]).unwrap_err().code, Code::RoomFull);
    assert_eq!(state.may_invite(&u("owen"), &[u("m1")]), Ok(None), "who is here needs no place");
}

#[test]
fn the_owner_removes_others_only() {
    let state = group("owen", &["mia"]);
    assert_eq!(state.may_kick(&u("owen"), &u("owen")).unwrap_err().code, Code::BadField);
    assert_eq!(state.may_kick(&u("owen"), &u("sam")).unwrap_err().code, Code::UnknownUser);
    assert_eq!(state.may_kick(&u("owen"), &u("mia")), Ok(Event::Kicked(u("mia"))));
}

#[test]
fn an_event_of_a_later_release_is_not_skipped() {
    assert!(Event::from_wire(&wire::Membership { change: 77, ..Default::default() }).is_err());
    let bad_name =
        wire::Membership { change: Change::Left.into(), users: vec!["B A D".into()], title: String::new() };
    assert!(Event::from_wire(&bad_name).is_err());
}

/// What somebody tries to do.
#[derive(Debug, Clone)]
enum Try {
    Invite(u8, Vec<u8>),
    Join(u8),
    Leave(u8),
    Kick(u8, u8),
}

fn attempt() -> impl Strategy<Value = Try> {
    let who = 0u8..6;
    prop_oneof![
        (who.clone(), proptest::collection::vec(0u8..6, 0..4)).prop_map(|(w, us)| Try::Invite(w, us)),
        who.clone().prop_map(Try::Join),
        who.clone().prop_map(Try::Leave),
        (who.clone(), who).prop_map(|(w, v)| Try::Kick(w, v)),
    ]
}

fn name(n: u8) -> UserId {
    u(&format!("u{n}"))
}

fn decide(state: &RoomState, attempt: &Try) -> Option<Event> {
    match attempt {
        Try::Invite(who, users) => {
            let users: Vec<UserId> = users.iter().map(|n| name(*n)).collect();
            state.may_invite(&name(*who), &users).ok().flatten()
        }
        Try::Join(who) => state.may_join(&name(*who)).ok().flatten(),
        Try::Leave(who) => state.may_leave(&name(*who)).ok(),
        Try::Kick(who, whom) => state.may_kick(&name(*who), &name(*whom)).ok(),
    }
}

proptest! {
    /// The members are the fold of the events, however the state came to be: event by event, through the wire form, or
    /// from a state that was stored half-way.
    #[test]
    fn the_state_is_the_fold_of_the_log(attempts in proptest::collection::vec(attempt(), 0..60), cut in any::<usize>()) {
        let mut state = group("u0", &["u1"]);
        let mut log = vec![Event::Created { creator: name(0), title: "title".into(), members: vec![name(1)] }];
        for attempt in &attempts {
            if let Some(event) = decide(&state, attempt) {
                log.push(event.clone());
                state.apply(log.len() as u64, &event);
            }
            let members = state.members().count();
            let owners = state.members().filter(|(_, m)| m.role == Role::Owner).count();
            prop_assert_eq!(owners, usize::from(members > 0), "one owner where there are members");
        }
        let cut = cut % (log.len() + 1);
        let mut again = RoomState::empty_group();
        for (at, event) in log.iter().enumerate() {
            if at == cut {
                again = RoomState::from_stored(&again.to_stored(at as u64, 1)).unwrap();
            }
            again.apply(at as u64 + 1, &Event::from_wire(&event.to_wire()).unwrap());
        }
        prop_assert_eq!(&again, &state);
    }

    /// Whoever reads was let in by the event at his horizon, and nobody is in the room who did not join.
    #[test]
    fn nobody_is_a_member_who_did_not_join(attempts in proptest::collection::vec(attempt(), 0..60)) {
        let mut state = group("u0", &["u1"]);
        let mut joined = BTreeSet::from([name(0), name(1)]);
        for (at, attempt) in attempts.iter().enumerate() {
            let Some(event) = decide(&state, attempt) else { continue };
            let seq = at as u64 + 2;
            state.apply(seq, &event);
            match &event {
                Event::Joined(user) => { joined.insert(user.clone()); }
                Event::Left(user) | Event::Kicked(user) => { joined.remove(user); }
                Event::Created { .. } | Event::Invited(_) => {}
            }
            let members: BTreeSet<UserId> = state.members().map(|(u, _)| u.clone()).collect();
            prop_assert_eq!(&members, &joined);
            for n in 0..6 {
                prop_assert_eq!(state.may_read(&name(n)).is_ok(), joined.contains(&name(n)));
                prop_assert_eq!(state.may_send(&name(n), &[]).is_ok(), joined.contains(&name(n)));
            }
        }
    }
}
