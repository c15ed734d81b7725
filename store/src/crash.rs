//! Named places at which a test makes the process die, as a crash would: at once, without unwinding or flushing.
//!
//! Only in builds with the feature `crash-points`; in all others nothing of this exists. `BUSLANE_CRASH_AT=name` or
//! `name:N` (the N-th time it is passed). Names: `store.before_append`, `store.before_sync`, `store.after_sync`,
//! `store.mid_receipts`, `store.after_receipts`.

use std::collections::HashMap;
use std::sync::LazyLock;

use parking_lot::Mutex;

static WANTED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
    let wanted = std::env::var("BUSLANE_CRASH_AT").ok()?;
    Some(match wanted.rsplit_once(':') {
        Some((name, n)) => (name.to_owned(), n.parse().unwrap_or(1)),
        None => (wanted, 1),
    })
});

static PASSED: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

/// Whether the process is to die here.
pub fn is_due(name: &str) -> bool {
    let Some((wanted, n)) = WANTED.as_ref().filter(|(wanted, _)| wanted == name) else { return false };
    let mut passed = PASSED.lock();
    let count = passed.entry(wanted.clone()).or_default();
    *count += 1;
    *count == *n
}

/// Dies if it is due.
pub fn pass(name: &str) {
    if is_due(name) {
        std::process::abort();
    }
}
