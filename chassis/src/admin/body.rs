//! Reads what a request sends, within bounds of size and time.
//!
//! Why it exists: a client that sends a byte a minute holds a connection, and one that sends without end holds memory. It must never be asked to read
//! for a stranger more than it takes to log in.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;

use super::error;

/// Far more than any order or note.
pub(super) const BYTES_MAX: usize = 256 * 1024;

/// A token and a path.
pub(super) const LOGIN_BYTES_MAX: usize = 4 * 1024;

/// How long it may take to arrive.
const LIMIT: Duration = Duration::from_secs(10);

/// The same request with its body in memory.
pub(super) async fn whole(request: Request) -> Result<Request, Response> {
    let (parts, body) = request.into_parts();
    let bytes = read(body, BYTES_MAX).await?;
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

pub(super) async fn read(body: Body, bytes_max: usize) -> Result<Bytes, Response> {
    match tokio::time::timeout(LIMIT, to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // A connection that broke does not hear this.
        Ok(Err(_)) => Err(error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            &format!("this takes at most {bytes_max} bytes: send less"),
        )),
        Err(_) => Err(error(
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            "the request did not arrive within 10 seconds: send it again",
        )),
    }
}
