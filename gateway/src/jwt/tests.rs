//! Every way in which a token can be wrong, one at a time.

use super::*;
use crate::jwks::{Source, keys};
use crate::provider::{AUDIENCE, ISSUER, SigningKey, claims, claims_but, set, unix_s};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

fn settings() -> config::Jwt {
    serde_json::from_value(json!({ "issuer": ISSUER, "audience": [AUDIENCE], "leeway_s": 30 })).unwrap()
}

/// A check that knows these keys, with the task that loads them; it ends with the guard.
fn check_with(settings: &config::Jwt, known: &[&SigningKey]) -> (JwtCheck, tokio_util::sync::DropGuard) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    std::fs::write(&path, set(known)).unwrap();
    let (jwks, refresher) = keys(Source::File(path), Duration::from_secs(60), Duration::ZERO).unwrap();
    let stop = CancellationToken::new();
    let until = stop.clone();
    tokio::spawn(async move {
        refresher.run(until).await;
        drop(dir);
    });
    (JwtCheck::new(settings, jwks), stop.drop_guard())
}

async fn outcome(check: &JwtCheck, token: &str) -> Result<(), JwtError> {
    check.vouches(token, &"alice".parse().unwrap()).await
}

fn encoded(header: &Value, claims: &Value) -> String {
    // A signature of zero bytes; the library's own encoder makes no unsigned tokens.
    let part = |value: &Value| {
        let secret = EncodingKey::from_secret(b"x");
        let token = jsonwebtoken::encode(&Header::default(), value, &secret).unwrap();
        token.split('.').nth(1).unwrap().to_owned()
    };
    format!("{}.{}.", part(header), part(claims))
}

#[tokio::test]
async fn each_algorithm_on_the_list_is_accepted() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let key = SigningKey::new("k", algorithm);
        let (check, _stop) = check_with(&settings(), &[&key]);
        assert_eq!(outcome(&check, &key.sign(&claims("alice"))).await, Ok(()), "{algorithm:?}");
    }
}

#[tokio::test]
async fn one_wrong_claim_is_enough() {
    let key = SigningKey::new("k", Algorithm::EdDSA);
    let (check, _stop) = check_with(&settings(), &[&key]);
    let now = unix_s();
    let claim = |name: &str| Err(JwtError::Claim(name.to_owned()));
    let rows = [
        ("exp", json!(now - 31), Err(JwtError::Expired)),
        ("exp", json!(now - 20), Ok(())),
        ("exp", json!(0), Err(JwtError::Expired)),
        ("exp", Value::Null, claim("exp")),
        ("exp", json!("tomorrow"), claim("exp")),
        ("exp", json!(-5), claim("exp")),
        ("nbf", json!(now + 60), Err(JwtError::NotYet)),
        ("nbf", json!(now + 20), Ok(())),
        ("nbf", Value::Null, Ok(())),
        ("nbf", json!("yesterday"), claim("nbf")),
        ("iss", json!("https://id.example/"), Err(JwtError::Issuer)),
        ("iss", Value::Null, claim("iss")),
        ("iss", json!(7), claim("iss")),
        ("aud", json!("somebody else"), Err(JwtError::Audience)),
        ("aud", json!(["somebody else", AUDIENCE]), Ok(())),
        ("aud", json!([]), Err(JwtError::Audience)),
        ("aud", Value::Null, claim("aud")),
        ("aud", json!({}), claim("aud")),
        ("sub", json!("bob"), Err(JwtError::OtherUser)),
        ("sub", json!("Alice"), Err(JwtError::OtherUser)),
        ("sub", json!(["alice"]), Err(JwtError::Malformed)),
        ("sub", json!(7), claim("sub")),
        ("sub", Value::Null, claim("sub")),
    ];
    for (name, value, expected) in rows {
        let token = key.sign(&claims_but("alice", name, value.clone()));
        assert_eq!(outcome(&check, &token).await, expected, "{name} = {value}");
    }
}

#[tokio::test]
async fn the_user_may_be_in_another_claim() {
    let key = SigningKey::new("k", Algorithm::EdDSA);
    let by_email = config::Jwt { user_claim: "email".to_owned(), ..settings() };
    let (check, _stop) = check_with(&by_email, &[&key]);
    let token = key.sign(&claims_but("somebody", "email", json!("alice")));
    assert_eq!(outcome(&check, &token).await, Ok(()));
    let token = key.sign(&claims("alice"));
    assert_eq!(outcome(&check, &token).await, Err(JwtError::Claim("email".to_owned())));
}

#[tokio::test]
async fn a_token_does_not_choose_how_it_is_checked() {
    let rsa = SigningKey::new("k", Algorithm::RS256);
    let (check, _stop) = check_with(&settings(), &[&rsa]);
    let none = encoded(&json!({ "alg": "none", "kid": "k" }), &claims("alice"));
    assert_eq!(outcome(&check, &none).await, Err(JwtError::Malformed));
    let unsigned = encoded(&json!({ "alg": "RS256", "kid": "k" }), &claims("alice"));
    assert_eq!(outcome(&check, &unsigned).await, Err(JwtError::Signature));

    // The classic: the public key taken for a shared secret.
    let public = rsa.jwk()["n"].as_str().unwrap().to_owned();
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("k".to_owned());
    let forged =
        jsonwebtoken::encode(&header, &claims("alice"), &EncodingKey::from_secret(public.as_bytes()))
            .unwrap();
    assert_eq!(outcome(&check, &forged).await, Err(JwtError::Algorithm));

    // The right key with an algorithm that is not its own.
    let mut header = rsa.header();
    header.alg = Algorithm::RS512;
    assert_eq!(outcome(&check, &rsa.sign_with(&header, &claims("alice"))).await, Err(JwtError::Algorithm));

    // A key that the token brings along is not looked at.
    let own = SigningKey::new("k", Algorithm::RS256);
    let mut header = own.header();
    header.jwk = Some(serde_json::from_value(own.jwk()).unwrap());
    header.jku = Some("https://evil.example/keys".to_owned());
    assert_eq!(outcome(&check, &own.sign_with(&header, &claims("alice"))).await, Err(JwtError::Signature));

    let mut header = rsa.header();
    header.crit = Some(vec!["exp".to_owned()]);
    assert_eq!(outcome(&check, &rsa.sign_with(&header, &claims("alice"))).await, Err(JwtError::Malformed));
}

#[tokio::test]
async fn a_key_is_found_by_its_id_and_never_by_trying() {
    let (a, b) = (SigningKey::new("a", Algorithm::EdDSA), SigningKey::new("b", Algorithm::EdDSA));
    let stranger = SigningKey::new("c", Algorithm::EdDSA);
    let nameless = Header::new(Algorithm::EdDSA);
    let (both, _stop) = check_with(&settings(), &[&a, &b]);
    assert_eq!(outcome(&both, &b.sign(&claims("alice"))).await, Ok(()));
    assert_eq!(outcome(&both, &stranger.sign(&claims("alice"))).await, Err(JwtError::UnknownKey));
    assert_eq!(outcome(&both, &a.sign_with(&b.header(), &claims("alice"))).await, Err(JwtError::Signature));
    assert_eq!(outcome(&both, &a.sign_with(&nameless, &claims("alice"))).await, Err(JwtError::UnknownKey));
    let (one, _stop) = check_with(&settings(), &[&a]);
    assert_eq!(outcome(&one, &a.sign_with(&nameless, &claims("alice"))).await, Ok(()));
    assert_eq!(outcome(&one, &b.sign_with(&nameless, &claims("alice"))).await, Err(JwtError::Signature));
}

#[tokio::test]
async fn nonsense_is_refused() {
    let key = SigningKey::new("k", Algorithm::EdDSA);
    let (check, _stop) = check_with(&settings(), &[&key]);
    let good = key.sign(&claims("alice"));
    let long = key.sign(&claims_but("alice", "groups", json!("g".repeat(JWT_BYTES_MAX))));
    for bad in
        ["", ".", "..", "a.b.c", "a.b.c.d", &good[1..], &good.replace('.', ""), &long, "\u{0}.\u{0}.\u{0}"]
    {
        assert_eq!(outcome(&check, bad).await, Err(JwtError::Malformed), "{bad}");
    }
    // Every single character counts.
    for at in [0, 10, good.len() / 2, good.len() - 2] {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(outcome(&check, std::str::from_utf8(&bytes).unwrap()).await.is_err(), "{at}");
    }
}

#[test]
fn only_missing_keys_are_worth_another_try() {
    let later = Refusal::from(JwtError::KeysAway(Duration::from_secs(7)));
    assert_eq!((later.code, later.retry_after_ms), (Code::Unavailable, 7_000));
    let never = Refusal::from(JwtError::Expired);
    assert_eq!((never.code, never.retry_after_ms), (Code::BadToken, 0));
    assert!(never.detail.contains("expired"));
}
