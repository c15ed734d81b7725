use proptest::prelude::*;

use super::*;

const NOW_MS: u64 = 1_790_000_000_000;
const HERE: &str = "manager-1";

fn key(id: u32, not_before_ms: u64, expires_ms: u64) -> wire::TokenKey {
    wire::TokenKey { id, secret: vec![id as u8; 32].into(), not_before_ms, expires_ms }
}

fn keys(keys: Vec<wire::TokenKey>) -> MarkKeys {
    MarkKeys::new(&wire::KeySet { keys })
}

fn one() -> MarkKeys {
    keys(vec![key(1, 0, u64::MAX)])
}

fn slot(at_ms: u64) -> Mark {
    Mark::slot(Class::Wake, NodeTag::of(HERE), at_ms, 1_000, 7)
}

#[test]
fn a_pass_is_valid_anywhere_until_it_expires() {
    let keys = one();
    let pass = Mark::pass(Class::Look, NOW_MS, 5);
    let bytes = keys.make(&pass, NOW_MS).unwrap();
    assert_eq!(keys.read(&bytes, NOW_MS), Ok(pass));
    assert_eq!(keys.read_at(&bytes, NodeTag::of("another"), NOW_MS + PASS_LIFE_MS - 1), Ok(pass));
    assert_eq!(keys.read(&bytes, NOW_MS + PASS_LIFE_MS), Err(MarkError::Expired));
    assert_eq!(keys.read(&bytes, NOW_MS - 1_000), Ok(pass), "the reader's clock is a second behind");
    let too_early = keys.read(&bytes, NOW_MS - 60_000);
    assert_eq!(too_early, Err(MarkError::Early { wait_ms: 60_000 }));
}

#[test]
fn a_pass_says_who_was_given_it_and_slots_of_one_time_are_one_promise() {
    let (keys, asker) = (one(), Asker::from_bits(0xabcdef));
    let pass = |n| keys.make(&Mark::pass(Class::Wake, 1_000, Mark::nonce(asker, n)), 1_000).unwrap();
    let [first, last] = [0, 255].map(pass);
    assert_ne!(first, last);
    assert_eq!([first, last].map(|pass| keys.read(&pass, 1_000).unwrap().asker()), [asker, asker]);
    let slot = |asker, at_ms, number, random| {
        let grant = Grant { at: 0, told: 0, tolerance: 1_000_000_000, number };
        Mark::slot_for(Class::Wake, NodeTag::of("m1"), at_ms, &grant, asker, random)
    };
    let mine = slot(Some(asker), 1_100_000, 7, 1);
    let again = slot(Some(asker), 1_100_001, 7, 2);
    assert_eq!(mine.promise(), again.promise());
    assert_ne!(keys.make(&mine, 1_000), keys.make(&again, 1_000));
    assert!((mine.from_ms, mine.until_ms) == (1_099_000, 1_101_010), "{mine:?}");
    let told = Grant { at: 0, told: 250_000_000, tolerance: 1_000_000_000, number: 7 };
    let told = Mark::slot_for(Class::Wake, NodeTag::of("m1"), 1_100_000, &told, Some(asker), 1);
    assert_eq!(
        (told.from_ms, told.until_ms),
        (1_099_000, 1_101_260),
        "as good around the time that was told"
    );
    assert_eq!(told.promise(), mine.promise());
    assert_ne!(mine.promise(), slot(Some(asker), 1_100_000, 8, 1).promise(), "another time");
    assert_ne!(mine.promise(), slot(Some(Asker::from_bits(1)), 1_100_000, 7, 1).promise(), "another asker");
    assert_ne!(slot(None, 1_100_000, 7, 1).promise(), slot(None, 1_100_000, 7, 2).promise());
}

#[test]
fn a_slot_is_valid_in_its_window_at_its_node() {
    let keys = one();
    let mark = slot(NOW_MS + 10_000);
    let bytes = keys.make(&mark, NOW_MS).unwrap();
    let here = NodeTag::of(HERE);
    let at = |ms| keys.read_at(&bytes, here, NOW_MS + ms);
    assert_eq!(at(0), Err(MarkError::Early { wait_ms: 9_000 }));
    assert_eq!(at(8_999), Err(MarkError::Early { wait_ms: 1 }));
    assert_eq!(at(9_000), Ok(mark));
    assert_eq!(at(10_999), Ok(mark));
    assert_eq!(at(11_000), Err(MarkError::Late));
    let elsewhere = keys.read_at(&bytes, NodeTag::of("manager-2"), NOW_MS + 10_000);
    assert_eq!(elsewhere, Err(MarkError::Foreign));
}

#[test]
fn a_pass_to_go_on_is_a_pass_at_another_node() {
    let keys = one();
    let mark = Mark::going_on(Class::Look, NodeTag::of(HERE), NOW_MS, 5);
    let bytes = keys.make(&mark, NOW_MS).unwrap();
    assert_eq!(keys.read_at(&bytes, NodeTag::of(HERE), NOW_MS), Ok(mark));
    let elsewhere = keys.read_at(&bytes, NodeTag::of("manager-2"), NOW_MS);
    assert_eq!(elsewhere, Ok(Mark::pass(Class::Look, NOW_MS, 5)));
}

#[test]
fn a_mark_needs_its_key() {
    let theirs = keys(vec![key(2, 0, u64::MAX)]);
    let bytes = theirs.make(&Mark::pass(Class::Talk, NOW_MS, 1), NOW_MS).unwrap();
    assert_eq!(one().read(&bytes, NOW_MS), Err(MarkError::UnknownKey));
    let same_number = keys(vec![wire::TokenKey { id: 2, ..key(3, 0, u64::MAX) }]);
    assert_eq!(same_number.read(&bytes, NOW_MS), Err(MarkError::Knock));
    assert_eq!(MarkKeys::default().make(&slot(NOW_MS), NOW_MS), None);
    let wrong = keys(vec![wire::TokenKey { secret: vec![1; 16].into(), ..key(1, 0, u64::MAX) }]);
    assert!(wrong.knock(NOW_MS).is_none());
}

#[test]
fn keys_overlap() {
    let ring = keys(vec![key(2, NOW_MS, NOW_MS + 900_000), key(1, 0, NOW_MS + 100_000)]);
    let old = ring.make(&Mark::pass(Class::Talk, NOW_MS - 1, 1), NOW_MS - 1).unwrap();
    let new = ring.make(&Mark::pass(Class::Talk, NOW_MS, 1), NOW_MS).unwrap();
    assert_ne!(old[0], new[0]);
    assert!(ring.read(&old, NOW_MS).is_ok() && ring.read(&new, NOW_MS).is_ok());
    assert_eq!(ring.read(&old, NOW_MS + 100_000), Err(MarkError::UnknownKey));
    let knocks = ring.knocks(NOW_MS);
    assert_eq!(knocks.len(), 6);
    assert!(knocks.contains(&knock_of(&old)) && knocks.contains(&knock_of(&new)));
}

#[test]
fn the_lane_is_that_of_the_class() {
    let keys = one();
    for class in Class::ALL {
        let bytes = keys.make(&Mark::pass(class, NOW_MS, 1), NOW_MS).unwrap();
        assert_eq!(bytes[0] >> 6, u8::from(!class.is_foreground()), "{class}");
        assert_eq!(keys.read(&bytes, NOW_MS).unwrap().class, class);
        let other_lane = [&[bytes[0] ^ 0x40][..], &bytes[1..]].concat();
        assert_eq!(keys.read(&other_lane, NOW_MS), Err(MarkError::Forged));
        let no_lane = [&[bytes[0] | 0x80][..], &bytes[1..]].concat();
        assert_eq!(keys.read(&no_lane, NOW_MS), Err(MarkError::Malformed));
    }
}

#[test]
fn two_marks_of_a_time_have_four_bytes_in_common() {
    let keys = one();
    let make = |nonce| keys.make(&Mark::pass(Class::Look, NOW_MS, nonce), NOW_MS).unwrap();
    let (a, b) = (make(1), make(2));
    assert_eq!(a[..4], b[..4]);
    assert!(a.iter().zip(&b).skip(4).filter(|(a, b)| a == b).count() < 4);
    assert_ne!(identity(&a), identity(&b));
}

fn knock_of(mark: &MarkBytes) -> Knock {
    *mark[KNOCK_AT..].first_chunk().unwrap()
}

#[test]
fn what_was_used_is_not_used_again_while_it_is_valid() {
    let mut used = Used::new(10);
    assert_eq!(used.take(1, NOW_MS), Use::First);
    assert_eq!(used.take(1, NOW_MS + LIFE_MS_MAX - 1), Use::Again);
    assert_eq!(used.take(1, NOW_MS + LIFE_MS_MAX + 1), Use::Again);
    assert_eq!(used.take(1, NOW_MS + 3 * LIFE_MS_MAX), Use::First, "nothing lives that long");
}

#[test]
fn what_cannot_be_remembered_is_not_honoured() {
    let mut used = Used::new(2);
    let seen: Vec<Use> = (0..4).map(|n| used.take(n, NOW_MS)).collect();
    assert_eq!(seen, [Use::First, Use::First, Use::Full, Use::Full]);
    assert_eq!(used.take(1, NOW_MS), Use::Again);
    assert_eq!(used.take(9, NOW_MS + LIFE_MS_MAX), Use::First, "a new generation has room");
}

proptest! {
    #[test]
    fn what_is_made_is_read(
        class in 0u32..8, is_slot: bool, ahead_ms in 0u64..300_000, life_ms in 1u64..30_000, nonce: u32,
        now_ms in 1u64 << 36..1 << 44, node in "[a-z]{1,12}",
    ) {
        let keys = one();
        let class = Class::of_number(class);
        let mark = if is_slot {
            Mark::slot(class, NodeTag::of(&node), now_ms + ahead_ms, life_ms as u32 * 10, nonce)
        } else {
            Mark::pass(class, now_ms + ahead_ms, nonce)
        };
        let bytes = keys.make(&mark, now_ms).unwrap();
        prop_assert_eq!(keys.read_at(&bytes, NodeTag::of(&node), mark.from_ms), Ok(mark));
        prop_assert!(keys.knocks(mark.from_ms).contains(&knock_of(&bytes)));
        if !is_slot {
            prop_assert!(keys.knocks(mark.until_ms - 1).contains(&knock_of(&bytes)));
        }
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused(at in 0usize..MARK_BYTES, bit in 0u8..8, nonce: u32) {
        let keys = one();
        let mut bytes = keys.make(&Mark::pass(Class::Look, NOW_MS, nonce), NOW_MS).unwrap();
        bytes[at] ^= 1 << bit;
        prop_assert!(keys.read(&bytes, NOW_MS).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_never_a_mark(mut bytes in proptest::collection::vec(any::<u8>(), 0..24), knocks: bool) {
        let keys = one();
        if knocks && bytes.len() > 4 {
            bytes[0] = 1;
            bytes[1..4].copy_from_slice(&keys.knock(NOW_MS).unwrap());
        }
        prop_assert!(keys.read(&bytes, NOW_MS).is_err());
    }
}

/// Whoever waits for a place shows another slot each time, and all of them are good for one login.
#[test]
fn a_slot_that_is_kept_has_other_bytes_and_stands_for_the_same_promise() {
    let ring = one();
    let grant = Grant { at: 0, told: 0, tolerance: 1_000_000_000, number: 7 };
    for at_ms in [NOW_MS, NOW_MS + 500] {
        let slot =
            Mark::slot_for(Class::Wake, NodeTag::of("m1"), at_ms, &grant, Some(Asker::from_bits(9)), 15);
        let bytes = ring.make(&slot, NOW_MS).unwrap();
        for (random, until_ms) in (0..16).flat_map(|random| [(random, 0), (random, NOW_MS + 60_000)]) {
            let kept = slot.kept(until_ms, random);
            assert_eq!(kept.promise(), slot.promise());
            assert!(kept.until_ms > until_ms && kept.until_ms > slot.until_ms);
            assert_ne!(ring.make(&kept, NOW_MS).unwrap(), bytes);
        }
    }
}
