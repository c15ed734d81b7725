//! Signing in with a provider: what comes back counts once, in the browser that was sent away, and tokens never wait for it.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::*;
use crate::admin::sign_in::{Answer, Back, Person, Provider, ProviderError, Question};

const JSON: &str = "Content-Type: application/json";

/// A provider that knows whom it is told to know.
#[derive(Default)]
struct Puppet {
    person: Mutex<Option<Person>>,
    is_down: std::sync::atomic::AtomicBool,
    /// The codes that were redeemed.
    redeemed: Mutex<Vec<String>>,
    verifiers: Mutex<Vec<String>>,
}

impl Provider for Puppet {
    fn way<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<String, ProviderError>> {
        let down = self.is_down.load(Ordering::SeqCst);
        self.verifiers.lock().push(question.verifier.clone());
        let way = format!("https://id.example/auth?state={}&back={}", question.state, question.back);
        async move { if down { Err(ProviderError::Unreachable("gone".into())) } else { Ok(way) } }.boxed()
    }

    fn person<'a>(
        &'a self,
        question: &'a Question,
        answer: &'a Answer,
    ) -> BoxFuture<'a, Result<Person, ProviderError>> {
        assert!(self.verifiers.lock().contains(&question.verifier));
        self.redeemed.lock().push(answer.code.clone());
        let person = self.person.lock().clone();
        async move { person.ok_or_else(|| ProviderError::Refused("a wrong code".into())) }.boxed()
    }
}

async fn world_of_puppet() -> (World, Arc<Puppet>) {
    let puppet = Arc::new(Puppet::default());
    *puppet.person.lock() = Person::named(&["kim@example.org"], "17", Some(Role::Operator));
    let provider = Arc::clone(&puppet);
    let back = Back::Address { scheme: "http" };
    let sign_in = SignIn { provider, back, session: Duration::from_secs(3_600) };
    (world_of(|admin| admin.signing_in(sign_in), |bound| bound).await, puppet)
}

/// A browser that is away at the provider.
struct Away {
    cookie: String,
    state: String,
}

impl World {
    async fn sent_away(&self, next: &str) -> Away {
        let answer = self.send("GET", &format!("/v1/login/oidc?next={next}"), &[], "").await;
        let to = answer.header("location").unwrap();
        assert!(answer.status == 303 && to.starts_with("https://id.example/auth?state="), "{to}");
        assert!(to.ends_with(&format!("&back=http://{}/v1/login/oidc/callback", self.addr)), "{to}");
        let set = answer.header("set-cookie").unwrap();
        assert!(set.contains("; path=/v1/login/oidc; httponly; samesite=lax; max-age=600"), "{set}");
        let state = to.split(['=', '&']).nth(1).unwrap().to_owned();
        Away { cookie: format!("Cookie: {}", set.split(';').next().unwrap()), state }
    }

    async fn back(&self, away: &Away, more: &str) -> Returned {
        let path = format!("/v1/login/oidc/callback?state={}&{more}", away.state);
        let answer = self.send("GET", &path, &[&away.cookie], "").await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        let cookies = answer.head.lines().filter_map(|line| line.strip_prefix("set-cookie: "));
        let session = format!("buslane-{}=", self.addr.port());
        let cookie =
            cookies.filter(|line| line.starts_with(&session)).map(|line| line.split(';').next().unwrap());
        Returned {
            to: answer.header("location").unwrap().to_owned(),
            cookie: cookie.map(|cookie| format!("Cookie: {cookie}")).next_back(),
        }
    }
}

struct Returned {
    to: String,
    /// Of the page session that was begun.
    cookie: Option<String>,
}

#[tokio::test]
async fn one_signs_in_with_the_role_that_one_has_and_under_the_name_of_the_provider() {
    let (world, puppet) = world_of_puppet().await;
    let away = world.sent_away("/audit%3Fa%3Db").await;
    let back = world.back(&away, "code=c1").await;
    assert_eq!(back.to, "/login/done?next=/audit%3fa%3db");
    let cookie = back.cookie.unwrap();
    assert_eq!(world.send("GET", "/v1/me", &[&cookie], "").await.body, "kim@example.org operator");
    let who = world.send("GET", "/v1/whoami", &[&cookie], "").await.json()["result"].clone();
    let left_ms = who["expires_ms"].as_u64().unwrap() - crate::clock::unix_ms();
    assert!((3_500_000..=3_600_000).contains(&left_ms), "{left_ms}");
    let refused = world.send("POST", "/v1/echo", &[&cookie], "hi").await;
    assert_eq!(refused.code(), "csrf", "it is a page session as any other");
    assert_eq!(world.send("GET", "/v1/keys", &[&cookie], "").await.code(), "forbidden");
    let record = world.recorded("page.login").await.remove(0);
    let said = (record.author.as_str(), &record.after["how"], &record.after["subject"]);
    assert_eq!(said, ("kim@example.org", &json!("oidc"), &json!("17")));
    assert_eq!(*puppet.redeemed.lock(), ["c1"]);
    world.end().await;
}

#[tokio::test]
async fn what_comes_back_counts_once_and_in_the_browser_that_was_sent_away() {
    let (world, puppet) = world_of_puppet().await;
    let over = "/login?failed=sign_in_over&next=/";
    let away = world.sent_away("/").await;
    let other = world.sent_away("/").await;
    let mixed = Away { state: away.state.clone(), cookie: other.cookie.clone() };
    let unknown = Away { state: "0".repeat(64), cookie: away.cookie.clone() };
    let bare = Away { state: other.state.clone(), cookie: "X-None: 1".into() };
    for wrong in [mixed, unknown, bare] {
        let back = world.back(&wrong, "code=c").await;
        assert_eq!((back.to.as_str(), back.cookie), (over, None));
    }
    // Whoever saw a state has spent it.
    assert_eq!(world.back(&away, "code=c").await.to, over);
    assert!(puppet.redeemed.lock().is_empty(), "nobody was asked");
    let again = world.sent_away("/").await;
    assert!(world.back(&again, "code=c").await.cookie.is_some());
    assert_eq!(world.back(&again, "code=c").await.to, over, "once");
    world.end().await;
}

#[tokio::test]
async fn who_has_no_role_is_refused_and_recorded() {
    let (world, puppet) = world_of_puppet().await;
    *puppet.person.lock() = Person::named(&["lee@example.org"], "18", None);
    let away = world.sent_away("/lanes").await;
    let back = world.back(&away, "code=c").await;
    assert_eq!((back.to.as_str(), back.cookie), ("/login?failed=no_role&next=/lanes", None));
    let record = world.recorded("page.refused").await.remove(0);
    assert_eq!((record.author.as_str(), &record.after["subject"]), ("lee@example.org", &json!("18")));
    world.end().await;
}

#[tokio::test]
async fn a_provider_that_is_down_or_lies_is_told_and_tokens_work() {
    let (world, puppet) = world_of_puppet().await;
    let away = world.sent_away("/").await;
    puppet.is_down.store(true, Ordering::SeqCst);
    let answer = world.send("GET", "/v1/login/oidc?next=/lanes", &[], "").await;
    assert_eq!(answer.header("location"), Some("/login?failed=provider_unreachable&next=/lanes"));
    assert!(answer.header("set-cookie").is_none());
    *puppet.person.lock() = None;
    assert_eq!(world.back(&away, "code=c").await.to, "/login?failed=provider_refused&next=/");
    let login = json!({ "token": world.token.reveal() }).to_string();
    assert_eq!(world.send("POST", "/v1/login", &[JSON], &login).await.status, 200);
    world.end().await;
}

#[tokio::test]
async fn who_was_declined_is_back_at_the_login_and_nobody_is_led_elsewhere() {
    let (world, _) = world_of_puppet().await;
    for (next, to) in
        [("/status", "/status"), ("//evil.example", "/"), ("https://evil", "/"), ("/login", "/")]
    {
        let away = world.sent_away(next).await;
        let back = world.back(&away, "error=access_denied%0a%3cb%3e&iss=x").await;
        assert_eq!(back.to, format!("/login?failed=sign_in_declined&next={to}"), "{next}");
    }
    let long = format!("/{}", "x".repeat(2_000));
    let away = world.sent_away(&long).await;
    assert_eq!(world.back(&away, "code=c").await.to, "/login/done?next=/");
    world.end().await;
}

#[tokio::test]
async fn who_fails_again_and_again_is_slowed_and_the_provider_left_alone() {
    let (world, puppet) = world_of_puppet().await;
    let begun = world.sent_away("/lanes").await;
    let mut last = String::new();
    for _ in 0..21 {
        let unknown = Away { state: "0".into(), cookie: begun.cookie.clone() };
        last = world.back(&unknown, "code=c").await.to;
    }
    assert_eq!(last, "/login?failed=rate_limited&next=/");
    assert_eq!(world.back(&begun, "code=c").await.to, "/login?failed=rate_limited&next=/lanes");
    assert!(puppet.redeemed.lock().is_empty(), "also one that was begun before");
    let asked = puppet.verifiers.lock().len();
    let answer = world.send("GET", "/v1/login/oidc", &[], "").await;
    assert_eq!(answer.header("location"), Some("/login?failed=rate_limited&next=/"));
    assert_eq!(puppet.verifiers.lock().len(), asked);
    assert_eq!(world.recorded("access.failures").await.len(), 1);
    let root = bearer(world.token.reveal());
    assert_eq!(world.send("GET", "/v1/me", &[&root], "").await.status, 200, "a right token opens");
    world.end().await;
}

#[tokio::test]
async fn a_foreign_page_that_asks_in_somebodys_browser_slows_nobody() {
    let (world, _) = world_of_puppet().await;
    for _ in 0..30 {
        let unknown = Away { state: "0".into(), cookie: "X-None: 1".into() };
        assert_eq!(world.back(&unknown, "code=c").await.to, "/login?failed=sign_in_over&next=/");
    }
    let away = world.sent_away("/").await;
    assert!(world.back(&away, "code=c").await.cookie.is_some());
    world.end().await;
}

#[tokio::test]
async fn a_browser_is_first_led_to_where_it_will_come_back_to() {
    let (world, _) = world_of_puppet().await;
    let here = format!("Host: localhost:{}", world.addr.port());
    let answer = world.send("GET", "/v1/login/oidc?next=/lanes", &[&here], "").await;
    let there = format!("http://{}/v1/login/oidc?led=true&next=/lanes", world.addr);
    assert_eq!(answer.header("location"), Some(there.as_str()));
    // Behind a proxy that changes the name it is led there once.
    let answer = world.send("GET", "/v1/login/oidc?led=true", &[&here], "").await;
    assert!(answer.header("location").unwrap().starts_with("https://id.example/"));
    for (line, code) in
        [("Host: evil.example", "unknown_host"), ("Origin: https://evil.example", "foreign_origin")]
    {
        assert_eq!(world.send("GET", "/v1/login/oidc", &[line], "").await.code(), code);
    }
    let path = "/v1/login/oidc/callback?state=x&code=y";
    assert_eq!(world.send("GET", path, &["Host: evil.example"], "").await.code(), "unknown_host");
    world.end().await;
}

#[tokio::test]
async fn without_a_provider_there_is_nothing_to_sign_in_with() {
    let world = world().await;
    let root = bearer(world.token.reveal());
    for path in ["/v1/login/oidc", "/v1/login/oidc/callback?state=a&code=b"] {
        assert_eq!(world.send("GET", path, &[&root], "").await.status, 404);
        assert_eq!(world.send("GET", path, &[], "").await.status, 401);
    }
    world.end().await;
}
