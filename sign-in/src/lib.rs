//! Signing operators in with an OpenID Connect provider: authorization code, PKCE, state and nonce. In binaries with the feature `oidc` alone.
//!
//! Why it exists: the libraries for it are many, and most systems do without; so they are kept out of the usual binary, behind
//! `buslane_chassis::admin::sign_in::Provider`. What a browser is told, who is let in and for how long is decided there. This crate must never let a
//! secret, a code or a token into a log, nor wait for a provider beyond its limits.

mod claims;
mod http;
mod provider;

pub use provider::{OpenError, OpenIdConnect};
