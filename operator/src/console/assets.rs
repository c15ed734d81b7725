//! The files that a page is made of, in the binary. They say nothing about the system, so everybody may have them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use buslane_chassis::admin::error;

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! assets {
    ($($kind:ident $name:literal),* $(,)?) => {
        &[$(Asset { name: $name, kind: $kind, text: include_str!(concat!("assets/", $name)) }),*]
    };
}

const ALL: &[Asset] = assets![
    STYLE "base.css", STYLE "parts.css", PICTURE "icon.svg",
    SCRIPT "main.js", SCRIPT "dom.js", SCRIPT "format.js", SCRIPT "api.js", SCRIPT "live.js", SCRIPT "words.js",
    SCRIPT "scale.js", SCRIPT "paint.js", SCRIPT "chart.js", SCRIPT "strokes.js", SCRIPT "board.js", SCRIPT "banner.js", SCRIPT "order.js",
    SCRIPT "trouble.js", SCRIPT "graph.js", SCRIPT "login.js", SCRIPT "traffic.js", SCRIPT "lanes.js", SCRIPT "status.js",
    SCRIPT "incidents.js", SCRIPT "incident.js", SCRIPT "users.js", SCRIPT "drills.js", SCRIPT "audit.js",
];

/// Changes with any of the files: a browser never mixes those of two versions.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    for asset in ALL {
        (asset.name, asset.text).hash(&mut hasher);
    }
    format!("\"{:016x}\"", hasher.finish())
});

/// One of them.
pub(super) async fn serve(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ALL.iter().find(|asset| asset.name == name) else {
        return error(StatusCode::NOT_FOUND, "not_found", "there is no such file");
    };
    let Ok(tag) = HeaderValue::from_str(&TAG) else {
        return asset.text.into_response();
    };
    // Asked for each time and sent once.
    let known = [(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")), (header::ETAG, tag.clone())];
    if headers.get(header::IF_NONE_MATCH) == Some(&tag) {
        return (StatusCode::NOT_MODIFIED, known).into_response();
    }
    (known, [(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind))], asset.text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(line: &str) -> Option<&str> {
        line.split_once("\"./").and_then(|(_, rest)| rest.split_once('"')).map(|(name, _)| name)
    }

    #[test]
    fn every_file_that_a_script_needs_is_there() {
        for asset in ALL.iter().filter(|asset| asset.kind == SCRIPT) {
            for name in asset.text.lines().filter_map(import) {
                assert!(ALL.iter().any(|other| other.name == name), "{} needs {name}", asset.name);
            }
        }
    }

    #[test]
    fn what_comes_from_outside_only_ever_becomes_text() {
        for asset in ALL.iter().filter(|asset| asset.kind == SCRIPT) {
            for banned in
                [".innerHTML", ".outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
            {
                assert!(!asset.text.contains(banned), "{} in {}", banned, asset.name);
            }
        }
    }

    #[tokio::test]
    async fn a_file_is_sent_once() {
        let first = serve(Path("main.js".to_owned()), HeaderMap::new()).await;
        assert_eq!(
            (first.status(), first.headers()[header::CONTENT_TYPE].to_str().unwrap()),
            (StatusCode::OK, SCRIPT)
        );
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone())]);
        assert_eq!(serve(Path("main.js".to_owned()), known).await.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(
            serve(Path("../Cargo.toml".to_owned()), HeaderMap::new()).await.status(),
            StatusCode::NOT_FOUND
        );
    }
}
