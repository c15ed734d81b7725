//! Tokens on a real disk.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn open(folder: &Path) -> Arc<Tokens> {
    Tokens::open(folder, Audit::open(folder).unwrap().0)
}

fn wish(name: &str, role: Role, expires_in_s: Option<u64>) -> TokenWish {
    TokenWish { name: name.into(), role, expires_in_s, reason: "on call".into(), author: String::new() }
}

async fn make(tokens: &Arc<Tokens>, name: &str, role: Role) -> Made {
    tokens.make(wish(name, role, None), "root".into()).await.unwrap()
}

#[tokio::test]
async fn a_token_is_recorded_kept_as_a_hash_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = open(folder.path());
    let made = make(&tokens, "kim", Role::Operator).await;
    let path = folder.path().join("tokens.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let secret = made.token.rsplit('_').next().unwrap();
    assert_eq!(secret.len(), 64);
    let recorded = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    assert!(!text.contains(secret) && !recorded.contains(secret), "only the hash is kept");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let entry = tokens.audit.last(1).unwrap().remove(0);
    assert_eq!((entry.action.as_str(), entry.author.as_str()), ("token.make", "root"));
    drop(tokens);

    let tokens = open(folder.path());
    let lease = tokens.find(&made.token, clock::unix_ms()).unwrap();
    assert_eq!(lease.principal.name, "kim");
    assert_eq!(lease.principal.role, Role::Operator);
    assert_eq!(lease.principal.how, How::Token { id: made.view.id.clone() });
    assert_eq!(tokens.list(), [made.view]);
}

#[tokio::test]
async fn what_is_not_the_token_is_not_it() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = open(folder.path());
    let (one, two) = (make(&tokens, "one", Role::Admin).await, make(&tokens, "two", Role::Viewer).await);
    let now_ms = clock::unix_ms();
    let other_secret = two.token.rsplit('_').next().unwrap();
    for shown in [
        String::new(),
        PREFIX.to_owned(),
        format!("{PREFIX}{}_", one.view.id),
        format!("{PREFIX}{}_{other_secret}", one.view.id),
        one.token[..one.token.len() - 1].to_owned(),
        format!("{}0", one.token),
        one.token.to_uppercase(),
    ] {
        assert!(tokens.find(&shown, now_ms).is_none(), "{shown}");
    }
}

#[tokio::test]
async fn a_token_that_is_taken_back_or_over_holds_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = open(folder.path());
    let short = tokens.make(wish("short", Role::Viewer, Some(60)), "root".into()).await.unwrap();
    let end_ms = short.view.expires_ms.unwrap();
    assert_eq!(end_ms, short.view.made_ms + 60_000);
    assert!(tokens.find(&short.token, end_ms - 1).is_some());
    assert!(tokens.find(&short.token, end_ms).is_none());

    let kim = make(&tokens, "kim", Role::Operator).await;
    let lease = tokens.find(&kim.token, 0).unwrap();
    let refused = tokens.revoke(&kim.view.id, " ".into(), "root".into()).await.unwrap_err();
    assert_eq!(refused.code(), "no_reason");
    let revoked = tokens.revoke(&kim.view.id, "left".into(), "root".into()).await.unwrap();
    assert_eq!(revoked.not_kept, None);
    assert!(lease.alive.is_cancelled(), "what was begun with it ends");
    assert!(tokens.find(&kim.token, 0).is_none());
    let again = tokens.revoke(&kim.view.id, "left".into(), "root".into()).await.unwrap_err();
    assert_eq!(again.code(), "no_such_token");
    let actions: Vec<_> = tokens.audit.last(9).unwrap().into_iter().map(|entry| entry.action).collect();
    assert_eq!(actions, ["token.make", "token.make", "token.revoke"]);
    drop(tokens);
    assert!(open(folder.path()).find(&kim.token, 0).is_none(), "after a restart neither");
}

#[tokio::test]
async fn what_makes_no_token_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = open(folder.path());
    make(&tokens, "kim", Role::Viewer).await;
    let long = "x".repeat(NAME_CHARS_MAX + 1);
    for (name, life_s, reason, code) in [
        ("", None, "r", "token_name"),
        ("root", None, "r", "token_name"),
        ("buslane", None, "r", "token_name"),
        ("a\nb", None, "r", "token_name"),
        (long.as_str(), None, "r", "token_name"),
        ("kim", None, "r", "token_name_taken"),
        ("lee", Some(0), "r", "token_life"),
        ("lee", Some(u64::MAX), "r", "token_life"),
        ("lee", None, "", "no_reason"),
        ("lee", None, "a\nb", "no_reason"),
    ] {
        let wish = TokenWish { reason: reason.into(), ..wish(name, Role::Viewer, life_s) };
        let refused = tokens.make(wish, "root".into()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{name} {refused}");
    }
    assert_eq!(tokens.list().len(), 1);
}

#[tokio::test]
async fn tokens_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = open(folder.path());
    let kim = make(&tokens, "kim", Role::Viewer).await;
    let one = tokens.live.lock()[&kim.view.id].clone();
    for no in 1..TOKENS_MAX {
        tokens.live.lock().insert(no.to_string(), one.clone());
    }
    let refused = tokens.make(wish("lee", Role::Viewer, None), "root".into()).await.unwrap_err();
    assert_eq!(refused.code(), "too_many_tokens");
}

#[tokio::test]
async fn a_damaged_file_lets_nobody_in_and_is_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let kim = make(&open(folder.path()), "kim", Role::Admin).await;
    let path = folder.path().join("tokens.json");
    for damaged in ["{", "[]", r#"{"tokens":[{"id":"1"}]}"#] {
        std::fs::write(&path, damaged).unwrap();
        let tokens = open(folder.path());
        assert!(tokens.find(&kim.token, 0).is_none());
        assert_eq!(std::fs::read_to_string(path.with_extension("json.damaged")).unwrap(), damaged);
    }
}

#[tokio::test]
async fn a_token_is_taken_back_also_where_nothing_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = open(folder.path());
    let kim = make(&tokens, "kim", Role::Admin).await;
    // A folder in the place of the file: the rename fails.
    let path = folder.path().join("tokens.json");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir_all(path.join("x")).unwrap();
    let revoked = tokens.revoke(&kim.view.id, "left".into(), "root".into()).await.unwrap();
    assert!(revoked.not_kept.is_some() && revoked.not_recorded.is_none());
    assert!(tokens.find(&kim.token, 0).is_none());
    let refused = tokens.make(wish("lee", Role::Viewer, None), "root".into()).await.unwrap_err();
    assert_eq!(refused.code(), "tokens_unwritable");
}

#[tokio::test]
async fn a_token_is_taken_back_also_where_nothing_can_be_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = open(folder.path());
    let kim = make(&tokens, "kim", Role::Admin).await;
    // An entry that the audit does not take.
    let author = "x".repeat(300 * 1024);
    let revoked = tokens.revoke(&kim.view.id, "stolen".into(), author).await.unwrap();
    assert!(revoked.not_recorded.is_some() && revoked.not_kept.is_none());
    assert!(tokens.find(&kim.token, 0).is_none());
}

#[tokio::test]
async fn a_disk_that_does_not_answer_for_a_moment_costs_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let made = make(&open(folder.path()), "kim", Role::Operator).await;
    let (path, elsewhere) = (folder.path().join("tokens.json"), folder.path().join("elsewhere"));
    std::fs::rename(&path, &elsewhere).unwrap();
    // A folder in its place: it is there, and reading it fails.
    std::fs::create_dir(&path).unwrap();
    let tokens = open(folder.path());
    assert!(tokens.find(&made.token, clock::unix_ms()).is_none());
    let refused = tokens.make(wish("lee", Role::Viewer, None), "root".into()).await.unwrap_err();
    assert_eq!(refused.code(), "tokens_unreadable", "what is there is not written over");
    assert!(path.exists() && !path.with_extension("json.damaged").exists());
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&elsewhere, &path).unwrap();
    crate::testing::until("it holds again", || tokens.find(&made.token, clock::unix_ms()).is_some()).await;
}
