//! The forms of an answer, and what every change must be given.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use buslane_chassis::admin::error;
use buslane_chassis::audit::AuditError;
use serde::Serialize;

/// Longest reason or text, in characters: a few sentences.
pub const TEXT_CHARS_MAX: usize = 500;

/// What was asked for.
#[derive(Debug, Serialize)]
struct Result<T> {
    result: T,
}

/// `{"result": …}`.
pub fn result(value: impl Serialize) -> Response {
    Json(Result { result: value }).into_response()
}

/// 400: the request is none.
pub fn wrong(code: &str, message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, code, message)
}

/// 404: there is no such thing.
pub fn absent(code: &str, message: &str) -> Response {
    error(StatusCode::NOT_FOUND, code, message)
}

/// 503: it cannot be recorded, so it was not done.
pub fn unwritable(why: &AuditError) -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "audit_unwritable", &why.to_string())
}

/// 500: what should not be.
pub fn internal(why: &dyn std::fmt::Display) -> Response {
    error(StatusCode::INTERNAL_SERVER_ERROR, "internal", &why.to_string())
}

/// A reason or another text of a person, trimmed; the answer if it is none. `what` names it: "reason".
pub fn text(what: &str, said: &str) -> std::result::Result<String, Box<Response>> {
    let said = said.trim();
    if said.is_empty() {
        let message = format!("say a {what}: somebody will read it at night");
        return Err(Box::new(wrong(&format!("no_{what}"), &message)));
    }
    let is_short = said.chars().count() <= TEXT_CHARS_MAX;
    if !is_short || said.chars().any(|c| c.is_control() && c != '\n') {
        let message = format!(
            "the {what} is longer than {TEXT_CHARS_MAX} characters or has control characters: write less"
        );
        return Err(Box::new(wrong(&format!("bad_{what}"), &message)));
    }
    Ok(said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_short_and_says_something() {
        assert_eq!(text("reason", "  a drill \n").unwrap(), "a drill");
        assert_eq!(text("reason", &"ä".repeat(TEXT_CHARS_MAX)).unwrap().chars().count(), TEXT_CHARS_MAX);
        for bad in ["", "   ", "a\u{1b}[31m", "nul\0", &"x".repeat(TEXT_CHARS_MAX + 1)] {
            assert_eq!(text("reason", bad).unwrap_err().status(), StatusCode::BAD_REQUEST, "{bad:?}");
        }
    }
}
