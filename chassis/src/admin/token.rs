//! The token of the folder: where it lies and how it is compared.
//!
//! Why it exists: whoever can read the folder of a process may do everything to it: make codes, copy the data, rotate keys, hand out tokens. It must
//! never be logged.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use subtle::ConstantTimeEq;

use crate::secret;

/// Shortest token that is accepted from a file: 128 bits in hexadecimal.
const TOKEN_CHARS_MIN: usize = 32;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("token file {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file holds something that can be guessed.
    #[error(
        "token file {}: a token has at least {TOKEN_CHARS_MIN} printable characters; remove the file and a good one is made",
        .0.display()
    )]
    Weak(PathBuf),
}

/// The secret that operators show.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    /// From its file.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let file = |error| TokenError::File { path: path.to_owned(), error };
        let text = std::fs::read_to_string(path).map_err(file)?;
        let text = text.trim();
        if text.len() < TOKEN_CHARS_MIN || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TokenError::Weak(path.to_owned()));
        }
        if secret::is_exposed(path).map_err(file)? {
            tracing::warn!(path = %path.display(), "the token file is readable by others: chmod 600 it");
        }
        Ok(Self(text.into()))
    }

    /// From its file, which is made on first use (0600).
    pub fn load_or_create(path: &Path) -> Result<Self, TokenError> {
        let made = format!("{}\n", hex::encode(crate::clock::random::<32>()));
        match secret::create(path, made.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(TokenError::File { path: path.to_owned(), error })
            }
            _ => Self::load(path),
        }
    }

    /// The token itself, for the header of a request.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(super) fn is(&self, shown: &str) -> bool {
        self.0.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
