//! Whether a request of a browser comes from a page of ours.
//!
//! Why it exists: a browser sends its cookie and its certificate by itself, also for a foreign page. A foreign name that was made to point at this
//! machine is found by `Host`, a form on a foreign page by `Origin`. It must never believe a name only because it resolves to us.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, Uri, header};

/// The names under which this process knows itself, besides addresses and those of loopback.
#[derive(Debug, Clone, Default)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| plain(name)).collect())
    }

    /// The name in this address as well: browsers come back to it.
    pub(super) fn with_that_of(mut self, url: &str) -> Self {
        let uri = url.parse::<Uri>().ok();
        self.0.extend(uri.and_then(|uri| uri.host().map(plain)));
        self
    }

    /// Whether the request was meant for us.
    pub(super) fn are_asked_by(&self, headers: &HeaderMap) -> bool {
        text(headers, header::HOST).is_some_and(|host| self.knows(host))
    }

    fn knows(&self, host: &str) -> bool {
        let name = plain(without_port(host));
        let is_address = name.parse::<IpAddr>().is_ok();
        is_address || name == "localhost" || name.ends_with(".localhost") || self.0.contains(&name)
    }
}

/// Whether the page that sent this is one of ours. Where a browser does not say so it is no foreign page.
pub(super) fn is_own(headers: &HeaderMap) -> bool {
    if !headers.contains_key(header::ORIGIN) {
        return true;
    }
    let (Some(origin), Some(host)) = (text(headers, header::ORIGIN), text(headers, header::HOST)) else {
        return false;
    };
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => host.split(':').next().unwrap_or(host),
    }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_loopback_and_own_names_are_known_and_nothing_else() {
        let hosts =
            Hosts::new(&["Ops.Example.com".to_owned()]).with_that_of("https://Desk.example:8443/back");
        for host in [
            "127.0.0.1:7480",
            "192.0.2.1",
            "[::1]:7480",
            "[2001:db8::1]",
            "localhost",
            "LOCALHOST:7480",
            "a.localhost:1",
            "ops.example.com:7480",
            "ops.example.com.",
            "desk.example",
        ] {
            assert!(hosts.knows(host), "{host}");
        }
        for host in
            ["", "evil.example", "ops.example.com.evil.example", "127.0.0.1.evil.example", "localhost.evil"]
        {
            assert!(!hosts.knows(host), "{host}");
        }
    }

    #[test]
    fn only_the_same_authority_is_the_same_origin() {
        let with = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:7480".parse().unwrap());
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            is_own(&headers)
        };
        assert!(with("http://127.0.0.1:7480") && with("https://127.0.0.1:7480"));
        for origin in [
            "null",
            "",
            "http://127.0.0.1",
            "http://127.0.0.1:7481",
            "http://evil.example",
            "ftp://127.0.0.1:7480",
        ] {
            assert!(!with(origin), "{origin}");
        }
        assert!(is_own(&HeaderMap::new()), "no browser");
    }
}
