//! Gives every error its one form, also those that the web framework writes by itself in plain text.
//!
//! Why it exists: whoever reads `{"error":{"code",…}}` reads nothing else. It must never touch an answer that is not an error.

use axum::body::to_bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use super::error;

/// A sentence about a field.
const TEXT_BYTES_MAX: usize = 4 * 1024;

pub(super) async fn of_errors(answer: Response) -> Response {
    let status = answer.status();
    let kind = answer.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_plain = kind.is_none_or(|kind| kind.starts_with(b"text/plain"));
    if !is_plain || !(status.is_client_error() || status.is_server_error()) {
        return answer;
    }
    let (parts, body) = answer.into_parts();
    let text = to_bytes(body, TEXT_BYTES_MAX).await.unwrap_or_default();
    let (code, otherwise) = words(status);
    let text = String::from_utf8_lossy(&text);
    let message = if text.trim().is_empty() { otherwise } else { text.trim() };
    let mut shaped = error(status, code, message);
    if let Some(allowed) = parts.headers.get(header::ALLOW) {
        shaped.headers_mut().insert(header::ALLOW, allowed.clone());
    }
    shaped
}

/// The stable code of a status, and what to say where nothing was said.
fn words(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::NOT_FOUND => ("not_found", "there is no such route; see docs/operations.md"),
        StatusCode::METHOD_NOT_ALLOWED => {
            ("method_not_allowed", "this route takes other methods: see the header `Allow`")
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ("unsupported_media_type", "send application/json"),
        StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "send less"),
        status if status.is_server_error() => ("internal", "this is a fault of the program: see its log"),
        _ => ("bad_request", "the request is malformed"),
    }
}
