//! How far an order has come: which nodes obey it, and how long that took.

use std::collections::BTreeMap;

use buslane_shared::UnixMs;
use buslane_shared::overload::orders::{Kind, Orders};
use serde::Serialize;

use super::newest;

/// The nodes that obey the order that holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    order: Option<u64>,
    begun_ms: UnixMs,
    /// When this order ends; without one, when the last one did.
    until_ms: UnixMs,
    /// Milliseconds after the order began to hold.
    after_ms: BTreeMap<String, u64>,
}

/// "Effective on n of m nodes after x ms."
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// Nodes that obey.
    pub nodes: usize,
    /// Nodes that should.
    pub of: usize,
    /// How long the slowest of those that obey took, since the order holds: from its beginning, or from the end of a newer one that it
    /// outlives, or from the start of this node.
    pub after_ms: Option<u64>,
}

impl Reach {
    /// That of a node that starts now: what was ordered before holds here from now on.
    pub(super) fn since(now_ms: UnixMs) -> Self {
        Self { until_ms: now_ms, ..Self::default() }
    }

    /// The order that holds; that of an automatic one is its own.
    pub fn order(&self) -> Option<u64> {
        self.order
    }

    /// Whether a node obeys it.
    pub fn has(&self, node: &str) -> bool {
        self.after_ms.contains_key(node)
    }

    /// How far it has come among these nodes.
    pub fn among<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> Effective {
        let (mut of, mut reached) = (0, Vec::new());
        for node in nodes {
            of += 1;
            reached.extend(self.after_ms.get(node).copied());
        }
        Effective { nodes: reached.len(), of, after_ms: reached.into_iter().max() }
    }

    pub(super) fn begun_ms(&self) -> UnixMs {
        self.begun_ms
    }

    /// Takes over which order each node says it obeys. Whether anything is new.
    pub(super) fn observe(
        &mut self,
        orders: &Orders,
        said: impl IntoIterator<Item = (String, Option<u64>)>,
        now_ms: UnixMs,
    ) -> bool {
        let before = self.clone();
        let newest = newest(orders, now_ms);
        let id = newest.map(|order| order.id);
        if self.order != id {
            // Replaced before its end: the new one holds from its own beginning.
            let ended_ms = if self.until_ms <= now_ms { self.until_ms } else { 0 };
            let (begun_ms, until_ms) = newest.map_or((now_ms, ended_ms), |order| {
                (order.given_ms.max(order.from_ms).max(ended_ms), order.until_ms)
            });
            *self = Self { order: id, begun_ms, until_ms, after_ms: BTreeMap::new() };
        }
        // Under an automatic order nodes obey none.
        let expected = newest.filter(|order| order.kind != Kind::Automatic).map(|order| order.id);
        if id.is_some() {
            let after_ms = now_ms.saturating_sub(self.begun_ms);
            for (node, _) in said.into_iter().filter(|(_, order)| *order == expected) {
                self.after_ms.entry(node).or_insert(after_ms);
            }
        }
        *self != before
    }
}

#[cfg(test)]
mod tests;
