//! The description of the whole API, as OpenAPI 3.1, for people and for programs that make clients.
//!
//! Why it exists: `ctl`, the page and other people's programs use one API, and it is described in one place. A test compares it with the
//! routes and with the shapes in the sources, so it never describes what there is not. It holds nothing that is secret.

/// The document, as `GET /v1/openapi.json` answers it.
pub const OPENAPI: &str = include_str!("../openapi.json");

#[cfg(test)]
mod tests;
