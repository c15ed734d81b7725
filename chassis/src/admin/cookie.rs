//! The cookies of a browser: of its page session, and of a sign-in that is under way.
//!
//! Why it exists: browsers do not keep the cookies of different ports apart, so its name holds the port: the pages of two processes on one machine do
//! not log each other out. Scripts cannot read them. That of a page session is never sent where a foreign page leads to; that of a sign-in has to be,
//! because the provider is one, and opens nothing.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};

use super::pages::LIFE_MS;

/// A kind of cookie.
#[derive(Debug, Clone)]
pub(super) struct Cookie {
    name: String,
    path: &'static str,
    same_site: &'static str,
    life_s: u64,
}

impl Cookie {
    /// Of page sessions, in the process that listens on this port.
    pub(super) fn of_port(port: u16) -> Self {
        Self { name: format!("buslane-{port}"), path: "/", same_site: "Strict", life_s: LIFE_MS / 1_000 }
    }

    /// Of sign-ins that are under way for so long, seen below this path alone.
    pub(super) fn of_sign_in(port: u16, path: &'static str, life: Duration) -> Self {
        Self { name: format!("buslane-{port}-sign-in"), path, same_site: "Lax", life_s: life.as_secs() }
    }

    /// Its value in a request.
    pub(super) fn shown<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.name).map(|(_, value)| value)
    }

    /// Sets it for as long as what it belongs to may live.
    pub(super) fn set(&self, value: &str, tls: bool) -> Option<HeaderValue> {
        self.line(value, self.life_s, tls)
    }

    /// Removes it.
    pub(super) fn clear(&self, tls: bool) -> Option<HeaderValue> {
        self.line("", 0, tls)
    }

    fn line(&self, value: &str, life_s: u64, tls: bool) -> Option<HeaderValue> {
        let Self { name, path, same_site, .. } = self;
        let secure = if tls { "; Secure" } else { "" };
        let line =
            format!("{name}={value}; Path={path}; HttpOnly; SameSite={same_site}; Max-Age={life_s}{secure}");
        HeaderValue::from_str(&line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_among_others_and_only_whole() {
        let cookie = Cookie::of_port(7480);
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=1; buslane-74801=no; xbuslane-7480=no".parse().unwrap());
        assert_eq!(cookie.shown(&headers), None);
        headers.append(header::COOKIE, "b=2;buslane-7480=yes; buslane-7480=later".parse().unwrap());
        assert_eq!(cookie.shown(&headers), Some("yes"));
    }

    #[test]
    fn it_is_out_of_reach_of_scripts_and_foreign_pages() {
        let cookie = Cookie::of_port(1);
        let plain = cookie.set("v", false).unwrap();
        assert_eq!(plain, "buslane-1=v; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200");
        assert_eq!(
            cookie.clear(true).unwrap(),
            "buslane-1=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0; Secure"
        );
    }

    #[test]
    fn that_of_a_sign_in_comes_back_from_the_provider_and_is_seen_by_the_sign_in_alone() {
        let cookie = Cookie::of_sign_in(1, "/v1/login/oidc", Duration::from_secs(600));
        let plain = cookie.set("v", false).unwrap();
        assert_eq!(plain, "buslane-1-sign-in=v; Path=/v1/login/oidc; HttpOnly; SameSite=Lax; Max-Age=600");
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "buslane-1=page; buslane-1-sign-in=away".parse().unwrap());
        assert_eq!(
            (cookie.shown(&headers), Cookie::of_port(1).shown(&headers)),
            (Some("away"), Some("page"))
        );
    }
}
