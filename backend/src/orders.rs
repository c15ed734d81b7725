//! Operators' orders on their way between the nodes: what one node was told, all are told.
//!
//! The backend decides nothing about them and keeps them in memory only: every session manager keeps its own on its disk, and
//! says them again when it links.

use buslane_shared::UnixMs;
use buslane_shared::overload::orders::{Order, Orders};
use buslane_shared::wire;
use metrics::counter;
use parking_lot::Mutex;

/// What came of hearing of orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    /// They were known.
    Known,
    /// The others are to hear of it.
    Changed,
}

/// Every order that somebody has said.
#[derive(Default)]
pub(crate) struct Known(Mutex<Orders>);

impl Known {
    /// Everything that is known now.
    pub(crate) fn all(&self) -> wire::OrderSet {
        wire::OrderSet::from(&*self.0.lock())
    }

    /// Takes over what a node says.
    pub(crate) fn merge(&self, set: wire::OrderSet, now_ms: UnixMs) -> Merge {
        let (mut orders, mut refused) = (Vec::new(), None);
        for order in set.orders {
            match Order::try_from(order) {
                Ok(order) => orders.push(order),
                Err(error) => refused = Some(error),
            }
        }
        let mut known = self.0.lock();
        let before = known.clone();
        let merged = known.merge(orders, now_ms);
        let merge = if *known == before { Merge::Known } else { Merge::Changed };
        drop(known);
        if let Some(error) = refused.or(merged.refused) {
            counter!("buslane_backend_orders_refused_total", "why" => error.code()).increment(1);
            tracing::warn!(%error, "an order of another node was not taken over");
        }
        for order in &merged.new {
            tracing::info!(order = order.id, kind = order.kind.name(), reason = ?order.reason, author = ?order.author, "order");
        }
        merge
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buslane_shared::overload::orders::{Kind, Wish};

    const NOW: UnixMs = 1_800_000_000_000;

    #[test]
    fn what_is_new_is_told_once_and_nonsense_is_not_told() {
        let wish = Wish {
            kind: Kind::Emergency,
            reason: "drill".into(),
            author: "kim".into(),
            from_ms: None,
            duration_ms: Some(1_000),
        };
        let order = Orders::default().plan(wish, NOW).unwrap();
        let wired = wire::Order::from(&order);
        let nonsense = wire::Order { reason: String::new(), ..wired.clone() };
        let known = Known::default();
        let set =
            |orders: &[&wire::Order]| wire::OrderSet { orders: orders.iter().copied().cloned().collect() };
        assert_eq!(known.merge(set(&[&nonsense, &wired]), NOW), Merge::Changed);
        assert_eq!(known.all(), set(&[&wired]));
        assert_eq!(known.merge(set(&[&wired]), NOW), Merge::Known);
        assert_eq!(known.merge(set(&[]), NOW + 1_000), Merge::Changed);
        assert_eq!(known.all(), set(&[]), "it is over");
    }
}
