//! What an idle session costs the server in memory: the growth of its resident memory, divided by the sessions.

use std::time::Duration;

use buslane_client::session::Session;

use super::Plan;
use crate::account::resident_bytes;
use crate::figures::Figure;
use crate::phone::{enrol_many, transport};
use crate::server::Server;

const SESSIONS: usize = 4_000;
/// Sessions that are opened and closed first, so that what is needed once is there before the count begins.
const WARM_UP: usize = 200;
/// Resident memory is read until it has not grown for this long.
const QUIET: Duration = Duration::from_secs(3);

pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let server = Server::up(&plan.program, &plan.folder("idle")?.join("data")).await?;
    let transport = transport(&server.ready.ca)?;
    let count = plan.scaled(SESSIONS, 500);
    let phones = enrol_many(&transport, &server.ready, "idle", WARM_UP + count).await?;
    let (warm, cold) = phones.split_at(WARM_UP);
    let mut warm_sessions = Vec::new();
    for phone in warm {
        warm_sessions.push(phone.open(&transport).await?);
    }
    let before = settled(server.pid).await?;
    let mut sessions: Vec<Session> = Vec::with_capacity(count);
    for phone in cold {
        sessions.push(phone.open(&transport).await?);
    }
    let after = settled(server.pid).await?;
    drop(sessions);
    drop(warm_sessions);
    server.stop().await?;
    let each = after.saturating_sub(before) as f64 / count as f64 / 1024.0;
    let what = "idle session, server memory";
    let measured = format!("{each:.1} KiB ({count} sessions, growth of resident memory)");
    Ok(vec![Figure::at_most(what, "<= 36 KiB", each, 36.0, measured)])
}

/// Resident memory once it no longer grows.
async fn settled(pid: u32) -> anyhow::Result<u64> {
    let mut last = resident_bytes(pid)?;
    loop {
        tokio::time::sleep(QUIET).await;
        let now = resident_bytes(pid)?;
        if now <= last + last / 200 {
            return Ok(now);
        }
        last = now;
    }
}
