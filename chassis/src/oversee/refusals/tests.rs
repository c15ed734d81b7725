use buslane_shared::refusal::Busy;
use bytes::Bytes;

use super::*;

fn refused(user: &str, at_ms: UnixMs) -> Refused {
    Refused {
        at_ms,
        user: user.parse().unwrap(),
        device: Some(DeviceId::from_bytes([7; 16])),
        what: "hello",
        code: Code::Busy,
        class: Some(Class::Wake),
        level: Some(700),
        cut: Some(640),
        posture: Posture::Emergency,
        retry_after_ms: Some(4_200),
        has_slot: true,
    }
}

fn times(refusals: &Refusals, user: &str) -> Vec<UnixMs> {
    refusals.of(user).iter().map(|facts| facts.at_ms).collect()
}

#[test]
fn the_newest_of_a_user_are_remembered_newest_first() {
    let refusals = Refusals::default();
    for n in 0..10 {
        refusals.note(refused("alice", n * AGAIN_MS));
    }
    assert_eq!(times(&refusals, "alice"), [9_000, 8_000, 7_000, 6_000]);
    assert!(refusals.of("bob").is_empty());
}

#[test]
fn who_comes_again_and_again_is_remembered_once_a_second() {
    let refusals = Refusals::default();
    for at_ms in [5_000, 5_001, 5_999, 6_000] {
        refusals.note(refused("alice", at_ms));
    }
    assert_eq!(times(&refusals, "alice"), [6_000, 5_000]);
    refusals.note(Refused { what: "enter", ..refused("alice", 6_001) });
    assert_eq!(times(&refusals, "alice"), [6_001, 6_000, 5_000], "this is another thing");
}

#[test]
fn many_users_fill_their_places_and_no_more() {
    let refusals = Refusals::default();
    for n in 0..20_000_u64 {
        refusals.note(refused(&format!("u{n}"), n));
    }
    let kept: usize = (0..20_000).map(|n| refusals.of(&format!("u{n}")).len()).sum();
    assert!(kept <= REFUSALS_MAX, "{kept}");
    assert!(kept > REFUSALS_MAX / 2, "{kept}");
}

#[test]
fn it_is_told_in_a_sentence() {
    let refusals = Refusals::default();
    refusals.note(refused("alice", 10_000));
    let facts = &refusals.of("alice")[0];
    assert_eq!((facts.retry_at_ms, facts.slot_at_ms), (Some(14_200), Some(14_200)));
    assert_eq!(facts.device.as_deref(), Some("07070707-0707-0707-0707-070707070707"));
    assert_eq!(
        facts.sentence,
        "hello was refused: the node admitted no level from 640 on (posture emergency), and this one, C5 (wake), has 700. \
         A slot was kept for it 4.2 s later."
    );
    let revoked = Refused {
        code: Code::Revoked,
        class: None,
        level: None,
        cut: None,
        retry_after_ms: None,
        has_slot: false,
        ..refused("bob", 0)
    };
    assert_eq!(revoked.sentence(), "hello was refused: this device was revoked; enrol it again with a code.");
}

#[test]
fn what_says_nothing_about_the_system_is_not_remembered() {
    let user: UserId = "alice".parse().unwrap();
    let of = |refusal: Refusal| Refused::of(&refusal, (&user, None), "hello", Posture::Normal, 5);
    assert_eq!(of(Refusal::of(Code::BadTicket)), None);
    assert_eq!(of(Refusal::field("agent", "too long")), None);
    let busy =
        Busy { class: Class::Wake, level: 650, posture: Posture::Guard, slot: Bytes::from_static(b"slot") };
    let noted = of(Refusal::busy(busy, 900)).unwrap();
    assert_eq!((noted.class, noted.level, noted.retry_after_ms), (Some(Class::Wake), Some(650), Some(900)));
    assert!(noted.has_slot);
    assert_eq!(of(Refusal::of(Code::Draining)).unwrap().retry_after_ms, None);
}

/// Writers and readers at the same time: nobody waits, nothing is torn.
#[test]
fn it_is_written_and_read_at_the_same_time() {
    let refusals = Refusals::default();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let refusals = &refusals;
            scope.spawn(move || {
                for n in 0..5_000 {
                    refusals.note(refused("alice", n * 4_000 + thread * 1_000));
                    assert!(refusals.of("alice").iter().all(|facts| facts.level == Some(700)));
                }
            });
        }
    });
    assert_eq!(refusals.of("alice").len(), OF_A_PLACE);
}
