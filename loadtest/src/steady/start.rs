//! How long a server takes to be ready on a data folder of a gibibyte, after an ordinary stop and after `kill -9`.

use std::time::Instant;

use super::{Plan, output_of};
use crate::figures::Figure;
use crate::phone::{Phone, transport};
use crate::server::Server;

const BODY_BYTES: usize = 16 * 1024;
const FOLDER_BYTES: usize = 1 << 30;

pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let folder = plan.folder("start")?;
    let data = folder.join("data");
    let server = Server::up(&plan.program, &data).await?;
    Phone::enrol(&transport(&server.ready.ca)?, &server.ready, "bob").await?;
    let count = (plan.scaled(FOLDER_BYTES, 16 << 20) / BODY_BYTES).to_string();
    let (ca, state) = (server.ready.ca.to_string_lossy().into_owned(), folder.join("alice"));
    let state = state.to_string_lossy();
    let size = BODY_BYTES.to_string();
    let who =
        ["send", "--json", "--gate", &server.ready.gate, "--ca", &ca, "--as", "alice", "--state", &state];
    let load = ["--to", "bob", "--count", &count, "--size", &size, "--in-flight", "128"];
    output_of(&plan.program, &[&who[..], &load[..]].concat(), &folder).await?;
    server.kill().await?;
    let bytes = folder_bytes(&data)?;
    let after_kill = timed_start(plan, &data).await?;
    let after_stop = timed_start(plan, &data).await?;
    let gib = bytes as f64 / (1u64 << 30) as f64;
    let measured =
        format!("{after_stop:.2} s after a stop, {after_kill:.2} s after kill -9 ({gib:.2} GiB on disk)");
    let what = "start of `up` on an existing 1 GiB data folder";
    Ok(vec![Figure::at_most(what, "<= 3 s", after_stop.max(after_kill), 3.0, measured)])
}

async fn timed_start(plan: &Plan, data: &std::path::Path) -> anyhow::Result<f64> {
    let began = Instant::now();
    let server = Server::up(&plan.program, data).await?;
    let took = began.elapsed().as_secs_f64();
    server.stop().await?;
    Ok(took)
}

fn folder_bytes(folder: &std::path::Path) -> std::io::Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        total += if meta.is_dir() { folder_bytes(&entry.path())? } else { meta.len() };
    }
    Ok(total)
}
