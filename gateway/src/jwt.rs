//! Tokens of the identity provider: whether one entitles somebody to enrol a device under a user name.
//!
//! Why it exists: companies have their users in an identity provider and want it to decide who comes in. A token is
//! accepted only if its key, algorithm, issuer, audience and times are all right and its subject *is* the user. It must
//! never trust anything that a token says about how it is to be checked: the algorithm follows from the provider's key.

use std::sync::Arc;
use std::time::Duration;

use buslane_shared::id::UserId;
use buslane_shared::refusal::{Code, Refusal};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};

use crate::config;
use crate::jwks::{Jwks, KeyMiss};

/// Largest token; a request with it and a signature still fits the frame.
pub const JWT_BYTES_MAX: usize = 3_500;

/// Why a token does not entitle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// It is not a signed token at all, or too large, or asks for something that is not supported.
    #[error("it is not a signed JSON Web Token")]
    Malformed,
    /// Its algorithm is not the one of its key. `none` and shared secrets never are.
    #[error("its algorithm is not accepted; sign with RS256, ES256 or EdDSA")]
    Algorithm,
    /// The provider does not publish its key.
    #[error("the identity provider does not publish its key")]
    UnknownKey,
    /// The provider's keys cannot be had now; worth another try after this time.
    #[error("the identity provider's keys cannot be fetched now")]
    KeysAway(Duration),
    /// The signature is wrong.
    #[error("its signature is wrong")]
    Signature,
    /// Its time is over, or it has none.
    #[error("it has expired; fetch a fresh one")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet; check the clocks")]
    NotYet,
    /// Another issuer.
    #[error("it is from another issuer")]
    Issuer,
    /// For another audience.
    #[error("it is meant for another audience")]
    Audience,
    /// A claim that is needed is missing or of the wrong kind.
    #[error("its claim {0:?} is missing or of the wrong kind")]
    Claim(String),
    /// It is somebody else's.
    #[error("it is for another user than the one to be enrolled")]
    OtherUser,
}

impl From<JwtError> for Refusal {
    fn from(error: JwtError) -> Self {
        match error {
            JwtError::KeysAway(wait) => Self::new(Code::Unavailable, format!("{error}; try again later"))
                .retry_after_ms(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1)),
            other => Self::new(Code::BadToken, format!("the identity provider's token is refused: {other}")),
        }
    }
}

/// Checks tokens of one provider.
pub struct JwtCheck {
    jwks: Arc<Jwks>,
    validation: Validation,
    user_claim: String,
    /// Seconds for which a device that showed a token stays enrolled.
    pub credential_life_s: u32,
}

impl JwtCheck {
    /// A check by these settings and keys.
    pub fn new(settings: &config::Jwt, jwks: Arc<Jwks>) -> Self {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = settings.leeway_s;
        validation.validate_nbf = true;
        validation.set_issuer(&[&settings.issuer]);
        validation.set_audience(&settings.audience);
        // Without this a token that simply lacks a claim would pass.
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        Self {
            jwks,
            validation,
            user_claim: settings.user_claim.clone(),
            credential_life_s: settings.credential_life_s,
        }
    }

    /// Whether `token` is the provider's word for `user`.
    pub async fn vouches(&self, token: &str, user: &UserId) -> Result<(), JwtError> {
        if token.len() > JWT_BYTES_MAX {
            return Err(JwtError::Malformed);
        }
        // An algorithm that the library does not know (such as "none") does not even decode.
        let header = jsonwebtoken::decode_header(token).map_err(|e| reason(e.kind()))?;
        if header.crit.is_some() {
            // RFC 7515, section 4.1.11: an extension that must be understood, and none is.
            return Err(JwtError::Malformed);
        }
        let key = self.jwks.key(header.kid.as_deref()).await.map_err(|miss| match miss {
            KeyMiss::Unknown => JwtError::UnknownKey,
            KeyMiss::Later(wait) => JwtError::KeysAway(wait),
        })?;
        let validation = Validation { algorithms: vec![key.algorithm], ..self.validation.clone() };
        let token =
            jsonwebtoken::decode::<serde_json::Map<String, serde_json::Value>>(token, &key.key, &validation)
                .map_err(|e| reason(e.kind()))?;
        let subject = token.claims.get(&self.user_claim).and_then(|claim| claim.as_str());
        match subject {
            Some(subject) if subject == user.as_str() => Ok(()),
            Some(_) => Err(JwtError::OtherUser),
            None => Err(JwtError::Claim(self.user_claim.clone())),
        }
    }
}

fn reason(kind: &ErrorKind) -> JwtError {
    match kind {
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => JwtError::Algorithm,
        ErrorKind::InvalidSignature => JwtError::Signature,
        ErrorKind::ExpiredSignature => JwtError::Expired,
        ErrorKind::ImmatureSignature => JwtError::NotYet,
        ErrorKind::InvalidIssuer => JwtError::Issuer,
        ErrorKind::InvalidAudience => JwtError::Audience,
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            JwtError::Claim(claim.clone())
        }
        _ => JwtError::Malformed,
    }
}

#[cfg(test)]
mod tests;
