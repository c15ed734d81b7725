//! Random secrets, and what is kept of them.
//!
//! Why it exists: tokens and cookies are 256 random bits; a fast hash of that cannot be turned back, so that is all that is kept. Nothing here may be
//! used for what people choose themselves.

use aws_lc_rs::digest;

use crate::clock;

/// SHA-256 of a secret.
pub(super) type Hash = [u8; 32];

/// 256 random bits as text.
pub(super) fn random() -> String {
    hex::encode(clock::random::<32>())
}

/// What is kept.
pub(super) fn hash(secret: &str) -> Hash {
    let digest = digest::digest(&digest::SHA256, secret.as_bytes());
    // SHA-256 has 32 bytes.
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}
