//! Key sets of every kind, and a provider that is slow, away, hostile or about to rotate.

use super::*;
use crate::provider::{Behaviour, Server, SigningKey, set};
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3_600);

fn ids(set: &str) -> Vec<String> {
    parse(set.as_bytes()).map_or_else(|_| vec![], |keys| keys.iter().filter_map(|k| k.id.clone()).collect())
}

/// Keys from `server`, with the task that loads them; it ends with the guard.
fn follow(url: &str, refetch: Duration) -> (Arc<Jwks>, tokio_util::sync::DropGuard) {
    let (jwks, refresher) = keys(Source::url(url, None).unwrap(), HOUR, refetch).unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(refresher.run(stop.clone()));
    (jwks, stop.drop_guard())
}

#[test]
fn only_keys_for_signatures_of_an_allowed_algorithm_are_kept() {
    let ed = SigningKey::new("ed", Algorithm::EdDSA);
    let ec = SigningKey::new("ec", Algorithm::ES256);
    let rsa = SigningKey::new("rsa", Algorithm::RS256);
    let but = |key: &SigningKey, id: &str, field: &str, value: &str| {
        let mut jwk = key.jwk();
        jwk["kid"] = id.into();
        jwk[field] = value.into();
        jwk
    };
    let keys = json!({ "keys": [
        ed.jwk(),
        ec.jwk(),
        rsa.jwk(),
        but(&rsa, "encrypts", "use", "enc"),
        but(&rsa, "sha512", "alg", "RS512"),
        but(&rsa, "hmac", "alg", "HS256"),
        but(&rsa, "new", "alg", "XY1"),
        but(&ec, "curve", "crv", "P-384"),
        but(&ed, "damaged", "x", "%%%"),
        { "kty": "oct", "kid": "shared", "k": "c2VjcmV0", "alg": "HS256" },
        { "kty": "AKP", "kid": "unknown kind", "pub": "AAAA" },
        { "kid": "nothing" },
        42,
    ]});
    assert_eq!(ids(&keys.to_string()), ["ed", "ec", "rsa"]);
}

#[test]
fn what_is_not_a_key_set_is_named_and_never_empties_the_keys() {
    for bad in ["", "[]", "{}", r#"{"keys":3}"#, "<html>", "\u{0}"] {
        assert!(matches!(parse(bad.as_bytes()), Err(JwksError::Format(_))), "{bad}");
    }
    assert!(matches!(parse(br#"{"keys":[]}"#), Err(JwksError::NoKey)));
    let many: Vec<_> = (0..KEYS_MAX + 10).map(|_| SigningKey::new("k", Algorithm::EdDSA)).collect();
    assert_eq!(parse(set(&many.iter().collect::<Vec<_>>()).as_bytes()).unwrap().len(), KEYS_MAX);
}

#[test]
fn keys_are_not_fetched_over_a_connection_that_others_can_write_to() {
    let usable = |url| Source::url(url, None).is_ok();
    for good in
        ["https://id.example/keys", "http://127.0.0.1:8080/keys", "http://[::1]/k", "http://localhost/k"]
    {
        assert!(usable(good), "{good}");
    }
    for bad in
        ["http://id.example/keys", "http://127.0.0.1.example/k", "ftp://id.example", "/keys", "keys", "", " "]
    {
        assert!(!usable(bad), "{bad}");
    }
}

#[test]
fn a_file_is_checked_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    let load = || keys(Source::File(path.clone()), HOUR, HOUR);
    let message = load().err().unwrap().to_string();
    assert!(message.contains("keys.json") && message.contains("jwks_file"), "{message}");
    std::fs::write(&path, vec![b' '; JWKS_BYTES_MAX + 1]).unwrap();
    assert!(matches!(load(), Err(JwksError::Format(_))));
    std::fs::write(&path, set(&[&SigningKey::new("a", Algorithm::EdDSA)])).unwrap();
    assert!(load().unwrap().0.known(Some("a")).is_some());
}

#[tokio::test]
async fn an_unknown_key_loads_the_file_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    std::fs::write(&path, set(&[&SigningKey::new("old", Algorithm::EdDSA)])).unwrap();
    let (jwks, refresher) = keys(Source::File(path.clone()), HOUR, Duration::ZERO).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(refresher.run(stop.clone()));
    assert!(jwks.key(Some("old")).await.is_ok());
    std::fs::write(&path, set(&[&SigningKey::new("new", Algorithm::EdDSA)])).unwrap();
    assert!(jwks.key(Some("new")).await.is_ok());
    assert_eq!(jwks.key(Some("old")).await.err(), Some(KeyMiss::Unknown));
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn rotation_is_noticed_by_the_first_token_of_the_new_key() {
    let (old, new) = (SigningKey::new("old", Algorithm::EdDSA), SigningKey::new("new", Algorithm::EdDSA));
    let server = Server::start(Behaviour::Serve(set(&[&old]))).await;
    let (jwks, _stop) = follow(&server.url(), Duration::ZERO);
    assert!(jwks.key(Some("old")).await.is_ok());
    server.behave(Behaviour::Serve(set(&[&old, &new])));
    assert!(jwks.key(Some("new")).await.is_ok());
    assert!(jwks.key(Some("old")).await.is_ok());
}

#[tokio::test]
async fn many_tokens_with_unknown_keys_cause_one_fetch() {
    let server = Server::start(Behaviour::Serve(set(&[&SigningKey::new("a", Algorithm::EdDSA)]))).await;
    let (jwks, _stop) = follow(&server.url(), HOUR);
    assert!(jwks.key(Some("a")).await.is_ok());
    let asks: Vec<_> = (0..100)
        .map(|n| {
            let jwks = jwks.clone();
            tokio::spawn(async move { jwks.key(Some(&format!("strange{n}"))).await.err() })
        })
        .collect();
    for ask in asks {
        let miss = ask.await.unwrap();
        assert!(matches!(miss, Some(KeyMiss::Later(wait)) if wait <= HOUR && wait > HOUR / 2), "{miss:?}");
    }
    assert_eq!(server.served(), 1, "strangers must not be able to drum at the provider");
}

#[tokio::test]
async fn those_who_wait_for_the_first_fetch_share_it() {
    let server = Server::start(Behaviour::Serve(set(&[&SigningKey::new("a", Algorithm::EdDSA)]))).await;
    let (jwks, _stop) = follow(&server.url(), HOUR);
    let asks: Vec<_> = (0..50)
        .map(|_| {
            let jwks = jwks.clone();
            tokio::spawn(async move { jwks.key(Some("a")).await.is_ok() })
        })
        .collect();
    for ask in asks {
        assert!(ask.await.unwrap());
    }
    assert_eq!(server.served(), 1);
}

#[tokio::test]
async fn the_last_good_keys_stay_while_the_provider_misbehaves() {
    let good = set(&[&SigningKey::new("a", Algorithm::EdDSA)]);
    let server = Server::start(Behaviour::Serve(good.clone())).await;
    let (jwks, _stop) = follow(&server.url(), Duration::ZERO);
    assert!(jwks.key(Some("a")).await.is_ok());
    let other = Server::start(Behaviour::Serve(set(&[&SigningKey::new("b", Algorithm::EdDSA)]))).await;
    let bad = [
        Behaviour::Status(500),
        Behaviour::Status(404),
        Behaviour::Serve("<html>".to_owned()),
        Behaviour::Serve(r#"{"keys":[]}"#.to_owned()),
        Behaviour::Serve(" ".repeat(JWKS_BYTES_MAX + 1)),
        Behaviour::Redirect(other.url()),
    ];
    for behaviour in bad {
        server.behave(behaviour);
        assert!(matches!(jwks.key(Some("b")).await, Err(KeyMiss::Later(_))));
        assert!(jwks.key(Some("a")).await.is_ok());
    }
    assert_eq!(other.served(), 0, "a redirect is not followed");
    server.behave(Behaviour::Serve(good));
    assert_eq!(jwks.key(Some("b")).await.err(), Some(KeyMiss::Unknown));
}

#[tokio::test]
async fn a_provider_that_is_silent_or_away_keeps_nobody_waiting() {
    let server = Server::start(Behaviour::Hang).await;
    let (jwks, _stop) = follow(&server.url(), Duration::ZERO);
    let began = Instant::now();
    assert!(matches!(jwks.key(Some("a")).await, Err(KeyMiss::Later(_))));
    assert!(began.elapsed() < FETCH_LIMIT * 2);
    // A port that nobody listens on.
    let away = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/keys", listener.local_addr().unwrap())
    };
    let (jwks, _stop) = follow(&away, Duration::ZERO);
    assert!(matches!(jwks.key(Some("a")).await, Err(KeyMiss::Later(_))));
}

#[tokio::test]
async fn https_trusts_the_configured_authority_only() {
    let authority = buslane_chassis::tls::Authority::generate().unwrap();
    let stranger = buslane_chassis::tls::Authority::generate().unwrap();
    let pem = authority.issue("localhost", &["127.0.0.1".to_owned()]).unwrap();
    let identity = buslane_chassis::tls::Identity::from_pem(&pem.certificate, &pem.key).unwrap();
    let good = Behaviour::Serve(set(&[&SigningKey::new("a", Algorithm::EdDSA)]));
    let server = Server::start_with(good, Some(identity.server_config(&[]).unwrap())).await;
    let url = format!("https://localhost:{}/keys", server.address.port());

    let dir = tempfile::tempdir().unwrap();
    let ca = |authority: &buslane_chassis::tls::Authority, name: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, authority.certificate()).unwrap();
        path
    };
    let loaded = |ca: Option<PathBuf>| {
        let source = Source::url(&url, ca.as_deref());
        async move { source.unwrap().load().await }
    };
    assert!(loaded(Some(ca(&authority, "right.pem"))).await.is_ok());
    assert!(matches!(loaded(Some(ca(&stranger, "wrong.pem"))).await, Err(JwksError::Fetch(_))));
    assert!(matches!(loaded(None).await, Err(JwksError::Fetch(_))), "no public authority knows it");
    assert!(matches!(Source::url(&url, Some(&dir.path().join("none.pem"))), Err(JwksError::Ca(_))));
}
