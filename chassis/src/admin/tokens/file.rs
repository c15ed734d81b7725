//! The tokens on the disk: hashes, for the owner only, the old file or the new one after any crash.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Live, TokenView};
use crate::secret;

#[derive(Serialize, Deserialize)]
struct File {
    tokens: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    view: TokenView,
    /// SHA-256 of the token, hexadecimal.
    hash: String,
}

/// Reads the tokens. What is in the file and is none of ours is put aside, and lets nobody in. A disk that does not answer is an
/// error: the file may be whole.
pub(super) fn read(path: &Path) -> io::Result<BTreeMap<String, Live>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    if secret::is_exposed(path).unwrap_or(false) {
        tracing::warn!(path = %path.display(), "the tokens are readable by others: chmod 600 the file");
    }
    let parsed = serde_json::from_slice::<File>(&text).map_err(|error| error.to_string());
    let all: Result<_, String> = parsed.and_then(|file| file.tokens.into_iter().map(live).collect());
    Ok(all.unwrap_or_else(|why| put_aside(path, &why)))
}

pub(super) fn write(path: &Path, tokens: &BTreeMap<String, Live>) -> io::Result<()> {
    let line = |live: &Live| Line { view: live.view.clone(), hash: hex::encode(live.hash) };
    let file = File { tokens: tokens.values().map(line).collect() };
    secret::write(path, &serde_json::to_vec_pretty(&file)?)
}

fn live(line: Line) -> Result<(String, Live), String> {
    let mut hash = [0; 32];
    hex::decode_to_slice(&line.hash, &mut hash)
        .map_err(|error| format!("hash of {}: {error}", line.view.id))?;
    Ok((line.view.id.clone(), Live { view: line.view, hash, alive: CancellationToken::new() }))
}

fn put_aside(path: &Path, why: &str) -> BTreeMap<String, Live> {
    let aside = path.with_extension("json.damaged");
    let moved = std::fs::rename(path, &aside).is_ok();
    tracing::error!(path = %aside.display(), why, moved, "the file of the tokens is damaged: none of them holds; make new ones");
    BTreeMap::new()
}
