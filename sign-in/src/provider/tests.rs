//! Against a provider of our own over real HTTP, which can be made to lie.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use buslane_chassis::admin::Role;
use openidconnect::core::{CoreEdDsaPrivateSigningKey, CoreJsonWebKeySet};
use openidconnect::{JsonWebKeyId, PrivateSigningKey};
use parking_lot::Mutex as Lock;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

/// Keys for these tests alone.
const KEYS: [&str; 2] = [
    "MC4CAQAwBQYDK2VwBCIEINlvqXD6+W8xu60vNJ2sSZjciYMVoYOq0e1w0m2PFCbu",
    "MC4CAQAwBQYDK2VwBCIEIKFrbweSUxosr3s3UjK02Dk9GMZayxiyKSpIXLEhMn5i",
];

fn key(no: usize, kid: &str) -> CoreEdDsaPrivateSigningKey {
    let kind = "PRIVATE KEY";
    let pem = format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", KEYS[no]);
    CoreEdDsaPrivateSigningKey::from_ed25519_pem(&pem, Some(JsonWebKeyId::new(kid.to_owned()))).unwrap()
}

/// What the provider does.
struct Liar {
    url: String,
    /// The key that signs, and its name; the one that is shown is shown under the same name.
    signs: Lock<(usize, String)>,
    shows: Lock<(usize, String)>,
    /// Claims that are changed, and what `/me` tells.
    claims: Lock<Claims>,
    more: Lock<Value>,
    /// Fields of the document that are changed.
    document: Lock<Claims>,
    asked: AtomicUsize,
    is_down: AtomicBool,
    /// The form that the last code was redeemed with.
    form: Lock<HashMap<String, String>>,
}

type Shared = State<Arc<Liar>>;

async fn document(State(liar): Shared) -> Response {
    liar.asked.fetch_add(1, Ordering::SeqCst);
    if liar.is_down.load(Ordering::SeqCst) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let url = &liar.url;
    let mut document = json!({
        "issuer": url, "authorization_endpoint": format!("{url}/auth"), "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/keys"), "userinfo_endpoint": format!("{url}/me"), "response_types_supported": ["code"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["EdDSA", "HS256"],
    });
    document.as_object_mut().unwrap().extend(liar.document.lock().clone());
    Json(document).into_response()
}

async fn keys(State(liar): Shared) -> Json<CoreJsonWebKeySet> {
    let (no, kid) = liar.shows.lock().clone();
    Json(CoreJsonWebKeySet::new(vec![key(no, &kid).as_verification_key()]))
}

async fn token(State(liar): Shared, Form(form): Form<HashMap<String, String>>) -> Response {
    if form["code"] == "unlucky" {
        return (StatusCode::BAD_GATEWAY, "<html>").into_response();
    }
    if form["code"] != "good" {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims =
        json!({"iss": liar.url, "aud": "buslane", "sub": "17", "iat": now, "exp": now + 60, "nonce": "n"});
    claims.as_object_mut().unwrap().extend(liar.claims.lock().clone());
    let claims: IdTokenClaims<Rest, CoreGenderClaim> = serde_json::from_value(claims).unwrap();
    let (no, kid) = liar.signs.lock().clone();
    let token = Token::new(claims, &key(no, &kid), CoreJwsSigningAlgorithm::EdDsa, None, None).unwrap();
    *liar.form.lock() = form;
    Json(json!({"access_token": "a", "token_type": "Bearer", "id_token": token.to_string()})).into_response()
}

async fn me(State(liar): Shared) -> Json<Value> {
    Json(liar.more.lock().clone())
}

async fn liar() -> Arc<Liar> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let liar = Arc::new(Liar {
        url: format!("http://{}", listener.local_addr().unwrap()),
        signs: Lock::new((0, "k".to_owned())),
        shows: Lock::new((0, "k".to_owned())),
        claims: Lock::default(),
        more: Lock::new(json!({"sub": "17"})),
        document: Lock::default(),
        asked: AtomicUsize::new(0),
        is_down: AtomicBool::new(false),
        form: Lock::default(),
    });
    let routes = Router::new()
        .route("/.well-known/openid-configuration", get(document))
        .route("/keys", get(keys))
        .route("/token", post(token))
        .route("/me", get(me))
        .with_state(Arc::clone(&liar));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    liar
}

impl Liar {
    fn settings(&self) -> Settings {
        let roles = json!({"on call": "operator"});
        serde_json::from_value(json!({"issuer": self.url, "client_id": "buslane", "roles": roles})).unwrap()
    }

    fn open(&self) -> OpenIdConnect {
        OpenIdConnect::open(&self.settings()).unwrap()
    }

    fn say(&self, claims: Value) {
        *self.claims.lock() = claims.as_object().cloned().unwrap();
    }
}

fn question() -> Question {
    Question {
        state: "s".into(),
        nonce: "n".into(),
        verifier: "v".repeat(64),
        back: "http://127.0.0.1/v1/login/oidc/callback".into(),
    }
}

fn answer(code: &str) -> Answer {
    Answer { code: code.into(), issuer: None }
}

async fn person(provider: &OpenIdConnect) -> Result<Person, ProviderError> {
    provider.person(&question(), &answer("good")).await
}

#[tokio::test]
async fn a_person_is_sent_there_and_known_when_he_comes_back() {
    let liar = liar().await;
    let provider = liar.open();
    let way = provider.way(&question()).await.unwrap();
    for part in [
        format!("{}/auth?response_type=code&client_id=buslane&state=s&code_challenge=", liar.url),
        "code_challenge_method=S256".to_owned(),
        "redirect_uri=http%3A%2F%2F127.0.0.1%2Fv1%2Flogin%2Foidc%2Fcallback".to_owned(),
        "scope=openid+profile+email".to_owned(),
        "nonce=n".to_owned(),
    ] {
        assert!(way.contains(&part), "{part} is not in {way}");
    }
    assert!(!way.contains("vvvv"), "the verifier stays here");
    liar.say(json!({"groups": ["on call"], "preferred_username": "kim"}));
    let expected = Person::named(&["kim"], "17", Some(Role::Operator));
    assert_eq!(person(&provider).await.ok(), expected);
    let form = liar.form.lock().clone();
    assert_eq!((form["code_verifier"].len(), form["client_id"].as_str()), (64, "buslane"));
    assert_eq!(liar.asked.load(Ordering::SeqCst), 1, "its document is kept for a moment");
}

#[tokio::test]
async fn groups_that_are_told_elsewhere_are_asked_for_and_what_was_signed_counts() {
    let liar = liar().await;
    let provider = liar.open();
    *liar.more.lock() = json!({"sub": "17", "groups": ["on call"], "preferred_username": "kim"});
    assert_eq!(person(&provider).await.ok(), Person::named(&["kim"], "17", Some(Role::Operator)));
    liar.say(json!({"groups": ["others"]}));
    assert_eq!(person(&provider).await.ok(), Person::named(&["kim"], "17", None));
    liar.say(json!({}));
    *liar.more.lock() = json!({"sub": "18", "groups": ["on call"]});
    assert!(person(&provider).await.is_err(), "that is somebody else");
}

#[tokio::test]
async fn what_is_not_signed_for_us_for_this_question_and_now_is_not_believed() {
    let liar = liar().await;
    let provider = liar.open();
    for lie in [
        json!({"nonce": "another"}),
        json!({"aud": "another"}),
        json!({"aud": ["buslane", "another"]}),
        json!({"iss": "https://another.example"}),
        json!({"exp": 1}),
    ] {
        liar.say(lie.clone());
        let said = person(&provider).await;
        assert!(matches!(said, Err(ProviderError::Refused(_))), "{lie}: {said:?}");
    }
    liar.say(json!({}));
    liar.signs.lock().0 = 1;
    assert!(matches!(person(&provider).await, Err(ProviderError::Refused(_))), "a key of somebody else");
    let wrong = provider.person(&question(), &answer("bad")).await.unwrap_err().to_string();
    assert!(wrong.contains("invalid_grant"), "{wrong}");
    let issuer = Some("https://another.example".to_owned());
    let mixed = provider.person(&question(), &Answer { issuer, ..answer("good") }).await;
    assert!(matches!(mixed, Err(ProviderError::Refused(_))));
}

#[tokio::test]
async fn new_keys_are_asked_for_when_they_are_used() {
    let liar = liar().await;
    let provider = liar.open();
    provider.way(&question()).await.unwrap();
    *liar.signs.lock() = (1, "new".to_owned());
    assert!(person(&provider).await.is_err(), "it is nowhere shown");
    *liar.shows.lock() = (1, "new".to_owned());
    assert!(person(&provider).await.is_ok());
}

#[tokio::test]
async fn a_provider_that_is_down_is_told_soon_and_not_asked_by_everybody() {
    let liar = liar().await;
    let provider = liar.open();
    liar.is_down.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(matches!(provider.way(&question()).await, Err(ProviderError::Unreachable(_))));
    }
    assert_eq!(liar.asked.load(Ordering::SeqCst), 1);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings = Settings { issuer: format!("http://{nobody}"), ..liar.settings() };
    let gone = OpenIdConnect::open(&settings).unwrap();
    assert!(matches!(gone.way(&question()).await, Err(ProviderError::Unreachable(_))));
}

#[tokio::test]
async fn a_provider_that_fails_while_a_code_is_redeemed_is_no_fault_of_who_brought_it() {
    let liar = liar().await;
    let said = liar.open().person(&question(), &answer("unlucky")).await;
    assert_eq!(said, Err(ProviderError::Unreachable("status 502".to_owned())));
}

#[tokio::test]
async fn nothing_is_sent_in_the_open_and_no_answer_is_without_end() {
    for (field, value) in [
        ("authorization_endpoint", json!("http://id.example/auth")),
        ("jwks_uri", json!("http://id.example/keys")),
        ("issuer", json!("https://another.example")),
        ("padding", json!("x".repeat(300 * 1024))),
    ] {
        let liar = liar().await;
        liar.document.lock().insert(field.to_owned(), value);
        let said = liar.open().way(&question()).await;
        assert!(matches!(said, Err(ProviderError::Refused(_))), "{field}: {said:?}");
    }
    let liar = liar().await;
    liar.document.lock().insert("token_endpoint".to_owned(), json!("http://id.example/token"));
    let said = person(&liar.open()).await.unwrap_err().to_string();
    assert!(said.contains("id.example is not https: nothing is sent there"), "{said}");
}

#[tokio::test]
async fn a_secret_is_shown_as_the_provider_wants_it_and_a_wrong_file_is_named() {
    let (liar, folder) = (liar().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("secret");
    let settings = Settings { client_secret_file: Some(path.clone()), ..liar.settings() };
    let missing = OpenIdConnect::open(&settings).err().unwrap().to_string();
    assert!(missing.starts_with("client_secret_file ") && missing.contains("write the secret"), "{missing}");
    std::fs::write(&path, " \n").unwrap();
    assert!(matches!(OpenIdConnect::open(&settings), Err(OpenError::NoSecret(_))));
    std::fs::write(&path, "hush\n").unwrap();
    liar.say(json!({"groups": [], "preferred_username": "kim"}));
    person(&OpenIdConnect::open(&settings).unwrap()).await.unwrap();
    assert!(!liar.form.lock().contains_key("client_secret"), "it was in the header");
    let methods = json!(["client_secret_post"]);
    liar.document.lock().insert("token_endpoint_auth_methods_supported".to_owned(), methods);
    person(&OpenIdConnect::open(&settings).unwrap()).await.unwrap();
    assert_eq!(liar.form.lock()["client_secret"], "hush");
}
