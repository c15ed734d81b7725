//! `GET /v1/live`: server-sent events.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use buslane_chassis::admin::error;
use buslane_chassis::clock;
use buslane_shared::UnixMs;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use serde::Serialize;

use crate::live::STREAMS_MAX;
use crate::peers::call::CallError;
use crate::seat::Seat;
use crate::view::Sample;

/// The routes.
pub fn routes(seat: &Arc<Seat>) -> Router {
    Router::new().route("/v1/live", get(open)).with_state(Arc::clone(seat))
}

/// The first event of a stream.
#[derive(Debug, Serialize)]
struct Hello {
    node: String,
    role: &'static str,
    version: &'static str,
    sample: Option<Sample>,
    now_ms: UnixMs,
}

async fn open(State(seat): State<Arc<Seat>>) -> Response {
    let Some(place) = seat.live.place() else { return full() };
    let stream = seat.live.stream(place, || Hello {
        node: seat.node.clone(),
        role: seat.role,
        version: seat.version,
        sample: seat.history.last().map(|sample| Sample::clone(&sample)),
        now_ms: clock::unix_ms(),
    });
    events(Body::from_stream(stream))
}

/// The stream of another process, as long as this one lives.
pub async fn of_another(seat: &Seat, addr: SocketAddr, path: &str) -> Result<Response, CallError> {
    let Some(place) = seat.live.place() else { return Ok(full()) };
    let answer = seat.peers.pass_on(addr, path).await?;
    let ending = seat.live.ending();
    let stream = answer.into_body().into_data_stream().take_until(Box::pin(ending.cancelled_owned()));
    // The place is given back when the stream is dropped.
    let stream = stream.map(move |frame| {
        let _place = &place;
        frame
    });
    Ok(events(Body::from_stream(stream)))
}

fn events(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        // A proxy that gathers answers would make live data old.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

/// There are as many streams as there may be.
fn full() -> Response {
    error(
        StatusCode::SERVICE_UNAVAILABLE,
        "too_many_streams",
        &format!("{STREAMS_MAX} streams are open already: ask `GET /v1/traffic` every few seconds"),
    )
}
