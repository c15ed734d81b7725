//! What the store counts: the registry of its metrics. A metric that is counted and not listed here is found by a test of the binary.

use buslane_shared::metric::{Metric, Unit};

/// Every metric of the store.
pub const METRICS: &[Metric] = &[
    Metric::seconds("buslane_store_commit_seconds", &[], "One batch, to the disk's confirmation"),
    Metric::seconds("buslane_store_commit_commands", &[], "Writes in a batch").in_unit(Unit::Count),
    Metric::counter("buslane_store_commands_total", &[], "Writes that were taken"),
    Metric::gauge("buslane_store_free_bytes", Unit::Bytes, &[], "What is free on the disk of the store"),
    Metric::gauge(
        "buslane_store_stopped",
        Unit::Code,
        &[],
        "1 after a write has failed: any is an alarm, nothing is taken until a restart",
    ),
];
