//! The order book on the disk: the old one or the new one after any crash.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use buslane_shared::UnixMs;
use buslane_shared::overload::orders::{Order, Orders};
use serde::{Deserialize, Serialize};

use crate::secret;

/// The orders, and which of them were given at this node: their ends are recorded here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Kept {
    pub(super) orders: Orders,
    pub(super) here: BTreeSet<u64>,
}

#[derive(Serialize, Deserialize)]
struct File {
    orders: Vec<Order>,
    here: BTreeSet<u64>,
}

impl Kept {
    /// Takes over an order that was given here.
    pub(super) fn give(&mut self, order: Order, now_ms: UnixMs) {
        self.here.insert(order.id);
        self.orders.give(order, now_ms);
        self.tidy();
    }

    /// Forgets what is over; those that were given here and ended by themselves.
    pub(super) fn forget(&mut self, now_ms: UnixMs) -> Vec<Order> {
        let mut over = self.orders.forget(now_ms);
        over.retain(|order| self.here.contains(&order.id));
        self.tidy();
        over
    }

    fn tidy(&mut self) {
        let known: BTreeSet<u64> = self.orders.iter().map(|order| order.id).collect();
        self.here.retain(|id| known.contains(id));
    }
}

/// Reads a book; what cannot be read is put aside, and the book is empty.
pub(super) fn read(path: &Path) -> Kept {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::error!(path = %path.display(), %error, "the order book cannot be read; it begins empty");
            }
            return Kept::default();
        }
    };
    match serde_json::from_slice::<File>(&text) {
        Ok(file) => {
            // Through the same check as orders of others: a file can be edited.
            let mut kept = Kept { here: file.here, ..Kept::default() };
            kept.orders.merge(file.orders, 0);
            kept
        }
        Err(error) => {
            let aside = path.with_extension("json.damaged");
            let moved = std::fs::rename(path, &aside);
            tracing::error!(path = %aside.display(), %error, moved = moved.is_ok(), "the order book is damaged; it begins empty");
            Kept::default()
        }
    }
}

pub(super) fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let file = File { orders: kept.orders.iter().cloned().collect(), here: kept.here.clone() };
    secret::write(path, &serde_json::to_vec_pretty(&file)?)
}
