//! The provider: where it is, what its keys are, how a code is redeemed, and what is believed of the answer.
//!
//! Why it exists: it is asked when somebody wants to sign in and not before, so a process starts and tokens work without it. Its document is asked for anew
//! for each sign-in (rarely more than once in some seconds), so whoever is sent there finds it, and new keys are known. It must never believe a
//! statement that is not signed by a key of the provider, for this client, for this question, and still valid.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::admin::sign_in::{
    Answer, Person, Provider, ProviderError, Question, Settings, is_private,
};
use buslane_chassis::secret;
use buslane_chassis::tls::TlsError;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClientAuthMethod, CoreErrorResponseType,
    CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
    CoreProviderMetadata, CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse,
    CoreTokenType,
};
use openidconnect::{
    AccessToken, AdditionalClaims, AuthType, AuthorizationCode, ClaimsVerificationError, Client, ClientId,
    ClientSecret, CsrfToken, DiscoveryError, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet,
    EndpointSet, IdToken, IdTokenClaims, IdTokenFields, IdTokenVerifier, IssuerUrl, Nonce,
    OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope,
    SignatureVerificationError, StandardErrorResponse, StandardTokenResponse, SubjectIdentifier,
    TokenResponse, UserInfoError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::claims::{self, Claims, Rules};
use crate::http::{Http, HttpError};

/// How old the provider's document may be when somebody is sent there.
const FRESH: Duration = Duration::from_secs(10);

/// How old it may be when somebody comes back: as long as anybody may be away.
const KEPT: Duration = Duration::from_secs(15 * 60);

/// How long a provider that did not answer is not asked again: those who wait for it do not wait one after the other.
const FAILED_FOR: Duration = Duration::from_secs(3);

/// How long to wait until another has asked for its document.
const TURN_LIMIT: Duration = Duration::from_secs(11);

/// What of a provider's words goes into our log.
const WORDS_CHARS_MAX: usize = 300;

/// Signatures that only the provider can make. Those with a shared secret could be made by whoever has it.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Why nobody can be signed in as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The issuer is none.
    #[error("issuer: {0}; write https://HOST/PATH as the provider writes it")]
    Issuer(String),
    /// The secret cannot be read.
    #[error("client_secret_file {}: {error}; write the secret that the provider gave into it", path.display())]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file of the secret is empty.
    #[error("client_secret_file {}: it is empty; write the secret into it, or remove the key for a public client", .0.display())]
    NoSecret(PathBuf),
    /// The authority cannot be used.
    #[error("ca: {0}")]
    Authority(#[from] TlsError),
}

/// A provider that speaks OpenID Connect.
pub struct OpenIdConnect {
    issuer: IssuerUrl,
    client_id: ClientId,
    secret: Option<ClientSecret>,
    scopes: Vec<Scope>,
    rules: Rules,
    http: Http,
    known: Mutex<Known>,
}

/// What is known of the provider.
#[derive(Default)]
struct Known {
    metadata: Option<(Arc<CoreProviderMetadata>, Instant)>,
    failed: Option<(ProviderError, Instant)>,
}

/// Claims that are not of the standard.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Rest(Claims);

impl AdditionalClaims for Rest {}

type Fields = IdTokenFields<
    Rest,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Token = IdToken<Rest, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;
type Refusal = StandardErrorResponse<CoreErrorResponseType>;
type Tokens = StandardTokenResponse<Fields, CoreTokenType>;
type Speaker = Client<
    Rest,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    Refusal,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

impl OpenIdConnect {
    /// From its settings, whose paths are complete. Nobody is asked yet.
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        let issuer =
            IssuerUrl::new(settings.issuer.clone()).map_err(|error| OpenError::Issuer(error.to_string()))?;
        Ok(Self {
            issuer,
            client_id: ClientId::new(settings.client_id.clone()),
            secret: settings.client_secret_file.clone().map(read_secret).transpose()?,
            scopes: settings.scopes.iter().cloned().map(Scope::new).collect(),
            rules: Rules::of(settings),
            http: Http::open(settings.ca.as_deref())?,
            known: Mutex::default(),
        })
    }

    /// The provider's document and keys, not older than this.
    async fn metadata(&self, age_max: Duration) -> Result<Arc<CoreProviderMetadata>, ProviderError> {
        let turn = timeout(TURN_LIMIT, self.known.lock()).await;
        let mut known = turn.map_err(|_| ProviderError::Unreachable("others wait for it".to_owned()))?;
        match (&known.metadata, &known.failed) {
            (Some((metadata, at)), _) if at.elapsed() < age_max => return Ok(Arc::clone(metadata)),
            (_, Some((error, at))) if at.elapsed() < FAILED_FOR => return Err(error.clone()),
            _ => {}
        }
        let asked = CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http).await;
        match asked.map_err(|error| on_discovery(&error)) {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                *known = Known { metadata: Some((Arc::clone(&metadata), Instant::now())), failed: None };
                Ok(metadata)
            }
            Err(error) => {
                known.failed = Some((error.clone(), Instant::now()));
                Err(error)
            }
        }
    }

    fn speaker(&self, metadata: &CoreProviderMetadata, back: &str) -> Result<Speaker, ProviderError> {
        let back = RedirectUrl::new(back.to_owned()).map_err(|error| refused(&error))?;
        let speaker =
            Client::from_provider_metadata(metadata.clone(), self.client_id.clone(), self.secret.clone());
        Ok(speaker.set_redirect_uri(back).set_auth_type(shows_secret(metadata)))
    }

    async fn ask_way(&self, question: &Question) -> Result<String, ProviderError> {
        let metadata = self.metadata(FRESH).await?;
        let (state, nonce) = (CsrfToken::new(question.state.clone()), Nonce::new(question.nonce.clone()));
        let verifier = PkceCodeVerifier::new(question.verifier.clone());
        let speaker = self.speaker(&metadata, &question.back)?;
        let (way, ..) = speaker
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, move || state, move || nonce)
            .add_scopes(self.scopes.iter().cloned())
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .url();
        let way = String::from(way);
        if way.parse().is_ok_and(|uri| is_private(&uri)) {
            return Ok(way);
        }
        Err(ProviderError::Refused(
            "its authorization_endpoint is not https: nobody is sent there".to_owned(),
        ))
    }

    async fn ask_person(&self, question: &Question, answer: &Answer) -> Result<Person, ProviderError> {
        if answer.issuer.as_ref().is_some_and(|issuer| *issuer != *self.issuer) {
            return Err(ProviderError::Refused("somebody else has given the code".to_owned()));
        }
        let metadata = self.metadata(KEPT).await?;
        let speaker = self.speaker(&metadata, &question.back)?;
        let exchange = speaker.exchange_code(AuthorizationCode::new(answer.code.clone()));
        let tokens = exchange
            .map_err(|error| refused(&error))?
            .set_pkce_verifier(PkceCodeVerifier::new(question.verifier.clone()))
            .request_async(&self.http)
            .await
            .map_err(|error| on_exchange(&error))?;
        let token = tokens.id_token();
        let token = token.ok_or_else(|| ProviderError::Refused("it gave no ID token".to_owned()))?;
        let said = self.verified(metadata, token, &Nonce::new(question.nonce.clone())).await?;
        let mut claims = table(&said);
        if !self.rules.are_answered(&claims) && speaker.user_info_url().is_some() {
            let more = self.ask_more(&speaker, tokens.access_token(), said.subject()).await?;
            // What was signed counts.
            more.into_iter().for_each(|(name, value)| {
                claims.entry(name).or_insert(value);
            });
        }
        let subject = said.subject().as_str();
        let names = claims::names(&claims);
        Person::named(&names, subject, self.rules.role(&claims))
            .ok_or_else(|| ProviderError::Refused("it gave no name that can be written down".to_owned()))
    }

    /// The claims of a token that the provider has signed. With a key that is not known its keys are asked for anew.
    async fn verified(
        &self,
        metadata: Arc<CoreProviderMetadata>,
        token: &Token,
        nonce: &Nonce,
    ) -> Result<IdTokenClaims<Rest, CoreGenderClaim>, ProviderError> {
        let unknown =
            ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey);
        match token.claims(&self.verifier(&metadata), nonce) {
            Err(error) if error == unknown => {
                let metadata = self.metadata(Duration::ZERO).await?;
                token.claims(&self.verifier(&metadata), nonce).cloned().map_err(|error| refused(&error))
            }
            said => said.cloned().map_err(|error| refused(&error)),
        }
    }

    fn verifier(&self, metadata: &CoreProviderMetadata) -> IdTokenVerifier<'static, CoreJsonWebKey> {
        let keys = metadata.jwks().clone();
        let verifier = IdTokenVerifier::new_public_client(self.client_id.clone(), self.issuer.clone(), keys);
        verifier.set_allowed_algs(ALGORITHMS)
    }

    /// What the provider tells to whoever has an access token, about the same person.
    async fn ask_more(
        &self,
        speaker: &Speaker,
        token: &AccessToken,
        subject: &SubjectIdentifier,
    ) -> Result<Claims, ProviderError> {
        let request = speaker.user_info(token.clone(), Some(subject.clone()));
        let request = request.map_err(|error| refused(&error))?;
        let said: openidconnect::UserInfoClaims<Rest, CoreGenderClaim> =
            request.request_async(&self.http).await.map_err(|error| on_more(&error))?;
        Ok(table(&said))
    }
}

impl Provider for OpenIdConnect {
    fn way<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<String, ProviderError>> {
        self.ask_way(question).boxed()
    }

    fn person<'a>(
        &'a self,
        question: &'a Question,
        answer: &'a Answer,
    ) -> BoxFuture<'a, Result<Person, ProviderError>> {
        self.ask_person(question, answer).boxed()
    }
}

fn read_secret(path: PathBuf) -> Result<ClientSecret, OpenError> {
    let read = std::fs::read_to_string(&path).and_then(|text| Ok((text, secret::is_exposed(&path)?)));
    let (text, is_exposed) = read.map_err(|error| OpenError::SecretFile { path: path.clone(), error })?;
    if text.trim().is_empty() {
        return Err(OpenError::NoSecret(path));
    }
    if is_exposed {
        tracing::warn!(path = %path.display(), "the secret of the sign-in is readable by others: chmod 600 it");
    }
    Ok(ClientSecret::new(text.trim().to_owned()))
}

/// How the provider wants the secret. Without a word it is in the header (OpenID Connect Discovery, section 3).
fn shows_secret(metadata: &CoreProviderMetadata) -> AuthType {
    let methods = metadata.token_endpoint_auth_methods_supported();
    let takes = |method| methods.is_none_or(|methods| methods.contains(&method));
    if takes(CoreClientAuthMethod::ClientSecretBasic) || !takes(CoreClientAuthMethod::ClientSecretPost) {
        AuthType::BasicAuth
    } else {
        AuthType::RequestBody
    }
}

/// Claims as they were said.
fn table(claims: &impl Serialize) -> Claims {
    match serde_json::to_value(claims) {
        Ok(Value::Object(claims)) => claims,
        _ => Claims::new(),
    }
}

fn on_discovery(error: &DiscoveryError<HttpError>) -> ProviderError {
    match error {
        DiscoveryError::Request(error) => on_http(error),
        DiscoveryError::Validation(why) => {
            ProviderError::Refused(words(&format!("{why}: write `issuer` exactly as the provider writes it")))
        }
        error => refused(error),
    }
}

fn on_exchange(error: &RequestTokenError<HttpError, Refusal>) -> ProviderError {
    match error {
        RequestTokenError::Request(error) => on_http(error),
        // The body may hold a token.
        RequestTokenError::Parse(error, _) => refused(error),
        error => refused(error),
    }
}

fn on_more(error: &UserInfoError<HttpError>) -> ProviderError {
    match error {
        UserInfoError::Request(error) => on_http(error),
        error => refused(error),
    }
}

fn on_http(error: &HttpError) -> ProviderError {
    match error {
        HttpError::Late | HttpError::Broken(_) | HttpError::Failing(_) => {
            ProviderError::Unreachable(words(&error.to_string()))
        }
        HttpError::Open(_) | HttpError::TooLong => ProviderError::Refused(words(&error.to_string())),
    }
}

/// An error with its causes.
fn refused(error: &(dyn Error + 'static)) -> ProviderError {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        said = format!("{said}: {inner}");
        cause = inner.source();
    }
    ProviderError::Refused(words(&said))
}

/// Words of others, as they may stand in a line of a log.
fn words(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
