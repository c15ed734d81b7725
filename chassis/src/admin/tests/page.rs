//! Browsers: logging in, what a page may, and what a foreign page may not.

use super::*;

const JSON: &str = "Content-Type: application/json";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

/// A browser that is logged in.
struct Browser {
    cookie: String,
    csrf: String,
}

impl World {
    async fn browser(&self, token: &str) -> Browser {
        let answer = self.send("POST", "/v1/login", &[JSON], &json!({ "token": token }).to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let set = answer.header("set-cookie").unwrap();
        let cookie = format!("Cookie: other=1; {}", set.split(';').next().unwrap());
        let csrf = answer.json()["result"]["csrf"].as_str().unwrap().to_owned();
        Browser { cookie, csrf: format!("X-Buslane-CSRF: {csrf}") }
    }
}

#[tokio::test]
async fn one_logs_in_looks_changes_and_logs_out() {
    let world = world().await;
    let (token, _) = world.token_for("kim", "operator", None).await;
    let answer = world.send("POST", "/v1/login", &[JSON], &json!({ "token": token }).to_string()).await;
    let who = answer.json()["result"].clone();
    assert_eq!(
        (&who["name"], &who["role"], &who["how"]),
        (&json!("kim"), &json!("operator"), &json!("page"))
    );
    let set = answer.header("set-cookie").unwrap();
    for part in [
        format!("buslane-{}=", world.addr.port()),
        "httponly".into(),
        "samesite=strict".into(),
        "path=/".into(),
    ] {
        assert!(set.contains(&part), "{set}");
    }
    assert!(!set.contains("secure"), "not over plain HTTP: {set}");
    let record = world.recorded("page.login").await.remove(0);
    assert_eq!((record.author.as_str(), &record.after["from"]), ("kim", &json!("127.0.0.1")));

    let kim = world.browser(&token).await;
    assert_eq!(world.send("GET", "/v1/me", &[&kim.cookie], "").await.body, "kim operator");
    let who = world.send("GET", "/v1/whoami", &[&kim.cookie], "").await.json()["result"].clone();
    assert_eq!(format!("X-Buslane-CSRF: {}", who["csrf"].as_str().unwrap()), kim.csrf);
    let changed = world.send("POST", "/v1/echo", &[&kim.cookie, &kim.csrf], "hi").await;
    assert_eq!((changed.status, changed.body.as_str()), (200, "hi"));

    let out = world.send("POST", "/v1/logout", &[&kim.cookie, &kim.csrf], "").await;
    assert_eq!(out.json()["result"]["logged_out"], true);
    assert!(out.header("set-cookie").unwrap().contains("max-age=0"));
    let replayed = world.send("GET", "/v1/me", &[&kim.cookie], "").await;
    assert_eq!((replayed.status, replayed.code().as_str()), (401, "unauthorized"));
    world.end().await;
}

#[tokio::test]
async fn who_logs_in_again_and_again_does_not_fill_the_audit_and_others_get_in() {
    let world = world().await;
    let (token, _) = world.token_for("kim", "viewer", None).await;
    let login = json!({ "token": token }).to_string();
    for _ in 0..logins::LOGINS_MAX {
        assert_eq!(world.send("POST", "/v1/login", &[JSON], &login).await.status, 200);
    }
    let refused = world.send("POST", "/v1/login", &[JSON], &login).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"));
    assert!(refused.header("retry-after").is_some() && refused.header("set-cookie").is_none());
    assert_eq!(world.send("GET", "/v1/me", &[&bearer(&token)], "").await.status, 200, "it is still a right");
    world.browser(world.token.reveal()).await;
    let all = logins::LOGINS_MAX as usize + 1;
    until("those that were let in are recorded", || {
        let recorded = world.audit.last(200).unwrap();
        recorded.iter().filter(|record| record.action == "page.login").count() == all
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_form_works_without_scripts_and_leads_nowhere_else() {
    let world = world().await;
    let token = world.token.reveal().to_owned();
    for (next, to) in [
        ("%2Fposture%3Fnode%3Da", "/posture?node=a"),
        ("%2F%2Fevil.example", "/"),
        ("https%3A%2F%2Fevil", "/"),
    ] {
        let form = format!("token={token}&next={next}");
        let own = format!("Origin: http://{}", world.addr);
        let answer = world.send("POST", "/v1/login", &[FORM, &own], &form).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some(to)), "{}", answer.body);
        assert!(answer.header("set-cookie").is_some());
    }
    let failed = world.send("POST", "/v1/login", &[FORM], "token=guess&next=/posture").await;
    assert_eq!(failed.header("location"), Some("/login?failed=unauthorized&next=/posture"));
    assert!(failed.header("set-cookie").is_none());
    let out = world.send("POST", "/v1/logout", &[FORM], "").await;
    assert_eq!((out.status, out.header("location")), (303, Some("/login")));
    for wrong in ["", "{}", "{\"token\":5}", "[]"] {
        let answer = world.send("POST", "/v1/login", &[JSON], wrong).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{wrong}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_browser_without_a_right_is_led_to_the_login_and_a_script_is_not() {
    let world = world().await;
    let page = world.send("GET", "/traffic?span=3h&node=a%20b", &["Accept: text/html,*/*"], "").await;
    assert_eq!(
        (page.status, page.header("location")),
        (303, Some("/login?next=/traffic%3fspan%3d3h%26node%3da%2520b"))
    );
    assert_eq!(world.send("GET", "/login", &["Accept: text/html"], "").await.body, "the login page");
    let script = world.send("GET", "/traffic", &["Accept: application/json"], "").await;
    assert_eq!((script.status, script.code().as_str()), (401, "unauthorized"));
    for no in 0..100 {
        let cookie = format!("Cookie: buslane-{}={no}", world.addr.port());
        assert_eq!(
            world.send("GET", "/v1/me", &[&cookie], "").await.status,
            401,
            "pages after a restart are no attack"
        );
    }
    world.end().await;
}

#[tokio::test]
async fn a_page_changes_nothing_without_what_only_it_knows() {
    let world = world().await;
    let (kim, lee) = (world.browser(world.token.reveal()).await, world.browser(world.token.reveal()).await);
    for csrf in ["X-Other: 1", "X-Buslane-CSRF: ", "X-Buslane-CSRF: 0", &lee.csrf] {
        let refused = world.send("POST", "/v1/echo", &[&kim.cookie, csrf], "hi").await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "csrf"), "{csrf}");
    }
    let own = format!("Origin: http://{}", world.addr);
    assert_eq!(world.send("POST", "/v1/echo", &[&kim.cookie, &kim.csrf, &own], "hi").await.status, 200);
    for origin in ["Origin: http://evil.example", "Origin: null", "Origin: http://127.0.0.1:1"] {
        let refused = world.send("POST", "/v1/echo", &[&kim.cookie, &kim.csrf, origin], "hi").await;
        assert_eq!(refused.code(), "foreign_origin", "{origin}");
        let login = json!({ "token": world.token.reveal() }).to_string();
        assert_eq!(world.send("POST", "/v1/login", &[JSON, origin], &login).await.code(), "foreign_origin");
        assert_eq!(
            world.send("POST", "/v1/logout", &[&kim.cookie, origin], "").await.code(),
            "foreign_origin"
        );
    }
    // Whoever shows a token is no browser that sends it by itself.
    let root = bearer(world.token.reveal());
    assert_eq!(
        world.send("POST", "/v1/echo", &[&root, "Origin: http://evil.example"], "hi").await.status,
        200
    );
    world.end().await;
}

#[tokio::test]
async fn a_name_that_was_made_to_point_here_is_not_believed() {
    let world = world().await;
    let kim = world.browser(world.token.reveal()).await;
    for host in ["Host: evil.example", "Host: evil.example:7480", "Host: ops.example.evil"] {
        let refused = world.send("GET", "/v1/me", &[&kim.cookie, host], "").await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "unknown_host"), "{host}");
        let login = json!({ "token": world.token.reveal() }).to_string();
        assert_eq!(world.send("POST", "/v1/login", &[JSON, host], &login).await.code(), "unknown_host");
    }
    for host in ["Host: localhost:1", "Host: [::1]", "Host: OPS.example:443", "Host: 192.0.2.1"] {
        assert_eq!(world.send("GET", "/v1/me", &[&kim.cookie, host], "").await.status, 200, "{host}");
    }
    let root = bearer(world.token.reveal());
    assert_eq!(world.send("GET", "/v1/me", &[&root, "Host: any.example"], "").await.status, 200);
    world.end().await;
}

#[tokio::test]
async fn a_page_session_ends_with_its_token_and_its_streams_with_it() {
    let world = world().await;
    let (token, id) = world.token_for("kim", "viewer", None).await;
    let kim = world.browser(&token).await;
    let lines = [kim.cookie.as_str()];
    let watching = world.send("GET", "/v1/live", &lines, "");
    let revoke = async {
        until("it is open", || world.streams.load(Ordering::SeqCst) == 1).await;
        world.tokens.revoke(&id, "left".into(), "root".into()).await.unwrap();
    };
    let both = async { tokio::join!(watching, revoke) };
    tokio::time::timeout(Duration::from_secs(10), both).await.expect("the stream ends");
    assert_eq!(world.send("GET", "/v1/me", &[&kim.cookie], "").await.status, 401);
    // A second login in the same browser ends the first.
    let old = world.browser(world.token.reveal()).await;
    let login = json!({ "token": world.token.reveal() }).to_string();
    assert_eq!(world.send("POST", "/v1/login", &[JSON, &old.cookie], &login).await.status, 200);
    assert_eq!(world.send("GET", "/v1/me", &[&old.cookie], "").await.status, 401);
    world.end().await;
}

#[tokio::test]
async fn every_answer_tells_the_browser_to_run_nothing_of_others() {
    let world = world().await;
    let root = bearer(world.token.reveal());
    for (path, line) in [
        ("/healthz", "X-None: 1"),
        ("/login", "X-None: 1"),
        ("/v1/me", "X-None: 1"),
        ("/v1/me", root.as_str()),
        ("/none", root.as_str()),
    ] {
        let answer = world.send("GET", path, &[line], "").await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';")
                && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
        assert_eq!(answer.header("cross-origin-opener-policy"), Some("same-origin"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    world.end().await;
}
