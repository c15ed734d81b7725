//! One line of the audit: `{"hash":"<64 hex>",…}`, where the hash is the SHA-256 of the line without it.
//!
//! `printf '%s' "{${LINE#*,}" | sha256sum` is all that is needed to check one by hand. The hash of the line before is inside
//! (`prev`), which makes the chain.

use std::io;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use buslane_shared::UnixMs;

/// A hash, in hex.
pub(super) type Hash = String;

const BEGIN: &str = "{\"hash\":\"";
const HASH_HEX: usize = 64;

/// An entry as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// 1, 2, 3, ... over all files.
    pub no: u64,
    /// When it was written.
    pub at_ms: UnixMs,
    /// Who.
    pub author: String,
    /// What.
    pub action: String,
    /// Why.
    pub reason: String,
    /// What held.
    pub before: Value,
    /// What was to hold.
    pub after: Value,
    /// Hash of the entry before; empty in the first.
    pub prev: Hash,
}

/// The line, with its end, and its hash.
pub(super) fn encode(record: &Record) -> io::Result<(String, Hash)> {
    let rest = serde_json::to_string(record)?;
    let hash = hash_of(&rest);
    // An object of the same fields, with one more at its beginning.
    let fields = rest.strip_prefix('{').unwrap_or(&rest);
    Ok((format!("{BEGIN}{hash}\",{fields}\n"), hash))
}

/// Reads a line without its end. `None`: it is not what was written.
pub(super) fn decode(line: &str) -> Option<(Record, Hash)> {
    let (hash, fields) = line.strip_prefix(BEGIN)?.split_at_checked(HASH_HEX)?;
    let rest = format!("{{{}", fields.strip_prefix("\",")?);
    if hash_of(&rest) != hash {
        return None;
    }
    Some((serde_json::from_str(&rest).ok()?, hash.to_owned()))
}

fn hash_of(text: &str) -> Hash {
    hex::encode(digest::digest(&digest::SHA256, text.as_bytes()))
}
