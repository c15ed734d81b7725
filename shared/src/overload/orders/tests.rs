use super::*;
use crate::wire;
use proptest::prelude::*;

const NOW: UnixMs = 1_800_000_000_000;

fn wish(kind: Kind, duration_ms: u64) -> Wish {
    Wish { kind, reason: "drill".into(), author: "kim".into(), from_ms: None, duration_ms: Some(duration_ms) }
}

fn give(orders: &mut Orders, wish: Wish, now_ms: UnixMs) -> u64 {
    let order = orders.plan(wish, now_ms).unwrap();
    orders.give(order.clone(), now_ms);
    order.id
}

fn in_force(orders: &Orders, now_ms: UnixMs) -> &'static str {
    orders.in_force(now_ms).map_or("none", |o| o.kind.name())
}

#[test]
fn an_order_holds_for_its_time_and_not_a_millisecond_longer() {
    let mut orders = Orders::default();
    give(&mut orders, Wish { from_ms: Some(NOW + 100), ..wish(Kind::Emergency, 50) }, NOW);
    let at = [99, 100, 149, 150].map(|after| in_force(&orders, NOW + after));
    assert_eq!(at, ["none", "emergency", "emergency", "none"]);
    assert_eq!(orders.next_change_ms(NOW), Some(NOW + 100));
    assert_eq!(orders.next_change_ms(NOW + 100), Some(NOW + 150));
    assert_eq!(orders.next_change_ms(NOW + 150), None);
    assert_eq!(orders.forget(NOW + 149), []);
    assert_eq!(orders.forget(NOW + 150).len(), 1);
    assert_eq!(orders, Orders::default());
}

#[test]
fn of_overlapping_orders_the_newest_wins_and_the_older_comes_back() {
    let mut orders = Orders::default();
    give(&mut orders, wish(Kind::Emergency, 1_000), NOW);
    give(&mut orders, wish(Kind::Normal, 100), NOW + 200);
    give(&mut orders, Wish { from_ms: Some(NOW + 250), ..wish(Kind::Emergency, 20) }, NOW + 210);
    let at = [0, 199, 200, 249, 250, 269, 270, 299, 300, 999, 1_000];
    let seen = at.map(|after| in_force(&orders, NOW + after));
    // At 0 the later ones have been given already, but have not begun.
    let expected = [
        "emergency",
        "emergency",
        "normal",
        "normal",
        "emergency",
        "emergency",
        "normal",
        "normal",
        "emergency",
        "emergency",
        "none",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn automatic_ends_everything_before_it_for_good() {
    let mut orders = Orders::default();
    let emergency = give(&mut orders, wish(Kind::Emergency, 10_000), NOW);
    let away = orders.clone();
    let automatic = Wish { duration_ms: None, ..wish(Kind::Automatic, 0) };
    give(&mut orders, automatic, NOW + 10);
    assert_eq!(in_force(&orders, NOW + 10), "none");
    assert_eq!(orders.iter().count(), 1);
    // A node that was away brings it back: nobody listens.
    assert_eq!(orders.merge(away.iter().cloned(), NOW + 20), Merged::default());
    assert!(orders.iter().all(|o| o.id != emergency));
    // What is ordered afterwards holds.
    give(&mut orders, wish(Kind::Normal, 100), NOW + 30);
    assert_eq!([in_force(&orders, NOW + 30), in_force(&orders, NOW + 130)], ["normal", "none"]);
}

#[test]
fn an_automatic_that_has_not_begun_ends_nothing_yet() {
    let mut orders = Orders::default();
    give(&mut orders, wish(Kind::Emergency, 10_000), NOW);
    let later = Wish { from_ms: Some(NOW + 100), duration_ms: None, ..wish(Kind::Automatic, 0) };
    give(&mut orders, later, NOW + 1);
    let at = [1, 99, 100, 5_000].map(|after| in_force(&orders, NOW + after));
    assert_eq!(at, ["emergency", "emergency", "none", "none"]);
    assert_eq!(orders.forget(NOW + 100), [], "it did not end by itself");
    assert_eq!(orders.iter().count(), 1);
}

#[test]
fn what_is_no_order_is_refused_with_what_to_write() {
    let refused = |change: fn(&mut Wish)| {
        let mut wish = wish(Kind::Emergency, 1_000);
        change(&mut wish);
        let error = Orders::default().plan(wish, NOW).unwrap_err();
        format!("{}: {error}", error.code())
    };
    let rows = [
        refused(|w| w.reason = "  ".into()),
        refused(|w| w.author.clear()),
        refused(|w| w.reason = "a\nb".into()),
        refused(|w| w.reason = "x".repeat(257)),
        refused(|w| w.duration_ms = None),
        refused(|w| w.duration_ms = Some(0)),
        refused(|w| w.duration_ms = Some(DURATION_MS_MAX + 1)),
        refused(|w| w.from_ms = Some(NOW - 1)),
        refused(|w| w.from_ms = Some(NOW + AHEAD_MS_MAX + 1)),
        refused(|w| w.duration_ms = Some(u64::MAX)),
    ];
    let expected = [
        "order_without_reason: an order needs a reason: say why, for those who read it at night",
        "order_without_author: an order needs an author: say who gives it",
        "order_text: the reason is longer than 256 bytes or has control characters: write one short line",
        "order_text: the reason is longer than 256 bytes or has control characters: write one short line",
        "order_without_end: an order needs an end: say for how long it holds, at most 7 days",
        "order_without_end: an order needs an end: say for how long it holds, at most 7 days",
        "order_too_long: an order holds for at most 7 days: give a shorter one, or change the configuration",
        "order_in_the_past: the order would begin in the past: leave the time out to begin now",
        "order_too_far_ahead: the order would begin more than a year ahead: give it later",
        "order_too_long: an order holds for at most 7 days: give a shorter one, or change the configuration",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn there_is_a_bound_and_automatic_makes_room() {
    let mut orders = Orders::default();
    for _ in 0..ORDERS_MAX {
        give(&mut orders, wish(Kind::Normal, 1_000), NOW);
    }
    assert_eq!(orders.plan(wish(Kind::Normal, 1_000), NOW), Err(OrderError::TooMany));
    give(&mut orders, Wish { duration_ms: None, ..wish(Kind::Automatic, 0) }, NOW);
    assert_eq!(orders.iter().count(), 1);
    give(&mut orders, wish(Kind::Normal, 1_000), NOW);
    // From others more may come than one would give.
    let many = (0..200).map(|n| Order { id: NOW + 1_000 + n, ..orders.iter().last().unwrap().clone() });
    let many: Vec<Order> = many.collect();
    orders.merge(many, NOW);
    assert_eq!(orders.iter().count(), ORDERS_MAX);
}

#[test]
fn what_others_send_is_checked() {
    let order = Orders::default().plan(wish(Kind::Emergency, 1_000), NOW).unwrap();
    let sent = |change: fn(&mut wire::Order)| {
        let mut sent = wire::Order::from(&order);
        change(&mut sent);
        Order::try_from(sent).map_err(|e| e.code())
    };
    assert_eq!(sent(|_| ()), Ok(order.clone()));
    assert_eq!(sent(|o| o.kind = 0), Err("order_malformed"));
    assert_eq!(sent(|o| o.kind = 77), Err("order_malformed"));
    assert_eq!(sent(|o| o.until_ms = o.from_ms), Err("order_malformed"));
    assert_eq!(sent(|o| o.id = u64::MAX), Err("order_malformed"));
    assert_eq!(sent(|o| o.reason.clear()), Err("order_without_reason"));
    assert_eq!(sent(|o| o.until_ms = u64::MAX), Err("order_too_long"));
    let mut orders = Orders::default();
    let merged = orders.merge([Order { reason: String::new(), ..order.clone() }, order.clone()], NOW);
    assert_eq!(merged, Merged { new: vec![order], refused: Some(OrderError::NoReason) });
}

fn some_orders() -> impl Strategy<Value = Vec<Order>> {
    let kind = prop::sample::select(vec![Kind::Automatic, Kind::Emergency, Kind::Normal]);
    let order = (0u64..40, kind, 0u64..500, 1u64..500).prop_map(|(id, kind, from, length)| Order {
        id: NOW + id,
        kind,
        reason: "r".into(),
        author: "a".into(),
        given_ms: NOW,
        from_ms: NOW + from,
        until_ms: NOW + from + if kind == Kind::Automatic { DURATION_MS_MAX } else { length },
    });
    // Ids are made of milliseconds: two of the same are two operators within one, which nobody needs to survive.
    let distinct = |orders: Vec<Order>| Orders::from_iter(orders).iter().cloned().collect::<Vec<_>>();
    prop::collection::vec(order, 0..30).prop_map(distinct).prop_shuffle()
}

proptest! {
    /// Nodes agree on what is in force, whoever heard what first, and how often.
    #[test]
    fn the_order_of_hearing_does_not_matter(orders in some_orders(), cut in 0usize..30, now in 0u64..1_200) {
        let (mut one, mut other) = (Orders::default(), Orders::default());
        one.merge(orders.iter().cloned(), NOW);
        let cut = cut.min(orders.len());
        other.merge(orders[cut..].iter().rev().cloned(), NOW + now / 2);
        other.merge(orders.iter().cloned(), NOW + now);
        other.merge(orders[..cut].iter().cloned(), NOW + now);
        one.forget(NOW + now);
        prop_assert_eq!(one.in_force(NOW + now), other.in_force(NOW + now));
        prop_assert_eq!(one, other);
    }

    /// I32: whatever was ordered, it is over at the end of the last, and a timer that follows `next_change_ms` misses nothing.
    #[test]
    fn every_order_expires_and_no_change_is_missed(orders in some_orders()) {
        let mut book = Orders::default();
        book.merge(orders, NOW);
        let mut now = NOW;
        while let Some(next) = book.next_change_ms(now) {
            for between in [now + 1, (now + next) / 2, next - 1] {
                if (now..next).contains(&between) {
                    prop_assert_eq!(book.in_force(between), book.in_force(now));
                }
            }
            now = next;
        }
        prop_assert_eq!(book.in_force(now), None);
        book.forget(now);
        prop_assert_eq!(book.iter().count(), 0);
    }
}
