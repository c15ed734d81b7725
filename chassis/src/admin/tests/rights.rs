//! Roles and tokens.

use super::*;

#[tokio::test]
async fn a_role_may_do_its_own_and_is_told_which_one_it_lacks() {
    let world = world().await;
    let viewer = bearer(&world.token_for("vi", "viewer", None).await.0);
    let operator = bearer(&world.token_for("op", "operator", None).await.0);
    let admin = bearer(&world.token_for("ad", "admin", None).await.0);
    let root = bearer(world.token.reveal());
    for (who, says, may_post, may_keys) in [
        (&viewer, "vi viewer", false, false),
        (&operator, "op operator", true, false),
        (&admin, "ad admin", true, true),
        (&root, "root admin", true, true),
    ] {
        let me = world.send("GET", "/v1/me", &[who], "").await;
        assert_eq!((me.status, me.body.as_str()), (200, says));
        let post = world.send("POST", "/v1/echo", &[who], "hi").await;
        assert_eq!(post.status, if may_post { 200 } else { 403 }, "{says}: {}", post.body);
        for path in ["/v1/keys", "/v1/tokens"] {
            let keys = world.send("GET", path, &[who], "").await;
            assert_eq!(keys.status, if may_keys { 200 } else { 403 }, "{says}: {}", keys.body);
        }
    }
    let refused = world.send("POST", "/v1/echo", &[&viewer], "hi").await;
    assert_eq!(refused.code(), "forbidden");
    assert!(refused.body.contains("needs the role operator, and you are viewer"), "{}", refused.body);
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert_eq!(world.send(method, "/v1/echo", &[&viewer], "").await.status, 403, "{method}");
    }
    world.end().await;
}

#[tokio::test]
async fn who_one_is_comes_from_what_one_shows() {
    let world = world().await;
    let (token, _) = world.token_for("kim", "viewer", Some(60)).await;
    let who = world.send("GET", "/v1/whoami", &[&bearer(&token)], "").await.json()["result"].clone();
    assert_eq!((&who["name"], &who["role"], &who["how"]), (&json!("kim"), &json!("viewer"), &json!("token")));
    assert_eq!(who["csrf"], Value::Null);
    assert!(who["expires_ms"].as_u64().unwrap() > crate::clock::unix_ms());
    let who =
        world.send("GET", "/v1/whoami", &[&bearer(world.token.reveal())], "").await.json()["result"].clone();
    assert_eq!((&who["name"], &who["role"], &who["how"]), (&json!("root"), &json!("admin"), &json!("root")));
    world.end().await;
}

#[tokio::test]
async fn a_token_that_is_guessed_taken_back_or_over_opens_nothing() {
    let world = world().await;
    let (token, id) = world.token_for("kim", "operator", None).await;
    let (short, _) = world.token_for("lee", "operator", Some(1)).await;
    let guessed = format!("buslane_{id}_{}", "0".repeat(64));
    assert_eq!(world.send("GET", "/v1/me", &[&bearer(&guessed)], "").await.code(), "unauthorized");

    let root = bearer(world.token.reveal());
    let path = format!("/v1/tokens/{id}");
    assert_eq!(world.send("DELETE", &path, &[&root], "").await.code(), "no_reason");
    assert_eq!(world.send("GET", "/v1/me", &[&bearer(&token)], "").await.status, 200);
    let revoked = world.send("DELETE", &format!("{path}?reason=left&author=park"), &[&root], "").await;
    assert_eq!((revoked.status, &revoked.json()["result"]["not_kept"]), (200, &Value::Null));
    let replayed = world.send("GET", "/v1/me", &[&bearer(&token)], "").await;
    assert_eq!((replayed.status, replayed.code().as_str()), (401, "unauthorized"));
    assert_eq!(
        world.send("DELETE", &format!("{path}?reason=left"), &[&root], "").await.code(),
        "no_such_token"
    );
    let record = world.recorded("token.revoke").await.remove(0);
    assert_eq!((record.author.as_str(), record.reason.as_str()), ("park", "left"));

    until("the short one is over", || world.tokens.find(&short, crate::clock::unix_ms()).is_none()).await;
    assert_eq!(world.send("GET", "/v1/me", &[&bearer(&short)], "").await.status, 401);
    world.end().await;
}

#[tokio::test]
async fn a_token_is_shown_once_and_made_by_admins_under_their_own_name() {
    let world = world().await;
    let (admin, _) = world.token_for("kim", "admin", None).await;
    let lines = [&*bearer(&admin), "Content-Type: application/json"];
    let wish = json!({"name": "lee", "role": "viewer", "reason": "r", "author": "somebody else"}).to_string();
    let made = world.send("POST", "/v1/tokens", &lines, &wish).await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(made.json()["result"]["made_by"], "kim");
    let secret = made.json()["result"]["token"].as_str().unwrap().to_owned();
    let listed = world.send("GET", "/v1/tokens", &lines, "").await;
    assert_eq!(listed.json()["result"]["tokens"].as_array().unwrap().len(), 2);
    assert!(!listed.body.contains(&secret) && !listed.body.contains("hash"), "{}", listed.body);
    assert_eq!(world.recorded("token.make").await.last().unwrap().author, "kim");

    let again = world.send("POST", "/v1/tokens", &lines, &wish).await;
    assert_eq!((again.status, again.code().as_str()), (409, "token_name_taken"));
    let nameless = json!({"name": "", "role": "viewer", "reason": "r"}).to_string();
    assert_eq!(world.send("POST", "/v1/tokens", &lines, &nameless).await.code(), "token_name");
    world.end().await;
}

#[tokio::test]
async fn a_burst_of_wrong_tokens_is_slowed_recorded_once_and_locks_nobody_out() {
    let world = world().await;
    let (kim, _) = world.token_for("kim", "viewer", None).await;
    for _ in 0..20 {
        assert_eq!(world.send("GET", "/v1/me", &[&bearer("guess")], "").await.status, 401);
    }
    for _ in 0..5 {
        let slowed = world.send("GET", "/v1/me", &[&bearer("guess")], "").await;
        assert_eq!((slowed.status, slowed.code().as_str()), (429, "rate_limited"));
        assert!(slowed.header("retry-after").is_some());
    }
    let login =
        world.send("POST", "/v1/login", &["Content-Type: application/json"], r#"{"token":"guess"}"#).await;
    assert_eq!(login.status, 429);
    assert_eq!(world.send("GET", "/v1/me", &[&bearer(&kim)], "").await.status, 200);
    let recorded = world.recorded("access.failures").await;
    assert_eq!((recorded.len(), recorded[0].author.as_str()), (1, "buslane"));
    assert_eq!(recorded[0].after["from"], "127.0.0.1");
    world.end().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_right_that_it_was_opened_with() {
    let world = world().await;
    let (token, id) = world.token_for("kim", "viewer", None).await;
    let (short, _) = world.token_for("lee", "viewer", Some(1)).await;
    let (kims, lees) = (bearer(&token), bearer(&short));
    let open = async {
        let (lines, lee) = ([kims.as_str()], [lees.as_str()]);
        tokio::join!(world.send("GET", "/v1/live", &lines, ""), world.send("GET", "/v1/live", &lee, ""))
    };
    let revoke = async {
        until("both are open", || world.streams.load(Ordering::SeqCst) == 2).await;
        world.tokens.revoke(&id, "left".into(), "root".into()).await.unwrap();
    };
    let ((kim, lee), ()) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(open, revoke) })
            .await
            .expect("streams end");
    assert!(kim.body.contains("data: hello") && lee.body.contains("data: hello"));
    until("nothing is left of them", || world.streams.load(Ordering::SeqCst) == 0).await;
    world.end().await;
}

#[tokio::test]
async fn a_request_is_read_within_bounds() {
    let world = world().await;
    let root = bearer(world.token.reveal());
    let large = "x".repeat(body::BYTES_MAX + 1);
    let refused = world.send("POST", "/v1/echo", &[&root], &large).await;
    assert_eq!((refused.status, refused.code().as_str()), (413, "too_large"));
    let largest = "x".repeat(body::BYTES_MAX);
    assert_eq!(world.send("POST", "/v1/echo", &[&root], &largest).await.status, 200);
    let form = ["Content-Type: application/x-www-form-urlencoded"];
    let refused = world.send("POST", "/v1/login", &form, &"x".repeat(body::LOGIN_BYTES_MAX + 1)).await;
    assert_eq!(refused.status, 413);
    world.end().await;
}

#[tokio::test]
async fn every_error_has_the_one_form() {
    let world = world().await;
    let root = bearer(world.token.reveal());
    let json = "Content-Type: application/json";
    for (method, path, line, body, status, code) in [
        ("GET", "/v1/none", "X-None: 1", "", 404, "not_found"),
        ("PUT", "/v1/echo", "X-None: 1", "", 405, "method_not_allowed"),
        ("GET", "/v1/login", "X-None: 1", "", 405, "method_not_allowed"),
        ("POST", "/v1/tokens", "X-None: 1", "{}", 415, "unsupported_media_type"),
        ("POST", "/v1/tokens", json, "{", 400, "bad_request"),
        ("POST", "/v1/tokens", json, r#"{"name":"a","role":"king"}"#, 422, "bad_request"),
        ("DELETE", "/v1/tokens/1?what=x", "X-None: 1", "", 400, "bad_request"),
    ] {
        let answer = world.send(method, path, &[&root, line], body).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{method} {path} {}",
            answer.body
        );
        assert!(!answer.json()["error"]["message"].as_str().unwrap().is_empty());
    }
    world.end().await;
}
