//! What a login costs the server, beside a bare QUIC handshake with one request of the same build, in turns in one run.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use buslane_client::transport::{Protocol, Transport};
use serde::Deserialize;

use super::Plan;
use crate::account::cpu_time;
use crate::figures::Figure;
use crate::phone::{Phone, enrol_many, transport};
use crate::server::{Server, first_line};

const ROUNDS: usize = 8;
const LOGINS_PER_ROUND: usize = 250;

#[derive(Debug, Deserialize)]
struct Bare {
    address: String,
    server_name: String,
    ca: std::path::PathBuf,
}

pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let folder = plan.folder("logins")?;
    let server = Server::up(&plan.program, &folder.join("data")).await?;
    let transport = transport(&server.ready.ca)?;
    let each = plan.scaled(LOGINS_PER_ROUND, 50);
    let phones = enrol_many(&transport, &server.ready, "login", (ROUNDS + 1) * each).await?;
    let (_bare_process, bare_pid, bare) = start_bare(&plan.program, &folder.join("bare")).await?;
    let bare_transport = crate::phone::transport(&bare.ca)?;
    let hello_bytes = phones.first().map_or(0, Phone::ticket_bytes) + 64;

    let (mut login_us, mut bare_us) = (Vec::new(), Vec::new());
    for (round, phones) in phones.chunks_exact(each).enumerate() {
        let before = cpu_time(server.pid)?;
        for phone in phones {
            let session = phone.open(&transport).await?;
            session.close();
        }
        settle().await;
        let login = (cpu_time(server.pid)? - before).as_secs_f64() * 1e6 / each as f64;
        let before = cpu_time(bare_pid)?;
        for _ in 0..each {
            bare_request(&bare_transport, &bare, hello_bytes).await?;
        }
        settle().await;
        let plain = (cpu_time(bare_pid)? - before).as_secs_f64() * 1e6 / each as f64;
        // The first round warms both up.
        if round > 0 {
            login_us.push(login);
            bare_us.push(plain);
        }
    }
    server.stop().await?;
    let (login, plain) = (median(login_us), median(bare_us));
    let measured = format!(
        "{:.2}x ({login:.0} us against {plain:.0} us; medians of {ROUNDS} rounds of {each} in turns)",
        login / plain
    );
    let what = "login (handshake, ticket, welcome), server CPU";
    Ok(vec![Figure::at_most(
        what,
        "<= 1.2x a bare quinn handshake and one request",
        login / plain,
        1.2,
        measured,
    )])
}

/// Lets both servers finish what a closed connection leaves behind, so that it is counted where it belongs.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

async fn start_bare(program: &Path, folder: &Path) -> anyhow::Result<(tokio::process::Child, u32, Bare)> {
    let dir = folder.to_string_lossy();
    let (child, pid, line) = first_line(program, &["load", "bare-quic", "--json", "--dir", &dir]).await?;
    let bare = serde_json::from_str(&line).with_context(|| format!("bare-quic answered: {line}"))?;
    Ok((child, pid, bare))
}

/// One connection, one stream, one request and its answer.
async fn bare_request(transport: &Transport, bare: &Bare, bytes: usize) -> anyhow::Result<()> {
    let connection = transport.connect(Protocol::Session, &bare.address, &bare.server_name).await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(&vec![b'x'; bytes]).await?;
    send.finish()?;
    recv.read_to_end(4096).await?;
    connection.close(0u32.into(), b"");
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
