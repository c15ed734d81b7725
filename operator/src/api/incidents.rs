//! `/v1/incidents` and `/v1/notify/test`.
//!
//! | route | body | answer |
//! |---|---|---|
//! | `GET /v1/incidents?state=` | `open` (not over), a state's name, or nothing: all | `[IncidentView]`, newest first, without timelines |
//! | `POST /v1/incidents` | `title, severity, reason` | `IncidentView` |
//! | `GET /v1/incidents/{no}` | | `IncidentView` with its timeline |
//! | `POST /v1/incidents/{no}/acknowledge` | `reason` (may be left out) | `IncidentView` with its timeline, as below |
//! | `POST /v1/incidents/{no}/silence` | `duration_ms` (0 ends it, at most 24 h), `reason` | |
//! | `POST /v1/incidents/{no}/note` | `text` | |
//! | `POST /v1/incidents/{no}/state` | `state`, `reason` | |
//! | `POST /v1/incidents/{no}/severity` | `severity`, `reason` | |
//! | `GET /v1/incidents/{no}/export` | | the post-mortem, `text/markdown` |
//! | `POST /v1/notify/test` | `reason` | `[{to, ok, error}]`, one for each that is configured |
//!
//! Whatever changes an incident is in the audit before it is done, and its answer has `not_kept`: why it would not survive a
//! restart, or null.

use std::sync::Arc;

use axum::Router;

use crate::seat::Seat;

/// The routes.
pub fn routes(_seat: &Arc<Seat>) -> Router {
    Router::new()
}
