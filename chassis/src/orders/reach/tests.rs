//! From when on it is counted how long an order took.

use buslane_shared::overload::orders::Order;

use super::*;

fn order(id: u64, kind: Kind, until_ms: UnixMs) -> Order {
    Order { id, kind, reason: "x".into(), author: "kim".into(), given_ms: id, from_ms: id, until_ms }
}

/// What is shown once the node obeys what holds, 7 ms late.
fn after(reach: &mut Reach, orders: &Orders, holds: u64, now_ms: UnixMs) -> Option<u64> {
    reach.observe(orders, [("a".to_owned(), None)], now_ms);
    reach.observe(orders, [("a".to_owned(), Some(holds))], now_ms + 7);
    reach.among(["a"]).after_ms
}

#[test]
fn an_order_that_outlives_a_newer_one_is_counted_from_the_end_of_that() {
    let mut orders = Orders::default();
    let mut reach = Reach::since(1_000);
    orders.give(order(2_000, Kind::Emergency, 60_000), 2_000);
    assert_eq!(after(&mut reach, &orders, 2_000, 2_000), Some(7));
    orders.give(order(5_000, Kind::Normal, 9_000), 5_000);
    assert_eq!(after(&mut reach, &orders, 5_000, 5_001), Some(8), "the one before would have gone on");
    orders.forget(9_003);
    assert_eq!(after(&mut reach, &orders, 2_000, 9_003), Some(10));
}

#[test]
fn an_order_that_is_older_than_the_node_is_counted_from_its_start() {
    let mut orders = Orders::default();
    orders.give(order(2_000, Kind::Emergency, 9_000_000), 2_000);
    assert_eq!(after(&mut Reach::since(8_000_000), &orders, 2_000, 8_000_001), Some(8));
}

#[test]
fn an_order_after_a_pause_is_counted_from_its_own_beginning() {
    let mut orders = Orders::default();
    let mut reach = Reach::since(1_000);
    orders.give(order(2_000, Kind::Emergency, 3_000), 2_000);
    assert_eq!(after(&mut reach, &orders, 2_000, 2_000), Some(7));
    orders.forget(3_001);
    assert!(reach.observe(&orders, [], 3_001));
    orders.give(order(4_000, Kind::Emergency, 5_000), 4_000);
    assert_eq!(after(&mut reach, &orders, 4_000, 4_002), Some(9));
}
