//! An identity provider for tests: signing keys, tokens, and a real HTTP server that publishes the key set and can be told
//! to misbehave.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub const ISSUER: &str = "https://id.example";
pub const AUDIENCE: &str = "buslane";

pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// One signing key of the provider.
pub struct SigningKey {
    pub id: String,
    pub algorithm: Algorithm,
    encoding: EncodingKey,
}

impl SigningKey {
    pub fn new(id: &str, algorithm: Algorithm) -> Self {
        let encoding = match algorithm {
            Algorithm::EdDSA => {
                let pkcs8 = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
                EncodingKey::from_ed_der(pkcs8.as_ref())
            }
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
                EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref())
            }
            Algorithm::RS256 => {
                let pkcs8 = RsaKeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap();
                // The bare RSAPrivateKey lies behind the 26 bytes that PKCS #8 puts before a 2048-bit key.
                EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..])
            }
            other => panic!("no test key for {other:?}"),
        };
        Self { id: id.to_owned(), algorithm, encoding }
    }

    /// As the provider publishes it.
    pub fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.encoding, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.clone());
        serde_json::to_value(jwk).unwrap()
    }

    pub fn header(&self) -> Header {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.clone());
        header
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(&self.header(), claims)
    }

    pub fn sign_with(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.encoding).unwrap()
    }
}

pub fn set(keys: &[&SigningKey]) -> String {
    json!({ "keys": keys.iter().map(|k| k.jwk()).collect::<Vec<_>>() }).to_string()
}

/// Claims that are right in every respect.
pub fn claims(user: &str) -> Value {
    let now = unix_s();
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now, "nbf": now, "exp": now + 600 })
}

/// `claims`, changed in one respect; `Value::Null` removes the claim.
pub fn claims_but(user: &str, claim: &str, value: Value) -> Value {
    let mut claims = claims(user);
    let object = claims.as_object_mut().unwrap();
    if value.is_null() {
        object.remove(claim);
    } else {
        object.insert(claim.to_owned(), value);
    }
    claims
}

/// What the server answers with.
#[derive(Clone)]
pub enum Behaviour {
    /// The key set.
    Serve(String),
    /// This status and no body.
    Status(u16),
    /// A redirect to somewhere else.
    Redirect(String),
    /// Nothing, ever.
    Hang,
}

/// The provider's HTTP server.
pub struct Server {
    pub address: SocketAddr,
    behaviour: Arc<parking_lot::Mutex<Behaviour>>,
    served: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub async fn start(first: Behaviour) -> Self {
        Self::start_with(first, None).await
    }

    pub async fn start_with(first: Behaviour, tls: Option<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let behaviour = Arc::new(parking_lot::Mutex::new(first));
        let served = Arc::new(AtomicUsize::new(0));
        let acceptor = tls.map(|config| tokio_rustls::TlsAcceptor::from(Arc::new(config)));
        let mut tasks = JoinSet::new();
        let (says, count) = (behaviour.clone(), served.clone());
        tasks.spawn(async move {
            let mut peers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (says, count, acceptor) = (says.clone(), count.clone(), acceptor.clone());
                peers.spawn(async move {
                    match acceptor {
                        None => answer(stream, &says, &count).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                answer(stream, &says, &count).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, behaviour, served, _tasks: tasks }
    }

    pub fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock() = behaviour;
    }

    /// Requests that have been heard so far.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    says: &parking_lot::Mutex<Behaviour>,
    count: &AtomicUsize,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    count.fetch_add(1, Ordering::SeqCst);
    let says = says.lock().clone();
    let response = match says {
        Behaviour::Serve(body) => {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        }
        Behaviour::Status(status) => {
            format!("HTTP/1.1 {status} Whatever\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        }
        Behaviour::Redirect(to) => {
            format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        }
        Behaviour::Hang => return std::future::pending().await,
    };
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
}
