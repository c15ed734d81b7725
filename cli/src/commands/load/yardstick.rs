//! What figures are held against: the store's own rate of durable appends, and a bare QUIC server that does nothing but
//! shake hands and answer one request. Both are the same build as the server that is measured.

use std::path::Path;
use std::time::Duration;

use buslane_chassis::quic::{Tuning, server_endpoint};
use buslane_chassis::tls::{self, Authority};
use buslane_shared::limits::ALPN_SESSION;
use buslane_store::measure::measure_append_rate;
use serde_json::json;

use super::failed;
use crate::failure::{Exit, Failure};
use crate::output::{Output, print_line};
use crate::process::{explain_endpoint, explain_tls};
use crate::settings::loopback;

/// Largest request that the bare server reads: a hello with the largest token fits.
const REQUEST_BYTES_MAX: usize = 4096;

/// As a welcome: identifiers, a resume token, limits.
const ANSWER_BYTES: usize = 300;

/// The name in the bare server's certificate.
const SERVER_NAME: &str = "localhost";

/// How fast a store in `dir` appends, with this many appends of this size on the way.
pub async fn append_rate(
    dir: &Path,
    count: u64,
    size: usize,
    in_flight: usize,
    output: Output,
) -> Result<(), Failure> {
    let rate = measure_append_rate(dir, in_flight, size, count)
        .await
        .map_err(|e| Failure::new(Exit::Data, "not_measured", e.to_string()))?;
    output.result(&rate, || {
        format!(
            "{:.0} durable appends a second, {in_flight} in flight; p50 {:.0} us, p99 {:.0} us, p999 {:.0} us",
            rate.per_s, rate.p50_us, rate.p99_us, rate.p999_us
        )
    })
}

/// Runs the bare server until it is stopped; says where it listens. It has the certificate, the socket and the transport of
/// a session manager, and nothing else of it.
pub async fn bare_quic(dir: &Path) -> Result<(), Failure> {
    tls::install_provider();
    let authority = Authority::load_or_generate(dir).map_err(|e| explain_tls(&e))?;
    let identity = authority
        .identity(dir, "bare", SERVER_NAME, &["127.0.0.1".to_owned()])
        .map_err(|e| explain_tls(&e))?;
    let tuning = Tuning::session(Duration::from_secs(100), 0);
    let endpoint = server_endpoint(loopback(0), &identity, ALPN_SESSION, tuning)
        .map_err(|e| explain_endpoint(&e, "another address"))?;
    let address = endpoint.local_addr().map_err(|e| failed(format!("the socket has no address: {e}")))?;
    let line =
        json!({"ready": true, "address": address, "server_name": SERVER_NAME, "ca": dir.join("ca.pem")});
    print_line(&line.to_string())?;
    let serving = async {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                // A client that goes away in the middle is not counted by whoever measures.
                let Ok(connection) = incoming.await else { return };
                let Ok((mut send, mut recv)) = connection.accept_bi().await else { return };
                if recv.read_to_end(REQUEST_BYTES_MAX).await.is_ok()
                    && send.write_all(&[b'y'; ANSWER_BYTES]).await.is_ok()
                    && send.finish().is_ok()
                {
                    connection.closed().await;
                }
            });
        }
    };
    tokio::select! {
        () = serving => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}
