//! Durable sends through the command line: as many as possible, and one at a time.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use super::{Plan, output_of};
use crate::figures::Figure;
use crate::phone::{Phone, transport};
use crate::server::Server;

const SENDS: usize = 100_000;
const BODY_BYTES: &str = "200";
const IN_FLIGHT: &str = "256";
const ONE_BY_ONE: usize = 3_000;

#[derive(Debug, Deserialize)]
struct Summary {
    sent: u64,
    acked: u64,
    msgs_per_s: f64,
    ack_ms: AckMs,
}

#[derive(Debug, Deserialize)]
struct AckMs {
    p50: f64,
    p99: f64,
}

#[derive(Debug, Deserialize)]
struct AppendRate {
    per_s: f64,
}

pub async fn throughput(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let count = plan.scaled(SENDS, 2_000);
    let folder = plan.folder("sends")?;
    let store = store_rate(plan, &folder.join("append"), count).await?;
    let summary = send(plan, &folder, count, IN_FLIGHT).await?;
    let measured = format!(
        "{:.0}/s ({count} sends over 1 connection; the store alone, 256 in flight: {store:.0}/s)",
        summary.msgs_per_s
    );
    let what = "durable 1:1 sends, 200 bytes, 256 in flight";
    Ok(vec![Figure::at_least(what, ">= 15,000 receipts/s", summary.msgs_per_s, 15_000.0, measured)])
}

pub async fn one_at_a_time(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let count = plan.scaled(ONE_BY_ONE, 200);
    let summary = send(plan, &plan.folder("one-at-a-time")?, count, "1").await?;
    let AckMs { p50, p99 } = summary.ack_ms;
    let what = "one at a time: send to receipt";
    Ok(vec![
        Figure::at_most(what, "p50 <= 1 ms", p50, 1.0, format!("p50 {p50:.2} ms ({count} sends)")),
        Figure::at_most(what, "p99 <= 5 ms", p99, 5.0, format!("p99 {p99:.2} ms")),
    ])
}

/// A fresh server, a receiver, and one run of `buslane send`.
async fn send(plan: &Plan, folder: &Path, count: usize, in_flight: &str) -> anyhow::Result<Summary> {
    let server = Server::up(&plan.program, &folder.join("data")).await?;
    Phone::enrol(&transport(&server.ready.ca)?, &server.ready, "bob").await?;
    let (ca, count) = (server.ready.ca.to_string_lossy(), count.to_string());
    let (gate, state) = (server.ready.gate.as_str(), folder.join("alice"));
    let state = state.to_string_lossy();
    let who = ["--gate", gate, "--ca", &ca, "--as", "alice", "--state", &state];
    let load = ["--to", "bob", "--count", &count, "--size", BODY_BYTES, "--in-flight", in_flight];
    let args = [&["send", "--json"], &who[..], &load[..]].concat();
    let out = output_of(&plan.program, &args, folder).await?;
    let summary: Summary =
        serde_json::from_str(out.trim()).with_context(|| format!("send answered: {out}"))?;
    anyhow::ensure!(
        summary.acked == summary.sent,
        "{} of {} sends have no receipt",
        summary.sent - summary.acked,
        summary.sent
    );
    server.stop().await?;
    Ok(summary)
}

/// The store's own rate of durable appends, in a process of its own, in the same run.
async fn store_rate(plan: &Plan, folder: &Path, count: usize) -> anyhow::Result<f64> {
    let (dir, count) = (folder.to_string_lossy(), count.to_string());
    let args = [
        "load",
        "append-rate",
        "--json",
        "--dir",
        &dir,
        "--count",
        &count,
        "--size",
        BODY_BYTES,
        "--in-flight",
        IN_FLIGHT,
    ];
    let out = output_of(&plan.program, &args, folder).await?;
    let rate: AppendRate =
        serde_json::from_str(out.trim()).with_context(|| format!("append-rate answered: {out}"))?;
    Ok(rate.per_s)
}
